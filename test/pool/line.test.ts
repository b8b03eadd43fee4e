/** The line of callers, against the plainest thing that could be one: an array. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Line, type QueueOptions, Waiter } from "../../src/pool/index.ts";
import { type VirtualRuntime, virtualRuntime } from "../../src/sim/index.ts";

class Caller extends Waiter {
  readonly name: number;
  expiredAt: number | undefined;
  shedAt: number | undefined;
  readonly #runtime: VirtualRuntime;

  constructor(name: number, runtime: VirtualRuntime) {
    super();
    this.name = name;
    this.#runtime = runtime;
  }

  override expired(): void {
    this.expiredAt = this.#runtime.now();
  }

  override shed(): void {
    this.shedAt = this.#runtime.now();
  }
}

function setUp(
  limit = 1_000,
  shed: QueueOptions["shed"] = false,
): { runtime: VirtualRuntime; line: Line<Caller>; callers: Caller[] } {
  const runtime = virtualRuntime();
  const callers = Array.from({ length: 20 }, (_, name) => new Caller(name, runtime));
  return { runtime, line: new Line<Caller>(runtime, { limit, shed }), callers };
}

describe("the line", () => {
  test("turns the next one away at its limit, and not when somebody has left", () => {
    const { line, callers, runtime } = setUp(2);
    const [a, b, c] = callers as [Caller, Caller, Caller];
    expect([line.join(a, 0, 100), line.join(b, 0, 100), line.join(c, 0, 100)]).toEqual([true, true, false]);
    expect(c.waiting).toBe(false);
    line.leave(a);
    expect(line.join(c, 0, 100)).toBe(true);
    expect([line.next()?.name, line.next()?.name, line.next()]).toEqual([1, 2, undefined]);
    expect(runtime.timers).toBe(0);
  });

  test("with a limit of 0 lets nobody wait", () => {
    const { line, callers } = setUp(0);
    expect(line.join(callers[0] as Caller, 0, 100)).toBe(false);
  });

  test("ends a wait when its own time is over, and nobody else's", async () => {
    const { line, callers, runtime } = setUp();
    for (const [at, ms] of [300, 100, 200, 100, Infinity].entries()) line.join(callers[at] as Caller, 0, ms);
    await runtime.advance(1_000);
    expect(callers.slice(0, 5).map(({ expiredAt }) => expiredAt)).toEqual([300, 100, 200, 100, undefined]);
    expect(line.size).toBe(1);
    line.leave(callers[4] as Caller);
    expect([line.size, runtime.timers]).toEqual([0, 0]);
  });

  test("keeps the program alive while somebody's time runs", () => {
    const { line, callers, runtime } = setUp();
    line.join(callers[0] as Caller, 0, 100);
    expect(runtime.keepAliveTimers).toBe(1);
    line.leave(callers[0] as Caller);
    expect(runtime.timers).toBe(0);
  });

  test("shows how long each has waited, the first in line first", async () => {
    const { line, callers, runtime } = setUp();
    for (const caller of callers.slice(0, 3)) {
      line.join(caller, runtime.now(), 1_000);
      await runtime.advance(10);
    }
    expect(line.ages(runtime.now())).toEqual([30, 20, 10]);
  });

  test("has those who come back at its head, in the order in which they came back, whatever the limit", () => {
    const { line, callers } = setUp(2);
    const [a, b, c, d, e] = callers as [Caller, Caller, Caller, Caller, Caller];
    line.join(a, 0, 100);
    line.join(b, 0, 100);
    for (const each of [c, d, e]) line.comeBack(each, 0, 100);
    expect(line.size).toBe(5);
    line.leave(d);
    line.comeBack(d, 0, 100);
    expect([line.next(), line.next(), line.next(), line.next(), line.next()].map((each) => each?.name)).toEqual([
      2, 4, 3, 0, 1,
    ]);
  });

  test("is what two arrays would be, one for those who come back, whatever is done to it", async () => {
    const step = fc.record({
      what: fc.constantFrom("join", "join", "comeBack", "leave", "next", "wait"),
      who: fc.nat(19),
      ms: fc.constantFrom(10, 20, 35, Infinity),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
        const { line, callers, runtime } = setUp(6);
        let back: Caller[] = [];
        let front: Caller[] = [];
        const deadlines = new Map<Caller, number>();
        const without = (gone: (each: Caller) => boolean): void => {
          back = back.filter((each) => !gone(each));
          front = front.filter((each) => !gone(each));
        };
        for (const { what, who, ms } of steps) {
          const caller = callers[who] as Caller;
          const now = runtime.now();
          if (what === "next") {
            const first = [...back, ...front][0];
            expect(line.next()).toBe(first);
            without((each) => each === first);
          } else if (what === "wait") {
            await runtime.advance(11);
            without((each) => (deadlines.get(each) as number) <= runtime.now() - 1);
          } else if (what === "leave") {
            line.leave(caller);
            without((each) => each === caller);
          } else if (!caller.waiting) {
            deadlines.set(caller, now + ms);
            if (what === "comeBack") {
              line.comeBack(caller, now, ms);
              back.push(caller);
            } else if (line.join(caller, now, ms)) front.push(caller);
            else expect(back.length + front.length).toBeGreaterThanOrEqual(6);
          }
          expect(line.size).toBe(back.length + front.length);
          expect(callers.filter(({ waiting }) => waiting).length).toBe(line.size);
        }
        const rest: Caller[] = [];
        for (let next = line.next(); next !== undefined; next = line.next()) rest.push(next);
        expect(rest).toEqual([...back, ...front]);
        expect(runtime.timers).toBe(0);
      }),
      { seed: 1, numRuns: 200 },
    );
  });
});
