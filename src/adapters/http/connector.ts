/**
 * Opens HTTP connections: a socket first, then whatever protocol it turns out to speak.
 *
 * Sockets are made by undici's own connector, so that its options mean here what they mean there: TLS, session reuse,
 * families of addresses, unix sockets, a proxy of the user's. With `allowH2` TLS asks the server which protocol it
 * wants (ALPN); without TLS there is nobody to ask, and `useH2c` says that the server is known to speak HTTP/2.
 */

import type { Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import { buildConnector, type Client } from "undici";
import type { Connector, OpenContext } from "../../connection/index.ts";
import { type Check, type Checks, callback, either, flag, integer } from "../../options.ts";
import type { Runtime } from "../../runtime/index.ts";
import type { HttpConnection } from "./connection.ts";
import { type Address, addressOf } from "./endpoints.ts";
import { blameless } from "./attempt.ts";
import { type ClientOptions, Http1Connection } from "./http1.ts";
import { Http2Connection } from "./http2.ts";

export interface WireOptions {
  /** HTTP/1.1: requests that stand in one connection at once. @default 1 */
  readonly pipelining?: number;
  /** Over TLS: HTTP/2 with servers that choose it. @default false */
  readonly allowH2?: boolean;
  /** Without TLS: HTTP/2, which the servers are known to speak. @default false */
  readonly useH2c?: boolean;
  /** HTTP/2: never more streams on a connection, even if the server allows them. @default Infinity */
  readonly maxConcurrentStreams?: number;
  /** How sockets are made: undici's `connect`, with options for TLS and TCP, or a function. */
  readonly connect?: Client.Options["connect"];
  /** Anything else for undici's `Client`: its timeouts, its limits. HTTP/2 heeds `headersTimeout` and `bodyTimeout`. */
  readonly client?: ClientOptions;
}

const anObject: Check = {
  expected: "an object of options",
  accepts: (value) => typeof value === "object" && value !== null && !Array.isArray(value),
};

export const wireChecks: Checks<WireOptions> = {
  pipelining: integer(1),
  allowH2: flag(),
  useH2c: flag(),
  maxConcurrentStreams: {
    expected: "a whole number, 1 or more, or Infinity",
    accepts: (value) => value === Infinity || integer(1).accepts(value),
  },
  connect: either(callback(), anObject),
  client: anObject,
};

/** @param origin What the endpoints serve together; by default each stands for itself. */
export function httpConnector(
  options: WireOptions,
  origin: URL | undefined,
  openTimeoutMs: number,
  runtime: Runtime,
): Connector<HttpConnection> {
  const { pipelining = 1, useH2c = false, maxConcurrentStreams = Infinity, client = {} } = options;
  const connect = socketConnector(options, openTimeoutMs);
  return {
    name: "http",
    async open(context: OpenContext): Promise<HttpConnection> {
      const address = addressOf(context.endpoint, origin);
      const socket = await openSocket(connect, address, client.localAddress, context.signal);
      if ((socket as TLSSocket).alpnProtocol === "h2" || (useH2c && address.protocol === "http:")) {
        return Http2Connection.open(socket, context, {
          origin: address.origin,
          maxConcurrentStreams,
          headersTimeoutMs: client.headersTimeout,
          bodyTimeoutMs: client.bodyTimeout,
          runtime,
        });
      }
      return new Http1Connection(socket, context, {
        origin: address.origin,
        pipelining,
        client,
        openSocket: (signal) => openSocket(connect, address, client.localAddress, signal),
      });
    },
    close: (connection, reason) => connection.close(reason),
    check: (connection, signal) => connection.check(signal),
    capacity: (connection) => connection.capacity,
    isFailure: (error) => error !== blameless,
  };
}

function socketConnector(options: WireOptions, openTimeoutMs: number): buildConnector.connector {
  const { connect, allowH2 = false, client = {} } = options;
  const { connectTimeout = openTimeoutMs, socketPath, maxCachedSessions, autoSelectFamily } = client;
  if (typeof connect === "function") {
    return (asked, callback) => connect({ ...asked, ...{ allowH2 }, ...(socketPath ? { socketPath } : {}) }, callback);
  }
  const families =
    autoSelectFamily === undefined
      ? {}
      : { autoSelectFamily, autoSelectFamilyAttemptTimeout: client.autoSelectFamilyAttemptTimeout };
  const built = { ...families, maxCachedSessions, socketPath, timeout: connectTimeout, ...connect, allowH2 };
  const connector = buildConnector(built as buildConnector.BuildOptions);
  if ((connect as { servername?: string } | undefined)?.servername === undefined) return connector;
  return ({ servername: _ours, ...asked }, callback) => connector(asked, callback); // What the user says goes.
}

function openSocket(
  connect: buildConnector.connector,
  { protocol, hostname, host, port, servername }: Address,
  localAddress: string | undefined,
  signal: AbortSignal,
): Promise<Socket> {
  return new Promise<Socket>((resolve, reject) => {
    let over = false;
    const asked = {
      hostname,
      host,
      protocol,
      port,
      ...(servername === undefined ? {} : { servername }),
      localAddress: localAddress ?? null,
    };
    let opening: unknown;
    const ended = (): void => {
      over = true;
      signal.removeEventListener("abort", giveUp);
    };
    const giveUp = (): void => {
      ended();
      // undici's connector returns the socket at once; one of the user's need not, and then it comes later.
      if (isSocket(opening)) opening.destroy();
      reject(signal.reason);
    };
    signal.addEventListener("abort", giveUp);
    try {
      opening = connect(asked, (error, socket) => {
        if (over) socket?.destroy();
        else {
          ended();
          if (error === null) resolve(socket);
          else reject(error);
        }
      });
    } catch (error) {
      ended();
      reject(error);
    }
  });
}

function isSocket(opening: unknown): opening is Socket {
  return typeof (opening as Partial<Socket> | undefined)?.destroy === "function";
}
