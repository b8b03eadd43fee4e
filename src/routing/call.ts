/**
 * One call of `use`: from the caller's request to the one answer it gets.
 *
 *               no member                granted
 *     begun ───────────────▶ in line ───────────────▶ working ──ok──▶ settled
 *       │                      │ timed out, full        │ │  ▲          ▲
 *       │ admitted             └────────────────────────┼─┼──┼──────────┤
 *       └───────────────────────────────────────────────┘ │  │ another  │
 *                                               its resource │ attempt  │ not to be
 *                                               is lost ─────┴──────────┘ made again
 *
 * The caller may give up at any point, and is told at once; the member is released only when the work has ended. An
 * attempt is known by its number: what comes from an earlier one, whose resource was lost under it, is nobody's answer.
 */

import { AsyncResource } from "node:async_hooks";
import { ConnectionLostError, OptionError } from "../errors.ts";
import { checkOptions, duration, flag, type Checks, signal } from "../options.ts";
import { defaultWaitMs, type UseOptions, type Work, type WorkContext } from "../pool/index.ts";
import { type Abortable, newPromise, takeReject, takeResolve, unwatchAbort, watchAbort } from "../runtime/index.ts";
import { emit } from "../telemetry/index.ts";
import type { PoolMember } from "./member.ts";
import { anyone, Ticket, type Traffic } from "./traffic.ts";

/** What a work sees of its call. Each attempt has its own: that of a lost one stays aborted. */
class Context implements WorkContext {
  #controller: AbortController | undefined = undefined;
  #endedBy: unknown = undefined;

  /** Aborted when the caller gives up, and when the resource is lost. Made when it is asked for. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#endedBy !== undefined) this.#controller.abort(this.#endedBy);
    }
    return this.#controller.signal;
  }

  end(reason: unknown): void {
    this.#endedBy = reason;
    this.#controller?.abort(reason);
  }
}

/** What only some calls need: those that wait, and those that are made again. It is also their place in line. */
class Detour<R> extends Ticket<R> {
  readonly #call: { run(member: PoolMember<R>): void; refused(error: unknown): void };
  /** All attempts and waits share the first deadline. */
  readonly giveUpAt: number;
  lastError: unknown = undefined;
  /** The caller's async context, where somebody else may have to start the work again. */
  context: AsyncResource | undefined = undefined;
  #grant: ((member: PoolMember<R>) => void) | undefined = undefined;

  constructor(
    traffic: Traffic<R>,
    call: { run(member: PoolMember<R>): void; refused(error: unknown): void },
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
    void granted.then((member) => this.#call.run(member));
    this.traffic.wait(this, waitMs, again);
  }

  override granted(member: PoolMember<R>): void {
    this.#grant?.(member);
  }

  override refused(error: unknown): void {
    this.#call.refused(error);
  }
}

export class Call<R, T> implements Abortable {
  /** Its neighbours among the calls at work on the same member. */
  before: Call<R, unknown> | undefined = undefined;
  after: Call<R, unknown> | undefined = undefined;
  /** The one answer. */
  readonly promise: Promise<T> = newPromise<T>();
  readonly #resolve: (value: T) => void = takeResolve<T>();
  readonly #reject: (error: unknown) => void = takeReject();
  readonly #traffic: Traffic<R>;
  readonly #work: Work<R, T>;
  readonly #options: UseOptions;
  #attempt = 0;
  /** Attempts the work has really had. */
  #tries = 0;
  /** The attempt whose resource was lost, until the work or the next tick settles what that means. */
  #lostAttempt = -1;
  #settled = false;
  #member: PoolMember<R> | undefined = undefined;
  #startedAt = 0;
  #context: Context | undefined = undefined;
  #detour: Detour<R> | undefined = undefined;

  constructor(traffic: Traffic<R>, work: Work<R, T>, options: UseOptions) {
    this.#traffic = traffic;
    this.#work = work;
    this.#options = options;
  }

  /** The caller has been told; its work may still be going on. */
  get settled(): boolean {
    return this.#settled;
  }

  /** Routes the call to a member, or puts it in line. Never throws. */
  begin(): void {
    const traffic = this.#traffic;
    const options = this.#options;
    const now = traffic.now();
    traffic.begin(now);
    this.#startedAt = now;
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
      // Not AsyncLocalStorage.snapshot(), which on Node 20 costs 21 µs: as much as all the rest many times over.
      if (options.idempotent === true) this.#takeDetour().context = new AsyncResource("PoolCall");
    }
    const member = traffic.admit(options.key === undefined ? anyone : { key: options.key });
    if (member === undefined) this.#takeDetour().wait(options.timeoutMs ?? defaultWaitMs, false);
    else this.#run(member, now);
  }

  /** A fixed member and no second attempt: for `broadcast`. */
  beginOn(member: PoolMember<R>): void {
    const now = this.#traffic.now();
    this.#traffic.begin(now);
    if (!member.registered) {
      this.#traffic.totals.rejected++;
      this.#fail(new ConnectionLostError("the connection went away before its turn. Call again.", { sent: "no" }));
      return;
    }
    this.#tries = Infinity;
    this.#traffic.admitTo(member);
    this.#run(member, now);
  }

  /** From the line: a member has room, and has counted this call since the grant. */
  run(member: PoolMember<R>): void {
    const now = this.#traffic.runtime.now();
    if (!this.#settled && member.registered && this.#traffic.phase !== "closed") {
      this.#run(member, now);
      return;
    }
    // The caller, the member or the pool went away between the grant and now: never used, and it is no attempt.
    this.#traffic.release(member, now, true, undefined);
    if (!this.#settled) this.#route(this.#takeDetour());
  }

  /** From the line: nobody had room, in time. */
  refused(error: unknown): void {
    this.#fail(error);
  }

  /** The resource is gone. The work may still end by itself; the pool says when it no longer waits for that. */
  lostUnder(error: ConnectionLostError): void {
    const member = this.#member;
    if (member === undefined) return;
    this.#unlink(member);
    this.#member = undefined;
    this.#avoid(member);
    this.#lostAttempt = this.#attempt;
    this.#context?.end(error);
  }

  /** One tick after the loss: the work has not said what it makes of it. */
  failIfStill(error: ConnectionLostError): void {
    if (this.#settled || this.#lostAttempt !== this.#attempt) return;
    this.#attempt++; // Whatever the work says later, it says of an attempt that is over.
    const context = this.#detour?.context;
    if (context === undefined) this.#retryOr(error);
    else context.runInAsyncScope(() => this.#retryOr(error));
  }

  /** The caller's signal, or the end of the pool by force. */
  aborted(reason: unknown): void {
    if (this.#settled) return;
    if (this.#detour !== undefined) this.#traffic.leave(this.#detour);
    this.#context?.end(reason);
    this.#fail(reason);
  }

  /** Made while the first attempt's start is still that of the call. */
  #takeDetour(): Detour<R> {
    if (this.#detour === undefined) {
      const { timeoutMs = defaultWaitMs, key } = this.#options;
      this.#detour = new Detour(this.#traffic, this, this.#startedAt + timeoutMs);
      if (key !== undefined) this.#detour.request = { key };
    }
    return this.#detour;
  }

  #avoid(member: PoolMember<R>): void {
    (this.#takeDetour().tried ??= []).push(member);
  }

  #route(detour: Detour<R>): void {
    const traffic = this.#traffic;
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
    this.#member = member;
    this.#startedAt = now;
    const attempt = ++this.#attempt;
    this.#tries++;
    this.#link(member);
    const context = new Context();
    this.#context = context;
    let result: T | Promise<T>;
    let later: Promise<T> | undefined;
    try {
      result = this.#work(member.resource, context);
      // A thenable of somebody else's may settle twice or throw; a promise made of it does not.
      if (isThenable(result)) later = Promise.resolve(result);
    } catch (error) {
      this.#failed(attempt, error);
      return;
    }
    if (later === undefined) this.#succeeded(attempt, result as T);
    else {
      later.then(
        (value) => this.#succeeded(attempt, value),
        (error: unknown) => this.#failed(attempt, error),
      );
    }
  }

  #succeeded(attempt: number, value: T): void {
    if (attempt !== this.#attempt) return;
    this.#lostAttempt = -1;
    this.#release(true, undefined);
    if (this.#settled) return;
    this.#settle();
    this.#traffic.totals.succeeded++;
    this.#resolve(value);
  }

  #failed(attempt: number, error: unknown): void {
    if (attempt !== this.#attempt) return;
    this.#lostAttempt = -1;
    const member = this.#member;
    // What the caller's own abort has caused says nothing about the resource.
    this.#release(this.#settled || !this.#traffic.isFailure(error), error);
    if (this.#settled) return;
    if (member !== undefined && error instanceof ConnectionLostError) this.#avoid(member);
    this.#retryOr(error);
  }

  #retryOr(error: unknown): void {
    const traffic = this.#traffic;
    const sent = error instanceof ConnectionLostError ? error.sent : undefined;
    if (traffic.mayRetry(error, sent, this.#tries, this.#options.idempotent === true)) {
      const detour = this.#takeDetour();
      detour.lastError = error;
      this.#route(detour);
    } else {
      traffic.totals.failed++;
      this.#fail(error);
    }
  }

  #release(ok: boolean, error: unknown): void {
    const member = this.#member;
    if (member === undefined) return;
    const traffic = this.#traffic;
    this.#member = undefined;
    this.#unlink(member);
    if (this.#settled) {
      const afterMs = traffic.runtime.now() - this.#startedAt;
      emit("pool.orphanEnded", { pool: traffic.name, connection: `connection ${member.slot}`, afterMs });
    }
    traffic.release(member, this.#startedAt, ok, error);
  }

  #fail(error: unknown): void {
    if (this.#settled) return;
    this.#settle();
    this.#reject(error);
  }

  #settle(): void {
    this.#settled = true;
    if (this.#options.signal !== undefined) unwatchAbort(this.#options.signal, this);
    this.#traffic.end();
  }

  #link(member: PoolMember<R>): void {
    const first = member.firstCall;
    this.after = first;
    if (first !== undefined) first.before = this as Call<R, unknown>;
    member.firstCall = this as Call<R, unknown>;
  }

  #unlink(member: PoolMember<R>): void {
    if (this.before === undefined) member.firstCall = this.after;
    else this.before.after = this.after;
    if (this.after !== undefined) this.after.before = this.before;
    this.before = undefined;
    this.after = undefined;
  }
}

const useChecks: Checks<UseOptions> = {
  signal: signal(),
  timeoutMs: duration({ zero: true, infinity: true }),
  key: { expected: "a string or a number", accepts: (value) => typeof value === "string" || typeof value === "number" },
  idempotent: flag(),
  priority: { expected: "a number", accepts: (value) => typeof value === "number" && !Number.isNaN(value) },
};

/** @throws {OptionError} */
export function checkUse(where: string, work: unknown, options: UseOptions): void {
  if (typeof work !== "function") throw new OptionError(`${where}: work`, "a function", work);
  if (options !== noOptions) checkOptions(where, options, useChecks);
}

export const noOptions: UseOptions = Object.freeze({});

function isThenable<T>(value: T | Promise<T>): value is Promise<T> {
  const mayBe = (typeof value === "object" && value !== null) || typeof value === "function";
  return mayBe && typeof (value as { then?: unknown }).then === "function";
}
