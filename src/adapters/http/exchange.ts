/**
 * One request and its response, from the call of `dispatch` to the one end that its handler hears of.
 *
 *                     a member has room
 *     waiting ───────────────────────────▶ sent ──headers──▶ answering ──end──▶ settled
 *        │ ▲                                 │                  │                  ▲
 *        │ └── its connection was lost, and ─┘                  │ lost, aborted    │
 *        │     it may be sent again                             └──────────────────┤
 *        └── aborted, turned away ─────────────────────────────────────────────────┘
 *
 * The waiting, the choice and the right to try again are those of a call (routing/call.ts), whose caller it is. What the
 * pool must know it is told by how the work ends: with a `ConnectionLostError` as long as nothing of a response was
 * seen, with the error itself afterwards, for then nothing can be taken back.
 *
 * The handler is told that its request has started before the request stands in line, so that it can be aborted there.
 * Where the pool hedges, a copy may be under way beside the first attempt: the response is that of whichever begins to
 * answer first, and the other is given up at that moment.
 */

import { AsyncResource } from "node:async_hooks";
import type { Duplex } from "node:stream";
import { errors } from "undici";
import { asError, ConnectionLostError } from "../../errors.ts";
import type { UseOptions } from "../../pool/index.ts";
import { type Attempt, bySaying, Call, type Caller, type RoutingPool } from "../../routing/index.ts";
import { emit } from "../../telemetry/index.ts";
import { blameless, type HttpAttempt } from "./attempt.ts";
import type { HttpConnection } from "./connection.ts";
import { Hold } from "./hold.ts";
import type { Fields, Listener } from "./listener.ts";
import { type HttpRequest, isRepeatable, isReplayable } from "./request.ts";

/** How requests are to be treated; the same for all of a dispatcher. */
export interface ExchangePolicy {
  readonly waitTimeoutMs: number;
  /** Whether a response with this status speaks against who sent it. */
  readonly isFailure: (statusCode: number) => boolean;
  readonly key: ((request: HttpRequest) => string | number | undefined) | undefined;
  /** Whether the last request found no room: the next is likely to wait, too. */
  crowded: boolean;
}

const done: Promise<void> = Promise.resolve();

export class Exchange implements Caller<HttpConnection> {
  readonly request: HttpRequest;
  readonly listener: Listener;
  /** Called once when it has been sent, or has ended unsent. */
  onServed: (() => void) | undefined;
  readonly #policy: ExchangePolicy;
  /** How to leave the line. */
  #leaving: Leaving | undefined;
  /** What is under way: one attempt, and where the pool hedges, its copy. */
  #attempt: HttpAttempt | undefined;
  #copy: HttpAttempt | undefined;
  /** The one whose response it is. */
  #answering: HttpAttempt | undefined;
  #sent = false;
  /** The status of the final response; 0 before. */
  #statusCode = 0;
  /** A body that can be read once has been read from. */
  #consumed = false;
  #refusals = 0;
  /** What the last attempt ended with, if it may be made again. */
  #lost: ConnectionLostError | undefined;
  #settled = false;
  /** Called when the pool is through with it. */
  #through: (() => void) | undefined = undefined;
  /** The caller's, for its repeats and its failure; there since it was given to a pool. */
  #context: AsyncResource | undefined = undefined;
  /** What the handler has of us. */
  #hold: Hold<Exchange> | undefined = undefined;

  constructor(request: HttpRequest, listener: Listener, policy: ExchangePolicy) {
    this.request = request;
    this.listener = listener;
    this.#policy = policy;
  }

  /** The handler has had its end. */
  get settled(): boolean {
    return this.#settled;
  }

  /** A connection has it, or had it. */
  get sent(): boolean {
    return this.#sent;
  }

  /** Tells the handler that it begins, and how to abort it. It may do so at once. */
  begin(): void {
    const hold = new Hold<Exchange>(this);
    this.#hold = hold;
    try {
      this.listener.start((reason) => hold.on?.abort(reason));
    } catch (thrown) {
      this.fail(asError(thrown));
    }
  }

  /**
   * Goes to one of the pool's connections, or in line.
   *
   * @param through Called once, when the pool is through with it: the handler has had its end, and the connection is free.
   */
  route(pool: RoutingPool<HttpConnection>, through?: () => void): void {
    if (this.#settled) {
      through?.();
      return;
    }
    const { request } = this;
    const policy = this.#policy;
    const options: Mutable<UseOptions> = { timeoutMs: policy.waitTimeoutMs, idempotent: isRepeatable(request) };
    // To listen for an abort costs as much as to choose a member, and is of use in line only. The first who waits after
    // a time without a line goes without: aborted, it keeps its place until its turn comes, and then makes none of it.
    if (policy.crowded) options.signal = (this.#leaving = new Leaving()) as unknown as AbortSignal;
    const key = policy.key === undefined ? undefined : this.#key(policy.key);
    if (key !== undefined) options.key = key;
    this.#through = through;
    this.#context = new AsyncResource("HttpExchange");
    new Call(pool.traffic, this, options).begin();
    policy.crowded = !this.#sent;
  }

  /** A connection has room for it. */
  work(connection: HttpConnection, routed: Attempt<HttpConnection>): typeof bySaying {
    // Nobody wants it any more; or the response has begun, and then a copy comes too late.
    if (this.#settled || this.#answering !== undefined) throw blameless;
    const attempt = connection.begin(this, routed);
    if (this.#attempt === undefined) this.#attempt = attempt;
    else this.#copy = attempt;
    this.#sent = true;
    this.#served();
    attempt.send();
    return bySaying;
  }

  /** The pool is through with it. */
  resolve(): void {
    this.#through?.();
  }

  /** The same, and it has not gone well. What the handler hears of that, it hears after `dispatch` has returned. */
  reject(error: Error): void {
    void done.then(() => {
      this.#refused(error);
      this.#through?.();
    });
  }

  /** For repeats and copies, and for telling the handler that it has failed. */
  inContext(act: () => void): void {
    (this.#context as AsyncResource).runInAsyncScope(act);
  }

  /** The caller gives up, at any point. */
  abort(reason: Error | undefined): void {
    const error = reason ?? new errors.RequestAbortedError();
    this.fail(error);
    this.#leaving?.leave(error);
    this.#abortAll(error);
  }

  /** Whether it is still waiting for what this attempt has to say. */
  wants(attempt: HttpAttempt): boolean {
    return !this.#settled && (this.#answering === undefined || this.#answering === attempt);
  }

  /** The connection is about to send it. `false`: nobody wants it any more, do not. */
  sending(attempt: HttpAttempt): boolean {
    if (!this.wants(attempt)) return false;
    if (!isReplayable(this.request)) this.#consumed = true;
    return true;
  }

  headers(attempt: HttpAttempt, statusCode: number, fields: Fields, resume: () => void, statusText: string): boolean {
    if (!this.wants(attempt)) return true;
    if (statusCode >= 200) {
      this.#statusCode = statusCode;
      this.#takenBy(attempt);
    }
    return this.listener.headers(statusCode, fields, resume, statusText);
  }

  data(attempt: HttpAttempt, chunk: Buffer): boolean {
    return !this.wants(attempt) || this.listener.data(chunk);
  }

  /** What the response says against its sender, if anything. */
  get failure(): Error | undefined {
    try {
      return this.#policy.isFailure(this.#statusCode) ? failureOf(this.#statusCode) : undefined;
    } catch (thrown) {
      emit("callback.failed", { where: "HttpDispatcher: isFailure", error: asError(thrown) });
      return undefined;
    }
  }

  /**
   * The response is whole. Whoever sends says that it is over first: then the connection is free when the handler's
   * next request comes, as it often does in that very call.
   *
   * A handler that throws here does not want it and hears an error: undici's own retries are made so.
   */
  complete(attempt: HttpAttempt, trailers: Fields): void {
    if (!this.wants(attempt)) return;
    this.#settle();
    try {
      this.listener.complete(trailers);
    } catch (thrown) {
      this.#tellFailed(asError(thrown));
    }
  }

  /** The socket is the handler's from now on; what it throws is for whoever holds the socket. */
  upgraded(attempt: HttpAttempt, statusCode: number, fields: Fields, socket: Duplex): void {
    if (!this.wants(attempt)) return;
    this.#takenBy(attempt);
    this.#settle();
    this.listener.upgraded(statusCode, fields, socket);
  }

  /**
   * An attempt has failed: `sent` says whether its connection was lost, and what the other side can have seen. Returns
   * what the attempt ends with. As long as there is another, it is not the end.
   */
  attemptFailed(attempt: HttpAttempt, error: Error, sent: "no" | "maybe" | undefined): Error {
    if (!this.wants(attempt)) return blameless;
    if (this.#attempt === attempt) this.#attempt = undefined;
    else this.#copy = undefined;
    const final = sent === undefined || this.#answering !== undefined || this.#consumed;
    if (final && this.#attempt === undefined && this.#copy === undefined) this.fail(error);
    if (final) return error;
    this.#lost = new ConnectionLostError("the connection was lost before the response had begun", {
      sent,
      cause: error,
    });
    return this.#lost;
  }

  /** The server refused it unread (REFUSED_STREAM): once that may be chance, twice it is an answer. */
  attemptRefused(attempt: HttpAttempt, error: Error): Error {
    return this.attemptFailed(attempt, error, this.#refusals++ === 0 ? "no" : undefined);
  }

  /** The end, for the handler. */
  fail(error: Error): void {
    if (this.#settled) return;
    this.#settle();
    this.#served();
    this.#tellFailed(error);
  }

  #settle(): void {
    this.#settled = true;
    this.#hold?.release();
  }

  /** What a handler throws in its last call has nobody to go to. */
  #tellFailed(error: Error): void {
    try {
      if (this.#context === undefined) this.listener.failed(error);
      else this.inContext(() => this.listener.failed(error));
    } catch (thrown) {
      emit("callback.failed", { where: "HttpDispatcher: handler", error: asError(thrown) });
    }
  }

  #served(): void {
    const tell = this.onServed;
    this.onServed = undefined;
    tell?.();
  }

  /** This one answers. The other, if there is one, has lost the race. */
  #takenBy(attempt: HttpAttempt): void {
    this.#answering = attempt;
    const other = this.#attempt === attempt ? this.#copy : this.#attempt;
    other?.abort(new errors.RequestAbortedError("another connection has answered first"));
  }

  #abortAll(reason: Error): void {
    this.#attempt?.abort(reason);
    this.#copy?.abort(reason);
  }

  /** The pool gives up: with an error of its own, or with our last one, whose cause is what the handler should see. */
  #refused(error: Error): void {
    if (this.#settled) return;
    this.fail(error === this.#lost ? (error.cause as Error) : error);
    this.#abortAll(error);
  }

  #key(of: NonNullable<ExchangePolicy["key"]>): string | number | undefined {
    try {
      return of(this.request);
    } catch (thrown) {
      emit("callback.failed", { where: "HttpDispatcher: key", error: asError(thrown) });
      return undefined;
    }
  }
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/**
 * As much of an AbortSignal as a pool listens to. A real one and its controller cost as much as all the routing, and
 * nearly every request ends without needing it.
 */
class Leaving {
  aborted = false;
  reason: Error | undefined = undefined;
  #listener: (() => void) | undefined;

  addEventListener(_: "abort", listener: () => void): void {
    this.#listener = listener;
  }

  removeEventListener(): void {
    this.#listener = undefined;
  }

  leave(reason: Error): void {
    if (this.aborted) return;
    this.aborted = true;
    this.reason = reason;
    this.#listener?.();
  }
}

/** One for each status: only the pool sees it, and counts. */
const failures = new Map<number, Error>();

function failureOf(statusCode: number): Error {
  let failure = failures.get(statusCode);
  if (failure === undefined) {
    failure = new Error(`the server answered ${statusCode}`);
    failures.set(statusCode, failure);
  }
  return failure;
}
