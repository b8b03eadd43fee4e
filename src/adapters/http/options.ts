/**
 * What a dispatcher can be told.
 */

import type { Dispatcher } from "undici";
import { checkEndpoints, endpointsCheck } from "../../connection/index.ts";
import { OptionError } from "../../errors.ts";
import { type Checks, callback, checkOptions, duration, integer } from "../../options.ts";
import { type RoutingPoolOptions, routingChecks } from "../../routing/index.ts";
import { type Runtime, systemRuntime } from "../../runtime/index.ts";
import type { HttpConnection } from "./connection.ts";
import { type WireOptions, wireChecks } from "./connector.ts";
import { addressOf, endpointSource, type HttpEndpointSource, originOf } from "./endpoints.ts";

/** What is passed on to the pools as it is. */
type PoolOptions = Omit<RoutingPoolOptions<HttpConnection>, "connector" | "size" | "endpoints">;

/**
 * All of them may be left out. Beside those here: how to speak (`connect`, `allowH2`, `useH2c`, `pipelining`,
 * `maxConcurrentStreams`, `client`), and everything that a `RoutingPool` takes but its connector and size (`strategy`,
 * `queue`, `retry`, `breaker`, `hedge`, `backoff` and so on), with the same defaults.
 */
export interface HttpDispatcherOptions extends WireOptions, PoolOptions {
  /** Addresses, `"http://10.0.0.1:8080"`, that all serve the same. Without them the dispatcher serves any origin. */
  readonly endpoints?: HttpEndpointSource;
  /**
   * What the endpoints serve, `"https://api.example.com"`: its host goes into each request, and over TLS it is the name
   * that they must prove to have. Requests to another origin are refused. @default each endpoint stands for itself
   */
  readonly origin?: string | URL;
  /** To each endpoint; without endpoints, at most to each origin. @default 10 */
  readonly connections?: number;
  /** How long a request may wait for a connection with room, in all its tries; 0: not at all. @default 5_000 */
  readonly waitTimeoutMs?: number;
  /** Without endpoints: an origin that nobody has asked for this long loses its connections. @default 4_000 */
  readonly idleTimeoutMs?: number;
  /** Which responses speak against the member that gave them. @default those from 500 on */
  readonly isFailure?: (statusCode: number) => boolean;
  /** What `rendezvous` routes a request by. */
  readonly key?: (request: Dispatcher.DispatchOptions) => string | number | undefined;
}

export const defaultConnections = 10;

/** As long as undici keeps an idle socket. */
export const defaultIdleMs = 4_000;

const { size: _size, endpoints: _endpoints, ...poolChecks } = routingChecks;

const checks: Checks<HttpDispatcherOptions> = {
  ...wireChecks,
  ...(poolChecks as Checks<PoolOptions>),
  endpoints: endpointsCheck,
  origin: { expected: 'an origin: "https://api.example.com"', accepts: (value) => originOf(value) !== undefined },
  connections: integer(1),
  waitTimeoutMs: duration({ zero: true, infinity: true }),
  idleTimeoutMs: duration(),
  isFailure: callback(),
  key: callback(),
};

/** @throws {OptionError} */
export function checkHttpOptions(where: string, options: HttpDispatcherOptions): void {
  checkOptions(where, options, checks);
  const { endpoints, origin } = options;
  if (endpoints === undefined && origin !== undefined) {
    throw new OptionError(`${where}: origin`, "endpoints that serve it; without any, all origins are served", origin);
  }
  const source = endpoints === undefined ? [] : endpointSource(endpoints);
  if (!Array.isArray(source)) return;
  for (const endpoint of checkEndpoints(`${where}: endpoints`, source)) addressOf(endpoint, servedBy(options));
}

/** The origin that all endpoints serve together, if it was named. */
export function servedBy({ origin }: HttpDispatcherOptions): URL | undefined {
  return origin === undefined ? undefined : new URL(origin);
}

/** The options again, by who takes them. */
export interface SplitOptions {
  readonly wire: WireOptions;
  readonly pool: PoolOptions & { readonly runtime: Runtime; readonly openTimeoutMs: number };
}

export function splitOptions(options: HttpDispatcherOptions): SplitOptions {
  const pool: PoolOptions = pick(options, Object.keys(poolChecks));
  const { runtime = systemRuntime, openTimeoutMs = 10_000 } = pool;
  return { wire: pick(options, Object.keys(wireChecks)), pool: { ...pool, runtime, openTimeoutMs } };
}

/** Those of these names that were given: with `exactOptionalPropertyTypes` the others are not there. */
function pick(options: HttpDispatcherOptions, names: readonly string[]): HttpDispatcherOptions {
  return Object.fromEntries(
    Object.entries(options).filter(([name, value]) => names.includes(name) && value !== undefined),
  );
}
