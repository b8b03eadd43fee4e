/**
 * What both kinds of pool promise.
 *
 * A checkout pool lends a resource to one caller at a time; a routing pool sends many callers' requests to resources
 * they share. They have different insides and the same outside: `use` runs a work on a resource, and the rest is for
 * those who run the program: to see it, to change its size, to end it.
 */

import type { ConnectionState } from "../connection/index.ts";
import type { HasProcess, Process } from "../process/index.ts";
import type { PoolStats } from "../telemetry/index.ts";

export interface Pool<R> extends HasProcess, AsyncDisposable {
  readonly name: string;
  /**
   * Resolves when at least `min` connections are ready, opening them if it must.
   *
   * @param options.min @default 1, or the pool's own min if that is larger
   * @param options.timeoutMs @default 30_000
   * @throws {AcquireTimeoutError} phase `"open"`, with the last open error as its cause. {OpenFailedError} at once when
   *   opening can never succeed. {ClosedError}. The signal's own reason.
   */
  ready(options?: ReadyOptions): Promise<void>;
  /**
   * Runs `work` with a resource, waiting for one if it must, and settles as it does.
   *
   * @throws what `work` throws; {AcquireTimeoutError}, {QueueFullError}, {ShedError}, {ClosedError}, {OpenFailedError}
   *   before it was called; {ConnectionLostError} when its resource is lost under it; the signal's own reason.
   */
  use<T>(work: Work<R, T>, options?: UseOptions): Promise<T>;
  /** Computed from the structures at the moment of the call. O(connections). */
  stats(): PoolStats;
  /** Everything there is to see: what the dashboard, the tests and a person in a debugger all read. */
  snapshot(): PoolSnapshot;
  /** The supervision tree; the pool's children are `"registry"` and `"connections"`. */
  tree(): ProcessTree;
  /**
   * Changes how many connections there are: per endpoint for a routing pool, at most for a checkout pool. Resolves once
   * applied; what must go finishes first.
   */
  resize(size: number): Promise<void>;
  /**
   * Replaces every connection, spread over `overMs`, and interrupts nobody. Resolves when all are new: for a checkout pool,
   * when the old ones are gone and `min` are ready again, however long its server is down.
   *
   * @throws {ClosedError} when the pool is closed first. {OpenFailedError} when `min` new ones can never be opened.
   */
  recycle(options?: { readonly overMs?: number }): Promise<void>;
  /**
   * Refuses new calls, serves those already made (those in line too), then stops. At the deadline by force. Every call
   * gets the same promise.
   *
   * @param options.timeoutMs @default 30_000
   */
  close(options?: { readonly timeoutMs?: number }): Promise<CloseReport>;
  /** Ends it now: whoever waits or works gets `reason`, else a {ClosedError}. A pending close resolves. */
  destroy(reason?: Error): Promise<void>;
}

/** What a caller does with a resource. `signal`: the caller's abort, the resource's loss, the lease's expiry. */
export type Work<R, T> = (resource: R, context: WorkContext) => T | Promise<T>;

export interface WorkContext {
  readonly signal: AbortSignal;
}

export interface ReadyOptions {
  readonly min?: number;
  readonly signal?: AbortSignal;
  readonly timeoutMs?: number;
}

/** Each kind of pool ignores what it has no use for. */
export interface UseOptions {
  readonly signal?: AbortSignal;
  /** The wait for a resource or a member, over all attempts; 0 means not at all. @default 5_000 */
  readonly timeoutMs?: number;
  /** What `rendezvous` routes by. */
  readonly key?: string | number;
  /** Whether the work may be done twice. Then it is made again when its resource is lost under it. @default false */
  readonly idempotent?: boolean;
  /** In line, higher goes first. @default 0 */
  readonly priority?: number;
}

/** Of the calls under way when close was called: those that ended by themselves, and those ended by force. */
export interface CloseReport {
  readonly finished: number;
  readonly aborted: number;
}

/** Ages are in milliseconds, `since` is `runtime.now()`. */
export interface PoolSnapshot {
  readonly name: string;
  readonly kind: "routing" | "checkout";
  readonly stats: PoolStats;
  readonly connections: readonly {
    readonly slot: number;
    readonly endpoint: string;
    readonly state: ConnectionState;
    readonly since: number;
    readonly inFlight: number;
    /** Failed attempts to open since the last success. */
    readonly attempts: number;
    /** The message of the last failure, scrubbed: a driver's text may hold secrets, so only its name and code. */
    readonly lastError?: string;
  }[];
  readonly waiters: readonly { readonly ageMs: number }[];
  readonly leases: readonly { readonly slot: number; readonly ageMs: number; readonly stack?: string }[];
}

export interface ProcessTree {
  readonly id: string;
  readonly process: Process;
  readonly children: readonly ProcessTree[];
}
