/**
 * A routing pool of Fanta connections, in one call.
 *
 *     const pool = await FantaPool.start({ host: "127.0.0.1", port: 7000, size: 4 });
 *     await pool.request("PING"); // "PONG"
 *
 * `request` is what `use` would do with `FantaTCP.request`, without the second promise: the request itself stands in
 * the connection's slot table and tells the pool when the server has answered. So a caller that gave up still counts
 * against the member until the server is done with it, and a pooled request costs little more than a bare one.
 */

import { type ConnectionLostError, FantaError, OptionError } from "../errors.ts";
import { type Checks, checkOptions, duration, flag, signal, withoutUndefined } from "../options.ts";
import { defaultWaitMs } from "../pool/index.ts";
import {
  anyone,
  type PoolMember,
  type PoolParts,
  RoutingPool,
  type RoutingPoolOptions,
  routingChecks,
  Ticket,
  type Traffic,
} from "../routing/index.ts";
import { type Abortable, newPromise, takeReject, takeResolve, unwatchAbort, watchAbort } from "../runtime/index.ts";
import type { ChildSpec } from "../supervisor/index.ts";
import { addressOf, connectorChecks, fantaConnector, type FantaConnectorOptions } from "./connector.ts";
import { FantaRequest } from "./request.ts";
import type { FantaTCP } from "./tcp.ts";

export interface FantaPoolOptions<Out = string, In = string>
  extends FantaConnectorOptions<Out, In>,
    Omit<RoutingPoolOptions<FantaTCP<Out, In>>, "connector"> {}

export interface FantaPoolRequestOptions {
  /** The caller gives up: the request rejects with the signal's reason, wherever it is. */
  readonly signal?: AbortSignal;
  /** How long the request may take from now: waiting for a member and retries included. @default requestTimeoutMs */
  readonly timeoutMs?: number;
  /** Whether it may be sent again when its connection is lost under it. @default false */
  readonly idempotent?: boolean;
  /** What strategies may route by. */
  readonly key?: string | number;
}

const defaultRequestMs = 30_000;

/** Without its statics: `start` here takes no connector, and as classes the two would have to be alike. */
const Routing: new <R>(parts: PoolParts<R>) => RoutingPool<R> = RoutingPool;

export class FantaPool<Out = string, In = string> extends Routing<FantaTCP<Out, In>> {
  readonly #requestTimeoutMs: number;

  /**
   * Starts the pool and resolves when its tree is up, connected or not: `ready()` waits for connections. Where to:
   * `host` and `port`, or `endpoints`, each with `{ host, port }` as its data or `host:port` as its id.
   *
   * @throws {OptionError} before anything has started.
   */
  static async start<Out = string, In = string>(options: FantaPoolOptions<Out, In>): Promise<FantaPool<Out, In>> {
    const where = "FantaPool.start";
    checkOptions(where, options, poolChecks as unknown as Checks<FantaPoolOptions<Out, In>>);
    const { host, port, tls, codec, requestTimeoutMs, maxFrameBytes, runtime, ...routing } = options;
    if (options.endpoints === undefined && port === undefined) {
      throw new OptionError(`${where}: port`, "a port, or endpoints", undefined);
    }
    if (Array.isArray(options.endpoints)) for (const endpoint of options.endpoints) addressOf(endpoint);
    const given = { host, port, tls, codec, requestTimeoutMs, maxFrameBytes, runtime };
    const connector = fantaConnector<Out, In>(withoutUndefined(given));
    const poolOptions = withoutUndefined({ ...routing, runtime, connector }) as RoutingPoolOptions<FantaTCP<Out, In>>;
    return RoutingPool.startAs(
      where,
      (parts) => new FantaPool<Out, In>(parts, requestTimeoutMs ?? defaultRequestMs),
      poolOptions,
    );
  }

  static childSpec<Out = string, In = string>(options: FantaPoolOptions<Out, In>): ChildSpec {
    return { id: options?.name ?? "fanta", type: "supervisor", start: () => FantaPool.start(options) };
  }

  private constructor(parts: PoolParts<FantaTCP<Out, In>>, requestTimeoutMs: number) {
    super(parts);
    this.#requestTimeoutMs = requestTimeoutMs;
  }

  /**
   * Sends a request over one of the connections and resolves with its response. One that was certainly not sent is
   * sent over another without a word; one that may have been, only if it is `idempotent`.
   *
   * @throws {FantaError} as `FantaTCP.request`; `ERR_FANTA_TIMEOUT` bounds it all. {ConnectionLostError} when it may have
   *   been sent. {AcquireTimeoutError} when no member could take it within 5 s (or `timeoutMs`, if given), {QueueFullError},
   *   {OpenFailedError}, {ClosedError}: it was not sent. The signal's own reason.
   */
  request(payload: Out, options?: FantaPoolRequestOptions): Promise<In> {
    if (options !== undefined) {
      try {
        checkOptions("FantaPool.request", options, requestChecks);
      } catch (error) {
        return Promise.reject(error as Error);
      }
      if (options.idempotent === true && this.traffic.hedging !== undefined)
        return this.#requestHedged(payload, options);
    }
    const request = new PooledRequest<Out, In>(this.traffic, payload, options);
    request.begin(options?.timeoutMs ?? this.#requestTimeoutMs);
    return request.promise;
  }

  /** With two copies on their way there are two requests, and what joins them is `use`. */
  #requestHedged(payload: Out, options: FantaPoolRequestOptions): Promise<In> {
    const { runtime } = this.traffic;
    const { timeoutMs = this.#requestTimeoutMs, ...rest } = options;
    const endsAt = runtime.now() + timeoutMs;
    return this.use<In>(
      (connection, { signal: over }) =>
        connection.request(payload, { signal: over, timeoutMs: Math.max(endsAt - runtime.now(), 1) }),
      { ...rest, timeoutMs: options.timeoutMs ?? Math.min(timeoutMs, defaultWaitMs) },
    );
  }
}

/** A request of the pool's, from its caller to its answer, over as many connections as it takes. */
class PooledRequest<Out, In> extends FantaRequest<In> implements Abortable {
  readonly promise: Promise<In> = newPromise<In>();
  readonly #resolve: (value: In) => void = takeResolve<In>();
  readonly #reject: (error: unknown) => void = takeReject();
  readonly #traffic: Traffic<FantaTCP<Out, In>>;
  readonly #payload: Out;
  readonly #options: FantaPoolRequestOptions | undefined;
  #member: PoolMember<FantaTCP<Out, In>> | undefined = undefined;
  #ticket: RequestTicket<Out, In> | undefined = undefined;
  #startedAt = 0;
  #endsAt = 0;
  #tries = 0;
  /** Nobody waits for it, and the server works on it still. */
  #orphan = false;
  /** What it says of its member has been said. */
  #judged = false;

  constructor(traffic: Traffic<FantaTCP<Out, In>>, payload: Out, options: FantaPoolRequestOptions | undefined) {
    super();
    this.#traffic = traffic;
    this.#payload = payload;
    this.#options = options;
  }

  begin(timeoutMs: number): void {
    const traffic = this.#traffic;
    const options = this.#options;
    const now = traffic.now();
    traffic.begin(now);
    if (traffic.phase !== "open") {
      traffic.totals.rejected++;
      return this.#fail(traffic.closedError());
    }
    if (options?.signal !== undefined) {
      if (options.signal.aborted) return this.#fail(options.signal.reason);
      watchAbort(options.signal, this);
    }
    this.#endsAt = now + timeoutMs;
    const member = traffic.admit(options?.key === undefined ? anyone : { key: options.key }, now);
    if (member !== undefined) this.#send(member, timeoutMs, now);
    else this.#wait(options?.timeoutMs ?? Math.min(timeoutMs, defaultWaitMs));
  }

  /** The caller gives up. */
  aborted(reason: unknown): void {
    if (this.#ticket?.waiting) {
      this.#traffic.leave(this.#ticket);
      this.#fail(reason);
    } else this.#member?.resource.abandon(this, reason);
  }

  /** From the line: a member has room. */
  granted(member: PoolMember<FantaTCP<Out, In>>): void {
    const now = this.#traffic.runtime.now();
    this.#send(member, Math.max(this.#endsAt - now, 0), now);
  }

  /** From the line: nobody had, in time. */
  turnedAway(error: unknown): void {
    this.#fail(error);
  }

  override answered(value: In): void {
    this.#release(true, undefined);
    this.#settle();
    this.#traffic.totals.succeeded++;
    this.#resolve(value);
  }

  override refused(error: FantaError): void {
    this.#release(!this.#traffic.isFailure(error), error);
    this.#failAndCount(error);
  }

  /** The member keeps the count: the server is working on it still. */
  override gaveUp(error: unknown): void {
    const member = this.#member as PoolMember<FantaTCP<Out, In>>;
    this.#orphan = true;
    // A request that is out of time speaks against its member now, not when the answer comes.
    this.#judged = error instanceof FantaError;
    if (this.#judged) this.#traffic.judge(member, this.#startedAt, false, error);
    this.#traffic.orphaned(member, this.#startedAt);
    if (this.#judged) this.#failAndCount(error);
    else this.#fail(error);
  }

  override lost(error: ConnectionLostError | FantaError, sent: "no" | "maybe"): void {
    const traffic = this.#traffic;
    const member = this.#member;
    this.#release(false, error);
    const now = traffic.runtime.now();
    if (traffic.endError !== undefined) this.#failAndCount(traffic.endError);
    else if (now < this.#endsAt && traffic.mayRetry(error, sent, this.#tries, this.#options?.idempotent === true)) {
      this.#again(member as PoolMember<FantaTCP<Out, In>>, error, now);
    } else this.#failAndCount(error);
  }

  /** Comes before the outcome, which says how it went; after giving up, nothing else comes. */
  override released(): void {
    if (this.#orphan) this.#release(true, undefined);
  }

  #send(member: PoolMember<FantaTCP<Out, In>>, timeoutMs: number, now: number): void {
    this.#member = member;
    this.#startedAt = now;
    this.#tries++;
    member.resource.send(this, this.#payload, timeoutMs, now);
    const signal = this.#options?.signal;
    if (signal?.aborted) member.resource.abandon(this, signal.reason); // While the payload was encoded.
  }

  #again(from: PoolMember<FantaTCP<Out, In>>, error: unknown, now: number): void {
    const signal = this.#options?.signal;
    if (signal?.aborted) return this.#fail(signal.reason); // While it was neither in flight nor in line.
    const ticket = this.#newTicket();
    ticket.lastError = error;
    (ticket.tried ??= []).push(from);
    const member = this.#traffic.admitElsewhere(ticket);
    if (member !== undefined) this.#send(member, this.#endsAt - now, now);
    else this.#traffic.wait(ticket, this.#endsAt - now, true);
  }

  #wait(waitMs: number): void {
    this.#traffic.wait(this.#newTicket(), waitMs);
  }

  #newTicket(): RequestTicket<Out, In> {
    const before = this.#ticket;
    const ticket = new RequestTicket(this.#traffic, this);
    ticket.tried = before?.tried;
    if (this.#options?.key !== undefined) ticket.request = { key: this.#options.key };
    this.#ticket = ticket;
    return ticket;
  }

  #release(ok: boolean, error: unknown): void {
    const member = this.#member as PoolMember<FantaTCP<Out, In>>;
    this.#member = undefined;
    if (this.#orphan) member.orphans--;
    if (this.#judged) this.#traffic.releaseJudged(member);
    else this.#traffic.release(member, this.#startedAt, ok, error);
  }

  #failAndCount(error: unknown): void {
    this.#traffic.totals.failed++;
    this.#fail(error);
  }

  #fail(error: unknown): void {
    this.#settle();
    this.#reject(error);
  }

  #settle(): void {
    if (this.#options?.signal !== undefined) unwatchAbort(this.#options.signal, this);
    this.#traffic.end();
  }
}

/** Its place in line. A request that never waits has none. */
class RequestTicket<Out, In> extends Ticket<FantaTCP<Out, In>> {
  readonly #of: PooledRequest<Out, In>;

  constructor(traffic: Traffic<FantaTCP<Out, In>>, of: PooledRequest<Out, In>) {
    super(traffic);
    this.#of = of;
  }

  override granted(member: PoolMember<FantaTCP<Out, In>>): void {
    this.#of.granted(member);
  }

  override refused(error: unknown): void {
    this.#of.turnedAway(error);
  }
}

const requestChecks: Checks<FantaPoolRequestOptions> = {
  signal: signal(),
  timeoutMs: duration({ infinity: true }),
  idempotent: flag(),
  key: { expected: "a string or a number", accepts: (value) => typeof value === "string" || typeof value === "number" },
};

const poolChecks: Checks<FantaPoolOptions<never, never>> = {
  ...connectorChecks,
  ...(routingChecks as Checks<Omit<RoutingPoolOptions<FantaTCP<never, never>>, "connector">>),
};
