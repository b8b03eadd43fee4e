/**
 * The state machine of a connection, as the pure function it is: every event in every state.
 *
 * One table says all of it. A cell that is not in the table is an event that changes nothing and has no effect; it is
 * written out as `stays`, so that a new event or state cannot be forgotten.
 */

import { describe, expect, test } from "vitest";
import {
  type Effect,
  type Event,
  type Given,
  initialState,
  newMemory,
  type State,
  step,
} from "../../src/connection/machine.ts";

type At = State<string>["at"];

const error = new Error("refused");
const memory = { ...newMemory({ kind: "exponential", minMs: 100, maxMs: 1_000 }), attempts: 3, attemptedAt: 5_000 };
const given: Given = { now: 10_000, random: () => 0.5, wanted: false, needed: true };

const states: { [A in At]: Extract<State<string>, { at: A }> } = {
  waiting: { at: "waiting", memory: { ...memory, retryAt: 11_000 } },
  opening: { at: "opening", attempt: 3, lostAlready: undefined, memory },
  connected: { at: "connected", attempt: 3, resource: "socket", memory },
  draining: { at: "draining", attempt: 3, resource: "socket", memory },
  closing: { at: "closing", memory },
  fatal: { at: "fatal", memory: { ...memory, fatal: true } },
  gone: { at: "gone", memory },
};

const events = {
  start: { on: "start" },
  retry: { on: "retry" },
  nudge: { on: "nudge" },
  opened: { on: "opened", attempt: 3, resource: "socket" },
  "opened (an earlier one)": { on: "opened", attempt: 2, resource: "late socket" },
  failed: { on: "failed", attempt: 3, error, fatal: false },
  "failed (for good)": { on: "failed", attempt: 3, error, fatal: true },
  "failed (an earlier one)": { on: "failed", attempt: 2, error, fatal: false },
  lost: { on: "lost", attempt: 3, reason: error },
  "lost (an earlier one)": { on: "lost", attempt: 2, reason: error },
  drain: { on: "drain" },
  quiet: { on: "quiet" },
  overdue: { on: "overdue" },
  closed: { on: "closed" },
  stop: { on: "stop" },
} satisfies Record<string, Event<string>>;

type Name = keyof typeof events;
type Cell = readonly [to: At, effects: string];

const stays = "stays";
const closesLate = (at: At): Cell => [at, "dispose late socket normal"];
const closesIt = (at: At): Cell => [at, "dispose socket normal"];
const ends: Cell = ["gone", "exit"];

/** What each event does. */
const table: { [A in At]: Record<Name, Cell | typeof stays> } = {
  waiting: {
    start: ["waiting", "retryIn 1000"], // After a crash: the old appointment is kept.
    retry: ["opening", "cancelRetry, open 4"],
    nudge: ["waiting", "retryIn 0"], // The last attempt is longer ago than minMs.
    opened: closesIt("waiting"), // It was given up: its time was over.
    "opened (an earlier one)": closesLate("waiting"),
    failed: stays,
    "failed (for good)": stays,
    "failed (an earlier one)": stays,
    lost: stays,
    "lost (an earlier one)": stays,
    drain: ["gone", "cancelRetry, exit"],
    quiet: stays,
    overdue: stays,
    closed: stays,
    stop: ["gone", "cancelRetry, exit"],
  },
  opening: {
    start: stays,
    retry: stays, // The timer raced a nudge and lost.
    nudge: stays,
    opened: ["connected", "enter socket"],
    "opened (an earlier one)": closesLate("opening"),
    failed: ["waiting", "tellFailed 100, retryIn 100"],
    "failed (for good)": ["fatal", "tellFailed never"],
    "failed (an earlier one)": stays,
    lost: ["opening", ""], // Remembered, for when the resource comes.
    "lost (an earlier one)": stays,
    drain: ["gone", "abandonOpen, exit"],
    quiet: stays,
    overdue: stays,
    closed: stays,
    stop: ["gone", "abandonOpen, exit"],
  },
  connected: {
    start: stays,
    retry: stays,
    nudge: stays,
    opened: closesIt("connected"), // We never ask for two; whoever sends two gets the second one back.
    "opened (an earlier one)": closesLate("connected"),
    failed: stays,
    "failed (for good)": stays,
    "failed (an earlier one)": stays,
    lost: ["opening", "leave, tellLost, fail, dispose socket refused, cancelRetry, open 4"],
    "lost (an earlier one)": stays,
    drain: ["draining", "leave, watchDrain"],
    quiet: stays,
    overdue: stays,
    closed: stays,
    stop: ["draining", "leave, watchDrain"],
  },
  draining: {
    start: stays,
    retry: stays,
    nudge: stays,
    opened: closesIt("draining"),
    "opened (an earlier one)": closesLate("draining"),
    failed: stays,
    "failed (for good)": stays,
    "failed (an earlier one)": stays,
    lost: ["gone", "tellLost, fail, dispose socket refused, exit"],
    "lost (an earlier one)": stays,
    drain: stays,
    quiet: ["closing", "close socket normal"],
    overdue: ["closing", "fail, close socket shutdown"],
    closed: stays,
    stop: stays,
  },
  closing: {
    start: stays,
    retry: stays,
    nudge: stays,
    opened: closesIt("closing"),
    "opened (an earlier one)": closesLate("closing"),
    failed: stays,
    "failed (for good)": stays,
    "failed (an earlier one)": stays,
    lost: stays, // It is being closed: that is what closing looks like.
    "lost (an earlier one)": stays,
    drain: stays,
    quiet: stays,
    overdue: stays,
    closed: ends,
    stop: stays,
  },
  fatal: {
    start: stays,
    retry: stays,
    nudge: stays,
    opened: closesIt("fatal"),
    "opened (an earlier one)": closesLate("fatal"),
    failed: stays,
    "failed (for good)": stays,
    "failed (an earlier one)": stays,
    lost: stays,
    "lost (an earlier one)": stays,
    drain: ends,
    quiet: stays,
    overdue: stays,
    closed: stays,
    stop: ends,
  },
  gone: {
    start: stays,
    retry: stays,
    nudge: stays,
    opened: closesIt("gone"),
    "opened (an earlier one)": closesLate("gone"),
    failed: stays,
    "failed (for good)": stays,
    "failed (an earlier one)": stays,
    lost: stays,
    "lost (an earlier one)": stays,
    drain: stays,
    quiet: stays,
    overdue: stays,
    closed: stays,
    stop: stays,
  },
};

const cells = (Object.keys(table) as At[]).flatMap((at) =>
  (Object.keys(events) as Name[]).map((on) => [at, on, table[at][on]] as const),
);

describe("in the state", () => {
  test.each(cells)("%s, the event %s", (at, on, cell) => {
    const before = structuredClone(states[at]);
    const [after, effects] = step(states[at], events[on], given);
    expect(states[at], "the state before is not changed").toEqual(before);
    if (cell === stays) {
      expect(after).toBe(states[at]);
      expect(effects).toEqual([]);
      return;
    }
    expect([after.at, effects.map(inWords).join(", ")]).toEqual(cell);
  });

  test("gone, nothing but the closing of a late resource is ever done", () => {
    for (const event of Object.values(events)) {
      const [after, effects] = step(states.gone, event, given);
      expect(after.at).toBe("gone");
      expect(effects.every((effect) => effect.do === "dispose")).toBe(true);
    }
  });

  test("connected, and only on the way in and out of it, is anything registered or unregistered", () => {
    for (const [at, on] of cells) {
      const [after, effects] = step(states[at], events[on], given);
      const enters = effects.some((effect) => effect.do === "enter");
      const leaves = effects.some((effect) => effect.do === "leave");
      expect(enters).toBe(at !== "connected" && after.at === "connected");
      expect(leaves).toBe(at === "connected" && after.at !== "connected");
      if (leaves) expect(effects[0]?.do, "before anything else").toBe("leave");
    }
  });
});

describe("a resource that is lost before it has come", () => {
  const [lost] = step<string>(states.opening, events.lost, given);

  test("is closed when it comes, and counts as an attempt that failed", () => {
    const [after, effects] = step<string>(lost, events.opened, given);
    expect(after).toMatchObject({ at: "waiting", memory: { failures: 1, lastError: error } });
    expect(effects.map(inWords)).toEqual(["dispose socket refused", "tellFailed 100", "retryIn 100"]);
  });

  test("need not come: the attempt may fail, be given up, or be lost again", () => {
    expect(step<string>(lost, events.failed, given)[0].at).toBe("waiting");
    expect(step<string>(lost, events.stop, given)[0].at).toBe("gone");
    expect(step<string>(lost, events.lost, given)).toEqual([lost, []]);
  });

  test("may be lost without a reason", () => {
    const [silent] = step<string>(states.opening, { on: "lost", attempt: 3, reason: undefined }, given);
    const [after] = step(silent, events.opened, given);
    expect(after.memory.lastError).toBeInstanceOf(Error);
  });
});

describe("a place that nobody needs a resource in", () => {
  const unneeded: Given = { ...given, needed: false };

  test.each([
    ["waiting", "start", "giveUp, exit"],
    ["waiting", "retry", "giveUp, exit"],
    ["opening", "failed", "tellFailed never, giveUp, exit"],
    ["connected", "lost", "leave, tellLost, fail, dispose socket refused, giveUp, exit"],
  ] as const)("%s, is given up at the event %s, with what it has learnt", (at, on, effects) => {
    const [after, done] = step<string>(states[at], events[on], unneeded);
    expect([after.at, done.map(inWords).join(", ")]).toEqual(["gone", effects]);
    expect(after.memory.attempts).toBe(3);
  });

  test("keeps a resource that comes all the same, and an error that is for good", () => {
    expect(step<string>(states.opening, events.opened, unneeded)[0].at).toBe("connected");
    const fatal = initialState<string>({ ...memory, fatal: true });
    expect(step(fatal, events.start, unneeded)[0].at).toBe("fatal");
  });
});

test("a fresh connection waits for nothing", () => {
  const [after, effects] = step<string>(initialState(newMemory(undefined)), events.start, given);
  expect([after.at, effects.map(inWords)]).toEqual(["opening", ["cancelRetry", "open 1"]]);
});

function inWords(effect: Effect<string>): string {
  switch (effect.do) {
    case "open":
      return `open ${effect.attempt}`;
    case "retryIn":
      return `retryIn ${effect.delayMs}`;
    case "enter":
      return `enter ${effect.resource}`;
    case "tellFailed":
      return `tellFailed ${effect.retryMs ?? "never"}`;
    case "close":
    case "dispose":
      return `${effect.do} ${effect.resource} ${effect.reason instanceof Error ? effect.reason.message : effect.reason}`;
    default:
      return effect.do;
  }
}
