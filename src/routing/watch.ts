/**
 * Members that have gone silent.
 *
 * A line can be dead without a word: a cable pulled, a machine gone, a peer that has stopped. What is in flight there
 * waits for its timeouts, and a strategy that goes by latency does not even see them. So while there are calls, or anything
 * is in flight, each member is looked at once an interval. One that has had requests for a whole interval and answered none of them is
 * asked for a sign of life (the connector's `check`); one that gives none is gone.
 *
 * A member that answers others but not its oldest request is alive: that request is slow, and its caller's business. A
 * connector without `check` is not watched, for a request may rightly take long.
 *
 * After redix's and xandra's heartbeats and Cassandra's driver, with the traffic itself as the first heartbeat.
 */

import { asError } from "../errors.ts";
import type { Connector } from "../connection/index.ts";
import type { Runtime, Timer } from "../runtime/index.ts";
import type { PoolMember } from "./member.ts";

export interface WatchOptions<R> {
  readonly connector: Connector<R>;
  readonly runtime: Runtime;
  /** How long a member may have requests and answer none. */
  readonly stallMs: number;
  readonly checkTimeoutMs: number;
  /** Checks run in the context of the pool, as all that concerns a resource does. */
  readonly members: () => readonly PoolMember<R>[];
  /** Whether somebody waits, in line or for an answer: then something may be in flight at any moment. */
  readonly awaited: () => boolean;
  readonly inContext: <T>(act: () => T) => T;
  /** It gave no sign of life. */
  readonly dead: (member: PoolMember<R>, error: Error) => void;
}

export class Watch<R> {
  readonly #options: WatchOptions<R>;
  readonly #checking = new Set<PoolMember<R>>();
  #timer: Timer | undefined;
  #closed = false;

  constructor(options: WatchOptions<R>) {
    this.#options = options;
  }

  /** Something may be in flight from now on. */
  begin(): void {
    const { connector, runtime, stallMs } = this.#options;
    if (this.#timer !== undefined || this.#closed || connector.check === undefined || stallMs === Infinity) return;
    this.#timer = runtime.setTimer(() => this.#look(), stallMs);
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #look(): void {
    this.#timer = undefined;
    let busy = this.#options.awaited();
    for (const member of this.#options.members()) {
      if (member.inFlight === 0) {
        member.seenAnswered = -1;
        continue;
      }
      busy = true;
      if (member.seenAnswered === member.answered) void this.#check(member);
      member.seenAnswered = member.answered;
    }
    if (busy) this.begin();
  }

  async #check(member: PoolMember<R>): Promise<void> {
    if (this.#checking.has(member)) return;
    this.#checking.add(member);
    const { connector, runtime, checkTimeoutMs, inContext, dead } = this.#options;
    const answered = member.answered;
    const controller = new AbortController();
    let timer: Timer | undefined;
    try {
      const late = new Promise<never>((_, reject) => {
        timer = runtime.setTimer(() => {
          const error = new Error(`the check took longer than ${checkTimeoutMs} ms`);
          controller.abort(error);
          reject(error);
        }, checkTimeoutMs);
      });
      const good = await Promise.race([
        inContext(async () => connector.check?.(member.resource, controller.signal)),
        late,
      ]);
      if (good === false) throw new Error("the check says that the resource is no longer good");
    } catch (thrown) {
      // An answer that has come meanwhile is a sign of life, whatever the check says.
      if (!this.#closed && !member.lost && member.answered === answered) dead(member, asError(thrown));
    }
    timer?.cancel();
    this.#checking.delete(member);
  }
}
