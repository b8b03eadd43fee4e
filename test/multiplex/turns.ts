/**
 * Waiting without a clock: real sockets in one program move on by turns of the event loop, so tests count turns.
 */

/** One turn: whatever has come over the sockets by now is dealt with. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

export async function turns(count: number): Promise<void> {
  for (let each = 0; each < count; each++) await turn();
}

/** Turns until something is true. Gives up after so many that it would have come to be, and says what did not. */
export async function until(what: string, test: () => boolean): Promise<void> {
  for (let each = 0; each < 1_000_000; each++) {
    if (test()) return;
    await turn();
  }
  throw new Error(`in a million turns it has not come to be that ${what}`);
}
