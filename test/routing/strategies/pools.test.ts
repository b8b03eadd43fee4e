/** Each strategy in a routing pool: what it promises of plain members holds of a pool's, with all that happens to them. */

import { setImmediate as turn } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import {
  type Connector,
  type Endpoint,
  leastUsed,
  peakEwma,
  perTick,
  powerOfTwo,
  rendezvous,
  RoutingPool,
  type RoutingPoolOptions,
  type StrategyFactory,
  weighted,
} from "../../../src/index.ts";
import { virtualRuntime } from "../../../src/sim/index.ts";
import { type Scene, scene, type Work } from "../scene.ts";
import type { Resource } from "../server.ts";

const all: [string, StrategyFactory][] = [
  ["powerOfTwo", powerOfTwo()],
  ["peakEwma", peakEwma()],
  ["peakEwma over all", peakEwma({ fullScan: true })],
  ["weighted", weighted()],
  ["rendezvous", rendezvous()],
  ["perTick", perTick(leastUsed())],
];

describe.each(all)("%s", (_, strategy) => {
  test(
    "keeps to members that are ready and have room, through losses, departures and failures",
    scene(async (s) => {
      s.server.capacity = 3;
      const failed = s.events("callback.failed");
      await s.start({ strategy, size: 4, backoff: { minMs: 10, maxMs: 20 } });
      const works: Work[] = [];
      for (let round = 0; round < 120; round++) {
        for (let calls = 0; calls < 3; calls++) works.push(s.use({ key: round % 7, timeoutMs: 500 }));
        const running = works.filter(({ started, outcome }) => started && outcome === "pending");
        const one = running[Math.floor(s.runtime.random() * running.length)];
        if (round % 17 === 0) s.server.last.lose();
        else if (round % 23 === 0) s.server.last.goAway();
        else if (round % 3 === 0) one?.fail(new Error("no"));
        for (const work of running.slice(0, 4)) work.end();
        await s.advance(s.runtime.random() * 20);
        for (const resource of s.server.resources) expect(resource.peak).toBeLessThanOrEqual(3);
        s.check();
      }
      expect(works.some(({ outcome }) => outcome === "ok")).toBe(true);
      expect(failed).toEqual([]);
    }),
  );

  test(
    "uses all of its members under load",
    scene(async (s) => {
      s.server.capacity = 5;
      await s.start({ strategy, size: 4 });
      for (let calls = 0; calls < 20; calls++) s.use();
      await s.settle();
      expect(s.server.resources.map(({ running }) => running)).toEqual([5, 5, 5, 5]);
    }),
  );
});

test(
  "weighted gives each endpoint its weight's share",
  scene(async (s) => {
    const endpoints = [
      { id: "a", weight: 3 },
      { id: "b", weight: 1 },
    ];
    await s.start({ strategy: weighted(), size: 1, endpoints });
    expect(await sharesOf(s, 80)).toEqual({ a: 60, b: 20 });
  }),
);

test(
  "weighted may ask the resource itself",
  scene(async (s) => {
    await s.start({ strategy: weighted((member) => member.resource.id), size: 3 });
    for (let calls = 0; calls < 60; calls++) s.use();
    expect(s.server.resources.map(({ running }) => running)).toEqual([10, 20, 30]);
  }),
);

describe("rendezvous", () => {
  interface Address {
    readonly endpoint: string;
    readonly slot: number;
  }
  const connector: Connector<Address> = {
    name: "fake",
    open: ({ endpoint, slot }) => ({ endpoint: endpoint.id, slot }),
  };
  const endpoints: Endpoint[] = ["a", "b", "c"].map((id) => ({ id }));

  async function routes(options: Partial<RoutingPoolOptions<Address>>): Promise<Address[]> {
    const runtime = virtualRuntime();
    const pool = await RoutingPool.start({ connector, endpoints, strategy: rendezvous(), runtime, ...options });
    await runtime.until(pool.ready({ min: 3 }));
    const seen = Array.from({ length: 500 }, (_, key) => {
      using route = pool.pick({ key });
      return route.resource;
    });
    await runtime.until(pool.close());
    return seen;
  }

  test("sends a key to the same member in another pool with the same endpoints", async () => {
    expect(await routes({ size: 4 })).toEqual(await routes({ size: 4 }));
  });

  test("sends a key to the same endpoint, in whatever order and with however many connections pools know it", async () => {
    const hosts = async (options: Partial<RoutingPoolOptions<Address>>): Promise<string[]> =>
      (await routes(options)).map(({ endpoint }) => endpoint);
    expect(await hosts({ size: 1, endpoints: [...endpoints].reverse() })).toEqual(await hosts({ size: 5 }));
  });

  test(
    "sends only the keys of a connection that is lost elsewhere, and back again when it is back",
    scene(async (s) => {
      s.server.always("ok");
      await s.start({ strategy: rendezvous({ loadBound: Infinity }), size: 5 });
      const ownersNow = (): number[] => Array.from({ length: 200 }, (_, key) => ownerOf(s, key));
      const before = ownersNow();
      s.server.always("never");
      const gone = s.server.resources[2] as Resource;
      gone.lose();
      await s.settle();
      const after = ownersNow();
      for (const [key, slot] of before.entries()) {
        if (slot === gone.slot) expect(after[key]).not.toBe(slot);
        else expect(after[key]).toBe(slot);
      }
      expect(before).toContain(gone.slot);
      s.server.always("ok");
      await s.advance(60_000);
      expect(ownersNow()).toEqual(before);
    }),
  );
});

test(
  "perTick gives a turn's requests to one connection, the next turn's to another, and no more than it has room for",
  scene(async (s) => {
    await s.start({ strategy: perTick(leastUsed()), size: 4 });
    for (const turns of [1, 2, 3, 4]) {
      for (let calls = 0; calls < 16; calls++) s.use();
      await turn();
      expect(s.server.resources.filter(({ running }) => running === 16)).toHaveLength(turns);
      expect(s.server.resources.filter(({ running }) => running === 0)).toHaveLength(4 - turns);
    }
    s.server.resources[0]?.setCapacity(20);
    for (const work of s.works) work.end();
    await s.settle();
    for (let calls = 0; calls < 100; calls++) s.use();
    expect(s.server.resources[0]?.running).toBeLessThanOrEqual(20);
    expect(s.server.resources.reduce((sum, { running }) => sum + running, 0)).toBe(100);
  }),
);

/** How many of so many calls each endpoint gets. */
async function sharesOf(s: Scene, calls: number): Promise<Record<string, number>> {
  const shares: Record<string, number> = {};
  for (let call = 0; call < calls; call++) {
    const work = s.use();
    shares[work.resource.endpoint] = (shares[work.resource.endpoint] ?? 0) + 1;
    work.end();
    await s.settle();
  }
  return shares;
}

function ownerOf(s: Scene, key: number): number {
  using route = s.pool.pick({ key });
  return route.resource.slot;
}

test("leastUsed begins with a member of chance: the pools of a fleet do not all begin with the same one", async () => {
  const firsts = new Set<number>();
  for (let seed = 1; seed <= 30; seed++) {
    const runtime = virtualRuntime({ seed });
    const connector: Connector<number> = { name: "fake", open: ({ slot }) => slot };
    const pool = await RoutingPool.start({ connector, size: 6, runtime });
    await runtime.until(pool.ready({ min: 6 }));
    firsts.add(await runtime.until(pool.use((slot) => slot)));
    await runtime.until(pool.close());
  }
  expect(firsts.size).toBeGreaterThan(3);
});
