/**
 * `poolwarden fanta serve` and `poolwarden fanta request`: one end of the wire each.
 */

import { FantaServer, FantaTCP } from "../fanta/index.ts";
import { PoolwardenError } from "../errors.ts";
import { numberFlag, parse, UsageError } from "./usage.ts";

const defaultPort = 7301;
const place = { port: { type: "string" }, host: { type: "string" } } as const;
const portRange = { least: 0, most: 65_535, otherwise: defaultPort };

/** Serves until SIGTERM or SIGINT; then says goaway, answers what has been asked, and ends. */
export async function serve(args: readonly string[]): Promise<number> {
  const { flags, words } = parse(args, place);
  if (words.length > 0) throw new UsageError(`fanta serve takes no words, and got "${words.join(" ")}"`);
  const port = numberFlag(flags, "port", portRange);
  const host = typeof flags["host"] === "string" ? flags["host"] : "127.0.0.1";
  let server: FantaServer;
  try {
    server = await FantaServer.listen({ host, port, handler: (request) => (request === "PING" ? "PONG" : request) });
  } catch (error) {
    return fail(error);
  }
  process.stdout.write(`listening on ${host}:${server.port}\n`);
  await new Promise<void>((resolve) => {
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => resolve());
  });
  await server.close({ timeoutMs: 10_000 });
  return 0;
}

export async function request(args: readonly string[]): Promise<number> {
  const { flags, words } = parse(args, { ...place, "timeout-ms": { type: "string" } });
  const [payload, ...rest] = words;
  if (payload === undefined || rest.length > 0) throw new UsageError("fanta request takes one TEXT to send");
  const port = numberFlag(flags, "port", { ...portRange, least: 1 });
  const host = typeof flags["host"] === "string" ? flags["host"] : "127.0.0.1";
  const timeoutMs = numberFlag(flags, "timeout-ms", { least: 1, most: 3_600_000, otherwise: 5_000 });
  try {
    await using connection = await FantaTCP.connect({ host, port, signal: AbortSignal.timeout(timeoutMs) });
    process.stdout.write(`${String(await connection.request(payload, { timeoutMs }))}\n`);
    return 0;
  } catch (error) {
    return fail(error);
  }
}

/** Says what went wrong, with its code. */
function fail(error: unknown): number {
  const code = error instanceof PoolwardenError ? `${error.code}: ` : "";
  const cause = error instanceof Error && error.cause instanceof Error ? ` (${error.cause.message})` : "";
  process.stderr.write(`poolwarden: ${code}${error instanceof Error ? error.message : String(error)}${cause}\n`);
  return 1;
}
