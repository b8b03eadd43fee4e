/**
 * A seeded generator: the same seed, the same numbers, on every machine. The generator is the library's own dice.
 */

import { Dice } from "../runtime/index.ts";

/** A function that gives numbers in [0, 1), told by the seed's low 32 bits. */
export function seededRandom(seed: number): () => number {
  const dice = new Dice(seed);
  return () => dice.fraction();
}
