/** Exact shares, smoothly dealt, whoever comes and goes. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Member, OptionError, type Strategy, weighted } from "../../../src/index.ts";
import { virtualRuntime } from "../../../src/sim/index.ts";
import { at, eventsOf, type Hand, hand, hands, shuffled } from "./members.ts";

const runtime = virtualRuntime();

function strategyOf(weightOf?: (member: Member<string>) => number): Strategy<string> {
  return weightOf === undefined ? weighted()<string>(runtime) : weighted(weightOf)(runtime);
}

function slots(strategy: Strategy<string>, members: readonly Member<string>[], count: number): number[] {
  return Array.from({ length: count }, () => strategy.pick(members, {}).slot);
}

/** How often each was picked, by slot. */
function counts(strategy: Strategy<string>, members: readonly Member<string>[], picks: number): number[] {
  const seen = members.map(() => 0);
  for (const slot of slots(strategy, members, picks)) seen[slot] = at(seen, slot) + 1;
  return seen;
}

describe("while members and weights stay", () => {
  test("weights of 5, 1 and 1 are dealt as nginx deals them", () => {
    const members = hands(3, (slot) => ({ weight: at([5, 1, 1], slot) }));
    expect(slots(strategyOf(), members, 14)).toEqual([0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0]);
  });

  test("equal weights are taken in turn, for ever in the same order", () => {
    const members = hands(10);
    const strategy = strategyOf();
    for (let cycle = 0; cycle < 500; cycle++)
      expect(slots(strategy, members, 10)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });

  test("every window of a whole cycle has each member exactly its weight's number of times", () => {
    const weights = fc
      .array(fc.nat(12), { minLength: 1, maxLength: 9 })
      .filter((all) => all.some((weight) => weight > 0));
    fc.assert(
      fc.property(weights, fc.nat(200), (all, before) => {
        const members = hands(all.length, (slot) => ({ weight: at(all, slot) }));
        const strategy = strategyOf();
        const cycle = all.reduce((sum, weight) => sum + weight, 0);
        slots(strategy, members, before);
        for (let cycles = 0; cycles < 3; cycles++) expect(counts(strategy, members, cycle)).toEqual(all);
      }),
      { seed: 1, numRuns: 200 },
    );
  });

  test("nobody ever strays from its share by more than a request or two", () => {
    const members = hands(7, (slot) => ({ weight: at([0.1, 0.2, 0.3, 3.3, 0.7, 12.5, 1e-3], slot) }));
    const total = members.reduce((sum, { weight }) => sum + weight, 0);
    const strategy = strategyOf();
    const had = members.map(() => 0);
    let furthest = 0;
    for (let picks = 1; picks <= 20_000; picks++) {
      const { slot } = strategy.pick(members, {});
      had[slot] = at(had, slot) + 1;
      for (const { slot, weight } of members) {
        furthest = Math.max(furthest, Math.abs(at(had, slot) - (picks * weight) / total));
      }
    }
    expect(furthest).toBeLessThan(2);
  });
});

describe("when members come and go", () => {
  test("each has its share of the picks it was there for, give or take a request or two", () => {
    const present = fc.array(fc.tuple(fc.integer({ min: 1, max: 255 }), fc.integer({ min: 1, max: 30 })), {
      maxLength: 60,
    });
    const weights = fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 8, maxLength: 8 });
    fc.assert(
      fc.property(weights, present, (all, spells) => {
        const members = hands(8, (slot) => ({ weight: at(all, slot) }));
        const strategy = strategyOf();
        const owed = members.map(() => 0);
        let furthest = 0;
        for (const [who, picks] of spells) {
          const those = members.filter(({ slot }) => (who & (1 << slot)) !== 0);
          const total = those.reduce((sum, { weight }) => sum + weight, 0);
          for (let pick = 0; pick < picks; pick++) {
            for (const { slot, weight } of those) owed[slot] = at(owed, slot) + weight / total;
            const { slot } = strategy.pick(those, {});
            owed[slot] = at(owed, slot) - 1;
            furthest = Math.max(furthest, ...owed.map(Math.abs));
          }
        }
        expect(furthest).toBeLessThan(2.5);
      }),
      { seed: 1, numRuns: 200 },
    );
  });

  test("after one has joined and one has left, the cycles are exact again", () => {
    const members = hands(4, (slot) => ({ weight: at([4, 2, 1, 3], slot) }));
    const strategy = strategyOf();
    slots(strategy, members.slice(0, 3), 17);
    slots(strategy, members, 5);
    const left = members.filter(({ slot }) => slot !== 0);
    slots(strategy, left, 12); // Two cycles, in which debts and credits are settled.
    for (let cycle = 0; cycle < 20; cycle++) {
      const seen = slots(strategy, left, 6);
      expect([1, 2, 3].map((slot) => seen.filter((each) => each === slot).length)).toEqual([2, 1, 3]);
    }
  });

  test("one that was away does not catch up on what it missed", () => {
    const members = hands(3);
    const strategy = strategyOf();
    slots(strategy, members.slice(0, 2), 1_000);
    const seen = slots(strategy, members, 30);
    expect(seen.filter((slot) => slot === 2).length).toBeLessThanOrEqual(11);
    expect(seen.filter((slot) => slot === 2).length).toBeGreaterThanOrEqual(9);
  });

  test("when nearly all are full for a moment, nobody who is left is served in a row", () => {
    const members = hands(100, () => ({ weight: 10 }));
    const strategy = strategyOf();
    slots(strategy, members, 50); // Of the two that are left one has had its turn, the other has not.
    const longest = longestRun(slots(strategy, [at(members, 20), at(members, 80)], 40));
    expect(longest).toBeLessThanOrEqual(3);
  });

  test("the order in which they are given does not matter for the shares", () => {
    const members = hands(6, (slot) => ({ weight: slot + 1 }));
    const strategy = strategyOf();
    const had = members.map(() => 0);
    for (let picks = 0; picks < 2_100; picks++) {
      const { slot } = strategy.pick(shuffled(members, runtime), {});
      had[slot] = at(had, slot) + 1;
    }
    for (const { slot, weight } of members) expect(Math.abs(at(had, slot) - 100 * weight)).toBeLessThan(3);
  });
});

describe("a weight", () => {
  test("may change while the pool runs, and 0 sends the member nothing", () => {
    const weights = [1, 1, 1];
    const strategy = strategyOf(({ slot }) => at(weights, slot));
    const members = hands(3);
    expect(slots(strategy, members, 2)).toEqual([0, 1]);
    weights[2] = 0; // Though it would have been next.
    expect(counts(strategy, members, 10)).toEqual([5, 5, 0]);
    weights[2] = 6;
    const seen = counts(strategy, members, 400);
    expect(Math.abs(at(seen, 2) - 300)).toBeLessThan(3);
  });

  test.each([
    ["negative", () => -1],
    ["NaN", () => Number.NaN],
    ["infinite", () => Infinity],
    ["nothing", () => undefined as unknown as number],
    ["no number", () => "5" as unknown as number],
    ["to come later", () => Promise.resolve(5) as unknown as number],
    ["to come later, and does not", () => Promise.reject(new Error("no")) as unknown as number],
    [
      "a throw",
      () => {
        throw new Error("no");
      },
    ],
  ])("that is %s counts as 0, with one event for each member", (_, weightOf) => {
    const strategy = strategyOf((member) => (member.slot === 1 ? 2 : weightOf()));
    const members = hands(3);
    const events = eventsOf("callback.failed", () => {
      expect(new Set(slots(strategy, members, 20))).toEqual(new Set([1]));
    });
    expect(events.map(({ where }) => where)).toEqual([
      "weighted: the weight of member 0",
      "weighted: the weight of member 2",
    ]);
  });

  test("of a member made by hand is checked too", () => {
    const members = [hand(0, { weight: Number.NaN }), hand(1)];
    const strategy = strategyOf();
    const events = eventsOf("callback.failed", () => void slots(strategy, members, 5));
    expect(events).toHaveLength(1);
    expect(at(events, 0).error).toBeInstanceOf(OptionError);
  });

  test.each([
    ["0", 0],
    ["beyond all measure", Number.MAX_VALUE],
  ])("of %s for everybody means taking turns", (_, weight) => {
    const members = hands(3, () => ({ weight }));
    const strategy = strategyOf();
    const events = eventsOf("callback.failed", () => {
      expect(counts(strategy, members, 30)).toEqual([10, 10, 10]);
    });
    expect(events).toEqual([]);
  });

  test("is asked of each member once a pick, and the pool's other strategies know nothing of it", () => {
    const asked: number[] = [];
    const strategy = strategyOf(({ slot }) => asked.push(slot));
    slots(strategy, hands(3), 2);
    expect(asked).toEqual([0, 1, 2, 0, 1, 2]);
  });
});

test("two strategies from one factory count for themselves", () => {
  const factory = weighted();
  const [one, other]: Hand[][] = [hands(2), hands(2)];
  const first = slots(factory<string>(runtime), one as Hand[], 3);
  expect(slots(factory<string>(runtime), other as Hand[], 3)).toEqual(first);
});

test.each([5, null, "weight", {}])("refuses %o in place of a function at once", (weightOf) => {
  expect(() => weighted(weightOf as never)).toThrow(OptionError);
});

function longestRun(seen: readonly number[]): number {
  let longest = 0;
  let run = 0;
  for (const [index, slot] of seen.entries()) {
    run = index > 0 && slot === seen[index - 1] ? run + 1 : 1;
    longest = Math.max(longest, run);
  }
  return longest;
}
