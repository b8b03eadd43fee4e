/**
 * The member with the fewest requests in flight; among equals, the one that has been quickest of late.
 *
 * Counting what is in flight answers "who is busy?" exactly, because a process knows its own requests: no sampling, no
 * stale reports. But a member that is slow and idle looks as good as one that is quick and idle, and in a pool with
 * many members most picks are between equals. So each member remembers the worst latency it has shown, fading with
 * time, and ties go to the lowest.
 *
 * Speed alone is a trap: a member that fails in a millisecond would look best of all, and attract everything. So a
 * failure counts as a latency of five seconds, twice. In the peaks, so that who has failed loses ties; that is enough
 * while most members are idle. And among what is in flight, when failures come in a row (failures.ts), for a member
 * that fails at once has nothing in flight when all others are busy. In a simulated pool of ten the one that fails in a
 * millisecond gets a thousandth of the traffic after the first second; with the ties alone it was up to 38 %, and the
 * more the busier the pool.
 *
 * Peaks all fade at one rate, so their order does not change by fading: instead of peak · e^(−Δt/τ) we keep
 * τ · ln(peak) + t, which orders the same at any time. A pick compares two numbers and calls neither a clock nor exp.
 *
 * A member of whom nothing is known is taken for ten times as slow as usual: what is known to be good goes first, and the
 * newcomer has its turn when others are busy, or when their peaks have outgrown its own. Taken for the best of all, each
 * connection to a slow server would be tried before one answer told that it is slow. That one answer then stands for all
 * newcomers at the same endpoint. As long as nothing is known of any, chance decides: in the order in which they are listed, every program of a fleet would begin with the same few.
 *
 * Up to 256 members the scan is full; above that, 64 that stand together at a random place are looked at. Cost: one
 * comparison a member looked at; twice that while the one it finds is failing.
 *
 * The decaying peak is Finagle's (Peak EWMA), without its average and without the multiplication by load. That a full
 * scan with such ties beats two random choices, and Peak EWMA over them, was found by simulation: slow spells that move
 * about, and one slow member among twenty (`npm run bench:routing`).
 */

import { Dice, type Runtime } from "../../runtime/index.ts";
import { Failures, failureMs } from "./failures.ts";
import type { Marked, Member, Strategy, StrategyFactory } from "../strategy.ts";

/**
 * How fast a peak fades: to 37 % in this time. Longer remembers one slow member better, shorter forgives sooner those whose
 * slow spell is over: with spells of 500 ms the p99 is 67 ms at one second, 75 at three, 121 at ten (npm run bench:routing).
 */
const fadeMs = 1_000;
/** Below this, latencies are alike: a logarithm of nearly nothing would outweigh everything else. */
const floorMs = 0.001;
/** How much of what is usual the last answer is. */
const usualShare = 1 / 16;
const fullScan = 256;
const sample = 64;

/**
 * The fewest in flight, ties by the lowest fading peak latency; failures count as five seconds. The default, and right
 * for nearly every pool. Cost: O(members) up to 256, O(64) above.
 *
 * Not for requests that belong together (`rendezvous`), nor where members must have fixed shares (`weighted`): it does
 * not look at weights.
 */
export function leastUsed(): StrategyFactory {
  return <R>(runtime: Runtime): Strategy<R> => {
    const dice = Dice.of(runtime);
    const failures = new Failures<R>(runtime);
    /** The logarithm of a usual latency, once there was an answer. */
    let usual: number | undefined;
    /** Those that have not answered yet. */
    const unheard = new Set<Member<R>>();
    const newcomer = (logLatency: number, now: number): number => fadeMs * (logLatency + Math.LN10) + now;
    return {
      pick: (members) => {
        const all = members.length <= fullScan;
        const from = all ? 0 : dice.below(members.length);
        const count = all ? members.length : sample;
        let found = least(members, from, count);
        if (all && peakOf(found) === -Infinity) found = least(members, dice.below(count), count);
        return failures.of(found) === 0 ? found : leastBurdened(members, from, count, failures);
      },
      joined: (member) => {
        unheard.add(member);
        if (usual !== undefined) (member as Marked).mark = newcomer(usual, runtime.now());
      },
      finished: (member, outcome) => {
        const { ok, durationMs, endedAt = runtime.now() } = outcome;
        const logLatency = Math.log(Math.max(ok ? durationMs : failureMs, floorMs));
        if (usual !== undefined) usual += ok ? (logLatency - usual) * usualShare : 0;
        else if (ok) {
          usual = logLatency;
          for (const each of unheard) (each as Marked).mark = newcomer(usual, endedAt);
        }
        const marked = member as Marked;
        const peak = fadeMs * logLatency + endedAt;
        if ((unheard.size > 0 && unheard.delete(member)) || !(peak <= (marked.mark ?? -Infinity))) marked.mark = peak;
        if (unheard.size > 0 && usual !== undefined && logLatency > usual + Math.LN10) distrust(unheard, member, peak);
        failures.finished(member, outcome);
      },
      left: (member) => {
        unheard.delete(member);
        failures.left(member);
      },
    };
  };
}

/** Slower than a newcomer is taken for: so are, until they have answered, those that lead to the same endpoint. */
function distrust<R>(unheard: ReadonlySet<Member<R>>, { endpoint }: Member<R>, peak: number): void {
  for (const member of unheard) {
    if (member.endpoint.id === endpoint.id && peak > peakOf(member)) (member as Marked).mark = peak;
  }
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

/** The same with failures among what is in flight. Who has more in flight than the best carries is not looked up. */
function leastBurdened<R>(
  members: readonly Member<R>[],
  from: number,
  count: number,
  failures: Failures<R>,
): Member<R> {
  let best = members[from] as Member<R>;
  let fewest = best.inFlight + failures.of(best);
  for (let looked = 1; looked < count; looked++) {
    const member = members[(from + looked) % members.length] as Member<R>;
    if (member.inFlight > fewest) continue;
    const burden = member.inFlight + failures.of(member);
    if (burden < fewest || (burden === fewest && peakOf(member) < peakOf(best))) {
      best = member;
      fewest = burden;
    }
  }
  return best;
}

function peakOf<R>(member: Member<R>): number {
  return (member as Marked).mark ?? -Infinity;
}
