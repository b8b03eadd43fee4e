/**
 * When a line is too long to be worth standing in.
 *
 * For its first milliseconds a burst and an overload look alike. The *shortest* wait of a while tells them apart: after
 * a burst somebody is soon served at once; under overload nobody is. So that one number is watched. While it stays above
 * the target, those who have waited more than twice the target are turned away when their turn comes: they would get
 * their resource too late, and everyone behind them too. Those who are served then wait little, and what the resources
 * can do is done for callers who still want it.
 *
 * The first of each interval is served whatever its age: it is the sample. A line that does not move at all gives no
 * samples, so it is also looked at once an interval.
 *
 * After Nichols and Jacobson, "Controlling Queue Delay" (ACM Queue 10:5, 2012), in the simpler form of Facebook's folly
 * (5 ms and 100 ms) and of Elixir's DBConnection, which has the look at a line that is stuck.
 */

export interface ShedOptions {
  /** The wait we are content with, in milliseconds. @default 5 */
  readonly targetMs?: number;
  /** How long the shortest wait must stay above it before anybody is shed. @default 100 */
  readonly intervalMs?: number;
}

export class Shedding {
  readonly targetMs: number;
  readonly intervalMs: number;
  /** A wait above this is too long while the line is overloaded. */
  readonly tooLongMs: number;
  #overloaded = false;
  #shortest = Infinity;
  #intervalEnd = -Infinity;
  #served = false;

  constructor({ targetMs = 5, intervalMs = 100 }: ShedOptions) {
    this.targetMs = targetMs;
    this.intervalMs = intervalMs;
    this.tooLongMs = 2 * targetMs;
  }

  /** The turn of the first in line has come. Whether it has waited too long to be served. */
  sheds(waitedMs: number, now: number): boolean {
    this.#served = true;
    if (now >= this.#intervalEnd) {
      this.#overloaded = this.#shortest > this.targetMs && this.#shortest < Infinity;
      this.#intervalEnd = now + this.intervalMs;
      this.#shortest = waitedMs;
      return false;
    }
    this.#shortest = Math.min(this.#shortest, waitedMs);
    return this.#overloaded && waitedMs > this.tooLongMs;
  }

  /** Somebody was served at once, or the line has become empty: this is no overload. */
  relieved(): void {
    this.#shortest = 0;
  }

  /** The look at the line, once an interval. Whether it has not moved since the last, and has waited too long. */
  stuck(waitedMs: number, now: number): boolean {
    const moved = this.#served;
    this.#served = false;
    if (moved || waitedMs <= this.targetMs) return false;
    this.#overloaded = true;
    this.#shortest = waitedMs;
    this.#intervalEnd = now + this.intervalMs;
    return true;
  }
}
