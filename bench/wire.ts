/**
 * What one request costs on the wire: `FantaTCP` beside the floor, a minimal client written by hand (floor.ts).
 *
 *     npm run build && node --import tsx bench/wire.ts [rounds]
 *
 * Both have 10 connections to one server, a process of its own; callers take them in turn, each waiting for its answer
 * of 32 bytes before it asks again. What is measured is this process's own CPU time a request, user and system, so the
 * server's speed does not enter. The two take turns within a process, round by round, because a machine that is warm,
 * busy or throttled is so for both; shown are the medians of the rounds, and the median of each round's ratio.
 */
import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { FantaServer, FantaTCP } from "poolwarden/fanta";
import { Floor } from "./floor.ts";

const connections = 10;
const payloads = Array.from({ length: 64 }, (_, at) => `payload ${at} `.padEnd(32, "x"));

interface Client {
  request(payload: string): Promise<string>;
}

if (process.argv[2] === "server") {
  const server = await FantaServer.listen({ handler: (request) => request });
  process.send?.(server.port);
  process.on("disconnect", () => process.exit());
} else await main(Number(process.argv[2] ?? 9));

async function main(rounds: number): Promise<void> {
  const [child, port] = await startServer();
  const of = <T>(open: () => Promise<T>): Promise<T[]> => Promise.all(Array.from({ length: connections }, open));
  const floor = await of(() => Floor.connect("127.0.0.1", port));
  const fanta = await of(() => FantaTCP.connect({ host: "127.0.0.1", port }));

  console.log(
    `Node ${process.version}, ${connections} connections, 32 bytes, median of ${rounds} rounds; CPU µs a request`,
  );
  console.log("callers   floor   FantaTCP   ratio   FantaTCP requests/s");
  for (const callers of [16, 128, 1024]) {
    const requests = callers < 100 ? 40_000 : 300_000;
    const results: { floor: Cost; fanta: Cost }[] = [];
    // The first two rounds warm up.
    for (let round = -2; round < rounds; round++) {
      // Who is first changes: the second finds the caches as the first has left them.
      const floorFirst = round % 2 === 0;
      const early = floorFirst ? await measure(floor, callers, requests) : await measure(fanta, callers, requests);
      const late = floorFirst ? await measure(fanta, callers, requests) : await measure(floor, callers, requests);
      if (round >= 0) results.push(floorFirst ? { floor: early, fanta: late } : { floor: late, fanta: early });
    }
    const columns = [
      String(callers).padStart(7),
      median(results.map((each) => each.floor.cpu))
        .toFixed(2)
        .padStart(7),
      median(results.map((each) => each.fanta.cpu))
        .toFixed(2)
        .padStart(10),
      median(results.map((each) => each.fanta.cpu / each.floor.cpu))
        .toFixed(2)
        .padStart(7),
      Math.round(1e6 / median(results.map((each) => each.fanta.wall)))
        .toLocaleString("en")
        .padStart(21),
    ];
    console.log(columns.join(" "));
  }

  for (const client of floor) client.close();
  await Promise.all(fanta.map((client) => client.close()));
  child.disconnect();
}

function startServer(): Promise<[ChildProcess, number]> {
  const child = fork(fileURLToPath(import.meta.url), ["server"]);
  return new Promise((resolve) => child.once("message", (port) => resolve([child, port as number])));
}

/** Microseconds a request. */
interface Cost {
  readonly cpu: number;
  readonly wall: number;
}

async function measure(clients: readonly Client[], callers: number, requests: number): Promise<Cost> {
  let left = requests;
  let turn = 0;
  const caller = async (): Promise<void> => {
    while (left-- > 0) {
      const client = clients[turn++ % connections] as Client;
      const payload = payloads[left & 63] as string;
      if ((await client.request(payload)) !== payload) throw new Error("the answer is another's");
    }
  };
  (globalThis as { gc?: () => void }).gc?.();
  const cpuBefore = process.cpuUsage();
  const wallBefore = performance.now();
  await Promise.all(Array.from({ length: callers }, caller));
  const wall = (performance.now() - wallBefore) * 1000;
  const cpu = process.cpuUsage(cpuBefore);
  return { cpu: (cpu.user + cpu.system) / requests, wall: wall / requests };
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] as number;
}
