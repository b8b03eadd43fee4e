/**
 * What a dispatcher costs its client, beside undici's own.
 *
 * `HttpDispatcher`, and undici's `Pool`, `RoundRobinPool` and `BalancedPool`, each in a process of its own as in a
 * program of its own: in one process they would spoil each other's inline caches, and who comes first would win. One
 * works at a time, in rounds, in an order that changes from round to round, so that a change in the machine's speed
 * meets all alike; and several times from the start, because two processes of the very same program differ, under `fetch`
 * by a fifth and more. The server is one more process. The figure is the client's CPU time a request
 * (`process.cpuUsage`). Ratios are taken within each round: to the mean of undici's three, and to the best of them, the
 * one with the lowest median. All three are one client under different schedulers, so what they differ by among
 * themselves is what the measurement is unsure by, and the best of three has had luck. Medians over all rounds.
 *
 * Then the balance: 300 requests, one after another by eight callers, over servers that take 2, 2 and 100 ms.
 *
 *     npm run bench:http            [--call fetch] [--starts 9] [--rounds 4] [--requests 2000]
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import { createServer as createHttp2Server } from "node:http2";
import type { AddressInfo, Server } from "node:net";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { BalancedPool, type Dispatcher, fetch, Pool, RoundRobinPool } from "undici";
import { HttpDispatcher } from "poolwarden/http";

type Protocol = "http/1.1" | "h2c";
type Call = "request" | "fetch";

/** What a child is asked to do. */
type Order =
  | { readonly do: "serve"; readonly delayMs: number }
  | { readonly do: "connect"; readonly way: string; readonly protocol: Protocol; readonly origins: readonly string[] }
  | { readonly do: "measure"; readonly call: Call; readonly callers: number; readonly requests: number }
  | { readonly do: "spread"; readonly callers: number; readonly requests: number };

interface Figures {
  readonly cpuUs: number;
  readonly perSecond: number;
}

/** All that were ever started: none outlives us. */
const children = new Set<ChildProcess>();
const ours = "HttpDispatcher";
const ways: readonly string[] = [ours, "Pool", "RoundRobinPool", "BalancedPool"];
/** With as many connections to each as ours; and as it comes, which opens as many as are asked for. */
const balancers: readonly string[] = [ours, "BalancedPool", "BalancedPool, no limit"];

const file = fileURLToPath(import.meta.url);
if (process.send === undefined) await lead();
else await work();

// ── The one who asks ───────────────────────────────────────────────────────────────────────────────────────────────

async function lead(): Promise<void> {
  const text = { type: "string" } as const;
  const flags = parseArgs({ options: { call: text, starts: text, rounds: text, requests: text } }).values;
  const starts = Number(flags.starts ?? 9);
  const rounds = Number(flags.rounds ?? 4);
  const requests = Number(flags.requests ?? 2_000);
  const server = child();
  const ports = (await ask(server, { do: "serve", delayMs: 0 })) as Record<Protocol, number>;

  console.log(
    `Node ${process.version}, undici ${await undiciVersion()}; the server in another process; medians of ${starts * rounds} ` +
      `rounds of ${requests.toLocaleString("en")} requests\n`,
  );
  const widths = [10, 12, 9, 9, 16, 15, 10, 8, 12];
  print(widths, [
    "protocol",
    "connections",
    "callers",
    "call",
    "dispatcher",
    "CPU µs/request",
    "× theirs",
    "× best",
    "requests/s",
  ]);
  const table: readonly (readonly [Protocol, number, Call])[] = [
    ["http/1.1", 10, "request"],
    ["http/1.1", 10, "fetch"],
    ["h2c", 100, "request"],
    ["h2c", 100, "fetch"],
  ];
  for (const [protocol, callers, call] of table) {
    if (flags.call !== undefined && flags.call !== call) continue;
    const origins = [`http://127.0.0.1:${ports[protocol]}`];
    const seen = new Map<string, Figures[]>(ways.map((way) => [way, []]));
    for (let start = 0; start < starts; start++) {
      const workers = new Map(ways.map((way) => [way, child()]));
      for (const [way, each] of workers) {
        await ask(each, { do: "connect", way, protocol, origins });
        // Until V8 has compiled what it will.
        await ask(each, { do: "measure", call, callers, requests: 5 * requests });
      }
      for (let round = 0; round < rounds; round++) {
        for (let turn = 0; turn < ways.length; turn++) {
          const way = ways[(turn + start + round) % ways.length] as string;
          const order: Order = { do: "measure", call, callers, requests };
          seen.get(way)?.push((await ask(workers.get(way) as ChildProcess, order)) as Figures);
        }
      }
      for (const each of workers.values()) each.kill();
    }
    const cpuOf = (way: string): number[] => (seen.get(way) as Figures[]).map(({ cpuUs }) => cpuUs);
    const [best] = ways
      .slice(1)
      .map(cpuOf)
      .toSorted((a, b) => median(a) - median(b)) as [number[]];
    const theirs = best.map((_, round) => mean(ways.slice(1).map((way) => cpuOf(way)[round] as number)));
    const against = (way: string, others: readonly number[]): string =>
      median(cpuOf(way).map((cpuUs, round) => cpuUs / (others[round] as number))).toFixed(2);
    for (const way of ways) {
      const figures = seen.get(way) as Figures[];
      print(widths, [
        protocol,
        protocol === "h2c" ? "1" : "10",
        String(callers),
        call,
        way,
        median(cpuOf(way)).toFixed(1),
        against(way, theirs),
        against(way, best),
        Math.round(median(figures.map(({ perSecond }) => perSecond))).toLocaleString("en"),
      ]);
    }
  }
  console.log(`\nBar: ${ours} at most 1.10 × theirs.\n`);
  await balance(2 * starts, `http://127.0.0.1:${ports["http/1.1"]}`);
  server.kill();
}

/** Who finds out that one server is slow, and what it costs not to. */
async function balance(rounds: number, warmUp: string): Promise<void> {
  const servers = [2, 2, 100].map((delayMs) => ({ delayMs, server: child() }));
  const origins = await Promise.all(
    servers.map(async ({ delayMs, server }) => {
      const ports = (await ask(server, { do: "serve", delayMs })) as Record<Protocol, number>;
      return `http://127.0.0.1:${ports["http/1.1"]}`;
    }),
  );
  const took = new Map<string, number[]>();
  for (let round = 0; round < rounds; round++) {
    for (const way of round % 2 === 0 ? balancers : balancers.toReversed()) {
      const each = child();
      await ask(each, { do: "connect", way, protocol: "http/1.1", origins: [warmUp] });
      await ask(each, { do: "measure", call: "request", callers: 8, requests: 5_000 });
      // A new one, which knows nothing yet.
      await ask(each, { do: "connect", way, protocol: "http/1.1", origins });
      const ms = (await ask(each, { do: "spread", callers: 8, requests: 300 })) as number;
      took.set(way, [...(took.get(way) ?? []), ms]);
      each.kill();
    }
  }
  for (const { server } of servers) server.kill();
  const [mine, limited, unlimited] = balancers.map((way) => median(took.get(way) as number[])) as [
    number,
    number,
    number,
  ];
  console.log(
    `300 requests by 8 callers over servers of 2, 2 and 100 ms: ${ours} ${mine.toFixed(0)} ms; ` +
      `BalancedPool as it comes ${unlimited.toFixed(0)} ms, ${(mine / unlimited).toFixed(2)} ×; ` +
      `with four connections to each, as ours has, ${limited.toFixed(0)} ms, ${(mine / limited).toFixed(2)} ×`,
  );
  console.log("Bar: at most 0.50 ×.");
}

function child(): ChildProcess {
  if (children.size === 0) process.once("exit", () => children.forEach((each) => each.kill("SIGKILL")));
  const made = fork(file);
  children.add(made);
  return made;
}

async function ask(of: ChildProcess, order: Order): Promise<unknown> {
  of.send(order);
  const [answer] = (await once(of, "message")) as [unknown];
  return answer;
}

async function undiciVersion(): Promise<string> {
  const manifest = await import("undici/package.json", { with: { type: "json" } });
  return (manifest.default as { version: string }).version;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] as number;
}

function print(widths: readonly number[], cells: readonly string[]): void {
  console.log(
    cells.map((cell, at) => (at < 5 ? cell.padEnd(widths[at] ?? 0) : cell.padStart(widths[at] ?? 0))).join(""),
  );
}

// ── Those who are asked ────────────────────────────────────────────────────────────────────────────────────────────

async function work(): Promise<void> {
  let dispatcher: Dispatcher | undefined;
  let origin = "";
  process.on("message", (order: Order) => {
    void obey(order).then((answer) => process.send?.(answer));
  });

  async function obey(order: Order): Promise<unknown> {
    switch (order.do) {
      case "serve":
        return serve(order.delayMs);
      case "connect":
        origin = order.origins[0] as string;
        dispatcher = await connect(order.way, order.protocol, order.origins);
        return "connected";
      case "measure":
        return measure(callOf(order.call, dispatcher as Dispatcher, origin), order.callers, order.requests);
      case "spread":
        return share(callOf("request", dispatcher as Dispatcher, origin), order.callers, order.requests);
    }
  }
}

async function serve(delayMs: number): Promise<Record<Protocol, number>> {
  const one = createServer((request, response) => {
    request.resume();
    if (delayMs === 0) response.end("hello");
    else setTimeout(() => response.end("hello"), delayMs);
  });
  one.keepAliveTimeout = 60_000;
  const two = createHttp2Server({ settings: { maxConcurrentStreams: 100 } });
  two.on("stream", (stream) => {
    stream.respond({ ":status": 200, "content-type": "text/plain" });
    stream.end("hello");
  });
  return { "http/1.1": await listen(one), h2c: await listen(two) };
}

async function listen(server: Server): Promise<number> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

/** Ten connections, or one session, or four to each of several: for each in its own words. */
async function connect(way: string, protocol: Protocol, origins: readonly string[]): Promise<Dispatcher> {
  const connections = protocol === "h2c" ? 1 : origins.length > 1 ? 4 : 10;
  if (way === ours) {
    const made = await HttpDispatcher.start({ endpoints: origins, connections, useH2c: protocol === "h2c" });
    await made.ready({ min: connections * origins.length });
    return made;
  }
  const speaking = protocol === "h2c" ? { allowH2: true, connect: { useH2c: true }, pipelining: 100 } : {};
  const options = { connections, ...speaking } as Pool.Options;
  if (way === "Pool") return new Pool(origins[0] as string, options);
  if (way === "BalancedPool, no limit") return new BalancedPool([...origins]);
  if (way === "RoundRobinPool") return new RoundRobinPool(origins[0] as string, options);
  return new BalancedPool([...origins], options);
}

function callOf(call: Call, dispatcher: Dispatcher, origin: string): () => Promise<unknown> {
  if (call === "fetch") return async () => (await fetch(origin, { dispatcher })).text();
  return async () => (await dispatcher.request({ origin, path: "/", method: "GET" })).body.text();
}

async function measure(send: () => Promise<unknown>, callers: number, requests: number): Promise<Figures> {
  const cpu = process.cpuUsage();
  const ms = await share(send, callers, requests);
  const { user, system } = process.cpuUsage(cpu);
  return { cpuUs: (user + system) / requests, perSecond: (requests * 1_000) / ms };
}

/** So many requests, by callers who each send one after another. Returns how long it took, in milliseconds. */
async function share(send: () => Promise<unknown>, callers: number, requests: number): Promise<number> {
  let left = requests;
  const startedAt = performance.now();
  const caller = async (): Promise<void> => {
    while (left-- > 0) await send();
  };
  await Promise.all(Array.from({ length: callers }, caller));
  return performance.now() - startedAt;
}
