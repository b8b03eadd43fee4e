/**
 * How long to wait before trying again, as a pure value.
 *
 * Everyone who waits the same time comes back at the same moment, and knocks over what was getting up. So the default
 * is exponential *and* random. The three kinds, after DBConnection's backoff:
 *
 * - `exponential`: minMs, then doubled each time, up to maxMs.
 * - `random`: uniform in [minMs, maxMs], without memory.
 * - `random-exponential`: uniform in [min(previous, low), min(3 · previous, maxMs)] with low = max(minMs, maxMs / 3) and
 *   `previous` starting at minMs. So the first wait is in [minMs, 3 · minMs], waits grow, and at the top they wander
 *   in [maxMs / 3, maxMs].
 *
 * A value never changes: `nextDelay` returns the delay and the value for the next time. To start over, make it anew.
 */

import { type Check, duration, nested, oneOf } from "../options.ts";
import { OptionError } from "../errors.ts";

export interface BackoffOptions {
  /** @default "random-exponential" */
  readonly kind?: "exponential" | "random" | "random-exponential";
  /** The shortest wait. @default 1_000, or maxMs if that is less */
  readonly minMs?: number;
  /** The longest wait. @default 30_000, or minMs if that is more */
  readonly maxMs?: number;
}

export interface Backoff {
  readonly kind: "exponential" | "random" | "random-exponential";
  readonly minMs: number;
  readonly maxMs: number;
  /** The last wait; `undefined` before the first. */
  readonly previousMs: number | undefined;
}

/** A fresh backoff. The options are taken as checked. */
export function backoff(options: BackoffOptions = {}): Backoff {
  const { kind = "random-exponential" } = options;
  const minMs = options.minMs ?? Math.min(1_000, options.maxMs ?? 1_000);
  const maxMs = options.maxMs ?? Math.max(minMs, 30_000);
  return { kind, minMs, maxMs, previousMs: undefined };
}

/** The wait before the next attempt, in milliseconds, and the value to ask after that one. */
export function nextDelay(state: Backoff, random: () => number): readonly [delayMs: number, next: Backoff] {
  const delayMs = delayOf(state, random);
  return [delayMs, { ...state, previousMs: delayMs }];
}

function delayOf({ kind, minMs, maxMs, previousMs }: Backoff, random: () => number): number {
  const uniform = (low: number, high: number): number => low + random() * (high - low);
  switch (kind) {
    case "exponential":
      return previousMs === undefined ? minMs : Math.min(2 * previousMs, maxMs);
    case "random":
      return uniform(minMs, maxMs);
    case "random-exponential": {
      const previous = previousMs ?? minMs;
      const low = Math.max(minMs, maxMs / 3);
      return uniform(Math.min(previous, low), Math.min(3 * previous, maxMs));
    }
  }
}

const fields: Check = nested<BackoffOptions>({
  kind: oneOf("exponential", "random", "random-exponential"),
  minMs: duration(),
  maxMs: duration(),
});

/** The row for an option that holds backoff options. */
export const backoffCheck: Check = {
  ...fields,
  inside: (name, value) => {
    fields.inside?.(name, value);
    const { minMs, maxMs } = value as BackoffOptions;
    if (minMs !== undefined && maxMs !== undefined && minMs > maxMs) {
      throw new OptionError(`${name}: minMs`, `at most maxMs (${maxMs})`, minMs);
    }
  },
};
