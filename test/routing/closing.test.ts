/**
 * The end of a pool: gently (`close`), at once (`destroy`), and one after the other.
 *
 * However it ends, every test here ends on the same: each call has settled, each resource was closed exactly once, no
 * timer is left (scene.ts).
 */

import { getEventListeners } from "node:events";
import { describe, expect, test } from "vitest";
import { after, type Closing } from "./server.ts";
import { codeOf, reasonOf, type Scene, scene, type Work } from "./scene.ts";

function outcomes(works: readonly Work[]): string[] {
  return works.map(({ outcome }) => outcome);
}

/** Two at work, two in line. */
async function busy(s: Scene): Promise<Work[]> {
  s.server.capacity = 1;
  await s.start({ size: 2 });
  const works = [s.use(), s.use(), s.use({ timeoutMs: 60_000 }), s.use({ timeoutMs: 60_000 })];
  await s.settle();
  expect(works.map(({ started }) => started)).toEqual([true, true, false, false]);
  return works;
}

async function endAll(s: Scene): Promise<void> {
  for (let round = 0; round < 5; round++) {
    for (const work of s.works) work.end();
    await s.settle();
  }
}

describe("close", () => {
  test(
    "refuses new calls from that very step on",
    scene(async (s) => {
      const pool = await s.start({ size: 1 });
      s.use();
      const closed = s.follow(pool.close());
      const refused = s.use();
      expect(() => pool.pick()).toThrow(expect.objectContaining({ code: "ERR_POOL_CLOSED", retryable: false }));
      const calls = [pool.ready(), pool.resize(2), pool.recycle(), pool.broadcast(() => 1)];
      const refusals = await Promise.all(calls.map((call) => call.then(() => "ok", codeOf)));
      expect(refusals).toEqual(Array(4).fill("ERR_POOL_CLOSED"));
      await s.settle();
      expect([refused.outcome, refused.started, closed.outcome]).toEqual(["ERR_POOL_CLOSED", false, "pending"]);
      expect(refused.error).toMatchObject({ stats: { name: "scene", inFlight: 1 } });
    }),
  );

  test(
    "serves those already made, those in line too, and then ends",
    scene(async (s) => {
      const works = await busy(s);
      const closed = s.follow(s.pool.close());
      await s.advance(10_000);
      expect([outcomes(works), closed.outcome]).toEqual([Array(4).fill("pending"), "pending"]);
      expect(s.pool.process.alive).toBe(true);
      s.check();
      await endAll(s);
      expect(outcomes(works)).toEqual(["ok", "ok", "ok", "ok"]);
      expect(closed.value).toEqual({ finished: 4, aborted: 0 });
      expect(s.pool.process.alive).toBe(false);
      expect(s.server.resources.map((resource) => resource.closings.map(reasonOf))).toEqual([["normal"], ["normal"]]);
      expect(s.runtime.timers).toBe(0);
    }),
  );

  test(
    "of an idle pool takes no time",
    scene(async (s) => {
      const pool = await s.start({ size: 3 });
      expect(await s.until(pool.close())).toEqual({ finished: 0, aborted: 0 });
      expect(s.runtime.now()).toBe(0);
      expect(await pool.process.exited).toBe("normal");
    }),
  );

  test(
    "is no death of the pool's, and no crash of anybody's",
    scene(async (s) => {
      const pool = await s.start({ size: 2 });
      const seen = [
        s.events("pool.died"),
        s.events("process.crashed"),
        s.events("supervisor.childExited"),
        s.events("supervisor.shutdownFailed"),
        s.events("callback.failed"),
      ];
      await s.until(pool.close());
      expect(seen.flat()).toEqual([]);
    }),
  );

  test(
    "gives the same promise each time, and the first deadline stays",
    scene(async (s) => {
      await busy(s);
      const first = s.pool.close({ timeoutMs: 1_000 });
      expect(s.pool.close()).toBe(first);
      expect(s.pool.close({ timeoutMs: 1 })).toBe(first);
      await s.until(first);
      expect(s.runtime.now()).toBe(1_000);
      expect(s.pool.close()).toBe(first);
    }),
  );

  test(
    "with an option that is wrong rejects, and closes nothing",
    scene(async (s) => {
      const pool = await s.start({ size: 1 });
      expect(await s.outcome(pool.close({ timeoutMs: -1 }))).toBe("ERR_OPTION");
      const work = s.use();
      await s.settle();
      expect(work.started).toBe(true);
      s.check();
    }),
  );

  test(
    "is what the end of an `await using` does",
    scene(async (s) => {
      const works = await busy(s);
      const disposed = s.follow(s.pool[Symbol.asyncDispose]());
      await s.advance(1_000);
      expect(disposed.outcome).toBe("pending");
      await endAll(s);
      expect([disposed.outcome, ...outcomes(works)]).toEqual(["ok", "ok", "ok", "ok", "ok"]);
      expect(await s.pool.close()).toEqual({ finished: 4, aborted: 0 });
    }),
  );
});

describe("destroy", () => {
  test(
    "refuses a reason that is no error, and has ended nothing",
    scene(async (s) => {
      const pool = await s.start({ size: 1 });
      const refused = pool.destroy("because" as never);
      await expect(refused).rejects.toMatchObject({ code: "ERR_OPTION", option: "RoutingPool.destroy: reason" });
      const work = s.use();
      work.end("served");
      await s.settle();
      expect(work.value).toBe("served");
    }),
  );
});

describe("the deadline of close", () => {
  test(
    "ends by force whoever works or waits, and tells them",
    scene(async (s) => {
      const works = await busy(s);
      const closed = s.follow(s.pool.close({ timeoutMs: 500 }));
      await s.advance(499);
      expect(outcomes(works)).toEqual(Array(4).fill("pending"));
      await s.advance(1);
      expect(outcomes(works)).toEqual(Array(4).fill("ERR_POOL_CLOSED"));
      expect(works.slice(0, 2).every(({ signal }) => signal.aborted)).toBe(true);
      expect(works.slice(2).some(({ started }) => started)).toBe(false);
      expect([closed.value, s.runtime.now()]).toEqual([{ finished: 0, aborted: 4 }, 500]);
      expect(s.server.fit).toEqual([]);
    }),
  );

  test(
    "is 30 seconds when nobody says otherwise",
    scene(async (s) => {
      const works = await busy(s);
      const closed = s.follow(s.pool.close());
      await s.advance(29_999);
      expect(closed.outcome).toBe("pending");
      await s.advance(1);
      expect(closed.value).toEqual({ finished: 0, aborted: 4 });
      expect(outcomes(works)).toEqual(Array(4).fill("ERR_POOL_CLOSED"));
    }),
  );

  test(
    "of no time at all is force at once",
    scene(async (s) => {
      await busy(s);
      expect(await s.until(s.pool.close({ timeoutMs: 0 }))).toEqual({ finished: 0, aborted: 4 });
      expect(s.runtime.now()).toBe(0);
    }),
  );

  test(
    "may be never",
    scene(async (s) => {
      const works = await busy(s);
      const closed = s.follow(s.pool.close({ timeoutMs: Infinity }));
      await s.advance(59_000);
      await endAll(s);
      expect([closed.value, ...outcomes(works)]).toEqual([{ finished: 4, aborted: 0 }, "ok", "ok", "ok", "ok"]);
    }),
  );

  test(
    "keeps the program alive, and nothing else of an idle pool does",
    scene(async (s) => {
      const pool = await s.start({ size: 2 });
      expect(s.runtime.keepAliveTimers).toBe(0);
      s.use();
      await s.settle();
      s.follow(pool.close());
      await s.settle();
      expect(s.runtime.keepAliveTimers).toBe(1);
    }),
  );
});

describe("a close's report", () => {
  test(
    "counts as finished whatever ended by itself, well or not",
    scene(async (s) => {
      s.server.capacity = 1;
      const pool = await s.start({ size: 4 });
      const controller = new AbortController();
      const works = [s.use(), s.use(), s.use({ signal: controller.signal }), s.use()];
      const inLine = s.use({ timeoutMs: 200 });
      await s.settle();
      const closed = s.follow(pool.close({ timeoutMs: 1_000 }));
      works[0]?.fail(new Error("broken"));
      await s.settle();
      inLine.end("served in line");
      controller.abort(new Error("no more"));
      works[3]?.resource.lose();
      await s.advance(1_000);
      expect(outcomes([...works, inLine])).toEqual([
        "broken",
        "ERR_POOL_CLOSED",
        "no more",
        "ERR_CONNECTION_LOST",
        "ok",
      ]);
      expect(closed.value).toEqual({ finished: 4, aborted: 1 });
    }),
  );

  test(
    "counts a caller whose wait in line ran out as finished",
    scene(async (s) => {
      s.server.always("refuse");
      const pool = await s.start({ size: 1 });
      const waiting = s.use({ timeoutMs: 700 });
      const closed = pool.close();
      expect(await s.until(closed)).toEqual({ finished: 1, aborted: 0 });
      expect([waiting.outcome, s.runtime.now()]).toEqual(["ERR_POOL_ACQUIRE_TIMEOUT", 700]);
    }),
  );

  test(
    "counts routes that were picked, and not those who were refused at the door",
    scene(async (s) => {
      const pool = await s.start({ size: 1 });
      const [kept, settled] = [pool.pick(), pool.pick()];
      const closed = s.follow(pool.close({ timeoutMs: 1_000 }));
      s.use();
      s.use();
      settled.settle();
      await s.advance(1_000);
      expect(closed.value).toEqual({ finished: 1, aborted: 1 });
      kept.settle();
      await s.settle();
      expect(pool.stats()).toMatchObject({ inFlight: 0 });
    }),
  );

  test(
    "does not count what its caller had given up before",
    scene(async (s) => {
      const pool = await s.start({ size: 1 });
      const controller = new AbortController();
      s.use({ signal: controller.signal });
      await s.settle();
      controller.abort();
      expect(await s.until(pool.close())).toEqual({ finished: 0, aborted: 0 });
    }),
  );
});

describe("a pool that is closing", () => {
  test(
    "goes on opening connections for those in line",
    scene(async (s) => {
      s.server.always("refuse");
      const pool = await s.start({ size: 1, backoff: { kind: "exponential", minMs: 100, maxMs: 100 } });
      const waiting = s.use();
      await s.settle();
      const closed = s.follow(pool.close());
      await s.advance(350);
      s.server.always("ok");
      await s.advance(100);
      expect(waiting.started).toBe(true);
      waiting.end("served");
      await s.settle();
      expect([waiting.value, closed.value]).toEqual(["served", { finished: 1, aborted: 0 }]);
    }),
  );

  test(
    "puts back a connection that is lost, and makes again on another what was never sent",
    scene(async (s) => {
      const pool = await s.start({ size: 1 });
      const work = s.use({ idempotent: true });
      await s.settle();
      const closed = s.follow(pool.close());
      s.server.last.lose();
      await s.advance(0);
      expect(work.ran.map(({ id }) => id)).toEqual([1, 2]);
      work.end("in the end");
      await s.settle();
      expect([work.value, closed.value]).toEqual(["in the end", { finished: 1, aborted: 0 }]);
    }),
  );

  test(
    "gives openings up that nobody needs, and closes what comes of them",
    scene(async (s) => {
      s.server.always(after(500, "ok", "deaf"));
      const pool = await s.start({ size: 2 });
      await s.until(pool.close());
      expect(s.runtime.now()).toBe(0);
      expect(s.server.attempts.every(({ signal }) => signal.aborted)).toBe(true);
      await s.advance(500);
      expect(s.server.resources.map(({ closings }) => closings.length)).toEqual([1, 1]);
    }),
  );

  test(
    "does not close a resource under what a caller gave up on, until a supervisor's patience is over",
    scene(async (s) => {
      const pool = await s.start({ size: 2 });
      const controller = new AbortController();
      const works = [s.use({ signal: controller.signal }), s.use({ signal: controller.signal })];
      await s.settle();
      controller.abort();
      const closed = s.follow(pool.close());
      await s.advance(1_000);
      expect(s.server.resources.flatMap(({ closings }) => closings)).toEqual([]);
      works[0]?.end();
      await s.settle();
      expect(works[0]?.resource.closings).toEqual(["normal"]);
      expect(closed.outcome).toBe("pending");
      await s.advance(4_000);
      expect([works[1]?.resource.closings, closed.outcome]).toEqual([["killed"], "ok"]);
    }),
  );

  test(
    "lets go of its callers' signals",
    scene(async (s) => {
      s.server.capacity = 1;
      const pool = await s.start({ size: 1 });
      const { signal } = new AbortController();
      const works = [s.use({ signal }), s.use({ signal })];
      s.follow(pool.ready({ min: 2, signal }));
      await s.settle();
      expect(getEventListeners(signal, "abort").length).toBeGreaterThan(0);
      await s.until(pool.close({ timeoutMs: 100 }));
      expect(outcomes(works)).toEqual(["ERR_POOL_CLOSED", "ERR_POOL_CLOSED"]);
      expect(getEventListeners(signal, "abort")).toEqual([]);
    }),
  );

  test(
    "asks its source of endpoints to end, once",
    scene(async (s) => {
      let returned = 0;
      const endpoints = {
        [Symbol.asyncIterator]: () => ({
          next: () => new Promise<never>(() => undefined),
          return: async () => {
            returned++;
            return { done: true, value: undefined } as const;
          },
        }),
      };
      const pool = await s.start({ endpoints });
      await s.until(pool.close());
      await s.until(pool.destroy());
      expect(returned).toBe(1);
    }),
  );
});

/** How a close may go, and what it then is to the pool. */
const manners: readonly (readonly [manner: string, closing: Closing, tookMs: number, failures: number])[] = [
  ["goes well", "ok", 0, 0],
  ["throws", "throw", 0, 3],
  ["rejects", "reject", 0, 3],
  ["is slow", { ms: 2_000 }, 2_000, 0],
  ["is slower than it may be", { ms: 8_000 }, 5_000, 3],
  ["hangs", "never", 5_000, 3],
];

describe.each(manners)("a connector whose close %s", (_, closing, tookMs, failures) => {
  test(
    "ends all the same, and the pool with it",
    scene(async (s) => {
      s.server.closing = () => closing;
      const pool = await s.start({ size: 3 });
      const failed = s.events("connection.closeFailed");
      const closed = s.events("connection.closed");
      expect(await s.until(pool.close())).toEqual({ finished: 0, aborted: 0 });
      expect(s.runtime.now()).toBe(tookMs);
      expect([failed.length, closed.length]).toEqual([failures, 3]);
      expect(pool.stats().totals).toMatchObject({ opened: 3, closed: 3 });
      await s.advance(10_000);
    }),
  );

  test(
    "holds a destroy up no longer either",
    scene(async (s) => {
      s.server.closing = () => closing;
      const pool = await s.start({ size: 3 });
      await s.until(pool.destroy());
      expect(s.runtime.now()).toBe(tookMs);
      expect(pool.stats().totals.closed).toBe(3);
      await s.advance(10_000);
    }),
  );

  test(
    "does not hold up its slot when it is lost, nor its successor when it leaves",
    scene(async (s) => {
      s.server.closing = () => closing;
      const pool = await s.start({ size: 2 });
      s.server.resources[0]?.lose();
      s.server.resources[1]?.goAway();
      await s.settle();
      expect([s.runtime.now(), pool.stats().ready]).toEqual([0, 2]);
      await s.advance(tookMs);
      expect(pool.stats()).toMatchObject({ size: 2, ready: 2, draining: 0, totals: { closed: 2 } });
      s.check();
      await s.until(pool.destroy());
      await s.advance(10_000);
    }),
  );
});

describe("a connector without a close", () => {
  test(
    "has its resources counted as closed",
    scene(async (s) => {
      const { connector } = s.server;
      const pool = await s.start({ size: 2, connector: { name: "fake", open: (context) => connector.open(context) } });
      await s.until(pool.close());
      expect(pool.stats().totals).toMatchObject({ opened: 2, closed: 2 });
      for (const resource of s.server.resources) resource.closings.push("normal"); // The scene counts them.
    }),
  );
});

describe("destroy", () => {
  test(
    "ends everything in that very step: signals, connections, the tree",
    scene(async (s) => {
      const works = await busy(s);
      const processes = s.connections;
      void s.pool.destroy();
      expect(works.slice(0, 2).map(({ signal }) => signal.aborted)).toEqual([true, true]);
      expect([s.pool.process, ...processes].some(({ alive }) => alive)).toBe(false);
      expect(s.server.fit).toEqual([]);
    }),
  );

  test(
    "gives its reason to whoever waits or works",
    scene(async (s) => {
      const works = await busy(s);
      const ready = s.follow(s.pool.ready({ min: 3 }));
      const enough = new Error("enough");
      await s.until(s.pool.destroy(enough));
      expect([...works, ready].map(({ error }) => error)).toEqual(Array(5).fill(enough));
      expect(works[0]?.signal.reason).toBe(enough);
      expect(s.runtime.now()).toBe(0);
      const late = s.use();
      await s.settle();
      expect(late.outcome).toBe("ERR_POOL_CLOSED");
    }),
  );

  test(
    "without a reason gives a ClosedError",
    scene(async (s) => {
      const works = await busy(s);
      await s.until(s.pool.destroy());
      expect(outcomes(works)).toEqual(Array(4).fill("ERR_POOL_CLOSED"));
    }),
  );

  test(
    "gives it also to those whose resource was lost a moment ago, and makes nothing again",
    scene(async (s) => {
      const pool = await s.start({ size: 2 });
      const work = s.use({ idempotent: true });
      await s.settle();
      work.resource.lose();
      await s.until(pool.destroy(new Error("enough")));
      await s.advance(0);
      expect([work.outcome, work.ran.length]).toEqual(["enough", 1]);
    }),
  );

  test(
    "gives it also to one who was just served and has not begun",
    scene(async (s) => {
      s.server.capacity = 1;
      const pool = await s.start({ size: 1 });
      const [first, second] = [pool.pick(), s.use()];
      await s.settle();
      first.settle();
      await s.until(pool.destroy(new Error("enough")));
      expect([second.outcome, second.started]).toEqual(["enough", false]);
    }),
  );

  test(
    "resolves when every resource has been closed",
    scene(async (s) => {
      s.server.closing = ({ id }) => ({ ms: 1_000 * id });
      const pool = await s.start({ size: 3 });
      await s.until(pool.destroy());
      expect(s.runtime.now()).toBe(3_000);
    }),
  );

  test(
    "is the same each time, and the first reason stays",
    scene(async (s) => {
      const works = await busy(s);
      const first = s.pool.destroy(new Error("first"));
      expect(s.pool.destroy(new Error("second"))).toBe(first);
      await s.until(first);
      expect(outcomes(works)).toEqual(Array(4).fill("first"));
    }),
  );

  test(
    "resolves a pending close, with what was ended by force",
    scene(async (s) => {
      const works = await busy(s);
      const closed = s.follow(s.pool.close({ timeoutMs: Infinity }));
      await s.settle();
      works[0]?.end();
      await s.settle();
      await s.until(s.pool.destroy(new Error("enough")));
      expect(closed.value).toEqual({ finished: 1, aborted: 3 });
      expect(outcomes(works)).toEqual(["ok", "enough", "enough", "enough"]);
    }),
  );

  test(
    "resolves a pending close whose calls are done, and waits for the resources being closed",
    scene(async (s) => {
      s.server.closing = () => ({ ms: 2_000 });
      const pool = await s.start({ size: 1 });
      const closed = s.follow(pool.close());
      await s.advance(500);
      await s.until(pool.destroy());
      await s.settle();
      expect([closed.value, s.runtime.now()]).toEqual([{ finished: 0, aborted: 0 }, 2_000]);
    }),
  );

  test(
    "before a close is what that reports",
    scene(async (s) => {
      await busy(s);
      const destroyed = s.pool.destroy();
      const closed = s.pool.close();
      expect(await s.until(closed)).toEqual({ finished: 0, aborted: 4 });
      await destroyed;
      expect(s.pool.close()).toBe(closed);
    }),
  );

  test(
    "of a pool that cannot reach its server leaves nothing behind",
    scene(async (s) => {
      s.server.script = (nth) => (["refuse", "never", "fatal", after(10_000, "ok")] as const)[nth % 4] ?? "ok";
      const pool = await s.start({ size: 8 });
      await s.until(pool.destroy());
      expect([s.runtime.timers, s.runtime.now()]).toEqual([2, 0]); // The server's own: two are still to answer.
      await s.advance(10_000);
    }),
  );
});
