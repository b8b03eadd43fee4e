/**
 * HTTP/1.1: one undici `Client` over one socket.
 *
 * undici's client connects when it has something to send, and again when it has lost its socket. Here a connection is
 * registered exactly while it can serve, so we open the socket ourselves, first, and hand it to the client when it asks
 * for one, which it does in the first `dispatch`. Until then we watch it.
 *
 * HTTP/1.1 uses up sockets: a server may close one after any response, and giving up a request costs its socket. A
 * connection that has served is therefore reopened in its place; meanwhile it has room for nobody (capacity 0). If that
 * fails it is lost, and so it is when it goes with a request unanswered, or unused: then the pool backs off as it does
 * for any other. Every reopening is paid for by a request, so a server that only hangs up is not called in a loop.
 *
 * What undici holds back (a turn of the event loop before a socket is used again, what must not be pipelined) stands in
 * the client's own queue, within the capacity of this connection.
 */

import type { EventEmitter } from "node:events";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import * as undici from "undici";
import type { OpenContext } from "../../connection/index.ts";
import { asError } from "../../errors.ts";
import type { Attempt } from "../../routing/index.ts";
import { emit } from "../../telemetry/index.ts";
import { blameless, HttpAttempt } from "./attempt.ts";
import type { HttpConnection } from "./connection.ts";
import type { Exchange } from "./exchange.ts";
import { RawFields, type RawHeaders } from "./listener.ts";
import type { HttpRequest } from "./request.ts";

/** The options of undici's client that are the user's. */
export type ClientOptions = Omit<
  undici.Client.Options,
  | "connect"
  | "pipelining"
  | "allowH2"
  | "maxConcurrentStreams"
  | "initialWindowSize"
  | "connectionWindowSize"
  | "pingInterval"
>;

/** undici 8 takes handlers of the new shape only. undici 7 takes both, and the old one without a detour. */
const onlyNewHandlers: boolean = "Dispatcher1Wrapper" in undici;

/** What a client asks its socket with. */
type Handover = (error: Error | null, socket: Socket | null) => void;

export interface Http1Options {
  /** What it stands for: host header and all. */
  readonly origin: string;
  readonly pipelining: number;
  readonly client: ClientOptions;
  /** Opens another socket to the same endpoint. */
  readonly openSocket: (signal: AbortSignal) => Promise<Socket>;
}

export class Http1Connection implements HttpConnection {
  readonly protocol = "http/1.1";
  readonly origin: string;
  capacity: number;
  readonly #options: Http1Options;
  readonly #context: OpenContext;
  readonly #client: undici.Client;
  /** For an encrypted origin, what the client thinks that the server has proved to be. It must never change its mind. */
  readonly #servername: string | undefined;
  #socket: Socket | undefined;
  /** Whether the client has the socket. */
  #handedOver = false;
  /** The client asks for a socket while there is none. */
  #asking: Handover | undefined;
  /** Whether a request has been sent over this socket. */
  #used = false;
  /** Whether one has ended that should not have. */
  #failed = false;
  readonly #closing = new AbortController();

  constructor(socket: Socket, context: OpenContext, options: Http1Options) {
    this.origin = options.origin;
    this.capacity = options.pipelining;
    this.#context = context;
    this.#options = options;
    const { protocol, hostname } = new URL(options.origin);
    this.#servername = protocol === "https:" ? hostname : undefined;
    this.#client = new undici.Client(options.origin, {
      ...options.client,
      pipelining: options.pipelining,
      // Later: undici looks at what it has to send when a socket comes after it has asked, not while it is asking.
      connect: (_, handover) => queueMicrotask(() => this.#handOver(handover as Handover)),
    });
    this.#client.on("disconnect", (_origin, _targets, error) => this.#disconnected(error));
    (this.#client as EventEmitter).on("error", (error: unknown) => {
      emit("callback.failed", { where: "HttpDispatcher: handler", error: asError(error) });
    });
    this.#take(socket);
  }

  begin(exchange: Exchange, routed: Attempt<HttpConnection>): HttpAttempt {
    return new Http1Attempt(this, exchange, routed);
  }

  /** @internal */
  dispatch(request: HttpRequest, attempt: Http1Attempt): void {
    // A servername would make the client open another socket; ours has proved what it has.
    const options = this.#servername === undefined ? request : { ...request, servername: this.#servername };
    const handler: unknown = onlyNewHandlers ? new NewHandler(attempt) : attempt;
    this.#client.dispatch(options as undici.Dispatcher.DispatchOptions, handler as undici.Dispatcher.DispatchHandler);
  }

  /** There is no asking it: a connection that works answers requests, and nothing else. */
  async check(): Promise<void> {
    if (!this.alive) throw new undici.errors.SocketError("closed");
  }

  async close(reason: Error | string): Promise<void> {
    this.capacity = 0;
    this.#closing.abort(reason);
    if (!this.#handedOver) this.#socket?.destroy();
    await this.#client.destroy(reason instanceof Error ? reason : null);
  }

  /** Whether there is a socket that can be written to. @internal */
  get alive(): boolean {
    return this.#socket?.destroyed === false;
  }

  /** An attempt begins to be sent. @internal */
  began(): void {
    this.#used = true;
  }

  /** One has ended as it should not have. @internal */
  failed(): void {
    this.#failed = true;
  }

  /** After an attempt: a socket that the client has given up must not be chosen before there is another. @internal */
  look(): void {
    if (this.#socket?.destroyed === true) this.#setCapacity(0);
  }

  /** A fresh socket, which the client does not know yet. */
  #take(socket: Socket): void {
    this.#socket = socket;
    this.#handedOver = false;
    this.#used = false;
    this.#failed = false;
    socket.unref(); // An idle pool lets the program end.
    const gone = (): void => {
      if (this.#socket === socket && !this.#handedOver) this.#gone(new undici.errors.SocketError("closed before use"));
    };
    socket.once("close", gone);
    socket.once("end", gone);
    socket.on("error", () => undefined); // "close" follows.
    const asking = this.#asking;
    this.#asking = undefined;
    if (asking !== undefined) this.#handOver(asking);
    this.#setCapacity(this.#options.pipelining);
  }

  /** The client wants its socket. */
  #handOver(handover: Handover): void {
    const socket = this.#socket;
    if (socket === undefined && !this.#closing.signal.aborted && this.capacity === 0) {
      this.#asking = handover; // It is being opened.
    } else if (socket === undefined || socket.destroyed || this.#handedOver) {
      handover(new Gone(new undici.errors.SocketError("closed")), null);
    } else {
      this.#handedOver = true;
      socket.ref(); // From here on the client does this.
      handover(null, socket);
    }
  }

  /** The client has lost its socket. Whatever was on it has been told. */
  #disconnected(error: Error): void {
    if (this.#closing.signal.aborted) return;
    // "For information" means that undici has closed it on purpose: after a response, an abort, an upgrade, in idleness.
    const onPurpose = codeOf(error) === "UND_ERR_INFO";
    if (this.#used && (onPurpose || !this.#failed)) void this.#reopen();
    else this.#gone(error);
  }

  async #reopen(): Promise<void> {
    this.#socket = undefined;
    this.#setCapacity(0);
    try {
      const socket = await this.#options.openSocket(this.#closing.signal);
      if (this.#closing.signal.aborted) socket.destroy();
      else this.#take(socket);
    } catch (thrown) {
      if (!this.#closing.signal.aborted) this.#gone(asError(thrown));
    }
  }

  #gone(error: Error): void {
    this.#socket?.destroy();
    this.#socket = undefined;
    this.capacity = 0;
    this.#closing.abort(error);
    const asking = this.#asking;
    this.#asking = undefined;
    asking?.(new Gone(error), null);
    this.#context.lost(error);
  }

  #setCapacity(capacity: number): void {
    if (capacity === this.capacity) return;
    this.capacity = capacity;
    this.#context.capacityChanged();
  }
}

/** Why there is no socket. In a wrapping, since an error with undici's own code would make the client ask again. */
class Gone extends Error {
  override readonly cause: Error;

  constructor(cause: Error) {
    super("the connection has gone");
    this.cause = cause;
  }
}

/** One request on a client: a handler of the old shape, which undici 7 takes as it is. */
class Http1Attempt extends HttpAttempt {
  readonly #connection: Http1Connection;
  /** How to abort it; there since the client has begun to send it. */
  #abort: ((reason: Error) => void) | undefined;
  /** It was sent, its socket went, and undici would send it again. */
  #again = false;

  constructor(connection: Http1Connection, exchange: Exchange, routed: Attempt<HttpConnection>) {
    super(exchange, routed);
    this.#connection = connection;
  }

  send(): void {
    this.#connection.dispatch(this.exchange.request, this);
  }

  abort(reason: Error): void {
    // One that the client has not begun with is not begun any more: `onConnect` says no.
    this.#abort?.(reason);
  }

  /**
   * Comes again when undici wants to send again what shared a pipeline with a request that was aborted: its response may
   * have begun by then, and it need not be one that may be done twice. Whether it is, the pool decides.
   */
  onConnect(abort: (reason: Error) => void): void {
    if (this.#abort !== undefined) {
      this.#again = true;
      throw new undici.errors.SocketError("closed by another request in its pipeline");
    }
    this.#abort = abort;
    // A throw ends the request and spares the socket, which an abort would cost.
    if (!this.exchange.sending(this)) throw blameless;
    this.#connection.began();
  }

  onBodySent(chunk: Uint8Array): void {
    if (this.exchange.wants(this)) this.exchange.listener.bodySent(chunk);
  }

  onRequestSent(): void {
    if (this.exchange.wants(this)) this.exchange.listener.requestSent();
  }

  onResponseStarted(): void {
    if (this.exchange.wants(this)) this.exchange.listener.responseStarted();
  }

  onHeaders(statusCode: number, headers: RawHeaders, resume: () => void, statusText: string): boolean {
    return this.exchange.headers(this, statusCode, new RawFields(headers), resume, statusText);
  }

  onData(chunk: Buffer): boolean {
    return this.exchange.data(this, chunk);
  }

  onComplete(trailers: RawHeaders): void {
    this.#end(true, this.exchange.failure);
    this.exchange.complete(this, trailers.length === 0 ? noFields : new RawFields(trailers));
  }

  onUpgrade(statusCode: number, headers: RawHeaders, socket: Duplex): void {
    try {
      this.exchange.upgraded(this, statusCode, new RawFields(headers), socket);
    } finally {
      this.#end(true, undefined);
    }
  }

  onError(given: Error): void {
    const error = given instanceof Gone ? given.cause : given;
    if (!this.exchange.wants(this)) {
      this.#end(true, blameless); // Given up: that the socket went with it is the price.
      return;
    }
    const lost = this.#again || (!this.#connection.alive && !isAnAnswer(error));
    const sent = this.#abort === undefined ? "no" : "maybe";
    const ending = this.exchange.attemptFailed(this, error, lost ? sent : undefined);
    this.#end(false, lost || isAnAnswer(error) ? ending : blameless);
  }

  override tellPool(): void {
    this.#connection.look(); // Before the pool can choose it again.
    super.tellPool();
  }

  #end(ok: boolean, error: Error | undefined): void {
    if (this.end(error) && !ok) this.#connection.failed();
  }
}

const noFields = new RawFields([]);

/** The same in the new shape. */
class NewHandler {
  readonly #attempt: Http1Attempt;

  constructor(attempt: Http1Attempt) {
    this.#attempt = attempt;
  }

  onRequestStart(controller: undici.Dispatcher.DispatchController): void {
    this.#attempt.onConnect((reason) => controller.abort(reason));
  }

  onBodySent(chunk: Uint8Array): void {
    this.#attempt.onBodySent(chunk);
  }

  onRequestSent(): void {
    this.#attempt.onRequestSent();
  }

  onResponseStarted(): void {
    this.#attempt.onResponseStarted();
  }

  onResponseStart(
    controller: undici.Dispatcher.DispatchController,
    statusCode: number,
    _: unknown,
    statusText: string,
  ): void {
    const more = this.#attempt.onHeaders(
      statusCode,
      controller.rawHeaders as RawHeaders,
      () => controller.resume(),
      statusText,
    );
    if (!more) controller.pause();
  }

  onResponseData(controller: undici.Dispatcher.DispatchController, chunk: Buffer): void {
    if (!this.#attempt.onData(chunk)) controller.pause();
  }

  onResponseEnd(controller: undici.Dispatcher.DispatchController): void {
    this.#attempt.onComplete((controller.rawTrailers ?? []) as RawHeaders);
  }

  onRequestUpgrade(
    controller: undici.Dispatcher.DispatchController,
    statusCode: number,
    _: unknown,
    socket: Duplex,
  ): void {
    this.#attempt.onUpgrade(statusCode, controller.rawHeaders as RawHeaders, socket);
  }

  onResponseError(_: unknown, error: Error): void {
    this.#attempt.onError(error);
  }
}

/** Whether an error tells what the server did, or did not do in time: not a loss, but no fault of the caller's either. */
function isAnAnswer(error: Error): boolean {
  return error instanceof undici.errors.HTTPParserError || /^UND_ERR_(?:HEADERS|BODY|RES)_/.test(codeOf(error));
}

function codeOf(error: Error): string {
  const { code } = error as { code?: unknown };
  return typeof code === "string" ? code : "";
}
