/** The life of a pool: ready, another size, all new, closed, destroyed, supervised, and its processes killed. */

import { describe, expect, test } from "vitest";
import { type AcquireTimeoutError, CheckoutPool, OptionError, Supervisor } from "../../src/index.ts";
import type { Resource } from "./server.ts";
import { atRest, child, codeOf, scene } from "./scene.ts";

describe("ready", () => {
  test(
    "opens one when there is none, and resolves when it is open",
    scene(async (s) => {
      s.server.always({ ms: 100 });
      await s.start();
      const ready = s.follow("ready", s.pool.ready());
      await s.advance(99);
      expect(ready.outcome).toBe("pending");
      await s.advance(1);
      expect([ready.outcome, s.server.times.length, s.pool.stats().idle]).toEqual(["ok", 1, 1]);
    }),
  );

  test(
    "opens as many as were asked for, or min if that is more, and counts what is out",
    scene(async (s) => {
      await s.start({ min: 2, max: 6 });
      await s.until(s.pool.ready());
      expect(s.pool.stats().ready).toBe(2);
      await s.holdAll(2);
      await s.until(s.pool.ready({ min: 5 }));
      expect(s.pool.stats()).toMatchObject({ ready: 5, idle: 3, used: 2 });
      s.check();
    }),
  );

  test(
    "keeps what it has opened no longer than anybody keeps what is idle",
    scene(async (s) => {
      await s.start({ idleTimeoutMs: 1_000 });
      await s.until(s.pool.ready({ min: 3 }));
      await s.advance(1_000);
      expect([s.pool.stats().size, s.server.times.length]).toEqual([0, 3]);
    }),
  );

  test(
    "asked for by two opens what the larger needs, and no more once that one has given up",
    scene(async (s) => {
      s.server.always({ ms: 100 });
      await s.start({ maxOpening: 1 });
      const gone = new AbortController();
      const many = s.follow("many", s.pool.ready({ min: 8, signal: gone.signal }));
      const few = s.follow("few", s.pool.ready({ min: 3 }));
      await s.advance(150);
      gone.abort(new Error("enough"));
      await s.advance(10_000);
      expect([many.outcome, few.outcome]).toEqual(["enough", "ok"]);
      expect(s.server.times.length).toBe(3);
      s.check();
    }),
  );

  test(
    "is over after its time, with the last failure to open",
    scene(async (s) => {
      s.server.always("rejects");
      await s.start();
      const error = await s.until(s.pool.ready({ timeoutMs: 2_500 }).catch((thrown: unknown) => thrown));
      expect(error).toMatchObject({ code: "ERR_POOL_ACQUIRE_TIMEOUT", phase: "open", waitedMs: 2_500 });
      expect((error as AcquireTimeoutError).cause).toMatchObject({ code: "ECONNREFUSED" });
      await s.advance(60_000);
      expect(s.pool.stats().size, "nobody wants one any more").toBe(0);
    }),
  );

  test(
    "is over after 30 s when nothing is said",
    scene(async (s) => {
      s.server.always("never");
      await s.start();
      expect(await s.outcome(s.pool.ready())).toBe("ERR_POOL_ACQUIRE_TIMEOUT");
      expect(s.runtime.now()).toBe(30_000);
    }),
  );

  test(
    "refuses more than max, what is no option, and a signal that is aborted",
    scene(async (s) => {
      await s.start({ max: 3 });
      expect(await s.outcome(s.pool.ready({ min: 4 }))).toBe("ERR_OPTION");
      expect(await s.outcome(s.pool.ready({ count: 4 } as never))).toBe("ERR_OPTION");
      expect(await s.outcome(s.pool.ready({ signal: AbortSignal.abort(new Error("no")) }))).toBe("no");
      expect(s.server.times).toEqual([]);
    }),
  );

  test(
    "ends with the pool",
    scene(async (s) => {
      s.server.always("never");
      await s.start();
      const ready = s.follow("ready", s.pool.ready());
      await s.until(s.pool.close());
      expect(ready.outcome).toBe("ERR_POOL_CLOSED");
      expect(await s.outcome(s.pool.ready())).toBe("ERR_POOL_CLOSED");
    }),
  );
});

describe("resize", () => {
  test(
    "tells those who wait for more than there will be",
    scene(async (s) => {
      s.server.always({ ms: 1_000 });
      await s.start({ max: 5 });
      const [five, two] = [5, 2].map((min) => s.follow(`ready ${min}`, s.pool.ready({ min })));
      await s.advance(100);
      await s.until(s.pool.resize(2));
      expect([five?.outcome, two?.outcome]).toEqual(["ERR_OPTION", "pending"]);
      await s.advance(1_000);
      expect(two?.outcome).toBe("ok");
      s.check();
    }),
  );

  test(
    "to more serves those who wait",
    scene(async (s) => {
      await s.start({ max: 1 });
      await s.hold();
      const callers = [s.acquire(), s.acquire()];
      s.server.max = 3;
      await s.until(s.pool.resize(3));
      await s.settle();
      expect(callers.map(({ outcome }) => outcome)).toEqual(["ok", "ok"]);
      s.check();
    }),
  );

  test(
    "to less closes the idle that are too many, the oldest first, and lowers min",
    scene(async (s) => {
      await s.start({ min: 4, max: 6 });
      await s.until(s.pool.ready({ min: 6 }));
      s.server.max = 2;
      await s.until(s.pool.resize(2));
      expect(s.server.resources.map(({ closings }) => closings.length)).toEqual([1, 1, 1, 1, 0, 0]);
      await s.advance(10_000_000);
      expect(s.pool.stats()).toMatchObject({ size: 2, idle: 2 });
      s.check();
    }),
  );

  test(
    "to less interrupts nobody: it is done when those who are too many have been given back",
    scene(async (s) => {
      await s.start({ max: 4 });
      const holders = await s.holdAll(4);
      const waits = s.acquire();
      const resized = s.follow("resize", s.pool.resize(1));
      s.server.max = 1;
      for (const holder of holders.slice(0, 3)) {
        await s.advance(10);
        expect(resized.outcome).toBe("pending");
        holder.release();
      }
      await s.settle();
      expect([resized.outcome, waits.outcome, s.pool.stats().size]).toEqual(["ok", "pending", 1]);
      holders[3]?.release();
      await s.settle();
      expect(waits.outcome).toBe("ok");
      s.check();
    }),
  );

  test(
    "to less drops what is not open yet before what is",
    scene(async (s) => {
      await s.start({ max: 4, maxOpening: 4 });
      (await s.hold()).release();
      s.server.always({ ms: 1_000 });
      const ready = s.follow("ready", s.pool.ready({ min: 3, timeoutMs: 100 }));
      await s.advance(10);
      expect(s.pool.stats()).toMatchObject({ idle: 1, opening: 2 });
      await s.until(s.pool.resize(1));
      expect(s.pool.stats()).toMatchObject({ size: 1, idle: 1 });
      await s.advance(1_000);
      expect(ready.outcome).toBe("ERR_OPTION");
      s.check();
    }),
  );

  test(
    "to less drops an opening for which there is no room beside what is leaving",
    scene(async (s) => {
      await s.start({ max: 3 });
      const holder = await s.hold();
      holder.resource.goAway();
      s.server.always({ ms: 100 });
      const waits = s.acquire();
      await s.advance(10);
      expect(s.pool.stats()).toMatchObject({ draining: 1, opening: 1 });
      const resized = s.follow("resize", s.pool.resize(1));
      s.server.max = 1;
      await s.advance(500);
      expect([resized.outcome, waits.outcome, s.pool.stats().size]).toEqual(["ok", "pending", 1]);
      holder.release();
      await s.advance(100);
      expect(waits.resource.id).toBe(2);
      s.check();
    }),
  );

  test(
    "refuses what is no size, and a pool that is closed",
    scene(async (s) => {
      await s.start();
      for (const size of [0, -1, 1.5, Number.NaN, Infinity, "3"] as number[]) {
        expect(await s.outcome(s.pool.resize(size))).toBe("ERR_OPTION");
      }
      await s.until(s.pool.close());
      expect(await s.outcome(s.pool.resize(3))).toBe("ERR_POOL_CLOSED");
    }),
  );
});

describe("recycle", () => {
  test(
    "is done when min are ready again, however often that fails, and the program does not end before",
    scene(async (s) => {
      await s.start({ min: 2, backoff: { kind: "exponential", minMs: 1_000 } });
      await s.until(s.pool.ready());
      const startedAt = s.runtime.now();
      s.server.next("rejects", "rejects", "ok", "rejects");
      const recycled = s.follow("recycle", s.pool.recycle());
      await s.settle();
      expect([recycled.outcome, s.pool.stats().ready]).toEqual(["pending", 0]);
      expect(s.runtime.keepAliveTimers).toBe(2);
      await s.advance(1_000);
      expect([recycled.outcome, s.pool.stats().ready]).toEqual(["pending", 1]);
      await s.advance(1_000);
      expect([recycled.outcome, s.pool.stats().ready]).toEqual(["ok", 2]);
      expect(s.runtime.now() - startedAt).toBe(2_000);
      expect(s.runtime.keepAliveTimers).toBe(0);
      s.check();
    }),
  );

  test(
    "is told when the new ones can never be opened",
    scene(async (s) => {
      await s.start({ min: 1 });
      s.server.always("fatal");
      expect(await s.outcome(s.pool.recycle())).toBe("ERR_POOL_OPEN_FAILED");
      expect(s.runtime.now()).toBe(0);
      s.server.always("ok");
      await s.until(s.pool.recycle());
      expect(s.pool.stats()).toMatchObject({ ready: 1, fatal: 0 });
    }),
  );

  test(
    "replaces what is idle at once, what is out when it is given back, and is done then",
    scene(async (s) => {
      await s.start({ min: 3, max: 3 });
      const holder = await s.hold();
      const recycled = s.follow("recycle", s.pool.recycle());
      await s.advance(10);
      expect(s.server.resources.map(({ closings }) => closings.length).slice(0, 3)).toEqual([1, 1, 0]);
      expect([recycled.outcome, holder.holds]).toEqual(["pending", true]);
      s.check();
      holder.release();
      await s.settle();
      expect(recycled.outcome).toBe("ok");
      await s.advance(10);
      expect(s.pool.stats()).toMatchObject({ size: 3, idle: 3, totals: { opened: 6, closed: 3, lost: 0 } });
      s.check();
    }),
  );

  test.each(["lost", "killed"])("has replaced what was %s meanwhile: its successor, in the same place, is new", (how) =>
    scene(async (s) => {
      await s.start({ min: 1, max: 1 });
      await s.hold();
      const recycled = s.follow("recycle", s.pool.recycle({ overMs: 100 }));
      await s.settle();
      expect(recycled.outcome).toBe("pending");
      if (how === "lost") s.server.resources[0]?.lose();
      else s.connections[0]?.kill();
      await s.advance(10_000);
      expect(recycled.outcome).toBe("ok");
      expect(s.pool.stats()).toMatchObject({ size: 1, idle: 1, totals: { opened: 2 } });
      s.check();
    })(),
  );

  test(
    "spreads the closings over the time it is given: the first now, the last at its end",
    scene(async (s) => {
      await s.start({ min: 5, max: 5 });
      await s.until(s.pool.ready());
      const startedAt = s.runtime.now();
      const recycled = s.follow("recycle", s.pool.recycle({ overMs: 1_000 }));
      await s.settle();
      expect(s.runtime.keepAliveTimers, "somebody waits for it").toBe(1);
      await s.advance(999);
      expect(recycled.outcome).toBe("pending");
      await s.advance(1);
      const at = s.server.resources.slice(0, 5).map(({ closingSince = 0 }) => closingSince - startedAt);
      expect(at).toEqual([0, 250, 500, 750, 1_000]);
      expect(recycled.outcome).toBe("ok");
      expect(s.pool.stats(), "there were never fewer than four").toMatchObject({ size: 5, ready: 5 });
      s.check();
    }),
  );

  test(
    "of a pool that has nothing is done at once",
    scene(async (s) => {
      await s.start();
      await s.until(s.pool.recycle({ overMs: 10_000 }));
      expect([s.runtime.now(), s.runtime.timers]).toEqual([0, 0]);
    }),
  );

  test(
    "makes an opening that is under way begin again: it may have the old configuration",
    scene(async (s) => {
      s.server.next({ ms: 1_000, deaf: true });
      await s.start({ max: 1 });
      const caller = s.acquire();
      await s.advance(100);
      await s.until(s.pool.recycle());
      await s.settle();
      expect([caller.outcome, caller.resource.openedAt]).toEqual(["ok", 100]);
      await s.advance(1_000);
      expect(s.server.resources[1]?.closings.length).toBe(1);
      s.check();
    }),
  );

  test(
    "does not have a server that is down called any sooner",
    scene(async (s) => {
      s.server.always("rejects");
      await s.start({ max: 1, backoff: { kind: "exponential", minMs: 1_000 } });
      s.acquire();
      await s.advance(100);
      await s.until(s.pool.recycle());
      await s.advance(899);
      expect(s.server.times).toEqual([0]);
      await s.advance(1);
      expect(s.server.times).toEqual([0, 1_000]);
      s.check();
    }),
  );

  test(
    "ends with the pool, and refuses one that is closed",
    scene(async (s) => {
      await s.start();
      await s.hold();
      const recycled = s.follow("recycle", s.pool.recycle());
      await s.until(s.pool.destroy());
      expect(recycled.outcome).toBe("ERR_POOL_CLOSED");
      expect(await s.outcome(s.pool.recycle())).toBe("ERR_POOL_CLOSED");
      expect(await s.outcome(s.pool.recycle({ overMs: -1 }))).toBe("ERR_OPTION");
    }),
  );
});

describe("close", () => {
  test(
    "refuses new calls, serves those already made, those in line too, and then stops",
    scene(async (s) => {
      await s.start({ max: 1 });
      const holder = await s.hold();
      const [waits, work] = [s.acquire(), s.use()];
      const report = s.pool.close();
      const closed = s.follow("close", report);
      expect(await s.outcome(s.pool.acquire())).toBe("ERR_POOL_CLOSED");
      expect(await s.outcome(s.pool.use(() => 1))).toBe("ERR_POOL_CLOSED");
      expect(s.pool.tryAcquire()).toBeUndefined();
      await s.advance(100);
      expect(holder.holds).toBe(true);
      holder.release();
      await s.settle();
      waits.release();
      await s.settle();
      expect([work.started, closed.outcome]).toEqual([true, "pending"]);
      work.end();
      await s.settle();
      expect(await s.until(report)).toEqual({ finished: 3, aborted: 0 });
      expect(s.pool.stats()).toMatchObject(atRest);
      expect(s.runtime.timers).toBe(0);
    }),
  );

  test(
    "opens what those in line still need",
    scene(async (s) => {
      s.server.always({ ms: 100 });
      await s.start({ min: 1 });
      const waits = [s.acquire(), s.acquire()];
      const report = s.pool.close();
      await s.advance(100);
      expect(waits.map(({ outcome }) => outcome)).toEqual(["ok", "ok"]);
      for (const each of waits) each.release();
      expect(await s.until(report)).toEqual({ finished: 2, aborted: 0 });
    }),
  );

  test(
    "at its deadline takes back what is out, and tells who waits and who works",
    scene(async (s) => {
      await s.start({ max: 2 });
      const holder = await s.hold();
      const work = s.use();
      const waits = s.acquire({ timeoutMs: Infinity });
      const short = s.acquire({ timeoutMs: 100 });
      const report = s.pool.close({ timeoutMs: 1_000 });
      await s.advance(999);
      expect([holder.holds, waits.outcome, short.outcome]).toEqual([true, "pending", "ERR_POOL_ACQUIRE_TIMEOUT"]);
      s.check();
      await s.advance(1);
      expect(await s.until(report)).toEqual({ finished: 1, aborted: 3 });
      expect([waits.outcome, work.outcome, holder.holds]).toEqual(["ERR_POOL_CLOSED", "ERR_POOL_CLOSED", false]);
      expect([codeOf(holder.lease?.signal.reason), work.signal?.aborted]).toEqual(["ERR_POOL_CLOSED", true]);
      holder.release();
    }),
  );

  test(
    "has 30 s when nothing is said, and gives every caller the same promise",
    scene(async (s) => {
      await s.start();
      await s.hold();
      const report = s.pool.close();
      expect(s.pool.close({ timeoutMs: 1 })).toBe(report);
      expect(await s.until(report)).toEqual({ finished: 0, aborted: 1 });
      expect(s.runtime.now()).toBe(30_000);
      await s.until(s.pool[Symbol.asyncDispose]());
    }),
  );

  test(
    "waits for a reset, which is nobody's call, and not for a ping",
    scene(async (s) => {
      await s.start({ min: 1, max: 2, hooks: ["check", "reset"], pingIdleMs: 100 });
      s.server.resetting = () => ({ ms: 50 });
      s.server.checking = () => "never";
      const [holder] = await s.holdAll(2);
      s.holders[1]?.release();
      await s.advance(150);
      expect(s.pool.stats()).toMatchObject({ used: 2, inFlight: 1 });
      holder?.release();
      const startedAt = s.runtime.now();
      expect(await s.until(s.pool.close())).toEqual({ finished: 0, aborted: 0 });
      expect(s.runtime.now() - startedAt).toBe(50);
      expect(s.runtime.timers).toBe(0);
    }),
  );

  test(
    "resolves when every resource is closed, the slow ones too, and no later than closeTimeoutMs allows",
    scene(async (s) => {
      await s.start({ min: 3, max: 3, closeTimeoutMs: 700 });
      await s.until(s.pool.ready());
      s.server.closing = ({ id }) => (["ok", { ms: 400 }, "never"] as const)[id - 1] ?? "ok";
      const failed = s.events("connection.closeFailed");
      await s.until(s.pool.close());
      expect(s.runtime.now()).toBe(700);
      expect(failed.length).toBe(1);
    }),
  );

  test(
    "of a pool that opens in vain does not wait for it",
    scene(async (s) => {
      s.server.always("never");
      await s.start({ min: 2 });
      expect(await s.until(s.pool.close())).toEqual({ finished: 0, aborted: 0 });
      expect([s.runtime.now(), s.runtime.timers]).toEqual([0, 0]);
    }),
  );

  test(
    "refuses what is no option, and is not closed by that",
    scene(async (s) => {
      await s.start();
      expect(await s.outcome(s.pool.close({ timeoutMs: -1 }))).toBe("ERR_OPTION");
      (await s.hold()).release();
    }),
  );

  test(
    "with a timeout of 0 is by force, at once",
    scene(async (s) => {
      await s.start();
      await s.hold();
      expect(await s.until(s.pool.close({ timeoutMs: 0 }))).toEqual({ finished: 0, aborted: 1 });
      expect(s.runtime.now()).toBe(0);
    }),
  );
});

describe("destroy", () => {
  test(
    "tells whoever waits or works the reason, and closes everything now",
    scene(async (s) => {
      await s.start({ max: 2 });
      const reason = new Error("out of memory");
      const holder = await s.hold();
      const work = s.use();
      await s.settle();
      const waits = [s.acquire(), s.use()];
      const destroyed = s.pool.destroy(reason);
      expect(s.pool.destroy()).toBe(destroyed);
      await s.until(destroyed);
      expect([...waits, work].map(({ error }) => error)).toEqual([reason, reason, reason]);
      expect(holder.lease?.signal.reason).toBe(reason);
      expect(s.server.resources.map(({ closings }) => closings)).toEqual([["killed"], ["killed"]]);
      expect(await s.outcome(s.pool.acquire())).toBe("ERR_POOL_CLOSED");
      expect(s.runtime.timers).toBe(0);
    }),
  );

  test(
    "ends a close that is pending",
    scene(async (s) => {
      await s.start({ max: 1 });
      await s.hold();
      const waits = s.acquire();
      const report = s.pool.close();
      await s.advance(10);
      await s.until(s.pool.destroy());
      expect(await s.until(report)).toEqual({ finished: 0, aborted: 2 });
      expect(waits.outcome).toBe("ERR_POOL_CLOSED");
      expect(s.runtime.now()).toBe(10);
    }),
  );

  test(
    "during checks and resets leaves nothing of them",
    scene(async (s) => {
      await s.start({ max: 3, maxOpening: 3, hooks: ["check", "reset"], checkAfterIdleMs: 100 });
      const holders = await s.holdAll(3);
      holders[0]?.release();
      await s.advance(100);
      s.server.checking = () => "never";
      s.server.resetting = () => "never";
      s.acquire();
      holders[1]?.release();
      await s.settle();
      expect(s.pool.stats()).toMatchObject({ used: 3, inFlight: 1, waiting: 1 });
      await s.until(s.pool.destroy());
      expect(s.runtime.timers).toBe(0);
    }),
  );
});

describe("a pool under a supervisor of the user's", () => {
  test(
    "is put back when it is killed, and closes what it had; whoever waited is told",
    scene(async (s) => {
      await s.start(); // The scene's own; the one under test is below.
      s.server.max = Infinity;
      const pools: CheckoutPool<Resource>[] = [];
      const spec = CheckoutPool.childSpec({
        connector: s.server.connector(),
        max: 1,
        runtime: s.runtime,
        name: "child",
      });
      const start = async (): Promise<CheckoutPool<Resource>> => {
        const pool = (await spec.start()) as CheckoutPool<Resource>;
        pools.push(pool);
        return pool;
      };
      const died = s.events("pool.died");
      const top = await Supervisor.start([{ ...spec, start }], { strategy: "one_for_one", runtime: s.runtime });
      const [first] = pools as [CheckoutPool<Resource>];
      const lease = await s.until(first.acquire());
      const waits = s.outcome(first.acquire());
      first.process.kill();
      expect(await waits).toBe("ERR_POOL_CLOSED");
      expect([lease.signal.aborted, codeOf(await first.acquire().catch((error: unknown) => error))]).toEqual([
        true,
        "ERR_POOL_CLOSED",
      ]);
      await s.settle();
      expect([pools.length, died]).toEqual([2, [{ pool: "child", reason: "killed" }]]);
      const second = pools[1] as CheckoutPool<Resource>;
      expect(await s.until(second.use((resource) => resource.id))).toBe(2);
      await s.until(top.stop());
      expect(second.process.alive).toBe(false);
      expect(spec).toMatchObject({ id: "child", type: "supervisor" });
      expect(await s.outcome(second.acquire())).toBe("ERR_POOL_CLOSED");
    }),
  );

  test(
    "lets leases finish when it is shut down, for as long as a connection may take",
    scene(async (s) => {
      await s.start({ max: 2 });
      const [a, b] = await s.holdAll(2);
      const waits = s.acquire({ timeoutMs: Infinity });
      const stopped = s.follow("stop", s.pool.process.stop({ reason: "shutdown", timeoutMs: Infinity }));
      await s.advance(1_000);
      expect([a?.holds, b?.holds]).toEqual([true, true]);
      a?.release();
      await s.settle();
      expect([a?.resource.closings, waits.outcome], "it is lent to nobody else").toEqual([["normal"], "pending"]);
      await s.advance(4_000);
      expect([b?.holds, codeOf(b?.lease?.signal.reason)]).toEqual([false, "ERR_CONNECTION_LOST"]);
      expect([stopped.outcome, waits.outcome]).toEqual(["ok", "ERR_POOL_CLOSED"]);
    }),
  );
});

describe("when somebody kills", () => {
  test(
    "the process of an idle resource, the resource is closed before another is opened in its place",
    scene(async (s) => {
      s.server.closing = () => ({ ms: 300 });
      await s.start({ min: 1, max: 1 });
      s.connections[0]?.kill();
      expect(s.pool.stats()).toMatchObject({ size: 1, ready: 0, idle: 0 });
      const caller = s.acquire();
      await s.advance(299);
      expect([caller.outcome, s.server.times]).toEqual(["pending", [0]]);
      s.check();
      await s.advance(1);
      expect([caller.outcome, s.server.times]).toEqual(["ok", [0, 300]]);
      s.check();
    }),
  );

  test(
    "the process of an idle resource that nobody needs, no other is opened",
    scene(async (s) => {
      await s.start({ max: 2 });
      (await s.hold()).release();
      s.connections[0]?.kill();
      await s.advance(60_000);
      expect([s.server.times.length, s.pool.stats().size]).toEqual([1, 0]);
    }),
  );

  test(
    "the process of a leased resource, its holder hears of a loss, and whoever waits is served",
    scene(async (s) => {
      await s.start({ max: 1 });
      const holder = await s.hold();
      const waits = s.acquire();
      s.connections[0]?.kill();
      expect([holder.holds, codeOf(holder.lease?.signal.reason)]).toEqual([false, "ERR_CONNECTION_LOST"]);
      await s.settle();
      expect(waits.resource.id).toBe(2);
      s.check();
    }),
  );

  test(
    "a connection that is leaving, its place is not another's before the resource is closed",
    scene(async (s) => {
      s.server.closing = () => ({ ms: 300 });
      await s.start({ max: 1 });
      const holder = await s.hold();
      const waits = s.acquire();
      holder.discard();
      await s.advance(100);
      s.connections[0]?.kill();
      await s.advance(199);
      expect([waits.outcome, s.pool.stats().draining]).toEqual(["pending", 1]);
      await s.advance(1);
      expect(waits.outcome).toBe("ok");
      expect(holder.resource.closings.length).toBe(1);
      s.check();
    }),
  );

  test(
    "the supervisor of the connections, all are replaced, few at a time and no more than are needed",
    scene(async (s) => {
      await s.start({ min: 3, max: 8 });
      await s.until(s.pool.ready());
      await s.holdAll(8);
      s.server.always({ ms: 50 });
      s.server.closing = () => ({ ms: 20 });
      child(s.pool.tree(), "connections").process.kill();
      expect(s.holders.filter(({ holds }) => holds)).toEqual([]);
      expect(s.pool.stats()).toMatchObject({ ready: 0, idle: 0, inFlight: 0 });
      await s.settle();
      expect(s.pool.stats().opening).toBe(2);
      s.check();
      await s.advance(1_000);
      expect(s.server.resources.filter(({ closings }) => closings.length === 0).length).toBe(3);
      s.check();
    }),
  );

  test(
    "the registry, leases go on and are lent to nobody else, and then everything is new",
    scene(async (s) => {
      await s.start({ max: 2 });
      const holder = await s.hold();
      (await s.hold()).release();
      child(s.pool.tree(), "registry").process.kill();
      expect(s.pool.stats()).toMatchObject({ idle: 0 });
      expect(s.tryAcquire()).toBeUndefined();
      const waits = s.acquire();
      await s.advance(100);
      expect([holder.holds, waits.outcome]).toEqual([true, "pending"]);
      holder.release();
      await s.settle();
      expect(holder.resource.closings.length).toBe(1);
      await s.advance(10);
      expect(waits.resource.id).toBe(3);
      s.check();
    }),
  );

  test(
    "more than the restarts allowed, the pool ends, and tells everybody",
    scene(async (s) => {
      await s.start({ min: 1, max: 1, maxRestarts: 1, maxSeconds: 5 });
      const died = s.events("pool.died");
      await s.hold();
      for (let n = 0; n < 6; n++) {
        s.connections[0]?.kill();
        await s.advance(10);
      }
      await s.advance(1_000);
      expect(died.length).toBe(1);
      expect(await s.outcome(s.pool.acquire())).toBe("ERR_POOL_CLOSED");
      expect(await s.until(s.pool.close())).toEqual({ finished: 0, aborted: 0 });
    }),
  );

  test(
    "the pool during its close, the close resolves",
    scene(async (s) => {
      await s.start({ max: 1 });
      const holder = await s.hold();
      const report = s.pool.close();
      await s.advance(10);
      s.pool.process.kill();
      expect(await s.until(report)).toEqual({ finished: 0, aborted: 1 });
      expect(holder.holds).toBe(false);
    }),
  );

  test(
    "a server that is down costs no restarts",
    scene(async (s) => {
      s.server.always("rejects");
      const gaveUp = s.events("supervisor.gaveUp");
      await s.start({ min: 5, max: 5, maxRestarts: 0, backoff: { minMs: 10, maxMs: 10 } });
      await s.advance(5_000);
      expect([gaveUp, s.pool.process.alive]).toEqual([[], true]);
    }),
  );
});

test(
  "the tree is that of every pool",
  scene(async (s) => {
    await s.start({ min: 2 });
    const tree = s.pool.tree();
    expect([tree.id, tree.children.map(({ id }) => id)]).toEqual(["scene", ["registry", "connections"]]);
    expect(child(tree, "connections").children.map(({ id }) => id)).toEqual(["connection 0", "connection 1"]);
    expect(s.pool.process).toBe(tree.process);
  }),
);

test("a pool has one endpoint, and says so", async () => {
  const connector = { name: "many", open: async () => 1, endpoints: [{ id: "a" }, { id: "b" }] };
  await expect(CheckoutPool.start({ connector })).rejects.toThrow(OptionError);
  const changing = {
    ...connector,
    endpoints: (async function* () {
      yield [];
    })(),
  };
  await expect(CheckoutPool.start({ connector: changing })).rejects.toThrow(/one endpoint/);
});
