/**
 * What a pooled request costs.
 *
 * Five ways to send a 32-byte request and await its answer, over ten connections to one server in another process:
 * the floor (floor.ts, a minimal client by hand), a bare `FantaTCP.request`, `pool.request`, the same in a pool that
 * keeps to one connection in each turn of the event loop, and `pool.use`. The first two spread their requests. All in one
 * process, in rounds, in an order that changes from round to round, so that a change in the machine's speed meets all
 * alike. The figure is the client's CPU time a request (`process.cpuUsage`), and the ratio to the floor is taken within
 * each round. Medians over the rounds. Latency is
 * taken afterwards, in one run of each: to take it costs as much as to send, and what V8 learns of it would cost later.
 *
 *     npm run bench            [--rounds 7] [--seconds 1]
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createHistogram } from "node:perf_hooks";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { leastUsed, perTick } from "poolwarden";
import { FantaPool, FantaTCP } from "poolwarden/fanta";
import { Floor } from "./floor.ts";

const { values: flags } = parseArgs({ options: { rounds: { type: "string" }, seconds: { type: "string" } } });
const rounds = Number(flags.rounds ?? 7);
const seconds = Number(flags.seconds ?? 1);
const connections = 10;
const payload = "x".repeat(32);
const host = "127.0.0.1";

type Send = () => Promise<string>;
interface Way {
  readonly name: string;
  readonly send: Send;
}
interface Cost {
  readonly cpuUs: number;
  readonly perSecond: number;
}

const main = fileURLToPath(new URL("./dist/cli/main.js", import.meta.resolve("poolwarden/package.json")));
const server = spawn(process.execPath, [main, "fanta", "serve", "--port", "0"], {
  stdio: ["ignore", "pipe", "inherit"],
});
process.once("exit", () => server.kill("SIGKILL"));
const [line] = (await once(server.stdout, "data")) as [Buffer];
const port = Number(/:(\d+)/.exec(line.toString())?.[1]);

const floors = await Promise.all(Array.from({ length: connections }, () => Floor.connect(host, port)));
const bare = await Promise.all(Array.from({ length: connections }, () => FantaTCP.connect({ host, port })));
const pool = await FantaPool.start({ host, port, size: connections });
const perTurn = await FantaPool.start({ host, port, size: connections, strategy: perTick(leastUsed()) });
for (const each of [pool, perTurn]) await each.ready({ min: connections });

/** One after another, as a caller by hand would share them. */
function shared<C>(clients: readonly C[], send: (client: C) => Promise<string>): Send {
  let next = 0;
  return () => {
    next = next + 1 === clients.length ? 0 : next + 1;
    return send(clients[next] as C);
  };
}

const ways: readonly Way[] = [
  { name: "floor", send: shared(floors, (client) => client.request(payload)) },
  { name: "FantaTCP.request", send: shared(bare, (client) => client.request(payload)) },
  { name: "FantaPool.request", send: () => pool.request(payload) },
  { name: "FantaPool.request, perTick(leastUsed)", send: () => perTurn.request(payload) },
  { name: "FantaPool.use", send: () => pool.use((client) => client.request(payload)) },
];

console.log(
  `Node ${process.version}; ${connections} connections, ${payload.length}-byte payloads, the server in another process; ` +
    `medians of ${rounds} rounds of ${seconds} s\n`,
);
const widths = [8, 38, 14, 14, 12, 10, 10];
print(["callers", "way", "CPU µs/request", "× floor", "requests/s", "p50 ms", "p99 ms"]);
const loads = [16, 128, 1_024];
const costs = new Map<number, Map<string, Cost[]>>();
for (const callers of loads) {
  const seen = new Map<string, Cost[]>(ways.map(({ name }) => [name, []]));
  costs.set(callers, seen);
  for (let round = 0; round < rounds; round++) {
    for (let turn = 0; turn < ways.length; turn++) {
      const { name, send } = ways[(turn + round) % ways.length] as Way;
      seen.get(name)?.push(await costOf(send, callers));
    }
  }
}
for (const callers of loads) {
  const seen = costs.get(callers) as Map<string, Cost[]>;
  const floor = seen.get("floor") as Cost[];
  for (const { name, send } of ways) {
    const cost = seen.get(name) as Cost[];
    const latency = createHistogram();
    await load(timed(send, latency), callers, seconds * 1_000);
    print([
      String(callers),
      name,
      median(cost.map(({ cpuUs }) => cpuUs)).toFixed(2),
      median(cost.map(({ cpuUs }, round) => cpuUs / (floor[round] as Cost).cpuUs)).toFixed(2),
      Math.round(median(cost.map(({ perSecond }) => perSecond))).toLocaleString("en"),
      (latency.percentile(50) / 1e6).toFixed(3),
      (latency.percentile(99) / 1e6).toFixed(3),
    ]);
  }
}
console.log("\nBars: at 1,024 callers ≤ 1.6 × the floor and ≤ 1.0 µs; at 128 callers ≤ 2.0 × and ≤ 3 µs.");

for (const client of floors) client.close();
await Promise.all(bare.map((client) => client.close()));
for (const each of [pool, perTurn]) await each.close();
server.kill();

async function costOf(send: Send, callers: number): Promise<Cost> {
  // What the others left behind is not this one's cost. Not by a full collection: after one V8 has thrown away what it had
  // learnt of the code, and is slow for a while, the more so the more code there is.
  await load(send, callers, 300);
  const cpu = process.cpuUsage();
  const startedAt = performance.now();
  const requests = await load(send, callers, seconds * 1_000);
  const { user, system } = process.cpuUsage(cpu);
  const tookMs = performance.now() - startedAt;
  return { cpuUs: (user + system) / requests, perSecond: (requests * 1_000) / tookMs };
}

/** The same, with how long each took. */
function timed(send: Send, latency: ReturnType<typeof createHistogram>): Send {
  return async () => {
    const startedAt = performance.now();
    const answer = await send();
    latency.record(Math.max(1, Math.round((performance.now() - startedAt) * 1e6)));
    return answer;
  };
}

/** Callers that each send one request after another for a while. Returns how many were answered. */
async function load(send: Send, callers: number, ms: number): Promise<number> {
  let running = true;
  let requests = 0;
  const caller = async (): Promise<void> => {
    while (running) {
      await send();
      requests++;
    }
  };
  const stop = setTimeout(() => {
    running = false;
  }, ms);
  await Promise.all(Array.from({ length: callers }, caller));
  clearTimeout(stop);
  return requests;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return (
    ((sorted[Math.floor((sorted.length - 1) / 2)] as number) + (sorted[Math.ceil((sorted.length - 1) / 2)] as number)) /
    2
  );
}

function print(cells: readonly string[]): void {
  console.log(
    cells
      .map((cell, at) => (at < 2 ? cell.padEnd(widths[at] as number) : cell.padStart(widths[at] as number)))
      .join("  "),
  );
}
