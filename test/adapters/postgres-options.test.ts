/** What a pool of Postgres clients takes of pg's options and of ours, and what it refuses before anything starts. */
import { inspect } from "node:util";
import pg from "pg";
import { expect, test } from "vitest";
import { splitConfig } from "../../src/adapters/postgres/options.ts";
import { Pool, type PoolConfig } from "../../src/adapters/postgres/index.ts";
import { systemRuntime } from "../../src/index.ts";
import { later } from "./turns.ts";

const checkout = (config: PoolConfig): object => splitConfig("test", config).checkout;

test("pg's words for the pool mean the same as ours", () => {
  expect(checkout({})).toEqual({
    ...{ acquireTimeoutMs: 5_000, openTimeoutMs: 4_500, closeTimeoutMs: 5_000, runtime: systemRuntime },
  });
  const words = {
    connectionTimeoutMillis: 2_000,
    idleTimeoutMillis: 30_000,
    maxLifetimeSeconds: 60,
    max: 3,
    maxUses: 7,
  };
  expect(checkout(words)).toMatchObject({
    ...{
      acquireTimeoutMs: 2_000,
      openTimeoutMs: 1_800,
      idleTimeoutMs: 30_000,
      maxLifetimeMs: 60_000,
      max: 3,
      maxUses: 7,
    },
  });
});

test("pg's 0 is no limit; what is not given is what it is without", () => {
  const none = { connectionTimeoutMillis: 0, idleTimeoutMillis: 0, maxLifetimeSeconds: 0, maxUses: 0 };
  const { maxUses, ...rest } = checkout(none) as { maxUses?: number };
  expect(rest).toMatchObject({ acquireTimeoutMs: Infinity, idleTimeoutMs: Infinity, maxLifetimeMs: Infinity });
  expect(rest).toMatchObject({ openTimeoutMs: 10_000 });
  expect([maxUses, "maxUses" in checkout({ maxUses: Infinity })]).toEqual([undefined, false]);
  expect(checkout({ idleTimeoutMillis: null })).toMatchObject({ idleTimeoutMs: Infinity });
  const absent = { max: undefined, min: undefined, connectionTimeoutMillis: undefined, host: undefined };
  expect(checkout(absent)).toEqual(checkout({}));
});

test("pg's older word for max is taken; max wins", () => {
  expect(checkout({ poolSize: 4 })).toMatchObject({ max: 4 });
  expect(checkout({ poolSize: 4, max: 5 })).toMatchObject({ max: 5 });
  const p = new Pool({ poolSize: 4 });
  later(() => p.destroy());
  expect(p.options.max).toBe(4);
});

test("a line without an end is the longest there can be", () => {
  expect(checkout({ queue: { limit: Infinity, shed: true } })).toMatchObject({
    queue: { limit: Number.MAX_SAFE_INTEGER, shed: true },
  });
  const p = new Pool({ queue: { limit: Infinity } });
  later(() => p.destroy());
});

test("takes what pg's types call a configuration", () => {
  const config: pg.PoolConfig = { max: 2, Client: pg.Client };
  const given: ConstructorParameters<typeof pg.Pool>[0] = config;
  const pools = [new Pool(config), new Pool(given), new Pool({ Client: pg.Client })];
  later(() => Promise.all(pools.map((p) => p.destroy())));
  expect(pools.map((p) => p.options.max)).toEqual([2, 2, 10]);
});

test("a password that was put before the host is refused, and not shown", () => {
  let refusal: unknown;
  try {
    const made = new Pool({ host: "me:tiger@nowhere.invalid" });
    later(() => made.destroy());
  } catch (error) {
    refusal = error;
  }
  expect(refusal).toMatchObject({ code: "ERR_OPTION", option: "new Pool: host" });
  expect(inspect(refusal, { depth: 9, showHidden: true })).not.toContain("tiger");
  const socket = new Pool({ host: "/run/a@b" }); // A folder of sockets may be called anything.
  later(() => socket.destroy());
});

test("is ending from the moment that it is told to, though it has not started", async () => {
  const p = new Pool();
  expect(p.ending).toBe(false);
  const ended = p.end();
  expect([p.ending, p.ended]).toEqual([true, false]);
  await ended;
  expect(p.ended).toBe(true);
  const other = new Pool();
  const destroyed = other.destroy();
  expect(other.ending).toBe(true);
  await destroyed;
});

test("where both are given, ours says it more exactly", () => {
  const both = {
    connectionTimeoutMillis: 1,
    acquireTimeoutMs: 2,
    openTimeoutMs: 3,
    idleTimeoutMillis: 4,
    idleTimeoutMs: 5,
  };
  expect(checkout(both)).toMatchObject({ acquireTimeoutMs: 2, openTimeoutMs: 3, idleTimeoutMs: 5 });
});

test("a client is given what is for clients, and what nobody knows by clientConfig", () => {
  const { client } = splitConfig("test", {
    ...{ host: "db", port: 5433, statement_timeout: 1_000, max: 3, name: "mine", reset: "DISCARD ALL" },
    scramMaxIterations: 8_192,
    clientConfig: { newer: true },
  });
  expect(client).toEqual({
    ...{ host: "db", port: 5433, statement_timeout: 1_000, scramMaxIterations: 8_192, newer: true },
  });
});

test.each<[string, unknown, string]>([
  ["an option that is not known", { poolsize: 10 }, "poolsize"],
  ["min above max", { min: 3, max: 2 }, "min"],
  ["no clients at all", { max: 0 }, "max"],
  ["a time before now", { connectionTimeoutMillis: -1 }, "connectionTimeoutMillis"],
  ["a time that is none", { idleTimeoutMillis: "10s" }, "idleTimeoutMillis"],
  ["no time to open in", { openTimeoutMs: 0 }, "openTimeoutMs"],
  ["an empty address", { connectionString: "" }, "connectionString"],
  ["a driver that is no class", { Client: {} }, "Client"],
  ["a hook that is no function", { onConnect: "SET ROLE me" }, "onConnect"],
  ["a line that is no line", { queue: { limit: -1 } }, "queue: limit"],
  ["half a use", { maxUses: 0.5 }, "maxUses"],
  ["nothing", null, "new Pool"],
  ["a list", [], "new Pool"],
  ["an address instead of options", "postgres://localhost/db", "new Pool"],
])("refuses %s, before anything starts", (_, config, option) => {
  expect(() => new Pool(config as never)).toThrow(
    expect.objectContaining({ code: "ERR_OPTION", option: expect.stringContaining(option) }),
  );
});

test("shows its options as pg's pool does, without the address when they are printed", () => {
  const p = new Pool({ connectionString: "postgres://me:tiger@db/x", max: 3 });
  later(() => p.destroy());
  expect(p.options).toMatchObject({ connectionString: "postgres://me:tiger@db/x", max: 3, min: 0, maxUses: Infinity });
  expect(JSON.parse(JSON.stringify(p.options))).toEqual({
    ...{ max: 3, min: 0, maxUses: null, allowExitOnIdle: true, maxLifetimeSeconds: 0, idleTimeoutMillis: 600_000 },
  });
  expect([p.totalCount, p.idleCount, p.waitingCount, p.expiredCount]).toEqual([0, 0, 0, 0]);
});
