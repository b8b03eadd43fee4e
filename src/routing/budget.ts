/**
 * How many retries the traffic can bear.
 *
 * Retries help when one member fails and harm when all do: then each adds load to what is already failing, and a stall
 * of seconds becomes an outage without end. So retries come out of a budget that requests pay into: a fraction of the
 * last ten seconds' traffic, and never less than ten a second, so that a quiet pool can retry too.
 *
 * After Finagle's RetryBudget; the SRE book gives the tenth.
 */

import { Tally } from "./tally.ts";

const windowMs = 10_000;
const leastPerSecond = 10;

export class RetryBudget {
  readonly #fraction: number;
  /** Requests, and the retries made. */
  readonly #tally: Tally;

  /** @param fraction Retries a request pays for: 0.1 allows one retry for ten requests. */
  constructor(fraction: number, now: number) {
    this.#fraction = fraction;
    this.#tally = new Tally(windowMs, now);
  }

  /** A request was made. O(1). */
  deposit(now: number): void {
    this.#tally.add(now);
  }

  /** Whether one more retry may be made; if so it is counted. */
  withdraw(now: number): boolean {
    const { all: requests, some: retries, someLately } = this.#tally.upTo(now);
    const share = retries + 1 <= requests * this.#fraction;
    // A bucket of the tally is a second.
    const floor = this.#fraction > 0 && someLately < leastPerSecond;
    if (!share && !floor) return false;
    this.#tally.addSome(now);
    return true;
  }
}
