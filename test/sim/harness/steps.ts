/**
 * The commands of a run, drawn from its seed.
 */

import { Draw } from "./draw.ts";
import type { Command, Play, Scenario } from "./scenario.ts";
import type { World } from "./world.ts";

/** One command, and what passes after it. Plain JSON. */
export interface Step {
  readonly kind: string;
  readonly args: unknown;
  readonly pass: Pass;
}

/** So many microtasks; or all of them; or so much time. */
export type Pass = { readonly hops: number } | "settle" | { readonly ms: number };

/** The commands that every scenario has: what a busy machine does to the program. */
const ofTheMachine = {
  "the loop stalls": {
    weight: 0.02,
    fault: true,
    draw: (draw: Draw) => ({ ms: draw.one(1, 20, 300) }),
    run: (_: Play, { ms }: { readonly ms: number }, world: World) => world.runtime.stall(ms),
  },
  "the clock jumps": {
    weight: 0.005,
    fault: true,
    draw: (draw: Draw) => ({ ms: draw.one(5_000, 60_000, 1_200_000) }),
    run: (_: Play, { ms }: { readonly ms: number }, world: World) => world.runtime.stall(ms),
  },
};

/** All commands of a scenario, by name. */
export function commandsOf(scenario: Scenario): ReadonlyMap<string, Command<Play, never>> {
  const own = Object.entries(scenario.commands);
  const sum = own.reduce((all, [, { weight }]) => all + weight, 0);
  const machine = Object.entries(ofTheMachine).map(([kind, each]) => {
    return [kind, { ...each, weight: each.weight * sum } as unknown as Command<Play, never>] as const;
  });
  return new Map([...own, ...machine]);
}

/** The commands of this seed. */
export function stepsOf(scenario: Scenario, seed: number, count: number): Step[] {
  const draw = new Draw(seed, "commands");
  const swarm = new Draw(seed, "which commands");
  // Those that are rare stay: without them a run may miss what it is there for.
  const menu = [...commandsOf(scenario)].map(([kind, each]) => {
    return { kind, each, weight: each.weight * swarm.one(0.2, 1, 1, 1, 3) };
  });
  const sum = menu.reduce((all, { weight }) => all + weight, 0);
  const hasty = swarm.one(0.1, 0.4, 0.8);
  return Array.from({ length: count }, () => {
    let place = draw.fraction() * sum;
    const { kind, each } = menu.find(({ weight }) => (place -= weight) < 0) ?? (menu[0] as (typeof menu)[number]);
    return { kind, args: each.draw?.(draw) ?? {}, pass: passOf(draw, hasty) };
  });
}

function passOf(draw: Draw, hasty: number): Pass {
  if (draw.chance(hasty)) return { hops: draw.below(7) };
  if (draw.chance(0.4)) return "settle";
  return { ms: draw.one(0, 1, 3, 7, 20, 50, 100, 300, 1_000) };
}
