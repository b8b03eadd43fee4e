/**
 * One call: from the caller's request to the one answer it gets. `use` is one, with a promise for its answer.
 *
 *               no member                granted
 *     begun ───────────────▶ in line ───────────────▶ working ──ok──▶ settled
 *       │                      │ timed out, full        │    ▲           ▲
 *       │ admitted             └────────────────────────┼────┼───────────┤
 *       └───────────────────────────────────────────────┘    │ another   │ failed, and not to
 *                                                            │ attempt   │ be made again
 *                                                            └── failed ─┘
 *
 * Each run of the work on a member is an attempt (attempt.ts). There is one at a time; with hedging there may be two,
 * and the first that goes well is the answer. The caller may give up at any point, and is told at once; a member is
 * released only when the work on it has ended.
 */

import { AsyncResource } from "node:async_hooks";
import { ConnectionLostError } from "../errors.ts";
import { defaultWaitMs, noOptions, type UseOptions, type Work, type WorkContext } from "../pool/index.ts";
import {
  type Abortable,
  type DurationList,
  newPromise,
  takeReject,
  takeResolve,
  type Timed,
  unwatchAbort,
  watchAbort,
} from "../runtime/index.ts";
import { Attempt, type AttemptOwner, type Caller } from "./attempt.ts";
import type { PoolMember } from "./member.ts";
import { anyone, Ticket, type Traffic } from "./traffic.ts";

/** A call of `use`. */
export class UseCaller<R, T> implements Caller<R> {
  readonly promise: Promise<T> = newPromise<T>();
  readonly #resolve: (value: T) => void = takeResolve<T>();
  readonly #reject: (error: unknown) => void = takeReject();
  readonly #work: Work<R, T>;
  /** The caller's context, where somebody else may have to start the work again. */
  readonly #context: AsyncResource | undefined;

  constructor(work: Work<R, T>, idempotent: boolean) {
    this.#work = work;
    // Not AsyncLocalStorage.snapshot(), which on Node 20 costs 21 µs: as much as all the rest many times over.
    this.#context = idempotent ? new AsyncResource("PoolCall") : undefined;
  }

  work(resource: R, context: WorkContext): T | Promise<T> {
    const work = this.#work;
    return work(resource, context);
  }

  /** What is not idempotent is begun again when its own promise has failed, which keeps the context. */
  inContext(act: () => void): void {
    if (this.#context === undefined) act();
    else this.#context.runInAsyncScope(act);
  }

  resolve(value: unknown): void {
    this.#resolve(value as T);
  }

  reject(error: unknown): void {
    this.#reject(error);
  }
}

/** What only some calls need: those that wait, and those that are made again. It is also their place in line. */
class Detour<R> extends Ticket<R> {
  readonly #call: { granted(member: PoolMember<R>): void; refused(error: unknown): void };
  /** All attempts and waits share the first deadline. */
  readonly giveUpAt: number;
  hedge: HedgeTimer | undefined = undefined;
  /** The attempt before the last one, while both are at work. */
  other: Attempt<R> | undefined = undefined;
  #grant: ((member: PoolMember<R>) => void) | undefined = undefined;

  constructor(
    traffic: Traffic<R>,
    call: { granted(member: PoolMember<R>): void; refused(error: unknown): void },
    giveUpAt: number,
  ) {
    super(traffic);
    this.#call = call;
    this.giveUpAt = giveUpAt;
  }

  /** Granted by whoever makes room; the work must run in its own caller's context, which a promise keeps. */
  wait(waitMs: number, again: boolean): void {
    const granted = new Promise<PoolMember<R>>((resolve) => {
      this.#grant = resolve;
    });
    void granted.then((member) => this.#call.granted(member));
    this.traffic.wait(this, waitMs, again);
  }

  override granted(member: PoolMember<R>): void {
    this.#grant?.(member);
  }

  override refused(error: unknown): void {
    this.#call.refused(error);
  }
}

/** Waits until a copy is due. */
export class HedgeTimer implements Timed {
  deadline = 0;
  timedBefore: Timed | undefined = undefined;
  timedAfter: Timed | undefined = undefined;
  timedIn: DurationList | undefined = undefined;
  readonly due: () => void;

  constructor(due: () => void) {
    this.due = due;
  }
}

/** More than any pool allows. Not Infinity: V8 would keep the tries of every call as a number with a fraction from then on. */
const noMoreTries = 1_000_000_000;

export class Call<R> implements Abortable, AttemptOwner<R> {
  readonly traffic: Traffic<R>;
  readonly #caller: Caller<R>;
  readonly #options: UseOptions;
  /** Attempts made. */
  #tries = 0;
  settled = false;
  /** The last attempt. */
  #attempt: Attempt<R> | undefined = undefined;
  #detour: Detour<R> | undefined = undefined;

  constructor(traffic: Traffic<R>, caller: Caller<R>, options: UseOptions) {
    this.traffic = traffic;
    this.#caller = caller;
    this.#options = options;
  }

  /** Routes the call to a member, or puts it in line. Never throws. */
  begin(): void {
    const { traffic } = this;
    const options = this.#options;
    const now = traffic.now();
    traffic.begin(now);
    if (traffic.phase !== "open") {
      traffic.totals.rejected++;
      this.#fail(traffic.closedError());
      return;
    }
    if (options !== noOptions) {
      const theirs = options.signal;
      if (theirs !== undefined) {
        if (theirs.aborted) {
          this.#fail(theirs.reason);
          return;
        }
        watchAbort(theirs, this);
      }
    }
    const member = traffic.admit(options.key === undefined ? anyone : { key: options.key }, now);
    if (member === undefined) this.#takeDetour(now).wait(options.timeoutMs ?? defaultWaitMs, false);
    else this.#run(member, now);
  }

  /** A fixed member and no second attempt: for `broadcast`. */
  beginOn(member: PoolMember<R>): void {
    const now = this.traffic.now();
    this.traffic.begin(now);
    if (!member.registered) {
      this.traffic.totals.rejected++;
      this.#fail(new ConnectionLostError("the connection went away before its turn. Call again.", { sent: "no" }));
      return;
    }
    this.#tries = noMoreTries;
    this.traffic.admitTo(member);
    this.#run(member, now);
  }

  /** From the line: a member has room, and has counted this call since the grant. */
  granted(member: PoolMember<R>): void {
    const now = this.traffic.runtime.now();
    if (!this.settled && member.registered && this.traffic.phase !== "closed") {
      this.#run(member, now);
      return;
    }
    // The caller, the member or the pool went away between the grant and now: never used, and it is no attempt.
    this.traffic.giveBack(member, now);
    if (!this.settled) this.#route(this.#takeDetour(now));
  }

  /** From the line: nobody had room, in time. */
  refused(error: unknown): void {
    this.#fail(error);
  }

  lostUnder(attempt: Attempt<R>): void {
    this.#avoid(attempt);
  }

  /** The caller's signal, or the end of the pool by force. */
  aborted(reason: unknown): void {
    if (this.settled) return;
    if (this.#detour !== undefined) this.traffic.leave(this.#detour);
    this.#abandonAll(reason);
    this.#fail(reason);
  }

  succeeded(attempt: Attempt<R>, value: unknown): void {
    if (this.settled) return;
    this.#forget(attempt);
    if (this.#attempt !== undefined)
      this.#abandonAll(new DOMException("another attempt was answered first", "AbortError"));
    this.#settle();
    this.traffic.totals.succeeded++;
    this.#caller.resolve(value);
  }

  failed(attempt: Attempt<R>, error: unknown): void {
    if (this.settled) return;
    this.#forget(attempt);
    const sent = error instanceof ConnectionLostError ? error.sent : undefined;
    if (sent !== undefined) this.#avoid(attempt);
    if (this.#attempt !== undefined) return; // Its copy is still at work.
    this.#caller.inContext(() => this.#retryOr(attempt, error, sent));
  }

  /** Made by the end of the first attempt at the latest, and so with its start, which is the call's. */
  #takeDetour(startedAt: number): Detour<R> {
    if (this.#detour === undefined) {
      const { timeoutMs = defaultWaitMs, key } = this.#options;
      this.#detour = new Detour(this.traffic, this, startedAt + timeoutMs);
      if (key !== undefined) this.#detour.request = { key };
    }
    return this.#detour;
  }

  #avoid({ member, startedAt }: Attempt<R>): void {
    const tried = (this.#takeDetour(startedAt).tried ??= []);
    if (!tried.includes(member)) tried.push(member);
  }

  #route(detour: Detour<R>): void {
    const { traffic } = this;
    if (traffic.phase === "closed") {
      this.#fail(traffic.endError ?? traffic.closedError());
      return;
    }
    const member = traffic.admitElsewhere(detour);
    const now = traffic.runtime.now();
    if (member !== undefined) this.#run(member, now);
    else if (detour.giveUpAt > now) detour.wait(detour.giveUpAt - now, true);
    else if (detour.lastError === undefined) traffic.timedOut(detour);
    else {
      // The first deadline has passed: the last error is the answer.
      traffic.totals.failed++;
      this.#fail(detour.lastError);
    }
  }

  #run(member: PoolMember<R>, now: number): void {
    this.#tries++;
    const attempt = new Attempt<R>(this, member, now);
    if (this.#attempt !== undefined) this.#takeDetour(now).other = this.#attempt;
    this.#attempt = attempt;
    if (this.traffic.hedging !== undefined) this.#hedgeLater(now);
    attempt.run(this.#caller);
  }

  #retryOr(attempt: Attempt<R>, error: unknown, sent: "no" | "maybe" | undefined): void {
    const { traffic } = this;
    if (traffic.mayRetry(error, sent, this.#tries, this.#options.idempotent === true)) {
      if (this.settled) return; // Its caller has heard of that, and has given up.
      const detour = this.#takeDetour(attempt.startedAt);
      detour.lastError = error;
      this.#route(detour);
    } else {
      traffic.totals.failed++;
      this.#fail(error);
    }
  }

  /** Only the first attempt has a copy, and only of what may be done twice. */
  #hedgeLater(now: number): void {
    if (this.#options.idempotent !== true || this.#tries > 1) return;
    const delayMs = this.traffic.hedging?.delayMs(now);
    if (delayMs === undefined || delayMs === Infinity) return;
    const detour = this.#takeDetour(now);
    detour.hedge = new HedgeTimer(() => this.#caller.inContext(() => this.#hedge(detour, delayMs)));
    this.traffic.hedgeTimers.add(detour.hedge, now, delayMs);
  }

  #hedge(detour: Detour<R>, afterMs: number): void {
    const first = this.#attempt;
    if (this.settled || first === undefined || this.#tries > 1) return;
    this.#avoid(first);
    const member = this.traffic.admitCopy(detour, afterMs);
    if (member !== undefined) this.#run(member, this.traffic.runtime.now());
  }

  /** This attempt is over: what is left, if anything, is the other one. */
  #forget(attempt: Attempt<R>): void {
    const detour = this.#detour;
    const other = detour?.other;
    if (this.#attempt === attempt) this.#attempt = other;
    if (detour !== undefined) detour.other = undefined;
  }

  #abandonAll(reason: unknown): void {
    this.#attempt?.abandon(reason);
    this.#detour?.other?.abandon(reason);
  }

  #fail(error: unknown): void {
    if (this.settled) return;
    this.#settle();
    this.#caller.reject(error);
  }

  #settle(): void {
    this.settled = true;
    if (this.#options.signal !== undefined) unwatchAbort(this.#options.signal, this);
    if (this.#detour?.hedge !== undefined) this.traffic.hedgeTimers.remove(this.#detour.hedge);
    this.traffic.end();
  }
}
