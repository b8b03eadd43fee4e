/**
 * One caller's exclusive hold on one resource: a token, good once.
 *
 * Whoever identifies a lease by its resource can be fooled: a second release, or a use after the release, reaches the
 * caller who has the resource by then. So a lease is an object of its own, and the resource's unit knows the one that is
 * in force. What comes from any other is refused, and told as an event.
 */

import { LeaseError } from "../errors.ts";
import type { PoolStats } from "../telemetry/index.ts";
import type { Unit } from "./unit.ts";

export interface Lease<R> extends Disposable, AsyncDisposable {
  /**
   * @throws {LeaseError} `ERR_LEASE_RELEASED` when it was given back, or its resource is gone; `ERR_LEASE_EXPIRED` when it
   *   was held for longer than `leaseTimeoutMs`.
   */
  readonly resource: R;
  /** Aborted when the resource is lost, the lease is out of time, or the pool ends by force. */
  readonly signal: AbortSignal;
  /** Gives the resource back. Does nothing when the pool has ended the lease; a second call does nothing, and is an event. */
  release(): void;
  /** Gives it back as broken: it is closed, and not lent again. */
  discard(reason?: Error): void;
}

/** What a lease needs of its pool. */
export interface Lender<R> {
  stats(): PoolStats;
  takeBack(unit: Unit<R>, ok: boolean): void;
  discard(unit: Unit<R>, reason: Error | undefined): void;
  /** A lease that is over was released or discarded again. */
  releasedLate(over: PoolLease<R>): void;
}

export class PoolLease<R> implements Lease<R> {
  /** The one it holds; none when it is over. */
  #unit: Unit<R> | undefined;
  readonly #lender: Lender<R>;
  readonly slot: number;
  /** Where it was acquired, when that is wanted. */
  readonly stack: string | undefined;
  /** The lease of the work that acquired it; once it is over itself, the nearest above it that is not. */
  #within: PoolLease<R> | undefined;
  /** Why it is over, when not by its own release. */
  endedBy: Error | undefined = undefined;
  /** The pool has ended it, and its holder has not given it back yet. */
  #owed = false;
  #controller: AbortController | undefined = undefined;
  /** Told when it ends other than by its own release. */
  onEnd: ((reason: Error) => void) | undefined = undefined;

  constructor(unit: Unit<R>, lender: Lender<R>, stack: string | undefined, within: PoolLease<R> | undefined) {
    this.#unit = unit;
    this.#lender = lender;
    this.slot = unit.place.slot;
    this.stack = stack;
    this.#within = within;
  }

  get resource(): R {
    const unit = this.#unit;
    if (unit !== undefined) return unit.resource;
    const { slot, stack: acquireStack, endedBy: cause } = this;
    if (cause instanceof LeaseError) throw cause;
    throw new LeaseError("ERR_LEASE_RELEASED", { stats: this.#lender.stats(), slot, acquireStack, cause });
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.endedBy !== undefined) this.#controller.abort(this.endedBy);
    }
    return this.#controller.signal;
  }

  get within(): PoolLease<R> | undefined {
    return this.#within;
  }

  /** Whether the resource is its holder's still. */
  get inForce(): boolean {
    return this.#unit !== undefined;
  }

  release(): void {
    this.giveBack(true);
  }

  /** The same, for a work that went wrong. */
  giveBack(ok: boolean): void {
    const unit = this.#take();
    if (unit !== undefined) this.#lender.takeBack(unit, ok);
  }

  discard(reason?: Error): void {
    const unit = this.#take();
    if (unit !== undefined) this.#lender.discard(unit, reason);
  }

  [Symbol.dispose](): void {
    if (this.#unit !== undefined) this.release();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this[Symbol.dispose]();
  }

  /** The pool ends it: its resource is lost, its time is over, or the pool is. */
  end(reason: Error): void {
    if (this.#unit === undefined) return;
    this.#unit = undefined;
    const { onEnd } = this;
    this.#cut();
    this.endedBy = reason;
    this.#owed = true;
    this.#controller?.abort(reason);
    onEnd?.(reason);
  }

  /** Takes the resource from its holder. Nothing: it is not the holder's any more. */
  #take(): Unit<R> | undefined {
    const unit = this.#unit;
    if (unit !== undefined) {
      this.#unit = undefined;
      this.#cut();
    } else if (this.#owed) this.#owed = false;
    else this.#lender.releasedLate(this);
    return unit;
  }

  /**
   * It is over, and so may be some above it: nobody asks for these. Whoever still has it, as the context of a promise does,
   * must not have them too, nor its work: one that starts its successor would be kept by it, and all before them.
   */
  #cut(): void {
    this.onEnd = undefined;
    while (this.#within !== undefined && !this.#within.inForce) this.#within = this.#within.within;
  }
}

/**
 * A lease whose holder may forget it: what the pool keeps is the lease, what the caller has is this, so that the garbage
 * collector can find out that nobody has it. Only where leaks are reported: registering costs more than lending.
 */
export class WatchedLease<R> implements Lease<R> {
  readonly #lease: PoolLease<R>;

  constructor(lease: PoolLease<R>, dropped: FinalizationRegistry<PoolLease<R>>) {
    this.#lease = lease;
    dropped.register(this, lease);
  }

  get resource(): R {
    return this.#lease.resource;
  }

  get signal(): AbortSignal {
    return this.#lease.signal;
  }

  release(): void {
    this.#lease.release();
  }

  discard(reason?: Error): void {
    this.#lease.discard(reason);
  }

  [Symbol.dispose](): void {
    this.#lease[Symbol.dispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#lease[Symbol.dispose]();
  }
}
