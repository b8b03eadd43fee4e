/**
 * Routers over a registry whose owners come, go, register again and die, beside a list of who is registered.
 *
 * The list says whom a pick may name, and who is refused; each strategy says whom it has chosen, and what it was shown. A
 * strategy that goes wrong must be heard of, and must not break a pick: then the first in the list is taken. What is in
 * flight is known from the works: at least those that have not ended, at most those whose `use` has not settled; the two
 * are one when all has settled.
 */

import {
  type Entry,
  type Member,
  type Outcome,
  Process,
  type Registration,
  Registry,
  type RouteRequest,
  Router,
} from "../../../src/index.ts";
import type { Draw } from "../harness/draw.ts";
import { at, command, type Play, type Scenario } from "../harness/scenario.ts";
import { codeOf, type World } from "../harness/world.ts";
import {
  type Acquaintances,
  type Hook,
  type Judge,
  type Kind,
  kinds,
  strategyFaults,
  strategyOf,
} from "./router-strategy.ts";

const keys = ["a", "b"] as const;
type Key = (typeof keys)[number];

/** One registration. Its value tells it from all others. */
interface Row {
  readonly owner: Process;
  readonly key: Key;
  readonly value: number;
  readonly registration: Registration;
}

/** Something that is done with an entry. */
interface Work {
  readonly value: number;
  readonly startedAt: number;
  /** What it has ended with, or is about to. */
  error: Error | undefined;
  /** It has ended; `use` has settled. */
  over: boolean;
  settled: boolean;
}

/** How a work goes. Plain: it is part of a command. */
interface Manner {
  readonly way: number;
  readonly ms: number;
}

const ways = ["ends", "ends", "fails", "throws", "ends at once", "ends its owner", "picks again"] as const;

/** A router, and what is known of it beside the registry. */
class Desk implements Judge {
  readonly key: Key;
  readonly kind: Kind;
  readonly works: Work[] = [];
  router!: Router<Key, number>;
  /** Values of the members that the strategy has been told of. */
  readonly #joined = new Set<number>();
  readonly #slots = new Map<number, number>();
  /** What each has at work, as the strategy has heard it. */
  readonly #heard = new Map<number, number>();
  /** With `rendezvous`: whom a key has led to, since somebody came or went. */
  readonly #sticky = new Map<unknown, number>();
  readonly #world: World;
  readonly #exchange: Switchboard;
  /** Its array is as it has left it, not as it was shown. */
  #touched = false;
  /** The values when the array was last seen whole. */
  #seen = "";
  /** Of the pick under way: whom the strategy has chosen, if it has not gone wrong. */
  #choice: number | undefined;

  constructor(exchange: Switchboard, key: Key, kind: Kind) {
    this.#exchange = exchange;
    this.#world = exchange.world;
    this.key = key;
    this.kind = kind;
  }

  shown(members: readonly Member<number>[]): void {
    const world = this.#world;
    const rows = this.#exchange.under(this.key);
    const seen = rows.map(({ value }) => value).join();
    if (seen !== this.#seen) {
      this.#sticky.clear();
      this.#touched = false; // Whoever comes or goes has it made anew.
    }
    this.#seen = seen;
    if (this.#touched) return;
    const values = members.map(({ resource }) => resource).join();
    world.must("registered-iff-able", values === seen, () => `a strategy is shown ${values}, and there are ${seen}`);
    for (const [place, member] of members.entries()) {
      const { resource, endpoint, inFlight, capacity, weight, slot } = member;
      const name = rows[place]?.owner.name;
      const fine = endpoint.id === name && capacity === Infinity && weight === 1;
      world.must("as-the-model", fine, () => `the member of ${name} is shown as ${JSON.stringify(member)}`);
      const [least, most] = this.#inFlight(resource);
      const right = least <= inFlight && inFlight <= most;
      world.must("in-flight-is-real", right, () => `${name} has ${inFlight} in flight, not ${least} to ${most}`);
      const [known = slot] = [this.#slots.get(resource)];
      world.must("as-the-model", known === slot, () => `${name} was at slot ${known}, and is at ${slot}`);
      this.#slots.set(resource, slot);
      const introduced = this.kind === "bare" || this.#joined.has(resource);
      world.must("as-the-model", introduced, () => `a strategy is shown ${name}, of whom it was not told`);
    }
    const left = this.kind === "bare" ? 0 : this.#joined.size - members.length;
    world.must("as-the-model", left === 0, () => `a strategy was not told of ${left} that have left`);
    const slots = new Set(members.map(({ slot }) => slot)).size;
    world.must("as-the-model", slots === members.length, () => `${members.length} members have ${slots} slots`);
  }

  chosen({ resource }: Member<number>, { key }: RouteRequest): void {
    // What it has written into the array itself may be one that has gone.
    if (!this.#exchange.under(this.key).some(({ value }) => value === resource)) {
      this.failed("pick", undefined);
      return;
    }
    this.#choice = resource;
    if (this.kind !== "rendezvous" || key === undefined || this.#touched) return;
    const before = this.#sticky.get(key) ?? resource;
    this.#world.must("as-the-model", before === resource, () => `key ${key} leads to ${resource}, not to ${before}`);
    this.#sticky.set(key, resource);
  }

  failed(hook: Hook | "pick", error: Error | undefined): void {
    const where = `router over "exchange": strategy.${hook}`;
    if (error === undefined) this.#exchange.refusals.push(where);
    else this.#exchange.owed.set(error, where);
  }

  mangled(): void {
    this.#touched = true;
  }

  told(hook: Hook, { resource, inFlight }: Member<number>, outcome?: Outcome): void {
    const world = this.#world;
    const heard = this.#heard.get(resource) ?? 0;
    switch (hook) {
      case "joined":
        world.must("as-the-model", !this.#joined.has(resource), () => `${resource} joins twice`);
        this.#joined.add(resource);
        return;
      case "left":
        world.must("as-the-model", this.#joined.delete(resource), () => `${resource} leaves, and was not there`);
        return;
      case "started":
        this.#heard.set(resource, heard + 1);
        world.must(
          "in-flight-is-real",
          inFlight === heard + 1,
          () => `${inFlight} in flight, and ${heard + 1} heard of`,
        );
        return;
      case "finished":
        this.#heard.set(resource, heard - 1);
        world.must(
          "in-flight-is-real",
          inFlight === heard - 1,
          () => `${inFlight} in flight, and ${heard - 1} heard of`,
        );
        this.#finished(resource, outcome as Outcome);
    }
  }

  /** What a pick has given, or refused. */
  picked(entry: Entry<Key, number> | undefined, outcome: string): void {
    const world = this.#world;
    const exchange = this.#exchange;
    const rows = exchange.under(this.key);
    const expected = exchange.closed ? "ERR_REGISTRY_CLOSED" : rows.length === 0 ? "ERR_POOL_NO_MEMBER" : "ok";
    world.must("as-the-model", outcome === expected, () => `a pick gave ${outcome}, not ${expected}`);
    const wanted = this.#choice ?? rows[0]?.value;
    if (this.#choice === undefined && expected === "ok") this.#touched = false; // It has gone wrong: all is put in order.
    this.#choice = undefined;
    if (entry === undefined) return;
    const there = exchange.registry.lookup(this.key).includes(entry);
    world.must("registered-iff-able", there, () => `${entry.value} is picked, and not registered`);
    world.must("as-the-model", entry.value === wanted, () => `${entry.value} is picked, not ${wanted}`);
  }

  /** Nothing is at work, as far as anybody can tell. */
  atRest(): void {
    const world = this.#world;
    const left = this.works.filter(({ settled }) => !settled).length;
    world.must("at-rest", left === 0, () => `${left} are at work still`);
    const heard = [...this.#heard.values()].filter((count) => count !== 0).length;
    world.must("at-rest", heard === 0, () => `a strategy has heard of ${heard} beginnings without an end`);
  }

  #inFlight(value: number): [least: number, most: number] {
    const works = this.works.filter((work) => work.value === value && !work.settled);
    return [works.filter(({ over }) => !over).length, works.length];
  }

  #finished(value: number, { ok, durationMs, error }: Outcome): void {
    const now = this.#world.runtime.now();
    const found = this.works.some((work) => {
      if (work.value !== value || !work.over || work.settled) return false;
      return ok === (work.error === undefined) && error === work.error && durationMs === now - work.startedAt;
    });
    this.#world.must("as-the-model", found, () => `no work with ${value} has ended like that: ${ok}, ${durationMs} ms`);
  }
}

class Switchboard implements Play {
  readonly world: World;
  registry!: Registry<Key, number>;
  closed = false;
  /** By error: where it must be heard. */
  readonly owed = new Map<Error, string>();
  /** Where an answer that was none must be heard. */
  readonly refusals: string[] = [];
  readonly #owners: Process[] = [];
  #rows: Row[] = [];
  /** Those that commands reach, and those before them. */
  #desks: Desk[] = [];
  readonly #all: Desk[] = [];
  readonly #acquaintances: Acquaintances = { gone: new Map(), there: new Map() };
  #born = 0;
  #values = 0;
  #errors = 0;

  constructor(world: World) {
    this.world = world;
    world.hear("callback.failed", ({ where, error }) => {
      if (!this.owed.has(error)) {
        const refused = codeOf(error) === "ERR_OPTION" && this.refusals.shift() === where;
        world.must("as-the-model", refused, () => `${where} is told to have failed: ${error.message}`);
        return;
      }
      world.must("as-the-model", this.owed.get(error) === where, () => `${where} is told to have failed`);
      this.owed.delete(error);
    });
  }

  async begin(): Promise<void> {
    const { world } = this;
    const { runtime, setUp: draw } = world;
    this.registry = await Registry.start<Key, number>({ keys: "duplicate", name: "exchange", runtime });
    this.registry.process.monitor(() => {
      this.closed = true;
      this.#rows = [];
    });
    for (let count = draw.between(2, 5); count > 0; count--) this.born();
    await runtime.settle();
    for (const which of this.#owners.keys()) this.register(which, 0);
    for (let count = draw.between(1, 3); count > 0; count--) this.open(draw.below(kinds.length), draw.below(4));
  }

  /** Those that are registered under a key, in order. */
  under(key: Key): readonly Row[] {
    return this.#rows.filter((row) => row.key === key);
  }

  born(): void {
    const { world } = this;
    const name = `owner ${this.#born++}`;
    const started = Process.start({ name, runtime: world.runtime, init: () => undefined });
    world.follow("start", started, ({ value: owner }) => {
      if (owner === undefined) return;
      owner.monitor(() => {
        this.#rows = this.#rows.filter((row) => row.owner !== owner);
      });
      this.#owners.push(owner);
      const gone = this.#owners.length > 8 ? this.#owners.findIndex(({ alive }) => !alive) : -1;
      if (gone >= 0) this.#owners.splice(gone, 1);
    });
  }

  register(which: number, key: number): void {
    const owner = at(this.#owners, which);
    if (owner === undefined || !owner.alive || this.closed) return;
    const under = keys[key === 0 ? 0 : 1];
    const value = ++this.#values;
    this.#rows.push({ owner, key: under, value, registration: this.registry.register(owner, under, value) });
  }

  unregister(which: number): boolean {
    const row = at(this.#rows, which);
    if (row === undefined) return false;
    this.#rows = this.#rows.filter((other) => other !== row);
    row.registration.unregister();
    return true;
  }

  dies(which: number): boolean {
    const owner = at(this.#owners, which);
    if (owner === undefined || !owner.alive) return false;
    owner.kill();
    return true;
  }

  open(kind: number, key: number): void {
    const desk = new Desk(this, keys[key === 0 ? 1 : 0], at(kinds, kind) as Kind);
    const strategy = strategyOf(this.world, desk.kind, desk, this.#acquaintances);
    desk.router = new Router(this.registry, desk.key, strategy, { runtime: this.world.runtime });
    this.#all.push(desk);
    this.#desks = this.#all.slice(-4);
  }

  pick(which: number, key: number | null): void {
    const desk = at(this.#desks, which);
    if (desk !== undefined) this.#pick(desk, key);
  }

  use(which: number, key: number | null, manner: Manner): void {
    const desk = at(this.#desks, which);
    if (desk === undefined) return;
    const { world } = this;
    const result = {};
    let work: Work | undefined;
    const used = desk.router.use((entry) => {
      desk.picked(entry, "ok");
      work = { value: entry.value, startedAt: world.runtime.now(), error: undefined, over: false, settled: false };
      desk.works.push(work);
      return this.#work(desk, work, entry, manner, result);
    }, requestOf(key));
    if (work === undefined) {
      const expected = this.closed ? "ERR_REGISTRY_CLOSED" : "ERR_POOL_NO_MEMBER";
      desk.picked(undefined, expected);
      world.follow("use", used, ({ outcome }) => {
        world.must("as-the-model", outcome === expected, () => `use gave ${outcome}, not ${expected}`);
      });
      return;
    }
    const begun = work;
    world.follow("use", used, (call) => {
      const right = begun.error === undefined ? call.value === result : call.error === begun.error;
      world.must(
        "as-the-model",
        begun.over && right,
        () => `use gave ${call.outcome}, and not what its work has ended with`,
      );
      begun.settled = true;
      desk.works.splice(desk.works.indexOf(begun), 1);
    });
  }

  check(settled: boolean): void {
    const { world } = this;
    const [refusal] = this.refusals;
    world.must("nothing-swallowed", refusal === undefined, () => `nobody has heard that ${refusal} gave no member`);
    if (!settled) return;
    const [owed] = this.owed;
    world.must("nothing-swallowed", owed === undefined, () => `nobody has heard of ${owed?.[1]}: ${owed?.[0].message}`);
    const late = this.#all.some((desk) => desk.works.some(({ over }) => over));
    world.must("settles", !late, () => "a work has ended, and its use goes on");
  }

  async converge(): Promise<void> {
    const { world } = this;
    await world.runtime.advance(60_000);
    for (const desk of this.#all) {
      desk.atRest();
      this.#pick(desk, null); // Who sees what is in flight: nothing.
    }
  }

  async stop(): Promise<void> {
    const { world } = this;
    for (const owner of this.#owners) owner.kill();
    for (const desk of this.#all) this.#pick(desk, null);
    await world.until("close", this.registry.close());
    for (const desk of this.#all) this.#pick(desk, null);
    const timers = world.timers();
    world.must("lets-go", timers === 0, () => `${timers} timers are left`);
  }

  #pick(desk: Desk, key: number | null): void {
    let entry: Entry<Key, number> | undefined;
    let outcome = "ok";
    try {
      entry = desk.router.pick(requestOf(key));
    } catch (error) {
      outcome = codeOf(error);
    }
    this.world.note(`  ${desk.kind} over "${desk.key}": ${entry?.value ?? outcome}`);
    desk.picked(entry, outcome);
  }

  #work(desk: Desk, work: Work, { owner }: Entry<Key, number>, { way, ms }: Manner, result: object): unknown {
    const { world } = this;
    const end = (): object => {
      work.over = true;
      return result;
    };
    const fail = (): never => {
      work.over = true;
      work.error = new Error(`work no. ${++this.#errors} fails`);
      throw work.error;
    };
    switch (ways[way]) {
      case "throws":
        world.harm("a work throws at once");
        return fail();
      case "fails":
        world.harm("a work fails");
        return world.pause(ms).then(fail);
      case "ends at once":
        return end();
      case "ends its owner":
        world.harm("a work ends the owner of its entry");
        owner.kill();
        return world.pause(ms).then(end);
      case "picks again":
        this.#pick(desk, null);
        return world.pause(ms).then(end);
      default:
        return world.pause(ms).then(end);
    }
  }
}

function requestOf(key: number | null): RouteRequest {
  return key === null ? {} : { key };
}

const aKey = (draw: Draw): { key: number | null } => ({ key: draw.one(null, draw.below(5)) });
const which = (draw: Draw): { which: number } => ({ which: draw.below(64) });

export const router: Scenario<Switchboard> = {
  name: "router",
  about: "routers over a registry, with strategies that go wrong, beside a list of who is registered",
  seeds: 450,
  steps: 200,
  faults: strategyFaults,
  commands: {
    born: command<Switchboard>({ weight: 4, run: (play) => play.born() }),
    register: command<Switchboard, { which: number; key: number }>({
      weight: 9,
      draw: (draw) => ({ ...which(draw), key: draw.below(3) }),
      run: (play, args) => play.register(args.which, args.key),
    }),
    unregister: command<Switchboard, { which: number }>({
      weight: 4,
      draw: which,
      run: (play, args) => play.unregister(args.which),
    }),
    router: command<Switchboard, { kind: number; key: number }>({
      weight: 3,
      draw: (draw) => ({ kind: draw.below(kinds.length), key: draw.below(4) }),
      run: (play, { kind, key }) => play.open(kind, key),
    }),
    pick: command<Switchboard, { which: number; key: number | null }>({
      weight: 30,
      draw: (draw) => ({ ...which(draw), ...aKey(draw) }),
      run: (play, args) => play.pick(args.which, args.key),
    }),
    use: command<Switchboard, { which: number; key: number | null; manner: Manner }>({
      weight: 30,
      draw: (draw) => ({
        ...which(draw),
        ...aKey(draw),
        manner: { way: draw.below(ways.length), ms: draw.one(0, 3, 40, 400, 2_000) },
      }),
      run: (play, args) => play.use(args.which, args.key, args.manner),
    }),
    "an owner dies": command<Switchboard, { which: number }>({
      weight: 5,
      fault: true,
      draw: which,
      run: (play, args) => play.dies(args.which),
    }),
    "the registry ends": command<Switchboard, { kill: boolean }>({
      weight: 0.15,
      fault: true,
      draw: (draw) => ({ kill: draw.chance(0.5) }),
      run: (play, { kill }, world) => {
        if (kill) play.registry.process.kill();
        else world.follow("close", play.registry.close());
      },
    }),
  },
  start: async (world) => {
    const play = new Switchboard(world);
    await play.begin();
    return play;
  },
};
