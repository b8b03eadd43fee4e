/**
 * Fanta clients, a pool of them, and servers, over a network in memory.
 *
 * Every request has words of its own, and its answer repeats them: so an answer that reaches the wrong caller is seen,
 * and so is a request that reaches a server twice, or after its caller was told that it was not sent. Where the network
 * has changed a byte, nobody knows what was said; what is promised there is that it ends, and with which errors.
 */

import { getEventListeners } from "node:events";
import { ConnectionLostError, FantaError, type PoolError, type Route } from "../../../src/index.ts";
import { type Codec, type FantaContext, FantaPool, FantaServer, FantaTCP, text } from "../../../src/fanta/index.ts";
import { giveNetwork } from "../../../src/multiplex/index.ts";
import { at, type Play } from "../harness/scenario.ts";
import type { Call, World } from "../harness/world.ts";
import { type Cable, MemoryNetwork } from "./fanta-network.ts";

/** What a handler does with a request: the first letter of its words. */
export const manners = {
  "waits until it is told": "w",
  "answers at once": "a",
  throws: "t",
  rejects: "r",
  "takes its time": "l",
  "settles twice": "s",
  "answers too much": "b",
  "obeys a cancel": "c",
} as const;
export type Manner = keyof typeof manners;

/** What one asks with. Plain: it is part of a command. */
export interface Asking {
  readonly manner: Manner;
  readonly length: number;
  readonly timeoutMs: number;
  readonly abortable: boolean;
  readonly idempotent: boolean;
}

const maxFrameBytes = 1_200;

const outcomes =
  /^(ok|gone|ERR_CONNECTION_LOST|ERR_FANTA_(RESPONSE|TIMEOUT|TOO_LARGE|CODEC|PROTOCOL)|ERR_POOL_(ACQUIRE_TIMEOUT|BUSY|NO_MEMBER|QUEUE_FULL|OPEN_FAILED|CLOSED))$/;

/** A request, from its words to its answer. */
class Ask {
  readonly words: string;
  readonly asking: Asking;
  /** Who was asked; `undefined`: the pool. */
  readonly client: Client | undefined;
  readonly abort: AbortController | undefined;
  call: Call<string> | undefined;
  /** Its pool was told to end before it came. */
  late = false;
  /** How often a handler has seen it. */
  seen = 0;

  constructor(nr: number, asking: Asking, client: Client | undefined) {
    this.words = `${manners[asking.manner]}${nr}${".".repeat(asking.length)}`;
    this.asking = asking;
    this.client = client;
    this.abort = asking.abortable ? new AbortController() : undefined;
  }

  get pending(): boolean {
    return this.call?.pending !== false;
  }
}

/** A connection of our own. */
class Client {
  readonly tcp: FantaTCP;
  readonly cable: Cable;
  readonly asks: Ask[] = [];
  /** Given up by their callers: the server may owe their answers still. */
  givenUp = 0;
  /** The most that it had in flight at once. */
  peak = 0;

  constructor(tcp: FantaTCP, cable: Cable) {
    this.tcp = tcp;
    this.cable = cable;
  }
}

/** A handler that has not ended. */
interface Handling {
  readonly key: string;
  readonly words: string;
  readonly end: (how: "answers" | "fails") => void;
}

/** A server, and whether it was told to end. */
interface Station {
  readonly server: FantaServer;
  ending: boolean;
}

const ports = [7_001, 7_002] as const;

export class Telegraph implements Play {
  readonly world: World;
  readonly network: MemoryNetwork;
  clients: Client[] = [];
  readonly handling: Handling[] = [];
  readonly stations = new Map<number, Station>();
  /** All there have been, of late. */
  readonly #servers: FantaServer[] = [];
  pool: FantaPool | undefined;
  readonly #asks = new Map<string, Ask>();
  readonly #ids = new Set<string>();
  readonly #maxInFlight: number;
  #asked = 0;
  #spoilt = 0;
  #connecting = 0;
  #poolEnds = false;

  constructor(world: World) {
    this.world = world;
    this.network = new MemoryNetwork(world);
    this.#maxInFlight = world.setUp.one(2, 8, 65_536);
    giveNetwork(world.runtime, this.network);
  }

  async begin(): Promise<void> {
    const { world } = this;
    const { setUp: draw, runtime } = world;
    world.hear("fanta.protocolFailed", ({ error }) => {
      const typed = error instanceof FantaError && error.code === "ERR_FANTA_PROTOCOL";
      world.must(
        "as-the-model",
        typed && (this.#spoils || this.#repeats),
        () => `nobody has changed a byte, and ${String(error)}`,
      );
    });
    for (const port of ports) await this.#listen(port);
    if (draw.chance(0.4)) return;
    this.pool = await FantaPool.start({
      ...{ endpoints: ports.map((port) => ({ id: `memory:${port}` })), size: draw.between(1, 2), runtime },
      ...{ codec: this.#codec("client"), requestTimeoutMs: 3_000, maxFrameBytes, openTimeoutMs: 120 },
      ...{ backoff: { minMs: 20, maxMs: 500 }, drainTimeoutMs: draw.one(0, 200), maxRestarts: 1_000_000 },
      ...{
        stallMs: draw.one(200, Infinity),
        maxOrphans: draw.one(2, 256),
        checkTimeoutMs: 100,
        breaker: false,
        slowStartMs: 0,
      },
      ...(draw.chance(0.3) ? { hedge: { minSamples: 3, percentile: 0.5 } } : {}),
      ...{ retry: { attempts: draw.one(1, 3), budget: draw.one(0, 1) }, queue: { limit: 10 }, name: "telegraph" },
    });
  }

  connect(which: number, timeoutMs: number, aborts: boolean): void {
    const { world } = this;
    if (this.clients.length + this.#connecting >= 4) return;
    const abort = new AbortController();
    const port = at(ports, which) as number;
    this.#connecting++;
    const options = { host: "memory", port, codec: this.#codec("client"), runtime: world.runtime, maxFrameBytes };
    const connecting = FantaTCP.connect({ ...options, connectTimeoutMs: timeoutMs, signal: abort.signal });
    const cable = this.network.cables.at(-1) as Cable;
    world.follow("connect", connecting, ({ outcome, value }) => {
      this.#connecting--;
      const fine = /^(ok|gone|ERR_FANTA_CONNECT)$/.test(outcome);
      world.must("as-the-model", fine, () => `a connect gave ${outcome}`);
      if (value !== undefined) this.clients.push(new Client(value, cable));
    });
    if (aborts) abort.abort(new Error("gone"));
  }

  ask(which: number, asking: Asking): Ask | undefined {
    const client = at(this.clients, which);
    if (client === undefined) return undefined;
    const ask = this.#newAsk(asking, client);
    const { timeoutMs } = asking;
    const { open } = client.tcp;
    this.#follow(ask, client.tcp.request(ask.words, { timeoutMs, ...signalOf(ask) }));
    client.asks.push(ask);
    client.peak = Math.max(client.peak, client.tcp.inFlight);
    if (!open) this.world.must("as-the-model", !client.tcp.open, () => "it is open again");
    return ask;
  }

  askPool(asking: Asking): Ask | undefined {
    if (this.pool === undefined) return undefined;
    const ask = this.#newAsk(asking, undefined);
    const { timeoutMs, idempotent } = asking;
    this.#follow(ask, this.pool.request(ask.words, { timeoutMs, idempotent, ...signalOf(ask) }));
    return ask;
  }

  giveUp(which: number): boolean {
    const all = [...this.#asks.values()];
    const ask = at(
      all.filter(({ pending, abort }) => pending && abort?.signal.aborted === false),
      which,
    );
    ask?.abort?.abort(new Error("gone"));
    return ask !== undefined;
  }

  ping(which: number, timeoutMs: number): void {
    const client = at(this.clients, which);
    if (client === undefined) return;
    this.world.follow("ping", client.tcp.ping({ timeoutMs }), ({ outcome, value }) => {
      const fine = outcome === "ok" ? (value as number) >= 0 : /^ERR_(FANTA_TIMEOUT|CONNECTION_LOST)$/.test(outcome);
      this.world.must("as-the-model", fine, () => `a ping gave ${outcome}`);
    });
  }

  endHandler(which: number, how: "answers" | "fails"): boolean {
    const handling = at(this.handling, which);
    handling?.end(how);
    return handling !== undefined;
  }

  endClient(which: number, how: "close" | "kill", timeoutMs: number): boolean {
    const client = at(this.clients, which);
    if (client === undefined) return false;
    if (how === "kill") client.tcp.process.kill();
    else this.world.follow("close", client.tcp.close({ timeoutMs }));
    return true;
  }

  endServer(which: number, how: "close" | "kill", timeoutMs: number): boolean {
    const station = this.stations.get(at(ports, which) as number);
    if (station === undefined || station.ending) return false;
    station.ending = true;
    if (how === "kill") station.server.process.kill();
    else this.world.follow("close a server", station.server.close({ timeoutMs }));
    return true;
  }

  startServer(which: number): void {
    const port = at(ports, which) as number;
    if (this.stations.get(port)?.ending === false) {
      // Somebody has the port.
      const refused = this.#open(port).then(
        () => "listens twice",
        (error: unknown) => (error instanceof FantaError ? error.code : String(error)),
      );
      this.world.follow("listen", refused, ({ value }) => {
        this.world.must("as-the-model", value === "ERR_FANTA_LISTEN", () => `a taken port: ${value}`);
      });
    } else this.world.follow("listen", this.#listen(port));
  }

  resize(size: number): void {
    if (this.pool !== undefined) this.world.follow("resize", this.pool.resize(size));
  }

  /** The same request, as somebody makes it who wants a connection of the pool in hand. */
  usePool(asking: Asking): void {
    const { pool } = this;
    if (pool === undefined) return;
    const ask = this.#newAsk(asking, undefined);
    const { timeoutMs, idempotent } = asking;
    const work = (tcp: FantaTCP, { signal }: { readonly signal: AbortSignal }): Promise<string> => {
      return tcp.request(ask.words, { timeoutMs, signal });
    };
    this.#follow(ask, pool.use(work, { timeoutMs, idempotent, ...signalOf(ask) }));
  }

  /** Whoever ends a request by themselves asks the connection itself, and says what became of it. */
  routeOf(asking: Asking, twice: boolean): void {
    const { pool, world } = this;
    if (pool === undefined) return;
    let route: Route<FantaTCP>;
    try {
      route = pool.pick();
    } catch (error) {
      const { code } = error as PoolError;
      const fine = code === (this.#poolEnds ? "ERR_POOL_CLOSED" : "ERR_POOL_NO_MEMBER") || code === "ERR_POOL_BUSY";
      world.must("as-the-model", fine, () => `a pick gave ${String(error)}`);
      return;
    }
    const ask = this.#newAsk({ ...asking, idempotent: false }, undefined);
    const { timeoutMs } = asking;
    const settled = (outcome?: { readonly error: unknown }): void => {
      for (let times = 0; times < (twice ? 2 : 1); times++) route.settle(outcome);
    };
    const asked = route.resource.request(ask.words, { timeoutMs, ...signalOf(ask) });
    const told = asked.then(
      (answer) => {
        settled();
        return answer;
      },
      (error: unknown) => {
        settled({ error });
        throw error;
      },
    );
    this.#follow(ask, told);
  }

  /** All connections there are, and what each says. */
  tellAll(length: number): void {
    const { pool, world } = this;
    if (pool === undefined) return;
    const over = this.#poolEnds;
    const asks: Ask[] = [];
    const told = pool.broadcast((tcp) => {
      const ask = this.#newAsk(
        { manner: "answers at once", length, timeoutMs: 300, abortable: false, idempotent: false },
        undefined,
      );
      asks.push(ask);
      const asked = tcp.request(ask.words, { timeoutMs: 300 });
      this.#follow(ask, asked);
      return asked;
    });
    world.follow("broadcast", told, ({ outcome, value }) => {
      const right = outcome === "ok" ? !over : over && outcome === "ERR_POOL_CLOSED";
      world.must("as-the-model", right, () => `a broadcast gave ${outcome}`);
      const ends = (value ?? []).map(({ status }) => status === "fulfilled");
      const same =
        ends.length === asks.length && ends.every((fine, nth) => fine === (asks[nth]?.call?.outcome === "ok"));
      world.must("as-the-model", same, () => `${asks.length} were asked, and a broadcast told of ${ends.join(", ")}`);
    });
  }

  readyPool(min: number): void {
    const { pool, world } = this;
    if (pool === undefined) return;
    world.follow("ready", pool.ready({ min, timeoutMs: 200 }), ({ outcome }) => {
      const fine = /^(ok|ERR_OPTION|ERR_POOL_(ACQUIRE_TIMEOUT|OPEN_FAILED|CLOSED))$/.test(outcome);
      world.must("as-the-model", fine, () => `ready gave ${outcome}`);
    });
  }

  recyclePool(overMs: number): void {
    if (this.pool !== undefined) this.world.follow("recycle", this.pool.recycle({ overMs }));
  }

  endPool(how: "close" | "destroy", timeoutMs: number): boolean {
    const { pool } = this;
    if (pool === undefined) return false;
    this.#poolEnds = true;
    const ended = how === "close" ? pool.close({ timeoutMs }) : pool.destroy();
    this.world.follow<unknown>(how, ended, ({ outcome }) => {
      this.world.must("settles", outcome === "ok", () => `a ${how} of the pool gave ${outcome}`);
      const { size, inFlight, waiting } = pool.stats();
      const fine = size + inFlight + waiting === 0;
      this.world.must("at-rest", fine, () => `the pool has ended: ${JSON.stringify({ size, inFlight, waiting })}`);
    });
    return true;
  }

  /** Those of the pool, from the connections up. */
  killProcess(level: "connection" | "connections" | "registry" | "pool", which: number, asks: boolean): boolean {
    const tree = this.pool?.tree();
    const connections = tree?.children.find(({ id }) => id === "connections");
    const processes = {
      connection: at(connections?.children ?? [], which)?.process,
      connections: connections?.process,
      registry: tree?.children.find(({ id }) => id === "registry")?.process,
      pool: this.pool?.process,
    };
    const process = processes[level];
    if (process?.alive !== true) return false;
    if (level === "pool") process.monitor(() => (this.#poolEnds = true));
    if (asks) this.world.follow("stop", process.stop());
    else process.kill();
    return true;
  }

  check(settled: boolean): void {
    const { world, pool } = this;
    for (const client of this.clients) {
      const { tcp, asks } = client;
      world.must("in-flight-is-real", tcp.inFlight >= 0, () => `${tcp.inFlight} in flight`);
      if (!settled) continue;
      const pending = asks.filter((ask) => ask.pending).length;
      const right = tcp.inFlight >= pending && tcp.inFlight <= pending + client.givenUp;
      world.must("in-flight-is-real", right, () => {
        return `${pending} wait, ${client.givenUp} were given up, and ${tcp.inFlight} are in flight`;
      });
      const over = !tcp.process.alive && (tcp.inFlight > 0 || tcp.open);
      world.must("in-flight-is-real", !over, () => "a connection is dead, and has something in flight");
    }
    if (!settled) return;
    for (const { process, connections } of this.#servers) {
      const over = process.alive || connections === 0;
      world.must("lets-go", over, () => `a server is dead, and has ${connections} connections`);
    }
    const poolPending = [...this.#asks.values()].filter((ask) => ask.client === undefined && ask.pending).length;
    if (pool !== undefined) {
      const { waiting, inFlight } = pool.stats();
      const fine = inFlight >= 0 && waiting >= 0 && waiting + inFlight >= poolPending;
      world.must("in-flight-is-real", fine, () => `${poolPending} wait; ${waiting} waiting, ${inFlight} in flight`);
    }
    this.#tidy();
  }

  async converge(): Promise<void> {
    const { world, pool, network } = this;
    const { runtime } = world;
    await this.#answersAll();
    for (const cable of network.cables) cable.break(); // Black holes hold nothing any more.
    await runtime.advance(2_000); // Servers that were told to end have.
    for (const port of ports)
      if (this.stations.get(port)?.ending !== false) await world.until("listen", this.#listen(port));
    for (let round = 0; round < 4; round++) {
      this.#endHandlers();
      await runtime.advance(5_000);
      this.check(true);
    }
    const pending = [...this.#asks.values()].filter((ask) => ask.pending).length;
    world.must("settles", pending === 0, () => `${pending} requests have no answer`);
    const tcp = await world.until("connect", FantaTCP.connect({ host: "memory", port: ports[0], runtime }));
    const answer = await world.until("request", tcp.request("a hello"));
    world.must("as-the-model", answer === "re:a hello", () => `the answer to a hello is ${answer}`);
    world.must("at-rest", tcp.inFlight === 0, () => `${tcp.inFlight} in flight, and nobody asks`);
    await this.#closesSoon("a client", tcp);
    // Whoever is connected to a server that closes is told, and goes.
    const { server } = this.stations.get(ports[0]) as Station;
    const guest = await world.until("connect", FantaTCP.connect({ host: "memory", port: ports[0], runtime }));
    await this.#closesSoon("a server", server);
    world.must("lets-go", !guest.process.alive, () => "its server has closed, and it lives");
    await world.until("listen", this.#listen(ports[0]));
    if (pool === undefined || this.#poolEnds) return;
    await world.until("resize", pool.resize(1));
    await world.until("ready", pool.ready({ min: ports.length }));
    const hello = await world.until("request", pool.request("a hello"));
    world.must("as-the-model", hello === "re:a hello", () => `the answer to a hello is ${hello}`);
    await runtime.advance(1_000);
    const { size, idle, inFlight, waiting } = pool.stats();
    world.must("at-rest", size === 2 && idle === 2 && inFlight + waiting === 0, () => {
      return `nobody asks: ${JSON.stringify({ size, idle, inFlight, waiting })}`;
    });
  }

  async stop(): Promise<void> {
    const { world, pool, network } = this;
    const ends = [
      ...this.clients.map(({ tcp }) => tcp.close({ timeoutMs: 100 })),
      ...[...this.stations.values()].map(({ server }) => server.close({ timeoutMs: 500 })),
      ...(pool === undefined ? [] : [pool.close({ timeoutMs: 100 })]),
    ];
    for (const end of ends as Promise<unknown>[]) await world.until("close", end);
    await world.runtime.advance(1_000);
    network.tidy();
    const { length } = network.cables;
    world.must("at-rest", length === 0, () => `${length} sockets are left when all has been closed`);
    const connections = [...this.stations.values()].reduce((sum, { server }) => sum + server.connections, 0);
    world.must("at-rest", connections === 0, () => `the servers have ${connections} connections still`);
    const deaf = this.handling.filter(({ words }) => words.startsWith(manners["obeys a cancel"])).length;
    world.must("lets-go", deaf === 0, () => `${deaf} handlers were not told that their clients are gone`);
    const alive = this.clients.filter(({ tcp }) => tcp.process.alive || tcp.inFlight > 0).length;
    world.must("at-rest", alive === 0, () => `${alive} clients live still`);
  }

  /** Whether a server has ever said something twice. */
  get #repeats(): boolean {
    return this.world.faults.has("a server repeats itself");
  }

  get #spoils(): boolean {
    this.#spoilt = Math.max(this.#spoilt, this.world.faults.get("a byte is changed") ?? 0);
    return this.#spoilt > 0;
  }

  /** But for those that obey a cancel: they are told when nobody wants their answer, or their clients are gone. */
  #endHandlers(): void {
    for (const { words, end } of [...this.handling]) if (!words.startsWith(manners["obeys a cancel"])) end("answers");
  }

  /** Where lines and servers do as they should, whatever has been asked is answered, given up or not. */
  async #answersAll(): Promise<void> {
    const { world, network, pool } = this;
    for (let round = 0; round < 4; round++) {
      this.#endHandlers();
      await world.runtime.advance(1_500);
    }
    for (const { tcp, cable } of this.clients) {
      const fine = !cable.sound || tcp.inFlight === 0;
      world.must("in-flight-is-real", fine, () => `all is answered, and ${tcp.inFlight} are in flight`);
    }
    if (pool === undefined || !network.cables.every((cable) => cable.sound || cable.gone)) return;
    const { inFlight, waiting } = pool.stats();
    world.must("in-flight-is-real", inFlight + waiting === 0, () => {
      return `all is answered, and the pool has ${inFlight} in flight, and ${waiting} waiting`;
    });
  }

  /** While nothing is in flight. */
  async #closesSoon(who: string, it: { close(): Promise<void> }): Promise<void> {
    const { world } = this;
    const asked = world.runtime.now();
    await world.until("close", it.close());
    const took = world.runtime.now() - asked;
    world.must("settles", took < 1_000, () => `${who} took ${took} ms to close, and nothing was in flight`);
  }

  async #listen(port: number): Promise<void> {
    const server = await this.#open(port);
    this.stations.set(port, { server, ending: false });
    this.#servers.push(server);
    if (this.#servers.length > 6) this.#servers.shift();
  }

  #open(port: number): Promise<FantaServer> {
    return FantaServer.listen({
      ...{ port, host: "memory", codec: this.#codec("server"), maxFrameBytes, runtime: this.world.runtime },
      ...{
        maxInFlight: this.#maxInFlight,
        handler: (words: string, context: FantaContext) => this.#handle(words, context),
      },
    });
  }

  /** Text; but a codec is the user's, and may fail. */
  #codec(side: "client" | "server"): Codec<string> {
    const { world } = this;
    return {
      encode: (value) => {
        if (world.strikes(`encoding fails at the ${side}`)) throw new Error("the codec is broken");
        return text.encode(value);
      },
      decode: (bytes, start, end) => {
        if (world.strikes(`decoding fails at the ${side}`)) throw new Error("the codec is broken");
        return text.decode(bytes, start, end);
      },
    };
  }

  #newAsk(asking: Asking, client: Client | undefined): Ask {
    const ask = new Ask(++this.#asked, asking, client);
    ask.late = client === undefined && this.#poolEnds;
    this.#asks.set(ask.words, ask);
    return ask;
  }

  #follow(ask: Ask, promise: Promise<string>): void {
    ask.call = this.world.follow("request", promise, (call) => this.#answered(ask, call));
  }

  #answered(ask: Ask, { outcome, value, error, what }: Call<string>): void {
    const { world } = this;
    const { client } = ask;
    if (client !== undefined) {
      client.asks.splice(client.asks.indexOf(ask), 1);
      if (outcome === "gone" || outcome === "ERR_FANTA_TIMEOUT") client.givenUp++;
    }
    world.must("as-the-model", outcomes.test(outcome), () => `${what} gave ${outcome}`);
    const right = !ask.late || outcome === "ERR_POOL_CLOSED";
    world.must("as-the-model", right, () => `${what} came to a pool that has ended, and gave ${outcome}`);
    const ears = ask.abort === undefined ? 0 : getEventListeners(ask.abort.signal, "abort").length;
    world.must("lets-go", ears === 0, () => `${what} is over, and ${ears} listen to its signal`);
    if (client === undefined ? this.#spoils : client.cable.spoilt) return;
    const mayBeNoFanta = client === undefined ? this.#repeats : client.cable.repeated;
    const isFanta = outcome !== "ERR_FANTA_PROTOCOL" || mayBeNoFanta;
    world.must("as-the-model", isFanta, () => `${what} was told of bytes that are not Fanta`);
    if (outcome === "ok") {
      world.must(
        "one-holder",
        value === `re:${ask.words}`,
        () => `${what} asked "${ask.words}", and was told "${value}"`,
      );
    }
    if (outcome === "ERR_FANTA_RESPONSE") {
      const { message } = error as Error;
      const own = !message.startsWith("no:") || `no:${ask.words}`.startsWith(message); // As much as fits.
      world.must("one-holder", own, () => `${what} asked "${ask.words}", and was refused with "${message}"`);
      const full = client === undefined || client.peak > this.#maxInFlight || !message.startsWith("too many requests");
      world.must("as-the-model", full, () => `${what} was one too many, where ${this.#maxInFlight} may be unanswered`);
    }
    const unsent = error instanceof ConnectionLostError && error.sent === "no" && !ask.asking.idempotent;
    world.must("as-the-model", !unsent || ask.seen === 0, () => `${what} was not sent, and a server has seen it`);
    if (unsent) ask.seen = Infinity;
  }

  #handle(words: string, context: FantaContext): string | Promise<string> {
    const { world } = this;
    const { id, remotePort } = context;
    const cable = this.network.cable(remotePort as number);
    const key = `${remotePort}:${id}`;
    const ask = this.#asks.get(words);
    if (ask !== undefined && cable?.spoilt !== true) {
      ask.seen++;
      const fine = ask.seen === 1 || (ask.asking.idempotent && ask.client === undefined);
      world.must("as-the-model", fine, () => `"${words}" has come to a server ${ask.seen} times`);
    }
    const twice = this.#ids.has(key) && cable?.spoilt !== true;
    world.must("in-flight-is-real", !twice, () => `the id ${id} is used for two requests at once`);
    const working = this.handling.filter((each) => each.key.startsWith(`${remotePort}:`)).length;
    world.must("as-the-model", working < this.#maxInFlight, () => {
      return `a handler is called where ${working} of the connection are working, and ${this.#maxInFlight} may`;
    });
    const answer = `re:${words}`;
    switch (words[0]) {
      case "t":
        throw new Error(`no:${words}`);
      case "r":
        return Promise.reject(new Error(`no:${words}`));
      case "s":
        return twiceSettled(answer);
      case "b":
        return "b".repeat(maxFrameBytes);
      case "w":
      case "l":
      case "c":
        return this.#handleLater(words, key, context);
      default:
        return answer;
    }
  }

  #handleLater(words: string, key: string, { signal }: FantaContext): Promise<string> {
    this.#ids.add(key);
    return new Promise((resolve, reject) => {
      const end = (how: "answers" | "fails"): void => {
        const place = this.handling.indexOf(handling);
        if (place < 0) return;
        this.handling.splice(place, 1);
        this.#ids.delete(key);
        if (how === "answers") resolve(`re:${words}`);
        else reject(new Error(`no:${words}`));
      };
      const handling: Handling = { key, words, end };
      this.handling.push(handling);
      if (words[0] === "l") this.world.runtime.setTimer(() => end("answers"), 30);
      if (words[0] === "c") signal.addEventListener("abort", () => end("fails"), { once: true });
    });
  }

  #tidy(): void {
    this.network.tidy();
    if (this.#asks.size > 60) {
      for (const [words, ask] of this.#asks) if (!ask.pending && this.#asks.size > 40) this.#asks.delete(words);
    }
    this.clients = this.clients.filter(({ tcp, asks }) => tcp.process.alive || asks.length > 0);
  }
}

function signalOf({ abort }: Ask): { signal?: AbortSignal } {
  return abort === undefined ? {} : { signal: abort.signal };
}

/** A thenable of somebody who has not read the manual. */
function twiceSettled(value: string): Promise<string> {
  return {
    // oxlint-disable-next-line unicorn/no-thenable -- that is what it is about
    then: (resolve: (value: string) => void) => {
      resolve(value);
      resolve("twice");
      throw new Error("and thrown besides");
    },
  } as unknown as Promise<string>;
}
