/** The public contract of the subpaths, as types. */

import type { Connector, HasProcess, Pool, PoolStats, RoutingPool } from "poolwarden";
import { CheckoutPool, leastUsed } from "poolwarden";
import type * as fanta from "poolwarden/fanta";
import {
  binary,
  type Codec,
  FantaPool,
  FantaServer,
  type FantaServerOptions,
  FantaTCP,
  fantaConnector,
  json,
  text,
} from "poolwarden/fanta";
import type * as http from "poolwarden/http";
import { type HttpConnection, HttpDispatcher } from "poolwarden/http";
import type * as postgres from "poolwarden/postgres";
import { Pool as PostgresPool, type PostgresClient } from "poolwarden/postgres";
import type * as sim from "poolwarden/sim";
import { simulate, virtualRuntime } from "poolwarden/sim";
import type { Dispatcher } from "undici";
import { claim, type Same } from "./expect.ts";

claim<
  Same<keyof typeof fanta, "FantaTCP" | "FantaServer" | "FantaPool" | "fantaConnector" | "binary" | "json" | "text">
>();
claim<Same<keyof typeof http, "HttpDispatcher">>();
claim<Same<keyof typeof postgres, "Pool" | "postgresPool">>();
claim<Same<keyof typeof sim, "simulate" | "virtualRuntime" | "seededRandom">>();

// ── Fanta: what goes over the wire is what the codec says ──────────────────────────────────────────────────────────

export async function overFanta(): Promise<void> {
  const server: HasProcess = await FantaServer.listen({
    handler: (request, { id, signal, remotePort }) => {
      claim<Same<typeof request, string>>();
      void [id satisfies number, signal satisfies AbortSignal, remotePort satisfies number | undefined];
      return request;
    },
  });
  const tcp = await FantaTCP.connect({ host: "127.0.0.1", port: 7000 });
  const pool = await FantaPool.start({ port: 7000, size: 2, strategy: leastUsed(), tls: true });
  claim<Same<ReturnType<typeof tcp.request>, Promise<string>>>();
  claim<Same<ReturnType<typeof pool.request>, Promise<string>>>();
  await pool.request("PING", { timeoutMs: 1, idempotent: true, key: 1, signal: AbortSignal.timeout(1) });
  const answer = await pool.use((connection) => connection.request("PING"));
  claim<Same<typeof answer, string>>();
  claim<Same<ReturnType<typeof pool.stats>, PoolStats>>();

  const bytes = await FantaTCP.connect({ host: "a", port: 1, codec: binary });
  claim<Same<Awaited<ReturnType<typeof bytes.request>>, Uint8Array>>();
  const values = await FantaPool.start({ port: 1, codec: json });
  claim<Same<Awaited<ReturnType<typeof values.request>>, unknown>>();
  const mine: Codec<number, Date> = { encode: String, decode: () => new Date(0) };
  const typed = await FantaPool.start({ port: 1, codec: mine });
  claim<Same<Awaited<ReturnType<typeof typed.request>>, Date>>();
  claim<Same<typeof text, Codec<string>>>();
  claim<Same<ReturnType<FantaServerOptions<number, Date>["handler"]>, Date | Promise<Date>>>();

  // The connector is for any pool.
  const lent = await CheckoutPool.start({ connector: fantaConnector({ port: 1 }) satisfies Connector<FantaTCP> });
  claim<Same<typeof lent, CheckoutPool<FantaTCP<string, string>>>>();

  // @ts-expect-error -- a number is no string: the codec says what may be sent
  await pool.request(7);
  // @ts-expect-error
  await typed.request("PING");
  // @ts-expect-error -- a server without a handler answers nothing
  await FantaServer.listen({ port: 1 });
  // @ts-expect-error -- where to?
  await FantaTCP.connect({ host: "127.0.0.1" });
  // @ts-expect-error -- a Fanta pool has its connector
  await FantaPool.start({ port: 1, connector: fantaConnector() });
  // @ts-expect-error
  tcp.inFlight = 0;
  void server;
}

// ── HTTP: a dispatcher like undici's own ───────────────────────────────────────────────────────────────────────────

export async function overHttp(): Promise<void> {
  const dispatcher: Dispatcher & HasProcess = await HttpDispatcher.start({
    endpoints: ["10.0.0.1:80", { id: "b:80" }],
  });
  const any = await HttpDispatcher.start({ connections: 2, allowH2: true, isFailure: (status) => status >= 500 });
  claim<Same<ReturnType<typeof any.pools>, ReadonlyMap<string, RoutingPool<HttpConnection>>>>();
  claim<Same<ReturnType<typeof any.stats>, Record<string, PoolStats>>>();
  // @ts-expect-error -- connections are counted by `connections`
  await HttpDispatcher.start({ size: 2 });
  // @ts-expect-error -- an endpoint is an address
  await HttpDispatcher.start({ endpoints: [80] });
  void dispatcher;
}

// ── Postgres: the face of pg's own pool ────────────────────────────────────────────────────────────────────────────

export async function overPostgres(): Promise<void> {
  const pool = new PostgresPool({ connectionString: "postgres://localhost", max: 4, idleTimeoutMillis: 1, maxUses: 9 });
  pool satisfies Pool<PostgresClient>;
  const { rows } = await pool.query<{ n: number }>("SELECT 1 AS n", [1]);
  claim<Same<typeof rows, { n: number }[]>>();
  const client = await pool.connect({ priority: 1 });
  client.release(new Error("bad"));
  const version = await pool.use((each) => each.query<{ version: string }>("SELECT version()"));
  claim<Same<(typeof version.rows)[number]["version"], string>>();
  // @ts-expect-error -- what pg ignores in silence is refused here
  new PostgresPool({ idleTimeout: 1 });
  // @ts-expect-error
  new PostgresPool({ max: "4" });
  // @ts-expect-error -- how many there are is not for the reader to say
  pool.idleCount = 0;
}

// ── The simulator ──────────────────────────────────────────────────────────────────────────────────────────────────

export async function simulated(): Promise<void> {
  const runtime = virtualRuntime({ seed: 7, startMs: 0 });
  const value = await runtime.until(Promise.resolve("a"));
  claim<Same<[typeof value, typeof runtime.seed, typeof runtime.timers], [string, number, number]>>();
  const result = await simulate({
    service: { kind: "fixed", meanMs: 1 },
    faults: [{ kind: "crash", member: "all", fromMs: 0, downMs: 1 }],
  });
  claim<Same<typeof result.failed, number>>();
  // @ts-expect-error -- a fault must say whom it befalls
  await simulate({ faults: [{ kind: "slow", factor: 2 }] });
  // @ts-expect-error
  await simulate({ pool: { connector: fantaConnector() } });
  // @ts-expect-error
  virtualRuntime({ seed: "7" });
}
