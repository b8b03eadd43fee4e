/**
 * The first seeds of every scenario, and all those that have ever found something. `npm run sim` runs many more.
 */

import { describe, expect, test } from "vitest";
import { count, emptyTally } from "./harness/report.ts";
import { runTwice } from "./harness/run.ts";
import { recordedSeeds } from "./harness/seeds.ts";
import { commandsOf } from "./harness/steps.ts";
import { scenarios } from "./scenarios/index.ts";

const seeds = 25;

describe.each(scenarios.map((scenario) => [scenario.name, scenario] as const))("scenario %s", (_, scenario) => {
  const tally = emptyTally();

  test(`holds what must hold, and repeats itself, from ${seeds} seeds`, async () => {
    for (let seed = 1; seed <= seeds; seed++) {
      const done = await runTwice(scenario, seed);
      count(tally, done);
      expect(done.found, `npm run sim -- --scenario ${scenario.name} --seed ${seed}`).toBeUndefined();
    }
  }, 120_000);

  test("gives every command, and has every fault happen, in these seeds", () => {
    const commands = [...commandsOf(scenario)];
    const faults = [
      ...Object.keys(scenario.faults),
      ...commands.filter(([, { fault }]) => fault).map(([kind]) => kind),
    ];
    expect(commands.map(([kind]) => kind).filter((kind) => !(kind in tally.kinds))).toEqual([]);
    expect(faults.filter((fault) => !(fault in tally.faults))).toEqual([]);
    expect(tally.settled).toBeGreaterThan(0);
  });
});

test("every seed that has found something finds nothing any more", async () => {
  for (const { scenario, seed, count: length, steps, found } of recordedSeeds(scenarios)) {
    const done = await runTwice(scenario, seed, { count: length, steps });
    expect(done.found, `${scenario.name}, seed ${seed}: ${found}`).toBeUndefined();
  }
});
