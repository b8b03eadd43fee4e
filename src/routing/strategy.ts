/**
 * The choice: which member takes this request.
 *
 * A strategy sees the members that are ready and have room, and names one. It is told who came and went, and how each
 * request ended, if it wants to know. It knows nothing of sockets, queues or health: those are other parts.
 *
 * The factories here make a strategy anew for each pool, with the pool's clock and dice. None allocates per pick.
 * Those with an algorithm to explain are in `strategies`, the default among them.
 */

import type { Endpoint } from "../connection/index.ts";
import { OptionError } from "../errors.ts";
import { having } from "../options.ts";
import { Dice, type Runtime } from "../runtime/index.ts";

/** A ready resource of a routing pool, with its load. */
export interface Member<R> {
  readonly resource: R;
  readonly endpoint: Endpoint;
  readonly slot: number;
  /** Requests it has not answered yet. */
  readonly inFlight: number;
  /** Requests it takes at once. */
  readonly capacity: number;
  readonly weight: number;
}

/** What strategies may look at. */
export interface RouteRequest {
  readonly key?: string | number;
}

/** How a request ended. Valid during the call only: the object is used again. */
export interface Outcome {
  readonly ok: boolean;
  readonly durationMs: number;
  readonly error?: unknown;
  /** `runtime.now()` at its end, to save the strategy a look at the clock. */
  readonly endedAt?: number;
}

export interface Strategy<R> {
  /**
   * Names one of `members`, which are those ready and with room; there is at least one. Synchronous and quick: it runs
   * for every request. What it throws, or a stranger it names, is an event, and the first member is taken instead.
   */
  pick(members: readonly Member<R>[], request: RouteRequest): Member<R>;
  joined?(member: Member<R>): void;
  left?(member: Member<R>): void;
  started?(member: Member<R>): void;
  finished?(member: Member<R>, outcome: Outcome): void;
}

/** A strategy, or how to make one for a pool. */
export type StrategyLike<R> = Strategy<R> | ((runtime: Runtime) => Strategy<R>);

/** What the factories here return: fits a pool of anything. */
export type StrategyFactory = <R>(runtime: Runtime) => Strategy<R>;

/** A number on a member for its strategy's own use; a pool has one strategy. Unset it is −∞. */
export interface Marked {
  mark?: number;
}

/**
 * The strategy behind either form.
 *
 * @throws {OptionError} when a factory makes something else: `leastUsed` instead of `leastUsed()`, for one.
 */
export function strategyOf<R>(where: string, like: StrategyLike<R>, runtime: Runtime): Strategy<R> {
  const strategy = typeof like === "function" ? like(runtime) : like;
  if (having("pick").accepts(strategy)) return strategy;
  throw new OptionError(`${where}: strategy`, "a strategy, or a function that makes one: leastUsed()", strategy);
}

/** Anyone, all alike. O(1). */
export function random(): StrategyFactory {
  return <R>(runtime: Runtime): Strategy<R> => {
    const dice = Dice.of(runtime);
    return { pick: (members) => members[dice.below(members.length)] as Member<R> };
  };
}

/**
 * One after another: a shared index, modulo the current members. O(1).
 *
 * When members join or leave, some may be passed over or hit twice in that round: the index knows nothing of them.
 * `strictRoundRobin` mends that.
 */
export function roundRobin(): StrategyFactory {
  return <R>(): Strategy<R> => {
    let index = -1;
    return {
      pick: (members) => {
        index = (index + 1) % members.length;
        return members[index] as Member<R>;
      },
    };
  };
}

/**
 * Every member exactly once a cycle, whoever joins or leaves in the middle: one that joins is still hit in this cycle.
 * A member that is full when its turn comes has it when there is room again, within the cycle.
 *
 * Each member carries the number of the cycle in which it was last hit. The index looks for one that has not been hit
 * in this; when there is none, the next cycle begins. O(1) amortised over a cycle; O(members) at its end.
 */
export function strictRoundRobin(): StrategyFactory {
  return <R>(): Strategy<R> => {
    let cycle = 0;
    let index = -1;
    const next = (members: readonly Member<R>[]): Member<R> | undefined => {
      for (let looked = 0; looked < members.length; looked++) {
        index = (index + 1) % members.length;
        const member = members[index] as Member<R> & Marked;
        if ((member.mark ?? -Infinity) < cycle) return member;
      }
      return undefined;
    };
    return {
      pick: (members) => {
        let member = next(members);
        if (member === undefined) {
          cycle++;
          member = next(members) as Member<R>;
        }
        (member as Marked).mark = cycle;
        return member;
      },
    };
  };
}
