/** A work gets a resource for as long as it runs, and no longer: however it ends, and whoever gives up. */

import { AsyncLocalStorage } from "node:async_hooks";
import { describe, expect, test } from "vitest";
import { ConnectionLostError } from "../../src/index.ts";
import { codeOf, scene } from "./scene.ts";

/** What a work can wait for: `s.outcome` would let time pass. */
const code = (promise: Promise<unknown>): Promise<string> => promise.then(() => "ok", codeOf);

describe("a work", () => {
  test(
    "that answers at once, later, or with a promise-like gives its caller the answer, and the resource back",
    scene(async (s) => {
      await s.start({ max: 1 });
      // oxlint-disable-next-line unicorn/no-thenable -- a thenable is what it is about
      const thenable = { then: (resolve: (value: number) => void) => resolve(3) } as unknown as Promise<number>;
      expect(await s.until(s.pool.use(() => 1))).toBe(1);
      expect(await s.until(s.pool.use(async () => 2))).toBe(2);
      expect(await s.until(s.pool.use(() => thenable))).toBe(3);
      expect(await s.until(s.pool.use(() => undefined))).toBeUndefined();
      expect(s.pool.stats()).toMatchObject({ idle: 1, inFlight: 0, totals: { acquired: 4, succeeded: 4 } });
    }),
  );

  test(
    "that throws or rejects gives its caller what it threw, and the resource back: it is as good as before",
    scene(async (s) => {
      await s.start({ max: 1 });
      const error = new Error("duplicate key");
      await expect(
        s.pool.use(() => {
          throw error;
        }),
      ).rejects.toBe(error);
      await expect(
        s.pool.use(async () => {
          throw error;
        }),
      ).rejects.toBe(error);
      await expect(s.pool.use(() => Promise.reject("no error"))).rejects.toBe("no error");
      await expect(s.pool.use(() => Promise.reject(undefined))).rejects.toBe(undefined);
      expect(s.server.resources.length).toBe(1);
      expect(s.pool.stats()).toMatchObject({ idle: 1, inFlight: 0, totals: { succeeded: 0, failed: 4 } });
    }),
  );

  test(
    "that says its resource is lost has it closed",
    scene(async (s) => {
      await s.start({ max: 1 });
      const lost = new ConnectionLostError("no answer", { sent: "maybe" });
      await expect(s.until(s.pool.use(() => Promise.reject(lost)))).rejects.toBe(lost);
      await s.settle();
      expect(s.server.resources[0]?.closings.length).toBe(1);
      expect(s.pool.stats()).toMatchObject({ size: 0, totals: { failed: 1 } });
    }),
  );

  test(
    "is reset after, and nobody waits for that but the next caller",
    scene(async (s) => {
      await s.start({ max: 1, hooks: ["reset"] });
      s.server.resetting = () => ({ ms: 100 });
      const work = s.use();
      await s.settle();
      work.end("done");
      await s.settle();
      expect([work.value, s.pool.stats().used]).toEqual(["done", 1]);
      await s.advance(100);
      expect(s.pool.stats().idle).toBe(1);
    }),
  );

  test(
    "runs in its caller's async context, though another made room for it",
    scene(async (s) => {
      await s.start({ max: 1 });
      const who = new AsyncLocalStorage<string>();
      const holder = await s.hold();
      const seen = who.run("caller", () => s.pool.use(() => who.getStore()));
      who.run("releaser", () => holder.release());
      expect(await s.until(seen)).toBe("caller");
    }),
  );

  test(
    "is not called when its caller leaves first, in the line or in the moment of the grant",
    scene(async (s) => {
      await s.start({ max: 1 });
      const holder = await s.hold();
      const [early, late] = [new AbortController(), new AbortController()];
      const a = s.use({ signal: early.signal });
      const b = s.use({ signal: late.signal });
      const c = s.use();
      early.abort(new Error("early"));
      holder.release();
      late.abort(new Error("late"));
      await s.settle();
      expect([a.outcome, b.outcome, c.outcome]).toEqual(["early", "late", "pending"]);
      expect([a.started, b.started, c.started]).toEqual([false, false, true]);
      s.check();
    }),
  );

  test(
    "is not called on a resource that was lost in the moment of the grant",
    scene(async (s) => {
      await s.start({ max: 1 });
      const holder = await s.hold();
      const work = s.use();
      holder.release();
      holder.resource.lose();
      await s.settle();
      expect([work.outcome, work.started]).toEqual(["ERR_CONNECTION_LOST", false]);
      s.check();
    }),
  );

  test(
    "must be a function; the options must be options",
    scene(async (s) => {
      await s.start();
      expect(await s.outcome(s.pool.use(undefined as never))).toBe("ERR_OPTION");
      expect(await s.outcome(s.pool.use(() => 1, { timeout: 3 } as never))).toBe("ERR_OPTION");
      expect(await s.outcome(s.pool.use(() => 1, { priority: Number.NaN }))).toBe("ERR_OPTION");
      expect(s.server.times).toEqual([]);
    }),
  );
});

describe("a caller that gives up on its work", () => {
  test(
    "is told at once; the resource is the next one's only when the work has ended",
    scene(async (s) => {
      await s.start({ max: 1 });
      const gone = new AbortController();
      const work = s.use({ signal: gone.signal });
      const next = s.use();
      await s.settle();
      gone.abort(new Error("enough"));
      await s.settle();
      expect([work.outcome, work.signal?.aborted, next.started]).toEqual(["enough", true, false]);
      s.check();
      work.end();
      await s.settle();
      expect(next.started).toBe(true);
      s.check();
    }),
  );

  test(
    "is not told twice, whatever becomes of the work",
    scene(async (s) => {
      await s.start({ max: 2 });
      const gone = new AbortController();
      const works = [s.use({ signal: gone.signal }), s.use({ signal: gone.signal })];
      await s.settle();
      gone.abort(new Error("enough"));
      works[0]?.fail(new Error("later"));
      works[1]?.resource?.lose();
      await s.advance(10);
      expect(works.map(({ outcome }) => outcome)).toEqual(["enough", "enough"]);
      s.check();
    }),
  );
});

describe("a resource that is lost under a work", () => {
  test(
    "aborts its signal, and its caller hears of the loss a tick later",
    scene(async (s) => {
      await s.start({ max: 1 });
      const work = s.use();
      await s.settle();
      work.resource?.lose(new Error("reset"));
      expect(work.signal?.aborted).toBe(true);
      await s.settle();
      expect(work.outcome, "the work may know better").toBe("pending");
      await s.advance(0);
      expect(work.outcome).toBe("ERR_CONNECTION_LOST");
      expect(work.error).toMatchObject({ sent: "maybe", cause: { message: "reset" }, stats: { inFlight: 0 } });
      s.check();
    }),
  );

  test(
    "is what the work makes of it, when it says so within the tick",
    scene(async (s) => {
      await s.start({ max: 2 });
      const works = [s.use(), s.use()];
      await s.settle();
      for (const work of works) work.resource?.lose();
      works[0]?.fail(new Error("my own words"));
      works[1]?.end("done before");
      await s.advance(0);
      expect([works[0]?.outcome, works[1]?.value]).toEqual(["my own words", "done before"]);
      s.check();
    }),
  );

  test(
    "is heard of by the caller even when the pool is destroyed in that tick",
    scene(async (s) => {
      await s.start({ max: 1 });
      const work = s.use();
      await s.settle();
      work.resource?.lose();
      await s.until(s.pool.destroy(new Error("later")));
      expect(work.outcome).toBe("ERR_CONNECTION_LOST");
      expect(s.runtime.timers).toBe(0);
    }),
  );
});

test(
  "a work that takes longer than leaseTimeoutMs has its resource destroyed, and its caller told",
  scene(async (s) => {
    await s.start({ max: 1, leaseTimeoutMs: 100 });
    const work = s.use();
    const next = s.use();
    await s.advance(101);
    expect([work.outcome, work.signal?.aborted]).toEqual(["ERR_LEASE_EXPIRED", true]);
    expect(work.error).toMatchObject({ acquireStack: expect.stringContaining("use.test.ts") });
    expect([work.resource?.closings.length, next.started]).toEqual([1, true]);
    work.end("too late");
    await s.settle();
    expect(next.running, "the late end frees nothing").toBe(true);
    s.check();
  }),
);

describe("a work that uses its own pool again", () => {
  test(
    "is served when there is another resource",
    scene(async (s) => {
      await s.start({ max: 2 });
      expect(await s.until(s.pool.use(() => s.pool.use(() => "inner")))).toBe("inner");
    }),
  );

  test(
    "is told that it waits for itself when it has the only one",
    scene(async (s) => {
      await s.start({ max: 1 });
      const error = await s.until(s.pool.use(() => s.pool.use(() => "inner")).catch((thrown: unknown) => thrown));
      expect(error).toMatchObject({ code: "ERR_POOL_NESTED", retryable: false, stats: { used: 1, size: 1 } });
      expect(await s.until(s.pool.use(() => code(s.pool.acquire())))).toBe("ERR_POOL_NESTED");
      expect(s.runtime.now(), "no timeout was waited for").toBe(0);
      expect(s.pool.stats()).toMatchObject({ idle: 1, waiting: 0 });
    }),
  );

  test(
    "is told so when every resource is held by one that does, and the others are served",
    scene(async (s) => {
      await s.start({ max: 3, maxOpening: 3 });
      const nests = (): Promise<string> =>
        s.pool.use(async () => {
          await s.server.pause(10);
          return s.pool.use(() => "served");
        });
      const outcomes = await s.until(Promise.allSettled([nests(), nests(), nests()]));
      expect(outcomes.map(({ status }) => status)).toEqual(["fulfilled", "fulfilled", "rejected"]);
      expect(s.runtime.now()).toBe(10);
      expect(s.pool.stats()).toMatchObject({ idle: 3, waiting: 0 });
    }),
  );

  test(
    "waits when one of the others does not",
    scene(async (s) => {
      await s.start({ max: 2 });
      const other = s.use();
      const nested = s.follow(
        "nested",
        s.pool.use(() => s.pool.use(() => 1)),
      );
      await s.advance(100);
      expect(nested.outcome).toBe("pending");
      other.end();
      await s.settle();
      expect(nested.outcome).toBe("ok");
    }),
  );

  test(
    "waits when one of the others was acquired by hand: nobody knows what its holder waits for",
    scene(async (s) => {
      await s.start({ max: 2 });
      const holder = await s.hold();
      const nested = s.follow(
        "nested",
        s.pool.use(() => s.pool.use(() => 1)),
      );
      await s.advance(100);
      expect(nested.outcome).toBe("pending");
      holder.release();
      await s.settle();
      expect(nested.outcome).toBe("ok");
    }),
  );

  test(
    "and again in there, is found out by all that it holds together",
    scene(async (s) => {
      await s.start({ max: 2 });
      const thrice = s.pool.use(() => s.pool.use(() => s.pool.use(() => "innermost")));
      expect(await s.outcome(thrice)).toBe("ERR_POOL_NESTED");
      expect(s.runtime.now()).toBe(0);
      const besides = s.pool.use(async () => {
        using _ = await s.pool.acquire();
        return code(s.pool.acquire());
      });
      expect(await s.until(besides)).toBe("ERR_POOL_NESTED");
      expect(s.pool.stats()).toMatchObject({ idle: 2, inFlight: 0 });
    }),
  );

  test(
    "waits for a part of itself that is at work and will end",
    scene(async (s) => {
      await s.start({ max: 2 });
      const both = s.pool.use(() => Promise.all([s.pool.use(() => s.server.pause(50)), s.pool.use(() => "second")]));
      expect(await s.until(both)).toEqual([undefined, "second"]);
      expect(s.runtime.now()).toBe(50);
    }),
  );

  test(
    "waits when a resource is on its way, or will be: the pool is not at its max",
    scene(async (s) => {
      await s.start({ max: 2, backoff: { minMs: 100 } });
      await s.hold().then((holder) => holder.release());
      s.server.next("rejects");
      expect(await s.until(s.pool.use(() => s.pool.use(() => "served")))).toBe("served");
      expect(s.runtime.now()).toBe(100);
    }),
  );

  test(
    "is not taken for one that does when it only began another after its end",
    scene(async (s) => {
      await s.start({ max: 1 });
      let after: Promise<string> | undefined;
      await s.until(
        s.pool.use(() => {
          after = s.server.pause(10).then(() => code(s.pool.use(() => 1)));
        }),
      );
      const holder = await s.hold();
      await s.advance(10);
      holder.release();
      expect(await s.until(after as Promise<string>)).toBe("ok");
    }),
  );

  test(
    "and does not await that is told how to leave its context, and there is served when it has ended",
    scene(async (s) => {
      await s.start({ max: 1 });
      const outside = AsyncLocalStorage.snapshot();
      let audit: Promise<string> | undefined;
      let refused: Promise<unknown> | undefined;
      await s.until(
        s.pool.use(async () => {
          refused = s.pool.use(() => "audit").catch((error: unknown) => error);
          audit = outside(() => s.pool.use(() => "audit"));
          await s.server.pause(10);
        }),
      );
      expect(await refused).toMatchObject({ code: "ERR_POOL_NESTED" });
      expect(((await refused) as Error).message).toMatch(/does not await.*AsyncLocalStorage\.snapshot/);
      expect(await s.until(audit as Promise<string>)).toBe("audit");
      expect(s.runtime.now()).toBe(10);
      s.check();
    }),
  );

  test(
    "may use another pool as it likes",
    scene(async (s) => {
      await s.start({ max: 1 });
      const { CheckoutPool } = await import("../../src/index.ts");
      const other = await CheckoutPool.start({ connector: s.server.connector(), max: 1, runtime: s.runtime });
      s.server.max = 2;
      expect(await s.until(s.pool.use(() => other.use(() => "other")))).toBe("other");
      await s.until(other.destroy());
    }),
  );
});

test(
  "the signal of a work is made only when it is asked for",
  scene(async (s) => {
    await s.start({ max: 1 });
    const early = await s.until(s.pool.use((_, { signal }) => signal.aborted));
    expect(early).toBe(false);
    let late: { readonly signal: AbortSignal } | undefined;
    const gone = new AbortController();
    const given = s.pool.use(
      (_, context) => {
        late = context;
        return s.server.pause(10);
      },
      { signal: gone.signal },
    );
    gone.abort(new Error("enough"));
    expect(await s.outcome(given)).toBe("enough");
    expect([late?.signal.aborted, codeOf(late?.signal.reason)]).toEqual([true, "enough"]);
  }),
);
