/**
 * The threads that run seeds, and the watch over them.
 *
 * The code under test may loop for ever, or take all memory, and then nobody in its thread can say so. Each thread writes
 * down which seed it is at, where all can read it; one that stays at a seed for too long is ended, and the seed reported.
 */

import { Worker } from "node:worker_threads";
import { add, emptyTally, type Tally } from "./report.ts";

/** Some seeds of one scenario. */
export interface Task {
  readonly scenario: string;
  readonly from: number;
  readonly until: number;
  readonly steps: number | undefined;
}

/** What a thread says when it has done a task. */
export interface Done {
  readonly tally: Tally;
  readonly failed: readonly Failed[];
}

/** A seed, and what it has found. Seeds are run again to tell more of it; but what is left from other runs may be its cause. */
export interface Failed {
  readonly seed: number;
  readonly found: string;
}

export interface Result {
  readonly scenario: string;
  tally: Tally;
  failed: Failed[];
  /** Those that have taken their thread with them: it hung, or it broke. */
  ended: Failed[];
}

/** A run takes milliseconds. */
const hangingMs = 20_000;
const threads = 2;

/** Does all the tasks, and gives back one result for each scenario, in their order. */
export async function crew(program: URL, tasks: readonly Task[]): Promise<Result[]> {
  const results = new Map<string, Result>();
  for (const { scenario } of tasks) {
    if (!results.has(scenario)) results.set(scenario, { scenario, tally: emptyTally(), failed: [], ended: [] });
  }
  const open = [...tasks];
  const hand = async (): Promise<void> => {
    const member = new Member(program);
    for (let task = open.shift(); task !== undefined; task = open.shift()) {
      const result = results.get(task.scenario) as Result;
      const done = await member.does(task);
      if ("seed" in done) {
        result.ended.push(done);
        open.length = 0; // What hangs once hangs again.
        return;
      }
      add(result.tally, done.tally);
      result.failed.push(...done.failed);
    }
    await member.end();
  };
  await Promise.all(Array.from({ length: threads }, hand));
  return [...results.values()];
}

class Member {
  readonly #at = new Int32Array(new SharedArrayBuffer(4));
  readonly #worker: Worker;

  constructor(program: URL) {
    this.#worker = new Worker(program, { workerData: this.#at });
  }

  /** What it has done; or the seed that has ended it. */
  does(task: Task): Promise<Done | Failed> {
    return new Promise((resolve) => {
      let seen = -1;
      const watch = setInterval(() => {
        const at = Atomics.load(this.#at, 0);
        if (at === seen) {
          clearInterval(watch);
          void this.#worker.terminate().then(() => resolve({ seed: at >>> 0, found: "hangs: its thread was ended" }));
        }
        seen = at;
      }, hangingMs);
      const told = (done: Done): void => {
        clearInterval(watch);
        this.#worker.off("error", failed);
        resolve(done);
      };
      const failed = (error: unknown): void => {
        clearInterval(watch);
        resolve({ seed: Atomics.load(this.#at, 0) >>> 0, found: `has ended its thread: ${String(error)}` });
      };
      this.#worker.once("message", told);
      this.#worker.once("error", failed);
      this.#worker.postMessage(task);
    });
  }

  async end(): Promise<void> {
    await this.#worker.terminate();
  }
}
