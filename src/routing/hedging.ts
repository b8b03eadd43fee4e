/**
 * When a second copy of a request is worth sending.
 *
 * A request that takes longer than nearly all others do is likely to have met something (a pause, a lost packet, a queue)
 * that a copy sent elsewhere will not. Sent after the 95th percentile, copies add about a twentieth to the load and take
 * the tail away. So the latencies of what went well are kept, and their percentile is when a copy is due.
 *
 * Only for what may be done twice (`idempotent`), only from the retry budget, and not before enough has been seen: a pool
 * that is overloaded is slow for everybody, and copies would make it slower.
 *
 * Latencies are counted in boxes that grow by a twelfth, over the last ten to twenty seconds, in two halves.
 *
 * After Dean and Barroso, "The Tail at Scale" (2013), and tower's hedge (a rotating histogram, a least number of samples).
 */

import { type Check, type Checks, duration, integer, nested } from "../options.ts";

export interface HedgeOptions {
  /** A copy is sent when this share of the requests would have been answered. @default 0.95 */
  readonly percentile?: number;
  /** Answers that must have been seen in the last seconds before any copy is sent. @default 100 */
  readonly minSamples?: number;
  /** No copy before this, in milliseconds. @default 1 */
  readonly minMs?: number;
}

const checks: Checks<HedgeOptions> = {
  percentile: {
    expected: "a number more than 0 and less than 1",
    accepts: (value) => typeof value === "number" && value > 0 && value < 1,
  },
  minSamples: integer(1),
  minMs: duration({ zero: true }),
};

export const hedgeCheck: Check = nested(checks);

const halfMs = 10_000;
/** 2^(1/9): eight per cent. */
const boxesPerDoubling = 9;
/** From a microsecond to about an hour. */
const boxes = 32 * boxesPerDoubling;
const leastMs = 0.001;

export class Hedging {
  readonly #percentile: number;
  readonly #minSamples: number;
  readonly #minMs: number;
  #current = new Int32Array(boxes);
  #previous = new Int32Array(boxes);
  #samples = 0;
  #samplesBefore = 0;
  #until: number;
  #delayMs: number | undefined;
  /** Samples at which the percentile is looked up again. */
  #lookAt = 0;

  constructor({ percentile = 0.95, minSamples = 100, minMs = 1 }: HedgeOptions, now: number) {
    this.#percentile = percentile;
    this.#minSamples = minSamples;
    this.#minMs = minMs;
    this.#until = now + halfMs;
    this.#lookAt = minSamples;
  }

  /** How long after a request its copy is due; `undefined` while too little is known. O(1) on average. */
  delayMs(now: number): number | undefined {
    if (now >= this.#until) this.#turn(now);
    const seen = this.#samples + this.#samplesBefore;
    if (seen < this.#minSamples) return undefined;
    if (seen >= this.#lookAt || this.#delayMs === undefined) {
      this.#delayMs = Math.max(this.#find(seen), this.#minMs);
      this.#lookAt = seen + Math.max(this.#minSamples, seen >> 4);
    }
    return this.#delayMs;
  }

  /** A request has gone well, after so long. */
  observe(durationMs: number, now: number): void {
    if (now >= this.#until) this.#turn(now);
    const box = Math.ceil(Math.log2(Math.max(durationMs, leastMs) / leastMs) * boxesPerDoubling);
    (this.#current[Math.min(box, boxes - 1)] as number)++;
    this.#samples++;
  }

  /** The upper end of the box in which the percentile is. */
  #find(seen: number): number {
    let left = Math.ceil(seen * this.#percentile);
    for (let box = 0; box < boxes; box++) {
      left -= (this.#current[box] as number) + (this.#previous[box] as number);
      if (left <= 0) return leastMs * 2 ** (box / boxesPerDoubling);
    }
    return Infinity;
  }

  #turn(now: number): void {
    const quiet = now >= this.#until + halfMs;
    [this.#previous, this.#current] = [this.#current, this.#previous];
    this.#current.fill(0);
    if (quiet) this.#previous.fill(0);
    this.#samplesBefore = quiet ? 0 : this.#samples;
    this.#samples = 0;
    this.#until = now + halfMs;
    this.#delayMs = undefined;
    this.#lookAt = 0;
  }
}
