/** A resource that goes away by itself, at each moment of its life. */

import { describe, expect, test } from "vitest";
import { codeOf, scene } from "./scene.ts";

const reset = Object.assign(new Error("socket hang up"), { code: "ECONNRESET" });

describe("a resource that is lost", () => {
  test(
    "while it is idle is never lent again: it is gone before lost() returns",
    scene(async (s) => {
      await s.start();
      const { resource, lease } = await s.hold();
      lease?.release();
      resource.holders = 0;
      resource.lose(reset);
      expect(s.pool.stats()).toMatchObject({ size: 0, ready: 0, idle: 0 });
      expect(s.tryAcquire()).toBeUndefined();
      await s.settle();
      expect((await s.hold()).resource.id).toBe(2);
      expect(resource.closings).toEqual([reset]);
      s.check();
    }),
  );

  test(
    "while it is idle is replaced when there would be fewer than min, and not otherwise",
    scene(async (s) => {
      await s.start({ min: 1, max: 2 });
      await s.holdAll(2);
      for (const holder of s.holders) holder.release();
      s.server.resources[0]?.lose(reset);
      await s.advance(60_000);
      expect(s.server.times.length).toBe(2);
      s.server.resources[1]?.lose(reset);
      await s.advance(0);
      expect(s.server.times.length).toBe(3);
      expect(s.pool.stats()).toMatchObject({ size: 1, idle: 1, totals: { lost: 2 } });
      s.check();
    }),
  );

  test(
    "while it is leased aborts the lease with what was lost; its holder need not release it, and may",
    scene(async (s) => {
      await s.start({ max: 1 });
      const misused = s.events("lease.misused");
      const a = await s.hold();
      const { lease, resource } = a;
      const { signal } = lease as NonNullable<typeof lease>;
      const b = s.acquire();
      resource.lose(reset);
      expect(signal.aborted).toBe(true);
      expect(signal.reason).toMatchObject({
        code: "ERR_CONNECTION_LOST",
        sent: "maybe",
        retryable: false,
        cause: reset,
      });
      let thrown: unknown;
      try {
        void lease?.resource;
      } catch (error) {
        thrown = error;
      }
      expect(codeOf(thrown)).toBe("ERR_LEASE_RELEASED");
      expect((thrown as Error).cause).toBe(signal.reason);
      await s.settle();
      expect(b.resource.id).toBe(2);
      a.release();
      expect([misused, b.holds]).toEqual([[], true]);
      a.release();
      expect(misused.length).toBe(1);
      expect(s.pool.stats().totals).toMatchObject({ failed: 1, lost: 1 });
      s.check();
    }),
  );

  test(
    "while it is leased shows so in a signal that is asked for afterwards, too",
    scene(async (s) => {
      await s.start({ max: 1 });
      const { lease, resource } = await s.hold();
      resource.lose();
      expect(lease?.signal.aborted).toBe(true);
      expect(codeOf(lease?.signal.reason)).toBe("ERR_CONNECTION_LOST");
    }),
  );

  test(
    "again, or after its close, is news to nobody",
    scene(async (s) => {
      await s.start({ max: 1, backoff: { minMs: 10, maxMs: 10 } });
      const lost = s.events("connection.lost");
      const a = await s.hold();
      a.resource.lose(reset);
      a.resource.lose(reset);
      await s.settle();
      const b = await s.hold();
      a.resource.lose(reset);
      b.discard();
      b.resource.lose(reset);
      await s.settle();
      expect(lost.length).toBe(1);
      expect((await s.hold()).holds).toBe(true);
      s.check();
    }),
  );

  test(
    "while it is checked for a caller has the caller served by another",
    scene(async (s) => {
      await s.start({ max: 1, hooks: ["check"], checkAfterIdleMs: 100 });
      (await s.hold()).release();
      await s.advance(100);
      s.server.checking = () => "never";
      const caller = s.acquire();
      await s.advance(10);
      s.server.resources[0]?.lose(reset);
      await s.settle();
      expect(caller.resource.id).toBe(2);
      expect(s.runtime.timers, "nothing of the check is left").toBe(0 + 1);
      s.check();
    }),
  );

  test(
    "by its own check, before that has even returned, likewise",
    scene(async (s) => {
      const connector = s.server.connector("check");
      const check = (resource: (typeof s.server.resources)[0]): boolean => {
        resource.lose(reset);
        return true;
      };
      await s.start({ max: 1, connector: { ...connector, check }, checkAfterIdleMs: 0 });
      (await s.hold()).release();
      const caller = s.acquire();
      await s.settle();
      expect(caller.resource.id).toBe(2);
      s.check();
    }),
  );

  test(
    "while it is pinged is gone; the ping's end changes nothing",
    scene(async (s) => {
      await s.start({ min: 1, max: 1, hooks: ["check"], pingIdleMs: 100 });
      const failed = s.events("callback.failed");
      s.server.checking = ({ id }) => (id === 1 ? { ms: 50, deaf: true } : "ok");
      await s.advance(120);
      s.server.resources[0]?.lose(reset);
      await s.settle();
      expect(s.pool.stats()).toMatchObject({ ready: 1, idle: 1 });
      await s.advance(1_000);
      expect(s.server.resources[1]?.checks, "pings go on").toBeGreaterThan(5);
      expect(failed).toEqual([]);
      s.check();
    }),
  );

  test(
    "while it is reset is not waited for",
    scene(async (s) => {
      await s.start({ max: 1, hooks: ["reset"] });
      s.server.resetting = ({ id }) => (id === 1 ? "never" : "ok");
      const a = await s.hold();
      const b = s.acquire();
      a.release();
      await s.advance(10);
      a.resource.lose(reset);
      await s.settle();
      expect(b.resource.id).toBe(2);
      s.check();
    }),
  );

  test(
    "while it is being closed is closed once",
    scene(async (s) => {
      s.server.closing = () => ({ ms: 100 });
      await s.start({ max: 1 });
      const a = await s.hold();
      a.discard();
      await s.advance(10);
      a.resource.lose(reset);
      await s.advance(90);
      expect(a.resource.closings).toEqual(["normal"]);
      s.check();
    }),
  );

  test(
    "as it comes is an opening that failed",
    scene(async (s) => {
      s.server.next("deadOnArrival");
      await s.start({ max: 1, backoff: { kind: "exponential", minMs: 100 } });
      const caller = s.acquire();
      await s.advance(99);
      expect([caller.outcome, s.pool.stats().totals.openFailed]).toEqual(["pending", 1]);
      await s.advance(1);
      expect(caller.resource.id).toBe(2);
      s.check();
    }),
  );

  test(
    "in the tick in which it is given back goes to nobody",
    scene(async (s) => {
      await s.start({ max: 1 });
      const [a, b] = [await s.hold(), s.acquire()];
      a.resource.lose(reset);
      a.release();
      await s.settle();
      expect(b.resource.id).toBe(2);
      b.release();
      const c = await s.hold();
      const d = s.acquire();
      c.release();
      c.resource.lose(reset);
      await s.settle();
      expect([d.outcome, d.holds], "it had been granted before").toEqual(["ok", false]);
      expect(codeOf(d.lease?.signal.reason)).toBe("ERR_CONNECTION_LOST");
      s.check();
    }),
  );
});

describe("a resource that asks to go", () => {
  test(
    "is not lent again, and is closed when its holder gives it back",
    scene(async (s) => {
      await s.start({ max: 2 });
      const a = await s.hold();
      a.resource.goAway();
      await s.settle();
      expect([a.holds, a.lease?.signal.aborted]).toEqual([true, false]);
      expect(s.pool.stats()).toMatchObject({ ready: 0, draining: 1, inFlight: 1 });
      const b = s.acquire();
      await s.settle();
      expect(b.resource.id).toBe(2);
      s.check();
      a.release();
      await s.settle();
      expect(a.resource.closings).toEqual(["normal"]);
      s.check();
    }),
  );

  test(
    "is closed at once when it is idle, or on its way back",
    scene(async (s) => {
      await s.start({ max: 2, hooks: ["reset"] });
      const [a, b] = await s.holdAll(2);
      s.server.resetting = () => ({ ms: 100 });
      a?.release();
      await s.advance(10);
      a?.resource.goAway();
      b?.release();
      await s.advance(100);
      b?.resource.goAway();
      await s.settle();
      expect(s.pool.stats()).toMatchObject({ size: 0 });
      s.check();
    }),
  );

  test(
    "is closed when its holder discards it, or has it too long",
    scene(async (s) => {
      await s.start({ max: 2, leaseTimeoutMs: 100 });
      const [a, b] = await s.holdAll(2);
      a?.resource.goAway();
      b?.resource.goAway();
      a?.discard();
      await s.settle();
      expect(a?.resource.closings).toEqual(["normal"]);
      await s.advance(100);
      expect([b?.holds, b?.resource.closings]).toEqual([false, ["normal"]]);
      expect(s.pool.stats().size).toBe(0);
      s.check();
    }),
  );

  test(
    "leaves no room for another before it is closed when the pool is at its max",
    scene(async (s) => {
      await s.start({ max: 1 });
      const a = await s.hold();
      a.resource.goAway();
      const b = s.acquire();
      await s.advance(100);
      expect([b.outcome, s.server.times.length]).toEqual(["pending", 1]);
      a.release();
      await s.settle();
      expect(b.resource.id).toBe(2);
      s.check();
    }),
  );
});
