/**
 * The harness of the simulation, on a lamp that is built to fail, so that we know it is awake; and what a person sees
 * of it. The scenarios themselves run in scenarios.test.ts.
 */

import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { main } from "./harness/main.ts";
import { failure } from "./harness/report.ts";
import { run, runTwice } from "./harness/run.ts";
import { command, type Play, type Scenario } from "./harness/scenario.ts";
import { shrink } from "./harness/shrink.ts";
import { stepsOf } from "./harness/steps.ts";
import { mutants } from "./mutants/table.ts";
import { scenarios } from "./scenarios/index.ts";
import type { World } from "./harness/world.ts";

/** A lamp with a switch that must not be pressed three times, and flaws by request. */
class Lamp implements Play {
  readonly world: World;
  readonly flaw: string | undefined;
  pressed = 0;

  constructor(world: World, flaw: string | undefined) {
    this.world = world;
    this.flaw = flaw;
  }

  press(): void {
    this.pressed++;
    this.world.strikes("the bulb flickers");
    if (this.flaw === "hangs") this.world.follow("light", new Promise(() => undefined));
    if (this.flaw === "leaves a timer" && this.pressed === 1) this.world.runtime.setTimer(() => undefined, 2 ** 40);
    if (this.flaw === "throws") throw new Error("the fuse");
    if (this.flaw === "is swallowed") this.#swallowed();
    if (this.flaw === "is a gamble") this.world.note(`${Math.random()}`);
  }

  check(): void {
    const pressed = this.flaw === "breaks" ? this.pressed : 0;
    this.world.must("as-the-model", pressed < 3, () => `pressed ${pressed} times`);
  }

  async converge(): Promise<void> {
    await this.world.runtime.settle();
  }

  async stop(): Promise<void> {
    await this.world.runtime.settle();
  }

  #swallowed(): void {
    try {
      this.world.must("one-holder", false, () => "two hands on the switch");
    } catch {
      // As the code under test may.
    }
  }
}

function lamp(flaw?: string): Scenario {
  const scenario: Scenario<Lamp> = {
    name: "lamp",
    about: "a lamp",
    seeds: 1,
    steps: 60,
    faults: { "the bulb flickers": 0.5 },
    commands: {
      press: command<Lamp>({ weight: 1, run: (play) => play.press() }),
      look: command<Lamp, { for: number }>({
        weight: 3,
        draw: (draw) => ({ for: draw.below(9) }),
        run: () => undefined,
      }),
      "somebody stumbles": command<Lamp>({ weight: 1, fault: true, run: () => false }),
    },
    start: async (world) => new Lamp(world, flaw),
  };
  return scenario as unknown as Scenario;
}

describe("a run", () => {
  test("of code that does right finds nothing, and is the same run again", async () => {
    const first = await run(lamp(), 7, { whole: true });
    const second = await run(lamp(), 7, { whole: true });
    expect(first.found).toBeUndefined();
    expect(first.commands).toBe(60);
    expect(second.trace.text).toEqual(first.trace.text);
    expect(second.trace.digest).toBe(first.trace.digest);
    expect((await run(lamp(), 8)).trace.digest).not.toBe(first.trace.digest);
  });

  test.each([
    ["breaks", "as-the-model", "pressed 3 times"],
    ["throws", "as-the-model", "unexpected: Error: the fuse"],
    ["hangs", "settles", "never settled: light #1"],
    ["leaves a timer", "lets-go", "1 timers are left"],
    ["is swallowed", "one-holder", "two hands on the switch"],
    ["is a gamble", "deterministic", "of the traces"],
  ])("finds a lamp that %s", async (flaw, invariant, detail) => {
    const { found } = await runTwice(lamp(flaw), 7);
    expect(found).toMatchObject({ invariant, detail: expect.stringContaining(detail) });
  });

  test("counts a fault that struck, and none for a command that found nothing to break", async () => {
    const { faults } = await run(lamp(), 3, { count: 400 });
    expect(
      [...faults.keys()].filter((fault) => !fault.startsWith("the loop") && !fault.startsWith("the clock")),
    ).toEqual(["the bulb flickers"]);
  });

  test("goes by the commands that it is given", async () => {
    const press = { kind: "press", args: {}, pass: "settle" } as const;
    expect((await run(lamp("breaks"), 7, { steps: [press, press] })).found).toBeUndefined();
    expect((await run(lamp("breaks"), 7, { steps: [press, press, press] })).found?.after).toBe(3);
  });
});

describe("a failure", () => {
  test("shrinks to the fewest commands that do it", async () => {
    const failed = await runTwice(lamp("breaks"), 7);
    const { steps, found } = await shrink(lamp("breaks"), failed);
    expect(steps.map(({ kind }) => kind)).toEqual(["press", "press", "press"]);
    expect(found?.invariant).toBe("as-the-model");
  });

  test("is told with the line that replays it, and with what to write down", async () => {
    const failed = await runTwice(lamp("breaks"), 7);
    const text = failure(failed, failed);
    expect(text).toContain("npm run sim -- --scenario lamp --seed 7 --steps 60");
    expect(text).toContain('{"scenario":"lamp","seed":7,"steps":60,');
    expect(text).toContain("test/sim/seeds.json");
  });
});

describe("the commands of a seed", () => {
  test("are plain JSON, and the same each time", () => {
    const steps = stepsOf(lamp(), 11, 200);
    expect(JSON.parse(JSON.stringify(steps))).toEqual(steps);
    expect(stepsOf(lamp(), 11, 200)).toEqual(steps);
    expect(stepsOf(lamp(), 12, 200)).not.toEqual(steps);
  });

  test.each(scenarios.map((scenario) => [scenario.name, scenario] as const))("are so in %s", (_, scenario) => {
    for (let seed = 1; seed <= 20; seed++) {
      const steps = stepsOf(scenario, seed, 200);
      expect(JSON.parse(JSON.stringify(steps))).toEqual(steps);
    }
  });
});

describe("npm run sim", () => {
  const said = async (...argv: string[]): Promise<[code: number, text: string]> => {
    const lines: string[] = [];
    return [await main(argv, (line) => lines.push(line)), lines.join("\n")];
  };

  test.each([
    [["--seed", "seven"], '--seed must be a whole number from 0 to 4294967295, and "seven" is none.'],
    [["--seed", "-1"], "--seed"],
    [["--seed", "4294967296"], "--seed must be a whole number"],
    [["--steps", "0"], "--steps must be a whole number from 1"],
    [["--scenario", "nowhere"], 'There is no scenario "nowhere". These there are:\n  process'],
    [["--speed", "7"], "Unknown option '--speed'"],
    [["--steps", "4294967295"], "--steps must be a whole number from 1 to 1000000"],
    [["--seed", "7", "--seeds", "9"], "give one"],
    [["--trace"], "give its --seed"],
    [["--scenario", "registry", "--scenario", "fanta"], "--scenario is given twice"],
  ])("refuses %j with a clear message", async (argv, message) => {
    const [code, text] = await said(...argv);
    expect(code).toBe(2);
    expect(text).toContain(message);
  });

  test("runs one seed, and says what came of it", async () => {
    const [code, text] = await said("--scenario", "registry", "--seed", "12", "--steps", "50");
    expect(code).toBe(0);
    expect(text).toMatch(/^registry +1 seeds twice, 50 commands, \d+ faults, 0 violations, trace \d+-[0-9a-f]{16}$/);
  });

  test("shows the whole of a run when asked to", async () => {
    const [, text] = await said("--scenario", "registry", "--seed", "12", "--steps", "50", "--trace");
    expect(text.split("\n").length).toBeGreaterThan(50);
  });
});

test("every planted bug has its place in src: the text that it replaces is there once", () => {
  const pieces = mutants.map(({ name, file, before }) => [
    name,
    readFileSync(`src/${file}`, "utf8").split(before).length,
  ]);
  expect(pieces.filter(([, count]) => count !== 2)).toEqual([]);
});
