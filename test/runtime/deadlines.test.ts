/**
 * Many deadlines on one timer. Most tests run on virtual time; where the cost is in question, the timer is in the hands
 * of the test.
 */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Deadlines, type DurationList, type Runtime, type Timed } from "../../src/runtime/index.ts";
import { virtualRuntime } from "../../src/sim/index.ts";
import { steps } from "../registry/steps.ts";

class Waiter implements Timed {
  readonly name: string;
  deadline = 0;
  timedBefore: Timed | undefined = undefined;
  timedAfter: Timed | undefined = undefined;
  timedIn: DurationList | undefined = undefined;

  constructor(name = "") {
    this.name = name;
  }
}

/** Deadlines on virtual time, and who expired when. */
function virtual(keepAlive = true) {
  const runtime = virtualRuntime();
  const expired: [name: string, at: number][] = [];
  const deadlines = new Deadlines<Waiter>(runtime, (item) => void expired.push([item.name, runtime.now()]), {
    keepAlive,
  });
  const add = (name: string, durationMs: number): Waiter => {
    const waiter = new Waiter(name);
    deadlines.add(waiter, runtime.now(), durationMs);
    return waiter;
  };
  return { runtime, expired, deadlines, add };
}

/** A runtime whose one timer the test rings. */
function manual() {
  const clock = { now: 0, set: 0, ring: undefined as (() => void) | undefined };
  const runtime: Runtime = {
    now: () => clock.now,
    setTimer: (callback) => {
      clock.set++;
      clock.ring = callback;
      return { cancel: () => (clock.ring = undefined) };
    },
    random: () => 0,
  };
  return { clock, runtime };
}

describe("an item", () => {
  test("expires at its deadline, once, and is out of the set when it is told", async () => {
    const { runtime, expired, deadlines, add } = virtual();
    add("a", 100);
    await runtime.advance(99.9);
    expect([expired, deadlines.size]).toEqual([[], 1]);
    await runtime.advance(0.1);
    await runtime.advance(1_000);
    expect([expired, deadlines.size]).toEqual([[["a", 100]], 0]);
  });

  test("does not expire when it was removed; removing it again, or one that never waited, does nothing", async () => {
    const { runtime, expired, deadlines, add } = virtual();
    const [first, , last] = ["first", "middle", "last"].map((name) => add(name, 100));
    deadlines.remove(first as Waiter);
    deadlines.remove(first as Waiter);
    deadlines.remove(last as Waiter);
    deadlines.remove(new Waiter());
    expect(deadlines.size).toBe(1);
    await runtime.advance(200);
    expect(expired).toEqual([["middle", 100]]);
  });

  test("may wait again, when it has expired or was removed", async () => {
    const { runtime, expired, deadlines, add } = virtual();
    const item = add("a", 10);
    await runtime.advance(10);
    deadlines.add(item, runtime.now(), 5);
    deadlines.remove(item);
    deadlines.add(item, runtime.now(), 20);
    await runtime.advance(100);
    expect(expired).toEqual([
      ["a", 10],
      ["a", 30],
    ]);
  });

  test("that waits for ever costs nothing: it is not counted, and no timer is set", async () => {
    const { runtime, expired, deadlines, add } = virtual();
    const item = add("a", Infinity);
    expect([item.deadline, deadlines.size, runtime.timers]).toEqual([Infinity, 0, 0]);
    await runtime.advance(1e9);
    deadlines.remove(item);
    expect([expired, deadlines.size]).toEqual([[], 0]);
  });

  test("with no time at all expires in the next turn, and not inside add", async () => {
    const { runtime, expired, add } = virtual();
    add("a", 0);
    expect(expired).toEqual([]);
    await runtime.advance(0);
    expect(expired).toEqual([["a", 0]]);
  });

  test("with a shorter time than those who wait is not kept waiting by them", async () => {
    const { runtime, expired, add } = virtual();
    add("long", 1_000);
    add("short", 10);
    await runtime.advance(10);
    expect(expired).toEqual([["short", 10]]);
  });
});

describe("the timer", () => {
  test("is one, whoever waits, and none when nobody does", async () => {
    const { runtime, deadlines, add } = virtual();
    expect(runtime.timers).toBe(0);
    const items = [5, 50, 20, 50, 5].map((durationMs) => add("", durationMs));
    expect(runtime.timers).toBe(1);
    for (const item of items) deadlines.remove(item);
    expect([runtime.timers, deadlines.size]).toEqual([0, 0]);
    add("", 7);
    await runtime.advance(7);
    expect(runtime.timers).toBe(0);
  });

  test("keeps the program alive exactly when it was asked to", () => {
    for (const keepAlive of [true, false]) {
      const { runtime, add } = virtual(keepAlive);
      add("", 7);
      expect(runtime.keepAliveTimers).toBe(keepAlive ? 1 : 0);
    }
  });

  test("is set once for a thousand who wait the same time, and not again when the first ones leave", () => {
    const { clock, runtime } = manual();
    const deadlines = new Deadlines<Waiter>(runtime, () => undefined, { keepAlive: true });
    const items = Array.from({ length: 1_000 }, () => new Waiter());
    for (const item of items) deadlines.add(item, clock.now++, 5_000);
    for (const item of items.slice(0, 999)) deadlines.remove(item);
    expect(clock.set).toBe(1);
  });

  test("that rings too early expires nobody, and is set again", () => {
    const { clock, runtime } = manual();
    const expired: Waiter[] = [];
    const deadlines = new Deadlines<Waiter>(runtime, (item) => expired.push(item), { keepAlive: true });
    const item = new Waiter();
    deadlines.add(item, 0, 100);
    clock.now = 99.999;
    clock.ring?.();
    expect([expired, clock.set]).toEqual([[], 2]);
    clock.now = 100.9;
    clock.ring?.();
    expect(expired).toEqual([item]);
  });

  test("rings no more than once a millisecond, however close the deadlines", async () => {
    const { runtime, expired, add } = virtual();
    for (let at = 0; at < 100; at++) add(String(at), 10 + at / 100);
    const rings = new Set<number>();
    await runtime.advance(20);
    for (const [, at] of expired) rings.add(at);
    expect(expired).toHaveLength(100);
    expect(rings.size).toBeLessThanOrEqual(2);
  });

  test("is late after a stall, and then all who are due expire, oldest first among those of one duration", async () => {
    const { runtime, expired, add } = virtual();
    add("a", 10);
    await runtime.advance(1);
    add("b", 10);
    runtime.stall(500);
    await runtime.advance(0);
    expect(expired.map(([name]) => name)).toEqual(["a", "b"]);
  });
});

describe("what an expiry sets off", () => {
  test("may end the wait of the next in line, of one with another duration, or of all", async () => {
    const runtime = virtualRuntime();
    const expired: string[] = [];
    const items = new Map<string, Waiter>();
    const deadlines: Deadlines<Waiter> = new Deadlines(
      runtime,
      (item) => {
        expired.push(item.name);
        if (item.name === "a") for (const name of ["b", "d"]) deadlines.remove(items.get(name) as Waiter);
      },
      { keepAlive: true },
    );
    for (const [name, durationMs] of [
      ["a", 10],
      ["b", 10],
      ["c", 10],
      ["d", 9.5],
    ] as const) {
      items.set(name, new Waiter(name));
      deadlines.add(items.get(name) as Waiter, 0, durationMs);
    }
    runtime.stall(20);
    await runtime.advance(100);
    expect(expired).toEqual(["a", "c"]);
    expect([deadlines.size, runtime.timers]).toEqual([0, 0]);
  });

  test("may begin new waits, sooner or later than those there are, and all expire in time", async () => {
    const runtime = virtualRuntime();
    const expired: [string, number][] = [];
    const deadlines: Deadlines<Waiter> = new Deadlines(
      runtime,
      (item) => {
        expired.push([item.name, runtime.now()]);
        if (item.name !== "first") return;
        for (const durationMs of [3, 10, 700])
          deadlines.add(new Waiter(`new ${durationMs}`), runtime.now(), durationMs);
        expect(runtime.timers).toBe(1);
      },
      { keepAlive: true },
    );
    deadlines.add(new Waiter("first"), 0, 10);
    deadlines.add(new Waiter("other"), 0, 500);
    await runtime.advance(1_000);
    expect(expired).toEqual([
      ["first", 10],
      ["new 3", 13],
      ["new 10", 20],
      ["other", 500],
      ["new 700", 710],
    ]);
    expect(runtime.timers).toBe(0);
  });

  test("may make the same item wait again, for ever and ever", async () => {
    const runtime = virtualRuntime();
    let times = 0;
    const deadlines: Deadlines<Waiter> = new Deadlines(
      runtime,
      (item) => {
        if (++times < 100) deadlines.add(item, runtime.now(), 7);
      },
      { keepAlive: true },
    );
    deadlines.add(new Waiter(), 0, 7);
    await runtime.advance(700);
    expect([times, deadlines.size, runtime.timers]).toEqual([100, 0, 0]);
  });
});

describe("the cost", () => {
  test("of joining and leaving takes no step, whoever waits already", () => {
    const { clock, runtime } = manual();
    const deadlines = new Deadlines<Waiter>(runtime, () => undefined, { keepAlive: true });
    const items = Array.from({ length: 1_000 }, () => new Waiter());
    for (const [at, item] of items.entries()) deadlines.add(item, clock.now, 1_000 + (at % 3));
    const middle = items[500] as Waiter;
    const cost = steps(() => {
      deadlines.remove(middle);
      deadlines.add(middle, clock.now, 1_001);
    });
    expect(cost).toBe(0);
  });

  test("of ringing stays small although every wait had a duration of its own", () => {
    const { clock, runtime } = manual();
    const deadlines = new Deadlines<Waiter>(runtime, () => undefined, { keepAlive: true });
    deadlines.add(new Waiter("stays"), 0, 1e9);
    const join = (count: number): void => {
      for (let at = 0; at < count; at++) {
        const item = new Waiter();
        deadlines.add(item, clock.now, 5_000 + at / 1_000);
        deadlines.remove(item);
      }
    };
    const joining = steps(() => join(10_000));
    expect(joining, "a few for each, to sweep out empty lists").toBeLessThan(40_000);
    clock.now = 5_000;
    expect(steps(() => clock.ring?.())).toBeLessThan(300);
    expect(deadlines.size).toBe(1);
  });
});

test("nobody expires early or more than a millisecond late, whoever joins and leaves, and nothing is left", async () => {
  const ms = fc.oneof(fc.integer({ min: 0, max: 60 }), fc.double({ min: 0, max: 60, noNaN: true }));
  const move = fc.oneof(
    fc.record({ do: fc.constant("add" as const), ms }),
    fc.record({ do: fc.constant("add" as const), ms: fc.constantFrom(10, 20) }),
    fc.record({ do: fc.constant("remove" as const), which: fc.nat() }),
    fc.record({ do: fc.constant("advance" as const), ms }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(move, { maxLength: 40 }), async (moves) => {
      const { runtime, expired, deadlines, add } = virtual();
      const waiting = new Map<string, Waiter>();
      const check = (): void => {
        for (const [name, at] of expired.splice(0)) {
          const item = waiting.get(name) as Waiter;
          expect(at).toBeGreaterThanOrEqual(item.deadline);
          expect(at).toBeLessThanOrEqual(item.deadline + 1);
          waiting.delete(name);
        }
        expect(deadlines.size).toBe(waiting.size);
        expect(runtime.timers).toBe(waiting.size > 0 ? 1 : 0);
      };
      for (const [at, each] of moves.entries()) {
        if (each.do === "add") waiting.set(String(at), add(String(at), each.ms));
        else if (each.do === "advance") await runtime.advance(each.ms);
        else if (waiting.size > 0) {
          const [name, item] = [...waiting][each.which % waiting.size] as [string, Waiter];
          waiting.delete(name);
          deadlines.remove(item);
        }
        check();
      }
      await runtime.advance(61);
      check();
      expect([waiting.size, runtime.timers]).toEqual([0, 0]);
    }),
    { numRuns: 150 },
  );
});
