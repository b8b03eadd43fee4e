/**
 * A routing pool: many callers share a few resources, and each request is routed to one of them.
 *
 * For what multiplexes: HTTP/2, Redis, gRPC, any protocol with request ids. Not for what one caller must have to
 * itself (a transaction, a worker that does one thing at a time): that is a checkout pool.
 *
 *     use(work) ─▶ strategy picks among the members with room ─▶ work(resource) ─▶ released when it has answered
 *                  └ none has: in line, first come, first served
 *
 * Membership, readiness, load and choice are four parts. Which places there are is decided here (endpoints × size);
 * connections fill them and register while they can serve (pool/tree.ts); the registry's events are the membership;
 * traffic.ts counts and admits; the strategy chooses.
 */

import {
  type Connector,
  checkConnector,
  checkEndpoints,
  type Endpoint,
  endpointsCheck,
  type EndpointSource,
  type ConnectionState,
} from "../connection/index.ts";
import { AcquireTimeoutError, ConnectionLostError, OptionError } from "../errors.ts";
import {
  type Checks,
  callback,
  checkOptions,
  duration,
  either,
  fraction,
  having,
  integer,
  literal,
  nested,
  required,
  runtimeCheck,
  signal as signalCheck,
  text,
} from "../options.ts";
import {
  checkUse,
  type CloseReport,
  Conditions,
  noOptions,
  type Place,
  type Pool,
  type PoolSnapshot,
  PoolTree,
  type ProcessTree,
  type QueueOptions,
  queueCheck,
  type ReadyOptions,
  stateOf,
  type UseOptions,
  type Work,
} from "../pool/index.ts";
import type { ExitReason, Process } from "../process/index.ts";
import { type BackoffOptions, backoffCheck, type Runtime, systemRuntime } from "../runtime/index.ts";
import type { ChildSpec } from "../supervisor/index.ts";
import { emit, type PoolStats } from "../telemetry/index.ts";
import { attemptsOn } from "./attempt.ts";
import { Call, UseCaller } from "./call.ts";
import { EndpointFollower, isFixed } from "./endpoints.ts";
import { type BreakerOptions, breakerCheck, breakerDefaults } from "./health.ts";
import { hedgeCheck, type HedgeOptions } from "./hedging.ts";
import { leastUsed } from "./strategies/index.ts";
import { PoolMember } from "./member.ts";
import { type Member, type RouteRequest, type StrategyLike, strategyOf } from "./strategy.ts";
import { anyone, Traffic } from "./traffic.ts";
import { Watch } from "./watch.ts";

export interface RoutingPoolOptions<R> {
  readonly connector: Connector<R>;
  /** Connections per endpoint. @default 10 */
  readonly size?: number;
  /** Where to. @default the connector's own */
  readonly endpoints?: EndpointSource;
  /** @default leastUsed() */
  readonly strategy?: StrategyLike<NoInfer<R>>;
  /** The line of callers while every member is full or away. */
  readonly queue?: QueueOptions;
  readonly retry?: RetryOptions;
  /** When a member that fails is left alone, and for how long; `false`: never. */
  readonly breaker?: BreakerOptions | false;
  /**
   * How long a member that joins, or was restored, may have only a growing share of what the others have in flight. Not
   * in the first such time of the pool itself. 0: not at all. @default 10_000
   */
  readonly slowStartMs?: number;
  /** A second copy of what takes long and is `idempotent`, sent to another member. @default off */
  readonly hedge?: HedgeOptions;
  /**
   * How long a member may have requests and answer none before the connector's `check` is called, and it is replaced
   * when that fails. `Infinity`: never; without a `check`, never either. @default 10_000
   */
  readonly stallMs?: number;
  /** @default 5_000 */
  readonly checkTimeoutMs?: number;
  /** A member with so many requests whose callers have given up, and no answer to them, is replaced. @default 256 */
  readonly maxOrphans?: number;
  /** Between attempts to open. @default random-exponential, 1_000 to 30_000 ms */
  readonly backoff?: BackoffOptions;
  /** How long an attempt to open may take. @default 10_000 */
  readonly openTimeoutMs?: number;
  /**
   * How long a connection that leaves may take to finish what is in flight. One that a supervisor ends, because the registry
   * or the tree has died, has a child's 5_000 at the most. @default 30_000
   */
  readonly drainTimeoutMs?: number;
  /** Of the pool's supervisors. @default 3 */
  readonly maxRestarts?: number;
  /** @default 5 */
  readonly maxSeconds?: number;
  readonly name?: string;
  readonly runtime?: Runtime;
}

export interface RetryOptions {
  /** Tries a request has in all. @default 3 */
  readonly attempts?: number;
  /** Retries of what may have been sent, as a fraction of the last 10 s of traffic; never less than 10 a second. @default 0.1 */
  readonly budget?: number;
}

/** One request's hold on a member, for those who end it by themselves. Settle it once; disposing settles it as ok. */
export interface Route<R> extends Disposable {
  readonly resource: R;
  readonly member: Member<R>;
  settle(outcome?: { readonly error?: unknown }): void;
}

/** A connection as the pool shows it; `since` is `runtime.now()`. */
export interface MemberInfo {
  readonly slot: number;
  readonly endpoint: Endpoint;
  readonly state: ConnectionState;
  readonly since: number;
  readonly inFlight: number;
  readonly capacity: number;
  readonly weight: number;
  readonly ejected: boolean;
}

const retryChecks: Checks<RetryOptions> = { attempts: integer(1), budget: fraction() };

/** The rows for everything but the connector: pools made for one protocol have these too. */
export const routingChecks: Checks<Omit<RoutingPoolOptions<never>, "connector">> = {
  size: integer(1),
  endpoints: endpointsCheck,
  strategy: either(callback(), having("pick")),
  queue: queueCheck,
  retry: nested(retryChecks),
  breaker: either(literal(false), breakerCheck),
  slowStartMs: duration({ zero: true }),
  hedge: hedgeCheck,
  stallMs: duration({ infinity: true }),
  checkTimeoutMs: duration(),
  maxOrphans: integer(1),
  backoff: backoffCheck,
  openTimeoutMs: duration(),
  drainTimeoutMs: duration({ zero: true }),
  maxRestarts: integer(0),
  maxSeconds: integer(1),
  name: text(),
  runtime: runtimeCheck,
};

/** How long a connector's `close` is waited for. */
const closeTimeoutMs = 5_000;

let made = 0;

export class RoutingPool<R> implements Pool<R> {
  readonly name: string;
  /** What carries requests; for pools of one protocol that route without `use`. @internal */
  readonly traffic: Traffic<R>;
  readonly #runtime: Runtime;
  #tree!: PoolTree<R, PoolMember<R>>;
  #endpoints: Endpoint[];
  #size: number;
  readonly #conditions: Conditions;
  /** For each loss a moment ago: tells those whose works have not said what they make of it. */
  readonly #losses = new Set<(error?: Error) => void>();
  #closing: Promise<CloseReport> | undefined;
  #destroying: Promise<void> | undefined;
  #force: (() => void) | undefined;
  /** What `destroy` was called with. */
  #endReason: Error | undefined;
  #follower: EndpointFollower | undefined;
  #watch: Watch<R> | undefined;

  /**
   * Starts the pool and resolves when its tree is up, connected or not: `ready()` waits for connections.
   *
   * @throws {OptionError} before anything has started.
   */
  static async start<R>(options: RoutingPoolOptions<R>): Promise<RoutingPool<R>> {
    return RoutingPool.startAs("RoutingPool.start", (from) => new RoutingPool<R>(from), options);
  }

  /** The same for a pool of one protocol. @internal */
  static async startAs<R, P extends RoutingPool<R>>(
    where: string,
    make: (from: PoolParts<R>) => P,
    options: RoutingPoolOptions<R>,
  ): Promise<P> {
    checkOptions(where, options, { connector: required(having("open")), ...routingChecks } as Checks<
      RoutingPoolOptions<R>
    >);
    checkConnector(where, options.connector as Connector<never>);
    const { connector, name = `${connector.name} pool ${++made}` } = options;
    const source = options.endpoints ?? connector.endpoints ?? [{ id: connector.name }];
    const endpoints = isFixed(source) ? checkEndpoints(`${where}: endpoints`, source) : [];
    const pool = make({ name, options, endpoints });
    await pool.#start(options, source);
    return pool;
  }

  /** For the user's own supervisor. The pool closes what it has when it is shut down. */
  static childSpec<R>(options: RoutingPoolOptions<R>): ChildSpec {
    const id = options?.name ?? options?.connector?.name ?? "pool"; // `start` says what is wrong with them.
    return { id, type: "supervisor", start: () => RoutingPool.start(options) };
  }

  /** @internal */
  constructor({ name, options, endpoints }: PoolParts<R>) {
    this.name = name;
    this.#runtime = options.runtime ?? systemRuntime;
    this.#conditions = new Conditions(this.#runtime);
    this.#endpoints = endpoints;
    this.#size = options.size ?? 10;
    this.traffic = new Traffic<R>(
      {
        name,
        connector: options.connector,
        runtime: this.#runtime,
        strategy: strategyOf("RoutingPool.start", options.strategy ?? leastUsed(), this.#runtime),
        queue: options.queue,
        attempts: options.retry?.attempts ?? 3,
        budget: options.retry?.budget ?? 0.1,
        breaker: options.breaker !== false && { ...breakerDefaults, ...options.breaker },
        slowStartMs: options.slowStartMs ?? 10_000,
        hedge: options.hedge,
        maxOrphans: options.maxOrphans ?? 256,
      },
      {
        stats: () => this.stats(),
        lastError: () => this.#tree.lastError(),
        hopeless: () => this.#hopeless(),
        nudge: () => this.#tree.nudge(),
        places: () => this.#places,
        overrun: (member) => this.#overrun(member),
      },
    );
  }

  get process(): Process {
    return this.#tree.process;
  }

  use<T>(work: Work<R, T>, options: UseOptions = noOptions): Promise<T> {
    try {
      checkUse("RoutingPool.use", work, options);
    } catch (error) {
      return Promise.reject(error);
    }
    const caller = new UseCaller(work, options.idempotent === true);
    new Call(this.traffic, caller, options).begin();
    return caller.promise;
  }

  /**
   * Chooses a member at once, for a caller that says itself when its request is over. Counts as in flight until then.
   *
   * @throws {NoMemberError} nobody is connected; {BusyError} nobody has room; {OpenFailedError}; {ClosedError}.
   */
  pick(request: RouteRequest = anyone): Route<R> {
    const { traffic } = this;
    if (traffic.phase !== "open") {
      traffic.totals.rejected++;
      throw traffic.closedError();
    }
    const member = traffic.admit(request, traffic.now());
    if (member === undefined) {
      traffic.totals.rejected++;
      const error = traffic.unavailable();
      if (error.code === "ERR_POOL_NO_MEMBER") this.#tree.nudge();
      throw error;
    }
    return new PickedRoute(traffic, member);
  }

  /** Every connection, whatever its state. O(connections). */
  members(): readonly MemberInfo[] {
    return [...this.#tree.places].map((place) => {
      const member = place.connection?.member;
      return {
        slot: place.slot,
        endpoint: place.endpoint,
        state: stateOf(place),
        since: place.connection?.since ?? 0,
        inFlight: member?.inFlight ?? 0,
        capacity: member?.capacity ?? 0,
        weight: place.endpoint.weight ?? 1,
        ejected: member !== undefined && this.traffic.roster.isEjected(member),
      };
    });
  }

  /**
   * Runs `work` on every member that is ready, the full ones too, and resolves with what became of each, in the order of
   * their slots. One that fails takes no other along. Nothing is retried.
   */
  async broadcast<T>(work: (resource: R) => T | Promise<T>): Promise<PromiseSettledResult<T>[]> {
    checkUse("RoutingPool.broadcast", work, noOptions);
    if (this.traffic.phase !== "open") throw this.traffic.closedError();
    const members = this.#members().filter((member) => member.registered);
    members.sort((a, b) => a.slot - b.slot);
    const calls = members.map((member) => {
      const caller = new UseCaller(work, false);
      new Call(this.traffic, caller, noOptions).beginOn(member);
      return caller.promise;
    });
    return Promise.allSettled(calls);
  }

  async ready(options: ReadyOptions = {}): Promise<void> {
    checkOptions("RoutingPool.ready", options, {
      min: integer(1),
      signal: signalCheck(),
      timeoutMs: duration({ zero: true, infinity: true }),
    });
    const { min = 1, signal, timeoutMs = 30_000 } = options;
    signal?.throwIfAborted();
    if (this.traffic.phase !== "open") throw this.traffic.closedError();
    if (this.#tree.counts().ready >= min) return;
    this.#tree.nudge();
    const startedAt = this.#runtime.now();
    const test = (): boolean => {
      if (!this.#hopeless(min)) return this.#tree.counts().ready >= min;
      throw this.traffic.openFailedError(this.#runtime.now() - startedAt);
    };
    const late = (waitedMs: number): Error =>
      new AcquireTimeoutError("open", { stats: this.stats(), waitedMs, cause: this.#tree.lastError() });
    await this.#conditions.wait(test, { timeoutMs, signal, late });
  }

  stats(): PoolStats {
    const counts = this.#tree.counts();
    const members = this.#members();
    const used = members.filter((member) => member.registered && member.inFlight > 0).length;
    const inFlight = members.reduce((sum, member) => sum + member.inFlight, 0);
    const { opened, openFailed, lost, closed } = this.#tree.totals;
    return {
      name: this.name,
      kind: "routing",
      ...counts,
      ejected: this.traffic.roster.ejected,
      idle: counts.ready - used,
      used,
      inFlight,
      waiting: this.traffic.line.size,
      totals: { ...this.traffic.totals, opened, openFailed, lost, closed },
    };
  }

  snapshot(): PoolSnapshot {
    const connections = this.#tree.snapshot(({ inFlight }) => inFlight);
    const waiters = this.traffic.line.ages(this.#runtime.now()).map((ageMs) => ({ ageMs }));
    return { name: this.name, kind: "routing", stats: this.stats(), connections, waiters, leases: [] };
  }

  tree(): ProcessTree {
    return this.#tree.tree();
  }

  async resize(size: number): Promise<void> {
    checkOptions<{ size: number }>("RoutingPool.resize", { size }, { size: required(integer(0)) });
    if (this.traffic.phase !== "open") throw this.traffic.closedError();
    this.#size = size;
    const { removed, added } = this.#reconcile();
    await this.#conditions.until(
      () =>
        removed.every((place) => !this.#tree.places.has(place)) &&
        added.every((place) => place.connection !== undefined || place.leaving),
    );
  }

  async recycle(options: { readonly overMs?: number } = {}): Promise<void> {
    checkOptions("RoutingPool.recycle", options, { overMs: duration({ zero: true }) });
    if (this.traffic.phase !== "open") throw this.traffic.closedError();
    const { overMs = 0 } = options;
    const old = [...this.#tree.places].filter((place) => !place.vacated);
    const startedAt = this.#runtime.now();
    for (const [at, place] of old.entries()) {
      if (!place.vacated) await this.#replace(place);
      const pauseMs = startedAt + ((at + 1) * overMs) / old.length - this.#runtime.now();
      if (pauseMs > 0 && at < old.length - 1) await this.#conditions.pause(pauseMs);
    }
    await this.#conditions.until(() => old.every((place) => !this.#tree.places.has(place)));
  }

  close(options: { readonly timeoutMs?: number } = {}): Promise<CloseReport> {
    if (this.#closing === undefined) {
      try {
        checkOptions("RoutingPool.close", options, { timeoutMs: duration({ zero: true, infinity: true }) });
      } catch (error) {
        return Promise.reject(error);
      }
      this.#closing = this.#close(options.timeoutMs ?? 30_000);
    }
    return this.#closing;
  }

  destroy(reason?: Error): Promise<void> {
    if (reason !== undefined && !(reason instanceof Error)) {
      return Promise.reject(new OptionError("RoutingPool.destroy: reason", "an Error", reason));
    }
    this.#destroying ??= this.#destroy(reason);
    return this.#destroying;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #start(options: RoutingPoolOptions<R>, source: EndpointSource): Promise<void> {
    const { connector, backoff, openTimeoutMs = 10_000, drainTimeoutMs = 30_000, maxRestarts, maxSeconds } = options;
    this.#tree = await PoolTree.start<R, PoolMember<R>>(
      {
        name: this.name,
        connector,
        runtime: this.#runtime,
        backoff,
        openTimeoutMs,
        closeTimeoutMs,
        drainTimeoutMs,
        maxRestarts,
        maxSeconds,
      },
      {
        enter: (place, resource) => new PoolMember<R>(place, resource),
        joined: (member) => this.traffic.joined(member),
        left: (member) => this.traffic.left(member),
        inFlight: (member) => member.inFlight,
        fail: (member, reason) => this.#lost(member, reason),
        capacityChanged: (member) => this.traffic.readCapacity(member),
        wanted: () => this.#wanted(),
        needed: () => true,
        changed: (place) => this.#changed(place),
        died: (reason) => this.#died(reason),
      },
    );
    this.#watch = new Watch<R>({
      connector,
      runtime: this.#runtime,
      stallMs: options.stallMs ?? 10_000,
      checkTimeoutMs: options.checkTimeoutMs ?? 5_000,
      members: () => this.#members(),
      awaited: () => this.traffic.calls > 0,
      inContext: this.#tree.inContext,
      dead: (member, error) => {
        this.#tellReplaced(member, "stalled", error);
        member.place.connection?.lose(error);
      },
    });
    this.traffic.onBusy = () => this.#watch?.begin();
    if (isFixed(source)) this.#reconcile();
    else {
      this.#follower = new EndpointFollower(this.name, source, this.#runtime, (endpoints) => {
        this.#endpoints = endpoints;
        this.#reconcile();
      });
      void this.#follower.follow();
    }
  }

  /** Makes the places what they should be: `size` at each endpoint, none elsewhere. */
  #reconcile(gone?: Place<R, PoolMember<R>>): {
    removed: Place<R, PoolMember<R>>[];
    added: Place<R, PoolMember<R>>[];
  } {
    const removed: Place<R, PoolMember<R>>[] = [];
    const added: Place<R, PoolMember<R>>[] = [];
    const wanted = new Map(this.#endpoints.map((endpoint) => [endpoint.id, this.#size]));
    const staying = [...this.#tree.places].filter((place) => !place.vacated);
    // Those that serve stay before those that do not; the newest go first.
    for (const place of [...staying.filter(isReady), ...staying.filter((place) => !isReady(place))]) {
      const room = wanted.get(place.endpoint.id) ?? 0;
      if (room > 0) wanted.set(place.endpoint.id, room - 1);
      else removed.push(place);
    }
    for (const place of removed) this.#tree.leave(place);
    // The first at each endpoint, then the second: all are known soonest, and who takes turns does so between endpoints.
    const lacks = ({ id }: Endpoint): boolean => (wanted.get(id) ?? 0) > 0;
    for (let short = this.#endpoints.filter(lacks); short.length > 0; short = short.filter(lacks)) {
      for (const endpoint of short) {
        const predecessor = endpoint.id === gone?.endpoint.id ? gone : undefined;
        added.push(this.#tree.add(endpoint, predecessor && this.#tree.succeeding(predecessor)));
        wanted.set(endpoint.id, (wanted.get(endpoint.id) ?? 0) - 1);
      }
    }
    return { removed, added };
  }

  /**
   * A successor takes the slot. One that serves goes on until its successor does, so that nobody finds the pool empty;
   * one that does not goes at once, and its successor is waited for until it serves or has failed to.
   */
  async #replace(place: Place<R, PoolMember<R>>): Promise<void> {
    this.#tree.vacate(place);
    place.successors = this.#reconcile().added;
    const served = (): boolean => heirsOf(place).every((heir) => heir.served);
    await this.#conditions.until(() => served() || !isReady(place));
    this.#tree.leave(place);
    await this.#conditions.until(() => served() || heirsOf(place).some(hasFailed));
  }

  /** Too many of its requests are nobody's: it finishes them, if it can, and somebody else takes its place. */
  #overrun(member: PoolMember<R>): void {
    const { place } = member;
    if (place.vacated || this.traffic.phase !== "open") return;
    this.#tellReplaced(member, "orphans", undefined);
    // It rejects only when the pool ends first, and whoever ends it hears of that.
    this.#replace(place).catch(() => undefined);
  }

  #tellReplaced(member: PoolMember<R>, reason: "stalled" | "orphans", error: Error | undefined): void {
    const { slot, inFlight, endpoint } = member;
    emit("member.replaced", {
      pool: this.name,
      connection: `connection ${slot}`,
      endpoint: endpoint.id,
      reason,
      inFlight,
      error,
    });
  }

  #changed(place: Place<R, PoolMember<R>>): void {
    // The server asked it to go (GOAWAY): somebody else takes its place while it finishes.
    if (place.leaving && this.traffic.phase !== "closed" && this.#tree.process.alive) {
      place.successors.push(...this.#reconcile(place).added);
    }
    if (this.traffic.line.size > 0 && this.#hopeless()) {
      this.traffic.refuseAll((waitedMs) => this.traffic.openFailedError(waitedMs));
    }
    this.#conditions.look();
  }

  #lost(member: PoolMember<R>, reason: Error | undefined): void {
    const error = new ConnectionLostError(
      `pool "${this.name}": the connection in slot ${member.slot} was lost under this work. ` +
        `It may have been done: repeat it only if that does no harm (idempotent: true lets the pool do so).`,
      { sent: "maybe", cause: reason, stats: this.stats() },
    );
    const attempts = attemptsOn(member);
    this.traffic.lose(member, error);
    for (const attempt of attempts) attempt.lostUnder(error);
    const left = attempts.filter(({ call }) => !call.settled);
    if (left.length === 0) return;
    // The works know better what happened to them, if they notice: they have one tick to say so.
    const tell = (ended?: Error): void => {
      timer.cancel();
      this.#losses.delete(tell);
      for (const attempt of left) {
        if (ended === undefined) attempt.failIfStill(error);
        else attempt.call.aborted(ended);
      }
    };
    const timer = this.#runtime.setTimer(() => tell(), 0, { keepAlive: true });
    this.#losses.add(tell);
  }

  async #close(timeoutMs: number): Promise<CloseReport> {
    const { traffic } = this;
    const runtime = this.#runtime;
    const deadline = runtime.now() + timeoutMs;
    const underWay = traffic.calls;
    if (traffic.phase === "open") traffic.phase = "closing";
    let aborted = 0;
    if (underWay > 0) {
      aborted = await new Promise<number>((resolve) => {
        const done = (): void => {
          timer.cancel();
          resolve(traffic.calls);
        };
        const timer = runtime.setTimer(done, timeoutMs, { keepAlive: true });
        traffic.onIdle = done;
        this.#force = done;
      });
    }
    this.#endCalls(traffic.endError ?? traffic.closedError());
    await this.#tree.stop(Math.max(deadline - runtime.now(), 0));
    return { finished: underWay - aborted, aborted };
  }

  async #destroy(reason: Error | undefined): Promise<void> {
    const { traffic } = this;
    const aborted = traffic.calls;
    this.#endReason = reason;
    traffic.endError = reason ?? traffic.closedError();
    this.#force?.();
    this.#endCalls(traffic.endError);
    const stopped = this.#tree.stop(0);
    this.#closing ??= stopped.then(() => ({ finished: 0, aborted }));
    await stopped;
  }

  #endCalls(error: Error): void {
    this.#end(error);
    for (const tell of this.#losses) tell(error);
  }

  /** Nothing goes on from here: whoever still waits or works is told so. */
  #end(error: Error): void {
    const { traffic } = this;
    traffic.phase = "closed";
    traffic.endError ??= error;
    traffic.refuseAll((waitedMs) => this.#endReason ?? traffic.closedError(waitedMs));
    for (const member of this.#members()) for (const { call } of attemptsOn(member)) call.aborted(error);
    traffic.roster.close();
    this.#watch?.close();
    this.#conditions.end(error);
    this.#follower?.stop();
  }

  /** The tree has ended. If nobody asked for it (its restarts were used up, or somebody stopped it), so does the pool. */
  #died(reason: ExitReason): void {
    if (this.traffic.phase === "closed") return;
    emit("pool.died", { pool: this.name, reason });
    this.#force?.();
    this.#end(this.traffic.closedError());
  }

  /** Whether a caller waits for a connection. */
  #wanted(): boolean {
    return this.traffic.line.size > 0 || this.#conditions.wanted;
  }

  /** Whether there will never be `min` connections: too many have failed for good. */
  #hopeless(min: number = 1): boolean {
    const { size, fatal, draining } = this.#tree.counts();
    return fatal > 0 && size - fatal - draining < min;
  }

  /** Connections the pool should have, up or not. */
  get #places(): number {
    return this.#size * this.#endpoints.length;
  }

  #members(): PoolMember<R>[] {
    const members: PoolMember<R>[] = [];
    for (const place of this.#tree.places)
      if (place.connection?.member !== undefined) members.push(place.connection.member);
    return members;
  }
}

/** What a pool is made of. */
export interface PoolParts<R> {
  readonly name: string;
  readonly options: RoutingPoolOptions<R>;
  readonly endpoints: Endpoint[];
}

class PickedRoute<R> implements Route<R> {
  readonly member: PoolMember<R>;
  readonly #traffic: Traffic<R>;
  readonly #startedAt: number;
  #settled = false;

  constructor(traffic: Traffic<R>, member: PoolMember<R>) {
    this.#traffic = traffic;
    this.member = member;
    this.#startedAt = traffic.runtime.now();
    traffic.begin(this.#startedAt);
  }

  get resource(): R {
    return this.member.resource;
  }

  settle(outcome: { readonly error?: unknown } = {}): void {
    if (this.#settled) return;
    this.#settled = true;
    const traffic = this.#traffic;
    const failed = "error" in outcome && outcome.error !== undefined;
    if (failed) traffic.totals.failed++;
    else traffic.totals.succeeded++;
    traffic.release(this.member, this.#startedAt, !failed || !traffic.isFailure(outcome.error), outcome.error);
    traffic.end();
  }

  [Symbol.dispose](): void {
    this.settle();
  }
}

function isReady<R>(place: Place<R, PoolMember<R>>): boolean {
  return stateOf(place) === "ready";
}

/** Who stands where this one stood: its successors, or theirs. Nobody, when it has none or they are not wanted any more. */
function heirsOf<R>(place: Place<R, PoolMember<R>>): Place<R, PoolMember<R>>[] {
  return place.successors.flatMap((successor) => (successor.leaving ? heirsOf(successor) : [successor]));
}

/** It has tried to open a connection and not succeeded, so that waiting for it could take long. */
function hasFailed<R>(place: Place<R, PoolMember<R>>): boolean {
  return place.memory.failures > 0 || stateOf(place) === "fatal";
}
