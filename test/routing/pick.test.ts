/** `pick`: a member at once, for callers who say themselves when they are done. */

import { describe, expect, test } from "vitest";
import { ConnectionLostError, type Outcome, type Strategy } from "../../src/index.ts";
import { codeOf, type Scene, scene } from "./scene.ts";
import { Refused, type Resource } from "./server.ts";

const backoff = { kind: "exponential", minMs: 100, maxMs: 1_000 } as const;

/** What `pick` throws. */
function refusal(s: Scene): unknown {
  try {
    s.pool.pick();
  } catch (error) {
    return error;
  }
  throw new Error("pick has found a member");
}

describe("a route", () => {
  test(
    "is a member, chosen at once, and counts as in flight until it is settled",
    scene(async (s) => {
      const pool = await s.start({ size: 2 });
      const route = s.pick();
      expect(s.registered).toContain(route.resource);
      expect(route.member).toMatchObject({
        slot: route.resource.slot,
        inFlight: 1,
        endpoint: { id: "fake" },
        weight: 1,
      });
      expect(route.member.resource).toBe(route.resource);
      expect(pool.stats()).toMatchObject({ inFlight: 1, used: 1, idle: 1, totals: { acquired: 1 } });
      s.check();
      route.settle();
      expect(pool.stats()).toMatchObject({ inFlight: 0, used: 0, idle: 2, totals: { succeeded: 1, failed: 0 } });
      s.check();
    }),
  );

  test(
    "is settled once, whatever is said afterwards",
    scene(async (s) => {
      const pool = await s.start({ size: 1 });
      const [first, second] = [s.pick(), s.pick()];
      first.settle({ error: new Error("broken") });
      first.settle();
      first.settle({ error: new Error("again") });
      first[Symbol.dispose]();
      expect(pool.stats()).toMatchObject({ inFlight: 1, totals: { succeeded: 0, failed: 1 } });
      s.check();
      second.settle();
      expect(pool.stats()).toMatchObject({ inFlight: 0, totals: { succeeded: 1, failed: 1 } });
      s.check();
    }),
  );

  test(
    "that is disposed of has ended well, unless it was settled before",
    scene(async (s) => {
      const pool = await s.start({ size: 1 });
      s.pick()[Symbol.dispose]();
      const failed = s.pick();
      failed.settle({ error: new Error("broken") });
      failed[Symbol.dispose]();
      expect(pool.stats()).toMatchObject({ inFlight: 0, totals: { succeeded: 1, failed: 1 } });
    }),
  );

  test(
    "tells the strategy how it ended, after how long",
    scene(async (s) => {
      const heard: Outcome[] = [];
      const strategy: Strategy<Resource> = {
        pick: (members) => members[0] as (typeof members)[0],
        finished: (_, { ok, durationMs, error }) => void heard.push({ ok, durationMs, error }),
      };
      await s.start({ size: 1, strategy });
      const routes = [s.pick(), s.pick(), s.pick(), s.pick()];
      const error = new Error("broken");
      const outcomes = [undefined, { error }, {}, { error: undefined }];
      for (const [at, outcome] of outcomes.entries()) {
        await s.advance(10);
        routes[at]?.settle(outcome);
      }
      expect(heard).toEqual([
        { ok: true, durationMs: 10, error: undefined },
        { ok: false, durationMs: 20, error },
        { ok: true, durationMs: 30, error: undefined },
        { ok: true, durationMs: 40, error: undefined },
      ]);
    }),
  );

  test(
    "is chosen by the strategy, which sees the request",
    scene(async (s) => {
      await s.start({
        size: 3,
        strategy: {
          pick: (members, { key }) => members.find(({ slot }) => slot === key) ?? (members[0] as (typeof members)[0]),
        },
      });
      expect([2, 0, 1, 2].map((key) => s.pick({ key }).member.slot)).toEqual([2, 0, 1, 2]);
      s.check();
    }),
  );

  test(
    "keeps its place from the line until it is settled, and then gives it to the first",
    scene(async (s) => {
      s.server.capacity = 1;
      await s.start({ size: 1 });
      const route = s.pick();
      const [first, second] = [s.use(), s.use()];
      await s.advance(1_000);
      expect(first.started).toBe(false);
      s.check();
      route.settle();
      await s.settle();
      expect([first.started, second.started]).toEqual([true, false]);
      s.check();
    }),
  );

  test(
    "may be settled after its resource was lost: it is counted no longer, and ends no differently",
    scene(async (s) => {
      const pool = await s.start({ size: 1, backoff });
      const [lost, failed] = [s.pick(), s.pick()];
      lost.resource.lose();
      await s.advance(0);
      expect(pool.stats()).toMatchObject({ inFlight: 0, ready: 1 });
      s.check();
      lost.settle();
      failed.settle({ error: new Error("lost") });
      expect(pool.stats()).toMatchObject({ inFlight: 0, totals: { succeeded: 1, failed: 1 } });
      expect(pool.members().map(({ inFlight }) => inFlight)).toEqual([0]);
      s.check();
    }),
  );

  test(
    "holds a connection that leaves, and a pool that closes, until it is settled",
    scene(async (s) => {
      const pool = await s.start({ size: 1, backoff });
      const route = s.pick();
      route.resource.goAway();
      await s.advance(0);
      expect(route.resource.closings).toEqual([]);
      s.check();
      const closed = pool.close();
      await s.advance(100);
      route.settle();
      expect(await s.until(closed)).toEqual({ finished: 1, aborted: 0 });
      expect(route.resource.closings).toEqual(["normal"]);
    }),
  );

  test(
    "of a pool that was destroyed may be settled, and that is all",
    scene(async (s) => {
      const pool = await s.start({ size: 1 });
      const route = s.pick();
      await s.until(pool.destroy());
      expect(await s.until(pool.close())).toEqual({ finished: 0, aborted: 1 });
      route.settle();
      expect(pool.stats()).toMatchObject({ inFlight: 0, used: 0 });
    }),
  );
});

describe("pick", () => {
  test(
    "throws that nobody is connected, and why",
    scene(async (s) => {
      s.server.always("refuse");
      const pool = await s.start({ size: 1, backoff });
      const error = refusal(s);
      expect(error).toMatchObject({ code: "ERR_POOL_NO_MEMBER", retryable: true, stats: { ready: 0, size: 1 } });
      expect((error as Error).cause).toEqual(new Refused("ECONNREFUSED"));
      expect(pool.stats()).toMatchObject({ inFlight: 0, totals: { rejected: 1, acquired: 0 } });
      s.check();
    }),
  );

  test(
    "throws that nobody has room",
    scene(async (s) => {
      s.server.capacity = 1;
      await s.start({ size: 2 });
      const routes = [s.pick(), s.pick()];
      expect(refusal(s)).toMatchObject({ code: "ERR_POOL_BUSY", retryable: true, stats: { ready: 2, inFlight: 2 } });
      routes[1]?.settle();
      expect(s.pick().resource).toBe(routes[1]?.resource);
      s.check();
    }),
  );

  test(
    "throws that it is no use",
    scene(async (s) => {
      s.server.always("fatal");
      await s.start({ size: 1 });
      const error = refusal(s);
      expect(error).toMatchObject({ code: "ERR_POOL_OPEN_FAILED", retryable: false });
      expect((error as Error).cause).toEqual(new Refused("EFATAL"));
    }),
  );

  test(
    "throws that the pool is closed, as soon as it closes",
    scene(async (s) => {
      const pool = await s.start({ size: 1 });
      const work = s.use();
      const closed = pool.close();
      expect(refusal(s)).toMatchObject({ code: "ERR_POOL_CLOSED", retryable: false });
      work.end();
      await s.until(closed);
      expect(codeOf(refusal(s))).toBe("ERR_POOL_CLOSED");
      expect(pool.stats().totals).toMatchObject({ rejected: 2, acquired: 1 });
    }),
  );

  test(
    "counts as traffic for the budget of retries",
    scene(async (s) => {
      await s.start({ size: 2, retry: { attempts: 2 } });
      for (let request = 0; request < 360; request++) s.pick().settle();
      const works = Array.from({ length: 40 }, () => s.use({ idempotent: true }));
      for (const work of works) work.fail(new ConnectionLostError("it may have left", { sent: "maybe" }));
      await s.settle();
      expect(works.filter(({ ran }) => ran.length === 2).length).toBe(40);
      s.check();
    }),
  );
});
