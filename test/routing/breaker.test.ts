/** Members that fail: ejected, probed with one real request, restored; a cap on how many, and a panic when too few are left. */

import { describe, expect, test } from "vitest";
import { roundRobin } from "../../src/index.ts";
import { type Scene, scene, type Work } from "./scene.ts";
import type { Resource } from "./server.ts";

const failure = new Error("no");

/** Sends a request wherever the pool likes, and ends it at once. `good` says how. */
async function send(s: Scene, good: (resource: Resource) => boolean): Promise<Work> {
  const work = s.use({ timeoutMs: 0 });
  if (work.started) {
    if (good(work.resource)) work.end();
    else work.fail(failure);
  }
  await s.settle();
  return work;
}

/** Makes the member in a slot fail until it is ejected. */
async function ejectSlot(s: Scene, slot: number): Promise<void> {
  for (let n = 0; n < 200 && !s.pool.members().some((member) => member.slot === slot && member.ejected); n++) {
    await send(s, (resource) => resource.slot !== slot);
  }
}

const ejected = (s: Scene): number[] => s.pool.members().flatMap((member) => (member.ejected ? [member.slot] : []));

describe("a member", () => {
  test(
    "is ejected by five failures in a row, for five seconds, with an event that says why",
    scene(async (s) => {
      const events = s.events("member.ejected");
      await s.start({ size: 4, strategy: roundRobin() });
      await ejectSlot(s, 2);
      expect(ejected(s)).toEqual([2]);
      expect(events).toMatchObject([
        {
          pool: "scene",
          connection: "connection 2",
          endpoint: "fake",
          reason: "consecutive",
          failures: 5,
          ejectMs: 5_000,
        },
      ]);
      expect(s.pool.stats()).toMatchObject({ ready: 4, ejected: 1 });
      const before = s.pool.stats().totals.acquired;
      const served = await Promise.all(Array.from({ length: 30 }, () => send(s, () => true)));
      expect(served.filter((work) => work.resource.slot === 2)).toEqual([]);
      expect(s.pool.stats().totals.acquired).toBe(before + 30);
      s.check();
    }),
  );

  test(
    "is not ejected by four failures and a success, however often that comes, as long as the ratio is good",
    scene(async (s) => {
      await s.start({ size: 4, breaker: { successRatio: 0.1 } });
      let n = 0;
      for (let round = 0; round < 200; round++) await send(s, (resource) => resource.slot !== 0 || ++n % 5 === 0);
      expect(ejected(s)).toEqual([]);
    }),
  );

  test(
    "is ejected when fewer than 8 in 10 are good over the window, five samples at the least",
    scene(async (s) => {
      const events = s.events("member.ejected");
      await s.start({ size: 1, breaker: { panicBelow: 0 } });
      // One failure in three: never two in a row.
      const outcomes = [true, true, false, true];
      for (const good of outcomes) await send(s, () => good);
      expect(ejected(s), "four samples say nothing").toEqual([]);
      await send(s, () => true);
      expect(ejected(s), "4 in 5 is not below 0.8").toEqual([]);
      await send(s, () => false);
      expect(ejected(s)).toEqual([0]);
      expect(events).toMatchObject([{ reason: "ratio", failures: 2 }]);
    }),
  );

  test(
    "is judged by the window only: what is longer ago is forgotten",
    scene(async (s) => {
      await s.start({ size: 1, breaker: { panicBelow: 0 } });
      for (const good of [false, true, false, true, false, true]) {
        await send(s, () => good);
        await s.advance(6_000);
      }
      expect(ejected(s)).toEqual([]);
    }),
  );

  test(
    "is given exactly one real request when its time is over, whatever the strategy says, and is restored by it",
    scene(async (s) => {
      const [probed, restored] = [s.events("member.probed"), s.events("member.restored")];
      await s.start({ size: 4, strategy: roundRobin() });
      await ejectSlot(s, 1);
      await s.advance(4_999);
      expect((await send(s, () => true)).resource.slot).not.toBe(1);
      await s.advance(1);
      const probe = s.use();
      expect(probe.resource.slot, "whoever's turn it is").toBe(1);
      const others = Array.from({ length: 12 }, () => s.use());
      expect(others.filter((work) => work.resource.slot === 1)).toEqual([]);
      expect([probed.length, restored.length]).toEqual([1, 0]);
      probe.end();
      await s.settle();
      expect([probed.length, restored.length]).toEqual([1, 1]);
      expect(restored).toMatchObject([{ connection: "connection 1", ejectedMs: expect.closeTo(5_000, 0) as number }]);
      expect(ejected(s)).toEqual([]);
      for (const work of others) work.end();
      await s.settle();
      s.check();
    }),
  );

  test(
    "that is full when its time is over has whoever waits for its probe as soon as it has room",
    scene(async (s) => {
      const probed = s.events("member.probed");
      s.server.capacity = 2;
      await s.start({ size: 1, breaker: { panicBelow: 0 } });
      const long = s.use();
      await ejectSlot(s, 0);
      long.resource.setCapacity(1);
      const waits = s.use({ timeoutMs: 60_000 });
      await s.advance(5_000);
      expect([ejected(s), waits.started, probed.length]).toEqual([[], false, 0]);
      long.end();
      await s.settle();
      expect([waits.started, probed.length]).toEqual([true, 1]);
      s.check();
    }),
  );

  test(
    "whose probe was given up has the next in line for a probe, in that very step",
    scene(async (s) => {
      s.server.capacity = 2;
      await s.start({ size: 1, breaker: { panicBelow: 0 } });
      await ejectSlot(s, 0);
      await s.advance(5_000);
      const caller = new AbortController();
      const probe = s.use({ signal: caller.signal });
      const next = s.use({ timeoutMs: 60_000 });
      await s.settle();
      expect([probe.started, next.started]).toEqual([true, false]);
      caller.abort(new Error("gave up"));
      await s.settle();
      expect([probe.outcome, next.started]).toEqual(["gave up", true]);
      s.check();
    }),
  );

  test(
    "is left alone twice as long each time its probe fails, up to a limit, and for the first time again once it was good",
    scene(async (s) => {
      const events = s.events("member.ejected");
      await s.start({ size: 4, strategy: roundRobin(), breaker: { ejectMs: 1_000, maxEjectMs: 5_000 } });
      await ejectSlot(s, 0);
      for (const ms of [1_000, 2_000, 4_000, 5_000, 5_000]) {
        await s.advance(ms);
        await send(s, (resource) => resource.slot !== 0);
      }
      expect(events.map(({ ejectMs, reason }) => `${reason} ${ejectMs}`)).toEqual([
        "consecutive 1000",
        "probe 2000",
        "probe 4000",
        "probe 5000",
        "probe 5000",
        "probe 5000",
      ]);
      await s.advance(5_000);
      await send(s, () => true);
      await ejectSlot(s, 0);
      expect(events.at(-1)).toMatchObject({ reason: "consecutive", ejectMs: 1_000 });
    }),
  );

  test(
    "is not judged by answers to what was sent before its ejection",
    scene(async (s) => {
      await s.start({ size: 4, strategy: roundRobin(), breaker: { ejectMs: 1_000 } });
      const old = Array.from({ length: 4 }, () => s.use()).find((work) => work.resource.slot === 3) as Work;
      await ejectSlot(s, 3);
      await s.advance(1_000);
      const probe = s.use();
      expect(probe.resource.slot).toBe(3);
      old.end();
      await s.settle();
      expect(ejected(s), "the old one was good, and is about the past").toEqual([3]);
      probe.fail(failure);
      await s.settle();
      expect(s.pool.members().find(({ slot }) => slot === 3)?.ejected).toBe(true);
    }),
  );

  test(
    "whose probe's caller gives up is probed by the next",
    scene(async (s) => {
      const probed = s.events("member.probed");
      await s.start({ size: 4, strategy: roundRobin(), breaker: { ejectMs: 1_000 } });
      await ejectSlot(s, 3);
      await s.advance(1_000);
      const caller = new AbortController();
      const first = s.use({ signal: caller.signal });
      expect(first.resource.slot).toBe(3);
      caller.abort(new Error("enough"));
      await s.settle();
      const second = s.use();
      expect(second.resource.slot).toBe(3);
      second.end();
      await s.settle();
      expect([probed.length, ejected(s)]).toEqual([2, []]);
    }),
  );

  test(
    "keeps its health when its connection is lost: a server that hangs up on every request is found out",
    scene(async (s) => {
      const events = s.events("member.ejected");
      const strategy = roundRobin();
      await s.start({ size: 4, strategy, breaker: { consecutive: 3 }, backoff: { minMs: 1, maxMs: 1 } });
      for (let n = 0; n < 40 && events.length === 0; n++) {
        const work = s.use();
        if (work.resource.slot === 2) work.resource.lose();
        else work.end();
        await s.advance(10);
      }
      expect(events).toMatchObject([{ connection: "connection 2", failures: 3 }]);
      expect(ejected(s), "the connection that came after it, too").toEqual([2]);
    }),
  );

  test(
    "counts one failure for a loss, however many requests it took along",
    scene(async (s) => {
      const events = s.events("member.ejected");
      await s.start({ size: 1, breaker: { panicBelow: 0 } });
      const works = Array.from({ length: 50 }, () => s.use());
      works[0]?.resource.lose();
      await s.advance(2_000);
      expect(events).toEqual([]);
      expect(works.every(({ outcome }) => outcome === "ERR_CONNECTION_LOST")).toBe(true);
    }),
  );

  test(
    "that fails with what the connector says is no failure stays",
    scene(async (s) => {
      const { connector } = s.server;
      await s.start({ size: 1, breaker: { panicBelow: 0 }, connector: { ...connector, isFailure: () => false } });
      for (let n = 0; n < 20; n++) await send(s, () => false);
      expect(ejected(s)).toEqual([]);
    }),
  );
});

describe("of the members", () => {
  test(
    "a tenth may be ejected at once, and one always may",
    scene(async (s) => {
      await s.start({ size: 4 });
      for (let n = 0; n < 100; n++) await send(s, () => false);
      expect(ejected(s)).toHaveLength(1);
    }),
  );

  test(
    "as many may be ejected as is said",
    scene(async (s) => {
      await s.start({ size: 10, breaker: { maxEjected: 0.3, panicBelow: 0 } });
      for (let n = 0; n < 200; n++) await send(s, () => false);
      expect(ejected(s)).toHaveLength(3);
    }),
  );

  test(
    "the health is not looked at when fewer than half are left, and is again when there are enough",
    scene(async (s) => {
      const [panics, calms] = [s.events("pool.panicked"), s.events("pool.calmed")];
      await s.start({ size: 4, breaker: { maxEjected: 1 } });
      for (let n = 0; n < 100; n++) await send(s, () => false);
      expect(ejected(s).length).toBeGreaterThanOrEqual(3);
      expect(panics).toMatchObject([{ pool: "scene", healthy: 1, places: 4 }]);
      const works = Array.from({ length: 4 }, () => s.use());
      expect(new Set(works.map((work) => work.resource.slot)).size, "all of them serve").toBe(4);
      for (const work of works) work.end();
      await s.advance(5_000);
      for (let n = 0; n < 4; n++) await send(s, () => true);
      expect([ejected(s), calms.length]).toEqual([[], 1]);
    }),
  );

  test(
    "the only one serves though it fails: there is nobody else",
    scene(async (s) => {
      await s.start({ size: 1 });
      for (let n = 0; n < 20; n++) expect((await send(s, () => false)).outcome).toBe("no");
      expect(s.pool.stats()).toMatchObject({ ejected: 1, ready: 1 });
    }),
  );

  test(
    "one that is due serves a caller who waits, though the others are full",
    scene(async (s) => {
      s.server.capacity = 1;
      await s.start({ size: 2, strategy: roundRobin(), breaker: { ejectMs: 1_000 } });
      await ejectSlot(s, 0);
      const busy = s.use();
      const waiting = s.use({ timeoutMs: 10_000 });
      await s.settle();
      expect([busy.resource.slot, waiting.started]).toEqual([1, false]);
      await s.advance(1_000);
      expect(waiting.resource.slot).toBe(0);
      waiting.end();
      busy.end();
      await s.settle();
      s.check();
    }),
  );

  test(
    "nobody is ejected with breaker: false",
    scene(async (s) => {
      await s.start({ size: 4, breaker: false });
      for (let n = 0; n < 100; n++) await send(s, () => false);
      expect(ejected(s)).toEqual([]);
    }),
  );
});
