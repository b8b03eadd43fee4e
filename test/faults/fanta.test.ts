/**
 * A Fanta pool, a bad network, and a server in another process that is killed, stopped, restarted and starved.
 *
 * Whatever happens: every request settles, with its own answer or a typed error; what was lost is counted; the pool is
 * whole again by itself; and when all is closed nothing is left on either side.
 */

import { afterEach, describe, expect, test } from "vitest";
import { roundRobin } from "../../src/index.ts";
import { FantaPool, type FantaPoolOptions } from "../../src/fanta/index.ts";
import { heard } from "../process/heard.ts";
import { eventually, Program } from "./processes.ts";
import { type Faults, Proxy } from "./proxy.ts";
import { sockets } from "./sockets.ts";
import { settled, type Tally, traffic } from "./traffic.ts";

const size = 4;
const quick = {
  size,
  backoff: { minMs: 10, maxMs: 50 },
  ...{ requestTimeoutMs: 2_000, stallMs: 100, checkTimeoutMs: 100, openTimeoutMs: 1_000 },
} as const;

afterEach(() => eventually("no socket is left", () => sockets() === 0));

interface Scene {
  server: Program;
  readonly proxy: Proxy;
  readonly pool: FantaPool;
  readonly ask: (text: string, nth: number) => Promise<string>;
}

async function scene(act: (scene: Scene) => Promise<void>, options: Partial<FantaPoolOptions> = {}): Promise<void> {
  const server = await Program.fanta();
  const proxy = await Proxy.listen({ host: "127.0.0.1", port: server.port });
  const pool = await FantaPool.start({ host: "127.0.0.1", port: proxy.port, ...quick, ...options });
  await pool.ready({ min: size });
  // Every second one may be done twice.
  const ask = (text: string, nth: number): Promise<string> => pool.request(text, { idempotent: nth % 2 === 0 });
  const set: Scene = { server, proxy, pool, ask };
  try {
    await act(set);
    await rests(set);
  } finally {
    await pool.destroy();
    await proxy.close();
  }
}

/** All works as before, and all ends as it should. */
async function rests({ server, proxy, pool, ask }: Scene): Promise<void> {
  // What the network has cut off is not noticed at once.
  await eventually("the pool is whole again", () => pool.stats().ready === size && proxy.connections === size);
  const after = await traffic(200, ask);
  expect(after).toMatchObject({ ok: 200, wrong: [], failed: {} });
  await eventually("what was given up has been answered", () => pool.stats().inFlight === 0);
  expect(await pool.close()).toEqual({ finished: 0, aborted: 0 });
  const { totals: _, name: __, kind: ___, ...gauges } = pool.stats();
  expect(Object.values(gauges).every((each) => each === 0)).toBe(true);
  await eventually("the network is empty", () => proxy.connections === 0);
  expect(await server.end("SIGTERM")).toBe(0);
}

/** What a pool says of it, and what its callers were told. */
function counted(pool: FantaPool, tally: Tally): void {
  expect(settled(tally)).toBe(true);
  expect(tally.wrong).toEqual([]);
  expect(pool.stats().totals.succeeded).toBe(tally.ok);
}

describe("a network that is slow", () => {
  test.each<[string, Faults]>([
    ["latency and jitter", { latencyMs: 3, jitterMs: 3 }],
    ["little bandwidth", { bytesPerSecond: 100_000 }],
    ["slices of seven bytes", { sliceBytes: 7 }],
    ["all of it at once", { latencyMs: 2, jitterMs: 2, bytesPerSecond: 200_000, sliceBytes: 11 }],
  ])("loses nothing: %s", (_, faults) =>
    scene(async ({ proxy, pool, ask }) => {
      proxy.set("up", faults);
      proxy.set("down", faults);
      const tally = await traffic(1_000, ask);
      counted(pool, tally);
      expect([tally.ok, pool.stats().totals.lost]).toEqual([1_000, 0]);
      proxy.heal();
    }),
  );
});

describe("a network that breaks", () => {
  test.each<[string, (proxy: Proxy) => void]>([
    ["resets", (proxy) => proxy.reset()],
    ["connections that end after 3,000 bytes", (proxy) => proxy.set("down", { limitBytes: 3_000 })],
    ["connections that end after 3,000 bytes of what is asked", (proxy) => proxy.set("up", { limitBytes: 3_000 })],
    ["half-closed connections, on the server's side", (proxy) => proxy.halfClose("up")],
    ["half-closed connections, on the client's side", (proxy) => proxy.halfClose("down")],
    ["a black hole for what is asked", (proxy) => proxy.set("up", { blackHole: true })],
    ["a black hole for the answers", (proxy) => proxy.set("down", { blackHole: true })],
  ])("gives each caller its answer or an error, and the losses are counted: %s", (_, fault) =>
    scene(async ({ proxy, pool, ask }) => {
      using lost = heard("connection.lost");
      let mended: Promise<void> | undefined;
      const tally = await traffic(1_500, ask, {
        500: () => {
          fault(proxy);
          mended = eventually("connections are lost", () => lost.events.length >= size).then(() => proxy.heal());
        },
      });
      await mended;
      counted(pool, tally);
      expect(Object.keys(tally.failed).filter((code) => code !== "ERR_CONNECTION_LOST")).toEqual([]);
      expect(pool.stats().totals.lost).toBe(lost.events.length);
    }),
  );

  test("and changes what is said: callers are told what came, and what is not Fanta ends its connection only", () =>
    scene(async ({ proxy, pool, ask }) => {
      using lost = heard("connection.lost");
      using protocol = heard("fanta.protocolFailed");
      const faults = { corruptBytes: 997 };
      proxy.set("up", faults);
      proxy.set("down", faults);
      const tally = await traffic(2_000, ask);
      proxy.heal();
      expect(settled(tally)).toBe(true);
      // Fanta has no checksums: a payload that was changed on the way is an answer like any other.
      const possible = ["CONNECTION_LOST", "FANTA_PROTOCOL", "FANTA_TIMEOUT", "FANTA_CODEC", "FANTA_RESPONSE"];
      expect(Object.keys(tally.failed).filter((code) => !possible.includes(code.slice(4)))).toEqual([]);
      expect(protocol.events.length).toBeGreaterThan(0);
      expect(pool.stats().totals.lost).toBe(lost.events.length);
    }));
});

describe("a server", () => {
  test("that is killed and started again on its port costs what was in flight, and is found again within the backoff", () =>
    scene(async (set) => {
      using lost = heard("connection.lost");
      const { pool, ask, server } = set;
      const { port } = server;
      for (let times = 0; times < 3; times++) {
        const before = pool.stats().totals.succeeded;
        const tally = await traffic(600, ask, {
          200: async () => {
            await set.server.end("SIGKILL");
            set.server = await Program.fanta(port);
          },
        });
        expect(settled(tally)).toBe(true);
        expect(tally.wrong).toEqual([]);
        expect(pool.stats().totals.succeeded - before).toBe(tally.ok);
        expect(Object.keys(tally.failed).filter((code) => code !== "ERR_CONNECTION_LOST")).toEqual([]);
        await eventually("the pool is whole again", () => pool.stats().ready === size);
      }
      expect(lost.events.length).toBeGreaterThanOrEqual(3 * size);
      expect(pool.stats().totals.lost).toBe(lost.events.length);
    }));

  test("that stands still is noticed: its connections are replaced, and when it goes on it serves as before", () =>
    scene(async ({ pool, ask, server }) => {
      using replaced = heard("member.replaced");
      const goesOn = eventually("all members were replaced", () => replaced.events.length >= size).then(() =>
        server.signal("SIGCONT"),
      );
      const tally = await traffic(1_000, ask, { 200: () => server.signal("SIGSTOP") });
      await goesOn;
      counted(pool, tally);
      expect(Object.keys(tally.failed).filter((code) => code !== "ERR_CONNECTION_LOST")).toEqual([]);
      expect(replaced.events.every(({ reason }) => reason === "stalled")).toBe(true);
    }));

  test("that may open no more files serves those it has, and all once it may; losses meanwhile are counted", async () => {
    using lost = heard("connection.lost");
    const server = await Program.fanta();
    server.allowFiles(36);
    // Everyone has a turn, those too that the machine lets in and the server cannot take.
    const everyone = { size: 40, strategy: roundRobin() };
    const pool = await FantaPool.start({ host: "127.0.0.1", port: server.port, ...quick, ...everyone });
    try {
      await pool.ready({ min: size });
      const tally = await traffic(300, (text) => pool.request(text, { idempotent: true }));
      counted(pool, tally);
      expect(tally.ok).toBeGreaterThan(0);
      expect(Object.keys(tally.failed).filter((code) => code !== "ERR_CONNECTION_LOST")).toEqual([]);
      expect(lost.events.length).toBeGreaterThan(0);
      server.allowFiles(4_096);
      await eventually("all forty are there", () => pool.stats().ready === 40);
      expect(await traffic(400, (text) => pool.request(text))).toMatchObject({ ok: 400, failed: {} });
      expect(pool.stats().totals.lost).toBe(lost.events.length);
      expect(await pool.close()).toEqual({ finished: 0, aborted: 0 });
    } finally {
      await pool.destroy();
    }
    expect(await server.end("SIGTERM")).toBe(0);
  });
});
