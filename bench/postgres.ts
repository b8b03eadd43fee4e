/**
 * What a query through our pool costs, beside the same query through pg's own.
 *
 * Both are the same program but for one import. Each runs in a process of its own, for in one they would spoil each
 * other's inline caches and who comes first would win. One works at a time, in rounds, in an order that changes from
 * round to round, so that a change in the machine's speed meets both alike. The server is one more process, Postgres itself:
 * one that is running if `--url` names it, else one that is started for this from Debian's package.
 *
 * The figures are the client's CPU time for a query (`process.cpuUsage`) and queries a second. The ratios are taken within
 * each round; of all, the median over the rounds. Nearly all of a query is pg's client and the kernel, the same for
 * both: what the pools add is the difference, and it is small.
 *
 *     npm run bench:postgres            [--rounds 31] [--queries 2000] [--url postgres://…]
 */
import { type ChildProcess, fork, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import pg from "pg";
import { Pool } from "poolwarden/postgres";

/** What a child is asked to do. */
type Order =
  | { readonly do: "connect"; readonly way: Way; readonly url: string }
  | { readonly do: "measure"; readonly text: string; readonly callers: number; readonly queries: number };

type Way = "poolwarden" | "pg-pool";

interface Figures {
  readonly cpuUs: number;
  readonly perSecond: number;
}

const ways: readonly Way[] = ["poolwarden", "pg-pool"];
const size = 10;
const texts: readonly (readonly [string, string])[] = [
  ["SELECT 1", "SELECT 1"],
  ["100 rows", "SELECT n AS id, 'row ' || n AS name, n % 2 = 0 AS even FROM generate_series(1, 100) AS n"],
];

let server: ChildProcess | undefined;
const children = new Set<ChildProcess>();
const file = fileURLToPath(import.meta.url);
if (process.send === undefined) await lead();
else work();

// ── The one who asks ───────────────────────────────────────────────────────────────────────────────────────────────

async function lead(): Promise<void> {
  const flags = parseArgs({
    options: { rounds: { type: "string" }, queries: { type: "string" }, url: { type: "string" } },
  }).values;
  const rounds = Number(flags.rounds ?? 31);
  const queries = Number(flags.queries ?? 2_000);
  const url = flags.url ?? (await startServer());
  if (url === null) console.log("Without a Postgres there is nothing to measure. Install one, or give --url.");
  else await compare(url, rounds, queries);
  server?.disconnect();
}

/** It is stopped when we let go of it, however we end. */
async function startServer(): Promise<string | null> {
  const program = `
    import { postgresInstalled, startPostgres } from "./test/servers/postgres.ts";
    const server = postgresInstalled() ? await startPostgres() : undefined;
    process.once("disconnect", () => server?.stop());
    process.send(server?.url ?? null);`;
  server = spawn(process.execPath, ["--import", "tsx", "--input-type=module", "--eval", program], {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  const [url] = (await once(server, "message")) as [string | null];
  return url;
}

async function compare(url: string, rounds: number, queries: number): Promise<void> {
  const manifest = await import("pg/package.json", { with: { type: "json" } });
  console.log(
    `Node ${process.version}, pg ${(manifest.default as { version: string }).version}; Postgres in another process; a pool ` +
      `of ${size}; medians of ${rounds} rounds of ${queries.toLocaleString("en")} queries, ratios within rounds\n`,
  );
  print(["query", "callers", "pool", "CPU µs/query", "× pg-pool", "queries/s", "× pg-pool"]);
  for (const [name, text] of texts) {
    for (const callers of [10, 100, 1_000]) {
      const seen = await measured(url, text, callers, rounds, queries);
      for (const way of ways) {
        const mine = seen.get(way) as Figures[];
        const ratio = (of: (figures: Figures) => number): string =>
          median(
            mine.map((each, round) => of(each) / of((seen.get("pg-pool") as Figures[])[round] as Figures)),
          ).toFixed(3);
        print([
          ...[name, String(callers), way],
          ...[median(mine.map(({ cpuUs }) => cpuUs)).toFixed(1), ratio(({ cpuUs }) => cpuUs)],
          Math.round(median(mine.map(({ perSecond }) => perSecond))).toLocaleString("en"),
          ratio(({ perSecond }) => perSecond),
        ]);
      }
    }
  }
  console.log("\nBar: CPU at most 1.000 × pg-pool's, queries/s at least 1.000 ×.");
}

async function measured(
  url: string,
  text: string,
  callers: number,
  rounds: number,
  queries: number,
): Promise<Map<Way, Figures[]>> {
  const workers = new Map(ways.map((way) => [way, child()]));
  const order: Order = { do: "measure", text, callers, queries };
  for (const [way, each] of workers) {
    await ask(each, { do: "connect", way, url });
    await ask(each, { ...order, queries: 10 * queries }); // Until V8 has compiled what it will.
  }
  const seen = new Map<Way, Figures[]>(ways.map((way) => [way, []]));
  for (let round = 0; round < rounds; round++) {
    for (const way of round % 2 === 0 ? ways : ways.toReversed()) {
      seen.get(way)?.push((await ask(workers.get(way) as ChildProcess, order)) as Figures);
    }
  }
  for (const each of workers.values()) each.kill();
  return seen;
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

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] as number;
}

function print(cells: readonly string[]): void {
  const widths = [10, 9, 12, 14, 11, 11, 11];
  console.log(
    cells.map((cell, at) => (at < 3 ? cell.padEnd(widths[at] ?? 0) : cell.padStart(widths[at] ?? 0))).join(""),
  );
}

// ── Those who are asked ────────────────────────────────────────────────────────────────────────────────────────────

function work(): void {
  let pool: pg.Pool; // For its type, too, ours is one.
  process.on("message", (order: Order) => {
    void obey(order).then((answer) => process.send?.(answer));
  });

  async function obey(order: Order): Promise<unknown> {
    if (order.do === "measure") return measure(pool, order.text, order.callers, order.queries);
    const options = { connectionString: order.url, max: size };
    pool = order.way === "pg-pool" ? new pg.Pool(options) : new Pool(options);
    return "connected";
  }
}

/** No garbage is collected for it between the rounds: V8 would forget what it has learnt. */
async function measure(pool: pg.Pool, text: string, callers: number, queries: number): Promise<Figures> {
  let left = queries;
  const cpu = process.cpuUsage();
  const startedAt = performance.now();
  const caller = async (): Promise<void> => {
    while (left-- > 0) await pool.query(text);
  };
  await Promise.all(Array.from({ length: callers }, caller));
  const seconds = (performance.now() - startedAt) / 1_000;
  const { user, system } = process.cpuUsage(cpu);
  return { cpuUs: (user + system) / queries, perSecond: queries / seconds };
}
