/**
 * Who gets what, now: members with room, the line of callers, the strategy, and the counting between them.
 *
 * A request is admitted to a member, or waits in line; it is released when the resource has really answered, however
 * long ago its caller may have given up. That is the whole traffic, and everything here is synchronous. Callers wait
 * only while no member has room, because whoever makes room serves the line in the same step: so nobody overtakes.
 *
 * What carries a request (`Ticket`) is somebody else's: `use` has one (call.ts), and so has a protocol that wants to go
 * without a promise of ours (fanta/pool.ts).
 */

import type { Connector } from "../connection/index.ts";
import {
  AcquireTimeoutError,
  asError,
  BusyError,
  ClosedError,
  NoMemberError,
  OpenFailedError,
  OptionError,
  QueueFullError,
  ShedError,
} from "../errors.ts";
import { Line, type QueueOptions, Waiter } from "../pool/index.ts";
import { Deadlines, type Runtime } from "../runtime/index.ts";
import { emit, type PoolStats } from "../telemetry/index.ts";
import { RetryBudget } from "./budget.ts";
import type { HedgeTimer } from "./call.ts";
import type { BreakerOptions } from "./health.ts";
import { type HedgeOptions, Hedging } from "./hedging.ts";
import type { PoolMember } from "./member.ts";
import { Roster } from "./roster.ts";
import type { Outcome, RouteRequest, Strategy } from "./strategy.ts";

/** One who waits for a member. Exactly one of the two is called, once. */
export abstract class Ticket<R> extends Waiter {
  readonly traffic: Traffic<R>;
  /** Members it has been on already: others are preferred. */
  tried: PoolMember<R>[] | undefined = undefined;
  /** What its last attempt ended in. That is the answer when nobody is to be had for another: it may have been done. */
  lastError: unknown = undefined;
  request: RouteRequest = anyone;

  constructor(traffic: Traffic<R>) {
    super();
    this.traffic = traffic;
  }

  /** It has been admitted to this member, and must be released. Must not throw, and must not run a caller's code. */
  abstract granted(member: PoolMember<R>): void;
  abstract refused(error: unknown): void;

  override expired(): void {
    this.traffic.timedOut(this);
  }

  override shed(targetMs: number): void {
    this.traffic.shed(this, targetMs);
  }
}

/** What the traffic asks of its pool. */
export interface TrafficOwner<R> {
  stats(): PoolStats;
  /** The last failure to open a connection. */
  lastError(): Error | undefined;
  /** Whether no connection will ever come: all have failed for good. */
  hopeless(): boolean;
  /** A caller waits for a connection. */
  nudge(): void;
  /** Connections the pool should have, up or not. */
  places(): number;
  /** A member has too many requests that nobody waits for. */
  overrun(member: PoolMember<R>): void;
}

export interface TrafficOptions<R> {
  readonly name: string;
  readonly connector: Connector<R>;
  readonly runtime: Runtime;
  readonly strategy: Strategy<R>;
  readonly queue: QueueOptions | undefined;
  readonly attempts: number;
  readonly budget: number;
  readonly breaker: Required<BreakerOptions> | false;
  readonly slowStartMs: number;
  readonly hedge: HedgeOptions | undefined;
  /** Requests nobody waits for that a member may have. */
  readonly maxOrphans: number;
}

const done: Promise<void> = Promise.resolve();

export const anyone: RouteRequest = Object.freeze({});

type Phase = "open" | "closing" | "closed";

interface Totals {
  acquired: number;
  succeeded: number;
  failed: number;
  timedOut: number;
  rejected: number;
  shed: number;
  retried: number;
}

export class Traffic<R> {
  readonly name: string;
  readonly runtime: Runtime;
  /** Tries a request has in all. */
  readonly attempts: number;
  readonly totals: Totals = { acquired: 0, succeeded: 0, failed: 0, timedOut: 0, rejected: 0, shed: 0, retried: 0 };
  /** Calls made and not settled, in line or at work. */
  calls = 0;
  phase: Phase = "open";
  /** What those get who wait or work when the pool is destroyed. */
  endError: Error | undefined = undefined;
  /** Called when the first call has begun. */
  onBusy: (() => void) | undefined = undefined;
  /** Called when the last call has settled. */
  onIdle: (() => void) | undefined = undefined;
  readonly line: Line<Ticket<R>>;
  readonly roster: Roster<R>;
  /** Whether copies are sent, and when. */
  readonly hedging: Hedging | undefined;
  readonly hedgeTimers: Deadlines<HedgeTimer>;
  readonly #strategy: Strategy<R>;
  readonly #connector: Connector<R>;
  readonly #owner: TrafficOwner<R>;
  readonly #budget: RetryBudget;
  readonly #maxOrphans: number;
  /** An array of one, since a number with a fraction in a field would be allocated each time it is set. */
  readonly #clock = new Float64Array(1);
  #nowIsKnown = false;
  readonly #forgetNow = (): void => {
    this.#nowIsKnown = false;
  };
  readonly #outcome = { ok: true, durationMs: 0, error: undefined as unknown, endedAt: 0 };

  constructor(options: TrafficOptions<R>, owner: TrafficOwner<R>) {
    const { name, runtime, breaker, slowStartMs, hedge } = options;
    this.name = name;
    this.runtime = runtime;
    this.attempts = options.attempts;
    this.line = new Line(runtime, options.queue);
    this.roster = new Roster<R>(
      { pool: name, runtime, breaker, slowStartMs },
      { roomMade: () => this.#serveLine(), places: () => owner.places() },
    );
    this.hedging = hedge === undefined ? undefined : new Hedging(hedge, runtime.now());
    this.hedgeTimers = new Deadlines<HedgeTimer>(runtime, (timer) => timer.due(), { keepAlive: false });
    this.#strategy = options.strategy;
    this.#connector = options.connector;
    this.#budget = new RetryBudget(options.budget, runtime.now());
    this.#maxOrphans = options.maxOrphans;
    this.#owner = owner;
  }

  /**
   * The time, read once for all that happens in one go: until the promise callbacks now waiting to run have run. On some
   * machines reading the clock costs as much as routing a request. For latencies and budgets; whoever waits for a
   * deadline reads the clock itself, for this one may be early by as long as those callbacks take.
   */
  now(): number {
    if (!this.#nowIsKnown) {
      this.#nowIsKnown = true;
      this.#clock[0] = this.runtime.now();
      void done.then(this.#forgetNow); // Node's queueMicrotask would do, at five times the cost.
    }
    return this.#clock[0] as number;
  }

  /** A call begins. */
  begin(now: number): void {
    if (this.calls++ === 0) this.onBusy?.();
    this.#budget.deposit(now);
  }

  /** A call has settled. */
  end(): void {
    if (--this.calls === 0) this.onIdle?.();
  }

  /** Admits a request to a member at once, or not at all. */
  admit(request: RouteRequest, now: number): PoolMember<R> | undefined {
    const { roster } = this;
    const { available } = roster;
    let member: PoolMember<R> | undefined;
    if (roster.probeDue) member = roster.takeProbe(now);
    if (member === undefined) member = available.length > 0 ? this.#pick(available, request) : roster.takeHeldBack();
    if (member !== undefined) this.#start(member);
    return member;
  }

  /** The same for one that has been elsewhere: on another endpoint if it can be, else on another member. It is no probe. */
  admitElsewhere(ticket: Ticket<R>): PoolMember<R> | undefined {
    const others = this.#elsewhere(ticket.tried ?? []);
    if (others.length === 0) return this.admit(ticket.request, this.runtime.now());
    const member = this.#pick(others, ticket.request);
    this.#start(member);
    return member;
  }

  /** The same for the copy of a request that is at work: elsewhere or nowhere, and the budget must bear it. */
  admitCopy(ticket: Ticket<R>, afterMs: number): PoolMember<R> | undefined {
    const others = this.#elsewhere(ticket.tried ?? []);
    if (others.length === 0 || this.phase === "closed" || !this.#budget.withdraw(this.runtime.now())) return undefined;
    this.totals.retried++;
    emit("pool.hedged", { pool: this.name, afterMs });
    const member = this.#pick(others, ticket.request);
    this.#start(member);
    return member;
  }

  /** Admits a request to this very member, full or not: for `broadcast`. */
  admitTo(member: PoolMember<R>): void {
    this.#start(member);
  }

  /**
   * Joins the line, or is refused in this very call.
   *
   * @param again It was admitted before: then it is before everyone who was not, and the limit is not for it.
   */
  wait(ticket: Ticket<R>, waitMs: number, again: boolean = false): void {
    const error = this.#whyNot(ticket, waitMs, again);
    if (error !== undefined) {
      this.#refuse(ticket, error, 0);
      return;
    }
    emit("pool.queued", { pool: this.name, waiting: this.line.size });
    // Whoever comes to wait for its backoff from now on knows that callers wait.
    if (this.line.size === 1) this.#owner.nudge();
  }

  /** Leaves the line without having been served: the caller gave up. */
  leave(ticket: Ticket<R>): void {
    if (!ticket.waiting) return;
    this.line.leave(ticket);
    this.#tellRefused("ABORTED", this.runtime.now() - ticket.joinedAt);
  }

  timedOut(ticket: Ticket<R>): void {
    this.totals.timedOut++;
    const waitedMs = this.runtime.now() - ticket.joinedAt;
    const stats = this.#owner.stats();
    const open = this.roster.registered === 0;
    const error = new AcquireTimeoutError(open ? "open" : "queue", {
      stats,
      waitedMs,
      cause: open ? this.#owner.lastError() : undefined,
    });
    this.#answer(ticket, error, waitedMs);
  }

  shed(ticket: Ticket<R>, targetMs: number): void {
    this.totals.shed++;
    const waitedMs = this.runtime.now() - ticket.joinedAt;
    this.#answer(ticket, new ShedError(targetMs, { stats: this.#owner.stats(), waitedMs }), waitedMs);
  }

  /**
   * The resource has answered, or the work on it has ended otherwise. Not called for what was in flight on a resource
   * that was lost: the loss has settled it.
   */
  release(member: PoolMember<R>, startedAt: number, ok: boolean, error: unknown): void {
    if (member.lost) return;
    member.answered++;
    this.roster.gave(member);
    this.#judge(member, startedAt, ok, error);
    this.#freed(member);
  }

  /** What became of a request is known, though its member still works on it: the rest is `releaseJudged`. */
  judge(member: PoolMember<R>, startedAt: number, ok: boolean, error: unknown): void {
    if (member.lost) return;
    member.judged++;
    this.#judge(member, startedAt, ok, error);
  }

  releaseJudged(member: PoolMember<R>): void {
    if (member.lost) return;
    member.judged--;
    member.answered++;
    this.roster.gave(member);
    this.#freed(member);
  }

  /** A grant that was never used: it says nothing of the member. */
  giveBack(member: PoolMember<R>, now: number): void {
    if (member.lost) return;
    this.roster.gave(member);
    this.#finished(member, now, now, true, undefined);
    this.roster.forgotten(member, now);
    this.#freed(member);
  }

  /** Nobody waits for a request any more that its member still works on. */
  orphaned(member: PoolMember<R>, startedAt: number): void {
    if (member.lost) return;
    this.roster.forgotten(member, startedAt);
    if (++member.orphans === this.#maxOrphans) this.#owner.overrun(member);
  }

  /** Whether what a work rejected with speaks against the resource. */
  isFailure(error: unknown): boolean {
    if (this.#connector.isFailure === undefined) return true;
    try {
      const verdict: unknown = this.#connector.isFailure(error);
      this.#listenTo("isFailure", verdict);
      return verdict !== false;
    } catch (thrown) {
      this.#callbackFailed("isFailure", thrown);
      return true;
    }
  }

  /** Whether a request that was lost with its resource, on its `attempt`, may be made again; if so it is counted. */
  mayRetry(error: unknown, sent: "no" | "maybe" | undefined, attempt: number, idempotent: boolean): boolean {
    if (sent === undefined || this.phase === "closed" || attempt >= this.attempts) return false;
    if (sent === "maybe" && !(idempotent && this.#budget.withdraw(this.runtime.now()))) return false;
    this.totals.retried++;
    emit("pool.retried", { pool: this.name, attempt, error: asError(error) });
    return true;
  }

  joined(member: PoolMember<R>): void {
    member.capacity = this.#capacityOf(member);
    this.#tell("joined", () => this.#strategy.joined?.(member)); // Before anything can be routed there.
    this.roster.joined(member, this.runtime.now());
  }

  left(member: PoolMember<R>): void {
    if (!member.registered) return;
    this.roster.left(member);
    this.#tell("left", () => this.#strategy.left?.(member));
  }

  /** Nothing that is in flight on this member gets an answer. */
  lose(member: PoolMember<R>, error: Error): void {
    this.left(member);
    const now = this.runtime.now();
    if (member.inFlight > 0) this.roster.heard(member, Infinity, false, now);
    this.roster.lost(member);
    for (let left = member.inFlight - member.judged; left > 0; left--) this.#finished(member, now, now, false, error);
  }

  readCapacity(member: PoolMember<R>): void {
    member.capacity = this.#capacityOf(member);
    this.roster.reconsider(member);
  }

  /** Refuses everyone in line. */
  refuseAll(error: (waitedMs: number) => unknown): void {
    const now = this.runtime.now();
    for (let ticket = this.line.takeFirst(); ticket !== undefined; ticket = this.line.takeFirst()) {
      const waitedMs = now - ticket.joinedAt;
      this.#refuse(ticket, error(waitedMs), waitedMs);
    }
  }

  closedError(waitedMs?: number): ClosedError {
    return new ClosedError({ stats: this.#owner.stats(), waitedMs });
  }

  openFailedError(waitedMs: number | undefined): OpenFailedError {
    return new OpenFailedError({ stats: this.#owner.stats(), waitedMs, cause: this.#owner.lastError() });
  }

  /** Why nobody can be had at once. */
  unavailable(): BusyError | NoMemberError | OpenFailedError {
    if (this.roster.registered > 0) return new BusyError({ stats: this.#owner.stats() });
    if (this.#owner.hopeless()) return this.openFailedError(undefined);
    return new NoMemberError({ stats: this.#owner.stats(), cause: this.#owner.lastError() });
  }

  #whyNot(ticket: Ticket<R>, waitMs: number, again: boolean): Error | undefined {
    if (this.phase === "closed") return this.endError ?? this.closedError();
    if (this.roster.registered === 0 && this.#owner.hopeless()) return this.unavailable();
    if (waitMs <= 0) return this.unavailable();
    if (again) this.line.comeBack(ticket, this.runtime.now(), waitMs);
    else if (!this.line.join(ticket, this.runtime.now(), waitMs)) {
      return new QueueFullError(this.line.limit, { stats: this.#owner.stats() });
    }
    return undefined;
  }

  #refuse(ticket: Ticket<R>, error: unknown, waitedMs: number): void {
    this.totals.rejected++;
    this.#answer(ticket, error, waitedMs);
  }

  /** Nobody was to be had. */
  #answer(ticket: Ticket<R>, error: unknown, waitedMs: number): void {
    const before = this.phase === "closed" ? undefined : ticket.lastError;
    if (before !== undefined) this.totals.failed++;
    const answer = before ?? error;
    const { code } = answer as { code?: unknown };
    this.#tellRefused(typeof code === "string" ? code : "ABORTED", waitedMs);
    ticket.refused(answer);
  }

  #pick(members: readonly PoolMember<R>[], request: RouteRequest): PoolMember<R> {
    const { available } = this.roster;
    const count = available.length;
    const first = members[0] as PoolMember<R>;
    try {
      const member = this.#strategy.pick(members, request) as PoolMember<R>;
      // Its own member, with room: whatever a strategy of the user's may come up with.
      const inPlace = available.length === count && available[member.index] === member;
      if (inPlace && (members === available || members.includes(member))) return member;
      this.roster.putInOrder();
      if (members.includes(member)) return member;
      this.#listenTo("strategy.pick", member);
      throw new OptionError("Strategy.pick", "one of the members it was given", member);
    } catch (thrown) {
      this.roster.putInOrder();
      this.#callbackFailed("strategy.pick", thrown);
      return first;
    }
  }

  #elsewhere(tried: readonly PoolMember<R>[]): readonly PoolMember<R>[] {
    const { available } = this.roster;
    const elsewhere = available.filter((member) => tried.every(({ endpoint }) => endpoint.id !== member.endpoint.id));
    return elsewhere.length > 0 ? elsewhere : available.filter((member) => !tried.includes(member));
  }

  #start(member: PoolMember<R>): void {
    this.totals.acquired++;
    this.roster.took(member);
    if (this.#strategy.started !== undefined) this.#tell("started", () => this.#strategy.started?.(member));
  }

  #judge(member: PoolMember<R>, startedAt: number, ok: boolean, error: unknown): void {
    const now = this.now();
    if (ok && this.hedging !== undefined) this.hedging.observe(now - startedAt, now);
    this.#finished(member, startedAt, now, ok, error);
    this.roster.heard(member, startedAt, ok, now);
  }

  #freed(member: PoolMember<R>): void {
    this.roster.freed(member);
    if (!member.registered && member.inFlight === 0) member.place.connection?.quiet();
  }

  #finished(member: PoolMember<R>, startedAt: number, now: number, ok: boolean, error: unknown): void {
    const strategy = this.#strategy;
    if (strategy.finished === undefined) return;
    const outcome = this.#outcome;
    outcome.endedAt = now;
    outcome.ok = ok;
    outcome.durationMs = now - startedAt;
    outcome.error = error;
    try {
      this.#listenTo("strategy.finished", strategy.finished(member, outcome as Outcome));
    } catch (thrown) {
      this.#callbackFailed("strategy.finished", thrown);
    }
  }

  /** Whoever makes room serves the line in the same step, so nobody overtakes. */
  #serveLine(): void {
    while (this.line.size > 0 && this.roster.hasRoom) {
      const ticket = this.line.next();
      if (ticket === undefined) return; // All who were left have been shed.
      // Where it has been does not matter: nobody else has room, or it would not have had to wait.
      ticket.granted(this.admit(ticket.request, this.runtime.now()) as PoolMember<R>);
    }
  }

  #capacityOf(member: PoolMember<R>): number {
    if (this.#connector.capacity === undefined) return Infinity;
    try {
      const capacity: unknown = this.#connector.capacity(member.resource);
      if (typeof capacity === "number" && capacity >= 0) return capacity;
      this.#listenTo("capacity", capacity);
      throw new OptionError("Connector.capacity: result", "0 or more", capacity);
    } catch (thrown) {
      // Unknown is not unlimited: one at a time cannot be wrong for any resource.
      this.#callbackFailed("capacity", thrown);
      return 1;
    }
  }

  #tell(hook: string, call: () => unknown): void {
    try {
      this.#listenTo(`strategy.${hook}`, call());
    } catch (thrown) {
      this.#callbackFailed(`strategy.${hook}`, thrown);
    }
  }

  /** A callback that is none of those we wait for may be async all the same. Its rejection is not to end the program. */
  #listenTo(which: string, result: unknown): void {
    if (result instanceof Promise) result.catch((thrown: unknown) => this.#callbackFailed(which, thrown));
  }

  #callbackFailed(which: string, thrown: unknown): void {
    emit("callback.failed", { where: `${this.name}: ${which}`, error: asError(thrown) });
  }

  #tellRefused(code: string, waitedMs: number): void {
    emit("pool.refused", { pool: this.name, code, waitedMs });
  }
}
