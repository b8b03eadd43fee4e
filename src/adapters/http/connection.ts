/**
 * A connection as the pool has it: one socket to one endpoint, whatever it speaks.
 */

import type { Attempt } from "../../routing/index.ts";
import type { HttpAttempt } from "./attempt.ts";
import type { Exchange } from "./exchange.ts";

/** One of a dispatcher's connections, to look at: `dispatcher.pools()` shows them as the resources of its pools. */
export interface HttpConnection {
  /** What the server chose. */
  readonly protocol: "http/1.1" | "h2";
  /** The origin that it stands for. */
  readonly origin: string;
  /** Requests it takes at once, now. */
  readonly capacity: number;
  /** One sending of a request, still to be sent. Never throws. @internal */
  begin(exchange: Exchange, routed: Attempt<HttpConnection>): HttpAttempt;
  /** Rejects when it is no good any more. @internal */
  check(signal: AbortSignal): Promise<void>;
  /** Closes the socket. Resolves when it is closed. @internal */
  close(reason: Error | string): Promise<void>;
}
