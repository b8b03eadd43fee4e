/**
 * Fanta connections as a pool's resources: how to open one, and what its events mean to a pool.
 */

import type { ConnectionOptions } from "node:tls";
import type { Connector, Endpoint } from "../connection/index.ts";
import { FantaError, OptionError } from "../errors.ts";
import {
  type Checks,
  checkOptions,
  duration,
  either,
  flag,
  integer,
  runtimeCheck,
  text as textCheck,
} from "../options.ts";
import type { Runtime } from "../runtime/index.ts";
import { type Codec, codecCheck } from "./payload.ts";
import { FantaTCP, maxFrameBytesCheck, tlsCheck } from "./tcp.ts";

export interface FantaConnectorOptions<Out = string, In = string> {
  /** Where to, for a pool of one endpoint. */
  readonly host?: string;
  readonly port?: number;
  /** As for `FantaTCP`; without a `servername` of its own, a server must prove to be the host of its endpoint. */
  readonly tls?: boolean | ConnectionOptions;
  /** @default text */
  readonly codec?: Codec<Out, In>;
  /** How long a request may take when it does not say, retries included. @default 30_000 */
  readonly requestTimeoutMs?: number;
  /** @default 16_777_216 */
  readonly maxFrameBytes?: number;
  readonly runtime?: Runtime;
}

const portCheck = integer(1, 65_535);

export const connectorChecks: Checks<FantaConnectorOptions<never, never>> = {
  host: textCheck(),
  port: portCheck,
  tls: either(flag(), tlsCheck),
  codec: codecCheck,
  requestTimeoutMs: duration({ infinity: true }),
  maxFrameBytes: maxFrameBytesCheck,
  runtime: runtimeCheck,
};

/**
 * A connector for any routing pool. With `host` and `port` it has one endpoint, `host:port`; without, the pool names
 * its endpoints, each with `{ host, port }` as its data or `host:port` as its id.
 *
 * @throws {OptionError}
 */
export function fantaConnector<Out = string, In = string>(
  options: FantaConnectorOptions<Out, In> = {},
): Connector<FantaTCP<Out, In>> {
  checkOptions("fantaConnector", options, connectorChecks as unknown as Checks<FantaConnectorOptions<Out, In>>);
  const { host = "127.0.0.1", port, ...tcp } = options;
  return {
    name: "fanta",
    ...(port === undefined ? {} : { endpoints: [{ id: `${host}:${port}`, data: { host, port } }] }),
    open: async ({ endpoint, signal, lost, draining }) => {
      // How long it may take is the pool's to say (openTimeoutMs), and its signal says so.
      const connectTimeoutMs = Number.MAX_SAFE_INTEGER;
      const connection = await FantaTCP.connect<Out, In>({ ...tcp, ...addressOf(endpoint), signal, connectTimeoutMs });
      connection.process.monitor((reason) => lost(reason instanceof Error ? reason : undefined));
      connection.onDraining(draining);
      return connection;
    },
    close: (connection, reason) => {
      // What was in flight has finished; what is left are orphans, whose answers nobody waits for.
      if (reason === "normal") return connection.close({ timeoutMs: 1_000 });
      // Else its time was over, or it is lost: whoever waits still is told now.
      connection.process.kill();
      return undefined;
    },
    check: (connection, over) => connection.ping({ signal: over }),
    // What the caller sent or expected says nothing against the connection.
    isFailure: (error) =>
      !(error instanceof FantaError && (error.code === "ERR_FANTA_CODEC" || error.code === "ERR_FANTA_TOO_LARGE")),
  };
}

/** @throws {OptionError} for an endpoint that says neither way where it is. */
export function addressOf(endpoint: Endpoint): { host: string; port: number } {
  const { id, data } = (endpoint ?? {}) as Partial<Endpoint>;
  const { host, port } = (data ?? {}) as { host?: unknown; port?: unknown };
  const [, named, digits] = /^\[?(.+?)\]?:(\d{1,5})$/.exec(`${id}`) ?? [];
  const address =
    typeof host === "string" && typeof port === "number" ? { host, port } : { host: named ?? "", port: Number(digits) };
  if (address.host === "" || !portCheck.accepts(address.port)) {
    throw new OptionError("endpoint", 'data { host, port }, or an id that is "host:port", with a port up to 65535', id);
  }
  return address;
}
