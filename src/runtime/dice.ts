/**
 * Dice for those who throw them at every request, and the generator behind them.
 *
 * A number with a fraction that comes back from a call is an object of its own on V8's heap, sixteen bytes a throw. So
 * a strategy does not ask the system's runtime each time: it takes one number from it, as a seed, and goes on with whole
 * numbers, which cost nothing. Any other runtime is asked for every throw: a test that says what comes up means each.
 *
 * Mulberry32 (Tommy Ettinger): one 32-bit word of state, 2³² numbers before it repeats, good enough to choose members
 * and faults by. Not for secrets.
 */

import { type Runtime, systemRuntime } from "./runtime.ts";

export class Dice {
  #state: number;
  readonly #thrower: Runtime | undefined;

  constructor(seed: number, thrower?: Runtime) {
    this.#state = seed | 0;
    this.#thrower = thrower;
  }

  /** The dice of a runtime. */
  static of(runtime: Runtime): Dice {
    return runtime === systemRuntime ? Dice.seededBy(runtime) : new Dice(0, runtime);
  }

  /** A stream of its own, told by one throw of the runtime's. */
  static seededBy(runtime: Runtime): Dice {
    return new Dice(Math.floor(runtime.random() * 2 ** 32));
  }

  /** A whole number from 0 to `sides` − 1, each as likely as another but for 1 in 2³² / sides. */
  below(sides: number): number {
    if (this.#thrower !== undefined) return Math.floor(this.#thrower.random() * sides);
    return Math.floor(((this.#next() >>> 0) / 2 ** 32) * sides);
  }

  /** The same for one that is not `other`: of two or more sides. */
  another(sides: number, other: number): number {
    const side = this.below(sides - 1);
    return side < other ? side : side + 1;
  }

  /** A number in [0, 1). */
  fraction(): number {
    return this.#thrower === undefined ? (this.#next() >>> 0) / 2 ** 32 : this.#thrower.random();
  }

  /** 32 random bits, as a signed number: V8 keeps those unboxed. */
  #next(): number {
    const state = (this.#state + 0x6d2b79f5) | 0;
    this.#state = state;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return mixed ^ (mixed >>> 14);
  }
}
