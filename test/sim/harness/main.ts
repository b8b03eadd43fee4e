/**
 * `npm run sim`: all scenarios from their seeds, each twice, on two threads. The figures come last.
 *
 *     npm run sim                                            what CI runs
 *     npm run sim -- --scenario registry                     one of them
 *     npm run sim -- --scenario registry --seed 7 --trace    one run, with all that happened
 */

import { isMainThread, parentPort, workerData } from "node:worker_threads";
import { scenarios } from "../scenarios/index.ts";
import { type Asked, askedFor, Mistake, named, usage } from "./arguments.ts";
import { crew, type Done, type Failed, type Result, type Task } from "./crew.ts";
import { add, count, emptyTally, failure, faultsOf, figures, replayLine, type Tally } from "./report.ts";
import { run, runTwice } from "./run.ts";
import type { Scenario } from "./scenario.ts";
import { recordedSeeds } from "./seeds.ts";
import { shrink } from "./shrink.ts";

/** A task is so many seeds: some tenths of a second. */
const seedsOfTask = 20;
/** So many failures of a scenario are shown. */
const shownFailures = 2;

/** Runs what is asked for, and returns the exit code. */
export async function main(argv: readonly string[], print: (text: string) => void): Promise<number> {
  try {
    if (argv.includes("--help")) {
      print(usage);
      return 0;
    }
    const asked = askedFor(argv, scenarios);
    return await (asked.seed === undefined ? all(asked, print) : one(asked, asked.seed, print));
  } catch (error) {
    if (!(error instanceof Mistake)) throw error;
    print(error.message);
    return 2;
  }
}

/** One seed of each scenario that is asked for. */
async function one({ scenarios: chosen, steps, trace }: Asked, seed: number, print: (text: string) => void) {
  let violations = 0;
  for (const scenario of chosen) {
    if (trace) await run(scenario, seed, { count: steps, told: print });
    const done = await runTwice(scenario, seed, { count: steps });
    const tally = emptyTally();
    count(tally, done);
    if (done.found !== undefined) {
      violations++;
      print(failure(done, await shrink(scenario, done)));
    }
    print(`${figures(scenario.name, tally, done.found === undefined ? 0 : 1)}, trace ${done.trace.digest}`);
  }
  return violations === 0 ? 0 : 1;
}

async function all({ scenarios: chosen, seeds, steps }: Asked, print: (text: string) => void): Promise<number> {
  const startedAt = performance.now();
  const recorded = recordedSeeds(scenarios).filter(({ scenario }) => chosen.includes(scenario));
  let violations = 0;
  for (const { scenario, seed, count: length, steps: commands } of recorded) {
    const done = await runTwice(scenario, seed, { count: length, steps: commands });
    if (done.found === undefined) continue;
    violations++;
    print(failure(done, await shrink(scenario, done)));
  }
  const results = await crew(
    new URL(import.meta.url),
    chosen.flatMap((each) => tasksOf(each, seeds, steps)),
  );
  for (const result of results) {
    violations += result.failed.length + result.ended.length;
    await tell(result, steps, print);
  }
  const sum = emptyTally();
  for (const { scenario, tally, failed, ended } of results) {
    add(sum, tally);
    print(figures(scenario, tally, failed.length + ended.length));
  }
  print(
    `${recorded.length} seeds of test/sim/seeds.json replayed; ${sum.settled.toLocaleString("en")} promises settled`,
  );
  const seconds = ((performance.now() - startedAt) / 1_000).toFixed(1);
  const equal = violations === 0 ? "all traces equal on the second run" : "see above";
  print(`${figures("all", sum, violations)}, ${equal}, ${seconds} s`);
  const few = tooFew(sum, chosen.length === scenarios.length && seeds === undefined && steps === undefined);
  if (few !== undefined) print(few);
  return violations === 0 && few === undefined ? 0 : 1;
}

/** Why that was no test; of the run as it comes, which is CI's, more is wanted. */
function tooFew(sum: Tally, asItComes: boolean): string | undefined {
  const least = asItComes ? { commands: 1_000_000, faults: 100_000 } : { commands: 1, faults: 1 };
  if (sum.commands >= least.commands && faultsOf(sum) >= least.faults) return undefined;
  const wanted = `${least.commands.toLocaleString("en")} commands and ${least.faults.toLocaleString("en")} faults`;
  return `That was no test: at least ${wanted} are wanted.`;
}

function tasksOf(scenario: Scenario, seeds: number = scenario.seeds, steps: number | undefined): Task[] {
  const tasks: Task[] = [];
  for (let from = 1; from <= seeds; from += seedsOfTask) {
    tasks.push({ scenario: scenario.name, from, until: Math.min(from + seedsOfTask, seeds + 1), steps });
  }
  return tasks;
}

/** The failures of a scenario, the first of them with the fewest commands that do it. */
async function tell({ scenario, failed, ended }: Result, steps: number | undefined, print: (text: string) => void) {
  const known = named(scenario, scenarios);
  const replay = (seed: number): string => `Replay: ${replayLine(scenario, seed, steps ?? known.steps)}`;
  for (const { seed, found } of failed.slice(0, shownFailures)) {
    const again = await runTwice(known, seed, { count: steps });
    if (again.found !== undefined) print(failure(again, await shrink(known, again)));
    else {
      const left = "It does not when it is run by itself: something that other runs have left has a part in it.";
      print(`"${scenario}", seed ${seed}: ${found}\n${left}\n${replay(seed)}`);
    }
  }
  const seeds = failed.slice(0, 50).map(({ seed }) => seed);
  if (failed.length > shownFailures) print(`"${scenario}" fails with these seeds: ${seeds.join(", ")}`);
  for (const { seed, found } of ended) print(`"${scenario}" ${found}.\n${replay(seed)} --trace`);
}

/** In a thread: does tasks as they come. */
function serve(at: Int32Array): void {
  Error.stackTraceLimit = 0; // The dearest part of an error. Whoever wants to see where it came from runs the seed again.
  const answer = async (task: Task): Promise<void> => parentPort?.postMessage(await work(task, at));
  parentPort?.on("message", (task: Task) => void answer(task));
}

async function work({ scenario, from, until, steps }: Task, at: Int32Array): Promise<Done> {
  const tally = emptyTally();
  const failed: Failed[] = [];
  const found = named(scenario, scenarios);
  for (let seed = from; seed < until; seed++) {
    Atomics.store(at, 0, seed);
    const done = await runTwice(found, seed, { count: steps });
    count(tally, done);
    if (done.found !== undefined) failed.push({ seed, found: `${done.found.invariant}: ${done.found.detail}` });
  }
  return { tally, failed };
}

if (!isMainThread && workerData instanceof Int32Array) serve(workerData);
else if (process.argv[1] === import.meta.filename) {
  process.exitCode = await main(process.argv.slice(2), console.log);
}
