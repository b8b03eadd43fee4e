/**
 * A pool to which anything happens, in any order, with the invariants looked at after every step.
 *
 * The model is small: who asked when, and with which priority. Whoever is served must have been the first of those who
 * wait. Everything else that must hold, holds of the pool at any time (scene.ts). A failure names its seed.
 */

import { describe, expect, test } from "vitest";
import { seededRandom } from "../../src/sim/random.ts";
import { child, type Holder, Scene, type Work } from "./scene.ts";
import type { Gate, Manner, Opening } from "./server.ts";

const batches = 6;
const runs = 50;
const commands = 60;

/** One who asked: the model of a place in line. */
interface Asked {
  readonly caller: Holder | Work;
  readonly priority: number;
  readonly abort: AbortController | undefined;
  served: boolean;
}

class Play {
  readonly s: Scene;
  readonly #random: () => number;
  /** In the order in which they asked. */
  readonly #asked: Asked[] = [];
  readonly done: string[] = [];
  #closing = false;
  /** How many had asked when we last looked. */
  #looked = 0;

  constructor(seed: number) {
    this.s = new Scene(seed);
    this.#random = seededRandom(seed);
  }

  async run(): Promise<void> {
    const { s } = this;
    const hooks = (["check", "reset"] as const).filter(() => this.#chance(0.6));
    const checks = hooks.includes("check");
    await s.start({
      hooks,
      min: this.#upTo(2),
      max: 2 + this.#upTo(4),
      maxOpening: 1 + this.#upTo(3),
      order: this.#one("lifo", "fifo"),
      queue: { limit: this.#one(3, 8, 1_000), shed: this.#chance(0.2) },
      idleTimeoutMs: this.#one(50, 400, 600_000),
      maxLifetimeMs: this.#one(150, 1_000, Infinity),
      maxUses: this.#one(1, 3, 1_000),
      leaseTimeoutMs: this.#one(60, 500, Infinity),
      leakReportMs: this.#one(40, Infinity, Infinity),
      checkAfterIdleMs: checks ? this.#one(0, 20, Infinity) : Infinity,
      pingIdleMs: checks ? this.#one(15, 100, Infinity) : Infinity,
      pingLimit: 1 + this.#upTo(2),
      openTimeoutMs: 80,
      checkTimeoutMs: 50,
      resetTimeoutMs: 50,
      closeTimeoutMs: 60,
      backoff: { minMs: 20, maxMs: 100 },
      maxRestarts: 20,
    });
    for (let n = 0; n < commands; n++) {
      // Mostly one at a time; sometimes several in one tick, where races are.
      do this.#command();
      while (this.#chance(0.25));
      await s.settle();
      this.#look();
      if (this.#chance(0.5)) {
        await s.advance(this.#one(0, 1, 5, 20, 70));
        this.#look();
      }
    }
    await s.finish();
  }

  #command(): void {
    const { s } = this;
    const acts: [weight: number, name: string, act: () => void][] = [
      [14, "acquire", () => this.#ask((options) => s.acquire(options))],
      [8, "use", () => this.#ask((options) => s.use(options))],
      [4, "tryAcquire", () => s.tryAcquire()],
      [20, "release", () => this.#holder()?.release()],
      [3, "discard", () => this.#holder()?.discard()],
      [2, "release what is over", () => this.#anyOf(s.holders.filter(({ holds }) => !holds))?.lease?.release()],
      [9, "end a work", () => this.#running()?.end()],
      [2, "fail a work", () => this.#running()?.fail(new Error("failed"))],
      [5, "abort", () => this.#anyOf(this.#asked)?.abort?.abort(new Error("gone"))],
      [4, "lose", () => this.#anyOf(s.server.resources.filter(({ fit }) => fit))?.lose()],
      [1, "go away", () => this.#anyOf(s.registered)?.goAway()],
      [4, "open otherwise", () => this.#openOtherwise()],
      [2, "check otherwise", () => this.#hookOtherwise("checking")],
      [2, "reset otherwise", () => this.#hookOtherwise("resetting")],
      [2, "close otherwise", () => this.#hookOtherwise("closing")],
      [2, "resize", () => this.#resize()],
      [1, "recycle", () => s.follow("recycle", s.pool.recycle({ overMs: this.#one(0, 100) }))],
      [1, "ready", () => s.follow("ready", s.pool.ready({ min: 1 + this.#upTo(2), timeoutMs: 200 }))],
      [1, "kill a connection", () => this.#anyOf(s.connections)?.kill()],
      [0.5, "stop a connection", () => void this.#anyOf(s.connections)?.stop()],
      [0.2, "kill the registry", () => child(s.pool.tree(), "registry").process.kill()],
      [0.2, "kill the connections", () => child(s.pool.tree(), "connections").process.kill()],
      [0.1, "kill the pool", () => s.pool.process.kill()],
      [0.2, "close", () => this.#close()],
      [0.1, "destroy", () => s.follow("destroy", s.pool.destroy())],
    ];
    let at = this.#random() * acts.reduce((sum, [weight]) => sum + weight, 0);
    const found = acts.find(([weight]) => (at -= weight) < 0) as (typeof acts)[number];
    this.done.push(`${s.runtime.now()}: ${found[1]}`);
    found[2]();
  }

  #ask(ask: (options: { timeoutMs: number; priority: number; signal?: AbortSignal }) => Holder | Work): void {
    const priority = this.#one(0, 0, 0, 1, -1);
    const abort = this.#chance(0.4) ? new AbortController() : undefined;
    const signal = abort === undefined ? {} : { signal: abort.signal };
    const caller = ask({ timeoutMs: this.#one(0, 30, 100, 2_000), priority, ...signal });
    this.#asked.push({ caller, priority, abort, served: false });
  }

  /** Whoever has been served since the last look came before all who waited then and still do. */
  #look(): void {
    this.s.check();
    const fresh = this.#asked.filter((asked) => !asked.served && has(asked.caller));
    const before = this.#asked.slice(0, this.#looked);
    const waiting = before.filter(({ caller }) => caller.outcome === "pending" && !has(caller));
    this.#looked = this.#asked.length;
    for (const asked of fresh) {
      asked.served = true;
      const overtaken = waiting.find((other) => this.#precedes(other, asked));
      if (overtaken !== undefined) throw new Error("somebody was overtaken in line");
    }
  }

  #precedes(a: Asked, b: Asked): boolean {
    if (a.priority !== b.priority) return a.priority > b.priority;
    return this.#asked.indexOf(a) < this.#asked.indexOf(b);
  }

  #openOtherwise(): void {
    const gate = this.#one<Gate<Opening>>(
      ...(["ok", "ok", "ok", "rejects", "throws", "never", "dies", "deadOnArrival", "fatal"] as const),
      { ms: 10 },
      { ms: 30 },
      { ms: 120, deaf: true },
      // oxlint-disable-next-line unicorn/no-thenable -- read as English, and never awaited
      { ms: 30, then: "rejects" },
    );
    this.s.server.always(gate);
  }

  #hookOtherwise(hook: "checking" | "resetting" | "closing"): void {
    const manners = ["ok", "ok", "ok", "rejects", "throws", "no", "never"] as const;
    // oxlint-disable-next-line unicorn/no-thenable -- read as English, and never awaited
    const gate = this.#one<Gate<Manner>>(...manners, { ms: 10 }, { ms: 90 }, { ms: 90, deaf: true, then: "rejects" });
    this.s.server[hook] = () => gate;
  }

  #resize(): void {
    const { s } = this;
    const size = 1 + this.#upTo(6);
    if (!this.#closing && s.pool.process.alive) s.server.max = size; // Else it is refused.
    s.follow("resize", s.pool.resize(size));
  }

  #close(): void {
    this.#closing = true;
    this.s.follow("close", this.s.pool.close({ timeoutMs: this.#one(0, 100, 1_000) }));
  }

  #holder(): Holder | undefined {
    return this.#anyOf(this.s.holders.filter(({ holds }) => holds));
  }

  #running(): Work | undefined {
    return this.#anyOf(this.s.works.filter(({ running }) => running));
  }

  #anyOf<T>(all: readonly T[]): T | undefined {
    return all[Math.floor(this.#random() * all.length)];
  }

  #one<T>(...of: readonly T[]): T {
    return this.#anyOf(of) as T;
  }

  #upTo(most: number): number {
    return Math.floor(this.#random() * (most + 1));
  }

  #chance(of: number): boolean {
    return this.#random() < of;
  }
}

/** Whether it has been given a resource at any time. */
function has(caller: Holder | Work): boolean {
  return "started" in caller ? caller.started : caller.outcome === "ok";
}

const seen = new Set<string>();

describe(`whatever happens to a pool, what must hold holds (${batches * runs} runs of ${commands} commands)`, () => {
  test.each(Array.from({ length: batches }, (_, batch) => batch * runs + 1))("from seed %i", async (first) => {
    for (let seed = first; seed < first + runs; seed++) {
      const play = new Play(seed);
      try {
        await play.run();
      } catch (error) {
        throw new Error(`seed ${seed}, after ${play.done.slice(-12).join(" | ")}`, { cause: error });
      }
      for (const each of [...play.s.holders, ...play.s.works]) seen.add(each.outcome);
    }
  });

  test("and the runs reach what they are there for", () => {
    expect([...seen]).toEqual(
      expect.arrayContaining([
        "ok",
        "gone",
        "failed",
        "ERR_POOL_ACQUIRE_TIMEOUT",
        "ERR_POOL_BUSY",
        "ERR_POOL_NO_MEMBER",
        "ERR_POOL_QUEUE_FULL",
        "ERR_POOL_SHED",
        "ERR_POOL_OPEN_FAILED",
        "ERR_POOL_CLOSED",
        "ERR_CONNECTION_LOST",
        "ERR_LEASE_EXPIRED",
      ]),
    );
  });
});
