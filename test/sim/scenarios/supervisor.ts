/**
 * A supervisor of every kind, whose children fail, hang, give nothing, die and will not go, beside a list of who must be
 * there.
 *
 * The model is kept by what the calls have answered: who is known, and who was asked to go. Who lives is no model: every
 * child says so itself. While nothing is under way, the two must agree exactly, and one death must have restarted those
 * that the strategy says, once each, and nobody else. In a storm, where calls wait behind each other, what holds at any
 * moment is looked at, and the agreement again when all is calm.
 */

import {
  type ChildSpec,
  type ExitReason,
  type HasProcess,
  Process,
  type Self,
  Supervisor,
  SupervisorError,
  type SupervisorOptions,
} from "../../../src/index.ts";
import { Draw } from "../harness/draw.ts";
import { at, command, type Play, type Scenario } from "../harness/scenario.ts";
import type { Call, World } from "../harness/world.ts";

type Id = "a" | "b" | "c" | "d" | "e";
const ids: readonly Id[] = ["a", "b", "c", "d", "e"];
type Restart = "permanent" | "transient" | "temporary";

/** How a child is to be. Plain: it is part of a command. */
interface Manner {
  readonly id: number;
  readonly restart: Restart;
  readonly shutdown: number | "infinity" | "brutal_kill";
  readonly significant: boolean;
  /** It is a supervisor itself, with two workers. */
  readonly nested: boolean;
}

/** One process that a child was, for a while. */
class Life {
  readonly id: Id;
  readonly manner: Manner;
  process: Process | undefined;
  self: Self | undefined;
  /** Whether its start has given it away. */
  handed = false;
  /** What it ended of, if that was not its supervisor's doing. */
  ownEnd: ExitReason | undefined;
  /** Whether its supervisor has said that it has ended. */
  heard = false;
  /** Whether it was asked to go, as far as it knows. */
  asked = false;
  /** Whether its supervisor has said that it did not go as asked. */
  blamed = false;
  readonly workers: Process[] = [];

  constructor(id: Id, manner: Manner) {
    this.id = id;
    this.manner = manner;
  }

  get alive(): boolean {
    return this.process?.alive === true;
  }

  end(reason: ExitReason): void {
    this.ownEnd = reason;
    if (this.self === undefined || reason === "killed") this.process?.kill();
    else this.self.exit(reason);
  }
}

/** What is known of one id. */
interface Known {
  readonly manner: Manner;
  /** It was asked to go, and not to come since; or its start gave nothing. */
  down: boolean;
}

/** How often in a row the restart of a child has failed, and how many processes have come up since the last failure. */
interface Retries {
  failed: number;
  came: number;
}

const minMs = 10;

type State = "running" | "down" | "absent";
type Expected = Readonly<Record<State, string>>;

class Nursery implements Play {
  readonly world: World;
  readonly options: SupervisorOptions;
  supervisor: Supervisor | undefined;
  /** Those of the supervisor that is there now, and some of those that are gone. */
  #lives: Life[] = [];
  /** By the answers to the calls, in order of starting. */
  #known = new Map<Id, Known>();
  /** Starts, ends and calls under way. */
  #busy = 0;
  readonly #releases: (() => void)[] = [];
  #mayEnd = false;
  #mustEnd: string | undefined;
  /** When a death was to be followed by a restart. */
  #attempts: number[] = [];
  /** Restarts that have failed: when those were tried again, nobody has told. */
  #failures = 0;
  /**
   * A child whose restart had failed was asked to go. Then those of its group that were to follow it stay down, as in
   * OTP: it is the retry of the first that takes them along.
   */
  #leftBehind = false;
  /** Who must have been started again since the last death, if nothing else has happened. */
  #expects: { readonly again: ReadonlySet<Id>; readonly before: ReadonlyMap<Id, number> } | undefined;
  readonly #starts = new Map<Id, number>();
  /** By id: what the last start function to be called was to start. */
  readonly #manners = new Map<Id, Manner>();
  readonly #retries = new Map<Id, Retries>();
  /** Whose last start gave nothing. */
  readonly #nothing = new Set<Id>();
  /** Who had to be killed, and its supervisor is to say so. */
  #unblamed: Life[] = [];
  /** Who has died since the supervisor was asked to stop. */
  #deaths: Id[] | undefined;

  constructor(world: World) {
    const { setUp: draw } = world;
    // A draw of its own, so that the seeds that are written down keep the children that they had.
    const kind = new Draw(world.seed, "backoff").one("random-exponential", "exponential");
    this.world = world;
    this.options = {
      name: "nursery",
      runtime: world.runtime,
      strategy: draw.one("one_for_one", "rest_for_one", "one_for_all"),
      maxRestarts: draw.one(0, 1, 2, 3, 10, 100_000),
      maxSeconds: draw.one(1, 2, 5),
      autoShutdown: draw.one("never", "never", "any_significant", "all_significant"),
      ...(draw.chance(0.4)
        ? {
            restartBackoff: { kind, minMs, maxMs: draw.one(minMs, 300) },
          }
        : {}),
    };
    world.hear("supervisor.childExited", ({ supervisor, child, restart }) => {
      if (supervisor !== "nursery") return;
      const life = this.#last(child as Id);
      if (life !== undefined) life.heard = true;
      if (restart) this.#attempts.push(world.runtime.now());
      else this.#endsForGood(child as Id);
    });
    world.hear("supervisor.restartFailed", ({ supervisor, child, error, delayMs }) => {
      if (supervisor !== "nursery") return;
      this.#failures++;
      this.#mustWait(child as Id, error, delayMs);
    });
    world.hear("supervisor.shutdownFailed", ({ supervisor, child, reason }) => {
      if (supervisor === "nursery") this.#blame(child as Id, reason);
    });
    world.hear("supervisor.gaveUp", ({ supervisor, restarts }) => {
      if (supervisor === "nursery") this.#givesUp(restarts);
    });
  }

  /** A new supervisor, with these children, where there is none. */
  begin(manners: readonly Manner[]): void {
    // Not while those live whom their supervisor, killed a moment ago, has yet to hear of.
    if (this.supervisor !== undefined || this.#busy > 0 || this.#lives.some(({ alive }) => alive)) return;
    this.#forgetAll();
    const first = manners.filter(
      (manner, place) => manners.findIndex((other) => idOf(other) === idOf(manner)) === place,
    );
    const children = first.map((manner) => this.#spec(manner));
    this.#call("begin", Supervisor.start(children, this.options), ({ value, outcome }) => {
      if (value === undefined) {
        const fine = outcome === "ERR_SUPERVISOR_START_FAILED" || (this.#mayEnd && outcome === "ERR_PROCESS_EXITED");
        this.world.must("as-the-model", fine, () => `a supervisor did not start: ${outcome}`);
        return;
      }
      this.supervisor = value;
      for (const manner of first) this.#learn(manner);
      value.process.monitor(() => this.#ended());
    });
  }

  startChild(manner: Manner): void {
    const { supervisor } = this;
    if (supervisor === undefined) return;
    const id = idOf(manner);
    const expected = {
      running: "ERR_SUPERVISOR_ALREADY_STARTED",
      down: "ERR_SUPERVISOR_ALREADY_PRESENT",
      absent: "ok",
    };
    const start = (): Promise<HasProcess | undefined> => supervisor.startChild(this.#spec(manner));
    this.#ask(`start ${id}`, id, expected, start, ({ outcome, value }) => {
      if (outcome !== "ok") return;
      this.#learn(manner);
      if (value === undefined) this.#isDown(id);
    });
  }

  terminate(id: Id): void {
    const { supervisor } = this;
    if (supervisor === undefined) return;
    const expected = { running: "ok", down: "ok", absent: "ERR_SUPERVISOR_NOT_FOUND" };
    this.#ask(
      `terminate ${id}`,
      id,
      expected,
      () => supervisor.terminateChild(id),
      ({ outcome }) => {
        if (outcome !== "ok") return;
        this.#isDown(id);
        if (this.#failures > 0) this.#leftBehind = true;
      },
    );
  }

  restart(id: Id): void {
    const { supervisor } = this;
    if (supervisor === undefined) return;
    const expected = { running: "ERR_SUPERVISOR_RUNNING", down: "ok", absent: "ERR_SUPERVISOR_NOT_FOUND" };
    this.#ask(
      `restart ${id}`,
      id,
      expected,
      () => supervisor.restartChild(id),
      ({ outcome, value }) => {
        const known = this.#known.get(id);
        const tried = outcome === "ok" || outcome === "ERR_SUPERVISOR_START_FAILED";
        if (tried && known !== undefined) known.down = value === undefined;
      },
    );
  }

  delete(id: Id): void {
    const { supervisor } = this;
    if (supervisor === undefined) return;
    const expected = { running: "ERR_SUPERVISOR_RUNNING", down: "ok", absent: "ERR_SUPERVISOR_NOT_FOUND" };
    this.#ask(
      `delete ${id}`,
      id,
      expected,
      () => supervisor.deleteChild(id),
      ({ outcome }) => {
        if (outcome === "ok") this.#known.delete(id);
      },
    );
  }

  /** A child ends by itself. */
  crash(which: number, way: number): boolean {
    const life = at(
      this.#lives.filter(({ alive, handed }) => alive && handed),
      which,
    );
    if (life === undefined) return false;
    const { id, manner } = life;
    const clean = way < 2 && !manner.nested;
    const quiet = this.#quiet();
    const restarts = manner.restart === "permanent" || (manner.restart === "transient" && !clean);
    this.#expects = undefined;
    this.#deaths = undefined;
    if (quiet && restarts) this.#expect(id);
    else if (quiet) this.#expects = { again: new Set(), before: new Map(this.#starts) };
    life.end(
      clean ? ((["normal", "shutdown"] as const)[way % 2] ?? "normal") : way === 2 ? new Error("broken") : "killed",
    );
    return true;
  }

  /** A worker of a child that is a supervisor itself ends. That is not for us to see. */
  crashBelow(which: number): boolean {
    const life = at(
      this.#lives.filter(({ alive, workers }) => alive && workers.length > 0),
      which,
    );
    const worker = life?.workers.find(({ alive }) => alive);
    worker?.kill();
    return worker !== undefined;
  }

  end(kill: boolean, timeoutMs: number): boolean {
    const { supervisor } = this;
    if (supervisor === undefined) return false;
    if (this.#quiet()) this.#deaths = [];
    this.#mayEnd = true;
    this.#expects = undefined;
    if (kill) supervisor.process.kill();
    else this.#call("stop", supervisor.stop({ timeoutMs }), () => undefined);
    return true;
  }

  check(settled: boolean): void {
    const { world, supervisor } = this;
    for (const id of ids) {
      const living = this.#lives.filter((life) => life.id === id && life.alive).length;
      world.must("one-holder", living <= 1, () => `${living} processes are "${id}"`);
    }
    if (!settled) return;
    const unblamed = this.#mayEnd ? undefined : this.#unblamed.find(({ blamed }) => !blamed);
    this.#unblamed = [];
    world.must("nothing-swallowed", unblamed === undefined, () => `"${unblamed?.id}" was killed, and nobody says why`);
    if (this.#busy > 0) return;
    world.must("as-the-model", this.#mustEnd === undefined, () => `${this.#mustEnd}, and its supervisor goes on`);
    const infos = supervisor?.whichChildren() ?? [];
    const listed = new Set(infos.map(({ process }) => process));
    const lost = this.#lives.find((life) => life.handed && life.alive && !listed.has(life.process));
    world.must("lets-go", lost === undefined, () => `"${lost?.id}" lives, and no supervisor knows of it`);
    const below = this.#lives.find((life) => !life.alive && life.workers.some(({ alive }) => alive));
    world.must("lets-go", below === undefined, () => `"${below?.id}" is dead, and a worker of it lives`);
    if (supervisor === undefined || !this.#quiet()) return;
    this.#forgetTemporaries();
    const names = infos.map(({ id }) => id).reverse();
    const known = [...this.#known.keys()];
    world.must("as-the-model", names.join() === known.join(), () => `it knows ${names.join()}, not ${known.join()}`);
    const { specs, active } = supervisor.countChildren();
    const living = this.#lives.filter(({ alive }) => alive).length;
    world.must("as-the-model", specs === known.length, () => `it counts ${specs} specs, not ${known.length}`);
    world.must("as-the-model", active === living, () => `it counts ${active} active, and ${living} live`);
    this.#checkExpected();
  }

  async converge(): Promise<void> {
    const { world } = this;
    for (const release of this.#releases.splice(0)) release();
    await world.runtime.advance(600_000);
    world.must("settles", this.#busy === 0, () => `${this.#busy} starts, ends and calls are under way still`);
    if (this.supervisor === undefined || this.#leftBehind) return;
    this.#forgetTemporaries();
    for (const [id, { manner, down }] of this.#known) {
      const last = this.#last(id);
      if (last?.alive || down || this.#nothing.has(id)) continue;
      const ended = manner.restart === "transient" && (last?.ownEnd === "normal" || last?.ownEnd === "shutdown");
      world.must("as-the-model", ended, () => `"${id}" should run, and does not`);
    }
  }

  async stop(): Promise<void> {
    const { world, supervisor } = this;
    if (supervisor === undefined) return;
    const kill = world.setUp.chance(0.3);
    this.end(kill, Infinity);
    const alive = this.#lives.filter((life) => life.alive && life.handed).length;
    world.must("lets-go", !kill || alive === 0, () => `its supervisor was killed, and ${alive} live`);
    await world.until("stop", supervisor.stop());
    world.must("at-rest", this.supervisor === undefined, () => "stopped, and its monitor was not told");
    await world.runtime.settle();
    const timers = world.timers();
    world.must("lets-go", timers === 0, () => `the supervisor has ended, and ${timers} timers are left`);
  }

  /** What last was this child, and may be it still. */
  #last(id: Id): Life | undefined {
    return this.#lives.filter((life) => life.id === id && life.handed).at(-1);
  }

  #spec(manner: Manner): ChildSpec {
    const { restart, shutdown, nested } = manner;
    const id = idOf(manner);
    let first = true;
    return {
      id,
      restart,
      shutdown,
      significant: isSignificant(manner, this.options),
      type: nested ? "supervisor" : "worker",
      start: () => {
        if (first) this.#retries.set(id, { failed: 0, came: 0 });
        first = false;
        return this.#start(manner);
      },
    };
  }

  async #start(manner: Manner): Promise<HasProcess | undefined> {
    const { world } = this;
    const id = idOf(manner);
    this.#starts.set(id, (this.#starts.get(id) ?? 0) + 1);
    this.#manners.set(id, manner);
    this.#mustBeAllowed();
    const old = this.#lives.find((other) => other.id === id && other.alive);
    world.must("one-holder", old === undefined, () => `"${id}" is started while it lives`);
    this.#nothing.delete(id);
    if (world.strikes("a start gives nothing")) {
      this.#nothing.add(id);
      return undefined;
    }
    const life = new Life(id, manner);
    this.#lives.push(life);
    if (this.#lives.length > 40) {
      this.#lives = this.#lives.filter((each) => each.alive || !each.handed || each === this.#last(each.id));
    }
    this.#busy++;
    try {
      if (manner.nested) await this.#beNested(life);
      else await this.#be(life);
    } catch (error) {
      this.#lives.splice(this.#lives.indexOf(life), 1);
      throw error;
    } finally {
      this.#busy--;
    }
    life.handed = true;
    this.#retriesOf(id).came++;
    life.process?.monitor((reason) => {
      this.#deaths?.push(life.id);
      // Not when the whole tree is killed.
      const late = reason === "killed" && life.asked && life.ownEnd === undefined;
      if (late && !this.#mayEnd) this.#unblamed.push(life);
    });
    if (world.strikes("a child dies at once")) life.end(new Error("stillborn"));
    return life.process;
  }

  async #be(life: Life): Promise<void> {
    life.process = await Process.start({
      name: life.id,
      runtime: this.world.runtime,
      init: async (self) => {
        life.self = self;
        await this.#comeUp();
      },
      terminate: () => this.#terminate(life),
    });
  }

  async #beNested(life: Life): Promise<void> {
    const { runtime } = this.world;
    const start = async (): Promise<Process> => {
      const worker = await Process.start({ name: `worker of ${life.id}`, runtime, init: () => this.#comeUp() });
      life.workers.push(worker);
      return worker;
    };
    const children = ["x", "y"].map((id) => ({ id, start }));
    const options = { name: life.id, runtime, strategy: "one_for_one", maxRestarts: 1_000_000 } as const;
    const supervisor = await Supervisor.start(children, options);
    life.process = supervisor.process;
  }

  async #comeUp(): Promise<void> {
    const { world } = this;
    const fault = world.strike("a start fails", "a start is slow", "a start hangs");
    if (fault === "a start fails") throw new Error("no");
    this.#busy++;
    if (fault === "a start is slow") await world.pause(world.chance.between(1, 400));
    if (fault === "a start hangs") await new Promise<void>((resolve) => this.#releases.push(resolve));
    this.#busy--;
  }

  async #terminate(life: Life): Promise<void> {
    const { world } = this;
    life.asked = true;
    if (life.ownEnd === undefined) this.#mustGo(life);
    const fault = world.strike("an end is slow", "an end hangs", "an end fails");
    if (fault === undefined) return;
    if (fault === "an end fails") throw new Error("no end");
    const over: Promise<unknown> = life.process?.exited ?? Promise.resolve();
    const slow = fault === "an end is slow" || life.manner.shutdown === "infinity";
    this.#busy++;
    await (slow ? Promise.race([over, world.pause(world.chance.between(1, 900))]) : over);
    this.#busy--;
  }

  /** Its end was somebody's decision, and in order. */
  #ended(): void {
    const { world } = this;
    world.must("as-the-model", this.#mayEnd, () => "the supervisor has ended, and nobody has wanted it");
    const deaths = this.#deaths;
    const order = [...this.#known.keys()].reverse().filter((id) => deaths?.includes(id));
    const inOrder = deaths === undefined || deaths.join() === order.join();
    world.must("as-the-model", inOrder, () => `its children have ended in the order ${deaths?.join()}`);
    this.#forgetAll();
  }

  #forgetAll(): void {
    this.supervisor = undefined;
    this.#lives = this.#lives.filter(({ alive }) => alive);
    this.#known = new Map();
    this.#mayEnd = false;
    this.#mustEnd = undefined;
    this.#attempts = [];
    this.#failures = 0;
    this.#leftBehind = false;
    this.#expects = undefined;
    this.#deaths = undefined;
    this.#unblamed = [];
  }

  /** Restarts that are within what is allowed, as far as we know of them. */
  get #inWindow(): number {
    const { maxSeconds = 5 } = this.options;
    const now = this.world.runtime.now();
    this.#attempts = this.#attempts.filter((time) => now - time <= maxSeconds * 1_000);
    return this.#attempts.length;
  }

  #mustBeAllowed(): void {
    const { maxRestarts = 3 } = this.options;
    const { length } = this.#attempts.length > maxRestarts ? { length: this.#inWindow } : this.#attempts;
    const fine = this.#mayEnd || length <= maxRestarts;
    this.world.must("as-the-model", fine, () => `restarted ${length} times, where ${maxRestarts} are allowed`);
  }

  #givesUp(restarts: number): void {
    const { maxRestarts = 3 } = this.options;
    const { world } = this;
    world.must("as-the-model", restarts === maxRestarts, () => `gives up after ${restarts} of ${maxRestarts} restarts`);
    const seen = this.#inWindow - 1;
    const fine = this.#failures > 0 || seen === maxRestarts;
    world.must("as-the-model", fine, () => `gives up after ${seen} restarts in time, where ${maxRestarts} are allowed`);
    this.#mayEnd = true;
    this.#expects = undefined;
  }

  /** One has ended otherwise than it was to, when its supervisor shut it down. */
  #blame(id: Id, reason: Error | string): void {
    const { world } = this;
    const life = this.#last(id);
    if (life === undefined) return;
    const { restart, shutdown } = life.manner;
    world.must("as-the-model", !life.blamed, () => `"${id}" is said twice to have ended badly`);
    world.must(
      "as-the-model",
      life.process?.reason === reason,
      () => `"${id}" is said to have ended: ${String(reason)}`,
    );
    const right = reason === (shutdown === "brutal_kill" ? "killed" : "shutdown");
    const fine = right || (reason === "normal" && restart !== "permanent");
    world.must("as-the-model", !fine, () => `"${id}" has ended as it was to, and is said not to have`);
    life.blamed = true;
  }

  /** A child has ended by itself, and its supervisor is about to leave it at that. That may be its own end. */
  #endsForGood(id: Id): void {
    const { autoShutdown } = this.options;
    if (!this.#isSignificant(id)) return;
    const { supervisor } = this;
    if (supervisor === undefined) {
      this.#mayEnd = true; // It has just come up, and who else is there we are about to be told.
      return;
    }
    const others = supervisor.whichChildren().filter((other) => other.id !== id && this.#isSignificant(other.id as Id));
    const all = autoShutdown === "all_significant";
    if (all && others.some(({ process }) => process !== undefined)) return; // There, or about to be put back.
    this.#mayEnd = true;
    // Of the end of one that is dead it may still have to hear, and then that one is the last.
    const unheard = others.some((other) => {
      const last = this.#last(other.id as Id);
      return last?.ownEnd !== undefined && !last.heard;
    });
    if (!all || !unheard) this.#mustEnd = `"${id}" has ended, with ${autoShutdown}`;
  }

  #isSignificant(id: Id): boolean {
    const manner = this.#manners.get(id);
    return manner !== undefined && isSignificant(manner, this.options);
  }

  /** The waits between retries grow, and begin anew for a child that has come up in the meantime. */
  #mustWait(id: Id, error: Error, delayMs: number): void {
    const { restartBackoff } = this.options;
    const retries = this.#retriesOf(id);
    // One that was dead when its supervisor got it has not come up.
    const stillborn = error instanceof SupervisorError && error.cause === (this.#last(id)?.process?.reason ?? null);
    const cameUp = retries.came - (stillborn ? 1 : 0) > 0;
    retries.failed = cameUp ? 1 : retries.failed + 1;
    retries.came = 0;
    const { kind, maxMs = 0 } = restartBackoff ?? {};
    const exact = Math.min(minMs * 2 ** (retries.failed - 1), maxMs);
    const most = kind === "exponential" ? exact : Math.min(minMs * 3 ** retries.failed, maxMs);
    const least = kind === "exponential" ? exact : Math.min(minMs, maxMs);
    const fine = delayMs >= least && delayMs <= most;
    this.world.must("as-the-model", fine, () => {
      return `"${id}" has failed ${retries.failed} times in a row, and is tried again in ${delayMs} ms`;
    });
  }

  #retriesOf(id: Id): Retries {
    return this.#retries.get(id) as Retries;
  }

  /** Its supervisor has asked it to go, and lets it take no longer than its spec says. */
  #mustGo(life: Life): void {
    const { world } = this;
    const { shutdown } = life.manner;
    if (typeof shutdown !== "number") return;
    void world.pause(shutdown + 1).then(() => {
      world.must("lets-go", !life.alive, () => `"${life.id}" was to go within ${shutdown} ms, and lives`);
    });
  }

  #learn(manner: Manner): void {
    // Whatever was known under this id is gone: else it would have been refused.
    this.#known.delete(idOf(manner));
    this.#known.set(idOf(manner), { manner, down: false });
  }

  #isDown(id: Id): void {
    const known = this.#known.get(id);
    if (known !== undefined) known.down = true;
  }

  /** A temporary child that does not live is not known either. */
  #forgetTemporaries(): void {
    for (const [id, { manner }] of this.#known) {
      if (manner.restart === "temporary" && !this.#lives.some((life) => life.id === id && life.alive))
        this.#known.delete(id);
    }
  }

  /** Who is started again, when this one dies. */
  #expect(id: Id): void {
    const known = [...this.#known.keys()];
    const later = known.slice(known.indexOf(id));
    const group = { one_for_one: [id], rest_for_one: later, one_for_all: known }[this.options.strategy];
    const again = group.filter((each) => this.#known.get(each)?.manner.restart !== "temporary");
    this.#expects = { again: new Set(again), before: new Map(this.#starts) };
  }

  #checkExpected(): void {
    const expected = this.#expects;
    this.#expects = undefined;
    if (expected === undefined || this.#failures > 0) return;
    for (const id of ids) {
      const times = (this.#starts.get(id) ?? 0) - (expected.before.get(id) ?? 0);
      const right = times === (expected.again.has(id) ? 1 : 0);
      this.world.must("as-the-model", right, () => `"${id}" was started ${times} times, with ${this.options.strategy}`);
    }
  }

  /** Whether nothing is under way, so that what is must be what is known. */
  #quiet(): boolean {
    if (this.supervisor === undefined || this.#busy > 0 || this.#mayEnd) return false;
    return this.supervisor.whichChildren().every(({ process }) => process !== "restarting");
  }

  /** `undefined`: it cannot be told, for something is under way. */
  #state(id: Id): State | undefined {
    if (!this.#quiet()) return undefined;
    this.#forgetTemporaries();
    if (!this.#known.has(id)) return "absent";
    return this.#lives.some((life) => life.id === id && life.alive) ? "running" : "down";
  }

  #ask<T>(what: string, id: Id, expected: Expected, ask: () => Promise<T>, then: (call: Call<T>) => void): void {
    const state = this.#state(id);
    this.#call(what, ask(), (call) => {
      const { outcome } = call;
      then(call);
      if (state === undefined || outcome === "ERR_SUPERVISOR_STOPPED" || outcome === "ERR_SUPERVISOR_START_FAILED")
        return;
      this.world.must("as-the-model", outcome === expected[state], () => `${what}, which is ${state}: ${outcome}`);
    });
  }

  #call<T>(what: string, promise: Promise<T>, then: (call: Call<T>) => void): void {
    this.#busy++;
    this.#expects = undefined;
    this.world.follow(what, promise, (call) => {
      this.#busy--;
      then(call);
    });
  }
}

function idOf({ id }: Manner): Id {
  return at(ids, id) as Id;
}

function isSignificant({ significant, restart }: Manner, { autoShutdown }: SupervisorOptions): boolean {
  return significant && restart !== "permanent" && autoShutdown !== "never";
}

function manner(draw: Draw): Manner {
  return {
    id: draw.below(5),
    restart: draw.one("permanent", "permanent", "transient", "temporary"),
    shutdown: draw.one<Manner["shutdown"]>(0, 30, 5_000, "infinity", "brutal_kill"),
    significant: draw.chance(0.5),
    nested: draw.chance(0.15),
  };
}

const anId = (draw: Draw): { id: number } => ({ id: draw.below(5) });

export const supervisor: Scenario<Nursery> = {
  name: "supervisor",
  about: "a supervisor and its children, beside a list of who must be there",
  seeds: 1_400,
  steps: 200,
  faults: {
    "a start gives nothing": 0.04,
    "a start fails": 0.12,
    "a start is slow": 0.1,
    "a start hangs": 0.01,
    "a child dies at once": 0.05,
    "an end is slow": 0.15,
    "an end hangs": 0.2,
    "an end fails": 0.05,
  },
  commands: {
    begin: command<Nursery, { manners: Manner[] }>({
      weight: 4,
      draw: (draw) => ({ manners: Array.from({ length: draw.below(5) }, () => manner(draw)) }),
      run: (play, { manners }) => play.begin(manners),
    }),
    startChild: command<Nursery, Manner>({ weight: 14, draw: manner, run: (play, args) => play.startChild(args) }),
    terminateChild: command<Nursery, { id: number }>({
      weight: 5,
      draw: anId,
      run: (play, { id }) => play.terminate(ids[id] as Id),
    }),
    restartChild: command<Nursery, { id: number }>({
      weight: 5,
      draw: anId,
      run: (play, { id }) => play.restart(ids[id] as Id),
    }),
    deleteChild: command<Nursery, { id: number }>({
      weight: 4,
      draw: anId,
      run: (play, { id }) => play.delete(ids[id] as Id),
    }),
    "a child ends": command<Nursery, { which: number; way: number }>({
      weight: 14,
      fault: true,
      draw: (draw) => ({ which: draw.below(64), way: draw.below(4) }),
      run: (play, { which, way }) => play.crash(which, way),
    }),
    "a worker below ends": command<Nursery, { which: number }>({
      weight: 2,
      fault: true,
      draw: (draw) => ({ which: draw.below(64) }),
      run: (play, { which }) => play.crashBelow(which),
    }),
    stop: command<Nursery, { timeoutMs: number | null }>({
      weight: 0.4,
      draw: (draw) => ({ timeoutMs: draw.one(0, 40, null) }),
      run: (play, { timeoutMs }) => play.end(false, timeoutMs ?? Infinity),
    }),
    "the supervisor is killed": command<Nursery>({ weight: 0.3, fault: true, run: (play) => play.end(true, 0) }),
  },
  start: async (world) => {
    const play = new Nursery(world);
    const { setUp: draw } = world;
    play.begin(Array.from({ length: draw.between(1, 4) }, () => manner(draw)));
    return play;
  },
};
