/**
 * A pool for each origin that is asked for, made when it is, of the size that it needs.
 *
 * Whoever puts a dispatcher under every `fetch` of a program cannot name its origins beforehand, and does not want ten
 * sockets to each. So the first request to an origin starts its pool with one connection; when more requests are under
 * way than its connections can take at once, it grows, up to `connections`; and after each `idleTimeoutMs` it shrinks to
 * what that time has needed. An origin that nobody has asked for in that time loses its pool.
 *
 * How much a connection takes is known for HTTP/1.1. Where it may be HTTP/2, one connection is opened, and it tells.
 *
 * Promised: one pool an origin, however many ask at once; a pool is only closed when nothing is under way on it, decided
 * in the same step in which it is forgotten. Pools live in the async context that the dispatcher was made in.
 */

import { AsyncLocalStorage } from "node:async_hooks";
import { errors } from "undici";
import { asError } from "../../errors.ts";
import type { Process } from "../../process/index.ts";
import { RoutingPool, type RoutingPoolOptions } from "../../routing/index.ts";
import type { Timer } from "../../runtime/index.ts";
import { DynamicSupervisor } from "../../supervisor/index.ts";
import { emit } from "../../telemetry/index.ts";
import type { HttpConnection } from "./connection.ts";
import { httpConnector } from "./connector.ts";
import { originOf } from "./endpoints.ts";
import type { Exchange } from "./exchange.ts";
import {
  defaultConnections,
  defaultIdleMs,
  type HttpDispatcherOptions,
  type SplitOptions,
  splitOptions,
} from "./options.ts";
import type { Routes } from "./routes.ts";

export class Origins implements Routes {
  readonly #options: SplitOptions;
  readonly #idleTimeoutMs: number;
  readonly #connections: number;
  readonly #supervisor: DynamicSupervisor;
  readonly #inContext: <T>(act: () => T) => T = AsyncLocalStorage.snapshot();
  readonly #pools = new Map<string, OriginPool>();
  #sweep: Timer | undefined;

  static async start(options: HttpDispatcherOptions): Promise<Origins> {
    const { name = "http dispatcher", runtime } = options;
    const supervisor = await DynamicSupervisor.start({ name, ...(runtime === undefined ? {} : { runtime }) });
    return new Origins(options, supervisor);
  }

  private constructor(options: HttpDispatcherOptions, supervisor: DynamicSupervisor) {
    this.#options = splitOptions(options);
    this.#idleTimeoutMs = options.idleTimeoutMs ?? defaultIdleMs;
    this.#connections = options.connections ?? defaultConnections;
    this.#supervisor = supervisor;
    supervisor.process.monitor(() => this.#sweep?.cancel());
  }

  get process(): Process {
    return this.#supervisor.process;
  }

  get pools(): ReadonlyMap<string, RoutingPool<HttpConnection>> {
    const started = new Map<string, RoutingPool<HttpConnection>>();
    for (const [origin, { pool }] of this.#pools) if (pool !== undefined) started.set(origin, pool);
    return started;
  }

  route(exchange: Exchange): void {
    const { origin: given, servername } = exchange.request;
    // As `fetch` writes it, it is the key; otherwise we write it so.
    const known = typeof given === "string" && !servername ? this.#pools.get(given) : undefined;
    if (known !== undefined) {
      known.carry(exchange);
      return;
    }
    const origin = originOf(given);
    if (origin === undefined) {
      exchange.fail(new errors.InvalidArgumentError("opts.origin must be a non-empty string or URL."));
      return;
    }
    const served = servername ? named(origin, servername) : origin;
    const key = served === origin ? origin : `${origin} as ${served}`;
    (this.#pools.get(key) ?? this.#open(key, origin, served)).carry(exchange);
  }

  async ready(): Promise<void> {
    // There is nothing to wait for before somebody asks for an origin.
  }

  async close(): Promise<void> {
    await Promise.all([...this.#pools.values()].map((pool) => pool.close()));
    await this.#supervisor.stop();
  }

  async destroy(reason: Error): Promise<void> {
    await Promise.all([...this.#pools.values()].map((pool) => pool.destroy(reason)));
    await this.#supervisor.stop();
  }

  #open(key: string, origin: string, served: string): OriginPool {
    const { wire, pool } = this.#options;
    const mayBeHttp2 = origin.startsWith("https:") ? wire.allowH2 : wire.useH2c;
    const made = new OriginPool(key, this.#connections, mayBeHttp2 ? undefined : (wire.pipelining ?? 1));
    const connector = httpConnector(wire, new URL(served), pool.openTimeoutMs, pool.runtime);
    const watched = {
      ...connector,
      capacity: (connection: HttpConnection): number => {
        made.opened(connection.capacity);
        return connection.capacity;
      },
    };
    const name = pool.name === undefined ? key : `${pool.name} ${key}`;
    this.#pools.set(key, made);
    this.#sweep ??= this.#later();
    // The first to ask gives nothing of its own away to those who come after.
    this.#inContext(() => {
      const options = { ...pool, name, connector: watched, endpoints: [{ id: origin }] };
      void made.start(this.#supervisor, options, () => this.#forget(made));
    });
    return made;
  }

  #later(): Timer {
    return this.#options.pool.runtime.setTimer(() => this.#look(), this.#idleTimeoutMs);
  }

  /** Each is made as large as it has had to be since the last time; one that nobody has needed goes. */
  #look(): void {
    for (const pool of [...this.#pools.values()]) {
      if (pool.fit()) continue;
      this.#forget(pool);
      void pool.close();
    }
    this.#sweep = this.#pools.size > 0 ? this.#later() : undefined;
  }

  #forget(pool: OriginPool): void {
    if (this.#pools.get(pool.key) === pool) this.#pools.delete(pool.key);
  }
}

/** The origin with the name that its server must prove to have. undici's `dns` interceptor asks so: by address, with a name. */
function named(origin: string, servername: string): string {
  const url = new URL(origin);
  if (url.protocol === "https:") url.hostname = servername;
  return url.origin;
}

class OriginPool {
  readonly key: string;
  pool: RoutingPool<HttpConnection> | undefined;
  readonly #connections: number;
  /** How many requests a connection takes, once that is known. */
  #capacity: number | undefined;
  #started: Promise<RoutingPool<HttpConnection>> | undefined;
  /** Connections it has, or is about to. */
  #size = 1;
  /** Requests under way: waiting, sent, or given up and not yet answered. */
  #underWay = 0;
  /** The most there were since the last look. */
  #peak = 0;
  readonly #through = (): void => {
    this.#underWay--;
  };

  constructor(key: string, connections: number, capacity: number | undefined) {
    this.key = key;
    this.#connections = connections;
    this.#capacity = capacity;
  }

  /** Never rejects. `gone` is called when there is no pool, or none any more. */
  async start(
    supervisor: DynamicSupervisor,
    options: Omit<RoutingPoolOptions<HttpConnection>, "size">,
    gone: () => void,
  ): Promise<void> {
    this.#started = this.#start(supervisor, options);
    try {
      const pool = await this.#started;
      pool.process.monitor(gone);
    } catch {
      gone(); // Those who wait for it are told why.
    }
  }

  carry(exchange: Exchange): void {
    this.#underWay++;
    this.#peak = Math.max(this.#peak, this.#underWay);
    this.#grow();
    if (this.pool !== undefined) exchange.route(this.pool, this.#through);
    else void this.#whenStarted(exchange);
  }

  /** What one of its connections takes. One that is being reopened takes nothing, and that says nothing. */
  opened(capacity: number): void {
    if (capacity === 0) return;
    this.#capacity = capacity;
    this.#grow();
  }

  /** Shrinks to what was needed since the last time. `false`: nothing was. */
  fit(): boolean {
    if (this.#peak === 0) return false;
    const needed = this.#needed(this.#peak);
    this.#peak = this.#underWay;
    if (needed < this.#size) this.#resize(needed);
    return true;
  }

  async close(): Promise<void> {
    await this.#settled((pool) => pool.close());
  }

  async destroy(reason: Error): Promise<void> {
    await this.#settled((pool) => pool.destroy(reason));
  }

  async #start(
    supervisor: DynamicSupervisor,
    options: Omit<RoutingPoolOptions<HttpConnection>, "size">,
  ): Promise<RoutingPool<HttpConnection>> {
    let pool: RoutingPool<HttpConnection> | undefined;
    let size = 0;
    await supervisor.startChild({
      id: this.key,
      type: "supervisor",
      restart: "temporary", // The next request starts another.
      start: async () => {
        size = this.#size;
        pool = await RoutingPool.start({ ...options, size });
        return pool;
      },
    });
    this.pool = pool as RoutingPool<HttpConnection>;
    if (this.#size > size) this.#resize(this.#size); // More have come meanwhile.
    return this.pool;
  }

  async #whenStarted(exchange: Exchange): Promise<void> {
    try {
      const pool = await (this.#started as Promise<RoutingPool<HttpConnection>>);
      exchange.route(pool, this.#through);
    } catch (thrown) {
      exchange.fail(asError(thrown));
      this.#through();
    }
  }

  async #settled(end: (pool: RoutingPool<HttpConnection>) => Promise<unknown>): Promise<void> {
    const pool = await this.#started?.catch(() => undefined);
    if (pool !== undefined) await end(pool);
  }

  #grow(): void {
    const needed = this.#needed(this.#underWay);
    if (needed > this.#size) this.#resize(needed);
  }

  #needed(requests: number): number {
    if (this.#capacity === undefined) return 1;
    return Math.min(Math.max(Math.ceil(requests / this.#capacity), 1), this.#connections);
  }

  #resize(size: number): void {
    this.#size = size;
    // One that is closing needs no other size.
    this.pool?.resize(size).catch((thrown: unknown) => {
      emit("callback.failed", { where: `pool "${this.key}": resize`, error: asError(thrown) });
    });
  }
}
