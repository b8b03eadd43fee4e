/**
 * Mutual exclusion by key, first come, first served.
 *
 * For work that awaits in the middle: within one event-loop turn nobody can come between anyway. Waiting can be ended
 * by a signal. Asking for a lock that one holds already would wait for ever, so it is refused; who holds what is known
 * from the async context.
 */

import { type Abortable, Carried, unwatchAbort, watchAbort } from "../runtime/index.ts";

/**
 * Who waits behind a holder, by ticket, as at a counter. Each ticket is called once, also that of one who has left, so a
 * line of any length moves in linear time. (The first of a `Set` or a `Map` is found past all who were before it.)
 */
interface Line {
  readonly waiters: Map<number, Waiter>;
  tickets: number;
  called: number;
}

interface Holding {
  readonly by: Locks;
  readonly key: unknown;
  released: boolean;
}

/** The locks held by the code that runs in this async context. Not linked, so that none outlives its release. */
const held = new Carried<readonly Holding[]>();

export class Locks {
  /** A key is here while its lock is held. */
  readonly #lines = new Map<unknown, Line>();
  readonly #reentrant: () => Error;

  /** @param reentrant Makes the error for a lock that is asked for by its own holder. */
  constructor(reentrant: () => Error) {
    this.#reentrant = reentrant;
  }

  async run<T>(key: unknown, work: () => T | Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    const outer = (held.get() ?? []).filter((each) => !each.released);
    if (outer.some((each) => each.by === this && sameKey(each.key, key))) throw this.#reentrant();
    signal?.throwIfAborted();
    await this.#take(key, signal);
    const holding: Holding = { by: this, key, released: false };
    try {
      return await held.run([...outer, holding], work);
    } finally {
      holding.released = true;
      held.end();
      this.#pass(key);
    }
  }

  /** Refuses all who wait. Those who hold go on. */
  close(error: () => Error): void {
    for (const line of this.#lines.values()) {
      for (const waiter of [...line.waiters.values()]) waiter.refuse(error());
    }
  }

  #take(key: unknown, signal: AbortSignal | undefined): Promise<void> | undefined {
    const line = this.#lines.get(key);
    if (line === undefined) {
      this.#lines.set(key, { waiters: new Map(), tickets: 0, called: 0 });
      return undefined;
    }
    return new Promise((resolve, reject) => {
      const waiter = new Waiter(line, signal, resolve, reject);
      if (signal !== undefined) watchAbort(signal, waiter);
    });
  }

  #pass(key: unknown): void {
    const line = this.#lines.get(key) as Line;
    if (line.waiters.size === 0) {
      this.#lines.delete(key);
      return;
    }
    while (!line.waiters.has(line.called)) line.called++;
    line.waiters.get(line.called)?.grant();
  }
}

class Waiter implements Abortable {
  readonly #line: Line;
  readonly #ticket: number;
  readonly #signal: AbortSignal | undefined;
  readonly #resolve: () => void;
  readonly #reject: (error: unknown) => void;

  constructor(line: Line, signal: AbortSignal | undefined, resolve: () => void, reject: (error: unknown) => void) {
    this.#line = line;
    this.#ticket = line.tickets++;
    this.#signal = signal;
    this.#resolve = resolve;
    this.#reject = reject;
    line.waiters.set(this.#ticket, this);
  }

  grant(): void {
    this.#leave();
    this.#resolve();
  }

  refuse(error: unknown): void {
    this.#leave();
    this.#reject(error);
  }

  aborted(reason: unknown): void {
    this.refuse(reason);
  }

  #leave(): void {
    this.#line.waiters.delete(this.#ticket);
    if (this.#signal !== undefined) unwatchAbort(this.#signal, this);
  }
}

function sameKey(a: unknown, b: unknown): boolean {
  return a === b || (a !== a && b !== b); // As a Map does: NaN is itself.
}
