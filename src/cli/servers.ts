/**
 * Fanta servers as processes of the operating system, to be killed, stopped, resumed and asked to leave.
 *
 * Promised: none outlives this program. It kills them when it ends; and each holds a channel to it, and ends when that
 * closes, for the case that this program is killed itself (one that is stopped just then: when it is resumed).
 */

import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

export class ServerProcess {
  readonly port: number;
  /** Told when it ends without having been asked to, with how it did. */
  readonly #endedByItself: (how: string) => void;
  #child: ChildProcess | undefined;
  #ended: Promise<void> = Promise.resolve();
  #asked = false;

  constructor(port: number, endedByItself: (how: string) => void) {
    this.port = port;
    this.#endedByItself = endedByItself;
  }

  get alive(): boolean {
    return this.#child !== undefined;
  }

  /** Starts it and resolves when it listens. Rejects with what it said when it does not. */
  async start(): Promise<void> {
    const main = fileURLToPath(new URL("./main.js", import.meta.url));
    const child = spawn(process.execPath, [main, "fanta", "serve", "--port", String(this.port)], {
      stdio: ["ignore", "pipe", "pipe", "ipc"],
    });
    this.#child = child;
    this.#asked = false;
    let said = "";
    let complained = "";
    let listens = false;
    await new Promise<void>((listening, failed) => {
      child.stdout?.on("data", (chunk: Buffer) => {
        said += chunk.toString();
        if (!said.includes("listening on")) return;
        listens = true;
        listening();
      });
      child.stderr?.on("data", (chunk: Buffer) => {
        complained += chunk.toString();
      });
      this.#ended = new Promise((ended) => {
        const over = (how: string): void => {
          this.#child = undefined;
          ended();
          if (!listens) failed(new Error(complained.trim() || `the server ended at once (${how})`));
          else if (!this.#asked) this.#endedByItself([how, complained.trim()].filter((part) => part !== "").join(": "));
        };
        child.once("error", (error) => over(error.message));
        child.once("close", (code, signal) => over(signal ?? `exit code ${String(code)}`));
      });
    });
  }

  /** Stops its clock, or lets it go on. */
  signal(name: "SIGSTOP" | "SIGCONT"): void {
    this.#child?.kill(name);
  }

  /** Ends it, and resolves when it is gone. */
  end(name: "SIGKILL" | "SIGTERM"): Promise<void> {
    this.#asked = true;
    this.#child?.kill(name); // SIGKILL ends a stopped process, too.
    return this.#ended;
  }
}
