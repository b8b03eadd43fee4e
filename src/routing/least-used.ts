/**
 * The member with the fewest requests in flight; among equals, the one that has been quickest of late.
 *
 * Counting what is in flight answers "who is busy?" exactly, because a process knows its own requests: no sampling, no
 * stale reports. But a member that is slow and idle looks as good as one that is quick and idle, and in a pool with
 * many members most picks are between equals. So each member remembers the worst latency it has shown, fading with
 * time, and ties go to the lowest.
 *
 * Speed alone is a trap: a member that fails in a millisecond would look best of all, and attract everything. So a
 * failure counts as a latency of five seconds (as in linkerd's load biaser).
 *
 * Peaks all fade at one rate, so their order does not change by fading: instead of peak · e^(−Δt/τ) we keep
 * τ · ln(peak) + t, which orders the same at any time. A pick compares two numbers and calls neither a clock nor exp.
 *
 * Up to 256 members the scan is full; above that, 64 that stand together at a random place are looked at. Cost: one
 * comparison a member looked at. In a simulated cluster with moving slow spells this beats two random choices and Peak
 * EWMA over them (`npm run bench:routing`).
 *
 * The decaying peak is Finagle's (Peak EWMA), without its average and without the multiplication by load.
 */

import { Dice, type Runtime } from "../runtime/index.ts";
import type { Marked, Member, Strategy, StrategyFactory } from "./strategy.ts";

/**
 * How fast a peak fades: to 37 % in this time. Longer remembers one slow member better, shorter forgives sooner those whose
 * slow spell is over: with spells of 500 ms the p99 is 68 ms at one second, 76 at three, 119 at ten (npm run bench:routing).
 */
const fadeMs = 1_000;
/** What a failure counts as. */
const failureMs = 5_000;
/** Below this, latencies are alike: a logarithm of nearly nothing would outweigh everything else. */
const floorMs = 0.001;
const fullScan = 256;
const sample = 64;

export function leastUsed(): StrategyFactory {
  return <R>(runtime: Runtime): Strategy<R> => {
    const dice = Dice.of(runtime);
    return {
      pick: (members) =>
        members.length <= fullScan
          ? least(members, 0, members.length)
          : least(members, dice.below(members.length), sample),
      finished: (member, { ok, durationMs, endedAt = runtime.now() }) => {
        const marked = member as Marked;
        const peak = fadeMs * Math.log(Math.max(ok ? durationMs : failureMs, floorMs)) + endedAt;
        if (!(peak <= (marked.mark ?? -Infinity))) marked.mark = peak;
      },
    };
  };
}

/** The least used of `count` members from `from` on, around the end. */
function least<R>(members: readonly Member<R>[], from: number, count: number): Member<R> {
  let best = members[from] as Member<R>;
  let fewest = best.inFlight;
  const end = Math.min(from + count, members.length);
  for (let at = from + 1; at < end; at++) {
    const member = members[at] as Member<R>;
    const inFlight = member.inFlight;
    if (inFlight > fewest) continue;
    if (inFlight < fewest || peakOf(member) < peakOf(best)) {
      best = member;
      fewest = inFlight;
    }
  }
  const around = from + count - end;
  if (around === 0) return best;
  const other = least(members, 0, around);
  return other.inFlight < fewest || (other.inFlight === fewest && peakOf(other) < peakOf(best)) ? other : best;
}

function peakOf<R>(member: Member<R>): number {
  return (member as Marked).mark ?? -Infinity;
}
