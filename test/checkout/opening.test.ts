/** When resources are opened, and how many: on demand, few at a time, and not for those who have left. */

import { describe, expect, test } from "vitest";
import { scene } from "./scene.ts";
import { after, type Opening } from "./server.ts";

const backoff = { kind: "exponential", minMs: 100, maxMs: 1_600 } as const;

describe("a pool opens", () => {
  test(
    "nothing before somebody asks",
    scene(async (s) => {
      await s.start();
      await s.advance(60_000);
      expect(s.server.times).toEqual([]);
      expect(s.pool.stats()).toMatchObject({ size: 0, idle: 0 });
    }),
  );

  test(
    "min when it starts, two at a time",
    scene(async (s) => {
      s.server.always({ ms: 100 });
      await s.start({ min: 5 });
      await s.advance(1_000);
      expect(s.server.times).toEqual([0, 0, 100, 100, 200]);
      expect(s.pool.stats()).toMatchObject({ size: 5, ready: 5, idle: 5 });
      s.check();
    }),
  );

  test(
    "as many at a time as maxOpening allows, and no more than max",
    scene(async (s) => {
      s.server.always({ ms: 100 });
      await s.start({ max: 5, maxOpening: 3 });
      const callers = Array.from({ length: 8 }, () => s.acquire());
      await s.settle();
      expect(s.pool.stats()).toMatchObject({ size: 3, opening: 3, ready: 0 });
      await s.advance(1_000);
      expect(s.server.times).toEqual([0, 0, 0, 100, 100]);
      expect(callers.filter(({ outcome }) => outcome === "ok").length).toBe(5);
      expect([s.server.peak, s.pool.stats().waiting]).toEqual([5, 3]);
      s.check();
    }),
  );

  test(
    "one for each who waits and no more: one that is on its way is enough for one caller",
    scene(async (s) => {
      s.server.always({ ms: 100 });
      await s.start({ maxOpening: 10 });
      s.acquire();
      await s.advance(10);
      s.acquire();
      s.acquire();
      await s.advance(10);
      expect(s.server.times).toEqual([0, 10, 10]);
      s.check();
    }),
  );

  test(
    "none for a caller who is about to have one that is being reset or checked",
    scene(async (s) => {
      await s.start({ hooks: ["check", "reset"], checkAfterIdleMs: 1_000 });
      s.server.resetting = () => ({ ms: 50 });
      s.server.checking = () => ({ ms: 50 });
      (await s.hold()).release();
      const first = s.acquire();
      await s.advance(50);
      expect(first.outcome).toBe("ok");
      first.release();
      await s.advance(2_000);
      const second = s.acquire();
      await s.advance(50);
      expect([second.outcome, s.server.times.length]).toEqual(["ok", 1]);
      s.check();
    }),
  );

  test(
    "for one who comes back before his resource is open: whoever is first has what is given back",
    scene(async (s) => {
      await s.start();
      const holder = await s.hold();
      s.server.always({ ms: 150 });
      const waits = s.acquire();
      await s.advance(2);
      holder.release();
      await s.settle();
      expect([waits.outcome, waits.resource.id]).toEqual(["ok", 1]);
      await s.advance(150);
      expect(s.pool.stats(), "what nobody waits for any more joins the idle").toMatchObject({ ready: 2, idle: 1 });
      s.check();
    }),
  );

  test(
    "few in a spike: 50 callers, 5 idle, 150 ms to open, 2 ms of work",
    scene(async (s) => {
      await s.start({ min: 5, max: 50 });
      await s.until(s.pool.ready());
      s.server.always({ ms: 150 });
      const startedAt = s.runtime.now();
      const spike = Array.from({ length: 50 }, () => s.pool.use(() => s.server.pause(2)));
      await s.until(Promise.all(spike));
      expect(s.runtime.now() - startedAt).toBeLessThanOrEqual(25);
      expect(s.server.times.length).toBeLessThanOrEqual(5 + 2);
    }),
  );

  test(
    "none when every caller has left before it began",
    scene(async (s) => {
      s.server.always({ ms: 100 });
      await s.start({ maxOpening: 1 });
      const gone = new AbortController();
      const callers = Array.from({ length: 4 }, () => s.acquire({ signal: gone.signal }));
      await s.settle();
      gone.abort();
      await s.advance(10_000);
      expect(callers.map(({ outcome }) => outcome)).toEqual(callers.map(() => "This operation was aborted"));
      expect(s.server.times, "the one under way is not wasted").toEqual([0]);
      expect(s.pool.stats()).toMatchObject({ size: 1, idle: 1 });
      s.check();
    }),
  );

  test(
    "not even the first when its caller leaves in the same tick",
    scene(async (s) => {
      await s.start();
      const gone = new AbortController();
      s.acquire({ signal: gone.signal });
      gone.abort();
      await s.advance(1_000);
      expect(s.server.times).toEqual([]);
      expect(s.pool.stats().size).toBe(0);
    }),
  );

  test(
    "in the lowest slot that is free",
    scene(async (s) => {
      await s.start({ max: 3, maxOpening: 3 });
      const [a, b] = await s.holdAll(3);
      b?.discard();
      a?.discard();
      await s.settle();
      const [c, d] = await s.holdAll(2);
      expect([c?.resource.slot, d?.resource.slot]).toEqual([0, 1]);
      s.check();
    }),
  );
});

describe("a server that refuses", () => {
  test(
    "at once is not called in a loop: the caller's time runs, and attempts are a minMs apart",
    scene(async (s) => {
      s.server.always("throws");
      await s.start({ backoff });
      const caller = s.acquire();
      await s.advance(5_000);
      expect(caller).toMatchObject({ outcome: "ERR_POOL_ACQUIRE_TIMEOUT", at: 5_000 });
      const gaps = s.server.times.slice(1).map((at, before) => at - (s.server.times[before] as number));
      expect(Math.min(...gaps)).toBeGreaterThanOrEqual(100);
      expect(s.server.times.length).toBeGreaterThan(10);
      s.check();
    }),
  );

  test(
    "is called by no more than maxOpening at a time, each a minMs apart, however many wait",
    scene(async (s) => {
      s.server.always("rejects");
      await s.start({ max: 10, maxOpening: 2, backoff });
      for (let n = 0; n < 100; n++) s.acquire();
      await s.advance(1_000);
      expect(s.server.times.length).toBeLessThanOrEqual(2 * 11);
      expect(s.pool.stats()).toMatchObject({ size: 2, waitingToReopen: 2, waiting: 100 });
      s.check();
    }),
  );

  test(
    "is not called any more when nobody waits",
    scene(async (s) => {
      s.server.always("rejects");
      await s.start({ backoff });
      s.acquire({ timeoutMs: 250 });
      await s.advance(250);
      const { length } = s.server.times;
      await s.advance(60_000);
      expect(s.server.times.length).toBeLessThanOrEqual(length);
      expect(s.pool.stats()).toMatchObject({ size: 0, waiting: 0 });
      expect(s.runtime.timers).toBe(0);
    }),
  );

  test(
    "is not called any sooner by one who comes after the last has left: what was learnt is remembered",
    scene(async (s) => {
      s.server.always("rejects");
      await s.start({ max: 1, backoff });
      for (let n = 0; n < 300; n++) {
        s.acquire({ timeoutMs: 10 });
        await s.advance(10);
      }
      const gaps = s.server.times.slice(1).map((at, before) => at - (s.server.times[before] as number));
      expect(Math.min(...gaps)).toBeGreaterThanOrEqual(100);
      expect(s.server.times.length).toBeGreaterThan(10);
      s.check();
    }),
  );

  test(
    "and gets better serves all who wait, and is backed off from anew",
    scene(async (s) => {
      s.server.always("rejects");
      await s.start({ max: 4, backoff });
      const callers = Array.from({ length: 4 }, () => s.acquire());
      await s.advance(950);
      s.server.always("ok");
      await s.advance(200);
      expect(callers.map(({ outcome }) => outcome)).toEqual(["ok", "ok", "ok", "ok"]);
      expect(s.pool.snapshot().connections.map(({ attempts }) => attempts)).toEqual([0, 0, 0, 0]);
      s.check();
    }),
  );

  test(
    "is tried for min, with growing pauses, though nobody waits",
    scene(async (s) => {
      s.server.always("rejects");
      await s.start({ min: 1, backoff });
      await s.advance(3_200);
      expect(s.server.times).toEqual([0, 100, 300, 700, 1_500, 3_100]);
      s.server.always("ok");
      await s.advance(1_600);
      expect(s.pool.stats()).toMatchObject({ size: 1, idle: 1 });
    }),
  );

  test(
    "accepts and hangs up is not called in a loop either",
    scene(async (s) => {
      s.server.always("dies");
      await s.start({ max: 2, backoff });
      for (let n = 0; n < 100; n++) {
        s.acquire({ timeoutMs: 10 });
        await s.advance(10);
      }
      expect(s.server.times.length).toBeLessThanOrEqual(2 * (1_000 / 100 + 2));
      s.check();
    }),
  );
});

describe("a server that refuses for good, when the pool has another resource,", () => {
  const seldom = { minMs: 100, maxMs: 5_000 };

  test(
    "is what a caller is told of whose time is over, unless the other is given back to it",
    scene(async (s) => {
      await s.start({ max: 2, backoff: seldom });
      const holder = await s.hold();
      s.server.always("fatal");
      const late = s.acquire({ timeoutMs: 100 });
      const served = s.acquire({ timeoutMs: 200 });
      await s.advance(100);
      expect(late).toMatchObject({
        outcome: "ERR_POOL_OPEN_FAILED",
        error: { cause: { code: "EFATAL" }, waitedMs: 100 },
      });
      expect(s.pool.stats()).toMatchObject({ fatal: 1, waiting: 1, totals: { timedOut: 1 } });
      holder.release();
      await s.settle();
      expect(served.outcome).toBe("ok");
      s.check();
    }),
  );

  test(
    "is called again for one who waits, once in a maxMs, and the pool is as large as before when it is right again",
    scene(async (s) => {
      await s.start({ max: 3, maxOpening: 1, backoff: seldom });
      await s.hold();
      s.server.always("fatal");
      for (let round = 0; round < 120; round++) {
        s.acquire({ timeoutMs: 100 });
        await s.advance(100);
      }
      expect(s.server.times).toEqual([0, 0, 5_000, 10_000]);
      expect(s.pool.stats()).toMatchObject({ size: 2, ready: 1, fatal: 1 });
      s.server.always("ok");
      await s.advance(60_000);
      expect(s.server.times.length, "nobody waits").toBe(4);
      const callers = [s.acquire(), s.acquire()];
      await s.settle();
      expect(callers.map(({ outcome }) => outcome)).toEqual(["ok", "ok"]);
      expect(s.pool.stats()).toMatchObject({ size: 3, ready: 3, fatal: 0 });
      s.check();
    }),
  );

  test(
    "is not called again when that one is gone too: all are told at once, until recycle",
    scene(async (s) => {
      await s.start({ max: 2, backoff: seldom });
      const holder = await s.hold();
      s.server.always("fatal");
      s.acquire({ timeoutMs: 100 });
      await s.advance(100);
      holder.discard();
      await s.advance(60_000);
      expect(await s.outcome(s.pool.acquire())).toBe("ERR_POOL_OPEN_FAILED");
      expect(s.server.times.length).toBe(2);
      s.server.always("ok");
      await s.until(s.pool.recycle());
      await s.hold();
      s.check();
    }),
  );
});

describe("an opening", () => {
  test(
    "that hangs is given up at openTimeoutMs, and made again",
    scene(async (s) => {
      s.server.next("never");
      await s.start({ max: 1, openTimeoutMs: 1_000, backoff });
      const caller = s.acquire();
      await s.advance(1_100);
      expect([caller.outcome, s.server.times]).toEqual(["ok", [0, 1_000]]);
      expect(s.pool.stats().totals).toMatchObject({ openFailed: 1, opened: 1 });
      s.check();
    }),
  );

  test(
    "that ends too late gives a resource which is closed, and lent to nobody",
    scene(async (s) => {
      s.server.next({ ms: 1_500, deaf: true });
      await s.start({ max: 1, openTimeoutMs: 1_000, backoff });
      const caller = s.acquire();
      await s.advance(2_000);
      expect(caller.resource.id).toBe(1);
      expect(s.server.resources.map(({ late, closings }) => [late, closings.length])).toEqual([
        [false, 0],
        [true, 1],
      ]);
      s.check();
    }),
  );

  test(
    "that ends when nobody waits any more gives an idle resource",
    scene(async (s) => {
      s.server.always({ ms: 100 });
      await s.start();
      const caller = s.acquire({ timeoutMs: 50 });
      await s.advance(100);
      expect(caller.outcome).toBe("ERR_POOL_ACQUIRE_TIMEOUT");
      expect(s.pool.stats()).toMatchObject({ size: 1, idle: 1 });
      s.check();
    }),
  );

  test(
    "that fails for good has all who wait told at once, and those who come; no attempt is made until recycle",
    scene(async (s) => {
      s.server.always("fatal");
      await s.start({ max: 3, backoff });
      const callers = [s.acquire(), s.use()];
      await s.settle();
      expect(callers.map(({ outcome }) => outcome)).toEqual(["ERR_POOL_OPEN_FAILED", "ERR_POOL_OPEN_FAILED"]);
      expect(callers[0]?.error).toMatchObject({ retryable: false, cause: { code: "EFATAL" } });
      const { length } = s.server.times;
      expect(await s.outcome(s.pool.acquire())).toBe("ERR_POOL_OPEN_FAILED");
      expect(await s.outcome(s.pool.ready())).toBe("ERR_POOL_OPEN_FAILED");
      await s.advance(60_000);
      expect(s.server.times.length).toBe(length);
      s.check();
      s.server.always("ok");
      await s.until(s.pool.recycle());
      expect((await s.hold()).holds).toBe(true);
      s.check();
    }),
  );

  test(
    "that fails for good one after the other is not called in turns: of two attempts neither speaks for the other",
    scene(async (s) => {
      s.server.next(after<Opening>(5, "fatal"));
      s.server.always(after<Opening>(20, "fatal"));
      await s.start({ max: 3, backoff: { minMs: 1, maxMs: 2 } });
      const callers = Array.from({ length: 4 }, () => s.acquire({ timeoutMs: Infinity }));
      await s.advance(1_000);
      expect(s.server.times).toEqual([0, 0]);
      expect(callers.map(({ outcome }) => outcome)).toEqual(callers.map(() => "ERR_POOL_OPEN_FAILED"));
      s.check();
    }),
  );

  test(
    "that fails for good takes nothing from those who have a resource, or get one back",
    scene(async (s) => {
      await s.start({ max: 2, backoff });
      const holder = await s.hold();
      s.server.always("fatal");
      const caller = s.acquire();
      await s.settle();
      expect(caller.outcome).toBe("pending");
      expect(s.pool.stats()).toMatchObject({ ready: 1, fatal: 1 });
      holder.release();
      await s.settle();
      expect(caller.outcome).toBe("ok");
      caller.resource.lose();
      await s.settle();
      s.check();
    }),
  );
});

test(
  "1,000 callers of a server that says nothing are all told within their time, with the reason",
  scene(async (s) => {
    s.server.always("never");
    await s.start({ openTimeoutMs: 1_000 });
    const callers = Array.from({ length: 1_000 }, () => s.acquire({ timeoutMs: 5_000 }));
    await s.advance(5_020);
    expect(new Set(callers.map(({ outcome }) => outcome))).toEqual(new Set(["ERR_POOL_ACQUIRE_TIMEOUT"]));
    for (const { error } of callers) {
      expect(error).toMatchObject({ phase: "open", cause: { message: "opening took longer than 1000 ms" } });
    }
    s.check();
  }),
);

describe("a program", () => {
  test(
    "does not end while a caller without a limit waits for the next attempt, or for the end of one, and may end when he has left",
    scene(async (s) => {
      s.server.next("rejects", "never");
      await s.start({ max: 1, min: 1, backoff, openTimeoutMs: 1_000 });
      expect([s.pool.stats().waitingToReopen, s.runtime.keepAliveTimers], "nobody waits yet").toEqual([1, 0]);
      const gone = new AbortController();
      const caller = s.acquire({ timeoutMs: Infinity, signal: gone.signal });
      expect([s.runtime.keepAliveTimers, s.runtime.timers]).toEqual([1, 1]);
      await s.advance(100);
      expect([s.pool.stats().opening, s.runtime.keepAliveTimers]).toEqual([1, 1]);
      gone.abort(new Error("enough"));
      await s.settle();
      expect([caller.outcome, s.runtime.keepAliveTimers, s.runtime.timers]).toEqual(["enough", 0, 1]);
      const other = s.acquire({ timeoutMs: Infinity });
      expect(s.runtime.keepAliveTimers, "it was being opened already").toBe(1);
      await s.advance(999);
      expect(other.outcome).toBe("pending");
      await s.advance(1);
      expect([other.outcome, s.server.times]).toEqual(["ok", [0, 100, 1_100]]);
      s.check();
    }),
  );

  test(
    "does not end while somebody waits, without a limit, for the pool to be ready",
    scene(async (s) => {
      s.server.next("rejects");
      await s.start({ min: 1, backoff });
      const ready = s.follow("ready", s.pool.ready({ timeoutMs: Infinity }));
      expect(s.runtime.keepAliveTimers).toBe(1);
      await s.advance(100);
      expect([ready.outcome, s.runtime.keepAliveTimers]).toEqual(["ok", 0]);
    }),
  );

  test(
    "does not end before a lease that is out of time: a work, or whoever waits, is told so",
    scene(async (s) => {
      await s.start({ max: 1, leaseTimeoutMs: 1_000 });
      const work = s.use();
      await s.settle();
      const waits = s.acquire({ timeoutMs: Infinity });
      expect(s.runtime.keepAliveTimers).toBe(1);
      await s.advance(1_000);
      expect([work.outcome, waits.outcome]).toEqual(["ERR_LEASE_EXPIRED", "ok"]);
      waits.release();
      expect(s.runtime.keepAliveTimers).toBe(0);
    }),
  );
});
