#!/usr/bin/env node
/**
 * The command line: `poolwarden demo`, `poolwarden fanta serve`, `poolwarden fanta request`.
 *
 * Each command is a function from its arguments to an exit code. 0: it did what was asked; 1: it ran and found
 * something wrong; 2: it was called wrongly.
 */

import { demo } from "./demo.ts";
import { request, serve } from "./fanta.ts";
import { UsageError } from "./usage.ts";

const usage = `Usage:
  poolwarden demo [--seconds N] [--callers N] [--strategy NAME] [--port N] [--json]
      Three servers, a supervised pool, callers, and what can go wrong with servers: killed, back, stalled,
      restarted in turn. Ends with what each phase has cost. Exit code 0 only if every request settled exactly
      once and none was answered wrongly.
      --seconds   how long the phases take together (20)
      --callers   callers at once, each with one request after another (256)
      --strategy  who takes a request: leastUsed, roundRobin, strictRoundRobin or random (leastUsed)
      --port      the first of three ports for the servers (7301)
      --json      the result as JSON, and nothing else
  poolwarden fanta serve [--port N] [--host H]
      A Fanta server that answers PING with PONG and anything else with itself. Port 7301 of 127.0.0.1 unless
      told otherwise; --port 0 takes any that is free.
      SIGTERM: says goodbye to its clients, answers what they have asked, and ends.
  poolwarden fanta request [--port N] [--host H] [--timeout-ms N] TEXT
      Sends one request and prints the response. It may take 5000 ms unless told otherwise.
`;

async function main(args: readonly string[]): Promise<number> {
  const [command, subcommand] = args;
  const wantsHelp = args.slice(0, args.includes("--") ? args.indexOf("--") : undefined).some(isHelp);
  if (command === "help" || wantsHelp) {
    process.stdout.write(usage);
    return 0;
  }
  try {
    if (command === "demo") return await demo(args.slice(1));
    if (command === "fanta" && subcommand === "serve") return await serve(args.slice(2));
    if (command === "fanta" && subcommand === "request") return await request(args.slice(2));
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    process.stderr.write(`poolwarden: ${error.message}\n`);
    return 2;
  }
  const what = command === undefined ? "say what to do" : `there is no command "${args.slice(0, 2).join(" ")}"`;
  process.stderr.write(`poolwarden: ${what}\n\n${usage}`);
  return 2;
}

function isHelp(word: string): boolean {
  return word === "--help" || word === "-h";
}

// Whoever read us has gone (`| head`). End as a program does that heeds SIGPIPE, which Node ignores.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
  process.exit(128 + 13);
});

process.exitCode = await main(process.argv.slice(2));
