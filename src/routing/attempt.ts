/**
 * One run of a call's work on one member.
 *
 *               its caller gives up
 *     working ──────────────────────▶ orphan, judged ──the work has ended──▶ over
 *        │ │                                │                                 ▲
 *        │ └────────────── the work has ended ───────────────────────────────┤
 *        │ its resource is lost             │                                 │ the work has ended all the same,
 *        └────────────────┬─────────────────┘                                 │ or one tick has passed
 *                         └──▶ lost ──────────────────────────────────────────┘
 *
 * It holds the member's count from the grant to the end of the work, whoever still waits for it. It is also what the work
 * sees of its call (`WorkContext`): each attempt has a signal of its own, and that of a lost one stays aborted.
 */

import type { ConnectionLostError } from "../errors.ts";
import type { WorkContext } from "../pool/index.ts";
import { emit } from "../telemetry/index.ts";
import type { PoolMember } from "./member.ts";
import type { Traffic } from "./traffic.ts";

/** Who makes a call: has the work done, and hears the one answer. Only `work` may throw. */
export interface Caller<R> {
  /** Starts the work. Returns what it comes to, or a promise of that, or `bySaying`. */
  work(resource: R, attempt: Attempt<R>): unknown;
  /** Runs what may start the work once more, where the caller's async context is to be. */
  inContext(act: () => void): void;
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

/** What a work returns that calls `attempt.end` when it has ended: a protocol's own, which can do without a promise. */
export const bySaying: unique symbol = Symbol("ends by saying so");

/** The call that an attempt is made for. */
export interface AttemptOwner<R> {
  readonly traffic: Traffic<R>;
  /** Its caller has been told. */
  readonly settled: boolean;
  succeeded(attempt: Attempt<R>, value: unknown): void;
  failed(attempt: Attempt<R>, error: unknown): void;
  /** The resource of an attempt is gone. */
  lostUnder(attempt: Attempt<R>): void;
  /** The pool ends by force. */
  aborted(reason: unknown): void;
}

export class Attempt<R> implements WorkContext {
  /** Its neighbours among the attempts at work on the same member. */
  before: Attempt<R> | undefined = undefined;
  after: Attempt<R> | undefined = undefined;
  readonly call: AttemptOwner<R>;
  readonly member: PoolMember<R>;
  readonly startedAt: number;
  #at: "working" | "orphan" | "judged" | "lost" | "over" = "working";
  /** Its signal, once somebody has asked for it; before that, why it would be aborted. */
  #abort: AbortController | { readonly reason: unknown } | undefined = undefined;

  constructor(call: AttemptOwner<R>, member: PoolMember<R>, startedAt: number) {
    this.call = call;
    this.member = member;
    this.startedAt = startedAt;
  }

  /** Aborted when the caller gives up, when the resource is lost, and when another attempt was quicker. Made when asked for. */
  get signal(): AbortSignal {
    const known = this.#abort;
    if (known instanceof AbortController) return known.signal;
    const controller = new AbortController();
    this.#abort = controller;
    if (known !== undefined) controller.abort(known.reason);
    return controller.signal;
  }

  /** Runs the work. The member has counted it. */
  run(caller: Caller<R>): void {
    this.#link();
    let result: unknown;
    let later: Promise<unknown> | undefined;
    try {
      result = caller.work(this.member.resource, this);
      if (result === bySaying) return;
      // A thenable of somebody else's may settle twice or throw; a promise made of it does not.
      if (isThenable(result)) later = Promise.resolve(result);
    } catch (error) {
      this.end(false, error);
      return;
    }
    if (later === undefined) this.end(true, result);
    else {
      later.then(
        (value) => this.end(true, value),
        (error: unknown) => this.end(false, error),
      );
    }
  }

  /** The work has ended. Once. Makes room, and may start another attempt, in this very call. @internal */
  end(ok: boolean, result: unknown): void {
    const at = this.#at;
    if (at === "over") return;
    this.#at = "over";
    if (at !== "lost") {
      this.#unlink();
      this.#release(at, ok, result);
    }
    if (ok) this.call.succeeded(this, result);
    else this.call.failed(this, result);
  }

  /** Nobody waits for it any more; the member is released when the work has ended. */
  abandon(reason: unknown): void {
    if (this.#at === "over") return;
    if (this.#at === "working") {
      const { traffic } = this.call;
      this.#at = "orphan";
      if (isOutOfTime(reason) && traffic.isFailure(reason)) {
        this.#at = "judged";
        traffic.judge(this.member, this.startedAt, false, reason);
      }
      traffic.orphaned(this.member, this.startedAt);
    }
    this.#abortWith(reason);
  }

  /** The resource is gone. The work may still end by itself; the pool says when it waits for that no longer. */
  lostUnder(error: ConnectionLostError): void {
    if (this.#at === "lost" || this.#at === "over") return;
    this.#at = "lost";
    this.#unlink();
    this.call.lostUnder(this);
    this.#abortWith(error);
  }

  /** One tick after the loss. */
  failIfStill(error: ConnectionLostError): void {
    if (this.#at !== "lost") return;
    this.#at = "over"; // Whatever the work says later, it says of an attempt that is over.
    this.call.failed(this, error);
  }

  #release(at: "working" | "orphan" | "judged", ok: boolean, error: unknown): void {
    const { member, startedAt } = this;
    const { traffic } = this.call;
    if (at !== "working") {
      member.orphans--;
      const afterMs = traffic.runtime.now() - startedAt;
      emit("pool.orphanEnded", { pool: traffic.name, connection: `connection ${member.slot}`, afterMs });
    }
    // What it says of its member has been said, or is of its caller's making, when nobody waited for it any more.
    if (at === "judged") traffic.releaseJudged(member);
    else if (ok || at === "orphan") traffic.release(member, startedAt, true, ok ? undefined : error);
    else traffic.release(member, startedAt, !traffic.isFailure(error), error);
  }

  #abortWith(reason: unknown): void {
    if (this.#abort === undefined) this.#abort = { reason };
    else if (this.#abort instanceof AbortController) this.#abort.abort(reason);
  }

  #link(): void {
    const first = this.member.firstAttempt;
    this.after = first;
    if (first !== undefined) first.before = this;
    this.member.firstAttempt = this;
  }

  #unlink(): void {
    const { before, after } = this;
    if (before === undefined) this.member.firstAttempt = after;
    else before.after = after;
    if (after !== undefined) after.before = before;
    this.before = undefined;
    this.after = undefined;
  }
}

/** The attempts at work on a member, oldest first. */
export function attemptsOn<R>(member: PoolMember<R>): Attempt<R>[] {
  const attempts: Attempt<R>[] = [];
  for (let each = member.firstAttempt; each !== undefined; each = each.after) attempts.push(each);
  return attempts.reverse();
}

/**
 * Whether an abort is that of `AbortSignal.timeout`. A caller who has changed its mind says nothing against the member; one
 * whose time is over does, and a member that answers too late for everybody would otherwise look as good as any.
 */
function isOutOfTime(reason: unknown): boolean {
  return reason instanceof Error && reason.name === "TimeoutError";
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  const mayBe = (typeof value === "object" && value !== null) || typeof value === "function";
  return mayBe && typeof (value as { then?: unknown }).then === "function";
}
