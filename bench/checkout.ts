/**
 * What lending costs, and how a pool bears what pools break under.
 *
 * First the price of an acquire and a release, beside other pools and beside as little as can be called one
 * (peers.ts): CPU time and bytes. All run in one process, in rounds, in an order that changes from round to round, so
 * that a change in the machine's speed meets all alike; the ratios are taken within each round. Medians over the rounds.
 * Then the length of the line, twice: as Node comes, where V8 copies whoever waits long from its young generation to the
 * old one, and in a process with room for all of them in the young one, where the price is the pool's own; then a spike
 * and an overload, on virtual time, where a figure is a count and not a measurement; last a server that says nothing, on
 * the real clock, in a process that has done nothing else: what five pools and 20,000 callers have left is none of its time.
 *
 *     npm run bench:checkout            [--rounds 9]
 */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { CheckoutPool, type PoolError } from "poolwarden";
import { virtualRuntime } from "poolwarden/sim";
import { bareDeque, effect, generic, lightning, ours, oursByUse, type StandingWay, tarn, type Way } from "./peers.ts";

const { values: flags } = parseArgs({
  options: { rounds: { type: "string" }, line: { type: "boolean" }, silent: { type: "boolean" } },
});
const rounds = Number(flags.rounds ?? 9);

/** How long a way is loaded in each round. */
const roundMs = 80;
/** The overload: what a caller does, how long it waits for the answer, and how long callers come. */
const workMs = 10;
const giveUpMs = 500;
const overloadMs = 20_000;
const program = fileURLToPath(import.meta.url);
const roomy = ["--max-semi-space-size=256", "--min-semi-space-size=256"];

if (flags.line === true) {
  await longLines(true);
  process.exit();
}
if (flags.silent === true) {
  await blackHole();
  process.exit();
}
console.log(`Node ${process.version}; medians of ${rounds} rounds\n`);
await lending();
console.log("Callers in line: a turn of the line (one is served, one joins), and the abort of one who waits\n");
await longLines(false);
console.log("The same, with a young generation of 256 MB\n");
alone(...roomy, program, "--line", "--rounds", String(rounds));
await spike();
await overload();
alone(program, "--silent");

/** In a process of its own. */
function alone(...given: string[]): void {
  spawnSync(process.execPath, given, { stdio: "inherit" });
}

// The price of lending.

async function lending(): Promise<void> {
  const ways = [
    await bareDeque(),
    await ours(),
    await oursByUse(),
    await generic(true),
    await generic(false),
    await tarn(),
    await lightning(true),
    await lightning(false),
    await effect(true),
    await effect(false),
  ];
  const alone = await compare(ways, 1, (way, times) => way.alone(times));
  table("One caller, an idle resource: acquire and release", ways, alone);
  bar("of the fastest peer with its timeouts on", ratioToFastest(ways, alone, true), 0.5);
  bar("of the fastest peer with them off", ratioToFastest(ways, alone, false), 0.85);

  const callers = 1_000;
  const crowd = await compare(ways, callers, (way, times) => way.crowd(callers, Math.ceil(times / callers)));
  table(`${callers.toLocaleString("en")} callers, 10 resources`, ways, crowd);
  bar("of the fastest peer with its timeouts on", ratioToFastest(ways, crowd, true), 0.6);
  for (const way of ways) await way.end();
}

interface Figures {
  /** CPU nanoseconds an operation, each round. */
  readonly ns: number[];
  readonly bytes: number;
}

async function compare(
  ways: readonly Way[],
  callers: number,
  load: (way: Way, times: number) => Promise<void>,
): Promise<Map<Way, Figures>> {
  const seen = new Map(ways.map((way) => [way, [] as number[]]));
  const times = new Map<Way, number>();
  for (const way of ways) {
    for (let warm = 0; warm < 3; warm++) await load(way, 20_000);
    const ns = await cpuNs(20_000, () => load(way, 20_000));
    times.set(way, callers * Math.max(10, Math.round((roundMs * 1e6) / ns / callers)));
  }
  for (let round = 0; round < rounds; round++) {
    for (let turn = 0; turn < ways.length; turn++) {
      const way = ways[(turn + round) % ways.length] as Way;
      const count = times.get(way) as number;
      seen.get(way)?.push(await cpuNs(count, () => load(way, count)));
    }
  }
  const figures = new Map<Way, Figures>();
  for (const way of ways) figures.set(way, { ns: seen.get(way) ?? [], bytes: await bytesOf(way, load) });
  return figures;
}

/** So few that nothing is collected meanwhile. */
async function bytesOf(way: Way, load: (way: Way, times: number) => Promise<void>): Promise<number> {
  const times = 1_000;
  const seen: number[] = [];
  for (let round = 0; round < rounds; round++) {
    globalThis.gc?.();
    const before = process.memoryUsage().heapUsed;
    await load(way, times);
    seen.push((process.memoryUsage().heapUsed - before) / times);
  }
  return median(seen);
}

/** Ours to whichever of the others was the fastest in that round. */
function ratioToFastest(ways: readonly Way[], figures: ReadonlyMap<Way, Figures>, timeouts: boolean): number {
  const ns = (way: Way): readonly number[] => figures.get(way)?.ns ?? [];
  const mine = ways.find(({ name }) => name === "poolwarden") as Way;
  const peers = ways.filter((way) => !/poolwarden|bare/.test(way.name) && way.timeouts === timeouts);
  return median(ns(mine).map((own, round) => own / Math.min(...peers.map((peer) => ns(peer)[round] as number))));
}

function table(title: string, ways: readonly Way[], figures: ReadonlyMap<Way, Figures>): void {
  console.log(`${title}\n`);
  print(["pool", "timeouts", "CPU ns", "bytes"]);
  for (const way of ways) {
    const { ns, bytes } = figures.get(way) as Figures;
    print([way.name, way.timeouts ? "on" : "off", median(ns).toFixed(0), bytes.toFixed(0)]);
  }
  console.log();
}

// The line.

/** @param judged Whether V8 has the room that leaves the pool's own price. */
async function longLines(judged: boolean): Promise<void> {
  print(["waiting", "", "CPU ns/turn", "bare deque", "CPU ns/abort"]);
  const [mine, bare] = [await ours(), await bareDeque()];
  const figures: number[][] = [];
  for (const waiting of [16, 1_000, 20_000]) {
    const ns = await turnsNs([mine, bare], waiting);
    figures.push([...ns, await abortNs(waiting)]);
    print([waiting.toLocaleString("en"), "", ...(figures.at(-1) as number[]).map((each) => each.toFixed(0))]);
  }
  await mine.end();
  console.log();
  const [few, , many] = figures as [number[], number[], number[]];
  const times = (column: number): number => (many[column] as number) / (few[column] as number);
  console.log(`          ${times(1).toPrecision(3)}  times the price of a turn of the bare deque, with 20,000 waiting`);
  const told = [
    ["times the price of a turn, with 20,000 waiting", times(0)],
    ["times the price of an abort, with 20,000 waiting", times(2)],
  ] as const;
  for (const [what, price] of told) {
    if (judged) bar(what, price, 1.5);
    else console.log(`          ${price.toPrecision(3)}  ${what}`);
  }
}

async function turnsNs(ways: readonly StandingWay[], waiting: number): Promise<number[]> {
  const turns = 100_000;
  const lines = await Promise.all(ways.map((way) => way.stand(waiting)));
  const seen = ways.map((): number[] => []);
  for (const line of lines) await line.turns(turns); // Warm.
  for (let round = 0; round < rounds; round++) {
    for (const [at, line] of lines.entries()) seen[at]?.push(await cpuNs(turns, () => line.turns(turns)));
  }
  for (const line of lines) await line.end();
  return seen.map(median);
}

/** Those who wait are aborted from the middle of the line outwards: where walking the line would cost the most. */
async function abortNs(waiting: number): Promise<number> {
  const pool = await CheckoutPool.start({
    connector: { name: "bench", open: async () => ({}) },
    max: 1,
    queue: { limit: waiting },
  });
  const holder = await pool.acquire();
  const gone = new Error("gone"); // Without one, most of the price is that of the error Node makes.
  const ns: number[] = [];
  const lines = Math.max(1, Math.round(2_000 / waiting));
  for (let round = 0; round < rounds; round++) {
    let total = 0;
    for (let line = 0; line < lines; line++) {
      const controllers = Array.from({ length: waiting }, () => new AbortController());
      const calls = controllers.map(({ signal }) => pool.acquire({ signal }).catch(() => undefined));
      const middle = waiting >> 1;
      const outwards = controllers.map((_, n) => controllers[middle + (n % 2 === 0 ? n >> 1 : -((n + 1) >> 1))]);
      total += await cpuNs(waiting, async () => {
        for (const controller of outwards) controller?.abort(gone);
        await Promise.all(calls);
      });
    }
    ns.push(total / lines);
  }
  holder.release();
  await pool.destroy();
  return median(ns);
}

// A spike.

async function spike(): Promise<void> {
  const runtime = virtualRuntime({ seed: 1 });
  const pause = (ms: number): Promise<void> => new Promise((resolve) => void runtime.setTimer(resolve, ms));
  let opened = 0;
  let openMs = 0;
  const open = async (): Promise<object> => {
    opened++;
    if (openMs > 0) await pause(openMs);
    return {};
  };
  const pool = await CheckoutPool.start({ connector: { name: "bench", open }, min: 5, max: 50, runtime });
  await runtime.until(pool.ready());
  openMs = 150;
  const startedAt = runtime.now();
  const calls = Array.from({ length: 50 }, () => pool.use(() => pause(2)));
  await runtime.until(Promise.all(calls));
  const tookMs = runtime.now() - startedAt;
  await runtime.until(pool.destroy());
  console.log("A spike: 50 callers, 5 idle resources, 150 ms to open another, 2 ms of work (virtual time)\n");
  bar("ms until all were done", tookMs, 25);
  bar("resources opened in all (5 + maxOpening)", opened, 7);
}

// Overload.

interface Served {
  readonly goodput: number;
  readonly p99: number;
  readonly shed: number;
}

async function overload(): Promise<void> {
  console.log("Overload: 10 resources, 10 ms of work, callers give up at 500 ms; 20 s of virtual time\n");
  print(["load", "shed", "goodput %", "p99 ms", "shed"]);
  const show = (load: string, way: string, { goodput, p99, shed }: Served): void => {
    print([load, way, (100 * goodput).toFixed(1), p99.toFixed(0), String(shed)]);
  };
  const plain = await offer(2, 1, false);
  show("2 ×", "off", plain);
  const twice = await offer(2, 1, true);
  show("2 ×", "on", twice);
  const tenfold = await offer(10, 1, true);
  show("10 ×", "on", tenfold);
  const bursts = await offer(0.7, 15, true);
  show("0.7 ×, bursts of 15", "on", bursts);
  console.log();
  bar("of capacity served in time at 2 ×", twice.goodput, 0.98, "at least");
  bar("of capacity served in time at 10 ×", tenfold.goodput, 0.97, "at least");
  bar("ms, the p99 of those served at 2 ×", twice.p99, 80);
  bar("ms, the p99 of those served at 10 ×", tenfold.p99, 80);
  bar("callers shed at 0.7 × with bursts of 15", bursts.shed, 0);
}

/** Callers who come by chance (Poisson), or in bursts of so many with the same pause between all of them. */
async function offer(load: number, burst: number, shed: boolean): Promise<Served> {
  const runtime = virtualRuntime({ seed: 7 });
  const pause = (ms: number): Promise<void> => new Promise((resolve) => void runtime.setTimer(resolve, ms));
  const pool = await CheckoutPool.start({
    connector: { name: "bench", open: async () => ({}) },
    max: 10,
    maxOpening: 10,
    queue: { limit: 1_000_000, shed },
    runtime,
  });
  await runtime.until(pool.ready({ min: 10 }));
  const took: number[] = [];
  const calls: Promise<void>[] = [];
  const call = async (): Promise<void> => {
    const askedAt = runtime.now();
    try {
      await pool.use(() => pause(workMs), { timeoutMs: giveUpMs });
    } catch {
      return;
    }
    const ms = runtime.now() - askedAt;
    if (ms <= giveUpMs) took.push(ms); // Later, nobody wants it any more.
  };
  const meanMs = (workMs / 10) * (burst / load);
  const come = (): void => {
    for (let n = 0; n < burst; n++) calls.push(call());
    const nextMs = burst > 1 ? meanMs : -Math.log(1 - runtime.random()) * meanMs;
    if (runtime.now() < overloadMs) runtime.setTimer(come, nextMs);
  };
  come();
  await runtime.advance(overloadMs);
  const goodput = took.length / (overloadMs / (workMs / 10)) / Math.min(load, 1);
  await runtime.until(Promise.all(calls));
  const { shed: shedCount } = pool.stats().totals;
  await runtime.until(pool.destroy());
  took.sort((a, b) => a - b);
  return { goodput, p99: took[Math.floor(0.99 * took.length)] ?? Number.NaN, shed: shedCount };
}

// A server that says nothing.

async function blackHole(): Promise<void> {
  const pool = await CheckoutPool.start({
    connector: { name: "bench", open: () => new Promise<never>(() => undefined) },
    openTimeoutMs: 1_000,
  });
  const timeoutMs = 5_000;
  let latestMs = 0;
  let withCause = 0;
  const caller = async (): Promise<void> => {
    const askedAt = performance.now();
    const error = await pool.acquire({ timeoutMs }).catch((thrown: unknown) => thrown as PoolError);
    latestMs = Math.max(latestMs, performance.now() - askedAt - timeoutMs);
    if ("code" in error && error.code === "ERR_POOL_ACQUIRE_TIMEOUT" && error.cause instanceof Error) withCause++;
  };
  await Promise.all(Array.from({ length: 1_000 }, caller));
  await pool.destroy();
  console.log("A server that says nothing: 1,000 callers with 5 s each (real time)\n");
  bar("ms after its time, the last of them", latestMs, 20);
  bar("told so, with the last failure to open as the cause", withCause, 1_000, "at least");
}

/** Nothing is collected before: after a full collection V8 has thrown away what it had learnt, and is slow for a while. */
async function cpuNs(times: number, act: () => Promise<void>): Promise<number> {
  const cpu = process.cpuUsage();
  await act();
  const { user, system } = process.cpuUsage(cpu);
  return ((user + system) * 1_000) / times;
}

function bar(what: string, value: number, limit: number, sense: "at most" | "at least" = "at most"): void {
  const met = sense === "at most" ? value <= limit : value >= limit;
  const figure = Number.isInteger(value) ? String(value) : value.toPrecision(3);
  console.log(`  ${met ? "met   " : "MISSED"}  ${figure.padStart(6)}  ${what} (${sense} ${limit})`);
  if (/them off|abort|opened in all|cause|bursts/.test(what)) console.log();
}

function print(cells: readonly string[]): void {
  const widths = [20, 10, 12, 14, 14];
  console.log(cells.map((cell, at) => (at === 0 ? cell.padEnd(20) : cell.padStart(widths[at] as number))).join(""));
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[(sorted.length - 1) >> 1] as number;
}
