/** The probe itself: a measure that counts nothing proves nothing. */

import { expect, test } from "vitest";
import { steps } from "./steps.ts";

test("a probe counts what is linear, and tells it from what is quadratic", () => {
  const list = Array.from({ length: 100 }, (_, at) => at);
  expect(steps(() => void [...new Set(list)])).toBeGreaterThanOrEqual(100);
  expect(steps(() => void list.indexOf(99))).toBeGreaterThanOrEqual(100);
  const quadratic = (length: number) =>
    steps(() => {
      const queue = Array.from({ length }, (_, at) => at);
      while (queue.length > 0) queue.shift();
    });
  expect(quadratic(400)).toBeGreaterThan(10 * quadratic(100));
  expect(steps(() => undefined)).toBe(0);
});
