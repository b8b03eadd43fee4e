/**
 * A connection in its place, with a pool around it that only writes down what it is told.
 *
 * One place, one process after another in it, and a server that fails in every way. Registered is exactly what can
 * serve, at every moment; what was entered is told of once when it is over; no resource is opened before its predecessor
 * is closed, nor sooner than the backoff allows; and every resource that came out of `open` is closed once. A close that
 * fails, or takes too long, is told.
 */

import { Connection, type ConnectionHost, type ConnectionPlace, newMemory } from "../../../src/connection/index.ts";
import { Registry } from "../../../src/index.ts";
import { type Gate, type Manner, type Resource, Server } from "../../checkout/server.ts";
import { at, command, type Play, type Scenario } from "../harness/scenario.ts";
import type { World } from "../harness/world.ts";
import { openFaults, openingOf } from "./opening.ts";

const openTimeoutMs = 80;
const closeTimeoutMs = 60;
const minMs = 20;

/** What is registered for a resource. */
interface Member {
  readonly resource: Resource;
  inFlight: number;
  over: boolean;
}

class Berth implements Play {
  readonly world: World;
  readonly server: Server;
  readonly place: ConnectionPlace;
  readonly #drainTimeoutMs: number;
  connection: Connection<Resource, Member> | undefined;
  #registry: Registry<string, Member> | undefined;
  readonly #members: Member[] = [];
  #beginning = false;
  wanted = false;
  needed = true;
  readonly #totals = { opened: 0, openFailed: 0, lost: 0, closed: 0 };
  readonly #told = { opened: 0, openFailed: 0, lost: 0, closed: 0 };
  /** When this process, which nobody has killed, has tried to open it. */
  #opens: number[] = [];
  #drainingSince: number | undefined;
  #cleaning = 0;
  /** Closings that fail, or take longer than they may. */
  readonly #failing = { asked: 0, told: 0 };

  constructor(world: World) {
    const { setUp: draw, runtime } = world;
    this.world = world;
    const kind = draw.one("exponential", "random", "random-exponential");
    const memory = newMemory({ kind, minMs, maxMs: draw.one(20, 100, 400) });
    this.place = { slot: 0, endpoint: { id: "here" }, memory, closing: undefined };
    this.#drainTimeoutMs = draw.one(0, 50, 2_000);
    this.server = new Server(runtime);
    this.server.max = 1;
    this.server.closeTimeoutMs = closeTimeoutMs;
    this.server.opening = () => {
      this.#paced();
      return openingOf(world, openTimeoutMs);
    };
    this.server.closing = (resource) => {
      this.#maybeClosed(resource);
      return this.#closing();
    };
    world.hear("connection.opened", () => this.#told.opened++);
    world.hear("connection.openFailed", () => this.#told.openFailed++);
    world.hear("connection.lost", () => this.#told.lost++);
    world.hear("connection.closed", () => this.#told.closed++);
    world.hear("connection.closeFailed", () => this.#failing.told++);
  }

  /** A process in the place, where there is none. */
  begin(): void {
    if (this.#beginning || this.connection?.process.alive) return;
    this.#beginning = true;
    this.world.follow("begin", this.#begin(), () => {
      this.#beginning = false;
    });
  }

  request(): void {
    const member = this.member;
    if (member !== undefined && this.#registered().includes(member)) member.inFlight++;
  }

  answer(): void {
    const member = this.member;
    if (member === undefined || member.inFlight === 0) return;
    member.inFlight--;
    if (member.inFlight === 0) this.connection?.quiet();
  }

  drain(): void {
    if (this.connection?.process.alive !== true) return;
    this.#drainingSince ??= this.world.runtime.now();
    this.connection.drain();
  }

  stopIt(timeoutMs: number): void {
    const { connection, world } = this;
    if (connection === undefined) return;
    this.#drainingSince ??= world.runtime.now();
    world.follow("stop", connection.process.stop({ timeoutMs }));
  }

  kill(): boolean {
    const { connection } = this;
    if (connection?.process.alive !== true) return false;
    this.#opens = [];
    connection.process.kill();
    return true;
  }

  killRegistry(): boolean {
    if (this.#registry?.process.alive !== true) return false;
    this.#registry.process.kill();
    this.stopIt(200); // As its supervisor does.
    return true;
  }

  get member(): Member | undefined {
    return this.connection?.member;
  }

  check(settled = false): void {
    const { world, server, connection } = this;
    world.must("one-holder", server.violations.length === 0, () => server.violations.join("; "));
    const twice = server.resources.find(({ closings }) => closings.length > 1);
    world.must("closed-once", twice === undefined, () => `resource ${twice?.id} was closed twice`);
    const registered = this.#registered();
    const unfit = registered.find(({ resource }) => !resource.fit);
    world.must("registered-iff-able", unfit === undefined, () => `resource ${unfit?.resource.id} cannot serve`);
    const able = connection?.process.alive === true && connection.state === "ready";
    const shown = registered.length === (able ? 1 : 0) && (!able || registered[0] === connection.member);
    world.must("registered-iff-able", shown, () => `${registered.length} registered, and it is ${connection?.state}`);
    // One that is connected waits for nothing; closings that go on have a timer each.
    const timers = settled && able ? world.timers(server.timers + this.#cleaning) : 0;
    world.must("lets-go", timers <= 0, () => `it is connected, and has ${timers} timers`);
    const entered = this.#members.filter(({ over }) => !over).length;
    world.must("in-flight-is-real", entered <= 1, () => `${entered} members were entered, and not told of`);
  }

  async converge(): Promise<void> {
    const { world } = this;
    this.needed = true;
    this.wanted = true;
    for (let round = 0; round < 12; round++) {
      while ((this.member?.inFlight ?? 0) > 0) this.answer();
      if (this.place.memory.fatal) {
        this.kill();
        this.place.memory = newMemory({ minMs });
      }
      this.begin();
      this.connection?.nudge();
      await world.runtime.advance(500);
      this.check();
    }
    const { connection } = this;
    world.must("registered-iff-able", connection?.state === "ready", () => `it is ${connection?.state} for good`);
  }

  async stop(): Promise<void> {
    const { world, server, connection } = this;
    while ((this.member?.inFlight ?? 0) > 0) this.answer();
    if (connection !== undefined) await world.until("stop", connection.process.stop());
    await world.runtime.settle();
    // Those of closings that go on, which nobody waits for.
    const timers = world.timers(server.timers + this.#cleaning);
    world.must("lets-go", timers <= 0, () => `it has ended, and has ${timers} timers`);
    await world.runtime.advance(10_000);
    this.check();
    const open = server.resources.find(({ closings }) => closings.length !== 1);
    world.must(
      "closed-once",
      open === undefined,
      () => `resource ${open?.id} was closed ${open?.closings.length} times`,
    );
    const entered = this.#members.filter(({ over }) => !over).length;
    world.must("at-rest", entered === 0, () => `${entered} members are not over`);
    world.must("at-rest", this.#cleaning === 0, () => `${this.#cleaning} closings never end`);
    const { opened, openFailed, lost, closed } = this.#totals;
    const count = server.resources.length;
    world.must(
      "nothing-swallowed",
      opened === count && closed === count,
      () => `${opened}, ${closed} of ${count} counted`,
    );
    const told = this.#told.openFailed === openFailed && this.#told.lost === lost && this.#told.closed === closed;
    world.must(
      "nothing-swallowed",
      told,
      () => `told ${JSON.stringify(this.#told)} of ${JSON.stringify(this.#totals)}`,
    );
    const { asked, told: heard } = this.#failing;
    world.must("nothing-swallowed", heard === asked, () => `${asked} closings failed, and ${heard} were told`);
    if (this.#registry !== undefined) await world.until("close", this.#registry.close());
  }

  async #begin(): Promise<void> {
    const { runtime } = this.world;
    if (this.#registry?.process.alive !== true) {
      this.#registry = await Registry.start<string, Member>({ keys: "duplicate", runtime });
    }
    this.#drainingSince = undefined;
    this.#opens = [];
    this.connection = await Connection.start(this.#host(this.#registry), this.place);
  }

  #registered(): readonly Member[] {
    if (this.#registry?.process.alive !== true) return [];
    return this.#registry.lookup("ready").map(({ value }) => value);
  }

  #host(registry: Registry<string, Member>): ConnectionHost<Resource, Member> {
    const { world, server } = this;
    return {
      ...{ pool: "berth", connector: server.connector(), runtime: world.runtime, registry },
      ...{ openTimeoutMs, closeTimeoutMs, drainTimeoutMs: this.#drainTimeoutMs },
      inContext: (act) => act(),
      born: (connection) => {
        this.connection = connection;
      },
      enter: (_, resource) => this.#enter(resource),
      inFlight: ({ inFlight }) => inFlight,
      fail: (member) => {
        world.must("in-flight-is-real", !member.over, () => `resource ${member.resource.id} is over a second time`);
        member.over = true;
        member.inFlight = 0;
      },
      capacityChanged: () => undefined,
      leaves: () => {
        this.#drainingSince ??= world.runtime.now();
      },
      wanted: () => this.wanted,
      needed: () => this.needed,
      changed: () => this.check(),
      count: (what) => this.#totals[what]++,
      cleaning: (done) => {
        this.#cleaning++;
        void done.then(() => {
          this.#cleaning--;
        });
      },
    };
  }

  #enter(resource: Resource): Member {
    const { world } = this;
    world.must("registered-iff-able", resource.fit, () => `resource ${resource.id} was entered, and cannot serve`);
    const member: Member = { resource, inFlight: 0, over: false };
    this.#members.push(member);
    return member;
  }

  /** A server that is down is not hammered: of three attempts the last comes not before `minMs` after the first. */
  #paced(): void {
    // It may have waited since for the closing of its predecessor.
    const { attemptedAt } = this.place.memory;
    this.#opens.push(attemptedAt);
    const before = this.#opens.at(-3);
    const paced = before === undefined || attemptedAt - before >= minMs - 1e-6;
    this.world.must("at-rest", paced, () => `opened three times in ${attemptedAt - (before ?? 0)} ms`);
  }

  /** Whoever asks it to go lets it finish, for as long as is allowed. */
  #maybeClosed(resource: Resource): void {
    const broken = resource.closings.at(-1) instanceof Error && !resource.lost && !resource.leaving;
    this.world.must("registered-iff-able", !broken, () => `resource ${resource.id} was closed as lost, and was not`);
    const member = this.#members.find((each) => each.resource === resource);
    const alive = this.connection?.process.alive === true;
    if (member === undefined || member.over || member.inFlight === 0 || resource.lost || !alive) return;
    const waitedMs = this.world.runtime.now() - (this.#drainingSince ?? Infinity);
    const fine = waitedMs >= this.#drainTimeoutMs;
    this.world.must("in-flight-is-real", fine, () => `closed with ${member.inFlight} in flight after ${waitedMs} ms`);
  }

  #closing(): Gate<Manner> {
    const { world } = this;
    const { chance } = world;
    const fault = world.strike("close fails", "close throws", "close hangs", "close is slow", "close answers late");
    if (fault !== undefined && fault !== "close is slow") this.#failing.asked++;
    switch (fault) {
      case "close fails":
        return "rejects";
      case "close throws":
        return "throws";
      case "close hangs":
        return "never";
      case "close is slow":
        return { ms: chance.between(1, closeTimeoutMs - 10) };
      case "close answers late":
        return { ms: chance.between(closeTimeoutMs + 1, 200), deaf: true };
      case undefined:
        return "ok";
    }
  }
}

const which = (draw: { below(limit: number): number }): { which: number } => ({ which: draw.below(64) });

export const connection: Scenario<Berth> = {
  name: "connection",
  about: "a connection in its place, beside what its server has opened and closed",
  seeds: 1_400,
  steps: 200,
  faults: {
    ...openFaults,
    "close fails": 0.06,
    "close throws": 0.04,
    "close hangs": 0.06,
    "close is slow": 0.15,
    "close answers late": 0.06,
  },
  commands: {
    begin: command<Berth>({ weight: 12, run: (play) => play.begin() }),
    request: command<Berth>({ weight: 8, run: (play) => play.request() }),
    answer: command<Berth>({ weight: 7, run: (play) => play.answer() }),
    nudge: command<Berth>({ weight: 4, run: (play) => play.connection?.nudge() }),
    drain: command<Berth>({ weight: 2, run: (play) => play.drain() }),
    stop: command<Berth, { timeoutMs: number }>({
      weight: 2,
      draw: (draw) => ({ timeoutMs: draw.one(0, 40, 5_000) }),
      run: (play, { timeoutMs }) => play.stopIt(timeoutMs),
    }),
    wanted: command<Berth, { wanted: boolean }>({
      weight: 3,
      draw: (draw) => ({ wanted: draw.chance(0.5) }),
      run: (play, { wanted }) => {
        play.wanted = wanted;
      },
    }),
    needed: command<Berth, { needed: boolean }>({
      weight: 3,
      draw: (draw) => ({ needed: draw.chance(0.7) }),
      run: (play, { needed }) => {
        play.needed = needed;
      },
    }),
    "the pool finds it broken": command<Berth>({
      weight: 2,
      fault: true,
      run: (play) => {
        if (play.connection?.state !== "ready") return false;
        (play.member as Member).resource.lost = true; // Half open: it is gone, and does not know.
        play.connection.lose(new Error("no sign of life"));
        return true;
      },
    }),
    "the resource dies": command<Berth>({
      weight: 7,
      fault: true,
      run: (play) => {
        const resource = play.member?.resource;
        resource?.lose(new Error("reset by peer"));
        return resource !== undefined;
      },
    }),
    "the resource wants to go": command<Berth>({
      weight: 4,
      fault: true,
      run: (play) => {
        const resource = play.member?.resource;
        resource?.goAway();
        return resource !== undefined;
      },
    }),
    "an old resource speaks again": command<Berth, { which: number }>({
      weight: 5,
      fault: true,
      draw: which,
      run: (play, args) => {
        const old = play.server.resources.filter((resource) => resource !== play.member?.resource && resource.closed);
        const resource = at(old, args.which);
        if (args.which % 3 === 0) resource?.context.lost();
        else if (args.which % 3 === 1) resource?.context.draining();
        else resource?.context.capacityChanged();
        return resource !== undefined;
      },
    }),
    "the process is killed": command<Berth>({ weight: 3, fault: true, run: (play) => play.kill() }),
    "the registry is killed": command<Berth>({ weight: 0.5, fault: true, run: (play) => play.killRegistry() }),
  },
  start: async (world) => {
    const play = new Berth(world);
    play.begin();
    return play;
  },
};
