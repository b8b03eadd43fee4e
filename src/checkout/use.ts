/**
 * One call of a checkout pool's `use`: a lease for as long as a work runs.
 *
 *     begun ──▶ in line ──▶ working ──the work has settled──▶ settled; the lease is given back
 *       │          │           │
 *       └──────────┴───────────┴── the caller gives up ─────▶ settled; the lease is given back when the work has settled
 *                              └── its lease is ended ──one tick──▶ settled, unless the work says something first
 *
 * The caller is told at once when it gives up. The resource is not free before its work has ended: what the work may still
 * do to it must not meet the next caller.
 */

import { asError, type ConnectionLostError } from "../errors.ts";
import type { UseOptions, Work, WorkContext } from "../pool/index.ts";
import { type Abortable, newPromise, takeReject, takeResolve, unwatchAbort, watchAbort } from "../runtime/index.ts";
import type { PoolLease } from "./lease.ts";
import type { Lending } from "./lending.ts";

const lostCode: ConnectionLostError["code"] = "ERR_CONNECTION_LOST";

export class UseCall<R, T> implements Abortable, WorkContext {
  readonly #promise: Promise<T> = newPromise<T>();
  readonly #resolve: (value: T) => void = takeResolve<T>();
  readonly #reject: (error: unknown) => void = takeReject();
  readonly #lending: Lending<R>;
  readonly #work: Work<R, T>;
  readonly #options: UseOptions;
  #settled = false;
  #controller: AbortController | undefined = undefined;
  #endedBy: unknown = undefined;
  /** Tells the caller that its lease was ended; set for as long as the work has a chance to say so itself. */
  #tellEnd: (() => void) | undefined = undefined;

  constructor(lending: Lending<R>, work: Work<R, T>, options: UseOptions) {
    this.#lending = lending;
    this.#work = work;
    this.#options = options;
  }

  /** Aborted when the caller gives up, the resource is lost, or the lease is out of time. Made when it is asked for. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#endedBy !== undefined) this.#controller.abort(this.#endedBy);
    }
    return this.#controller.signal;
  }

  begin(): Promise<T> {
    const theirs = this.#options.signal;
    if (theirs?.aborted) return Promise.reject(theirs.reason);
    const lease = this.#lending.lendNow();
    if (lease !== undefined) this.#run(lease);
    else {
      // A promise, so that the work runs in its caller's context and not in that of whoever made room.
      this.#lending.wait(this.#options).then(
        (granted) => this.#run(granted),
        (error: unknown) => this.#fail(error),
      );
    }
    return this.#promise;
  }

  /** The caller's signal. */
  aborted(reason: unknown): void {
    this.#abort(reason);
    this.#fail(reason);
  }

  #run(lease: PoolLease<R>): void {
    const theirs = this.#options.signal;
    if (theirs?.aborted || !lease.inForce) {
      // Given up, or lost, between the grant and now: the resource was never touched.
      lease[Symbol.dispose]();
      this.#fail(theirs?.aborted ? theirs.reason : lease.endedBy);
      return;
    }
    if (theirs !== undefined) watchAbort(theirs, this);
    lease.onEnd = (reason) => this.#leaseEnded(reason);
    const { carried } = this.#lending;
    // An async function: a synchronous throw is a rejection, and what is no promise is awaited all the same.
    const working = carried.run(lease, async () => this.#work(lease.resource, this));
    working.then(
      (value) => {
        carried.end();
        if (lease.inForce) lease.release();
        if (this.#settled) return;
        this.#settle();
        this.#resolve(value);
      },
      (error: unknown) => {
        carried.end();
        if (lease.inForce) giveBack(lease, error);
        this.#fail(error);
      },
    );
  }

  /** The work may know better what has happened to it: it has one tick to say so. */
  #leaseEnded(reason: Error): void {
    this.#abort(reason);
    if (this.#settled) return; // Its caller has given up.
    const { phase, runtime, endings } = this.#lending;
    if (phase === "closed") {
      this.#fail(reason);
      return;
    }
    const timer = runtime.setTimer(() => this.#tellEnd?.(), 0, { keepAlive: true });
    const tell = (): void => {
      this.#tellEnd = undefined;
      timer.cancel();
      endings.delete(tell);
      this.#fail(reason);
    };
    this.#tellEnd = tell;
    endings.add(tell);
  }

  #abort(reason: unknown): void {
    this.#endedBy ??= reason;
    this.#controller?.abort(reason);
  }

  #fail(error: unknown): void {
    if (this.#settled) return;
    this.#settle();
    this.#reject(error);
  }

  #settle(): void {
    this.#settled = true;
    if (this.#options.signal !== undefined) unwatchAbort(this.#options.signal, this);
    this.#tellEnd?.();
  }
}

/** A work that failed says nothing about its resource, unless it says that the resource is gone. */
function giveBack<R>(lease: PoolLease<R>, error: unknown): void {
  if ((error as { code?: unknown } | null | undefined)?.code === lostCode) lease.discard(asError(error));
  else lease.giveBack(false);
}
