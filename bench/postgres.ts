/**
 * What a query through our pool costs, beside the same query through pg's own.
 *
 * Both are the same program but for one import. Each runs in a process of its own, for in one they would spoil each
 * other's inline caches and who comes first would win. One works at a time, in short rounds, in an order that changes from
 * round to round, so that a change in the machine's speed meets both alike; and several times from the start, because
 * two processes of the very same program differ by some percent. The server is one more process, Postgres itself: one
 * that is running if `--url` names it, else one that is started for this from Debian's package.
 *
 * The figures are the client's CPU time for a query (`process.cpuUsage`) and queries a second. The ratios are taken within
 * each round; of all, the median over the rounds. Nine tenths of a query are pg's client and the kernel, the same for
 * both. So the pools stand alone first, with clients of the same face that answer in the next turn, from memory.
 *
 *     npm run bench:postgres            [--starts 7] [--rounds 31] [--queries 500] [--url postgres://…]
 */
import { type ChildProcess, fork, spawn } from "node:child_process";
import { EventEmitter, once } from "node:events";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import pg from "pg";
import { Pool } from "poolwarden/postgres";

/** What a child is asked to do. */
type Order =
  | { readonly do: "connect"; readonly way: Way; readonly url: string | undefined }
  | { readonly do: "measure"; readonly text: string; readonly callers: number; readonly queries: number };

type Way = "poolwarden" | "pg-pool";

interface Effort {
  readonly starts: number;
  readonly rounds: number;
  readonly queries: number;
}

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
  const text = { type: "string" } as const;
  const flags = parseArgs({ options: { starts: text, rounds: text, queries: text, url: text } }).values;
  const effort: Effort = {
    starts: Number(flags.starts ?? 7),
    rounds: Number(flags.rounds ?? 31),
    queries: Number(flags.queries ?? 500),
  };
  const manifest = await import("pg/package.json", { with: { type: "json" } });
  console.log(
    `Node ${process.version}, pg ${(manifest.default as { version: string }).version}; a pool of ${size}; medians of ` +
      `${effort.starts * effort.rounds} rounds of ${effort.queries} queries, ratios within rounds\n`,
  );
  print(["query", "callers", "pool", "CPU µs/query", "× pg-pool", "queries/s", "× pg-pool"]);
  // Shorter than a clock of microseconds can see, but for many.
  await compare(undefined, [["from memory", "SELECT 1"]], { ...effort, queries: 20 * effort.queries });
  const url = flags.url ?? (await startServer());
  if (url === null) console.log("\nWithout a Postgres there is nothing more to measure. Install one, or give --url.");
  else await compare(url, texts, effort);
  console.log("\nBar: CPU at most 1.000 × pg-pool's, queries/s at least 1.000 ×.");
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

async function compare(url: string | undefined, of: typeof texts, effort: Effort): Promise<void> {
  for (const [name, text] of of) {
    for (const callers of [10, 100, 1_000]) {
      const seen = await measured(url, text, callers, effort);
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
}

async function measured(
  url: string | undefined,
  text: string,
  callers: number,
  { starts, rounds, queries }: Effort,
): Promise<Map<Way, Figures[]>> {
  const seen = new Map<Way, Figures[]>(ways.map((way) => [way, []]));
  for (let start = 0; start < starts; start++) {
    const workers = new Map(inTurn(start).map((way) => [way, child()]));
    const order: Order = { do: "measure", text, callers, queries };
    for (const [way, each] of workers) {
      await ask(each, { do: "connect", way, url });
      await ask(each, { ...order, queries: 10 * queries }); // Until V8 has compiled what it will.
    }
    for (let round = 0; round < rounds; round++) {
      for (const way of inTurn(start + round)) {
        seen.get(way)?.push((await ask(workers.get(way) as ChildProcess, order)) as Figures);
      }
    }
    for (const each of workers.values()) each.kill();
  }
  return seen;
}

function inTurn(turn: number): readonly Way[] {
  return turn % 2 === 0 ? ways : ways.toReversed();
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
  const widths = [13, 9, 12, 14, 11, 11, 11];
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
    const options: pg.PoolConfig =
      order.url === undefined
        ? { Client: FromMemory as unknown as NonNullable<pg.PoolConfig["Client"]>, max: size }
        : { connectionString: order.url, max: size };
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

/** A client of pg's face that has every answer already. It answers in the next turn of the event loop, as a socket would. */
class FromMemory extends EventEmitter {
  readyForQuery = true;
  readonly connection = { stream: { writable: true, destroy: (): void => undefined } };
  readonly #answers: Answered[] = [];
  readonly #answer = (): void => {
    this.readyForQuery = true;
    this.#answers.shift()?.(null, answer);
    if (this.#answers.length === 0) this.emit("drain");
  };

  connect(told?: (error: null) => void): Promise<void> {
    setImmediate(() => told?.(null));
    return Promise.resolve();
  }

  query(_text: string, values: unknown, told: Answered): void {
    this.readyForQuery = false;
    this.#answers.push(typeof values === "function" ? (values as Answered) : told);
    setImmediate(this.#answer);
  }

  getTransactionStatus(): string {
    return "I";
  }

  ref(): void {}

  unref(): void {}

  end(told?: () => void): void {
    setImmediate(() => told?.());
  }
}

type Answered = (error: null, result: typeof answer) => void;

const answer = { rows: [{ "?column?": 1 }], rowCount: 1 };
