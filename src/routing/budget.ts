/**
 * How many retries the traffic can bear.
 *
 * Retries help when one member fails and harm when all do: then each adds load to what is already failing, and a stall
 * of seconds becomes an outage without end. So retries come out of a budget that requests pay into: a fraction of the
 * last ten seconds' traffic, and never less than ten a second, so that a quiet pool can retry too.
 *
 * Ten buckets of one second; a bucket is emptied when its second comes round again. O(1) a request.
 *
 * After Finagle's RetryBudget; the SRE book gives the tenth.
 */

const buckets = 10;
const bucketMs = 1_000;
const leastPerSecond = 10;

export class RetryBudget {
  readonly #fraction: number;
  readonly #requests: number[] = new Array(buckets).fill(0);
  readonly #retries: number[] = new Array(buckets).fill(0);
  #at = 0;
  #until: number;

  /** @param fraction Retries a request pays for: 0.1 allows one retry for ten requests. */
  constructor(fraction: number, now: number) {
    this.#fraction = fraction;
    this.#until = now + bucketMs;
  }

  /** A request was made. */
  deposit(now: number): void {
    if (now >= this.#until) this.#turn(now);
    (this.#requests[this.#at] as number)++;
  }

  /** Whether one more retry may be made; if so it is counted. */
  withdraw(now: number): boolean {
    if (now >= this.#until) this.#turn(now);
    const requests = this.#requests.reduce((sum, count) => sum + count, 0);
    const retries = this.#retries.reduce((sum, count) => sum + count, 0);
    const share = retries < requests * this.#fraction;
    const floor = this.#fraction > 0 && (this.#retries[this.#at] as number) < leastPerSecond;
    if (!share && !floor) return false;
    (this.#retries[this.#at] as number)++;
    return true;
  }

  #turn(now: number): void {
    const turns = Math.floor((now - this.#until) / bucketMs) + 1;
    for (let turn = 0; turn < Math.min(turns, buckets); turn++) {
      this.#at = (this.#at + 1) % buckets;
      this.#requests[this.#at] = 0;
      this.#retries[this.#at] = 0;
    }
    this.#until += turns * bucketMs;
  }
}
