/**
 * `poolwarden fanta serve` and `poolwarden fanta request`: one end of the wire each.
 */

import { FantaServer, FantaTCP } from "../fanta/index.ts";
import { PoolwardenError } from "../errors.ts";
import { numberFlag, parse, textFlag, UsageError } from "./usage.ts";

const place = { port: "text", host: "text" } as const;
const portRange = { least: 0, most: 65_535, otherwise: 7_301 };
const defaultHost = "127.0.0.1";

/** Serves until SIGTERM or SIGINT; then says goaway, answers what has been asked, and ends. */
export async function serve(args: readonly string[]): Promise<number> {
  const given = parse(args, place);
  if (given.words.length > 0) throw new UsageError(`fanta serve takes no words, got "${given.words.join(" ")}"`);
  const port = numberFlag(given, "port", portRange);
  const host = textFlag(given, "host", defaultHost);
  dieWithParent();
  let server: FantaServer;
  try {
    server = await FantaServer.listen({ host, port, handler: (request) => (request === "PING" ? "PONG" : request) });
  } catch (error) {
    return fail(error);
  }
  const told = new Promise<void>((resolve) => {
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => resolve());
  });
  process.stdout.write(`listening on ${host}:${server.port}\n`);
  await told;
  await server.close({ timeoutMs: 10_000 });
  return 0;
}

/** Sends one request and prints its response. */
export async function request(args: readonly string[]): Promise<number> {
  const given = parse(args, { ...place, "timeout-ms": "text" });
  const [payload, ...rest] = given.words;
  if (payload === undefined || rest.length > 0) {
    throw new UsageError(`fanta request takes one TEXT to send, got ${given.words.length}`);
  }
  const port = numberFlag(given, "port", { ...portRange, least: 1 });
  const host = textFlag(given, "host", defaultHost);
  const timeoutMs = numberFlag(given, "timeout-ms", { least: 1, most: 3_600_000, otherwise: 5_000 });
  const endsAt = performance.now() + timeoutMs;
  try {
    const connection = await FantaTCP.connect({ host, port, connectTimeoutMs: timeoutMs });
    try {
      const answer = await connection.request(payload, { timeoutMs: Math.max(1, endsAt - performance.now()) });
      process.stdout.write(`${answer}\n`);
    } finally {
      connection.process.kill(); // Nothing is in flight that anybody waits for: there is nothing to finish.
    }
    return 0;
  } catch (error) {
    return fail(error);
  }
}

/** A server that another program has started with a channel to it, as the demo does, does not outlive that program. */
function dieWithParent(): void {
  if (!process.connected) return;
  process.once("disconnect", () => process.exit());
  process.channel?.unref();
}

/** Says what went wrong, with its code. */
function fail(error: unknown): number {
  const code = error instanceof PoolwardenError ? `${error.code}: ` : "";
  const cause = error instanceof Error && error.cause instanceof Error ? ` (${error.cause.message})` : "";
  process.stderr.write(`poolwarden: ${code}${error instanceof Error ? error.message : String(error)}${cause}\n`);
  return 1;
}
