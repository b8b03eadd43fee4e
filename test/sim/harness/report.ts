/**
 * What a run says of itself: the figures, and for a failure everything that one needs to see it again.
 */

import type { Found, Run } from "./run.ts";
import type { Step } from "./steps.ts";

/** What some runs of one scenario have come to. */
export interface Tally {
  runs: number;
  commands: number;
  /** By name: commands that are faults, and faults that happened by themselves. */
  faults: Record<string, number>;
  kinds: Record<string, number>;
  settled: number;
}

export function emptyTally(): Tally {
  return { runs: 0, commands: 0, faults: {}, kinds: {}, settled: 0 };
}

export function count(tally: Tally, { commands, faults, settled, steps }: Run): void {
  tally.runs++;
  tally.commands += commands;
  tally.settled += settled;
  for (const [fault, times] of faults) tally.faults[fault] = (tally.faults[fault] ?? 0) + times;
  for (const { kind } of steps.slice(0, commands)) tally.kinds[kind] = (tally.kinds[kind] ?? 0) + 1;
}

export function add(tally: Tally, more: Tally): void {
  tally.runs += more.runs;
  tally.commands += more.commands;
  tally.settled += more.settled;
  for (const field of ["faults", "kinds"] as const) {
    for (const [name, times] of Object.entries(more[field])) tally[field][name] = (tally[field][name] ?? 0) + times;
  }
}

export function faultsOf({ faults }: Tally): number {
  return Object.values(faults).reduce((sum, times) => sum + times, 0);
}

/** One line of figures. */
export function figures(name: string, tally: Tally, violations: number): string {
  const [runs, commands, faults] = [tally.runs, tally.commands, faultsOf(tally)].map((each) =>
    each.toLocaleString("en"),
  );
  return `${name.padEnd(12)} ${runs} seeds twice, ${commands} commands, ${faults} faults, ${violations} violations`;
}

/** How one sees this failure again. */
export function replayLine(scenario: string, seed: number, count: number): string {
  return `npm run sim -- --scenario ${scenario} --seed ${seed} --steps ${count}`;
}

/** A failure, as it is told to a person: what broke, how to see it again, the few commands, the last of the trace. */
export function failure(whole: Run, shortest: Run): string {
  const { scenario, seed } = whole;
  const found = shortest.found as Found;
  const entry = { scenario, seed, steps: whole.steps.length, found: "what was wrong, in a few words" };
  return [
    `VIOLATION of ${found.invariant} in "${scenario}", seed ${seed}, after ${found.after} commands (${found.phase}):`,
    `  ${found.detail}`,
    `Replay: ${replayLine(scenario, seed, whole.steps.length)}`,
    `The fewest commands found that do it:`,
    ...shortest.steps.map((step) => `  ${shown(step)}`),
    `The last of what happened (time, then what):`,
    ...shortest.trace.text.map((line) => `  ${line}`),
    found.stack,
    `When it is mended, add it to test/sim/seeds.json, so that it is replayed for ever:`,
    `  ${JSON.stringify(entry)}`,
  ].join("\n");
}

function shown({ kind, args, pass }: Step): string {
  return `${kind} ${JSON.stringify(args)}, then ${JSON.stringify(pass)}`;
}
