/**
 * A value carried along the async context, which costs nothing while nobody carries one.
 *
 * Up to Node 22 an `AsyncLocalStorage` that has been run makes every promise of the program three to four times as
 * dear, for good: Node then hooks into each. A pool whose supervisors need to know for a moment who is inside whose
 * start must not slow down the whole program afterwards. So it is switched off when the last carrier has ended; the next
 * `run` switches it on again. What a context from before still holds by then is a value that has ended: look at the
 * value itself for that.
 */

import { AsyncLocalStorage } from "node:async_hooks";

export class Carried<T> {
  readonly #storage = new AsyncLocalStorage<T>();
  #carriers = 0;

  /** The value that this context carries, ended or not. */
  get(): T | undefined {
    return this.#carriers === 0 ? undefined : this.#storage.getStore();
  }

  /** Runs `act` and whatever it sets off with a value. Call `end` once when that is over. */
  run<R>(value: T, act: () => R): R {
    this.#carriers++;
    return this.#storage.run(value, act);
  }

  end(): void {
    if (--this.#carriers === 0) this.#storage.disable();
  }
}
