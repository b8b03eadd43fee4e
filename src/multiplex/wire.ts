/**
 * How to get a socket that is ready for use: plain or with TLS, opened by us or accepted by a server.
 *
 * The one thing a socket does differently from another is how its bytes are heard. A plain socket that we open reads
 * into one buffer that it keeps (Node's `onread`), which saves an allocation a chunk; Node offers that for no other, so
 * those give `data` events. A `Wire` hides the difference. Chunks are only lent for the call, by either.
 */

import { connect as connectPlain, isIP, type Socket } from "node:net";
import { type ConnectionOptions, connect as connectSecure } from "node:tls";
import { type Abortable, type Runtime, unwatchAbort, watchAbort } from "../runtime/index.ts";
import { networkOf } from "./network.ts";

export interface Wire {
  readonly socket: Socket;
  /** Where the bytes go. To be called in the turn in which the wire was had, so that none is missed. */
  receive(push: (chunk: Buffer, end: number) => void): void;
}

export interface DialOptions {
  readonly host: string;
  readonly port: number;
  /** The peer must prove to be `host` unless these options say otherwise. */
  readonly tls?: ConnectionOptions | undefined;
  readonly signal?: AbortSignal | undefined;
  /** For everything: the name, the connection and the handshake. */
  readonly timeoutMs: number;
  readonly runtime: Runtime;
}

/** One read takes what has come, up to this. It is what Node reads at once by default. */
const readBytes = 65_536;

/** The wire of a socket that a server has accepted. */
export function accepted(socket: Socket): Wire {
  return {
    socket,
    receive: (push) => {
      socket.on("data", (chunk: Buffer) => push(chunk, chunk.length));
    },
  };
}

/**
 * Opens a socket, with TLS if asked.
 *
 * @throws the socket's own error; the signal's reason; an `Error` when `timeoutMs` have passed. No socket is left then.
 */
export function dial(options: DialOptions): Promise<Wire> {
  const { signal, timeoutMs, runtime } = options;
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason);
      return;
    }
    const wire = options.tls === undefined ? openPlain(options) : openSecure(options, options.tls);
    const { socket } = wire;
    const settle = (): void => {
      timer.cancel();
      if (signal !== undefined) unwatchAbort(signal, caller);
      socket.off("connect", connected).off("secureConnect", connected).off("close", closed);
    };
    const fail = (error: unknown): void => {
      settle();
      socket.destroy();
      reject(error);
    };
    const connected = (): void => {
      settle();
      socket.off("error", fail);
      resolve(wire);
    };
    const caller: Abortable = { aborted: fail };
    const closed = (): void => fail(new Error("the other side closed the connection before it was ready"));
    const late = (): void => fail(new Error(`not connected after ${timeoutMs} ms`));
    const timer = runtime.setTimer(late, timeoutMs, { keepAlive: true });
    if (signal !== undefined) watchAbort(signal, caller);
    // The listener of errors stays after a failure: a socket may have more than one to tell.
    socket
      .on("error", fail)
      .on("close", closed)
      .on(options.tls === undefined ? "connect" : "secureConnect", connected);
  });
}

// We end our side ourselves, after what is still to be said: allowHalfOpen keeps Node from doing it at once.
// And we put small requests together ourselves: noDelay keeps the kernel from waiting for more.
const manner = { allowHalfOpen: true, noDelay: true } as const;

function openPlain({ host, port, runtime }: DialOptions): Wire {
  const network = networkOf(runtime);
  if (network !== undefined) return accepted(network.connect({ host, port }));
  let push: (chunk: Buffer, end: number) => void = () => undefined;
  const callback = (end: number, chunk: Uint8Array): boolean => {
    push(chunk as Buffer, end);
    return true;
  };
  const socket = connectPlain({
    host,
    port,
    ...manner,
    onread: { buffer: Buffer.allocUnsafeSlow(readBytes), callback },
  });
  return {
    socket,
    receive: (given) => {
      push = given;
    },
  };
}

function openSecure({ host, port }: DialOptions, tls: ConnectionOptions): Wire {
  // Node takes the host as the name to check, but does not tell it to the server (SNI) by itself.
  const named = tls.servername === undefined && isIP(host) === 0 ? { servername: host } : {};
  return accepted(connectSecure({ ...named, ...tls, host, port, ...manner }));
}
