/**
 * A server that does as it is told, and the connector to it.
 *
 * Every opening of a connection asks the script how to behave; without one it succeeds at once. The resources it hands
 * out know what a real one would: whether they are still there, what runs on them, how often they were closed. Nothing
 * here is decided by chance or by a real clock.
 */

import type { Connector, ExitReason, OpenContext } from "../../src/index.ts";
import type { VirtualRuntime } from "../../src/sim/index.ts";

/** How one opening goes. After `ms`; with `deaf` it does not hear that nobody waits any more. */
export type Opening = Manner | { readonly ms: number; readonly then: Manner; readonly deaf?: boolean };

export type Manner =
  | "ok"
  | "refuse"
  | "throw"
  /** Refused in a way that retrying cannot mend. */
  | "fatal"
  | "never"
  /** Opened, and lost in the same breath. */
  | "dies"
  /** Lost, and then handed out all the same. */
  | "deadOnArrival"
  /** Opened, and asked to go in the same breath. */
  | "goesAway"
  /** Asked to go, and then handed out all the same. */
  | "leavingOnArrival";

/** An opening that takes its time. */
export function after(ms: number, manner: Manner, deaf?: "deaf"): Opening {
  // oxlint-disable-next-line unicorn/no-thenable -- read as English, and never awaited
  return { ms, then: manner, deaf: deaf === "deaf" };
}

/** How a close goes. */
export type Closing = "ok" | "throw" | "reject" | "never" | { readonly ms: number };

export class Resource {
  readonly id: number;
  readonly context: OpenContext;
  readonly openedAt: number;
  /** What `close` was called with, each time. */
  readonly closings: ExitReason[] = [];
  capacity: unknown = Infinity;
  lost = false;
  leaving = false;
  /** Works that have begun on it and not ended. */
  running = 0;
  /** The most there ever were. */
  peak = 0;

  constructor(id: number, context: OpenContext, openedAt: number) {
    this.id = id;
    this.context = context;
    this.openedAt = openedAt;
  }

  get slot(): number {
    return this.context.slot;
  }

  get endpoint(): string {
    return this.context.endpoint.id;
  }

  /** Whether a pool may send it something new. */
  get fit(): boolean {
    return !this.lost && !this.leaving && this.closings.length === 0;
  }

  lose(reason?: Error): void {
    this.lost = true;
    this.context.lost(reason);
  }

  goAway(): void {
    this.leaving = true;
    this.context.draining();
  }

  setCapacity(capacity: unknown): void {
    this.capacity = capacity;
    this.context.capacityChanged();
  }

  begins(): void {
    this.running++;
    this.peak = Math.max(this.peak, this.running);
  }
}

export interface Attempt {
  readonly at: number;
  readonly slot: number;
  readonly endpoint: string;
  readonly signal: AbortSignal;
}

export class Refused extends Error {
  override readonly name = "Refused";
  readonly code: string;

  constructor(code: string) {
    super("cannot reach postgres://scott:tiger@db");
    this.code = code;
  }
}

export class Server {
  readonly runtime: VirtualRuntime;
  readonly resources: Resource[] = [];
  readonly attempts: Attempt[] = [];
  /** How the nth opening goes, counted from 1. */
  script: (nth: number, context: OpenContext) => Opening = () => "ok";
  closing: (resource: Resource) => Closing = () => "ok";
  /** What a resource takes at once when it is new. */
  capacity: unknown = Infinity;
  /** Which rejections of works speak against the resource. */
  isFailure: (error: unknown) => unknown = () => true;
  readonly connector: Connector<Resource>;

  constructor(runtime: VirtualRuntime) {
    this.runtime = runtime;
    this.connector = {
      name: "fake",
      open: (context) => this.#open(context),
      close: (resource, reason) => this.#close(resource, reason),
      capacity: (resource) => {
        if (resource.capacity instanceof Error) throw resource.capacity;
        return resource.capacity as number;
      },
      isFailure: (error) => this.isFailure(error) as boolean,
      isFatal: (error) => (error as { code?: unknown }).code === "EFATAL",
    };
  }

  /** The first openings go so, the others well. */
  next(...openings: Opening[]): void {
    const from = this.attempts.length;
    this.script = (nth) => openings[nth - from - 1] ?? "ok";
  }

  /** From now on every opening goes so. */
  always(opening: Opening): void {
    this.script = () => opening;
  }

  /** Those that a pool may use. */
  get fit(): Resource[] {
    return this.resources.filter((resource) => resource.fit);
  }

  /** The newest that a pool may use. */
  get last(): Resource {
    const last = this.fit.at(-1);
    if (last === undefined) throw new Error("no resource is open");
    return last;
  }

  /** When attempts were made, in milliseconds. */
  get times(): number[] {
    return this.attempts.map(({ at }) => at);
  }

  pause(ms: number): Promise<void> {
    return new Promise((resolve) => void this.runtime.setTimer(resolve, ms));
  }

  async #open(context: OpenContext): Promise<Resource> {
    const { signal, slot, endpoint } = context;
    this.attempts.push({ at: this.runtime.now(), slot, endpoint: endpoint.id, signal });
    const opening = this.script(this.attempts.length, context);
    if (typeof opening === "string") return this.#finish(opening, context);
    const pause = this.pause(opening.ms);
    if (opening.deaf) await pause;
    else await Promise.race([pause, aborted(signal)]);
    return this.#finish(opening.then, context);
  }

  #finish(manner: Manner, context: OpenContext): Promise<Resource> | Resource {
    if (manner === "refuse" || manner === "throw") throw new Refused("ECONNREFUSED");
    if (manner === "fatal") throw new Refused("EFATAL");
    if (manner === "never") return new Promise(() => undefined);
    const resource = new Resource(this.resources.length + 1, context, this.runtime.now());
    resource.capacity = this.capacity;
    this.resources.push(resource);
    if (manner === "deadOnArrival") resource.lose(new Refused("ECONNRESET"));
    if (manner === "leavingOnArrival") resource.goAway();
    // After the connection has had it, and before the event loop turns: a pool that answers at once never lets it turn.
    if (manner === "dies") void soon().then(() => resource.lose(new Refused("ECONNRESET")));
    if (manner === "goesAway") void soon().then(() => resource.goAway());
    return resource;
  }

  #close(resource: Resource, reason: ExitReason): void | Promise<void> {
    resource.closings.push(reason);
    const closing = this.closing(resource);
    if (closing === "ok") return undefined;
    if (closing === "throw") throw new Refused("ECLOSE");
    if (closing === "reject") return Promise.reject(new Refused("ECLOSE"));
    if (closing === "never") return new Promise(() => undefined);
    return this.pause(closing.ms);
  }
}

/** A few promises later. */
async function soon(): Promise<void> {
  for (let hop = 0; hop < 20; hop++) await Promise.resolve();
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
  });
}
