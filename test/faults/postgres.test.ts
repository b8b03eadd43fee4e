/**
 * A Postgres pool, a bad network, a Postgres that is restarted and stands still, and clients that are killed.
 *
 * Every query settles, with its own answer or an error; what was lost is counted; the pool serves again by itself; and
 * when it has ended, nothing is left on either side.
 */

import pg from "pg";
import { afterEach, describe, expect, test } from "vitest";
import { Pool } from "../../src/adapters/postgres/index.ts";
import { heard } from "../process/heard.ts";
import { type Postgres, postgresInstalled, startPostgres } from "../servers/postgres.ts";
import { eventually, Program } from "./processes.ts";
import { type Faults, Proxy } from "./proxy.ts";
import { sockets } from "./sockets.ts";

const max = 4;

afterEach(() => eventually("no socket is left", () => sockets() === 0));

interface Scene {
  readonly server: Postgres;
  readonly proxy: Proxy;
  readonly pool: Pool;
  /** `"ok"`, `"wrong"`, or the code of the error. */
  readonly ask: (n: number) => Promise<string>;
}

async function scene(act: (scene: Scene) => Promise<void>): Promise<void> {
  const server = await startPostgres({ max_connections: 20 });
  const proxy = await Proxy.listen({ host: "127.0.0.1", port: server.port });
  const pool = new Pool({
    ...{ ...server.address, port: proxy.port, max, query_timeout: 1_000, checkAfterIdleMs: 0 },
    ...{ backoff: { minMs: 10, maxMs: 50 }, openTimeoutMs: 2_000, checkTimeoutMs: 1_000, closeTimeoutMs: 500 },
  });
  const ask = async (n: number): Promise<string> => {
    try {
      const { rows } = await pool.query<{ n: number }>("SELECT $1::int AS n", [n]);
      return rows[0]?.n === n ? "ok" : "wrong";
    } catch (error) {
      expect(error).toBeInstanceOf(Error);
      return (error as { code?: string }).code ?? (error as Error).message;
    }
  };
  try {
    await act({ server, proxy, pool, ask });
    expect(await asked(100, ask), "afterwards").toEqual({ ok: 100 });
    const { inFlight, waiting, used } = pool.stats();
    expect({ inFlight, waiting, used }).toEqual({ inFlight: 0, waiting: 0, used: 0 });
    await pool.end();
    const { size, totals } = pool.stats();
    expect([size, totals.opened - totals.closed]).toEqual([0, 0]);
    await eventually("the network is empty", () => proxy.connections === 0);
    expect(await others(server)).toBe(0);
  } finally {
    await pool.destroy();
    await proxy.close();
    await server.stop();
  }
}

/** Sessions that the server has, besides the one that asks. A session ends a moment after its socket. */
async function others(server: Postgres): Promise<number> {
  const client = new pg.Client(server.address);
  await client.connect();
  const count = "SELECT count(*)::int AS n FROM pg_stat_activity WHERE backend_type = 'client backend'";
  let n = Infinity;
  for (let looks = 0; looks < 1_000 && n > 1; looks++) n = (await client.query<{ n: number }>(count)).rows[0]?.n ?? 0;
  await client.end();
  return n - 1;
}

/** The processes behind its sessions. */
async function backends(server: Postgres): Promise<number[]> {
  const client = new pg.Client(server.address);
  await client.connect();
  const ask = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
  const { rows } = await client.query<{ pid: number }>(ask);
  await client.end();
  return rows.map(({ pid }) => pid);
}

/** So many queries, ten at a time, and how often each came out how. */
async function asked(
  count: number,
  ask: (n: number) => Promise<string>,
  at: Readonly<Record<number, () => unknown>> = {},
): Promise<Record<string, number>> {
  const told: Record<string, number> = {};
  let [begun, done] = [0, 0];
  const caller = async (): Promise<void> => {
    while (begun < count) {
      const how = await ask(begun++);
      told[how] = (told[how] ?? 0) + 1;
      await at[++done]?.();
    }
  };
  await Promise.all(Array.from({ length: 10 }, caller));
  expect(done).toBe(count);
  return told;
}

describe.skipIf(!postgresInstalled())("a Postgres pool", () => {
  test.each<[string, Faults]>([
    ["latency and jitter", { latencyMs: 2, jitterMs: 2 }],
    ["slices of eleven bytes", { sliceBytes: 11 }],
  ])("over a slow network has all its answers: %s", (_, faults) =>
    scene(async ({ proxy, ask }) => {
      proxy.set("up", faults);
      proxy.set("down", faults);
      expect(await asked(300, ask)).toEqual({ ok: 300 });
      proxy.heal();
    }),
  );

  test.each<[string, (proxy: Proxy) => void]>([
    ["resets", (proxy) => proxy.reset()],
    ["connections that end after 4,000 bytes", (proxy) => proxy.set("down", { limitBytes: 4_000 })],
    ["half-closed connections", (proxy) => proxy.halfClose("down")],
    ["a black hole", (proxy) => proxy.set("down", { blackHole: true })],
  ])("over a network that breaks never has a wrong answer, and serves again: %s", (_, fault) =>
    scene(async ({ proxy, pool, ask }) => {
      using closed = heard("connection.closed");
      let mended: Promise<void> | undefined;
      const told = await asked(400, ask, {
        100: () => {
          const open = pool.stats().ready;
          fault(proxy);
          mended = eventually("connections are given up", () => closed.events.length >= open).then(() => proxy.heal());
        },
      });
      await mended;
      expect(told["wrong"]).toBeUndefined();
      expect(told["ok"]).toBeGreaterThan(250);
      expect(pool.stats().totals.closed).toBe(closed.events.length);
    }),
  );

  test("finds a server again that was restarted on its port", () =>
    scene(async ({ server, ask }) => {
      const told = await asked(400, ask, {
        100: async () => {
          await server.down();
          await server.up();
        },
      });
      expect(told["wrong"]).toBeUndefined();
      expect(told["ok"]).toBeGreaterThan(250);
    }));

  test.each([
    ["its sessions", false],
    ["the whole of it", true],
  ])("finds new sessions when a server stands still, and hears nothing of the old ones: %s", (_, whole) =>
    scene(async ({ server, ask }) => {
      using closed = heard("connection.closed");
      expect(await asked(100, ask)).toEqual({ ok: 100 });
      const still = await backends(server);
      expect(still.length).toBe(max);
      const signal = (name: "SIGSTOP" | "SIGCONT"): void => {
        if (whole) server.signal(name);
        for (const pid of still) process.kill(pid, name);
      };
      let awake: Promise<void> | undefined;
      try {
        const told = await asked(300, ask, {
          50: () => {
            signal("SIGSTOP");
            awake = eventually("they are given up", () => closed.events.length >= max).finally(() => signal("SIGCONT"));
          },
        });
        await awake;
        expect(told["wrong"]).toBeUndefined();
        expect(told["ok"]).toBeGreaterThan(200);
      } finally {
        await awake?.catch(() => undefined);
      }
    }),
  );

  test("two clients that are killed in transactions leave no session and no lock", async () => {
    const [clients, leases] = [2, 3];
    await using server = await startPostgres({ max_connections: 20 });
    const client = (): Promise<Program> =>
      Program.start(process.execPath, [
        "--import",
        "tsx",
        "test/faults/postgres-holder.ts",
        server.url,
        String(leases),
      ]);
    const programs = await Promise.all(Array.from({ length: clients }, client));
    expect((await backends(server)).length).toBe(clients * leases);
    for (const program of programs) await program.end("SIGKILL");
    expect(await others(server)).toBe(0);
    await using pool = new Pool(server.address);
    const { rows } = await pool.query("SELECT count(*)::int AS n FROM pg_locks WHERE locktype = 'advisory'");
    expect(rows).toEqual([{ n: 0 }]);
  });
});
