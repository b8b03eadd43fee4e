/**
 * One member for the requests of one turn of the event loop.
 *
 * A connection that multiplexes writes once a turn, whatever was asked of it in that turn, and a write is dear. Sixteen
 * requests spread over ten connections are ten writes, and ten reads at the other end; on one connection they are one of
 * each. So what comes in the same turn goes where the first went, and only the next turn chooses anew.
 */

import { OptionError } from "../../errors.ts";
import { callback, checkOptions, either, having, integer } from "../../options.ts";
import { atEndOfTurn, type Runtime } from "../../runtime/index.ts";
import {
  type Member,
  type RouteRequest,
  type Strategy,
  type StrategyFactory,
  type StrategyLike,
  strategyOf,
} from "../strategy.ts";

export interface PerTickOptions {
  /** After so many requests the strategy is asked again, in the same turn. @default 64 */
  readonly limit?: number;
}

/**
 * A strategy that is asked once a turn of the event loop: the member it names takes the requests of that turn, up to
 * `limit`, while it is among those with room; then the strategy is asked again. Requests with different keys are not
 * kept together, so a strategy that routes by key still does.
 *
 * Cost: O(1) a pick; when the strategy is asked, its own cost and one search for the member it named.
 *
 * For members that write once a turn (`FantaPool`, Redis, HTTP/2) and small requests, many of which come at once. Not
 * for members that do one thing after another, nor for requests that cost the server much more than their transport:
 * there it is better to spread them.
 *
 * @throws {OptionError}
 */
export function perTick(strategy: StrategyFactory, options?: PerTickOptions): StrategyFactory;
/** The same for a strategy of your own. */
export function perTick<R>(strategy: StrategyLike<R>, options?: PerTickOptions): (runtime: Runtime) => Strategy<R>;
export function perTick<R>(strategy: StrategyLike<R>, options: PerTickOptions = {}): (runtime: Runtime) => Strategy<R> {
  if (!either(callback(), having("pick")).accepts(strategy)) {
    throw new OptionError("perTick: strategy", "a strategy (leastUsed(), …) or an object with pick", strategy);
  }
  checkOptions("perTick", options, { limit: integer(1) });
  const { limit = 64 } = options;
  return (runtime) => {
    const inner = strategyOf("perTick", strategy, runtime);
    const kept = new Kept(inner, limit);
    return {
      pick: (members, request) => kept.pick(members, request),
      // Only the hooks that it has: who has none costs nobody a call.
      ...(inner.joined && { joined: (member) => inner.joined?.(member) }),
      ...(inner.left && { left: (member) => inner.left?.(member) }),
      ...(inner.started && { started: (member) => inner.started?.(member) }),
      ...(inner.finished && { finished: (member, outcome) => inner.finished?.(member, outcome) }),
    };
  };
}

/** The member of this turn. */
class Kept<R> {
  readonly #strategy: Strategy<R>;
  readonly #limit: number;
  #member: Member<R> | undefined;
  /** Where it stands: while it does, it is among those with room. A pool gives the same array, changed in place. */
  #members: readonly Member<R>[] | undefined;
  #at = -1;
  #key: string | number | undefined;
  #left = 0;
  #watching = false;
  readonly #turnEnded = (): void => {
    this.#watching = false;
    this.#member = undefined;
    this.#members = undefined;
  };

  constructor(strategy: Strategy<R>, limit: number) {
    this.#strategy = strategy;
    this.#limit = limit;
  }

  pick(members: readonly Member<R>[], request: RouteRequest): Member<R> {
    const member = this.#member;
    if (
      member === undefined ||
      this.#left === 0 ||
      members !== this.#members ||
      members[this.#at] !== member ||
      member.inFlight >= member.capacity ||
      request.key !== this.#key
    ) {
      return this.#ask(members, request);
    }
    this.#left--;
    return member;
  }

  #ask(members: readonly Member<R>[], request: RouteRequest): Member<R> {
    const member = this.#strategy.pick(members, request);
    this.#member = member;
    this.#members = members;
    this.#at = members.indexOf(member);
    this.#key = request.key;
    this.#left = this.#limit - 1;
    if (!this.#watching) {
      this.#watching = true;
      atEndOfTurn(this.#turnEnded);
    }
    return member;
  }
}
