/**
 * One sending of an exchange, over one connection: what the protocols (http1.ts, http2.ts) have in common.
 *
 * An attempt that has ended tells the pool so in the next microtask, all that have ended until then at once. Earlier
 * would be wrong: at the end of a response undici has not closed a socket yet that it is about to close, and whoever
 * tells many of one lost connection must not find the first of them on it again. A promise would do the same, and costs
 * each request four objects and two turns more.
 */

import type { Attempt as Routed } from "../../routing/index.ts";
import type { HttpConnection } from "./connection.ts";
import type { Exchange } from "./exchange.ts";

/** What an attempt ends with that failed through no fault of its connection. Nobody sees it: the handler knows why. */
export const blameless: Error = new Error("the request ended early, for a reason of its caller's");

const done: Promise<void> = Promise.resolve();

export abstract class Attempt {
  /** Those that have ended, and whose pools do not know it yet. */
  static #first: Attempt | undefined;
  static #last: Attempt | undefined;
  protected readonly exchange: Exchange;
  readonly #routed: Routed<HttpConnection>;
  /** What it ends with; `undefined` is well. */
  #ending: Error | undefined = undefined;
  #ended = false;
  #next: Attempt | undefined = undefined;

  constructor(exchange: Exchange, routed: Routed<HttpConnection>) {
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
    const last = Attempt.#last;
    Attempt.#last = this;
    if (last !== undefined) last.#next = this;
    else {
      Attempt.#first = this;
      void done.then(Attempt.#tellPools);
    }
    return true;
  }

  /** Tells the pool. Never throws. @internal */
  tellPool(): void {
    this.#routed.end(this.#ending === undefined, this.#ending);
  }

  static readonly #tellPools = (): void => {
    for (let attempt = Attempt.#first; attempt !== undefined; attempt = Attempt.#first) {
      Attempt.#first = attempt.#next;
      if (Attempt.#first === undefined) Attempt.#last = undefined;
      attempt.#next = undefined; // One that is remembered is not to keep those after it.
      attempt.tellPool();
    }
  };
}
