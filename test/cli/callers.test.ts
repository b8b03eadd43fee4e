/** The callers' books, with a pool that does as it is told, in virtual time. */
import { describe, expect, test } from "vitest";
import { type Callee, Callers } from "../../src/cli/callers.ts";
import { BusyError } from "../../src/errors.ts";
import { type VirtualRuntime, virtualRuntime } from "../../src/sim/index.ts";
import type { PoolStats } from "../../src/telemetry/index.ts";

interface Pool extends Callee {
  /** Who waits for an answer, oldest first. */
  waiting: { text: string; answer: (text: string) => void; fail: (error: unknown) => void }[];
  asked: string[];
  totals: Record<"retried" | "opened", number>;
}

function pool(): Pool {
  const waiting: Pool["waiting"] = [];
  const asked: string[] = [];
  const totals = { retried: 0, opened: 0 };
  return {
    waiting,
    asked,
    totals,
    request: (text) =>
      new Promise((answer, fail) => {
        asked.push(text);
        waiting.push({ text, answer, fail });
      }),
    stats: () => ({ totals: { ...totals } }) as unknown as PoolStats,
  };
}

function setUp(count: number): {
  callee: Pool;
  callers: Callers;
  runtime: VirtualRuntime;
  world: { restarts: number };
} {
  const runtime = virtualRuntime();
  const callee = pool();
  const world = { restarts: 0 };
  const callers = new Callers(callee, { count, first: "first", runtime, restarts: () => world.restarts });
  return { callee, callers, runtime, world };
}

/** Answers the oldest `count` requests rightly. */
async function answer(callee: Pool, runtime: VirtualRuntime, count: number): Promise<void> {
  for (const request of callee.waiting.splice(0, count)) request.answer(request.text);
  await runtime.settle();
}

describe("callers", () => {
  test("each have one request under way, and no two requests are alike", async () => {
    const { callee, callers, runtime } = setUp(3);
    for (let turn = 0; turn < 4; turn++) await answer(callee, runtime, 2);
    expect(callee.waiting).toHaveLength(3);
    expect(new Set(callee.asked).size).toBe(3 + 8);
    expect(callers).toMatchObject({ begun: 11, settled: 8, answered: 8, wrong: 0 });
  });

  test("see when one gets the answer of another", async () => {
    const { callee, callers, runtime } = setUp(2);
    const [one, other] = callee.waiting.splice(0);
    one?.answer(other?.text ?? "");
    other?.answer(other.text);
    await runtime.settle();
    expect(callers).toMatchObject({ settled: 2, answered: 2, wrong: 1 });
  });

  test("count what failed by its code, and wait a little before they ask again", async () => {
    const { callee, callers, runtime } = setUp(2);
    const stats = { name: "pool" } as PoolStats;
    callee.waiting.shift()?.fail(new BusyError({ stats }));
    callee.waiting.shift()?.fail(new TypeError("odd"));
    await runtime.settle();
    expect(callee.waiting).toHaveLength(0); // A pool that refuses at once would else never let the program do anything.
    await runtime.advance(10);
    expect(callee.waiting).toHaveLength(2);
    expect(callers.phase).toMatchObject({ settled: 2, answered: 0, failed: 2 });
    expect([...callers.phase.failures]).toEqual([
      ["ERR_POOL_BUSY", 1],
      ["TypeError: odd", 1],
    ]);
  });

  test("account a request to the phase in which it settles, and time to the phase in which it passes", async () => {
    const { callee, callers, runtime, world } = setUp(2);
    await runtime.advance(1_000);
    await answer(callee, runtime, 1);
    callee.totals.opened += 4;
    callers.next("second");
    await runtime.advance(3_000);
    await answer(callee, runtime, 2);
    callee.totals.retried += 5;
    world.restarts += 1;
    const ended = callers.stop(60_000);
    await answer(callee, runtime, 2);
    await ended;
    const [first, second] = callers.phases;
    expect(callers.phases).toHaveLength(2);
    expect(first).toMatchObject({ name: "first", settled: 1, seconds: 1, reconnects: 4, rerouted: 0, restarts: 0 });
    expect(second).toMatchObject({ name: "second", settled: 4, seconds: 3, reconnects: 0, rerouted: 5, restarts: 1 });
    expect([first?.perSecond, second?.perSecond]).toEqual([1, 4 / 3]);
    expect(first?.slowestMs).toBeCloseTo(1_000, -1);
    expect(second?.slowestMs).toBeCloseTo(4_000, -1); // Begun in the first.
    expect(callers).toMatchObject({ begun: 5, settled: 5 });
  });

  test("told to stop, make no request more, and wait for the last answer", async () => {
    const { callee, callers, runtime } = setUp(2);
    let over = false;
    const ended = callers.stop(60_000).then(() => (over = true));
    await answer(callee, runtime, 1);
    expect([over, callee.waiting.length]).toEqual([false, 1]);
    await answer(callee, runtime, 1);
    await ended;
    expect(callers).toMatchObject({ begun: 2, settled: 2 });
    expect(runtime.timers).toBe(0);
  });

  test("told to stop, do not wait for ever: what has never settled shows in the books", async () => {
    const { callee, callers, runtime } = setUp(3);
    const ended = callers.stop(35_000);
    await answer(callee, runtime, 2);
    await runtime.until(ended);
    expect(runtime.now()).toBe(35_000);
    expect(callers).toMatchObject({ begun: 3, settled: 2 });
    expect(runtime.timers).toBe(0);
  });

  test("with nothing settled have figures all the same", async () => {
    const { callers } = setUp(1);
    const phase = callers.count();
    expect([phase.perSecond, phase.latencyMs(99), phase.slowestMs, phase.failed]).toEqual([0, 0, 0, 0]);
  });
});
