/**
 * A checkout pool on virtual time over a server that does as it is told.
 *
 * A test written with `scene` ends on the invariants of the whole pool, whatever it was about: the pool is destroyed if
 * it still lives, and then every call has settled, every resource ever opened was closed exactly once, never were there
 * more than `max`, never was one in two hands, every gauge is at rest and no timer is left. `check` holds what is true
 * at any moment; call it where something has moved.
 */

import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { expect } from "vitest";
import type {
  AcquireOptions,
  CheckoutPoolOptions,
  Events,
  Lease,
  Process,
  ProcessTree,
  UseOptions,
} from "../../src/index.ts";
import { CheckoutPool, Registry } from "../../src/index.ts";
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

export type Pool = CheckoutPool<Resource>;

/** One who has asked for something of the pool, and what became of it. */
class Caller {
  promise!: Promise<unknown>;
  /** `"pending"`, `"ok"`, or the code (else the message) of what the caller got. */
  outcome = "pending";
  error: unknown;
  /** `runtime.now()` when it had its answer. */
  at: number | undefined;

  protected follow<T>(runtime: VirtualRuntime, promise: Promise<T>, then: (value: T) => void): void {
    this.promise = promise;
    promise.then(
      (value) => {
        this.outcome = "ok";
        this.at = runtime.now();
        then(value);
      },
      (error: unknown) => {
        this.outcome = codeOf(error);
        this.at = runtime.now();
        this.error = error;
      },
    );
  }
}

/** One who has acquired, or waits to. */
export class Holder extends Caller {
  lease: Lease<Resource> | undefined;
  #resource: Resource | undefined;
  #over = false;
  readonly #server: Server;

  /** One that has `lease` already, or will have what `asked` gives. */
  constructor(scene: Scene, asked: Promise<Lease<Resource>> | Lease<Resource>) {
    super();
    this.#server = scene.server;
    if (!(asked instanceof Promise)) this.#got(asked);
    this.follow(scene.runtime, Promise.resolve(asked), (lease) => this.#got(lease));
  }

  #got(lease: Lease<Resource>): void {
    if (this.lease !== undefined) return;
    this.lease = lease;
    try {
      this.#resource = lease.resource;
      this.#server.hold(this.#resource);
    } catch {
      // Over before we had it.
    }
  }

  /** What it was given, whether it still has it or not. */
  get resource(): Resource {
    if (this.#resource === undefined) throw new Error("it has no resource");
    return this.#resource;
  }

  /** Whether it has a resource, and has not given it back. */
  get holds(): boolean {
    if (this.lease === undefined || this.#over) return false;
    try {
      return this.lease.resource !== undefined;
    } catch {
      this.#over = true; // For good; and the error that says so costs more than all the rest of a check.
      return false;
    }
  }

  release(): void {
    this.#letGo();
    this.lease?.release();
  }

  discard(reason?: Error): void {
    this.#letGo();
    this.lease?.discard(reason);
  }

  #letGo(): void {
    if (this.holds) this.#server.letGo(this.resource);
  }
}

/** A work that goes on until the test ends it. */
export class Work extends Caller {
  resource: Resource | undefined;
  signal: AbortSignal | undefined;
  value: unknown;
  readonly #server: Server;
  #settle: ((outcome: () => unknown) => void) | undefined;

  readonly #begun: (work: Work) => void;

  constructor(scene: Scene, options: UseOptions | undefined, begun: (work: Work) => void) {
    super();
    this.#server = scene.server;
    this.#begun = begun;
    this.follow(scene.runtime, scene.pool.use(this.run, options), (value) => {
      this.value = value;
    });
  }

  get started(): boolean {
    return this.resource !== undefined;
  }

  get running(): boolean {
    return this.#settle !== undefined;
  }

  readonly run = (resource: Resource, context: { readonly signal: AbortSignal }): Promise<unknown> => {
    this.resource = resource;
    this.signal = context.signal;
    this.#server.hold(resource);
    return new Promise<unknown>((resolve, reject) => {
      this.#settle = (outcome) => {
        this.#settle = undefined;
        this.#server.letGo(resource);
        try {
          resolve(outcome());
        } catch (error) {
          reject(error as Error);
        }
      };
      this.#begun(this);
    });
  };

  /** Ends it well. Does nothing when it is not running. */
  end(value?: unknown): void {
    this.#settle?.(() => value);
  }

  fail(error: unknown): void {
    this.#settle?.(() => {
      throw error;
    });
  }
}

export interface SceneOptions extends Partial<CheckoutPoolOptions<Resource>> {
  /** What the connector has besides `open` and `close`. */
  readonly hooks?: readonly ("check" | "reset")[];
}

export class Scene {
  readonly runtime: VirtualRuntime;
  readonly server: Server;
  pool!: Pool;
  readonly holders: Holder[] = [];
  readonly works: Work[] = [];
  /** Other promises of the pool's: each must settle. */
  readonly promises: { readonly what: string; outcome: string }[] = [];
  readonly #atEnd: (() => void)[] = [];

  constructor(seed: number) {
    this.runtime = virtualRuntime({ seed });
    this.server = new Server(this.runtime);
  }

  /** Starts the pool, and lets everything happen that needs no time. */
  async start({ hooks = [], ...options }: SceneOptions = {}): Promise<Pool> {
    const { runtime, server } = this;
    server.max = options.max ?? 10;
    server.closeTimeoutMs = options.closeTimeoutMs ?? 5_000;
    this.pool = await CheckoutPool.start({ connector: server.connector(...hooks), runtime, name: "scene", ...options });
    await this.settle();
    return this.pool;
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

  acquire(options?: AcquireOptions): Holder {
    const holder = new Holder(this, this.pool.acquire(options));
    this.holders.push(holder);
    return holder;
  }

  /** One who has a resource now. */
  async hold(options?: AcquireOptions): Promise<Holder> {
    const holder = this.acquire(options);
    await this.settle();
    expect(holder.outcome).toBe("ok");
    return holder;
  }

  /** So many who each have one. */
  async holdAll(count: number): Promise<Holder[]> {
    const holders = Array.from({ length: count }, () => this.acquire());
    await this.settle();
    expect(holders.map(({ outcome }) => outcome)).toEqual(holders.map(() => "ok"));
    return holders;
  }

  tryAcquire(): Holder | undefined {
    const lease = this.pool.tryAcquire();
    if (lease === undefined) return undefined;
    const holder = new Holder(this, lease);
    this.holders.push(holder);
    return holder;
  }

  /** A caller, with a work that lasts until the test ends it: it may do so in the step in which the work has begun. */
  use(options?: UseOptions, begun: (work: Work) => void = () => undefined): Work {
    const work = new Work(this, options, begun);
    this.works.push(work);
    return work;
  }

  /** Follows a promise that must settle. */
  follow(what: string, promise: Promise<unknown>): { readonly what: string; outcome: string } {
    const followed = { what, outcome: "pending" };
    this.promises.push(followed);
    promise.then(
      () => {
        followed.outcome = "ok";
      },
      (error: unknown) => {
        followed.outcome = codeOf(error);
      },
    );
    return followed;
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
    const listener = (fields: unknown): unknown => seen.push(fields as Events[E]);
    subscribe(`poolwarden:${name}`, listener);
    this.#atEnd.push(() => unsubscribe(`poolwarden:${name}`, listener));
    return seen;
  }

  /** What holds at any moment at which nothing is left to run. Plain comparisons: it is called often. */
  check(): void {
    const { server, pool } = this;
    if (server.violations.length > 0) expect(server.violations).toEqual([]);
    if (!pool.process.alive) return;
    const { stats, leases, waiters, connections } = pool.snapshot();
    const { registered } = this;
    const inForce = this.holders.filter(({ holds }) => holds).length + this.#worksWithLease;
    const inLine = [...this.holders, ...this.works.filter(({ started }) => !started)];
    const waiting = inLine.filter(({ outcome }) => outcome === "pending").length;
    // One resource is checked for each who waits; the others are idle meanwhile.
    const lookedAt = connections.filter((each) => each.state === "ready" && each.inFlight === 0).length - stats.idle;
    const states = stats.ready + stats.opening + stats.waitingToReopen + stats.draining + stats.fatal;
    const claims: Record<string, boolean> = {
      "registered is ready": registered.length === stats.ready && new Set(registered).size === stats.ready,
      "registered is fit": registered.every((resource) => resource.fit),
      "each is in one state": states === stats.size && connections.length === stats.size,
      "ready is idle or used": stats.idle + stats.used === stats.ready,
      "no more are there than the pool knows of": server.load <= stats.size,
      "in flight is leased": stats.inFlight === inForce && leases.length === inForce,
      "waiting is in line": stats.waiting === waiting && waiters.length === waiting,
      "nobody waits while something is idle": stats.waiting <= lookedAt || stats.idle === 0,
      "closed once": server.resources.every(({ closings }) => closings.length <= 1),
    };
    const broken = Object.keys(claims).filter((claim) => !claims[claim]);
    if (broken.length > 0) expect({ broken, stats, inForce, waiting, load: server.load }).toBe("in order");
  }

  /** Works that run on a resource which is still theirs. */
  get #worksWithLease(): number {
    return this.works.filter(({ running, resource }) => running && resource?.closings.length === 0).length;
  }

  async finish(): Promise<void> {
    const { pool, runtime, server } = this;
    await this.until(pool.destroy());
    for (const work of this.works) work.end();
    await this.settle();
    const { totals: _, name: __, kind: ___, ...gauges } = pool.stats();
    const timers = runtime.timers - server.timers - server.closingLate;
    expect({ timers, gauges }).toEqual({ timers: 0, gauges: atRest });
    expect(pool.process.alive).toBe(false);
    const calls = [...this.holders, ...this.works, ...this.promises];
    expect(calls.filter(({ outcome }) => outcome === "pending")).toEqual([]);
    expect(pool.snapshot()).toMatchObject({ connections: [], waiters: [], leases: [] });
    // What was being opened when the pool ended comes now, or never.
    await this.advance(120_000);
    const closed = server.resources.map(({ closings }) => closings.length);
    expect(closed).toEqual(closed.map(() => 1));
    expect(server.violations).toEqual([]);
    expect(runtime.timers).toBe(0);
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
