/**
 * A member, as the pool keeps it: what a connection registers while it can serve.
 *
 * `index` is its place among the members with room (−1: it is not among them), so that joining and leaving them is a
 * swap, O(1), however many there are.
 */

import type { Endpoint } from "../connection/index.ts";
import type { Place } from "../pool/index.ts";
import type { Call } from "./call.ts";
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
  index = -1;
  /** Registered: it may be chosen when it has room. */
  registered = false;
  /** Its resource is gone; what was in flight is settled by the loss. */
  lost = false;
  /** The calls at work on it, newest first. */
  firstCall: Call<R, unknown> | undefined = undefined;

  constructor(place: Place<R, PoolMember<R>>, resource: R) {
    this.place = place;
    this.resource = resource;
    this.endpoint = place.endpoint;
    this.slot = place.slot;
    this.weight = place.endpoint.weight ?? 1;
  }

  get hasRoom(): boolean {
    return this.registered && this.inFlight < this.capacity;
  }
}
