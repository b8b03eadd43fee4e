/**
 * Time and chance, as a parameter.
 *
 * Nothing else in the library reads a clock, sets a timer or rolls a die, so a simulation that hands in virtual time
 * and a seeded generator runs the very code that ships, and a failure replays from one number. The other
 * implementation is in `sim`.
 */

export interface Runtime {
  /** Monotonic milliseconds, fractions allowed. Only differences mean anything. */
  now(): number;
  /**
   * Calls back once, not before `delayMs` have passed; `Infinity` means never.
   *
   * @param options.keepAlive Whether the program must wait for it. False by default, so that an idle pool lets the
   *   program end; true for timers that somebody's promise depends on.
   */
  setTimer(callback: () => void, delayMs: number, options?: TimerOptions): Timer;
  /** A number in [0, 1). */
  random(): number;
}

export interface TimerOptions {
  readonly keepAlive?: boolean;
}

export interface Timer {
  /** After this the callback is never called. Calling it twice, or after the callback, does nothing. */
  cancel(): void;
}

/** Node keeps a delay in 31 bits; a longer one would fire at once. One is left for rounding up. */
const longestDelayMs = 2 ** 31 - 2;

class SystemTimer implements Timer {
  #handle: NodeJS.Timeout | undefined;

  constructor(callback: () => void, delayMs: number, keepAlive: boolean) {
    if (delayMs === Infinity) return;
    if (delayMs > longestDelayMs) this.#wait(callback, performance.now() + delayMs, keepAlive);
    else this.#arm(callback, nodeDelay(delayMs), keepAlive);
  }

  cancel(): void {
    clearTimeout(this.#handle);
    this.#handle = undefined;
  }

  #arm(callback: () => void, delayMs: number, keepAlive: boolean): void {
    this.#handle = setTimeout(callback, delayMs);
    if (!keepAlive) this.#handle.unref();
  }

  /** A long wait, in legs. */
  #wait(callback: () => void, at: number, keepAlive: boolean): void {
    const leftMs = at - performance.now();
    if (leftMs > longestDelayMs) this.#arm(() => this.#wait(callback, at, keepAlive), longestDelayMs, keepAlive);
    else this.#arm(callback, nodeDelay(leftMs), keepAlive);
  }
}

/**
 * Node cuts a delay to whole milliseconds and counts them from the last whole one, so it may call almost two too soon.
 * Rounded up, and one more, it never does.
 */
function nodeDelay(delayMs: number): number {
  return delayMs > 0 ? Math.ceil(delayMs) + 1 : 0;
}

/** The real clock, the real timers, the real dice. */
export const systemRuntime: Runtime = {
  now: () => performance.now(),
  setTimer: (callback, delayMs, options) => new SystemTimer(callback, delayMs, options?.keepAlive === true),
  random: () => Math.random(),
};
