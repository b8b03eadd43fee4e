/** The seeded generator: the same numbers everywhere, and good enough to choose by. */

import fc from "fast-check";
import { expect, test } from "vitest";
import { seededRandom } from "../../src/sim/index.ts";

const take = (seed: number, count: number): number[] => Array.from({ length: count }, seededRandom(seed));

test("the numbers of a seed are these, on every machine and in every version", () => {
  // Changing them would make every seed that was ever reported mean another run.
  expect(take(1, 3).map((number) => number * 2 ** 32)).toEqual([2693262067, 11749833, 2265367787]);
  expect(take(0, 2).map((number) => number * 2 ** 32)).toEqual([1144304738, 1416247]);
});

test("every number is in [0, 1), for every seed", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 32 - 1 }), (seed) => {
      expect(take(seed, 50).every((number) => number >= 0 && number < 1)).toBe(true);
    }),
  );
});

test("two generators of one seed do not disturb each other", () => {
  const [a, b] = [seededRandom(7), seededRandom(7)];
  const alternating = Array.from({ length: 20 }, (_, at) => (at % 2 === 0 ? a() : b()));
  expect(alternating.filter((_, at) => at % 2 === 0)).toEqual(take(7, 10));
  expect(alternating.filter((_, at) => at % 2 === 1)).toEqual(take(7, 10));
});

test("neighbouring seeds have nothing in common", () => {
  const first = new Set(Array.from({ length: 1_000 }, (_, seed) => take(seed, 1)[0]));
  expect(first.size).toBe(1_000);
});

test("the numbers fill ten boxes evenly: chi-squared is below what one run in a million would exceed", () => {
  const boxes = Array.from({ length: 10 }, () => 0);
  for (const number of take(42, 100_000)) (boxes[Math.floor(number * 10)] as number)++;
  const chiSquared = boxes.reduce((sum, count) => sum + (count - 10_000) ** 2 / 10_000, 0);
  expect(chiSquared).toBeLessThan(45); // 9 degrees of freedom: p = 1e-6 at 44.8.
});
