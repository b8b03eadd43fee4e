/**
 * Looks for a planted bug: runs the seeds of one scenario, each twice, until one finds something. Says at which it is, so
 * that whoever waits can see that it does not go on.
 *
 *     node hunt.js registry
 */

import { writeSync } from "node:fs";
import { named } from "../harness/arguments.ts";
import { runTwice } from "../harness/run.ts";
import { scenarios } from "../scenarios/index.ts";

const scenario = named(process.argv[2] ?? "", scenarios);
let commands = 0;
Error.stackTraceLimit = 0;
for (let seed = 1; seed <= scenario.seeds; seed++) {
  writeSync(1, `${JSON.stringify({ seed, commands })}\n`); // At once: a bug may never let the event loop turn.
  const { found, commands: given } = await runTwice(scenario, seed);
  commands += given;
  if (found === undefined) continue;
  writeSync(1, `${JSON.stringify({ seed, commands, found: `${found.invariant}: ${found.detail}` })}\n`);
  process.exit(0);
}
