/**
 * How many, and how many of a kind, over the last while.
 *
 * Ten buckets with exact counts; a bucket is emptied when its time comes round again. Not an average that fades: weighted by
 * arrival, one burst can hide that nothing has worked since (as linkerd found). The sums are kept, so that reading and
 * counting are O(1); what is forgotten goes in steps of a tenth of the window.
 */

const buckets = 10;

export class Tally {
  readonly #bucketMs: number;
  readonly #all: Int32Array = new Int32Array(buckets);
  readonly #some: Int32Array = new Int32Array(buckets);
  #at = 0;
  #until: number;
  #sumAll = 0;
  #sumSome = 0;

  constructor(windowMs: number, now: number) {
    this.#bucketMs = windowMs / buckets;
    this.#until = now + this.#bucketMs;
  }

  /** Counts one. */
  add(now: number): void {
    if (now >= this.#until) this.#turn(now);
    (this.#all[this.#at] as number)++;
    this.#sumAll++;
  }

  /** Counts one of the kind; `add` is called besides, if it is one of all, too. */
  addSome(now: number): void {
    if (now >= this.#until) this.#turn(now);
    (this.#some[this.#at] as number)++;
    this.#sumSome++;
  }

  /** What has been counted in the window that ends now. */
  upTo(now: number): this {
    if (now >= this.#until) this.#turn(now);
    return this;
  }

  get all(): number {
    return this.#sumAll;
  }

  get some(): number {
    return this.#sumSome;
  }

  /** Those of the kind in the current bucket. */
  get someLately(): number {
    return this.#some[this.#at] as number;
  }

  clear(): void {
    this.#all.fill(0);
    this.#some.fill(0);
    this.#sumAll = 0;
    this.#sumSome = 0;
  }

  #turn(now: number): void {
    const turns = Math.floor((now - this.#until) / this.#bucketMs) + 1;
    for (let turn = 0; turn < Math.min(turns, buckets); turn++) {
      this.#at = (this.#at + 1) % buckets;
      this.#sumAll -= this.#all[this.#at] as number;
      this.#sumSome -= this.#some[this.#at] as number;
      this.#all[this.#at] = 0;
      this.#some[this.#at] = 0;
    }
    this.#until += turns * this.#bucketMs;
  }
}
