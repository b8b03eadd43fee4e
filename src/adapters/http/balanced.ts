/**
 * One pool over endpoints that all serve the same.
 */

import { errors } from "undici";
import type { ReadyOptions } from "../../pool/index.ts";
import type { Process } from "../../process/index.ts";
import { RoutingPool } from "../../routing/index.ts";
import type { HttpConnection } from "./connection.ts";
import { httpConnector } from "./connector.ts";
import { endpointSource, type HttpEndpointSource, originOf } from "./endpoints.ts";
import type { Exchange } from "./exchange.ts";
import { defaultConnections, type HttpDispatcherOptions, servedBy, splitOptions } from "./options.ts";
import type { Routes } from "./routes.ts";

export class Balanced implements Routes {
  readonly pools: ReadonlyMap<string, RoutingPool<HttpConnection>>;
  readonly #pool: RoutingPool<HttpConnection>;
  readonly #origin: string | undefined;
  /** How its callers write the origin: most always do it in the same way. */
  #written: unknown = undefined;

  static async start(options: HttpDispatcherOptions, endpoints: HttpEndpointSource): Promise<Balanced> {
    const { wire, pool } = splitOptions(options);
    const served = servedBy(options);
    const started = await RoutingPool.start<HttpConnection>({
      ...pool,
      connector: httpConnector(wire, served, pool.openTimeoutMs, pool.runtime),
      endpoints: endpointSource(endpoints),
      size: options.connections ?? defaultConnections,
    });
    return new Balanced(started, served?.origin);
  }

  private constructor(pool: RoutingPool<HttpConnection>, origin: string | undefined) {
    this.#pool = pool;
    this.#origin = origin;
    this.pools = new Map([[origin ?? pool.name, pool]]);
  }

  get process(): Process {
    return this.#pool.process;
  }

  route(exchange: Exchange): void {
    if (this.#serves(exchange.request.origin)) exchange.route(this.#pool);
    else exchange.fail(new errors.InvalidArgumentError(`this dispatcher serves ${this.#origin}, and no other origin`));
  }

  ready(options: ReadyOptions | undefined): Promise<void> {
    return this.#pool.ready(options);
  }

  async close(): Promise<void> {
    await this.#pool.close();
  }

  destroy(reason: Error): Promise<void> {
    return this.#pool.destroy(reason);
  }

  /** A request that names no origin is for whoever it is given to. */
  #serves(origin: unknown): boolean {
    if (this.#origin === undefined || origin === undefined || origin === null || origin === this.#written) return true;
    if (originOf(origin) !== this.#origin) return false;
    this.#written = origin;
    return true;
  }
}
