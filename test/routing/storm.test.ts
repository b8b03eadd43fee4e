/**
 * A pool in a storm: callers that come, give up and fail, a server that refuses, hangs, hangs up and changes its mind,
 * connections and a registry that are killed, at random moments of virtual time and between any two promise callbacks.
 *
 * After each step, once everything has run that needs no time, what must always hold holds: `check`, and besides it
 * that what is in flight is exactly what the resources are at, and that nobody has overtaken anybody. At the end every
 * call has settled, everything that was counted has been counted back, and all is quiet. A failure names its seed.
 */

import { expect, test } from "vitest";
import {
  ConnectionLostError,
  leastUsed,
  type Member,
  random,
  type Route,
  roundRobin,
  type Strategy,
  type StrategyFactory,
  strictRoundRobin,
} from "../../src/index.ts";
import { seededRandom } from "../../src/sim/index.ts";
import { child, Scene, Work } from "./scene.ts";
import { after, type Closing, type Manner, type Resource } from "./server.ts";

const seeds = Number(process.env["ROUTING_SEEDS"] ?? 200);
const firstSeed = Number(process.env["ROUTING_SEED"] ?? 1);
const steps = 80;

const manners: readonly Manner[] = [
  ...(["ok", "ok", "ok", "ok", "ok", "ok", "refuse", "refuse", "never"] as const),
  ...(["dies", "deadOnArrival", "goesAway", "leavingOnArrival"] as const),
];

const expectedOutcomes =
  /^(ok|gave up|not found|broken|ERR_CONNECTION_LOST|ERR_POOL_(ACQUIRE_TIMEOUT|BUSY|NO_MEMBER|QUEUE_FULL|OPEN_FAILED|CLOSED))$/;

class Storm {
  readonly scene: Scene;
  readonly #random: () => number;
  readonly #callers = new Map<Work, AbortController>();
  readonly #routes = new Set<Route<Resource>>();
  #routesOk = 0;
  /** What the strategy has heard, less what it has heard the end of. */
  readonly #there = new Map<Member<Resource>, number>();
  readonly #atWork = new Map<Member<Resource>, number>();
  #unpaired = 0;
  /** Calls of resize and recycle that have not settled. */
  readonly #unsettled = new Set<string>();

  constructor(seed: number) {
    this.scene = new Scene(seed);
    this.#random = seededRandom(seed);
  }

  async run(): Promise<void> {
    const { scene } = this;
    const { server } = scene;
    server.capacity = this.#one(1, 1, 2, 3, Infinity);
    server.isFailure = (error) => (error as Error).message !== "not found";
    server.closing = () => this.#one<Closing>("ok", "ok", "throw", "reject", "never", { ms: 30 });
    this.#newWeather();
    await scene.start({
      endpoints: [{ id: "a" }, { id: "b" }, { id: "c" }].slice(this.#below(3)),
      size: this.#one(1, 2, 3),
      backoff: { minMs: 10, maxMs: this.#one(10, 200) },
      openTimeoutMs: this.#one(50, 1_000),
      drainTimeoutMs: this.#one(0, 30, 30_000),
      queue: { limit: this.#one(1, 5, 100) },
      retry: { attempts: this.#one(1, 2, 3, 10), budget: this.#one(0, 0.1, 1) },
      maxRestarts: 100_000,
      strategy: this.#strategy(),
    });
    for (let step = 0; step < steps; step++) {
      await this.#act();
      if (this.#chance(0.3)) for (let hop = this.#below(8); hop > 0; hop--) await Promise.resolve();
      else await this.#wait();
    }
    await this.#end();
  }

  async #act(): Promise<void> {
    const { scene } = this;
    const { server, works } = scene;
    const running = works.filter((work) => work.running);
    switch (this.#below(20)) {
      case 0:
      case 1:
      case 2:
      case 3:
      case 4:
        return this.#call();
      case 5:
      case 6:
      case 7:
        return this.#among(running)?.end("done");
      case 8:
      case 9:
        return this.#among(running)?.fail(this.#error());
      case 10:
      case 11:
        return this.#among([...this.#callers.values()])?.abort(new Error("gave up"));
      case 12:
        return this.#pick();
      case 13:
        return this.#settle();
      case 14:
        return this.#among(server.resources)?.lose(this.#one(undefined, new Error("reset")));
      case 15:
        return this.#among(server.resources.filter((resource) => !resource.lost))?.goAway();
      case 16:
        return this.#among(server.resources)?.setCapacity(this.#one<unknown>(0, 1, 2, 5, Infinity, NaN, "many"));
      case 17:
        return this.#newWeather();
      case 18:
        if (this.#chance(0.2)) return child(scene.pool.tree(), "registry").process.kill();
        return this.#among(scene.connections)?.kill();
      default:
        return this.#manage();
    }
  }

  /** A moment passes, and then everything must be in order. */
  async #wait(): Promise<void> {
    const { scene } = this;
    await scene.advance(this.#one(0, 0, 1, 7, 40, 300));
    scene.check();
    const held = new Set(scene.server.resources.filter(({ lost, closings }) => !lost && closings.length === 0));
    const pending = scene.works.filter(({ outcome }) => outcome === "pending");
    const waiting = pending.filter((work) => !(work.running && held.has(work.resource)));
    const inFlight = [...held].reduce((sum, { running }) => sum + running, 0);
    expect(scene.pool.stats()).toMatchObject({ inFlight, waiting: waiting.length });
    // Whoever waits and was never served was called after everybody who was.
    const waits = scene.works.findIndex((work) => work.outcome === "pending" && !work.started);
    if (waits >= 0) expect(scene.works.slice(waits).filter((work) => work.started)).toEqual([]);
  }

  #call(): void {
    const { scene } = this;
    const caller = new AbortController();
    const work = new Work();
    const run: typeof work.run = (resource, context) => {
      expect(resource.fit, "nothing is begun on what cannot serve").toBe(true);
      const result = work.run(resource, context);
      if (this.#chance(0.1)) work.end("at once");
      else if (this.#chance(0.05)) work.fail(this.#error());
      else if (this.#chance(0.03)) resource.lose();
      return result;
    };
    const options = {
      timeoutMs: this.#one(0, 5, 50, 5_000, Infinity),
      idempotent: this.#chance(0.4),
      key: this.#below(10),
      ...(this.#chance(0.6) ? { signal: caller.signal } : {}),
    };
    scene.works.push(work);
    work.follow(scene.pool.use(run, options));
    this.#callers.set(work, caller);
    const forget = (): void => {
      this.#callers.delete(work);
      expect(work.outcome).toMatch(expectedOutcomes);
    };
    void work.promise.then(forget, () => Promise.resolve().then(forget));
  }

  #pick(): void {
    try {
      this.#routes.add(this.scene.pick({ key: this.#below(10) }));
    } catch (error) {
      expect((error as { code?: string }).code).toMatch(expectedOutcomes);
    }
  }

  #settle(): void {
    const route = this.#among([...this.#routes]);
    if (route === undefined) return;
    this.#routes.delete(route);
    const error = this.#chance(0.3) ? this.#error() : undefined;
    if (error === undefined) this.#routesOk++;
    route.settle({ error });
    if (this.#chance(0.3)) route.settle();
  }

  /** Somebody runs the pool. */
  #manage(): void {
    const { pool } = this.scene;
    const [call, promise]: [string, Promise<void>] = this.#chance(0.5)
      ? ["resize", pool.resize(this.#one(0, 1, 2, 4))]
      : ["recycle", pool.recycle({ overMs: this.#one(0, 20) })];
    const label = `${call} at ${this.scene.runtime.now()}`;
    this.#unsettled.add(label);
    promise.catch(() => undefined).finally(() => this.#unsettled.delete(label));
  }

  /** From now on the server behaves like this. */
  #newWeather(): void {
    const { server } = this.scene;
    const fatal = this.#chance(0.1);
    server.script = () => {
      if (fatal && this.#chance(0.5)) return "fatal";
      const manner = this.#one(...manners);
      return this.#chance(0.7) ? manner : after(this.#one(1, 20, 60), manner, this.#chance(0.3) ? "deaf" : undefined);
    };
  }

  #error(): Error {
    switch (this.#below(4)) {
      case 0:
        return new ConnectionLostError("it never left", { sent: "no" });
      case 1:
        return new ConnectionLostError("it may have left", { sent: "maybe" });
      case 2:
        return new Error("not found");
      default:
        return new Error("broken");
    }
  }

  /** One of ours, or one of somebody who has not read the manual, and told of everything. */
  #strategy(): StrategyFactory {
    const ours = this.#one(leastUsed(), leastUsed(), random(), roundRobin(), strictRoundRobin(), undefined);
    const rude = {
      pick: (members: readonly Member<Resource>[]) => {
        const given = members as Member<Resource>[];
        if (this.#chance(0.1)) throw new Error("no idea");
        if (this.#chance(0.1)) return { ...(given[0] as Member<Resource>) };
        if (this.#chance(0.1)) return given.pop() as Member<Resource>;
        return given.sort((a, b) => a.inFlight - b.inFlight || b.slot - a.slot)[0] as Member<Resource>;
      },
    };
    const count = (of: Map<Member<Resource>, number>, member: Member<Resource>, by: number): void => {
      const now = (of.get(member) ?? 0) + by;
      if (now < 0) this.#unpaired++; // Thrown here, it would be an event and no failure.
      of.set(member, now);
    };
    const make = (runtime: Parameters<StrategyFactory>[0]): Strategy<Resource> => {
      const strategy: Strategy<Resource> = ours === undefined ? rude : ours(runtime);
      return {
        pick: (members, request) => strategy.pick(members, request),
        joined: (member) => count(this.#there, member, 1),
        left: (member) => count(this.#there, member, -1),
        started: (member) => count(this.#atWork, member, 1),
        finished: (member, outcome) => {
          count(this.#atWork, member, -1);
          strategy.finished?.(member, outcome);
        },
      };
    };
    return make as StrategyFactory;
  }

  async #end(): Promise<void> {
    const { scene } = this;
    const { pool } = scene;
    switch (this.#below(3)) {
      case 0:
        pool.process.kill();
        break;
      case 1:
        await scene.until(pool.close({ timeoutMs: this.#one(0, 100, 10_000) }));
        break;
      default:
        await scene.until(pool.destroy());
    }
    await scene.until(pool.destroy());
    await scene.advance(60_000); // What the server has yet to say.
    for (const work of scene.works) work.end();
    for (const route of this.#routes) route.settle();
    this.#routesOk += this.#routes.size;
    await scene.finish();
    const ok = scene.works.filter(({ outcome }) => outcome === "ok").length;
    const left = (of: Map<Member<Resource>, number>): number => [...of.values()].filter((count) => count !== 0).length;
    expect({
      succeeded: pool.stats().totals.succeeded,
      unsettled: [...this.#unsettled],
      unpaired: this.#unpaired,
      there: left(this.#there),
      atWork: left(this.#atWork),
    }).toEqual({ succeeded: ok + this.#routesOk, unsettled: [], unpaired: 0, there: 0, atWork: 0 });
  }

  #chance(of: number): boolean {
    return this.#random() < of;
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  #one<T>(...of: T[]): T {
    return of[this.#below(of.length)] as T;
  }

  #among<T>(all: readonly T[]): T | undefined {
    return all[this.#below(all.length)];
  }
}

for (let seed = firstSeed; seed < firstSeed + seeds; seed++) {
  test(`all holds in a storm, and all is quiet after it (seed ${seed})`, () => new Storm(seed).run());
}
