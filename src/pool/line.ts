/**
 * The line in front of a pool.
 *
 * Promised: arrival order among those served, the higher priority before the lower; a limit, at which the next is turned away at the door; a caller who
 * leaves is never handed anything; nobody waits longer than its own time. Joining, leaving and being served are O(1),
 * and one timer serves the whole line (runtime/deadlines.ts).
 *
 * With `shed`, those who have waited too long under overload are turned away when their turn comes (shedding.ts).
 *
 * One who was served and must wait again, because what it was given is gone, came before everyone who still waits. So
 * those who come back stand at the head, and the limit is not for them.
 *
 * A waiter is its own node: the links are its fields, so a caller that waits costs no allocation beyond itself.
 */

import { type Check, type Checks, duration, either, flag, integer, nested } from "../options.ts";
import { Deadlines, type DurationList, type Runtime, type Timed, type Timer } from "../runtime/index.ts";
import { type ShedOptions, Shedding } from "./shedding.ts";

export interface QueueOptions {
  /**
   * Callers that may wait at once. In a checkout pool, besides those for whom there is a resource that nobody has, or room for
   * one: each is waiting for it to be opened, checked or reset. So with 0 nobody waits for what others have. @default 1_000
   */
  readonly limit?: number;
  /** Turns away those who have waited too long while callers arrive faster than they are served (CoDel). @default false */
  readonly shed?: boolean | ShedOptions;
}

const shedChecks: Checks<ShedOptions> = { targetMs: duration(), intervalMs: duration() };
const queueChecks: Checks<QueueOptions> = { limit: integer(0), shed: either(flag(), nested(shedChecks)) };

/** The row for an option that holds queue options. */
export const queueCheck: Check = nested(queueChecks);

const defaultQueueLimit = 1_000;
/** How long a caller waits when it does not say. */
export const defaultWaitMs = 5_000;

/** One who can wait in a line. */
export abstract class Waiter implements Timed {
  deadline = 0;
  timedBefore: Timed | undefined = undefined;
  timedAfter: Timed | undefined = undefined;
  timedIn: DurationList | undefined = undefined;
  /** `runtime.now()` when it joined. */
  joinedAt = 0;
  waiting = false;
  /** Higher goes first. */
  priority = 0;
  level: Level | undefined = undefined;
  before: Waiter | undefined = undefined;
  after: Waiter | undefined = undefined;
  /** Its time is over; it has left the line already. Must not throw. */
  abstract expired(): void;
  /** It has waited too long under overload; it has left the line already. Must not throw. */
  abstract shed(targetMs: number): void;
}

/** Those of one priority, in order. */
class Level {
  readonly priority: number;
  first: Waiter | undefined = undefined;
  last: Waiter | undefined = undefined;
  /** The last of those who came back; they are the head. */
  lastBack: Waiter | undefined = undefined;

  constructor(priority: number) {
    this.priority = priority;
  }
}

export class Line<W extends Waiter> {
  readonly limit: number;
  readonly #deadlines: Deadlines<W>;
  readonly #runtime: Runtime;
  readonly #shedding: Shedding | undefined;
  #look: Timer | undefined;
  readonly #main = new Level(0);
  /** The highest priority first. One for most lines. */
  readonly #levels: Level[] = [this.#main];
  #size = 0;

  constructor(runtime: Runtime, { limit = defaultQueueLimit, shed = false }: QueueOptions = {}) {
    this.limit = limit;
    this.#runtime = runtime;
    this.#shedding = shed === false ? undefined : new Shedding(shed === true ? {} : shed);
    const expired = (waiter: W): void => {
      this.#unlink(waiter);
      waiter.expired();
    };
    this.#deadlines = new Deadlines<W>(runtime, expired, { keepAlive: true });
  }

  get size(): number {
    return this.#size;
  }

  /** Joins at the end. False: the line is at its limit, not counting as many as will be served `besides`. */
  join(waiter: W, now: number, waitMs: number, besides: number = 0): boolean {
    if (this.#size >= this.limit + besides) return false;
    const level = this.#levelOf(waiter.priority);
    this.#enter(waiter, level, level.last, undefined, now, waitMs);
    return true;
  }

  /** Joins behind those who came back, before everyone else. */
  comeBack(waiter: W, now: number, waitMs: number): void {
    const level = this.#levelOf(waiter.priority);
    const before = level.lastBack;
    this.#enter(waiter, level, before, before === undefined ? level.first : before.after, now, waitMs);
    level.lastBack = waiter;
  }

  /** Takes the first out, to be served. Those before it who have waited too long are shed. */
  next(): W | undefined {
    const shedding = this.#shedding;
    if (shedding === undefined) return this.takeFirst();
    const now = this.#runtime.now();
    for (let first = this.takeFirst(); first !== undefined; first = this.takeFirst()) {
      if (!shedding.sheds(now - first.joinedAt, now)) return first;
      first.shed(shedding.targetMs);
    }
    return undefined;
  }

  /** Takes the first out, whoever it is. */
  takeFirst(): W | undefined {
    const first = this.first;
    if (first !== undefined) this.leave(first);
    return first;
  }

  /** The first. It stays where it is. */
  get first(): W | undefined {
    for (const { first } of this.#levels) if (first !== undefined) return first as W;
    return undefined;
  }

  /** From the first on. */
  *[Symbol.iterator](): IterableIterator<W> {
    for (const { first } of this.#levels) for (let at = first; at !== undefined; at = at.after) yield at as W;
  }

  /** Takes one out. Does nothing for one that is not waiting. */
  leave(waiter: W): void {
    if (!waiter.waiting) return;
    this.#deadlines.remove(waiter);
    this.#unlink(waiter);
  }

  /** How long each has waited, first in line first. */
  ages(now: number): number[] {
    return Array.from(this, (waiter) => now - waiter.joinedAt);
  }

  #levelOf(priority: number): Level {
    if (priority === 0) return this.#main;
    const at = this.#levels.findIndex((level) => level.priority <= priority);
    const found = this.#levels[at];
    if (found?.priority === priority) return found;
    const level = new Level(priority);
    this.#levels.splice(at < 0 ? this.#levels.length : at, 0, level);
    return level;
  }

  #enter(
    waiter: W,
    level: Level,
    before: Waiter | undefined,
    after: Waiter | undefined,
    now: number,
    waitMs: number,
  ): void {
    waiter.level = level;
    waiter.joinedAt = now;
    waiter.waiting = true;
    waiter.before = before;
    waiter.after = after;
    if (before === undefined) level.first = waiter;
    else before.after = waiter;
    if (after === undefined) level.last = waiter;
    else after.before = waiter;
    if (this.#size++ === 0 && this.#shedding !== undefined) this.#lookLater(this.#shedding);
    this.#deadlines.add(waiter, now, waitMs);
  }

  #unlink(waiter: W): void {
    const { before, after } = waiter;
    const level = waiter.level as Level;
    waiter.waiting = false;
    if (--this.#size === 0) this.#emptied();
    if (waiter === level.lastBack) level.lastBack = before;
    if (before === undefined) level.first = after;
    else before.after = after;
    if (after === undefined) level.last = before;
    else after.before = before;
    waiter.before = undefined;
    waiter.after = undefined;
    waiter.level = undefined;
    // A caller may have any number for a priority: a level of its own does not outlive it.
    if (level.first === undefined && level !== this.#main) this.#levels.splice(this.#levels.indexOf(level), 1);
  }

  #emptied(): void {
    this.#shedding?.relieved();
    this.#look?.cancel();
    this.#look = undefined;
  }

  /** A line that does not move is looked at, too: nobody's turn comes there. */
  #lookLater(shedding: Shedding): void {
    this.#look = this.#runtime.setTimer(() => {
      this.#look = undefined;
      const now = this.#runtime.now();
      const { first } = this;
      const waitedMs = first === undefined ? 0 : now - first.joinedAt;
      if (shedding.stuck(waitedMs, now)) this.#shedOlderThan(shedding, now);
      if (this.#size > 0 && this.#look === undefined) this.#lookLater(shedding);
    }, shedding.intervalMs);
  }

  #shedOlderThan({ tooLongMs, targetMs }: Shedding, now: number): void {
    for (let { first } = this; first !== undefined && now - first.joinedAt > tooLongMs; first = this.first) {
      this.leave(first);
      first.shed(targetMs);
    }
  }
}
