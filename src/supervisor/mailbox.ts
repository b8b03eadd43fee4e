/**
 * One thing at a time, in order of arrival.
 *
 * An OTP supervisor serves its mailbox serially: a slow start blocks the requests behind it, and a restart cannot
 * overtake a shutdown. A chain of promises would do that, but could not be closed; this can: after `close` what waits
 * is refused, and only the task that runs goes on. Each task runs in the async context it was asked from.
 */

import { AsyncLocalStorage } from "node:async_hooks";

interface Letter {
  serve(): Promise<void>;
  refuse(error: Error): void;
}

export class Mailbox {
  #waiting: Letter[] = [];
  #busy = false;
  #closed: (() => Error) | undefined;
  #idle: (() => void)[] = [];

  /** Runs `task` when everything asked before has settled. Rejects with what it throws, or with the error of `close`. */
  ask<T>(task: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#closed !== undefined) {
        reject(this.#closed());
        return;
      }
      const inContext = AsyncLocalStorage.snapshot();
      this.#waiting.push({ serve: () => inContext(task).then(resolve, reject), refuse: reject });
      if (!this.#busy) void this.#serve();
    });
  }

  /** Refuses what waits and whatever comes later. The task that runs is not touched. */
  close(error: () => Error): void {
    this.#closed ??= error;
    for (const letter of this.#waiting.splice(0)) letter.refuse(this.#closed());
  }

  /** Resolves when no task runs. */
  idle(): Promise<void> {
    return this.#busy ? new Promise((resolve) => this.#idle.push(resolve)) : Promise.resolve();
  }

  async #serve(): Promise<void> {
    this.#busy = true;
    await Promise.resolve(); // A death is served after the step in which it happens, never inside it.
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) await next.serve();
    this.#busy = false;
    for (const resolve of this.#idle.splice(0)) resolve();
  }
}
