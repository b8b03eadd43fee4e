/**
 * The tree under a pool, and the places in it.
 *
 *     pool                    supervisor, rest_for_one
 *     ├── registry            keys: duplicate        if it dies, nobody could find the connections: they restart with it
 *     └── connections         dynamic supervisor     one_for_one: one connection's death touches no other
 *         ├── connection 0
 *         └── …
 *
 * A *place* is a slot at an endpoint, and outlives the processes that fill it: a connection that crashes comes back in
 * its place with what was remembered there. Which places there should be is the pool's business; here they are filled,
 * emptied, and filled again when the registry, or the whole tree below it, is put back.
 *
 * A place that is left (`leave`) lets its connection finish. One that is `vacated` goes on serving until it is left. In
 * either case a successor may stand in the same slot meanwhile.
 */

import { AsyncLocalStorage } from "node:async_hooks";
import {
  Connection,
  type ConnectionHost,
  type ConnectionPlace,
  type Connector,
  type Endpoint,
  type Memory,
  newMemory,
  succeeding,
} from "../connection/index.ts";
import { asError, PoolwardenError } from "../errors.ts";
import { type ExitReason, type HasProcess, isClean, type Process } from "../process/index.ts";
import { Registry } from "../registry/index.ts";
import type { BackoffOptions, Runtime, Timer } from "../runtime/index.ts";
import { DynamicSupervisor, ownStart, Supervisor } from "../supervisor/index.ts";
import { emit, type PoolStats } from "../telemetry/index.ts";
import type { PoolSnapshot, ProcessTree } from "./contract.ts";

/** One slot at one endpoint. */
export class Place<R, M> implements ConnectionPlace {
  readonly slot: number;
  readonly endpoint: Endpoint;
  memory: Memory;
  closing: Promise<void> | undefined = undefined;
  /** The connection that fills it, once its process runs. */
  connection: Connection<R, M> | undefined;
  /** Its slot is somebody else's, or free. */
  vacated = false;
  /** It finishes and is not filled again. Vacated too. */
  leaving = false;
  /** It has been ready at least once. */
  served = false;
  /** Who was put in its stead, where its pool has replaced it. */
  successors: Place<R, M>[] = [];

  constructor(slot: number, endpoint: Endpoint, memory: Memory) {
    this.slot = slot;
    this.endpoint = endpoint;
    this.memory = memory;
  }
}

/** What a pool does when something in its tree changes. `M` is what it registers for a resource. */
export interface TreeOwner<R, M> {
  enter(place: Place<R, M>, resource: R): M;
  /** A member is registered, and can serve. */
  joined(member: M): void;
  /** It is registered no longer; what is in flight on it may still be answered. */
  left(member: M): void;
  inFlight(member: M): number;
  /** Its resource is gone under whatever is in flight. */
  fail(member: M, reason: Error | undefined): void;
  capacityChanged(member: M): void;
  wanted(): boolean;
  /** Whether this place, which has no resource, should have one. */
  needed(place: Place<R, M>): boolean;
  /** The connection in this place has changed its state. */
  changed(place: Place<R, M>): void;
  /** The tree has ended, asked to or not. */
  died(reason: ExitReason): void;
}

export interface TreeOptions<R> {
  readonly name: string;
  readonly connector: Connector<R>;
  readonly runtime: Runtime;
  readonly backoff: BackoffOptions | undefined;
  readonly openTimeoutMs: number;
  readonly closeTimeoutMs: number;
  readonly drainTimeoutMs: number;
  readonly maxRestarts: number | undefined;
  readonly maxSeconds: number | undefined;
}

type StateCounts = Pick<PoolStats, "size" | "ready" | "opening" | "waitingToReopen" | "draining" | "fatal">;

export class PoolTree<R, M> {
  readonly totals = { opened: 0, openFailed: 0, lost: 0, closed: 0 };
  /** In order of their making; those being left included, until they are gone. */
  readonly places: Set<Place<R, M>> = new Set();
  readonly #options: TreeOptions<R>;
  readonly #owner: TreeOwner<R, M>;
  /** Connections live in the context that the pool was made in, never in a caller's. */
  readonly inContext: <T>(act: () => T) => T = AsyncLocalStorage.snapshot();
  readonly #cleaning = new Set<Promise<void>>();
  readonly #refills = new Set<Timer>();
  readonly #slots = new Set<number>();
  /** No slot below this is free. */
  #freeFrom = 0;
  #top!: Supervisor;
  #registry!: Registry<string, M>;
  #connections: DynamicSupervisor | undefined;
  /** What the registry shows, in case it dies without a word. */
  #registered = new Set<M>();

  /** Starts the tree without a connection. */
  static async start<R, M>(options: TreeOptions<R>, owner: TreeOwner<R, M>): Promise<PoolTree<R, M>> {
    const tree = new PoolTree(options, owner);
    const { name, runtime, maxRestarts, maxSeconds } = options;
    const restarts = {
      ...(maxRestarts === undefined ? {} : { maxRestarts }),
      ...(maxSeconds === undefined ? {} : { maxSeconds }),
    };
    tree.#top = await Supervisor.start(
      [
        { id: "registry", start: ownStart(() => tree.#startRegistry()) },
        { id: "connections", type: "supervisor", start: ownStart(() => tree.#startConnections(restarts)) },
      ],
      { strategy: "rest_for_one", name, runtime, ...restarts },
    );
    tree.#top.process.monitor((reason) => {
      owner.died(reason);
      tree.places.clear();
      for (const timer of tree.#refills) timer.cancel();
    });
    return tree;
  }

  private constructor(options: TreeOptions<R>, owner: TreeOwner<R, M>) {
    this.#options = options;
    this.#owner = owner;
  }

  get process(): Process {
    return this.#top.process;
  }

  /** The registry of now; another one after a restart. */
  get registry(): Registry<string, M> {
    return this.#registry;
  }

  /** Makes a place and fills it, with what is remembered of another that it follows. */
  add(endpoint: Endpoint, memory: Memory = newMemory(this.#options.backoff)): Place<R, M> {
    const place = new Place<R, M>(this.#takeSlot(), endpoint, memory);
    this.places.add(place);
    this.#fill(place);
    return place;
  }

  /** What the successor of a place whose resource has asked to go begins with. */
  succeeding(place: Place<R, M>): Memory {
    const { runtime } = this.#options;
    return succeeding(place.memory, { now: runtime.now(), random: () => runtime.random() });
  }

  /** Frees the slot of a place for a successor. */
  vacate(place: Place<R, M>): void {
    if (place.vacated) return;
    place.vacated = true;
    this.#slots.delete(place.slot);
    this.#freeFrom = Math.min(this.#freeFrom, place.slot);
  }

  /** Lets the connection in a place finish, and gives the place up. */
  leave(place: Place<R, M>): void {
    if (place.leaving) return;
    this.vacate(place);
    place.leaving = true;
    if (place.connection?.process.alive) place.connection.drain();
    else this.#goneIfEmpty(place);
  }

  /** Somebody has come to wait for a connection. */
  nudge(): void {
    for (const place of this.places) place.connection?.nudge();
  }

  /** The last who waited has left. */
  relax(): void {
    for (const place of this.places) place.connection?.relax();
  }

  /** How many connections are in which state. A place whose process is just being put back counts as opening. */
  counts(): StateCounts {
    const counts = { size: 0, ready: 0, opening: 0, waitingToReopen: 0, draining: 0, fatal: 0 };
    for (const place of this.places) {
      counts.size++;
      counts[stateOf(place)]++;
    }
    return counts;
  }

  lastError(): Error | undefined {
    let last: Error | undefined;
    let at = -Infinity;
    for (const { memory } of this.places) {
      if (memory.lastError === undefined || memory.attemptedAt < at) continue;
      last = memory.lastError;
      at = memory.attemptedAt;
    }
    return last;
  }

  /** Each connection as it is shown to people. */
  snapshot(inFlight: (member: M) => number): PoolSnapshot["connections"] {
    return Array.from(this.places, (place) => {
      const { connection, memory } = place;
      const { lastError } = memory;
      return {
        slot: place.slot,
        endpoint: place.endpoint.id,
        state: stateOf(place),
        since: connection?.since ?? 0,
        inFlight: connection?.member === undefined ? 0 : inFlight(connection.member),
        attempts: memory.failures,
        ...(lastError === undefined ? {} : { lastError: inWords(lastError) }),
      };
    });
  }

  tree(): ProcessTree {
    const children: ProcessTree[] = [{ id: "registry", process: this.#registry.process, children: [] }];
    const connections = this.#connections;
    if (connections !== undefined) {
      const under = [...this.places].flatMap(({ connection }) =>
        connection?.process.alive ? [{ id: connection.name, process: connection.process, children: [] }] : [],
      );
      children.push({ id: "connections", process: connections.process, children: under });
    }
    return { id: this.#options.name, process: this.process, children };
  }

  /** Ends the tree, connections finishing what they have, and resolves when every resource has been closed. */
  async stop(timeoutMs: number): Promise<void> {
    if (timeoutMs > 0) await this.process.stop({ reason: "normal", timeoutMs });
    else this.process.kill();
    while (this.#cleaning.size > 0) await Promise.all(this.#cleaning);
  }

  async #startRegistry(): Promise<HasProcess> {
    const { name, runtime } = this.#options;
    const registry = await Registry.start<string, M>({ keys: "duplicate", name: `${name}: registry`, runtime });
    registry.listen((event) => {
      if (event.type === "register") {
        this.#registered.add(event.value);
        this.#owner.joined(event.value);
      } else if (this.#registered.delete(event.value)) this.#owner.left(event.value);
    });
    // A registry that dies says nothing of its entries: nobody can be found through it any more.
    registry.process.monitor(() => {
      const unregistered = this.#registered;
      this.#registered = new Set();
      for (const member of unregistered) this.#owner.left(member);
    });
    this.#registry = registry;
    return registry;
  }

  async #startConnections(restarts: { maxRestarts?: number; maxSeconds?: number }): Promise<HasProcess> {
    const { name, runtime } = this.#options;
    const connections = await DynamicSupervisor.start({ name: `${name}: connections`, runtime, ...restarts });
    this.#connections = connections;
    // None of them is leaving: with their last process those were gone.
    for (const place of this.places) this.#fill(place);
    return connections;
  }

  #fill(place: Place<R, M>): void {
    const connections = this.#connections;
    if (connections === undefined || connections.stopping) return; // The next one fills all places.
    const start = ownStart(async (): Promise<HasProcess | undefined> => {
      if (place.leaving) return undefined; // Crashed while it was leaving: that is a way to leave, too.
      // One that ends before its supervisor has it may be put back by both of us.
      if (place.connection?.process.alive) return undefined;
      try {
        return await Connection.start(this.#hostOf(place, connections), place);
      } catch (error) {
        if (place.leaving) return undefined; // Told to leave before it had quite started.
        throw error;
      }
    });
    // Transient: one that has finished is not put back, one that crashed is.
    const started = this.inContext(() =>
      connections.startChild({ id: `connection ${place.slot}`, start, restart: "transient" }),
    );
    started.catch((error: unknown) => {
      // When the supervisor has stopped in the meantime, the next one fills all places.
      if (!connections.stopping) this.#notStarted(place, connections, asError(error));
    });
  }

  /** A connection has died before its supervisor had it, so that nobody else puts it back. */
  #notStarted(place: Place<R, M>, connections: DynamicSupervisor, error: Error): void {
    const { name, runtime } = this.#options;
    emit("callback.failed", { where: `${name}: tree`, error });
    // A turn later: one that dies each time must not freeze the program.
    const timer = runtime.setTimer(() => {
      this.#refills.delete(timer);
      if (this.#connections === connections) this.#fill(place);
    }, 0);
    this.#refills.add(timer);
  }

  #goneIfEmpty(place: Place<R, M>): void {
    if (!place.leaving || !this.places.has(place)) return;
    if (place.closing !== undefined) {
      void place.closing.then(() => this.#goneIfEmpty(place)); // Its connection was killed.
      return;
    }
    this.places.delete(place);
    this.#owner.changed(place);
  }

  /** The lowest that is free. */
  #takeSlot(): number {
    let slot = this.#freeFrom;
    while (this.#slots.has(slot)) slot++;
    this.#slots.add(slot);
    this.#freeFrom = slot + 1;
    return slot;
  }

  #hostOf(place: Place<R, M>, connections: DynamicSupervisor): ConnectionHost<R, M> {
    const { name: pool, connector, runtime, openTimeoutMs, closeTimeoutMs, drainTimeoutMs } = this.#options;
    const owner = this.#owner;
    return {
      pool,
      connector,
      runtime,
      registry: this.#registry,
      openTimeoutMs,
      closeTimeoutMs,
      drainTimeoutMs,
      inContext: this.inContext,
      born: (connection) => {
        place.connection = connection;
        connection.process.monitor((reason) => {
          this.#goneIfEmpty(place);
          // Stopped by somebody else, and cleanly, so that no supervisor puts it back. The place is to be filled all the same.
          if (!place.leaving && isClean(reason) && !connections.stopping) this.#fill(place);
        });
      },
      enter: (_connection, resource) => {
        place.served = true;
        return owner.enter(place, resource);
      },
      inFlight: (member) => owner.inFlight(member),
      fail: (member, reason) => owner.fail(member, reason),
      capacityChanged: (member) => owner.capacityChanged(member),
      leaves: () => {
        this.vacate(place);
        place.leaving = true;
        owner.changed(place);
      },
      wanted: () => owner.wanted(),
      needed: () => owner.needed(place),
      changed: () => owner.changed(place),
      count: (what) => {
        this.totals[what]++;
      },
      cleaning: (done) => {
        this.#cleaning.add(done);
        void done.finally(() => this.#cleaning.delete(done));
      },
    };
  }
}

/** The state that a place shows. */
export function stateOf<R, M>(place: Place<R, M>): "ready" | "opening" | "waitingToReopen" | "draining" | "fatal" {
  if (place.leaving) return "draining";
  return place.connection?.process.alive ? place.connection.state : "opening";
}

/** An error as a snapshot may show it. Ours hold no secrets; of a driver's we show only what it is. */
function inWords(error: Error): string {
  if (error instanceof PoolwardenError) return error.message;
  const { code } = error as { code?: unknown };
  return typeof code === "string" || typeof code === "number" ? `${error.name} (${code})` : error.name;
}
