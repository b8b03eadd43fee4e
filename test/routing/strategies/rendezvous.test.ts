/** The same key to the same member, and what moves when members come, go, weigh otherwise or are too busy. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { OptionError, type RendezvousOptions, rendezvous, type Strategy } from "../../../src/index.ts";
import { virtualRuntime } from "../../../src/sim/index.ts";
import { alive } from "../../sim/garbage.ts";
import { at, type Hand, hand, hands, shuffled } from "./members.ts";

const runtime = virtualRuntime();
const keys = Array.from({ length: 10_000 }, (_, n) => `user ${n}`);

function strategyOf(options?: RendezvousOptions): Strategy<string> {
  return rendezvous(options)<string>(runtime);
}

/** Who takes each key. Nothing is in flight, so no bound is in the way. */
function owners(members: readonly Hand[], strategy: Strategy<string> = strategyOf()): string[] {
  return keys.map((key) => nameOf(strategy.pick(members, { key })));
}

function nameOf({ endpoint, slot }: { endpoint: { id: string }; slot: number }): string {
  return `${endpoint.id} ${slot}`;
}

function countsOf(names: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return counts;
}

/** What chi-squared exceeds once in a million runs, by its degrees of freedom. */
const oneInAMillion = new Map([
  [4, 33.4],
  [8, 42.7],
]);

/** Whether the counts of these names are what chance makes of these shares. */
function expectShares(names: readonly string[], shares: ReadonlyMap<string, number>): void {
  const counts = countsOf(names);
  const errors = [...shares].map(([name, share]) => {
    const expected = share * names.length;
    return ((counts.get(name) ?? 0) - expected) ** 2 / expected;
  });
  expect(errors.reduce((sum, error) => sum + error, 0)).toBeLessThan(oneInAMillion.get(shares.size - 1) ?? 0);
}

describe("a key", () => {
  test("goes to the same member, whatever the order of members and whichever pool asks", () => {
    const members = hands(9);
    const first = owners(members);
    expect(owners(shuffled(members, runtime))).toEqual(first);
    const strategy = strategyOf();
    for (let times = 0; times < 3; times++) expect(owners(shuffled(members, runtime), strategy)).toEqual(first);
  });

  test("is spread evenly over equal members", () => {
    const members = hands(9);
    const shares = new Map(members.map((member) => [nameOf(member), 1 / 9]));
    expectShares(owners(members), shares);
  });

  test("is spread by weight", () => {
    const members = hands(5, (slot) => ({ weight: at([1, 2, 3.5, 0.5, 8], slot) }));
    const shares = new Map(members.map((member) => [nameOf(member), member.weight / 15]));
    expectShares(owners(members), shares);
  });

  test("is spread by weight over the members of one endpoint, too", () => {
    const members = hands(5, (slot) => ({ weight: slot + 1, endpoint: { id: "one" } }));
    const shares = new Map(members.map((member) => [nameOf(member), member.weight / 15]));
    expectShares(owners(members), shares);
  });

  test('may be a number: neighbours are spread like anything else, and 1 is not the key "1"', () => {
    const members = hands(9);
    const strategy = strategyOf();
    const shares = new Map(members.map((member) => [nameOf(member), 1 / 9]));
    const ofNumbers = keys.map((_, key) => nameOf(strategy.pick(members, { key })));
    expectShares(ofNumbers, shares);
    const ofStrings = keys.map((_, key) => nameOf(strategy.pick(members, { key: String(key) })));
    const same = ofStrings.filter((name, key) => name === ofNumbers[key]).length;
    expect(same / keys.length).toBeLessThan(0.2);
    for (const [one, other] of [
      [0, -0],
      [Number.NaN, Number.NaN],
    ] as const) {
      expect(strategy.pick(members, { key: one })).toBe(strategy.pick(members, { key: other }));
    }
    for (const key of [0.5, -1, 1e300, Infinity, 2 ** 53, ""]) {
      expect(members).toContain(strategy.pick(members, { key }));
    }
  });

  test("belongs to the same member in every version: changing that would move every user's every key", () => {
    const strategy = strategyOf();
    const members = hands(9);
    const seen = ["", "a", "user 17", "Ünïcødé ✓", 0, 17, 2.5, -1].map((key) => strategy.pick(members, { key }).slot);
    expect(seen).toEqual([1, 6, 1, 0, 8, 8, 3, 8]);
  });
});

describe("when members change", () => {
  test("only the keys of the member that went move, to the others alike", () => {
    const members = hands(6);
    const before = owners(members);
    for (const gone of members) {
      const left = members.filter((member) => member !== gone);
      const after = owners(left);
      const moved = after.filter((name, key) => name !== before[key]);
      expect(moved.length).toBe(before.filter((name) => name === nameOf(gone)).length);
      expectShares(moved, new Map(left.map((member) => [nameOf(member), 1 / 5])));
    }
  });

  test("a member that comes takes keys, and no others move", () => {
    const members = hands(7);
    const before = owners(members.slice(0, 6));
    const moved = owners(members).filter((name, key) => name !== before[key]);
    expect(new Set(moved)).toEqual(new Set([nameOf(at(members, 6))]));
    expect(Math.abs(moved.length - keys.length / 7)).toBeLessThan(5 * Math.sqrt(keys.length / 7));
  });

  test("a weight that grows takes keys, and no others move", () => {
    const members = hands(6);
    const before = owners(members);
    at(members, 2).weight = 1.5;
    const moved = owners(members).filter((name, key) => name !== before[key]);
    expect(new Set(moved)).toEqual(new Set([nameOf(at(members, 2))]));
    const expected = keys.length * (1.5 / 6.5 - 1 / 6);
    expect(Math.abs(moved.length - expected)).toBeLessThan(5 * Math.sqrt(expected));
  });

  test("a connection's keys go to others of its endpoint, which keeps its keys", () => {
    const members = hands(12, (slot) => ({ endpoint: { id: `host ${slot % 3}` } }));
    const before = owners(members);
    const gone = at(members, 4);
    const after = owners(members.filter((member) => member !== gone));
    const host = (name: string): string => name.slice(0, 6);
    expect(after.map(host)).toEqual(before.map(host));
    expect(after.filter((name, key) => name !== before[key]).length).toBe(
      before.filter((name) => name === nameOf(gone)).length,
    );
  });

  test("an endpoint has its keys however many connections there are, and whatever their slots", () => {
    const few = hands(3, (slot) => ({ endpoint: { id: `host ${slot}` } }));
    const many = hands(12, (slot) => ({ endpoint: { id: `host ${2 - Math.floor(slot / 4)}` } }));
    const host = (name: string): string => name.slice(0, 6);
    expect(owners(many).map(host)).toEqual(owners(few).map(host));
  });

  test("hashes that are remembered are those of who stands there now", () => {
    const strategy = strategyOf();
    const members = hands(6);
    owners(members, strategy);
    members.splice(1, 1);
    strategy.left?.(hand(1));
    members.push(hand(9));
    members.unshift(hand(8));
    expect(owners(members, strategy)).toEqual(owners(members));
  });
});

test("nothing of a member that has left is held", async () => {
  const strategy = strategyOf();
  const refs = comeAndGo(strategy);
  expect(await alive(refs)).toBe(0);
  expect(strategy.pick(hands(1), { key: "any" }).slot).toBe(0);
});

/** Members that nobody but the strategy can hold. */
function comeAndGo(strategy: Strategy<string>): WeakRef<object>[] {
  const members = hands(4);
  strategy.pick(members, { key: "any" });
  for (const member of members) strategy.left?.(member);
  return members.map((member) => new WeakRef(member));
}

describe("the bound", () => {
  test("is never passed, and who has room within it keeps its keys", () => {
    const weights = fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 9 });
    const bounds = fc.constantFrom(1, 1.25, 2);
    const hot = fc.array(fc.nat(4), { maxLength: 80 });
    fc.assert(
      fc.property(weights, bounds, hot, (all, loadBound, wanted) => {
        const hosts = Math.ceil(all.length / 2); // Two connections each, of one weight, or one.
        const members = hands(all.length, (slot) => ({
          weight: at(all, slot % hosts),
          endpoint: { id: `host ${slot % hosts}` },
        }));
        const total = members.reduce((sum, { weight }) => sum + weight, 0);
        const strategy = strategyOf({ loadBound });
        const unbound = strategyOf({ loadBound: Infinity });
        for (const [before, key] of wanted.entries()) {
          const share = ({ weight }: { weight: number }): number =>
            Math.ceil((loadBound * (before + 1) * weight) / total);
          const owner = unbound.pick(members, { key }) as Hand;
          const member = strategy.pick(members, { key }) as Hand;
          if (owner.inFlight < share(owner)) expect(member).toBe(owner);
          member.inFlight++;
          expect(member.inFlight).toBeLessThanOrEqual(share(member));
        }
      }),
      { seed: 1, numRuns: 200 },
    );
  });

  test("passes a member over for the next: the one that had the key if it were gone", () => {
    const members = hands(6);
    const strategy = strategyOf();
    for (const key of keys.slice(0, 200)) {
      const first = strategy.pick(members, { key }) as Hand;
      first.inFlight = 8;
      const second = strategy.pick(members, { key }) as Hand;
      expect(second).toBe(
        strategy.pick(
          members.filter((member) => member !== first),
          { key },
        ),
      );
      second.inFlight = 8;
      const third = strategy.pick(members, { key });
      expect(third).toBe(
        strategy.pick(
          members.filter((member) => member !== first && member !== second),
          { key },
        ),
      );
      first.inFlight = 0;
      second.inFlight = 0;
    }
  });

  test("passes a connection over for another of the same endpoint first", () => {
    const members = hands(6, (slot) => ({ endpoint: { id: `host ${slot % 2}` } }));
    const strategy = strategyOf();
    for (const key of keys.slice(0, 200)) {
      const first = strategy.pick(members, { key }) as Hand;
      first.inFlight = 4;
      expect(strategy.pick(members, { key }).endpoint.id).toBe(first.endpoint.id);
      first.inFlight = 0;
    }
  });

  test("of Infinity is none", () => {
    const members = hands(6);
    const strategy = strategyOf({ loadBound: Infinity });
    const first = strategy.pick(members, { key: "hot" }) as Hand;
    first.inFlight = 1_000;
    expect(strategy.pick(members, { key: "hot" })).toBe(first);
  });

  test("finds somebody whatever members by hand have for weights", () => {
    for (const weight of [0, -1, Number.NaN, Infinity, Number.MAX_VALUE, 5e-324]) {
      const members = hands(4, () => ({ weight, inFlight: 3 }));
      const picked = new Set(keys.map((key) => strategyOf().pick(members, { key })));
      expect(picked.size, String(weight)).toBe(4);
      at(members, 0).weight = 1;
      expect(members).toContain(strategyOf().pick(members, { key: "any" }));
    }
  });
});

describe("without a key", () => {
  test("the least used is taken, and what members have answered counts", () => {
    const members = hands(3, () => ({ inFlight: 2 }));
    const strategy = strategyOf();
    at(members, 1).inFlight = 1;
    expect(strategy.pick(members, {}).slot).toBe(1);
    at(members, 1).inFlight = 2;
    for (const [slot, durationMs] of [30, 20, 10].entries()) {
      strategy.finished?.(at(members, slot), { ok: true, durationMs });
    }
    expect(strategy.pick(members, {}).slot).toBe(2);
  });
});

test.each([{ loadBound: 0.99 }, { loadBound: Number.NaN }, { loadBound: "2" }, { bound: 2 }, 5])(
  "refuses %o at once",
  (options) => {
    expect(() => rendezvous(options as object)).toThrow(OptionError);
  },
);
