/**
 * A checkout pool over a server that fails in every way, with callers who do what they like.
 *
 * The model is small: who asked when, with which priority, and who has what. Whoever is served must have been the first
 * of those who wait; a resource is in one hand; everything the pool says of itself must be what the server and the
 * callers know. When all is calm, the pool must serve as many as it may have, at once.
 */

import { AsyncLocalStorage } from "node:async_hooks";
import {
  CheckoutPool,
  type CheckoutPoolOptions,
  ConnectionLostError,
  type Lease,
  type Process,
  type ProcessTree,
} from "../../../src/index.ts";
import { type Gate, type Manner, type Opening, type Resource, Server } from "../../checkout/server.ts";
import type { Draw } from "../harness/draw.ts";
import { registeredIn } from "../harness/registries.ts";
import { at, command, type Play, type Scenario } from "../harness/scenario.ts";
import type { World } from "../harness/world.ts";
import { type Asking, type Beginning, beginnings, type GivingBack, Holder, Worker } from "./checkout-callers.ts";
import { openFaults, openingOf } from "./opening.ts";

type Caller = Holder | Worker;

/** One who is not in line. */
const quickly: Asking = { timeoutMs: 0, priority: 0, abortable: false, eager: true, messy: false };

/** Whose context this is. Only some runs look: a storage that was run makes every promise dear. */
const whose = new AsyncLocalStorage<Caller>();

/** How the other hooks go wrong, and how often. What `close` answers means nothing. */
const hookFaults = {
  check: { ...faultsOf("check"), "check says no": 0.05 },
  reset: { ...faultsOf("reset"), "reset says no": 0.05, "reset answers after its timeout": 0.08, "reset throws": 0.06 },
  close: faultsOf("close"),
};

function faultsOf(hook: string): Record<string, number> {
  return {
    [`${hook} fails`]: 0.06,
    [`${hook} throws`]: 0.03,
    [`${hook} hangs`]: 0.05,
    [`${hook} is slow`]: 0.12,
    [`${hook} answers after its timeout`]: 0.04,
  };
}

class Counter implements Play {
  readonly world: World;
  readonly server: Server;
  readonly #watchesContext: boolean;
  pool!: CheckoutPool<Resource>;
  /** In the order in which they asked; those who are done are forgotten. */
  callers: Caller[] = [];
  /** Leases that are over, and may be released all the same. */
  readonly over: Holder[] = [];
  /** How many had asked when we last looked. */
  #looked = 0;
  #begun = false;
  #closing = false;
  #options!: CheckoutPoolOptions<Resource>;
  /** How often each of these was heard. */
  readonly #heard = { "lease.discarded": 0, "lease.misused": 0, "lease.expired": 0 };
  /** Leases whose time was over, as their holders know. */
  readonly #expired = new Set<Holder>();
  /** Those whose work went well since all was settled last. */
  #wentWell: Worker[] = [];
  /** What has gone wrong since all was settled last, of which callback; and what was heard of that. */
  #broken: { readonly callback: string; readonly resource: Resource }[] = [];
  readonly #told = new Map<string, number>();
  /** Something was killed or ended since then: what was under way need not be told. */
  #shaken = false;
  #unsettled = 0;
  #min = 0;

  constructor(world: World) {
    this.world = world;
    this.server = new Server(world.runtime);
    this.#watchesContext = world.setUp.chance(0.05);
    if (this.#watchesContext) world.atEnd(() => whose.disable());
    this.server.opening = () => this.#opening();
    this.server.checking = (resource) => this.#checked(resource);
    this.server.resetting = (resource) => this.#hook("reset", resource);
    this.server.closing = (resource) => this.#hook("close", resource);
  }

  async begin(): Promise<void> {
    const { world, server } = this;
    const { setUp: draw, runtime } = world;
    const hooks = (["check", "reset"] as const).filter(() => draw.chance(0.7));
    const checks = hooks.includes("check");
    const min = draw.below(3);
    const looks = hooks.includes("reset") && draw.chance(0.5);
    const options: CheckoutPoolOptions<Resource> = {
      connector: {
        ...server.connector(...hooks),
        ...(looks ? { fit: (resource: Resource) => this.#fits(resource) as boolean } : {}),
      },
      runtime,
      name: "counter",
      min,
      max: Math.max(min, draw.between(1, 5)),
      maxOpening: draw.between(1, 4),
      order: draw.one("lifo", "fifo"),
      queue: { limit: draw.one(3, 8, 1_000), shed: draw.chance(0.2) },
      idleTimeoutMs: draw.one(50, 400, 600_000),
      maxLifetimeMs: draw.one(150, 1_000, Infinity, Infinity),
      maxUses: draw.one(1, 3, 1_000, 1_000, 1_000),
      leaseTimeoutMs: draw.one(60, 500, Infinity),
      leakReportMs: draw.one(40, Infinity, Infinity),
      checkAfterIdleMs: checks ? draw.one(0, 20, Infinity) : Infinity,
      pingIdleMs: checks ? draw.one(15, 100, Infinity) : Infinity,
      pingLimit: draw.between(1, 3),
      openTimeoutMs: 80,
      checkTimeoutMs: 50,
      resetTimeoutMs: 50,
      closeTimeoutMs: 60,
      backoff: { minMs: 20, maxMs: 100 },
      maxRestarts: draw.one(3, 1_000_000),
    };
    server.max = options.max ?? 10;
    server.closeTimeoutMs = 60;
    this.#min = min;
    this.#options = options;
    this.#listen();
    this.pool = await CheckoutPool.start(options);
    this.#begun = true;
  }

  acquire(asking: Asking, already?: "gone"): Holder {
    const holder = new Holder(this.server, asking, this.world.runtime.now());
    if (already !== undefined) holder.abort?.abort(new Error("gone"));
    this.callers.push(holder);
    this.#as(holder, () => {
      holder.call = this.world.follow("acquire", this.pool.acquire(holder.options(asking)), ({ value }) => {
        this.#inContextOf(holder);
        this.#isDone(holder);
        if (value !== undefined) this.#got(holder, value);
      });
    });
    return holder;
  }

  tryAcquire(): void {
    const lease = this.pool.tryAcquire();
    if (lease === undefined) return;
    const holder = new Holder(this.server, quickly, this.world.runtime.now());
    this.#got(holder, lease);
    holder.seen = true;
    this.callers.push(holder);
  }

  use(asking: Asking, begins: Beginning, already?: "gone"): Worker {
    const worker = new Worker(this.server, asking, this.world.runtime.now());
    if (already !== undefined) worker.abort?.abort(new Error("gone"));
    this.callers.push(worker);
    this.#as(worker, () => {
      const inside = { ...quickly, timeoutMs: 50 };
      const nested = async (): Promise<unknown> => {
        const inner = this.use(inside, "returns");
        while (inner.pending) await this.world.pause(1);
        if (inner.call?.outcome !== "ok") throw inner.call?.error;
        return undefined;
      };
      const asked = this.pool.use((resource, context) => {
        this.#inContextOf(worker);
        this.#watch(worker);
        return worker.run(begins, resource, context, nested);
      }, worker.options(asking));
      worker.call = this.world.follow("use", asked, ({ outcome }) => {
        this.#inContextOf(worker);
        this.#isDone(worker);
        if (outcome === "ok") this.#wentWell.push(worker);
      });
    });
    return worker;
  }

  /** One asks who has given up before: nothing is done for it. */
  askGone(asking: Asking, uses: boolean): void {
    const before = this.pool.stats();
    const caller = uses ? this.use(asking, "waits", "gone") : this.acquire(asking, "gone");
    const { waiting, totals } = this.pool.stats();
    const nothing = waiting === before.waiting && totals.acquired === before.totals.acquired;
    this.world.must("as-the-model", nothing && caller.listeners === 0, () => {
      return `${caller.call?.what} had given up before it asked, and something was done for it`;
    });
  }

  giveBackOne(which: number, how: GivingBack): void {
    const holder = at(this.holders, which);
    if (holder !== undefined) this.giveBack(holder, how);
  }

  /** Gives a lease back, in force or not. What was wrong with that is heard, and nothing else is. */
  giveBack(holder: Holder, how: GivingBack): void {
    const heard = this.#heard;
    const before = { ...heard };
    const expected = holder.giveBack(how);
    for (const event of ["lease.discarded", "lease.misused"] as const) {
      const times = heard[event] - before[event];
      const fine = times === (event === expected ? 1 : 0);
      this.world.must("nothing-swallowed", fine, () => `a ${how} was heard as ${times} × ${event}`);
    }
  }

  /** Those who have something in their hands. */
  get holders(): Holder[] {
    return this.callers.filter((caller): caller is Holder => caller instanceof Holder && caller.holds);
  }

  get workers(): Worker[] {
    return this.callers.filter((caller): caller is Worker => caller instanceof Worker && caller.runs);
  }

  forget(holder: Holder): void {
    this.over.push(holder);
    if (this.over.length > 10) this.over.shift();
  }

  control(what: string, act: () => Promise<unknown>): void {
    this.#unsettled++;
    this.world.follow(what, act(), () => {
      this.#unsettled--;
    });
  }

  resize(size: number): void {
    if (!this.#closing && this.pool.process.alive && size > 0) {
      this.server.max = size; // Else it is refused.
      this.#min = Math.min(this.#min, size);
    }
    this.control("resize", () => this.pool.resize(size));
  }

  end(how: "close" | "destroy", timeoutMs: number): void {
    this.#closing = true;
    this.#shaken = true;
    if (how === "close") this.control("close", () => this.pool.close({ timeoutMs }));
    else this.control("destroy", () => this.pool.destroy());
  }

  /** Resources that the pool's registry shows. */
  get registered(): Resource[] {
    const registry = child(this.pool.tree(), "registry")?.process;
    if (registry === undefined) return [];
    return registeredIn<{ readonly resource: Resource }>(registry, "ready").map(({ resource }) => resource);
  }

  /** A process at any level of the tree. */
  kill(level: number, which: number, ask: boolean): boolean {
    const tree = this.pool.tree();
    const connections = child(tree, "connections")?.children ?? [];
    const level3 = at(connections, which);
    const found =
      level < 7 ? level3 : level === 7 ? child(tree, "registry") : level === 8 ? child(tree, "connections") : tree;
    const process: Process | undefined = found?.process;
    if (process === undefined || !process.alive) return false;
    this.#shaken = true;
    if (ask && level < 7) this.world.follow("stop", process.stop());
    else process.kill();
    return true;
  }

  check(settled: boolean): void {
    const { world, server, pool } = this;
    world.must("one-holder", server.violations.length === 0, () => server.violations.join("; "));
    const twice = server.resources.find(({ closings }) => closings.length > 1);
    world.must("closed-once", twice === undefined, () => `resource ${twice?.id} was closed twice`);
    const stats = pool.stats();
    const gauges = [stats.idle, stats.used, stats.inFlight, stats.waiting, stats.size];
    world.must(
      "in-flight-is-real",
      gauges.every((gauge) => gauge >= 0),
      () => `a gauge is negative: ${gauges.join()}`,
    );
    const full = stats.size > server.max && stats.opening + stats.ready > server.max && settled && !this.#closing;
    world.must(
      "one-holder",
      !full || stats.inFlight > 0 || stats.used > 0 || stats.draining > 0,
      () => `more than max, and idle`,
    );
    if (!settled) return;
    this.#looksAtLine();
    if (pool.process.alive) this.#holdsNow();
    this.#tellsAll();
    const deaf = this.callers.find(({ pending, abort }) => pending && abort?.signal.aborted);
    world.must("settles", deaf === undefined, () => `${deaf?.call?.what} has given up, and is not told`);
    this.#tidy();
  }

  async converge(): Promise<void> {
    const { world, pool, server } = this;
    const { runtime } = world;
    for (let round = 0; round < 16; round++) {
      for (const holder of this.holders) this.giveBack(holder, "release");
      for (const worker of this.workers) worker.end();
      await runtime.advance(400);
      this.check(true);
      const late = this.callers.find(({ waits, until }) => waits && until < runtime.now());
      world.must("settles", late === undefined, () => `${late?.call?.what} waits for longer than it wants to`);
    }
    const waits = this.callers.filter(({ pending }) => pending).length;
    world.must("settles", waits === 0, () => `${waits} callers wait still`);
    world.must("settles", this.#unsettled === 0, () => `${world.pending.map(({ what }) => what).join()} wait still`);
    if (!pool.process.alive || this.#closing) return;
    if (pool.stats().fatal > 0) await world.until("recycle", pool.recycle());
    await world.until("ready", pool.ready());
    // As many as there may be are served, all at once.
    const leases: Lease<Resource>[] = [];
    for (let found = 0; leases.length < this.server.max; ) {
      const lease = await world.until("acquire", pool.acquire({ timeoutMs: 20_000 }));
      if (lease.resource.halfOpen) {
        // Nothing can have told the pool; now somebody does.
        world.must("settles", ++found <= server.resources.length, () => "what does not answer is lent for ever");
        lease.discard();
      } else leases.push(lease);
    }
    const different = new Set(leases.map(({ resource }) => resource)).size;
    world.must("one-holder", different === leases.length, () => `${leases.length} leases on ${different} resources`);
    for (const lease of leases) lease.release();
    await runtime.advance(30);
    const { idle, ready, used, inFlight, waiting, size, draining } = pool.stats();
    const rests = used === 0 && inFlight === 0 && waiting === 0 && idle === ready;
    const all = { idle, ready, used, inFlight, waiting, size, draining };
    world.must("at-rest", rests || draining > 0 || used > 0, () => `nobody asks anything, and ${JSON.stringify(all)}`);
  }

  async stop(): Promise<void> {
    const { world, pool, server } = this;
    const way = world.setUp.below(4);
    if (way === 0) pool.process.kill();
    else if (way === 1) await world.until("close", pool.close({ timeoutMs: world.setUp.one(0, 100, 10_000) }));
    await world.until("destroy", pool.destroy());
    await world.runtime.settle();
    const timers = world.timers(server.timers + server.closingLate);
    world.must("lets-go", timers === 0, () => `the pool is destroyed, and has ${timers} timers`);
    await world.runtime.advance(200_000); // What was being opened comes now, or never.
    const { totals: _, name: __, kind: ___, ...gauges } = pool.stats();
    const left = Object.entries(gauges).filter(([, gauge]) => gauge !== 0);
    world.must("at-rest", left.length === 0, () => `the pool is destroyed, and has ${left.join(" ")}`);
    world.must("at-rest", !pool.process.alive, () => "the pool is destroyed, and its process lives");
    const open = server.resources.find(({ closings }) => closings.length !== 1);
    world.must(
      "closed-once",
      open === undefined,
      () => `resource ${open?.id} was closed ${open?.closings.length} times`,
    );
    world.must("one-holder", server.violations.length === 0, () => server.violations.join("; "));
    const { connections, waiters, leases } = pool.snapshot();
    const seen = connections.length + waiters.length + leases.length;
    world.must("at-rest", seen === 0, () => `the pool is destroyed, and its snapshot shows ${seen}`);
  }

  /** Whoever has been served since the last look came before all who waited then and still do. */
  #looksAtLine(): void {
    const { callers } = this;
    const waiting = callers.slice(0, this.#looked).filter((caller) => caller.waits);
    for (const [place, caller] of callers.entries()) {
      if (caller.seen || !caller.served) continue;
      caller.seen = true;
      const overtaken = waiting.find((other) => {
        if (other.priority !== caller.priority) return other.priority > caller.priority;
        return callers.indexOf(other) < place;
      });
      this.world.must("nobody-overtakes", overtaken === undefined, () => {
        return `${caller.call?.what} was served before ${overtaken?.call?.what}`;
      });
    }
    this.#looked = callers.length;
  }

  #holdsNow(): void {
    const { world, server, pool } = this;
    const { stats, leases, waiters, connections } = pool.snapshot();
    const resources = this.registered;
    const unfit = resources.find(({ fit }) => !fit);
    world.must(
      "registered-iff-able",
      unfit === undefined,
      () => `resource ${unfit?.id} is registered, and cannot serve`,
    );
    const { length } = resources;
    world.must(
      "registered-iff-able",
      length === stats.ready,
      () => `${length} are registered, and ${stats.ready} ready`,
    );
    const states = stats.ready + stats.opening + stats.waitingToReopen + stats.draining + stats.fatal;
    const inOne = states === stats.size && connections.length === stats.size && stats.idle + stats.used === stats.ready;
    world.must("in-flight-is-real", inOne, () => `its connections do not add up: ${JSON.stringify(stats)}`);
    world.must(
      "one-holder",
      server.load <= stats.size,
      () => `${server.load} resources, and it knows of ${stats.size}`,
    );
    const inForce = this.callers.filter(({ holds }) => holds).length;
    const told = stats.inFlight === inForce && leases.length === inForce;
    world.must(
      "in-flight-is-real",
      told,
      () => `${inForce} have a lease, ${stats.inFlight} in its stats, ${leases.length} shown`,
    );
    const waiting = this.callers.filter(({ waits }) => waits).length;
    const inLine = stats.waiting === waiting && waiters.length === waiting;
    world.must("in-flight-is-real", inLine, () => `${waiting} wait, and in its stats ${stats.waiting}`);
    // One resource is checked for each who waits; the others are idle meanwhile.
    const lookedAt = connections.filter((each) => each.state === "ready" && each.inFlight === 0).length - stats.idle;
    const served = stats.waiting <= lookedAt || stats.idle === 0;
    world.must("nobody-overtakes", served, () => `${stats.waiting} wait, and ${stats.idle} are idle`);
  }

  #listen(): void {
    const { world } = this;
    for (const event of ["lease.discarded", "lease.misused", "lease.expired"] as const) {
      world.hear(event, () => {
        this.#heard[event]++;
      });
    }
    world.hear("lease.leaked", ({ connection, heldMs }) => {
      const { leakReportMs = Infinity } = this.#options;
      // Somebody may still have a resource that wants to go, while another has its successor in the slot.
      const [caller] = this.callers
        .filter(({ holds, leaks, resource }) => holds && leaks === 0 && connection === `connection ${resource?.slot}`)
        .sort((a, b) => a.since - b.since);
      const fine = caller !== undefined && ++caller.leaks === 1 && heldMs >= leakReportMs;
      world.must("as-the-model", fine, () => `${connection} is said to be held for ${heldMs} ms, by whomever`);
    });
    world.hear("callback.failed", ({ where }) => this.#told.set(where, (this.#told.get(where) ?? 0) + 1));
  }

  #got(holder: Holder, lease: Lease<Resource>): void {
    holder.got(lease);
    this.#watch(holder);
  }

  /** How long it may have its lease, and when others are told of it. The pool's timers are before ours. */
  #watch(caller: Caller): void {
    const { world } = this;
    caller.since = world.runtime.now();
    const { leaseTimeoutMs = Infinity, leakReportMs = Infinity } = this.#options;
    const later = (ms: number, holds: () => boolean, what: string): void => {
      if (ms === Infinity) return;
      void world.pause(ms + 2).then(() => {
        const fine = !caller.holds || this.#shaken || holds();
        if (!fine) world.must("as-the-model", false, () => `${caller.call?.what} holds a lease ${what}`);
      });
    };
    later(leaseTimeoutMs, () => false, "whose time is over");
    later(leakReportMs, () => caller.leaks === 1, "for long, and nobody hears of it");
  }

  /** It has its answer: its signal is let go. */
  #isDone(caller: Caller): void {
    const { listeners, call } = caller;
    this.world.must("lets-go", listeners === 0, () => {
      return `${call?.what} has its answer, and ${listeners} listen to its signal`;
    });
  }

  /** Whoever should know something knows it: those who hold and work, and those who listen to events. */
  #tellsAll(): void {
    const { world } = this;
    for (const caller of this.callers) {
      const { misled } = caller;
      world.must("as-the-model", misled === undefined, () => `${caller.call?.what} ${misled}`);
      if (caller instanceof Holder && caller.expired) this.#expired.add(caller);
    }
    for (const { stoppedForNothing, call } of this.#wentWell) {
      world.must("as-the-model", !stoppedForNothing, () => `${call?.what} went well, and was told to stop`);
    }
    this.#wentWell = [];
    const [known, heard] = [this.#expired.size, this.#heard["lease.expired"]];
    world.must("nothing-swallowed", known <= heard, () => `${known} leases have expired, and ${heard} are heard of`);
    // A check or a reset of what is gone is nobody's matter any more.
    const sure = this.#broken.filter(({ resource: { lost, leaving, closings } }) => {
      return !lost && !leaving && closings.every((reason) => reason === "normal");
    });
    for (const { callback } of this.#shaken ? [] : sure) {
      const failed = sure.filter((each) => each.callback === callback).length;
      const told = this.#told.get(`counter: ${callback}`) ?? 0;
      world.must(
        "nothing-swallowed",
        told >= failed,
        () => `${failed} times ${callback} failed, and was heard ${told}`,
      );
    }
    this.#broken = [];
    this.#told.clear();
    this.#shaken = !this.pool.process.alive;
  }

  #tidy(): void {
    if (this.callers.length < 24) return;
    for (const caller of this.callers)
      if (caller instanceof Holder && caller.served && !caller.pending && !caller.holds) this.forget(caller);
    this.callers = this.callers.filter((caller) => caller.pending || caller.holds);
    this.#looked = this.callers.length;
  }

  #opening(): Gate<Opening> {
    const { present } = this.server;
    const again = this.#begun && present !== undefined && this.registered.includes(present);
    return again && this.world.strikes("open gives what is there") ? "same" : openingOf(this.world, 80);
  }

  /** A check finds out what does not answer, or it does not. */
  #checked(resource: Resource): Gate<Manner> {
    if (!resource.halfOpen) return this.#hook("check", resource);
    return this.world.strikes("check says yes to what does not answer") ? "ok" : "never";
  }

  /** Whether a resource needs no reset; or what is no answer to that. */
  #fits(resource: Resource): unknown {
    switch (this.world.strike("fit throws", "fit is async")) {
      case "fit throws":
        this.#broken.push({ callback: "fit", resource });
        throw new Error("fit throws");
      case "fit is async":
        return Promise.resolve(true);
      case undefined:
        return !resource.dirty;
    }
  }

  #hook(hook: "check" | "reset" | "close", resource: Resource): Gate<Manner> {
    const { world } = this;
    const { chance } = world;
    const fault = world.strike(...Object.keys(hookFaults[hook]));
    if (fault === undefined) return "ok";
    const no = fault === "check says no";
    if (hook !== "close" && (no || fault.endsWith("fails") || fault.endsWith("throws"))) {
      this.#broken.push({ callback: hook, resource });
    }
    if (fault.endsWith("fails")) return "rejects";
    if (fault.endsWith("throws")) return "throws";
    if (fault.endsWith("hangs")) return "never";
    if (fault.endsWith("says no")) return "no";
    if (fault.endsWith("slow")) return { ms: chance.between(1, 45) };
    return { ms: chance.between(61, 200), deaf: true };
  }

  #as(caller: Caller, act: () => void): void {
    if (this.#watchesContext) whose.run(caller, act);
    else act();
  }

  #inContextOf(caller: Caller): void {
    if (!this.#watchesContext) return;
    this.world.must(
      "own-context",
      whose.getStore() === caller,
      () => `${caller.call?.what} goes on in another's context`,
    );
  }
}

function child(tree: ProcessTree, id: string): ProcessTree | undefined {
  return tree.children.find((each) => each.id === id);
}

const asking = (draw: Draw): Asking => ({
  timeoutMs: draw.one(0, 30, 100, 2_000, 5_000),
  priority: draw.one(0, 0, 0, 1, -1),
  abortable: draw.chance(0.6),
  eager: draw.chance(0.5),
  messy: draw.chance(0.7),
});
const place = (draw: Draw): { which: number } => ({ which: draw.below(64) });

export const checkout: Scenario<Counter> = {
  name: "checkout",
  about: "a checkout pool, its server and its callers, beside the line and who has what",
  seeds: 320,
  steps: 300,
  faults: {
    ...openFaults,
    "open gives what is there": 0.02,
    ...hookFaults.check,
    ...hookFaults.reset,
    ...hookFaults.close,
    "check says yes to what does not answer": 1,
    "fit throws": 0.3,
    "fit is async": 0.3,
  },
  commands: {
    acquire: command<Counter, Asking>({ weight: 16, draw: asking, run: (play, args) => play.acquire(args) }),
    use: command<Counter, Asking & { begins: Beginning }>({
      weight: 10,
      draw: (draw) => ({ ...asking(draw), begins: draw.one("waits", "waits", "waits", ...beginnings) }),
      run: (play, args) => void play.use(args, args.begins),
    }),
    "one asks whose signal is aborted already": command<Counter, Asking & { uses: boolean }>({
      weight: 1,
      fault: true,
      draw: (draw) => ({ ...asking(draw), abortable: true, uses: draw.chance(0.5) }),
      run: (play, { uses, ...args }) => play.askGone(args, uses),
    }),
    tryAcquire: command<Counter>({ weight: 4, run: (play) => play.tryAcquire() }),
    release: command<Counter, { which: number }>({
      weight: 20,
      draw: place,
      run: (play, { which }) => play.giveBackOne(which, "release"),
    }),
    dispose: command<Counter, { which: number }>({
      weight: 2,
      draw: place,
      run: (play, { which }) => play.giveBackOne(which, "dispose"),
    }),
    discard: command<Counter, { which: number }>({
      weight: 3,
      draw: place,
      run: (play, { which }) => play.giveBackOne(which, "discard"),
    }),
    "a lease is released twice": command<Counter, { which: number }>({
      weight: 3,
      fault: true,
      draw: place,
      run: (play, { which }) => {
        const holder = at(which % 2 === 0 ? play.holders : play.over, which);
        if (holder === undefined) return false;
        play.giveBack(holder, "release");
        play.giveBack(holder, which % 3 === 0 ? "discard" : "release");
        return true;
      },
    }),
    "a work ends": command<Counter, { which: number }>({
      weight: 9,
      draw: place,
      run: (play, { which }) => at(play.workers, which)?.end(),
    }),
    "a work fails": command<Counter, { which: number; lost: boolean }>({
      weight: 3,
      fault: true,
      draw: (draw) => ({ ...place(draw), lost: draw.chance(0.3) }),
      run: (play, { which, lost }) => {
        const worker = at(play.workers, which);
        worker?.fail(lost ? new ConnectionLostError("it says so", { sent: "maybe" }) : new Error("failed"));
        return worker !== undefined;
      },
    }),
    "a caller aborts": command<Counter, { which: number }>({
      weight: 6,
      fault: true,
      draw: place,
      run: (play, { which }) => {
        const caller = at(
          play.callers.filter(({ abort }) => abort?.signal.aborted === false),
          which,
        );
        caller?.abort?.abort(new Error("gone"));
        return caller !== undefined;
      },
    }),
    "the next in line gives up in the tick of its grant": command<Counter, { which: number; hops: boolean }>({
      weight: 8,
      fault: true,
      draw: (draw) => ({ ...place(draw), hops: draw.chance(0.5) }),
      run: (play, { which, hops }) => {
        const [next] = play.callers.filter(({ waits }) => waits).sort((a, b) => b.priority - a.priority);
        const holder = at(play.holders, which);
        if (next?.abort === undefined || holder === undefined) return false;
        play.giveBack(holder, "release");
        if (hops) queueMicrotask(() => next.abort?.abort(new Error("gone")));
        else next.abort?.abort(new Error("gone"));
        return true;
      },
    }),
    "a resource dies": command<Counter, { which: number }>({
      weight: 4,
      fault: true,
      draw: place,
      run: (play, { which }) => {
        const resource = at(
          play.server.resources.slice(-12).filter(({ fit }) => fit),
          which,
        );
        resource?.lose(new Error("reset by peer"));
        return resource !== undefined;
      },
    }),
    "a resource does not answer any more": command<Counter, { which: number }>({
      weight: 4,
      fault: true,
      draw: place,
      run: (play, { which }) => {
        // One that nobody has: a check may find out, or not.
        const { registered } = play;
        const idle = registered.filter(({ holders }) => holders === 0);
        const resource = at(idle.length > 0 ? idle : registered, which);
        if (resource !== undefined) resource.halfOpen = true;
        return resource !== undefined;
      },
    }),
    "a resource wants to go": command<Counter, { which: number }>({
      weight: 1.5,
      fault: true,
      draw: place,
      run: (play, { which }) => {
        const resource = at(play.registered, which);
        resource?.goAway();
        return resource !== undefined;
      },
    }),
    resize: command<Counter, { size: number }>({
      weight: 2,
      draw: (draw) => ({ size: draw.below(7) }),
      run: (play, { size }) => play.resize(size),
    }),
    recycle: command<Counter, { overMs: number }>({
      weight: 2,
      draw: (draw) => ({ overMs: draw.one(0, 100) }),
      run: (play, { overMs }) => play.control("recycle", () => play.pool.recycle({ overMs })),
    }),
    ready: command<Counter, { min: number }>({
      weight: 1,
      draw: (draw) => ({ min: draw.between(1, 3) }),
      run: (play, { min }) => play.control("ready", () => play.pool.ready({ min, timeoutMs: 200 })),
    }),
    "a process is killed": command<Counter, { level: number; which: number; ask: boolean }>({
      weight: 1.6,
      fault: true,
      draw: (draw) => ({ level: draw.one(0, 1, 2, 3, 4, 5, 6, 7, 8), which: draw.below(64), ask: draw.chance(0.3) }),
      run: (play, { level, which, ask }) => play.kill(level, which, ask),
    }),
    "the pool is killed": command<Counter>({ weight: 0.12, fault: true, run: (play) => play.kill(9, 0, false) }),
    close: command<Counter, { timeoutMs: number }>({
      weight: 0.15,
      draw: (draw) => ({ timeoutMs: draw.one(0, 100, 1_000) }),
      run: (play, { timeoutMs }) => play.end("close", timeoutMs),
    }),
    destroy: command<Counter>({ weight: 0.06, run: (play) => play.end("destroy", 0) }),
  },
  start: async (world) => {
    const play = new Counter(world);
    await play.begin();
    return play;
  },
};
