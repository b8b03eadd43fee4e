/**
 * A Fanta server: a function that answers, behind a port.
 *
 *     const server = await FantaServer.listen({ port: 7000, handler: (request) => (request === "PING" ? "PONG" : "?") });
 *     await server.close();
 *
 * Promised: every request is answered exactly once, a cancelled one too, as long as its connection lives. A handler that
 * throws harms its own request only, bytes that are not Fanta their own connection only. Closing loses nothing: clients
 * are told to go elsewhere (goaway), and served until they have had their last answer and close.
 *
 * Not promised: that handlers end. One that never settles keeps its request unanswered, and the client's id taken.
 */

import { type AddressInfo, createServer as createPlain, type Server, type Socket } from "node:net";
import { createServer as createSecure, type TlsOptions } from "node:tls";
import { FantaError } from "../errors.ts";
import { accepted, networkOf } from "../multiplex/index.ts";
import { callback, checkOptions, integer, required, runtimeCheck, text as textCheck } from "../options.ts";
import { type HasProcess, Process, type Self } from "../process/index.ts";
import { atEndOfTurn, type Runtime, systemRuntime } from "../runtime/index.ts";
import { emit } from "../telemetry/index.ts";
import { maxFrameBytesDefault } from "./codec.ts";
import { type Codec, codecCheck, text } from "./payload.ts";
import { type FantaHandler, Session, type SessionOptions } from "./session.ts";
import { closeChecks, type FantaCloseOptions, maxFrameBytesCheck, tlsCheck } from "./tcp.ts";

export interface FantaServerOptions<In = string, Out = string> {
  readonly handler: FantaHandler<In, Out>;
  /** @default "127.0.0.1" */
  readonly host?: string;
  /** 0 for any that is free; `server.port` says which. @default 0 */
  readonly port?: number;
  /** `key` and `cert`; for mutual TLS also `ca`, `requestCert` and `rejectUnauthorized`. Without it, plain TCP. */
  readonly tls?: TlsOptions;
  /** @default text */
  readonly codec?: Codec<Out, In>;
  /**
   * The largest frame, in what its length field counts: the payload and 5 bytes. A longer request ends its connection, a
   * longer response becomes an error response. @default 16_777_216
   */
  readonly maxFrameBytes?: number;
  /** Requests of one connection that may be unanswered; one more is refused with an error response. @default 65_536 */
  readonly maxInFlight?: number;
  /** @default "fanta server" and the address */
  readonly name?: string;
  readonly runtime?: Runtime;
}

export class FantaServer implements HasProcess, AsyncDisposable {
  readonly #server: Server;
  readonly #runtime: Runtime;
  readonly #sessions = new Set<Session<never, never>>();
  /** Every socket accepted, those still shaking hands included. */
  readonly #sockets = new Set<Socket>();
  #port = 0;
  #process!: Process;
  #terminated: (() => void) | undefined;
  #listening = true;

  /**
   * Listens, and resolves when connections are taken.
   *
   * @throws {FantaError} `ERR_FANTA_LISTEN` with the socket's error as its cause; {OptionError} for options that are none.
   */
  static async listen<In = string, Out = string>(options: FantaServerOptions<In, Out>): Promise<FantaServer> {
    checkOptions<FantaServerOptions<In, Out>>("FantaServer.listen", options, {
      handler: required(callback()),
      host: textCheck(),
      port: integer(0, 65_535),
      tls: tlsCheck,
      codec: codecCheck,
      maxFrameBytes: maxFrameBytesCheck,
      maxInFlight: integer(1),
      name: textCheck(),
      runtime: runtimeCheck,
    });
    const { host = "127.0.0.1", port = 0, tls } = options;
    const runtime = options.runtime ?? systemRuntime;
    const network = tls === undefined ? networkOf(runtime) : undefined;
    const server = new FantaServer(network?.createServer() ?? createServer(host, port, tls), runtime);
    await server.#listen(host, port);
    const name = options.name ?? `fanta server ${host}:${server.port}`;
    await Process.start({
      name,
      runtime: server.#runtime,
      init: (self) => server.#born(self),
      terminate: () => server.#terminate(),
    });
    server.#serve(tls !== undefined, {
      codec: options.codec ?? (text as unknown as Codec<Out, In>),
      handler: options.handler,
      maxFrameBytes: options.maxFrameBytes ?? maxFrameBytesDefault,
      maxInFlight: options.maxInFlight ?? 65_536,
      name,
    });
    return server;
  }

  private constructor(server: Server, runtime: Runtime) {
    this.#server = server;
    this.#runtime = runtime;
  }

  /** Dead when nothing listens and no connection is left. */
  get process(): Process {
    return this.#process;
  }

  get port(): number {
    return this.#port;
  }

  /** Connections that are open. */
  get connections(): number {
    return this.#sessions.size;
  }

  /**
   * Stops listening at once, tells the clients to go elsewhere, and resolves when they have had their answers and closed.
   * Those left after `timeoutMs` are cut off. Calling it again only can shorten the time.
   */
  async close(options: FantaCloseOptions = {}): Promise<void> {
    checkOptions("FantaServer.close", options, closeChecks);
    const stopped = this.#process.stop({ reason: "normal", timeoutMs: Infinity });
    const timer = this.#runtime.setTimer(() => this.#cutOff(), options.timeoutMs ?? 30_000, { keepAlive: true });
    await stopped;
    timer.cancel();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #listen(host: string, port: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const failed = (cause: Error): void => reject(listenError(host, port, cause));
      this.#server.once("error", failed);
      this.#server.listen({ host, port }, () => {
        this.#server.off("error", failed);
        this.#port = (this.#server.address() as AddressInfo).port;
        resolve();
      });
    });
  }

  #born(self: Self): this {
    this.#process = self.process;
    // Killed, or ended by a link: nothing may be left.
    self.process.hold(() => {
      this.#stopListening();
      this.#cutOff();
      return undefined;
    });
    // Of a server that listens: accepting failed, for want of file descriptors say. The next may succeed.
    this.#server.on("error", (error) => emit("callback.failed", { where: `${self.process.name}: accept`, error }));
    return this;
  }

  #serve<Out, In>(secure: boolean, options: SessionOptions<Out, In>): void {
    this.#server.on("connection", (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once("close", () => this.#gone(socket));
    });
    this.#server.on(secure ? "secureConnection" : "connection", (socket: Socket) => {
      const session: Session<Out, In> = new Session(accepted(socket), options, () => {
        this.#sessions.delete(session as unknown as Session<never, never>);
        this.#endIfEmpty();
      });
      this.#sessions.add(session as unknown as Session<never, never>);
      if (!this.#listening) session.goaway();
    });
    this.#server.on("tlsClientError", (error) => emit("fanta.protocolFailed", { side: "server", error }));
  }

  #gone(socket: Socket): void {
    this.#sockets.delete(socket);
    this.#endIfEmpty();
  }

  #terminate(): Promise<void> {
    return new Promise((resolve) => {
      this.#terminated = resolve;
      // The kernel has let in clients that we have not seen yet, and who may have asked already. With the listener they
      // would be cut off: two turns of the event loop are for them.
      atEndOfTurn(() =>
        atEndOfTurn(() => {
          this.#stopListening();
          for (const session of this.#sessions) session.goaway();
          this.#endIfEmpty();
        }),
      );
    });
  }

  #endIfEmpty(): void {
    if (this.#sessions.size === 0 && this.#sockets.size === 0) this.#terminated?.();
  }

  #stopListening(): void {
    if (!this.#listening) return;
    this.#listening = false;
    this.#server.close();
  }

  #cutOff(): void {
    for (const session of this.#sessions) session.destroy();
    for (const socket of this.#sockets) socket.destroy();
  }
}

/** Half-open: what was answered before a client ended its side still leaves. */
function createServer(host: string, port: number, tls: TlsOptions | undefined): Server {
  const manner = { allowHalfOpen: true, noDelay: true };
  if (tls === undefined) return createPlain(manner);
  try {
    return createSecure({ ...tls, ...manner });
  } catch (cause) {
    throw listenError(host, port, cause);
  }
}

function listenError(host: string, port: number, cause: unknown): FantaError {
  const { code } = cause as { code?: unknown };
  const remedy =
    code === "EADDRINUSE"
      ? "Another program has the port: stop it, take another port, or port 0 for any that is free."
      : "See the cause, and whether this machine has the address, this program may use the port, and the TLS options are right.";
  return new FantaError("ERR_FANTA_LISTEN", `cannot listen on ${host}:${port}. ${remedy}`, { cause });
}
