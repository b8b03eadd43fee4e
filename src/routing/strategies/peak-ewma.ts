/**
 * Peak EWMA: of two members at random, the one where a request should be answered sooner.
 *
 * What a member costs is its latency, remembered so that a slow answer counts at once and is forgotten slowly: Finagle's
 * "peak exponentially weighted moving average" (com.twitter.finagle.loadbalancer.PeakEwma), which linkerd and tower
 * have from there. With r the latency of an answer, Δt the time since the one before it, and w = e^(−Δt/τ):
 *
 *     cost = r                        if r > cost
 *     cost = r · (1 − w) + cost · w   otherwise
 *     load = cost · e^(−Δt/τ) · (pending + 1)
 *
 * A member that is not asked for a while gets cheaper, until it is tried again. One of which nothing is known costs
 * nothing while it is idle, and more than everyone else while its first request is under way: one probe at a time.
 *
 * To Finagle's formula belongs linkerd's penalty: a failure counts as a latency of five seconds, or as what the member
 * costs already if that is more. Without it a member that fails in a millisecond is the best of all. With it the
 * product works against such a member by itself: 5,000 · 1 is more than 10 · (20 + 1), though it has nothing in flight.
 *
 * Costs all fade at one rate, so fading does not change their order: instead of cost · e^(−Δt/τ) we keep
 * τ · ln(cost) + t, and to compare loads we add τ · ln(pending + 1). A pick calls no clock and no exp. For the same
 * reason, unlike in Finagle, to look at a member changes nothing.
 */

import { checkOptions, duration, flag } from "../../options.ts";
import { Dice, type Runtime } from "../../runtime/index.ts";
import { failureMs } from "./failures.ts";
import type { Marked, Member, Strategy, StrategyFactory } from "../strategy.ts";

export interface PeakEwmaOptions {
  /** How fast a cost fades: to 37 % in this time. Less forgets a hiccup sooner, and a slow member too. @default 10_000 */
  readonly decayMs?: number;
  /** Look at all members instead of two, where there are at most 256. @default false */
  readonly fullScan?: boolean;
}

/** Below this, latencies are alike: a logarithm of nothing would make a member look as if nothing were known of it. */
const floorMs = 0.001;
/** More than any load that has a cost in it, and small enough that what is pending can be added to it exactly. */
const unknownAndBusy = 2 ** 52;
/** Members that are all looked at, where that is asked for. */
const scanned = 256;

/**
 * Of two members chosen at random, the one with the lower latency of late times its requests in flight (Finagle's Peak
 * EWMA); failures count as five seconds. Cost: O(1), two looks and two logarithms; an exponential or two an answer.
 *
 * For members of different speed, or that become slow and stay so: with one of twenty ten times slower the p99.9 is 79 ms,
 * and 73 with `fullScan`, where `leastUsed` has 108 and a pool without that member 70. Not for members that hiccup, each
 * for a moment: it flees from one that is already well again. With slow spells of half a second that move about the p99
 * is 330 ms, 126 with `fullScan`, and 67 for `leastUsed` (the scenarios of `npm run bench:routing`, 20 clients).
 *
 * @throws {OptionError}
 */
export function peakEwma(options: PeakEwmaOptions = {}): StrategyFactory {
  checkOptions("peakEwma", options, { decayMs: duration(), fullScan: flag() });
  const { decayMs = 10_000, fullScan = false } = options;

  /** The logarithm of its load, as of the time 0. */
  const load = <R>(member: Member<R>): number => {
    const { mark: cost = -Infinity } = member as Marked;
    const pending = member.inFlight;
    if (cost > -Infinity) return cost + decayMs * Math.log(pending + 1);
    return pending === 0 ? -Infinity : unknownAndBusy + pending;
  };

  const cheapest = <R>(members: readonly Member<R>[]): Member<R> => {
    let best = members[0] as Member<R>;
    let least = load(best);
    for (let at = 1; at < members.length; at++) {
      const member = members[at] as Member<R>;
      const its = load(member);
      if (its >= least) continue;
      best = member;
      least = its;
    }
    return best;
  };

  return <R>(runtime: Runtime): Strategy<R> => {
    const dice = Dice.of(runtime);
    /** When each had its last answer. */
    const answers = new WeakMap<Member<R>, { at: number }>();
    return {
      pick: (members) => {
        if (fullScan && members.length <= scanned) return cheapest(members);
        const first = dice.below(members.length);
        const a = members[first] as Member<R>;
        if (members.length === 1) return a;
        const b = members[dice.another(members.length, first)] as Member<R>;
        return load(a) <= load(b) ? a : b;
      },
      finished: (member, { ok, durationMs, endedAt = runtime.now() }) => {
        const answer = answers.get(member);
        let cost = Math.max(ok ? durationMs : failureMs, floorMs);
        if (answer === undefined) answers.set(member, { at: endedAt });
        else {
          const { mark = -Infinity } = member as Marked;
          const before = Math.exp((mark - answer.at) / decayMs);
          const kept = Math.exp((answer.at - endedAt) / decayMs);
          if (!ok) cost = Math.max(cost, before * kept);
          else if (cost <= before) cost = cost * (1 - kept) + before * kept;
          answer.at = endedAt;
        }
        (member as Marked).mark = decayMs * Math.log(cost) + endedAt;
      },
    };
  };
}
