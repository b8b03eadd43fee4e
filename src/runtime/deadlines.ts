/**
 * Many deadlines, one timer.
 *
 * A timer per waiting caller is what makes pools slow: most are cancelled unused, and each costs more than the work it
 * guards. Here whoever waits is itself the node of a list. Those with the same duration stand in one list, which is in
 * deadline order by construction (as in Varghese and Lauck, "Hashed and Hierarchical Timing Wheels", 1987, scheme 2,
 * with one list a duration, as Node's own timers do), so joining and leaving are a few pointer writes.
 *
 * The one timer is armed for the earliest deadline known and is not moved when that one leaves: it then fires for
 * nobody, looks at the heads of the lists and arms itself for the next. It fires no more than once a millisecond, so
 * a thousand different durations cost a thousand looks a millisecond at the worst.
 *
 * Promised: nobody expires before its deadline; at the deadline plus one millisecond plus the runtime's own lateness
 * everybody has. O(1) to join and leave.
 */

import type { Runtime, Timer, TimerOptions } from "./runtime.ts";

/** What waits. The three link fields belong to `Deadlines`; a class that waits declares and initialises them. */
export interface Timed {
  deadline: number;
  timedBefore: Timed | undefined;
  timedAfter: Timed | undefined;
  timedIn: DurationList | undefined;
}

/** Those that wait the same time, oldest first. */
export interface DurationList {
  first: Timed | undefined;
  last: Timed | undefined;
}

/** So many empty lists cost less than sweeping them out. */
const sweepAtLeast = 64;

export class Deadlines<T extends Timed> {
  readonly #runtime: Runtime;
  readonly #expired: (item: T) => void;
  readonly #timerOptions: TimerOptions;
  readonly #lists = new Map<number, DurationList>();
  /** Most callers use one duration: the last list used saves the look-up. */
  #lastDuration = -1;
  #lastList: DurationList | undefined;
  /** Lists known when the empty ones are next swept out: callers may use a new duration each time. */
  #sweepAt = sweepAtLeast;
  #timer: Timer | undefined;
  #armedFor = Infinity;
  #size = 0;

  /**
   * @param expired   Called for each item whose deadline has passed, after it was taken out. Must not throw.
   * @param keepAlive Whether waiting items keep the program alive.
   */
  constructor(runtime: Runtime, expired: (item: T) => void, options: { keepAlive: boolean }) {
    this.#runtime = runtime;
    this.#expired = expired;
    this.#timerOptions = { keepAlive: options.keepAlive };
  }

  /** How many wait. */
  get size(): number {
    return this.#size;
  }

  /** Starts the wait of an item that is not waiting here. `Infinity` waits for ever and costs nothing. */
  add(item: T, now: number, durationMs: number): void {
    item.deadline = now + durationMs;
    if (durationMs === Infinity) return;
    let list = this.#lastList;
    if (durationMs !== this.#lastDuration || list === undefined) list = this.#listOf(durationMs);
    // Virtual time never steps back; a real clock is monotonic. Were it not, order would only make someone late.
    item.timedBefore = list.last;
    item.timedAfter = undefined;
    item.timedIn = list;
    if (list.last === undefined) list.first = item;
    else list.last.timedAfter = item;
    list.last = item;
    this.#size++;
    if (item.deadline < this.#armedFor) this.#arm(now, item.deadline);
  }

  /** Ends the wait. Does nothing for an item that is not waiting. */
  remove(item: T): void {
    const list = item.timedIn;
    if (list === undefined) return;
    const before = item.timedBefore;
    const after = item.timedAfter;
    if (before === undefined) list.first = after;
    else before.timedAfter = after;
    if (after === undefined) list.last = before;
    else after.timedBefore = before;
    item.timedIn = undefined;
    item.timedBefore = undefined;
    item.timedAfter = undefined;
    // With nobody left the timer goes too: an idle pool has no timer, and lets the program end.
    if (--this.#size === 0) this.#rest();
  }

  #listOf(durationMs: number): DurationList {
    let list = this.#lists.get(durationMs);
    if (list === undefined) {
      if (this.#lists.size >= this.#sweepAt) this.#sweep();
      list = { first: undefined, last: undefined };
      this.#lists.set(durationMs, list);
    }
    this.#lastDuration = durationMs;
    this.#lastList = list;
    return list;
  }

  /** Done when the lists have doubled, so that it costs each of them a constant; the caller then sets the last one used. */
  #sweep(): void {
    for (const [durationMs, list] of this.#lists) if (list.first === undefined) this.#lists.delete(durationMs);
    this.#sweepAt = Math.max(2 * this.#lists.size, sweepAtLeast);
  }

  #rest(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#armedFor = Infinity;
  }

  #arm(now: number, deadline: number): void {
    this.#timer?.cancel();
    this.#armedFor = deadline;
    this.#timer = this.#runtime.setTimer(this.#fire, Math.max(deadline - now, 0), this.#timerOptions);
  }

  /** One at a time, looking again after each: what an expiry sets off may end the wait of the next in line. */
  readonly #fire = (): void => {
    this.#timer = undefined;
    this.#armedFor = Infinity;
    const now = this.#runtime.now();
    for (const list of [...this.#lists.values()]) {
      for (let item = list.first; item !== undefined && item.deadline <= now; item = list.first) {
        this.remove(item as T);
        this.#expired(item as T);
      }
    }
    this.#armForEarliest(now);
  };

  #armForEarliest(now: number): void {
    let earliest = Infinity;
    for (const [durationMs, list] of this.#lists) {
      if (list.first !== undefined) earliest = Math.min(earliest, list.first.deadline);
      else if (list !== this.#lastList) this.#lists.delete(durationMs);
    }
    if (earliest === Infinity) return;
    const at = Math.max(earliest, now + 1);
    if (at < this.#armedFor) this.#arm(now, at);
  }
}
