/** More callers than a pool can serve. With `shed` those who are served are served soon; without, as in any line, hardly in time. */

import { expect, test } from "vitest";
import type { QueueOptions } from "../../src/index.ts";
import { type Scene, scene } from "./scene.ts";

const workMs = 10;
const max = 10;

interface Outcome {
  readonly served: number[];
  readonly shed: number;
  readonly late: number;
}

/** It takes a moment until a burst and an overload can be told apart. */
const settledAfterMs = 500;

/**
 * Callers who come every `everyMs`, so many at once, for two seconds, and give up after 500 ms. `served`: how long it took
 * for those who came when the load was settled.
 */
async function load(s: Scene, queue: QueueOptions, everyMs: number, burst = 1): Promise<Outcome> {
  await s.start({ min: max, max, queue: { limit: 100_000, ...queue } });
  await s.until(s.pool.ready({ min: max }));
  const served: number[] = [];
  const codes: unknown[] = [];
  const call = async (): Promise<void> => {
    const askedAt = s.runtime.now();
    try {
      await s.pool.use(() => s.server.pause(workMs), { timeoutMs: 500 });
      if (askedAt >= settledAfterMs) served.push(s.runtime.now() - askedAt);
    } catch (error) {
      codes.push((error as { code: unknown }).code);
    }
  };
  const calls: Promise<void>[] = [];
  for (let ms = 0; ms < 2_000; ms += everyMs) {
    s.runtime.setTimer(() => {
      for (let n = 0; n < burst; n++) calls.push(call());
    }, ms);
  }
  await s.advance(2_000);
  await s.until(Promise.all(calls));
  const count = (code: string): number => codes.filter((each) => each === code).length;
  s.check();
  return {
    served: served.sort((a, b) => a - b),
    shed: count("ERR_POOL_SHED"),
    late: count("ERR_POOL_ACQUIRE_TIMEOUT"),
  };
}

const p99 = (values: readonly number[]): number => values[Math.floor(0.99 * values.length)] as number;

test(
  "twice the load is served at the full rate, and soon, with shed",
  scene(async (s) => {
    const { served, shed, late } = await load(s, { shed: true }, 0.5);
    expect(served.length).toBeGreaterThanOrEqual(0.98 * (2_000 - settledAfterMs));
    expect(p99(served)).toBeLessThanOrEqual(80);
    expect(shed).toBeGreaterThan(1_500);
    expect(late).toBe(0);
    expect(s.pool.stats().totals).toMatchObject({ shed, timedOut: 0 });
  }),
);

test(
  "without shed nearly everybody waits until it is too late to be of use",
  scene(async (s) => {
    const { served, shed } = await load(s, {}, 0.5);
    expect(shed).toBe(0);
    expect(p99(served)).toBeGreaterThan(450);
  }),
);

test(
  "bursts of a load that the pool can bear are not shed",
  scene(async (s) => {
    const { served, shed, late } = await load(s, { shed: true }, 20, 14);
    expect([served.length, shed, late]).toEqual([1_050, 0, 0]);
  }),
);

test(
  "the errors of those who wait have no stack, which would show a timer; that of everybody else has one",
  scene(async (s) => {
    await s.start({ min: 1, max: 1, queue: { limit: 1 } });
    const limit = Error.stackTraceLimit;
    await s.hold();
    const late = s.acquire({ timeoutMs: 10 });
    const refused = s.acquire();
    await s.advance(10);
    expect((late.error as Error).stack?.split("\n").length).toBe(1);
    expect((refused.error as Error).stack).toContain("overload.test.ts");
    expect(Error.stackTraceLimit).toBe(limit);
  }),
);

test(
  "one who is shed is told how long it waited, and that it may try again",
  scene(async (s) => {
    await s.start({ min: 1, max: 1, idleTimeoutMs: Infinity, queue: { shed: { targetMs: 5, intervalMs: 100 } } });
    const refused = s.events("pool.refused");
    await s.hold();
    const first = s.acquire();
    await s.advance(200);
    expect(first.error).toMatchObject({ code: "ERR_POOL_SHED", retryable: true, waitedMs: 100, stats: { used: 1 } });
    expect(refused).toEqual([{ pool: "scene", code: "ERR_POOL_SHED", waitedMs: 100 }]);
    expect(s.runtime.timers, "nobody is looked at in an empty line").toBe(0);
  }),
);
