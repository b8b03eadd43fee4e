/**
 * Waiting for something to become true of a pool.
 *
 * `ready`, `resize` and `recycle` do not know what will make their condition true, and need not: whoever changes anything
 * calls `look`, and each condition is tried again. There are few of them and they are rarely waited for.
 */

import { type Abortable, type Runtime, unwatchAbort, watchAbort } from "../runtime/index.ts";

interface Condition {
  /** What it throws rejects the wait. */
  readonly test: () => boolean;
  /** Whether it waits for a connection, as a caller in line does. */
  readonly wants: boolean;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export class Conditions {
  readonly #runtime: Runtime;
  readonly #waiting = new Set<Condition>();
  #ended: { readonly error: Error } | undefined;

  constructor(runtime: Runtime) {
    this.#runtime = runtime;
  }

  /** Whether somebody waits for a connection. */
  get wanted(): boolean {
    for (const { wants } of this.#waiting) if (wants) return true;
    return false;
  }

  /**
   * Resolves when something has become true; rejects when the test throws, or the pool ends.
   *
   * @param wants Whether it waits for a connection. @default false
   */
  until(test: () => boolean, wants: boolean = false): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#add({ test, wants, resolve, reject });
    });
  }

  /**
   * The same for somebody who waits for connections, not for ever: at `timeoutMs` it rejects with what `late` makes of the
   * wait, at the signal's abort with its reason.
   */
  async wait(
    test: () => boolean,
    options: { timeoutMs: number; signal: AbortSignal | undefined; late: (waitedMs: number) => Error },
  ): Promise<void> {
    const { timeoutMs, signal, late } = options;
    const startedAt = this.#runtime.now();
    let end = (): void => undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        const timer = this.#runtime.setTimer(() => reject(late(this.#runtime.now() - startedAt)), timeoutMs, {
          keepAlive: true,
        });
        const watching: Abortable = { aborted: reject };
        if (signal !== undefined) watchAbort(signal, watching);
        const condition = { test, wants: true, resolve, reject };
        end = () => {
          timer.cancel();
          if (signal !== undefined) unwatchAbort(signal, watching);
          this.#waiting.delete(condition);
        };
        this.#add(condition);
      });
    } finally {
      end();
    }
  }

  /** Resolves after a while; rejects when the pool ends first. */
  pause(ms: number): Promise<void> {
    let passed = false;
    const timer = this.#runtime.setTimer(
      () => {
        passed = true;
        this.look();
      },
      ms,
      { keepAlive: true },
    );
    return this.until(() => passed).finally(() => timer.cancel());
  }

  /** Something has changed. */
  look(): void {
    for (const condition of this.#waiting) {
      try {
        if (!condition.test()) continue;
        condition.resolve();
      } catch (error) {
        condition.reject(error);
      }
      this.#waiting.delete(condition);
    }
  }

  /** The pool has ended: nothing becomes true any more. */
  end(error: Error): void {
    this.#ended ??= { error };
    for (const condition of this.#waiting) condition.reject(error);
    this.#waiting.clear();
  }

  #add(condition: Condition): void {
    if (this.#ended !== undefined) {
      condition.reject(this.#ended.error);
      return;
    }
    this.#waiting.add(condition);
    this.look();
  }
}
