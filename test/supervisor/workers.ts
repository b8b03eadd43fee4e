/**
 * Children to supervise on virtual time, and a diary of what happens to them.
 *
 * The diary has a line for each step in the life of a worker: `start a` (its start function was called), `up a`,
 * `stop a` (it was asked to stop), `down a shutdown` (it is dead, for that reason; of an error its message).
 *
 * A test written with `stage` ends on the invariant of this folder: every supervisor is stopped, then nobody is alive
 * and no timer is left.
 */

import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { expect } from "vitest";
import { type ExitReason, type HasProcess, Process, type Self } from "../../src/process/index.ts";
import { type VirtualRuntime, virtualRuntime } from "../../src/sim/index.ts";
import {
  type ChildSpec,
  DynamicSupervisor,
  type DynamicSupervisorOptions,
  Supervisor,
  type SupervisorOptions,
} from "../../src/supervisor/index.ts";
import type { Events } from "../../src/telemetry/index.ts";

export interface Manner extends Partial<ChildSpec> {
  /** How long its start takes. */
  readonly startMs?: number;
  /** How long its terminate takes. */
  readonly stopMs?: number;
  /** What its nth start does, counted from 1. */
  readonly attempt?: (nth: number) => "up" | "ignore" | "fail" | "hang";
}

export class Stage {
  readonly runtime: VirtualRuntime;
  readonly #diary: string[] = [];
  readonly #lives = new Map<string, { self: Self }[]>();
  readonly #starts = new Map<string, number>();
  readonly #supervisors: (Supervisor | DynamicSupervisor)[] = [];
  readonly #atEnd: (() => void)[] = [];

  constructor(seed: number) {
    this.runtime = virtualRuntime({ seed });
  }

  /** Starts a supervisor and lets as much time pass as that needs. */
  supervise(children: ChildSpec[], options: Partial<SupervisorOptions> = {}): Promise<Supervisor> {
    return this.until(this.begin(children, options));
  }

  /** The same, and time stands still. */
  async begin(children: ChildSpec[], options: Partial<SupervisorOptions> = {}): Promise<Supervisor> {
    const all: SupervisorOptions = { strategy: "one_for_one", runtime: this.runtime, ...options };
    const started = await Supervisor.start(children, all);
    this.#supervisors.push(started);
    return started;
  }

  async dynamic(options: DynamicSupervisorOptions = {}): Promise<DynamicSupervisor> {
    const started = await this.until(DynamicSupervisor.start({ runtime: this.runtime, ...options }));
    this.#supervisors.push(started);
    return started;
  }

  worker(id: string, manner: Manner = {}): ChildSpec {
    const { startMs = 0, stopMs = 0, attempt = () => "up", ...fields } = manner;
    const start = async (): Promise<HasProcess | undefined> => {
      this.note(`start ${id}`);
      const nth = this.starts(id) + 1;
      this.#starts.set(id, nth);
      if (startMs > 0) await this.pause(startMs);
      switch (attempt(nth)) {
        case "up":
          return this.process(id, stopMs);
        case "ignore":
          return undefined;
        case "fail":
          throw new Error(`${id} cannot start`);
        case "hang":
          return new Promise(() => undefined);
      }
    };
    return { id, start, ...fields };
  }

  /** A supervisor as a child, with workers below it. */
  branch(id: string, children: ChildSpec[], manner: Partial<ChildSpec & SupervisorOptions> = {}): ChildSpec {
    const { strategy = "one_for_one", maxRestarts = 3, autoShutdown = "never", ...fields } = manner;
    const options = { strategy, maxRestarts, autoShutdown, name: id, runtime: this.runtime };
    const start = async (): Promise<Supervisor> => {
      this.note(`start ${id}`);
      this.#starts.set(id, this.starts(id) + 1);
      return Supervisor.start(children, options);
    };
    return { id, type: "supervisor", start, ...fields };
  }

  /** A process that writes the diary. */
  async process(id: string, stopMs = 0): Promise<Process> {
    return Process.start({
      name: id,
      runtime: this.runtime,
      init: (self) => {
        const lives = this.#lives.get(id) ?? [];
        this.#lives.set(id, lives);
        lives.push({ self });
        this.note(`up ${id}`);
        self.process.monitor((reason) => this.note(`down ${id} ${reason instanceof Error ? reason.message : reason}`));
        return self;
      },
      terminate: async (self) => {
        if (!self.process.alive) return; // It ended by itself; nobody asked.
        this.note(`stop ${id}`);
        if (stopMs > 0) await this.pause(stopMs);
      },
    });
  }

  /** The newest process of that name. */
  newest(id: string): Process {
    return this.#self(id).process;
  }

  /** Ends the newest process of that name from inside. */
  end(id: string, reason: ExitReason): void {
    this.#self(id).exit(reason);
  }

  crash(...ids: string[]): void {
    for (const id of ids) this.end(id, new Error("crash"));
  }

  /** The same, and what follows from it without time passing. */
  async crashed(...ids: string[]): Promise<void> {
    this.crash(...ids);
    await this.runtime.settle();
  }

  /** How often its start was called. */
  starts(id: string): number {
    return this.#starts.get(id) ?? 0;
  }

  alive(): string[] {
    const all = [...this.#lives.values()].flat().map(({ self }) => self.process);
    return all.filter((each) => each.alive).map((each) => each.name);
  }

  note(line: string): void {
    this.#diary.push(line);
  }

  /** The diary since the last look. */
  diary(): string[] {
    return this.#diary.splice(0);
  }

  /** What is emitted under this name from now on. */
  events<E extends keyof Events>(name: E): Events[E][] {
    const seen: Events[E][] = [];
    const listener = (fields: unknown): unknown => seen.push(fields as Events[E]);
    subscribe(`poolwarden:${name}`, listener);
    this.#atEnd.push(() => unsubscribe(`poolwarden:${name}`, listener));
    return seen;
  }

  pause(ms: number): Promise<void> {
    return new Promise((resolve) => this.runtime.setTimer(resolve, ms));
  }

  until<T>(promise: Promise<T>): Promise<T> {
    return this.runtime.until(promise);
  }

  /** What `outcome` says, with as much time passing as that needs. */
  outcome(promise: Promise<unknown>): Promise<string> {
    return this.until(outcome(promise));
  }

  async finish(): Promise<void> {
    for (const supervisor of this.#supervisors) await this.until(supervisor.stop());
    await this.runtime.settle();
    for (const act of this.#atEnd) act();
    expect({ alive: this.alive(), timers: this.runtime.timers }).toEqual({ alive: [], timers: 0 });
  }

  #self(id: string): Self {
    const last = this.#lives.get(id)?.at(-1);
    if (last === undefined) throw new Error(`no process "${id}" has ever run`);
    return last.self;
  }
}

/** The body of a test: `test("…", stage(async (s) => { … }))`. */
export function stage(act: (s: Stage) => Promise<void>): () => Promise<void> {
  return async () => {
    const s = new Stage(1);
    await act(s);
    await s.finish();
  };
}

/** How the children stand, oldest first: `"a up"`, `"b down"`, `"c restarting"`. */
export function standing(supervisor: Supervisor | DynamicSupervisor): string[] {
  return supervisor
    .whichChildren()
    .toReversed()
    .map(({ id, process }) => {
      if (process === "restarting") return `${id} restarting`;
      return `${id} ${process === undefined ? "down" : "up"}`;
    });
}

/** `"ok"`, or the code of the error. */
export function outcome(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => "ok",
    (error: { code?: string }) => error.code ?? "another error",
  );
}

/** The process that is this child. */
export function running(supervisor: Supervisor | DynamicSupervisor, id: string): Process {
  const found = supervisor.whichChildren().find((child) => child.id === id)?.process;
  if (found instanceof Process) return found;
  throw new Error(`"${id}" is not running`);
}
