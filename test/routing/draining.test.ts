/**
 * A resource that asks to go (GOAWAY): it still answers what it has, and wants nothing new. A server that is being
 * replaced asks that of all its clients at once, so nobody may be lost on the way.
 */

import { describe, expect, test } from "vitest";
import { after, type Resource } from "./server.ts";
import { reasonOf, scene } from "./scene.ts";

function closings(resources: readonly Resource[]): string[][] {
  return resources.map((resource) => resource.closings.map(reasonOf));
}

describe("a resource that asks to go", () => {
  test(
    "is sent nothing new, from that very step on",
    scene(async (s) => {
      const pool = await s.start({ size: 2, strategy: { pick: (members) => members.at(-1)! } });
      const going = s.server.last;
      going.goAway();
      expect(s.registered).not.toContain(going);
      expect(pool.pick().resource).not.toBe(going);
      const works = Array.from({ length: 10 }, () => s.use());
      await s.settle();
      expect(works.some(({ resource }) => resource === going)).toBe(false);
      s.check();
    }),
  );

  test(
    "has a successor at once, in its slot, and finishes what it has",
    scene(async (s) => {
      const pool = await s.start({ size: 1 });
      const drained = s.events("connection.drained");
      const works = [s.use(), s.use()];
      await s.settle();
      const going = s.server.last;
      going.goAway();
      await s.settle();
      expect(s.runtime.now()).toBe(0);
      expect(drained).toEqual([{ pool: "scene", connection: "connection 0", endpoint: "fake", inFlight: 2 }]);
      expect(pool.stats()).toMatchObject({ size: 2, ready: 1, draining: 1, inFlight: 2, used: 0 });
      expect(pool.members().map(({ slot, state, inFlight }) => [slot, state, inFlight])).toEqual([
        [0, "draining", 2],
        [0, "ready", 0],
      ]);
      s.check();

      works[0]?.end("first");
      await s.advance(10_000);
      expect([works[0]?.value, works[1]?.signal.aborted, going.closings]).toEqual(["first", false, []]);
      works[1]?.end("second");
      await s.settle();
      expect([works[1]?.value, closings([going])]).toEqual(["second", [["normal"]]]);
      expect(pool.stats()).toMatchObject({ size: 1, ready: 1, draining: 0, totals: { lost: 0, closed: 1, failed: 0 } });
      s.check();
    }),
  );

  test(
    "and does nothing is closed at once",
    scene(async (s) => {
      const pool = await s.start({ size: 2 });
      s.server.last.goAway();
      await s.settle();
      expect(closings(s.server.resources)).toEqual([[], ["normal"], []]);
      expect(pool.stats()).toMatchObject({ size: 2, ready: 2, draining: 0 });
      s.check();
    }),
  );

  test(
    "says it only once, whatever it says",
    scene(async (s) => {
      const pool = await s.start({ size: 1 });
      s.use();
      await s.settle();
      const going = s.server.last;
      for (let times = 0; times < 3; times++) {
        going.goAway();
        await s.settle();
      }
      expect([s.server.attempts.length, pool.stats().size]).toEqual([2, 2]);
      s.works[0]?.end();
      await s.settle();
      going.goAway();
      going.lose();
      await s.settle();
      expect([s.server.attempts.length, pool.stats().size]).toEqual([2, 1]);
      expect(pool.stats().totals.lost).toBe(0);
      s.check();
    }),
  );

  test(
    "in the same breath as all others loses nobody: they are all served by the successors",
    scene(async (s) => {
      const pool = await s.start({ size: 3 });
      const early = Array.from({ length: 6 }, () => s.use());
      await s.settle();
      s.server.always(after(200, "ok"));
      for (const resource of [...s.server.resources]) resource.goAway();
      const late = Array.from({ length: 6 }, () => s.use());
      await s.settle();
      expect(late.some(({ started }) => started)).toBe(false);
      expect(pool.stats()).toMatchObject({ draining: 3, opening: 3, waiting: 6 });
      await s.advance(200);
      expect(late.every(({ started }) => started)).toBe(true);
      for (const work of s.works) work.end();
      await s.settle();
      expect([...early, ...late].map(({ outcome }) => outcome)).toEqual(Array(12).fill("ok"));
      expect(pool.stats()).toMatchObject({ size: 3, ready: 3 });
      s.check();
    }),
  );

  test(
    "while it is being opened has not come up: the attempt has failed",
    scene(async (s) => {
      const failed = s.events("connection.openFailed");
      const { connector } = s.server;
      const eager = {
        ...connector,
        open: async (context: Parameters<typeof connector.open>[0]) => {
          const resource = await connector.open(context);
          if (resource.id === 1) resource.goAway();
          return resource;
        },
      };
      const pool = await s.start({ size: 1, connector: eager, backoff: { kind: "exponential", minMs: 100 } });
      expect(pool.stats()).toMatchObject({ waitingToReopen: 1, totals: { opened: 1, openFailed: 1, closed: 1 } });
      expect(failed).toHaveLength(1);
      await s.advance(100);
      expect(pool.stats()).toMatchObject({ size: 1, ready: 1 });
      s.check();
    }),
  );

  test(
    "is held open by what its callers gave up on, too",
    scene(async (s) => {
      const pool = await s.start({ size: 1 });
      const controller = new AbortController();
      const work = s.use({ signal: controller.signal });
      await s.settle();
      controller.abort(new Error("no more"));
      const going = s.server.last;
      going.goAway();
      await s.advance(1_000);
      expect([work.outcome, going.closings, pool.stats().inFlight]).toEqual(["no more", [], 1]);
      work.end();
      await s.settle();
      expect([closings([going]), pool.stats().inFlight]).toEqual([[["normal"]], 0]);
      s.check();
    }),
  );

  test(
    "is held open by a route that was picked, until that is settled",
    scene(async (s) => {
      const pool = await s.start({ size: 1 });
      const route = pool.pick();
      const going = s.server.last;
      going.goAway();
      await s.advance(1_000);
      expect(going.closings).toEqual([]);
      route.settle();
      await s.settle();
      expect(closings([going])).toEqual([["normal"]]);
      s.check();
    }),
  );
});

describe("one that takes too long to go", () => {
  test(
    "is cut off after drainTimeoutMs: the works on it are told why",
    scene(async (s) => {
      const pool = await s.start({ size: 1, drainTimeoutMs: 3_000 });
      const [slow, again] = [s.use(), s.use({ idempotent: true })];
      await s.settle();
      const going = s.server.last;
      going.goAway();
      await s.advance(2_999);
      expect([slow.outcome, going.closings]).toEqual(["pending", []]);
      await s.advance(1);
      expect(slow.outcome).toBe("ERR_CONNECTION_LOST");
      expect(slow.error).toMatchObject({ sent: "maybe", cause: { message: "its time to finish was over" } });
      expect(slow.signal.aborted).toBe(true);
      expect(closings([going])).toEqual([["shutdown"]]);
      expect(again.outcome, "made again, since it may be").toBe("pending");
      expect(again.ran.map(({ id }) => id)).toEqual([1, 2]);
      expect(pool.stats()).toMatchObject({ size: 1, ready: 1, inFlight: 1, draining: 0 });
      s.check();
    }),
  );

  test(
    "has 30 seconds when nobody says how long",
    scene(async (s) => {
      await s.start({ size: 1 });
      const work = s.use();
      await s.settle();
      s.server.last.goAway();
      await s.advance(29_999);
      expect(work.outcome).toBe("pending");
      await s.advance(1);
      expect(work.outcome).toBe("ERR_CONNECTION_LOST");
      s.check();
    }),
  );

  test(
    "has no time at all when drainTimeoutMs is 0",
    scene(async (s) => {
      await s.start({ size: 1, drainTimeoutMs: 0 });
      const work = s.use();
      await s.settle();
      s.server.last.goAway();
      await s.advance(0);
      expect([work.outcome, closings(s.server.resources)[0]]).toEqual(["ERR_CONNECTION_LOST", ["shutdown"]]);
      s.check();
    }),
  );

  test(
    "leaves no timer when it is done in time",
    scene(async (s) => {
      await s.start({ size: 1 });
      const work = s.use();
      await s.settle();
      s.server.last.goAway();
      await s.settle();
      expect(s.runtime.keepAliveTimers).toBe(1);
      work.end();
      await s.settle();
      expect(s.runtime.timers).toBe(0);
      s.check();
    }),
  );
});

describe("one that is lost before it has gone", () => {
  test(
    "takes its works along, and is replaced by nobody but the successor it has",
    scene(async (s) => {
      const pool = await s.start({ size: 1 });
      const lost = s.events("connection.lost");
      const work = s.use();
      await s.settle();
      const going = s.server.last;
      going.goAway();
      await s.settle();
      going.lose(new Error("reset"));
      await s.advance(0);
      expect(work.outcome).toBe("ERR_CONNECTION_LOST");
      expect(work.error).toMatchObject({ sent: "maybe", cause: { message: "reset" } });
      expect(lost).toMatchObject([{ connection: "connection 0", inFlight: 1 }]);
      expect(closings([going])).toEqual([["reset"]]);
      expect(pool.stats()).toMatchObject({ size: 1, ready: 1, inFlight: 0, totals: { lost: 1, opened: 2, closed: 1 } });
      s.check();
    }),
  );

  test(
    "because its process was killed is not put back",
    scene(async (s) => {
      const pool = await s.start({ size: 1 });
      const work = s.use();
      await s.settle();
      s.server.last.goAway();
      s.connections[0]?.kill();
      await s.advance(60_000);
      expect(work.outcome).toBe("ERR_CONNECTION_LOST");
      expect([pool.stats().size, s.connections.length, s.server.attempts.length]).toEqual([1, 1, 2]);
      s.check();
    }),
  );
});

describe("one that is killed by somebody who hears that it leaves", () => {
  test(
    "is gone, and its place with it",
    scene(async (s) => {
      const pool = await s.start({ size: 1 });
      const work = s.use();
      await s.settle();
      s.on("connection.drained", () => s.connections[0]?.kill());
      s.server.last.goAway();
      await s.advance(0);
      expect(work.outcome).toBe("ERR_CONNECTION_LOST");
      expect(pool.stats()).toMatchObject({ size: 1, ready: 1, draining: 0 });
      expect(s.connections).toHaveLength(1);
      s.check();
    }),
  );
});

describe("the successor", () => {
  test(
    "of one that goes as soon as it has come waits: nobody is called in a tight loop",
    scene(async (s) => {
      s.server.always("goesAway");
      const pool = await s.start({ size: 1, backoff: { kind: "exponential", minMs: 1_000, maxMs: 1_000 } });
      await s.advance(60_000);
      expect(s.server.attempts.length).toBeGreaterThan(30);
      expect(s.server.attempts.length).toBeLessThan(130);
      s.server.always("ok");
      await s.until(pool.ready());
      expect(pool.stats().size).toBe(1);
      s.check();
    }),
  );

  test(
    "that cannot be opened is tried again, and those who wait are served then",
    scene(async (s) => {
      const pool = await s.start({ size: 1, backoff: { kind: "exponential", minMs: 100, maxMs: 100 } });
      s.server.always("refuse");
      s.server.last.goAway();
      const waiting = s.use();
      await s.advance(1_000);
      expect([waiting.started, pool.stats().waitingToReopen]).toEqual([false, 1]);
      s.server.always("ok");
      await s.advance(100);
      expect(waiting.started).toBe(true);
      s.check();
    }),
  );

  test(
    "is not needed when the pool shrinks by that one",
    scene(async (s) => {
      const pool = await s.start({ size: 2 });
      const works = [s.use(), s.use()];
      await s.settle();
      const resized = s.follow(pool.resize(1));
      const going = s.server.resources[1];
      going?.goAway();
      await s.settle();
      expect([s.server.attempts.length, pool.stats().size]).toEqual([2, 2]);
      for (const work of works) work.end();
      await s.settle();
      expect([resized.outcome, pool.stats().size]).toEqual(["ok", 1]);
      s.check();
    }),
  );

  test(
    "comes while the pool closes, for those who are still in line",
    scene(async (s) => {
      s.server.capacity = 1;
      const pool = await s.start({ size: 1 });
      const works = [s.use(), s.use()];
      await s.settle();
      const closed = pool.close();
      s.server.last.goAway();
      await s.settle();
      expect(works[1]?.resource.id).toBe(2);
      for (const work of works) work.end();
      expect(await s.until(closed)).toEqual({ finished: 2, aborted: 0 });
    }),
  );
});
