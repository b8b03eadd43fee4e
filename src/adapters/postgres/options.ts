/**
 * What a pool of Postgres clients can be told: pg's options by pg's names, ours by ours.
 *
 * pg's are for the client (where the server is, and who one is), or for its pool; the latter mean the same as one of ours,
 * which says it more exactly and wins when both are given. What pg ignores in silence, a name it does not know, is
 * refused here: it is mostly a misspelt one. Options of a newer pg go into `clientConfig`, which is not looked at.
 */

import { inspect } from "node:util";
import { type CheckoutPoolOptions, checkoutChecks } from "../../checkout/index.ts";
import { OptionError } from "../../errors.ts";
import { type Check, type Checks, callback, checkOptions, flag, text } from "../../options.ts";
import { type Runtime, systemRuntime } from "../../runtime/index.ts";
import type { DriverClient, PostgresClient } from "./surface.ts";

/** Every option may be `undefined`, as where it comes from the environment. */
type Given<T> = { readonly [K in keyof T]?: T[K] | undefined };

/** Given to each client as it is. */
export interface PostgresClientOptions {
  readonly connectionString?: string | undefined;
  readonly host?: string | undefined;
  readonly port?: number | undefined;
  readonly user?: string | undefined;
  readonly password?: string | (() => string | Promise<string>) | undefined;
  readonly database?: string | undefined;
  readonly ssl?: any;
  readonly sslnegotiation?: "postgres" | "direct" | undefined;
  readonly enableChannelBinding?: boolean | undefined;
  readonly scramMaxIterations?: number | undefined;
  readonly application_name?: string | undefined;
  readonly fallback_application_name?: string | undefined;
  readonly client_encoding?: string | undefined;
  readonly options?: string | undefined;
  readonly keepAlive?: boolean | undefined;
  readonly keepAliveInitialDelayMillis?: number | undefined;
  readonly statement_timeout?: false | number | undefined;
  readonly query_timeout?: number | undefined;
  readonly lock_timeout?: number | undefined;
  readonly idle_in_transaction_session_timeout?: number | undefined;
  readonly binary?: boolean | undefined;
  readonly pipeline?: boolean | undefined;
  readonly replication?: string | undefined;
  readonly stream?: any;
  readonly types?: any;
}

/** What pg's own pool can be told, and ours in the same words. */
export interface PgPoolOptions {
  /** pg's older name for it. @default max */
  readonly poolSize?: number | undefined;
  /** The wait for a connection, which opening one is part of. 0: as long as it takes. @default acquireTimeoutMs */
  readonly connectionTimeoutMillis?: number | undefined;
  /** 0: none is closed for being idle. @default idleTimeoutMs */
  readonly idleTimeoutMillis?: number | null | undefined;
  /** 0: for ever. @default maxLifetimeMs */
  readonly maxLifetimeSeconds?: number | undefined;
  /** Whether the program may end while the pool has connections that nobody uses. @default true */
  readonly allowExitOnIdle?: boolean | undefined;
  /** Called with each new client, and awaited, before it is lent. */
  readonly onConnect?: ((client: PostgresClient) => unknown) | undefined;
  /** The same, with a callback. An error means that the client is of no use. */
  readonly verify?: ((client: any, done: (error?: Error) => void) => void) | undefined;
  /** Taken so that a configuration for pg is one for us. Not used: promises are Node's. */
  readonly Promise?: unknown;
  /** Taken, not called: what happens is told as events (`poolwarden:connection.opened`, …). */
  readonly log?: ((...messages: any[]) => void) | undefined;
}

export interface PoolConfig
  extends PostgresClientOptions,
    PgPoolOptions,
    Given<Omit<CheckoutPoolOptions<never>, "connector">> {
  /** The driver. What pg's own type for this option leaves out, it has. @default the Client of the package pg */
  readonly Client?: (new (config?: any) => Omit<DriverClient, "end">) | undefined;
  /** More for each client, unchecked: what a newer pg knows. */
  readonly clientConfig?: object | undefined;
  /**
   * A statement run on each client that is given back, `"DISCARD ALL"`: costs a round trip a lease, and leaves the next
   * caller nothing of temporary tables, settings and LISTEN. @default none: an open transaction is rolled back, that is all
   */
  readonly reset?: string | undefined;
}

const anything: Check = { expected: "anything", accepts: () => true };

/** For pg an empty one is none. */
const words: Check = { expected: "a string", accepts: (value) => value === null || typeof value === "string" };

const portNumber: Check = {
  expected: "a whole number from 0 to 65535",
  accepts: (value) => {
    // From the environment it comes as a text, and pg takes that.
    if (typeof value === "string") return /^\d{0,5}$/.test(value) && Number(value) <= 65_535;
    return value === null || (Number.isInteger(value) && (value as number) >= 0 && (value as number) <= 65_535);
  },
};

const clientChecks: Checks<PostgresClientOptions> = {
  connectionString: text(),
  host: words,
  port: portNumber,
  user: words,
  password: anything,
  database: words,
  ssl: anything,
  sslnegotiation: anything,
  enableChannelBinding: anything,
  scramMaxIterations: anything,
  application_name: anything,
  fallback_application_name: anything,
  client_encoding: anything,
  options: anything,
  keepAlive: anything,
  keepAliveInitialDelayMillis: anything,
  statement_timeout: anything,
  query_timeout: anything,
  lock_timeout: anything,
  idle_in_transaction_session_timeout: anything,
  binary: anything,
  pipeline: anything,
  replication: anything,
  stream: anything,
  types: anything,
};

const atLeastZero: Check = {
  expected: "a number, 0 (for no limit) or more",
  accepts: (value) => typeof value === "number" && value >= 0,
};

const pgPoolChecks: Checks<PgPoolOptions> = {
  poolSize: checkoutChecks.max,
  connectionTimeoutMillis: atLeastZero,
  idleTimeoutMillis: { ...atLeastZero, accepts: (value) => value === null || atLeastZero.accepts(value) },
  maxLifetimeSeconds: atLeastZero,
  allowExitOnIdle: flag(),
  onConnect: callback(),
  verify: callback(),
  Promise: anything,
  log: callback(),
};

const checks: Checks<PoolConfig> = {
  ...(checkoutChecks as Checks<Given<Omit<CheckoutPoolOptions<never>, "connector">>>),
  ...clientChecks,
  ...pgPoolChecks,
  // pg's way to say "any number".
  maxUses: {
    expected: "a whole number, 1 or more, or Infinity",
    accepts: (value) => value === Infinity || value === 0 || checkoutChecks.maxUses.accepts(value),
  },
  Client: callback(),
  clientConfig: {
    expected: "an object of options for the client",
    accepts: (value) => typeof value === "object" && value !== null,
  },
  reset: text(),
};

/** The configuration again, by who takes it. */
export interface SplitConfig {
  /** For each client. Holds secrets. */
  readonly client: object;
  readonly checkout: Omit<CheckoutPoolOptions<never>, "connector"> & {
    readonly runtime: Runtime;
    readonly openTimeoutMs: number;
    readonly closeTimeoutMs: number;
  };
}

const defaultAcquireMs = 5_000;
const defaultOpenMs = 10_000;
const defaultCloseMs = 5_000;

/** @throws {OptionError} which never shows what a connection string or a password was. */
export function splitConfig(where: string, asGiven: PoolConfig): SplitConfig {
  if (typeof asGiven === "string") {
    throw new OptionError(where, "an object, { connectionString } for an address", undefined, "a string");
  }
  const config = withLongestLine(asGiven);
  checkOptions(where, config, checks);
  const { host } = config;
  // No address has one. Who logs in and with what would stand in each failure to find it, the system's own among them.
  if (typeof host === "string" && host.includes("@") && !host.startsWith("/")) {
    const expected = "a name or an address, and who logs in as user and password";
    throw new OptionError(`${where}: host`, expected, undefined, "a text with an @");
  }
  const given = without(config, undefined);
  const {
    acquireTimeoutMs = limit(config.connectionTimeoutMillis) ?? defaultAcquireMs,
    // Who waits for a first connection, and waits in vain, is to hear why: so the attempt ends a little before the wait.
    openTimeoutMs = acquireTimeoutMs > 0 && acquireTimeoutMs < Infinity ? acquireTimeoutMs * 0.9 : defaultOpenMs,
    idleTimeoutMs = limit(config.idleTimeoutMillis),
    maxLifetimeMs = limit(config.maxLifetimeSeconds, 1_000),
    closeTimeoutMs = defaultCloseMs,
    runtime = systemRuntime,
    max = config.poolSize,
    maxUses,
  } = config;
  const ours = pick(given, Object.keys(checkoutChecks));
  if (maxUses === 0 || maxUses === Infinity) delete ours["maxUses"];
  const mapped = { max, acquireTimeoutMs, idleTimeoutMs, maxLifetimeMs };
  return {
    client: { ...pick(given, Object.keys(clientChecks)), ...config.clientConfig },
    checkout: { ...ours, ...without(mapped, undefined), openTimeoutMs, closeTimeoutMs, runtime },
  };
}

/** A line without an end, which is pg's, is the longest that ours can be. */
function withLongestLine(config: PoolConfig): PoolConfig {
  const queue = (config as PoolConfig | null)?.queue;
  return queue?.limit === Infinity ? { ...config, queue: { ...queue, limit: Number.MAX_SAFE_INTEGER } } : config;
}

/** pg's numbers: 0, and null, are "no limit"; what is not given is nothing. */
function limit(value: number | null | undefined, unitMs: number = 1): number | undefined {
  if (value === undefined) return undefined;
  return value === null || value === 0 ? Infinity : value * unitMs;
}

function pick(given: Record<string, unknown>, names: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(Object.entries(given).filter(([name]) => names.includes(name)));
}

function without(given: object, absent: unknown): Record<string, unknown> {
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== absent));
}

/** What a pool shows as its `options`, as pg's does. */
export interface ShownOptions extends PostgresClientOptions {
  max: number;
  min: number;
  maxUses: number;
  allowExitOnIdle: boolean;
  maxLifetimeSeconds: number;
  idleTimeoutMillis: number | null;
  [name: string]: any;
}

/**
 * The configuration, for those who make a client of their own from a pool's. It has the address, with what secrets that
 * holds, and shows nothing of it when it is printed, as an object or as JSON.
 */
export function shownOptions(config: PoolConfig): ShownOptions {
  const { poolSize = 10, max = poolSize, min = 0, maxUses = Infinity, allowExitOnIdle = true } = config;
  const { maxLifetimeSeconds = 0, idleTimeoutMillis = 600_000, password, ...rest } = config;
  const numbers = { max, min, maxUses, allowExitOnIdle, maxLifetimeSeconds, idleTimeoutMillis };
  const options: ShownOptions = { ...rest, ...numbers };
  const hidden = { enumerable: false, configurable: true, writable: true };
  if (password !== undefined) Object.defineProperty(options, "password", { ...hidden, value: password });
  Object.defineProperty(options, "toJSON", { ...hidden, value: () => numbers });
  Object.defineProperty(options, inspect.custom, { ...hidden, value: () => numbers });
  return options;
}
