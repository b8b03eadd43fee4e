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

import { AsyncLocalStorage } from "node:async_hooks";
import { ConnectionLostError, OptionError } from "../errors.ts";
import { checkOptions, duration, flag, type Checks, signal } from "../options.ts";
import { defaultWaitMs, type UseOptions, type Work, type WorkContext } from "../pool/index.ts";
import { type Abortable, unwatchAbort, watchAbort } from "../runtime/index.ts";
import { emit } from "../telemetry/index.ts";
import type { PoolMember } from "./member.ts";
import { Ticket, type Traffic } from "./traffic.ts";

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

export class Call<R, T> extends Ticket<R> implements Abortable {
  readonly #work: Work<R, T>;
  readonly #options: UseOptions;
  readonly #resolve: (value: T) => void;
  readonly #reject: (error: unknown) => void;
  #attempt = 0;
  /** Attempts the work has really had. */
  #tries = 0;
  /** The attempt whose resource was lost, until the work or the next tick settles what that means. */
  #lostAttempt = -1;
  #lastError: unknown = undefined;
  #settled = false;
  #member: PoolMember<R> | undefined = undefined;
  #startedAt = 0;
  #giveUpAt = 0;
  #grant: ((member: PoolMember<R>) => void) | undefined = undefined;
  #context: Context | undefined = undefined;
  /** The caller's async context, where somebody else may have to start the work again. */
  #inContext: (<V>(act: () => V) => V) | undefined = undefined;

  constructor(
    traffic: Traffic<R>,
    work: Work<R, T>,
    options: UseOptions,
    resolve: (value: T) => void,
    reject: (error: unknown) => void,
  ) {
    super(traffic);
    this.#work = work;
    this.#options = options;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  /** The caller has been told; its work may still be going on. */
  get settled(): boolean {
    return this.#settled;
  }

  /** Routes the call to a member, or puts it in line. Never throws. */
  begin(): void {
    const { traffic } = this;
    const { signal: theirs, timeoutMs = defaultWaitMs, key, idempotent } = this.#options;
    const now = traffic.runtime.now();
    traffic.begin(now);
    if (key !== undefined) this.request = { key };
    if (traffic.phase !== "open") {
      traffic.totals.rejected++;
      this.#fail(traffic.closedError());
      return;
    }
    if (theirs !== undefined) {
      if (theirs.aborted) {
        this.#fail(theirs.reason);
        return;
      }
      watchAbort(theirs, this);
    }
    if (idempotent === true) this.#inContext = AsyncLocalStorage.snapshot();
    this.#giveUpAt = now + timeoutMs;
    this.#startedAt = now;
    const member = traffic.admit(this.request);
    if (member === undefined) this.#wait(timeoutMs, false);
    else this.#run(member, now);
  }

  /** A fixed member and no second attempt: for `broadcast`. */
  beginOn(member: PoolMember<R>): void {
    const now = this.traffic.runtime.now();
    this.traffic.begin(now);
    if (!member.registered) {
      this.traffic.totals.rejected++;
      this.#fail(new ConnectionLostError("the connection went away before its turn. Call again.", { sent: "no" }));
      return;
    }
    this.#tries = Infinity;
    this.traffic.admitTo(member);
    this.#run(member, now);
  }

  override granted(member: PoolMember<R>): void {
    this.#grant?.(member);
  }

  override refused(error: unknown): void {
    this.#fail(error);
  }

  /** The resource is gone. The work may still end by itself; the pool says when it no longer waits for that. */
  lostUnder(error: ConnectionLostError): void {
    const member = this.#member;
    if (member === undefined) return;
    this.#unlink(member);
    this.#member = undefined;
    (this.tried ??= []).push(member);
    this.#lostAttempt = this.#attempt;
    this.#context?.end(error);
  }

  /** One tick after the loss: the work has not said what it makes of it. */
  failIfStill(error: ConnectionLostError): void {
    if (this.#settled || this.#lostAttempt !== this.#attempt) return;
    this.#attempt++; // Whatever the work says later, it says of an attempt that is over.
    if (this.#inContext === undefined) this.#retryOr(error);
    else this.#inContext(() => this.#retryOr(error));
  }

  /** The pool ends, by force. */
  abortWith(error: Error): void {
    this.#giveUp(error);
  }

  /** The caller's signal. */
  aborted(reason: unknown): void {
    this.#giveUp(reason);
  }

  #wait(waitMs: number, again: boolean): void {
    // Granted by whoever makes room; the work must run in its own caller's context, which a promise keeps.
    const granted = new Promise<PoolMember<R>>((resolve) => {
      this.#grant = resolve;
    });
    void granted.then((member) => {
      const now = this.traffic.runtime.now();
      if (!this.#settled && member.registered && this.traffic.phase !== "closed") {
        this.#run(member, now);
        return;
      }
      // The caller, the member or the pool went away between the grant and now: never used, and it is no attempt.
      this.traffic.release(member, now, true, undefined);
      if (!this.#settled) this.#route();
    });
    this.traffic.wait(this, waitMs, again);
  }

  #route(): void {
    if (this.traffic.phase === "closed") {
      this.#fail(this.traffic.endError ?? this.traffic.closedError());
      return;
    }
    const member = this.tried === undefined ? this.traffic.admit(this.request) : this.traffic.admitElsewhere(this);
    const now = this.traffic.runtime.now();
    if (member !== undefined) this.#run(member, now);
    else if (this.#giveUpAt > now) this.#wait(this.#giveUpAt - now, true);
    else if (this.#lastError === undefined) this.traffic.timedOut(this);
    else {
      // All attempts share the first deadline, and it has passed: the last error is the answer.
      this.traffic.totals.failed++;
      this.#fail(this.#lastError);
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
    this.traffic.totals.succeeded++;
    this.#resolve(value);
  }

  #failed(attempt: number, error: unknown): void {
    if (attempt !== this.#attempt) return;
    this.#lostAttempt = -1;
    const member = this.#member;
    // What the caller's own abort has caused says nothing about the resource.
    this.#release(this.#settled || !this.traffic.isFailure(error), error);
    if (this.#settled) return;
    if (member !== undefined) (this.tried ??= []).push(member);
    this.#retryOr(error);
  }

  #retryOr(error: unknown): void {
    const sent = error instanceof ConnectionLostError ? error.sent : undefined;
    if (this.traffic.mayRetry(error, sent, this.#tries, this.#options.idempotent === true)) {
      this.#lastError = error;
      this.#route();
    } else {
      this.traffic.totals.failed++;
      this.#fail(error);
    }
  }

  #release(ok: boolean, error: unknown): void {
    const member = this.#member;
    if (member === undefined) return;
    this.#member = undefined;
    this.#unlink(member);
    if (this.#settled) {
      const afterMs = this.traffic.runtime.now() - this.#startedAt;
      emit("pool.orphanEnded", { pool: this.traffic.name, connection: `connection ${member.slot}`, afterMs });
    }
    this.traffic.release(member, this.#startedAt, ok, error);
  }

  #giveUp(reason: unknown): void {
    if (this.#settled) return;
    this.traffic.leave(this);
    this.#context?.end(reason);
    this.#fail(reason);
  }

  #fail(error: unknown): void {
    if (this.#settled) return;
    this.#settle();
    this.#reject(error);
  }

  #settle(): void {
    this.#settled = true;
    const { signal: theirs } = this.#options;
    if (theirs !== undefined) unwatchAbort(theirs, this);
    this.traffic.end();
  }

  #link(member: PoolMember<R>): void {
    const first = member.firstCall;
    this.before = undefined;
    this.after = first;
    if (first !== undefined) first.before = this;
    member.firstCall = this;
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
