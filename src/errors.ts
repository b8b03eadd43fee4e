/**
 * Every error the library makes, on one page.
 *
 * An error is for the caller's next move: `code` to branch on (stable; match it rather than `instanceof`, which fails
 * across two copies of the package), `retryable` for the loop, fields for the dashboard, and a message that ends with
 * what to do. `retryable` means: the same call may succeed if simply made again later.
 *
 * Our own messages hold no secrets: names, counts and durations only. A `cause` is the driver's error, untouched.
 */

import type { PoolStats } from "./telemetry/index.ts";

export abstract class PoolwardenError extends Error {
  abstract readonly code: string;
  /** Whether the same call may succeed if made again later. */
  readonly retryable: boolean = false;

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    Object.defineProperty(this, "name", { value: new.target.name, configurable: true, writable: true });
  }
}

/** An option is unknown, missing or out of range. Thrown before anything starts; a mistake in the program. */
export class OptionError extends PoolwardenError {
  readonly code = "ERR_OPTION";
  /** `"RoutingPool.start: size"`. */
  readonly option: string;
  readonly expected: string;
  readonly got: unknown;

  constructor(option: string, expected: string, got: unknown, gotWords: string = describe(got)) {
    super(`${option}: expected ${expected}, got ${gotWords}. Correct the call.`);
    this.option = option;
    this.expected = expected;
    // Not enumerable, so that printing the error does not print the insides of what was passed.
    Object.defineProperty(this, "got", { value: got, enumerable: false });
  }
}

export type ProcessErrorCode = "ERR_PROCESS_EXITED";

/** A process ended before it could do what was asked of it. */
export class ProcessError extends PoolwardenError {
  readonly code: ProcessErrorCode;
  /** Why it ended. */
  readonly reason: string | Error;

  constructor(code: ProcessErrorCode, message: string, reason: string | Error) {
    super(message, reason instanceof Error ? { cause: reason } : undefined);
    this.code = code;
    this.reason = reason;
  }
}

export type SupervisorErrorCode =
  | "ERR_SUPERVISOR_ALREADY_STARTED"
  | "ERR_SUPERVISOR_ALREADY_PRESENT"
  | "ERR_SUPERVISOR_NOT_FOUND"
  | "ERR_SUPERVISOR_RUNNING"
  | "ERR_SUPERVISOR_RESTARTING"
  | "ERR_SUPERVISOR_MAX_CHILDREN"
  | "ERR_SUPERVISOR_STOPPED"
  | "ERR_SUPERVISOR_START_FAILED"
  | "ERR_SUPERVISOR_REENTRANT";

/** A supervisor refused a call, or a child did not start (`cause` says why, `childId` which). */
export class SupervisorError extends PoolwardenError {
  readonly code: SupervisorErrorCode;
  readonly supervisor: string;
  readonly childId: string | undefined;

  constructor(
    code: SupervisorErrorCode,
    message: string,
    fields: { supervisor: string; childId?: string | undefined; cause?: unknown },
  ) {
    super(message, "cause" in fields ? { cause: fields.cause } : undefined);
    this.code = code;
    this.supervisor = fields.supervisor;
    this.childId = fields.childId;
  }
}

export type RegistryErrorCode =
  | "ERR_REGISTRY_TAKEN"
  | "ERR_REGISTRY_NO_PROCESS"
  | "ERR_REGISTRY_CLOSED"
  | "ERR_REGISTRY_UNSUPPORTED"
  | "ERR_REGISTRY_REENTRANT";

/** A registry refused a call. */
export class RegistryError<Holder = unknown> extends PoolwardenError {
  readonly code: RegistryErrorCode;
  readonly registry: string;
  /** For `ERR_REGISTRY_TAKEN`: the process that holds the key. */
  readonly holder: Holder | undefined;

  constructor(code: RegistryErrorCode, message: string, fields: { registry: string; holder?: Holder }) {
    super(message);
    this.code = code;
    this.registry = fields.registry;
    this.holder = fields.holder;
  }
}

/** What every error of a pool carries. */
export interface PoolErrorFields {
  readonly stats: PoolStats;
  /** How long the caller waited, in milliseconds, where it did. */
  readonly waitedMs?: number | undefined;
  readonly cause?: unknown;
}

/** An error that a pool makes. `stats` is the pool at that moment. */
export abstract class PoolError extends PoolwardenError {
  readonly stats: PoolStats;
  readonly waitedMs: number | undefined;

  constructor(message: string, fields: PoolErrorFields) {
    super(message, fields.cause === undefined ? undefined : { cause: fields.cause });
    this.stats = fields.stats;
    this.waitedMs = fields.waitedMs;
  }
}

/**
 * The caller's wait ran out. `phase` says what it waited for: its turn (`"queue"`), a connection (`"open"`: `cause` is
 * the last failure to open one), or a check (`"check"`).
 */
export class AcquireTimeoutError extends PoolError {
  readonly code = "ERR_POOL_ACQUIRE_TIMEOUT";
  override readonly retryable: boolean = true;
  readonly phase: "queue" | "open" | "check";

  constructor(phase: "queue" | "open" | "check", fields: PoolErrorFields) {
    const { stats, waitedMs = 0, cause } = fields;
    const remedy = {
      queue: "Look for works that hold too long first, then raise the size, then the timeout.",
      open:
        cause === undefined
          ? "No attempt to open a connection has ended yet: see whether the server answers at all."
          : "No connection could be opened in that time: see the cause, and whether the server is up and takes more of them.",
      check: "The check of an idle resource did not end in that time: see the connector's check.",
    }[phase];
    super(
      `pool "${stats.name}": no resource after ${round(waitedMs)} ms (${phase}; ${counts(stats)}). ${remedy}`,
      fields,
    );
    this.phase = phase;
  }
}

/** The line is at its limit: turned away at once. */
export class QueueFullError extends PoolError {
  readonly code = "ERR_POOL_QUEUE_FULL";
  override readonly retryable: boolean = true;

  constructor(limit: number, fields: PoolErrorFields) {
    super(
      `pool "${fields.stats.name}": ${limit} callers wait already (${counts(fields.stats)}). ` +
        `Retry after a pause, or raise queue.limit if the callers can afford the wait.`,
      fields,
    );
  }
}

/**
 * The connector says that opening can never succeed as configured (`isFatal`); `cause` is the driver's error. At once when
 * a pool has nothing else; a checkout pool that has tells those whose time was over before one came free.
 */
export class OpenFailedError extends PoolError {
  readonly code = "ERR_POOL_OPEN_FAILED";

  constructor(fields: PoolErrorFields) {
    super(
      `pool "${fields.stats.name}": opening failed with an error that retrying cannot mend (see cause). ` +
        `Correct the configuration, then call recycle().`,
      fields,
    );
  }
}

/** Turned away from the line under overload. */
export class ShedError extends PoolError {
  readonly code = "ERR_POOL_SHED";
  override readonly retryable: boolean = true;

  constructor(targetMs: number, fields: PoolErrorFields) {
    super(
      `pool "${fields.stats.name}": shed after ${round(fields.waitedMs ?? 0)} ms in line (target ${targetMs} ms; ` +
        `${counts(fields.stats)}): callers arrive faster than resources return. Retry after a pause; look for slow ` +
        `works, then raise the size, then queue.shed.targetMs.`,
      fields,
    );
  }
}

export type LeaseErrorCode = "ERR_LEASE_RELEASED" | "ERR_LEASE_EXPIRED";

/** A lease is not its holder's any more. */
export class LeaseError extends PoolError {
  readonly code: LeaseErrorCode;
  readonly slot: number;
  /** Where the lease was acquired, when the pool was asked to note that (`leaseTimeoutMs`, `leakReportMs`). */
  readonly acquireStack: string | undefined;

  constructor(
    code: LeaseErrorCode,
    fields: PoolErrorFields & {
      readonly slot: number;
      readonly heldMs?: number;
      readonly acquireStack?: string | undefined;
    },
  ) {
    const { stats, slot, heldMs = 0, acquireStack, cause } = fields;
    const why = {
      ERR_LEASE_RELEASED:
        cause === undefined
          ? "was released before. Use a resource only until its release; acquire again for more."
          : "is over, because its resource is gone (see cause). Acquire again.",
      ERR_LEASE_EXPIRED: `was held for ${round(heldMs)} ms, longer than leaseTimeoutMs allows, and its resource was destroyed. Hold it for less, or allow more.`,
    }[code];
    super(`pool "${stats.name}": the lease of slot ${slot} ${why}`, fields);
    this.code = code;
    this.slot = slot;
    this.acquireStack = acquireStack;
  }
}

/**
 * A work of this pool has asked for a second resource of it, and so have all the others: nobody would ever be served, if
 * each awaits what it has asked for. Whether it does cannot be known: a call that a work makes and does not await counts too.
 * Make such a call outside of the work's async context: in an
 * `AsyncLocalStorage.snapshot()` that was taken outside of works.
 */
export class NestedUseError extends PoolError {
  readonly code = "ERR_POOL_NESTED";

  constructor(fields: PoolErrorFields) {
    super(
      `pool "${fields.stats.name}": every resource is held by a work that waits for another one of the same pool ` +
        `(${counts(fields.stats)}): nobody could ever be served. Pass the resource down instead of acquiring again, or ` +
        `make the pool larger than the works that nest. A call that its work does not await is counted too: make it ` +
        `when the work has ended, or in an AsyncLocalStorage.snapshot() taken outside of works.`,
      fields,
    );
  }
}

/** No member is connected. `cause` is the last failure to open one. */
export class NoMemberError extends PoolError {
  readonly code = "ERR_POOL_NO_MEMBER";
  override readonly retryable: boolean = true;

  constructor(fields: PoolErrorFields) {
    super(
      `pool "${fields.stats.name}": no member is connected (${counts(fields.stats)}). ` +
        `Retry later${fields.cause === undefined ? "." : "; see the cause for why the last attempt to open one failed."}`,
      fields,
    );
  }
}

/** Members are connected, and none has room. */
export class BusyError extends PoolError {
  readonly code = "ERR_POOL_BUSY";
  override readonly retryable: boolean = true;

  constructor(fields: PoolErrorFields) {
    super(
      `pool "${fields.stats.name}": every member is at its capacity (${counts(fields.stats)}). ` +
        `Retry later, allow a wait with timeoutMs, or raise the size.`,
      fields,
    );
  }
}

/** The pool is closing or closed. */
export class ClosedError extends PoolError {
  readonly code = "ERR_POOL_CLOSED";

  constructor(fields: PoolErrorFields) {
    super(`pool "${fields.stats.name}" is closed. Start a new one to go on.`, fields);
  }
}

/**
 * The connection went away. `sent: "no"` means that the request certainly never left: it may be made again, and a
 * routing pool does so by itself. `"maybe"` means that the other side may have done it.
 */
export class ConnectionLostError extends PoolwardenError {
  readonly code = "ERR_CONNECTION_LOST";
  readonly sent: "no" | "maybe";
  override readonly retryable: boolean;
  /** The pool at that moment, where a pool made this error. */
  readonly stats: PoolStats | undefined;

  constructor(message: string, fields: { sent: "no" | "maybe"; cause?: unknown; stats?: PoolStats }) {
    super(message, fields.cause === undefined ? undefined : { cause: fields.cause });
    this.sent = fields.sent;
    this.retryable = fields.sent === "no";
    this.stats = fields.stats;
  }
}

export type FantaErrorCode =
  | "ERR_FANTA_RESPONSE"
  | "ERR_FANTA_TIMEOUT"
  | "ERR_FANTA_PROTOCOL"
  | "ERR_FANTA_TOO_LARGE"
  | "ERR_FANTA_CODEC"
  | "ERR_FANTA_BUSY"
  | "ERR_FANTA_LISTEN"
  | "ERR_FANTA_CONNECT";

/** What can go wrong with a Fanta request other than losing the connection under it. */
export class FantaError extends PoolwardenError {
  readonly code: FantaErrorCode;
  override readonly retryable: boolean;

  constructor(code: FantaErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
    this.retryable = code === "ERR_FANTA_TIMEOUT" || code === "ERR_FANTA_CONNECT";
  }
}

export type PostgresErrorCode = "ERR_POSTGRES_DRIVER" | "ERR_POSTGRES_NOT_STARTED" | "ERR_POSTGRES_ROLLED_BACK";

/** What can go wrong with a pool of Postgres clients that neither the pool nor the driver has an error for. */
export class PostgresError extends PoolwardenError {
  readonly code: PostgresErrorCode;

  constructor(code: PostgresErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}

/** Any thrown value as an `Error`: itself if it is one, else an `Error` that says what was thrown. */
export function asError(thrown: unknown): Error {
  if (thrown instanceof Error) return thrown;
  return new Error(`a value that is no Error was thrown: ${describe(thrown)}`, { cause: thrown });
}

function counts(stats: PoolStats): string {
  return (
    `${stats.size} connections: ${stats.ready} ready, ${stats.opening} opening, ${stats.waitingToReopen} waiting to ` +
    `reopen; ${stats.inFlight} in flight, ${stats.waiting} waiting`
  );
}

function round(ms: number): number {
  return Math.round(ms * 10) / 10;
}

/** A value in a few words. Never its insides: an object may hold a password. */
function describe(value: unknown): string {
  if (typeof value === "string") {
    // What could be an address may have a password in it.
    return value.length > 40 || /[@/]/.test(value) ? `a string of ${value.length} characters` : JSON.stringify(value);
  }
  if (typeof value === "function") return "a function";
  if (typeof value === "bigint") return `${value}n`;
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (typeof value === "object" && value !== null) {
    const name: unknown = Object.getPrototypeOf(value)?.constructor?.name;
    return typeof name === "string" && name !== "" ? `an object (${name})` : "an object";
  }
  return String(value);
}
