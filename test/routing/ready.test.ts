/** Waiting until a pool can serve: at a program's start, before a test, in a health check. */

import { getEventListeners } from "node:events";
import { describe, expect, test } from "vitest";
import { AcquireTimeoutError, OpenFailedError } from "../../src/index.ts";
import { scene } from "./scene.ts";
import { after, Refused } from "./server.ts";

const backoff = { kind: "exponential", minMs: 100, maxMs: 10_000 } as const;

describe("ready", () => {
  test(
    "resolves at once when there are enough, and leaves nothing behind",
    scene(async (s) => {
      const pool = await s.start({ size: 2 });
      await s.until(pool.ready());
      await s.until(pool.ready({ min: 2 }));
      expect([s.runtime.now(), s.runtime.timers]).toEqual([0, 0]);
      s.check();
    }),
  );

  test(
    "waits for one, or for as many as are asked for",
    scene(async (s) => {
      s.server.script = (nth) => after(100 * nth, "ok");
      const pool = await s.start({ size: 3 });
      const waits = [s.follow(pool.ready()), ...[1, 2, 3].map((min) => s.follow(pool.ready({ min })))];
      for (const [at, ready] of [
        [100, ["ok", "ok", "pending", "pending"]],
        [200, ["ok", "ok", "ok", "pending"]],
        [300, ["ok", "ok", "ok", "ok"]],
      ] as const) {
        await s.advance(99);
        expect(pool.stats().ready).toBe(at / 100 - 1);
        await s.advance(1);
        expect(waits.map(({ outcome }) => outcome)).toEqual(ready);
      }
      expect(s.runtime.timers).toBe(0);
      s.check();
    }),
  );

  test(
    "wants connections, not room on them",
    scene(async (s) => {
      s.server.capacity = 0;
      const pool = await s.start({ size: 1 });
      await s.until(pool.ready());
      expect(() => pool.pick()).toThrow(expect.objectContaining({ code: "ERR_POOL_BUSY" }));
      s.check();
    }),
  );

  test(
    "does not count those that leave or have gone",
    scene(async (s) => {
      const pool = await s.start({ size: 2 });
      s.use();
      await s.settle();
      s.server.always("never");
      s.works[0]?.resource.goAway();
      s.server.last.lose();
      const ready = s.follow(pool.ready({ timeoutMs: 500 }));
      await s.advance(500);
      expect(ready.outcome).toBe("ERR_POOL_ACQUIRE_TIMEOUT");
      s.check();
    }),
  );

  test(
    "for more than there are waits until the pool has grown",
    scene(async (s) => {
      const pool = await s.start({ size: 1 });
      const ready = s.follow(pool.ready({ min: 3 }));
      await s.advance(1_000);
      expect(ready.outcome).toBe("pending");
      await s.until(pool.resize(3));
      await s.settle();
      expect(ready.outcome).toBe("ok");
      s.check();
    }),
  );

  test(
    "counts a connection again that came back after it was lost",
    scene(async (s) => {
      const pool = await s.start({ size: 1 });
      s.server.always(after(300, "ok"));
      s.server.last.lose();
      await s.until(pool.ready());
      expect(s.runtime.now()).toBe(300);
      s.check();
    }),
  );
});

describe("a wait that is too long", () => {
  test(
    "ends in an error that says what it waited for, and why in vain",
    scene(async (s) => {
      s.server.always("refuse");
      const pool = await s.start({ size: 2, backoff });
      const ready = s.follow(pool.ready({ timeoutMs: 750 }));
      await s.advance(749);
      expect(ready.outcome).toBe("pending");
      await s.advance(1);
      expect(ready.error).toBeInstanceOf(AcquireTimeoutError);
      expect(ready.error).toMatchObject({
        code: "ERR_POOL_ACQUIRE_TIMEOUT",
        phase: "open",
        retryable: true,
        waitedMs: 750,
        cause: { name: "Refused", code: "ECONNREFUSED" },
        stats: { name: "scene", size: 2, ready: 0 },
      });
      expect((ready.error as Error).cause).toBeInstanceOf(Refused);
      expect((ready.error as Error).message).not.toContain("tiger");
      s.check();
    }),
  );

  test(
    "has the newest of the failures as its cause",
    scene(async (s) => {
      const errors: Error[] = [];
      const { connector } = s.server;
      const open = async (): Promise<never> => {
        errors.push(new Error(`attempt ${errors.length + 1}`));
        throw errors.at(-1);
      };
      const pool = await s.start({ size: 1, connector: { ...connector, open }, backoff });
      const ready = s.follow(pool.ready({ timeoutMs: 1_050 }));
      await s.advance(1_050);
      expect(errors.length).toBe(11);
      expect((ready.error as Error).cause).toBe(errors.at(-1));
      s.check();
    }),
  );

  test(
    "is 30 seconds when nobody says otherwise",
    scene(async (s) => {
      s.server.always("never");
      const pool = await s.start({ size: 1, openTimeoutMs: 1_000_000 });
      const ready = s.follow(pool.ready());
      await s.advance(29_999);
      expect(ready.outcome).toBe("pending");
      await s.advance(1);
      expect(ready.error).toMatchObject({ code: "ERR_POOL_ACQUIRE_TIMEOUT", phase: "open", waitedMs: 30_000 });
      s.check();
    }),
  );

  test(
    "is any wait when there is no time at all",
    scene(async (s) => {
      s.server.always("never");
      const pool = await s.start({ size: 1 });
      expect(await s.outcome(pool.ready({ timeoutMs: 0 }))).toBe("ERR_POOL_ACQUIRE_TIMEOUT");
      expect(s.runtime.now()).toBe(0);
      s.check();
    }),
  );

  test(
    "is none when there is no end to it",
    scene(async (s) => {
      s.server.always("refuse");
      const pool = await s.start({ size: 1, backoff: { minMs: 60_000, maxMs: 60_000 } });
      const ready = s.follow(pool.ready({ timeoutMs: Infinity }));
      await s.advance(12 * 3_600_000);
      expect(ready.outcome).toBe("pending");
      s.server.always("ok");
      await s.advance(60_000);
      expect(ready.outcome).toBe("ok");
      s.check();
    }),
  );

  test(
    "keeps the program alive while it lasts",
    scene(async (s) => {
      s.server.always("refuse");
      const pool = await s.start({ size: 1, backoff });
      expect(s.runtime.keepAliveTimers).toBe(0);
      s.follow(pool.ready({ timeoutMs: 1_000 }));
      await s.settle();
      expect(s.runtime.keepAliveTimers).toBe(1);
      await s.advance(1_000);
      expect(s.runtime.keepAliveTimers).toBe(0);
      s.check();
    }),
  );
});

describe("a caller's signal", () => {
  test(
    "ends the wait with its own reason, and is let go of",
    scene(async (s) => {
      s.server.always("never");
      const pool = await s.start({ size: 1 });
      const timers = s.runtime.timers;
      const controller = new AbortController();
      const ready = s.follow(pool.ready({ signal: controller.signal }));
      await s.settle();
      expect(s.runtime.timers).toBe(timers + 1);
      const reason = new Error("no more");
      controller.abort(reason);
      await s.settle();
      expect(ready.error).toBe(reason);
      expect([s.runtime.timers, getEventListeners(controller.signal, "abort").length]).toEqual([timers, 0]);
      s.check();
    }),
  );

  test(
    "that is aborted already refuses, ready or not",
    scene(async (s) => {
      const pool = await s.start({ size: 1 });
      const reason = new Error("no more");
      const ready = s.follow(pool.ready({ signal: AbortSignal.abort(reason) }));
      await s.settle();
      expect(ready.error).toBe(reason);
      s.check();
    }),
  );

  test.each(["ready", "late", "hopeless"])("is let go of when the wait ends otherwise (%s)", (end) =>
    scene(async (s) => {
      s.server.always(after(100, end === "hopeless" ? "fatal" : "ok"));
      const pool = await s.start({ size: 1 });
      const { signal } = new AbortController();
      const ready = s.follow(pool.ready({ signal, timeoutMs: end === "late" ? 50 : 1_000 }));
      await s.settle();
      expect(getEventListeners(signal, "abort").length).toBe(1);
      await s.advance(100);
      expect(ready.outcome).not.toBe("pending");
      expect([s.runtime.timers, getEventListeners(signal, "abort").length]).toEqual([0, 0]);
      s.check();
    })(),
  );
});

describe("a pool that has no hope", () => {
  test(
    "says so at once, with the driver's error",
    scene(async (s) => {
      s.server.always("fatal");
      const pool = await s.start({ size: 2 });
      const ready = s.follow(pool.ready());
      await s.settle();
      expect(ready.error).toBeInstanceOf(OpenFailedError);
      expect(ready.error).toMatchObject({
        code: "ERR_POOL_OPEN_FAILED",
        retryable: false,
        cause: { code: "EFATAL" },
        stats: { fatal: 2 },
      });
      expect([s.runtime.now(), s.runtime.timers]).toEqual([0, 0]);
      s.check();
    }),
  );

  test(
    "says so as soon as it is lost, to those who wait",
    scene(async (s) => {
      s.server.script = (nth) => after(100 * nth, "fatal");
      const pool = await s.start({ size: 2 });
      const ready = s.follow(pool.ready());
      await s.advance(199);
      expect([ready.outcome, pool.stats().fatal], "the other may still come").toEqual(["pending", 1]);
      await s.advance(1);
      expect(ready.outcome).toBe("ERR_POOL_OPEN_FAILED");
      s.check();
    }),
  );

  test(
    "has some while another endpoint may answer",
    scene(async (s) => {
      s.server.script = (_, { endpoint }) => (endpoint.id === "a" ? "fatal" : after(500, "ok"));
      const pool = await s.start({ size: 1, endpoints: [{ id: "a" }, { id: "b" }] });
      await s.until(pool.ready());
      expect(s.runtime.now()).toBe(500);
      s.check();
    }),
  );

  test(
    "of ever having as many as are asked for says so as well",
    scene(async (s) => {
      s.server.script = (_, { endpoint }) => (endpoint.id === "a" ? "fatal" : after(500, "ok"));
      const pool = await s.start({ size: 2, endpoints: [{ id: "a" }, { id: "b" }] });
      const waits = [2, 3].map((min) => s.follow(pool.ready({ min })));
      await s.settle();
      expect(waits.map(({ outcome }) => outcome)).toEqual(["pending", "ERR_POOL_OPEN_FAILED"]);
      await s.advance(500);
      expect(waits[0]?.outcome).toBe("ok");
      s.check();
    }),
  );
});

describe("a connection that leaves", () => {
  test(
    "is no hope when its successor has failed for good",
    scene(async (s) => {
      const pool = await s.start({ size: 1 });
      s.use();
      await s.settle();
      s.server.always("fatal");
      s.server.last.goAway();
      const ready = s.follow(pool.ready());
      await s.settle();
      expect(pool.stats()).toMatchObject({ draining: 1, fatal: 1 });
      expect(ready.outcome).toBe("ERR_POOL_OPEN_FAILED");
      s.check();
    }),
  );
});

describe("a pool that ends", () => {
  test(
    "refuses those who wait, and those who come",
    scene(async (s) => {
      s.server.always("never");
      const pool = await s.start({ size: 1 });
      const waiting = s.follow(pool.ready());
      await s.until(pool.close());
      const late = s.follow(pool.ready());
      await s.settle();
      expect([waiting.outcome, late.outcome]).toEqual(["ERR_POOL_CLOSED", "ERR_POOL_CLOSED"]);
    }),
  );

  test(
    "gives them the reason of its destroy",
    scene(async (s) => {
      s.server.always("never");
      const pool = await s.start({ size: 1 });
      const waiting = s.follow(pool.ready());
      await s.settle();
      await s.until(pool.destroy(new Error("enough")));
      expect(waiting.outcome).toBe("enough");
    }),
  );
});

describe("one who waits for a pool to be ready", () => {
  test(
    "brings the next attempt forward, as a caller does",
    scene(async (s) => {
      s.server.next("refuse", "refuse", "refuse");
      const pool = await s.start({ size: 1, backoff: { kind: "exponential", minMs: 1_000, maxMs: 60_000 } });
      await s.advance(4_000);
      expect(s.server.times).toEqual([0, 1_000, 3_000]); // The next one would be at 7,000.
      await s.until(pool.ready());
      expect(s.server.times).toEqual([0, 1_000, 3_000, 4_000]);
      s.check();
    }),
  );

  test(
    "is not alone in that: one who picks and finds nobody does so too",
    scene(async (s) => {
      s.server.next("refuse", "refuse", "refuse");
      const pool = await s.start({ size: 1, backoff: { kind: "exponential", minMs: 1_000, maxMs: 60_000 } });
      await s.advance(3_500);
      expect(() => pool.pick()).toThrow(expect.objectContaining({ code: "ERR_POOL_NO_MEMBER" }));
      await s.advance(500);
      expect(s.server.times).toEqual([0, 1_000, 3_000, 4_000]);
      expect(pool.pick().resource.fit).toBe(true);
      s.check();
    }),
  );

  test(
    "keeps them coming, one each minMs and no more often, however many wait",
    scene(async (s) => {
      s.server.always("refuse");
      const pool = await s.start({ size: 1, backoff });
      for (let caller = 0; caller < 10; caller++) s.follow(pool.ready({ timeoutMs: 1_000 }));
      await s.advance(1_000);
      expect(s.server.times).toEqual([0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1_000]);
      await s.advance(1_000);
      expect(s.server.attempts.length, "nobody waits any more").toBeLessThan(15);
      s.check();
    }),
  );
});
