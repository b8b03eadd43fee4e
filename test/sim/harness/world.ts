/**
 * The world of one run: virtual time, chance, faults, and the eye that sees what must always hold.
 *
 * Everything that a run does by chance is drawn from here, and everything that it finds out is said here, so that a run
 * is told by its seed and its commands, and two runs of the same can be compared.
 *
 * Which faults there are, and how often, is drawn anew for each run: a bug that needs many of one kind is not found
 * where all kinds are equally rare ("swarm testing", Groce et al., 2012). When `calm` the world does no more harm: then
 * everything must come right.
 */

import { subscribe, unsubscribe } from "node:diagnostics_channel";
import type { Events } from "../../../src/index.ts";
import { type VirtualRuntime, virtualRuntime } from "../../../src/sim/index.ts";
import { Draw } from "./draw.ts";
import { Trace } from "./trace.ts";

/** What must always hold, by the names of ARCHITECTURE.md; and what holds of the harness itself. */
export type Invariant =
  | "settles"
  | "registered-iff-able"
  | "in-flight-is-real"
  | "one-holder"
  | "nobody-overtakes"
  | "closed-once"
  | "nothing-swallowed"
  | "lets-go"
  | "own-context"
  | "at-rest"
  /** The code does what the small model beside it does. */
  | "as-the-model"
  /** The same seed and commands have made the same trace. */
  | "deterministic";

export class Violation extends Error {
  override readonly name = "Violation";
  readonly invariant: Invariant;

  constructor(invariant: Invariant, detail: string, cause?: unknown) {
    super(detail, cause === undefined ? {} : { cause });
    this.invariant = invariant;
  }
}

/** A promise that the code under test has given: it must settle. */
export class Call<T = unknown> {
  readonly what: string;
  /** `"pending"`, `"ok"`, or the code (else the message) of what it was rejected with. */
  outcome = "pending";
  value: T | undefined;
  error: unknown;

  constructor(what: string) {
    this.what = what;
  }

  get pending(): boolean {
    return this.outcome === "pending";
  }
}

export class World {
  readonly seed: number;
  readonly runtime: VirtualRuntime;
  /** For what is drawn when a run begins: the options of what is under test. Commands are drawn by the harness. */
  readonly setUp: Draw;
  readonly trace: Trace;
  /** Faults that have happened, by name. */
  readonly faults: Map<string, number> = new Map();
  /** Of promises that have settled only this is kept. */
  settled = 0;
  readonly #rates: ReadonlyMap<string, number>;
  readonly #chance: Draw;
  readonly #pending = new Set<Call>();
  readonly #atEnd: (() => void)[] = [];
  #pauses = 0;
  #calls = 0;
  #calm = false;
  #found: Violation | undefined;

  constructor(seed: number, faults: Readonly<Record<string, number>>, trace: Trace) {
    this.seed = seed;
    this.runtime = virtualRuntime({ seed });
    this.setUp = new Draw(seed, "set-up");
    this.trace = trace;
    this.#chance = new Draw(seed, "faults");
    this.#rates = ratesOf(faults, new Draw(seed, "swarm"));
  }

  /** Whether the safety phase is over, and no fault happens any more. */
  get calm(): boolean {
    return this.#calm;
  }

  /** From now on nothing bad happens. */
  calmDown(): void {
    this.#calm = true;
  }

  /**
   * Throws a violation of `invariant`, unless it holds. `detail` is asked for only then. May be called in a hook or a
   * listener, where the code under test swallows what is thrown: the harness looks at the first one after every step.
   */
  must(invariant: Invariant, holds: boolean, detail: () => string): void {
    if (holds) return;
    this.#found ??= new Violation(invariant, detail());
    throw this.#found;
  }

  /** What `must` has thrown at anybody. */
  look(): void {
    if (this.#found !== undefined) throw this.#found;
  }

  /** A line of the trace, with the time. No ids of processes: they are not the same in two runs. */
  note(line: string): void {
    this.trace.add(`${this.runtime.now()} ${line}`);
  }

  /** Whether this fault, one of the scenario's, happens now. It is counted if it does. */
  strikes(fault: string): boolean {
    const rate = this.#rates.get(fault);
    if (rate === undefined) throw new Error(`the scenario names no fault "${fault}"`);
    if (this.#calm || !this.#chance.chance(rate)) return false;
    this.harm(fault);
    return true;
  }

  /** Which of these faults happens now: one, or none. */
  strike<F extends string>(...faults: readonly F[]): F | undefined {
    return faults.find((fault) => this.strikes(fault));
  }

  /** A throw for how bad a fault is: so many milliseconds, say. */
  get chance(): Draw {
    return this.#chance;
  }

  /** Counts a fault that a command has caused. */
  harm(fault: string): void {
    this.faults.set(fault, (this.faults.get(fault) ?? 0) + 1);
    this.note(`  ! ${fault}`);
  }

  /** Watches a promise that must settle, and says in the trace how it did. */
  follow<T>(what: string, promise: Promise<T>, then?: (call: Call<T>) => void): Call<T> {
    const call = new Call<T>(`${what} #${++this.#calls}`);
    this.#pending.add(call);
    const end = (outcome: string): void => {
      call.outcome = outcome;
      this.settled++;
      this.#pending.delete(call);
      this.note(`  ${call.what}: ${outcome}`);
      then?.(call);
    };
    promise.then(
      (value) => {
        call.value = value;
        end("ok");
      },
      (error: unknown) => {
        call.error = error;
        end(codeOf(error));
      },
    );
    return call;
  }

  /** Those of `follow` that have not settled. */
  get pending(): readonly Call[] {
    return [...this.#pending];
  }

  /** Hears what the library emits under this name, until the run is over. What the listener throws is seen as well. */
  hear<E extends keyof Events>(event: E, listener: (fields: Events[E]) => void): void {
    const hear = (fields: unknown): void => {
      this.note(`  * ${event}`);
      try {
        listener(fields as Events[E]);
      } catch (error) {
        this.#found ??= error instanceof Violation ? error : new Violation("as-the-model", String(error), error);
      }
    };
    subscribe(`poolwarden:${event}`, hear);
    this.#atEnd.push(() => unsubscribe(`poolwarden:${event}`, hear));
  }

  /** Calls back when the run is over, however it ends. */
  atEnd(act: () => void): void {
    this.#atEnd.push(act);
  }

  /** The run is over: nothing is heard any more. */
  end(): void {
    for (const act of this.#atEnd) act();
  }

  /** Lets as much time pass as the promise needs; a violation of "settles" when time does not help. */
  async until<T>(what: string, promise: Promise<T>, limitMs = 24 * 3_600_000): Promise<T> {
    let settled = false;
    const note = (): void => {
      settled = true;
    };
    promise.then(note, note);
    try {
      return await this.runtime.until(promise, { limitMs });
    } catch (error) {
      if (settled) throw error;
      throw new Violation("settles", `${what}: ${(error as Error).message}`);
    }
  }

  /** Some time, as a fault or a server takes it. */
  pause(ms: number): Promise<void> {
    this.#pauses++;
    return new Promise((resolve) => {
      this.runtime.setTimer(() => {
        this.#pauses--;
        resolve();
      }, ms);
    });
  }

  /** Timers that the code under test has set: all but ours, and `others` of a server's. */
  timers(others = 0): number {
    return this.runtime.timers - this.#pauses - others;
  }
}

/** The code of an error; else its message; else what it is. */
export function codeOf(error: unknown): string {
  const { code, message } = (error ?? {}) as { code?: unknown; message?: unknown };
  return String(typeof code === "string" ? code : (message ?? error));
}

/** Which faults this run has, and how often: the rates of the scenario, some of them off, some of them more. */
function ratesOf(faults: Readonly<Record<string, number>>, swarm: Draw): Map<string, number> {
  const peace = swarm.chance(0.05);
  return new Map(
    Object.entries(faults).map(([fault, rate]) => {
      const factor = swarm.chance(0.4) ? 0 : swarm.one(0.5, 1, 1, 3);
      return [fault, peace ? 0 : Math.min(rate * factor, 1)];
    }),
  );
}
