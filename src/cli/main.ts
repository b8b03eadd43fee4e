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
      Three servers, a supervised pool, callers, and what can go wrong. About 20 seconds.
      --seconds   how long the phases take together (20)
      --callers   concurrent callers (256)
      --strategy  leastUsed, roundRobin, strictRoundRobin or random (leastUsed)
      --port      the first of three ports for the servers (7301)
      --json      the result as JSON, and nothing else
  poolwarden fanta serve [--port N] [--host H]
      A Fanta server that answers PING with PONG and anything else with itself.
      SIGTERM: says goodbye to its clients, answers what they have asked, and ends.
  poolwarden fanta request [--port N] [--host H] [--timeout-ms N] TEXT
      Sends one request and prints the response.
`;

async function main(args: readonly string[]): Promise<number> {
  const [command, subcommand] = args;
  try {
    if (command === "demo") return await demo(args.slice(1));
    if (command === "fanta" && subcommand === "serve") return await serve(args.slice(2));
    if (command === "fanta" && subcommand === "request") return await request(args.slice(2));
    if (command === "help" || command === "--help" || command === "-h") {
      process.stdout.write(usage);
      return 0;
    }
    throw new UsageError(
      command === undefined ? "say what to do" : `there is no command "${args.slice(0, 2).join(" ")}"`,
    );
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    process.stderr.write(`poolwarden: ${error.message}\n\n${usage}`);
    return 2;
  }
}

process.exitCode = await main(process.argv.slice(2));
