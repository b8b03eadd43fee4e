/**
 * A supervisor whose children come and go, beside a list of those who are there.
 *
 * A child is in the list from the answer to its start until it ends for good: by itself without being restarted, because
 * it was asked to, or because its restart gave nothing. From then on its start must not be called again. While nothing
 * is under way everybody in the list lives, and the supervisor shows them and nobody else; it never has more than
 * `maxChildren`, and at its own end it asks all of them at once.
 */

import { DynamicSupervisor, type DynamicSupervisorOptions, Process, type Self } from "../../../src/index.ts";
import type { Draw } from "../harness/draw.ts";
import { at, command, type Play, type Scenario } from "../harness/scenario.ts";
import type { World } from "../harness/world.ts";

/** How a child is to be. Plain: it is part of a command. */
interface Manner {
  readonly restart: "permanent" | "transient" | "temporary";
  readonly shutdown: number | "infinity" | "brutal_kill";
  /** Only a label: two may have the same, or none. */
  readonly id: string | null;
}

/** One process that a guest was, for a while. */
interface Life {
  readonly guest: Guest;
  readonly process: Process;
  readonly self: Self;
}

/** One child, across its restarts. */
class Guest {
  readonly manner: Manner;
  life: Life | undefined;
  starts = 0;
  /** Its start was answered: it is in. */
  here = false;
  /** It has ended for good. */
  over = false;

  constructor(manner: Manner) {
    this.manner = manner;
  }

  get alive(): boolean {
    return this.life?.process.alive === true;
  }

  /** Whether its process is dead, of something that is not followed by a restart. */
  get endedForGood(): boolean {
    const reason = this.life?.process.reason;
    if (reason === undefined) return false;
    const { restart } = this.manner;
    return restart === "temporary" || (restart === "transient" && (reason === "normal" || reason === "shutdown"));
  }
}

class House implements Play {
  readonly world: World;
  readonly options: DynamicSupervisorOptions;
  readonly #max: number;
  supervisor: DynamicSupervisor | undefined;
  #guests: Guest[] = [];
  /** Who was somebody, of late. */
  readonly #lives: Life[] = [];
  /** Starts, ends and calls under way. */
  #busy = 0;
  #mayEnd = false;
  /** When children were asked to go, since the supervisor was. */
  #asked: Set<number> | undefined;

  constructor(world: World) {
    const { setUp: draw, runtime } = world;
    this.world = world;
    this.#max = draw.one(1, 2, 5, Infinity);
    const maxRestarts = draw.one(3, 1_000_000);
    this.options = {
      ...{ name: "house", runtime, maxRestarts },
      ...(this.#max === Infinity ? {} : { maxChildren: this.#max }),
      ...(draw.chance(0.3) ? { restartBackoff: { minMs: 10, maxMs: 100 } } : {}),
    };
    world.hear("supervisor.gaveUp", ({ restarts }) => {
      world.must("as-the-model", restarts === maxRestarts, () => `gives up after ${restarts} of ${maxRestarts}`);
      this.#mayEnd = true;
    });
  }

  /** A new supervisor, where there is none. */
  begin(): void {
    if (this.supervisor !== undefined || this.#busy > 0) return;
    this.#call("begin", DynamicSupervisor.start(this.options), (_, supervisor) => {
      this.supervisor = supervisor;
      supervisor?.process.monitor(() => this.#ended());
    });
  }

  startChild(manner: Manner): void {
    const { supervisor, world } = this;
    if (supervisor === undefined) return;
    const full = this.#quiet() ? this.#guests.length >= this.#max : undefined;
    const guest = new Guest(manner);
    const { restart, shutdown, id } = manner;
    const spec = { restart, shutdown, start: () => this.#start(guest), ...(id === null ? {} : { id }) };
    this.#call("start", supervisor.startChild(spec), (outcome, value) => {
      const refused = outcome === "ERR_SUPERVISOR_MAX_CHILDREN";
      const fine = refused || /^(ok|ERR_SUPERVISOR_(START_FAILED|STOPPED))$/.test(outcome);
      world.must("as-the-model", fine, () => `a start gave ${outcome}`);
      const right = full === undefined || outcome === "ERR_SUPERVISOR_STOPPED" || full === refused;
      world.must("as-the-model", right, () => `a start where ${this.#max} may be there gave ${outcome}`);
      world.must("as-the-model", !refused || guest.starts === 0, () => "refused, and started all the same");
      if (outcome !== "ok" || value === undefined || guest.endedForGood) guest.over = true;
      guest.here = true;
      if (!guest.over && this.supervisor === supervisor) this.#guests.push(guest);
    });
  }

  /** A child that is there, or was. */
  terminate(which: number): void {
    const { supervisor, world } = this;
    const life = at(this.#lives, which);
    if (supervisor === undefined || life === undefined) return;
    const { guest, process } = life;
    const is = guest.life === life && this.#guests.includes(guest);
    const expected = !this.#quiet() ? undefined : is ? "ok" : "ERR_SUPERVISOR_NOT_FOUND";
    this.#call("terminate", supervisor.terminateChild(process), (outcome) => {
      const fine = /^(ok|ERR_SUPERVISOR_(NOT_FOUND|STOPPED))$/.test(outcome);
      world.must("as-the-model", fine, () => `a terminate gave ${outcome}`);
      const right = expected === undefined || outcome === "ERR_SUPERVISOR_STOPPED" || outcome === expected;
      world.must("as-the-model", right, () => `a terminate gave ${outcome}, not ${expected}`);
      if (outcome !== "ok") return;
      world.must("lets-go", !guest.alive, () => "a child was terminated, and lives");
      this.#leaves(guest);
    });
  }

  /** A child ends by itself. */
  crash(which: number, way: number): boolean {
    const shown = this.supervisor?.whichChildren().map(({ process }) => process) ?? [];
    const life = at(
      this.#lives.filter(({ process }) => process.alive && shown.includes(process)),
      which,
    );
    if (way === 0) life?.process.kill();
    else life?.self.exit(way === 1 ? "normal" : new Error("broken"));
    return life !== undefined;
  }

  end(kill: boolean, timeoutMs: number): boolean {
    const { supervisor } = this;
    if (supervisor === undefined) return false;
    if (this.#quiet()) this.#asked = new Set();
    this.#mayEnd = true;
    if (kill) supervisor.process.kill();
    else this.#call("stop", supervisor.stop({ timeoutMs }), () => undefined);
    return true;
  }

  check(settled: boolean): void {
    const { world, supervisor } = this;
    const specs = supervisor?.countChildren().specs ?? 0;
    world.must("as-the-model", specs <= this.#max, () => `${specs} children, where ${this.#max} may be there`);
    if (supervisor === undefined || !settled || this.#busy > 0 || this.#mayEnd) return;
    const gone = supervisor.whichChildren().filter(({ process }) => process === undefined).length;
    world.must("as-the-model", gone === 0, () => `it shows ${gone} children that have ended for good`);
    if (!this.#quiet()) return;
    const dead = this.#guests.filter(({ alive }) => !alive).length;
    world.must("as-the-model", dead === 0, () => `${dead} children should run, and do not`);
    const shown = new Set(supervisor.whichChildren().map(({ process }) => process));
    const same = shown.size === this.#guests.length && this.#guests.every(({ life }) => shown.has(life?.process));
    world.must("as-the-model", same, () => `it shows ${shown.size} children, and ${this.#guests.length} are there`);
    const { length } = this.#lives.filter(({ process }) => process.alive && !shown.has(process));
    world.must("lets-go", length === 0, () => `${length} processes live, and no supervisor knows of them`);
  }

  async converge(): Promise<void> {
    await this.world.runtime.advance(600_000);
    this.world.must("settles", this.#busy === 0, () => `${this.#busy} starts, ends and calls are under way still`);
    const quiet = this.supervisor === undefined || this.#mayEnd || this.#quiet();
    this.world.must("settles", quiet, () => "its children do not come up");
  }

  async stop(): Promise<void> {
    const { world, supervisor } = this;
    if (supervisor === undefined) return;
    const kill = world.setUp.chance(0.3);
    this.end(kill, Infinity);
    const alive = this.#lives.filter(({ process }) => process.alive).length;
    world.must("lets-go", !kill || alive === 0, () => `its supervisor was killed, and ${alive} live`);
    await world.until("stop", supervisor.stop());
    await world.runtime.settle();
    world.must("at-rest", this.supervisor === undefined, () => "stopped, and its monitor was not told");
    const timers = world.timers();
    world.must("lets-go", timers === 0, () => `the supervisor has ended, and ${timers} timers are left`);
  }

  async #start(guest: Guest): Promise<Process | undefined> {
    const { world } = this;
    guest.starts++;
    world.must("as-the-model", !guest.over, () => "a child that has ended for good is started again");
    world.must("one-holder", !guest.alive, () => "a child is started while it lives");
    const fault = world.strike("a start gives nothing", "a start fails", "a start is slow");
    if (fault === "a start gives nothing") {
      this.#leaves(guest);
      return undefined;
    }
    if (fault === "a start fails") throw new Error("no");
    this.#busy++;
    if (fault === "a start is slow") await world.pause(world.chance.between(1, 300));
    const life = await this.#live(guest);
    this.#busy--;
    if (world.strikes("a child dies at once")) life.self.exit(new Error("stillborn"));
    return life.process;
  }

  async #live(guest: Guest): Promise<Life> {
    let self!: Self;
    const process: Process = await Process.start({
      name: "guest",
      runtime: this.world.runtime,
      init: (given) => {
        self = given;
      },
      terminate: () => this.#terminate(guest),
    });
    const life: Life = { guest, process, self };
    guest.life = life;
    this.#lives.push(life);
    if (this.#lives.length > 40)
      this.#lives.splice(
        this.#lives.findIndex((each) => !each.process.alive),
        1,
      );
    process.monitor(() => {
      // One that dies before its start is answered may not have been there yet: then it is the start that has failed.
      if (guest.here && guest.endedForGood) this.#leaves(guest);
    });
    return life;
  }

  async #terminate(guest: Guest): Promise<void> {
    const { world } = this;
    this.#asked?.add(world.runtime.now());
    const fault = world.strike("an end is slow", "an end hangs");
    if (fault === undefined) return;
    const over: Promise<unknown> = guest.life?.process.exited ?? Promise.resolve();
    const slow = fault === "an end is slow" || guest.manner.shutdown === "infinity";
    this.#busy++;
    await (slow ? Promise.race([over, world.pause(world.chance.between(1, 900))]) : over);
    this.#busy--;
  }

  #leaves(guest: Guest): void {
    guest.over = true;
    this.#guests = this.#guests.filter((each) => each !== guest);
  }

  #ended(): void {
    const { world } = this;
    world.must("as-the-model", this.#mayEnd, () => "the supervisor has ended, and nobody has wanted it");
    const times = this.#asked?.size ?? 0;
    world.must("as-the-model", times <= 1, () => `its children were asked to go at ${times} different times`);
    for (const guest of this.#guests) guest.over = true;
    this.#guests = [];
    this.supervisor = undefined;
    this.#mayEnd = false;
    this.#asked = undefined;
  }

  /** Whether nothing is under way, so that what is must be what is known. */
  #quiet(): boolean {
    if (this.supervisor === undefined || this.#busy > 0 || this.#mayEnd) return false;
    return this.supervisor.whichChildren().every(({ process }) => process instanceof Process);
  }

  #call<T>(what: string, promise: Promise<T>, then: (outcome: string, value: T | undefined) => void): void {
    this.#busy++;
    this.world.follow(what, promise, ({ outcome, value }) => {
      this.#busy--;
      then(outcome, value);
    });
  }
}

const manner = (draw: Draw): Manner => ({
  restart: draw.one("permanent", "permanent", "transient", "temporary"),
  shutdown: draw.one<Manner["shutdown"]>(0, 30, 5_000, "infinity", "brutal_kill"),
  id: draw.one("a", "b", null),
});
const which = (draw: Draw): { which: number } => ({ which: draw.below(64) });

export const dynamic: Scenario<House> = {
  name: "dynamic",
  about: "a dynamic supervisor, beside a list of who is there",
  seeds: 500,
  steps: 200,
  faults: {
    "a start gives nothing": 0.04,
    "a start fails": 0.1,
    "a start is slow": 0.1,
    "a child dies at once": 0.05,
    "an end is slow": 0.15,
    "an end hangs": 0.15,
  },
  commands: {
    begin: command<House>({ weight: 4, run: (play) => play.begin() }),
    startChild: command<House, Manner>({ weight: 14, draw: manner, run: (play, args) => play.startChild(args) }),
    terminateChild: command<House, { which: number }>({
      weight: 6,
      draw: which,
      run: (play, args) => play.terminate(args.which),
    }),
    "a child ends": command<House, { which: number; way: number }>({
      weight: 10,
      fault: true,
      draw: (draw) => ({ ...which(draw), way: draw.below(3) }),
      run: (play, args) => play.crash(args.which, args.way),
    }),
    stop: command<House, { timeoutMs: number | null }>({
      weight: 0.4,
      draw: (draw) => ({ timeoutMs: draw.one(0, 40, null) }),
      run: (play, { timeoutMs }) => play.end(false, timeoutMs ?? Infinity),
    }),
    "the supervisor is killed": command<House>({ weight: 0.3, fault: true, run: (play) => play.end(true, 0) }),
  },
  start: async (world) => {
    const play = new House(world);
    play.begin();
    return play;
  },
};
