/**
 * A handful of processes that will not come, will not go, watch each other and drag each other along, beside a list of
 * what was done to each.
 *
 * The model knows who was asked, told or made to end, and of what; who is tied to whom; and who watches. Every death must
 * be one of those, in the step in which it was due, and everybody who is to hear of it hears once. Some of those who hear
 * act in that very moment: they kill another, tie two, watch anew. What is thrown where nobody waits for it is kept in a
 * list until the event that tells it has come.
 */

import { type ExitReason, Process, type ProcessSpec, type Self } from "../../../src/index.ts";
import { isClean } from "../../../src/process/index.ts";
import type { Draw } from "../harness/draw.ts";
import { at, command, type Play, type Scenario } from "../harness/scenario.ts";
import { codeOf, type World } from "../harness/world.ts";
import { type Held, Life, type Watch } from "./process-life.ts";

/** Two that are tied. */
interface Tie {
  readonly pair: readonly [Life, Life];
  readonly link: Disposable;
  /** The command in which it was undone. */
  undoneIn: number | undefined;
}

const deeds = ["nothing", "throws", "rejects", "kills", "exits", "stops", "watches", "links", "unlinks", "unwatches"];

/** What somebody does who has heard of a death. Plain: it is part of a command. */
interface Deed {
  readonly deed: number;
  readonly which: number;
  readonly other: number;
}

type Told = "process.terminateFailed" | "callback.failed";

/** How long a `terminate` may take that nobody waits for. */
const hangingMs = 5_000;

class Society implements Play {
  readonly world: World;
  /** Those that commands reach: the last dozen. */
  readonly #lives: Life[] = [];
  readonly #all = new Map<string, Life>();
  readonly #ties: Tie[] = [];
  readonly #watches: Watch[] = [];
  readonly #releases: (() => void)[] = [];
  /** What was thrown where nobody waits for it, and how that is to be told. */
  readonly #owed = new Map<Error, Told>();
  #command = 0;
  #errors = 0;

  constructor(world: World) {
    this.world = world;
    world.hear("process.crashed", ({ name, reason }) => {
      const life = this.#all.get(name);
      if (life === undefined) return;
      life.crashes++;
      world.must("as-the-model", life.process.reason === reason, () => `"${name}" has crashed of ${String(reason)}`);
    });
    world.hear("process.terminateFailed", ({ name, error }) => this.#terminateFailed(name, error));
    world.hear("callback.failed", ({ where, error }) => {
      const life = [...this.#all.values()].find(({ initError }) => initError === error);
      if (life === undefined) return this.#settleDebt(error, "callback.failed", where);
      const late = !life.alive && life.over !== error && where === `${life.name}: init, after its exit`;
      world.must("as-the-model", late, () => `${where}: told of ${error.message}`);
      life.initError = undefined;
    });
  }

  born(): void {
    const { world } = this;
    const life = new Life(`process no. ${this.#all.size}`, !world.strikes("there is no terminate"));
    this.#all.set(life.name, life);
    const spec: ProcessSpec<object> = {
      name: life.name,
      runtime: world.runtime,
      init: (self) => this.#init(life, self),
      ...(life.hasTerminate ? { terminate: (state, reason) => this.#terminate(life, state, reason) } : {}),
    };
    life.start = world.follow("start", Process.start(spec), (call) => this.#started(life, call));
    this.#lives.push(life);
    if (this.#lives.length <= 12) return;
    const gone = this.#lives.findIndex(({ alive, init }) => !alive && init !== "pending");
    if (gone >= 0) this.#lives.splice(gone, 1);
  }

  watch(which: number, deed: Deed): void {
    const life = this.#at(which);
    if (life !== undefined) this.#watch(life, deed);
  }

  unwatch(which: number): void {
    const watch = at(this.#watches, which);
    if (watch === undefined) return;
    watch.disposed = true;
    watch.since?.[Symbol.dispose]();
  }

  link(which: number, other: number): void {
    const [a, b] = [this.#at(which), this.#at(other)];
    if (a === undefined || b === undefined) return;
    // One that has died already acts at once, or not at all.
    if (a !== b && a.alive !== b.alive) {
      const [dead, live] = a.alive ? [b, a] : [a, b];
      if (!isClean(dead.over as ExitReason)) live.due.push(dead.over as ExitReason);
    }
    const tie: Tie = { pair: [a, b], link: a.process.link(b.process), undoneIn: undefined };
    if (a !== b && a.alive && b.alive) this.#ties.push(tie);
    else tie.link[Symbol.dispose](); // That undoes nothing else.
  }

  unlink(which: number): void {
    const tie = at(this.#ties, which);
    if (tie === undefined) return;
    tie.undoneIn ??= this.#command;
    tie.link[Symbol.dispose]();
    tie.link[Symbol.dispose]();
  }

  hold(which: number, throws: boolean, releases: boolean): void {
    const life = this.#at(which);
    if (life === undefined || !life.alive) return;
    const { world } = this;
    const held: Held = { taken: false, announced: false, released: false };
    life.held.push(held);
    const holding = (reason: ExitReason): (() => void) => {
      const fine = !held.taken && !held.released && life.alive && life.process.reason === reason;
      world.must("as-the-model", fine, () => `what "${life.name}" holds is taken back, or told ${String(reason)}`);
      world.must("as-the-model", !life.process.alive, () => `"${life.name}" lives while it loses what it holds`);
      held.taken = true;
      if (throws) {
        held.announced = true; // It has nothing to announce.
        throw this.#owes("callback.failed");
      }
      return () => {
        const first = life.held.every(({ taken, released }) => taken || released);
        world.must("as-the-model", first && life.alive, () => `"${life.name}" is announced before it is over`);
        held.announced = true;
      };
    };
    life.process.hold(holding);
    if (!releases) return;
    held.released = true;
    life.process.release(holding);
  }

  kill(which: number): boolean {
    const life = this.#at(which);
    if (life === undefined || !life.alive) return false;
    life.killed = true;
    life.process.kill();
    this.#mustBeDead(life, "kill");
    return true;
  }

  exit(which: number, way: number): boolean {
    const life = this.#at(which);
    if (life === undefined || !life.alive) return false;
    this.#exit(life, at<ExitReason>(["normal", "shutdown", "killed", this.#error()], way) as ExitReason);
    return true;
  }

  /** Something goes wrong, or well, in a handler of its own. */
  guarded(which: number, way: number): boolean {
    const life = this.#at(which);
    if (life?.self === undefined) return false;
    const { world } = this;
    const error = this.#error();
    const handler = life.self.guard(() => {
      world.must("as-the-model", life.alive, () => `a handler of "${life.name}" is called, which is dead`);
      if (way === 0) return undefined;
      if (way === 1) {
        life.soon.push(error);
        return Promise.reject(error);
      }
      this.#willExit(life, error);
      throw error;
    });
    const { alive } = life;
    handler();
    if (alive && way > 1) this.#mustBeDead(life, "a throw in guard");
    return alive && way > 0;
  }

  stopOne(which: number, way: number, timeoutMs: number): boolean {
    const life = this.#at(which);
    if (life === undefined || life.init === "coming") return false;
    const { world } = this;
    const reason = at<ExitReason>(["shutdown", "normal", "killed", this.#error()], way) as ExitReason;
    if (life.alive) {
      const early = life.init === "pending";
      life.asked ??= reason;
      life.deadlines.push(world.runtime.now() + timeoutMs);
      if (early || !life.hasTerminate) life.due.push(life.asked);
    }
    const stopped = world.follow("stop", life.process.stop({ reason, timeoutMs }), ({ value }) => {
      world.must("as-the-model", value === life.over, () => `stop gave ${String(value)}, not ${String(life.over)}`);
    });
    if (life.due.length > 0) this.#mustBeDead(life, "a stop that has nothing to wait for");
    if (timeoutMs === Infinity) return true;
    void world.pause(timeoutMs + 1).then(() => {
      world.must("settles", !stopped.pending, () => `"${life.name}" was to stop in ${timeoutMs} ms, and lives`);
    });
    return true;
  }

  check(settled: boolean): void {
    const { world } = this;
    this.#command++;
    for (const life of this.#lives) if (life.self !== undefined) this.#checkOne(life, settled);
    for (const { pair, undoneIn } of this.#ties) {
      if (undoneIn !== undefined) continue;
      const [dead, left] = pair[0].alive ? [pair[1], pair[0]] : pair;
      const apart = left.alive && dead.over !== undefined && !isClean(dead.over);
      world.must("as-the-model", !apart, () => `"${dead.name}" has died, and "${left.name}" was tied to it`);
    }
    const tied = this.#ties.filter(({ pair, undoneIn }) => undoneIn === undefined && pair.every(({ alive }) => alive));
    this.#ties.splice(0, this.#ties.length, ...tied);
    if (!settled) return;
    const [owed] = this.#owed;
    world.must("nothing-swallowed", owed === undefined, () => `${owed?.[1]} was to tell of "${owed?.[0].message}"`);
  }

  async converge(): Promise<void> {
    const { world } = this;
    for (const release of this.#releases.splice(0)) release();
    await world.runtime.advance(60_000);
    const late = [...this.#all.values()].find(({ start }) => start?.pending);
    world.must("settles", late === undefined, () => `"${late?.name}" has not come, and nothing keeps it`);
  }

  async stop(): Promise<void> {
    const { world } = this;
    for (const life of this.#all.values()) {
      if (life.self === undefined || !life.alive) continue;
      life.asked ??= "shutdown";
      if (!life.hasTerminate) life.due.push(life.asked);
      world.follow("dispose", life.process[Symbol.asyncDispose]());
      life.deadlines.push(world.runtime.now() + hangingMs);
    }
    await world.runtime.advance(hangingMs + 1);
    this.#lives.splice(0, this.#lives.length, ...this.#all.values());
    this.check(true);
    const left = this.#lives.find(({ alive }) => alive);
    world.must("at-rest", left === undefined, () => `"${left?.name}" was stopped, and lives`);
    await world.runtime.advance(2 * hangingMs);
    const timers = world.timers();
    world.must("lets-go", timers === 0, () => `all are dead, and ${timers} timers are left`);
  }

  #at(which: number): Life | undefined {
    return at(
      this.#lives.filter(({ isSure }) => isSure),
      which,
    );
  }

  async #init(life: Life, self: Self): Promise<object> {
    const { world } = this;
    life.self = self;
    self.process.monitor((reason) => this.#died(life, reason));
    world.follow("exited", self.process.exited, ({ value }) => {
      world.must("as-the-model", value === life.over, () => `"${life.name}" says that it ended of ${String(value)}`);
    });
    try {
      await this.#comeUp(life, self);
    } catch (error) {
      life.init = "failed";
      // Whoever gives up because it was told to has done right.
      if (error !== self.signal.reason) life.soon.push((life.initError = error as Error));
      throw error;
    }
    life.init = life.alive ? "coming" : "done";
    return life.state;
  }

  async #comeUp(life: Life, self: Self): Promise<void> {
    const { world } = this;
    switch (
      world.strike(
        "init throws",
        "init exits",
        "init exits, and throws",
        "init is slow",
        "init is slow, and throws",
        "init hangs",
        "init hangs until it is told",
      )
    ) {
      case "init throws":
        throw this.#error();
      case "init exits":
        return this.#exit(life, world.chance.one<ExitReason>("normal", "killed", this.#error()));
      case "init exits, and throws":
        this.#exit(life, "normal");
        throw this.#error();
      case "init is slow":
        return world.pause(world.chance.between(1, 400));
      case "init is slow, and throws":
        await world.pause(world.chance.between(1, 400));
        throw this.#error();
      case "init hangs":
        return new Promise<void>((resolve) => this.#releases.push(resolve));
      case "init hangs until it is told":
        return new Promise((resolve, reject) => {
          this.#releases.push(resolve);
          self.signal.addEventListener("abort", () => reject(self.signal.reason));
        });
      case undefined:
        return undefined;
    }
  }

  #started(life: Life, { outcome, value, error }: { outcome: string; value: unknown; error: unknown }): void {
    const { world } = this;
    if (outcome === "ok") {
      const fine = value === life.process && life.init === "coming" && life.process.state === life.state;
      world.must("as-the-model", fine, () => `"${life.name}" has started, with its init ${life.init}`);
      life.init = "done";
      return;
    }
    const { over, overAt } = life;
    const exited = over instanceof Error ? error === over : codeOf(error) === "ERR_PROCESS_EXITED";
    const fine = !life.alive && overAt !== "done" && exited;
    world.must("as-the-model", fine, () => `"${life.name}" has not started: ${outcome}`);
  }

  #terminate(life: Life, state: object, reason: ExitReason): void | Promise<void> {
    const { world } = this;
    life.terminations++;
    const fine = life.terminations === 1 && life.mustClean && state === life.state;
    world.must("as-the-model", fine, () => `"${life.name}" is cleaned up, with its init ${life.init}`);
    const right = reason === (life.over ?? life.asked);
    world.must("as-the-model", right, () => `"${life.name}" is cleaned up because of ${String(reason)}`);
    if (!life.alive) this.#mustTellOfHanging(life);
    const { chance } = world;
    const fault = world.strike(
      "terminate throws",
      "terminate rejects",
      "terminate is slow",
      "terminate is slow, and rejects",
      "terminate hangs",
      "terminate exits",
      "terminate exits, and hangs",
    );
    const end = (): void => {
      life.ended = true;
    };
    const fail = (): never => {
      end();
      throw this.#owes("process.terminateFailed");
    };
    switch (fault) {
      case "terminate throws":
        return fail();
      case "terminate rejects":
        return Promise.resolve().then(fail);
      case "terminate is slow":
        return world.pause(chance.between(1, 7_000)).then(end);
      case "terminate is slow, and rejects":
        return world.pause(chance.between(1, 7_000)).then(fail);
      case "terminate hangs":
        return new Promise(() => undefined);
      case "terminate exits":
      case "terminate exits, and hangs":
        if (life.alive) this.#exit(life, chance.one<ExitReason>("normal", this.#error()));
        if (fault === "terminate exits, and hangs") return new Promise(() => undefined);
        return end();
      case undefined:
        return chance.chance(0.5) ? end() : Promise.resolve().then(end);
    }
  }

  /** It is dead, of one of those things that were to end it. */
  #died(life: Life, reason: ExitReason): void {
    const { world } = this;
    const { name, process } = life;
    world.must("as-the-model", life.alive, () => `"${name}" dies twice`);
    world.must("as-the-model", !process.alive && process.reason === reason, () => `"${name}" is not as dead as told`);
    const carried = this.#ties
      .filter(({ pair, undoneIn }) => pair.includes(life) && (undoneIn ?? this.#command) === this.#command)
      .map(({ pair }) => (pair[0] === life ? pair[1] : pair[0]).over)
      .filter((over) => over !== undefined && !isClean(over)) as ExitReason[];
    const fine = life.mayEndOf(reason, carried, world.runtime.now());
    world.must("as-the-model", fine, () => `"${name}" ends of ${String(reason)}, and nobody has wanted it`);
    const crashed = life.crashes === (reason instanceof Error ? 1 : 0);
    world.must("as-the-model", crashed, () => `"${name}" ends of ${String(reason)}, told ${life.crashes} times`);
    const held = life.held.filter(({ announced, released }) => !announced && !released).length;
    world.must("as-the-model", held === 0, () => `"${name}" is dead to those who watch, and holds ${held} still`);
    life.over = reason;
    life.overAt = life.init;
    const cut = life.killed || life.hangTold;
    if (life.terminations > 0 && !life.ended && !cut) this.#mustTellOfHanging(life);
  }

  /** It is dead, and its `terminate` goes on: not for long, or it is told. */
  #mustTellOfHanging(life: Life): void {
    void this.world.pause(hangingMs + 1).then(() => {
      const told = life.ended || life.hangTold;
      this.world.must("nothing-swallowed", told, () => `the terminate of "${life.name}" hangs, and nobody says so`);
    });
  }

  #terminateFailed(name: string, error: Error): void {
    const life = this.#all.get(name);
    if (life === undefined) return;
    const { world } = this;
    // A handler may have failed between the stop and the end.
    if (life.alive && life.asked !== undefined && life.soon.includes(error)) return;
    if (!error.message.startsWith("terminate had not returned")) {
      this.#settleDebt(error, "process.terminateFailed", name);
      return;
    }
    const hangs = life.terminations === 1 && !life.ended && !life.hangTold;
    world.must("as-the-model", hangs, () => `the terminate of "${name}" is said to hang`);
    const late = !life.alive || life.deadlines.some((deadline) => deadline <= world.runtime.now());
    world.must("as-the-model", late, () => `the terminate of "${name}" had more time than that`);
    life.hangTold = true;
  }

  #checkOne(life: Life, settled: boolean): void {
    const { world } = this;
    const { name, process, over, asked } = life;
    world.must("as-the-model", process.alive === life.alive, () => `"${name}" is dead, and we have not heard of it`);
    world.must("as-the-model", life.due.length === 0 || !life.alive, () => `"${name}" was to end, and lives`);
    const { aborted, reason } = (life.self as Self).signal;
    const why = asked ?? over;
    const signalled = why instanceof Error ? reason === why : codeOf(reason) === "ERR_PROCESS_EXITED";
    const fine = aborted === (why !== undefined) && (!aborted || signalled);
    world.must("as-the-model", fine, () => `the signal of "${name}", which ends of ${String(why)}, is ${aborted}`);
    if (over !== undefined) {
      const deaf = life.watches.find(({ heard, disposed, early }) => heard === 0 && !disposed && (early || settled));
      world.must("as-the-model", deaf === undefined, () => `"${name}" is dead, and somebody who watches knows nothing`);
    }
    if (!settled) return;
    const gone = life.soon.length > 0 || (asked !== undefined && life.ended);
    world.must("as-the-model", !gone || !life.alive, () => `"${name}" was to end by now, and lives`);
    const clean = life.terminations === (life.mustClean ? 1 : 0);
    world.must(
      "as-the-model",
      clean,
      () => `"${name}", dead: ${!life.alive}, was cleaned up ${life.terminations} times`,
    );
    const told = life.initError === undefined || over === life.initError;
    world.must("nothing-swallowed", told, () => `the init of "${name}" has failed, and nobody was told`);
    const { start } = life;
    const coming = life.alive && life.init === "pending";
    world.must("settles", start?.pending === coming, () => `"${name}", its init ${life.init}: ${start?.outcome}`);
  }

  #watch(life: Life, deed: Deed): void {
    const { world } = this;
    const watch: Watch = { heard: 0, early: life.alive, disposed: false, since: undefined };
    life.watches.push(watch);
    this.#watches.push(watch);
    watch.since = life.process.monitor((reason) => {
      watch.heard++;
      const fine = watch.heard === 1 && !watch.disposed && reason === life.over && !life.process.alive;
      world.must("as-the-model", fine, () => `one who watches "${life.name}" hears ${String(reason)}`);
      return this.#do(life, deed) as void;
    });
  }

  #do(heardOf: Life, { deed, which, other }: Deed): unknown {
    switch (deeds[deed]) {
      case "throws":
        throw this.#owes("callback.failed");
      case "rejects":
        return Promise.reject(this.#owes("callback.failed"));
      case "kills":
        return void this.kill(which);
      case "exits":
        return void this.exit(which, other);
      case "stops":
        return void this.stopOne(which, other, 20);
      case "watches":
        this.#watch(heardOf, { deed: other % 3, which, other });
        return this.watch(which, { deed: 0, which, other });
      case "links":
        return this.link(which, other);
      case "unlinks":
        return this.unlink(which);
      case "unwatches":
        return this.unwatch(which);
      default:
        return undefined;
    }
  }

  #exit(life: Life, reason: ExitReason): void {
    this.#willExit(life, reason);
    life.self?.exit(reason);
    this.#mustBeDead(life, "exit");
  }

  /** The reason that a stop has named stays; then what it ends of instead is told. */
  #willExit(life: Life, reason: ExitReason): void {
    if (life.asked !== undefined && reason instanceof Error && reason !== life.asked)
      this.#owed.set(reason, "process.terminateFailed");
    life.due.push(reason);
  }

  #mustBeDead(life: Life, what: string): void {
    this.world.must("as-the-model", !life.alive, () => `${what} has returned, and "${life.name}" lives`);
  }

  #settleDebt(error: Error, told: Told, where: string): void {
    const owed = this.#owed.get(error) === told;
    this.world.must("as-the-model", owed, () => `${where}: ${told} tells of "${error.message}", which is not owed`);
    this.#owed.delete(error);
  }

  #owes(told: Told): Error {
    const error = this.#error();
    this.#owed.set(error, told);
    return error;
  }

  #error(): Error {
    return new Error(`broken no. ${++this.#errors}`);
  }
}

const who = (draw: Draw): { which: number } => ({ which: draw.below(64) });
const act = (draw: Draw): { which: number; way: number } => ({ which: draw.below(64), way: draw.below(4) });
const two = (draw: Draw): { which: number; other: number } => ({ which: draw.below(64), other: draw.below(64) });

export const processes: Scenario<Society> = {
  name: "process",
  about: "processes that end, watch and drag each other along, beside a list of what was done to each",
  seeds: 500,
  steps: 200,
  faults: {
    "there is no terminate": 0.2,
    "init throws": 0.06,
    "init exits": 0.05,
    "init exits, and throws": 0.03,
    "init is slow": 0.15,
    "init is slow, and throws": 0.05,
    "init hangs": 0.05,
    "init hangs until it is told": 0.05,
    "terminate throws": 0.08,
    "terminate rejects": 0.08,
    "terminate is slow": 0.15,
    "terminate is slow, and rejects": 0.08,
    "terminate hangs": 0.1,
    "terminate exits": 0.05,
    "terminate exits, and hangs": 0.03,
  },
  commands: {
    born: command<Society>({ weight: 22, run: (play) => play.born() }),
    monitor: command<Society, Deed>({
      weight: 20,
      draw: (draw) => ({ deed: draw.below(deeds.length), ...two(draw) }),
      run: (play, deed) => play.watch(deed.which, { ...deed, which: deed.other, other: deed.which }),
    }),
    "a monitor is disposed of": command<Society, { which: number }>({
      weight: 5,
      draw: who,
      run: (play, { which }) => play.unwatch(which),
    }),
    link: command<Society, { which: number; other: number }>({
      weight: 14,
      draw: two,
      run: (play, { which, other }) => play.link(which, other),
    }),
    "a link is disposed of": command<Society, { which: number }>({
      weight: 5,
      draw: who,
      run: (play, { which }) => play.unlink(which),
    }),
    hold: command<Society, { which: number; throws: boolean; releases: boolean }>({
      weight: 6,
      draw: (draw) => ({ ...who(draw), throws: draw.chance(0.2), releases: draw.chance(0.3) }),
      run: (play, { which, throws, releases }) => play.hold(which, throws, releases),
    }),
    stop: command<Society, { which: number; way: number; timeoutMs: number | null }>({
      weight: 12,
      draw: (draw) => ({ ...act(draw), timeoutMs: draw.one(0, 5, 40, 5_000, null) }),
      run: (play, { which, way, timeoutMs }) => play.stopOne(which, way, timeoutMs ?? Infinity),
    }),
    "a process is killed": command<Society, { which: number }>({
      weight: 3,
      fault: true,
      draw: who,
      run: (play, { which }) => play.kill(which),
    }),
    "a process exits": command<Society, { which: number; way: number }>({
      weight: 5,
      fault: true,
      draw: act,
      run: (play, { which, way }) => play.exit(which, way),
    }),
    "a handler fails": command<Society, { which: number; way: number }>({
      weight: 5,
      fault: true,
      draw: act,
      run: (play, { which, way }) => play.guarded(which, way),
    }),
  },
  start: async (world) => {
    const play = new Society(world);
    for (let count = world.setUp.between(2, 5); count > 0; count--) play.born();
    return play;
  },
};
