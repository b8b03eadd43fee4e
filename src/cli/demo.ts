/**
 * The main job: a supervised pool over real sockets, and what can go wrong with its servers.
 *
 * Three Fanta servers run as processes of their own. A pool has four connections to each. Callers send requests one
 * after another, each with its own text, and compare every answer with it, while a server is killed, comes back, is
 * frozen and resumed, and all are restarted in turn. At the end: what each phase cost, and the tree as it is then.
 *
 * The exit code is 0 only if every request settled exactly once, none was answered wrongly, and the pool is at rest
 * afterwards with all its connections. Servers that somebody else kills meanwhile are reported, and do not end the run.
 */

import { subscribe } from "node:diagnostics_channel";
import { PoolwardenError } from "../errors.ts";
import { FantaPool } from "../fanta/index.ts";
import type { ProcessTree } from "../pool/index.ts";
import { systemRuntime } from "../runtime/index.ts";
import { Callers } from "./callers.ts";
import { asRecord, faults, inOrder, inWords } from "./report.ts";
import { Screen } from "./screen.ts";
import { ServerProcess } from "./servers.ts";
import { strategies, type StrategyName, strategyNames } from "./strategies.ts";
import { drawTree, grouped } from "./table.ts";
import { choiceFlag, numberFlag, parse, UsageError } from "./usage.ts";

const servers = 3;
const connectionsEach = 4;
const connections = servers * connectionsEach;
/** A request that has not settled after this, and a little, never will. */
const requestTimeoutMs = 30_000;
/** At first Node compiles what it runs. That costs no phase anything: it lasts as long as one, and at most this. */
const warmUpMs = 1_000;

interface Options {
  readonly seconds: number;
  readonly callers: number;
  readonly strategy: StrategyName;
  readonly port: number;
  readonly json: boolean;
}

export async function demo(args: readonly string[]): Promise<number> {
  const options = readOptions(args);
  const screen = new Screen(process.stdout, { quiet: options.json, term: process.env["TERM"] });
  const note = (text: string): void => {
    if (options.json) process.stderr.write(`${text}\n`);
    else screen.say("", `    ${text}`);
  };
  const processes = Array.from({ length: servers }, (_, at) => {
    const port = options.port + at;
    return new ServerProcess(port, (how) => note(`the server on port ${port} ended by itself (${how})`));
  });
  const endAll = (): Promise<unknown> => Promise.all(processes.map((each) => each.end("SIGKILL")));
  process.once("exit", () => {
    screen.clear();
    void endAll();
  });
  for (const [signal, number] of [
    ["SIGHUP", 1],
    ["SIGINT", 2],
    ["SIGTERM", 15],
  ] as const) {
    process.once(signal, () => process.exit(128 + number));
  }
  const range = `${options.port} to ${options.port + servers - 1}`;
  try {
    await Promise.all(processes.map((each) => each.start()));
  } catch (error) {
    await endAll();
    return fail(`its servers could not listen on the ports ${range}. Give others with --port.`, error);
  }
  try {
    return await run(options, processes, screen);
  } catch (error) {
    screen.clear();
    return fail("it could not be played to the end.", error);
  } finally {
    await endAll();
  }
}

/** Plays it all, on servers that listen. */
async function run(options: Options, processes: readonly ServerProcess[], screen: Screen): Promise<number> {
  let restarts = 0;
  subscribe("poolwarden:supervisor.childRestarted", () => restarts++);
  await using pool = await FantaPool.start({
    name: "pool",
    endpoints: processes.map(({ port }) => ({ id: `127.0.0.1:${port}` })),
    size: connectionsEach,
    strategy: strategies[options.strategy](),
    backoff: { minMs: 100, maxMs: 1_000 },
    queue: { limit: options.callers }, // No caller has more than one request.
    requestTimeoutMs,
  });
  await pool.ready({ min: connections });
  const before = pool.stats();
  introduce(options, screen);

  const callers = new Callers(pool, {
    count: options.callers,
    first: "warm-up",
    runtime: systemRuntime,
    restarts: () => restarts,
  });
  const watching = watch(pool, callers, screen);
  try {
    await sleep(Math.min(warmUpMs, phaseMs(options)));
    await play(options, processes, pool, callers, screen);
  } catch (error) {
    await pool.destroy(); // So that the callers stop at once.
    throw error;
  } finally {
    clearInterval(watching);
    await callers.stop(requestTimeoutMs + 5_000);
  }
  await connected(pool, servers);

  const after = pool.stats();
  const tree = treeInWords(pool);
  const requests = { begun: callers.begun, settled: callers.settled, answered: callers.answered, wrong: callers.wrong };
  await pool.close({ timeoutMs: 5_000 });
  const found = faults({ callers: requests, before, after, closed: pool.stats() });
  const result = { faults: found, requests, phases: callers.phases.slice(1), tree };
  if (options.json) process.stdout.write(`${JSON.stringify(asRecord(result), undefined, 2)}\n`);
  else screen.say("", inWords(result));
  return found.length === 0 ? 0 : 1;
}

/** The five phases. Each takes its time, or longer if servers and connections do. */
async function play(
  options: Options,
  processes: readonly ServerProcess[],
  pool: FantaPool,
  callers: Callers,
  screen: Screen,
): Promise<void> {
  const [, second, third] = processes as readonly [ServerProcess, ServerProcess, ServerProcess];
  const up = (): number => processes.filter((each) => each.alive).length;
  const phase = async (name: string, what: string, act: (until: (part: number) => Promise<void>) => Promise<void>) => {
    callers.next(name);
    screen.say(`${callers.phases.length - 1}/5 ${name}`, `: ${what}`);
    const startedAt = performance.now();
    await act((part) => sleep(startedAt + phaseMs(options) * part - performance.now()));
  };

  await phase("healthy", "nothing happens to the servers", (until) => until(1));
  await phase("killed", `SIGKILL to the server on port ${second.port}`, async (until) => {
    await second.end("SIGKILL");
    await until(1);
  });
  await phase("back", "it is started again", async (until) => {
    await second.start();
    await connected(pool, up());
    await until(1);
  });
  await phase("stalled", `the server on port ${third.port} stands still (SIGSTOP) for half the time`, async (until) => {
    third.signal("SIGSTOP");
    await until(1 / 2);
    third.signal("SIGCONT");
    await until(1);
  });
  await phase("rolling restart", "each server says goodbye (SIGTERM, goaway), is back", async (until) => {
    for (const [at, each] of processes.entries()) {
      await each.end("SIGTERM");
      await each.start();
      await connected(pool, up());
      await until((at + 1) / servers);
    }
  });
}

function phaseMs({ seconds }: Options): number {
  return (seconds * 1_000) / 5;
}

function introduce(options: Options, screen: Screen): void {
  const { callers, port, strategy } = options;
  const who = callers === 1 ? "One caller sends" : `${grouped(callers)} callers at once send`;
  screen.say(
    "poolwarden",
    `: one pool over three servers. They are processes of their own, which
listen on the ports ${port} to ${port + servers - 1} of this machine and echo what they are sent.
(They speak Fanta: many requests at once over one TCP connection, matched with
their answers by id.) The pool keeps ${connectionsEach} connections to each.
${who} one request after another, over the connections
that "${strategy}" picks.\n`,
  );
}

/** Shows four times a second how it goes. */
function watch(pool: FantaPool, callers: Callers, screen: Screen): NodeJS.Timeout {
  let last = { at: performance.now(), settled: callers.settled };
  return setInterval(() => {
    const now = { at: performance.now(), settled: callers.settled };
    const perSecond = ((now.settled - last.settled) * 1_000) / (now.at - last.at);
    last = now;
    const phase = callers.count();
    const figures = [
      `${grouped(perSecond)} requests/s`,
      `p99 ${phase.latencyMs(99).toFixed(1)} ms`,
      `${pool.stats().ready}/${connections} members up`,
      `${grouped(phase.rerouted)} re-routed`,
    ];
    screen.show(`    ${figures.join(" · ")}`);
  }, 250);
}

/** Resolves when the connections to so many servers are up. If they do not come, the phase goes on and its figures tell. */
async function connected(pool: FantaPool, upServers: number): Promise<void> {
  if (upServers === 0) return;
  await pool.ready({ min: upServers * connectionsEach, timeoutMs: 5_000 }).catch((error: unknown) => {
    if (!(error instanceof PoolwardenError) || error.code !== "ERR_POOL_ACQUIRE_TIMEOUT") throw error;
  });
}

function treeInWords(pool: FantaPool): string {
  const members = new Map(pool.members().map((member) => [`connection ${member.slot}`, member]));
  const ready = pool.stats().ready;
  const words = ({ id }: ProcessTree): string => {
    const member = members.get(id);
    if (member !== undefined) return `to ${member.endpoint.id}, ${member.state}`;
    if (id === "registry") return `knows who can serve: ${ready} connections`;
    return id === "connections"
      ? "supervisor: restarts the one that crashed"
      : "supervisor: restarts a child, and those after it";
  };
  return drawTree(inOrder(pool.tree()), words);
}

function fail(what: string, error: unknown): number {
  process.stderr.write(`poolwarden demo: ${what}\n${error instanceof Error ? error.message : String(error)}\n`);
  return 1;
}

function readOptions(args: readonly string[]): Options {
  const given = parse(args, { seconds: "text", callers: "text", strategy: "text", port: "text", json: "switch" });
  if (given.words.length > 0) throw new UsageError(`demo takes no words, got "${given.words.join(" ")}"`);
  return {
    seconds: numberFlag(given, "seconds", { least: 1, most: 3_600, otherwise: 20, whole: false }),
    callers: numberFlag(given, "callers", { least: 1, most: 100_000, otherwise: 256 }),
    strategy: choiceFlag(given, "strategy", strategyNames, "leastUsed"),
    // Not 0, for any that is free: those are the ports that connections get for their own end. One that tries a server
    // that is down could get the very port it calls, and be connected to itself.
    port: numberFlag(given, "port", { least: 1, most: 65_535 - servers + 1, otherwise: 7_301 }),
    json: given.flags.has("json"),
  };
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => {
    systemRuntime.setTimer(resolve, ms, { keepAlive: true });
  });
}
