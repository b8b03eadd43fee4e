/**
 * An undici dispatcher on routing pools: what goes under `fetch`.
 *
 *     fetch(url, { dispatcher }) ─▶ dispatch ─▶ exchange ─▶ a call of the pool's ─▶ a connection with room ─▶ the socket
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

/**
 * A dispatcher for undici and for `fetch`, its own or Node's: `fetch(url, { dispatcher })`, `setGlobalDispatcher`,
 * `compose`. A process: it can stand in a supervisor's tree, and `await using` closes it.
 *
 * A request's handler hears its start at once, then headers, body and end as undici's own dispatchers tell them, and of
 * one end exactly. Requests start in the order in which they were dispatched, as room is found for them. Idle, it does
 * not keep the program alive.
 */
export class HttpDispatcher extends Dispatcher implements HasProcess, AsyncDisposable {
  /** undici's `compose` puts a proxy before us, through which no private field can be reached: so all is in here. */
  private readonly desk: Desk;

  /**
   * Starts a dispatcher. With `endpoints` it resolves when the pool is up, connected or not: `ready()` waits for that.
   * Without, connections are opened when the first request to an origin comes. Cheap: nothing is sent and nothing waits.
   *
   * @throws {OptionError} `ERR_OPTION`, before anything has started. Not to be retried.
   */
  static async start(options: HttpDispatcherOptions = {}): Promise<HttpDispatcher> {
    checkHttpOptions("HttpDispatcher.start", options);
    const { endpoints, waitTimeoutMs = defaultWaitMs, isFailure = isServerError, key } = options;
    const routes = endpoints === undefined ? await Origins.start(options) : await Balanced.start(options, endpoints);
    return new HttpDispatcher(new Desk(routes, { waitTimeoutMs, isFailure, key, crowded: false }));
  }

  /** For the user's own supervisor: a child whose `id` is `options.name`, or `"http"`. */
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

  /**
   * With endpoints: resolves when `min` connections (1) are open, within `timeoutMs` (30_000). Without: at once.
   *
   * @throws {AcquireTimeoutError} `ERR_POOL_ACQUIRE_TIMEOUT`, with what the last attempt to connect failed of as its cause.
   */
  ready(options?: ReadyOptions): Promise<void> {
    return this.desk.routes.ready(options);
  }

  /**
   * Sends one request. Costs no promise of the caller's; `undici.request`, `stream`, `fetch` and the rest are made on it.
   *
   * What was certainly not sent goes to another connection, whatever it is. What may have been sent does so if its method
   * is idempotent, or the options say `idempotent: true`, and its body can be had again: up to three tries in all, repeats
   * within the budget of `retry`. Nothing is repeated once its response has begun. To give up, abort as with any
   * dispatcher: at any point, and the reason comes back.
   *
   * The handler hears of failures with undici's own errors where undici has one: `UND_ERR_SOCKET` (lost, and not to be
   * repeated: it may have been done), `UND_ERR_HEADERS_TIMEOUT`, `UND_ERR_BODY_TIMEOUT`, `UND_ERR_INVALID_ARG`; over
   * HTTP/2 with Node's `ERR_HTTP2_…`; after `close` or `destroy` with `UND_ERR_CLOSED`, `UND_ERR_DESTROYED`. From the
   * pool, none of which was sent and all of which may be tried again later: {AcquireTimeoutError} after `waitTimeoutMs`,
   * {QueueFullError}, {ShedError}; with `waitTimeoutMs: 0`, {BusyError} and {NoMemberError} at once.
   *
   * @returns whether there was room for it. If not, it waits, and `"drain"` is emitted when nobody waits any more.
   * @throws {errors.InvalidArgumentError} for a handler that could not be told of an error.
   */
  override dispatch(options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): boolean {
    return this.desk.take(options, handler);
  }

  /** Refuses new requests, lets those under way and in line finish for up to 30 s, then closes. Each call: one promise. */
  override close(): Promise<void>;
  override close(callback: () => void): void;
  override close(callback?: () => void): Promise<void> | void {
    return told(this.desk.close(), callback);
  }

  /** Ends it now: what is under way or waits fails with `reason`, by default `UND_ERR_DESTROYED`. */
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
