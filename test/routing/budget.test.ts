/** The budget of retries, alone: what is paid in, what may be taken out, and when both are forgotten. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { RetryBudget } from "../../src/routing/budget.ts";

/** A budget whose clock began at an odd moment, as clocks do. */
const start = 1_234.5;

function budget(fraction = 0.1): RetryBudget {
  return new RetryBudget(fraction, start);
}

function deposit(into: RetryBudget, count: number, at: number): void {
  for (let request = 0; request < count; request++) into.deposit(start + at);
}

/** A budget that so many requests have been paid into, at its start. */
function paid(count: number): RetryBudget {
  const made = budget();
  deposit(made, count, 0);
  return made;
}

/** How many retries it allows at this moment. */
function allowed(from: RetryBudget, at: number): number {
  let count = 0;
  while (from.withdraw(start + at) && count < 10_000) count++;
  return count;
}

describe("the budget", () => {
  test("allows ten a second to a pool that has asked for nothing", () => {
    const quiet = budget();
    for (const at of [0, 999]) expect(allowed(quiet, at)).toBe(at === 0 ? 10 : 0);
    expect(allowed(quiet, 1_000)).toBe(10);
    expect(allowed(quiet, 3_600_000)).toBe(10);
  });

  test.each([
    [0.1, 1_000, 100],
    [0.2, 1_000, 200],
    [1, 300, 300],
    [0.1, 95, 10],
    [0.5, 41, 20],
  ])("of %f allows that part of %i requests: %i", (fraction, requests, retries) => {
    const busy = budget(fraction);
    deposit(busy, requests, 0);
    expect(allowed(busy, 0)).toBe(retries);
  });

  test("of nothing allows nothing", () => {
    const none = budget(0);
    deposit(none, 10_000, 0);
    expect([allowed(none, 0), allowed(none, 5_000)]).toEqual([0, 0]);
  });

  test("remembers requests and retries for ten seconds, and no longer", () => {
    const busy = budget();
    deposit(busy, 1_000, 0);
    expect(allowed(busy, 500)).toBe(100);
    // The share is used up: what is left is the ten a second.
    for (let second = 1; second <= 9; second++) expect(allowed(busy, second * 1_000)).toBe(10);
    expect(allowed(busy, 10_000)).toBe(10);
    expect(allowed(paid(1_000), 9_999)).toBe(100);
    expect(allowed(paid(1_000), 10_000)).toBe(10);
    deposit(busy, 1_000, 20_000);
    // Retries of before are forgotten, too; those of the last ten seconds are not.
    expect(allowed(busy, 29_999)).toBe(100);
  });

  test("forgets everything in a long silence, and goes on counting in whole seconds", () => {
    const busy = budget();
    deposit(busy, 1_000, 0);
    expect(allowed(busy, 3_600_500)).toBe(10);
    expect(allowed(busy, 3_600_999)).toBe(0);
    expect(allowed(busy, 3_601_000)).toBe(10);
  });

  test("never lets a storm of failures more than double the floor or its share", () => {
    const step = fc.record({ requests: fc.nat(200), ms: fc.nat(1_500) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const shared = budget();
        let at = 0;
        const log: { at: number; requests: number; retries: number }[] = [];
        for (const { requests, ms } of steps) {
          at += ms;
          deposit(shared, requests, at);
          log.push({ at, requests, retries: allowed(shared, at) });
          const lately = log.filter((entry) => entry.at > at - 9_000);
          const sum = (of: "requests" | "retries"): number => lately.reduce((total, entry) => total + entry[of], 0);
          // In nine seconds: a tenth of ten seconds' requests, and at most ten in each of ten whole seconds beside.
          const asked = log
            .filter((entry) => entry.at > at - 20_000)
            .reduce((total, entry) => total + entry.requests, 0);
          expect(sum("retries")).toBeLessThanOrEqual(Math.ceil(asked * 0.1) + 100);
        }
      }),
      { seed: 1, numRuns: 200 },
    );
  });
});
