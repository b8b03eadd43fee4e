/**
 * What can be said about a checkout pool, what is assumed when it is not, and what is refused.
 */

import { type Connector, checkConnector } from "../connection/index.ts";
import { OptionError } from "../errors.ts";
import {
  type Checks,
  checkOptions,
  duration,
  fraction,
  having,
  integer,
  oneOf,
  required,
  runtimeCheck,
  signal,
  text,
} from "../options.ts";
import { type QueueOptions, queueCheck } from "../pool/index.ts";
import { type BackoffOptions, backoffCheck, type Runtime } from "../runtime/index.ts";

export interface CheckoutPoolOptions<R> {
  readonly connector: Connector<R>;
  /** Resources kept open, wanted or not. @default 0 */
  readonly min?: number;
  /** Resources at most, those opening and closing included. Opened when callers wait. @default 10 */
  readonly max?: number;
  /** Which idle resource is lent next: the one put back last, so that the others can grow old, or the first. @default "lifo" */
  readonly order?: "lifo" | "fifo";
  /** The line of callers while every resource is out. */
  readonly queue?: QueueOptions;
  /** The wait in line. @default 5_000 */
  readonly acquireTimeoutMs?: number;
  /** A lease held longer is ended, and its resource destroyed. @default off */
  readonly leaseTimeoutMs?: number;
  /** A resource idle for longer is closed, the oldest first, never below `min`. `Infinity`: none is. @default 600_000 */
  readonly idleTimeoutMs?: number;
  /** A resource older than this, from its opening, is closed when nobody has it. @default off */
  readonly maxLifetimeMs?: number;
  /** Shortens each lifetime by up to this share of it, so that they do not all end at once. Less than 1. @default 0.1 */
  readonly lifetimeJitter?: number;
  /** Leases after which a resource is closed. @default off */
  readonly maxUses?: number;
  /** A resource idle for longer is checked before it is lent. Needs the connector's `check`. @default off */
  readonly checkAfterIdleMs?: number;
  /** A resource idle, and not known to be good, for this long is checked while nobody wants it. @default off */
  readonly pingIdleMs?: number;
  /** How many at once. @default 1 */
  readonly pingLimit?: number;
  /** A lease held longer is told of, with the stack of its acquire; one that is lost to the garbage collector, too. @default off */
  readonly leakReportMs?: number;
  /** Resources being opened at once. @default 2 */
  readonly maxOpening?: number;
  /** @default 10_000 */
  readonly openTimeoutMs?: number;
  /** @default 5_000 */
  readonly checkTimeoutMs?: number;
  /** @default 5_000 */
  readonly resetTimeoutMs?: number;
  /** @default 5_000 */
  readonly closeTimeoutMs?: number;
  /** Between attempts to open. @default random-exponential, 1_000 to 30_000 ms */
  readonly backoff?: BackoffOptions;
  /** Of the pool's supervisors. @default 3 */
  readonly maxRestarts?: number;
  /** @default 5 */
  readonly maxSeconds?: number;
  readonly name?: string;
  readonly runtime?: Runtime;
}

/** What one caller may say. */
export interface AcquireOptions {
  /** Leaves the line at once. A lease that its caller does not have yet goes to the next in line. */
  readonly signal?: AbortSignal;
  /** 0: an idle resource, or an error. @default the pool's acquireTimeoutMs */
  readonly timeoutMs?: number;
  /** Higher goes first. @default 0 */
  readonly priority?: number;
}

/** What a pool goes by: the options that are numbers and words, with their defaults. */
export interface Settings {
  min: number;
  max: number;
  readonly order: "lifo" | "fifo";
  readonly acquireTimeoutMs: number;
  readonly leaseTimeoutMs: number;
  readonly idleTimeoutMs: number;
  readonly maxLifetimeMs: number;
  readonly lifetimeJitter: number;
  readonly maxUses: number;
  readonly checkAfterIdleMs: number;
  readonly pingIdleMs: number;
  readonly pingLimit: number;
  readonly leakReportMs: number;
  readonly maxOpening: number;
  readonly openTimeoutMs: number;
  readonly checkTimeoutMs: number;
  readonly resetTimeoutMs: number;
  readonly closeTimeoutMs: number;
}

const defaults: Settings = {
  min: 0,
  max: 10,
  order: "lifo",
  acquireTimeoutMs: 5_000,
  leaseTimeoutMs: Infinity,
  idleTimeoutMs: 600_000,
  maxLifetimeMs: Infinity,
  lifetimeJitter: 0.1,
  maxUses: Infinity,
  checkAfterIdleMs: Infinity,
  pingIdleMs: Infinity,
  pingLimit: 1,
  leakReportMs: Infinity,
  maxOpening: 2,
  openTimeoutMs: 10_000,
  checkTimeoutMs: 5_000,
  resetTimeoutMs: 5_000,
  closeTimeoutMs: 5_000,
};

const unlimited = { infinity: true };

/** The rows for everything but the connector. */
export const checkoutChecks: Checks<Omit<CheckoutPoolOptions<never>, "connector">> = {
  min: integer(0),
  max: integer(1),
  order: oneOf("lifo", "fifo"),
  queue: queueCheck,
  acquireTimeoutMs: duration({ zero: true, infinity: true }),
  leaseTimeoutMs: duration(unlimited),
  idleTimeoutMs: duration(unlimited),
  maxLifetimeMs: duration(unlimited),
  // 1 would let a resource end in the moment it is opened.
  lifetimeJitter: {
    expected: "a number from 0 to less than 1",
    accepts: (value) => fraction().accepts(value) && value !== 1,
  },
  maxUses: integer(1),
  checkAfterIdleMs: duration({ zero: true, infinity: true }),
  pingIdleMs: duration(unlimited),
  pingLimit: integer(1),
  leakReportMs: duration(unlimited),
  maxOpening: integer(1),
  openTimeoutMs: duration(),
  checkTimeoutMs: duration(),
  resetTimeoutMs: duration(),
  closeTimeoutMs: duration(),
  backoff: backoffCheck,
  maxRestarts: integer(0),
  maxSeconds: integer(1),
  name: text(),
  runtime: runtimeCheck,
};

export const acquireChecks: Checks<AcquireOptions> = {
  signal: signal(),
  timeoutMs: duration({ zero: true, infinity: true }),
  priority: { expected: "a number", accepts: (value) => typeof value === "number" && !Number.isNaN(value) },
};

/** @throws {OptionError} for what is unknown, out of range, or does not fit together. */
export function checkCheckout<R>(where: string, options: CheckoutPoolOptions<R>): Settings {
  checkOptions(where, options, { connector: required(having("open")), ...checkoutChecks } as Checks<
    CheckoutPoolOptions<R>
  >);
  checkConnector(where, options.connector as Connector<never>);
  const given = Object.entries(options).filter(([name, value]) => value !== undefined && Object.hasOwn(defaults, name));
  const settings = { ...defaults, ...(Object.fromEntries(given) as Partial<Settings>) };
  if (settings.min > settings.max)
    throw new OptionError(`${where}: min`, `at most max (${settings.max})`, settings.min);
  if (options.connector.check === undefined) {
    for (const name of ["checkAfterIdleMs", "pingIdleMs"] as const) {
      if (settings[name] < Infinity) {
        throw new OptionError(`${where}: ${name}`, "a connector that has a check", settings[name]);
      }
    }
  }
  return settings;
}
