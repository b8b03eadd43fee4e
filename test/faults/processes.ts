/**
 * Programs of our own in processes of their own, to be killed, stopped and restarted; and how to wait for what becomes
 * of them.
 */

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { afterEach, expect } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));
const running = new Set<Program>();

afterEach(async () => {
  for (const program of running) await program.end("SIGKILL");
});

export class Program {
  readonly #child: ChildProcess;
  /** What it has printed. */
  output = "";

  private constructor(command: string, args: readonly string[]) {
    this.#child = spawn(command, args, { cwd: root, stdio: ["pipe", "pipe", "inherit"] });
    this.#child.stdout?.on("data", (chunk: Buffer) => {
      this.output += chunk.toString();
    });
    running.add(this);
    this.#child.once("exit", () => running.delete(this));
  }

  /** Resolves when it has printed a line. */
  static async start(command: string, args: readonly string[]): Promise<Program> {
    const program = new Program(command, args);
    await eventually(`${args.join(" ")} is up`, () => program.output.includes("\n") || program.ended);
    expect(program.ended, program.output).toBe(false);
    return program;
  }

  /** `poolwarden fanta serve`. */
  static fanta(port = 0): Promise<Program> {
    return Program.start(process.execPath, ["dist/cli/main.js", "fanta", "serve", "--port", String(port)]);
  }

  /** The port in its first line. */
  get port(): number {
    return Number(/:(\d+)/.exec(this.output)?.[1]);
  }

  get ended(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  signal(signal: "SIGSTOP" | "SIGCONT"): void {
    this.#child.kill(signal);
  }

  /** From now on it may have so many files open. Node takes as many as it can get when it starts, so it is told later. */
  allowFiles(files: number): void {
    execFileSync("prlimit", ["--pid", String(this.#child.pid), `--nofile=${files}:4096`]);
  }

  /** Resolves with its exit code, or `null` when it was killed. */
  async end(signal: "SIGKILL" | "SIGTERM"): Promise<number | null> {
    if (!this.ended) {
      const exited = once(this.#child, "exit");
      this.#child.kill(signal);
      if (signal === "SIGKILL") this.#child.kill("SIGCONT");
      await exited;
    }
    return this.#child.exitCode;
  }
}

/** Looks now and then until something is true. What takes ten seconds is not going to be. */
export async function eventually(what: string, test: () => boolean): Promise<void> {
  for (let looks = 0; looks < 2_000; looks++) {
    if (test()) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error(`it has not come to be that ${what}`);
}
