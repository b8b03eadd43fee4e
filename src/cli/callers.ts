/**
 * Callers that each send one request after another, and keep the books.
 *
 * Every request has a text of its own, and every answer is compared with it. What becomes of a request counts in the
 * phase in which that is known: so a request that hangs while a server is stalled weighs on that phase, and the requests
 * per second of a phase are what the pool did in it.
 *
 * A promise settles once whatever happens, so the callers alone cannot see a request that was settled twice. The pool
 * counts by itself what it has settled; `faults` (report.ts) compares the two books.
 */

import { createHistogram, type RecordableHistogram } from "node:perf_hooks";
import { PoolwardenError } from "../errors.ts";
import type { Runtime } from "../runtime/index.ts";
import type { PoolStats } from "../telemetry/index.ts";

/** What the callers need of a pool. */
export interface Callee {
  request(text: string, options: { readonly idempotent: boolean }): Promise<string>;
  stats(): PoolStats;
}

/** What one phase has cost. */
export class Phase {
  readonly name: string;
  readonly latencyNs: RecordableHistogram = createHistogram();
  /** How many failed, by the code of their error. */
  readonly failures: Map<string, number> = new Map();
  /** Requests that settled, in whatever way. */
  settled = 0;
  answered = 0;
  /** Of the answered, those with another's answer. */
  wrong = 0;
  seconds = 0;
  /** Requests sent again over another connection. */
  rerouted = 0;
  /** Connections opened. */
  reconnects = 0;
  /** Processes that crashed and that their supervisor put back. */
  restarts = 0;

  constructor(name: string) {
    this.name = name;
  }

  get failed(): number {
    return this.settled - this.answered;
  }

  get perSecond(): number {
    return this.seconds === 0 ? 0 : this.settled / this.seconds;
  }

  latencyMs(percentile: number): number {
    return this.settled === 0 ? 0 : this.latencyNs.percentile(percentile) / 1e6;
  }

  get slowestMs(): number {
    return this.settled === 0 ? 0 : this.latencyNs.max / 1e6;
  }
}

/** What a caller does before its next request when one has failed: a pool that refuses at once must not be hammered. */
const pauseMs = 10;
const idempotent = { idempotent: true };

export class Callers {
  readonly phases: Phase[] = [];
  begun = 0;
  readonly #pool: Callee;
  readonly #runtime: Runtime;
  readonly #restarts: () => number;
  #phase: Phase;
  #startedAt: number;
  #before: { readonly totals: PoolStats["totals"]; readonly restarts: number };
  #running = true;
  readonly #loops: Promise<unknown>;

  /** They begin at once, in a phase `first`. */
  constructor(pool: Callee, options: { count: number; first: string; runtime: Runtime; restarts: () => number }) {
    this.#pool = pool;
    this.#runtime = options.runtime;
    this.#restarts = options.restarts;
    this.#phase = new Phase(options.first);
    this.phases.push(this.#phase);
    this.#startedAt = this.#runtime.now();
    this.#before = this.#counts();
    this.#loops = Promise.all(Array.from({ length: options.count }, (_, caller) => this.#call(caller)));
  }

  /** The phase that is going on. */
  get phase(): Phase {
    return this.#phase;
  }

  get settled(): number {
    return this.#sum((phase) => phase.settled);
  }

  get answered(): number {
    return this.#sum((phase) => phase.answered);
  }

  get wrong(): number {
    return this.#sum((phase) => phase.wrong);
  }

  /** The phase that is going on, with what was re-routed, reopened and restarted in it so far. */
  count(): Phase {
    const phase = this.#phase;
    const { totals, restarts } = this.#counts();
    phase.seconds = (this.#runtime.now() - this.#startedAt) / 1_000;
    phase.rerouted = totals.retried - this.#before.totals.retried;
    phase.reconnects = totals.opened - this.#before.totals.opened;
    phase.restarts = restarts - this.#before.restarts;
    return phase;
  }

  /** Closes the books of one phase and opens those of the next. */
  next(name: string): void {
    this.count();
    this.#before = this.#counts();
    this.#startedAt = this.#runtime.now();
    this.#phase = new Phase(name);
    this.phases.push(this.#phase);
  }

  /** Lets them make no more requests, and resolves when the last has settled or `timeoutMs` have passed. */
  async stop(timeoutMs: number): Promise<void> {
    this.#running = false;
    await new Promise<unknown>((resolve) => {
      const timer = this.#runtime.setTimer(() => resolve("late"), timeoutMs, { keepAlive: true });
      void this.#loops.then(() => {
        timer.cancel();
        resolve("settled");
      });
    });
    this.count();
  }

  async #call(caller: number): Promise<void> {
    for (let turn = 0; ; turn++) {
      if (!this.#running) return;
      const text = `caller ${caller}, request ${turn}`;
      const startedAt = this.#runtime.now();
      this.begun++;
      let failure: string | undefined;
      let answer: string | undefined;
      try {
        answer = await this.#pool.request(text, idempotent);
      } catch (error) {
        failure = error instanceof PoolwardenError ? error.code : String(error);
      }
      const phase = this.#phase;
      phase.settled++;
      phase.latencyNs.record(Math.max(1, Math.round((this.#runtime.now() - startedAt) * 1e6)));
      if (failure === undefined) {
        phase.answered++;
        if (answer !== text) phase.wrong++;
      } else {
        phase.failures.set(failure, (phase.failures.get(failure) ?? 0) + 1);
        await this.#pause(pauseMs);
      }
    }
  }

  #counts(): { totals: PoolStats["totals"]; restarts: number } {
    return { totals: this.#pool.stats().totals, restarts: this.#restarts() };
  }

  #sum(of: (phase: Phase) => number): number {
    return this.phases.reduce((sum, phase) => sum + of(phase), 0);
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.#runtime.setTimer(resolve, ms, { keepAlive: true });
    });
  }
}
