/**
 * How many restarts are too many.
 *
 * A supervisor that restarts for ever hides a fault. OTP's rule: a restart is allowed if, counting it, no more than
 * `maxRestarts` have happened in the last `maxSeconds`. One window a supervisor, shared by its children, reset by
 * nothing. OTP compares truncated whole seconds; we compare milliseconds, inclusively, which stays within what OTP
 * can answer.
 */
export class RestartWindow {
  readonly #maxRestarts: number;
  readonly #windowMs: number;
  /** When they happened, oldest first. */
  readonly #restarts: number[] = [];

  constructor(maxRestarts: number, maxSeconds: number) {
    this.#maxRestarts = maxRestarts;
    this.#windowMs = maxSeconds * 1_000;
  }

  /** Counts a restart at `now`. False: it must not happen, and the supervisor has to give up. */
  allows(now: number): boolean {
    const kept = this.#restarts.findIndex((at) => now - at <= this.#windowMs);
    this.#restarts.splice(0, kept < 0 ? Infinity : kept);
    this.#restarts.push(now);
    return this.#restarts.length <= this.#maxRestarts;
  }

  /** Restarts in the window as of the last count. */
  get count(): number {
    return this.#restarts.length;
  }
}
