/**
 * Those who ask a checkout pool for something: the model of a place in line, and of a resource in somebody's hands.
 */

import { getEventListeners } from "node:events";
import {
  type AcquireOptions,
  ConnectionLostError,
  type Lease,
  type UseOptions,
  type WorkContext,
} from "../../../src/index.ts";
import type { Resource, Server } from "../../checkout/server.ts";
import type { Call } from "../harness/world.ts";

/** What one asks with. Plain: it is part of a command. */
export interface Asking {
  readonly timeoutMs: number;
  readonly priority: number;
  readonly abortable: boolean;
  /** Asks for its signal at once. The others ask when it should have been aborted: it is made when it is asked for. */
  readonly eager: boolean;
  /** Leaves something in its resource. */
  readonly messy: boolean;
}

abstract class Caller {
  call: Call | undefined;
  readonly priority: number;
  readonly abort: AbortController | undefined;
  /** Whether the model has seen it served. */
  seen = false;
  /** How long it is ready to wait. */
  readonly until: number;
  resource: Resource | undefined;
  /** When it was given its lease. */
  since = 0;
  /** How often its lease was said to be held for long. */
  leaks = 0;
  protected readonly server: Server;
  protected readonly eager: boolean;
  readonly #messy: boolean;

  constructor(server: Server, { priority, abortable, timeoutMs, eager, messy }: Asking, now: number) {
    this.until = now + timeoutMs;
    this.eager = eager;
    this.#messy = messy;
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
  /** What the signal of its lease, or of its work, says that is not so, when all has settled. */
  abstract get misled(): string | undefined;

  /** How many listen to its own signal. */
  get listeners(): number {
    return this.abort === undefined ? 0 : getEventListeners(this.abort.signal, "abort").length;
  }

  /** The resource is not in its hands any more. */
  protected letGo(resource: Resource): void {
    if (this.#messy) resource.dirty = true;
    this.server.letGo(resource);
  }

  get waits(): boolean {
    return this.pending && !this.served;
  }

  options({ timeoutMs, priority }: Asking): AcquireOptions & UseOptions {
    return { timeoutMs, priority, ...(this.abort === undefined ? {} : { signal: this.abort.signal }) };
  }
}

/** How a lease is given back. */
export type GivingBack = "release" | "discard" | "dispose";

/** One who acquires. */
export class Holder extends Caller {
  lease: Lease<Resource> | undefined;
  #over = false;
  /** It was given back; if so, while it was in force. */
  #returned: "no" | "in force" | "late" = "no";
  #signal: AbortSignal | undefined;

  got(lease: Lease<Resource>): void {
    this.lease = lease;
    if (this.eager) this.#signal = lease.signal;
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

  override get misled(): string | undefined {
    if (this.lease === undefined) return undefined;
    const ended = !this.holds && this.#returned !== "in force";
    if (this.holds && this.#signal === undefined) return undefined;
    this.#signal ??= this.lease.signal;
    if (this.#signal.aborted === ended) return undefined;
    return ended ? "has lost its lease, and its signal is not aborted" : "has a signal that is aborted for nothing";
  }

  /** The pool has ended its lease because its time was over. */
  get expired(): boolean {
    return (this.#signal?.reason as { code?: unknown } | undefined)?.code === "ERR_LEASE_EXPIRED";
  }

  /** Gives it back; once more does nothing to anybody. Says which event that must be, if any. */
  giveBack(how: GivingBack): "lease.discarded" | "lease.misused" | undefined {
    const { holds, resource, lease } = this;
    const before = this.#returned;
    // What does not answer is found out by whoever has it.
    const doing = holds && resource?.halfOpen === true ? "discard" : how;
    if (holds && resource !== undefined) {
      this.letGo(resource);
      if (doing === "discard") resource.discarded = true;
    }
    this.#over = true;
    if (before === "no" && (holds || doing !== "dispose")) this.#returned = holds ? "in force" : "late";
    if (doing === "release") lease?.release();
    else if (doing === "discard") lease?.discard(new Error("no good"));
    else lease?.[Symbol.dispose]();
    if (holds) return doing === "discard" ? "lease.discarded" : undefined;
    // What the pool has ended its holder gives back once, as it should.
    return before === "no" || doing === "dispose" ? undefined : "lease.misused";
  }
}

/** What a work does when it is begun. One that waits is ended by a command. */
export const beginnings = ["waits", "returns", "throws", "rejects", "loses", "aborts", "nests"] as const;
export type Beginning = (typeof beginnings)[number];

/** One whose work runs on a resource. */
export class Worker extends Caller {
  begun = 0;
  #context: WorkContext | undefined;
  #eagerly = false;
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

  override get misled(): string | undefined {
    const { resource } = this;
    if (!this.#running || resource === undefined) return undefined;
    const ended = this.abort?.signal.aborted === true || resource.lost || resource.closings.length > 0;
    if ((!ended && !this.#eagerly) || this.#context?.signal.aborted === ended) return undefined;
    return ended ? "works on, and is not told that it is over" : "is told to stop for nothing";
  }

  /** It went well, and was told to stop: neither its caller nor its resource can be the reason. */
  get stoppedForNothing(): boolean {
    const innocent = this.abort?.signal.aborted !== true && this.resource?.fit === true;
    return innocent && this.#eagerly && this.#context?.signal.aborted === true;
  }

  /** Runs as the work of a `use`; `nested` asks the pool for another resource from inside. */
  run(begins: Beginning, resource: Resource, context: WorkContext, nested: () => Promise<unknown>): unknown {
    this.begun++;
    this.#context = context;
    this.#eagerly = this.eager && context.signal !== undefined;
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

  /** Ends well; unless its resource does not answer, which it finds out now. */
  end(): void {
    if (this.resource?.halfOpen === true) this.fail(new ConnectionLostError("no answer", { sent: "maybe" }));
    else this.#settle?.(() => "done");
  }

  fail(error: Error): void {
    if (error instanceof ConnectionLostError && this.resource !== undefined) this.resource.discarded = true;
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
    if (this.resource !== undefined) this.letGo(this.resource);
  }
}
