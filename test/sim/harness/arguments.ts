/**
 * What `npm run sim` is asked for.
 */

import { parseArgs } from "node:util";
import type { Scenario } from "./scenario.ts";

export interface Asked {
  /** These, instead of all. */
  readonly scenarios: readonly Scenario[];
  /** Only this seed; its trace is printed with `trace`. */
  readonly seed: number | undefined;
  /** So many seeds from 1, instead of each scenario's own number. */
  readonly seeds: number | undefined;
  /** So many commands a run, instead of each scenario's own number. */
  readonly steps: number | undefined;
  readonly trace: boolean;
}

/** Something that was asked for and is not to be had. Its message is for the person who asked. */
export class Mistake extends Error {
  override readonly name = "Mistake";
}

export const usage = `npm run sim -- [--scenario NAME] [--seed N [--trace]] [--seeds N] [--steps N]

  --scenario NAME  only this one
  --seed N         only this seed, a whole number from 0 to ${2 ** 32 - 1}
  --trace          with --seed: print all that happened
  --seeds N        so many seeds of each scenario, from 1
  --steps N        so many commands in each run

A flag is given once.`;

/** More than memory holds, of what each leaves: a line of the list of tasks, a command that was drawn. */
const most = { seeds: 10_000_000, steps: 1_000_000 };

/** @throws {Mistake} */
export function askedFor(argv: readonly string[], scenarios: readonly Scenario[]): Asked {
  const { scenario, seed, seeds, steps, trace = false } = given(argv);
  if (seed !== undefined && seeds !== undefined)
    throw new Mistake("--seed is one seed and --seeds are many: give one.");
  if (trace && seed === undefined) throw new Mistake("--trace is of one run: give its --seed, too.");
  return {
    scenarios: scenario === undefined ? scenarios : [named(scenario, scenarios)],
    seed: numberOf("--seed", seed, 0, 2 ** 32 - 1),
    seeds: numberOf("--seeds", seeds, 1, most.seeds),
    steps: numberOf("--steps", steps, 1, most.steps),
    trace,
  };
}

export function named(name: string, scenarios: readonly Scenario[]): Scenario {
  const found = scenarios.find((scenario) => scenario.name === name);
  if (found !== undefined) return found;
  const known = scenarios.map((scenario) => `  ${scenario.name.padEnd(12)} ${scenario.about}`).join("\n");
  throw new Mistake(`There is no scenario "${name}". These there are:\n${known}`);
}

type Given = { scenario?: string; seed?: string; seeds?: string; steps?: string; trace?: boolean };

function given(argv: readonly string[]): Given {
  const text = { type: "string" } as const;
  const options = { scenario: text, seed: text, seeds: text, steps: text, trace: { type: "boolean" } } as const;
  try {
    const { values, tokens } = parseArgs({ args: [...argv], options, tokens: true });
    const names = tokens.map((token) => (token.kind === "option" ? token.name : ""));
    const twice = names.find((name, at) => names.indexOf(name) !== at);
    if (twice !== undefined) throw new Error(`--${twice} is given twice`);
    return values;
  } catch (error) {
    throw new Mistake(`${(error as Error).message}\n\n${usage}`);
  }
}

function numberOf(option: string, text: string | undefined, least: number, most: number): number | undefined {
  if (text === undefined) return undefined;
  const number = Number(text);
  if (/^\d+$/.test(text) && number >= least && number <= most) return number;
  throw new Mistake(`${option} must be a whole number from ${least} to ${most}, and "${text}" is none.`);
}
