/**
 * Fanta servers as processes of the operating system, to be killed, stopped, resumed and asked to leave.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

export class ServerProcess {
  readonly port: number;
  #child: ChildProcess | undefined;
  #ended: Promise<void> = Promise.resolve();

  constructor(port: number) {
    this.port = port;
  }

  /** Starts it and resolves when it listens. Rejects with what it said when it does not. */
  async start(): Promise<void> {
    const main = fileURLToPath(new URL("./main.js", import.meta.url));
    const child = spawn(process.execPath, [main, "fanta", "serve", "--port", String(this.port)], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#child = child;
    this.#ended = new Promise((resolve) => {
      child.once("close", () => resolve());
      child.once("error", () => resolve());
    });
    let said = "";
    await new Promise<void>((resolve, reject) => {
      child.stdout.on("data", (chunk: Buffer) => {
        if (chunk.toString().includes("listening on")) resolve();
      });
      child.stderr.on("data", (chunk: Buffer) => {
        said += chunk.toString();
      });
      child.once("error", reject);
      child.once("close", (code) => reject(new Error(said.trim() || `the server ended at once (${String(code)})`)));
    });
  }

  signal(name: "SIGKILL" | "SIGSTOP" | "SIGCONT" | "SIGTERM"): void {
    this.#child?.kill(name);
  }

  /** Resolves when the process is gone. */
  ended(): Promise<void> {
    return this.#ended;
  }

  async kill(): Promise<void> {
    this.signal("SIGKILL"); // Ends a stopped process, too.
    await this.#ended;
  }
}
