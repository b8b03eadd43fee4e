/**
 * Who may be chosen, now.
 *
 * A member may be chosen while it is registered, has room, and nothing speaks against it. Two things can:
 *
 *   its health   It was ejected (health.ts). At most a share of the members is; and when too few are left, the pool is in
 *                a panic and looks at health no longer: load on a sick member is better than all of it on the rest.
 *   its youth    It has come (back) a moment ago, and nothing is in flight on it, so every strategy that goes by load
 *                would send it all there is. So for a while it may have only a growing share of what the others have in
 *                flight. Not when the pool itself is as young: then all begin alike.
 *
 * Whoever may be chosen stands in `available`, in no order: joining and leaving are a swap, O(1). A member carries what
 * it may have in flight right now as one number (`limit`), so the path of a request compares two numbers.
 *
 * After HAProxy (slow start on what a server may have at once, never at the start of the process), Envoy (the shape of
 * the ramp, the cap on ejections, the panic threshold).
 */

import type { Runtime, Timer } from "../runtime/index.ts";
import { emit } from "../telemetry/index.ts";
import { type BreakerOptions, type EjectReason, Health } from "./health.ts";
import type { PoolMember } from "./member.ts";

export interface RosterOptions {
  readonly pool: string;
  readonly runtime: Runtime;
  /** `false`: health is not looked at. */
  readonly breaker: Required<BreakerOptions> | false;
  /** 0: a member that joins may have what the others may. */
  readonly slowStartMs: number;
}

export interface RosterOwner {
  /** Somebody may be chosen who might not be before: callers who wait may be served. */
  roomMade(): void;
  /** Connections the pool should have, up or not. */
  places(): number;
}

/** What a member may have at first, as a share of what the others have. */
const firstShare = 0.1;

export class Roster<R> {
  /** Those a strategy may choose from. */
  readonly available: PoolMember<R>[] = [];
  /** Members registered, whether they may be chosen or not. */
  readonly #registered = new Set<PoolMember<R>>();
  /** The health is not looked at: too few would be left. */
  panics = false;
  readonly #options: RosterOptions;
  readonly #owner: RosterOwner;
  readonly #ejected = new Set<PoolMember<R>>();
  /** Ejected ones whose time is over: the next request is their probe. */
  readonly #due = new Set<PoolMember<R>>();
  readonly #ramping = new Set<PoolMember<R>>();
  readonly #healths = new WeakMap<object, Health>();
  #timer: Timer | undefined;
  #inFlight = 0;
  /** When the first member of those now here joined: when the pool was young. */
  #since = 0;

  constructor(options: RosterOptions, owner: RosterOwner) {
    this.#options = options;
    this.#owner = owner;
  }

  get registered(): number {
    return this.#registered.size;
  }

  /** Registered members that get nothing: their time is not over, or their probe is not. */
  get ejected(): number {
    return this.#ejected.size - this.#due.size;
  }

  isEjected(member: PoolMember<R>): boolean {
    return this.#ejected.has(member) && !this.#due.has(member);
  }

  /** Whether somebody may be chosen. */
  get hasRoom(): boolean {
    if (this.available.length > 0 || this.takeHeldBack() !== undefined) return true;
    for (const member of this.#due) if (this.#isDue(member)) return true;
    return false;
  }

  /** The member that is to be probed now, if there is one with room. It is taken for being probed. */
  takeProbe(now: number): PoolMember<R> | undefined {
    for (const member of this.#due) {
      if (!this.#isDue(member)) continue;
      this.#due.delete(member);
      member.health?.probe(now);
      emit("member.probed", this.#named(member));
      return member;
    }
    return undefined;
  }

  /** Whether a probe is due: asked for every request. */
  get probeDue(): boolean {
    return this.#due.size > 0;
  }

  /** When nobody else has room: the least used of those that are held back for their youth alone. */
  takeHeldBack(): PoolMember<R> | undefined {
    let least: PoolMember<R> | undefined;
    for (const member of this.#ramping) {
      if (!this.#isHeldBack(member)) continue;
      if (least === undefined || member.inFlight < least.inFlight) least = member;
    }
    return least;
  }

  joined(member: PoolMember<R>, now: number): void {
    member.registered = true;
    if (this.#registered.size === 0) this.#since = now;
    this.#registered.add(member);
    const { breaker, slowStartMs } = this.#options;
    if (breaker !== false) this.#examine(member, breaker, now);
    if (slowStartMs > 0 && now - this.#since > slowStartMs) this.#ramp(member, now);
    this.reconsider(member);
  }

  left(member: PoolMember<R>): void {
    member.registered = false;
    this.#takeOut(member);
    this.#registered.delete(member);
    this.#ejected.delete(member);
    this.#due.delete(member);
    this.#ramping.delete(member);
    this.#lookAtPanic();
  }

  /** A request was sent to it. */
  took(member: PoolMember<R>): void {
    this.#inFlight++;
    if (++member.inFlight >= member.limit && member.registered) this.#place(member);
  }

  /** A request has left it. Whoever waits is not served before `freed`: what became of the request is told in between. */
  gave(member: PoolMember<R>): void {
    this.#inFlight--;
    member.inFlight--;
  }

  freed(member: PoolMember<R>): void {
    if (member.registered && (member.index < 0 || member.ramping)) this.reconsider(member);
  }

  /** Its resource is gone, with whatever was in flight on it. */
  lost(member: PoolMember<R>): void {
    this.#inFlight -= member.inFlight;
    member.lost = true;
  }

  /** What became of a request. A loss is to be told once, not for each request it took along. */
  heard(member: PoolMember<R>, startedAt: number, ok: boolean, now: number): void {
    const health = member.health;
    if (health === undefined) return;
    if (health.at === "trusted") {
      const reason = health.heard(ok, now);
      if (reason !== undefined && this.#mayEject()) this.#eject(member, health, reason, now);
      return;
    }
    const verdict = health.judgedBy(startedAt, ok);
    if (verdict === "eject") this.#eject(member, health, "probe", now);
    else if (verdict === "restore") this.#restore(member, health, now);
  }

  /** The caller of what may be its probe has given up: nobody knows what became of it, so another one is sent. */
  forgotten(member: PoolMember<R>, startedAt: number): void {
    const { health } = member;
    if (member.registered && health?.judgedBy(startedAt, true) !== undefined) this.#become(member, health);
  }

  /** Puts a member where it belongs, after anything that decides that has changed, and has those who wait served. */
  reconsider(member: PoolMember<R>): void {
    if (!member.registered) return;
    const stood = member.index >= 0;
    this.#place(member);
    // One that is held back, or due to be probed, has room for those who wait, too.
    if (member.index >= 0 ? !stood : this.#isHeldBack(member) || this.#isDue(member)) this.#owner.roomMade();
  }

  /** A strategy may have sorted what it was shown, or taken some out. That must not harm us: all are put back. */
  putInOrder(): void {
    this.available.length = 0;
    for (const member of this.#registered) {
      if (member.index >= 0) member.index = this.available.push(member) - 1;
    }
  }

  /** No timer is left behind. */
  close(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#due.clear();
  }

  /** Into those that may be chosen, or out of them. */
  #place(member: PoolMember<R>): void {
    member.limit = this.#limitOf(member);
    if (member.inFlight >= member.limit) this.#takeOut(member);
    else if (member.index < 0) member.index = this.available.push(member) - 1;
  }

  /** Whether only its youth speaks against it. */
  #isHeldBack(member: PoolMember<R>): boolean {
    return member.ramping && !this.#isOut(member) && member.inFlight < member.capacity;
  }

  /** Whether it can be probed. */
  #isDue(member: PoolMember<R>): boolean {
    return this.#due.has(member) && member.inFlight < member.capacity;
  }

  #limitOf(member: PoolMember<R>): number {
    if (this.#isOut(member)) return 0;
    if (!member.ramping) return member.capacity;
    const passed = (this.#options.runtime.now() - member.rampFrom) / this.#options.slowStartMs;
    if (passed >= 1) {
      member.ramping = false;
      this.#ramping.delete(member);
      return member.capacity;
    }
    const others = (this.#inFlight - member.inFlight) / Math.max(this.registered - 1, 1);
    return Math.min(member.capacity, Math.max(1, Math.round(Math.max(passed, firstShare) * others)));
  }

  #isOut(member: PoolMember<R>): boolean {
    return !this.panics && this.#ejected.has(member);
  }

  /** A place that was ejected when its last connection went is still. */
  #examine(member: PoolMember<R>, breaker: Required<BreakerOptions>, now: number): void {
    let health = this.#healths.get(member.place);
    if (health === undefined) {
      health = new Health(breaker, now);
      this.#healths.set(member.place, health);
    }
    member.health = health;
    if (health.at === "trusted") this.#lookAtPanic();
    else if (this.#mayEject()) this.#putAside(member, health, now);
    else this.#restore(member, health, now);
  }

  #ramp(member: PoolMember<R>, now: number): void {
    member.ramping = true;
    member.rampFrom = now;
    this.#ramping.add(member);
  }

  #mayEject(): boolean {
    const { breaker } = this.#options;
    if (breaker === false) return false;
    return this.#ejected.size < Math.max(1, Math.floor(breaker.maxEjected * this.#owner.places()));
  }

  #eject(member: PoolMember<R>, health: Health, reason: EjectReason, now: number): void {
    const { failures } = health;
    const ejectMs = health.eject(now);
    emit("member.ejected", { ...this.#named(member), reason, failures, ejectMs });
    if (member.registered) this.#putAside(member, health, now);
  }

  #putAside(member: PoolMember<R>, health: Health, now: number): void {
    health.at = "ejected";
    this.#ejected.add(member);
    this.#lookAtPanic();
    this.reconsider(member);
    if (health.dueAt <= now) this.#become(member, health);
    this.#arm();
  }

  #restore(member: PoolMember<R>, health: Health, now: number): void {
    health.restore();
    emit("member.restored", { ...this.#named(member), ejectedMs: now - health.ejectedAt });
    if (!member.registered) return;
    this.#ejected.delete(member);
    this.#due.delete(member);
    if (this.#options.slowStartMs > 0 && this.registered > 1) this.#ramp(member, now);
    this.#lookAtPanic();
    this.reconsider(member);
  }

  #become(member: PoolMember<R>, health: Health): void {
    health.at = "due";
    this.#due.add(member);
    this.#owner.roomMade();
  }

  /** One timer, for whoever is due first. */
  #arm(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    let first = Infinity;
    for (const { health } of this.#ejected) {
      if (health?.at === "ejected") first = Math.min(first, health.dueAt);
    }
    if (first === Infinity) return;
    const { runtime } = this.#options;
    this.#timer = runtime.setTimer(
      () => {
        const now = runtime.now();
        for (const member of [...this.#ejected]) {
          const { health } = member;
          if (health?.at === "ejected" && health.dueAt <= now) this.#become(member, health);
        }
        this.#arm();
      },
      Math.max(first - runtime.now(), 0),
    );
  }

  #lookAtPanic(): void {
    const { breaker, pool } = this.#options;
    if (breaker === false) return;
    const healthy = this.registered - this.#ejected.size;
    const places = this.#owner.places();
    const panics = this.#ejected.size > 0 && healthy < breaker.panicBelow * places;
    if (panics === this.panics) return;
    this.panics = panics;
    emit(panics ? "pool.panicked" : "pool.calmed", { pool, healthy, places });
    for (const member of this.#ejected) this.reconsider(member);
  }

  /** Takes a member out of those that may be chosen: the last one moves to its place. */
  #takeOut(member: PoolMember<R>): void {
    if (member.index < 0) return;
    if (this.available[member.index] !== member) this.putInOrder();
    const at = member.index;
    member.index = -1;
    const last = this.available.pop() as PoolMember<R>;
    if (last === member) return;
    this.available[at] = last;
    last.index = at;
  }

  #named(member: PoolMember<R>): { pool: string; connection: string; endpoint: string } {
    return { pool: this.#options.pool, connection: `connection ${member.slot}`, endpoint: member.endpoint.id };
  }
}
