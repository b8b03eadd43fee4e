/**
 * How the servers of a routing pool and their connector behave, by chance: each opening, close, check and judgement.
 */

import type { Closing, Opening } from "../../routing/server.ts";
import type { World } from "../harness/world.ts";

const openFaults = [
  "open refuses",
  "open hangs",
  "open is slow",
  "open is slow, and refuses",
  "open answers after its timeout",
  "open succeeds and dies at once",
  "open gives what is dead",
  "open gives what wants to go",
  "open can never succeed",
] as const;

/** How an opening goes. */
export function openingOf(world: World): Opening {
  const { chance } = world;
  const later = (ms: number, manner: "ok" | "refuse", deaf = false): Opening => {
    // oxlint-disable-next-line unicorn/no-thenable -- read as English, and never awaited
    return { ms, then: manner, deaf };
  };
  switch (world.strike(...openFaults)) {
    case "open refuses":
      return "refuse";
    case "open hangs":
      return "never";
    case "open is slow":
      return later(chance.between(1, 70), "ok");
    case "open is slow, and refuses":
      return later(chance.between(1, 70), "refuse");
    case "open answers after its timeout":
      return later(chance.between(81, 300), "ok", true);
    case "open succeeds and dies at once":
      return "dies";
    case "open gives what is dead":
      return "deadOnArrival";
    case "open gives what wants to go":
      return chance.chance(0.5) ? "goesAway" : "leavingOnArrival";
    case "open can never succeed":
      return "fatal";
    case undefined:
      return "ok";
  }
}

/** How a close goes. */
export function closingOf(world: World): Closing {
  switch (world.strike("close fails", "close throws", "close hangs", "close is slow")) {
    case "close fails":
      return "reject";
    case "close throws":
      return "throw";
    case "close hangs":
      return "never";
    case "close is slow":
      return { ms: world.chance.between(1, 300) };
    case undefined:
      return "ok";
  }
}

/** What a check says of a resource, which may have gone silent. */
export function checkOf(world: World, silent: boolean): unknown {
  switch (world.strike("check fails", "check hangs", "check lies")) {
    case "check fails":
      throw new Error("the check fails");
    case "check hangs":
      return new Promise(() => undefined);
    case "check lies":
      return !silent ? false : undefined;
    case undefined:
      return !silent;
  }
}

/** Whether an error speaks against the resource. `failed` is told that this has gone wrong. */
export function failureOf(world: World, error: Error, failed: () => void): unknown {
  switch (world.strike("isFailure throws", "isFailure is async, and rejects")) {
    case "isFailure throws":
      failed();
      throw new Error("isFailure throws");
    case "isFailure is async, and rejects":
      failed();
      return Promise.reject(new Error("isFailure rejects"));
    case undefined:
      return error.message !== "not found";
  }
}
