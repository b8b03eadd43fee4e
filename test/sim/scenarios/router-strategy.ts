/**
 * A strategy for a router: one of ours or a bare one, which now and then goes wrong in every way that the array and the
 * answer leave open. It looks at what it is shown and told, and leaves the verdict to whoever knows the registry.
 */

import {
  leastUsed,
  type Member,
  type Outcome,
  peakEwma,
  powerOfTwo,
  random,
  rendezvous,
  roundRobin,
  type RouteRequest,
  type Runtime,
  type Strategy,
  type StrategyFactory,
  type StrategyLike,
  strictRoundRobin,
  weighted,
} from "../../../src/index.ts";
import type { World } from "../harness/world.ts";

export type Kind = keyof typeof ours;

const ours = {
  leastUsed,
  roundRobin,
  strictRoundRobin,
  random,
  powerOfTwo,
  peakEwma,
  weighted,
  rendezvous: () => rendezvous({ loadBound: Infinity }),
  bare: (): StrategyFactory => () => ({ pick: (members) => members.at(-1) as (typeof members)[number] }),
} as const;

export const kinds = Object.keys(ours) as readonly Kind[];

/** What a strategy may do to the array that it is shown and has no business to change. */
const manglings = {
  "a strategy reverses what it is shown": (shown: Member<number>[]) => void shown.reverse(),
  "a strategy takes one out of what it is shown": (shown: Member<number>[]) => void shown.pop(),
  "a strategy empties what it is shown": (shown: Member<number>[]) => void shown.splice(0),
  "a strategy writes over what it is shown": (shown: Member<number>[], dead: Member<number> | undefined) =>
    void shown.fill(dead ?? (shown.at(-1) as Member<number>), 0, 1),
} as const;

export type Hook = "joined" | "left" | "started" | "finished";

/** What the router's owner knows. */
export interface Judge {
  shown(members: readonly Member<number>[]): void;
  /** It has chosen one that it was shown: that one must be picked, if it is there. */
  chosen(member: Member<number>, request: RouteRequest): void;
  /** It has gone wrong in this, of that error, or without one: that must be heard. */
  failed(hook: Hook | "pick", error: Error | undefined): void;
  /** It has changed the array: in its order, or in its members. */
  mangled(): void;
  told(hook: Hook, member: Member<number>, outcome?: Outcome): void;
}

/** The faults of a strategy, and how often they happen. */
export const strategyFaults = {
  "a strategy throws": 0.04,
  "a strategy rejects": 0.02,
  "a strategy names nobody": 0.02,
  "a strategy names a stranger": 0.03,
  "a strategy names one that has gone": 0.05,
  "a strategy names one of another router": 0.03,
  "a strategy reverses what it is shown": 0.03,
  "a strategy takes one out of what it is shown": 0.03,
  "a strategy empties what it is shown": 0.03,
  "a strategy writes over what it is shown": 0.03,
  "a strategy mangles, and throws": 0.05,
  "a hook throws": 0.03,
  "a hook rejects": 0.03,
} as const;

/** Of all routers of a run: whom they have let go, and whom they have. */
export interface Acquaintances {
  /** By router. */
  readonly gone: Map<Judge, Member<number>>;
  readonly there: Map<Judge, Member<number>>;
}

export function strategyOf(
  world: World,
  kind: Kind,
  judge: Judge,
  { gone, there }: Acquaintances,
): StrategyLike<number> {
  let errors = 0;
  const error = (): Error => new Error(`no idea, no. ${++errors}`);

  const mangle = (shown: Member<number>[]): boolean => {
    const how = world.strike(...(Object.keys(manglings) as (keyof typeof manglings)[]));
    if (how === undefined) return false;
    manglings[how](shown, gone.get(judge));
    judge.mangled();
    return true;
  };

  /** What it says instead of an answer: `undefined` when it does its work. */
  const wrongAnswer = (shown: readonly Member<number>[]): { readonly answer: unknown } | undefined => {
    const others = [...there].filter(([other]) => other !== judge).map(([, member]) => member);
    switch (
      world.strike(
        "a strategy rejects",
        "a strategy names nobody",
        "a strategy names a stranger",
        "a strategy names one that has gone",
        "a strategy names one of another router",
      )
    ) {
      case "a strategy rejects": {
        const why = error();
        judge.failed("pick", why);
        return { answer: Promise.reject(why) };
      }
      case "a strategy names nobody":
        return { answer: undefined };
      case "a strategy names a stranger":
        return { answer: { ...shown[0] } };
      case "a strategy names one that has gone":
        return gone.has(judge) ? { answer: gone.get(judge) } : undefined;
      case "a strategy names one of another router":
        return others.length > 0 ? { answer: others[0] } : undefined;
      case undefined:
        return undefined;
    }
  };

  const pick = (inner: Strategy<number>, shown: Member<number>[], request: RouteRequest): Member<number> => {
    judge.shown(shown);
    if (world.strikes("a strategy throws")) {
      const why = error();
      judge.failed("pick", why);
      throw why;
    }
    const wrong = wrongAnswer(shown);
    if (wrong !== undefined) {
      judge.failed("pick", undefined);
      return wrong.answer as Member<number>;
    }
    const member = inner.pick(shown, request);
    there.set(judge, member);
    if (mangle(shown) && world.strikes("a strategy mangles, and throws")) {
      const why = error();
      judge.failed("pick", why);
      throw why;
    }
    judge.chosen(member, request);
    return member;
  };

  const told = (hook: Hook, member: Member<number>, outcome?: Outcome): void | Promise<void> => {
    judge.told(hook, member, outcome);
    if (hook === "left") {
      gone.set(judge, member);
      if (there.get(judge) === member) there.delete(judge);
    }
    const fault = world.strike("a hook throws", "a hook rejects");
    if (fault === undefined) return undefined;
    const why = error();
    judge.failed(hook, why);
    if (fault === "a hook throws") throw why;
    return Promise.reject(why);
  };

  return (runtime: Runtime): Strategy<number> => {
    const inner: Strategy<number> = ours[kind]()(runtime);
    const choose = {
      pick: (members: readonly Member<number>[], request: RouteRequest) =>
        pick(inner, members as Member<number>[], request),
    };
    if (kind === "bare") return choose;
    return {
      ...choose,
      joined: (member) => {
        inner.joined?.(member);
        return told("joined", member) as void;
      },
      left: (member) => {
        inner.left?.(member);
        return told("left", member) as void;
      },
      started: (member) => {
        inner.started?.(member);
        return told("started", member) as void;
      },
      finished: (member, outcome) => {
        inner.finished?.(member, outcome);
        return told("finished", member, outcome) as void;
      },
    };
  };
}
