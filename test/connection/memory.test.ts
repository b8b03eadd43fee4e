/** What a connection remembers of its attempts, and what that makes it do: the pacing, without a pool around it. */

import { describe, expect, test } from "vitest";
import {
  type Event,
  initialState,
  type Memory,
  newMemory,
  type State,
  step,
  succeeding,
} from "../../src/connection/machine.ts";

const options = { kind: "exponential", minMs: 100, maxMs: 1_000 } as const;

/** A machine that is told what happens, with a clock of its own. Its one timer is the retry. */
class Machine {
  now = 0;
  wanted = false;
  /** When it opened. */
  readonly opens: number[] = [];
  state: State<string>;
  #retryAt = Infinity;

  constructor(memory: Memory = newMemory(options)) {
    this.state = initialState(memory);
  }

  tell(event: Event<string>): this {
    const [state, effects] = step(this.state, event, {
      now: this.now,
      random: () => 0,
      wanted: this.wanted,
      needed: true,
    });
    this.state = state;
    for (const effect of effects) {
      if (effect.do === "open") this.opens.push(this.now);
      if (effect.do === "cancelRetry") this.#retryAt = Infinity;
      if (effect.do === "retryIn") this.#retryAt = this.now + effect.delayMs;
    }
    return this;
  }

  fails(fatal = false): this {
    return this.tell({ on: "failed", attempt: this.state.memory.attempts, error: new Error("refused"), fatal });
  }

  hasOpened(): this {
    return this.tell({ on: "opened", attempt: this.state.memory.attempts, resource: "socket" });
  }

  isLost(): this {
    return this.tell({ on: "lost", attempt: this.state.memory.attempts, reason: undefined });
  }

  passes(ms: number): this {
    this.now += ms;
    if (this.now >= this.#retryAt) {
      this.#retryAt = Infinity;
      this.tell({ on: "retry" });
    }
    return this;
  }

  /** A new process, with the memory of this one. */
  crashes(): Machine {
    const next = new Machine(this.state.memory);
    next.now = this.now;
    return next.tell({ on: "start" });
  }
}

function started(): Machine {
  return new Machine().tell({ on: "start" });
}

describe("a server that is down", () => {
  test("is tried at growing distances, and at the shortest again after a success", () => {
    const machine = started();
    for (const ms of [100, 200, 400, 800, 1_000, 1_000])
      machine
        .fails()
        .passes(ms - 1)
        .passes(1);
    expect(machine.opens).toEqual([0, 100, 300, 700, 1_500, 2_500, 3_500]);
    machine.hasOpened();
    expect(machine.state.memory).toMatchObject({ failures: 0, lastError: undefined });
    machine.isLost().fails().passes(100);
    expect(machine.opens.slice(-2)).toEqual([3_500, 3_600]);
  });

  test("is not tried any sooner because the process that waited has crashed", () => {
    const machine = started().fails().passes(100).fails().passes(50);
    const next = machine.crashes();
    expect([next.state.at, next.opens]).toEqual(["waiting", []]);
    next.passes(149);
    expect(next.opens).toEqual([]);
    next.passes(1).fails();
    expect(next.opens).toEqual([300]);
    expect(next.state.memory.retryAt, "the third failure waits as long as a third one does").toBe(700);
  });

  test("is not tried any sooner because the process that was trying has crashed", () => {
    const machine = started().fails().passes(100);
    const next = machine.crashes();
    expect(next.opens).toEqual([]);
    expect(next.passes(100).opens).toEqual([200]);
  });

  test("is not tried again at all when it was said to be useless, crash or not", () => {
    const machine = started().fails(true);
    expect(machine.state.at).toBe("fatal");
    const next = machine.crashes();
    expect([next.state.at, next.opens]).toEqual(["fatal", []]);
  });
});

describe("a caller who waits", () => {
  test("brings the next attempt forward, to minMs after the last one and no further", () => {
    const machine = started().fails().passes(100).fails().passes(200).fails();
    expect(machine.state.memory.retryAt).toBe(700);
    for (let asked = 0; asked < 5; asked++) machine.passes(10).tell({ on: "nudge" });
    expect(machine.opens).toEqual([0, 100, 300]);
    machine.passes(50);
    expect(machine.opens).toEqual([0, 100, 300, 400]);
  });

  test("is known of by a failure that comes while it waits", () => {
    const machine = started();
    machine.wanted = true;
    for (let failure = 0; failure < 5; failure++) machine.fails().passes(100);
    expect(machine.opens).toEqual([0, 100, 200, 300, 400, 500]);
  });

  test("does not put an attempt off that was due sooner", () => {
    const machine = started().fails();
    machine.passes(60).tell({ on: "nudge" });
    machine.passes(40);
    expect(machine.opens).toEqual([0, 100]);
  });

  test("counts minMs from the beginning of an attempt, which may have been long", () => {
    const machine = started().passes(5_000);
    machine.wanted = true;
    machine.fails().passes(0);
    expect(machine.opens).toEqual([0, 5_000]);
  });
});

describe("a healthy resource that is lost", () => {
  test("is replaced at once", () => {
    const machine = started().hasOpened().passes(60_000).isLost();
    expect(machine.opens).toEqual([0, 60_000]);
  });

  test("is replaced at once only once a minMs, however well it opens", () => {
    const machine = started();
    for (let round = 0; round < 40; round++) machine.hasOpened().isLost().passes(10);
    expect(machine.opens.length).toBeLessThanOrEqual(2 * (400 / 100) + 2);
    expect(machine.state.memory.failures).toBe(0);
  });

  test("leaves its error behind until one has been opened", () => {
    const machine = started().hasOpened().isLost();
    expect(machine.state.memory.lastError).toBeInstanceOf(Error);
    expect(machine.hasOpened().state.memory.lastError).toBeUndefined();
  });
});

describe("the successor of a resource that asked to go", () => {
  test("opens at once the first time, and waits when that was less than minMs ago", () => {
    const given = { now: 1_000, random: () => 0 };
    const first = succeeding(newMemory(options), given);
    expect(first).toMatchObject({ replacedAt: 1_000, retryAt: -Infinity });
    expect(succeeding(first, { ...given, now: 1_050 })).toMatchObject({ replacedAt: 1_000, retryAt: 1_150 });
    expect(succeeding(first, { ...given, now: 1_100 })).toMatchObject({ replacedAt: 1_100, retryAt: -Infinity });
  });

  test("waits longer each time while it cannot even open", () => {
    const given = { now: 1_000, random: () => 0 };
    const twice = succeeding(succeeding(newMemory(options), given), given);
    const machine = new Machine(twice);
    machine.now = 1_000;
    machine.tell({ on: "start" }).passes(100).fails();
    expect(machine.state.memory.retryAt - machine.now).toBe(200);
  });
});
