/**
 * What a scenario is: the code under test in a world, the commands that are given to it, and what must hold.
 *
 *     export const lamp: Scenario<Lamp> = {
 *       name: "lamp",
 *       about: "one lamp",
 *       seeds: 100,
 *       steps: 50,
 *       faults: { "the bulb breaks": 0.1 },                      // world.strikes("the bulb breaks")
 *       commands: {
 *         press: command<Lamp>({ weight: 3, run: (lamp) => lamp.press() }),
 *         wait: command<Lamp, { ms: number }>({
 *           weight: 1,
 *           draw: (draw) => ({ ms: draw.below(10) }),
 *           run: (lamp, { ms }) => lamp.wait(ms),
 *         }),
 *       },
 *       start: async (world) => new Lamp(world),
 *     };
 *
 * A command is drawn before the run begins, as plain JSON, so that a run is a list that can be replayed and shrunk.
 * What it acts on is not known then: draw a number, and take the one at that place, modulo how many there are
 * (`at`). A command that finds nothing to act on does nothing.
 *
 * Between two commands passes what the harness draws: a few microtasks, everything that needs no time, or some time.
 */

import type { Draw } from "./draw.ts";
import type { World } from "./world.ts";

/** The code under test, in one run. */
export interface Play {
  /**
   * Holds what must hold now, with `world.must`. Not `settled`: between two microtasks, in the middle of things. Called
   * after every command: keep it cheap.
   */
  check(settled: boolean): void;
  /**
   * The world is calm from now on: mends what commands have broken for good (a server that was told to hang), lets time
   * pass, and holds that everything has come right by itself. `check` is called after it.
   */
  converge(): Promise<void>;
  /**
   * Ends everything, and holds that nothing is left. Then the harness does so too: every promise that the world follows
   * has settled, and no timer is set.
   */
  stop(): Promise<void>;
}

export interface Command<P extends Play, A> {
  /** How often it comes, beside the others. */
  readonly weight: number;
  /** It is a fault, and counted as such. */
  readonly fault?: true;
  /** Plain JSON. */
  draw?(draw: Draw): A;
  /** Returns `false` when there was nothing to do it to: then it does not count as a fault. Does not wait. */
  run(play: P, args: A, world: World): unknown;
}

export interface Scenario<P extends Play = Play> {
  readonly name: string;
  /** In a few words, for the list of scenarios. */
  readonly about: string;
  /** How many seeds the default run has of it, from 1; and how many commands each. */
  readonly seeds: number;
  readonly steps: number;
  /** Faults that happen by themselves, and how often where they can. */
  readonly faults: Readonly<Record<string, number>>;
  readonly commands: Readonly<Record<string, Command<P, never>>>;
  start(world: World): Promise<P>;
}

/** Infers nothing, and says what the arguments are. */
export function command<P extends Play, A = Record<string, never>>(spec: Command<P, A>): Command<P, never> {
  return spec as unknown as Command<P, never>;
}

/** The one at this place, modulo how many there are. */
export function at<T>(all: readonly T[], place: number): T | undefined {
  return all[place % all.length];
}
