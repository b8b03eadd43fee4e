/** Dice: whom they ask, and what comes up. */

import fc from "fast-check";
import { expect, test, vi } from "vitest";
import { Dice } from "../../src/runtime/dice.ts";
import { systemRuntime } from "../../src/runtime/index.ts";
import { virtualRuntime } from "../../src/sim/index.ts";

test("the dice of the system's runtime ask it once, for a seed", () => {
  const random = vi.spyOn(systemRuntime, "random");
  const dice = Dice.of(systemRuntime);
  const thrown = [dice.below(6), dice.another(6, 2), dice.fraction()];
  expect(random).toHaveBeenCalledTimes(1);
  expect(thrown.every((each) => each >= 0 && each < 6)).toBe(true);
  random.mockRestore();
});

test("those of any other ask for every throw, and mean what it says", () => {
  const says = [0.5, 0, 0.999, 0.25];
  const dice = Dice.of({ ...virtualRuntime(), random: () => says.shift() as number });
  expect([dice.below(10), dice.another(3, 0), dice.another(3, 1), dice.fraction()]).toEqual([5, 1, 2, 0.25]);
  expect(says).toEqual([]);
});

test("the same seed throws the same, in range, and another side is another", () => {
  fc.assert(
    fc.property(fc.integer(), fc.integer({ min: 2, max: 1_000 }), fc.nat(999), (seed, sides, nth) => {
      const [one, two] = [new Dice(seed), new Dice(seed)];
      const other = nth % sides;
      const throws = (dice: Dice): number[] => [dice.below(sides), dice.another(sides, other), dice.fraction()];
      const [side, another, fraction] = throws(one) as [number, number, number];
      expect(throws(two)).toEqual([side, another, fraction]);
      expect([side, another].every((each) => Number.isInteger(each) && each >= 0 && each < sides)).toBe(true);
      expect(another).not.toBe(other);
      expect(fraction >= 0 && fraction < 1).toBe(true);
    }),
  );
});
