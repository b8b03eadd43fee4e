/** Virtual time: what the other tests stand on. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { atEndOfTurn } from "../../src/runtime/index.ts";
import { virtualRuntime } from "../../src/sim/index.ts";
import { Virtual } from "../../src/sim/runtime.ts";
import { alive } from "./garbage.ts";

describe("the virtual clock", () => {
  test("stands still until it is told to go, begins where it is told, and moves by fractions", async () => {
    const runtime = virtualRuntime({ startMs: 500 });
    await runtime.settle();
    expect(runtime.now()).toBe(500);
    await runtime.advance(0.25);
    expect(runtime.now()).toBe(500.25);
  });

  test("shows a timer exactly its time, and ends an advance exactly at its end", async () => {
    const runtime = virtualRuntime();
    const seen: number[] = [];
    for (const delayMs of [30, 10, 20, 10.5]) runtime.setTimer(() => seen.push(runtime.now()), delayMs);
    await runtime.advance(25);
    expect([seen, runtime.now()]).toEqual([[10, 10.5, 20], 25]);
    await runtime.advance(5);
    expect(seen.at(-1)).toBe(30);
  });

  test("moves without running anything in a stall; the timers are late afterwards", async () => {
    const runtime = virtualRuntime();
    const seen: number[] = [];
    runtime.setTimer(() => seen.push(runtime.now()), 10);
    runtime.setTimer(() => seen.push(runtime.now()), 20);
    runtime.stall(100);
    expect([seen, runtime.now()]).toEqual([[], 100]);
    await runtime.advance(0);
    expect(seen).toEqual([100, 100]);
  });
});

describe("timers", () => {
  test("of the same time run in the order they were set", async () => {
    const runtime = virtualRuntime();
    const order: number[] = [];
    for (let at = 0; at < 50; at++) runtime.setTimer(() => order.push(at), 10);
    await runtime.advance(10);
    expect(order).toEqual(Array.from({ length: 50 }, (_, at) => at));
  });

  test("let all promises run between two of them", async () => {
    const runtime = virtualRuntime();
    const order: string[] = [];
    for (const name of ["a", "b"]) {
      runtime.setTimer(() => {
        order.push(name);
        void Promise.resolve()
          .then(() => undefined)
          .then(() => order.push(`after ${name}`));
      }, 10);
    }
    await runtime.advance(10);
    expect(order).toEqual(["a", "after a", "b", "after b"]);
  });

  test("let the turn end between two of them when a promise waits for that, and the next turn", async () => {
    const runtime = virtualRuntime();
    const order: string[] = [];
    for (const name of ["a", "b"]) {
      runtime.setTimer(() => {
        void Promise.resolve().then(() => {
          atEndOfTurn(() => {
            order.push(`end of ${name}`);
            atEndOfTurn(() => order.push(`next end of ${name}`));
          });
        });
      }, 10);
    }
    await runtime.advance(10);
    expect(order).toEqual(["end of a", "next end of a", "end of b", "next end of b"]);
  });

  test("set on the way run on the way, when they fall due in time", async () => {
    const runtime = virtualRuntime();
    const seen: number[] = [];
    const tick = (): void => {
      seen.push(runtime.now());
      runtime.setTimer(tick, 10);
    };
    runtime.setTimer(tick, 10);
    await runtime.advance(35);
    expect(seen).toEqual([10, 20, 30]);
  });

  test("without a delay, or with none that makes sense, run when time may pass, and not inside setTimer", async () => {
    const runtime = virtualRuntime();
    let ran = 0;
    for (const delayMs of [0, -5, Number.NaN]) runtime.setTimer(() => ran++, delayMs);
    await runtime.settle();
    expect(ran).toBe(0);
    await runtime.advance(0);
    expect(ran).toBe(3);
  });

  test("never run for Infinity, and do not count", async () => {
    const runtime = virtualRuntime();
    const timer = runtime.setTimer(() => expect.unreachable(), Infinity);
    expect(runtime.timers).toBe(0);
    await runtime.advance(1e12);
    timer.cancel();
  });

  test("that are cancelled never run, be it by one of the same time; cancelling again, or too late, does nothing", async () => {
    const runtime = virtualRuntime();
    const order: string[] = [];
    const first = runtime.setTimer(() => {
      order.push("first");
      second.cancel();
    }, 10);
    const second = runtime.setTimer(() => order.push("second"), 10);
    const third = runtime.setTimer(() => order.push("third"), 10);
    await runtime.advance(10);
    for (const timer of [first, second, third]) timer.cancel();
    expect([order, runtime.timers]).toEqual([["first", "third"], 0]);
  });

  test("are counted, those that keep a program alive too, until they run or are cancelled", async () => {
    const runtime = virtualRuntime();
    const counts = () => [runtime.timers, runtime.keepAliveTimers];
    const idle = runtime.setTimer(() => undefined, 10);
    const needed = runtime.setTimer(() => expect(counts()).toEqual([1, 0]), 5, { keepAlive: true });
    expect(counts()).toEqual([2, 1]);
    await runtime.advance(5);
    needed.cancel();
    expect(counts()).toEqual([1, 0]);
    idle.cancel();
    idle.cancel();
    expect(counts()).toEqual([0, 0]);
  });

  test("far off, set and cancelled by the thousand, are not kept, though one of them stays", async () => {
    const runtime = virtualRuntime();
    const kept = runtime.setTimer(() => undefined, 1);
    const refs: WeakRef<object>[] = [];
    for (let at = 0; at < 5_000; at++) {
      const timer = runtime.setTimer(() => undefined, 3_600_000 + at);
      refs.push(new WeakRef(timer));
      timer.cancel();
    }
    expect(runtime.timers).toBe(1);
    expect(await alive(refs)).toBeLessThan(100);
    kept.cancel();
  });

  test("run in the order of time, whatever is set and cancelled", async () => {
    const set = fc.record({ delayMs: fc.integer({ min: 0, max: 50 }), cancel: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(fc.array(set, { maxLength: 300 }), async (all) => {
        const runtime = virtualRuntime();
        const ran: number[] = [];
        const timers = all.map(({ delayMs }, at) => runtime.setTimer(() => ran.push(at), delayMs));
        for (const [at, { cancel }] of all.entries()) if (cancel) timers[at]?.cancel();
        const expected = all
          .map(({ delayMs, cancel }, at) => ({ delayMs, cancel, at }))
          .filter(({ cancel }) => !cancel)
          .sort((a, b) => a.delayMs - b.delayMs || a.at - b.at)
          .map(({ at }) => at);
        expect(runtime.timers).toBe(expected.length);
        await runtime.advance(50);
        expect(ran).toEqual(expected);
      }),
      { numRuns: 30 },
    );
  });

  test("that throw make the advance reject, and the clock can go on", async () => {
    const runtime = virtualRuntime();
    runtime.setTimer(() => {
      throw new Error("broken");
    }, 10);
    await expect(runtime.advance(20)).rejects.toThrow("broken");
    await runtime.advance(20);
    expect([runtime.now(), runtime.timers]).toEqual([30, 0]);
  });
});

describe("until", () => {
  test("lets as much time pass as the promise needs, and settles as it does", async () => {
    const runtime = virtualRuntime();
    const after = (delayMs: number): Promise<number> =>
      new Promise((resolve) => void runtime.setTimer(() => resolve(runtime.now()), delayMs));
    expect(await runtime.until(after(70))).toBe(70);
    expect(await runtime.until(Promise.resolve("at once"))).toBe("at once");
    const fails = after(5).then(() => Promise.reject(new Error("failed")));
    await expect(runtime.until(fails)).rejects.toThrow("failed");
    expect(runtime.now()).toBe(75);
  });

  test("rejects when no timer is left, with the seed", async () => {
    const runtime = virtualRuntime({ seed: 812 });
    runtime.setTimer(() => undefined, 10);
    await expect(runtime.until(new Promise(() => undefined))).rejects.toThrow(/no timer is left \(seed 812\)/);
    expect(runtime.now()).toBe(10);
  });

  test("rejects when limitMs have passed, a day unless told otherwise", async () => {
    const runtime = virtualRuntime();
    const tick = (): void => void runtime.setTimer(tick, 3_600_000);
    tick();
    await expect(runtime.until(new Promise(() => undefined))).rejects.toThrow(/86400000 ms have passed/);
    await expect(runtime.until(new Promise(() => undefined), { limitMs: 5 })).rejects.toThrow(/ 5 ms have passed/);
  });
});

describe("drive", () => {
  /** Timers that set timers, with promises, awaits and ends of turns hanging on each, all of which may do the same. */
  function program(runtime: Virtual, log: string[]): void {
    let left = 400;
    const act = (name: string): void => {
      log.push(`${name} at ${runtime.now()}`);
      if (left-- <= 0) return;
      const roll = runtime.random();
      if (roll < 0.4) runtime.setTimer(() => act(`${name}t`), Math.floor(runtime.random() * 4));
      if (roll > 0.95) atEndOfTurn(() => act(`${name}e`));
      if (roll > 0.3 && roll < 0.6) void Promise.resolve().then(() => act(`${name}p`));
      if (roll > 0.6) {
        void (async () => {
          for (let hop = 0; hop < 5; hop++) await Promise.resolve();
          act(`${name}a`);
          await new Promise<void>((resolve) => void runtime.setTimer(resolve, 1));
          act(`${name}b`);
        })();
      }
    };
    for (let at = 0; at < 5; at++) runtime.setTimer(() => act(String(at)), at);
  }

  test("runs between two timers just what advance does, in the same order", () =>
    fc.assert(
      fc.asyncProperty(fc.nat(), async (seed) => {
        const [slow, quick] = [new Virtual(seed, 0), new Virtual(seed, 0)];
        const [expected, log]: [string[], string[]] = [[], []];
        program(slow, expected);
        await slow.advance(1_000);
        program(quick, log);
        await quick.drive(() => false, 1_000);
        expect(log).toEqual(expected);
        expect(log.length).toBeGreaterThan(5);
      }),
      { numRuns: 50 },
    ));

  test("runs all ticks before the next timer, too, and the promises that they set off", async () => {
    const runtime = new Virtual(1, 0);
    const order: string[] = [];
    for (const name of ["a", "b"]) {
      runtime.setTimer(() => {
        order.push(name);
        process.nextTick(() => {
          order.push(`tick of ${name}`);
          void Promise.resolve().then(() => process.nextTick(() => order.push(`last of ${name}`)));
        });
      }, 1);
    }
    await runtime.drive(() => false, 1);
    expect(order).toEqual(["a", "tick of a", "last of a", "b", "tick of b", "last of b"]);
  });

  test("lets the turn end before the next timer when somebody waits for that, however often", async () => {
    const runtime = new Virtual(1, 0);
    const order: string[] = [];
    for (let at = 0; at < 600; at++) {
      runtime.setTimer(() => {
        order.push(`${at}`);
        // In the middle of large batches, one after another, and from a promise.
        if (at % 200 < 3) void Promise.resolve().then(() => atEndOfTurn(() => order.push(`end of ${at}`)));
      }, at);
    }
    await runtime.drive(() => false, 1_000);
    const expected = Array.from({ length: 600 }, (_, at) => (at % 200 < 3 ? [`${at}`, `end of ${at}`] : [`${at}`]));
    expect(order).toEqual(expected.flat());
  });

  test("ends as soon as it is done, when no timer is left, and at its limit, with the clock where it then is", async () => {
    const runtime = new Virtual(1, 0);
    let ticks = 0;
    const tick = (): void => {
      if (++ticks < 1_000) runtime.setTimer(tick, 10);
    };
    tick();
    await runtime.drive(() => ticks === 5, Infinity);
    expect([ticks, runtime.now()]).toEqual([5, 40]);
    await runtime.drive(() => false, 100);
    expect([ticks, runtime.now()]).toEqual([15, 140]);
    await runtime.drive(() => false, Infinity);
    expect([ticks, runtime.timers, runtime.now()]).toEqual([1_000, 0, 9_990]);
  });

  test("rejects with what a timer throws, and can go on", async () => {
    const runtime = new Virtual(1, 0);
    let ran = false;
    runtime.setTimer(() => {
      throw new Error("broken");
    }, 10);
    runtime.setTimer(() => {
      ran = true;
    }, 10);
    await expect(runtime.drive(() => false, 100)).rejects.toThrow("broken");
    expect(ran).toBe(false);
    await runtime.drive(() => false, 100);
    expect(ran).toBe(true);
  });
});

describe("the same seed", () => {
  /** A run in which time, dice and promises decide together what happens. */
  async function run(seed: number): Promise<string> {
    const runtime = virtualRuntime({ seed });
    const log: string[] = [];
    const walk = async (name: string, left: number): Promise<void> => {
      while (left-- > 0) {
        await new Promise<void>((resolve) => void runtime.setTimer(resolve, Math.floor(runtime.random() * 5)));
        log.push(`${name}@${runtime.now()}:${runtime.random()}`);
      }
    };
    await runtime.until(Promise.all(["a", "b", "c"].map((name) => walk(name, 20))));
    return log.join("\n");
  }

  test("makes the same run, and another seed another one", async () => {
    expect(await run(7)).toBe(await run(7));
    expect(await run(8)).not.toBe(await run(7));
  });

  test("is known to the runtime, and is 1 when none was given", () => {
    expect(virtualRuntime({ seed: 0 }).seed).toBe(0);
    expect(virtualRuntime().seed).toBe(1);
    expect(virtualRuntime().random()).toBe(virtualRuntime({ seed: 1 }).random());
  });
});

test("wrong options are refused by name, and by a rejection where there is a promise", async () => {
  for (const options of [{ seed: -1 }, { seed: 2 ** 32 }, { seed: 0.5 }, { startMs: -1 }, { seeds: 1 }, null]) {
    expect(() => virtualRuntime(options as object), JSON.stringify(options)).toThrow(/^virtualRuntime: /);
  }
  const runtime = virtualRuntime();
  for (const ms of [-1, Number.NaN, Infinity]) {
    await expect(runtime.advance(ms)).rejects.toThrow(/advance: ms: expected a number of milliseconds, 0 or more/);
    expect(() => runtime.stall(ms)).toThrow(/stall: ms/);
  }
  await expect(runtime.until(Promise.resolve(), { limitMs: -1 })).rejects.toThrow(/until: limitMs/);
  expect(runtime.now()).toBe(0);
});
