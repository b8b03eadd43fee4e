/** Which resource a caller gets, and that it gets one at once where there is one. */

import { expect, test } from "vitest";
import { scene } from "./scene.ts";

const ids = (of: readonly { readonly resource: { readonly id: number } }[]): number[] =>
  of.map(({ resource }) => resource.id);

test(
  "an idle resource is lent before acquire returns: its promise is resolved already",
  scene(async (s) => {
    await s.start({ max: 2 });
    (await s.hold()).release();
    const order: string[] = [];
    const acquired = s.pool.acquire().then((lease) => {
      order.push("lease");
      lease.release();
    });
    expect(s.pool.stats()).toMatchObject({ idle: 0, used: 1, inFlight: 1 });
    await Promise.resolve().then(() => order.push("microtask"));
    await acquired;
    expect(order).toEqual(["lease", "microtask"]);
  }),
);

test(
  "the resource put back last is lent first, so that the others can grow old",
  scene(async (s) => {
    await s.start({ max: 3, maxOpening: 3 });
    const [a, b, c] = await s.holdAll(3);
    for (const each of [b, c, a]) each?.release();
    expect(ids(await s.holdAll(3))).toEqual([1, 3, 2]);
    s.check();
  }),
);

test(
  "with fifo the resource that has been idle for longest is lent first",
  scene(async (s) => {
    await s.start({ max: 3, maxOpening: 3, order: "fifo" });
    const [a, b, c] = await s.holdAll(3);
    for (const each of [b, c, a]) each?.release();
    expect(ids(await s.holdAll(3))).toEqual([2, 3, 1]);
    s.check();
  }),
);

test(
  "tryAcquire gives an idle resource or nothing, waits for nobody and opens nothing",
  scene(async (s) => {
    await s.start({ max: 2 });
    expect(s.tryAcquire()).toBeUndefined();
    expect([s.server.times, s.pool.stats().waiting]).toEqual([[], 0]);
    const a = await s.hold();
    expect(s.tryAcquire()).toBeUndefined();
    a.release();
    const b = s.tryAcquire();
    expect(b?.resource).toBe(a.resource);
    await s.settle();
    expect(s.tryAcquire()).toBeUndefined();
    s.check();
  }),
);

test(
  "tryAcquire does not overtake those who wait while the only idle resource is being checked",
  scene(async (s) => {
    await s.start({ max: 1, hooks: ["check"], checkAfterIdleMs: 1_000 });
    (await s.hold()).release();
    s.server.checking = () => ({ ms: 100 });
    await s.advance(1_000);
    const first = s.acquire();
    expect(s.tryAcquire()).toBeUndefined();
    await s.advance(100);
    expect(first.outcome).toBe("ok");
    expect(s.tryAcquire()).toBeUndefined();
    s.check();
  }),
);

test(
  "tryAcquire gives no resource that would have to be checked first",
  scene(async (s) => {
    await s.start({ max: 1, hooks: ["check"], checkAfterIdleMs: 1_000 });
    (await s.hold()).release();
    await s.advance(999);
    s.tryAcquire()?.release();
    await s.settle();
    await s.advance(1_000);
    expect(s.tryAcquire()).toBeUndefined();
    expect(s.pool.stats()).toMatchObject({ idle: 1, waiting: 0 });
  }),
);

test(
  "with timeoutMs 0 a caller gets an idle resource, or hears at once that there is none",
  scene(async (s) => {
    await s.start({ max: 1 });
    expect(await s.outcome(s.pool.acquire({ timeoutMs: 0 }))).toBe("ERR_POOL_NO_MEMBER");
    const a = await s.hold();
    expect(await s.outcome(s.pool.acquire({ timeoutMs: 0 }))).toBe("ERR_POOL_BUSY");
    a.release();
    (await s.hold({ timeoutMs: 0 })).release();
    expect(s.pool.stats().totals).toMatchObject({ acquired: 2, rejected: 2 });
    expect(s.runtime.now()).toBe(0);
  }),
);

test(
  "what is given back goes to whoever waits, in the step of the release, and is never idle in between",
  scene(async (s) => {
    await s.start({ max: 1 });
    const a = await s.hold();
    const b = s.acquire();
    a.release();
    expect(s.pool.stats()).toMatchObject({ idle: 0, used: 1, inFlight: 1, waiting: 0 });
    await s.settle();
    expect(b.resource).toBe(a.resource);
    s.check();
  }),
);

test(
  "two resources given back in one tick serve two callers, each with its own",
  scene(async (s) => {
    await s.start({ max: 2 });
    const [a, b] = await s.holdAll(2);
    const waiting = [s.acquire(), s.acquire(), s.acquire()];
    a?.release();
    b?.release();
    await s.settle();
    expect(waiting.map(({ outcome }) => outcome)).toEqual(["ok", "ok", "pending"]);
    expect(ids(waiting.slice(0, 2))).toEqual([1, 2]);
    s.check();
  }),
);

test(
  "each caller goes on in its own async context, whoever made room for it",
  scene(async (s) => {
    const { AsyncLocalStorage } = await import("node:async_hooks");
    const who = new AsyncLocalStorage<string>();
    const opens: (string | undefined)[] = [];
    s.server.opening = () => {
      opens.push(who.getStore());
      return "ok";
    };
    await s.start({ max: 1 });
    const seen: (string | undefined)[] = [];
    const caller = (name: string): Promise<void> =>
      who.run(name, async () => {
        const lease = await s.pool.acquire();
        seen.push(who.getStore());
        await Promise.resolve();
        lease.release();
        await s.pool.use(() => seen.push(who.getStore()));
      });
    await s.until(Promise.all(["a", "b", "c"].map(caller)));
    expect(seen.toSorted((a, b) => (a ?? "").localeCompare(b ?? ""))).toEqual(["a", "a", "b", "b", "c", "c"]);
    expect(opens, "a resource lives in the context of the pool").toEqual([undefined]);
  }),
);

test(
  "totals count each lease once, by how it ended",
  scene(async (s) => {
    await s.start({ max: 2 });
    (await s.hold()).release();
    (await s.hold()).discard();
    const lost = await s.hold();
    lost.resource.lose();
    lost.release();
    await s.settle();
    expect(s.pool.stats().totals).toMatchObject({ acquired: 3, succeeded: 1, failed: 2, lost: 1 });
  }),
);

test(
  "the snapshot shows who holds what since when, and who waits since when",
  scene(async (s) => {
    await s.start({ max: 1 });
    await s.hold();
    await s.advance(30);
    s.acquire();
    await s.advance(12);
    const { leases, waiters, connections, kind } = s.pool.snapshot();
    expect({ leases, waiters, kind }).toEqual({
      leases: [{ slot: 0, ageMs: 42 }],
      waiters: [{ ageMs: 12 }],
      kind: "checkout",
    });
    expect(connections).toEqual([{ slot: 0, endpoint: "fake", state: "ready", since: 0, inFlight: 1, attempts: 0 }]);
    s.check();
  }),
);

test(
  "a resource that is fit is not reset: the next in line has it in the same step",
  scene(async (s) => {
    let fit = true;
    const asked: number[] = [];
    const hook = ({ id }: { id: number }): boolean => {
      asked.push(id);
      return fit;
    };
    const connector = { ...s.server.connector("reset"), fit: hook };
    await s.start({ max: 1, connector });
    s.server.resetting = () => "never";
    const first = await s.hold();
    const next = s.acquire();
    await s.settle();
    first.release();
    expect([asked, s.pool.stats().waiting, s.pool.stats().inFlight]).toEqual([[1], 0, 1]);
    await s.settle();
    fit = false;
    next.release();
    await s.settle();
    expect([asked, s.pool.stats().idle]).toEqual([[1, 1], 0]);
    await s.advance(5_000);
    expect(s.pool.stats().totals).toMatchObject({ opened: 1, closed: 1 });
  }),
);

test.each<[string, () => unknown]>([
  [
    "throws",
    () => {
      throw new Error("no idea");
    },
  ],
  ["says what is no answer", () => "yes"],
])("a resource is reset when its fit %s", (how, fit) =>
  scene(async (s) => {
    const failed = s.events("callback.failed");
    const connector = { ...s.server.connector("reset"), fit: fit as () => boolean };
    await s.start({ max: 1, connector });
    let resets = 0;
    s.server.resetting = () => {
      resets++;
      return "ok";
    };
    (await s.hold()).release();
    await s.settle();
    expect([resets, s.pool.stats().idle]).toEqual([1, 1]);
    expect(failed.map(({ where }) => where)).toEqual(how === "throws" ? ["scene: fit"] : []);
  })(),
);
