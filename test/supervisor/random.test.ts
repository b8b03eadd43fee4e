/**
 * A tree in a storm: hundreds of calls, crashes, kills and stops at random moments of virtual time, on supervisors of
 * every kind whose children are slow, fail, give nothing, hang, die young, or call supervisors from inside their start
 * and stop.
 *
 * Whatever happens, nobody is lost on the way: who lives is listed by a living supervisor. At the end the top is
 * stopped or killed: then every promise has settled, nobody is alive and no timer is left. A failure names its seed.
 */

import { expect, test } from "vitest";
import { type ExitReason, type HasProcess, Process } from "../../src/process/index.ts";
import { seededRandom, virtualRuntime } from "../../src/sim/index.ts";
import { type ChildSpec, DynamicSupervisor, Supervisor } from "../../src/supervisor/index.ts";

const seeds = Number(process.env["SUPERVISOR_SEEDS"] ?? 50);
const firstSeed = Number(process.env["SUPERVISOR_SEED"] ?? 1);
const steps = 200;

const expectedCodes = /^ERR_SUPERVISOR_/;

class Storm {
  readonly runtime;
  readonly #random: () => number;
  /** Everyone who was handed to a supervisor. */
  readonly #born: HasProcess[] = [];
  readonly #supervisors: (Supervisor | DynamicSupervisor)[] = [];
  /** The children of supervisors that have not started yet, which nobody could ask for them. */
  readonly #starting = new Set<Set<HasProcess | undefined>>();
  readonly #unsettled = new Set<string>();
  #calls = 0;

  constructor(seed: number) {
    this.runtime = virtualRuntime({ seed });
    this.#random = seededRandom(seed);
  }

  async run(): Promise<void> {
    const children = ["a", "b", "c"].map((id) => ({ ...this.#spec(1), id, start: this.#worker(0) }));
    const strategy = this.#one("one_for_one", "rest_for_one", "one_for_all");
    const { runtime } = this;
    // Long-suffering, so that the storm lasts.
    const options = { runtime, strategy, maxRestarts: 100_000, autoShutdown: "all_significant" } as const;
    const top = await runtime.until(Supervisor.start(children, options));
    this.#supervisors.push(top);
    for (let step = 0; step < steps && top.process.alive; step++) {
      if (this.#chance(0.6)) void this.#call(top);
      else this.#harm();
      await this.#wait();
      if (step % 10 === 0) await this.#nobodyIsLost();
    }
    await this.#end(top);
    await runtime.advance(3_600_000);
    expect({
      unsettled: [...this.#unsettled],
      alive: [...this.#born, ...this.#supervisors]
        .filter((each) => each.process.alive)
        .map((each) => each.process.name),
      timers: runtime.timers,
    }).toEqual({ unsettled: [], alive: [], timers: 0 });
  }

  /** A moment, or a few microtasks of one. */
  async #wait(): Promise<void> {
    if (this.#chance(0.4)) return this.runtime.advance(this.#below(40));
    for (let ticks = this.#below(12); ticks > 0; ticks--) await Promise.resolve();
  }

  async #end(top: Supervisor): Promise<void> {
    switch (this.#below(3)) {
      case 0:
        top.process.kill();
        break;
      case 1:
        await this.runtime.until(top.stop({ timeoutMs: this.#below(200) }));
        break;
      default:
        await this.runtime.until(top.stop());
    }
  }

  /** Whoever was handed over and lives is listed by a supervisor that lives, or is to be. */
  async #nobodyIsLost(): Promise<void> {
    await this.runtime.settle();
    const living = this.#supervisors.filter((each) => each.process.alive);
    const listed = new Set(living.flatMap((each) => each.whichChildren().map(({ process }) => process)));
    const starting = [...this.#starting];
    const lost = this.#born.filter(
      (each) => each.process.alive && !listed.has(each.process) && !starting.some((sofar) => sofar.has(each)),
    );
    expect(lost.map(({ process }) => process.name)).toEqual([]);
  }

  /** A call of anything, on anybody, mostly alive. */
  #call(notStopped?: Supervisor): Promise<unknown> {
    const living = this.#supervisors.filter((each) => each.process.alive);
    const supervisor = this.#among(this.#chance(0.95) && living.length > 0 ? living : this.#supervisors);
    if (supervisor === undefined) return Promise.resolve();
    if (supervisor !== notStopped && this.#chance(0.05)) {
      const timeoutMs = this.#one(0, 50, Infinity);
      return this.#track(`stop ${timeoutMs}`, supervisor.stop({ timeoutMs, reason: this.#one("normal", "shutdown") }));
    }
    if (supervisor instanceof DynamicSupervisor) {
      const someone = this.#among(this.#born);
      if (this.#chance(0.6) || someone === undefined) {
        return this.#track("dynamic startChild", supervisor.startChild({ ...this.#spec(2), significant: false }));
      }
      return this.#track("dynamic terminateChild", supervisor.terminateChild(someone));
    }
    const id = this.#id();
    switch (this.#below(5)) {
      case 0:
        return this.#track(`terminateChild ${id}`, supervisor.terminateChild(id));
      case 1:
        return this.#track(`restartChild ${id}`, supervisor.restartChild(id));
      case 2:
        return this.#track(`deleteChild ${id}`, supervisor.deleteChild(id));
      default:
        return this.#track(`startChild ${id}`, supervisor.startChild({ ...this.#spec(1), id, significant: false }));
    }
  }

  /** Somebody below the top dies, or several at once. */
  #harm(): void {
    for (let victims = this.#one(1, 1, 2, 3); victims > 0; victims--) {
      const victim = this.#among(this.#born.filter((each) => each.process.alive));
      if (victim === undefined) return;
      if (this.#chance(0.7)) victim.process.kill();
      else void victim.process.stop({ timeoutMs: this.#one(0, 30, Infinity) });
    }
  }

  /** Resolves when the call has settled, however. */
  async #track(call: string, promise: Promise<unknown>): Promise<void> {
    const label = `${++this.#calls}: ${call}`;
    this.#unsettled.add(label);
    try {
      await promise;
    } catch (error) {
      expect((error as { code?: string }).code, label).toMatch(expectedCodes);
    } finally {
      this.#unsettled.delete(label);
    }
  }

  #spec(depth: number): ChildSpec {
    const restart = this.#one("permanent", "transient", "temporary");
    const shutdown = this.#one<number | "brutal_kill">(0, 10, 50, 5_000, "brutal_kill");
    const id = this.#id();
    if (depth > 3 || this.#chance(0.7)) return { id, restart, shutdown, start: this.#worker(0.1) };
    const start = this.#chance(0.6) ? this.#branch(depth) : this.#dynamic();
    return { id, restart, type: "supervisor", start, ...(this.#chance(0.3) ? { shutdown } : {}) };
  }

  #worker(trouble: number): ChildSpec["start"] {
    return async () => {
      if (this.#chance(0.3)) await this.#pause(this.#below(20));
      if (this.#chance(trouble / 2)) await this.#call();
      if (this.#chance(trouble)) throw new Error("does not start");
      if (this.#chance(trouble)) return undefined;
      if (this.#chance(trouble / 20)) return new Promise(() => undefined);
      const worker = await this.#process();
      if (this.#chance(trouble)) await this.#pause(this.#below(20)); // Up, and nobody knows of it yet.
      if (this.#chance(trouble / 2)) worker.kill();
      return this.#hand(worker);
    };
  }

  #process(): Promise<Process> {
    const reasons: ExitReason[] = ["normal", "killed", new Error("dies young")];
    return Process.start({
      name: `worker ${this.#born.length}`,
      runtime: this.runtime,
      init: (self) => {
        if (!this.#chance(0.3)) return;
        const timer = this.runtime.setTimer(() => self.exit(this.#one(...reasons)), this.#below(100));
        self.process.monitor(() => timer.cancel());
      },
      terminate: async () => {
        if (this.#chance(0.3)) await this.#pause(this.#below(80));
        if (this.#chance(0.05)) await this.#call();
        if (this.#chance(0.1)) throw new Error("does not stop");
      },
    });
  }

  #branch(depth: number): ChildSpec["start"] {
    const autoShutdown = this.#one("never", "any_significant", "all_significant");
    const strategy = this.#one("one_for_one", "rest_for_one", "one_for_all");
    const restartBackoff = { minMs: 1, maxMs: this.#one(1, 50) };
    const children = ["a", "b", "c", "d"].slice(this.#below(4)).map((id) => {
      const spec = this.#spec(depth + 1);
      return {
        ...spec,
        id,
        significant: spec.restart !== "permanent" && autoShutdown !== "never" && this.#chance(0.5),
      };
    });
    const options = { strategy, autoShutdown, maxRestarts: this.#below(5), runtime: this.runtime };
    const withBackoff = this.#chance(0.5) ? { ...options, restartBackoff } : options;
    return async () => {
      const sofar = new Set<HasProcess | undefined>();
      const known = children.map(({ start, ...spec }) => ({
        ...spec,
        start: async () => {
          const born = await start();
          sofar.add(born);
          return born;
        },
      }));
      this.#starting.add(sofar);
      try {
        const started = await Supervisor.start(known, withBackoff);
        this.#supervisors.push(started);
        return this.#hand(started);
      } finally {
        this.#starting.delete(sofar);
      }
    };
  }

  #dynamic(): ChildSpec["start"] {
    return async () => {
      const started = await DynamicSupervisor.start({ runtime: this.runtime, maxChildren: this.#one(1, 5, 1_000) });
      this.#supervisors.push(started);
      if (this.#chance(0.3)) await this.#track("first child", started.startChild(this.#spec(3)));
      return this.#hand(started);
    };
  }

  #hand<P extends HasProcess>(born: P): P {
    this.#born.push(born);
    return born;
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => this.runtime.setTimer(resolve, ms));
  }

  #id(): string {
    return this.#one("a", "b", "c", "d", "e", "f");
  }

  #chance(of: number): boolean {
    return this.#random() < of;
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  #one<T extends string | number | Error>(...of: T[]): T {
    return of[this.#below(of.length)] as T;
  }

  #among<T>(all: T[]): T | undefined {
    return all[this.#below(all.length)];
  }
}

for (let seed = firstSeed; seed < firstSeed + seeds; seed++) {
  test(`nobody is lost in a storm, and all is quiet after it (seed ${seed})`, () => new Storm(seed).run());
}
