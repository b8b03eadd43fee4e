/**
 * One sending of an exchange, over one connection: what the protocols (http1.ts, http2.ts) have in common.
 *
 * An attempt that has ended tells the pool so in a microtask of its own, in the order in which they ended. Earlier would
 * be wrong: at the end of a response undici has not closed a socket yet that it is about to close, and whoever tells
 * many of one lost connection must not find the first of them on it again. A promise would do the same, at the cost of
 * four objects a request.
 */

import type { Attempt } from "../../routing/index.ts";
import type { HttpConnection } from "./connection.ts";
import type { Exchange } from "./exchange.ts";

/** What an attempt ends with that failed through no fault of its connection. Nobody sees it: the handler knows why. */
export const blameless: Error = new Error("the request ended early, for a reason of its caller's");

const done: Promise<void> = Promise.resolve();

export abstract class HttpAttempt {
  /** Those that have ended, and whose pools do not know it yet. */
  static #first: HttpAttempt | undefined;
  static #last: HttpAttempt | undefined;
  protected readonly exchange: Exchange;
  readonly #routed: Attempt<HttpConnection>;
  /** What it ends with; `undefined` is well. */
  #ending: Error | undefined = undefined;
  #ended = false;
  #next: HttpAttempt | undefined = undefined;

  constructor(exchange: Exchange, routed: Attempt<HttpConnection>) {
    this.exchange = exchange;
    this.#routed = routed;
  }

  /** Called once, first. Never throws. */
  abstract send(): void;

  /** Nobody waits for it any more. */
  abstract abort(reason: Error): void;

  /**
   * The connection is free of it. Only the first time counts.
   *
   * @param error A {ConnectionLostError} when it may be made again, `blameless` when the connection is not to blame, else
   *   what went wrong.
   * @returns whether it is the first time.
   */
  protected end(error: Error | undefined): boolean {
    if (this.#ended) return false;
    this.#ended = true;
    this.#ending = error;
    const last = HttpAttempt.#last;
    HttpAttempt.#last = this;
    if (last !== undefined) last.#next = this;
    else {
      HttpAttempt.#first = this;
      void done.then(HttpAttempt.#tellPool);
    }
    return true;
  }

  /** Tells the pool. Never throws. @internal */
  tellPool(): void {
    this.#routed.end(this.#ending === undefined, this.#ending);
  }

  static readonly #tellPool = (): void => {
    const attempt = HttpAttempt.#first as HttpAttempt;
    HttpAttempt.#first = attempt.#next;
    if (HttpAttempt.#first === undefined) HttpAttempt.#last = undefined;
    else void done.then(HttpAttempt.#tellPool);
    attempt.#next = undefined; // One that is remembered is not to keep those after it.
    attempt.tellPool();
  };
}
