/**
 * A routing pool on virtual time over a server that does as it is told.
 *
 * A test written with `scene` ends on the invariants of the whole pool, whatever it was about: the pool is destroyed if
 * it still lives, and then every call has settled, every resource ever opened was closed exactly once, every gauge is
 * at rest and no timer is left. `check` holds the ones that are true at any moment; call it where something has moved.
 */

import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { expect } from "vitest";
import type {
  Events,
  ExitReason,
  Process,
  ProcessTree,
  Route,
  RouteRequest,
  RoutingPoolOptions,
  UseOptions,
} from "../../src/index.ts";
import { Registry, RoutingPool } from "../../src/index.ts";
import { type VirtualRuntime, virtualRuntime } from "../../src/sim/index.ts";
import { type Resource, Server } from "./server.ts";

/** Pools do not show their registry, only its process. */
const registries = new WeakMap<Process, Registry<string, { readonly resource: Resource }>>();
const startRegistry = Registry.start.bind(Registry) as (options: never) => Promise<Registry<never, never>>;
Registry.start = (async (options: never) => {
  const registry = await startRegistry(options);
  registries.set(registry.process, registry);
  return registry;
}) as typeof Registry.start;

/** Gauges of a pool in which nothing is and nothing happens. */
export const atRest = {
  ...{ size: 0, ready: 0, opening: 0, waitingToReopen: 0, draining: 0, fatal: 0, ejected: 0 },
  ...{ idle: 0, used: 0, inFlight: 0, waiting: 0 },
};

export type Pool = RoutingPool<Resource>;

/** A work that goes on until the test ends it, and what its caller was told. */
export class Work<T = unknown> {
  /** Where it runs, each time it was begun. */
  readonly ran: Resource[] = [];
  readonly signals: AbortSignal[] = [];
  promise!: Promise<unknown>;
  /** `"pending"`, `"ok"`, or the code (else the message) of what the caller got. */
  outcome = "pending";
  value: unknown;
  error: unknown;
  /** Called each time it has begun. */
  begun: () => void = () => undefined;
  #settle: ((outcome: () => T) => void) | undefined;

  get started(): boolean {
    return this.ran.length > 0;
  }

  /** An attempt goes on. */
  get running(): boolean {
    return this.#settle !== undefined;
  }

  get resource(): Resource {
    const resource = this.ran.at(-1);
    if (resource === undefined) throw new Error("the work has not begun");
    return resource;
  }

  get signal(): AbortSignal {
    return this.signals.at(-1) as AbortSignal;
  }

  readonly run = (resource: Resource, context?: { readonly signal: AbortSignal }): Promise<T> => {
    this.ran.push(resource);
    if (context !== undefined) this.signals.push(context.signal);
    resource.begins();
    return new Promise<T>((resolve, reject) => {
      this.#settle = (outcome) => {
        this.#settle = undefined;
        resource.running--;
        try {
          resolve(outcome());
        } catch (error) {
          reject(error as Error);
        }
      };
      this.begun();
    });
  };

  /** Ends it well. Does nothing when it is not running. */
  end(value?: T): void {
    this.#settle?.(() => value as T);
  }

  fail(error: unknown): void {
    this.#settle?.(() => {
      throw error;
    });
  }

  follow(promise: Promise<unknown>): void {
    this.promise = promise;
    promise.then(
      (value) => {
        this.outcome = "ok";
        this.value = value;
      },
      (error: unknown) => {
        this.outcome = codeOf(error);
        this.error = error;
      },
    );
  }
}

export class Scene {
  readonly runtime: VirtualRuntime;
  readonly server: Server;
  pool!: Pool;
  readonly works: Work[] = [];
  readonly #atEnd: (() => void)[] = [];

  constructor(seed: number) {
    this.runtime = virtualRuntime({ seed });
    this.server = new Server(this.runtime);
  }

  get registry(): Registry<string, { readonly resource: Resource }> {
    const process = child(this.pool.tree(), "registry").process;
    return registries.get(process) as Registry<string, { readonly resource: Resource }>;
  }

  /** The processes of the connections, in order of their making. */
  get connections(): Process[] {
    return child(this.pool.tree(), "connections").children.map(({ process }) => process);
  }

  /** Resources that are registered, in order of their registration. */
  get registered(): Resource[] {
    return this.registry.process.alive ? this.registry.lookup("ready").map(({ value }) => value.resource) : [];
  }

  /** Starts the pool, and lets everything happen that needs no time. */
  async start(options: Partial<RoutingPoolOptions<Resource>> = {}): Promise<Pool> {
    const { runtime, server } = this;
    this.pool = await RoutingPool.start({ connector: server.connector, runtime, name: "scene", ...options });
    await this.settle();
    return this.pool;
  }

  /** A caller, with a work that lasts until the test ends it: it may do so in the step in which the work has begun. */
  use(options?: UseOptions, begun?: (work: Work) => void): Work {
    const work = new Work();
    if (begun !== undefined) work.begun = () => begun(work);
    this.works.push(work);
    work.follow(this.pool.use(work.run, options));
    return work;
  }

  /** Watches what becomes of a promise that is no caller's: of a resize, a close. Like a work, it must have settled. */
  follow(promise: Promise<unknown>): Work {
    const work = new Work();
    this.works.push(work);
    work.follow(promise);
    return work;
  }

  /** A caller that says itself when it is done. */
  pick(request?: RouteRequest): Route<Resource> {
    const route = this.pool.pick(request);
    const { resource } = route;
    const settle = route.settle.bind(route);
    resource.begins();
    let settled = false;
    route.settle = (outcome) => {
      if (!settled) resource.running--;
      settled = true;
      settle(outcome);
    };
    return route;
  }

  settle(): Promise<void> {
    return this.runtime.settle();
  }

  advance(ms: number): Promise<void> {
    return this.runtime.advance(ms);
  }

  until<T>(promise: Promise<T>): Promise<T> {
    return this.runtime.until(promise);
  }

  /** `"ok"`, or the code of the error. */
  outcome(promise: Promise<unknown>): Promise<string> {
    return this.until(promise.then(() => "ok", codeOf));
  }

  /** What is emitted under this name from now on. */
  events<E extends keyof Events>(name: E): Events[E][] {
    const seen: Events[E][] = [];
    this.on(name, (fields) => seen.push(fields));
    return seen;
  }

  /** Does something each time this is emitted, in that very step. */
  on<E extends keyof Events>(name: E, act: (fields: Events[E]) => void): void {
    const listener = (fields: unknown): void => act(fields as Events[E]);
    subscribe(`poolwarden:${name}`, listener);
    this.#atEnd.push(() => unsubscribe(`poolwarden:${name}`, listener));
  }

  /**
   * What holds at any moment at which nothing is left to run. One comparison, because storms make it by the ten
   * thousand.
   */
  check(): void {
    const { registered } = this;
    const stats = this.pool.stats();
    const members = this.pool.members();
    const states = members.map(({ state }) => state);
    const ready = members.filter(({ state }) => state === "ready");
    // Works that a test has made without telling their resource are in flight, too.
    const held = this.server.resources.filter(({ lost, closings }) => !lost && closings.length === 0);
    // One that is ejected has no room for anybody until it is probed.
    const trusted = ready.filter(({ ejected }) => !ejected);
    const running = held.reduce((sum, resource) => sum + resource.running, 0);
    expect({
      registered: new Set(registered).size,
      unfit: registered.filter(({ fit }) => !fit).map(({ id }) => id),
      size: stats.ready + stats.opening + stats.waitingToReopen + stats.draining + stats.fatal,
      ready: stats.idle + stats.used,
      used: ready.filter(({ inFlight }) => inFlight > 0).length,
      states: this.pool.snapshot().connections.map(({ state }) => state),
      inFlight: members.reduce((sum, { inFlight }) => sum + inFlight, 0),
      negative: members.filter(({ inFlight }) => inFlight < 0).length,
      forgotten: Math.max(running - stats.inFlight, 0),
      roomWhileSomebodyWaits: stats.waiting === 0 ? 0 : trusted.filter((each) => each.inFlight < each.capacity).length,
      closedTwice: this.server.resources.filter(({ closings }) => closings.length > 1).map(({ id }) => id),
    }).toEqual({
      ...{ registered: ready.length, unfit: [], size: stats.size, ready: stats.ready, used: stats.used, states },
      ...{ inFlight: stats.inFlight, negative: 0, forgotten: 0, roomWhileSomebodyWaits: 0, closedTwice: [] },
    });
    expect(ready.length).toBe(stats.ready);
  }

  async finish(): Promise<void> {
    await this.until(this.pool.destroy());
    for (const work of this.works) work.end();
    await this.settle();
    const { totals: _, name: __, kind: ___, ...gauges } = this.pool.stats();
    const closed = this.server.resources.map(({ closings }) => closings.length);
    const pending = this.works.filter(({ outcome }) => outcome === "pending").length;
    expect({ timers: this.runtime.timers, pending, gauges }).toEqual({ timers: 0, pending: 0, gauges: atRest });
    expect(closed).toEqual(closed.map(() => 1));
    expect(this.pool.process.alive).toBe(false);
    for (const act of this.#atEnd) act();
  }
}

/** The body of a test: `test("…", scene(async (s) => { … }))`. */
export function scene(act: (s: Scene) => Promise<void>): () => Promise<void> {
  return async () => {
    const s = new Scene(1);
    await act(s);
    await s.finish();
  };
}

export function child(tree: ProcessTree, id: string): ProcessTree {
  const found = tree.children.find((each) => each.id === id);
  if (found === undefined) throw new Error(`the tree has no ${id}`);
  return found;
}

/** The code of an error; else its message; else what it is. */
export function codeOf(error: unknown): string {
  const { code, message } = (error ?? {}) as { code?: unknown; message?: unknown };
  return String(typeof code === "string" ? code : (message ?? error));
}

export function reasonOf(reason: ExitReason): string {
  return reason instanceof Error ? reason.message : reason;
}
