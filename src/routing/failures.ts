/**
 * What failures weigh, counted in requests in flight.
 *
 * A member that fails in a millisecond hardly ever has anything in flight. To a strategy that looks for the fewest it
 * seems free whenever the others are busy, so it attracts the traffic that it then fails: 36 % of a simulated pool of
 * ten at a load of 0.7, where its fair share is 10 %. That it loses every tie does not help, for there is none.
 *
 * So a failure counts as a latency of five seconds (as in linkerd's load biaser), in the coin of those who count
 * requests: one that takes five seconds is in flight for five seconds (Little's law). A member that only fails thus
 * looks as busy as the others after a handful of requests, and then gets one every few seconds, until one succeeds.
 *
 * Only failures in a row weigh, from the second on. A success makes a member as good as new, and a single failure is an
 * accident. Otherwise a service in which one request in a hundred fails everywhere would be routed by where it last did.
 *
 * The count fades by e in five seconds instead of dropping by one after five, so that it is one number: of a count that
 * was `F` at the time `t`, we keep τ · ln F + t. Nothing is kept of members that do not fail, and nothing looked up
 * while none does.
 */

import type { Runtime } from "../runtime/index.ts";
import type { Member, Outcome } from "./strategy.ts";

/** What a failure counts as. */
export const failureMs = 5_000;

/** A field of its own, so that a change allocates nothing. */
interface Row {
  faded: number;
}

export class Failures<R> {
  readonly #runtime: Runtime;
  /** Of the members whose last request failed. */
  readonly #rows = new WeakMap<Member<R>, Row>();
  #failing = 0;

  constructor(runtime: Runtime) {
    this.#runtime = runtime;
  }

  finished(member: Member<R>, { ok, endedAt = this.#runtime.now() }: Outcome): void {
    if (ok) {
      this.left(member);
      return;
    }
    const row = this.#rows.get(member);
    if (row === undefined) {
      this.#rows.set(member, { faded: endedAt });
      this.#failing++;
    } else row.faded = endedAt + failureMs * Math.log(Math.exp((row.faded - endedAt) / failureMs) + 1);
  }

  /** Nothing is held against it any more. */
  left(member: Member<R>): void {
    if (this.#failing > 0 && this.#rows.delete(member)) this.#failing--;
  }

  /** To be added to what the member has in flight. */
  of(member: Member<R>): number {
    if (this.#failing === 0) return 0;
    const row = this.#rows.get(member);
    if (row === undefined) return 0;
    const age = this.#runtime.now() - row.faded;
    return age >= 0 ? 0 : Math.exp(-age / failureMs) - 1;
  }
}
