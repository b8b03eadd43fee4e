/**
 * A timer that is set before it is known whether anybody will depend on it.
 *
 * The next attempt to reach a server that is down is nobody's business while nobody waits: the program may end before it.
 * Somebody who comes to wait meanwhile depends on it, and then the program must not. A `Runtime` has no such timer, so this
 * one is set anew when that changes, for what is left of its time.
 */

import type { Runtime, Timer } from "./runtime.ts";

export class HeldTimer implements Timer {
  readonly #runtime: Runtime;
  readonly #callback: () => void;
  readonly #at: number;
  #keepAlive: boolean;
  #timer: Timer | undefined;

  constructor(runtime: Runtime, callback: () => void, delayMs: number, keepAlive: boolean) {
    this.#runtime = runtime;
    this.#at = runtime.now() + delayMs;
    this.#keepAlive = keepAlive;
    this.#callback = () => {
      this.#timer = undefined;
      callback();
    };
    this.#timer = runtime.setTimer(this.#callback, delayMs, { keepAlive });
  }

  /** Whether the program must wait for it from now on. Does nothing when it has called, or was cancelled. */
  hold(keepAlive: boolean): void {
    if (this.#timer === undefined || this.#keepAlive === keepAlive) return;
    this.#keepAlive = keepAlive;
    this.#timer.cancel();
    this.#timer = this.#runtime.setTimer(this.#callback, Math.max(this.#at - this.#runtime.now(), 0), { keepAlive });
  }

  cancel(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }
}
