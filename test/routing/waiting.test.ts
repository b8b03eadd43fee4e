/**
 * The line: what happens to callers while every member is full or away.
 *
 * Most of these have one member that takes one request at a time, so that who is served is who is first in line.
 */

import { AsyncLocalStorage } from "node:async_hooks";
import { getEventListeners } from "node:events";
import { describe, expect, test } from "vitest";
import { AcquireTimeoutError } from "../../src/index.ts";
import { codeOf, type Scene, scene, type Work } from "./scene.ts";
import { after, Refused } from "./server.ts";

const backoff = { kind: "exponential", minMs: 100, maxMs: 1_000 } as const;

/** A scene with one member for one request. */
function one(act: (s: Scene) => Promise<void>, options: Parameters<Scene["start"]>[0] = {}): () => Promise<void> {
  return scene(async (s) => {
    s.server.capacity = 1;
    await s.start({ size: 1, backoff, ...options });
    await act(s);
  });
}

/** A scene in which nobody can be reached. */
function nobody(act: (s: Scene) => Promise<void>, options: Parameters<Scene["start"]>[0] = {}): () => Promise<void> {
  return scene(async (s) => {
    s.server.always("refuse");
    await s.start({ size: 1, backoff, ...options });
    await act(s);
  });
}

function started(works: readonly Work[]): boolean[] {
  return works.map((work) => work.started);
}

describe("a caller", () => {
  test(
    "for whom there is room begins before use returns",
    one(async (s) => {
      const work = s.use();
      expect(work.started).toBe(true);
      expect(s.pool.stats()).toMatchObject({ inFlight: 1, used: 1, idle: 0, waiting: 0 });
      work.end("done");
      await s.settle();
      expect([work.value, s.pool.stats()]).toMatchObject(["done", { inFlight: 0, used: 0, idle: 1 }]);
      expect(s.pool.stats().totals).toMatchObject({ acquired: 1, succeeded: 1, failed: 0 });
      s.check();
    }),
  );

  test(
    "gets what its work returns, now or later, and what it throws",
    one(async (s) => {
      const { pool } = s;
      expect(await pool.use(({ id }) => id)).toBe(1);
      expect(await pool.use(async ({ id }) => id)).toBe(1);
      expect(await pool.use(() => undefined)).toBeUndefined();
      expect(await s.outcome(pool.use(() => Promise.reject(new Error("later"))))).toBe("later");
      const thrown = { not: "an error" };
      const throws = pool.use(() => {
        throw thrown;
      });
      expect(await throws.catch((error: unknown) => error)).toBe(thrown);
      expect(pool.stats()).toMatchObject({ inFlight: 0, totals: { succeeded: 3, failed: 2 } });
      s.check();
    }),
  );

  test(
    "may return somebody else's thenable: it settles once, whatever that does",
    one(async (s) => {
      const twice = {
        // oxlint-disable-next-line unicorn/no-thenable
        then: (resolve: (value: string) => void, reject: (error: unknown) => void) => {
          resolve("first");
          reject(new Error("second"));
          resolve("third");
        },
      };
      const broken = {
        // oxlint-disable-next-line unicorn/no-thenable
        get then(): never {
          throw new Error("no then for you");
        },
      };
      expect(await s.pool.use(() => twice as unknown as Promise<string>)).toBe("first");
      const thrower = {
        // oxlint-disable-next-line unicorn/no-thenable
        then: (): never => {
          throw new Error("then is broken");
        },
      };
      expect(await s.outcome(s.pool.use(() => broken))).toBe("no then for you");
      expect(await s.outcome(s.pool.use(() => thrower as unknown as Promise<string>))).toBe("then is broken");
      expect(s.pool.stats()).toMatchObject({ inFlight: 0, totals: { acquired: 3, succeeded: 1, failed: 2 } });
      s.check();
    }),
  );

  test.each([
    ["a work that is no function", "work", undefined],
    ["an option nobody knows", () => 0, { timeout: 5 }],
    ["a time below nothing", () => 0, { timeoutMs: -1 }],
    ["a signal that is none", () => 0, { signal: {} }],
    ["a key that is none", () => 0, { key: {} }],
    ["idempotent neither true nor false", () => 0, { idempotent: "yes" }],
    ["a priority that is no number", () => 0, { priority: NaN }],
    ["options that are none", () => 0, "soon"],
  ])("is refused with %s by a rejection, and never counted", (_, work, options) =>
    one(async (s) => {
      const promise = s.pool.use(work as never, options as never);
      expect(await s.outcome(promise)).toBe("ERR_OPTION");
      expect(s.pool.stats().totals).toMatchObject({ acquired: 0, failed: 0, rejected: 0 });
      expect(await s.outcome(s.pool.close())).toBe("ok");
    })(),
  );

  test(
    "may say how much it matters, which a routing pool has no use for",
    one(async (s) => {
      const [holder, low, high] = [s.use(), s.use({ priority: 0 }), s.use({ priority: 9 })];
      holder.end();
      await s.settle();
      expect(started([low, high])).toEqual([true, false]);
    }),
  );
});

describe("the line", () => {
  test(
    "is served in the order in which they came",
    one(async (s) => {
      const works = Array.from({ length: 8 }, () => s.use());
      for (const [at, work] of works.entries()) {
        expect(started(works)).toEqual(works.map((_, other) => other <= at));
        expect(s.pool.stats()).toMatchObject({ inFlight: 1, waiting: works.length - 1 - at });
        s.check();
        work.end();
        await s.settle();
      }
      expect(s.server.last.peak).toBe(1);
      expect(works.map(({ outcome }) => outcome)).toEqual(works.map(() => "ok"));
    }),
  );

  test(
    "is served at once by a connection that comes up, as far as it has room",
    nobody(async (s) => {
      s.server.capacity = 2;
      const works = [s.use(), s.use(), s.use()];
      s.server.always("ok");
      await s.advance(100);
      expect(started(works)).toEqual([true, true, false]);
      s.check();
    }),
  );

  test(
    "lets nobody overtake: not who calls as a member gets room, nor who calls when told of it",
    one(async (s) => {
      const order: string[] = [];
      const holder = s.use();
      const waits = s.pool.use(() => void order.push("waited"));
      const next = holder.promise.then(() => s.pool.use(() => void order.push("told")));
      holder.end();
      const late = s.pool.use(() => void order.push("late"));
      await Promise.all([waits, next, late]);
      expect(order).toEqual(["waited", "late", "told"]);
      s.check();
    }),
  );

  test(
    "that moved on in this very step lets nobody overtake either",
    one(async (s) => {
      const works = [s.use(), s.use()];
      works[0]?.end();
      // The grant happens in the work's own continuation: we call again after each promise callback until it has.
      const late: Work[] = [];
      for (let hop = 0; hop < 10; hop++) {
        await Promise.resolve();
        late.push(s.use());
      }
      await s.settle();
      expect(started([...works, ...late])).toEqual([true, true, ...late.map(() => false)]);
      expect(s.server.last.peak).toBe(1);
      s.check();
    }),
  );

  test(
    "is bounded: the next is turned away at once, and not when somebody has left",
    one(
      async (s) => {
        const refused = s.events("pool.refused");
        s.use();
        const leaves = new AbortController();
        const waiting = [s.use({ signal: leaves.signal }), s.use()];
        const turnedAway = s.use();
        await s.settle();
        expect(turnedAway.error).toMatchObject({ code: "ERR_POOL_QUEUE_FULL", retryable: true, stats: { waiting: 2 } });
        expect(codeOf((turnedAway.error as Error).message)).toMatch(/"scene": 2 callers wait already.*queue\.limit/);
        expect(refused).toEqual([{ pool: "scene", code: "ERR_POOL_QUEUE_FULL", waitedMs: 0 }]);
        leaves.abort(new Error("changed my mind"));
        const takesIts = s.use();
        await s.settle();
        expect([waiting[0]?.outcome, takesIts.outcome]).toEqual(["changed my mind", "pending"]);
        expect(s.pool.stats()).toMatchObject({ waiting: 2, totals: { rejected: 1, failed: 0, acquired: 1 } });
        s.check();
      },
      { queue: { limit: 2 } },
    ),
  );

  test(
    "holds a thousand when nobody says how many",
    one(async (s) => {
      s.use();
      const works = Array.from({ length: 1_001 }, () => s.use());
      await s.settle();
      expect(works.filter(({ outcome }) => outcome === "ERR_POOL_QUEUE_FULL")).toEqual([works.at(-1)]);
      s.check();
    }),
  );

  test(
    "may be of nobody",
    one(
      async (s) => {
        const holder = s.use();
        expect(await s.outcome(s.use().promise)).toBe("ERR_POOL_QUEUE_FULL");
        holder.end();
        await s.settle();
        expect(await s.outcome(s.pool.use(() => 1))).toBe("ok");
        s.check();
      },
      { queue: { limit: 0 } },
    ),
  );

  test(
    "is an event for each who joins, and shown with how long each has waited",
    one(async (s) => {
      const queued = s.events("pool.queued");
      s.use();
      for (let caller = 0; caller < 3; caller++) {
        s.use();
        await s.advance(10);
      }
      expect(queued).toEqual([1, 2, 3].map((waiting) => ({ pool: "scene", waiting })));
      expect(s.pool.snapshot().waiters).toEqual([{ ageMs: 30 }, { ageMs: 20 }, { ageMs: 10 }]);
      s.check();
    }),
  );

  test(
    "keeps the program alive while somebody is in it, and no longer",
    one(async (s) => {
      const holder = s.use();
      expect(s.runtime.keepAliveTimers).toBe(0);
      const waits = s.use();
      expect(s.runtime.keepAliveTimers).toBe(1);
      holder.end();
      await s.settle();
      expect([waits.started, s.runtime.keepAliveTimers]).toEqual([true, 0]);
    }),
  );

  test(
    "continues each caller in its own async context, whoever made room",
    one(async (s) => {
      const context = new AsyncLocalStorage<string>();
      const [during, after]: [unknown[], unknown[]] = [[], []];
      const holder = context.run("holder", () => s.use());
      for (const name of ["first", "second"]) {
        context.run(name, () => {
          const used = s.pool.use(() => void during.push(context.getStore()));
          void used.then(() => after.push(context.getStore()));
        });
      }
      context.run("somebody else", () => holder.end());
      await s.settle();
      expect([during, after]).toEqual([
        ["first", "second"],
        ["first", "second"],
      ]);
    }),
  );

  test(
    "tells a strategy the caller's key, at once or later",
    scene(async (s) => {
      const keys: unknown[] = [];
      s.server.capacity = 1;
      await s.start({
        size: 1,
        strategy: {
          pick: (members, request) => {
            keys.push(request.key);
            return members[0] as (typeof members)[0];
          },
        },
      });
      const works = [s.use({ key: "a" }), s.use({ key: 2 }), s.use()];
      for (const work of works) {
        work.end();
        await s.settle();
      }
      expect(keys).toEqual(["a", 2, undefined]);
    }),
  );
});

describe("a wait that takes too long", () => {
  test(
    "ends after 5 seconds, or the caller's own time, not before and not for anybody else",
    one(async (s) => {
      s.use();
      const works = [s.use(), s.use({ timeoutMs: 300 }), s.use({ timeoutMs: 100 }), s.use({ timeoutMs: Infinity })];
      const ends: number[] = [];
      for (const { promise } of works) promise.catch(() => ends.push(s.runtime.now()));
      await s.advance(86_400_000);
      expect(ends).toEqual([100, 300, 5_000]);
      expect(s.pool.stats()).toMatchObject({ waiting: 1, totals: { timedOut: 3, rejected: 0 } });
      s.check();
    }),
  );

  test(
    "for its turn says so, with the pool's counts and no cause",
    one(async (s) => {
      const refused = s.events("pool.refused");
      s.use();
      const work = s.use({ timeoutMs: 200 });
      await s.advance(200);
      expect(work.error).toBeInstanceOf(AcquireTimeoutError);
      expect(work.error).toMatchObject({
        code: "ERR_POOL_ACQUIRE_TIMEOUT",
        phase: "queue",
        waitedMs: 200,
        retryable: true,
        stats: { name: "scene", ready: 1, inFlight: 1, waiting: 0 },
      });
      expect((work.error as Error).cause).toBeUndefined();
      expect((work.error as Error).message).toMatch(/200 ms \(queue; 1 connections: 1 ready.*holds? too long/);
      expect(refused).toEqual([{ pool: "scene", code: "ERR_POOL_ACQUIRE_TIMEOUT", waitedMs: 200 }]);
      expect(work.started).toBe(false);
      s.check();
    }),
  );

  test(
    "for a connection says so, with the last error of opening as its cause, and no secret in its words",
    nobody(async (s) => {
      const work = s.use({ timeoutMs: 250 });
      await s.advance(249);
      expect(work.outcome).toBe("pending");
      await s.advance(1);
      expect(work.error).toMatchObject({ phase: "open", waitedMs: 250, stats: { ready: 0 } });
      expect((work.error as Error).cause).toEqual(new Refused("ECONNREFUSED"));
      expect((work.error as Error).message).not.toContain("tiger");
      s.check();
    }),
  );

  test(
    "for its turn has no cause even when another connection has failed to open",
    scene(async (s) => {
      s.server.capacity = 1;
      s.server.script = (nth) => (nth === 1 ? "ok" : "refuse");
      await s.start({ size: 2, backoff });
      s.use();
      const work = s.use({ timeoutMs: 250 });
      await s.advance(250);
      expect(work.error).toMatchObject({ phase: "queue", stats: { ready: 1, waitingToReopen: 1 } });
      expect((work.error as Error).cause).toBeUndefined();
    }),
  );

  test(
    "for a connection that has never failed, only hung, has no cause",
    scene(async (s) => {
      s.server.always("never");
      await s.start({ size: 1 });
      const work = s.use({ timeoutMs: 250 });
      await s.advance(250);
      expect(work.error).toMatchObject({ phase: "open" });
      expect((work.error as Error).cause).toBeUndefined();
    }),
  );

  test(
    "names as its cause the newest failure, of whichever connection",
    scene(async (s) => {
      s.server.script = (_, { endpoint }) => (endpoint.id === "b" ? after(60, "deadOnArrival") : after(30, "refuse"));
      await s.start({ size: 1, endpoints: [{ id: "a" }, { id: "b" }], backoff: { minMs: 10_000, maxMs: 10_000 } });
      const work = s.use({ timeoutMs: 200 });
      await s.advance(200);
      // Both began at 0; b's came last.
      expect((work.error as Error).cause).toMatchObject({ code: "ECONNRESET" });
    }),
  );

  test(
    "is a failure of ready after 30 seconds or its own time, phase open",
    nobody(async (s) => {
      const [short, long] = [s.pool.ready({ timeoutMs: 1_000 }), s.pool.ready()];
      const at: number[] = [];
      for (const each of [short, long]) void each.catch(() => at.push(s.runtime.now()));
      const error: unknown = await s.until(short.catch((thrown: unknown) => thrown));
      expect(error).toMatchObject({ code: "ERR_POOL_ACQUIRE_TIMEOUT", phase: "open", waitedMs: 1_000 });
      expect((error as Error).cause).toEqual(new Refused("ECONNREFUSED"));
      expect(await s.outcome(long)).toBe("ERR_POOL_ACQUIRE_TIMEOUT");
      expect(at).toEqual([1_000, 30_000]);
    }),
  );

  test(
    "and a grant at the same moment are one or the other, and leave nothing behind",
    one(async (s) => {
      const holder = s.use();
      const work = s.use({ timeoutMs: 100 });
      s.runtime.setTimer(() => holder.end(), 100);
      await s.advance(100);
      expect([work.started, work.outcome]).toEqual([false, "ERR_POOL_ACQUIRE_TIMEOUT"]);
      expect(s.pool.stats()).toMatchObject({ inFlight: 0, waiting: 0 });
      expect(await s.outcome(s.pool.use(() => 1))).toBe("ok");
      s.check();
    }),
  );

  test(
    "is over when it is granted: nothing comes later",
    one(async (s) => {
      const holder = s.use();
      const work = s.use({ timeoutMs: 100 });
      await s.advance(99);
      holder.end();
      await s.advance(10_000);
      expect([work.started, work.outcome]).toEqual([true, "pending"]);
      work.end(1);
      await s.settle();
      expect([work.outcome, s.pool.stats().totals.timedOut]).toEqual(["ok", 0]);
      s.check();
    }),
  );
});

describe("a caller who does not wait at all", () => {
  test(
    "is told at once that everybody is busy",
    one(async (s) => {
      const queued = s.events("pool.queued");
      s.use();
      const work = s.use({ timeoutMs: 0 });
      await s.settle();
      expect(work.error).toMatchObject({ code: "ERR_POOL_BUSY", retryable: true, stats: { inFlight: 1, waiting: 0 } });
      expect([queued, s.runtime.now()]).toEqual([[], 0]);
      expect(s.pool.stats().totals).toMatchObject({ rejected: 1, timedOut: 0, acquired: 1 });
      s.check();
    }),
  );

  test(
    "is told at once that nobody is there, and why",
    nobody(async (s) => {
      const work = s.use({ timeoutMs: 0 });
      await s.settle();
      expect(work.error).toMatchObject({ code: "ERR_POOL_NO_MEMBER", retryable: true });
      expect((work.error as Error).cause).toEqual(new Refused("ECONNREFUSED"));
      expect(s.runtime.now()).toBe(0);
      s.check();
    }),
  );

  test(
    "is told so even when the line is full, and is served when there is room",
    one(
      async (s) => {
        const holder = s.use();
        expect(await s.outcome(s.use({ timeoutMs: 0 }).promise)).toBe("ERR_POOL_BUSY");
        holder.end();
        await s.settle();
        expect(s.use({ timeoutMs: 0 }).started).toBe(true);
      },
      { queue: { limit: 0 } },
    ),
  );
});

describe("a caller who gives up", () => {
  test(
    "before it has called gets its reason, and its work is never begun",
    one(async (s) => {
      const reason = new Error("before");
      const work = s.use({ signal: AbortSignal.abort(reason) });
      await s.settle();
      expect([work.error, work.started]).toEqual([reason, false]);
      expect(s.pool.stats()).toMatchObject({ inFlight: 0, totals: { acquired: 0, failed: 0 } });
      s.check();
    }),
  );

  test(
    "without a reason gets the one that signals have",
    one(async (s) => {
      s.use();
      const caller = new AbortController();
      const work = s.use({ signal: caller.signal });
      caller.abort();
      await s.settle();
      expect(work.error).toBe(caller.signal.reason);
      expect((work.error as Error).name).toBe("AbortError");
    }),
  );

  test(
    "in the line leaves it at once, and nobody else does",
    one(async (s) => {
      const refused = s.events("pool.refused");
      const caller = new AbortController();
      const works = [s.use(), s.use(), s.use({ signal: caller.signal }), s.use()];
      await s.advance(70);
      caller.abort(new Error("enough"));
      expect(s.pool.stats().waiting).toBe(2);
      await s.settle();
      expect(works.map(({ outcome }) => outcome)).toEqual(["pending", "pending", "enough", "pending"]);
      expect(refused).toEqual([{ pool: "scene", code: "ABORTED", waitedMs: 70 }]);
      for (const work of works) {
        work.end();
        await s.settle();
      }
      expect(started(works)).toEqual([true, true, false, true]);
      expect(s.pool.stats().totals).toMatchObject({ acquired: 3, succeeded: 3, rejected: 0, timedOut: 0 });
      s.check();
    }),
  );

  test(
    "in the tick in which it would have been granted gets its reason, and the next one the member",
    one(async (s) => {
      for (const abortFirst of [true, false]) {
        const caller = new AbortController();
        const reason = new Error("too late");
        const [holder, gone, next] = [s.use(), s.use({ signal: caller.signal }), s.use()];
        if (abortFirst) caller.abort(reason);
        holder.end();
        if (!abortFirst) caller.abort(reason);
        await s.settle();
        expect([gone.error, gone.started, next.started]).toEqual([reason, false, true]);
        expect(s.pool.stats()).toMatchObject({ inFlight: 1, waiting: 0 });
        next.end();
        await s.settle();
        s.check();
      }
    }),
  );

  test(
    "at any promise callback between grant and work is not worked for, and frees the member",
    one(async (s) => {
      for (let hops = 0; hops < 12; hops++) {
        const caller = new AbortController();
        const [holder, gone, next] = [s.use(), s.use({ signal: caller.signal }), s.use()];
        holder.end();
        for (let hop = 0; hop < hops; hop++) await Promise.resolve();
        const hadStarted = gone.started;
        caller.abort(new Error("gone"));
        await s.settle();
        expect([gone.outcome, gone.started]).toEqual(["gone", hadStarted]);
        gone.end();
        await s.settle();
        expect(next.started).toBe(true);
        next.end();
        await s.settle();
        expect(s.pool.stats()).toMatchObject({ inFlight: 0, waiting: 0, used: 0 });
        s.check();
      }
    }),
  );

  test(
    "while it is worked for is told at once, and so is the work",
    one(async (s) => {
      const caller = new AbortController();
      const reason = new Error("enough");
      const work = s.use({ signal: caller.signal });
      expect(work.signal.aborted).toBe(false);
      caller.abort(reason);
      expect(work.signal).toMatchObject({ aborted: true, reason });
      await s.settle();
      expect(work.error).toBe(reason);
      s.check();
    }),
  );

  test(
    "is told by a signal that its work asks for only afterwards",
    one(async (s) => {
      const caller = new AbortController();
      let later: (() => AbortSignal) | undefined;
      const used = s.pool.use(
        (_, context) => {
          later = () => context.signal;
          return new Promise((resolve) => void s.runtime.setTimer(() => resolve(1), 10));
        },
        { signal: caller.signal },
      );
      caller.abort("because");
      expect(await s.outcome(used)).toBe("because");
      expect(later?.()).toMatchObject({ aborted: true, reason: "because" });
      await s.advance(10);
    }),
  );

  test(
    "after it has its answer changes nothing, and its signal holds on to nothing",
    one(async (s) => {
      const caller = new AbortController();
      const heard = countListeners(caller.signal);
      const work = s.use({ signal: caller.signal });
      expect(heard()).toBe(1);
      work.end(7);
      await s.settle();
      expect(heard()).toBe(0);
      caller.abort(new Error("late"));
      await s.settle();
      expect([work.outcome, work.value, work.signal.aborted]).toEqual(["ok", 7, false]);
    }),
  );

  test(
    "with a thousand others on one signal costs that signal one listener, and all are told",
    one(
      async (s) => {
        const caller = new AbortController();
        const heard = countListeners(caller.signal);
        const works = Array.from({ length: 1_000 }, () => s.use({ signal: caller.signal }));
        expect(heard()).toBe(1);
        caller.abort(new Error("all of us"));
        await s.settle();
        expect(new Set(works.map(({ outcome }) => outcome))).toEqual(new Set(["all of us"]));
        expect([heard(), s.pool.stats()]).toMatchObject([0, { waiting: 0, inFlight: 1 }]);
        s.check();
      },
      { queue: { limit: 1_000 } },
    ),
  );
});

describe("a pool that ends", () => {
  test(
    "by close serves those who wait already, and refuses everyone else",
    one(async (s) => {
      const works = [s.use(), s.use(), s.use()];
      const closed = s.pool.close();
      const late = s.use();
      await s.settle();
      expect(late.error).toMatchObject({ code: "ERR_POOL_CLOSED", retryable: false });
      expect(() => s.pool.pick()).toThrow(expect.objectContaining({ code: "ERR_POOL_CLOSED" }) as Error);
      expect(await s.outcome(s.pool.ready())).toBe("ERR_POOL_CLOSED");
      for (const work of works) {
        expect(work.started).toBe(true);
        s.check();
        work.end();
        await s.settle();
      }
      expect(await s.until(closed)).toEqual({ finished: 3, aborted: 0 });
      expect(s.runtime.now(), "it ends with the last of them").toBe(0);
      expect(works.map(({ outcome }) => outcome)).toEqual(["ok", "ok", "ok"]);
      expect(s.pool.stats().totals.rejected).toBe(2);
    }),
  );

  test(
    "by close with nobody connected still opens for those who wait",
    nobody(async (s) => {
      const work = s.use();
      const closed = s.pool.close();
      s.server.always("ok");
      await s.advance(100);
      expect(work.started).toBe(true);
      work.end();
      expect(await s.until(closed)).toEqual({ finished: 1, aborted: 0 });
    }),
  );

  test(
    "by close at its deadline tells those who wait and those who work, with how long they waited",
    one(async (s) => {
      const works = [s.use(), s.use(), s.use()];
      await s.advance(100);
      const closed = s.pool.close({ timeoutMs: 400 });
      await s.advance(399);
      expect(works.map(({ outcome }) => outcome)).toEqual(["pending", "pending", "pending"]);
      expect(await s.until(closed)).toEqual({ finished: 0, aborted: 3 });
      expect(works.map(({ outcome }) => outcome)).toEqual(works.map(() => "ERR_POOL_CLOSED"));
      expect(works.map(({ error }) => (error as AcquireTimeoutError).waitedMs)).toEqual([undefined, 500, 500]);
      expect(started(works)).toEqual([true, false, false]);
    }),
  );

  test(
    "by destroy tells each its reason, and begins no work",
    one(async (s) => {
      const refused = s.events("pool.refused");
      const reason = new Error("we are done");
      const works = [s.use(), s.use(), s.use()];
      await s.advance(30);
      const destroyed = s.pool.destroy(reason);
      await s.until(destroyed);
      expect(works.map(({ error }) => error)).toEqual([reason, reason, reason]);
      expect(works[0]?.signal).toMatchObject({ aborted: true, reason });
      expect(started(works)).toEqual([true, false, false]);
      expect(refused.map(({ waitedMs }) => waitedMs)).toEqual([30, 30]);
    }),
  );

  test(
    "by destroy without a reason tells each that it is closed",
    one(async (s) => {
      const works = [s.use(), s.use()];
      await s.advance(30);
      await s.until(s.pool.destroy());
      expect(works.map(({ outcome }) => outcome)).toEqual(["ERR_POOL_CLOSED", "ERR_POOL_CLOSED"]);
      expect(works[1]?.error).toMatchObject({ waitedMs: 30 });
    }),
  );

  test(
    "between a grant and its work begins no work",
    one(async (s) => {
      // At each promise callback in turn; one of them is that between.
      const reason = new Error("we are done");
      const holder = s.use();
      const granted = s.use();
      holder.end();
      while (s.pool.stats().waiting > 0) await Promise.resolve();
      expect([granted.started, s.pool.stats().inFlight]).toEqual([false, 1]);
      const destroyed = s.pool.destroy(reason);
      await s.until(destroyed);
      expect([granted.error, granted.started]).toEqual([reason, false]);
    }),
  );

  test(
    "because its tree was killed tells those who wait and those whose connections went with it, and is an event",
    one(async (s) => {
      const died = s.events("pool.died");
      const works = [s.use({ idempotent: true }), s.use()];
      const ready = s.outcome(s.pool.ready({ min: 5 }));
      s.pool.process.kill();
      await s.advance(0);
      expect(works.map(({ outcome }) => outcome)).toEqual(["ERR_CONNECTION_LOST", "ERR_POOL_CLOSED"]);
      expect([died, await ready]).toEqual([[{ pool: "scene", reason: "killed" }], "ERR_POOL_CLOSED"]);
      expect(await s.outcome(s.pool.use(() => 1))).toBe("ERR_POOL_CLOSED");
    }),
  );
});

describe("a member that goes between a grant and its work", () => {
  test.each(["lost", "asked to go", "killed"])("(%s) has had no attempt: the caller is served elsewhere", (how) =>
    scene(async (s) => {
      s.server.capacity = 1;
      const retried = s.events("pool.retried");
      await s.start({ size: 1, backoff, retry: { attempts: 1 } });
      const holder = s.use();
      const work = s.use();
      holder.end();
      while (s.pool.stats().waiting > 0) await Promise.resolve();
      expect(work.started).toBe(false);
      const [resource] = s.server.resources;
      if (how === "lost") resource?.lose();
      else if (how === "killed") s.connections[0]?.kill();
      else resource?.goAway();
      await s.advance(1);
      expect(work.ran.map(({ id }) => id)).toEqual([2]);
      expect([retried, s.pool.stats().inFlight]).toEqual([[], 1]);
      s.check();
    })(),
  );

  test(
    "leaves it the first in line",
    scene(async (s) => {
      s.server.capacity = 1;
      await s.start({ size: 1, backoff, queue: { limit: 2 } });
      const works = [s.use(), s.use(), s.use()];
      works[0]?.end();
      while (s.pool.stats().waiting > 1) await Promise.resolve();
      s.server.always("refuse");
      s.server.resources[0]?.lose();
      const late = s.use();
      await s.settle();
      s.server.always("ok");
      for (const work of [...works.slice(1), late]) {
        await s.advance(1_000);
        expect(work.started).toBe(true);
        work.end();
      }
      s.check();
    }),
  );

  test(
    "takes nothing from the time it may wait, and gives nothing to it",
    scene(async (s) => {
      s.server.capacity = 1;
      await s.start({ size: 1, backoff });
      const holder = s.use();
      const work = s.use({ timeoutMs: 500 });
      await s.advance(300);
      holder.end();
      while (s.pool.stats().waiting > 0) await Promise.resolve();
      s.server.always("refuse");
      s.server.resources[0]?.lose();
      await s.advance(199);
      expect(work.outcome).toBe("pending");
      await s.advance(1);
      expect(work.error).toMatchObject({ code: "ERR_POOL_ACQUIRE_TIMEOUT", phase: "open" });
      s.check();
    }),
  );
});

/** How many listen to a signal at any moment: Node's own count says how many there are of a type. */
function countListeners(signal: AbortSignal): () => number {
  return () => getEventListeners(signal, "abort").length;
}
