/**
 * The supervision tree under a pool, for real: every process in it is killed, stopped and worn out, and the pool either
 * serves again or ends, and then tells everybody.
 *
 *     pool            rest_for_one
 *     ├── registry
 *     └── connections one_for_one
 */

import { AsyncLocalStorage } from "node:async_hooks";
import { describe, expect, test, vi } from "vitest";
import {
  type Connector,
  type Process,
  type ProcessTree,
  RoutingPool,
  type Strategy,
  Supervisor,
} from "../../src/index.ts";
import { child, codeOf, type Pool, reasonOf, type Scene, scene, type Work } from "./scene.ts";
import { after, type Resource } from "./server.ts";

/** Names of the processes that live, indented by their depth. */
function drawn(tree: ProcessTree, depth = 0): string[] {
  const line = `${"  ".repeat(depth)}${tree.id}${tree.process.alive ? "" : " (dead)"}`;
  return [line, ...tree.children.flatMap((each) => drawn(each, depth + 1))];
}

function registryOf(s: Scene): Process {
  return child(s.pool.tree(), "registry").process;
}

function connectionsOf(s: Scene): Process {
  return child(s.pool.tree(), "connections").process;
}

function outcomes(...works: Work[]): string[] {
  return works.map(({ outcome }) => outcome);
}

/** A request that is answered at once: whether the pool serves. */
async function serves(s: Scene): Promise<boolean> {
  const work = s.use();
  await s.settle();
  work.end("answer");
  await s.settle();
  return work.value === "answer";
}

describe("the tree of a pool", () => {
  test(
    "is a registry, and a supervisor with a process for each connection",
    scene(async (s) => {
      const pool = await s.start({ size: 3 });
      expect(drawn(pool.tree())).toEqual([
        "scene",
        "  registry",
        "  connections",
        "    connection 0",
        "    connection 1",
        "    connection 2",
      ]);
      expect(pool.tree().process).toBe(pool.process);
      s.check();
    }),
  );

  test(
    "is all there when start resolves, and only the connections are still to come",
    scene(async (s) => {
      s.server.always("never");
      const pool = await s.start({ size: 2 });
      expect(drawn(pool.tree())).toHaveLength(5);
      expect(pool.stats()).toMatchObject({ size: 2, opening: 2 });
    }),
  );
});

test(
  "a pool that lives, loses everything and ends runs no AsyncLocalStorage, which would cost the program for good",
  scene(async (s) => {
    const runs = vi.spyOn(AsyncLocalStorage.prototype, "run");
    const enters = vi.spyOn(AsyncLocalStorage.prototype, "enterWith");
    try {
      const pool = await s.start({ size: 2 });
      expect(await serves(s)).toBe(true);
      s.connections[0]?.kill();
      await s.settle();
      registryOf(s).kill();
      await s.advance(1_000);
      await pool.resize(1);
      expect(await serves(s)).toBe(true);
      await pool.close();
      expect([runs.mock.calls, enters.mock.calls]).toEqual([[], []]);
    } finally {
      runs.mockRestore();
      enters.mockRestore();
    }
  }),
);

test("what a connector starts while it opens does not go with the pool that is killed meanwhile", async () => {
  let shared: Promise<Supervisor> | undefined;
  const connector: Connector<object> = {
    name: "sharing",
    open: async () => {
      shared ??= Supervisor.start([], { strategy: "one_for_one", name: "shared" });
      return shared;
    },
  };
  const pool = await RoutingPool.start({ connector, size: 1 });
  pool.process.kill();
  const supervisor = await shared;
  expect(supervisor?.process.alive).toBe(true);
  await supervisor?.stop();
});

describe("a connection that is killed", () => {
  test(
    "is put back in its slot, and touches no other",
    scene(async (s) => {
      const pool = await s.start({ size: 3, strategy: { pick: (members) => members[0]! } });
      const [registry, connections] = [registryOf(s), connectionsOf(s)];
      const [first, second, third] = s.connections;
      const [, resource2, resource3] = s.server.resources;
      const others = [s.use(), s.use()];
      await s.settle();
      expect(others.every(({ resource }) => resource.slot === 0)).toBe(true);

      second?.kill();
      expect(second?.alive).toBe(false);
      expect(s.registered, "in the very step in which it dies").toHaveLength(2);
      await s.settle();

      expect([registryOf(s), connectionsOf(s)]).toEqual([registry, connections]);
      expect(s.connections).toContain(first);
      expect(s.connections).toContain(third);
      expect(s.connections).toHaveLength(3);
      expect(pool.members().map(({ slot }) => slot)).toEqual([0, 1, 2]);
      expect(s.server.last.slot).toBe(1);
      expect(resource2?.closings.map(reasonOf)).toEqual(["killed"]);
      expect([resource3?.closings, outcomes(...others)]).toEqual([[], ["pending", "pending"]]);
      for (const work of others) work.end();
      await s.settle();
      expect(outcomes(...others)).toEqual(["ok", "ok"]);
      s.check();
    }),
  );

  test(
    "fails the works on it, one tick later, and no others",
    scene(async (s) => {
      await s.start({ size: 2 });
      const [a, b] = [s.use(), s.use()];
      await s.settle();
      const on = s.connections[a.resource.slot];
      on?.kill();
      expect(a.signal.aborted).toBe(true);
      await s.advance(0);
      expect(outcomes(a, b)).toEqual(["ERR_CONNECTION_LOST", "pending"]);
      expect(a.error).toMatchObject({ sent: "maybe" });
      s.check();
    }),
  );

  test(
    "is no loss of the resource's own, and no failed opening",
    scene(async (s) => {
      const pool = await s.start({ size: 2 });
      s.connections[0]?.kill();
      await s.settle();
      expect(pool.stats().totals).toMatchObject({ opened: 3, openFailed: 0, lost: 0, closed: 1 });
      s.check();
    }),
  );

  test(
    "while it opens gives the attempt up, and what comes of that is closed",
    scene(async (s) => {
      s.server.next(after(50, "ok", "deaf"));
      const pool = await s.start({ size: 1 });
      s.connections[0]?.kill();
      expect(s.server.attempts[0]?.signal.aborted).toBe(true);
      await s.settle();
      expect(pool.stats()).toMatchObject({ size: 1, ready: 1 });
      await s.advance(50);
      expect(s.server.resources.map(({ closings }) => closings.length)).toEqual([0, 1]);
      s.check();
    }),
  );

  test(
    "does not make the next one hammer a server that is down",
    scene(async (s) => {
      s.server.always("refuse");
      await s.start({ size: 1, maxRestarts: 1_000, backoff: { kind: "exponential", minMs: 1_000, maxMs: 8_000 } });
      for (let kill = 0; kill < 20; kill++) {
        await s.advance(100);
        s.connections[0]?.kill();
      }
      await s.advance(1_000);
      expect(s.server.times).toEqual([0, 1_000, 3_000]);
      s.check();
    }),
  );

  test(
    "is put back as fatal when it was, and the server is left alone",
    scene(async (s) => {
      s.server.always("fatal");
      const pool = await s.start({ size: 1 });
      s.connections[0]?.kill();
      await s.advance(60_000);
      expect([pool.stats().fatal, s.server.attempts.length]).toEqual([1, 1]);
      s.check();
    }),
  );

  test(
    "does not forget what its successor has learnt, when its own last attempt ends late",
    scene(async (s) => {
      s.server.next(after(50, "ok", "deaf"), "fatal");
      const pool = await s.start({ size: 1 });
      s.connections[0]?.kill();
      await s.settle();
      expect(pool.stats()).toMatchObject({ fatal: 1 });
      const before = pool.snapshot().connections;
      await s.advance(50);
      expect(pool.snapshot().connections).toEqual(before);
      s.connections[0]?.kill();
      await s.advance(60_000);
      expect(s.server.attempts.length, "it was said to be useless").toBe(2);
      s.check();
    }),
  );

  test(
    "before it has quite started is put back too, and one that always is does not freeze the program",
    scene(async (s) => {
      let doomed = 0;
      const { connector } = s.server;
      const open: typeof connector.open = (context) => {
        if (doomed-- > 0) s.connections.at(-1)?.kill();
        return connector.open(context);
      };
      const pool = await s.start({ size: 1, connector: { ...connector, open } });
      doomed = 5;
      await s.until(pool.resize(2));
      await s.advance(0);
      expect(pool.stats()).toMatchObject({ size: 2, ready: 2 });
      expect([s.connections.length, doomed]).toEqual([2, -1]);
      s.check();

      doomed = Infinity;
      s.follow(pool.resize(3));
      await s.settle(); // Would never return.
      expect([pool.stats().ready, s.runtime.timers]).toEqual([2, 1]);
      doomed = 0;
      await s.advance(0);
      expect(pool.stats()).toMatchObject({ size: 3, ready: 3 });
      s.check();

      doomed = Infinity;
      s.follow(pool.resize(4));
      await s.settle();
      await s.until(pool.destroy());
      expect(s.runtime.timers).toBe(0);
    }),
  );

  test(
    "by the strategy that has just been told of it is put back too",
    scene(async (s) => {
      let joined = 0;
      const strategy: Strategy<Resource> = {
        pick: (members) => members[0]!,
        joined: ({ slot }) => {
          if (++joined === 3) s.connections[slot]?.kill();
        },
      };
      const pool = await s.start({ size: 2, strategy });
      s.server.resources[0]?.lose();
      await s.settle();
      expect(joined).toBe(4);
      expect(s.server.resources.map(({ closings }) => closings.length)).toEqual([1, 0, 1, 0]);
      expect(pool.stats()).toMatchObject({ size: 2, ready: 2 });
      expect(await serves(s)).toBe(true);
      s.check();
    }),
  );
});

describe("a connection that is stopped from outside", () => {
  test(
    "finishes what it has, and its place is filled again",
    scene(async (s) => {
      const pool = await s.start({ size: 1 });
      const work = s.use();
      await s.settle();
      const [before] = s.connections;
      const stopped = before?.stop();
      await s.settle();
      expect([before?.alive, work.outcome, pool.stats().draining]).toEqual([true, "pending", 1]);
      work.end();
      await s.settle();
      expect(await stopped).toBe("shutdown");
      expect(work.outcome).toBe("ok");
      expect(s.connections).toHaveLength(1);
      expect(s.connections[0]).not.toBe(before);
      expect(pool.stats()).toMatchObject({ size: 1, ready: 1, draining: 0 });
      expect(await serves(s)).toBe(true);
      s.check();
    }),
  );

  test(
    "before it has quite started is filled again once",
    scene(async (s) => {
      let doomed = 0;
      const { connector } = s.server;
      const open: typeof connector.open = (context) => {
        if (doomed-- > 0) void s.connections.at(-1)?.stop();
        return connector.open(context);
      };
      const pool = await s.start({ size: 1, connector: { ...connector, open } });
      doomed = 1;
      await s.until(pool.resize(2));
      await s.advance(0);
      expect([s.connections.length, s.server.fit.length]).toEqual([2, 2]);
      s.check();

      // Its supervisor is putting it back, and tries again by itself.
      doomed = 1;
      s.connections[1]?.kill();
      await s.advance(0);
      expect([s.connections.length, s.server.fit.length]).toEqual([2, 2]);
      expect(pool.stats()).toMatchObject({ size: 2, ready: 2 });
      s.check();
    }),
  );

  test(
    "again and again costs no restarts",
    scene(async (s) => {
      const pool = await s.start({ size: 2, maxRestarts: 0 });
      for (let round = 0; round < 10; round++) {
        await s.until(s.connections[0]?.stop() ?? Promise.reject(new Error("none")));
        await s.settle();
      }
      expect(pool.stats()).toMatchObject({ size: 2, ready: 2 });
      s.check();
    }),
  );
});

describe("the registry, killed", () => {
  test(
    "takes the connections along, and all come back",
    scene(async (s) => {
      const pool = await s.start({ size: 3 });
      const [registry, connections] = [registryOf(s), connectionsOf(s)];
      const before = s.connections;
      registry.kill();
      await s.settle();
      expect(registryOf(s)).not.toBe(registry);
      expect(connectionsOf(s)).not.toBe(connections);
      expect(connections.alive).toBe(false);
      expect(s.connections).toHaveLength(3);
      expect(s.connections.some((each) => before.includes(each))).toBe(false);
      expect(pool.members().map(({ slot, state }) => [slot, state])).toEqual([0, 1, 2].map((slot) => [slot, "ready"]));
      expect(s.server.resources.map(({ closings }) => closings.length)).toEqual([1, 1, 1, 0, 0, 0]);
      expect(await serves(s)).toBe(true);
      s.check();
    }),
  );

  test(
    "routes to nobody until it is back, and then serves whoever has waited",
    scene(async (s) => {
      s.server.script = (nth) => (nth <= 2 ? "ok" : after(100, "ok"));
      const pool = await s.start({ size: 2 });
      registryOf(s).kill();
      expect(() => pool.pick()).toThrow(expect.objectContaining({ code: "ERR_POOL_NO_MEMBER" }));
      const waiting = s.use();
      await s.settle();
      expect(waiting.started).toBe(false);
      await s.advance(100);
      expect(waiting.resource.fit).toBe(true);
      s.check();
    }),
  );

  test(
    "lets what is in flight finish first",
    scene(async (s) => {
      const pool = await s.start({ size: 1 });
      const work = s.use();
      await s.settle();
      registryOf(s).kill();
      await s.advance(4_000);
      expect([work.outcome, work.signal.aborted, pool.stats().inFlight]).toEqual(["pending", false, 1]);
      work.end("late");
      await s.settle();
      expect(work.value).toBe("late");
      expect(pool.stats()).toMatchObject({ ready: 1, inFlight: 0 });
      s.check();
    }),
  );

  test(
    "waits for that no longer than a supervisor does",
    scene(async (s) => {
      const pool = await s.start({ size: 1 });
      const work = s.use();
      await s.settle();
      registryOf(s).kill();
      await s.advance(5_001);
      expect(work.outcome).toBe("ERR_CONNECTION_LOST");
      expect(pool.stats()).toMatchObject({ ready: 1, inFlight: 0 });
      expect(await serves(s)).toBe(true);
      s.check();
    }),
  );

  test(
    "while a connection leaves does not bring that one back",
    scene(async (s) => {
      const pool = await s.start({ size: 2 });
      const works = [s.use(), s.use()];
      await s.settle();
      const shrunk = pool.resize(1);
      await s.settle();
      registryOf(s).kill();
      await s.settle();
      for (const work of works) work.end();
      expect(await s.outcome(shrunk)).toBe("ok");
      await s.settle();
      expect(pool.stats()).toMatchObject({ size: 1, ready: 1 });
      expect(pool.members().map(({ slot }) => slot)).toEqual([0]);
      s.check();
    }),
  );
});

describe("the supervisor of the connections, killed", () => {
  test(
    "takes them along at once, leaves the registry, and all come back",
    scene(async (s) => {
      const pool = await s.start({ size: 2 });
      const work = s.use();
      await s.settle();
      const [registry, connections] = [registryOf(s), connectionsOf(s)];
      const before = s.connections;
      connections.kill();
      expect(
        before.some(({ alive }) => alive),
        "in the very step in which it dies",
      ).toBe(false);
      expect(s.registered).toEqual([]);
      await s.advance(0);
      expect(work.outcome).toBe("ERR_CONNECTION_LOST");
      expect(registryOf(s)).toBe(registry);
      expect(connectionsOf(s)).not.toBe(connections);
      expect(pool.stats()).toMatchObject({ size: 2, ready: 2 });
      expect(pool.members().map(({ slot }) => slot)).toEqual([0, 1]);
      expect(await serves(s)).toBe(true);
      s.check();
    }),
  );

  test(
    "while connections wait for their backoff does not make them hammer the server",
    scene(async (s) => {
      s.server.always("refuse");
      await s.start({ size: 2, backoff: { kind: "exponential", minMs: 1_000, maxMs: 8_000 } });
      await s.advance(500);
      connectionsOf(s).kill();
      await s.advance(500);
      expect(s.server.times).toEqual([0, 0, 1_000, 1_000]);
      s.check();
    }),
  );
});

describe("restarts", () => {
  test(
    "used up end the pool, with an event, and every call settles",
    scene(async (s) => {
      const pool = await s.start({ size: 2, maxRestarts: 1, maxSeconds: 5 });
      const gaveUp = s.events("supervisor.gaveUp");
      const died = s.events("pool.died");
      const calls = [pool.ready({ min: 5 }), pool.recycle({ overMs: 60_000 })];
      const settled = Promise.all(calls.map((call) => call.then(() => "ok", codeOf)));
      let kills = 0;
      for (; pool.process.alive && kills < 10; kills++) {
        const works = [s.use(), s.use()];
        await s.settle();
        expect(works.every(({ started }) => started)).toBe(true);
        s.connections[0]?.kill();
        const late = s.use();
        await s.settle();
        for (const work of [...works, late]) work.end();
        await s.settle();
      }
      // One restart of a connection, then one of their supervisor, then one of a connection again.
      expect(kills).toBe(4);
      expect(gaveUp.map(({ supervisor }) => supervisor)).toEqual(["scene: connections", "scene: connections", "scene"]);
      expect(died).toEqual([{ pool: "scene", reason: "shutdown" }]);
      expect(await settled).toEqual(["ERR_POOL_CLOSED", "ERR_POOL_CLOSED"]);

      const refused = s.use();
      expect(await s.outcome(pool.ready())).toBe("ERR_POOL_CLOSED");
      expect(await s.outcome(pool.resize(3))).toBe("ERR_POOL_CLOSED");
      expect(await s.outcome(pool.recycle())).toBe("ERR_POOL_CLOSED");
      expect(await s.outcome(pool.broadcast(() => 1))).toBe("ERR_POOL_CLOSED");
      expect(() => pool.pick()).toThrow(expect.objectContaining({ code: "ERR_POOL_CLOSED" }));
      expect(await s.until(pool.close())).toEqual({ finished: 0, aborted: 0 });
      expect(refused.outcome).toBe("ERR_POOL_CLOSED");
      expect(s.works.every(({ outcome }) => outcome !== "pending")).toBe(true);
    }),
  );

  test(
    "used up do not cut off what is in flight elsewhere before a supervisor's patience is over",
    scene(async (s) => {
      const pool = await s.start({ size: 2, maxRestarts: 0 });
      const works = [s.use(), s.use()];
      await s.settle();
      s.connections[0]?.kill();
      const closing = pool.close();
      await s.advance(4_000);
      const [killed, other] = works[0]?.resource.slot === 0 ? works : works.toReversed();
      expect([killed?.outcome, other?.outcome]).toEqual(["ERR_CONNECTION_LOST", "pending"]);
      other?.end();
      expect(await s.until(closing)).toEqual({ finished: 2, aborted: 0 });
      expect(other?.outcome).toBe("ok");
    }),
  );

  test(
    "that are far enough apart are never used up",
    scene(async (s) => {
      const pool = await s.start({ size: 2 });
      for (let kill = 0; kill < 20; kill++) {
        s.connections[kill % 2]?.kill();
        await s.advance(2_000);
      }
      expect(pool.stats()).toMatchObject({ size: 2, ready: 2 });
      s.check();
    }),
  );

  test(
    "are counted over as many seconds as the pool was told",
    scene(async (s) => {
      await s.start({ size: 1, maxRestarts: 2, maxSeconds: 60 });
      const gaveUp = s.events("supervisor.gaveUp");
      for (let kill = 0; kill < 3; kill++) {
        await s.advance(20_000);
        s.connections[0]?.kill();
      }
      await s.settle();
      expect(gaveUp).toMatchObject([{ supervisor: "scene: connections", restarts: 2, maxSeconds: 60 }]);
      s.check();
    }),
  );

  test(
    "are not spent on a server that is down, however long",
    scene(async (s) => {
      s.server.always("refuse");
      const exits = s.events("supervisor.childExited");
      const pool = await s.start({ size: 2, maxRestarts: 0, backoff: { minMs: 1_000, maxMs: 10_000 } });
      await s.advance(3_600_000);
      expect(exits).toEqual([]);
      expect(s.server.attempts.length).toBeGreaterThan(700);
      s.server.always("ok");
      await s.until(pool.ready({ min: 2 }));
      s.check();
    }),
  );
});

describe("a pool in somebody's own tree", () => {
  test(
    "is a child that is restarted by its supervisor, and no other is touched",
    scene(async (s) => {
      const { runtime, server } = s;
      const spec = RoutingPool.childSpec({ connector: server.connector, runtime, name: "mine", size: 2 });
      expect(spec).toMatchObject({ id: "mine", type: "supervisor" });
      const other = await RoutingPool.start({ connector: server.connector, runtime, name: "other", size: 1 });
      const top = await Supervisor.start(
        [
          { id: "other", start: () => other },
          {
            ...spec,
            start: async () => {
              s.pool = (await spec.start()) as Pool;
              return s.pool;
            },
          },
        ],
        { strategy: "one_for_one", runtime },
      );
      await s.settle();
      const before = s.pool;
      const work = s.use();
      await s.settle();
      before.process.kill();
      await s.advance(0);
      expect(work.outcome).toBe("ERR_CONNECTION_LOST");
      expect(s.pool).not.toBe(before);
      expect(before.stats()).toMatchObject({ size: 0, inFlight: 0 });
      expect(await serves(s)).toBe(true);
      expect(other.process.alive).toBe(true);
      s.check();

      await s.until(top.stop());
      expect([s.pool.process.alive, other.process.alive]).toEqual([false, false]);
      expect(server.fit).toEqual([]);
      expect(server.resources.map(({ closings }) => closings.length)).toEqual([1, 1, 1, 1, 1]);
      expect(runtime.timers).toBe(0);
    }),
  );

  test(
    "is named after its connector when it has no name",
    scene(async (s) => {
      expect(RoutingPool.childSpec({ connector: s.server.connector }).id).toBe("fake");
      await s.start();
    }),
  );

  test(
    "that has a wrong option fails to start there",
    scene(async (s) => {
      const spec = RoutingPool.childSpec({ connector: s.server.connector, size: 0 });
      const started = Supervisor.start([spec], { strategy: "one_for_one", runtime: s.runtime });
      const error = await started.catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ code: "ERR_SUPERVISOR_START_FAILED", cause: { code: "ERR_OPTION" } });
      await s.start();
    }),
  );
});

describe("a pool that is stopped from outside", () => {
  test(
    "finishes what is in flight, refuses who waits, and closes what it has",
    scene(async (s) => {
      s.server.capacity = 1;
      const pool = await s.start({ size: 1 });
      const died = s.events("pool.died");
      const [working, waiting] = [s.use(), s.use({ timeoutMs: 60_000 })];
      await s.settle();
      const stopped = pool.process.stop({ timeoutMs: Infinity });
      await s.advance(3_000);
      expect(outcomes(working, waiting)).toEqual(["pending", "pending"]);
      working.end();
      expect(await s.until(stopped)).toBe("shutdown");
      await s.settle();
      expect(outcomes(working, waiting)).toEqual(["ok", "ERR_POOL_CLOSED"]);
      expect(died).toEqual([{ pool: "scene", reason: "shutdown" }]);
      expect(s.server.resources.map(({ closings }) => closings.map(reasonOf))).toEqual([["normal"]]);
      expect(await s.until(pool.close())).toEqual({ finished: 0, aborted: 0 });
    }),
  );

  test(
    "with the reason of a clean end says so too",
    scene(async (s) => {
      const pool = await s.start({ size: 1 });
      const died = s.events("pool.died");
      await s.until(pool.process.stop({ reason: "normal" }));
      expect(died).toEqual([{ pool: "scene", reason: "normal" }]);
      expect(s.use().started).toBe(false);
    }),
  );

  test(
    "while it closes resolves the close",
    scene(async (s) => {
      const pool = await s.start({ size: 1 });
      const work = s.use();
      await s.settle();
      const closing = pool.close({ timeoutMs: Infinity });
      const stopped = pool.process.stop({ timeoutMs: Infinity });
      await s.until(stopped);
      expect(await s.until(closing)).toEqual({ finished: 0, aborted: 1 });
      expect(work.outcome).toBe("ERR_POOL_CLOSED");
    }),
  );

  test(
    "by a kill is dead before that returns, and whoever works or waits is told",
    scene(async (s) => {
      s.server.capacity = 1;
      const pool = await s.start({ size: 1 });
      const died = s.events("pool.died");
      const [working, waiting] = [s.use(), s.use()];
      await s.settle();
      const processes = [registryOf(s), connectionsOf(s), ...s.connections];
      pool.process.kill();
      expect(processes.some(({ alive }) => alive)).toBe(false);
      expect(working.signal.aborted).toBe(true);
      await s.advance(0);
      expect(outcomes(working, waiting)).toEqual(["ERR_CONNECTION_LOST", "ERR_POOL_CLOSED"]);
      expect(died).toEqual([{ pool: "scene", reason: "killed" }]);
      expect(s.server.resources.map(({ closings }) => closings.length)).toEqual([1]);
    }),
  );
});

describe("the async context of opening and closing", () => {
  test(
    "is the one that the pool was started in, whoever causes it",
    scene(async (s) => {
      const storage = new AsyncLocalStorage<string>();
      const seen: string[] = [];
      const { connector } = s.server;
      const watched: Connector<Resource> = {
        ...connector,
        open: async (context) => {
          seen.push(`open: ${storage.getStore()}`);
          const resource = await connector.open(context);
          seen.push(`opened: ${storage.getStore()}`);
          return resource;
        },
        close: (resource, reason) => {
          seen.push(`close: ${storage.getStore()}`);
          return connector.close?.(resource, reason);
        },
      };
      const options = { size: 1, connector: watched, backoff: { kind: "exponential", minMs: 100 } } as const;
      const pool = await storage.run("pool", () => s.start(options));
      const caused = async (cause: () => unknown): Promise<string[]> => {
        seen.length = 0;
        storage.run("caller", cause);
        await s.advance(1_000);
        s.check();
        return [...seen];
      };
      const again = ["close: pool", "open: pool", "opened: pool"];
      expect((await caused(() => s.server.last.lose())).toSorted()).toEqual(again.toSorted());
      expect((await caused(() => s.server.last.goAway())).toSorted()).toEqual(again.toSorted());
      expect((await caused(() => s.connections[0]?.kill())).toSorted()).toEqual(again.toSorted());
      expect((await caused(() => void s.connections[0]?.stop())).toSorted()).toEqual(again.toSorted());
      expect((await caused(() => registryOf(s).kill())).toSorted()).toEqual(again.toSorted());
      expect((await caused(() => connectionsOf(s).kill())).toSorted()).toEqual(again.toSorted());
      expect((await caused(() => s.follow(pool.recycle()))).toSorted()).toEqual(again.toSorted());
      expect(await caused(() => s.follow(pool.resize(2)))).toEqual(["open: pool", "opened: pool"]);
      expect(await caused(() => s.follow(pool.resize(0)))).toEqual(["close: pool", "close: pool"]);
      s.server.next("refuse", "refuse");
      expect(await caused(() => [s.follow(pool.resize(1)), s.use()])).toEqual([
        ...["open: pool", "open: pool", "open: pool", "opened: pool"],
      ]);
      expect(await caused(() => s.follow(pool.destroy()))).toEqual(["close: pool"]);
    }),
  );
});
