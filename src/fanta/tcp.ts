/**
 * A Fanta client: many requests at once over one socket, answers in any order.
 *
 *     const fanta = await FantaTCP.connect({ host: "127.0.0.1", port: 7000 });
 *     await fanta.request("PING"); // "PONG"
 *     await fanta.close();
 *
 * Promised: every request settles exactly once, with its response, a `FantaError` or a `ConnectionLostError`, and no
 * later than its time. What is asked in one turn of the event loop leaves in one write. An idle connection does not
 * keep the program alive, a request somebody waits for does.
 *
 * Not promised: that it comes back. A connection that is lost stays lost; `FantaPool` opens others. Use this class
 * alone where one connection is enough and its loss is yours to handle, and to write a pool of your own.
 *
 * When the server sends bytes that are not Fanta, or answers what was not asked, the connection ends and its process
 * exits with `ERR_FANTA_PROTOCOL`. Requests that may have reached the server reject with that same error, those that
 * certainly did not with a `ConnectionLostError` (`sent: "no"`) that has it as its cause.
 */

import { type ConnectionOptions, createSecureContext, type SecureContextOptions } from "node:tls";
import { asError, ConnectionLostError, FantaError, OptionError } from "../errors.ts";
import {
  type Check,
  type Checks,
  checkOptions,
  duration,
  either,
  flag,
  integer,
  required,
  runtimeCheck,
  signal,
  text as textCheck,
} from "../options.ts";
import { dial, type Wire } from "../multiplex/index.ts";
import { type HasProcess, Process, type Self } from "../process/index.ts";
import {
  type Abortable,
  newPromise,
  type Runtime,
  systemRuntime,
  takeReject,
  takeResolve,
  unwatchAbort,
  watchAbort,
} from "../runtime/index.ts";
import { maxFrameBytesDefault, overheadBytes } from "./codec.ts";
import { Link } from "./link.ts";
import { type Codec, codecCheck, text } from "./payload.ts";
import { Ping, pingPayload } from "./ping.ts";
import { FantaRequest } from "./request.ts";

export interface FantaTCPOptions<Out = string, In = string> {
  readonly host: string;
  readonly port: number;
  /** True, or what `node:tls` takes: `ca`; `key` and `cert` to prove who we are. The server must prove to be `host`. @default false */
  readonly tls?: boolean | ConnectionOptions;
  /** @default text */
  readonly codec?: Codec<Out, In>;
  /** How long a request may take when it does not say. @default 30_000 */
  readonly requestTimeoutMs?: number;
  /** How long connecting may take, with the handshake. @default 10_000 */
  readonly connectTimeoutMs?: number;
  /**
   * The largest frame, in what its length field counts: the payload and 5 bytes. So a payload of `maxFrameBytes - 5`
   * is the largest that passes, either way. @default 16_777_216
   */
  readonly maxFrameBytes?: number;
  /** Ends connecting, and nothing after it. */
  readonly signal?: AbortSignal;
  readonly runtime?: Runtime;
}

export interface FantaRequestOptions {
  /** The caller gives up: the request rejects with the signal's reason, and the server is told. */
  readonly signal?: AbortSignal;
  /** How long the request may take, from now. @default the connection's requestTimeoutMs */
  readonly timeoutMs?: number;
}

export interface FantaCloseOptions {
  /** How long what is in flight may take before it is cut off. @default 30_000 */
  readonly timeoutMs?: number;
}

export class FantaTCP<Out = string, In = string> implements HasProcess, AsyncDisposable {
  readonly #link: Link<Out, In>;
  readonly #runtime: Runtime;
  readonly #requestTimeoutMs: number;
  #process!: Process;
  #self!: Self;
  #stopping: (() => void) | undefined;
  #closed = false;

  /**
   * Opens a connection.
   *
   * @throws {FantaError} `ERR_FANTA_CONNECT` with the socket's error as its cause: may be tried again.
   * @throws {OptionError} for options that are none; the signal's own reason when it aborts.
   */
  static async connect<Out = string, In = string>(options: FantaTCPOptions<Out, In>): Promise<FantaTCP<Out, In>> {
    checkOptions<FantaTCPOptions<Out, In>>("FantaTCP.connect", options, {
      host: required(textCheck()),
      port: required(integer(1, 65_535)),
      tls: either(flag(), tlsCheck),
      codec: codecCheck,
      requestTimeoutMs: timeoutCheck,
      connectTimeoutMs: duration(),
      maxFrameBytes: maxFrameBytesCheck,
      signal: signal(),
      runtime: runtimeCheck,
    });
    const tcp = new FantaTCP<Out, In>(await open(options), options);
    await Process.start({
      name: `fanta ${options.host}:${options.port}`,
      runtime: tcp.#runtime,
      init: (self) => tcp.#born(self),
      terminate: () => tcp.#terminate(),
    });
    return tcp;
  }

  private constructor(wire: Wire, options: FantaTCPOptions<Out, In>) {
    this.#runtime = options.runtime ?? systemRuntime;
    this.#requestTimeoutMs = options.requestTimeoutMs ?? 30_000;
    const linkOptions = {
      peer: `${options.host}:${options.port}`,
      codec: options.codec ?? (text as unknown as Codec<Out, In>),
      maxFrameBytes: options.maxFrameBytes ?? maxFrameBytesDefault,
      runtime: this.#runtime,
    };
    this.#link = new Link<Out, In>(wire, linkOptions, {
      lost: (error) => {
        if (this.#stopping === undefined) this.#self.exit(error);
      },
      closed: () => {
        this.#closed = true;
        if (this.#stopping === undefined)
          this.#self.exit("normal"); // After a goaway; dead already after a loss.
        else this.#stopping();
      },
    });
  }

  /** Dead when the connection is gone: `"normal"` after `close` or the server's goaway, else the error it was lost with. */
  get process(): Process {
    return this.#process;
  }

  /** Requests the server has not answered yet, those given up included. */
  get inFlight(): number {
    return this.#link.inFlight;
  }

  /** Whether it takes requests: not closing, not told to go away by the server, not lost. */
  get open(): boolean {
    return this.#link.open;
  }

  /**
   * Sends a request and resolves with its response.
   *
   * A caller that gives up is told at once; the server is told too, and its answer, which it owes all the same, is
   * dropped when it comes. Until then the request counts in `inFlight`.
   *
   * @throws {FantaError} `ERR_FANTA_RESPONSE`: the server's error, its words the message. `ERR_FANTA_TIMEOUT`.
   *   `ERR_FANTA_TOO_LARGE` and `ERR_FANTA_CODEC`: refused here, or a response the codec refused. `ERR_FANTA_PROTOCOL`.
   *   `ERR_FANTA_BUSY`: a million requests are in flight on this connection.
   * @throws {ConnectionLostError} with `sent: "no"` when it certainly never left, else `"maybe"`.
   * @throws the signal's own reason when it aborts.
   */
  request(payload: Out, options?: FantaRequestOptions): Promise<In> {
    const request = new PromiseRequest<In>();
    if (options === undefined) this.#link.send(request, payload, this.#requestTimeoutMs, this.#runtime.now());
    else this.#requestWith(request, payload, options);
    return request.promise;
  }

  /**
   * Asks the server for a sign of life and resolves with the milliseconds it took.
   *
   * @throws {FantaError} `ERR_FANTA_TIMEOUT`. {ConnectionLostError} when the connection goes, or is going, away.
   */
  ping(options: FantaRequestOptions = {}): Promise<number> {
    return new Promise((resolve, reject) => {
      checkOptions("FantaTCP.ping", options, requestChecks);
      const { signal: given, timeoutMs = this.#requestTimeoutMs } = options;
      if (given?.aborted) throw given.reason;
      const caller: Abortable = { aborted: (reason) => ping.fail(reason) };
      const ping = new Ping(pingPayload(), (result) => {
        if (given !== undefined) unwatchAbort(given, caller);
        if (typeof result === "number") resolve(result);
        else reject(result.error);
      });
      if (given !== undefined) watchAbort(given, caller);
      this.#link.ping(ping, this.#runtime.now(), timeoutMs);
    });
  }

  /**
   * Takes nothing new, waits for the answers somebody waits for, and closes the socket. What is not answered after
   * `timeoutMs` rejects with a `ConnectionLostError`. Calling it again only can shorten the time.
   */
  async close(options: FantaCloseOptions = {}): Promise<void> {
    checkOptions("FantaTCP.close", options, closeChecks);
    const { timeoutMs = 30_000 } = options;
    const cutOff = (): void => this.#link.destroy(closedByForce(timeoutMs));
    const stopped = this.#process.stop({ reason: "normal", timeoutMs: Infinity });
    const timer = this.#runtime.setTimer(cutOff, timeoutMs, { keepAlive: true });
    await stopped;
    timer.cancel();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /**
   * The way in for those who have their own request objects. `now` is the runtime's, read by the caller; how the
   * request ends, `FantaRequest` says.
   * @internal
   */
  send(request: FantaRequest<In>, payload: Out, timeoutMs: number, now: number): void {
    this.#link.send(request, payload, timeoutMs, now);
  }

  /** Gives up a request: it hears `gaveUp(error)` and the server a cancel. Nothing happens when it is not in flight here. @internal */
  abandon(request: FantaRequest<In>, error: unknown): void {
    this.#link.abandon(request, error);
  }

  /** Calls back once when it takes nothing new: the server said goaway, or it is closing; at once if that has been. @internal */
  onDraining(callback: () => void): void {
    this.#link.onDraining(callback);
  }

  #requestWith(request: PromiseRequest<In>, payload: Out, options: FantaRequestOptions): void {
    try {
      checkOptions("FantaTCP.request", options, requestChecks);
      options.signal?.throwIfAborted();
    } catch (thrown) {
      request.gaveUp(thrown);
      return;
    }
    this.#link.send(request, payload, options.timeoutMs ?? this.#requestTimeoutMs, this.#runtime.now());
    if (options.signal !== undefined && request.id !== 0) request.watch(options.signal);
  }

  #born(self: Self): this {
    this.#self = self;
    this.#process = self.process;
    // Killed, or ended by a link: the socket must go too.
    self.process.hold(() => {
      this.#link.kill(
        new ConnectionLostError(`${self.process.name} was stopped. Open a new connection.`, { sent: "maybe" }),
      );
      return undefined;
    });
    return this;
  }

  #terminate(): Promise<void> | undefined {
    if (this.#closed) return undefined;
    return new Promise((resolve) => {
      this.#stopping = resolve;
      this.#link.drain();
    });
  }
}

/** A request somebody awaits. */
class PromiseRequest<In> extends FantaRequest<In> implements Abortable {
  readonly promise: Promise<In> = newPromise<In>();
  readonly #resolve: (value: In) => void = takeResolve<In>();
  readonly #reject: (error: unknown) => void = takeReject();
  #signal: AbortSignal | undefined = undefined;

  /** For one in flight. */
  watch(signal: AbortSignal): void {
    if (signal.aborted) return this.aborted(signal.reason); // While the payload was encoded.
    this.#signal = signal;
    watchAbort(signal, this);
  }

  aborted(reason: unknown): void {
    this.on?.abandon(this, reason);
  }

  answered(value: In): void {
    this.#unwatch();
    this.#resolve(value);
  }

  refused(error: FantaError): void {
    this.gaveUp(error);
  }

  gaveUp(error: unknown): void {
    this.#unwatch();
    this.#reject(error);
  }

  lost(error: ConnectionLostError | FantaError): void {
    this.gaveUp(error);
  }

  released(): void {
    // Nobody counts here: inFlight is the number of slots taken.
  }

  #unwatch(): void {
    if (this.#signal !== undefined) unwatchAbort(this.#signal, this);
  }
}

async function open<Out, In>(options: FantaTCPOptions<Out, In>): Promise<Wire> {
  const { host, port, tls, signal: given, connectTimeoutMs = 10_000, runtime = systemRuntime } = options;
  const tlsOptions = tls === true ? {} : tls === false ? undefined : tls;
  try {
    return await dial({ host, port, tls: tlsOptions, signal: given, timeoutMs: connectTimeoutMs, runtime });
  } catch (cause) {
    if (given?.aborted) throw given.reason;
    throw new FantaError(
      "ERR_FANTA_CONNECT",
      `no connection to ${host}:${port}${tlsOptions === undefined ? "" : " with TLS"} (see cause). ` +
        `Check that the server is up and reachable, then try again.`,
      { cause },
    );
  }
}

function closedByForce(timeoutMs: number): ConnectionLostError {
  return new ConnectionLostError(
    `the connection was closed with requests in flight ${timeoutMs} ms after it was asked to. Allow close more time (timeoutMs).`,
    { sent: "maybe" },
  );
}

const timeoutCheck = duration({ infinity: true });
const requestChecks = { signal: signal(), timeoutMs: timeoutCheck };
/** Shared with the server. A frame has 5 bytes at least; one of more than a GiB is a mistake. */
export const maxFrameBytesCheck: Check = integer(overheadBytes, 2 ** 30);
export const closeChecks: Checks<FantaCloseOptions> = { timeoutMs: duration({ zero: true, infinity: true }) };
export const tlsCheck: Check = {
  expected: "an object of options for node:tls",
  accepts: (value: unknown) => typeof value === "object" && value !== null,
  // A certificate that is none would otherwise fail at every connect, as if the server were to blame.
  inside: (name, value) => {
    try {
      createSecureContext(value as SecureContextOptions);
    } catch (thrown) {
      throw new OptionError(name, "certificates and keys that node:tls can use", undefined, asError(thrown).message);
    }
  },
};
