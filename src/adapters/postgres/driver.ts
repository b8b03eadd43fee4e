/**
 * Finds the driver: the class that the user gives, or pg's own.
 *
 * pg is asked for when a pool is made and not before, so that `poolwarden/postgres` can be imported where it is not
 * installed. A bundler sees the import, and so does whoever replaces a module in a test.
 */

import { PostgresError } from "../../errors.ts";
import type { ClientClass } from "./surface.ts";

/** @param importing For a test, or a program that keeps pg elsewhere. */
export async function loadDriver(importing: () => Promise<unknown> = () => import("pg")): Promise<ClientClass> {
  let found: unknown;
  try {
    found = await importing();
  } catch (cause) {
    throw new PostgresError(
      "ERR_POSTGRES_DRIVER",
      "the driver pg could not be loaded (see cause). Install it (npm install pg), or pass its Client as an option.",
      { cause },
    );
  }
  // Of an old pg, which is CommonJS only, everything may stand under "default".
  const { Client, default: whole } = found as { Client?: unknown; default?: { Client?: unknown } };
  const driver = Client ?? whole?.Client;
  if (typeof driver === "function") return driver as ClientClass;
  throw new PostgresError(
    "ERR_POSTGRES_DRIVER",
    "the package pg that was found has no class Client. Install pg 8, or pass its Client as an option.",
  );
}
