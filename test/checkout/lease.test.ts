/** Leases are tokens, good once: what a holder does with one that is over reaches nobody else's. */

import { expect, describe, test } from "vitest";
import type { PoolLease } from "../../src/checkout/lease.ts";
import type { LeaseError } from "../../src/index.ts";
import { alive } from "../sim/garbage.ts";
import { codeOf, scene } from "./scene.ts";

/** What comes of touching the resource. */
function touch(lease: { readonly resource: unknown } | undefined): string {
  try {
    return lease?.resource === undefined ? "nothing" : "ok";
  } catch (error) {
    return codeOf(error);
  }
}

describe("a lease that was released", () => {
  test(
    "gives its resource to nobody any more",
    scene(async (s) => {
      await s.start({ max: 1 });
      const { lease } = await s.hold();
      expect(touch(lease)).toBe("ok");
      s.holders[0]?.release();
      expect(touch(lease)).toBe("ERR_LEASE_RELEASED");
      await s.hold();
      expect(touch(lease), "somebody else has it").toBe("ERR_LEASE_RELEASED");
    }),
  );

  test(
    "frees nothing when it is released again, though another has the resource: that is an event",
    scene(async (s) => {
      await s.start({ max: 1 });
      const misused = s.events("lease.misused");
      const a = await s.hold();
      a.release();
      const b = await s.hold();
      const c = s.acquire();
      a.release();
      a.discard();
      await s.settle();
      expect([b.holds, c.outcome]).toEqual([true, "pending"]);
      expect(misused.map(({ pool, connection, error }) => [pool, connection, codeOf(error)])).toEqual([
        ["scene", "connection 0", "ERR_LEASE_RELEASED"],
        ["scene", "connection 0", "ERR_LEASE_RELEASED"],
      ]);
      expect(s.pool.stats()).toMatchObject({ inFlight: 1, totals: { succeeded: 1, failed: 0 } });
      s.check();
    }),
  );

  test(
    "does nothing when it is disposed of as well, and that is no event",
    scene(async (s) => {
      await s.start({ max: 1 });
      const misused = s.events("lease.misused");
      const { lease } = await s.hold();
      s.holders[0]?.release();
      lease?.[Symbol.dispose]();
      await lease?.[Symbol.asyncDispose]();
      expect(misused).toEqual([]);
      expect(s.pool.stats()).toMatchObject({ idle: 1, inFlight: 0 });
    }),
  );

  test(
    "has a signal that is never aborted",
    scene(async (s) => {
      await s.start({ max: 1 });
      const a = await s.hold();
      const signal = a.lease?.signal;
      a.release();
      const b = await s.hold();
      b.resource.lose();
      await s.settle();
      expect([signal?.aborted, b.lease?.signal.aborted, a.lease?.signal.aborted]).toEqual([false, true, false]);
    }),
  );
});

describe("a lease that is disposed of", () => {
  test(
    "gives the resource back, in the same step",
    scene(async (s) => {
      await s.start({ max: 1 });
      const [a, b] = [await s.pool.acquire(), s.acquire()];
      a[Symbol.dispose]();
      await s.settle();
      expect(b.outcome).toBe("ok");
      b.release();
      const c = await s.pool.acquire();
      await c[Symbol.asyncDispose]();
      expect(s.pool.stats()).toMatchObject({ idle: 1, inFlight: 0, totals: { succeeded: 3 } });
    }),
  );
});

describe("a lease that is discarded", () => {
  test(
    "has its resource closed, and the one who waits gets another",
    scene(async (s) => {
      await s.start({ max: 1 });
      const discarded = s.events("lease.discarded");
      const a = await s.hold();
      const b = s.acquire();
      const reason = new Error("out of step");
      a.discard(reason);
      expect(touch(a.lease)).toBe("ERR_LEASE_RELEASED");
      await s.settle();
      expect(a.resource.closings).toEqual(["normal"]);
      expect([b.outcome, b.resource.id]).toEqual(["ok", 2]);
      expect(discarded).toEqual([{ pool: "scene", connection: "connection 0", reason }]);
      expect(s.pool.stats().totals).toMatchObject({ succeeded: 0, failed: 1, lost: 0 });
      s.check();
    }),
  );

  test(
    "makes no room before its resource is closed",
    scene(async (s) => {
      s.server.closing = () => ({ ms: 300 });
      await s.start({ max: 1 });
      const a = await s.hold();
      const b = s.acquire();
      a.discard();
      await s.advance(299);
      expect(s.pool.stats()).toMatchObject({ size: 1, draining: 1, ready: 0, waiting: 1 });
      s.check();
      await s.advance(1);
      expect(b.outcome).toBe("ok");
      expect(s.server.times).toEqual([0, 300]);
    }),
  );
});

describe("a lease that is held too long", () => {
  test(
    "is ended, its resource closed, and whoever waits is served by a new one",
    scene(async (s) => {
      await s.start({ max: 1, leaseTimeoutMs: 1_000 });
      const expired = s.events("lease.expired");
      const a = await s.hold();
      await s.advance(600);
      const b = s.acquire();
      await s.advance(400);
      expect(a.lease?.signal.aborted).toBe(true);
      expect(touch(a.lease)).toBe("ERR_LEASE_EXPIRED");
      expect(a.resource.closings.length).toBe(1);
      expect(b.resource.id).toBe(2);
      expect(expired).toMatchObject([{ pool: "scene", connection: "connection 0", heldMs: 1_000 }]);
      s.check();
      await s.advance(999);
      expect(b.holds, "its time began with its own lease").toBe(true);
    }),
  );

  test(
    "says where it was acquired: in the error, the event and the snapshot",
    scene(async (s) => {
      await s.start({ max: 1, leaseTimeoutMs: 1_000 });
      const expired = s.events("lease.expired");
      await s.hold();
      async function whoNeedsIt(): Promise<unknown> {
        return s.pool.acquire({ timeoutMs: Infinity });
      }
      const waiting = whoNeedsIt();
      await s.advance(1_000);
      await waiting;
      expect(s.pool.snapshot().leases[0]?.stack, "it had to wait, and somebody else made room").toContain("whoNeedsIt");
      await s.advance(1_000);
      expect(expired[1]?.stack).toContain("whoNeedsIt");
      expect(expired[1]?.stack).not.toMatch(/src.checkout/);
      let error: LeaseError | undefined;
      try {
        void ((await waiting) as { resource: unknown }).resource;
      } catch (thrown) {
        error = thrown as LeaseError;
      }
      expect(error?.acquireStack).toBe(expired[1]?.stack);
    }),
  );

  test(
    "may be released all the same: that does nothing; a second time it is an event",
    scene(async (s) => {
      await s.start({ max: 1, leaseTimeoutMs: 1_000 });
      const misused = s.events("lease.misused");
      const a = await s.hold();
      await s.advance(1_000);
      const b = await s.hold();
      a.release();
      expect([misused.length, b.holds]).toEqual([0, true]);
      a.release();
      expect(misused.length).toBe(1);
      expect(s.pool.stats().totals).toMatchObject({ acquired: 2, succeeded: 0, failed: 1 });
      s.check();
    }),
  );

  test(
    "has no timer any more once it was released in time",
    scene(async (s) => {
      await s.start({ max: 1, leaseTimeoutMs: 1_000, idleTimeoutMs: Infinity });
      (await s.hold()).release();
      expect(s.runtime.timers).toBe(0);
      await s.advance(999);
      const b = await s.hold();
      await s.advance(999);
      expect(b.holds).toBe(true);
    }),
  );
});

describe("a leak report", () => {
  test(
    "names a lease that is held for long, once, and leaves it alone",
    scene(async (s) => {
      await s.start({ max: 2, leakReportMs: 1_000 });
      const leaked = s.events("lease.leaked");
      const a = await s.hold();
      (await s.hold()).release();
      await s.advance(5_000);
      expect(leaked).toMatchObject([{ pool: "scene", connection: "connection 0", heldMs: 1_000 }]);
      expect(leaked[0]?.stack).toContain("lease.test.ts");
      expect(a.holds).toBe(true);
      s.check();
    }),
  );

  test(
    "comes for a lease that nobody holds any more, and for no other",
    scene(async (s) => {
      await s.start({ max: 3, maxOpening: 3, leakReportMs: 1_000_000 });
      const dropped = s.events("lease.dropped");
      const kept = await s.pool.acquire();
      const refs = await (async () => {
        const released = await s.pool.acquire();
        const forgotten = await s.pool.acquire();
        forgotten.resource.holders = 0;
        released.release();
        return [new WeakRef(forgotten), new WeakRef(released)];
      })();
      expect(await alive(refs)).toBe(0);
      await s.settle(); // The registry is told a turn later.
      await s.settle();
      expect(dropped.map(({ connection, stack }) => [connection, stack?.includes("lease.test.ts")])).toEqual([
        ["connection 2", true],
      ]);
      expect(s.pool.stats().inFlight, "it is out all the same: nobody knows what its holder did to it").toBe(2);
      kept.release();
    }),
  );

  test(
    "is not paid for by those who did not ask for it: their leases know no stack",
    scene(async (s) => {
      await s.start({ max: 1 });
      await s.hold();
      expect(s.pool.snapshot().leases).toEqual([{ slot: 0, ageMs: 0 }]);
    }),
  );
});

test(
  "the lease of a work that was begun by another holds none of those that are over, however many there were",
  scene(async (s) => {
    await s.start({ max: 10 });
    const works: WeakRef<PoolLease<unknown>>[] = [];
    let last: Promise<void> = Promise.resolve();
    const link = async (left: number): Promise<void> => {
      // What is acquired in a work knows the lease of the work.
      const lease = (await s.pool.acquire()) as PoolLease<unknown>;
      if (lease.within !== undefined) works.push(new WeakRef(lease.within));
      lease.release();
      if (left > 0) last = s.pool.use(() => link(left - 1)); // It begins before this one is over.
    };
    await s.until(s.pool.use(() => link(50)));
    while (works.length < 51) await s.until(last);
    expect(works.length).toBe(51);
    expect(await alive(works)).toBeLessThanOrEqual(2);
  }),
);
