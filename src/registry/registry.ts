/**
 * A registry: key → entries, each owned by a process, and gone with it.
 *
 * The trouble with a list of live connections is keeping it true. Whoever dies must be taken out, whatever it died of,
 * and nobody can be trusted to do that on the way out. So an entry belongs to a process, and the step in which a
 * process dies takes its entries back before anybody else hears of it: there is no moment at which a look-up can
 * return the dead.
 *
 * With `unique` keys it is a directory: one owner a key (`whereis`). With `duplicate` keys it is a list of all who can
 * serve (`lookup`) or who want to hear (`dispatch`).
 *
 *     by key:    key   → bucket (slots in order of registration; the frozen array that lookup returns, made once)
 *     by owner:  owner → key → slots
 *
 * A slot stands in both and is taken out of both in O(1), so 150,000 entries under one key come and go in linear time.
 *
 * After Elixir's `Registry`. Decided differently for one thread with explicit owners: order is that of registration;
 * keys compare as `Map` keys do; listeners also hear of owners' exits, and only of entries that really came or went.
 */

import { asError, OptionError, RegistryError } from "../errors.ts";
import { checkOptions, iterable, oneOf, required, runtimeCheck, signal, text } from "../options.ts";
import { type ExitReason, type HasProcess, Process, processOf } from "../process/index.ts";
import { type Runtime, systemRuntime } from "../runtime/index.ts";
import { emit } from "../telemetry/index.ts";
import { Locks } from "./lock.ts";

export interface RegistryOptions {
  /** One owner a key, or any number of entries under it. */
  readonly keys: "unique" | "duplicate";
  readonly name?: string;
  /** What `getMeta` knows from the start. */
  readonly meta?: Iterable<[unknown, unknown]>;
  readonly runtime?: Runtime;
}

/** Immutable; an update makes a new one. */
export interface Entry<K, V> {
  readonly owner: Process;
  readonly key: K;
  readonly value: V;
}

export type RegistryEvent<K, V> = {
  readonly type: "register" | "unregister";
  readonly owner: Process;
  readonly key: K;
  readonly value: V;
  /** For `unregister`: asked for, or the owner's exit. */
  readonly cause?: "asked" | "exit";
  /** For an exit: of what. */
  readonly reason?: ExitReason;
};

/** One registration. Undoing it twice, or after its owner's death, does nothing. */
export interface Registration extends Disposable {
  unregister(): void;
}

/** Where an entry is kept. The entry in it changes with `updateValue`; its place in the order does not. */
interface Slot<K, V> {
  entry: Entry<K, V>;
  /** Order of registration over all keys. */
  readonly order: number;
  gone: boolean;
}

interface Bucket<K, V> {
  readonly slots: Set<Slot<K, V>>;
  /** What `lookup` returns; unset when the slots have changed since. */
  shown: readonly Entry<K, V>[] | undefined;
}

/** What one process owns here. */
interface Owned<K, V> {
  readonly byKey: Map<K, Set<Slot<K, V>>>;
  readonly onExit: (reason: ExitReason) => () => void;
}

interface Subscription<K, V> {
  hear(event: RegistryEvent<K, V>): unknown;
  /** How many events had happened when it was made. Those still to be told then are not for it. */
  readonly since: number;
}

const nothing: readonly never[] = Object.freeze([]);

export class Registry<K = unknown, V = unknown> implements HasProcess, AsyncDisposable {
  readonly #unique: boolean;
  readonly #buckets = new Map<K, Bucket<K, V>>();
  readonly #owners = new Map<Process, Owned<K, V>>();
  readonly #meta: Map<unknown, unknown>;
  readonly #listeners = new Set<Subscription<K, V>>();
  readonly #locks: Locks;
  #process!: Process;
  #closed = false;
  #count = 0;
  #order = 0;
  /** Events not yet told. A listener may itself register: everyone then still hears everything in the same order. */
  #news: RegistryEvent<K, V>[] = [];
  #happened = 0;
  #telling = false;

  /** @throws {OptionError} */
  static async start<K = unknown, V = unknown>(options: RegistryOptions): Promise<Registry<K, V>> {
    checkOptions("Registry.start", options, {
      keys: required(oneOf("unique", "duplicate")),
      name: text(),
      meta: iterable(),
      runtime: runtimeCheck,
    });
    const registry = new Registry<K, V>(options);
    await Process.start<void>({
      name: options.name ?? "registry",
      runtime: options.runtime ?? systemRuntime,
      init: (self) => {
        registry.#process = self.process;
        self.process.hold(() => {
          registry.#end();
          return undefined;
        });
      },
    });
    return registry;
  }

  private constructor(options: RegistryOptions) {
    this.#unique = options.keys === "unique";
    this.#meta = metaOf(options.meta);
    this.#locks = new Locks(() =>
      this.#error(
        "ERR_REGISTRY_REENTRANT",
        "has this lock held by the caller itself. Release it first, or do the work inside.",
      ),
    );
  }

  get process(): Process {
    return this.#process;
  }

  get name(): string {
    return this.#process.name;
  }

  /**
   * Forgets everything. Owners live on; calls from now on throw `ERR_REGISTRY_CLOSED`, except unregistering, which does
   * nothing; those who wait for a lock are refused; listeners hear nothing.
   */
  async close(): Promise<void> {
    await this.#process.stop({ reason: "normal" });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /**
   * Adds an entry, until it is undone or the owner dies. O(1).
   *
   * @throws {RegistryError} `ERR_REGISTRY_TAKEN` (unique keys: somebody, maybe the owner itself, has it; `holder`),
   *   `ERR_REGISTRY_NO_PROCESS` (the owner is dead), `ERR_REGISTRY_CLOSED`.
   */
  register(owner: HasProcess, key: K, value: V): Registration {
    this.#mustBeOpen();
    const process = processOf("Registry.register: owner", owner);
    if (!process.alive) {
      throw this.#error(
        "ERR_REGISTRY_NO_PROCESS",
        `cannot take an entry for "${process.name}", which has exited. Register its successor.`,
      );
    }
    const bucket = this.#buckets.get(key);
    if (this.#unique && bucket !== undefined) {
      const [taken] = bucket.slots;
      const holder = (taken as Slot<K, V>).entry.owner;
      throw this.#error("ERR_REGISTRY_TAKEN", `has this key registered by "${holder.name}". Use another key.`, holder);
    }
    const slot: Slot<K, V> = { entry: newEntry(process, key, value), order: this.#order++, gone: false };
    if (bucket === undefined) this.#buckets.set(key, { slots: new Set([slot]), shown: undefined });
    else {
      bucket.slots.add(slot);
      bucket.shown = undefined;
    }
    this.#own(process, key, slot);
    this.#count++;
    this.#tell("register", slot.entry);
    const unregister = (): void => {
      if (!slot.gone) this.#take([slot], "asked");
    };
    return { unregister, [Symbol.dispose]: unregister };
  }

  /** Removes all of the owner's entries under a key. Nothing there, or a closed registry, is fine. */
  unregister(owner: HasProcess, key: K): void {
    this.unregisterMatch(owner, key, () => true);
  }

  /** Removes the owner's entries under a key whose value matches. What `match` throws removes nothing. */
  unregisterMatch(owner: HasProcess, key: K, match: (value: V) => boolean): void {
    const process = processOf("Registry.unregister: owner", owner);
    mustBeFunction("Registry.unregisterMatch: match", match);
    const slots = [...(this.#owners.get(process)?.byKey.get(key) ?? [])];
    const matching = slots.filter((slot) => match(slot.entry.value));
    this.#take(
      matching.filter((slot) => !slot.gone),
      "asked",
    );
  }

  /**
   * The entries under a key, in order of registration. Frozen, and the same array until they change: O(1), and nothing
   * is allocated, however many there are. Only the first look-up after a change makes it anew, in O(entries).
   */
  lookup(key: K): readonly Entry<K, V>[] {
    if (this.#closed) this.#mustBeOpen();
    const bucket = this.#buckets.get(key);
    if (bucket === undefined) return nothing;
    return bucket.shown ?? show(bucket);
  }

  /**
   * The owner of a unique key.
   *
   * @throws {RegistryError} `ERR_REGISTRY_UNSUPPORTED` when keys are duplicate.
   */
  whereis(key: K): Process | undefined {
    this.#mustBeUnique("whereis");
    return this.lookup(key)[0]?.owner;
  }

  /** The keys of an owner, one for each of its entries, in order of registration. */
  keys(owner: HasProcess): K[] {
    this.#mustBeOpen();
    const process = processOf("Registry.keys: owner", owner);
    const slots = [...(this.#owners.get(process)?.byKey.values() ?? [])].flatMap((under) => [...under]);
    return inOrder(slots).map((slot) => slot.entry.key);
  }

  /** The values of an owner under a key, in order of registration. */
  values(key: K, owner: HasProcess): V[] {
    this.#mustBeOpen();
    const process = processOf("Registry.values: owner", owner);
    return [...(this.#owners.get(process)?.byKey.get(key) ?? [])].map((slot) => slot.entry.value);
  }

  /**
   * Replaces the value of the owner's entry under a unique key. `undefined`, and `update` is not called, when the owner
   * has none. No event. What `update` throws changes nothing.
   *
   * @throws {RegistryError} `ERR_REGISTRY_UNSUPPORTED` when keys are duplicate.
   */
  updateValue(owner: HasProcess, key: K, update: (value: V) => V): { value: V; previous: V } | undefined {
    this.#mustBeUnique("updateValue");
    const process = processOf("Registry.updateValue: owner", owner);
    mustBeFunction("Registry.updateValue: update", update);
    const [slot] = this.#owners.get(process)?.byKey.get(key) ?? [];
    if (slot === undefined) return undefined;
    const previous = slot.entry.value;
    const value = update(previous);
    if (slot.gone) return undefined; // `update` itself has removed it.
    slot.entry = newEntry(process, key, value);
    const bucket = this.#buckets.get(key);
    if (bucket !== undefined) bucket.shown = undefined;
    return { value, previous };
  }

  /** The entries under a key that a predicate accepts. */
  match(key: K, match: (value: V, owner: Process) => boolean): Entry<K, V>[] {
    mustBeFunction("Registry.match: match", match);
    return this.lookup(key).filter((entry) => match(entry.value, entry.owner));
  }

  /** How many `match` would return. */
  countMatch(key: K, match: (value: V, owner: Process) => boolean): number {
    return this.match(key, match).length;
  }

  /** All entries as of this call, in order of registration. O(n log n). */
  entries(): IterableIterator<Entry<K, V>> {
    this.#mustBeOpen();
    const slots = [...this.#buckets.values()].flatMap((bucket) => [...bucket.slots]);
    return inOrder(slots)
      .map((slot) => slot.entry)
      .values();
  }

  /** How many entries there are. O(1). */
  count(): number {
    this.#mustBeOpen();
    return this.#count;
  }

  /** Hands the entries under a key to `send`, in this very call; does not call it when there are none. */
  dispatch(key: K, send: (entries: readonly Entry<K, V>[]) => void): void {
    mustBeFunction("Registry.dispatch: send", send);
    const entries = this.lookup(key);
    if (entries.length > 0) send(entries);
  }

  /**
   * Hears of each entry that comes or goes, synchronously, in order. What a listener throws is an event and reaches
   * neither the caller nor the other listeners.
   */
  listen(listener: (event: RegistryEvent<K, V>) => void): Disposable {
    this.#mustBeOpen();
    mustBeFunction("Registry.listen: listener", listener);
    const subscription = { hear: listener, since: this.#happened };
    this.#listeners.add(subscription);
    return { [Symbol.dispose]: () => this.#listeners.delete(subscription) };
  }

  /**
   * Runs `work` while nobody else holds this lock, first come, first served. Lock keys have nothing to do with entry
   * keys. The lock is free again when `work` has settled, however.
   *
   * @param options.signal Ends the waiting only; rejects with its reason.
   * @throws {RegistryError} `ERR_REGISTRY_REENTRANT` when the caller holds it; `ERR_REGISTRY_CLOSED`.
   */
  async lock<T>(key: unknown, work: () => T | Promise<T>, options: { signal?: AbortSignal } = {}): Promise<T> {
    this.#mustBeOpen();
    checkOptions("Registry.lock", options, { signal: signal() });
    mustBeFunction("Registry.lock: work", work);
    return this.#locks.run(key, work, options.signal);
  }

  getMeta(key: unknown): unknown {
    this.#mustBeOpen();
    return this.#meta.get(key);
  }

  putMeta(key: unknown, value: unknown): void {
    this.#mustBeOpen();
    this.#meta.set(key, value);
  }

  deleteMeta(key: unknown): void {
    this.#mustBeOpen();
    this.#meta.delete(key);
  }

  /** Enters a slot in the owner's index. One hold on a process, however many entries it has. */
  #own(process: Process, key: K, slot: Slot<K, V>): void {
    let owned = this.#owners.get(process);
    if (owned === undefined) {
      owned = { byKey: new Map(), onExit: (reason) => this.#ownerExited(process, reason) };
      this.#owners.set(process, owned);
      process.hold(owned.onExit);
    }
    const under = owned.byKey.get(key);
    if (under === undefined) owned.byKey.set(key, new Set([slot]));
    else under.add(slot);
  }

  /** Takes everything an owner has, at once, and tells of it when no registry shows it any more. */
  #ownerExited(process: Process, reason: ExitReason): () => void {
    const slots = inOrder([...(this.#owners.get(process)?.byKey.values() ?? [])].flatMap((under) => [...under]));
    this.#owners.delete(process);
    for (const slot of slots) this.#takeFromBucket(slot);
    return () => {
      for (const slot of slots) this.#tell("unregister", slot.entry, "exit", reason);
    };
  }

  #take(slots: readonly Slot<K, V>[], cause: "asked"): void {
    for (const slot of slots) {
      const { owner, key } = slot.entry;
      this.#takeFromBucket(slot);
      const owned = this.#owners.get(owner);
      const under = owned?.byKey.get(key);
      under?.delete(slot);
      if (under?.size === 0) owned?.byKey.delete(key);
      if (owned?.byKey.size === 0) {
        this.#owners.delete(owner);
        owner.release(owned.onExit);
      }
    }
    for (const slot of slots) this.#tell("unregister", slot.entry, cause);
  }

  #takeFromBucket(slot: Slot<K, V>): void {
    slot.gone = true;
    this.#count--;
    const { key } = slot.entry;
    const bucket = this.#buckets.get(key) as Bucket<K, V>;
    bucket.slots.delete(slot);
    bucket.shown = undefined;
    if (bucket.slots.size === 0) this.#buckets.delete(key);
  }

  #tell(type: "register" | "unregister", entry: Entry<K, V>, cause?: "asked" | "exit", reason?: ExitReason): void {
    if (this.#listeners.size === 0 || this.#closed) return;
    const { owner, key, value } = entry;
    const why = { ...(cause !== undefined && { cause }), ...(reason !== undefined && { reason }) };
    this.#news.push(Object.freeze({ type, owner, key, value, ...why }));
    this.#happened++;
    if (this.#telling) return;
    this.#telling = true;
    const first = this.#happened - 1;
    for (let at = 0; at < this.#news.length; at++) this.#tellAll(this.#news[at] as RegistryEvent<K, V>, first + at);
    this.#news = [];
    this.#telling = false;
  }

  #tellAll(event: RegistryEvent<K, V>, number: number): void {
    const failed = (thrown: unknown): void => {
      emit("callback.failed", { where: `registry "${this.name}": listener`, error: asError(thrown) });
    };
    for (const subscription of this.#listeners) {
      if (subscription.since > number) continue;
      try {
        const result = subscription.hear(event);
        if (result instanceof Promise) result.catch(failed);
      } catch (thrown) {
        failed(thrown);
      }
    }
  }

  #end(): void {
    this.#closed = true;
    for (const [owner, owned] of this.#owners) owner.release(owned.onExit);
    for (const bucket of this.#buckets.values()) for (const slot of bucket.slots) slot.gone = true;
    this.#owners.clear();
    this.#buckets.clear();
    this.#listeners.clear();
    this.#meta.clear();
    this.#count = 0;
    this.#locks.close(() => this.#closedError());
  }

  #mustBeOpen(): void {
    if (this.#closed) throw this.#closedError();
  }

  #mustBeUnique(call: string): void {
    this.#mustBeOpen();
    if (this.#unique) return;
    throw this.#error("ERR_REGISTRY_UNSUPPORTED", `has duplicate keys, for which ${call} means nothing. Use lookup.`);
  }

  #closedError(): RegistryError<Process> {
    return this.#error("ERR_REGISTRY_CLOSED", "is closed. Start another one.");
  }

  #error(code: RegistryError["code"], says: string, holder?: Process): RegistryError<Process> {
    const fields = { registry: this.name, ...(holder === undefined ? {} : { holder }) };
    return new RegistryError<Process>(code, `registry "${this.name}" ${says}`, fields);
  }
}

function mustBeFunction(what: string, given: unknown): void {
  if (typeof given !== "function") throw new OptionError(what, "a function", given);
}

function metaOf(pairs: RegistryOptions["meta"]): Map<unknown, unknown> {
  try {
    return new Map(pairs);
  } catch {
    throw new OptionError("Registry.start: meta", "an iterable of [key, value] pairs", pairs);
  }
}

function newEntry<K, V>(owner: Process, key: K, value: V): Entry<K, V> {
  return Object.freeze({ owner, key, value });
}

function show<K, V>(bucket: Bucket<K, V>): readonly Entry<K, V>[] {
  const shown: Entry<K, V>[] = [];
  for (const slot of bucket.slots) shown.push(slot.entry);
  bucket.shown = Object.freeze(shown);
  return bucket.shown;
}

function inOrder<K, V>(slots: Slot<K, V>[]): Slot<K, V>[] {
  return slots.sort((a, b) => a.order - b.order);
}
