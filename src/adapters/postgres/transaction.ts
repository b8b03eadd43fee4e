/**
 * A transaction: what is done in it is done wholly, or not at all.
 *
 *     BEGIN ──▶ the work ──settles──▶ COMMIT ──────▶ its result
 *                  │ throws              │ the server has rolled back instead: an error that says so
 *                  └──▶ ROLLBACK ──▶ what it threw
 *
 * A COMMIT of a transaction in which a statement has failed is no error for Postgres: it answers ROLLBACK and nothing is
 * kept. A work that has caught that statement's error would believe the opposite, so it is told.
 *
 * A COMMIT that the server refuses, for a constraint that was deferred until then or a conflict, is an answer like any
 * other: nothing was kept, and the connection is good. When it breaks instead nobody knows whether it was done. What
 * state the client is in is not judged here: whoever takes it back looks, as after any lease.
 */

import { OptionError, PostgresError } from "../../errors.ts";
import { type Checks, checkOptions, duration, flag, oneOf, signal } from "../../options.ts";
import type { WorkContext } from "../../pool/index.ts";
import type { PostgresClient } from "./surface.ts";

export interface TransactionOptions {
  /** @default the server's own: read committed, unless it was told otherwise */
  readonly isolationLevel?: "read committed" | "repeatable read" | "serializable" | "read uncommitted";
  readonly readOnly?: boolean;
  /** Of a serializable, read-only one: waits until it can run without being disturbed. */
  readonly deferrable?: boolean;
  /** The caller gives up: it is told at once, and the work is not committed. */
  readonly signal?: AbortSignal;
  /** The wait for a connection. @default the pool's acquireTimeoutMs */
  readonly timeoutMs?: number;
  /** In line, higher goes first. @default 0 */
  readonly priority?: number;
}

const checks: Checks<TransactionOptions> = {
  isolationLevel: oneOf("read committed", "repeatable read", "serializable", "read uncommitted"),
  readOnly: flag(),
  deferrable: flag(),
  signal: signal(),
  timeoutMs: duration({ zero: true, infinity: true }),
  priority: { expected: "a number", accepts: (value) => typeof value === "number" && !Number.isNaN(value) },
};

/** @throws {OptionError} */
export function checkTransaction(where: string, work: unknown, options: TransactionOptions): void {
  if (typeof work !== "function") throw new OptionError(`${where}: work`, "a function", work);
  checkOptions(where, options, checks);
}

/** What a transaction runs on. */
export interface Ground {
  readonly client: PostgresClient;
  /** Nothing more is to be sent by the work: it is over. */
  close(): void;
  /** Sends something that is not the work's. */
  query(text: string): Promise<{ readonly command: string }>;
}

export async function runTransaction<T>(
  ground: Ground,
  work: (client: PostgresClient, context: WorkContext) => T | Promise<T>,
  context: WorkContext,
  options: TransactionOptions,
): Promise<T> {
  await ground.query(beginning(options));
  let result: T;
  try {
    result = await work(ground.client, context);
    context.signal.throwIfAborted(); // Who gave up was told so, and must not find it done after all.
  } catch (error) {
    ground.close();
    await ground.query("ROLLBACK").catch(() => undefined); // The work's own error says more.
    throw error;
  }
  ground.close();
  const { command } = await ground.query("COMMIT");
  if (command !== "ROLLBACK") return result;
  throw new PostgresError(
    "ERR_POSTGRES_ROLLED_BACK",
    "the transaction was rolled back, for one of its statements had failed and the work went on as if it had not. " +
      "Let that statement's error out of the work, or guard the statement with a savepoint.",
  );
}

function beginning({ isolationLevel, readOnly, deferrable }: TransactionOptions): string {
  const modes = [
    isolationLevel === undefined ? "" : `ISOLATION LEVEL ${isolationLevel.toUpperCase()}`,
    readOnly === undefined ? "" : readOnly ? "READ ONLY" : "READ WRITE",
    deferrable === undefined ? "" : deferrable ? "DEFERRABLE" : "NOT DEFERRABLE",
  ];
  return ["BEGIN", modes.filter((mode) => mode !== "").join(", ")].join(" ").trimEnd();
}
