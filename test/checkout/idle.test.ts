/** What becomes of a resource that nobody has: it grows old, is looked at, and goes. And what is done to it between leases. */

import { describe, expect, test } from "vitest";
import { type Scene, scene } from "./scene.ts";

/** So many idle resources, put back `everyMs` apart: the first is the oldest. */
async function idle(s: Scene, count: number, everyMs = 0): Promise<void> {
  const holders = await s.holdAll(count);
  for (const [at, holder] of holders.entries()) {
    if (at > 0) await s.advance(everyMs);
    holder.release();
  }
  await s.settle();
}

/** When each resource was closed. */
const closedAt = (s: Scene): (number | undefined)[] => s.server.resources.map(({ closingSince }) => closingSince);

describe("an idle resource", () => {
  test(
    "is closed when it has been idle for idleTimeoutMs, the oldest first, and never below min",
    scene(async (s) => {
      await s.start({ min: 1, max: 4, maxOpening: 4, idleTimeoutMs: 1_000 });
      await idle(s, 4, 100);
      await s.advance(10_000);
      expect(closedAt(s)).toEqual([1_000, 1_100, 1_200, undefined]);
      expect(s.pool.stats()).toMatchObject({ size: 1, idle: 1 });
      s.check();
    }),
  );

  test(
    "is closed after ten minutes when nothing is said, and not before",
    scene(async (s) => {
      await s.start();
      (await s.hold()).release();
      await s.advance(599_999);
      expect(s.pool.stats().idle).toBe(1);
      await s.advance(1);
      expect(s.pool.stats().size).toBe(0);
      expect(s.runtime.timers).toBe(0);
    }),
  );

  test(
    "has its time anew with each lease; the one behind it, which nobody wants, has not",
    scene(async (s) => {
      await s.start({ max: 2, idleTimeoutMs: 1_000 });
      await idle(s, 2);
      for (let n = 0; n < 30; n++) {
        await s.advance(100);
        (await s.hold()).release();
      }
      expect(closedAt(s)).toEqual([1_000, undefined]);
      s.check();
    }),
  );

  test(
    "stays for ever when idleTimeoutMs is Infinity, and has no timer",
    scene(async (s) => {
      await s.start({ idleTimeoutMs: Infinity });
      (await s.hold()).release();
      expect(s.runtime.timers).toBe(0);
      await s.advance(100_000_000);
      expect(s.pool.stats().idle).toBe(1);
    }),
  );

  test(
    "lets the program end: no timer of an idle pool keeps it alive",
    scene(async (s) => {
      await s.start({ min: 1, hooks: ["check"], pingIdleMs: 100, maxLifetimeMs: 5_000, leakReportMs: 10 });
      s.server.checking = () => ({ ms: 10 });
      for (let at = 0; at < 1_000; at += 5) {
        expect(s.runtime.keepAliveTimers).toBe(0);
        await s.advance(5);
      }
      expect(s.server.resources[0]?.checks).toBeGreaterThan(5);
    }),
  );

  test(
    "is one timer among many",
    scene(async (s) => {
      await s.start({ max: 10, maxOpening: 10, maxLifetimeMs: 5_000 });
      await idle(s, 10, 10);
      expect(s.runtime.timers).toBe(1);
    }),
  );
});

describe("a resource that is too old", () => {
  test(
    "is closed at maxLifetimeMs from its opening, shortened by up to the jitter",
    scene(async (s) => {
      await s.start({ min: 20, max: 20, maxOpening: 20, maxLifetimeMs: 10_000, lifetimeJitter: 0.2 });
      await s.advance(10_000);
      const ages = s.server.resources.slice(0, 20).map(({ closingSince }) => closingSince as number);
      expect(Math.min(...ages)).toBeGreaterThanOrEqual(8_000);
      expect(Math.max(...ages)).toBeLessThanOrEqual(10_000);
      expect(new Set(ages.map(Math.round)).size, "they do not all go at once").toBeGreaterThan(15);
      expect(s.pool.stats(), "and there are min of them again").toMatchObject({ size: 20, ready: 20 });
      s.check();
    }),
  );

  test(
    "is not any younger for being used",
    scene(async (s) => {
      await s.start({ max: 1, maxLifetimeMs: 1_000, lifetimeJitter: 0 });
      for (let n = 0; n < 99; n++) {
        (await s.hold()).release();
        await s.advance(10);
      }
      expect(s.server.resources.length).toBe(1);
      await s.advance(10);
      expect(closedAt(s)).toEqual([1_000]);
    }),
  );

  test(
    "is not taken from its holder: it is closed when it is given back, and the next gets a new one",
    scene(async (s) => {
      await s.start({ max: 1, maxLifetimeMs: 1_000, lifetimeJitter: 0 });
      const holder = await s.hold();
      await s.advance(5_000);
      expect([holder.holds, holder.lease?.signal.aborted]).toEqual([true, false]);
      const next = s.acquire();
      holder.release();
      await s.settle();
      expect([closedAt(s), next.resource.id]).toEqual([[5_000, undefined], 2]);
      s.check();
    }),
  );

  test(
    "is not lent in the moment it is: not even when the timer is late",
    scene(async (s) => {
      await s.start({ max: 1, maxLifetimeMs: 1_000, lifetimeJitter: 0 });
      (await s.hold()).release();
      s.runtime.stall(1_000);
      const holder = s.acquire();
      expect(s.tryAcquire()).toBeUndefined();
      await s.settle();
      expect(holder.resource.id).toBe(2);
      s.check();
    }),
  );
});

test(
  "a resource is closed after maxUses leases",
  scene(async (s) => {
    await s.start({ max: 1, maxUses: 3 });
    const served: number[] = [];
    for (let n = 0; n < 7; n++) {
      const holder = await s.hold();
      served.push(holder.resource.id);
      holder.release();
      await s.settle();
    }
    expect(served).toEqual([1, 1, 1, 2, 2, 2, 3]);
    s.check();
  }),
);

describe("checkAfterIdleMs", () => {
  test(
    "closes those that have become too old while one was checked, and forgets none of them",
    scene(async (s) => {
      await s.start({ hooks: ["check"], max: 3, checkAfterIdleMs: 10, maxLifetimeMs: 1_000, lifetimeJitter: 0 });
      await idle(s, 3);
      await s.advance(20);
      s.server.checking = () => ({ ms: 4_000 });
      s.server.always({ ms: 30 });
      const waits = s.acquire();
      await s.settle();
      s.runtime.stall(1_000); // All are too old, and no timer has run that would know.
      s.server.resources.find(({ hook }) => hook === "check")?.lose();
      await s.settle();
      expect(s.server.resources.map(({ closings }) => closings.length)).toEqual([1, 1, 1]);
      s.server.checking = () => "ok";
      await s.advance(30);
      expect([waits.outcome, waits.resource.id]).toEqual(["ok", 4]);
      expect(s.pool.stats()).toMatchObject({ size: 1, idle: 0, used: 1 });
      s.check();
      waits.release();
    }),
  );

  test(
    "has a resource checked that was idle for as long, and no other",
    scene(async (s) => {
      await s.start({ max: 1, hooks: ["check"], checkAfterIdleMs: 1_000 });
      (await s.hold()).release();
      await s.advance(999);
      (await s.hold()).release();
      expect(s.server.resources[0]?.checks).toBe(0);
      await s.advance(1_000);
      (await s.hold()).release();
      expect(s.server.resources[0]?.checks).toBe(1);
      s.check();
    }),
  );

  test(
    "of 0 has each checked before each lease, the new one too",
    scene(async (s) => {
      await s.start({ max: 1, hooks: ["check"], checkAfterIdleMs: 0 });
      for (let n = 0; n < 3; n++) (await s.hold()).release();
      expect(s.server.resources[0]?.checks).toBe(2);
      expect(s.server.resources.length).toBe(1);
    }),
  );

  test.each(["throws", "rejects", "no", "never"] as const)(
    "closes one whose check %s, and its caller gets a good one",
    async (manner) =>
      scene(async (s) => {
        await s.start({ max: 2, hooks: ["check"], checkAfterIdleMs: 100, checkTimeoutMs: 500 });
        await idle(s, 2);
        const failed = s.events("callback.failed");
        await s.advance(100);
        s.server.checking = ({ id }) => (id === 2 ? manner : "ok");
        const caller = s.acquire();
        await s.advance(500);
        expect(caller.resource.id).toBe(1);
        expect(s.server.resources[1]?.closings).toEqual(["normal"]);
        expect(failed).toMatchObject([{ where: "scene: check" }]);
        s.check();
      })(),
  );

  test(
    "opens a new one when no idle one is good",
    scene(async (s) => {
      await s.start({ max: 2, hooks: ["check"], checkAfterIdleMs: 100 });
      await idle(s, 2);
      await s.advance(100);
      s.server.checking = () => "no";
      const callers = [s.acquire(), s.acquire(), s.acquire()];
      await s.advance(10);
      expect(callers.map(({ outcome }) => outcome)).toEqual(["ok", "ok", "pending"]);
      expect(s.server.resources.map(({ closings }) => closings.length)).toEqual([1, 1, 0, 0]);
      s.check();
    }),
  );

  test(
    "does not create and check without pause when the check always fails",
    scene(async (s) => {
      await s.start({ max: 1, hooks: ["check"], checkAfterIdleMs: 0 });
      s.server.checking = () => "no";
      await s.holdAll(1);
      for (let n = 0; n < 50; n++) s.acquire({ timeoutMs: 20 });
      s.holders[0]?.release();
      await s.advance(10_000);
      expect(s.server.times.length).toBeLessThan(60);
      s.check();
    }),
  );

  test(
    "lets a caller who leaves go, and keeps what proves to be good",
    scene(async (s) => {
      await s.start({ max: 1, hooks: ["check"], checkAfterIdleMs: 100 });
      (await s.hold()).release();
      await s.advance(100);
      s.server.checking = () => ({ ms: 50 });
      const gone = new AbortController();
      s.acquire({ signal: gone.signal });
      await s.advance(10);
      gone.abort();
      await s.settle();
      s.check();
      await s.advance(40);
      expect(s.pool.stats()).toMatchObject({ idle: 1, ready: 1 });
      expect(s.tryAcquire(), "just now it was good").toBeDefined();
    }),
  );

  test(
    "tells the check when its time is over",
    scene(async (s) => {
      let signal: AbortSignal | undefined;
      const connector = s.server.connector("check");
      const check = (_: unknown, given: AbortSignal): Promise<never> => {
        signal = given;
        return new Promise(() => undefined);
      };
      await s.start({ max: 1, connector: { ...connector, check }, checkAfterIdleMs: 0, checkTimeoutMs: 100 });
      (await s.hold()).release();
      const caller = s.acquire();
      await s.advance(99);
      expect(signal?.aborted).toBe(false);
      await s.advance(1);
      expect([signal?.aborted, caller.outcome]).toEqual([true, "ok"]);
    }),
  );
});

describe("pings", () => {
  test(
    "look at what is idle once in pingIdleMs, the oldest first, no more than the limit at a time",
    scene(async (s) => {
      await s.start({ max: 3, maxOpening: 3, hooks: ["check"], pingIdleMs: 1_000 });
      await idle(s, 3, 10);
      const pinged: [id: number, at: number][] = [];
      s.server.checking = ({ id }) => {
        pinged.push([id, s.runtime.now()]);
        return { ms: 30 };
      };
      await s.advance(2_200);
      expect(pinged).toEqual([
        [1, 1_000],
        [2, 1_030],
        [3, 1_060],
        [1, 2_030],
        [2, 2_060],
        [3, 2_090],
      ]);
      s.check();
    }),
  );

  test(
    "of two at a time look at two",
    scene(async (s) => {
      await s.start({ max: 5, maxOpening: 5, hooks: ["check"], pingIdleMs: 1_000, pingLimit: 2 });
      await idle(s, 5);
      let now = 0;
      let most = 0;
      s.server.checking = () => {
        most = Math.max(most, ++now);
        void s.server.pause(30).then(() => now--);
        return { ms: 30 };
      };
      await s.advance(1_100);
      expect(most).toBe(2);
      expect(s.server.resources.map(({ checks }) => checks)).toEqual([1, 1, 1, 1, 1]);
      s.check();
    }),
  );

  test(
    "replace what is no longer good, and no caller notices",
    scene(async (s) => {
      await s.start({ min: 2, max: 2, hooks: ["check"], pingIdleMs: 1_000 });
      s.server.checking = ({ id }) => (id === 1 ? "rejects" : "ok");
      await s.advance(1_000);
      expect(s.server.resources.map(({ closings }) => closings.length)).toEqual([1, 0, 0]);
      expect(s.pool.stats()).toMatchObject({ ready: 2, idle: 2, totals: { failed: 0 } });
      s.check();
    }),
  );

  test(
    "do not make a resource any younger, nor change whose turn it is",
    scene(async (s) => {
      await s.start({ max: 2, hooks: ["check"], pingIdleMs: 300, idleTimeoutMs: 1_000 });
      await idle(s, 2, 10);
      await s.advance(500);
      expect((await s.hold()).resource.id, "last in").toBe(2);
      s.holders.at(-1)?.release();
      await s.advance(10_000);
      expect(closedAt(s)).toEqual([1_000, 1_510]);
    }),
  );

  test(
    "have a caller wait for the one that is looked at, and not for another to be opened",
    scene(async (s) => {
      await s.start({ max: 2, hooks: ["check"], pingIdleMs: 1_000 });
      (await s.hold()).release();
      s.server.checking = () => ({ ms: 30 });
      await s.advance(1_000);
      expect(s.pool.stats()).toMatchObject({ ready: 1, idle: 0, used: 1, inFlight: 0 });
      const caller = s.acquire();
      await s.advance(30);
      expect([caller.resource.id, s.server.times.length]).toEqual([1, 1]);
      s.check();
    }),
  );

  test(
    "count as a look for checkAfterIdleMs",
    scene(async (s) => {
      await s.start({ max: 1, hooks: ["check"], pingIdleMs: 1_000, checkAfterIdleMs: 500 });
      (await s.hold()).release();
      await s.advance(1_400);
      expect(s.server.resources[0]?.checks).toBe(1);
      s.tryAcquire()?.release();
      expect(s.server.resources[0]?.checks).toBe(1);
    }),
  );
});

describe("reset", () => {
  test(
    "is done after each lease and before the next, and nobody has the resource meanwhile",
    scene(async (s) => {
      await s.start({ max: 1, hooks: ["reset"] });
      s.server.resetting = () => ({ ms: 20 });
      const holder = await s.hold();
      const next = s.acquire();
      holder.release();
      expect(s.pool.stats()).toMatchObject({ ready: 1, idle: 0, used: 1, inFlight: 0, waiting: 1 });
      await s.advance(19);
      expect(next.outcome).toBe("pending");
      await s.advance(1);
      expect([next.outcome, next.resource.resets]).toEqual(["ok", 1]);
      s.check();
    }),
  );

  test.each(["throws", "rejects", "never"] as const)("that %s has the resource closed", async (manner) =>
    scene(async (s) => {
      await s.start({ max: 1, hooks: ["reset"], resetTimeoutMs: 500 });
      const failed = s.events("callback.failed");
      s.server.resetting = ({ id }) => (id === 1 ? manner : "ok");
      const holder = await s.hold();
      const next = s.acquire();
      holder.release();
      await s.advance(500);
      expect(next.resource.id).toBe(2);
      expect(holder.resource.closings).toEqual(["normal"]);
      expect(failed).toMatchObject([{ where: "scene: reset" }]);
      s.check();
    })(),
  );

  test(
    "may answer what it likes",
    scene(async (s) => {
      const connector = { ...s.server.connector(), reset: () => false as unknown as undefined };
      await s.start({ max: 1, connector });
      (await s.hold()).release();
      await s.settle();
      expect(s.pool.stats().idle).toBe(1);
    }),
  );

  test(
    "is not done to what was discarded, has expired, or is lost",
    scene(async (s) => {
      await s.start({ max: 3, maxOpening: 3, hooks: ["reset"], leaseTimeoutMs: 100 });
      const [a, b] = await s.holdAll(3);
      a?.discard();
      b?.resource.lose();
      b?.release();
      await s.advance(100);
      expect(s.server.resources.map(({ resets }) => resets)).toEqual([0, 0, 0]);
      s.check();
    }),
  );
});
