/**
 * A routing pool in a world, and what its owner knows of it without asking: who asked for what, what runs where, which
 * endpoints there are.
 *
 * The model counts three things: the runs of works on each resource, the requests that have no run and no answer, and
 * the places there should be. Everything the pool says of itself must follow from these.
 */

import { AsyncLocalStorage } from "node:async_hooks";
import {
  ConnectionLostError,
  type Endpoint,
  type Member,
  type PoolTotals,
  type Process,
  type ProcessTree,
  type Route,
  RoutingPool,
  type RoutingPoolOptions,
} from "../../../src/index.ts";
import type { PoolMember } from "../../../src/routing/index.ts";
import { type Closing, type Resource, Server } from "../../routing/server.ts";
import { registeredIn } from "../harness/registries.ts";
import { at, type Play } from "../harness/scenario.ts";
import type { World } from "../harness/world.ts";
import { type Asking, type Desk, Request, Run } from "./routing-callers.ts";
import { Source } from "./routing-endpoints.ts";
import { checkOf, closingOf, failureOf, openingOf } from "./routing-faults.ts";
import { Eye } from "./routing-strategy.ts";

/** Whose context this is. Only some runs look: a storage that was run makes every promise dear. */
const whose = new AsyncLocalStorage<Request>();

const outcomes =
  /^(ok|gone|out of time|thrown|not found|failed|ERR_CONNECTION_LOST|ERR_POOL_(ACQUIRE_TIMEOUT|BUSY|NO_MEMBER|QUEUE_FULL|OPEN_FAILED|CLOSED|SHED))$/;

export const everywhere: readonly Endpoint[] = [{ id: "a" }, { id: "b", weight: 3 }, { id: "c" }];

export class Exchange implements Play, Desk {
  readonly world: World;
  readonly running: Run[] = [];
  readonly eye: Eye;
  pool!: RoutingPool<Resource>;
  readonly source: Source | undefined;
  /** In the order in which they asked; those that are done are forgotten. */
  requests: Request[] = [];
  readonly routes: { readonly route: Route<Resource>; readonly run: Run }[] = [];
  /** Resources that are there: opened, and not closed. */
  readonly open = new Set<Resource>();
  /** Those that say nothing any more, and look well. */
  readonly silent = new Set<Resource>();
  readonly #server: Server;
  readonly #watchesContext: boolean;
  /** Runs begun; and how many the pool has granted. What is granted and not begun has been given back. */
  begun = 0;
  #granted = 0;
  readonly #unsettled = new Set<string>();
  /** Those that had a good answer since all was settled last. */
  #answered: Request[] = [];
  /** Of each callback: how often it has failed and was not heard to. */
  readonly #unheard = new Map<string, number>();
  readonly #probes = new Map<string, number>();
  /** When retries and copies were made that the budget had to bear. */
  readonly #withdrawn: number[] = [];
  readonly #asked: number[] = [];
  #options!: RoutingPoolOptions<Resource>;
  #size = 0;
  #endpoints: readonly Endpoint[];
  /** The most places there have been. */
  #mostPlaces = 0;
  #toAll = false;
  #closing = false;
  #succeeded = 0;
  #totals: PoolTotals | undefined;

  constructor(world: World) {
    this.world = world;
    this.eye = new Eye(world, {
      unfit: (member) => this.#unfit(member),
      given: (member) => this.#given(member),
      failed: (callback) => this.#fails(callback, 1),
    });
    this.#server = new Server(world.runtime);
    this.#watchesContext = world.setUp.chance(0.05);
    this.source = world.setUp.chance(0.4) ? new Source() : undefined;
    this.#endpoints = everywhere.slice(world.setUp.below(3));
  }

  async begin(): Promise<void> {
    const { world, source } = this;
    if (this.#watchesContext) world.atEnd(() => whose.disable());
    this.#wire();
    this.#options = this.#drawOptions();
    this.#size = this.#options.size as number;
    source?.say("some", this.#endpoints, 0);
    this.#countPlaces();
    this.pool = await RoutingPool.start(this.#options);
  }

  /** @param already The signal is aborted before it asks. */
  use(asking: Asking, already?: "gone"): Request {
    const { world } = this;
    const request = new Request(asking);
    if (already !== undefined) request.giveUp(already);
    this.requests.push(request);
    this.#asked.push(world.runtime.now());
    const { attempts = 3 } = this.#options.retry ?? {};
    const hedged = this.#options.hedge !== undefined;
    const ask = (): void => {
      const asked = this.pool.use((resource, context) => {
        this.#inContextOf(request);
        world.must("registered-iff-able", resource.fit, () => "a work is begun on a resource that cannot serve");
        return request.begin(this, resource, context, hedged ? Math.max(attempts, 2) : attempts, hedged);
      }, request.options);
      request.call = world.follow("use", asked, ({ outcome }) => {
        this.#inContextOf(request);
        if (outcome === "ok") this.#succeeded++;
        world.must("as-the-model", outcomes.test(outcome), () => `a use gave ${outcome}`);
        this.#isDone(request);
      });
    };
    const inLine = this.pool.traffic.line.size;
    if (this.#watchesContext) whose.run(request, ask);
    else ask();
    const overtakes = request.runs.length > 0 && inLine > 0;
    world.must("nobody-overtakes", !overtakes, () => `${request.call?.what} is served at once, and ${inLine} wait`);
    return request;
  }

  nested(): Promise<unknown> {
    const inner = this.use({
      ...{ timeoutMs: 50, idempotent: false, key: 0, abortable: false, begins: "returns", ms: 0 },
    } as Asking);
    return new Promise((resolve, reject) => {
      const look = (): void => {
        if (inner.pending) this.world.runtime.setTimer(look, 1);
        else if (inner.call?.outcome === "ok") resolve(undefined);
        else reject(inner.call?.error as Error);
      };
      look();
    });
  }

  pick(key: number): void {
    this.#asked.push(this.world.runtime.now());
    try {
      const route = this.pool.pick(key === 0 ? undefined : { key });
      const { resource } = route;
      this.world.must("registered-iff-able", resource.fit, () => "a resource is picked that cannot serve");
      this.routes.push({ route, run: new Run(this, resource) });
    } catch (error) {
      const { code } = error as { code?: unknown };
      const fine = /^ERR_POOL_(BUSY|NO_MEMBER|OPEN_FAILED|CLOSED)$/.test(String(code));
      this.world.must("as-the-model", fine, () => `a pick gave ${String(error)}`);
    }
  }

  /** Settles a route; the second time nothing happens. */
  settle(which: number, failed: boolean, twice: boolean): boolean {
    const found = at(this.routes, which);
    if (found === undefined) return false;
    this.routes.splice(this.routes.indexOf(found), 1);
    const { route, run } = found;
    run.finish();
    if (!failed) this.#succeeded++;
    if (failed) route.settle({ error: new Error("failed") });
    else route[Symbol.dispose]();
    if (twice) route.settle();
    return true;
  }

  broadcast(): void {
    const { world } = this;
    this.#toAll = true;
    const told = this.pool.broadcast((resource) => {
      const run = new Run(this, resource);
      return run.begin(world.strikes("one of a broadcast fails") ? "throws" : "waits", 0);
    });
    this.#toAll = false;
    this.#follow("broadcast", told, (results) => {
      this.#succeeded += results.filter(({ status }) => status === "fulfilled").length;
    });
  }

  /** Works that a command may end: their resource speaks. */
  get endable(): Run[] {
    return this.running.filter((run) => run.endable && !this.silent.has(run.resource));
  }

  get registered(): readonly Resource[] {
    return this.#members.map(({ resource }) => resource);
  }

  resize(size: number): void {
    if (!this.#over && size >= 0) this.#size = size;
    this.#countPlaces();
    this.#follow("resize", this.pool.resize(size));
  }

  control(what: string, promise: Promise<unknown>): void {
    this.#follow(what, promise);
  }

  end(how: "close" | "destroy", timeoutMs: number): void {
    this.#closing = true;
    this.#follow<unknown>(how, how === "close" ? this.pool.close({ timeoutMs }) : this.pool.destroy());
  }

  say(...[saying, some, which]: Parameters<Source["say"]>): boolean {
    if (this.source === undefined || this.source.over) return false;
    this.source.say(saying, some, which);
    this.#countPlaces();
    return true;
  }

  /** A process at any level of the tree. */
  kill(level: "connection" | "registry" | "connections" | "pool", which: number, ask: boolean): boolean {
    const tree = this.pool.tree();
    const connections = child(tree, "connections");
    const found =
      level === "connection" ? at(connections?.children ?? [], which) : level === "pool" ? tree : child(tree, level);
    const process: Process | undefined = found?.process;
    if (process === undefined || !process.alive) return false;
    if (ask) this.world.follow("stop", process.stop());
    else process.kill();
    return true;
  }

  /** Everything the pool shows tells the same. */
  look(): void {
    const { pool, world } = this;
    const { stats, connections, waiters } = pool.snapshot();
    const members = pool.members();
    const sum = members.reduce((all, { inFlight }) => all + inFlight, 0);
    const same =
      members.length === stats.size &&
      sum === stats.inFlight &&
      waiters.length === stats.waiting &&
      members.filter(({ ejected }) => ejected).length === stats.ejected &&
      connections.every(({ slot, state, inFlight }, place) => {
        const member = members[place];
        return member?.slot === slot && member.state === state && member.inFlight === inFlight;
      });
    world.must("as-the-model", same, () => `its snapshot, members and stats differ: ${JSON.stringify(stats)}`);
  }

  check(settled: boolean): void {
    const { pool, world } = this;
    const stats = pool.stats();
    const before = this.#totals;
    this.#totals = stats.totals;
    if (before !== undefined) {
      for (const total of Object.keys(before) as (keyof PoolTotals)[]) {
        world.must("as-the-model", stats.totals[total] >= before[total], () => `the total ${total} has shrunk`);
      }
    }
    this.#holdsBudget();
    if (!settled) {
      const negative = stats.inFlight < 0 || stats.waiting < 0 || stats.idle < 0;
      world.must("in-flight-is-real", !negative, () => `a gauge is negative: ${JSON.stringify(stats)}`);
      return;
    }
    const waiting = this.requests.filter(({ waits }) => waits);
    world.must("in-flight-is-real", stats.waiting === waiting.length, () => {
      return `${waiting.length} wait (${waiting.map(({ call }) => call?.what).join()}), and in its stats ${stats.waiting}`;
    });
    this.#nobodyWasOvertaken(waiting);
    this.#countsRuns(stats.inFlight);
    this.#holdsTogether(stats);
    this.#tellsAll();
    this.#tidy();
  }

  async converge(): Promise<void> {
    const { world, pool, source } = this;
    const { runtime } = world;
    if (!this.#over && this.#size === 0) this.resize(2);
    if (source?.believed.length === 0) this.say("some", everywhere, 0);
    const watched = Number.isFinite(this.#options.stallMs);
    for (let round = 0; round < 14; round++) {
      // Those that say nothing must be found out, if somebody looks. Else their works end here.
      const spared = watched && round < 10 ? this.silent : new Set<Resource>();
      const silent = [...this.silent].filter(({ running, lost }) => running > 0 && !lost).length;
      world.must(
        "settles",
        round !== 10 || !watched || silent === 0,
        () => `${silent} say nothing, and nobody sees it`,
      );
      this.#letAllEnd(spared);
      for (const resource of this.open) if (resource.fit) resource.setCapacity(3);
      await runtime.advance(round < 10 ? 500 : 20_000);
      this.check(true);
    }
    const waits = this.requests.filter(({ pending }) => pending).length;
    world.must("settles", waits === 0, () => `${waits} callers wait still`);
    if (this.#over) return;
    if (pool.stats().fatal > 0) await world.until("recycle", pool.recycle());
    const places = this.#places;
    if (places > 0) await world.until("ready", pool.ready({ min: places, timeoutMs: 600_000 }));
    await runtime.advance(60_000); // Those that are being replaced have gone.
    // Whoever was ejected is trusted again, after a probe each.
    for (let round = 0; round < 3 * places; round++) {
      await world.until(
        "use",
        pool.use(() => undefined),
      );
      this.#succeeded++;
    }
    world.must("settles", this.#unsettled.size === 0, () => `${[...this.#unsettled].join()} have not settled`);
    const { size, ready, idle, used, inFlight, waiting, ejected } = pool.stats();
    const rests = size === places && ready === places && idle === places && used + inFlight + waiting + ejected === 0;
    world.must("at-rest", rests, () => {
      return `${places} places, and nothing to do: ${JSON.stringify({ size, ready, idle, used, inFlight, waiting, ejected })}`;
    });
  }

  async stop(): Promise<void> {
    const { world, pool } = this;
    const way = world.setUp.below(4);
    if (way === 0) {
      world.harm("the pool is killed");
      pool.process.kill();
    } else if (way === 1) await world.until("close", pool.close({ timeoutMs: world.setUp.one(0, 100, 10_000) }));
    await world.until("destroy", pool.destroy());
    this.#letAllEnd();
    await world.runtime.advance(200_000); // What was being opened comes now, or never.
    const { totals, name: _, kind: __, ...gauges } = pool.stats();
    const left = Object.entries(gauges).filter(([, gauge]) => gauge !== 0);
    world.must("at-rest", left.length === 0, () => `the pool is destroyed, and has ${left.join(" ")}`);
    world.must("at-rest", !pool.process.alive, () => "the pool is destroyed, and its process lives");
    world.must("closed-once", this.open.size === 0, () => `${this.open.size} resources were never closed`);
    const { unpaired } = this.eye;
    world.must("in-flight-is-real", unpaired === "", () => `its strategy was never told the end of ${unpaired}`);
    world.must("as-the-model", totals.succeeded === this.#succeeded, () => {
      return `${this.#succeeded} have succeeded, and in its totals ${totals.succeeded}`;
    });
    const { connections, waiters } = pool.snapshot();
    const seen = connections.length + waiters.length + pool.members().length;
    world.must("at-rest", seen === 0, () => `the pool is destroyed, and shows ${seen}`);
  }

  get #over(): boolean {
    return this.#closing || !this.pool.process.alive;
  }

  get #members(): readonly PoolMember<Resource>[] {
    const registry = child(this.pool.tree(), "registry")?.process;
    return registry === undefined ? [] : registeredIn<PoolMember<Resource>>(registry, "ready");
  }

  get #places(): number {
    return this.#size * (this.source?.believed ?? this.#endpoints).length;
  }

  #countPlaces(): void {
    this.#mostPlaces = Math.max(this.#mostPlaces, this.#places, this.#size * this.#endpoints.length);
  }

  #letAllEnd(spared: ReadonlySet<Resource> = new Set()): void {
    for (const run of [...this.running]) if (!spared.has(run.resource)) run.end();
    while (this.routes.length > 0) this.settle(0, false, false);
  }

  /** Whoever waits and was never served had asked after everybody who was. */
  #nobodyWasOvertaken(waiting: readonly Request[]): void {
    if (this.begun !== this.#granted) {
      // Somebody was served, and the member went away before it had begun: any of those who wait now.
      for (const request of waiting) request.cameBack = true;
      this.begun = this.#granted;
    }
    const first = waiting.find(({ runs, cameBack }) => runs.length === 0 && !cameBack);
    if (first === undefined) return;
    const overtook = this.requests.slice(this.requests.indexOf(first)).find(({ runs }) => runs.length > 0);
    this.world.must("nobody-overtakes", overtook === undefined, () => {
      return `${overtook?.call?.what} was served before ${first.call?.what}`;
    });
  }

  /** What is in flight is what runs, in all and on each member. */
  #countsRuns(inFlight: number): void {
    const { world, eye } = this;
    let sum = 0;
    for (const resource of this.open) {
      if (resource.lost) continue;
      sum += resource.running;
      const member = eye.there.get(resource);
      if (member === undefined) continue;
      world.must("in-flight-is-real", member.inFlight === resource.running, () => {
        return `${resource.running} run on resource ${resource.id}, and its member counts ${member.inFlight}`;
      });
    }
    world.must("in-flight-is-real", inFlight === sum, () => `${sum} run, and in its stats ${inFlight}`);
  }

  #holdsTogether(stats: ReturnType<RoutingPool<Resource>["stats"]>): void {
    const { world, pool } = this;
    const registered = this.#members;
    const unfit = registered.find(({ resource }) => !resource.fit);
    const { length } = registered;
    world.must("registered-iff-able", unfit === undefined, () => `slot ${unfit?.slot} is registered, and cannot serve`);
    world.must("registered-iff-able", length === stats.ready, () => `${length} registered, ${stats.ready} ready`);
    const there = this.eye.there.size;
    world.must("registered-iff-able", there === length, () => `${length} registered, the strategy knows ${there}`);
    const states = stats.ready + stats.opening + stats.waitingToReopen + stats.draining + stats.fatal;
    const used = registered.filter((member) => member.inFlight > 0).length;
    const adds = states === stats.size && stats.idle + stats.used === stats.ready && stats.used === used;
    world.must("in-flight-is-real", adds, () => `its connections do not add up: ${JSON.stringify(stats)}`);
    if (!this.#over && this.source === undefined) {
      const enough = stats.size >= this.#places;
      world.must("in-flight-is-real", enough, () => `${stats.size} places, where there should be ${this.#places}`);
    }
    const cap = Math.max(1, Math.floor(this.#maxEjected * this.#mostPlaces));
    world.must("as-the-model", stats.ejected <= cap, () => `${stats.ejected} are ejected, and at most ${cap} may be`);
    if (stats.waiting === 0) return;
    const { roster } = pool.traffic;
    const room = registered.find((member) => {
      return member.inFlight < member.capacity && (roster.panics || !roster.isEjected(member));
    });
    world.must("nobody-overtakes", room === undefined, () => {
      return `${stats.waiting} wait, and slot ${room?.slot} has room`;
    });
  }

  /** Whoever should know something knows it: works, and those who listen. */
  #tellsAll(): void {
    const { world } = this;
    for (const run of this.running) {
      const { misled } = run;
      world.must("as-the-model", misled === undefined, () => `a work of ${run.of?.call?.what} ${misled}`);
    }
    for (const { runs, call } of this.#answered) {
      const fine = runs.some(({ mayHaveAnswered }) => mayHaveAnswered);
      world.must("as-the-model", fine, () => `${call?.what} was answered by a work that was told to stop`);
    }
    this.#answered = [];
    for (const [callback, count] of this.#unheard) {
      world.must("nothing-swallowed", count === 0, () => `${callback} failed, and ${count} times that was not heard`);
    }
    if (this.#over) return;
    const { maxOrphans = 256 } = this.#options;
    const full = this.#members.find(({ resource, place }) => {
      if (place.vacated || resource.running < maxOrphans) return false;
      return this.running.filter((run) => run.resource === resource && run.orphaned).length >= maxOrphans;
    });
    world.must("as-the-model", full === undefined, () => {
      return `slot ${full?.slot} works for nobody ${maxOrphans} times, and is not replaced`;
    });
  }

  /** It has its answer: its signal is let go. */
  #isDone(request: Request): void {
    const { world } = this;
    const { listeners, call } = request;
    world.must("lets-go", listeners === 0, () => `${call?.what} has its answer, and ${listeners} listen to its signal`);
    if (call?.outcome === "ok") this.#answered.push(request);
  }

  /** One failure more, or one that was heard. A strategy that takes what it is shown may have failed by that. */
  #fails(callback: string, by: 1 | -1): void {
    this.#unheard.set(callback, Math.max(0, (this.#unheard.get(callback) ?? 0) + by));
  }

  get #maxEjected(): number {
    const { breaker } = this.#options;
    return breaker === false ? 0 : (breaker?.maxEjected ?? 0.1);
  }

  /** Retries of what may have been sent, and copies, are a fraction of the traffic, or few. */
  #holdsBudget(): void {
    const withdrawn = this.#withdrawn;
    if (withdrawn.length === 0) return;
    const now = this.world.runtime.now();
    const { budget = 0.1 } = this.#options.retry ?? {};
    const since = (times: readonly number[], ms: number): number => times.filter((time) => time > now - ms).length;
    const share = since(this.#asked, 11_000) * budget;
    const [nine, one] = [since(withdrawn, 9_000), since(withdrawn, 999)];
    const fine = budget > 0 && nine <= Math.max(share, 100) && one <= share + 20;
    this.world.must("as-the-model", fine, () => `${one} retries in a second, ${nine} in nine; its share is ${share}`);
    if (withdrawn.length > 300) withdrawn.splice(0, 150);
  }

  #tidy(): void {
    if (this.requests.length > 24) this.requests = this.requests.filter(({ pending }) => pending);
    if (this.#asked.length > 600) this.#asked.splice(0, 300);
  }

  /** Why a strategy must not be shown this member. */
  #unfit(member: Member<Resource>): string | undefined {
    const { roster } = this.pool.traffic;
    if (this.eye.there.get(member.resource) !== member) return "not registered";
    if (!member.resource.fit) return "not able to serve";
    if (member.inFlight >= member.capacity) return "full";
    if (!roster.panics && roster.isEjected(member as PoolMember<Resource>)) return "ejected";
    return undefined;
  }

  #given(member: Member<Resource>): void {
    const { world } = this;
    const { roster, phase } = this.pool.traffic;
    this.#granted++;
    const there = this.eye.there.get(member.resource) === member && phase !== "closed";
    world.must("registered-iff-able", there, () => "a request is given to a member that is not registered");
    if (this.#toAll) return;
    const full = member.inFlight > member.capacity && member.inFlight > 1;
    world.must("in-flight-is-real", !full, () => `${member.inFlight} on a member that takes ${member.capacity}`);
    if (roster.panics || !roster.isEjected(member as PoolMember<Resource>)) return;
    const name = `connection ${member.slot}`;
    const probes = this.#probes.get(name) ?? 0;
    world.must("registered-iff-able", probes > 0, () => "a request is given to a member that is ejected");
    this.#probes.set(name, probes - 1);
  }

  #follow<T>(what: string, promise: Promise<T>, then?: (value: T) => void): void {
    const call = this.world.follow(what, promise, ({ outcome, value }) => {
      this.#unsettled.delete(call.what);
      if (outcome === "ok") then?.(value as T);
    });
    this.#unsettled.add(call.what);
  }

  /** The server, and all that is heard of the pool. */
  #wire(): void {
    const { world } = this;
    const server = this.#server;
    server.script = () => openingOf(world);
    server.closing = (resource) => this.#closed(resource);
    server.capacity = world.setUp.one(1, 1, 2, 3, Infinity);
    server.isFailure = (error) => failureOf(world, error as Error, () => this.#fails("isFailure", 1));
    world.hear("callback.failed", ({ where }) => this.#fails(where.slice("exchange: ".length), -1));
    world.hear("member.replaced", ({ reason, inFlight }) => {
      const { maxOrphans = 256 } = this.#options;
      const fine = reason !== "orphans" || inFlight >= maxOrphans;
      world.must("as-the-model", fine, () => `a member is replaced for ${inFlight} requests, all orphans or not`);
    });
    world.hear("member.probed", ({ connection }) => {
      this.#probes.set(connection, (this.#probes.get(connection) ?? 0) + 1);
    });
    world.hear("pool.retried", ({ error }) => {
      const sent = error instanceof ConnectionLostError ? error.sent : undefined;
      if (sent === "maybe") this.#withdrawn.push(world.runtime.now());
      world.must("as-the-model", sent !== undefined, () => `a request is retried after ${String(error)}`);
    });
    world.hear("pool.hedged", () => this.#withdrawn.push(world.runtime.now()));
    for (const event of ["connection.opened", "connection.drained", "pool.queued", "member.ejected"] as const) {
      world.hear(event, () => {
        if (this.pool === undefined || !world.strikes("a listener kills a connection")) return;
        this.kill("connection", world.chance.below(64), false);
      });
    }
  }

  #drawOptions(): RoutingPoolOptions<Resource> {
    const { setUp: draw, runtime } = this.world;
    const server = this.#server;
    const open: typeof server.connector.open = async (context) => {
      this.#inNobodysContext();
      const resource = await server.connector.open(context);
      if (resource.closings.length === 0) this.open.add(resource);
      return resource;
    };
    const capacity: typeof server.connector.capacity = (resource) => {
      const broken = !(typeof resource.capacity === "number" && resource.capacity >= 0);
      if (broken) this.#fails("capacity", 1);
      return server.connector.capacity?.(resource) as number;
    };
    const connector = { ...server.connector, open, capacity, check: (resource: Resource) => this.#checked(resource) };
    const breaker = {
      ...{ consecutive: draw.between(1, 4), successRatio: draw.one(0.2, 0.8), windowMs: draw.one(200, 10_000) },
      ...{ minSamples: draw.between(2, 6), ejectMs: draw.one(50, 300), maxEjectMs: draw.one(300, 2_000) },
      ...{ maxEjected: draw.one(0.1, 0.5, 1), panicBelow: draw.one(0, 0.5, 1) },
    };
    const hedge = { percentile: draw.one(0.5, 0.95), minSamples: draw.between(1, 10), minMs: draw.one(0, 5) };
    return {
      connector,
      runtime,
      name: "exchange",
      size: draw.between(1, 3),
      endpoints: this.source ?? this.#endpoints,
      strategy: this.eye.strategy(),
      queue: { limit: draw.one(0, 3, 10, 100), shed: draw.chance(0.4) && { targetMs: 5, intervalMs: 40 } },
      retry: { attempts: draw.one(1, 2, 3, 10), budget: draw.one(0, 0.1, 1) },
      breaker: draw.chance(0.2) ? false : breaker,
      slowStartMs: draw.one(0, 0, 100, 2_000),
      ...(draw.chance(0.4) ? { hedge } : {}),
      stallMs: draw.one(80, 500, Infinity),
      checkTimeoutMs: 60,
      maxOrphans: draw.one(2, 5, 256),
      backoff: { minMs: draw.one(5, 20), maxMs: 100 },
      openTimeoutMs: 80,
      drainTimeoutMs: draw.one(0, 30, 400, 10_000),
      maxRestarts: draw.one(3, 1_000_000, 1_000_000),
    };
  }

  #closed(resource: Resource): Closing {
    const { world } = this;
    this.#inNobodysContext();
    world.must("closed-once", resource.closings.length === 1, () => `resource ${resource.id} is closed again`);
    this.open.delete(resource);
    this.silent.delete(resource);
    const lost = this.running.filter((run) => run.resource === resource);
    for (const run of lost) run.lost = true;
    if (lost.length > 0) {
      // The pool gives their works a tick; its own timer is set before this one.
      world.runtime.setTimer(() => {
        for (const run of lost) run.over = true;
      }, 0);
    }
    return closingOf(world);
  }

  #checked(resource: Resource): unknown {
    this.#inNobodysContext();
    return checkOf(this.world, this.silent.has(resource));
  }

  #inContextOf(request: Request): void {
    if (!this.#watchesContext) return;
    const right = whose.getStore() === request;
    this.world.must("own-context", right, () => `${request.call?.what} goes on in another's context`);
  }

  #inNobodysContext(): void {
    if (!this.#watchesContext) return;
    this.world.must("own-context", whose.getStore() === undefined, () => "a hook runs in a caller's context");
  }
}

function child(tree: ProcessTree, id: string): ProcessTree | undefined {
  return tree.children.find((each) => each.id === id);
}
