/**
 * A registry beside a list: whoever registers, looks, updates, listens and dies, the list says what must be there.
 *
 * The model is an array of entries in order of registration. A death takes the entries of the dead out of it, and what
 * the registry then shows, says and refuses must be what the array shows. Locks have a model of their own: the line of
 * those who asked.
 */

import { getEventListeners } from "node:events";
import {
  type Entry,
  Process,
  type ProcessSpec,
  type Registration,
  Registry,
  type RegistryEvent,
} from "../../../src/index.ts";
import { at, command, type Play, type Scenario } from "../harness/scenario.ts";
import { codeOf, type World } from "../harness/world.ts";

type Key = "a" | "b" | "c" | "d";
const keys: readonly Key[] = ["a", "b", "c", "d"];
const locks = ["left", "right"] as const;

/** One entry, as the model has it. */
interface Row {
  readonly owner: Process;
  readonly key: Key;
  value: number;
}

/** Somebody who hears of what comes and goes. */
interface Ear {
  readonly heard: string[];
  /** What it must have heard, by the model. */
  readonly told: string[];
  since: Disposable | undefined;
  /** One that this one has made when it heard something. It must have heard what this one has heard since. */
  inner: Ear | undefined;
}

/** Somebody who wants a lock, in the order of asking. */
interface Wanting {
  readonly lock: string;
  readonly gone: AbortController;
  state: "waits" | "holds" | "over";
}

interface Place {
  readonly who: number;
  readonly key: number;
}

class Registrar implements Play {
  readonly world: World;
  readonly unique: boolean;
  registry!: Registry<Key, number>;
  readonly owners: Process[] = [];
  readonly rows: Row[] = [];
  readonly ears: Ear[] = [];
  readonly wanting: Wanting[] = [];
  readonly #undo: { readonly row: Row; readonly registration: Registration }[] = [];
  readonly #meta = new Map<unknown, unknown>();
  /** What a look-up gave last, and whether it must still give the same. */
  readonly #shown = new Map<Key, readonly Entry<Key, number>[]>();
  readonly #names = new Map<Process, string>();
  #closed = false;
  #values = 0;

  constructor(world: World) {
    this.world = world;
    this.unique = world.setUp.chance(0.5);
  }

  async begin(): Promise<void> {
    const { world, unique } = this;
    const { runtime } = world;
    this.registry = await Registry.start({ keys: unique ? "unique" : "duplicate", name: "registry", runtime });
    this.registry.process.monitor(() => this.#end());
    for (let count = world.setUp.between(2, 5); count > 0; count--) this.born();
    await runtime.settle();
  }

  born(): void {
    const { world } = this;
    const name = `owner ${this.#names.size}`;
    const slow = world.strikes("an owner takes long to end");
    const spec: ProcessSpec<void> = {
      name,
      runtime: world.runtime,
      init: (self) => void this.#names.set(self.process, name),
      terminate: slow ? () => world.pause(world.chance.between(1, 9_000)) : () => undefined,
    };
    world.follow("start", Process.start(spec), ({ value: owner }) => {
      if (owner === undefined) return;
      this.owners.push(owner);
      if (this.owners.length > 8)
        this.owners.splice(
          this.owners.findIndex(({ alive }) => !alive),
          1,
        );
      owner.monitor((reason) => {
        this.#bury(owner, String(reason));
        if (this.#closed) return;
        const found = keys.flatMap((key) => this.registry.lookup(key)).filter((entry) => entry.owner === owner);
        world.must("registered-iff-able", found.length === 0, () => `${name} is dead, and registered still`);
      });
    });
  }

  register({ who, key }: Place): void {
    const owner = at(this.owners, who);
    const under = at(keys, key) as Key;
    if (owner === undefined) return;
    const holder = this.unique ? this.#under(under)[0]?.owner : undefined;
    const expected = this.#closed
      ? "ERR_REGISTRY_CLOSED"
      : !owner.alive
        ? "ERR_REGISTRY_NO_PROCESS"
        : holder === undefined
          ? "ok"
          : "ERR_REGISTRY_TAKEN";
    const row: Row = { owner, key: under, value: ++this.#values };
    if (expected === "ok") {
      this.rows.push(row);
      this.#shown.delete(under);
      this.#tell("register", row, "");
    }
    this.#same("register", expected, () => {
      const registration = this.registry.register(owner, under, row.value);
      this.#undo.push({ row, registration });
    });
  }

  unregister({ who, key }: Place, parity?: number): void {
    const owner = at(this.owners, who);
    const under = at(keys, key) as Key;
    if (owner === undefined) return;
    const match = ({ value }: { value: number }): boolean => parity === undefined || value % 2 === parity;
    this.#remove(this.#under(under).filter((row) => row.owner === owner && match(row)));
    this.#same("unregister", "ok", () => {
      if (parity === undefined) this.registry.unregister(owner, under);
      else this.registry.unregisterMatch(owner, under, (value) => match({ value }));
    });
  }

  undo(which: number): void {
    const found = at(this.#undo, which);
    if (found === undefined) return;
    if (this.#undo.length > 30) this.#undo.splice(this.#undo.indexOf(found), 1);
    this.#remove([found.row]);
    found.registration.unregister();
  }

  update({ who, key }: Place, fails: boolean): void {
    const owner = at(this.owners, who);
    const under = at(keys, key) as Key;
    if (owner === undefined) return;
    const row = this.#under(under).find((each) => each.owner === owner);
    const refused = this.#refusedUnlessUnique();
    const expected = refused ?? (row !== undefined && fails ? "no" : "ok");
    this.#same("updateValue", expected, () => {
      const given = this.registry.updateValue(owner, under, (value) => {
        if (fails) throw new Error("no");
        return value + 1_000;
      });
      const previous = row?.value;
      const right = row === undefined ? given === undefined : given?.previous === previous;
      this.world.must("as-the-model", right, () => `updateValue gave ${JSON.stringify(given)}`);
    });
    if (expected !== "ok" || row === undefined) return;
    row.value += 1_000;
    this.#shown.delete(under);
  }

  /** Every question there is, about one owner and one key. */
  ask({ who, key }: Place): void {
    const { registry } = this;
    const owner = at(this.owners, who);
    const under = at(keys, key) as Key;
    if (owner === undefined) return;
    const mine = this.rows.filter((row) => row.owner === owner);
    const there = this.#under(under);
    const odd = (value: number): boolean => value % 2 === 1;
    const closed = this.#closed ? "ERR_REGISTRY_CLOSED" : undefined;
    this.#gives("keys", closed ?? mine.map((row) => row.key), () => registry.keys(owner));
    this.#gives("values", closed ?? mine.filter((row) => row.key === under).map(({ value }) => value), () =>
      registry.values(under, owner),
    );
    const odds = there.filter(({ value }) => odd(value));
    this.#gives("match", closed ?? odds.map(({ value }) => value), () => {
      return registry.match(under, odd).map(({ value }) => value);
    });
    this.#gives("countMatch", closed ?? odds.length, () => registry.countMatch(under, odd));
    const whereis = this.#refusedUnlessUnique() ?? this.#names.get(there[0]?.owner as Process) ?? null;
    this.#gives("whereis", whereis, () => this.#names.get(registry.whereis(under) as Process) ?? null);
    const sent: number[] = [];
    this.#gives("dispatch", closed ?? there.map(({ value }) => value), () => {
      registry.dispatch(under, (entries) => {
        if (entries.length === 0) throw new Error("dispatch sends to nobody");
        sent.push(...entries.map(({ value }) => value));
      });
      return sent;
    });
  }

  listen(throws: boolean, breeds: boolean): void {
    this.#same("listen", this.#closed ? "ERR_REGISTRY_CLOSED" : "ok", () => {
      this.ears.push(this.#newEar(throws, breeds));
    });
  }

  deafen(which: number): void {
    const ear = at(this.ears, which);
    if (ear === undefined) return;
    ear.since?.[Symbol.dispose]();
    ear.inner?.since?.[Symbol.dispose]();
    this.#compare(ear);
    this.ears.splice(this.ears.indexOf(ear), 1);
  }

  lock(which: number, manner: number, ms: number): void {
    const lock = at(locks, which) as string;
    const gone = new AbortController();
    const me: Wanting = { lock, gone, state: "waits" };
    const work = async (): Promise<void> => {
      this.#holds(me);
      try {
        if (manner === 0) throw new Error("the work throws");
        if (manner === 1) await this.#again(lock);
        if (ms > 0) await this.world.pause(ms);
      } finally {
        me.state = "over";
      }
    };
    if (!this.#closed) this.wanting.push(me);
    if (manner === 0) this.world.harm("the work under a lock throws");
    const asked = this.registry.lock(lock, work, { signal: gone.signal });
    this.world.follow("lock", asked, ({ outcome }) => {
      me.state = "over";
      const ears = getEventListeners(gone.signal, "abort").length;
      this.world.must("lets-go", ears === 0, () => `a lock is over, and ${ears} listen to its signal`);
      const place = this.wanting.indexOf(me);
      if (place >= 0) this.wanting.splice(place, 1);
      const fine = ["ok", "the work throws", "gone", "ERR_REGISTRY_CLOSED"].includes(outcome);
      this.world.must("as-the-model", fine, () => `a lock gave ${outcome}`);
    });
  }

  giveUp(which: number): boolean {
    const waits = at(
      this.wanting.filter(({ state }) => state === "waits"),
      which,
    );
    waits?.gone.abort(new Error("gone"));
    return waits !== undefined;
  }

  meta(which: number, value: number): void {
    const key = at(keys, which);
    if (this.#closed) return this.#same("putMeta", "ERR_REGISTRY_CLOSED", () => this.registry.putMeta(key, value));
    if (value === 0) {
      this.#meta.delete(key);
      this.registry.deleteMeta(key);
    } else {
      this.#meta.set(key, value);
      this.registry.putMeta(key, value);
    }
    this.#gives("getMeta", this.#meta.get(key) ?? null, () => this.registry.getMeta(key) ?? null);
  }

  check(): void {
    const { registry, world } = this;
    if (this.#closed) return;
    const rows = this.rows;
    world.must(
      "as-the-model",
      registry.count() === rows.length,
      () => `${registry.count()} entries, not ${rows.length}`,
    );
    for (const key of keys) {
      const shown = registry.lookup(key);
      const before = this.#shown.get(key);
      world.must("as-the-model", before === undefined || before === shown, () => `"${key}" is shown in a new array`);
      if (before !== undefined) continue;
      this.#shown.set(key, shown);
      world.must("as-the-model", Object.isFrozen(shown), () => `what "${key}" shows can be changed`);
      const there = this.#under(key);
      const same = shown.length === there.length && shown.every((entry, place) => isOf(entry, there[place] as Row));
      world.must("as-the-model", same, () => `"${key}": ${values(shown)}, not ${values(there)}`);
    }
    for (const ear of this.ears) this.#compare(ear);
  }

  async converge(): Promise<void> {
    await this.world.runtime.advance(60_000);
    const waiting = this.wanting.length;
    this.world.must("settles", waiting === 0, () => `${waiting} still want a lock that nobody holds for long`);
    if (this.#closed) return;
    const shown = values([...this.registry.entries()]);
    this.world.must("as-the-model", shown === values(this.rows), () => `entries are ${shown}`);
  }

  async stop(): Promise<void> {
    const { world, registry } = this;
    for (const owner of this.owners) world.follow("stop", owner.stop());
    await world.runtime.advance(10_000);
    if (!this.#closed)
      world.must("at-rest", registry.count() === 0, () => `${registry.count()} entries without owners`);
    this.check();
    await world.until("close", registry.close());
    world.must("at-rest", this.#closed, () => "closed, and nobody was told");
  }

  #holds(me: Wanting): void {
    const { world } = this;
    const inLine = this.wanting.filter(({ lock, state }) => lock === me.lock && state !== "over");
    const holding = inLine.filter(({ state }) => state === "holds");
    world.must("one-holder", holding.length === 0, () => `${holding.length + 1} hold the lock "${me.lock}"`);
    const first = inLine.find(({ state, gone }) => state === "waits" && !gone.signal.aborted);
    world.must("nobody-overtakes", first === me, () => `somebody was overtaken at the lock "${me.lock}"`);
    me.state = "holds";
  }

  async #again(lock: string): Promise<void> {
    const expected = this.#closed ? "ERR_REGISTRY_CLOSED" : "ERR_REGISTRY_REENTRANT";
    const code = await this.registry.lock(lock, () => undefined).then(() => "ok", codeOf);
    this.world.must("as-the-model", code === expected, () => `locking again gave ${code}`);
  }

  #end(): void {
    this.#closed = true;
    this.rows.length = 0;
    for (const ear of this.ears) this.#compare(ear);
    this.ears.length = 0;
  }

  #bury(owner: Process, reason: string): void {
    for (const row of this.rows.filter((each) => each.owner === owner)) {
      this.rows.splice(this.rows.indexOf(row), 1);
      this.#shown.delete(row.key);
      this.#tell("unregister", row, `exit ${reason}`);
    }
  }

  #remove(rows: readonly Row[]): void {
    for (const row of rows) {
      const place = this.rows.indexOf(row);
      if (place < 0) continue;
      this.rows.splice(place, 1);
      this.#shown.delete(row.key);
      this.#tell("unregister", row, "asked ");
    }
  }

  #under(key: Key): readonly Row[] {
    return this.rows.filter((row) => row.key === key);
  }

  #tell(type: string, row: Row, why: string): void {
    for (const ear of this.ears) ear.told.push(`${type} ${this.#names.get(row.owner)} ${row.key} ${row.value} ${why}`);
  }

  #said({ type, owner, key, value, cause, reason }: RegistryEvent<Key, number>): string {
    const why = [cause, reason]
      .map((each) => (each === undefined ? "" : String(each)))
      .join(" ")
      .trimStart();
    return `${type} ${this.#names.get(owner)} ${key} ${value} ${why}`;
  }

  #newEar(throws: boolean, breeds: boolean): Ear {
    const ear: Ear = { heard: [], told: [], since: undefined, inner: undefined };
    ear.since = this.registry.listen((event) => {
      const said = this.#said(event);
      ear.heard.push(said);
      ear.inner?.told.push(said);
      if (breeds) ear.inner ??= this.#newEar(false, false);
      if (throws) throw new Error("a listener throws");
    });
    return ear;
  }

  #compare(ear: Ear): void {
    if (ear.inner !== undefined) this.#compare(ear.inner);
    const [heard, told] = [ear.heard.join("; "), ear.told.join("; ")];
    this.world.must("as-the-model", heard === told, () => `a listener heard "${heard}", not "${told}"`);
    ear.heard.length = 0;
    ear.told.length = 0;
  }

  #refusedUnlessUnique(): string | undefined {
    if (this.#closed) return "ERR_REGISTRY_CLOSED";
    return this.unique ? undefined : "ERR_REGISTRY_UNSUPPORTED";
  }

  #gives(call: string, expected: unknown, act: () => unknown): void {
    let given: unknown;
    try {
      given = act();
    } catch (error) {
      given = codeOf(error);
    }
    const [a, b] = [JSON.stringify(given), JSON.stringify(expected)];
    this.world.must("as-the-model", a === b, () => `${call} gave ${a}, not ${b}`);
  }

  #same(call: string, expected: string, act: () => void): void {
    this.#gives(call, expected, () => {
      act();
      return "ok";
    });
  }
}

function isOf(entry: Entry<Key, number>, row: Row): boolean {
  return entry.owner === row.owner && entry.value === row.value && entry.key === row.key;
}

function values(rows: readonly { readonly value: number }[]): string {
  return rows.map(({ value }) => value).join(",");
}

const place = (draw: { below(limit: number): number }): Place => ({ who: draw.below(64), key: draw.below(4) });
const which = (draw: { below(limit: number): number }): { which: number } => ({ which: draw.below(64) });

export const registry: Scenario<Registrar> = {
  name: "registry",
  about: "a registry and its owners, beside a list of entries",
  seeds: 1_700,
  steps: 200,
  faults: { "an owner takes long to end": 0.2 },
  commands: {
    born: command<Registrar>({ weight: 3, run: (play) => play.born() }),
    register: command<Registrar, Place>({ weight: 25, draw: place, run: (play, args) => play.register(args) }),
    unregister: command<Registrar, Place>({ weight: 6, draw: place, run: (play, args) => play.unregister(args) }),
    unregisterMatch: command<Registrar, Place>({
      weight: 3,
      draw: place,
      run: (play, args) => play.unregister(args, args.who % 2),
    }),
    undo: command<Registrar, { which: number }>({ weight: 8, draw: which, run: (play, args) => play.undo(args.which) }),
    updateValue: command<Registrar, Place & { fails: boolean }>({
      weight: 5,
      draw: (draw) => ({ ...place(draw), fails: draw.chance(0.2) }),
      run: (play, args) => play.update(args, args.fails),
    }),
    ask: command<Registrar, Place>({ weight: 10, draw: place, run: (play, args) => play.ask(args) }),
    listen: command<Registrar, { throws: boolean; breeds: boolean }>({
      weight: 2,
      draw: (draw) => ({ throws: draw.chance(0.3), breeds: draw.chance(0.3) }),
      run: (play, { throws, breeds }) => play.listen(throws, breeds),
    }),
    deafen: command<Registrar, { which: number }>({
      weight: 1,
      draw: which,
      run: (play, args) => play.deafen(args.which),
    }),
    lock: command<Registrar, { which: number; manner: number; ms: number }>({
      weight: 7,
      draw: (draw) => ({ which: draw.below(2), manner: draw.below(6), ms: draw.one(0, 0, 5, 40, 400) }),
      run: (play, args) => play.lock(args.which, args.manner, args.ms),
    }),
    meta: command<Registrar, { which: number; value: number }>({
      weight: 2,
      draw: (draw) => ({ which: draw.below(4), value: draw.below(3) }),
      run: (play, args) => play.meta(args.which, args.value),
    }),
    "one who waits for a lock gives up": command<Registrar, { which: number }>({
      weight: 4,
      fault: true,
      draw: which,
      run: (play, args) => play.giveUp(args.which),
    }),
    "an owner dies": command<Registrar, { which: number; way: number }>({
      weight: 6,
      fault: true,
      draw: (draw) => ({ which: draw.below(64), way: draw.below(3) }),
      run: (play, args, world) => {
        const owner = at(play.owners, args.which);
        if (owner === undefined || !owner.alive) return false;
        if (args.way === 0) owner.kill();
        else world.follow("stop", owner.stop({ reason: args.way === 1 ? "shutdown" : new Error("broken") }));
        return true;
      },
    }),
    "the registry ends": command<Registrar, { kill: boolean }>({
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
    const play = new Registrar(world);
    await play.begin();
    return play;
  },
};
