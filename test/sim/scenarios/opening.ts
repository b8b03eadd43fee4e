/**
 * How an open goes wrong, by the faults that a scenario has: for the server that does as it is told.
 */

import type { Gate, Opening } from "../../checkout/server.ts";
import type { World } from "../harness/world.ts";

/** The faults of `open`, and how often they happen. */
export const openFaults = {
  "open refuses": 0.12,
  "open throws": 0.04,
  "open hangs": 0.05,
  "open is slow": 0.2,
  "open is slow, and refuses": 0.05,
  "open answers after its timeout": 0.05,
  "open succeeds and dies at once": 0.06,
  "open gives what is dead": 0.04,
  "open can never succeed": 0.01,
} as const;

/** How the next open goes, with a time limit of `timeoutMs`. */
export function openingOf(world: World, timeoutMs: number): Gate<Opening> {
  const { chance } = world;
  switch (world.strike(...(Object.keys(openFaults) as (keyof typeof openFaults)[]))) {
    case "open refuses":
      return "rejects";
    case "open throws":
      return "throws";
    case "open hangs":
      return "never";
    case "open is slow":
      return { ms: chance.between(1, timeoutMs - 10) };
    case "open is slow, and refuses":
      // oxlint-disable-next-line unicorn/no-thenable -- read as English, and never awaited
      return { ms: chance.between(1, timeoutMs - 10), then: "rejects" };
    case "open answers after its timeout":
      return { ms: chance.between(timeoutMs + 1, 4 * timeoutMs), deaf: true };
    case "open succeeds and dies at once":
      return "dies";
    case "open gives what is dead":
      return "deadOnArrival";
    case "open can never succeed":
      return "fatal";
    case undefined:
      return "ok";
  }
}
