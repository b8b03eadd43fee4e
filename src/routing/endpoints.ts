/**
 * Endpoints that change: full sets, as a source gives them.
 *
 * The set is compared with the one before, so that those that stay keep their connections and their state. A source may
 * be wrong: an empty set is believed only when it has stood for a grace time, for it is far more often a fault of the
 * source than the end of a service; a set that is none, or a source that throws or ends, leaves the last good set
 * standing and is an event.
 */

import { checkEndpoints, type Endpoint, type EndpointSource } from "../connection/index.ts";
import { asError, OptionError } from "../errors.ts";
import type { Runtime, Timer } from "../runtime/index.ts";
import { emit } from "../telemetry/index.ts";

/** How long an empty set must stand before it is believed. */
const emptyGraceMs = 30_000;

/** Whether a source is a fixed list. */
export function isFixed(source: EndpointSource): source is readonly Endpoint[] {
  return Array.isArray(source);
}

export class EndpointFollower {
  readonly #pool: string;
  readonly #runtime: Runtime;
  readonly #apply: (endpoints: Endpoint[]) => void;
  readonly #source: AsyncIterable<readonly Endpoint[]>;
  #iterator: AsyncIterator<readonly Endpoint[]> | undefined;
  #current: readonly Endpoint[] = [];
  #grace: Timer | undefined;
  #stopped = false;

  /** @param apply Called with each set that is to be believed. Must not throw. */
  constructor(
    pool: string,
    source: AsyncIterable<readonly Endpoint[]>,
    runtime: Runtime,
    apply: (endpoints: Endpoint[]) => void,
  ) {
    this.#pool = pool;
    this.#runtime = runtime;
    this.#apply = apply;
    this.#source = source;
  }

  /** Follows the source until it ends or `stop` is called. Never rejects. */
  async follow(): Promise<void> {
    try {
      const iterator = this.#source[Symbol.asyncIterator]();
      this.#iterator = iterator;
      while (!this.#stopped) {
        const { done, value } = await iterator.next();
        if (this.#stopped) return;
        if (done) break;
        this.#take(value);
      }
      if (!this.#stopped) this.#tell(0, 0, new Error("the source of endpoints has ended; the last set stays"));
    } catch (thrown) {
      if (!this.#stopped) this.#tell(0, 0, asError(thrown));
    }
  }

  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#grace?.cancel();
    // Not awaited: a source that does not end must not keep the pool from ending.
    (async () => this.#iterator?.return?.())().catch((thrown: unknown) => this.#tell(0, 0, asError(thrown)));
  }

  #take(given: readonly Endpoint[]): void {
    let endpoints: Endpoint[];
    try {
      if (!Array.isArray(given)) throw new OptionError("endpoints", "an array of endpoints", given);
      endpoints = checkEndpoints("endpoints", given);
    } catch (thrown) {
      this.#tell(0, 0, asError(thrown));
      return;
    }
    if (endpoints.length === 0 && this.#current.length > 0) {
      // Counted from the first: a source may say it again and again.
      this.#grace ??= this.#runtime.setTimer(() => this.#believe([]), emptyGraceMs);
      return;
    }
    this.#believe(endpoints);
  }

  #believe(endpoints: Endpoint[]): void {
    this.#grace?.cancel();
    this.#grace = undefined;
    const before = new Set(this.#current.map(({ id }) => id));
    const after = new Set(endpoints.map(({ id }) => id));
    const added = [...after].filter((id) => !before.has(id)).length;
    const removed = [...before].filter((id) => !after.has(id)).length;
    this.#current = endpoints;
    this.#apply(endpoints);
    if (added > 0 || removed > 0) this.#tell(added, removed, undefined);
  }

  #tell(added: number, removed: number, error: Error | undefined): void {
    emit("pool.endpointsChanged", { pool: this.#pool, added, removed, error });
  }
}
