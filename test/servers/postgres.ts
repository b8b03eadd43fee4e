/**
 * PostgreSQL, of a data folder of its own: `initdb` runs once, and every server begins with a copy of what it made.
 *
 * Postgres refuses to run as root, so where we are root it runs as the user that Debian's package has made. Nothing here
 * uses Debian's clusters.
 */
import { spawnSync } from "node:child_process";
import { chownSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { installed, type Program, start } from "./program.ts";

/** Debian keeps a folder for each version. The newest is taken. */
const versions = existsSync("/usr/lib/postgresql") ? readdirSync("/usr/lib/postgresql") : [];
const folders = versions
  .sort((a, b) => Number(b) - Number(a))
  .map((version) => `/usr/lib/postgresql/${version}/bin`)
  .filter((folder) => existsSync(join(folder, "postgres")));

export const postgresInstalled = (): boolean => installed("postgres", "postgresql", folders);

/** Who is let in. The password has what must be written otherwise in an address. */
const user = "tester";
const password = "tiger/of@the night";

export interface Postgres extends Program {
  /** As options of a pool. */
  readonly address: {
    readonly host: string;
    readonly port: number;
    readonly user: string;
    readonly password: string;
    readonly database: string;
  };
  readonly url: string;
  /** Ends it, as an administrator would. Its data and its port are kept. */
  readonly down: () => Promise<void>;
  /** After `down`. Does nothing when it is up. */
  readonly up: () => Promise<void>;
}

/** @param settings Of the server: `{ max_connections: 4 }`. */
export async function startPostgres(settings: Readonly<Record<string, string | number>> = {}): Promise<Postgres> {
  const quick = { fsync: "off", synchronous_commit: "off", full_page_writes: "off", autovacuum: "off" };
  const set = Object.entries({ ...quick, ...settings }).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  const owner = serverUser();
  const data = ownFolder("data");
  as(owner, "cp", "-a", `${freshData()}/.`, data);
  const run = (port?: number): Promise<Program> =>
    start({
      program: "postgres",
      folders,
      user: owner,
      says: "database system is ready to accept connections",
      // A "fast shutdown". A kill would leave its backends behind, with the memory they share.
      stopSignal: "SIGINT",
      arguments: (at) => ["-D", data, "-p", String(at), "-h", "127.0.0.1", "-k", "", ...set],
      ...(port === undefined ? {} : { port }),
    });
  let program = await run();
  let isUp = true;
  const { port, folder } = program;
  const stop = async (): Promise<void> => {
    await program.stop();
    rmSync(data, { recursive: true, force: true });
  };
  return {
    port,
    folder,
    address: { host: "127.0.0.1", port, user, password, database: "postgres" },
    url: `postgres://${user}:${encodeURIComponent(password)}@127.0.0.1:${port}/postgres`,
    stop,
    signal: (signal) => program.signal(signal),
    down: async () => {
      isUp = false;
      await program.stop();
    },
    up: async () => {
      if (!isUp) program = await run(port);
      isUp = true;
    },
    [Symbol.asyncDispose]: stop,
  };
}

let fresh: string | undefined;

/** What `initdb` makes, with one super user who is let in by password only. */
function freshData(): string {
  if (fresh !== undefined) return fresh;
  const folder = ownFolder("initdb");
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
  const script = `"$0" -D "$1" -U ${user} --pwfile=<(printf %s "$2") --auth=scram-sha-256 -E UTF8 --locale=C --no-sync`;
  as(serverUser(), "bash", "-c", script, join(folders[0] as string, "initdb"), folder, password);
  fresh = folder;
  return folder;
}

function ownFolder(name: string): string {
  const folder = mkdtempSync(join(tmpdir(), `postgres-${name}-`));
  const owner = serverUser();
  if (owner !== undefined) chownSync(folder, owner.uid, owner.gid);
  return folder;
}

/** Who may run it: we, unless we are root. */
function serverUser(): { uid: number; gid: number } | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const row = readFileSync("/etc/passwd", "utf8")
    .split("\n")
    .find((line) => line.startsWith("postgres:"));
  if (row === undefined) throw new Error("there is no user postgres to run the server as");
  const [, , uid, gid] = row.split(":");
  return { uid: Number(uid), gid: Number(gid) };
}

function as(owner: { uid: number; gid: number } | undefined, command: string, ...given: string[]): void {
  const done = spawnSync(command, given, { ...owner, cwd: tmpdir(), encoding: "utf8" });
  if (done.status !== 0) throw new Error(`${command}: ${done.error?.message ?? done.stderr + done.stdout}`);
}
