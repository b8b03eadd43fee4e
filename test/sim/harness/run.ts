/**
 * One run of a scenario: a safety phase, in which commands and faults come and every invariant is looked at after every
 * step, then a liveness phase without faults, in which everything must come right, then the end, after which nothing is
 * left. After TigerBeetle's simulator.
 *
 * A run never throws: what it finds is part of what it returns.
 */

import type { Scenario } from "./scenario.ts";
import { commandsOf, type Pass, type Step, stepsOf } from "./steps.ts";
import { Trace } from "./trace.ts";
import { type Invariant, Violation, World } from "./world.ts";

export interface Found {
  readonly invariant: Invariant;
  readonly detail: string;
  /** After so many commands; and in which phase. */
  readonly after: number;
  readonly phase: Phase;
  readonly stack: string;
}

export type Phase = "start" | "safety" | "liveness" | "end";

export interface Run {
  readonly scenario: string;
  readonly seed: number;
  readonly steps: readonly Step[];
  /** Commands given. */
  readonly commands: number;
  /** By name. */
  readonly faults: ReadonlyMap<string, number>;
  /** Promises that have settled. */
  readonly settled: number;
  readonly trace: Trace;
  readonly found: Found | undefined;
}

export interface RunOptions {
  /** How many commands, instead of the scenario's. */
  readonly count?: number | undefined;
  /** These commands, instead of the seed's own. */
  readonly steps?: readonly Step[] | undefined;
  /** Keeps the whole text of the trace. */
  readonly whole?: boolean | undefined;
  /** Is told each line of the trace at once: of a run that never ends, too. */
  readonly told?: ((line: string) => void) | undefined;
}

/** So much time has what was begun to end by itself, when all has been stopped. */
const patienceMs = 24 * 3_600_000;

export async function run(scenario: Scenario, seed: number, options: RunOptions = {}): Promise<Run> {
  const steps = options.steps ?? stepsOf(scenario, seed, options.count ?? scenario.steps);
  const trace = new Trace({ whole: options.whole === true, told: options.told });
  const world = new World(seed, scenario.faults, trace);
  const unhandled: unknown[] = [];
  const hear = (reason: unknown): unknown => unhandled.push(reason);
  const during = { phase: "start" as Phase, commands: 0 };
  let found: Found | undefined;
  process.on("unhandledRejection", hear);
  process.on("uncaughtException", hear);
  try {
    await play(scenario, world, steps, during, unhandled);
  } catch (error) {
    found = { ...seenIn(error), after: during.commands, phase: during.phase };
    trace.add(`${found.invariant}: ${found.detail}`);
    await world.runtime.settle(); // What it has left behind is not to be heard in the next run.
  } finally {
    world.end();
    process.off("unhandledRejection", hear);
    process.off("uncaughtException", hear);
  }
  const { faults, settled } = world;
  return { scenario: scenario.name, seed, steps, commands: during.commands, faults, settled, trace, found };
}

/** Runs twice, and holds that both have the same trace. What the first has found comes first. */
export async function runTwice(scenario: Scenario, seed: number, options: RunOptions = {}): Promise<Run> {
  const first = await run(scenario, seed, options);
  if (first.found !== undefined) return first;
  const second = await run(scenario, seed, { ...options, steps: first.steps });
  if (first.trace.digest === second.trace.digest) return first;
  return { ...first, found: await difference(scenario, seed, first) };
}

async function play(
  scenario: Scenario,
  world: World,
  steps: readonly Step[],
  during: { phase: Phase; commands: number },
  unhandled: readonly unknown[],
): Promise<void> {
  const commands = commandsOf(scenario);
  const { runtime } = world;
  const look = (): void => {
    world.look();
    if (unhandled.length === 0) return;
    throw new Violation("nothing-swallowed", `an error that nobody handles: ${String(unhandled[0])}`, unhandled[0]);
  };
  const under = await scenario.start(world);
  await runtime.settle();
  under.check(true);
  during.phase = "safety";
  for (const { kind, args, pass } of steps) {
    const command = commands.get(kind);
    if (command === undefined) throw new Error(`the scenario has no command "${kind}"`);
    world.note(`${kind} ${JSON.stringify(args)}`);
    during.commands++;
    if (command.run(under, args as never, world) !== false && command.fault === true) world.harm(kind);
    under.check(false);
    await letPass(world, pass);
    under.check(!(typeof pass === "object" && "hops" in pass));
    look();
  }
  during.phase = "liveness";
  world.calmDown();
  await runtime.settle();
  await under.converge();
  await runtime.settle();
  under.check(true);
  look();
  during.phase = "end";
  await under.stop();
  await runtime.advance(patienceMs);
  look();
  const { pending } = world;
  world.must("settles", pending.length === 0, () => `never settled: ${pending.map(({ what }) => what).join(", ")}`);
  world.must("lets-go", runtime.timers === 0, () => `${runtime.timers} timers are left when all has ended`);
}

async function letPass(world: World, pass: Pass): Promise<void> {
  if (pass === "settle") await world.runtime.settle();
  else if ("ms" in pass) await world.runtime.advance(pass.ms);
  else for (let hop = 0; hop < pass.hops; hop++) await Promise.resolve();
}

function seenIn(error: unknown): { invariant: Invariant; detail: string; stack: string } {
  const { stack = "" } = error instanceof Error ? error : {};
  if (error instanceof Violation) return { invariant: error.invariant, detail: error.message, stack };
  // Whatever the code under test throws at the harness is something that it should not have thrown.
  return { invariant: "as-the-model", detail: `unexpected: ${String(error)}`, stack };
}

async function difference(scenario: Scenario, seed: number, { steps, commands }: Run): Promise<Found> {
  const [a, b] = [
    (await run(scenario, seed, { steps, whole: true })).trace.text,
    (await run(scenario, seed, { steps, whole: true })).trace.text,
  ];
  const at = a.findIndex((line, place) => line !== b[place]);
  const again = "two more runs have the same trace, and the first two had not: something was left from run to run";
  const detail = at < 0 ? again : `line ${at + 1} of the traces: "${a[at]}", and the second time "${b[at]}"`;
  return { invariant: "deterministic", detail, after: commands, phase: "end", stack: "" };
}
