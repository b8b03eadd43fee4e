/** Those who wait for a resource: their order, their number, their time, and what becomes of one who leaves. */

import { getEventListeners } from "node:events";
import { describe, expect, test } from "vitest";
import type { AcquireTimeoutError } from "../../src/index.ts";
import { scene } from "./scene.ts";

describe("callers who wait", () => {
  test(
    "are served in the order they came",
    scene(async (s) => {
      await s.start({ max: 1 });
      let holder = await s.hold();
      const line = Array.from({ length: 20 }, () => s.acquire());
      for (const next of line) {
        holder.release();
        await s.settle();
        expect(line.filter(({ outcome }) => outcome === "pending")[0]).toBe(line[line.indexOf(next) + 1]);
        holder = next;
      }
      s.check();
    }),
  );

  test(
    "are served by priority first, those of one priority in the order they came",
    scene(async (s) => {
      await s.start({ max: 1 });
      let holder = await s.hold();
      const asked = [0, 5, -1, 5, 0, Infinity, undefined, 0.5];
      const line = asked.map((priority) => s.acquire(priority === undefined ? undefined : { priority }));
      const served: number[] = [];
      for (let turn = 0; turn < line.length; turn++) {
        holder.release();
        await s.settle();
        const at = line.findIndex((each, index) => each.outcome === "ok" && !served.includes(index));
        served.push(at);
        holder = line[at] as typeof holder;
      }
      expect(served).toEqual([5, 1, 3, 7, 0, 4, 6, 2]);
    }),
  );

  test(
    "use and acquire stand in one line, with one idea of priority",
    scene(async (s) => {
      await s.start({ max: 1 });
      const holder = await s.hold();
      const low = s.acquire();
      const high = s.use({ priority: 1 });
      holder.release();
      await s.settle();
      expect([high.started, low.outcome]).toEqual([true, "pending"]);
      high.end();
      await s.settle();
      expect(low.outcome).toBe("ok");
    }),
  );

  test(
    "are no more than the limit; the next is turned away at once",
    scene(async (s) => {
      await s.start({ max: 1, queue: { limit: 2 } });
      const holder = await s.hold();
      const line = [s.acquire(), s.acquire(), s.acquire()];
      await s.settle();
      expect(line.map(({ outcome }) => outcome)).toEqual(["pending", "pending", "ERR_POOL_QUEUE_FULL"]);
      expect(line[2]?.error).toMatchObject({ retryable: true, stats: { waiting: 2, used: 1 } });
      s.check();
      holder.release();
      await s.settle();
      expect(await s.outcome(s.pool.acquire({ timeoutMs: 1 }))).toBe("ERR_POOL_ACQUIRE_TIMEOUT");
      expect(s.pool.stats().totals).toMatchObject({ rejected: 1, timedOut: 1 });
    }),
  );

  test(
    "are a thousand at most when nothing is said",
    scene(async (s) => {
      await s.start({ max: 1 });
      await s.hold();
      const line = Array.from({ length: 1_001 }, () => s.acquire());
      await s.settle();
      expect(line.filter(({ outcome }) => outcome === "pending").length).toBe(1_000);
      expect(line.at(-1)?.outcome).toBe("ERR_POOL_QUEUE_FULL");
      s.check();
    }),
  );

  test(
    "with a limit of 0 do not exist: a resource that is idle is lent all the same",
    scene(async (s) => {
      await s.start({ max: 1, min: 1, queue: { limit: 0 } });
      const holder = await s.hold();
      expect(await s.outcome(s.pool.acquire())).toBe("ERR_POOL_QUEUE_FULL");
      holder.release();
      expect((await s.hold()).resource).toBe(holder.resource);
    }),
  );

  test(
    "do not count when there is room to open one for them: a limit of 0 opens and serves as many as max",
    scene(async (s) => {
      s.server.always({ ms: 100 });
      await s.start({ max: 3, maxOpening: 1, queue: { limit: 0 } });
      const callers = Array.from({ length: 4 }, () => s.acquire());
      await s.settle();
      expect(callers.map(({ outcome }) => outcome)).toEqual(["pending", "pending", "pending", "ERR_POOL_QUEUE_FULL"]);
      await s.advance(300);
      expect(callers.slice(0, 3).map(({ at }) => at)).toEqual([100, 200, 300]);
      expect(await s.outcome(s.pool.acquire())).toBe("ERR_POOL_QUEUE_FULL");
      s.check();
      callers[0]?.discard();
      const next = s.acquire();
      await s.advance(100);
      expect(next.outcome, "one is opened in the place of what was discarded").toBe("ok");
      s.check();
    }),
  );

  test(
    "do not count when what is idle is being checked for them",
    scene(async (s) => {
      s.server.checking = () => ({ ms: 50 });
      await s.start({ max: 1, hooks: ["check"], checkAfterIdleMs: 10, queue: { limit: 1 } });
      (await s.hold()).release();
      await s.advance(10);
      const callers = [s.acquire(), s.acquire(), s.acquire()];
      await s.advance(50);
      expect(callers.map(({ outcome }) => outcome)).toEqual(["ok", "pending", "ERR_POOL_QUEUE_FULL"]);
      s.check();
    }),
  );

  test(
    "have one timer for all of them",
    scene(async (s) => {
      await s.start({ max: 1 });
      await s.hold();
      const before = s.runtime.timers;
      for (let n = 0; n < 500; n++) s.acquire();
      expect(s.runtime.timers - before).toBe(1);
      expect(s.runtime.keepAliveTimers, "somebody waits for it").toBeGreaterThan(0);
    }),
  );
});

describe("a caller whose time is over", () => {
  test(
    "gets an error after 5 s, or after its own time, and its place is the next one's",
    scene(async (s) => {
      await s.start({ max: 1 });
      const holder = await s.hold();
      const callers = [
        s.acquire(),
        s.acquire({ timeoutMs: 100 }),
        s.use({ timeoutMs: 200 }),
        s.acquire({ timeoutMs: Infinity }),
      ];
      await s.advance(10_000);
      expect(callers.map(({ at }) => at)).toEqual([5_000, 100, 200, undefined]);
      expect(s.pool.stats()).toMatchObject({ waiting: 1, totals: { timedOut: 3 } });
      holder.release();
      await s.settle();
      expect(callers[3]?.outcome).toBe("ok");
      s.check();
    }),
  );

  test(
    "is told that it waited for its turn when resources were out",
    scene(async (s) => {
      await s.start({ max: 1 });
      await s.hold();
      const caller = s.acquire({ timeoutMs: 100 });
      await s.advance(100);
      const error = caller.error as AcquireTimeoutError;
      expect(error).toMatchObject({ code: "ERR_POOL_ACQUIRE_TIMEOUT", phase: "queue", waitedMs: 100, retryable: true });
      expect(error.stats).toMatchObject({ size: 1, used: 1, inFlight: 1 });
      expect(error.cause).toBeUndefined();
      expect(error.message).toMatch(/hold too long/);
    }),
  );

  test(
    "is told that it waited for one to open when none was, and why none did",
    scene(async (s) => {
      s.server.always("rejects");
      await s.start({ max: 1 });
      const caller = s.acquire({ timeoutMs: 100 });
      await s.advance(100);
      expect(caller.error).toMatchObject({ phase: "open", cause: { code: "ECONNREFUSED" } });
    }),
  );

  test(
    "is told that it waited for a check when that is what went on",
    scene(async (s) => {
      await s.start({ max: 1, hooks: ["check"], checkAfterIdleMs: 10 });
      (await s.hold()).release();
      await s.advance(10);
      s.server.checking = () => "never";
      const caller = s.acquire({ timeoutMs: 100 });
      await s.advance(100);
      expect(caller.error).toMatchObject({ phase: "check" });
      s.check();
    }),
  );

  test(
    "is told what keeps others from opening, though one resource is there and out",
    scene(async (s) => {
      await s.start({ max: 2 });
      await s.hold();
      s.server.always("rejects");
      const caller = s.acquire({ timeoutMs: 100 });
      await s.advance(100);
      expect(caller.error).toMatchObject({ phase: "open", cause: { code: "ECONNREFUSED" } });
      expect((caller.error as Error).message).toContain("see the cause");
    }),
  );

  test(
    "is not told of failures that are past: the server has been reached since",
    scene(async (s) => {
      s.server.next("rejects");
      await s.start({ max: 1 });
      expect(await s.outcome(s.pool.acquire({ timeoutMs: 10 }))).toBe("ERR_POOL_ACQUIRE_TIMEOUT");
      await s.advance(60_000);
      await s.hold();
      const caller = s.acquire({ timeoutMs: 100 });
      await s.advance(100);
      expect((caller.error as Error).cause).toBeUndefined();
    }),
  );

  test(
    "is late by no more than the event loop was",
    scene(async (s) => {
      await s.start({ max: 1 });
      await s.hold();
      const callers = Array.from({ length: 100 }, () => s.acquire({ timeoutMs: 50 }));
      s.runtime.stall(400);
      await s.advance(0);
      expect(new Set(callers.map(({ outcome }) => outcome))).toEqual(new Set(["ERR_POOL_ACQUIRE_TIMEOUT"]));
      expect(callers[0]?.error).toMatchObject({ waitedMs: 400 });
    }),
  );

  test(
    "never gets the resource that comes free in the same tick: the next in line has it",
    scene(async (s) => {
      await s.start({ max: 1 });
      const holder = await s.hold();
      const late = s.acquire({ timeoutMs: 100 });
      const next = s.acquire();
      s.runtime.setTimer(() => holder.release(), 100);
      await s.advance(100);
      expect([late.outcome, next.outcome]).toEqual(["ERR_POOL_ACQUIRE_TIMEOUT", "ok"]);
      s.check();
    }),
  );

  test(
    "keeps the resource that came free just before",
    scene(async (s) => {
      await s.start({ max: 1 });
      const holder = await s.hold();
      s.runtime.setTimer(() => holder.release(), 100);
      const just = s.acquire({ timeoutMs: 100 });
      await s.advance(100);
      expect(just.outcome).toBe("ok");
      await s.advance(1_000);
      expect(just.holds).toBe(true);
    }),
  );
});

describe("a caller that aborts", () => {
  const why = new Error("the user has left");

  test(
    "before it asks gets its own reason, and nothing has happened",
    scene(async (s) => {
      await s.start({ max: 1, min: 1 });
      const signal = AbortSignal.abort(why);
      await expect(s.pool.acquire({ signal })).rejects.toBe(why);
      await expect(s.pool.use(() => 1, { signal })).rejects.toBe(why);
      expect(s.pool.stats()).toMatchObject({ idle: 1, totals: { acquired: 0, rejected: 0 } });
    }),
  );

  test(
    "while it waits leaves the line at once, with its own reason",
    scene(async (s) => {
      await s.start({ max: 1 });
      const holder = await s.hold();
      const refused = s.events("pool.refused");
      const gone = new AbortController();
      const first = s.acquire({ signal: gone.signal });
      const second = s.acquire();
      await s.advance(7);
      gone.abort(why);
      expect(s.pool.stats().waiting).toBe(1);
      await s.settle();
      expect(first.error).toBe(why);
      expect(refused).toEqual([{ pool: "scene", code: "ABORTED", waitedMs: 7 }]);
      holder.release();
      await s.settle();
      expect(second.outcome).toBe("ok");
      s.check();
    }),
  );

  test(
    "in the tick of the release, before it: the next in line is served",
    scene(async (s) => {
      await s.start({ max: 1 });
      const holder = await s.hold();
      const gone = new AbortController();
      const first = s.acquire({ signal: gone.signal });
      const second = s.acquire();
      gone.abort(why);
      holder.release();
      await s.settle();
      expect([first.error, second.outcome]).toEqual([why, "ok"]);
      s.check();
    }),
  );

  test(
    "in the tick of the release, after it: it is given up, and the next in line is served",
    scene(async (s) => {
      await s.start({ max: 1 });
      const holder = await s.hold();
      const gone = new AbortController();
      const first = s.acquire({ signal: gone.signal });
      const work = s.use({ signal: gone.signal });
      const last = s.acquire();
      holder.release();
      gone.abort(why);
      await s.settle();
      expect([first.error, work.error, work.started, last.outcome]).toEqual([why, why, false, "ok"]);
      s.check();
    }),
  );

  test(
    "after it has its lease keeps it",
    scene(async (s) => {
      await s.start({ max: 1 });
      const gone = new AbortController();
      const holder = await s.hold({ signal: gone.signal });
      gone.abort(why);
      await s.settle();
      expect([holder.holds, holder.lease?.signal.aborted]).toEqual([true, false]);
      expect(s.pool.stats().inFlight).toBe(1);
      holder.release();
      s.check();
    }),
  );

  test(
    "leaves in O(1), whoever else waits with the same signal: each is told, none is served",
    scene(async (s) => {
      await s.start({ max: 1, queue: { limit: 10_000 } });
      const holder = await s.hold();
      const gone = new AbortController();
      const callers = Array.from({ length: 5_000 }, () => s.acquire({ signal: gone.signal }));
      const stays = s.acquire();
      gone.abort(why);
      holder.release();
      await s.settle();
      expect(new Set(callers.map(({ error }) => error))).toEqual(new Set([why]));
      expect([stays.outcome, s.pool.stats().waiting]).toEqual(["ok", 0]);
    }),
  );

  test(
    "does not leave a listener behind, however its wait ends",
    scene(async (s) => {
      await s.start({ max: 1 });
      const { signal } = new AbortController();
      const holder = await s.hold();
      const served = s.acquire({ signal });
      const late = s.acquire({ signal, timeoutMs: 10 });
      const work = s.use({ signal });
      expect(getEventListeners(signal, "abort").length).toBe(1);
      await s.advance(10);
      holder.release();
      await s.settle();
      served.release();
      await s.settle();
      work.end();
      await s.settle();
      expect([served.outcome, late.outcome, work.outcome]).toEqual(["ok", "ERR_POOL_ACQUIRE_TIMEOUT", "ok"]);
      expect(getEventListeners(signal, "abort").length).toBe(0);
    }),
  );
});
