/**
 * Those who ask a checkout pool for something: the model of a place in line, and of a resource in somebody's hands.
 */

import type { AcquireOptions, Lease, UseOptions, WorkContext } from "../../../src/index.ts";
import type { Resource, Server } from "../../checkout/server.ts";
import type { Call } from "../harness/world.ts";

/** What one asks with. Plain: it is part of a command. */
export interface Asking {
  readonly timeoutMs: number;
  readonly priority: number;
  readonly abortable: boolean;
}

abstract class Caller {
  call: Call | undefined;
  readonly priority: number;
  readonly abort: AbortController | undefined;
  /** Whether the model has seen it served. */
  seen = false;
  /** How long it is ready to wait. */
  readonly until: number;
  protected readonly server: Server;

  constructor(server: Server, { priority, abortable, timeoutMs }: Asking, now: number) {
    this.until = now + timeoutMs;
    this.server = server;
    this.priority = priority;
    this.abort = abortable ? new AbortController() : undefined;
  }

  get pending(): boolean {
    return this.call?.pending === true;
  }

  /** Whether it has been given a resource at any time. */
  abstract get served(): boolean;
  /** Whether it has a lease now, as far as it knows. */
  abstract get holds(): boolean;

  get waits(): boolean {
    return this.pending && !this.served;
  }

  options({ timeoutMs, priority }: Asking): AcquireOptions & UseOptions {
    return { timeoutMs, priority, ...(this.abort === undefined ? {} : { signal: this.abort.signal }) };
  }
}

/** One who acquires. */
export class Holder extends Caller {
  lease: Lease<Resource> | undefined;
  resource: Resource | undefined;
  #over = false;

  got(lease: Lease<Resource>): void {
    this.lease = lease;
    try {
      this.resource = lease.resource;
      this.server.hold(this.resource);
    } catch {
      this.#over = true; // Ended before we had it.
    }
  }

  override get served(): boolean {
    return this.lease !== undefined;
  }

  override get holds(): boolean {
    if (this.lease === undefined || this.#over) return false;
    try {
      return this.lease.resource !== undefined;
    } catch {
      this.#over = true; // For good. The error that says so is dear.
      return false;
    }
  }

  /** Gives it back; once more does nothing to anybody. */
  release(): void {
    this.#letGo();
    this.lease?.release();
  }

  discard(): void {
    this.#letGo();
    this.lease?.discard(new Error("no good"));
  }

  dispose(): void {
    this.#letGo();
    this.lease?.[Symbol.dispose]();
  }

  #letGo(): void {
    if (this.holds) this.server.letGo(this.resource as Resource);
    this.#over = true;
  }
}

/** What a work does when it is begun. One that waits is ended by a command. */
export const beginnings = ["waits", "returns", "throws", "rejects", "loses", "aborts", "nests"] as const;
export type Beginning = (typeof beginnings)[number];

/** One whose work runs on a resource. */
export class Worker extends Caller {
  resource: Resource | undefined;
  begun = 0;
  #settle: ((outcome: () => unknown) => void) | undefined;
  #running = false;

  override get served(): boolean {
    return this.begun > 0;
  }

  /** Whether the work can be ended. */
  get runs(): boolean {
    return this.#settle !== undefined;
  }

  override get holds(): boolean {
    return this.#running && this.resource?.closings.length === 0;
  }

  /** Runs as the work of a `use`; `nested` asks the pool for another resource from inside. */
  run(begins: Beginning, resource: Resource, _: WorkContext, nested: () => Promise<unknown>): unknown {
    this.begun++;
    this.resource = resource;
    this.server.hold(resource);
    this.#running = true;
    if (begins === "throws") {
      this.#over();
      throw new Error("thrown");
    }
    if (begins === "returns") {
      this.#over();
      return "at once";
    }
    if (begins === "rejects") return this.#soon(() => Promise.reject(new Error("rejected")));
    if (begins === "nests") return nested().finally(() => this.#over());
    if (begins === "loses") resource.lose(new Error("lost by its work"));
    if (begins === "aborts") this.abort?.abort(new Error("gone"));
    return new Promise((resolve, reject) => {
      this.#settle = (outcome) => {
        this.#settle = undefined;
        this.#over();
        try {
          resolve(outcome());
        } catch (error) {
          reject(error as Error);
        }
      };
    });
  }

  end(): void {
    this.#settle?.(() => "done");
  }

  fail(error: Error): void {
    this.#settle?.(() => {
      throw error;
    });
  }

  async #soon<T>(act: () => Promise<T>): Promise<T> {
    await Promise.resolve();
    this.#over();
    return act();
  }

  #over(): void {
    this.#running = false;
    if (this.resource !== undefined) this.server.letGo(this.resource);
  }
}
