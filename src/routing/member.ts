/**
 * A member, as the pool keeps it: what a connection registers while it can serve.
 *
 * What may be chosen, and how much it may have in flight, is the roster's to say; what is here are its notes.
 */

import type { Endpoint } from "../connection/index.ts";
import type { Place } from "../pool/index.ts";
import type { Attempt } from "./attempt.ts";
import type { Health } from "./health.ts";
import type { Marked, Member } from "./strategy.ts";

export class PoolMember<R> implements Member<R>, Marked {
  readonly resource: R;
  readonly endpoint: Endpoint;
  readonly slot: number;
  readonly weight: number;
  readonly place: Place<R, PoolMember<R>>;
  inFlight = 0;
  capacity: number = Infinity;
  mark: number = -Infinity;
  /** What it may have in flight right now: its capacity, less while it is held back. */
  limit: number = Infinity;
  /** Its place among those that may be chosen; −1: it may not. */
  index = -1;
  /** Registered: it can serve. */
  registered = false;
  /** Its resource is gone; what was in flight is settled by the loss. */
  lost = false;
  /** Held back for its youth, since `rampFrom`. */
  ramping = false;
  rampFrom = 0;
  health: Health | undefined = undefined;
  /** Of what is in flight, what nobody waits for any more. */
  orphans = 0;
  /** Of what is in flight, what has become of whose request has been told already. */
  judged = 0;
  /** Requests that have left it. Whether it has changed tells that it is alive. */
  answered = 0;
  /** What `answered` was when the watch last looked; −1: nothing was in flight then. */
  seenAnswered = -1;
  /** The attempts at work on it, newest first. */
  firstAttempt: Attempt<R> | undefined = undefined;

  constructor(place: Place<R, PoolMember<R>>, resource: R) {
    this.place = place;
    this.resource = resource;
    this.endpoint = place.endpoint;
    this.slot = place.slot;
    this.weight = place.endpoint.weight ?? 1;
  }
}
