#!/usr/bin/env node
/**
 * The command line: `poolwarden demo`, `poolwarden fanta serve`, `poolwarden fanta request`, `poolwarden simulate`.
 *
 * Each command is a function from its arguments to an exit code. 0: it did what was asked; 1: it ran and found
 * something wrong; 2: it was called wrongly.
 */

import { demo } from "./demo.ts";
import { request, serve } from "./fanta.ts";
import { simulation } from "./simulate.ts";
import { strategyNames } from "./strategies.ts";
import { UsageError } from "./usage.ts";

const usage = `Usage:
  poolwarden demo [--seconds N] [--callers N] [--strategy NAME] [--port N] [--json]
      Three servers, a supervised pool, callers, and what can go wrong with servers: killed, back, stalled,
      restarted in turn. Ends with what each phase has cost. Exit code 0 only if every request settled exactly
      once and none was answered wrongly.
      --seconds   how long the phases take together (20)
      --callers   callers at once, each with one request after another (256)
      --strategy  who takes a request (leastUsed): one of ${strategyNames.join(", ")}
      --port      the first of three ports for the servers (7301)
      --json      the result as JSON, and nothing else
  poolwarden fanta serve [--port N] [--host H]
      A Fanta server that answers PING with PONG and anything else with itself. Port 7301 of 127.0.0.1 unless
      told otherwise; --port 0 takes any that is free.
      SIGTERM: says goodbye to its clients, answers what they have asked, and ends.
  poolwarden fanta request [--port N] [--host H] [--timeout-ms N] TEXT
      Sends one request and prints the response. It may take 5000 ms unless told otherwise.
  poolwarden simulate [--strategy NAME | --compare NAME,NAME,…] [--svg FILE] [--json] [what is simulated]
      Which strategy, under what? The real pool over simulated servers, in virtual time: what callers saw, and who
      was sent what. The same seed gives the same figures everywhere.
      --strategy    one of ${strategyNames.join(", ")}
      --compare     several of them, on the same requests
      --members     servers (20)                 --slots     requests that each works on at once (4), or unlimited
      --weights     of servers, in turn: 1,1,2   --capacity  what a server announces it takes, its line included
      --service     exponential:MEAN, fixed:MEAN[:SPREAD] (ms), or trace:FILE (exponential:10)
      --load        work offered, as a share of what all can do (0.7); or --rate, requests a second
      --clients     callers with a pool each (1) --size      connections of each to each server (1)
      --seconds     how long requests come (60)  --seed      (1)
      --timeout-ms  how long callers wait (1000) --calls     how often they call in all when told an error (1)
      --idempotent  requests may be repeated     --shed      the line turns away who has waited too long
      --keys        of requests, for rendezvous (0)
      --bare        a pool that chooses and does nothing else: no breaker, no slow start, no retries
      What goes wrong, several with commas; MEMBER is a number from 0, or all; times without a unit are seconds:
      --slow    MEMBER:FACTOR[:FROM-TO]          --fail      MEMBER:MS[:PROBABILITY[:FROM-TO]]
      --spells  FACTOR:MS:SHARE                  --stall     MEMBER:FROM:FOR
      --crash   MEMBER:FROM:DOWN                 --restart   MEMBER:FROM:DOWN[:EVERY]
      --svg     draws how latencies are distributed (with the package vega)
      --json    the result as JSON, and nothing else
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
    if (command === "simulate") return await simulation(args.slice(1));
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
