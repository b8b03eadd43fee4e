/**
 * The main job: a supervised pool over real sockets, and what can go wrong with its servers.
 *
 * Three Fanta servers run as processes of their own. A pool has four connections to each. Callers send requests one
 * after another, each with its own text, and compare every answer with it, while a server is killed, comes back, is
 * frozen and resumed, and all are restarted in turn. At the end: what each phase cost, and the tree as it is then.
 *
 * The exit code is 0 only if every request settled, none was answered wrongly, and the pool is at rest afterwards.
 */

import { createHistogram, type RecordableHistogram } from "node:perf_hooks";
import { styleText } from "node:util";
import { PoolwardenError } from "../errors.ts";
import { FantaPool } from "../fanta/index.ts";
import { leastUsed, random, roundRobin, strictRoundRobin } from "../routing/index.ts";
import { ServerProcess } from "./servers.ts";
import { drawTree, table } from "./table.ts";
import { numberFlag, parse, UsageError } from "./usage.ts";

const strategies = { leastUsed, roundRobin, strictRoundRobin, random };
const servers = 3;
const connectionsEach = 4;

interface Options {
  readonly seconds: number;
  readonly callers: number;
  readonly strategy: keyof typeof strategies;
  readonly port: number;
  readonly json: boolean;
}

/** What one phase has cost. */
class Phase {
  readonly name: string;
  readonly latencyNs: RecordableHistogram = createHistogram();
  readonly failures = new Map<string, number>();
  requests = 0;
  settled = 0;
  wrong = 0;
  seconds = 0;
  rerouted = 0;
  restarts = 0;

  constructor(name: string) {
    this.name = name;
  }

  get failed(): number {
    return [...this.failures.values()].reduce((sum, count) => sum + count, 0);
  }

  get perSecond(): number {
    return this.seconds === 0 ? 0 : this.requests / this.seconds;
  }

  latencyMs(percentile: number): number {
    return this.latencyNs.count === 0 ? 0 : this.latencyNs.percentile(percentile) / 1e6;
  }
}

export async function demo(args: readonly string[]): Promise<number> {
  const options = readOptions(args);
  const processes = Array.from({ length: servers }, (_, at) => new ServerProcess(options.port + at));
  const killAll = (): void => {
    for (const each of processes) each.signal("SIGKILL");
  };
  process.once("exit", killAll);
  const interrupted = (): void => process.exit(130);
  process.once("SIGINT", interrupted);
  process.once("SIGTERM", interrupted);
  try {
    try {
      await Promise.all(processes.map((each) => each.start()));
    } catch (error) {
      const range = `${options.port} to ${options.port + servers - 1}`;
      process.stderr.write(
        `poolwarden demo: its servers could not listen on the ports ${range}. Give others with --port.\n${(error as Error).message}\n`,
      );
      return 1;
    }
    return await run(options, processes);
  } finally {
    await Promise.all(processes.map((each) => each.kill()));
    process.off("exit", killAll);
    process.off("SIGINT", interrupted);
    process.off("SIGTERM", interrupted);
  }
}

async function run(options: Options, processes: ServerProcess[]): Promise<number> {
  const pool = await FantaPool.start({
    name: "demo",
    endpoints: processes.map(({ port }) => ({ id: `127.0.0.1:${port}` })),
    size: connectionsEach,
    strategy: strategies[options.strategy](),
    backoff: { minMs: 100, maxMs: 1_000 },
    requestTimeoutMs: 60_000,
  });
  await pool.ready({ min: servers * connectionsEach });
  const traffic = new Callers(pool, options.callers);
  const live = new LiveLine(options, pool, traffic);
  const phaseMs = (options.seconds * 1_000) / 5;
  const [, second, third] = processes as [ServerProcess, ServerProcess, ServerProcess];

  await traffic.phase("healthy", live, () => sleep(phaseMs));
  await traffic.phase("one server killed (SIGKILL)", live, async () => {
    second.signal("SIGKILL");
    await second.ended();
    await sleep(phaseMs);
  });
  await traffic.phase("it comes back", live, async () => {
    await second.start();
    await sleep(phaseMs);
  });
  await traffic.phase("one stalled (SIGSTOP), resumed", live, async () => {
    third.signal("SIGSTOP");
    await sleep(phaseMs / 2);
    third.signal("SIGCONT");
    await sleep(phaseMs / 2);
  });
  await traffic.phase("rolling restart (goaway)", live, async () => {
    for (const each of processes) {
      each.signal("SIGTERM");
      await each.ended();
      await each.start();
      await sleep(phaseMs / processes.length);
    }
  });
  await traffic.stop();
  await pool.ready({ min: servers * connectionsEach });
  live.end();

  const atRest = pool.stats();
  const tree = drawTree(pool.tree());
  const report = await pool.close({ timeoutMs: 5_000 });
  return tell(options, traffic, {
    tree,
    atRest: atRest.inFlight === 0 && atRest.waiting === 0 && report.aborted === 0,
  });
}

/** Callers that each send one request after another, until told to stop. */
class Callers {
  readonly phases: Phase[] = [];
  readonly #pool: FantaPool;
  readonly #loops: Promise<void>[];
  #phase = new Phase("before");
  #running: boolean = true;

  constructor(pool: FantaPool, count: number) {
    this.#pool = pool;
    this.#loops = Array.from({ length: count }, (_, caller) => this.#call(caller));
  }

  get current(): Phase {
    return this.#phase;
  }

  /** Accounts to a new phase what begins while `happens` does. */
  async phase(name: string, live: LiveLine, happens: () => Promise<void>): Promise<void> {
    const phase = new Phase(name);
    this.phases.push(phase);
    this.#phase = phase;
    live.phase(phase);
    const before = this.#pool.stats().totals;
    const startedAt = performance.now();
    await happens();
    const after = this.#pool.stats().totals;
    phase.seconds = (performance.now() - startedAt) / 1_000;
    phase.rerouted = after.retried - before.retried;
    phase.restarts = after.opened - before.opened;
  }

  async stop(): Promise<void> {
    this.#running = false;
    await Promise.all(this.#loops);
  }

  async #call(caller: number): Promise<void> {
    for (let turn = 0; ; turn++) {
      if (!this.#running) return;
      const phase = this.#phase;
      const text = `caller ${caller}, request ${turn}`;
      phase.requests++;
      const startedAt = performance.now();
      try {
        const answer = await this.#pool.request(text, { idempotent: true });
        if (answer !== text) phase.wrong++;
      } catch (error) {
        const code = error instanceof PoolwardenError ? error.code : (error as Error).name;
        phase.failures.set(code, (phase.failures.get(code) ?? 0) + 1);
      }
      phase.settled++;
      phase.latencyNs.record(Math.max(1, Math.round((performance.now() - startedAt) * 1e6)));
    }
  }
}

/** What is going on, in one line that is written over; on something that is no terminal, a line a phase. */
class LiveLine {
  readonly #on: boolean;
  readonly #terminal: boolean;
  readonly #pool: FantaPool;
  readonly #traffic: Callers;
  readonly #timer: NodeJS.Timeout | undefined;
  #last = { at: performance.now(), settled: 0 };
  #phase: Phase | undefined;

  constructor(options: Options, pool: FantaPool, traffic: Callers) {
    this.#on = !options.json;
    this.#terminal = process.stdout.isTTY === true;
    this.#pool = pool;
    this.#traffic = traffic;
    if (this.#on && this.#terminal) this.#timer = setInterval(() => this.#show(), 250);
  }

  phase(phase: Phase): void {
    this.#phase = phase;
    this.#last = { at: performance.now(), settled: 0 };
    if (this.#on && !this.#terminal) process.stdout.write(`${phase.name} …\n`);
  }

  end(): void {
    clearInterval(this.#timer);
    if (this.#on && this.#terminal) process.stdout.write("\r\u001b[2K");
  }

  #show(): void {
    const phase = this.#phase;
    if (phase === undefined || phase !== this.#traffic.current) return;
    const now = performance.now();
    const perSecond = ((phase.settled - this.#last.settled) * 1_000) / (now - this.#last.at);
    this.#last = { at: now, settled: phase.settled };
    const { ready, size, totals } = this.#pool.stats();
    const figures = [
      `${Math.round(perSecond).toLocaleString("en")} requests/s`,
      `p99 ${phase.latencyMs(99).toFixed(1)} ms`,
      `${ready}/${size} members up`,
      `${totals.retried} re-routed`,
    ];
    process.stdout.write(`\r\u001b[2K${styleText("bold", phase.name)}  ${figures.join(" · ")}`);
  }
}

function tell(options: Options, traffic: Callers, end: { tree: string; atRest: boolean }): number {
  const { phases } = traffic;
  const settled = phases.every((phase) => phase.settled === phase.requests);
  const wrong = phases.reduce((sum, phase) => sum + phase.wrong, 0);
  const ok = settled && wrong === 0 && end.atRest;
  if (options.json) {
    const rows = phases.map((phase) => ({
      phase: phase.name,
      requests: phase.requests,
      settled: phase.settled,
      wrong: phase.wrong,
      requestsPerSecond: Math.round(phase.perSecond),
      p50Ms: round(phase.latencyMs(50)),
      p99Ms: round(phase.latencyMs(99)),
      rerouted: phase.rerouted,
      failed: phase.failed,
      failures: Object.fromEntries(phase.failures),
      restarts: phase.restarts,
    }));
    process.stdout.write(
      `${JSON.stringify({ ok, atRest: end.atRest, phases: rows, tree: end.tree.split("\n") }, undefined, 2)}\n`,
    );
    return ok ? 0 : 1;
  }
  const heading = ["phase", "requests", "requests/s", "p50 ms", "p99 ms", "re-routed", "failed", "restarts"];
  const rows = phases.map((phase) => [
    phase.name,
    phase.requests.toLocaleString("en"),
    Math.round(phase.perSecond).toLocaleString("en"),
    phase.latencyMs(50).toFixed(2),
    phase.latencyMs(99).toFixed(2),
    String(phase.rerouted),
    phase.failed === 0 ? "0" : [...phase.failures].map(([code, count]) => `${count} ${code}`).join(", "),
    String(phase.restarts),
  ]);
  process.stdout.write(`\n${table([heading, ...rows])}\n\n${end.tree}\n\n`);
  const requests = phases.reduce((sum, phase) => sum + phase.requests, 0).toLocaleString("en");
  process.stdout.write(
    ok
      ? `${requests} requests, each settled exactly once, none answered wrongly; the pool was at rest at the end.\n`
      : `NOT in order: ${settled ? "" : "some requests never settled; "}${wrong} answered wrongly; at rest: ${String(end.atRest)}.\n`,
  );
  return ok ? 0 : 1;
}

function readOptions(args: readonly string[]): Options {
  const { flags, words } = parse(args, {
    seconds: { type: "string" },
    callers: { type: "string" },
    strategy: { type: "string" },
    port: { type: "string" },
    json: { type: "boolean" },
  });
  if (words.length > 0) throw new UsageError(`demo takes no words, and got "${words.join(" ")}"`);
  const strategy = flags["strategy"] ?? "leastUsed";
  if (!Object.hasOwn(strategies, String(strategy))) {
    throw new UsageError(`--strategy takes one of ${Object.keys(strategies).join(", ")}, not "${String(strategy)}"`);
  }
  return {
    seconds: numberFlag(flags, "seconds", { least: 1, most: 3_600, otherwise: 20, whole: false }),
    callers: numberFlag(flags, "callers", { least: 1, most: 100_000, otherwise: 256 }),
    strategy: strategy as keyof typeof strategies,
    port: numberFlag(flags, "port", { least: 1, most: 65_535 - servers + 1, otherwise: 7_301 }),
    json: flags["json"] === true,
  };
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function round(ms: number): number {
  return Math.round(ms * 1_000) / 1_000;
}
