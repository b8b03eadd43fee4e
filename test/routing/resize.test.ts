/** Changing how many connections a pool has while it is in use. */

import { describe, expect, test } from "vitest";
import { type Scene, scene } from "./scene.ts";
import { after, type Resource } from "./server.ts";

function ids(resources: readonly Resource[]): number[] {
  return resources.map(({ id }) => id);
}

function slots(s: Scene): number[] {
  return s.pool.members().map(({ slot }) => slot);
}

describe("a pool that grows", () => {
  test(
    "keeps the connections it has, and opens the missing in the next slots",
    scene(async (s) => {
      const pool = await s.start({ size: 2 });
      const before = [...s.registered];
      await s.until(pool.resize(4));
      await s.settle();
      expect(s.registered.slice(0, 2)).toEqual(before);
      expect(ids(s.server.fit)).toEqual([1, 2, 3, 4]);
      expect(slots(s)).toEqual([0, 1, 2, 3]);
      s.check();
    }),
  );

  test(
    "serves those in line with what it has gained",
    scene(async (s) => {
      s.server.capacity = 1;
      const pool = await s.start({ size: 1 });
      const works = [s.use(), s.use(), s.use()];
      await s.settle();
      await s.until(pool.resize(2));
      await s.settle();
      expect(works.map(({ started }) => started)).toEqual([true, true, false]);
      s.check();
    }),
  );

  test.each(["refuse", "never"] as const)(
    "resolves when the server does not answer (%s): opening is not its business",
    (manner) =>
      scene(async (s) => {
        s.server.always(manner);
        const pool = await s.start({ size: 1 });
        const resized = s.follow(pool.resize(3));
        await s.settle();
        expect([resized.outcome, s.runtime.now()]).toEqual(["ok", 0]);
        expect(pool.stats()).toMatchObject({ size: 3, ready: 0 });
        s.check();
      })(),
  );

  test(
    "has as many at each endpoint",
    scene(async (s) => {
      const pool = await s.start({ size: 1, endpoints: [{ id: "a" }, { id: "b" }] });
      await s.until(pool.resize(3));
      await s.settle();
      const at = pool.members().map(({ endpoint }) => endpoint.id);
      expect(at.toSorted()).toEqual(["a", "a", "a", "b", "b", "b"]);
      expect(new Set(slots(s)).size).toBe(6);
      s.check();
    }),
  );

  test(
    "in the step in which its supervisor has died grows when that is back",
    scene(async (s) => {
      const pool = await s.start({ size: 1 });
      pool.tree().children[1]?.process.kill();
      const resized = s.follow(pool.resize(3).then(() => s.connections.length));
      await s.settle();
      expect(resized.value, "when it resolves").toBe(3);
      expect(pool.stats()).toMatchObject({ size: 3, ready: 3 });
      s.check();
    }),
  );
});

describe("a pool that shrinks", () => {
  test(
    "lets the newest go",
    scene(async (s) => {
      const pool = await s.start({ size: 4 });
      await s.until(pool.resize(2));
      expect(ids(s.server.fit)).toEqual([1, 2]);
      expect(slots(s)).toEqual([0, 1]);
      expect(pool.stats()).toMatchObject({ size: 2, ready: 2, totals: { closed: 2, lost: 0 } });
      s.check();
    }),
  );

  test(
    "keeps those that serve, however old those are that do not",
    scene(async (s) => {
      s.server.next("refuse", "never", "ok", "ok");
      const pool = await s.start({ size: 4 });
      await s.until(pool.resize(2));
      expect(ids(s.server.fit)).toEqual([1, 2]);
      expect(slots(s)).toEqual([2, 3]);
      expect(pool.stats()).toMatchObject({ size: 2, ready: 2 });
      s.check();
    }),
  );

  test(
    "lets what must go finish, sends nothing new there, and resolves when it is gone",
    scene(async (s) => {
      const pool = await s.start({ size: 2, strategy: { pick: (members) => members.at(-1)! } });
      const leaving = s.use();
      await s.settle();
      expect(leaving.resource.slot).toBe(1);
      const resized = s.follow(pool.resize(1));
      expect(s.registered, "in the very step").toHaveLength(1);
      const next = s.use();
      await s.advance(20_000);
      expect([resized.outcome, leaving.outcome, leaving.signal.aborted]).toEqual(["pending", "pending", false]);
      expect(next.resource.slot).toBe(0);
      expect(pool.stats()).toMatchObject({ size: 2, ready: 1, draining: 1, inFlight: 2, used: 1 });
      s.check();
      leaving.end("in time");
      await s.settle();
      expect([resized.outcome, leaving.value]).toEqual(["ok", "in time"]);
      expect(pool.stats()).toMatchObject({ size: 1, ready: 1, draining: 0, inFlight: 1 });
      s.check();
    }),
  );

  test(
    "waits for that no longer than drainTimeoutMs",
    scene(async (s) => {
      const pool = await s.start({ size: 1, drainTimeoutMs: 700 });
      const work = s.use();
      await s.settle();
      const resized = s.follow(pool.resize(0));
      await s.advance(699);
      expect([work.outcome, resized.outcome]).toEqual(["pending", "pending"]);
      await s.advance(1);
      expect([work.outcome, resized.outcome]).toEqual(["ERR_CONNECTION_LOST", "ok"]);
      s.check();
    }),
  );

  test(
    "gives openings up, and closes what comes of them all the same",
    scene(async (s) => {
      s.server.always(after(100, "ok", "deaf"));
      const pool = await s.start({ size: 3 });
      const resized = s.follow(pool.resize(1));
      await s.settle();
      expect([resized.outcome, s.runtime.now()]).toEqual(["ok", 0]);
      expect(s.server.attempts.map(({ signal }) => signal.aborted)).toEqual([false, true, true]);
      expect(pool.stats()).toMatchObject({ size: 1, opening: 1 });
      await s.advance(100);
      expect(s.server.resources.map(({ closings }) => closings.length)).toEqual([0, 1, 1]);
      expect(pool.stats()).toMatchObject({ size: 1, ready: 1, totals: { opened: 3, closed: 2 } });
      s.check();
    }),
  );

  test(
    "with the server down is done at once, and what is left goes on trying",
    scene(async (s) => {
      s.server.always("refuse");
      const pool = await s.start({ size: 3, backoff: { kind: "exponential", minMs: 1_000 } });
      await s.until(pool.resize(1));
      expect(s.runtime.now()).toBe(0);
      expect(pool.stats()).toMatchObject({ size: 1, waitingToReopen: 1 });
      await s.advance(1_000);
      expect(s.server.attempts.length).toBe(4);
      s.check();
    }),
  );

  test(
    "lets go of a connection that has died in the same step, and does not bring it back",
    scene(async (s) => {
      const pool = await s.start({ size: 2 });
      s.connections[1]?.kill();
      const resized = s.follow(pool.resize(1));
      await s.advance(60_000);
      expect(resized.outcome).toBe("ok");
      expect(slots(s)).toEqual([0]);
      expect(s.connections).toHaveLength(1);
      expect(s.server.attempts.length).toBe(2);
      s.check();
    }),
  );

  test(
    "frees the slots, and the next to come take them",
    scene(async (s) => {
      const pool = await s.start({ size: 4 });
      await s.until(pool.resize(1));
      await s.until(pool.resize(3));
      await s.settle();
      expect(slots(s)).toEqual([0, 1, 2]);
      s.check();
    }),
  );
});

describe("a pool of size 0", () => {
  test(
    "has no connection, refuses who will not wait, and serves who did when it has grown again",
    scene(async (s) => {
      const pool = await s.start({ size: 2 });
      await s.until(pool.resize(0));
      expect(pool.stats()).toMatchObject({ size: 0, ready: 0 });
      expect(s.server.fit).toEqual([]);
      expect(() => pool.pick()).toThrow(expect.objectContaining({ code: "ERR_POOL_NO_MEMBER" }));
      const waiting = s.use();
      const given = s.use({ timeoutMs: 100 });
      await s.advance(1_000);
      expect([waiting.outcome, given.outcome]).toEqual(["pending", "ERR_POOL_ACQUIRE_TIMEOUT"]);
      s.check();
      await s.until(pool.resize(1));
      await s.settle();
      expect(waiting.resource.slot).toBe(0);
      s.check();
    }),
  );

  test(
    "answers what is in flight first",
    scene(async (s) => {
      const pool = await s.start({ size: 3 });
      const works = [s.use(), s.use(), s.use()];
      await s.settle();
      const resized = s.follow(pool.resize(0));
      for (const [at, work] of works.entries()) {
        expect(pool.stats()).toMatchObject({ ready: 0, draining: 3 - at });
        expect(resized.outcome).toBe("pending");
        work.end();
        await s.settle();
      }
      expect([resized.outcome, ...works.map(({ outcome }) => outcome)]).toEqual(["ok", "ok", "ok", "ok"]);
      s.check();
    }),
  );
});

describe("resizing again before the last resize is done", () => {
  test(
    "ends with what was asked last, and each resolves",
    scene(async (s) => {
      const pool = await s.start({ size: 2 });
      const works = [s.use(), s.use()];
      await s.settle();
      const all = [5, 0, 3, 1, 4].map((size) => s.follow(pool.resize(size)));
      await s.settle();
      expect(pool.stats()).toMatchObject({ ready: 4, draining: 2 });
      expect(slots(s).filter((slot) => slot < 2).length, "those who go share their slots with those who come").toBe(4);
      for (const work of works) work.end();
      await s.settle();
      expect(all.map(({ outcome }) => outcome)).toEqual(["ok", "ok", "ok", "ok", "ok"]);
      expect(pool.stats()).toMatchObject({ size: 4, ready: 4 });
      expect(slots(s)).toEqual([0, 1, 2, 3]);
      s.check();
    }),
  );

  test(
    "to the same size changes nothing",
    scene(async (s) => {
      const pool = await s.start({ size: 2 });
      const before = [...s.registered];
      await s.until(pool.resize(2));
      await s.settle();
      expect([s.registered, s.server.attempts.length]).toEqual([before, 2]);
      s.check();
    }),
  );
});

describe("a resize that is under way", () => {
  test(
    "rejects with the reason when the pool is destroyed",
    scene(async (s) => {
      const pool = await s.start({ size: 1 });
      s.use();
      await s.settle();
      const resized = s.follow(pool.resize(0));
      await s.until(pool.destroy(new Error("enough")));
      expect(resized.outcome).toBe("enough");
    }),
  );

  test(
    "resolves while the pool is closing",
    scene(async (s) => {
      const pool = await s.start({ size: 2 });
      const works = [s.use(), s.use()];
      await s.settle();
      const resized = s.follow(pool.resize(1));
      const closed = pool.close();
      works[0]?.end();
      works[1]?.end();
      await s.until(closed);
      expect(["ok", "ERR_POOL_CLOSED"]).toContain(resized.outcome);
      expect(await s.outcome(pool.resize(1))).toBe("ERR_POOL_CLOSED");
    }),
  );
});
