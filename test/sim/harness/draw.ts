/**
 * Chance for a run: streams of throws, each told by the seed and the name of what it is for.
 *
 * A stream of its own for each purpose, because a shrunk run must differ from the whole one in its commands only: what
 * faults do is not to depend on how many commands were drawn before.
 */

import { Dice } from "../../../src/runtime/index.ts";

export class Draw {
  readonly #dice: Dice;

  constructor(seed: number, purpose: string) {
    let mixed = seed | 0;
    for (let at = 0; at < purpose.length; at++) mixed = Math.imul(mixed ^ purpose.charCodeAt(at), 0x01000193);
    this.#dice = new Dice(mixed);
  }

  /** A whole number from 0 to `limit` − 1. */
  below(limit: number): number {
    return this.#dice.below(limit);
  }

  /** A whole number from `least` to `most`. */
  between(least: number, most: number): number {
    return least + this.#dice.below(most - least + 1);
  }

  chance(of: number): boolean {
    return this.#dice.fraction() < of;
  }

  /** A number in [0, 1). */
  fraction(): number {
    return this.#dice.fraction();
  }

  one<T>(...of: readonly T[]): T {
    return of[this.#dice.below(of.length)] as T;
  }
}
