/**
 * Real servers, from Debian's packages: started on a free port, in a folder of their own, and stopped by their pid.
 *
 * A test that needs one asks `installed` first. Where it is not installed the test is skipped and says why; in CI it
 * fails, since a test that is never run says nothing.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { accessSync, chownSync, constants, mkdtempSync, rmSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";

/** A running server. */
export interface Program extends AsyncDisposable {
  readonly port: number;
  /** Its files. Gone when it has stopped. */
  readonly folder: string;
  /** Kills it. Resolves when it has ended. */
  readonly stop: () => Promise<void>;
  /** Makes it stand still, and go on. */
  readonly signal: (signal: "SIGSTOP" | "SIGCONT") => void;
}

/**
 * Whether a program is there; if not, says which package has it. In CI it must be.
 *
 * @param folders Where to look besides the usual.
 */
export function installed(program: string, debianPackage: string, folders: readonly string[] = []): boolean {
  if (pathOf(program, folders) !== undefined) return true;
  const why = `${program} is not installed: apt-get install --no-install-recommends ${debianPackage}`;
  if (process.env["CI"] === "true") throw new Error(why);
  console.log(`skipped: ${why}`);
  return false;
}

export interface StartOptions {
  readonly program: string;
  /** Where it is, besides the usual. */
  readonly folders?: readonly string[];
  /** @default one that is free */
  readonly port?: number;
  /** Who runs it. @default who runs us */
  readonly user?: { readonly uid: number; readonly gid: number } | undefined;
  /** What it says when it is ready. @default it is when it accepts connections */
  readonly says?: string;
  /** What ends it. @default SIGKILL */
  readonly stopSignal?: NodeJS.Signals;
  /** Made with its port and folder. */
  readonly arguments: (port: number, folder: string) => readonly string[] | Promise<readonly string[]>;
}

/** Resolves when it is ready. */
export async function start(options: StartOptions): Promise<Program> {
  const { program, user, says = "", stopSignal = "SIGKILL" } = options;
  const command = pathOf(program, options.folders);
  if (command === undefined) throw new Error(`${program} is not installed`);
  const folder = mkdtempSync(join(tmpdir(), `${program}-`));
  if (user !== undefined) chownSync(folder, user.uid, user.gid);
  const port = options.port ?? (await freePort());
  const given = await options.arguments(port, folder);
  const child = spawn(command, given, { cwd: folder, stdio: ["ignore", "pipe", "pipe"], ...user });
  const said: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => said.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => said.push(chunk));
  let stopped: Promise<void> | undefined;
  const stop = (): Promise<void> => {
    stopped ??= end(child, folder, stopSignal);
    return stopped;
  };
  try {
    while (!Buffer.concat(said).includes(says) || !(await accepts(port))) {
      await new Promise((resolve) => setImmediate(resolve));
      if (child.exitCode === null && child.signalCode === null) continue;
      throw new Error(`${program} has ended before it was ready:\n${Buffer.concat(said).toString()}`);
    }
  } catch (error) {
    await stop();
    throw error;
  }
  return { port, folder, stop, signal: (signal) => child.kill(signal), [Symbol.asyncDispose]: stop };
}

/** Debian keeps servers where only root looks for programs. */
function pathOf(program: string, besides: readonly string[] = []): string | undefined {
  const folders = [...besides, ...(process.env["PATH"] ?? "").split(delimiter), "/usr/sbin", "/usr/local/sbin"];
  return folders
    .map((folder) => join(folder, program))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  return (address as { port: number }).port;
}

/** One try. */
async function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    const answer = (accepted: boolean): void => {
      socket.destroy();
      resolve(accepted);
    };
    socket.once("connect", () => answer(true));
    socket.once("error", () => answer(false));
  });
}

async function end(child: ChildProcess, folder: string, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) {
    child.kill(signal);
    await once(child, "exit");
  }
  rmSync(folder, { recursive: true, force: true });
}
