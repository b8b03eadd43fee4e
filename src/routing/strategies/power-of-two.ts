/**
 * Two members at random, and the less used of them.
 *
 * Choosing at random leaves the fullest of n with about log n / log log n requests more than the average. Looking at
 * two and taking the emptier leaves it with log log n, and looking at more hardly helps any further (Azar, Broder,
 * Karlin, Upfal 1994; Mitzenmacher 2001). So nearly everything there is to gain costs two looks, however many members
 * there are. And many clients that choose so do not all run to the one member that each of them sees idle.
 *
 * It is said not to attract traffic to a member that fails fast, since it can win only those draws that it is in. But
 * with nothing in flight it wins all of those: twice its share. Ties are no help; there is none while the others are
 * busy. So failures in a row count among what is in flight (failures.ts), and a member that fails in a millisecond gets
 * a request every few seconds.
 */

import { Dice, type Runtime } from "../../runtime/index.ts";
import { Failures } from "../failures.ts";
import type { Member, Strategy, StrategyFactory } from "../strategy.ts";

/**
 * Of two members chosen at random, two different ones, the one with fewer requests in flight; either, if they have the
 * same. From the second failure in a row on, each counts as one in flight for five seconds, until a request succeeds.
 * Cost: O(1), two looks.
 *
 * For pools of many hundred members, and for many processes that share the members. One process knows what it has in
 * flight itself, and with a few hundred members it does better to look at all of them: `leastUsed`.
 */
export function powerOfTwo(): StrategyFactory {
  return <R>(runtime: Runtime): Strategy<R> => {
    const dice = Dice.of(runtime);
    const failures = new Failures<R>(runtime);
    const load = (member: Member<R>): number => member.inFlight + failures.of(member);
    return {
      pick: (members) => {
        const first = dice.below(members.length);
        const a = members[first] as Member<R>;
        if (members.length === 1) return a;
        const b = members[dice.another(members.length, first)] as Member<R>;
        return load(a) <= load(b) ? a : b;
      },
      finished: (member, outcome) => failures.finished(member, outcome),
      left: (member) => failures.left(member),
    };
  };
}
