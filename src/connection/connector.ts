/**
 * What a pool must be told about one kind of resource: how to open, check, reset and close it.
 *
 * The only thing an adapter has to write. A connector may be a plain object or a class with fields of its own; only the
 * fields named here are looked at. Hooks may be slow, throw, hang or lie: the pool bounds each in time and goes on.
 */

import { OptionError } from "../errors.ts";
import { type Check, callback, checkFields, required, text } from "../options.ts";
import type { ExitReason } from "../process/index.ts";

export interface Connector<R> {
  /** Of the kind of resource: `"fanta"`, `"postgres"`. */
  readonly name: string;
  /** Where to open connections to. @default one endpoint, whose id is the connector's name */
  readonly endpoints?: EndpointSource;
  /** Opens one. Should give up when `context.signal` is aborted; a resource that comes later is closed. */
  open(context: OpenContext): Promise<R> | R;
  /** Called once for every resource opened, lost ones included. */
  close?(resource: R, reason: ExitReason): void | Promise<void>;
  /** A throw, a rejection or `false` means: no longer good. */
  check?(resource: R, signal: AbortSignal): unknown;
  /** Makes a resource fit for the next caller, after a lease. */
  reset?(resource: R): void | Promise<void>;
  /** Whether a resource that comes back needs no `reset`. Asked at each release, so it should only look. @default false */
  fit?(resource: R): boolean;
  /** Requests a resource takes at once. @default Infinity */
  capacity?(resource: R): number;
  /** Whether what a work rejected with speaks against the resource. @default all but the caller's own abort */
  isFailure?(error: unknown): boolean;
  /**
   * Whether an error of `open` is one of configuration, which retrying cannot mend. It is not tried again there before
   * `recycle`; in a checkout pool that has an open one, no sooner than the backoff's `maxMs` later, when somebody waits.
   * @default false
   */
  isFatal?(error: Error): boolean;
}

export interface OpenContext {
  /** Aborted when nobody wants the resource any more: time is up, or the connection ends. */
  readonly signal: AbortSignal;
  /** The place in the pool that it is for. */
  readonly slot: number;
  readonly endpoint: Endpoint;
  /** The resource is gone. Wire every close event to this; only the first call counts. */
  readonly lost: (reason?: Error) => void;
  /** The resource finishes what is in flight and wants nothing new (GOAWAY). */
  readonly draining: () => void;
  /** Ask `capacity` again. */
  readonly capacityChanged: () => void;
}

export interface Endpoint {
  /** Its identity: `"10.0.0.7:7000"`. */
  readonly id: string;
  /** For the strategies that weigh. @default 1 */
  readonly weight?: number;
  /** Whatever the connector wants to know. */
  readonly data?: unknown;
}

/** A fixed list, or full sets as they change. */
export type EndpointSource = readonly Endpoint[] | AsyncIterable<readonly Endpoint[]>;

/** The row for an option that is a source of endpoints. */
export const endpointsCheck: Check = {
  expected: "an array of endpoints, or an async iterable of such arrays",
  accepts: (value) =>
    Array.isArray(value) || (typeof value === "object" && value !== null && Symbol.asyncIterator in value),
};

/** @throws {OptionError} for what cannot be a connector. */
export function checkConnector(where: string, connector: Connector<never>): void {
  type Known = Pick<
    Connector<never>,
    "name" | "endpoints" | "open" | "close" | "check" | "reset" | "fit" | "capacity" | "isFailure" | "isFatal"
  >;
  checkFields<Known>(`${where}: connector`, connector, {
    name: required(text()),
    endpoints: endpointsCheck,
    open: required(callback()),
    close: callback(),
    check: callback(),
    reset: callback(),
    fit: callback(),
    capacity: callback(),
    isFailure: callback(),
    isFatal: callback(),
  });
}

/** One of each id, the first; checked. */
export function checkEndpoints(where: string, endpoints: readonly Endpoint[]): Endpoint[] {
  const byId = new Map<string, Endpoint>();
  for (const [at, endpoint] of endpoints.entries()) {
    const { id, weight = 1 } = endpoint ?? {};
    if (typeof id !== "string" || id === "") throw new OptionError(`${where}[${at}]: id`, "a string", id);
    if (typeof weight !== "number" || !(weight > 0 && weight < Infinity)) {
      throw new OptionError(`${where}[${at}]: weight`, "a number more than 0", weight);
    }
    if (!byId.has(id)) byId.set(id, endpoint);
  }
  return [...byId.values()];
}
