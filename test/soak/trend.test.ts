/** What counts as growth, and what does not. */

import { expect, test } from "vitest";
import { seededRandom } from "../../src/sim/index.ts";
import { growthOf, slopeOf } from "./trend.ts";

test("the slope of a line is its slope, and of one sample or none it is nothing", () => {
  expect(slopeOf([3, 5, 7, 9])).toBe(2);
  expect(slopeOf([9, 7, 5])).toBe(-2);
  expect([slopeOf([]), slopeOf([4])]).toEqual([0, 0]);
});

test("a few odd samples do not bend it", () => {
  expect(slopeOf([1, 1, 1, 900, 1, 1, 1, 1, 1, -50, 1, 1])).toBe(0);
});

test("what warms up and then stays does not grow; what goes on does, by as much as in its second half", () => {
  expect(growthOf([1, 5, 8, 9, 10, 10, 10, 10, 10, 10])).toBe(0);
  expect(growthOf([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])).toBe(4);
});

test("noise is no trend, and a trend is found in noise", () => {
  const random = seededRandom(1);
  const noise = Array.from({ length: 60 }, () => random());
  expect(Math.abs(growthOf(noise))).toBeLessThan(0.5);
  expect(growthOf(noise.map((each, at) => each + at / 10))).toBeGreaterThan(2);
});
