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
} from "../errors.ts";
import { Line, Waiter } from "../pool/index.ts";
import type { Runtime } from "../runtime/index.ts";
import { emit, type PoolStats } from "../telemetry/index.ts";
import { RetryBudget } from "./budget.ts";
import type { PoolMember } from "./member.ts";
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
}

/** What the traffic asks of its pool. */
export interface TrafficOwner {
  stats(): PoolStats;
  /** The last failure to open a connection. */
  lastError(): Error | undefined;
  /** Whether no connection will ever come: all have failed for good. */
  hopeless(): boolean;
  /** A caller waits for a connection. */
  nudge(): void;
}

export interface TrafficOptions<R> {
  readonly name: string;
  readonly connector: Connector<R>;
  readonly runtime: Runtime;
  readonly strategy: Strategy<R>;
  readonly queueLimit: number;
  readonly attempts: number;
  readonly budget: number;
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
  /** Called when the last call has settled. */
  onIdle: (() => void) | undefined = undefined;
  readonly line: Line<Ticket<R>>;
  readonly #registered = new Set<PoolMember<R>>();
  /** Those of them with room, in no order. */
  readonly #available: PoolMember<R>[] = [];
  readonly #strategy: Strategy<R>;
  readonly #connector: Connector<R>;
  readonly #owner: TrafficOwner;
  readonly #budget: RetryBudget;
  readonly #queueLimit: number;
  /** An array of one, since a number with a fraction in a field would be allocated each time it is set. */
  readonly #clock = new Float64Array(1);
  #nowIsKnown = false;
  readonly #forgetNow = (): void => {
    this.#nowIsKnown = false;
  };
  readonly #outcome = { ok: true, durationMs: 0, error: undefined as unknown, endedAt: 0 };

  constructor(options: TrafficOptions<R>, owner: TrafficOwner) {
    this.name = options.name;
    this.runtime = options.runtime;
    this.attempts = options.attempts;
    this.line = new Line(options.runtime, options.queueLimit);
    this.#queueLimit = options.queueLimit;
    this.#strategy = options.strategy;
    this.#connector = options.connector;
    this.#budget = new RetryBudget(options.budget, options.runtime.now());
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
    this.calls++;
    this.#budget.deposit(now);
  }

  /** A call has settled. */
  end(): void {
    if (--this.calls === 0) this.onIdle?.();
  }

  /** Admits a request to a member at once, or not at all. */
  admit(request: RouteRequest): PoolMember<R> | undefined {
    if (this.#available.length === 0) return undefined;
    const member = this.#pick(this.#available, request);
    this.#start(member);
    return member;
  }

  /** The same for one that has been elsewhere: on another endpoint if it can be, else on another member. */
  admitElsewhere(ticket: Ticket<R>): PoolMember<R> | undefined {
    const tried = ticket.tried ?? [];
    const elsewhere = this.#available.filter((member) =>
      tried.every((other) => other.endpoint.id !== member.endpoint.id),
    );
    const others = elsewhere.length > 0 ? elsewhere : this.#available.filter((member) => !tried.includes(member));
    if (others.length === 0) return this.admit(ticket.request);
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
    const open = this.#registered.size === 0;
    const error = new AcquireTimeoutError(open ? "open" : "queue", {
      stats,
      waitedMs,
      cause: open ? this.#owner.lastError() : undefined,
    });
    this.#answer(ticket, error, waitedMs);
  }

  /**
   * The resource has answered, or the work on it has ended otherwise. Not called for what was in flight on a resource
   * that was lost: the loss has settled it.
   */
  release(member: PoolMember<R>, startedAt: number, ok: boolean, error: unknown): void {
    if (member.lost) return;
    member.inFlight--;
    this.#finished(member, startedAt, ok, error);
    if (member.registered) {
      if (member.index < 0 && member.inFlight < member.capacity) this.#makeRoom(member);
    } else if (member.inFlight === 0) member.place.connection?.quiet();
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
    member.registered = true;
    this.#registered.add(member);
    this.#tell("joined", () => this.#strategy.joined?.(member)); // Before anything can be routed there.
    this.readCapacity(member);
  }

  left(member: PoolMember<R>): void {
    if (!member.registered) return;
    member.registered = false;
    this.#fill(member);
    this.#registered.delete(member);
    this.#tell("left", () => this.#strategy.left?.(member));
  }

  /** Nothing that is in flight on this member gets an answer. */
  lose(member: PoolMember<R>, error: Error): void {
    this.left(member);
    member.lost = true;
    for (let left = member.inFlight; left > 0; left--) this.#finished(member, -Infinity, false, error);
  }

  readCapacity(member: PoolMember<R>): void {
    member.capacity = this.#capacityOf(member);
    if (!member.registered) return;
    if (member.index >= 0 && !member.hasRoom) this.#fill(member);
    else if (member.index < 0 && member.hasRoom) this.#makeRoom(member);
  }

  /** Refuses everyone in line. */
  refuseAll(error: (waitedMs: number) => unknown): void {
    const now = this.runtime.now();
    for (let ticket = this.line.next(); ticket !== undefined; ticket = this.line.next()) {
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
    if (this.#registered.size > 0) return new BusyError({ stats: this.#owner.stats() });
    if (this.#owner.hopeless()) return this.openFailedError(undefined);
    return new NoMemberError({ stats: this.#owner.stats(), cause: this.#owner.lastError() });
  }

  #whyNot(ticket: Ticket<R>, waitMs: number, again: boolean): Error | undefined {
    if (this.phase === "closed") return this.endError ?? this.closedError();
    if (this.#registered.size === 0 && this.#owner.hopeless()) return this.unavailable();
    if (waitMs <= 0) return this.unavailable();
    if (again) this.line.comeBack(ticket, this.runtime.now(), waitMs);
    else if (!this.line.join(ticket, this.runtime.now(), waitMs)) {
      return new QueueFullError(this.#queueLimit, { stats: this.#owner.stats() });
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
    const available = this.#available;
    const count = available.length;
    const first = members[0] as PoolMember<R>;
    try {
      const member = this.#strategy.pick(members, request) as PoolMember<R>;
      // Its own member, with room: whatever a strategy of the user's may come up with.
      const inPlace = available.length === count && available[member.index] === member;
      if (inPlace && (members === available || members.includes(member))) return member;
      this.#putInOrder();
      if (members.includes(member)) return member;
      this.#listenTo("strategy.pick", member);
      throw new OptionError("Strategy.pick", "one of the members it was given", member);
    } catch (thrown) {
      this.#putInOrder();
      this.#callbackFailed("strategy.pick", thrown);
      return first;
    }
  }

  /** A strategy may have sorted what it was shown, or taken some out. That must not harm us: all are put back. */
  #putInOrder(): void {
    this.#available.length = 0;
    for (const member of this.#registered) {
      if (member.index >= 0) member.index = this.#available.push(member) - 1;
    }
  }

  #start(member: PoolMember<R>): void {
    this.totals.acquired++;
    if (++member.inFlight >= member.capacity) this.#fill(member);
    if (this.#strategy.started !== undefined) this.#tell("started", () => this.#strategy.started?.(member));
  }

  #finished(member: PoolMember<R>, startedAt: number, ok: boolean, error: unknown): void {
    const strategy = this.#strategy;
    if (strategy.finished === undefined) return;
    const outcome = this.#outcome;
    outcome.endedAt = this.now();
    outcome.ok = ok;
    outcome.durationMs = startedAt === -Infinity ? 0 : outcome.endedAt - startedAt;
    outcome.error = error;
    try {
      this.#listenTo("strategy.finished", strategy.finished(member, outcome as Outcome));
    } catch (thrown) {
      this.#callbackFailed("strategy.finished", thrown);
    }
  }

  #makeRoom(member: PoolMember<R>): void {
    member.index = this.#available.push(member) - 1;
    while (this.line.size > 0 && this.#available.length > 0) {
      const ticket = this.line.next() as Ticket<R>;
      // Where it has been does not matter: nobody else has room, or it would not have had to wait.
      ticket.granted(this.admit(ticket.request) as PoolMember<R>);
    }
  }

  /** Takes a member out of those with room: the last one moves to its place. */
  #fill(member: PoolMember<R>): void {
    if (member.index < 0) return;
    if (this.#available[member.index] !== member) this.#putInOrder();
    const at = member.index;
    member.index = -1;
    const last = this.#available.pop() as PoolMember<R>;
    if (last === member) return;
    this.#available[at] = last;
    last.index = at;
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
