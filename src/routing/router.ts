/**
 * A registry and a strategy: the routing pool of the article, to be made by hand.
 *
 * Whoever can serve registers under one key, itself, with whatever callers need to reach it; the router looks the key up
 * and chooses. Nothing else: no waiting, no retries, no supervision. `RoutingPool` has those.
 *
 *     const router = new Router(registry, "workers", leastUsed());
 *     const { value } = router.pick();
 */

import { asError, NoMemberError, OptionError } from "../errors.ts";
import { callback, checkOptions, either, having, runtimeCheck } from "../options.ts";
import type { Entry, Registry } from "../registry/index.ts";
import { type Runtime, systemRuntime } from "../runtime/index.ts";
import { emit, type PoolStats } from "../telemetry/index.ts";
import type { Endpoint } from "../connection/index.ts";
import {
  type Marked,
  type Member,
  type RouteRequest,
  type Strategy,
  type StrategyLike,
  strategyOf,
} from "./strategy.ts";

/** An entry as strategies see it. */
class EntryMember<K, V> implements Member<V>, Marked {
  /** Whose member it is: how a stranger is told from one of ours. Nobody's, once its entry is gone. */
  router: Router<K, V> | undefined;
  readonly entry: Entry<K, V>;
  readonly resource: V;
  readonly endpoint: Endpoint;
  readonly slot: number;
  inFlight = 0;
  readonly capacity: number = Infinity;
  readonly weight: number = 1;
  mark: number = -Infinity;

  constructor(router: Router<K, V>, entry: Entry<K, V>, slot: number) {
    this.router = router;
    this.entry = entry;
    this.resource = entry.value;
    this.endpoint = { id: entry.owner.name };
    this.slot = slot;
  }
}

const anyone: RouteRequest = Object.freeze({});

export class Router<K, V> {
  readonly #registry: Registry<K, V>;
  readonly #key: K;
  readonly #runtime: Runtime;
  readonly #strategy: Strategy<V>;
  #entries: readonly Entry<K, V>[] = [];
  #members: EntryMember<K, V>[] = [];
  #byEntry = new Map<Entry<K, V>, EntryMember<K, V>>();
  #slots = 0;

  /** @throws {OptionError} */
  constructor(
    registry: Registry<K, V>,
    key: K,
    strategy: StrategyLike<NoInfer<V>>,
    options: { runtime?: Runtime } = {},
  ) {
    if (!having("lookup", "listen").accepts(registry))
      throw new OptionError("Router: registry", "a Registry", registry);
    if (!either(callback(), having("pick")).accepts(strategy)) {
      throw new OptionError("Router: strategy", "a strategy (leastUsed(), …) or an object with pick", strategy);
    }
    checkOptions("Router", options, { runtime: runtimeCheck });
    this.#registry = registry;
    this.#key = key;
    this.#runtime = options.runtime ?? systemRuntime;
    this.#strategy = strategyOf("Router", strategy, this.#runtime);
  }

  /**
   * The entry that takes this request. Synchronous; allocates nothing while the entries do not change.
   *
   * @throws {NoMemberError} when nobody is registered. {RegistryError} when the registry is closed.
   */
  pick(request: RouteRequest = anyone): Entry<K, V> {
    return this.#pick(request).entry;
  }

  /**
   * Runs `work` with the entry that takes this request, and counts it for the strategy as in flight until it settles.
   *
   * @throws what `work` throws; what `pick` throws.
   */
  async use<T>(work: (entry: Entry<K, V>) => T | Promise<T>, request: RouteRequest = anyone): Promise<T> {
    if (typeof work !== "function") throw new OptionError("Router.use: work", "a function", work);
    const member = this.#pick(request);
    const strategy = this.#strategy;
    const startedAt = strategy.finished === undefined ? 0 : this.#runtime.now();
    member.inFlight++;
    this.#tell("started", () => strategy.started?.(member));
    try {
      const result = await work(member.entry);
      this.#finish(member, startedAt, true, undefined);
      return result;
    } catch (error) {
      this.#finish(member, startedAt, false, error);
      throw error;
    }
  }

  #pick(request: RouteRequest): EntryMember<K, V> {
    const entries = this.#registry.lookup(this.#key);
    // A strategy may have taken some out of the array it was shown: they are put back.
    if (entries !== this.#entries || entries.length !== this.#members.length) this.#follow(entries);
    if (entries.length === 0) throw new NoMemberError({ stats: this.#stats() });
    try {
      const member: unknown = this.#strategy.pick(this.#members, request);
      if (member instanceof EntryMember && member.router === this) return member as EntryMember<K, V>;
      this.#listenTo("pick", member);
      throw new OptionError("Strategy.pick", "one of the members it was given", member);
    } catch (thrown) {
      this.#hookFailed("pick", thrown);
      // It may have written anything into the array. The first that is taken is the first of the registry's.
      this.#follow(entries);
      return this.#members[0] as EntryMember<K, V>;
    }
  }

  /** The entries have changed: those that stay keep their member, and with it what the strategy knows of them. */
  #follow(entries: readonly Entry<K, V>[]): void {
    const before = this.#byEntry;
    const joined: EntryMember<K, V>[] = [];
    this.#entries = entries;
    this.#members = entries.map((entry) => {
      const member = before.get(entry);
      if (before.delete(entry) && member !== undefined) return member;
      const fresh = new EntryMember(this, entry, this.#slots++);
      joined.push(fresh);
      return fresh;
    });
    this.#byEntry = new Map(this.#members.map((member) => [member.entry, member]));
    for (const member of before.values()) {
      member.router = undefined;
      this.#tell("left", () => this.#strategy.left?.(member));
    }
    for (const member of joined) this.#tell("joined", () => this.#strategy.joined?.(member));
  }

  #finish(member: EntryMember<K, V>, startedAt: number, ok: boolean, error: unknown): void {
    member.inFlight--;
    const strategy = this.#strategy;
    if (strategy.finished === undefined) return;
    const durationMs = this.#runtime.now() - startedAt;
    this.#tell("finished", () => strategy.finished?.(member, ok ? { ok, durationMs } : { ok, durationMs, error }));
  }

  #tell(hook: string, call: () => unknown): void {
    try {
      this.#listenTo(hook, call());
    } catch (thrown) {
      this.#hookFailed(hook, thrown);
    }
  }

  /** A hook may be async all the same. Its rejection is not to end the program. */
  #listenTo(hook: string, result: unknown): void {
    if (result instanceof Promise) result.catch((thrown: unknown) => this.#hookFailed(hook, thrown));
  }

  #hookFailed(hook: string, thrown: unknown): void {
    const where = `router over "${this.#registry.name}": strategy.${hook}`;
    emit("callback.failed", { where, error: asError(thrown) });
  }

  #stats(): PoolStats {
    const none = { opened: 0, openFailed: 0, lost: 0, closed: 0 };
    return {
      name: this.#registry.name,
      kind: "routing",
      ...{ size: 0, ready: 0, opening: 0, waitingToReopen: 0, draining: 0, fatal: 0, ejected: 0 },
      ...{ idle: 0, used: 0, inFlight: 0, waiting: 0 },
      totals: { acquired: 0, succeeded: 0, failed: 0, timedOut: 0, rejected: 0, shed: 0, retried: 0, ...none },
    };
  }
}
