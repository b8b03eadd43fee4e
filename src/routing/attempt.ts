/**
 * One run of a call's work on one member.
 *
 *     working ──the work has ended──────▶ over
 *        │                                 ▲
 *        │ its resource is lost            │ the work has ended all the same, or one tick has passed
 *        ▼                                 │
 *      lost ───────────────────────────────┘
 *
 * It holds the member's count from the grant to the end of the work, whoever still waits for it. It is also what the work
 * sees of its call (`WorkContext`): each attempt has a signal of its own, and that of a lost one stays aborted.
 */

import type { ConnectionLostError } from "../errors.ts";
import type { Work, WorkContext } from "../pool/index.ts";
import { emit } from "../telemetry/index.ts";
import type { PoolMember } from "./member.ts";
import type { Traffic } from "./traffic.ts";

/** The call that an attempt is made for. */
export interface AttemptOwner<R> {
  readonly traffic: Traffic<R>;
  /** Its caller has been told. */
  readonly settled: boolean;
  succeeded(attempt: Attempt<R>, value: unknown): void;
  failed(attempt: Attempt<R>, error: unknown): void;
  /** The resource of an attempt is gone. */
  lostUnder(member: PoolMember<R>): void;
  /** The pool ends by force. */
  aborted(reason: unknown): void;
}

export class Attempt<R> implements WorkContext {
  /** Its neighbours among the attempts at work on the same member. */
  before: Attempt<R> | undefined = undefined;
  after: Attempt<R> | undefined = undefined;
  readonly call: AttemptOwner<R>;
  readonly member: PoolMember<R>;
  readonly #startedAt: number;
  #at: "working" | "lost" | "over" = "working";
  #orphan = false;
  /** What it says of its member has been said. */
  #judged = false;
  #controller: AbortController | undefined = undefined;
  #endedBy: unknown = undefined;

  constructor(call: AttemptOwner<R>, member: PoolMember<R>, startedAt: number) {
    this.call = call;
    this.member = member;
    this.#startedAt = startedAt;
  }

  /** Aborted when the caller gives up, when the resource is lost, and when another attempt was quicker. Made when asked for. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#endedBy !== undefined) this.#controller.abort(this.#endedBy);
    }
    return this.#controller.signal;
  }

  /** Runs the work. The member has counted it. */
  run<T>(work: Work<R, T>): void {
    this.#link();
    let result: T | Promise<T>;
    let later: Promise<T> | undefined;
    try {
      result = work(this.member.resource, this);
      // A thenable of somebody else's may settle twice or throw; a promise made of it does not.
      if (isThenable(result)) later = Promise.resolve(result);
    } catch (error) {
      this.#ended(false, error);
      return;
    }
    if (later === undefined) this.#ended(true, result);
    else {
      later.then(
        (value) => this.#ended(true, value),
        (error: unknown) => this.#ended(false, error),
      );
    }
  }

  /** Nobody waits for it any more; the member is released when the work has ended. */
  abandon(reason: unknown): void {
    if (this.#at === "over") return;
    if (this.#at === "working" && !this.#orphan) {
      this.#orphan = true;
      const { traffic } = this.call;
      if (isOutOfTime(reason) && traffic.isFailure(reason)) {
        this.#judged = true;
        traffic.judge(this.member, this.#startedAt, false, reason);
      }
      traffic.orphaned(this.member, this.#startedAt);
    }
    this.#abort(reason);
  }

  /** The resource is gone. The work may still end by itself; the pool says when it waits for that no longer. */
  lostUnder(error: ConnectionLostError): void {
    if (this.#at !== "working") return;
    this.#at = "lost";
    this.#unlink();
    this.call.lostUnder(this.member);
    this.#abort(error);
  }

  /** One tick after the loss. */
  failIfStill(error: ConnectionLostError): void {
    if (this.#at !== "lost") return;
    this.#at = "over"; // Whatever the work says later, it says of an attempt that is over.
    this.call.failed(this, error);
  }

  #ended(ok: boolean, result: unknown): void {
    if (this.#at === "over") return;
    const working = this.#at === "working";
    this.#at = "over";
    if (working) this.#release(ok, result);
    if (ok) this.call.succeeded(this, result);
    else this.call.failed(this, result);
  }

  #release(ok: boolean, error: unknown): void {
    const { member } = this;
    const { traffic } = this.call;
    this.#unlink();
    if (this.#orphan) {
      member.orphans--;
      const afterMs = traffic.runtime.now() - this.#startedAt;
      emit("pool.orphanEnded", { pool: traffic.name, connection: `connection ${member.slot}`, afterMs });
    }
    // What else the end of an orphan has to say is of its caller's making.
    if (this.#judged) traffic.releaseJudged(member);
    else
      traffic.release(member, this.#startedAt, ok || this.#orphan || !traffic.isFailure(error), ok ? undefined : error);
  }

  #abort(reason: unknown): void {
    this.#endedBy ??= reason;
    this.#controller?.abort(reason);
  }

  #link(): void {
    const first = this.member.firstAttempt;
    this.after = first;
    if (first !== undefined) first.before = this;
    this.member.firstAttempt = this;
  }

  #unlink(): void {
    if (this.before === undefined) this.member.firstAttempt = this.after;
    else this.before.after = this.after;
    if (this.after !== undefined) this.after.before = this.before;
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

function isThenable<T>(value: T | Promise<T>): value is Promise<T> {
  const mayBe = (typeof value === "object" && value !== null) || typeof value === "function";
  return mayBe && typeof (value as { then?: unknown }).then === "function";
}
