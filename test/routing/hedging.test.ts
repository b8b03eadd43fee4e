/** A second copy of what takes long: when, to whom, out of which budget, and what becomes of the loser. */

import { AsyncLocalStorage } from "node:async_hooks";
import { describe, expect, test } from "vitest";
import { roundRobin } from "../../src/index.ts";
import { Hedging } from "../../src/routing/hedging.ts";
import { seededRandom } from "../../src/sim/index.ts";
import { codeOf, type Scene, scene } from "./scene.ts";

/** Teaches the pool that a request takes 10 ms. */
async function taught(s: Scene, hedge: object = {}): Promise<void> {
  await s.start({ size: 4, hedge });
  for (let round = 0; round < 30; round++) {
    const works = Array.from({ length: 4 }, () => s.use());
    await s.advance(10);
    for (const work of works) work.end();
    await s.settle();
  }
}

describe("a request that takes longer than nearly all others", () => {
  test(
    "is sent a second time, to another member, when it is idempotent; the first good answer is the answer",
    scene(async (s) => {
      const hedged = s.events("pool.hedged");
      await taught(s);
      const work = s.use({ idempotent: true });
      await s.advance(10);
      expect(work.ran).toHaveLength(1);
      await s.advance(2);
      expect(work.ran).toHaveLength(2);
      expect(work.ran[0]).not.toBe(work.ran[1]);
      expect(hedged).toMatchObject([{ pool: "scene" }]);
      expect(s.pool.stats()).toMatchObject({ inFlight: 2 });
      work.end("from the copy");
      await s.settle();
      expect([work.outcome, work.value]).toEqual(["ok", "from the copy"]);
      expect(
        work.signals.map((signal) => signal.aborted),
        "the loser is told",
      ).toEqual([true, false]);
      expect(s.pool.stats(), "and counts until its work has ended").toMatchObject({ inFlight: 1 });
    }),
  );

  test(
    "is not when it may not be done twice, when little is known yet, or when hedging is off",
    scene(async (s) => {
      await taught(s);
      const once = s.use();
      await s.advance(1_000);
      expect(once.ran).toHaveLength(1);
      once.end();
    }),
  );

  test(
    "has its copy in the async context of its caller",
    scene(async (s) => {
      await taught(s);
      const storage = new AsyncLocalStorage<string>();
      const seen: (string | undefined)[] = [];
      const call = storage.run("mine", () =>
        s.pool.use(
          (_, { signal }) => {
            seen.push(storage.getStore());
            return new Promise((resolve) => signal.addEventListener("abort", () => resolve(undefined)));
          },
          { idempotent: true },
        ),
      );
      await s.advance(20);
      expect(seen).toEqual(["mine", "mine"]);
      await s.pool.destroy();
      await call.catch(() => undefined);
    }),
  );

  test(
    "fails only when both have failed, with the last error",
    scene(async (s) => {
      await taught(s);
      const ends: ((error: Error) => void)[] = [];
      const call = s.pool
        .use(() => new Promise((_, reject) => ends.push(reject)), { idempotent: true })
        .then(() => "ok", codeOf);
      await s.advance(20);
      expect(ends).toHaveLength(2);
      ends[0]?.(new Error("first"));
      await s.settle();
      ends[1]?.(new Error("second"));
      expect(await call).toBe("second");
    }),
  );

  test(
    "survives the loss of one of the two",
    scene(async (s) => {
      await taught(s);
      const works: { slot: number; resolve: (value: string) => void }[] = [];
      const call = s.pool
        .use((resource) => new Promise<string>((resolve) => works.push({ slot: resource.slot, resolve })), {
          idempotent: true,
        })
        .then(() => "ok", codeOf);
      await s.advance(20);
      s.registered.find(({ slot }) => slot === works[0]?.slot)?.lose();
      await s.settle();
      await s.advance(5);
      expect(works, "nothing more is sent while one is at work").toHaveLength(2);
      works[1]?.resolve("good");
      expect(await call).toBe("ok");
      s.check();
    }),
  );

  test(
    "has no copy once the budget is used up, which retries share",
    scene(async (s) => {
      await s.start({ size: 4, hedge: { minSamples: 10 }, retry: { budget: 0 } });
      for (let round = 0; round < 30; round++) {
        const taughtBy = s.use();
        await s.advance(10);
        taughtBy.end();
        await s.settle();
      }
      const work = s.use({ idempotent: true });
      await s.advance(1_000);
      expect(work.ran).toHaveLength(1);
    }),
  );

  test(
    "leaves no timer behind when it is answered in time",
    scene(async (s) => {
      await taught(s);
      const before = s.runtime.timers;
      const work = s.use({ idempotent: true });
      work.end();
      await s.settle();
      expect(s.runtime.timers).toBeLessThanOrEqual(before);
    }),
  );
});

test(
  "a pool without members elsewhere sends no copy",
  scene(async (s) => {
    await s.start({ size: 1, hedge: { minSamples: 5 }, strategy: roundRobin() });
    for (let round = 0; round < 10; round++) {
      const work = s.use();
      await s.advance(10);
      work.end();
      await s.settle();
    }
    const work = s.use({ idempotent: true });
    await s.advance(100);
    expect(work.ran).toHaveLength(1);
  }),
);

describe("the delay", () => {
  test("is the percentile of what was seen, to within eight per cent", () => {
    const random = seededRandom(3);
    const hedging = new Hedging({ percentile: 0.95 }, 0);
    const seen: number[] = [];
    for (let n = 0; n < 5_000; n++) {
      const ms = -20 * Math.log(1 - random());
      seen.push(ms);
      hedging.observe(ms, n);
    }
    seen.sort((a, b) => a - b);
    const exact = seen[Math.ceil(0.95 * seen.length) - 1] as number;
    const delayMs = hedging.delayMs(5_000) as number;
    expect(delayMs).toBeGreaterThanOrEqual(exact * 0.99);
    expect(delayMs).toBeLessThanOrEqual(exact * 1.09);
  });

  test("is not known before there are samples, and no more when they are long ago", () => {
    const hedging = new Hedging({ minSamples: 10 }, 0);
    for (let n = 0; n < 9; n++) hedging.observe(5, 0);
    expect(hedging.delayMs(0)).toBeUndefined();
    hedging.observe(5, 0);
    expect(hedging.delayMs(0)).toBeCloseTo(5, 0);
    expect(hedging.delayMs(10_000), "the half before still counts").toBeCloseTo(5, 0);
    expect(hedging.delayMs(30_000)).toBeUndefined();
  });

  test("is not known after a pause either, before anybody has answered again", () => {
    const hedging = new Hedging({ minSamples: 1 }, 0);
    hedging.observe(5, 0);
    expect([hedging.delayMs(9_999), hedging.delayMs(20_000)]).toEqual([expect.closeTo(5, 0), undefined]);
    hedging.observe(80, 50_000);
    expect(hedging.delayMs(50_000)).toBeGreaterThanOrEqual(80);
  });

  test("is never less than minMs", () => {
    const hedging = new Hedging({ minSamples: 1, minMs: 50 }, 0);
    hedging.observe(5, 0);
    expect(hedging.delayMs(0)).toBe(50);
  });
});
