/**
 * Whether a member is fit to be chosen: the breaker, one for each place.
 *
 *              5 failures in a row, or fewer than 8 in 10 good
 *     trusted ────────────────────────────────────────────────▶ ejected ──its time is over──▶ due
 *        ▲                                                         ▲                            │
 *        │ the probe was good                    the probe was not │                            │ the next request
 *        └─────────────────────────────────────────────────────────┴──────────── probing ◀──────┘ goes there
 *
 * A member that fails is left alone for a while, and longer each time it has not come right (doubled, up to a limit).
 * Then one real request, the probe, is sent there, whatever the strategy would say; what becomes of it decides. Answers
 * to what was sent before do not: they are about the past.
 *
 * A place keeps its health when its connection is lost, so a server that hangs up on every request is found out too. A
 * loss counts as one failure, however many requests it took along.
 *
 * How many may be ejected at once, and when health is no longer looked at, is decided over all members (roster.ts).
 *
 * Consecutive failures or a ratio over exact buckets, and one request as the probe: after linkerd's breaker and Finagle's
 * failure accrual. A growing time, a cap on the share, a panic threshold: after Envoy's outlier detection.
 */

import { type Check, type Checks, duration, fraction, integer, nested } from "../options.ts";
import { OptionError } from "../errors.ts";
import { Tally } from "./tally.ts";

export interface BreakerOptions {
  /** Failures in a row that eject a member. @default 5 */
  readonly consecutive?: number;
  /** Ejected too when fewer than this share of its requests in the window were good. @default 0.8 */
  readonly successRatio?: number;
  /** @default 10_000 */
  readonly windowMs?: number;
  /** Requests in the window below which the ratio says nothing. @default 5 */
  readonly minSamples?: number;
  /** How long the first ejection lasts; each one that follows without a good probe, twice as long. @default 5_000 */
  readonly ejectMs?: number;
  /** @default 300_000 */
  readonly maxEjectMs?: number;
  /** The share of the members that may be ejected at once; one always may. @default 0.1 */
  readonly maxEjected?: number;
  /** When fewer than this share of the members are up and trusted, health is no longer looked at. @default 0.5 */
  readonly panicBelow?: number;
}

export const breakerDefaults: Required<BreakerOptions> = {
  consecutive: 5,
  successRatio: 0.8,
  windowMs: 10_000,
  minSamples: 5,
  ejectMs: 5_000,
  maxEjectMs: 300_000,
  maxEjected: 0.1,
  panicBelow: 0.5,
};

const checks: Checks<BreakerOptions> = {
  consecutive: integer(1),
  successRatio: fraction(),
  windowMs: duration(),
  minSamples: integer(1),
  ejectMs: duration(),
  maxEjectMs: duration(),
  maxEjected: fraction(),
  panicBelow: fraction(),
};

const fields = nested(checks);

/** The row for an option that holds breaker options. */
export const breakerCheck: Check = {
  ...fields,
  inside: (name, value) => {
    fields.inside?.(name, value);
    const { ejectMs, maxEjectMs } = { ...breakerDefaults, ...(value as BreakerOptions) };
    if (ejectMs > maxEjectMs) throw new OptionError(`${name}: ejectMs`, `at most maxEjectMs (${maxEjectMs})`, ejectMs);
  },
};

/** Why a member was ejected. `probe`: it had its chance, and failed again. */
export type EjectReason = "consecutive" | "ratio" | "probe";

export class Health {
  at: "trusted" | "ejected" | "due" | "probing" = "trusted";
  /** When it was ejected last. */
  ejectedAt = 0;
  /** When that is over. */
  dueAt = 0;
  readonly #options: Required<BreakerOptions>;
  readonly #tally: Tally;
  #consecutive = 0;
  /** Ejections since it was last trusted. */
  #times = 0;
  #probedAt = 0;

  constructor(options: Required<BreakerOptions>, now: number) {
    this.#options = options;
    this.#tally = new Tally(options.windowMs, now);
  }

  /** Failures in the window. */
  get failures(): number {
    return this.#tally.some;
  }

  /** A trusted member's request has ended. Returns why it should be ejected, if it should. O(1). */
  heard(ok: boolean, now: number): EjectReason | undefined {
    this.#tally.add(now);
    if (ok) {
      this.#consecutive = 0;
      return undefined;
    }
    this.#tally.addSome(now);
    const { consecutive, successRatio, minSamples } = this.#options;
    if (++this.#consecutive >= consecutive) return "consecutive";
    const { all, some } = this.#tally;
    return all >= minSamples && all - some < successRatio * all ? "ratio" : undefined;
  }

  /** What became of a request that was sent at `startedAt`, while it was being probed: the verdict, if that was the probe. */
  judgedBy(startedAt: number, ok: boolean): "restore" | "eject" | undefined {
    if (this.at !== "probing" || startedAt < this.#probedAt) return undefined;
    return ok ? "restore" : "eject";
  }

  /** Returns for how long. */
  eject(now: number): number {
    const { ejectMs, maxEjectMs } = this.#options;
    const forMs = Math.min(ejectMs * 2 ** this.#times, maxEjectMs);
    this.#times++;
    this.at = "ejected";
    this.ejectedAt = now;
    this.dueAt = now + forMs;
    return forMs;
  }

  probe(now: number): void {
    this.at = "probing";
    this.#probedAt = now;
  }

  restore(): void {
    this.at = "trusted";
    this.#times = 0;
    this.#consecutive = 0;
    this.#tally.clear();
  }
}
