/**
 * An undici dispatcher on routing pools: what goes under `fetch`.
 *
 *     fetch(url, { dispatcher }) ─▶ dispatch ─▶ exchange ─▶ RoutingPool.use ─▶ a connection with room ─▶ the socket
 *
 * It comes in two kinds. With `endpoints` it is a load balancer: one pool, `connections` to each endpoint, open from the
 * start and kept open, and every request goes to whichever the strategy names. Without, it serves any origin, as undici's
 * `Agent` does: a pool for each, made when it is first asked for (origins.ts).
 *
 * Either way each connection is supervised, registered exactly while it can serve, and has no more under way than it can
 * take; who finds no room waits in a bounded line. What was certainly not sent goes elsewhere without its caller
 * noticing; what may have been sent does so if it is idempotent and its body can be had again, within the pool's budget.
 *
 * Not promised: HTTP/2 for what takes over a socket (upgrades, CONNECT), which fails with a typed error there.
 */

import { Dispatcher, errors } from "undici";
import { defaultWaitMs, type ReadyOptions } from "../../pool/index.ts";
import type { HasProcess, Process } from "../../process/index.ts";
import type { RoutingPool } from "../../routing/index.ts";
import type { ChildSpec } from "../../supervisor/index.ts";
import type { PoolStats } from "../../telemetry/index.ts";
import { Balanced } from "./balanced.ts";
import type { HttpConnection } from "./connection.ts";
import { Exchange, type ExchangePolicy } from "./exchange.ts";
import { listenerOf } from "./listener.ts";
import { checkHttpOptions, type HttpDispatcherOptions } from "./options.ts";
import { Origins } from "./origins.ts";
import type { HttpRequest } from "./request.ts";
import type { Routes } from "./routes.ts";

export class HttpDispatcher extends Dispatcher implements HasProcess, AsyncDisposable {
  /** undici's `compose` puts a proxy before us, through which no private field can be reached: so all is in here. */
  private readonly desk: Desk;

  /**
   * Starts a dispatcher. With `endpoints` it resolves when the pool is up, connected or not: `ready()` waits for that.
   *
   * @throws {OptionError} before anything has started.
   */
  static async start(options: HttpDispatcherOptions = {}): Promise<HttpDispatcher> {
    checkHttpOptions("HttpDispatcher.start", options);
    const { endpoints, waitTimeoutMs = defaultWaitMs, isFailure = isServerError, key } = options;
    const routes = endpoints === undefined ? await Origins.start(options) : await Balanced.start(options, endpoints);
    return new HttpDispatcher(new Desk(routes, { waitTimeoutMs, isFailure, key, crowded: false }));
  }

  /** For the user's own supervisor. */
  static childSpec(options: HttpDispatcherOptions = {}): ChildSpec {
    return { id: options.name ?? "http", type: "supervisor", start: () => HttpDispatcher.start(options) };
  }

  private constructor(desk: Desk) {
    super();
    this.desk = desk;
    desk.onDrain = () => super.emit("drain", undefined as never);
  }

  get process(): Process {
    return this.desk.routes.process;
  }

  get closed(): boolean {
    return this.desk.phase !== "open";
  }

  get destroyed(): boolean {
    return this.desk.phase === "destroyed";
  }

  /** The pools there are now, by origin; of a dispatcher with endpoints, its one. To look at, to recycle, to resize. */
  pools(): ReadonlyMap<string, RoutingPool<HttpConnection>> {
    return this.desk.routes.pools;
  }

  /** `RoutingPool.stats()` of each. */
  stats(): Record<string, PoolStats> {
    return Object.fromEntries([...this.desk.routes.pools].map(([origin, pool]) => [origin, pool.stats()]));
  }

  /** With endpoints: resolves when connections are open, as `RoutingPool.ready`. Without: at once. */
  ready(options?: ReadyOptions): Promise<void> {
    return this.desk.routes.ready(options);
  }

  /**
   * Sends one request; the handler, of either shape, hears of its end exactly once. Undici's own errors come as they
   * are. From the pool: {AcquireTimeoutError}, {QueueFullError}, {OpenFailedError}, {ClosedError}.
   *
   * @returns whether there was room for it. If not, it waits, and `"drain"` is emitted when nobody waits any more.
   */
  override dispatch(options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): boolean {
    return this.desk.take(options, handler);
  }

  /** Refuses new requests, lets those under way finish for up to 30 s, then closes. */
  override close(): Promise<void>;
  override close(callback: () => void): void;
  override close(callback?: () => void): Promise<void> | void {
    return told(this.desk.close(), callback);
  }

  /** Ends it now: what is under way fails with `reason`. */
  override destroy(): Promise<void>;
  override destroy(reason: Error | null): Promise<void>;
  override destroy(callback: () => void): void;
  override destroy(reason: Error | null, callback: () => void): void;
  override destroy(reason?: Error | null | (() => void), callback?: () => void): Promise<void> | void {
    if (typeof reason === "function") return told(this.desk.destroy(undefined), reason);
    return told(this.desk.destroy(reason ?? undefined), callback);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.desk.close();
  }
}

/** Where requests come in. */
class Desk {
  readonly routes: Routes;
  phase: "open" | "closing" | "destroyed" = "open";
  onDrain: () => void = () => undefined;
  readonly #policy: ExchangePolicy;
  /** Requests that found no room, and have it still to find. */
  #waiting = 0;
  #closing: Promise<void> | undefined;
  #destroying: Promise<void> | undefined;

  constructor(routes: Routes, policy: ExchangePolicy) {
    this.routes = routes;
    this.#policy = policy;
  }

  take(request: HttpRequest, handler: object): boolean {
    const listener = listenerOf(handler);
    if (listener === undefined) {
      throw new errors.InvalidArgumentError("handler must be an object with a method that hears of errors");
    }
    const exchange = new Exchange(request, listener, this.#policy);
    if (this.phase !== "open") {
      exchange.fail(this.phase === "closing" ? new errors.ClientClosedError() : new errors.ClientDestroyedError());
    } else if (typeof request !== "object" || request === null) {
      exchange.fail(new errors.InvalidArgumentError("opts must be an object."));
    } else {
      exchange.begin();
      this.routes.route(exchange);
    }
    return this.#hadRoom(exchange);
  }

  close(): Promise<void> {
    if (this.phase === "open") this.phase = "closing";
    this.#closing ??= this.#destroying ?? this.routes.close();
    return this.#closing;
  }

  destroy(reason: Error | undefined): Promise<void> {
    this.phase = "destroyed";
    this.#destroying ??= this.routes.destroy(reason ?? new errors.ClientDestroyedError());
    return this.#destroying;
  }

  #hadRoom(exchange: Exchange): boolean {
    if (exchange.sent || exchange.settled) return true;
    this.#waiting++;
    exchange.onServed = () => {
      if (--this.#waiting === 0) this.onDrain();
    };
    return false;
  }
}

function isServerError(statusCode: number): boolean {
  return statusCode >= 500;
}

/** A promise, or a call back, as undici's dispatchers do it. */
function told(done: Promise<void>, callback: (() => void) | undefined): Promise<void> | void {
  if (callback === undefined) return done;
  void tell(done, callback);
}

async function tell(done: Promise<void>, callback: () => void): Promise<void> {
  await done.catch(() => undefined);
  callback();
}
