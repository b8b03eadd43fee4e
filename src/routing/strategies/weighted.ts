/**
 * Exact shares, dealt evenly.
 *
 * Drawing lots by weight gives the right shares in the long run and any shares in the short. Serving each member its
 * weight's worth in a row gives the right ones and a burst to each. nginx's smooth weighted round robin gives both: at
 * each pick every member is credited its weight, the one with the most is taken, and pays the sum of all weights. With
 * weights of 5, 1 and 1 that is a a b a c a a, and so on.
 *
 * We count the credit in requests instead: each member is credited its weight's fraction of the sum, and the one that is
 * taken pays one. While members and weights stay, that is the same. When they change, nginx's credit is in a coin that
 * has changed its value: of a hundred members ninety-eight are full for a moment, the sum falls to a fiftieth, and one
 * of the two that are left is owed fifty requests in a row. Ours is owed what it has missed, one request or so.
 *
 * Only those who could be taken are credited. So one that was full or away comes back with what it had, and does not
 * catch up on what it missed.
 */

import { asError, OptionError } from "../../errors.ts";
import { callback } from "../../options.ts";
import type { Runtime } from "../../runtime/index.ts";
import { emit } from "../../telemetry/index.ts";
import type { Marked, Member, Strategy, StrategyFactory } from "../strategy.ts";

/** Credits closer than this are alike, and the first of the members has it: fractions add up to a whole only nearly. */
const hair = 1e-9;

/**
 * Each member its weight's share of the requests, as evenly spread as can be: in a cycle (as many picks as whole
 * weights add up to) each has exactly its weight's number. When members come, go, or are full for a while, each still has
 * its share of the picks it was there for, give or take a request or two. The weight is `member.weight`, which is its
 * endpoint's.
 *
 * Cost: O(members) a pick, two passes. Not for members that become slow or fail: they go on getting their share, until a
 * breaker takes them out.
 */
export function weighted(): StrategyFactory;
/**
 * The same with weights of your own.
 *
 * @param weightOf Asked of every member at every pick, so that weights may change while the pool runs; let it be quick.
 *   What is no weight (negative, NaN, infinite, a throw) counts as 0, and is an event once for each member. A member of
 *   weight 0 gets nothing, unless all have 0: then they take turns.
 * @throws {OptionError}
 */
export function weighted<R>(weightOf: (member: Member<R>) => number): (runtime: Runtime) => Strategy<R>;
export function weighted<R>(weightOf: (member: Member<R>) => number = itsOwn): (runtime: Runtime) => Strategy<R> {
  if (!callback().accepts(weightOf)) throw new OptionError("weighted: weightOf", callback().expected, weightOf);
  return () => new Weighted(weightOf);
}

class Weighted<R> implements Strategy<R> {
  readonly #weightOf: (member: Member<R>) => number;
  /** Of the members at hand, by place: they are needed twice. */
  #weights = new Float64Array(16);
  /** Those whose weight was none, and an event. */
  readonly #told = new WeakSet<Member<R>>();
  #turn = -1;

  constructor(weightOf: (member: Member<R>) => number) {
    this.#weightOf = weightOf;
  }

  pick(members: readonly Member<R>[]): Member<R> {
    const total = this.#weigh(members);
    // Weights beyond all measure may add up to infinity. Then their shares are nothing we could compute.
    return total > 0 && total < Infinity ? this.#most(members, total) : this.#next(members);
  }

  #weigh(members: readonly Member<R>[]): number {
    const count = members.length;
    if (count > this.#weights.length) this.#weights = new Float64Array(2 * count);
    const weights = this.#weights;
    let total = 0;
    for (let at = 0; at < count; at++) {
      const weight = this.#weight(members[at] as Member<R>);
      weights[at] = weight;
      total += weight;
    }
    return total;
  }

  #weight(member: Member<R>): number {
    try {
      const weight = this.#weightOf(member);
      return typeof weight === "number" && weight >= 0 && weight < Infinity ? weight : this.#isNone(member, weight);
    } catch (thrown) {
      this.#tell(member, thrown);
      return 0;
    }
  }

  #isNone(member: Member<R>, weight: unknown): number {
    if (weight instanceof Promise) weight.catch(() => undefined); // A weight that comes later is none, and told as that.
    this.#tell(member, new OptionError("weighted: weight", "a finite number, 0 or more", weight));
    return 0;
  }

  #tell(member: Member<R>, thrown: unknown): void {
    if (this.#told.has(member)) return;
    this.#told.add(member);
    emit("callback.failed", { where: `weighted: the weight of member ${member.slot}`, error: asError(thrown) });
  }

  /** The one to whom most is owed. */
  #most(members: readonly Member<R>[], total: number): Member<R> {
    const weights = this.#weights;
    let best = members[0] as Marked;
    let most = -Infinity;
    for (let at = 0; at < members.length; at++) {
      const share = (weights[at] as number) / total;
      if (share === 0) continue; // What it was owed when it still had a weight stays with it.
      const member = members[at] as Marked;
      const credit = creditOf(member) + share;
      member.mark = credit;
      if (credit > most + hair) {
        most = credit;
        best = member;
      }
    }
    best.mark = most - 1;
    return best as Member<R>;
  }

  #next(members: readonly Member<R>[]): Member<R> {
    this.#turn = (this.#turn + 1) % members.length;
    return members[this.#turn] as Member<R>;
  }
}

function creditOf({ mark = -Infinity }: Marked): number {
  return mark === -Infinity ? 0 : mark;
}

function itsOwn(member: Member<unknown>): number {
  return member.weight;
}
