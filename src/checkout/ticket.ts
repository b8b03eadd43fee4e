/**
 * A caller who waits for a lease: its place in line, its abort, and the one answer it gets.
 *
 * Granting and cancelling are one transition: a ticket is settled once, and whoever comes second (the timer, the abort,
 * a release) finds it settled and passes on. So a resource is never given to somebody who has left.
 */

import { Waiter } from "../pool/index.ts";
import { type Abortable, newPromise, takeReject, takeResolve, unwatchAbort, watchAbort } from "../runtime/index.ts";
import type { PoolLease } from "./lease.ts";

/** Who keeps the line. */
export interface TicketOffice<R> {
  expired(ticket: Ticket<R>): void;
  shed(ticket: Ticket<R>, targetMs: number): void;
  /** Its caller has given up. */
  left(ticket: Ticket<R>): void;
}

export class Ticket<R> extends Waiter implements Abortable {
  readonly promise: Promise<PoolLease<R>> = newPromise<PoolLease<R>>();
  readonly #resolve: (lease: PoolLease<R>) => void = takeResolve<PoolLease<R>>();
  readonly #reject: (error: unknown) => void = takeReject();
  readonly #office: TicketOffice<R>;
  readonly #signal: AbortSignal | undefined;
  /** The work that waits for it has a lease of this pool itself, which it will not give back before it has this one. */
  readonly inside: PoolLease<R> | undefined;
  /** Where it was asked for, when that is wanted. */
  readonly stack: string | undefined;

  constructor(
    office: TicketOffice<R>,
    signal: AbortSignal | undefined,
    priority: number,
    inside: PoolLease<R> | undefined,
    stack: string | undefined,
  ) {
    super();
    this.#office = office;
    this.#signal = signal;
    this.priority = priority;
    this.inside = inside;
    this.stack = stack;
    if (signal !== undefined) watchAbort(signal, this);
  }

  grant(lease: PoolLease<R>): void {
    this.#settle();
    this.#resolve(lease);
  }

  refuse(error: unknown): void {
    this.#settle();
    this.#reject(error);
  }

  aborted(reason: unknown): void {
    this.#office.left(this);
    this.refuse(reason);
  }

  override expired(): void {
    this.#office.expired(this);
  }

  override shed(targetMs: number): void {
    this.#office.shed(this, targetMs);
  }

  #settle(): void {
    if (this.#signal !== undefined) unwatchAbort(this.#signal, this);
  }
}
