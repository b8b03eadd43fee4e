/**
 * Pools on a real Postgres, one server for each file of tests, and what the tests need to look at them.
 */
import pg from "pg";
import { afterAll, beforeAll, expect } from "vitest";
import { Pool, type PoolConfig } from "../../src/adapters/postgres/index.ts";
import { type Postgres, startPostgres } from "../servers/postgres.ts";
import { later } from "./turns.ts";

let running: Postgres | undefined;

/** Runs a server beside the tests of a file. */
export function withServer(settings?: Readonly<Record<string, string | number>>): void {
  beforeAll(async () => {
    running = await startPostgres(settings);
  });
  afterAll(async () => {
    await running?.stop();
  });
}

export function server(): Postgres {
  if (running === undefined) throw new Error("there is no server");
  return running;
}

/** A pool that does not wait long before it tries again. */
export function pool(config: PoolConfig = {}): Pool {
  const made = new Pool({ ...server().address, backoff: { minMs: 5, maxMs: 20 }, ...config });
  later(() => made.destroy());
  return made;
}

/** A client of the driver's own, outside of any pool: to do things behind a pool's back. */
export async function outsider(): Promise<pg.Client> {
  const client = new pg.Client(server().address);
  client.on("error", () => undefined);
  await client.connect();
  later(() => client.end());
  return client;
}

/** Waits for an event, and gives what came with it. */
export function once(of: Pool, event: string): Promise<unknown[]> {
  return new Promise((resolve) => of.once(event, (...fields: unknown[]) => resolve(fields)));
}

/** `"ok"`, or the code of the error. */
export async function outcome(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return "ok";
  } catch (error) {
    return codeOf(error);
  }
}

export function codeOf(error: unknown): string {
  const { code, message } = error as { code?: unknown; message?: unknown };
  return String(code ?? message);
}

/** The pool ends with nobody in it, and everything that was opened is closed. */
export async function ends(made: Pool): Promise<void> {
  await made.end();
  const { size, inFlight, waiting, totals } = made.stats();
  expect({ size, inFlight, waiting, left: totals.opened - totals.closed }).toEqual({
    size: 0,
    inFlight: 0,
    waiting: 0,
    left: 0,
  });
}
