/**
 * The server's side of one connection: requests in, each answered exactly once.
 *
 * A handler that returns a value is answered on the spot: nothing is kept of its request, and its answer leaves with the
 * others at the end of the turn. One that returns a promise is kept under its id until it settles, so that a cancel can
 * find it. What nobody looks at is not made: a context has no signal until the handler asks for it.
 *
 * What a client can make us hold is bounded. While more than a mebibyte of answers has not left, because it does not
 * read them, nothing more is read from it. And of the requests it has unanswered here, one above `maxInFlight` is
 * refused with an error response. Both are given back as it reads.
 *
 * A client that has ended its side, or lost the line, waits for nothing: its handlers' signals are aborted and what they
 * still return is dropped. What was answered before still leaves.
 */

import type { PeerCertificate, TLSSocket } from "node:tls";
import { asError, FantaError } from "../errors.ts";
import { Channel, type ChannelUser, type Wire } from "../multiplex/index.ts";
import { emit } from "../telemetry/index.ts";
import * as codec from "./codec.ts";
import { putPayload, sendBytes, sendEmpty, sendPayload } from "./outgoing.ts";
import { type Codec, codecError, messageOf } from "./payload.ts";

/** What a handler is told besides the request. */
export interface FantaContext {
  /** The request's id, unique among those in flight on its connection. */
  readonly id: number;
  /** Aborted when the client gives up or is gone. The request is answered all the same, if anyone can hear it. */
  readonly signal: AbortSignal;
  readonly remoteAddress: string | undefined;
  readonly remotePort: number | undefined;
  /** Over TLS with `requestCert`: the client's certificate. */
  readonly peerCertificate: PeerCertificate | undefined;
}

/**
 * Answers a request with what it returns, or its promise resolves with; with an error response when it throws. Only the
 * message of what is thrown goes to the client, never its stack.
 */
export type FantaHandler<In = string, Out = string> = (request: In, context: FantaContext) => Out | Promise<Out>;

export interface SessionOptions<Out, In> {
  readonly codec: Codec<Out, In>;
  readonly handler: FantaHandler<In, Out>;
  readonly maxFrameBytes: number;
  readonly maxInFlight: number;
  readonly name: string;
}

/** A megabyte is more than a healthy client leaves unread, and little enough for thousands of unhealthy ones. */
const unreadBytes = 2 ** 20;

export class Session<Out, In> implements ChannelUser, codec.FrameSink {
  readonly #options: SessionOptions<Out, In>;
  readonly #codec: Codec<Out, In>;
  readonly #handler: FantaHandler<In, Out>;
  readonly #channel: Channel;
  readonly #writer: Channel["writer"];
  readonly #closed: () => void;
  /** Handlers that have returned a promise, by id. */
  readonly #working = new Map<number, Context>();
  /** It has ended or is gone: nothing more is to be answered. */
  #over = false;
  #why = "";
  #paused = false;
  readonly remoteAddress: string | undefined;
  readonly remotePort: number | undefined;

  constructor(wire: Wire, options: SessionOptions<Out, In>, closed: () => void) {
    this.#options = options;
    this.#codec = options.codec;
    this.#handler = options.handler;
    this.#closed = closed;
    this.remoteAddress = wire.socket.remoteAddress;
    this.remotePort = wire.socket.remotePort;
    this.#channel = new Channel(wire, this);
    this.#writer = this.#channel.writer;
  }

  get peerCertificate(): PeerCertificate | undefined {
    const socket = this.#channel.socket as Partial<TLSSocket>;
    const found = socket.getPeerCertificate?.();
    return found !== undefined && Object.keys(found).length > 0 ? found : undefined;
  }

  /** Tells the client to finish and to close. It is served until it does. */
  goaway(): void {
    if (!this.#over) sendEmpty(this.#writer, 0, codec.goaway);
  }

  destroy(): void {
    this.#end("the server has closed the connection");
    this.#channel.destroy();
  }

  // What the channel calls.

  get stopped(): boolean {
    return this.#over || this.#paused;
  }

  take(bytes: Buffer, start: number, end: number): number {
    return codec.readFrames(bytes, start, end, this.#options.maxFrameBytes, this);
  }

  needs(bytes: Buffer, start: number, end: number): number {
    return codec.frameNeeds(bytes, start, end);
  }

  frame(id: number, kind: codec.Kind, bytes: Buffer, start: number, end: number): boolean {
    switch (kind) {
      case codec.data:
        this.#request(id, bytes, start, end);
        break;
      case codec.ping:
        sendBytes(this.#writer, id, codec.pong, bytes.subarray(start, end));
        break;
      case codec.cancel:
        // An answer may have crossed it on the way: then there is nothing to cancel.
        this.#working.get(id)?.abort("the client gave up");
        break;
      case codec.error:
      case codec.pong:
      case codec.goaway:
        throw codec.protocolError(
          `The client sent a frame of kind ${kind}, which only answers a server's or is one's.`,
        );
    }
    if (this.#writer.pendingBytes > unreadBytes && !this.#paused) {
      this.#paused = true;
      this.#channel.pause();
    }
    return !this.stopped;
  }

  drained(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#channel.resume();
  }

  ended(): void {
    this.#end("the client has closed the connection");
    this.#channel.finish();
  }

  failed(error: Error): void {
    if (error instanceof FantaError) emit("fanta.protocolFailed", { side: "server", error });
    this.#end("the connection to the client is lost");
  }

  closed(): void {
    this.#end("the connection to the client is lost");
    this.#closed();
  }

  #request(id: number, bytes: Buffer, start: number, end: number): void {
    if (this.#working.size > 0 && this.#working.has(id)) {
      throw codec.protocolError(`The client used the id ${id >>> 0} for two requests at once.`);
    }
    if (this.#working.size >= this.#options.maxInFlight) {
      this.#answerError(
        id,
        `too many requests: ${this.#options.maxInFlight} of this connection are unanswered (maxInFlight)`,
      );
      return;
    }
    let request: In;
    try {
      request = this.#codec.decode(bytes, start, end);
    } catch (thrown) {
      this.#answerError(id, codecError("the request could not be decoded", thrown).message);
      return;
    }
    const context = new Context(id, this as unknown as Remote);
    let result: Out | PromiseLike<Out>;
    try {
      result = this.#handler(request, context);
      if (isThenable(result)) {
        this.#await(context, result);
        return;
      }
    } catch (thrown) {
      this.#failed(context, thrown);
      return;
    }
    this.#answer(id, result);
  }

  #await(context: Context, result: PromiseLike<Out>): void {
    if (this.#over)
      context.abort(this.#why); // The handler itself has ended the server.
    else this.#working.set(context.signed, context);
    // Promise.resolve: a thenable of somebody's making may call back twice.
    Promise.resolve(result).then(
      (value) => {
        this.#working.delete(context.signed);
        this.#answer(context.signed, value);
      },
      (thrown: unknown) => {
        this.#working.delete(context.signed);
        this.#failed(context, thrown);
      },
    );
  }

  /** With nobody left to be answered it is an event, unless the handler only says that it was told to stop. */
  #failed(context: Context, thrown: unknown): void {
    if (!this.#over) return this.#answerError(context.signed, messageOf(thrown));
    context.abort(this.#why);
    if (context.explains(thrown)) return;
    emit("callback.failed", {
      where: `${this.#options.name}: handler, after its client had gone`,
      error: asError(thrown),
    });
  }

  #answer(id: number, value: Out): void {
    if (this.#over) return;
    let size: number;
    try {
      size = putPayload(this.#writer, this.#codec.encode(value), this.#options.maxFrameBytes - codec.overheadBytes);
    } catch (thrown) {
      this.#answerError(id, codecError("the response could not be encoded", thrown).message);
      return;
    }
    if (this.#over) return; // The codec is the user's code, too.
    if (size < 0) {
      this.#answerError(id, `the response is larger than maxFrameBytes (${this.#options.maxFrameBytes}) allows`);
    } else sendPayload(this.#writer, size, id, codec.data);
  }

  #answerError(id: number, message: string): void {
    if (this.#over) return;
    const most = this.#options.maxFrameBytes - codec.overheadBytes;
    const bytes = Buffer.from(message);
    sendBytes(this.#writer, id, codec.error, bytes.length > most ? wholeCharacters(bytes, most) : bytes);
  }

  #end(why: string): void {
    if (this.#over) return;
    this.#over = true;
    this.#why = why;
    const working = [...this.#working.values()];
    this.#working.clear();
    for (const context of working) context.abort(why);
  }
}

type Remote = Pick<FantaContext, "remoteAddress" | "remotePort" | "peerCertificate">;

class Context implements FantaContext {
  /** The id as the codec has it. */
  readonly signed: number;
  readonly #remote: Remote;
  #controller: AbortController | undefined = undefined;
  #reason: DOMException | undefined = undefined;

  constructor(id: number, remote: Remote) {
    this.signed = id;
    this.#remote = remote;
  }

  get id(): number {
    return this.signed >>> 0;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#reason !== undefined) this.#controller.abort(this.#reason);
    }
    return this.#controller.signal;
  }

  get remoteAddress(): string | undefined {
    return this.#remote.remoteAddress;
  }

  get remotePort(): number | undefined {
    return this.#remote.remotePort;
  }

  get peerCertificate(): PeerCertificate | undefined {
    return this.#remote.peerCertificate;
  }

  abort(why: string): void {
    if (this.#reason !== undefined) return;
    this.#reason = new DOMException(why, "AbortError");
    this.#controller?.abort(this.#reason);
  }

  /** Whether a handler that failed with this did so because it was told to stop. */
  explains(thrown: unknown): boolean {
    return thrown === this.#reason || (thrown instanceof Error && thrown.name === "AbortError");
  }
}

/** At most the first `most` of more bytes of UTF-8. */
function wholeCharacters(bytes: Buffer, most: number): Buffer {
  let end = most;
  while (((bytes[end] as number) & 0xc0) === 0x80) end--; // 10xxxxxx goes on with a character.
  return bytes.subarray(0, end);
}

function isThenable<T>(value: T | PromiseLike<T>): value is PromiseLike<T> {
  return typeof value === "object" && value !== null && typeof (value as { then?: unknown }).then === "function";
}
