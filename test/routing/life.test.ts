/**
 * A pool in a storm: callers, resizes, recycles, deaths and a server with moods, at random moments of virtual time.
 *
 * After every step the whole is looked at, and what must always hold must hold. Then the weather turns: everybody ends,
 * the server answers, and the pool must be as it would be had nothing happened. At the end it is closed, destroyed,
 * stopped or killed, and every call has settled, every resource was closed once, nothing is left. A failure names its
 * seed.
 */

import { expect, test } from "vitest";
import {
  type BackoffOptions,
  ConnectionLostError,
  type Endpoint,
  leastUsed,
  type Route,
  random,
  roundRobin,
  strictRoundRobin,
} from "../../src/index.ts";
import { seededRandom } from "../../src/sim/index.ts";
import { type Pool, Scene, Work } from "./scene.ts";
import { after, type Closing, type Manner, type Opening, type Resource } from "./server.ts";

const seeds = Number(process.env["LIFE_SEEDS"] ?? 200);
const firstSeed = Number(process.env["LIFE_SEED"] ?? 1);
const steps = 60;

const moods: readonly (readonly Manner[])[] = [
  ["ok"],
  ["ok", "ok", "ok", "refuse", "dies", "deadOnArrival", "goesAway"],
  ["refuse", "throw"],
  ["never", "ok"],
  ["fatal", "ok", "refuse"],
];

const backoff: BackoffOptions = { kind: "random-exponential", minMs: 10, maxMs: 200 };

class Life {
  readonly #s: Scene;
  readonly #random: () => number;
  #size: number;
  #endpoints: Endpoint[];
  /** Whether the pool follows a source of endpoints, and what that is still to give. */
  readonly #follows: boolean;
  readonly #sets: Endpoint[][] = [];
  #moreSets: (() => void) | undefined;
  readonly #aborts: AbortController[] = [];
  readonly #routes: Route<Resource>[] = [];
  /** The works of broadcasts. They are no callers: nobody tells them anything. */
  readonly #parts: Work[] = [];
  #mood: readonly Manner[] = ["ok"];
  /** Whether restarts may be used up: then the pool may end before we end it. */
  readonly #mortal: boolean;

  constructor(seed: number) {
    this.#s = new Scene(seed);
    this.#random = seededRandom(seed);
    this.#size = 1 + this.#below(4);
    this.#endpoints = [{ id: "a" }, { id: "b" }].slice(this.#below(2));
    this.#follows = this.#chance(0.5);
    this.#mortal = this.#chance(0.15);
  }

  async run(): Promise<void> {
    const s = this.#s;
    s.server.script = () => this.#opening();
    s.server.capacity = this.#one<number>(Infinity, Infinity, 1, 3);
    const pool = await s.start({
      ...{ size: this.#size, backoff, openTimeoutMs: 50, drainTimeoutMs: 300, queue: { limit: 8 } },
      endpoints: this.#follows ? this.#source() : this.#endpoints,
      strategy: this.#one(leastUsed(), random(), roundRobin(), strictRoundRobin()),
      ...(this.#mortal ? {} : { maxRestarts: 1_000_000 }),
    });
    for (let step = 0; step < steps && pool.process.alive; step++) {
      do {
        this.#act(pool);
        s.check(); // In that very step already.
      } while (this.#chance(0.2));
      if (this.#chance(0.2)) for (let ticks = this.#below(8); ticks > 0; ticks--) await Promise.resolve();
      else {
        await s.advance(this.#chance(0.5) ? this.#below(10) : this.#below(150));
        if (pool.process.alive) this.#check();
      }
    }
    if (this.#chance(0.8)) await this.#calm(pool); // Else it ends in the middle of it all.
    this.#end(pool);
    await s.advance(60_000);
    expect(s.works.filter(({ outcome }) => outcome === "pending")).toEqual([]);
    expect(pool.process.alive).toBe(false);
    await s.finish();
  }

  /** With nothing left to run. */
  #check(): void {
    const s = this.#s;
    s.check();
    const stats = s.pool.stats();
    for (const { value } of s.registry.process.alive ? s.registry.lookup("ready") : []) {
      const { resource, inFlight, capacity } = value as unknown as Member;
      const routed = this.#routes.filter((route) => route.resource === resource).length;
      expect(inFlight, "in flight is real").toBe(resource.running + routed);
      const ejected = s.pool.members().some((member) => member.ejected && member.slot === resource.slot);
      if (stats.waiting === 0 || ejected) continue;
      expect(inFlight, "nobody waits while a member has room").toBeGreaterThanOrEqual(capacity);
    }
    expect(stats.inFlight).toBe(s.pool.members().reduce((sum, { inFlight }) => sum + inFlight, 0));
  }

  #act(pool: Pool): void {
    const s = this.#s;
    const resource = this.#among(s.server.fit);
    const work = this.#among([...s.works, ...this.#parts].filter(({ running }) => running));
    switch (this.#below(24)) {
      case 0:
      case 1:
      case 2:
      case 3:
      case 4:
      case 5:
        this.#use();
        return;
      case 6:
      case 7:
      case 8:
        work?.end();
        return;
      case 9:
        work?.fail(new ConnectionLostError("made up", { sent: this.#one("no", "maybe") }));
        return;
      case 10:
        work?.fail(new Error("broken"));
        return;
      case 11:
        this.#among(this.#aborts)?.abort(new Error("no more"));
        return;
      case 12:
        this.#route(pool);
        return;
      case 13:
        this.#broadcast(pool);
        return;
      case 14:
        this.#size = this.#below(5);
        s.follow(pool.resize(this.#size));
        return;
      case 15:
        s.follow(pool.recycle({ overMs: this.#one(0, 0, 100, 1_000) }));
        return;
      case 16:
        s.follow(pool.ready({ min: 1 + this.#below(4), timeoutMs: this.#below(500) }));
        return;
      case 17:
      case 18:
        this.#harm(pool);
        return;
      case 19:
        resource?.lose(this.#chance(0.5) ? new Error("reset") : undefined);
        return;
      case 20:
        resource?.goAway();
        return;
      case 21:
        resource?.setCapacity(this.#one<unknown>(0, 1, 2, Infinity, -1, new Error("who knows")));
        return;
      case 22:
        this.#mood = this.#one(...moods);
        if (this.#chance(0.3)) s.server.closing = () => this.#one<Closing>("ok", "throw", "never", { ms: 40 });
        return;
      default:
        if (!this.#follows) return;
        this.#endpoints = ["a", "b", "c"].filter(() => this.#chance(0.6)).map((id) => ({ id }));
        if (this.#endpoints.length === 0) this.#endpoints = [{ id: "d" }];
        this.#sets.push(this.#endpoints);
        this.#moreSets?.();
    }
  }

  #use(): void {
    const controller = new AbortController();
    this.#aborts.push(controller);
    this.#s.use({
      ...(this.#chance(0.5) ? { signal: controller.signal } : {}),
      ...(this.#chance(0.7) ? { timeoutMs: this.#one(0, 20, 200, 2_000) } : {}),
      idempotent: this.#chance(0.4),
    });
  }

  #route(pool: Pool): void {
    if (this.#chance(0.6)) {
      const at = this.#below(this.#routes.length);
      for (const route of this.#routes.splice(at, 1)) route.settle(this.#chance(0.3) ? { error: new Error("no") } : {});
      return;
    }
    try {
      this.#routes.push(pool.pick());
    } catch (error) {
      expect((error as { code?: string }).code).toMatch(/^ERR_POOL_(NO_MEMBER|BUSY|OPEN_FAILED|CLOSED)$/);
    }
  }

  #broadcast(pool: Pool): void {
    this.#s.follow(
      pool.broadcast((resource) => {
        const work = new Work();
        this.#parts.push(work);
        return work.run(resource);
      }),
    );
  }

  /** Somebody in the tree dies or is stopped, mostly a connection; never the top. */
  #harm(pool: Pool): void {
    const below = pool.tree().children;
    const connections = below.flatMap(({ children }) => children);
    const victim = this.#among(this.#chance(0.7) ? connections : below)?.process;
    if (victim === undefined) return;
    if (this.#chance(0.7)) victim.kill();
    else void victim.stop({ timeoutMs: this.#one(0, 50, 10_000) });
  }

  /** Everybody ends, the server answers: the pool must come to rest as it would had nothing happened. */
  async #calm(pool: Pool): Promise<void> {
    const s = this.#s;
    s.server.always("ok");
    s.server.closing = () => "ok";
    for (const route of this.#routes.splice(0)) route.settle();
    for (let round = 0; round < 20; round++) {
      for (const work of [...s.works, ...this.#parts]) work.end();
      await s.advance(1_000);
    }
    if (pool.process.alive) {
      await s.until(pool.recycle());
      await s.settle();
      const { totals: _, ...gauges } = pool.stats();
      const places = this.#endpoints.length * this.#size;
      expect(gauges).toEqual({
        ...{ name: "scene", kind: "routing", size: places, ready: places, opening: 0, waitingToReopen: 0, draining: 0 },
        ...{ fatal: 0, ejected: 0, idle: places, used: 0, inFlight: 0, waiting: 0 },
      });
      expect(s.works.filter(({ outcome }) => outcome === "pending")).toEqual([]);
      expect(s.server.fit.length).toBe(places);
      expect(s.runtime.timers).toBe(0);
      this.#check();
    }
    for (let caller = 0; caller < 3; caller++) this.#use();
    await s.settle();
  }

  #end(pool: Pool): void {
    switch (this.#below(4)) {
      case 0:
        this.#s.follow(pool.close({ timeoutMs: this.#one(0, 100, 30_000) }));
        return;
      case 1:
        this.#s.follow(pool.destroy(this.#chance(0.5) ? new Error("enough") : undefined));
        return;
      case 2:
        pool.process.kill();
        return;
      default:
        void pool.process.stop({ timeoutMs: Infinity });
    }
  }

  #opening(): Opening {
    const manner = this.#one(...this.#mood);
    return this.#chance(0.5) ? manner : after(this.#below(80), manner, this.#chance(0.3) ? "deaf" : undefined);
  }

  async *#source(): AsyncGenerator<readonly Endpoint[]> {
    this.#sets.push(this.#endpoints);
    for (;;) {
      for (let set = this.#sets.shift(); set !== undefined; set = this.#sets.shift()) yield set;
      await new Promise<void>((resolve) => {
        this.#moreSets = resolve;
      });
    }
  }

  #chance(of: number): boolean {
    return this.#random() < of;
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  #one<T>(...of: readonly T[]): T {
    return of[this.#below(of.length)] as T;
  }

  #among<T>(all: readonly T[]): T | undefined {
    return all[this.#below(all.length)];
  }
}

/** What the registry holds, seen more closely than the scene does. */
interface Member {
  readonly resource: Resource;
  readonly inFlight: number;
  readonly capacity: number;
}

for (let seed = firstSeed; seed < firstSeed + seeds; seed++) {
  test(`what must always hold holds in a storm, and after it (seed ${seed})`, () => new Life(seed).run());
}
