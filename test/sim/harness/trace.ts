/**
 * What happened in a run, line by line, as one number.
 *
 * Two runs of one seed must have the same trace to the last byte. A million commands say too much to be kept, so a trace
 * is a hash that each line goes into, and the last few lines for whoever reads about a failure. When two runs differ,
 * they are made again with `whole`, to show the first line in which they do.
 */

const kept = 40;

export class Trace {
  lines = 0;
  #high = 0x9e3779b9;
  #low = 0x85ebca6b;
  readonly #whole: boolean;
  readonly #told: ((line: string) => void) | undefined;
  #last: string[] = [];

  constructor(options: { whole?: boolean; told?: ((line: string) => void) | undefined } = {}) {
    this.#whole = options.whole === true;
    this.#told = options.told;
  }

  add(line: string): void {
    let high = this.#high;
    let low = this.#low;
    for (let at = 0; at < line.length; at++) {
      const code = line.charCodeAt(at);
      high = Math.imul(high ^ code, 0x9e3779b1);
      low = Math.imul(low ^ code, 0x5f356495);
    }
    // The end of the line is mixed in: what is on which line matters.
    this.#high = Math.imul(high ^ (low >>> 15) ^ 10, 0x85ebca77);
    this.#low = Math.imul(low ^ (high >>> 13) ^ 10, 0xc2b2ae3d);
    this.lines++;
    this.#last.push(line);
    this.#told?.(line);
    if (!this.#whole && this.#last.length > 2 * kept) this.#last = this.#last.slice(-kept);
  }

  /** Equal for equal traces; and for different ones once in 2⁶⁴. */
  get digest(): string {
    const hex = (word: number): string => (word >>> 0).toString(16).padStart(8, "0");
    return `${this.lines}-${hex(this.#high)}${hex(this.#low)}`;
  }

  /** The last lines; all of them when it is kept whole. */
  get text(): readonly string[] {
    return this.#whole ? this.#last : this.#last.slice(-kept);
  }
}
