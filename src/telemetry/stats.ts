/**
 * What a pool says of itself in numbers.
 *
 * The shape lives on the lowest row because errors carry it, snapshots hold it and metrics are made of it. It is
 * always computed from the structures that do the work, so it cannot drift from them: gauges are exact at the moment
 * of the call, totals only grow.
 */

/** Counts of one pool, exact at the moment they are read. */
export interface PoolStats {
  readonly name: string;
  readonly kind: "routing" | "checkout";
  /** Connections the pool has, in whatever state. */
  readonly size: number;
  /** Connections able to serve, those kept out by the breaker included. */
  readonly ready: number;
  /** Connections on their way to a resource. */
  readonly opening: number;
  /** Connections waiting for their backoff to pass. */
  readonly waitingToReopen: number;
  /** Connections finishing what they have, and those closing. */
  readonly draining: number;
  /** Connections whose connector said that retrying is useless. */
  readonly fatal: number;
  /** Of the ready, those the breaker keeps out. */
  readonly ejected: number;
  /** Ready and doing nothing. */
  readonly idle: number;
  /** Ready and doing something. */
  readonly used: number;
  /** Requests the resources have not answered yet, given-up ones included. */
  readonly inFlight: number;
  /** Callers in the line. */
  readonly waiting: number;
  readonly totals: PoolTotals;
}

/** What has happened since the pool started. */
export interface PoolTotals {
  /** Grants: each time a caller was given a resource or a member, retries included. */
  readonly acquired: number;
  /** Works that ended well. */
  readonly succeeded: number;
  /** Works that ended in an error which the caller saw. */
  readonly failed: number;
  /** Callers whose wait ran out. */
  readonly timedOut: number;
  /** Callers turned away at the door: full line, busy, no member, closed. */
  readonly rejected: number;
  /** Callers turned away from the line under overload. */
  readonly shed: number;
  /** Works made again on another grant. */
  readonly retried: number;
  readonly opened: number;
  readonly openFailed: number;
  /** Resources that went away by themselves. */
  readonly lost: number;
  /** Resources closed, lost ones included. */
  readonly closed: number;
}
