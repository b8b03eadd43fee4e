/**
 * A request on its way: one object for all that is to be known of it.
 *
 * It stands in the slot that its id names, in the list of deadlines, and in nobody's closure: what happens to it is a
 * method. `FantaTCP.request` has a subclass with a promise in it, the pool one of its own.
 *
 *                     ┌── answered | refused | lost ──▶ over
 *     send ──▶ in flight
 *                     └── gaveUp ──▶ in flight, nobody waits ──▶ over
 *
 * Promised for each `send`: exactly one of `answered`, `refused`, `lost` and `gaveUp`, and exactly one `released`.
 * `released` comes just before the outcome, or, after `gaveUp`, when the server has answered or the connection is gone.
 * So from `released` on the object is free: it may be sent again, on this connection or another, from within `lost`.
 * Any of them may come while `send` is still running. None of them may throw.
 */

import type { ConnectionLostError, FantaError } from "../errors.ts";
import type { DurationList, Timed } from "../runtime/index.ts";

/** The connection a request is on, as the request sees it. @internal */
export interface RequestHolder {
  expired(request: FantaRequest): void;
  abandon(request: FantaRequest, error: unknown): void;
}

export abstract class FantaRequest<In = unknown> implements Timed {
  deadline = 0;
  timedBefore: Timed | undefined = undefined;
  timedAfter: Timed | undefined = undefined;
  timedIn: DurationList | undefined = undefined;
  /** The id under which it is in flight; 0 when it is not. Belongs to the connection, as do the next four. @internal */
  id = 0;
  /** The batch it leaves with. @internal */
  batch = 0;
  /** How many chunks the connection had heard when it was sent. @internal */
  heard = 0;
  /** @internal */
  timeoutMs = 0;
  /** @internal */
  orphaned = false;
  /** The connection it is on. @internal */
  on: RequestHolder | undefined = undefined;

  /** The server's response. */
  abstract answered(value: In): void;
  /** An error that is this request's own: the server's (`ERR_FANTA_RESPONSE`), the codec's, a payload too large. */
  abstract refused(error: FantaError): void;
  /** It was abandoned: `FantaTCP.abandon` was called with this, or the time is over (`ERR_FANTA_TIMEOUT`). */
  abstract gaveUp(error: unknown): void;
  /** The connection took it along, or would not take it. The error is a `FantaError` when the peer does not speak Fanta. */
  abstract lost(error: ConnectionLostError | FantaError, sent: "no" | "maybe"): void;
  /** The server is done with it, or the connection is gone: it counts no more. */
  abstract released(): void;

  /** The deadline has passed. @internal */
  expired(): void {
    this.on?.expired(this);
  }
}
