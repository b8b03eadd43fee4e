/**
 * From a run that fails to the shortest list of commands that fails in the same way.
 *
 * fast-check shrinks the list: it leaves out what it can. The seed stays, so what the faults throw is told by what is
 * left. The same invariant must break, or we would end with another bug than we began with.
 */

import fc from "fast-check";
import { type Run, run, runTwice } from "./run.ts";
import type { Scenario } from "./scenario.ts";
import type { Step } from "./steps.ts";

/** A failing run with as few commands as are found in time; the run itself when nothing can be left out. */
export async function shrink(scenario: Scenario, failed: Run, limitMs = 30_000): Promise<Run> {
  const { found, seed } = failed;
  if (found === undefined) return failed;
  const again = found.invariant === "deterministic" ? runTwice : run;
  let shortest = failed;
  const fails = async (steps: readonly Step[]): Promise<boolean> => {
    const shorter = await again(scenario, seed, { steps });
    const same = shorter.found?.invariant === found.invariant;
    if (same && steps.length < shortest.steps.length) shortest = shorter;
    return same;
  };
  // What came after the failure has no part in it, nor have the last steps before one that shows at the end.
  const list = found.phase === "safety" ? failed.steps.slice(0, found.after) : failed.steps;
  if (list.length === 0) return failed;
  const holds = fc.asyncProperty(fc.array(fc.constantFrom(...list), { maxLength: list.length }), async (steps) => {
    return !(await fails(steps));
  });
  // What comes out of it is whatever has failed last, and that is noted above.
  await fc.check(holds, { examples: [[[...list]]], numRuns: 1, interruptAfterTimeLimit: limitMs, endOnFailure: false });
  return shortest;
}
