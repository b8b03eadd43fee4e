/** Replacing every connection of a pool in use, without anybody noticing. */

import { describe, expect, test } from "vitest";
import type { Strategy } from "../../src/index.ts";
import { type Scene, scene } from "./scene.ts";
import { after, type Resource } from "./server.ts";

/** A caller that would not wait a moment, each millisecond: how many found nobody. */
async function turnedAway(s: Scene, forMs: number): Promise<number> {
  let refused = 0;
  for (let ms = 0; ms < forMs; ms++) {
    const work = s.use({ timeoutMs: 0 });
    await s.advance(1);
    work.end();
    await s.settle();
    if (work.outcome !== "ok") refused++;
  }
  return refused;
}

describe("recycle", () => {
  test(
    "replaces every connection, each in its slot",
    scene(async (s) => {
      const pool = await s.start({ size: 3 });
      const processes = s.connections;
      await s.until(pool.recycle());
      expect(s.runtime.now()).toBe(0);
      expect(s.server.fit.map(({ id, slot }) => [id, slot])).toEqual([
        [4, 0],
        [5, 1],
        [6, 2],
      ]);
      expect(s.connections.some((each) => processes.includes(each))).toBe(false);
      expect(pool.stats()).toMatchObject({ size: 3, ready: 3, totals: { opened: 6, closed: 3, lost: 0 } });
      expect(s.server.resources.slice(0, 3).map(({ closings }) => closings)).toEqual([
        ["normal"],
        ["normal"],
        ["normal"],
      ]);
      s.check();
    }),
  );

  test(
    "interrupts nobody, and resolves when the last of the old has answered",
    scene(async (s) => {
      const pool = await s.start({ size: 2 });
      const works = [s.use(), s.use()];
      await s.settle();
      const recycled = s.follow(pool.recycle());
      await s.advance(20_000);
      expect(recycled.outcome).toBe("pending");
      expect(works.map(({ signal, outcome }) => [signal.aborted, outcome])).toEqual([
        [false, "pending"],
        [false, "pending"],
      ]);
      expect(pool.stats()).toMatchObject({ ready: 2, draining: 2, inFlight: 2, used: 0 });
      s.check();
      works[0]?.end("first");
      await s.settle();
      expect(recycled.outcome).toBe("pending");
      works[1]?.end("second");
      await s.settle();
      expect([recycled.outcome, works[0]?.value, works[1]?.value]).toEqual(["ok", "first", "second"]);
      expect(pool.stats()).toMatchObject({ size: 2, ready: 2, draining: 0 });
      s.check();
    }),
  );

  test(
    "sends new requests to the new connection only, once that serves",
    scene(async (s) => {
      const pool = await s.start({ size: 1 });
      s.use();
      await s.settle();
      s.follow(pool.recycle());
      await s.settle();
      const next = s.use();
      await s.settle();
      expect(next.resource.id).toBe(2);
      s.check();
    }),
  );

  test.each([1, 3])("never lets anybody find the pool empty, however slow the opening (size %i)", (size) =>
    scene(async (s) => {
      const pool = await s.start({ size });
      s.server.always(after(20, "ok"));
      const recycled = s.follow(pool.recycle());
      expect(await turnedAway(s, 25 * size)).toBe(0);
      expect(recycled.outcome).toBe("ok");
      expect(s.server.fit.map(({ id }) => id)).toEqual(Array.from({ length: size }, (_, at) => size + at + 1));
      s.check();
    })(),
  );

  test(
    "asked for again in the middle does not either",
    scene(async (s) => {
      const pool = await s.start({ size: 1 });
      s.server.always(after(20, "ok"));
      const all = [s.follow(pool.recycle())];
      expect(await turnedAway(s, 10)).toBe(0);
      all.push(s.follow(pool.recycle()));
      expect(await turnedAway(s, 15)).toBe(0);
      all.push(s.follow(pool.recycle()), s.follow(pool.recycle()));
      expect(await turnedAway(s, 60)).toBe(0);
      expect(all.map(({ outcome }) => outcome)).toEqual(["ok", "ok", "ok", "ok"]);
      expect(pool.stats()).toMatchObject({ size: 1, ready: 1 });
      expect(s.server.last.openedAt, "no older than the last call").toBeGreaterThan(25);
      s.check();
    }),
  );

  test(
    "is one at a time: never more than one connection too many",
    scene(async (s) => {
      const pool = await s.start({ size: 4 });
      s.server.always(after(10, "ok"));
      const recycled = s.follow(pool.recycle());
      for (let ms = 0; ms < 50; ms++) {
        expect(pool.stats().size).toBeLessThanOrEqual(5);
        expect(pool.stats().ready).toBeGreaterThanOrEqual(4);
        await s.advance(1);
      }
      expect(recycled.outcome).toBe("ok");
      s.check();
    }),
  );

  test(
    "spreads them over the time it was given, the first at once",
    scene(async (s) => {
      const pool = await s.start({ size: 4 });
      const recycled = s.follow(pool.recycle({ overMs: 8_000 }));
      await s.advance(5_999);
      expect([recycled.outcome, s.server.fit.map(({ id }) => id)]).toEqual(["pending", [4, 5, 6, 7]]);
      await s.advance(1);
      expect(recycled.outcome).toBe("ok");
      expect(s.server.times.slice(4)).toEqual([0, 2_000, 4_000, 6_000]);
      s.check();
    }),
  );

  test(
    "counts the time that openings take into the spread",
    scene(async (s) => {
      const pool = await s.start({ size: 4 });
      s.server.always(after(1_500, "ok"));
      const recycled = s.follow(pool.recycle({ overMs: 4_000 }));
      await s.advance(7_000);
      expect(recycled.outcome).toBe("ok");
      expect(s.server.times.slice(4)).toEqual([0, 1_500, 3_000, 4_500]);
      s.check();
    }),
  );

  test(
    "of a pool without connections has nothing to do",
    scene(async (s) => {
      const pool = await s.start({ size: 1 });
      await s.until(pool.resize(0));
      await s.until(pool.recycle({ overMs: 60_000 }));
      expect([s.runtime.now(), s.server.attempts.length]).toEqual([0, 1]);
      s.check();
    }),
  );

  test(
    "keeps each at its endpoint",
    scene(async (s) => {
      const pool = await s.start({ size: 2, endpoints: [{ id: "a" }, { id: "b" }] });
      const before = pool.members().map(({ slot, endpoint }) => `${slot} ${endpoint.id}`);
      await s.until(pool.recycle());
      const after = pool.members().map(({ slot, endpoint }) => `${slot} ${endpoint.id}`);
      expect(after.toSorted()).toEqual(before.toSorted());
      s.check();
    }),
  );
});

describe("recycle, and a server that cannot be reached,", () => {
  test(
    "leaves the old to serve until the new can",
    scene(async (s) => {
      const pool = await s.start({ size: 1, backoff: { kind: "exponential", minMs: 10, maxMs: 10 } });
      s.server.always("refuse");
      const recycled = s.follow(pool.recycle());
      expect(await turnedAway(s, 100)).toBe(0);
      expect(recycled.outcome).toBe("pending");
      expect(s.server.fit.map(({ id }) => id)).toEqual([1]);
      s.server.always("ok");
      await s.advance(10);
      expect(recycled.outcome).toBe("ok");
      expect(s.server.fit.map(({ id }) => id)).toEqual([2]);
      s.check();
    }),
  );

  test(
    "gives the new ones a fresh start: they do not wait for the backoff of the old",
    scene(async (s) => {
      s.server.always("refuse");
      const pool = await s.start({ size: 2, backoff: { kind: "exponential", minMs: 60_000, maxMs: 60_000 } });
      s.server.always("ok");
      await s.advance(5);
      await s.until(pool.recycle());
      expect([s.runtime.now(), pool.stats().ready]).toEqual([5, 2]);
      s.check();
    }),
  );

  test(
    "does not wait for those that had not served either",
    scene(async (s) => {
      s.server.always("refuse");
      const pool = await s.start({ size: 2 });
      await s.until(pool.recycle());
      expect(s.runtime.now()).toBe(0);
      expect(pool.stats()).toMatchObject({ size: 2, waitingToReopen: 2, totals: { openFailed: 4 } });
      s.check();
    }),
  );

  test(
    "does not knock with all of them at once when it is back",
    scene(async (s) => {
      s.server.always("refuse");
      const pool = await s.start({ size: 3, backoff: { minMs: 60_000, maxMs: 60_000 } });
      s.server.always(after(100, "ok"));
      const recycled = s.follow(pool.recycle());
      await s.advance(300);
      expect([recycled.outcome, s.server.times]).toEqual(["ok", [0, 0, 0, 0, 100, 200]]);
      s.check();
    }),
  );

  test(
    "does not leave an opening behind",
    scene(async (s) => {
      s.server.always(after(50, "ok", "deaf"));
      const pool = await s.start({ size: 1 });
      const recycled = s.follow(pool.recycle());
      await s.settle();
      expect(s.server.attempts.map(({ signal }) => signal.aborted)).toEqual([true, false]);
      await s.advance(50);
      expect(recycled.outcome).toBe("ok");
      expect(s.server.resources.map(({ closings }) => closings.length)).toEqual([1, 0]);
      s.check();
    }),
  );
});

describe("a connection that has failed for good", () => {
  test(
    "is tried again by recycle, and the pool serves when the configuration was mended",
    scene(async (s) => {
      s.server.always("fatal");
      const pool = await s.start({ size: 2 });
      const refused = s.use();
      await s.advance(60_000);
      expect([refused.outcome, s.server.attempts.length]).toEqual(["ERR_POOL_OPEN_FAILED", 2]);
      s.server.always("ok");
      await s.until(pool.recycle());
      expect(pool.stats()).toMatchObject({ size: 2, ready: 2, fatal: 0 });
      const work = s.use();
      await s.settle();
      expect(work.started).toBe(true);
      s.check();
    }),
  );

  test(
    "is as fatal as before when it was not: recycle resolves, and callers are told at once",
    scene(async (s) => {
      s.server.always("fatal");
      const pool = await s.start({ size: 2 });
      await s.until(pool.recycle());
      expect(pool.stats()).toMatchObject({ size: 2, fatal: 2, totals: { openFailed: 4 } });
      const work = s.use();
      await s.settle();
      expect(work.outcome).toBe("ERR_POOL_OPEN_FAILED");
      s.check();
    }),
  );

  test(
    "lets callers wait while its successor opens",
    scene(async (s) => {
      s.server.always("fatal");
      const pool = await s.start({ size: 1 });
      s.server.always(after(50, "ok"));
      s.follow(pool.recycle());
      const work = s.use();
      await s.advance(50);
      expect(work.started).toBe(true);
      s.check();
    }),
  );
});

describe("recycle while", () => {
  test(
    "the pool closes rejects, and is refused afterwards",
    scene(async (s) => {
      const pool = await s.start({ size: 2 });
      const recycled = s.follow(pool.recycle({ overMs: 60_000 }));
      await s.until(pool.close());
      expect(s.runtime.now()).toBeLessThan(30_000);
      expect(recycled.outcome).toBe("ERR_POOL_CLOSED");
      expect(await s.outcome(pool.recycle())).toBe("ERR_POOL_CLOSED");
    }),
  );

  test(
    "the pool is destroyed rejects with the reason of that",
    scene(async (s) => {
      const pool = await s.start({ size: 1 });
      s.server.always("never");
      const recycled = s.follow(pool.recycle());
      await s.settle();
      await s.until(pool.destroy(new Error("enough")));
      expect(recycled.outcome).toBe("enough");
    }),
  );

  test(
    "it grows leaves the new ones alone",
    scene(async (s) => {
      const pool = await s.start({ size: 2 });
      const recycled = s.follow(pool.recycle({ overMs: 2_000 }));
      await s.advance(500);
      await s.until(pool.resize(4));
      await s.advance(2_000);
      expect(recycled.outcome).toBe("ok");
      expect(s.server.attempts.length).toBe(6);
      expect(pool.stats()).toMatchObject({ size: 4, ready: 4 });
      expect(s.server.fit.every(({ id }) => id > 2)).toBe(true);
      s.check();
    }),
  );

  test.each([0, 1, 2])("it shrinks ends with what was asked for (size %i)", (size) =>
    scene(async (s) => {
      const pool = await s.start({ size: 3 });
      s.server.always(after(100, "ok"));
      const recycled = s.follow(pool.recycle());
      await s.advance(150);
      const resized = s.follow(pool.resize(size));
      await s.settle();
      // One more while an old one is being replaced.
      expect([resized.outcome, pool.stats().size]).toEqual(["ok", size === 0 ? 0 : size + 1]);
      await s.advance(1_000);
      expect(recycled.outcome).toBe("ok");
      expect(pool.stats()).toMatchObject({ size, ready: size });
      expect(s.server.fit.every(({ id }) => id > 3)).toBe(true);
      s.check();
    })(),
  );

  test(
    "connections die, old and new, still replaces them all",
    scene(async (s) => {
      const pool = await s.start({ size: 4, maxRestarts: 1_000, backoff: { minMs: 5, maxMs: 20 } });
      const old = s.connections;
      s.server.always(after(10, "ok"));
      const recycled = s.follow(pool.recycle());
      for (let ms = 0; ms < 300 && recycled.outcome === "pending"; ms += 3) {
        s.connections[ms % s.connections.length]?.kill();
        if (ms % 2 === 0) s.server.fit.at(ms % 5)?.lose();
        await s.advance(30);
        s.check();
      }
      expect(recycled.outcome).toBe("ok");
      expect(old.some(({ alive }) => alive)).toBe(false);
      await s.until(pool.ready({ min: 4 }));
      expect(pool.stats()).toMatchObject({ size: 4, ready: 4 });
      s.check();
    }),
  );

  test(
    "the old asks to go counts that as its end",
    scene(async (s) => {
      const pool = await s.start({ size: 1 });
      s.server.always(after(100, "ok"));
      const recycled = s.follow(pool.recycle());
      await s.advance(50);
      s.server.last.goAway();
      await s.advance(50);
      expect(recycled.outcome).toBe("ok");
      expect(s.server.attempts.length).toBe(2);
      expect(pool.stats()).toMatchObject({ size: 1, ready: 1 });
      s.check();
    }),
  );

  test(
    "the new one asks to go as soon as it has come keeps the old until there is another",
    scene(async (s) => {
      const strategy: Strategy<Resource> = {
        pick: (members) => members[0]!,
        joined: ({ resource }) => {
          if (resource.id === 2) resource.goAway();
        },
      };
      const pool = await s.start({ size: 1, strategy });
      s.server.always(after(20, "ok"));
      const recycled = s.follow(pool.recycle());
      expect(await turnedAway(s, 50)).toBe(0);
      expect([recycled.outcome, s.server.fit.map(({ id }) => id)]).toEqual(["ok", [3]]);
      s.check();
    }),
  );

  test(
    "the registry dies still ends with as many connections as there should be",
    scene(async (s) => {
      const pool = await s.start({ size: 3 });
      s.server.always(after(100, "ok"));
      const recycled = s.follow(pool.recycle());
      await s.advance(150);
      pool.tree().children[0]?.process.kill();
      await s.advance(1_000);
      expect(recycled.outcome).toBe("ok");
      expect(pool.stats()).toMatchObject({ size: 3, ready: 3 });
      s.check();
    }),
  );
});
