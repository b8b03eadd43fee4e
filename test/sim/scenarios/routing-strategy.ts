/**
 * A strategy in a world: one of ours, or one of somebody who has not read the manual, and an eye on what it is shown and
 * told. Whoever may be chosen is seen nowhere better than here.
 */

import {
  leastUsed,
  type Member,
  peakEwma,
  perTick,
  powerOfTwo,
  random,
  rendezvous,
  roundRobin,
  type Runtime,
  type Strategy,
  type StrategyFactory,
  strictRoundRobin,
  weighted,
} from "../../../src/index.ts";
import type { Resource } from "../../routing/server.ts";
import type { World } from "../harness/world.ts";

const ours: readonly (() => StrategyFactory)[] = [
  leastUsed,
  leastUsed,
  random,
  roundRobin,
  strictRoundRobin,
  powerOfTwo,
  peakEwma,
  weighted,
  () => rendezvous({ loadBound: 1.25 }),
  () => perTick(leastUsed(), { limit: 3 }),
  () => perTick(roundRobin()),
];

/** What the pool's owner knows of a member. */
export interface Judge {
  /** Why it must not be given anything now. */
  unfit(member: Member<Resource>): string | undefined;
  /** It has been given something. */
  given(member: Member<Resource>): void;
  /** The strategy has gone wrong in this: that must be heard. */
  failed(callback: string): void;
}

export class Eye {
  /** Members that the strategy has been told of, by their resource. */
  readonly there = new Map<Resource, Member<Resource>>();
  readonly #world: World;
  readonly #judge: Judge;
  /** What each has at work, as the strategy has heard it. */
  readonly #atWork = new Map<Member<Resource>, number>();

  constructor(world: World, judge: Judge) {
    this.#world = world;
    this.#judge = judge;
  }

  /** Something of which the strategy has heard the beginning, and never the end. */
  get unpaired(): string {
    const left = [...this.#atWork.values()].filter((count) => count !== 0).length;
    return [
      ...(this.there.size > 0 ? [`${this.there.size} joined`] : []),
      ...(left > 0 ? [`${left} at work`] : []),
    ].join();
  }

  strategy(): (runtime: Runtime) => Strategy<Resource> {
    const world = this.#world;
    const make = world.setUp.one(...ours)();
    return (runtime) => {
      const inner: Strategy<Resource> = make(runtime);
      return {
        pick: (members, request) => this.#pick(inner, members, request),
        joined: (member) => {
          world.must("as-the-model", !this.there.has(member.resource), () => "a member joins twice");
          this.there.set(member.resource, member);
          inner.joined?.(member);
        },
        left: (member) => {
          world.must("as-the-model", this.there.delete(member.resource), () => "a member leaves that was not there");
          inner.left?.(member);
        },
        started: (member) => {
          this.#judge.given(member);
          this.#count(member, 1);
          inner.started?.(member);
        },
        finished: (member, outcome) => {
          this.#count(member, -1);
          inner.finished?.(member, outcome);
          if (!world.strikes("a strategy throws at the end")) return;
          this.#judge.failed("strategy.finished");
          throw new Error("no idea");
        },
      };
    };
  }

  #pick(
    inner: Strategy<Resource>,
    members: readonly Member<Resource>[],
    request: { readonly key?: string | number },
  ): Member<Resource> {
    const world = this.#world;
    world.must("as-the-model", members.length > 0, () => "a strategy is asked to choose from nobody");
    for (const member of members) {
      const why = this.#judge.unfit(member);
      world.must("registered-iff-able", why === undefined, () => `a strategy is shown a member that is ${why}`);
    }
    const given = members as Member<Resource>[];
    switch (world.strike("a strategy throws", "a strategy names a stranger", "a strategy takes what it is shown")) {
      case "a strategy throws":
        this.#judge.failed("strategy.pick");
        throw new Error("no idea");
      case "a strategy names a stranger":
        this.#judge.failed("strategy.pick");
        return { ...(given[0] as Member<Resource>) };
      case "a strategy takes what it is shown":
        return given.reverse().pop() as Member<Resource>;
      case undefined:
        return inner.pick(members, request);
    }
  }

  #count(member: Member<Resource>, by: number): void {
    const now = (this.#atWork.get(member) ?? 0) + by;
    this.#world.must("in-flight-is-real", now >= 0, () => "a strategy hears of more ends than beginnings");
    if (now === 0) this.#atWork.delete(member);
    else this.#atWork.set(member, now);
  }
}
