/** Whether a program can end: with an idle pool it does, with a question under way it does not. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { postgresInstalled } from "../servers/postgres.ts";
import { outsider, server, withServer } from "./postgres.ts";
import { later } from "./turns.ts";

const program = fileURLToPath(new URL("./postgres-program.ts", import.meta.url));

describe.skipIf(!postgresInstalled())("a program with an idle pool of Postgres clients", () => {
  withServer();

  test("ends, and not before its last answer", async () => {
    const lock = await outsider();
    await lock.query("SELECT pg_advisory_lock(1)");
    const child = spawn(process.execPath, ["--import", "tsx", program, server().url], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    later(() => child.kill("SIGKILL"));
    let said = "";
    child.stdout.on("data", (chunk: Buffer) => {
      said += chunk.toString();
    });
    const exit = once(child, "exit");
    const waits = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    while ((await lock.query(waits)).rows.length === 0);
    expect([child.exitCode, said]).toEqual([null, "1\n2\n"]);
    await lock.query("SELECT pg_advisory_unlock(1)");
    expect([await exit, said]).toEqual([[0, null], "1\n2\n3\n"]);
  });
});
