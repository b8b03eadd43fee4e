/**
 * The seeds that have found something: replayed for ever, by `npm test` and by `npm run sim`.
 *
 * An entry says how many commands its run had. One that was shrunk may carry its commands: they stay what they are when
 * the scenario gets new ones, while a seed then makes another run.
 */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Mistake, named } from "./arguments.ts";
import type { Scenario } from "./scenario.ts";
import type { Step } from "./steps.ts";

export interface Seed {
  readonly scenario: Scenario;
  readonly seed: number;
  readonly count: number;
  readonly steps: readonly Step[] | undefined;
  /** What it has found. */
  readonly found: string;
}

/** @throws {Mistake} when the file is not what it should be. */
export function recordedSeeds(scenarios: readonly Scenario[]): Seed[] {
  const file = join(process.cwd(), "test/sim/seeds.json");
  const entries = JSON.parse(readFileSync(file, "utf8")) as readonly {
    readonly scenario: string;
    readonly seed: number;
    readonly steps: number;
    readonly found: string;
    readonly commands?: readonly Step[];
  }[];
  return entries.map((entry) => {
    if (!Number.isInteger(entry.seed) || !Number.isInteger(entry.steps) || typeof entry.found !== "string") {
      throw new Mistake(`test/sim/seeds.json: not an entry { scenario, seed, steps, found }: ${JSON.stringify(entry)}`);
    }
    const { seed, steps, found, commands } = entry;
    return { scenario: named(entry.scenario, scenarios), seed, count: steps, steps: commands, found };
  });
}
