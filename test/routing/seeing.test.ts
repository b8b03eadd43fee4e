/**
 * What a pool shows of itself: `stats`, `members`, `snapshot` and `tree` say the same, exactly, at every moment; the
 * events tell the same story; and none of them tells a secret.
 */

import { describe, expect, test } from "vitest";
import { ConnectionLostError, type Events, type PoolStats, RoutingPool } from "../../src/index.ts";
import { seededRandom } from "../../src/sim/index.ts";
import { atRest, child, type Pool, type Scene, scene } from "./scene.ts";
import { after } from "./server.ts";

/** Each of the five states once, in this order of slots: ready, opening, waitingToReopen, draining, fatal; and a successor. */
async function allStates(s: Scene): Promise<Pool> {
  s.server.next("ok", "never", "refuse", "ok", "fatal");
  const strategy = { pick: <M>(members: readonly M[]): M => members.at(-1) as M };
  const pool = await s.start({ size: 5, strategy, backoff: { kind: "exponential", minMs: 60_000 } });
  s.use();
  await s.settle();
  expect(s.works[0]?.resource.slot).toBe(3);
  s.server.always("never");
  s.works[0]?.resource.goAway();
  await s.advance(10);
  return pool;
}

/** The gauges of a pool, counted over what its members and its tree show. */
function counted(pool: Pool): Partial<PoolStats> {
  const members = pool.members();
  const states = { ready: 0, opening: 0, waitingToReopen: 0, draining: 0, fatal: 0 };
  for (const { state } of members) states[state]++;
  const used = members.filter(({ state, inFlight }) => state === "ready" && inFlight > 0).length;
  const inFlight = members.reduce((sum, member) => sum + member.inFlight, 0);
  const ejected = members.filter((member) => member.ejected).length;
  return { ...states, size: members.length, used, idle: states.ready - used, inFlight, ejected };
}

function agree(s: Scene): void {
  const { pool } = s;
  const stats = pool.stats();
  const snapshot = pool.snapshot();
  expect(stats).toMatchObject(counted(pool));
  expect(snapshot.stats).toEqual(stats);
  expect(
    snapshot.connections.map(({ slot, endpoint, state, since, inFlight }) => [slot, endpoint, state, since, inFlight]),
  ).toEqual(
    pool.members().map(({ slot, endpoint, state, since, inFlight }) => [slot, endpoint.id, state, since, inFlight]),
  );
  expect(snapshot.waiters.length).toBe(stats.waiting);
  expect(s.connections.length).toBe(stats.size);
  s.check();
}

describe("what a pool shows", () => {
  test(
    "of the five states is exact, and the same from every side",
    scene(async (s) => {
      const pool = await allStates(s);
      const { totals, ...gauges } = pool.stats();
      expect(gauges).toEqual({
        ...{ name: "scene", kind: "routing", size: 6, ready: 1, opening: 2, waitingToReopen: 1, draining: 1, fatal: 1 },
        ...{ ejected: 0, idle: 1, used: 0, inFlight: 1, waiting: 0 },
      });
      expect(totals).toEqual({
        ...{ acquired: 1, succeeded: 0, failed: 0, timedOut: 0, rejected: 0, shed: 0, retried: 0 },
        ...{ opened: 2, openFailed: 2, lost: 0, closed: 0 },
      });
      expect(pool.members().map(({ slot, state, inFlight }) => [slot, state, inFlight])).toEqual([
        [0, "ready", 0],
        [1, "opening", 0],
        [2, "waitingToReopen", 0],
        [3, "draining", 1],
        [4, "fatal", 0],
        [3, "opening", 0],
      ]);
      agree(s);
    }),
  );

  test(
    "of its processes is the tree: those that live, and no others",
    scene(async (s) => {
      const pool = await allStates(s);
      const connections = child(pool.tree(), "connections").children;
      expect(connections.map(({ id }) => id)).toEqual([0, 1, 2, 3, 4, 3].map((slot) => `connection ${slot}`));
      expect(connections.every(({ process, children }) => process.alive && children.length === 0)).toBe(true);
      connections[0]?.process.kill();
      expect(child(pool.tree(), "connections").children).not.toContainEqual(connections[0]);
      expect(pool.stats(), "its place is to be filled").toMatchObject({ size: 6, ready: 0, opening: 3 });
      await s.settle();
      expect(child(pool.tree(), "connections").children.length).toBe(6);
      agree(s);
    }),
  );

  test(
    "of its members is what the registry has, in every step",
    scene(async (s) => {
      const pool = await s.start({ size: 3 });
      expect(s.registered.map(({ slot }) => slot)).toEqual([0, 1, 2]);
      s.server.always("never");
      s.server.resources[0]?.lose();
      expect([s.registered.length, pool.stats().ready]).toEqual([2, 2]);
      s.server.resources[1]?.goAway();
      expect([s.registered.length, pool.stats().ready]).toEqual([1, 1]);
      s.connections.find(({ name }) => name === "connection 2")?.kill();
      expect([s.registered.length, pool.stats().ready]).toEqual([0, 0]);
      await s.settle();
      agree(s);
    }),
  );

  test(
    "of a member is its room: in flight, capacity, weight, endpoint",
    scene(async (s) => {
      s.server.capacity = 3;
      const pool = await s.start({ size: 1, endpoints: [{ id: "a", weight: 4 }] });
      s.use();
      await s.settle();
      expect(pool.members()).toEqual([
        {
          ...{ slot: 0, endpoint: { id: "a", weight: 4 }, state: "ready", since: 0 },
          ...{ inFlight: 1, capacity: 3, weight: 4, ejected: false },
        },
      ]);
      s.server.last.setCapacity(7);
      expect(pool.members()[0]?.capacity).toBe(7);
      agree(s);
    }),
  );

  test(
    "of what is in flight counts what its caller gave up on, until it is answered",
    scene(async (s) => {
      const pool = await s.start({ size: 2 });
      const controller = new AbortController();
      const work = s.use({ signal: controller.signal });
      await s.settle();
      controller.abort();
      await s.settle();
      expect(pool.stats()).toMatchObject({ idle: 1, used: 1, inFlight: 1 });
      agree(s);
      work.end();
      await s.settle();
      expect(pool.stats()).toMatchObject({ idle: 2, used: 0, inFlight: 0 });
      agree(s);
    }),
  );

  test(
    "of its line is how long each has waited, the first in line first",
    scene(async (s) => {
      s.server.capacity = 1;
      const pool = await s.start({ size: 1 });
      for (let caller = 0; caller < 4; caller++) {
        s.use();
        await s.advance(100);
      }
      expect(pool.snapshot().waiters).toEqual([{ ageMs: 300 }, { ageMs: 200 }, { ageMs: 100 }]);
      expect(pool.snapshot().leases).toEqual([]);
      agree(s);
    }),
  );

  test(
    "of a connection is since when it is in its state",
    scene(async (s) => {
      s.server.always(after(30, "ok"));
      const pool = await s.start({ size: 1 });
      const since = (): unknown[] => pool.snapshot().connections.map((each) => [each.state, each.since]);
      expect(since()).toEqual([["opening", 0]]);
      await s.advance(100);
      expect(since()).toEqual([["ready", 30]]);
      s.use();
      await s.settle();
      s.server.last.goAway();
      await s.advance(100);
      expect(since()).toEqual([
        ["draining", 100],
        ["ready", 130],
      ]);
      agree(s);
    }),
  );

  test(
    "of its attempts is how many have failed since the last success, and why",
    scene(async (s) => {
      s.server.always("refuse");
      const pool = await s.start({ size: 1, backoff: { kind: "exponential", minMs: 100, maxMs: 100 } });
      await s.advance(200);
      expect(pool.snapshot().connections).toMatchObject([{ attempts: 3, lastError: "Refused (ECONNREFUSED)" }]);
      s.server.always("ok");
      await s.advance(100);
      expect(pool.snapshot().connections).toEqual([
        { slot: 0, endpoint: "fake", state: "ready", since: 300, inFlight: 0, attempts: 0 },
      ]);
      agree(s);
    }),
  );

  test(
    "is not changed by what happens afterwards",
    scene(async (s) => {
      const pool = await allStates(s);
      const shown = [pool.stats(), pool.members(), pool.snapshot()] as const;
      const copy = structuredClone(shown);
      s.works[0]?.end();
      s.use();
      await s.until(pool.resize(1));
      expect(shown).toEqual(copy);
      agree(s);
    }),
  );

  test(
    "when all is over is that nothing is there",
    scene(async (s) => {
      const pool = await allStates(s);
      await s.until(pool.destroy());
      const { totals: _, name: __, kind: ___, ...gauges } = pool.stats();
      expect(gauges).toEqual(atRest);
      expect([pool.members(), pool.snapshot().connections]).toEqual([[], []]);
      expect(pool.tree().children.every(({ process }) => !process.alive)).toBe(true);
    }),
  );

  test(
    "by name is what it was given, or one of its own",
    scene(async (s) => {
      const { connector } = s.server;
      const [a, b] = await Promise.all([1, 2].map(() => RoutingPool.start({ connector, runtime: s.runtime, size: 1 })));
      expect([a?.name, b?.name].every((name) => /^fake pool \d+$/.test(name ?? ""))).toBe(true);
      expect(a?.name).not.toBe(b?.name);
      expect([a?.stats().name, a?.snapshot().name, a?.tree().id]).toEqual(Array(3).fill(a?.name));
      await s.until(Promise.all([a?.close(), b?.close()]));
      const pool = await s.start();
      expect([pool.name, pool.stats().name, pool.process.name]).toEqual(["scene", "scene", "scene"]);
    }),
  );
});

describe("a secret in a driver's error", () => {
  test(
    "is in no snapshot and no message of ours; the cause is the driver's, untouched",
    scene(async (s) => {
      s.server.script = (nth) => (nth % 2 === 0 ? "fatal" : "refuse");
      const pool = await s.start({ size: 2 });
      const errors = [
        s.use({ timeoutMs: 10 }),
        s.use({ timeoutMs: 0 }),
        s.follow(pool.ready({ timeoutMs: 10 })),
        s.follow(pool.ready({ min: 2 })),
      ];
      await s.advance(10);
      expect(() => pool.pick()).toThrow(expect.not.objectContaining({ message: expect.stringContaining("tiger") }));
      await s.until(pool.resize(1));
      s.server.always("ok");
      await s.until(pool.ready());
      const lost = s.use();
      await s.settle();
      s.server.last.lose(new Error("scott:tiger was thrown out"));
      await s.advance(0);
      errors.push(lost);
      for (const { error } of errors) {
        const { message, stats, cause } = error as Error & { stats: unknown };
        expect(message + JSON.stringify(stats)).not.toContain("tiger");
        expect(String(cause), "for the log of whoever may see it").toContain("tiger");
      }
      expect(JSON.stringify(pool.snapshot())).not.toContain("tiger");
      s.check();
    }),
  );

  test.each([
    [Object.assign(new TypeError("tiger"), { code: "ETIGER_NOT" }), "TypeError (ETIGER_NOT)"],
    [Object.assign(new Error("tiger"), { code: 1045 }), "Error (1045)"],
    [Object.assign(new Error("tiger"), { code: { password: "tiger" } }), "Error"],
    [new Error("tiger"), "Error"],
    [new ConnectionLostError("the socket went away. Call again.", { sent: "no" }), "the socket went away. Call again."],
    ["tiger", "Error"],
  ])("is left out of what a snapshot says of it: %s", (thrown, words) =>
    scene(async (s) => {
      const open = (): never => {
        throw thrown;
      };
      const pool = await s.start({ size: 1, connector: { ...s.server.connector, open } });
      expect(pool.snapshot().connections).toMatchObject([{ lastError: words }]);
      s.check();
    })(),
  );
});

const told = [
  "connection.opened",
  "connection.openFailed",
  "connection.lost",
  "connection.closed",
  "pool.retried",
] as const satisfies readonly (keyof Events)[];

describe("totals", () => {
  test(
    "count each thing once",
    scene(async (s) => {
      s.server.next("ok", "refuse");
      s.server.capacity = 1;
      const queue = { limit: 1 };
      const pool = await s.start({ size: 2, queue, backoff: { kind: "exponential", minMs: 1_000, maxMs: 1_000 } });
      const [good, line, full, busy] = [s.use(), s.use({ timeoutMs: 100 }), s.use(), s.use({ timeoutMs: 0 })];
      await s.advance(100);
      good.end();
      await s.settle();
      const bad = s.use();
      await s.settle();
      bad.fail(new Error("broken"));
      await s.settle();
      const lost = s.use();
      const again = s.use({ idempotent: true });
      await s.settle();
      s.server.last.lose();
      await s.advance(0);
      const outcomes = [good, line, full, busy, bad, lost].map(({ outcome }) => outcome);
      expect(outcomes).toEqual([
        "ok",
        "ERR_POOL_ACQUIRE_TIMEOUT",
        "ERR_POOL_QUEUE_FULL",
        "ERR_POOL_BUSY",
        "broken",
        "ERR_CONNECTION_LOST",
      ]);
      expect(again.started).toBe(true);
      s.server.fit.find((resource) => resource === again.resource)?.lose();
      await s.advance(1_000);
      again.end();
      await s.settle();
      expect(again.outcome).toBe("ok");
      expect(pool.stats().totals).toEqual({
        ...{ acquired: 5, succeeded: 2, failed: 2, timedOut: 1, rejected: 2, shed: 0, retried: 1 },
        ...{ opened: 4, openFailed: 1, lost: 2, closed: 2 },
      });
      agree(s);
    }),
  );

  test.each([1, 2, 3])("only grow, are what the events tell, and balance (seed %i)", (seed) =>
    scene(async (s) => {
      const random = seededRandom(seed);
      const below = (n: number): number => Math.floor(random() * n);
      const events = told.map((name) => s.events(name));
      s.server.capacity = 2;
      s.server.script = () => (["ok", "ok", "ok", "refuse", "dies", "goesAway"] as const)[below(6)] ?? "ok";
      const options = { size: 3, maxRestarts: 1_000, queue: { limit: 5 } };
      const pool = await s.start({ ...options, backoff: { minMs: 10, maxMs: 50 } });
      let before = pool.stats().totals;
      for (let step = 0; step < 100; step++) {
        const [resource, work] = [s.server.fit[below(s.server.fit.length)], s.works[below(s.works.length)]];
        const acts = [
          () => s.use({ timeoutMs: below(100), idempotent: random() < 0.5 }),
          () => s.use(),
          () => work?.end(),
          () => work?.fail(new ConnectionLostError("not sent", { sent: "no" })),
          () => resource?.lose(),
          () => resource?.goAway(),
          () => s.connections[below(s.connections.length)]?.kill(),
        ];
        acts[below(acts.length)]?.();
        await s.advance(below(20));
        const { totals } = pool.stats();
        for (const [name, total] of Object.entries(totals)) {
          expect(total, name).toBeGreaterThanOrEqual(before[name as keyof typeof before]);
        }
        before = totals;
        agree(s);
      }
      await s.until(pool.destroy());
      const { totals } = pool.stats();
      const [opened, openFailed, lost, closed, retried] = events.map(({ length }) => length);
      expect({ openFailed, lost, closed, retried }).toEqual({
        openFailed: totals.openFailed,
        lost: totals.lost,
        closed: totals.closed,
        retried: totals.retried,
      });
      // One that dies while it is opened was opened, and never ready.
      expect(opened).toBeLessThanOrEqual(totals.opened);
      expect([totals.opened, totals.closed]).toEqual([s.server.resources.length, s.server.resources.length]);
      expect(totals.acquired).toBeGreaterThan(20);
    })(),
  );
});
