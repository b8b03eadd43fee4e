/** Backoff as properties: the formulas hold for every range and every dice. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { checkOptions } from "../../src/options.ts";
import { type Backoff, type BackoffOptions, backoff, backoffCheck, nextDelay } from "../../src/runtime/index.ts";
import { seededRandom } from "../../src/sim/index.ts";

/** minMs and maxMs in order, and dice in [0, 1) for a run of attempts. */
const ranges = fc
  .tuple(fc.double({ min: 0.001, max: 1e6, noNaN: true }), fc.double({ min: 0.001, max: 1e6, noNaN: true }))
  .map(([a, b]) => ({ minMs: Math.min(a, b), maxMs: Math.max(a, b) }));
const dice = fc.array(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), { minLength: 1, maxLength: 40 });
const kinds = fc.constantFrom("exponential" as const, "random" as const, "random-exponential" as const);

/** The delays of a run, one for each throw of the dice. */
function delays(options: BackoffOptions, throws: readonly number[]): number[] {
  let state: Backoff = backoff(options);
  return throws.map((thrown) => {
    const [delayMs, next] = nextDelay(state, () => thrown);
    state = next;
    return delayMs;
  });
}

/** Rounding of the last bits must not fail a formula. */
const slack = 1 + 1e-12;

describe("every kind", () => {
  test("waits no less than minMs and no more than maxMs", () => {
    fc.assert(
      fc.property(kinds, ranges, dice, (kind, range, throws) => {
        for (const delayMs of delays({ kind, ...range }, throws)) {
          expect(delayMs * slack).toBeGreaterThanOrEqual(range.minMs);
          expect(delayMs).toBeLessThanOrEqual(range.maxMs * slack);
        }
      }),
    );
  });

  test("is a value: asking again gives the same, and what was asked is as it was", () => {
    fc.assert(
      fc.property(kinds, ranges, fc.integer({ min: 0 }), (kind, range, seed) => {
        const state = backoff({ kind, ...range });
        const before = structuredClone(state);
        expect(nextDelay(state, seededRandom(seed))).toEqual(nextDelay(state, seededRandom(seed)));
        expect(state).toEqual(before);
      }),
    );
  });

  test("waits exactly that long when minMs and maxMs are the same", () => {
    fc.assert(
      fc.property(kinds, fc.integer({ min: 1, max: 1e6 }), dice, (kind, ms, throws) => {
        for (const delayMs of delays({ kind, minMs: ms, maxMs: ms }, throws)) expect(delayMs).toBeCloseTo(ms, 6);
      }),
    );
  });
});

test("exponential begins with minMs and doubles up to maxMs, whatever the dice", () => {
  fc.assert(
    fc.property(ranges, dice, (range, throws) => {
      const expected = throws.map((_, attempt) => Math.min(range.minMs * 2 ** attempt, range.maxMs));
      expect(delays({ kind: "exponential", ...range }, throws)).toEqual(expected);
    }),
  );
  expect(delays({ kind: "exponential" }, [0, 0, 0, 0, 0, 0, 0])).toEqual([1e3, 2e3, 4e3, 8e3, 16e3, 30e3, 30e3]);
});

test("random is uniform between minMs and maxMs, and remembers nothing", () => {
  fc.assert(
    fc.property(ranges, dice, (range, throws) => {
      const expected = throws.map((thrown) => range.minMs + thrown * (range.maxMs - range.minMs));
      expect(delays({ kind: "random", ...range }, throws)).toEqual(expected);
    }),
  );
});

describe("random-exponential", () => {
  test("draws uniformly from min(previous, low) to min(3 * previous, maxMs), low being max(minMs, maxMs / 3)", () => {
    fc.assert(
      fc.property(ranges, dice, ({ minMs, maxMs }, throws) => {
        const low = Math.max(minMs, maxMs / 3);
        let previous = minMs;
        for (const [at, delayMs] of delays({ minMs, maxMs }, throws).entries()) {
          const [least, most] = [Math.min(previous, low), Math.min(3 * previous, maxMs)];
          expect(delayMs).toBe(least + (throws[at] as number) * (most - least));
          previous = delayMs;
        }
      }),
    );
  });

  test("first waits from minMs to three times that", () => {
    fc.assert(
      fc.property(ranges, dice, ({ minMs, maxMs }, throws) => {
        const [first = 0] = delays({ minMs, maxMs }, throws);
        expect(first).toBeGreaterThanOrEqual(minMs);
        expect(first).toBeLessThanOrEqual(3 * minMs * slack);
      }),
    );
  });

  test("stays in the top two thirds once it is there", () => {
    fc.assert(
      fc.property(ranges, dice, ({ minMs, maxMs }, throws) => {
        const all = delays({ minMs, maxMs }, throws);
        const top = all.findIndex((delayMs) => delayMs >= maxMs / 3);
        if (top < 0) return;
        for (const delayMs of all.slice(top)) expect(delayMs * slack).toBeGreaterThanOrEqual(maxMs / 3);
      }),
    );
  });
});

describe("the options", () => {
  test("are random-exponential from 1 s to 30 s when there are none", () => {
    expect(backoff()).toEqual({ kind: "random-exponential", minMs: 1_000, maxMs: 30_000, previousMs: undefined });
  });

  test("fit the limit that is not given to the one that is", () => {
    expect(backoff({ maxMs: 200 })).toMatchObject({ minMs: 200, maxMs: 200 });
    expect(backoff({ maxMs: 5_000 })).toMatchObject({ minMs: 1_000, maxMs: 5_000 });
    expect(backoff({ minMs: 60_000 })).toMatchObject({ minMs: 60_000, maxMs: 60_000 });
    expect(backoff({ minMs: 5 })).toMatchObject({ minMs: 5, maxMs: 30_000 });
  });

  test.each([
    [{ minMs: 0 }, /test: backoff: minMs: expected a number of milliseconds, more than 0, got 0/],
    [{ maxMs: Infinity }, /backoff: maxMs: expected a number of milliseconds, more than 0, got Infinity/],
    [{ minMs: 20, maxMs: 10 }, /backoff: minMs: expected at most maxMs \(10\), got 20/],
    [{ kind: "stop" }, /backoff: kind: expected one of "exponential", "random", "random-exponential", got "stop"/],
    [{ max: 7 }, /backoff: max: expected one of kind, minMs, maxMs, got unknown option/],
    [false, /backoff: expected an object of options, got false/],
  ])("are refused when they are %j", (given, message) => {
    expect(() => checkOptions("test", { backoff: given }, { backoff: backoffCheck })).toThrow(message);
  });

  test("are accepted when both limits are the same, and when there are none", () => {
    for (const given of [{ minMs: 10, maxMs: 10 }, {}, undefined]) {
      checkOptions("test", { backoff: given }, { backoff: backoffCheck });
    }
  });
});
