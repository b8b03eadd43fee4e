/**
 * A ping, waiting for its pong.
 *
 * Pongs come in the order of the pings, and each echoes the payload of its own: a number that says which one it was.
 * A ping that nobody waits for any more stays in line, because its pong will still come.
 */

import { FantaError } from "../errors.ts";
import type { DurationList, Timed } from "../runtime/index.ts";

let lastPing = 0;

/** Four bytes that no other ping of late has had. */
export function pingPayload(): Buffer {
  lastPing = (lastPing + 1) >>> 0;
  const payload = Buffer.allocUnsafe(4);
  payload.writeUInt32BE(lastPing);
  return payload;
}

export class Ping implements Timed {
  deadline = 0;
  timedBefore: Timed | undefined = undefined;
  timedAfter: Timed | undefined = undefined;
  timedIn: DurationList | undefined = undefined;
  readonly payload: Buffer;
  sentAt = 0;
  /** Ends its wait for the deadline. */
  whenOver: (() => void) | undefined = undefined;
  readonly #settled: ((result: number | { error: unknown }) => void) | undefined;
  #over = false;

  /** @param settled Hears once how many milliseconds it took, or why there is no answer. */
  constructor(payload: Buffer, settled?: (result: number | { error: unknown }) => void) {
    this.payload = payload;
    this.#settled = settled;
  }

  answered(now: number): void {
    this.#settle(now - this.sentAt);
  }

  fail(error: unknown): void {
    this.#settle({ error });
  }

  expired(): void {
    this.fail(
      new FantaError(
        "ERR_FANTA_TIMEOUT",
        "no pong came in time: the server or the line is stuck. Open a new connection.",
      ),
    );
  }

  #settle(result: number | { error: unknown }): void {
    if (this.#over) return;
    this.#over = true;
    this.whenOver?.();
    this.#settled?.(result);
  }
}
