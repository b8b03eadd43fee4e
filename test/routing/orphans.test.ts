/**
 * Orphans: works that go on after their callers have given up.
 *
 * The server is still busy with them, whatever the caller thinks. To count them out at the caller's word would send
 * more to a member the slower it gets.
 */

import { describe, expect, test } from "vitest";
import { type Outcome, type Strategy } from "../../src/index.ts";
import { type Scene, scene, type Work } from "./scene.ts";
import type { Resource } from "./server.ts";

const backoff = { kind: "exponential", minMs: 100, maxMs: 1_000 } as const;

/** A work at work, whose caller then gives up. */
function orphan(s: Scene): Work {
  const caller = new AbortController();
  const work = s.use({ signal: caller.signal });
  expect(work.started).toBe(true);
  caller.abort(new Error("enough"));
  return work;
}

/** Takes the first member, and writes down how each request ended. */
function watching(heard: Outcome[]): Strategy<Resource> {
  return {
    pick: (members) => members[0] as (typeof members)[0],
    finished: (_, { ok, durationMs, error }) => void heard.push({ ok, durationMs, error }),
  };
}

describe("an orphan", () => {
  test(
    "counts as in flight until its work has really ended, and is then an event",
    scene(async (s) => {
      const ended = s.events("pool.orphanEnded");
      const pool = await s.start({ size: 1 });
      const work = orphan(s);
      await s.advance(250);
      expect(work.outcome).toBe("enough");
      expect([pool.stats(), ended]).toMatchObject([{ inFlight: 1, used: 1, idle: 0 }, []]);
      expect(pool.members()[0]?.inFlight).toBe(1);
      s.check();
      work.end();
      await s.settle();
      expect(pool.stats()).toMatchObject({ inFlight: 0, used: 0, idle: 1 });
      expect(ended).toEqual([{ pool: "scene", connection: "connection 0", afterMs: 250 }]);
      expect(pool.stats().totals).toMatchObject({ acquired: 1, succeeded: 0, failed: 0 });
      s.check();
    }),
  );

  test(
    "is none whose caller is still there",
    scene(async (s) => {
      const ended = s.events("pool.orphanEnded");
      await s.start({ size: 1 });
      s.use().end();
      s.use().fail(new Error("failed"));
      await s.settle();
      expect(ended).toEqual([]);
    }),
  );

  test(
    "keeps a member of limited capacity from the next in line until it ends",
    scene(async (s) => {
      s.server.capacity = 1;
      await s.start({ size: 1 });
      const gone = orphan(s);
      const next = s.use({ timeoutMs: 60_000 });
      const busy = s.use({ timeoutMs: 0 });
      await s.advance(10_000);
      expect([next.started, busy.outcome, s.pool.stats().waiting]).toEqual([false, "ERR_POOL_BUSY", 1]);
      expect(() => s.pool.pick()).toThrow(expect.objectContaining({ code: "ERR_POOL_BUSY" }) as Error);
      s.check();
      gone.end();
      await s.settle();
      expect(next.started).toBe(true);
      expect(s.server.last.peak).toBe(1);
      s.check();
    }),
  );

  test(
    "weighs as much as any request with leastUsed",
    scene(async (s) => {
      await s.start({ size: 2 });
      const [stays, ends] = [orphan(s), orphan(s)];
      expect(stays.resource).not.toBe(ends.resource);
      await s.advance(100);
      ends.end();
      await s.settle();
      // By its peak the other would look better: it has not answered anything yet.
      expect(s.use().resource).toBe(ends.resource);
      s.check();
    }),
  );

  test(
    "says nothing bad of its member when the abort made it reject, and how long it took when it did not",
    scene(async (s) => {
      const heard: Outcome[] = [];
      await s.start({ size: 1, strategy: watching(heard) });
      const [rejects, resolves] = [orphan(s), orphan(s)];
      rejects.fail(new Error("aborted"));
      await s.advance(3_000);
      resolves.end();
      await s.settle();
      expect(heard).toEqual([
        { ok: true, durationMs: 0, error: new Error("aborted") },
        { ok: true, durationMs: 3_000, error: undefined },
      ]);
    }),
  );

  test(
    "whose resource is lost is counted no longer, and its end is nobody's",
    scene(async (s) => {
      const ended = s.events("pool.orphanEnded");
      const pool = await s.start({ size: 1, backoff });
      const gone = orphan(s);
      gone.resource.lose();
      await s.advance(0);
      expect([pool.stats().inFlight, pool.stats().ready]).toEqual([0, 1]);
      s.check();
      gone.end();
      await s.settle();
      expect(pool.stats()).toMatchObject({ inFlight: 0, idle: 1 });
      expect(pool.members().map(({ inFlight }) => inFlight)).toEqual([0]);
      expect(ended).toEqual([]);
      s.check();
    }),
  );

  test(
    "whose caller's time was over is not told to the strategy again when its resource is lost",
    scene(async (s) => {
      const heard: Outcome[] = [];
      await s.start({ size: 1, backoff, strategy: watching(heard) });
      const caller = new AbortController();
      const late = s.use({ signal: caller.signal });
      const other = s.use();
      caller.abort(new DOMException("out of time", "TimeoutError"));
      await s.settle();
      expect([late.outcome, heard.length]).toEqual(["out of time", 1]);
      late.resource.lose(new Error("reset"));
      await s.advance(0);
      expect([other.outcome, heard.length]).toEqual(["ERR_CONNECTION_LOST", 2]);
      s.check();
    }),
  );

  test(
    "holds a connection that leaves until it has ended",
    scene(async (s) => {
      const pool = await s.start({ size: 1, backoff });
      const gone = orphan(s);
      const { resource } = gone;
      resource.goAway();
      await s.advance(1_000);
      expect([resource.closings, pool.stats()]).toMatchObject([[], { draining: 1, ready: 1, inFlight: 1 }]);
      s.check();
      gone.end();
      await s.settle();
      expect([resource.closings, pool.stats()]).toMatchObject([["normal"], { draining: 0, ready: 1, inFlight: 0 }]);
      s.check();
    }),
  );

  test(
    "does not hold a closing pool's callers: all have been told",
    scene(async (s) => {
      const pool = await s.start({ size: 1, drainTimeoutMs: 400 });
      orphan(s);
      expect(await s.until(pool.close({ timeoutMs: 10_000 }))).toEqual({ finished: 0, aborted: 0 });
      expect(s.runtime.now(), "what it held was given its time to finish").toBe(400);
    }),
  );

  test(
    "ends once, in whatever order a hundred of them come, go and are lost",
    scene(async (s) => {
      const ended = s.events("pool.orphanEnded");
      s.server.capacity = 10;
      const pool = await s.start({ size: 10, backoff });
      const orphans = Array.from({ length: 100 }, () => orphan(s));
      expect(pool.stats().inFlight).toBe(100);
      const [lost] = s.registered;
      lost?.lose();
      for (const [at, each] of [...orphans.entries()].sort(([a], [b]) => ((a * 37) % 100) - ((b * 37) % 100))) {
        if (at % 2 === 0) each.end();
        else each.fail(new Error("late"));
        each.end();
        await Promise.resolve();
        expect(pool.members().every(({ inFlight }) => inFlight >= 0)).toBe(true);
      }
      await s.settle();
      expect([pool.stats().inFlight, ended.length]).toEqual([0, 90]);
      s.check();
    }),
  );
});
