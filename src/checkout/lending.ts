/**
 * Who gets which resource, now: the idle, the line, and everything that moves a resource between them.
 *
 * A resource that comes free goes to the first in line, or to the idle; a caller gets an idle resource, or joins the
 * line. Whoever does either does the other in the same step, so callers wait only while nothing is idle, and nobody
 * overtakes. Checks, resets and openings run beside this, each for a bounded time: what they yield comes back as a resource
 * that is free, or as one that is gone.
 *
 * How many there should be: those that must be (`min`), and one for each caller who waits and is not about to be served
 * by one that is on its way. Few are opened at a time, because a caller is mostly served by one that is given back
 * before its own has been opened. A place that has no resource, and is not needed any more, is given up, with what it
 * has learnt about trying again.
 */

import type { Connector, Endpoint, Memory } from "../connection/index.ts";
import {
  AcquireTimeoutError,
  asError,
  BusyError,
  ClosedError,
  ConnectionLostError,
  LeaseError,
  NestedUseError,
  NoMemberError,
  OpenFailedError,
  OptionError,
  QueueFullError,
  ShedError,
} from "../errors.ts";
import { Line, type Place, type PoolTree, type QueueOptions, stateOf } from "../pool/index.ts";
import { Carried, Deadlines, type Runtime, type Timer } from "../runtime/index.ts";
import { emit, type PoolStats } from "../telemetry/index.ts";
import { Errand } from "./errand.ts";
import { type Lease, type Lender, PoolLease, WatchedLease } from "./lease.ts";
import type { AcquireOptions, Settings } from "./options.ts";
import { Ticket, type TicketOffice } from "./ticket.ts";
import { Idle, type LeaseTimer, Unit } from "./unit.ts";

export interface LendingOptions<R> {
  readonly name: string;
  readonly connector: Connector<R>;
  readonly runtime: Runtime;
  /** Read each time: `resize` changes them. */
  readonly settings: Settings;
  readonly queue: QueueOptions | undefined;
  readonly endpoint: Endpoint;
}

export interface LendingOwner {
  stats(): PoolStats;
  /** Resources that somebody waits for to be ready. */
  wanted(): number;
  /** Whether somebody waits for the pool itself. */
  awaited(): boolean;
  /** Something has changed that somebody may wait for. */
  changed(): void;
}

type UnitPlace<R> = Place<R, Unit<R>>;

export class Lending<R> implements Lender<R>, TicketOffice<R> {
  readonly idle: Idle<R> = new Idle<R>();
  readonly line: Line<Ticket<R>>;
  readonly totals = { acquired: 0, succeeded: 0, failed: 0, timedOut: 0, rejected: 0, shed: 0, retried: 0 };
  readonly runtime: Runtime;
  /** The lease that a work of this pool has, for as long as it runs: how one that nests is known. */
  readonly carried: Carried<PoolLease<R>> = new Carried<PoolLease<R>>();
  /** Leases in force. */
  leases = 0;
  phase: "open" | "closing" | "closed" = "open";
  /** Calls that were ended by force. */
  aborted = 0;
  /** What those get who wait or work when the pool is destroyed. */
  endError: Error | undefined = undefined;
  /** Called when nobody waits or works any more. */
  onRest: (() => void) | undefined = undefined;
  /** For each work whose lease was ended a moment ago: tells its caller. */
  readonly endings: Set<() => void> = new Set();
  readonly #options: LendingOptions<R>;
  readonly #owner: LendingOwner;
  readonly #overdue: Deadlines<LeaseTimer<R>>;
  readonly #leaking: Deadlines<LeaseTimer<R>>;
  /** What places that were given up have learnt; the next ones begin with it. */
  readonly #memories: Memory[] = [];
  /** What the connector has opened and not closed yet. */
  readonly #open = new Set<R>();
  /** Told of leases that nobody holds any more, where leaks are reported. */
  readonly #dropped: FinalizationRegistry<PoolLease<R>> | undefined;
  /** Whether leases are watched, and say where they were acquired. */
  readonly #noted: boolean;
  #tree!: PoolTree<R, Unit<R>>;
  #upkeep: Timer | undefined;
  #upkeepAt = Infinity;
  #pinging = 0;
  #resets = 0;
  /** There may be a place where opening has failed for good. */
  #failedForGood = false;
  /** Somebody has waited since nobody waited or worked. */
  #hurried = false;
  /** Checks that are made because callers wait. */
  #checks = 0;

  constructor(options: LendingOptions<R>, owner: LendingOwner) {
    const { runtime, queue, settings } = options;
    this.#options = options;
    this.#noted = settings.leaseTimeoutMs < Infinity || settings.leakReportMs < Infinity;
    if (settings.leakReportMs < Infinity) this.#dropped = new FinalizationRegistry((lease) => this.#tellDropped(lease));
    this.#owner = owner;
    this.runtime = runtime;
    this.line = new Line<Ticket<R>>(runtime, queue);
    this.#overdue = new Deadlines<LeaseTimer<R>>(runtime, ({ unit }) => this.#expire(unit), { keepAlive: true });
    this.#leaking = new Deadlines<LeaseTimer<R>>(runtime, ({ unit }) => this.#tellLeak(unit), { keepAlive: false });
  }

  /** Calls made and not over: those that wait, and those that have a lease. */
  get calls(): number {
    return this.line.size + this.leases;
  }

  /** Whether nobody waits or works, and nothing is left to do for those who have worked. */
  get atRest(): boolean {
    return this.calls === 0 && this.#resets === 0;
  }

  /** The connector as connections see it: a resource that the pool has already is no new one. */
  get connector(): Connector<R> {
    const { connector } = this.#options;
    const open = this.#open;
    return {
      name: connector.name,
      open: async (context) => {
        const resource = await connector.open(context);
        if (open.has(resource)) {
          const expected = "a resource that is not in the pool already";
          throw new OptionError("Connector.open: result", expected, resource, "one that is");
        }
        open.add(resource);
        return resource;
      },
      close: async (resource, reason) => {
        try {
          await connector.close?.(resource, reason);
        } finally {
          open.delete(resource);
        }
      },
      isFatal: (error) => connector.isFatal?.(error) === true,
    };
  }

  // What callers ask for.

  /** An idle resource that needs no check, or nothing. */
  lendNow(): PoolLease<R> | undefined {
    if (this.phase !== "open" || this.line.size > 0) return undefined;
    const { order, checkAfterIdleMs } = this.#options.settings;
    for (;;) {
      const unit = order === "lifo" ? this.idle.newest : this.idle.oldest;
      if (unit === undefined) return undefined;
      const now = this.runtime.now();
      if (this.#isSpent(unit, now)) {
        this.#leave(unit);
        continue;
      }
      if (now - lastGood(unit) >= checkAfterIdleMs) return undefined;
      this.idle.take(unit);
      return this.#lend(unit, now, this.#noted ? stackOfCaller() : undefined, this.#inside());
    }
  }

  /** Joins the line. Never throws. */
  wait(options: AcquireOptions): Promise<PoolLease<R>> {
    const { signal, timeoutMs = this.#options.settings.acquireTimeoutMs, priority = 0 } = options;
    const ticket = new Ticket<R>(this, signal, priority, this.#inside(), this.#noted ? stackOfCaller() : undefined);
    const error = this.#whyNot(ticket, timeoutMs);
    if (error !== undefined) {
      this.totals.rejected++;
      this.#tellRefused(error, 0);
      ticket.refuse(error);
      return ticket.promise;
    }
    emit("pool.queued", { pool: this.#options.name, waiting: this.line.size });
    this.#offerIdle();
    this.grow();
    if (this.line.size === 1) this.hurry();
    return ticket.promise;
  }

  /** What the caller of `acquire` gets to hold. */
  handle(lease: PoolLease<R>): Lease<R> {
    return this.#dropped === undefined ? lease : new WatchedLease(lease, this.#dropped);
  }

  /** Somebody waits: what is not open is tried as soon as may be, and the program does not end before. */
  hurry(): void {
    this.#hurried = true;
    this.#tree.nudge();
  }

  /** Nobody does, or works, any more, unless somebody still waits for the pool to be ready. */
  relax(): void {
    if (this.#owner.awaited() || !this.atRest) return;
    this.#hurried = false;
    this.#tree.relax();
  }

  // What leases and tickets tell.

  stats(): PoolStats {
    return this.#owner.stats();
  }

  takeBack(unit: Unit<R>, ok: boolean): void {
    const now = this.runtime.now();
    this.#endLease(unit, ok);
    unit.idleSince = now;
    unit.goodAt = now;
    if (!unit.registered || this.#isFit(unit)) this.#free(unit, now);
    else void this.#reset(unit);
    this.#rest();
  }

  discard(unit: Unit<R>, reason: Error | undefined): void {
    const { name } = this.#options;
    emit("lease.discarded", { pool: name, connection: `connection ${unit.place.slot}`, reason });
    this.#endLease(unit, false);
    this.#leave(unit);
    this.#rest();
  }

  releasedLate(over: PoolLease<R>): void {
    const error = new LeaseError("ERR_LEASE_RELEASED", {
      stats: this.stats(),
      slot: over.slot,
      acquireStack: over.stack,
    });
    emit("lease.misused", { pool: this.#options.name, connection: `connection ${over.slot}`, error });
  }

  expired(ticket: Ticket<R>): void {
    this.totals.timedOut++;
    const waitedMs = this.runtime.now() - ticket.joinedAt;
    const stats = this.stats();
    const cause = this.lastError();
    // With room for more and no success in opening them, a larger pool or shorter works would be the wrong advice.
    const unopened = stats.ready === 0 || (cause !== undefined && stats.ready < this.#options.settings.max);
    const phase = stats.ready > 0 && this.#checks > 0 ? "check" : unopened ? "open" : "queue";
    const fields = { stats, waitedMs, cause };
    const error = withoutStack(() =>
      phase === "open" && stats.fatal > 0 ? new OpenFailedError(fields) : new AcquireTimeoutError(phase, fields),
    );
    this.#turnAway(ticket, error, waitedMs);
  }

  shed(ticket: Ticket<R>, targetMs: number): void {
    this.totals.shed++;
    const waitedMs = this.runtime.now() - ticket.joinedAt;
    const fields = { stats: this.stats(), waitedMs };
    const error = withoutStack(() => new ShedError(targetMs, fields));
    this.#turnAway(ticket, error, waitedMs);
  }

  left(ticket: Ticket<R>): void {
    if (!ticket.waiting) return;
    this.line.leave(ticket);
    this.#tellRefused(undefined, this.runtime.now() - ticket.joinedAt);
    this.#rest();
  }

  // What the tree tells.

  open(tree: PoolTree<R, Unit<R>>): void {
    this.#tree = tree;
    this.grow();
  }

  enter(place: UnitPlace<R>, resource: R): Unit<R> {
    const now = this.runtime.now();
    const unit = new Unit<R>(place, resource, now);
    const { maxLifetimeMs, lifetimeJitter } = this.#options.settings;
    if (maxLifetimeMs < Infinity) {
      unit.retireAt = now + maxLifetimeMs * (1 - lifetimeJitter * this.runtime.random());
    }
    // The server can be reached. How to go on from earlier failures is remembered, what they were is not.
    for (const [at, memory] of this.#memories.entries()) this.#memories[at] = { ...memory, lastError: undefined };
    return unit;
  }

  joined(unit: Unit<R>): void {
    const now = this.runtime.now();
    unit.registered = true;
    unit.idleSince = now;
    this.#free(unit, now);
  }

  /** It is registered no more: it may not be lent. What is idle, or being looked at, goes; what is out is its holder's. */
  leaves(unit: Unit<R>): void {
    unit.registered = false;
    if (unit.at === "idle") this.idle.take(unit);
    if (unit.at !== "leased") unit.at = "leaving";
    unit.errand?.end();
  }

  lost(unit: Unit<R>, reason: Error | undefined): void {
    this.leaves(unit);
    const { lease } = unit;
    unit.at = "leaving";
    if (lease === undefined) return;
    if (!this.#tree.process.alive) this.aborted++; // The whole pool was killed.
    this.#endLease(unit, false);
    lease.end(
      new ConnectionLostError(
        `pool "${this.#options.name}": the resource of slot ${lease.slot} was lost under its lease. What was asked of it ` +
          `may have been done: repeat it only if that does no harm.`,
        { sent: "maybe", cause: reason, stats: this.stats() },
      ),
    );
    this.#rest();
  }

  /** Whether somebody has it: then it is not closed yet. */
  busy(unit: Unit<R>): number {
    return unit.at === "leased" ? 1 : 0;
  }

  /** Whether a place that has no resource should get one. */
  needed(place: UnitPlace<R>): boolean {
    if (this.phase === "closed") return false;
    const { max, maxOpening } = this.#options.settings;
    const { active, starting, coming, all } = this.#count(place);
    if (all >= max || starting >= maxOpening) return false;
    return active < this.#target() || this.line.size > coming;
  }

  changed(place: UnitPlace<R>): void {
    // What a place that is gone has learnt about a server that is down is not forgotten with it.
    if (place.leaving && !this.#tree.places.has(place) && place.memory.lastError !== undefined && !place.memory.fatal) {
      this.#memories.push(place.memory);
      if (this.#memories.length > this.#options.settings.max) this.#memories.shift();
    }
    this.#failedForGood ||= stateOf(place) === "fatal";
    if (this.phase !== "closed") {
      if (this.line.size > 0 && this.hopeless()) this.#refuseAll(() => this.#openFailed());
      this.grow();
    }
    this.#owner.changed();
  }

  // What the pool asks for.

  units(): Unit<R>[] {
    const units: Unit<R>[] = [];
    for (const { connection } of this.#tree.places) if (connection?.member !== undefined) units.push(connection.member);
    return units;
  }

  lastError(): Error | undefined {
    return this.#tree.lastError() ?? this.#memories.at(-1)?.lastError;
  }

  /** Whether no resource will ever come: all that there are have failed for good. */
  hopeless(): boolean {
    let fatal = false;
    for (const place of this.#tree.places) {
      const state = stateOf(place);
      if (state !== "fatal" && state !== "draining") return false;
      fatal ||= state === "fatal";
    }
    return fatal;
  }

  /** Opens what is needed and may be. O(1) when the pool is at its largest, else O(resources). */
  grow(): void {
    const { max, maxOpening } = this.#options.settings;
    if (this.phase === "closed") return;
    if (this.#failedForGood) this.#tryFatalAgain();
    if (this.#tree.places.size >= max) return;
    const { active, starting, coming, fatal, all } = this.#count();
    if (fatal > 0) return; // The others would fail as well.
    const short = Math.max(this.#target() - active, this.line.size - coming);
    for (let more = Math.min(short, maxOpening - starting, max - all); more > 0; more--) {
      this.#tree.add(this.#options.endpoint, this.#memories.pop());
    }
  }

  /**
   * Where opening has failed for good nothing is tried again, before `recycle`, as long as no resource is open. With one
   * that is, the configuration was right once, and may be so again: the place is given to a new attempt when somebody
   * wants it, as seldom as the backoff's `maxMs` says. Others that are being opened are no such sign: of two that fail,
   * each would have the other tried again.
   */
  #tryFatalAgain(): void {
    const now = this.runtime.now();
    const places = [...this.#tree.places];
    const fatal = places.filter((place) => stateOf(place) === "fatal");
    this.#failedForGood = fatal.length > 0;
    if (!places.some((place) => stateOf(place) === "ready")) return;
    if (this.line.size === 0 && this.#active() - fatal.length >= this.#target()) return;
    for (const place of fatal) {
      const { attemptedAt, backoff } = place.memory;
      if (attemptedAt + backoff.maxMs <= now) this.#tree.leave(place);
    }
  }

  /** What is too much goes: first what is not open yet, then the idle, the oldest first; what is out, when it is given back. */
  shrink(): void {
    const { max } = this.#options.settings;
    for (const place of [...this.#tree.places]) {
      if (this.#tree.places.size <= max) return;
      if (!place.leaving && place.connection?.member === undefined) this.#tree.leave(place);
    }
    for (const unit of [...this.idle]) {
      if (this.#active() <= max) return;
      if (unit.at === "idle") this.#leave(unit);
    }
  }

  /** A place is to get a new resource, at a time. Nobody is interrupted. */
  retire(place: UnitPlace<R>, at: number): void {
    const unit = place.connection?.member;
    if (unit === undefined) {
      this.#tree.leave(place);
      return;
    }
    unit.retireAt = Math.min(unit.retireAt, at);
    if (unit.at !== "idle") return;
    if (at <= this.runtime.now()) this.#leave(unit);
    else this.#lookAt(at);
  }

  close(): void {
    if (this.phase === "open") this.phase = "closing";
  }

  closedError(): ClosedError {
    return new ClosedError({ stats: this.stats() });
  }

  /** Nothing goes on from here: whoever still waits or works is told so. */
  end(error: Error): void {
    this.phase = "closed";
    this.endError ??= error;
    this.aborted += this.calls;
    this.#upkeep?.cancel();
    this.#upkeep = undefined;
    for (const tell of [...this.endings]) tell();
    this.#refuseAll(() => error);
    for (const unit of this.units()) {
      const { lease } = unit;
      if (lease === undefined) continue;
      this.#endLease(unit, false);
      unit.at = "leaving";
      lease.end(error);
      unit.place.connection?.quiet();
    }
  }

  #whyNot(ticket: Ticket<R>, waitMs: number): Error | undefined {
    if (this.phase !== "open") return this.closedError();
    if (this.hopeless()) return this.#openFailed();
    if (waitMs <= 0) {
      const stats = this.stats();
      return stats.ready > 0 ? new BusyError({ stats }) : new NoMemberError({ stats, cause: this.lastError() });
    }
    if (ticket.inside !== undefined && this.#isDeadlock(ticket.inside))
      return new NestedUseError({ stats: this.stats() });
    // Each resource that nobody has, opened or yet to be opened, is for one who does not wait for another to be done.
    const besides = Math.max(this.#options.settings.max - this.leases, 0);
    if (!this.line.join(ticket, this.runtime.now(), waitMs, besides)) {
      return new QueueFullError(this.line.limit, { stats: this.stats() });
    }
    return undefined;
  }

  /**
   * Whether each resource there may be is held by a work that waits for another, this one included: by the lease it runs
   * on, by that of a work it is part of, or by one that such a work has acquired besides.
   */
  #isDeadlock(inside: PoolLease<R>): boolean {
    if (this.leases < this.#options.settings.max) return false;
    const stuck = new Set<PoolLease<R>>();
    const add = (from: PoolLease<R> | undefined): void => {
      for (let lease = from; lease !== undefined; lease = lease.within) if (lease.inForce) stuck.add(lease);
    };
    add(inside);
    for (const ticket of this.line) add(ticket.inside);
    let held = 0;
    for (const { lease } of this.units()) {
      if (lease === undefined) continue;
      const besides = lease.onEnd === undefined && lease.within !== undefined && stuck.has(lease.within);
      if (stuck.has(lease) || besides) held++;
    }
    return held >= this.leases;
  }

  /** The lease of the work that is running here; none outside of works. */
  #inside(): PoolLease<R> | undefined {
    const lease = this.carried.get();
    return lease?.inForce ? lease : undefined;
  }

  #lend(unit: Unit<R>, now: number, stack: string | undefined, within: PoolLease<R> | undefined): PoolLease<R> {
    const lease = new PoolLease<R>(unit, this, stack, within);
    unit.at = "leased";
    unit.lease = lease;
    unit.uses++;
    unit.leasedAt = now;
    this.leases++;
    this.totals.acquired++;
    if (this.#noted) {
      const { leaseTimeoutMs, leakReportMs } = this.#options.settings;
      this.#overdue.add(unit.overdue, now, leaseTimeoutMs);
      this.#leaking.add(unit.leaking, now, leakReportMs);
    }
    return lease;
  }

  #endLease(unit: Unit<R>, ok: boolean): void {
    unit.lease = undefined;
    this.leases--;
    if (ok) this.totals.succeeded++;
    else this.totals.failed++;
    this.#overdue.remove(unit.overdue);
    this.#leaking.remove(unit.leaking);
  }

  /** The resource is nobody's: it goes to the first in line, or to the idle. */
  #free(unit: Unit<R>, now: number): void {
    if (!unit.registered || this.phase === "closed") {
      unit.at = "leaving";
      unit.place.connection?.quiet();
      return;
    }
    if (this.#isSpent(unit, now)) {
      this.#leave(unit);
      return;
    }
    const ticket = this.line.size > 0 ? this.line.next() : undefined;
    if (ticket !== undefined) {
      ticket.grant(this.#lend(unit, now, ticket.stack, ticket.inside));
      return;
    }
    this.idle.put(unit);
    this.#lookAt(this.#dueAt(unit));
    this.#owner.changed();
  }

  #isSpent(unit: Unit<R>, now: number): boolean {
    const { maxUses, max } = this.#options.settings;
    return unit.retireAt <= now || unit.uses >= maxUses || (this.#tree.places.size > max && this.#active() > max);
  }

  /** Its connection closes it; its place is free when that is done. */
  #leave(unit: Unit<R>): void {
    if (unit.at === "idle") this.idle.take(unit);
    unit.at = "leaving";
    this.#tree.leave(unit.place);
    unit.place.connection?.quiet(); // It may have been leaving before, and have waited for its holder.
  }

  /** Callers wait and something is idle: it must be checked first, or a check has just made it look worse than it is. */
  #offerIdle(): void {
    const { order, checkAfterIdleMs } = this.#options.settings;
    while (this.line.size > this.#checks) {
      const unit = order === "lifo" ? this.idle.newest : this.idle.oldest;
      if (unit === undefined) return;
      const now = this.runtime.now();
      this.idle.take(unit);
      if (this.#isSpent(unit, now)) this.#leave(unit);
      else if (now - lastGood(unit) < checkAfterIdleMs) this.#free(unit, now);
      else {
        this.#checks++;
        void this.#check(unit, true).then(() => {
          this.#checks--;
          if (this.phase !== "closed") this.#offerIdle();
        });
      }
    }
  }

  async #check(unit: Unit<R>, awaited: boolean): Promise<void> {
    const { connector, settings } = this.#options;
    unit.at = "checking";
    const errand = this.#errand(unit, "check", settings.checkTimeoutMs, awaited);
    const good = await errand.run((signal) => this.#tree.inContext(() => connector.check?.(unit.resource, signal)));
    this.#looked(unit, "checking", good);
  }

  /** Whether it needs no reset: then it costs no errand, and the next in line has it in the same step. */
  #isFit(unit: Unit<R>): boolean {
    const { connector, name } = this.#options;
    if (connector.reset === undefined) return true;
    if (connector.fit === undefined) return false;
    try {
      return connector.fit(unit.resource) === true;
    } catch (thrown) {
      emit("callback.failed", { where: `${name}: fit`, error: asError(thrown) });
      return false;
    }
  }

  async #reset(unit: Unit<R>): Promise<void> {
    const { connector, settings } = this.#options;
    unit.at = "resetting";
    this.#resets++;
    const errand = this.#errand(unit, "reset", settings.resetTimeoutMs, true);
    const good = await errand.run(() =>
      this.#tree.inContext(async () => {
        await connector.reset?.(unit.resource); // What it answers means nothing.
      }),
    );
    this.#resets--;
    this.#looked(unit, "resetting", good);
    this.#rest();
  }

  #errand(unit: Unit<R>, what: "check" | "reset", timeoutMs: number, keepAlive: boolean): Errand {
    const failed = (thrown: unknown): void => {
      emit("callback.failed", { where: `${this.#options.name}: ${what}`, error: asError(thrown) });
    };
    unit.errand = new Errand({ runtime: this.runtime, what, timeoutMs, keepAlive, failed });
    return unit.errand;
  }

  /** What was done with it is over. It may have been lost meanwhile. */
  #looked(unit: Unit<R>, at: "checking" | "resetting", good: boolean): void {
    unit.errand = undefined;
    if (unit.at !== at) return;
    const now = this.runtime.now();
    unit.at = "new";
    if (!good) {
      this.#leave(unit);
      return;
    }
    unit.goodAt = now;
    this.#free(unit, now);
  }

  #expire(unit: Unit<R>): void {
    const { lease } = unit;
    if (lease === undefined) return;
    const heldMs = this.runtime.now() - unit.leasedAt;
    const fields = { stats: this.stats(), slot: lease.slot, heldMs, acquireStack: lease.stack };
    const error = new LeaseError("ERR_LEASE_EXPIRED", fields);
    emit("lease.expired", {
      pool: this.#options.name,
      connection: `connection ${lease.slot}`,
      heldMs,
      stack: lease.stack,
    });
    this.#endLease(unit, false);
    this.#leave(unit);
    lease.end(error);
    this.#rest();
  }

  #tellLeak(unit: Unit<R>): void {
    const { lease } = unit;
    if (lease === undefined) return;
    const heldMs = this.runtime.now() - unit.leasedAt;
    emit("lease.leaked", {
      pool: this.#options.name,
      connection: `connection ${lease.slot}`,
      heldMs,
      stack: lease.stack,
    });
  }

  #tellDropped(lease: PoolLease<R>): void {
    if (!lease.inForce) return;
    emit("lease.dropped", { pool: this.#options.name, connection: `connection ${lease.slot}`, stack: lease.stack });
  }

  /** How many there should be, wanted by callers or not. */
  #target(): number {
    return this.phase === "open" ? Math.max(this.#options.settings.min, this.#owner.wanted()) : 0;
  }

  #active(): number {
    let active = 0;
    for (const place of this.#tree.places) if (!place.leaving) active++;
    return active;
  }

  /** What there is, without one place. */
  #count(without?: UnitPlace<R>): { active: number; starting: number; coming: number; fatal: number; all: number } {
    const counts = { active: 0, starting: 0, coming: 0, fatal: 0, all: 0 };
    for (const place of this.#tree.places) {
      if (place === without) continue;
      counts.all++;
      if (place.leaving) continue;
      counts.active++;
      const state = stateOf(place);
      if (state === "fatal") counts.fatal++;
      else if (state !== "ready") counts.starting++;
      const at = place.connection?.member?.at;
      if (state === "opening" || state === "waitingToReopen" || at === "checking" || at === "resetting") {
        counts.coming++;
      }
    }
    return counts;
  }

  /** When an idle resource is to be looked at: to be closed, or pinged. */
  #dueAt(unit: Unit<R>): number {
    const { idleTimeoutMs, pingIdleMs } = this.#options.settings;
    return Math.min(unit.idleSince + idleTimeoutMs, unit.retireAt, lastGood(unit) + pingIdleMs);
  }

  /** The idle are looked after by one timer, armed for whoever is due first. */
  #lookAt(at: number): void {
    if (at >= this.#upkeepAt) return;
    this.#upkeep?.cancel();
    this.#upkeepAt = at;
    // Whole milliseconds: a timer that rounding has made too early would be set again for no time at all, for ever.
    this.#upkeep = this.runtime.setTimer(() => this.#doUpkeep(), Math.max(Math.ceil(at - this.runtime.now()), 0));
  }

  #doUpkeep(): void {
    this.#upkeep?.cancel();
    this.#upkeep = undefined;
    this.#upkeepAt = Infinity;
    if (this.phase === "closed") return;
    const { idleTimeoutMs, pingIdleMs, pingLimit, min } = this.#options.settings;
    const now = this.runtime.now();
    let tooMany = this.#active() - min;
    for (const unit of [...this.idle]) {
      if (unit.at !== "idle") continue; // Closing another has called somebody who took it.
      // Compared as they are summed: to ask for the difference instead can round the other way, and never come to an end.
      const idleTooLong = unit.idleSince + idleTimeoutMs <= now;
      const pingAt = lastGood(unit) + pingIdleMs;
      if (unit.retireAt <= now || (idleTooLong && tooMany > 0)) {
        tooMany--;
        this.#leave(unit);
      } else if (pingAt <= now) {
        // When the limit is reached, the others have their turn as soon as a ping has ended.
        if (this.#pinging < pingLimit) void this.#ping(unit);
      } else if (idleTooLong) this.#lookAt(Math.min(now + idleTimeoutMs, unit.retireAt, pingAt));
      else this.#lookAt(this.#dueAt(unit));
    }
  }

  async #ping(unit: Unit<R>): Promise<void> {
    this.idle.take(unit);
    this.#pinging++;
    await this.#check(unit, false);
    this.#pinging--;
    this.#doUpkeep();
  }

  #rest(): void {
    if (!this.atRest) return;
    if (this.#hurried) this.relax();
    this.onRest?.();
  }

  #refuseAll(error: () => Error): void {
    const now = this.runtime.now();
    for (let ticket = this.line.takeFirst(); ticket !== undefined; ticket = this.line.takeFirst()) {
      this.totals.rejected++;
      this.#turnAway(ticket, error(), now - ticket.joinedAt);
    }
  }

  #turnAway(ticket: Ticket<R>, error: Error, waitedMs: number): void {
    this.#tellRefused(error, waitedMs);
    ticket.refuse(error);
    this.#rest();
  }

  #openFailed(): OpenFailedError {
    return new OpenFailedError({ stats: this.stats(), cause: this.lastError() });
  }

  #tellRefused(error: Error | undefined, waitedMs: number): void {
    const { code } = (error ?? {}) as { code?: unknown };
    emit("pool.refused", { pool: this.#options.name, code: typeof code === "string" ? code : "ABORTED", waitedMs });
  }
}

/** When a resource was last in use, or found to be good. */
function lastGood<R>(unit: Unit<R>): number {
  return Math.max(unit.idleSince, unit.goodAt);
}

/**
 * Makes an error for one who has waited. Its stack would show a timer, or whoever has just released something, and nobody
 * who could do anything about it; and it is a dear part of an error, of which there are thousands in an overload.
 */
function withoutStack<E extends Error>(make: () => E): E {
  const { stackTraceLimit } = Error;
  Reflect.set(Error, "stackTraceLimit", 0); // Does nothing where somebody has frozen it.
  try {
    return make();
  } finally {
    Reflect.set(Error, "stackTraceLimit", stackTraceLimit);
  }
}

/** The folder of this file, as stack frames name it. */
const here = new URL(".", import.meta.url).pathname;

/** Where a lease is asked for: the caller's frames, without ours. */
function stackOfCaller(): string {
  const frames = (new Error("acquired").stack ?? "").split("\n").slice(1);
  return frames.filter((frame) => !frame.includes(here)).join("\n");
}
