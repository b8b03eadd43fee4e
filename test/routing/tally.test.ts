/** Counts over a window, against a list of everything that was counted. */

import fc from "fast-check";
import { expect, test } from "vitest";
import { Tally } from "../../src/routing/tally.ts";

test("counts what a list of all would, to a tenth of the window", () => {
  const counted = fc.constantFrom({ all: true, some: false }, { all: false, some: true }, { all: true, some: true });
  const step = fc.record({ ms: fc.integer({ min: 0, max: 400 }), counted });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const tally = new Tally(1_000, 0);
      const counts: { at: number; all: boolean; some: boolean }[] = [];
      let now = 0;
      for (const { ms, counted: what } of steps) {
        now += ms;
        if (what.all) tally.add(now);
        if (what.some) tally.addSome(now);
        counts.push({ at: now, ...what });
        // Buckets begin at multiples of 100: what is counted is what lies in the last ten of them.
        const from = Math.floor(now / 100) * 100 - 900;
        const kept = counts.filter(({ at }) => at >= from);
        const seen = tally.upTo(now);
        const of = (kind: "all" | "some"): number => kept.filter((each) => each[kind]).length;
        expect([seen.all, seen.some]).toEqual([of("all"), of("some")]);
      }
    }),
  );
});

test("forgets everything after a long pause, and when it is cleared", () => {
  const tally = new Tally(1_000, 0);
  tally.add(0);
  tally.addSome(0);
  expect([tally.upTo(50_000).all, tally.some, tally.someLately]).toEqual([0, 0, 0]);
  tally.add(50_000);
  tally.clear();
  expect(tally.upTo(50_000).all).toBe(0);
});
