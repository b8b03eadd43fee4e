/**
 * Opening: every way in which it can go, and what a pool does about it.
 *
 * The pacing is asked of the server, which knows when it was called: `s.server.times`. What the machine under a
 * connection decides, cell by cell, is in test/connection; here it is seen from outside, with a pool and its callers.
 */

import { AsyncLocalStorage } from "node:async_hooks";
import { describe, expect, test } from "vitest";
import { codeOf, type Scene, scene } from "./scene.ts";
import { after, Refused, type Resource } from "./server.ts";

/** Doubles from 100 ms to a second, without chance. */
const backoff = { kind: "exponential", minMs: 100, maxMs: 1_000 } as const;

/** How far attempts were apart. */
function pauses(times: readonly number[]): number[] {
  return times.slice(1).map((time, at) => time - (times[at] as number));
}

/** The processes of the tree, by their number: the same list means that nobody was restarted. */
function processes(s: Scene): number[] {
  const { process, children } = s.pool.tree();
  return [process, ...children.flatMap((each) => [each.process, ...each.children.map((leaf) => leaf.process)])].map(
    ({ id }) => id,
  );
}

describe("a pool that starts", () => {
  test(
    "resolves when its tree is up, connected or not",
    scene(async (s) => {
      s.server.always("never");
      const pool = await s.start({ size: 3 });
      expect(pool.stats()).toMatchObject({ size: 3, opening: 3, ready: 0 });
      s.check();
    }),
  );

  test(
    "opens ten connections to each endpoint when it is not told how many",
    scene(async (s) => {
      const pool = await s.start({ endpoints: [{ id: "a" }, { id: "b" }] });
      expect(pool.stats()).toMatchObject({ size: 20, ready: 20 });
      expect(s.registered.filter(({ endpoint }) => endpoint === "a").length).toBe(10);
      s.check();
    }),
  );

  test(
    "connects in the context that it was made in, whoever waits for an attempt",
    scene(async (s) => {
      const context = new AsyncLocalStorage<string>();
      const seen: (string | undefined)[] = [];
      s.server.script = () => {
        seen.push(context.getStore());
        return seen.length < 3 ? "refuse" : "ok";
      };
      await context.run("pool", () => s.start({ size: 1, backoff }));
      const work = context.run("caller", () => s.use());
      await s.advance(200);
      expect([seen, work.started]).toEqual([["pool", "pool", "pool"], true]);
      s.registered[0]?.lose();
      await s.settle();
      expect(seen.at(-1)).toBe("pool");
    }),
  );
});

describe("an opening", () => {
  test(
    "that is refused is an event, and is tried again after the backoff",
    scene(async (s) => {
      const failed = s.events("connection.openFailed");
      const opened = s.events("connection.opened");
      s.server.next("refuse");
      const pool = await s.start({ size: 1, backoff });
      expect(pool.stats()).toMatchObject({ waitingToReopen: 1, ready: 0, totals: { openFailed: 1, opened: 0 } });
      expect(failed).toEqual([
        {
          pool: "scene",
          connection: "connection 0",
          endpoint: "fake",
          attempt: 1,
          error: new Refused("ECONNREFUSED"),
          retryMs: 100,
        },
      ]);
      await s.advance(99);
      expect(s.server.times).toEqual([0]);
      s.check();
      await s.advance(1);
      expect(s.server.times).toEqual([0, 100]);
      expect(pool.stats()).toMatchObject({ waitingToReopen: 0, ready: 1, totals: { openFailed: 1, opened: 1 } });
      expect(opened).toEqual([{ pool: "scene", connection: "connection 0", endpoint: "fake", openMs: 0 }]);
      s.check();
    }),
  );

  test(
    "that has failed is shown with its number and what it failed of, and none of the driver's words",
    scene(async (s) => {
      s.server.always("refuse");
      const pool = await s.start({ size: 1, backoff });
      await s.advance(300);
      const [connection] = pool.snapshot().connections;
      expect(connection).toMatchObject({ state: "waitingToReopen", attempts: 3, lastError: "Refused (ECONNREFUSED)" });
      s.server.always("ok");
      await s.advance(1_000);
      expect(pool.snapshot().connections[0]).toMatchObject({ state: "ready", attempts: 0 });
      expect(pool.snapshot().connections[0]).not.toHaveProperty("lastError");
    }),
  );

  test(
    "that throws where it should reject is one that failed",
    scene(async (s) => {
      const { connector } = s.server;
      const open = (): never => {
        throw new Refused("EBADF");
      };
      const pool = await s.start({ connector: { ...connector, open }, size: 1, backoff });
      expect(pool.stats()).toMatchObject({ waitingToReopen: 1, totals: { openFailed: 1 } });
      expect(pool.snapshot().connections[0]).toMatchObject({ lastError: "Refused (EBADF)" });
      s.check();
    }),
  );

  test(
    "that hangs is given up at openTimeoutMs, and told so",
    scene(async (s) => {
      s.server.next("never");
      const pool = await s.start({ size: 1, backoff, openTimeoutMs: 500 });
      const [attempt] = s.server.attempts;
      await s.advance(499);
      expect([pool.stats().opening, attempt?.signal.aborted]).toEqual([1, false]);
      await s.advance(1);
      expect([pool.stats().opening, attempt?.signal.aborted]).toEqual([0, true]);
      expect(codeOf(attempt?.signal.reason)).toBe("opening took longer than 500 ms");
      expect(pool.stats()).toMatchObject({ waitingToReopen: 1, totals: { openFailed: 1 } });
      await s.advance(100);
      expect([s.server.times, pool.stats().ready]).toEqual([[0, 600], 1]);
      s.check();
    }),
  );

  test(
    "may take 10 seconds when nobody says how long",
    scene(async (s) => {
      s.server.next("never");
      await s.start({ size: 1, backoff });
      await s.advance(9_999);
      expect(s.server.attempts[0]?.signal.aborted).toBe(false);
      await s.advance(1);
      expect(s.server.attempts[0]?.signal.aborted).toBe(true);
    }),
  );

  test(
    "that is slow serves whoever has waited for it as soon as it is done",
    scene(async (s) => {
      const opened = s.events("connection.opened");
      s.server.always(after(300, "ok"));
      await s.start({ size: 1, openTimeoutMs: 500 });
      const work = s.use();
      await s.advance(299);
      expect(work.started).toBe(false);
      await s.advance(1);
      expect(work.started).toBe(true);
      expect(opened).toMatchObject([{ openMs: 300 }]);
      await s.advance(500);
      expect(s.server.attempts.length).toBe(1);
      s.check();
    }),
  );

  test(
    "that hangs keeps nobody from the connection beside it",
    scene(async (s) => {
      s.server.next("never");
      const pool = await s.start({ size: 2 });
      const work = s.use();
      expect([work.started, pool.stats()]).toMatchObject([true, { opening: 1, ready: 1 }]);
      s.check();
    }),
  );

  test(
    "whose result comes after its timeout is closed once, and never served",
    scene(async (s) => {
      s.server.next(after(800, "ok", "deaf"));
      const pool = await s.start({ size: 1, backoff, openTimeoutMs: 500 });
      await s.advance(600);
      const [served] = s.registered;
      expect(s.server.times).toEqual([0, 600]);
      await s.advance(200);
      const late = s.server.resources.find(({ openedAt }) => openedAt === 800);
      expect(late?.closings).toEqual(["normal"]);
      expect([s.registered, pool.stats()]).toMatchObject([[served], { size: 1, ready: 1 }]);
      expect(pool.stats().totals).toMatchObject({ opened: 2, closed: 1, openFailed: 1, lost: 0 });
      s.check();
    }),
  );

  test(
    "whose error comes after its timeout fails it no second time",
    scene(async (s) => {
      s.server.next(after(800, "refuse", "deaf"));
      const pool = await s.start({ size: 1, backoff, openTimeoutMs: 500 });
      await s.advance(1_000);
      expect(pool.stats()).toMatchObject({ ready: 1, totals: { openFailed: 1 } });
      expect(s.server.times).toEqual([0, 600]);
    }),
  );

  test(
    "whose result comes when the pool has ended is closed once",
    scene(async (s) => {
      s.server.next(after(800, "ok", "deaf"));
      const pool = await s.start({ size: 1 });
      await s.until(pool.destroy());
      expect(s.server.attempts[0]?.signal.aborted).toBe(true);
      await s.advance(800);
      expect(s.server.resources.map(({ closings }) => closings)).toEqual([["normal"]]);
    }),
  );

  test(
    "whose resource was lost before it was handed out is one that failed",
    scene(async (s) => {
      const opened = s.events("connection.opened");
      s.server.next("deadOnArrival");
      const pool = await s.start({ size: 1, backoff });
      expect(s.server.resources.map(({ closings }) => closings)).toEqual([[new Refused("ECONNRESET")]]);
      expect([opened, pool.stats()]).toMatchObject([[], { waitingToReopen: 1, totals: { openFailed: 1, lost: 0 } }]);
      s.check();
      await s.advance(100);
      expect([s.server.times, pool.stats().ready]).toEqual([[0, 100], 1]);
    }),
  );

  test(
    "whose resource was asked to go before it was handed out is one that failed",
    scene(async (s) => {
      s.server.next("leavingOnArrival");
      const pool = await s.start({ size: 1, backoff });
      expect(pool.stats()).toMatchObject({ size: 1, waitingToReopen: 1, totals: { openFailed: 1 } });
      expect(s.server.resources.map(({ closings }) => closings.length)).toEqual([1]);
      s.check();
      await s.advance(100);
      expect([s.server.times, pool.stats().ready]).toEqual([[0, 100], 1]);
    }),
  );

  test(
    "that succeeds and dies at once is repeated at once, and then not before the backoff allows",
    scene(async (s) => {
      const lost = s.events("connection.lost");
      s.server.always("dies");
      const pool = await s.start({ size: 1, backoff });
      expect(s.server.times).toEqual([0, 0]);
      expect(lost.length).toBe(2);
      expect(pool.stats()).toMatchObject({ waitingToReopen: 1, totals: { opened: 2, lost: 2, closed: 2 } });
      await s.advance(10_000);
      expect(s.server.attempts.length).toBeLessThanOrEqual(2 * (10_000 / backoff.minMs) + 2);
      s.check();
      s.server.always("ok");
      await s.advance(backoff.maxMs);
      expect(pool.stats().ready).toBe(1);
    }),
  );

  test(
    "that succeeds and is asked to go at once has a successor, which is held back as a lost one's is",
    scene(async (s) => {
      s.server.always("goesAway");
      const pool = await s.start({ size: 1, backoff });
      await s.advance(10_000);
      expect(s.server.attempts.length).toBeGreaterThan(10);
      expect(s.server.attempts.length).toBeLessThanOrEqual(2 * (10_000 / backoff.minMs) + 2);
      expect(pool.stats()).toMatchObject({ size: 1, draining: 0, totals: { lost: 0, openFailed: 0 } });
      s.check();
      s.server.always("ok");
      await s.advance(backoff.maxMs);
      expect(pool.stats()).toMatchObject({ size: 1, ready: 1 });
      expect(pool.members().map(({ slot }) => slot)).toEqual([0]);
    }),
  );
});

describe("a server that is down", () => {
  test(
    "is tried at growing distances, and at the shortest again after a success",
    scene(async (s) => {
      s.server.always("refuse");
      await s.start({ size: 1, backoff });
      await s.advance(3_499);
      expect(pauses(s.server.times)).toEqual([100, 200, 400, 800, 1_000]);
      s.server.next("ok", "refuse", "refuse");
      await s.advance(1);
      s.registered[0]?.lose();
      await s.advance(1_000);
      expect(s.server.times.slice(-4)).toEqual([3_500, 3_500, 3_600, 3_800]);
      s.check();
    }),
  );

  test(
    "is tried between 1 and 30 seconds apart by default, and by no two connections in step",
    scene(async (s) => {
      s.server.always("refuse");
      await s.start({ size: 2 });
      await s.advance(600_000);
      const of = (slot: number): number[] => s.server.attempts.filter((each) => each.slot === slot).map(({ at }) => at);
      for (const slot of [0, 1]) {
        const distances = pauses(of(slot));
        expect(distances[0]).toBeLessThanOrEqual(3_000);
        expect(Math.min(...distances)).toBeGreaterThanOrEqual(1_000);
        expect(Math.max(...distances)).toBeLessThanOrEqual(30_000);
        expect(Math.max(...distances)).toBeGreaterThan(10_000);
      }
      expect(of(0)[1]).not.toBe(of(1)[1]);
      s.check();
    }),
  );

  test(
    "costs no restart, however long it is down",
    scene(async (s) => {
      const exits = s.events("supervisor.childExited");
      s.server.script = (nth) => (["refuse", "dies", "deadOnArrival", after(50, "refuse")] as const)[nth % 4] ?? "ok";
      await s.start({ size: 3, backoff, maxRestarts: 0 });
      const before = processes(s);
      await s.advance(60_000);
      expect(processes(s)).toEqual(before);
      expect(exits).toEqual([]);
      s.check();
      s.server.always("ok");
      await s.advance(backoff.maxMs);
      expect(s.pool.stats()).toMatchObject({ ready: 3 });
    }),
  );

  test(
    "does not keep the program alive while nobody waits",
    scene(async (s) => {
      s.server.script = (nth) => (nth === 1 ? "never" : "refuse");
      await s.start({ size: 2, backoff });
      expect(s.pool.stats()).toMatchObject({ opening: 1, waitingToReopen: 1 });
      expect(s.runtime.timers).toBeGreaterThan(0);
      expect(s.runtime.keepAliveTimers).toBe(0);
    }),
  );

  test(
    "is not tried any sooner because the connection's process has crashed",
    scene(async (s) => {
      s.server.always("refuse");
      await s.start({ size: 1, backoff, maxRestarts: 100 });
      for (const ms of [50, 50, 130, 70, 250]) {
        await s.advance(ms);
        s.connections[0]?.kill();
      }
      await s.advance(1_000);
      expect(Math.min(...pauses(s.server.times))).toBeGreaterThanOrEqual(100);
      expect(s.server.times.slice(0, 3)).toEqual([0, 100, 300]);
      expect(s.pool.snapshot().connections[0]?.attempts, "it still knows how often it has failed").toBeGreaterThan(3);
      s.check();
    }),
  );
});

describe("a caller who waits", () => {
  test(
    "brings the next attempt forward to minMs after the last, once for all who wait",
    scene(async (s) => {
      s.server.always("refuse");
      await s.start({ size: 1, backoff });
      await s.advance(1_600);
      expect(s.server.times).toEqual([0, 100, 300, 700, 1_500]);
      for (let caller = 0; caller < 50; caller++) s.use({ timeoutMs: 10_000 });
      await s.advance(0);
      expect(s.server.times.length, "100 ms have passed since the last").toBe(6);
      await s.advance(1_000);
      expect(pauses(s.server.times).slice(5)).toEqual(new Array(10).fill(100));
      s.server.always("ok");
      await s.advance(100);
      expect(s.works.every(({ started }) => started)).toBe(true);
      s.check();
    }),
  );

  test(
    "is not asked twice: an attempt is neither put off nor repeated by those who come later",
    scene(async (s) => {
      s.server.always("refuse");
      await s.start({ size: 1, backoff });
      await s.advance(720);
      for (let caller = 0; caller < 8; caller++) {
        s.use({ timeoutMs: 15 });
        await s.advance(10);
      }
      expect(s.server.times).toEqual([0, 100, 300, 700, 800]);
    }),
  );

  test(
    "and gives up leaves the backoff as it was",
    scene(async (s) => {
      s.server.always("refuse");
      await s.start({ size: 1, backoff });
      s.use({ timeoutMs: 350 });
      await s.advance(5_000);
      expect(pauses(s.server.times)).toEqual([100, 100, 100, 100, 1_000, 1_000, 1_000, 1_000]);
    }),
  );

  test(
    "counts minMs from the beginning of an attempt, which may have been long",
    scene(async (s) => {
      s.server.next(after(5_000, "refuse"));
      await s.start({ size: 1, backoff });
      const work = s.use({ timeoutMs: 6_000 });
      await s.advance(5_000);
      expect([s.server.times, work.started]).toEqual([[0, 5_000], true]);
    }),
  );

  test(
    "makes every connection that is away try, not only one",
    scene(async (s) => {
      s.server.always("refuse");
      await s.start({ size: 3, backoff });
      await s.advance(1_600);
      s.server.attempts.length = 0;
      s.use();
      await s.advance(0);
      expect(s.server.attempts.map(({ slot }) => slot).sort((a, b) => a - b)).toEqual([0, 1, 2]);
    }),
  );

  test.each([
    ["ready", (s: Scene) => void s.pool.ready({ timeoutMs: 10_000 }).catch(() => undefined)],
    ["pick", (s: Scene) => expect(() => s.pool.pick()).toThrow()],
  ])("may have called %s", (_, call) =>
    scene(async (s) => {
      s.server.always("refuse");
      await s.start({ size: 1, backoff });
      await s.advance(1_650);
      call(s);
      await s.advance(0);
      expect(s.server.times.at(-1)).toBe(1_650);
    })(),
  );

  test(
    "for the pool to be ready is known of by the failures that come meanwhile",
    scene(async (s) => {
      s.server.always("refuse");
      const pool = await s.start({ size: 1, backoff });
      const ready = s.outcome(pool.ready({ timeoutMs: 550 }));
      await s.advance(550);
      expect([s.server.times, await ready]).toEqual([[0, 100, 200, 300, 400, 500], "ERR_POOL_ACQUIRE_TIMEOUT"]);
    }),
  );

  test(
    "for a full member also brings back those that are away",
    scene(async (s) => {
      s.server.capacity = 1;
      s.server.script = (nth) => (nth === 1 ? "ok" : "refuse");
      await s.start({ size: 2, backoff });
      await s.advance(1_650);
      const [holder, waiter] = [s.use(), s.use()];
      s.server.always("ok");
      await s.advance(0);
      expect([holder.resource.id, waiter.resource.id]).toEqual([1, 2]);
      expect(s.server.times.at(-1)).toBe(1_650);
      s.check();
    }),
  );
});

describe("a healthy resource", () => {
  test(
    "that drops is replaced at once, and off the registry before anybody is told",
    scene(async (s) => {
      const lost = s.events("connection.lost");
      const pool = await s.start({ size: 2, backoff });
      await s.advance(60_000);
      const [victim] = s.registered as [Resource];
      const work = s.use();
      const other = s.use();
      const dropped = [work, other].find(({ resource }) => resource === victim);
      victim.lose(new Refused("ECONNRESET"));
      expect(s.registered).not.toContain(victim);
      expect(lost).toMatchObject([{ reason: new Refused("ECONNRESET"), inFlight: 1, endpoint: "fake" }]);
      await s.settle();
      expect(s.server.times).toEqual([0, 0, 60_000]);
      expect(pool.stats()).toMatchObject({ size: 2, ready: 2, totals: { lost: 1, closed: 1, opened: 3 } });
      await s.advance(1);
      expect(dropped?.outcome).toBe("ERR_CONNECTION_LOST");
      s.check();
    }),
  );

  test(
    "is lost once, however often it says so",
    scene(async (s) => {
      const lost = s.events("connection.lost");
      const pool = await s.start({ size: 1, backoff });
      const [victim] = s.registered as [Resource];
      for (let said = 0; said < 3; said++) victim.lose();
      await s.settle();
      victim.lose();
      victim.goAway();
      await s.settle();
      expect([lost.length, pool.stats()]).toMatchObject([1, { ready: 1, size: 1, totals: { lost: 1 } }]);
      s.check();
    }),
  );

  test(
    "that drops soon after the one before did is replaced after the backoff",
    scene(async (s) => {
      await s.start({ size: 1, backoff });
      await s.advance(1_000);
      s.server.last.lose();
      await s.advance(50);
      s.server.last.lose();
      await s.advance(99);
      expect(s.server.times).toEqual([0, 1_000]);
      await s.advance(1);
      expect(s.server.times).toEqual([0, 1_000, 1_150]);
      s.check();
    }),
  );

  test(
    "whose process is killed is closed, and replaced at once by a new process in the same slot",
    scene(async (s) => {
      const pool = await s.start({ size: 2, backoff });
      const [first] = s.registered as [Resource];
      s.connections[0]?.kill();
      expect(s.registered).not.toContain(first);
      expect(first.closings).toEqual(["killed"]);
      await s.settle();
      expect(pool.stats()).toMatchObject({ size: 2, ready: 2 });
      expect(pool.members().map(({ slot }) => slot)).toEqual([0, 1]);
      expect(s.server.times).toEqual([0, 0, 0]);
      s.check();
    }),
  );
});

describe("an error that retrying cannot mend", () => {
  test(
    "refuses every caller at once, and is not tried again until recycle",
    scene(async (s) => {
      const failed = s.events("connection.openFailed");
      s.server.always("fatal");
      const pool = await s.start({ size: 2, backoff });
      expect(failed).toMatchObject([{ retryMs: undefined }, { retryMs: undefined }]);
      expect(pool.stats()).toMatchObject({ fatal: 2, waitingToReopen: 0, totals: { openFailed: 2 } });
      const error: unknown = await s.until(pool.use(() => "never").catch((thrown: unknown) => thrown));
      expect(error).toMatchObject({ code: "ERR_POOL_OPEN_FAILED", retryable: false, stats: { fatal: 2 } });
      expect((error as Error).cause).toMatchObject({ code: "EFATAL" });
      expect(await s.outcome(pool.use(() => "never", { timeoutMs: 0 }))).toBe("ERR_POOL_OPEN_FAILED");
      expect(await s.outcome(pool.ready())).toBe("ERR_POOL_OPEN_FAILED");
      expect(() => pool.pick()).toThrow(expect.objectContaining({ code: "ERR_POOL_OPEN_FAILED" }) as Error);
      await s.advance(3_600_000);
      expect(s.server.times).toEqual([0, 0]);
      expect(pool.stats()).toMatchObject({ waiting: 0, totals: { rejected: 3 } });
      s.check();

      s.server.always("ok");
      await s.until(pool.recycle());
      expect(pool.stats()).toMatchObject({ fatal: 0, size: 2, ready: 2 });
      expect(await s.outcome(pool.use(() => "now"))).toBe("ok");
      s.check();
    }),
  );

  test(
    "lets callers wait again while recycle tries anew",
    scene(async (s) => {
      s.server.always("fatal");
      const pool = await s.start({ size: 1, backoff });
      s.server.always(after(200, "ok"));
      const recycled = pool.recycle();
      const work = s.use();
      await s.advance(199);
      expect([work.outcome, work.started]).toEqual(["pending", false]);
      await s.advance(1);
      expect(work.started).toBe(true);
      expect(await s.outcome(recycled)).toBe("ok");
      s.check();
    }),
  );

  test(
    "is as final after a recycle that did not mend it",
    scene(async (s) => {
      s.server.always("fatal");
      const pool = await s.start({ size: 2, backoff });
      expect(await s.outcome(pool.recycle())).toBe("ok");
      expect(pool.stats()).toMatchObject({ size: 2, fatal: 2 });
      expect(s.server.attempts.length).toBe(4);
      expect(await s.outcome(pool.use(() => "never"))).toBe("ERR_POOL_OPEN_FAILED");
      s.check();
    }),
  );

  test(
    "tells those who wait already, with how long they did",
    scene(async (s) => {
      s.server.always(after(300, "fatal"));
      await s.start({ size: 2, backoff });
      const refused = s.events("pool.refused");
      const [first, second] = [s.use(), s.use()];
      await s.advance(300);
      expect([first.outcome, second.outcome]).toEqual(["ERR_POOL_OPEN_FAILED", "ERR_POOL_OPEN_FAILED"]);
      expect(first.error).toMatchObject({ waitedMs: 300 });
      expect((first.error as Error).cause).toMatchObject({ code: "EFATAL" });
      expect(refused).toMatchObject([
        { code: "ERR_POOL_OPEN_FAILED", waitedMs: 300 },
        { code: "ERR_POOL_OPEN_FAILED", waitedMs: 300 },
      ]);
      s.check();
    }),
  );

  test(
    "tells those who wait for ready, too",
    scene(async (s) => {
      s.server.always(after(300, "fatal"));
      const pool = await s.start({ size: 1, backoff });
      const error: unknown = await s.until(pool.ready().catch((thrown: unknown) => thrown));
      expect(error).toMatchObject({ code: "ERR_POOL_OPEN_FAILED", waitedMs: 300 });
      expect(s.runtime.now()).toBe(300);
    }),
  );

  test(
    "of one endpoint is no matter while another may still come",
    scene(async (s) => {
      s.server.script = (_, { endpoint }) => (endpoint.id === "wrong" ? "fatal" : "refuse");
      const pool = await s.start({ size: 1, backoff, endpoints: [{ id: "wrong" }, { id: "down" }] });
      expect(pool.stats()).toMatchObject({ fatal: 1, waitingToReopen: 1 });
      const work = s.use();
      s.server.always("ok");
      await s.advance(100);
      expect(work.resource.endpoint).toBe("down");
      s.check();
    }),
  );

  test(
    "outlives a crash of the connection's process",
    scene(async (s) => {
      s.server.always("fatal");
      const pool = await s.start({ size: 1, backoff });
      s.connections[0]?.kill();
      await s.advance(60_000);
      expect([pool.stats().fatal, s.server.attempts.length]).toEqual([1, 1]);
      s.check();
    }),
  );

  test.each([
    [
      "throws",
      () => {
        throw new Error("isFatal is broken");
      },
    ],
    ["rejects", () => Promise.reject(new Error("isFatal is broken"))],
  ])("is any other error when isFatal itself %s, which is an event", (_, isFatal) =>
    scene(async (s) => {
      const failed = s.events("callback.failed");
      s.server.next("fatal");
      const connector = { ...s.server.connector, isFatal: isFatal as () => never };
      const pool = await s.start({ connector, size: 1, backoff });
      expect(pool.stats()).toMatchObject({ fatal: 0, waitingToReopen: 1 });
      expect(failed).toEqual([{ where: "scene: isFatal", error: new Error("isFatal is broken") }]);
      await s.advance(100);
      expect(pool.stats().ready).toBe(1);
      s.check();
    })(),
  );
});
