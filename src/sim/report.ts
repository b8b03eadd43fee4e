/**
 * What a simulation has shown, in plain numbers: two runs with one seed give equal reports.
 *
 * Latencies go into a histogram with three significant digits (a thousandth at most is lost), so that ten million of
 * them cost no more memory than ten.
 */

import { createHistogram, type RecordableHistogram } from "node:perf_hooks";
import type { Scenario } from "./scenario.ts";

export interface SimulationResult {
  readonly seed: number;
  /** Requests that callers made, each counted once, however often it was tried. */
  readonly requests: number;
  readonly succeeded: number;
  readonly failed: number;
  /** Of those failed: by the code of the error that its caller had at last, or `"TIMEOUT"`: it waited no longer. */
  readonly failures: { readonly [code: string]: number };
  /** Requests that servers were sent, for each one that a caller made. */
  readonly attemptsPerRequest: number;
  /** Requests that a server was sent after it had said goodbye. */
  readonly lateAttempts: number;
  /** From a caller's request to what it was told at last, be it an answer or an error. */
  readonly latencyMs: {
    readonly mean: number;
    readonly p50: number;
    readonly p90: number;
    readonly p99: number;
    readonly p999: number;
    readonly max: number;
  };
  /** The same as a curve: this share of the requests took no longer than that. */
  readonly distribution: readonly { readonly share: number; readonly ms: number }[];
  readonly members: readonly MemberResult[];
  readonly overTime: readonly BucketResult[];
}

export interface MemberResult {
  readonly member: number;
  /** Requests that it was sent. */
  readonly picks: number;
  /** The same as a share of what all were sent. */
  readonly share: number;
  /** Of those, the ones it answered with an error. */
  readonly failed: number;
  /** `picks`, bucket by bucket. */
  readonly picksOverTime: readonly number[];
}

/** Requests that were made in one span of time, and what became of them. */
export interface BucketResult {
  readonly fromMs: number;
  readonly requests: number;
  readonly succeeded: number;
}

/** Points on the curve for each factor of ten in the share of requests that take longer. */
const pointsPerNine = 20;

export class Report {
  readonly #scenario: Scenario;
  readonly #now: () => number;
  readonly #latencyUs: RecordableHistogram = createHistogram({ figures: 3 });
  readonly #failures = new Map<string, number>();
  readonly #picks: number[];
  readonly #failedPicks: number[];
  readonly #picksOverTime: number[][];
  readonly #madeOverTime: number[] = [];
  readonly #succeededOverTime: number[] = [];
  #startedAt = 0;
  #late = 0;
  #succeeded = 0;
  #maxMs = 0;
  /** Requests made. */
  requests = 0;
  /** Of those, the ones whose callers have been told. */
  settled = 0;

  constructor(scenario: Scenario, now: () => number) {
    this.#scenario = scenario;
    this.#now = now;
    this.#picks = zeros(scenario.members);
    this.#failedPicks = zeros(scenario.members);
    this.#picksOverTime = this.#picks.map(() => []);
  }

  /** The simulated time begins here. */
  begin(): void {
    this.#startedAt = this.#now();
  }

  /** A server has been sent a request. */
  began(member: number, late: boolean): void {
    count(this.#picks, member);
    count(this.#picksOverTime[member] as number[], this.#bucket(this.#now()));
    if (late) this.#late++;
  }

  /** A server has done with a request. */
  ended(client: number, member: number, startedAt: number, ok: boolean): void {
    if (!ok) count(this.#failedPicks, member);
    const { onAttempt } = this.#scenario;
    if (onAttempt === undefined) return;
    onAttempt({
      client,
      member,
      startedAt: startedAt - this.#startedAt,
      endedAt: this.#now() - this.#startedAt,
      ok,
    });
  }

  made(at: number): void {
    this.requests++;
    count(this.#madeOverTime, this.#bucket(at));
  }

  /** A caller has been told. @param code Of the error; `undefined` if it was none. */
  told(madeAt: number, code: string | undefined): void {
    const ms = this.#now() - madeAt;
    this.settled++;
    this.#maxMs = Math.max(this.#maxMs, ms);
    this.#latencyUs.record(Math.max(1, Math.round(ms * 1_000)));
    if (code === undefined) {
      this.#succeeded++;
      count(this.#succeededOverTime, this.#bucket(madeAt));
    } else this.#failures.set(code, (this.#failures.get(code) ?? 0) + 1);
  }

  result(): SimulationResult {
    const { requests } = this;
    const picks = this.#picks.reduce((sum, each) => sum + each, 0);
    const buckets = Math.ceil(this.#scenario.durationMs / this.#scenario.bucketMs);
    return {
      seed: this.#scenario.seed,
      requests,
      succeeded: this.#succeeded,
      failed: requests - this.#succeeded,
      failures: Object.fromEntries([...this.#failures].sort(([a], [b]) => (a < b ? -1 : 1))),
      attemptsPerRequest: requests === 0 ? 0 : picks / requests,
      lateAttempts: this.#late,
      latencyMs: {
        mean: requests === 0 ? 0 : this.#latencyUs.mean / 1_000,
        p50: this.#percentileMs(50),
        p90: this.#percentileMs(90),
        p99: this.#percentileMs(99),
        p999: this.#percentileMs(99.9),
        max: this.#maxMs,
      },
      distribution: this.#distribution(),
      members: this.#picks.map((each, member) => ({
        member,
        picks: each,
        share: picks === 0 ? 0 : each / picks,
        failed: this.#failedPicks[member] as number,
        picksOverTime: padded(this.#picksOverTime[member] as number[], buckets),
      })),
      overTime: padded(this.#madeOverTime, buckets).map((made, at) => ({
        fromMs: at * this.#scenario.bucketMs,
        requests: made,
        succeeded: this.#succeededOverTime[at] ?? 0,
      })),
    };
  }

  #bucket(at: number): number {
    return Math.floor((at - this.#startedAt) / this.#scenario.bucketMs);
  }

  #percentileMs(percent: number): number {
    return this.requests === 0 ? 0 : Math.min(this.#latencyUs.percentile(percent) / 1_000, this.#maxMs);
  }

  /** As far as there are requests to show: the last point is the slowest of all. */
  #distribution(): { share: number; ms: number }[] {
    if (this.requests === 0) return [];
    const points = Math.floor(Math.log10(this.requests) * pointsPerNine);
    const curve = Array.from({ length: points + 1 }, (_, at) => {
      const share = 1 - 10 ** (-at / pointsPerNine);
      return { share, ms: this.#percentileMs(Math.max(share * 100, Number.EPSILON)) };
    });
    return [...curve, { share: 1 - 1 / (this.requests + 1), ms: this.#maxMs }];
  }
}

function zeros(length: number): number[] {
  return Array.from({ length }, () => 0);
}

function count(among: number[], at: number): void {
  while (among.length <= at) among.push(0);
  (among[at] as number)++;
}

function padded(counts: readonly number[], length: number): number[] {
  return Array.from({ length: Math.max(length, counts.length) }, (_, at) => counts[at] ?? 0);
}
