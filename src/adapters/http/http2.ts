/**
 * HTTP/2: one `node:http2` session over one socket.
 *
 * undici's client speaks HTTP/2 too. It is not used here, because a pool must know what that client keeps to itself or
 * decides otherwise (read in undici 7.30 and 8.13): how many streams the peer allows is not to be had from it; at a
 * GOAWAY it destroys the socket with all that is in flight, where the peer would have let it finish; a request that is
 * not idempotent, or has a stream for a body, waits until it is alone on the session; and it costs nearly twice the CPU.
 *
 * The session is registered when the peer's first SETTINGS have come, so that no burst goes out on a guess, and its
 * capacity is what they allow. After a GOAWAY it finishes what the peer has accepted and wants nothing new; streams that
 * the peer has not accepted, and those it refuses, were certainly not processed. When it is lost, whatever is on it is
 * told before the pool is.
 *
 * Promised: a body that was cut off is an error, never a shorter body. A stream counts until it is closed on both sides:
 * what is asked for between the end of a body and that moment would be held back by nghttp2 at the peer's limit, and left
 * there, since nothing is sent by itself when the room comes.
 */

import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from "node:http2";
import type { Socket } from "node:net";
import { Readable } from "node:stream";
import { errors } from "undici";
import type { OpenContext } from "../../connection/index.ts";
import { asError } from "../../errors.ts";
import type { Attempt } from "../../routing/index.ts";
import { Deadlines, type DurationList, type Runtime, type Timed } from "../../runtime/index.ts";
import { blameless, HttpAttempt } from "./attempt.ts";
import { type Body, bodyOf, sendBody } from "./body.ts";
import type { HttpConnection } from "./connection.ts";
import type { Exchange } from "./exchange.ts";
import { Http2Fields, requestHeaders } from "./headers.ts";
import { Hold } from "./hold.ts";
import type { HttpRequest } from "./request.ts";

const { NGHTTP2_CANCEL, NGHTTP2_ENHANCE_YOUR_CALM, NGHTTP2_HTTP_1_1_REQUIRED, NGHTTP2_REFUSED_STREAM } = constants;

/** What a stream may send before we have read it: undici's own figure, four times Node's, for longer ways. */
const streamWindowBytes = 262_144;

/** The same for a whole session; undici's figure. */
const sessionWindowBytes = 524_288;

/** What undici's options have for these, in milliseconds; 0 means no limit. */
const defaultTimeoutMs = 300_000;

/** Methods whose requests say how long they are even if that is nothing (RFC 9110, 8.6). */
const expectsBody: ReadonlySet<string> = new Set(["POST", "PUT", "PATCH", "QUERY"]);

/** Methods of which Node knows that there is no body to come. */
const endsByItself: ReadonlySet<string> = new Set(["GET", "HEAD", "DELETE"]);

export interface Http2Options {
  readonly origin: string;
  /** Never more streams than this, whatever the peer allows. */
  readonly maxConcurrentStreams: number;
  readonly headersTimeoutMs: number | undefined;
  readonly bodyTimeoutMs: number | undefined;
  readonly runtime: Runtime;
}

export class Http2Connection implements HttpConnection {
  readonly protocol = "h2";
  readonly origin: string;
  readonly scheme: string;
  readonly authority: string;
  readonly options: Http2Options;
  /** Those that wait for headers, or for more of a body. */
  readonly deadlines: Deadlines<Http2Attempt>;
  readonly #session: ClientHttp2Session;
  readonly #context: OpenContext;
  readonly #attempts = new Set<Http2Attempt>();
  #error: Error | undefined;

  /** Resolves when the peer has said what it allows. */
  static async open(socket: Socket, context: OpenContext, options: Http2Options): Promise<Http2Connection> {
    const session = connect(options.origin, {
      createConnection: () => socket,
      settings: { enablePush: false, initialWindowSize: streamWindowBytes },
    });
    const giveUp = (): void => session.destroy();
    context.signal.addEventListener("abort", giveUp, { once: true });
    try {
      await new Promise<void>((resolve, reject) => {
        let failed: Error | undefined;
        session.on("error", (error) => {
          failed = error;
        });
        session.once("connect", () => session.setLocalWindowSize(sessionWindowBytes));
        session.once("remoteSettings", () => resolve());
        session.once("close", () => reject(failed ?? new errors.SocketError("closed before its first SETTINGS")));
      });
    } finally {
      context.signal.removeEventListener("abort", giveUp);
    }
    return new Http2Connection(session, context, options);
  }

  private constructor(session: ClientHttp2Session, context: OpenContext, options: Http2Options) {
    const { protocol, host } = new URL(options.origin);
    this.origin = options.origin;
    this.scheme = protocol.slice(0, -1);
    this.authority = host;
    this.options = options;
    this.deadlines = new Deadlines(options.runtime, (attempt) => attempt.late(), { keepAlive: false });
    this.#session = session;
    this.#context = context;
    session.on("error", (error) => {
      this.#error = error;
    });
    session.on("remoteSettings", () => context.capacityChanged());
    session.on("goaway", () => context.draining());
    session.once("close", () => this.#lost());
    session.unref(); // An idle pool lets the program end.
  }

  get capacity(): number {
    const { maxConcurrentStreams = Infinity } = this.#session.remoteSettings; // None when it is destroyed.
    return Math.min(maxConcurrentStreams, this.options.maxConcurrentStreams);
  }

  /** It, or the peer, has ended it: what closes now closes for that. @internal */
  get ending(): Error | undefined {
    return this.#session.destroyed ? this.#reason() : undefined;
  }

  begin(exchange: Exchange, routed: Attempt<HttpConnection>): HttpAttempt {
    return new Http2Attempt(this, exchange, routed);
  }

  /** @internal */
  started(attempt: Http2Attempt): ClientHttp2Session {
    if (this.#attempts.size === 0 && !this.#session.destroyed) this.#session.ref();
    this.#attempts.add(attempt);
    return this.#session;
  }

  /** Whether the peer still answers: a ping must come back. One that is finishing sends none, and has its time to finish. */
  check(signal: AbortSignal): Promise<void> {
    if (this.#session.closed) return Promise.resolve();
    return new Promise((resolve, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason), { once: true });
      const sent = this.#session.ping((error) => (error === null ? resolve() : reject(error)));
      if (!sent) reject(new errors.SocketError("too many pings without an answer"));
    });
  }

  /** There are no stream numbers left. @internal */
  usedUp(): void {
    this.#context.draining();
  }

  /** Says GOAWAY and hangs up. What should have finished has: the pool has seen to that, and the peer may never. */
  async close(): Promise<void> {
    const session = this.#session;
    if (session.destroyed) return;
    const closed = new Promise((resolve) => session.once("close", resolve));
    session.destroy();
    await closed;
  }

  /** @internal */
  ended(attempt: Http2Attempt): void {
    this.#attempts.delete(attempt);
    if (this.#attempts.size === 0 && !this.#session.destroyed) this.#session.unref();
  }

  #reason(): Error {
    return this.#error ?? new errors.SocketError("other side closed");
  }

  #lost(): void {
    const error = this.#reason();
    // First those on it, who know whether they may go elsewhere.
    for (const attempt of this.#attempts) attempt.lost(error);
    this.#context.lost(error);
  }
}

export class Http2Attempt extends HttpAttempt implements Timed {
  deadline = 0;
  timedBefore: Timed | undefined = undefined;
  timedAfter: Timed | undefined = undefined;
  timedIn: DurationList | undefined = undefined;
  readonly #connection: Http2Connection;
  #stream: ClientHttp2Stream | undefined;
  /** What the handler has of us. */
  #hold: Hold<Http2Attempt> | undefined = undefined;
  #trailers: Http2Fields = noFields;
  #bodyTimeoutMs: number = defaultTimeoutMs;
  #answering = false;
  /** All of the response has come. */
  #whole = false;
  /** What it is ending for, before its stream has closed. */
  #error: Error | undefined;
  /** What it ends with when it took too long. */
  #late: Error | undefined;
  /** A whole response has been handed on. */
  #complete = false;

  constructor(connection: Http2Connection, exchange: Exchange, routed: Attempt<HttpConnection>) {
    super(exchange, routed);
    this.#connection = connection;
  }

  send(): void {
    const session = this.#connection.started(this);
    const { request } = this.exchange;
    let body: Body | undefined;
    try {
      body = this.#open(session, request);
    } catch (thrown) {
      // A session that is ending takes nothing: it was not sent. Else the request is one that cannot be sent.
      const error = asError(thrown);
      const ending = this.exchange.attemptFailed(this, error, session.closed ? "no" : undefined);
      this.#end(session.closed ? ending : blameless);
      return;
    }
    if (body === undefined) this.#requestSent();
    else if (request.expectContinue) this.#stream?.once("continue", () => this.#sendBody(body));
    else this.#sendBody(body);
  }

  abort(reason: Error): void {
    this.failed(reason);
    this.#stop();
  }

  /** Too long nothing was heard of it. */
  late(): void {
    const error = this.#answering ? new errors.BodyTimeoutError() : new errors.HeadersTimeoutError();
    this.#late = this.exchange.attemptFailed(this, error, undefined);
    this.#stop();
  }

  /** The handler has room again. */
  resume(): void {
    this.#watch(this.#bodyTimeoutMs);
    this.#stream?.resume();
  }

  /** The session has gone. */
  lost(error: Error): void {
    this.failed(error);
    this.closed();
  }

  #open(session: ClientHttp2Session, request: HttpRequest): Body | undefined {
    const connection = this.#connection;
    if (session.closed) throw new errors.SocketError("the session takes no more streams");
    if (request.upgrade || request.method === "CONNECT") {
      throw new errors.NotSupportedError("upgrades and CONNECT need HTTP/1.1: start the dispatcher without HTTP/2");
    }
    const headers = requestHeaders(request, connection.scheme, connection.authority);
    const body = bodyOf(request.body);
    if (body?.type !== undefined) headers["content-type"] ??= body.type;
    if (body?.length !== undefined) {
      const { "content-length": claimed = body.length } = headers;
      if (Number(claimed) !== body.length) throw new errors.RequestContentLengthMismatchError();
      headers["content-length"] = String(body.length);
    } else if (body === undefined && expectsBody.has(request.method)) headers["content-length"] ??= "0";
    if (!this.exchange.sending(this)) throw blameless;
    // Told nothing, Node ends these by itself; an option here costs it (20) as much as opening the stream.
    const asUsual = body === undefined && endsByItself.has(request.method);
    const stream = asUsual ? session.request(headers) : session.request(headers, { endStream: body === undefined });
    this.#stream = stream;
    listen(stream as OwnStream, this);
    const { headersTimeoutMs = defaultTimeoutMs, bodyTimeoutMs = defaultTimeoutMs } = connection.options;
    this.#bodyTimeoutMs = request.bodyTimeout ?? bodyTimeoutMs;
    this.#watch(request.headersTimeout ?? headersTimeoutMs);
    return body;
  }

  #sendBody(body: Body): void {
    sendBody(
      body,
      this.#stream as ClientHttp2Stream,
      (chunk) => this.#tell(() => this.exchange.listener.bodySent(chunk)),
      () => this.#requestSent(),
      (error) => this.#bodyFailed(error),
    );
  }

  #requestSent(): void {
    this.#tell(() => this.exchange.listener.requestSent());
  }

  #bodyFailed(error: Error): void {
    const stream = this.#stream as ClientHttp2Stream;
    // The stream broke under it, or the response was there first: that is said elsewhere.
    if (this.#complete || this.#late !== undefined || this.#error !== undefined || stream.rstCode) return;
    this.exchange.fail(error);
    this.#error = error;
    this.#stop();
  }

  /** 1xx. */
  informed(flat: readonly string[]): void {
    const status = statusOf(flat);
    if (status !== 100)
      this.#tell(() => this.exchange.headers(this, status, new Http2Fields(flat), () => undefined, ""));
  }

  responded(stream: OwnStream, flat: readonly string[]): void {
    this.#answering = true;
    this.#watch(this.#bodyTimeoutMs);
    this.#tell(() => this.exchange.listener.responseStarted());
    const hold = new Hold<Http2Attempt>(this);
    this.#hold = hold;
    const resume = (): void => hold.on?.resume();
    stream.on("data", onData);
    if (!this.#tell(() => this.exchange.headers(this, statusOf(flat), new Http2Fields(flat), resume, "")))
      this.#pause(stream);
  }

  /** A piece of the body. */
  more(stream: ClientHttp2Stream, chunk: Buffer): void {
    this.#watch(this.#bodyTimeoutMs);
    if (!this.#tell(() => this.exchange.data(this, chunk))) this.#pause(stream);
  }

  trailed(flat: readonly string[]): void {
    this.#trailers = new Http2Fields(flat);
  }

  /** The last frame of its response has come. */
  ends(): void {
    this.#whole = true;
  }

  /** What it will end with, once its stream has closed. The first that is said counts. */
  failed(error: Error): void {
    this.#error ??= error;
  }

  /** The handler has no room: as long as it waits, nothing is late. */
  #pause(stream: ClientHttp2Stream): void {
    stream.pause();
    this.#connection.deadlines.remove(this);
  }

  /** All that came has been read. The handler hears of it when the stream is closed, for only then is there room. */
  read(stream: ClientHttp2Stream): void {
    if (!this.#answering || !this.#whole || this.#error !== undefined || stream.rstCode) return;
    this.#complete = true;
    this.#connection.deadlines.remove(this);
    // What is left of the request's body nobody needs, and the peer may never read it.
    if (!stream.writableFinished) stream.close(NGHTTP2_CANCEL);
  }

  closed(): void {
    if (this.#complete) {
      this.#end(this.exchange.failure);
      this.exchange.complete(this, this.#trailers);
      return;
    }
    if (this.#late !== undefined) {
      this.#end(this.#late);
      return;
    }
    const { rstCode: code } = this.#stream as ClientHttp2Stream;
    const error = this.#error ?? this.#connection.ending ?? new errors.SocketError(`stream closed with code ${code}`);
    if (!this.exchange.wants(this)) this.#end(blameless);
    else if (isUsedUp(error)) {
      this.#connection.usedUp();
      this.#end(this.exchange.attemptFailed(this, error, "no"));
    } else if (code === NGHTTP2_REFUSED_STREAM) this.#end(this.exchange.attemptRefused(this, error));
    else if (code === NGHTTP2_HTTP_1_1_REQUIRED || code === NGHTTP2_ENHANCE_YOUR_CALM) {
      this.#end(this.exchange.attemptFailed(this, error, undefined));
    } else this.#end(this.exchange.attemptFailed(this, error, "maybe"));
  }

  #stop(): void {
    if (this.#stream === undefined || this.#stream.destroyed) return;
    this.#stream.close(NGHTTP2_CANCEL);
  }

  /** What the handler throws ends the request, as with undici. */
  #tell(act: () => boolean | void): boolean {
    if (!this.exchange.wants(this)) return true;
    try {
      return act() !== false;
    } catch (thrown) {
      this.exchange.abort(asError(thrown));
      return true;
    }
  }

  #watch(timeoutMs: number): void {
    const { deadlines, options } = this.#connection;
    deadlines.remove(this);
    if (timeoutMs > 0) deadlines.add(this, options.runtime.now(), timeoutMs);
  }

  #end(error: Error | undefined): void {
    if (!this.end(error)) return;
    this.#hold?.release();
    this.#connection.deadlines.remove(this);
    this.#connection.ended(this);
  }
}

const noFields = new Http2Fields([]);

/** Whose stream it is. So all streams share their listeners: closures for each were a third of what we kept of it. */
const owner: unique symbol = Symbol("attempt");

interface OwnStream extends ClientHttp2Stream {
  [owner]: Http2Attempt;
  /** Node gives headers a second time, as they came; its types do not say so. */
  on(event: "headers" | "response" | "trailers", listener: FieldsListener): this;
  on(event: string, listener: (this: OwnStream, ...args: never[]) => void): this;
}

type FieldsListener = (this: OwnStream, headers: unknown, flags: number, flat: readonly string[]) => void;

function listen(stream: OwnStream, attempt: Http2Attempt): void {
  stream[owner] = attempt;
  stream.push = onPush;
  stream.on("headers", onHeaders);
  stream.on("response", onResponse);
  stream.on("trailers", onTrailers);
  stream.on("end", onEnd);
  stream.on("error", onError);
  stream.on("close", onClose);
}

/**
 * Node ends the reading of a stream at its last frame, and just so when it is reset with NO_ERROR in the middle of its
 * body. By then it is closed, and that tells them apart.
 */
function onPush(this: OwnStream, chunk: unknown, encoding?: BufferEncoding): boolean {
  if (chunk === null && !this.closed) this[owner].ends();
  return Readable.prototype.push.call(this, chunk, encoding);
}

function onHeaders(this: OwnStream, _: unknown, __: number, flat: readonly string[]): void {
  this[owner].informed(flat);
}

function onResponse(this: OwnStream, _: unknown, __: number, flat: readonly string[]): void {
  this[owner].responded(this, flat);
}

function onData(this: OwnStream, chunk: Buffer): void {
  this[owner].more(this, chunk);
}

function onTrailers(this: OwnStream, _: unknown, __: number, flat: readonly string[]): void {
  this[owner].trailed(flat);
}

function onEnd(this: OwnStream): void {
  this[owner].read(this);
}

function onError(this: OwnStream, error: Error): void {
  this[owner].failed(error);
}

function onClose(this: OwnStream): void {
  this[owner].closed();
}

/** A session has 2³⁰ streams in it. Then it can only finish. */
function isUsedUp(error: Error): boolean {
  return (error as { code?: unknown }).code === "ERR_HTTP2_OUT_OF_STREAMS";
}

function statusOf(flat: readonly string[]): number {
  return Number(flat[flat.indexOf(":status") + 1]);
}
