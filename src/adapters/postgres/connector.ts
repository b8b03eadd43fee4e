/**
 * How Postgres clients are opened, checked, reset and closed, and which failures it is no use to try again.
 */

import type { Connector } from "../../connection/index.ts";
import { Session, type SessionHost } from "./session.ts";
import type { ClientClass } from "./surface.ts";

/** What the server, or Node, says of a configuration that is wrong: with it nobody will ever be let in. */
const fatalCodes: ReadonlySet<unknown> = new Set([
  "28000", // invalid_authorization_specification: no such role, or none that may come from here
  "28P01", // invalid_password
  "3D000", // invalid_catalog_name: no such database
  "ERR_INVALID_URL",
  "ERR_INVALID_ARG_TYPE",
  "ERR_SOCKET_BAD_PORT",
]);

export interface ConnectorOptions {
  /** Where the server is, for people. Not read from a connection string, which has a password in it. */
  readonly endpoint: string;
  /** Whether each attempt may come with another password. */
  readonly freshPassword: boolean;
  readonly Client: ClientClass;
  readonly host: SessionHost;
}

export function postgresConnector({ endpoint, freshPassword, Client, host }: ConnectorOptions): Connector<Session> {
  return {
    name: "postgres",
    endpoints: [{ id: endpoint }],
    open: (context) => Session.open(Client, host, context),
    check: (session) => session.check(),
    fit: (session) => session.fit,
    reset: (session) => session.reset(),
    close: (session) => session.close(),
    isFatal: (error) => {
      const { code, message } = error as Error & { code?: unknown };
      if (code === "28P01" && freshPassword) return false;
      // pg has no code for a password that is missing, or for a server that does not prove that it knows it.
      return fatalCodes.has(code) || message.startsWith("SASL:");
    },
  };
}
