/**
 * One resource of a checkout pool, and what is being done with it.
 *
 *      opened ──▶ idle ──────lent──────▶ leased ──released──▶ resetting ──▶ idle, or the next in line
 *                  │  ▲                     │                     │
 *          too old │  │ good                │ discarded, lost,    │ failed
 *     for no check ▼  │                     │ out of time         │
 *                checking ──no good─────────┴─────────────────────┴──▶ leaving (its connection closes it)
 *
 * Exactly one of these at any time, so a resource is never in two hands. A unit is one for as long as its resource is:
 * the next resource in the same slot has another.
 */

import type { Place } from "../pool/index.ts";
import type { DurationList, Timed } from "../runtime/index.ts";
import type { Errand } from "./errand.ts";
import type { PoolLease } from "./lease.ts";

export class Unit<R> {
  readonly place: Place<R, Unit<R>>;
  readonly resource: R;
  readonly openedAt: number;
  /** When it is too old to be lent again. */
  retireAt: number = Infinity;
  at: "new" | "idle" | "leased" | "resetting" | "checking" | "leaving" = "new";
  /** Whether it may be lent. Not when its connection is finishing; then somebody may still have it. */
  registered = false;
  /** What is being done with it, when it is checked or reset. */
  errand: Errand | undefined = undefined;
  /** Who has it. */
  lease: PoolLease<R> | undefined = undefined;
  /** Leases there have been. */
  uses = 0;
  /** When the current lease began. */
  leasedAt = 0;
  /** When it was last put back; unchanged by a check or a ping. */
  idleSince = 0;
  /** When it was last known to be good. */
  goodAt = 0;
  /** Its neighbours among the idle: before is older. */
  before: Unit<R> | undefined = undefined;
  after: Unit<R> | undefined = undefined;
  /** Bounds the lease. */
  readonly overdue: LeaseTimer<R> = new LeaseTimer(this);
  /** Reports the lease. */
  readonly leaking: LeaseTimer<R> = new LeaseTimer(this);

  constructor(place: Place<R, Unit<R>>, resource: R, openedAt: number) {
    this.place = place;
    this.resource = resource;
    this.openedAt = openedAt;
    this.goodAt = openedAt;
  }
}

/** A unit has one lease at a time, so the timers of its leases are its own. */
export class LeaseTimer<R> implements Timed {
  deadline = 0;
  timedBefore: Timed | undefined = undefined;
  timedAfter: Timed | undefined = undefined;
  timedIn: DurationList | undefined = undefined;
  readonly unit: Unit<R>;

  constructor(unit: Unit<R>) {
    this.unit = unit;
  }
}

/** The idle, from the one that has been so for longest to the one put back last. Putting and taking are O(1). */
export class Idle<R> {
  #oldest: Unit<R> | undefined;
  #newest: Unit<R> | undefined;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get oldest(): Unit<R> | undefined {
    return this.#oldest;
  }

  get newest(): Unit<R> | undefined {
    return this.#newest;
  }

  /** Puts one back. It stands where its `idleSince` says: at the end, unless it only was away for a ping. */
  put(unit: Unit<R>): void {
    let before = this.#newest;
    while (before !== undefined && before.idleSince > unit.idleSince) before = before.before;
    const after = before === undefined ? this.#oldest : before.after;
    unit.at = "idle";
    unit.before = before;
    unit.after = after;
    if (before === undefined) this.#oldest = unit;
    else before.after = unit;
    if (after === undefined) this.#newest = unit;
    else after.before = unit;
    this.#size++;
  }

  /** Takes one out that is idle, and then is nothing yet: to be taken once more would take others along. */
  take(unit: Unit<R>): void {
    unit.at = "new";
    if (unit.before === undefined) this.#oldest = unit.after;
    else unit.before.after = unit.after;
    if (unit.after === undefined) this.#newest = unit.before;
    else unit.after.before = unit.before;
    unit.before = undefined;
    unit.after = undefined;
    this.#size--;
  }

  /** From the oldest on. */
  *[Symbol.iterator](): IterableIterator<Unit<R>> {
    for (let unit = this.#oldest; unit !== undefined; unit = unit.after) yield unit;
  }
}
