/** Members that go silent, and members with too many requests that nobody waits for. */

import { describe, expect, test } from "vitest";
import { roundRobin } from "../../src/index.ts";
import { type Scene, scene } from "./scene.ts";
import { after, type Resource } from "./server.ts";

type Check = (resource: Resource, signal: AbortSignal) => unknown;

async function watched(s: Scene, check: Check, size = 2): Promise<void> {
  await s.start({ size, strategy: roundRobin(), connector: { ...s.server.connector, check } });
}

describe("a member with requests that answers none of them for a whole interval", () => {
  for (const [how, check] of [
    ["says false", () => false],
    [
      "throws",
      () => {
        throw new Error("dead");
      },
    ],
    ["rejects", () => Promise.reject(new Error("dead"))],
    ["never answers", () => new Promise(() => undefined)],
  ] as const) {
    test(
      `is replaced when its check ${how}`,
      scene(async (s) => {
        const [replaced, lost] = [s.events("member.replaced"), s.events("connection.lost")];
        await watched(s, check);
        const work = s.use();
        const { slot } = work.resource;
        await s.advance(9_999);
        expect(replaced).toEqual([]);
        await s.advance(10_001 + 5_000);
        expect(replaced).toMatchObject([{ reason: "stalled", connection: `connection ${slot}`, inFlight: 1 }]);
        expect(lost).toHaveLength(1);
        expect(work.outcome).toBe("ERR_CONNECTION_LOST");
        expect(s.pool.stats()).toMatchObject({ ready: 2, inFlight: 0 });
        s.check();
      }),
    );
  }

  test(
    "is replaced though its request had waited in line for longer than that, with nothing in flight",
    scene(async (s) => {
      const replaced = s.events("member.replaced");
      s.server.next(after(15_000, "ok"));
      const connector = { ...s.server.connector, check: () => false };
      await s.start({ size: 1, openTimeoutMs: 60_000, connector });
      const work = s.use({ timeoutMs: 60_000 });
      await s.advance(15_000);
      expect([work.started, replaced.length]).toEqual([true, 0]);
      await s.advance(20_000);
      expect([work.outcome, replaced.length]).toEqual(["ERR_CONNECTION_LOST", 1]);
      s.check();
    }),
  );

  test(
    "stays when it gives a sign of life: its request is slow, and its caller's business",
    scene(async (s) => {
      let checks = 0;
      await watched(s, () => {
        checks++;
        return Promise.resolve();
      });
      const work = s.use();
      await s.advance(60_000);
      expect(checks).toBeGreaterThanOrEqual(4);
      expect(work.outcome).toBe("pending");
      work.end();
      await s.settle();
      expect(work.outcome).toBe("ok");
    }),
  );

  test(
    "is not even checked while it answers others",
    scene(async (s) => {
      let checks = 0;
      await watched(s, () => checks++, 1);
      s.use();
      for (let n = 0; n < 12; n++) {
        s.use().end();
        await s.advance(5_000);
      }
      expect(checks).toBe(0);
    }),
  );

  test(
    "is checked once at a time, and an answer that comes meanwhile is a sign of life",
    scene(async (s) => {
      let checks = 0;
      let give: (value: boolean) => void = () => undefined;
      await watched(
        s,
        () => {
          checks++;
          return new Promise((resolve) => {
            give = resolve;
          });
        },
        1,
      );
      const works = [s.use(), s.use()];
      await s.advance(20_000);
      expect(checks).toBe(1);
      works[0]?.end();
      await s.settle();
      give(false);
      await s.advance(1_000);
      expect(works[1]?.outcome).toBe("pending");
    }),
  );

  test(
    "is left alone with stallMs: Infinity, and without a check",
    scene(async (s) => {
      await s.start({ size: 1, stallMs: Infinity, connector: { ...s.server.connector, check: () => false } });
      const work = s.use();
      await s.advance(600_000);
      expect(work.outcome).toBe("pending");
      expect(s.runtime.timers).toBe(0);
    }),
  );
});

test(
  "the watch sleeps while nothing is in flight",
  scene(async (s) => {
    await watched(s, () => true);
    s.use().end();
    await s.advance(20_000);
    expect(s.runtime.timers).toBe(0);
  }),
);

describe("a member with too many requests whose callers have given up", () => {
  test(
    "is replaced, and finishes what it can",
    scene(async (s) => {
      const replaced = s.events("member.replaced");
      await s.start({ size: 2, strategy: roundRobin(), maxOrphans: 3, drainTimeoutMs: 1_000 });
      const gone = new AbortController();
      const works = Array.from({ length: 6 }, () => s.use({ signal: gone.signal }));
      const stays = works.map((work) => work.resource.id);
      gone.abort(new Error("enough"));
      await s.settle();
      expect(replaced).toMatchObject([{ reason: "orphans" }, { reason: "orphans" }]);
      expect(s.pool.stats()).toMatchObject({ ready: 2, draining: 2, inFlight: 6 });
      expect(s.registered.some(({ id }) => stays.includes(id))).toBe(false);
      await s.advance(1_000);
      expect(s.pool.stats()).toMatchObject({ ready: 2, draining: 0, inFlight: 0 });
      s.check();
    }),
  );

  test(
    "is not when they are answered after all",
    scene(async (s) => {
      const replaced = s.events("member.replaced");
      await s.start({ size: 1, maxOrphans: 3 });
      for (let n = 0; n < 10; n++) {
        const gone = new AbortController();
        const work = s.use({ signal: gone.signal });
        gone.abort(new Error("enough"));
        await s.settle();
        work.end();
        await s.settle();
      }
      expect(replaced).toEqual([]);
    }),
  );
});
