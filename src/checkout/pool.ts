/**
 * A checkout pool: each resource is lent to one caller at a time.
 *
 * For what cannot be shared: a database connection in a transaction, an HTTP/1 socket, a worker that does one thing at a
 * time. Not for what multiplexes (HTTP/2, Redis, gRPC): many callers can use such a resource at once, and a routing
 * pool lets them.
 *
 *     use(work) ─▶ an idle resource, or the line ─▶ lease ─▶ work(resource) ─▶ reset ─▶ the next in line, or idle
 *
 * Resources are opened when callers wait, a few at a time and no more than are waited for; what is idle for long is
 * closed. They live in the same tree as those of a routing pool, each owned by a connection that is registered while it
 * can serve. Who gets what is decided in one place (lending.ts), synchronously.
 *
 * Promised: a resource is in one hand at a time. No more than `max` exist, those opening and closing included. Callers of
 * one priority are served in the order they came. Every wait ends: with a lease, at its time, at its abort, or with the
 * pool.
 */

import { checkEndpoints, type Endpoint, type EndpointSource } from "../connection/index.ts";
import { AcquireTimeoutError, OpenFailedError, OptionError } from "../errors.ts";
import { checkOptions, duration, integer, required, signal as signalCheck } from "../options.ts";
import {
  checkUse,
  type CloseReport,
  Conditions,
  noOptions,
  type Pool,
  type PoolSnapshot,
  PoolTree,
  type ProcessTree,
  type ReadyOptions,
  type UseOptions,
  type Work,
} from "../pool/index.ts";
import type { Process } from "../process/index.ts";
import { type Runtime, systemRuntime } from "../runtime/index.ts";
import type { ChildSpec } from "../supervisor/index.ts";
import { emit, type PoolStats } from "../telemetry/index.ts";
import { Lending } from "./lending.ts";
import type { Lease } from "./lease.ts";
import {
  type AcquireOptions,
  acquireChecks,
  type CheckoutPoolOptions,
  checkCheckout,
  type Settings,
} from "./options.ts";
import { Unit } from "./unit.ts";
import { UseCall } from "./use.ts";

let made = 0;

export class CheckoutPool<R> implements Pool<R> {
  readonly name: string;
  readonly #runtime: Runtime;
  readonly #settings: Settings;
  readonly #conditions: Conditions;
  #lending!: Lending<R>;
  #tree!: PoolTree<R, Unit<R>>;
  /** For each `ready` that waits: how many resources for. */
  readonly #wanted = new Set<{ readonly min: number }>();
  #closing: Promise<CloseReport> | undefined;
  #destroying: Promise<void> | undefined;
  #force: (() => void) | undefined;

  /**
   * Starts the pool and resolves when its tree is up; `min` resources are being opened then. `ready()` waits for them.
   *
   * @throws {OptionError} before anything has started.
   */
  static async start<R>(options: CheckoutPoolOptions<R>): Promise<CheckoutPool<R>> {
    const where = "CheckoutPool.start";
    const settings = checkCheckout(where, options);
    const endpoint = endpointOf(where, options.connector.endpoints ?? [{ id: options.connector.name }]);
    const pool = new CheckoutPool<R>(options, settings);
    await pool.#start(options, endpoint);
    return pool;
  }

  /** For the user's own supervisor. The pool closes what it has when it is shut down. */
  static childSpec<R>(options: CheckoutPoolOptions<R>): ChildSpec {
    const id = options?.name ?? options?.connector?.name ?? "pool"; // `start` says what is wrong with them.
    return { id, type: "supervisor", start: () => CheckoutPool.start(options) };
  }

  private constructor(options: CheckoutPoolOptions<R>, settings: Settings) {
    this.name = options.name ?? `${options.connector.name} pool ${++made}`;
    this.#runtime = options.runtime ?? systemRuntime;
    this.#settings = settings;
    this.#conditions = new Conditions(this.#runtime);
  }

  get process(): Process {
    return this.#tree.process;
  }

  /**
   * Lends one resource, waiting in line if all are out. Exclusive until released; hold it with `using`, so that a throw
   * cannot leak it. Free of any wait when one is idle: then the promise is resolved already.
   *
   * @throws {AcquireTimeoutError} with the phase and the last failure to open as its cause; {QueueFullError}, {ShedError}:
   *   retry later. {BusyError}, {NoMemberError} with `timeoutMs: 0`. {NestedUseError}, {OpenFailedError}, {ClosedError}.
   *   The signal's own reason.
   */
  acquire(options?: AcquireOptions): Promise<Lease<R>> {
    if (options !== undefined || this.#settings.leakReportMs < Infinity) return this.#acquireWith(options ?? noOptions);
    const lease = this.#lending.lendNow();
    return lease === undefined ? this.#lending.wait(noOptions) : Promise.resolve(lease);
  }

  /** An idle resource that needs no check, or nothing: it never waits, and never opens one. */
  tryAcquire(): Lease<R> | undefined {
    const lease = this.#lending.lendNow();
    return lease && this.#lending.handle(lease);
  }

  /**
   * Lends a resource to `work`, and takes it back when the work has settled, however. A work that fails does not make its
   * resource a bad one: it is reset, if the connector has a `reset`, and lent again. It is closed when the work rejects
   * with `ERR_CONNECTION_LOST`.
   *
   * A work that uses its own pool again, and waits for that, can wait for itself: when every resource is held by such a
   * work, the last of them to ask gets a `NestedUseError`. A call that the work does not await is taken for one that it does,
   * as is one of a timer it has set that comes while it runs. To begin something that is to outlive the work, leave its
   * async context: `const outside = AsyncLocalStorage.snapshot()` where no work runs, then `outside(() => pool.use(…))`.
   *
   * @throws as `acquire`; what `work` throws; {ConnectionLostError} when the resource is lost under a work that has not
   *   settled one tick later; {LeaseError} `ERR_LEASE_EXPIRED`.
   */
  use<T>(work: Work<R, T>, options: UseOptions = noOptions): Promise<T> {
    try {
      checkUse("CheckoutPool.use", work, options);
    } catch (error) {
      return Promise.reject(error);
    }
    return new UseCall<R, T>(this.#lending, work, options).begin();
  }

  async ready(options: ReadyOptions = {}): Promise<void> {
    checkOptions("CheckoutPool.ready", options, {
      min: integer(1),
      signal: signalCheck(),
      timeoutMs: duration({ zero: true, infinity: true }),
    });
    const { min = 1, signal, timeoutMs = 30_000 } = options;
    const wanted = Math.max(min, this.#settings.min);
    signal?.throwIfAborted();
    const lending = this.#lending;
    if (lending.phase !== "open") throw lending.closedError();
    const test = (): boolean => {
      // Asked for too many, or the pool has been made smaller meanwhile.
      const { max } = this.#settings;
      if (wanted > max) throw new OptionError("CheckoutPool.ready: min", `at most max (${max})`, min);
      if (!lending.hopeless()) return this.#tree.counts().ready >= wanted;
      throw new OpenFailedError({ stats: this.stats(), cause: lending.lastError() });
    };
    if (test()) return;
    const late = (waitedMs: number): Error =>
      new AcquireTimeoutError("open", { stats: this.stats(), waitedMs, cause: lending.lastError() });
    const want = { min: wanted };
    this.#wanted.add(want);
    try {
      const waiting = this.#conditions.wait(test, { timeoutMs, signal, late });
      lending.grow();
      lending.hurry();
      await waiting;
    } finally {
      this.#wanted.delete(want);
      lending.relax();
    }
  }

  stats(): PoolStats {
    const { idle, line, totals, leases } = this.#lending;
    const { size, ready, opening, waitingToReopen, draining, fatal } = this.#tree.counts();
    const { acquired, succeeded, failed, timedOut, rejected, shed, retried } = totals;
    const { opened, openFailed, lost, closed } = this.#tree.totals;
    // Field by field: an overload makes thousands of errors, each with these, and spread they cost many times as much.
    return {
      name: this.name,
      kind: "checkout",
      size,
      ready,
      opening,
      waitingToReopen,
      draining,
      fatal,
      ejected: 0,
      idle: idle.size,
      used: ready - idle.size,
      inFlight: leases,
      waiting: line.size,
      totals: { acquired, succeeded, failed, timedOut, rejected, shed, retried, opened, openFailed, lost, closed },
    };
  }

  snapshot(): PoolSnapshot {
    const now = this.#runtime.now();
    const leases = this.#lending.units().flatMap((unit) => {
      const { lease } = unit;
      if (lease === undefined) return [];
      const { stack } = lease;
      return [{ slot: lease.slot, ageMs: now - unit.leasedAt, ...(stack === undefined ? {} : { stack }) }];
    });
    const connections = this.#tree.snapshot(({ lease }) => (lease === undefined ? 0 : 1));
    const waiters = this.#lending.line.ages(now).map((ageMs) => ({ ageMs }));
    return { name: this.name, kind: "checkout", stats: this.stats(), connections, waiters, leases };
  }

  tree(): ProcessTree {
    return this.#tree.tree();
  }

  async resize(size: number): Promise<void> {
    checkOptions<{ size: number }>("CheckoutPool.resize", { size }, { size: required(integer(1)) });
    const lending = this.#lending;
    if (lending.phase !== "open") throw lending.closedError();
    const settings = this.#settings;
    settings.max = size;
    settings.min = Math.min(settings.min, size);
    lending.shrink();
    lending.grow();
    await this.#conditions.until(() => this.#tree.places.size <= settings.max);
  }

  async recycle(options: { readonly overMs?: number } = {}): Promise<void> {
    checkOptions("CheckoutPool.recycle", options, { overMs: duration({ zero: true }) });
    const lending = this.#lending;
    if (lending.phase !== "open") throw lending.closedError();
    const { overMs = 0 } = options;
    const { places } = this.#tree;
    const old = [...places]
      .filter((place) => !place.leaving)
      .map((place) => ({ place, unit: place.connection?.member }));
    const now = this.#runtime.now();
    for (const [at, { place }] of old.entries()) {
      // The first goes now, the last when the time is over.
      lending.retire(place, now + (overMs * at) / Math.max(old.length - 1, 1));
    }
    // One that was lost, or killed, meanwhile has its successor in the same place: that one may stay.
    const isNew = ({ place, unit }: (typeof old)[number]): boolean =>
      !places.has(place) || (!place.leaving && place.connection?.member !== unit);
    // What is idle goes by a timer that lets the program end; somebody waits for this one.
    const awake = this.#runtime.setTimer(() => undefined, overMs, { keepAlive: true });
    try {
      await this.#conditions.until(() => old.every(isNew));
    } finally {
      awake.cancel();
    }
    await this.#refilled();
  }

  close(options: { readonly timeoutMs?: number } = {}): Promise<CloseReport> {
    if (this.#closing === undefined) {
      try {
        checkOptions("CheckoutPool.close", options, { timeoutMs: duration({ zero: true, infinity: true }) });
      } catch (error) {
        return Promise.reject(error);
      }
      this.#closing = this.#close(options.timeoutMs ?? 30_000);
    }
    return this.#closing;
  }

  destroy(reason?: Error): Promise<void> {
    if (reason !== undefined && !(reason instanceof Error)) {
      return Promise.reject(new OptionError("CheckoutPool.destroy: reason", "an Error", reason));
    }
    this.#destroying ??= this.#destroy(reason);
    return this.#destroying;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Resolves when what the pool keeps open is open. */
  async #refilled(): Promise<void> {
    const lending = this.#lending;
    const refilled = this.#conditions.until(() => {
      if (this.#tree.counts().ready >= this.#settings.min) return true;
      if (lending.hopeless()) throw new OpenFailedError({ stats: this.stats(), cause: lending.lastError() });
      return false;
    }, true);
    lending.hurry();
    try {
      await refilled;
    } finally {
      lending.relax();
    }
  }

  async #acquireWith(options: AcquireOptions): Promise<Lease<R>> {
    checkOptions("CheckoutPool.acquire", options, acquireChecks);
    const lending = this.#lending;
    const { signal } = options;
    signal?.throwIfAborted();
    let lease = lending.lendNow();
    if (lease === undefined) {
      lease = await lending.wait(options);
      if (signal?.aborted) {
        // Given up between the grant and now: the next in line has it.
        lease[Symbol.dispose]();
        throw signal.reason;
      }
    }
    return lending.handle(lease);
  }

  async #start(options: CheckoutPoolOptions<R>, endpoint: Endpoint): Promise<void> {
    const { connector, backoff, maxRestarts, maxSeconds, queue } = options;
    const { openTimeoutMs, closeTimeoutMs } = this.#settings;
    const lending = new Lending<R>(
      { name: this.name, connector, runtime: this.#runtime, settings: this.#settings, queue, endpoint },
      {
        stats: () => this.stats(),
        wanted: () => Math.max(0, ...Array.from(this.#wanted, ({ min }) => min)),
        awaited: () => this.#conditions.wanted,
        changed: () => this.#conditions.look(),
      },
    );
    this.#lending = lending;
    this.#tree = await PoolTree.start<R, Unit<R>>(
      {
        name: this.name,
        connector: lending.connector,
        runtime: this.#runtime,
        backoff,
        openTimeoutMs,
        closeTimeoutMs,
        // What leaves has no lease any more, or one that ends by itself.
        drainTimeoutMs: Infinity,
        maxRestarts,
        maxSeconds,
      },
      {
        enter: (place, resource) => lending.enter(place, resource),
        joined: (unit) => lending.joined(unit),
        left: (unit) => lending.leaves(unit),
        inFlight: (unit) => lending.busy(unit),
        fail: (unit, reason) => lending.lost(unit, reason),
        capacityChanged: () => undefined,
        wanted: () => lending.line.size > 0 || this.#conditions.wanted,
        needed: (place) => lending.needed(place),
        changed: (place) => lending.changed(place),
        died: () => this.#died(),
      },
    );
    lending.open(this.#tree);
  }

  async #close(timeoutMs: number): Promise<CloseReport> {
    const lending = this.#lending;
    const runtime = this.#runtime;
    const deadline = runtime.now() + timeoutMs;
    const underWay = lending.calls;
    const before = lending.aborted;
    lending.close();
    if (!lending.atRest) {
      await new Promise<void>((resolve) => {
        const done = (): void => {
          timer.cancel();
          resolve();
        };
        const timer = runtime.setTimer(done, timeoutMs, { keepAlive: true });
        lending.onRest = done;
        this.#force = done;
      });
    }
    this.#end(lending.endError ?? lending.closedError());
    await this.#tree.stop(Math.max(deadline - runtime.now(), 0));
    const aborted = lending.aborted - before;
    return { finished: underWay - aborted, aborted };
  }

  async #destroy(reason: Error | undefined): Promise<void> {
    const lending = this.#lending;
    lending.endError = reason ?? lending.closedError();
    this.#force?.();
    this.#end(lending.endError);
    const stopped = this.#tree.stop(0);
    this.#closing ??= stopped.then(() => ({ finished: 0, aborted: lending.aborted }));
    await stopped;
  }

  #end(error: Error): void {
    this.#lending.end(error);
    this.#conditions.end(error);
  }

  /** The tree has ended. If nobody asked for it, so does the pool. */
  #died(): void {
    if (this.#lending.phase === "closed") return;
    const reason = this.#tree.process.reason as Error | string;
    if (reason !== "normal") emit("pool.died", { pool: this.name, reason });
    this.#force?.();
    this.#end(this.#lending.closedError());
  }
}

/** A checkout pool has one endpoint: an idle resource must be as good as another. */
function endpointOf(where: string, source: EndpointSource): Endpoint {
  const endpoints = Array.isArray(source) ? checkEndpoints(`${where}: connector.endpoints`, source) : [];
  const [endpoint] = endpoints;
  if (endpoint === undefined || endpoints.length > 1) {
    throw new OptionError(`${where}: connector.endpoints`, "one endpoint: a pool for each, or a RoutingPool", source);
  }
  return endpoint;
}
