/** One member for the requests of one turn of the event loop. Turns are real here: nothing waits for longer than one. */

import { setImmediate as turn } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import {
  leastUsed,
  type Member,
  OptionError,
  type PerTickOptions,
  perTick,
  random,
  roundRobin,
  type Strategy,
} from "../../../src/index.ts";
import { virtualRuntime } from "../../../src/sim/index.ts";
import { alive } from "../../sim/garbage.ts";
import { at, type Hand, hands } from "./members.ts";

const runtime = virtualRuntime();

/** Over round robin: its next member tells whether it was asked. */
function inTurn(options?: PerTickOptions): Strategy<string> {
  return perTick(roundRobin(), options)<string>(runtime);
}

function slots(strategy: Strategy<string>, members: readonly Member<string>[], count: number, key?: string): number[] {
  const request = key === undefined ? {} : { key };
  return Array.from({ length: count }, () => strategy.pick(members, request).slot);
}

describe("in one turn", () => {
  test("all requests go where the first went, and in the next turn the strategy is asked again", async () => {
    const strategy = inTurn();
    const members = hands(3);
    for (const slot of [0, 1, 2, 0]) {
      expect(slots(strategy, members, 5)).toEqual([slot, slot, slot, slot, slot]);
      await turn();
    }
  });

  test("promise callbacks belong to the turn that they run in", async () => {
    const strategy = inTurn();
    const members = hands(3);
    for (let hops = 0; hops < 20; hops++) {
      expect(strategy.pick(members, {}).slot).toBe(0);
      await Promise.resolve();
    }
    await turn();
    expect(strategy.pick(members, {}).slot).toBe(1);
  });

  test.each([1, 2, 16])("the strategy is asked again after the limit: %i", (limit) => {
    const members = hands(3);
    const seen = slots(inTurn({ limit }), members, 3 * limit);
    expect(seen).toEqual(seen.map((_, index) => Math.floor(index / limit)));
  });

  test("the limit counts anew in each turn", async () => {
    const strategy = inTurn({ limit: 4 });
    const members = hands(3);
    expect(slots(strategy, members, 3)).toEqual([0, 0, 0]);
    await turn();
    expect(slots(strategy, members, 5)).toEqual([1, 1, 1, 1, 2]);
  });

  test("a limit there is by default", () => {
    expect(new Set(slots(inTurn(), hands(3), 1_000)).size).toBe(3);
  });

  test("requests with another key are not kept together", () => {
    const strategy = inTurn();
    const members = hands(4);
    expect(slots(strategy, members, 2, "a")).toEqual([0, 0]);
    expect(slots(strategy, members, 2, "b")).toEqual([1, 1]);
    expect(slots(strategy, members, 2)).toEqual([2, 2]);
  });
});

describe("the member is given up", () => {
  test("when it is full", () => {
    const strategy = inTurn();
    const members = hands(3, () => ({ capacity: 2 }));
    const seen = Array.from({ length: 6 }, () => {
      const member = strategy.pick(members, {}) as Hand;
      member.inFlight++;
      return member.slot;
    });
    expect(seen).toEqual([0, 0, 1, 1, 2, 2]);
  });

  test("when it is no longer where it stood in the array", () => {
    const strategy = inTurn();
    const members = hands(3);
    expect(strategy.pick(members, {}).slot).toBe(0);
    // As a pool takes one out: the last takes its place.
    members[0] = members.pop() as Hand;
    expect(members).toContain(strategy.pick(members, {}));
    members.length = 1;
    expect(strategy.pick(members, {})).toBe(members[0]);
  });

  test("when others are given to choose among: a retry elsewhere", () => {
    const strategy = inTurn();
    const members = hands(3);
    expect(strategy.pick(members, {}).slot).toBe(0);
    const elsewhere = members.slice(1);
    expect(elsewhere).toContain(strategy.pick(elsewhere, {}));
    const others = members.slice(0, 2);
    expect([strategy.pick(others, {}).slot, strategy.pick([...others], {}).slot]).toEqual([0, 1]);
  });
});

describe("the strategy inside", () => {
  test("hears of everything, as itself", () => {
    const heard: unknown[] = [];
    class Listening implements Strategy<string> {
      readonly #heard = heard;
      pick(members: readonly Member<string>[]): Member<string> {
        return at(members, 0);
      }
      joined(...told: unknown[]): void {
        this.#heard.push(["joined", ...told]);
      }
      left(...told: unknown[]): void {
        this.#heard.push(["left", ...told]);
      }
      started(...told: unknown[]): void {
        this.#heard.push(["started", ...told]);
      }
      finished(...told: unknown[]): void {
        this.#heard.push(["finished", ...told]);
      }
    }
    const strategy = perTick(new Listening())(runtime);
    const [member] = hands(1) as [Hand];
    const outcome = { ok: true, durationMs: 5 };
    strategy.joined?.(member);
    strategy.started?.(member);
    strategy.finished?.(member, outcome);
    strategy.left?.(member);
    expect(heard).toEqual([
      ["joined", member],
      ["started", member],
      ["finished", member, outcome],
      ["left", member],
    ]);
  });

  test("that wants to hear of nothing costs no calls", () => {
    expect(Object.keys(perTick(random())<string>(runtime))).toEqual(["pick"]);
    expect(Object.keys(perTick(leastUsed())<string>(runtime)).sort()).toEqual(["finished", "joined", "left", "pick"]);
  });

  test("may throw or name a stranger: the caller has it, and the next request asks again", () => {
    const members = hands(2);
    const [stranger] = hands(1) as [Hand];
    let picks = 0;
    const strategy = perTick<string>({
      pick: () => {
        picks++;
        if (picks === 1) throw new Error("no");
        return picks === 2 ? stranger : at(members, 1);
      },
    })(runtime);
    expect(() => strategy.pick(members, {})).toThrow("no");
    expect(strategy.pick(members, {})).toBe(stranger);
    expect(slots(strategy, members, 3)).toEqual([1, 1, 1]);
    expect(picks).toBe(3);
  });

  test("is made anew for each pool", () => {
    const factory = perTick(roundRobin());
    const members = hands(3);
    const [one, other] = [factory<string>(runtime), factory<string>(runtime)];
    expect(slots(one, members, 2)).toEqual([0, 0]);
    expect(slots(other, members, 2)).toEqual([0, 0]);
  });
});

test("when the turn is over nothing of its member is held", async () => {
  const strategy = inTurn();
  const refs = offered(strategy);
  await turn();
  expect(await alive(refs)).toBe(0);
});

/** Members that nobody but the strategy holds. */
function offered(strategy: Strategy<string>): WeakRef<object>[] {
  const members = hands(2);
  strategy.pick(members, {});
  return members.map((member) => new WeakRef(member));
}

test.each([undefined, 5, {}, "leastUsed"])("refuses %o in place of a strategy at once", (strategy) => {
  expect(() => perTick(strategy as never)).toThrow(OptionError);
});

test.each([{ limit: 0 }, { limit: 1.5 }, { limit: Infinity }, { limit: "5" }, { turns: 1 }])(
  "refuses %o at once",
  (options) => {
    expect(() => perTick(random(), options as PerTickOptions)).toThrow(OptionError);
  },
);

test("refuses a factory of factories when the pool starts", () => {
  expect(() => perTick(leastUsed as never)(runtime)).toThrow(OptionError);
});
