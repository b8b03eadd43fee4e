/** How much a resource takes at once, as its connector says: more, less, nothing, nonsense. */

import { describe, expect, test } from "vitest";
import type { Strategy } from "../../src/index.ts";
import { type Scene, scene, type Work } from "./scene.ts";
import type { Resource } from "./server.ts";

const backoff = { kind: "exponential", minMs: 100, maxMs: 1_000 } as const;

function callers(s: Scene, count: number): Work[] {
  return Array.from({ length: count }, () => s.use());
}

function begun(works: readonly Work[]): number {
  return works.filter(({ started }) => started).length;
}

describe("a member", () => {
  test(
    "takes what its capacity allows, and the rest wait",
    scene(async (s) => {
      s.server.capacity = 3;
      const pool = await s.start({ size: 2 });
      const works = callers(s, 8);
      expect([begun(works), pool.stats().waiting]).toEqual([6, 2]);
      expect(s.server.resources.map(({ running }) => running)).toEqual([3, 3]);
      expect(pool.members().map(({ inFlight, capacity }) => [inFlight, capacity])).toEqual([
        [3, 3],
        [3, 3],
      ]);
      s.check();
      for (const work of works) {
        work.end();
        await s.settle();
        s.check();
      }
      expect(s.server.resources.map(({ peak }) => peak)).toEqual([3, 3]);
      expect(pool.stats().totals).toMatchObject({ acquired: 8, succeeded: 8 });
    }),
  );

  test(
    "takes any number when its connector does not say",
    scene(async (s) => {
      const connector = { ...s.server.connector };
      delete connector.capacity;
      const pool = await s.start({ connector, size: 1 });
      expect(begun(callers(s, 5_000))).toBe(5_000);
      expect(pool.members()[0]?.capacity).toBe(Infinity);
      s.check();
    }),
  );

  test(
    "that is full is shown to no strategy, and shown again when it has room",
    scene(async (s) => {
      const shown: number[][] = [];
      const strategy: Strategy<Resource> = {
        pick: (members) => {
          shown.push(members.map(({ slot }) => slot).sort((a, b) => a - b));
          return members.find(({ slot }) => slot === 0) ?? (members[0] as (typeof members)[0]);
        },
      };
      s.server.capacity = 2;
      await s.start({ size: 3, strategy });
      const works = callers(s, 3);
      expect(shown).toEqual([
        [0, 1, 2],
        [0, 1, 2],
        [1, 2],
      ]);
      works[0]?.end();
      await s.settle();
      s.use();
      expect(shown.at(-1)).toEqual([0, 1, 2]);
      s.check();
    }),
  );

  test(
    "whose capacity grows serves those who wait, in the same step",
    scene(async (s) => {
      s.server.capacity = 1;
      const pool = await s.start({ size: 1 });
      const works = callers(s, 6);
      s.server.last.setCapacity(4);
      expect(pool.stats()).toMatchObject({ inFlight: 4, waiting: 2 });
      await s.settle();
      expect(works.map(({ started }) => started)).toEqual([true, true, true, true, false, false]);
      s.check();
      s.server.last.setCapacity(Infinity);
      await s.settle();
      expect(begun(works)).toBe(6);
      s.check();
    }),
  );

  test(
    "whose capacity shrinks below what it has takes nothing new until it is below that",
    scene(async (s) => {
      s.server.capacity = 4;
      const pool = await s.start({ size: 1 });
      const works = callers(s, 4);
      s.server.last.setCapacity(2);
      const waits = s.use();
      expect(pool.stats()).toMatchObject({ inFlight: 4, waiting: 1 });
      for (const work of works.slice(0, 2)) {
        work.end();
        await s.settle();
        expect(waits.started).toBe(false);
        s.check();
      }
      works[2]?.end();
      await s.settle();
      expect([waits.started, pool.stats().inFlight]).toEqual([true, 2]);
      s.check();
    }),
  );

  test(
    "whose capacity shrinks to what it has is full, though it had room a moment ago",
    scene(async (s) => {
      s.server.capacity = 4;
      const pool = await s.start({ size: 2 });
      const [first] = s.registered as [Resource];
      const works = callers(s, 4);
      first.setCapacity(2);
      const more = callers(s, 3);
      expect(s.server.resources.map(({ running }) => running)).toEqual([2, 4]);
      expect([begun(more), pool.stats().waiting]).toEqual([2, 1]);
      s.check();
      works.find(({ resource }) => resource === first)?.end();
      await s.settle();
      expect([begun(more), first.running]).toEqual([3, 2]);
      s.check();
    }),
  );

  test(
    "whose capacity changes without its saying so keeps the old one",
    scene(async (s) => {
      s.server.capacity = 1;
      await s.start({ size: 1 });
      s.server.last.capacity = 5;
      expect(begun(callers(s, 3))).toBe(1);
      s.server.last.context.capacityChanged();
      await s.settle();
      expect(s.server.last.running).toBe(3);
      s.check();
    }),
  );

  test(
    "of capacity 0 is ready and takes nothing; with a capacity it does",
    scene(async (s) => {
      s.server.capacity = 0;
      const pool = await s.start({ size: 1 });
      const works = callers(s, 2);
      expect([begun(works), pool.stats()]).toMatchObject([0, { ready: 1, idle: 1, waiting: 2, inFlight: 0 }]);
      expect(await s.outcome(s.use({ timeoutMs: 0 }).promise)).toBe("ERR_POOL_BUSY");
      const late = s.use({ timeoutMs: 100 });
      await s.advance(100);
      expect(late.error, "a connection is not what it waited for").toMatchObject({ phase: "queue" });
      s.check();
      s.server.last.setCapacity(1);
      await s.settle();
      expect(begun(works)).toBe(1);
      s.server.last.setCapacity(0);
      works[0]?.end();
      await s.settle();
      expect(begun(works)).toBe(1);
      s.check();
      s.server.last.setCapacity(1);
      await s.settle();
      expect(begun(works)).toBe(2);
      s.check();
    }),
  );

  test(
    "says its capacity anew each time it is opened",
    scene(async (s) => {
      s.server.capacity = 1;
      const pool = await s.start({ size: 1, backoff });
      s.server.capacity = 3;
      s.server.last.lose();
      await s.advance(0);
      expect(pool.members()[0]?.capacity).toBe(3);
      expect(begun(callers(s, 5))).toBe(3);
      s.check();
    }),
  );

  test(
    "that leaves or is gone may say what it likes",
    scene(async (s) => {
      s.server.capacity = 1;
      const pool = await s.start({ size: 2, backoff });
      const [leaves, gone] = s.registered as [Resource, Resource];
      const works = callers(s, 2);
      leaves.goAway();
      gone.lose();
      s.server.always("refuse");
      await s.advance(0);
      for (const each of [leaves, gone]) each.setCapacity(100);
      const before = pool.stats().inFlight;
      callers(s, 10);
      await s.settle();
      expect([leaves.running, gone.running]).toEqual([1, 1]);
      expect(pool.stats().inFlight).toBeGreaterThanOrEqual(before);
      s.check();
      for (const work of works) work.end();
      await s.settle();
      s.check();
    }),
  );

  test(
    "may say so while it is being opened, before anybody has it",
    scene(async (s) => {
      s.server.capacity = 1;
      const { connector } = s.server;
      const open: typeof connector.open = async (context) => {
        const resource = await connector.open(context);
        resource.setCapacity(2);
        return resource;
      };
      await s.start({ connector: { ...connector, open }, size: 1 });
      expect(begun(callers(s, 3))).toBe(2);
      s.check();
    }),
  );
});

describe("a capacity that is nonsense", () => {
  test.each([
    ["throws", new Error("capacity is broken"), "capacity is broken"],
    ["is below nothing", -1, "Connector.capacity: result: expected 0 or more, got -1"],
    ["is no number", NaN, "Connector.capacity: result: expected 0 or more, got NaN"],
    ["is a word", "many", 'Connector.capacity: result: expected 0 or more, got "many"'],
    ["is nothing at all", undefined, "Connector.capacity: result: expected 0 or more, got undefined"],
  ])("(it %s) counts as one at a time, and is an event", (_, capacity, message) =>
    scene(async (s) => {
      const failed = s.events("callback.failed");
      s.server.capacity = capacity;
      const pool = await s.start({ size: 1 });
      const works = callers(s, 3);
      expect([begun(works), pool.members()[0]?.capacity]).toEqual([1, 1]);
      expect(failed).toMatchObject([
        { where: "scene: capacity", error: { message: expect.stringContaining(message) } },
      ]);
      s.check();
      s.server.last.setCapacity(2);
      await s.settle();
      expect(begun(works)).toBe(2);
      s.check();
    })(),
  );

  test(
    "(it rejects) counts as one at a time, is an event, and harms nobody",
    scene(async (s) => {
      const failed = s.events("callback.failed");
      const capacity = (() => Promise.reject(new Error("asked a server"))) as never;
      const pool = await s.start({ connector: { ...s.server.connector, capacity }, size: 1 });
      expect(pool.members()[0]?.capacity).toBe(1);
      expect(failed.map(({ where }) => where)).toContain("scene: capacity");
      s.check();
    }),
  );

  test(
    "(it is a fraction) takes as many as are below it",
    scene(async (s) => {
      s.server.capacity = 1.5;
      await s.start({ size: 1 });
      expect(begun(callers(s, 5))).toBe(2);
      s.check();
    }),
  );
});
