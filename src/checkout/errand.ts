/**
 * A hook of the connector's at work on one resource: a check, or a reset.
 *
 * It may throw, hang or take its time. So it is bounded, and whoever waits for it waits for the errand, which ends with
 * the hook, at its time, or when the resource is gone and nobody cares any more: whichever comes first. After that
 * nothing is left of it, no timer above all.
 */

import { newPromise, type Runtime, takeResolve, type Timer } from "../runtime/index.ts";

export interface ErrandOptions {
  readonly runtime: Runtime;
  /** For the error: `"check"`. */
  readonly what: string;
  readonly timeoutMs: number;
  /** Whether a caller's promise depends on it. */
  readonly keepAlive: boolean;
  /** Told why it did not go well; not told when the errand was ended first. */
  readonly failed: (thrown: unknown) => void;
}

export class Errand {
  readonly #good: Promise<boolean> = newPromise<boolean>();
  readonly #resolve: (good: boolean) => void = takeResolve<boolean>();
  readonly #options: ErrandOptions;
  readonly #controller = new AbortController();
  readonly #timer: Timer;
  #over = false;

  constructor(options: ErrandOptions) {
    const { runtime, what, timeoutMs, keepAlive } = options;
    const late = (): void => this.#fail(new Error(`${what} took longer than ${timeoutMs} ms`));
    this.#options = options;
    this.#timer = runtime.setTimer(late, timeoutMs, { keepAlive });
  }

  /** Calls `hook`, and resolves with whether that went well. `false`, or a promise of it, is not well. Never rejects. */
  run(hook: (signal: AbortSignal) => unknown): Promise<boolean> {
    // An async function: a synchronous throw is a rejection, and what is no promise is awaited all the same.
    const running = (async () => hook(this.#controller.signal))();
    running.then(
      (answer) => {
        if (answer === false) this.#fail(new Error(`${this.#options.what} says that the resource is no longer good`));
        else this.#settle(true);
      },
      (thrown: unknown) => this.#fail(thrown),
    );
    return this.#good;
  }

  /** Nobody waits for it any more. */
  end(): void {
    if (this.#over) return;
    this.#settle(false);
    this.#controller.abort(new Error("the resource is gone"));
  }

  #fail(thrown: unknown): void {
    if (this.#over) return; // It was told already that it failed, or nobody cares.
    this.#settle(false);
    this.#controller.abort(thrown);
    this.#options.failed(thrown);
  }

  #settle(good: boolean): void {
    if (this.#over) return;
    this.#over = true;
    this.#timer.cancel();
    this.#resolve(good);
  }
}
