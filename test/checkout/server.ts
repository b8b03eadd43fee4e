/**
 * A server that does as it is told, and the connector to it.
 *
 * Every hook asks a script how to behave; without one it does well at once. The server keeps watch on what a real one would
 * suffer from: how many resources are there at a time, who holds each, and what is done to it by whom. What must not
 * happen is noted in `violations`, since what a hook throws is a pool's to swallow.
 */

import type { Connector, ExitReason, OpenContext } from "../../src/index.ts";
import type { VirtualRuntime } from "../../src/sim/index.ts";

/** How a hook goes. After `ms`: with `deaf` it does not hear that nobody waits any more. */
export type Gate<Then = Manner> = Then | { readonly ms: number; readonly then?: Then; readonly deaf?: boolean };

/** A hook that takes its time. */
export function after<Then>(ms: number, manner: Then): Gate<Then> {
  // oxlint-disable-next-line unicorn/no-thenable -- read as English, and never awaited
  return { ms, then: manner };
}

export type Manner =
  | "ok"
  | "throws"
  | "rejects"
  /** Answers `false`. */
  | "no"
  | "never";

export type Opening =
  | Exclude<Manner, "no">
  /** Rejected in a way that retrying cannot mend. */
  | "fatal"
  /** Opened, and lost in the same breath. */
  | "dies"
  /** Lost, and then handed out all the same. */
  | "deadOnArrival"
  /** One that is open, or being closed. */
  | "same";

export const secret = "postgres://scott:tiger@db:5432/prod";

export class Refused extends Error {
  override readonly name = "Refused";
  readonly code: string;

  constructor(code: string) {
    super(`cannot reach ${secret}`);
    this.code = code;
  }
}

export class Resource {
  readonly id: number;
  readonly context: OpenContext;
  readonly openedAt: number;
  /** It came when nobody waited for it any more. */
  late = false;
  /** What `close` was called with, each time. */
  readonly closings: ExitReason[] = [];
  lost = false;
  leaving = false;
  /** Those who have it now. */
  holders = 0;
  checks = 0;
  resets = 0;
  /** A check or a reset of it has gone wrong. */
  bad = false;
  /** Nothing comes back from it any more, and it looks well: whoever has it finds out. */
  halfOpen = false;
  /** A caller has left something in it that a reset takes away. */
  dirty = false;
  /** Whoever had it has said that it is broken. */
  discarded = false;
  /** The hook that is at work on it. */
  hook: string | undefined;
  closingSince: number | undefined;
  closed = false;

  constructor(id: number, context: OpenContext, openedAt: number) {
    this.id = id;
    this.context = context;
    this.openedAt = openedAt;
  }

  get slot(): number {
    return this.context.slot;
  }

  /** Whether a pool may lend it. */
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
}

export class Server {
  readonly runtime: VirtualRuntime;
  readonly resources: Resource[] = [];
  /** When `open` was called, in milliseconds. */
  readonly times: number[] = [];
  readonly violations: string[] = [];
  /** Timers of the hooks' own that have not run. */
  timers = 0;
  /** Resources that may be there at once. */
  max = Infinity;
  /** After this the pool counts a resource as closed, whatever its `close` does. */
  closeTimeoutMs = 5_000;
  /** The most resources that were there, or being opened, at a time. */
  peak = 0;
  opening: (nth: number, context: OpenContext) => Gate<Opening> = () => "ok";
  checking: (resource: Resource) => Gate = () => "ok";
  resetting: (resource: Resource) => Gate = () => "ok";
  closing: (resource: Resource) => Gate = () => "ok";
  readonly #opens = new Set<AbortSignal>();
  #resets = false;

  constructor(runtime: VirtualRuntime) {
    this.runtime = runtime;
  }

  /** A connector with these hooks besides `open` and `close`. */
  connector(...hooks: readonly ("check" | "reset")[]): Connector<Resource> {
    this.#resets = hooks.includes("reset");
    const check = (resource: Resource, signal: AbortSignal): unknown => {
      resource.checks++;
      return this.#work("check", resource, this.checking(resource), signal);
    };
    const reset = async (resource: Resource): Promise<void> => {
      resource.resets++;
      await this.#work("reset", resource, this.resetting(resource), undefined);
    };
    return {
      name: "fake",
      open: (context) => this.#open(context),
      close: (resource, reason) => this.#close(resource, reason),
      isFatal: (error) => (error as { code?: unknown }).code === "EFATAL",
      ...(hooks.includes("check") ? { check } : {}),
      ...(hooks.includes("reset") ? { reset } : {}),
    };
  }

  /** The next openings go so, the others well. */
  next(...openings: Gate<Opening>[]): void {
    const from = this.times.length;
    this.opening = (nth) => openings[nth - from - 1] ?? "ok";
  }

  /** From now on every opening goes so. */
  always(opening: Gate<Opening>): void {
    this.opening = () => opening;
  }

  /** Resources that are there, those being closed included, and those being opened. */
  get load(): number {
    const now = this.runtime.now();
    const there = this.resources.filter(({ lost, late, closed, closings, context, closingSince = Infinity }) => {
      // Given up in the moment in which it came: closed as soon as it is heard of.
      const unheard = context.signal.aborted && closings.length === 0;
      return !lost && !late && !unheard && !closed && now < closingSince + this.closeTimeoutMs;
    });
    return there.length + [...this.#opens].filter(({ aborted }) => !aborted).length;
  }

  /** What the manner `same` hands out. Not one that nobody has heard of yet, and nobody will: after its end it would be new. */
  get present(): Resource | undefined {
    return this.resources.find(({ closed, closings, context: { signal } }) => {
      return !closed && (closings.length > 0 || !signal.aborted);
    });
  }

  /** Late resources that are being closed: each has a timer of the pool's, though the pool may have ended. */
  get closingLate(): number {
    const now = this.runtime.now();
    return this.resources.filter(({ late, closed, closingSince = -Infinity }) => {
      return late && !closed && now < closingSince + this.closeTimeoutMs;
    }).length;
  }

  /** Somebody has it now. */
  hold(resource: Resource): void {
    if (++resource.holders > 1) this.violations.push(`resource ${resource.id} is in ${resource.holders} hands`);
    if (resource.hook !== undefined)
      this.violations.push(`resource ${resource.id} was lent during its ${resource.hook}`);
    if (resource.closings.length > 0) this.violations.push(`resource ${resource.id} was lent when it was closed`);
    if (resource.bad) this.violations.push(`resource ${resource.id} was lent when it was no good`);
    if (resource.discarded) this.violations.push(`resource ${resource.id} was lent when it was discarded`);
    if (resource.dirty && this.#resets) this.violations.push(`resource ${resource.id} was lent before it was reset`);
  }

  letGo(resource: Resource): void {
    resource.holders--;
  }

  pause(ms: number): Promise<void> {
    this.timers++;
    return new Promise((resolve) => {
      this.runtime.setTimer(() => {
        this.timers--;
        resolve();
      }, ms);
    });
  }

  async #open(context: OpenContext): Promise<Resource> {
    const { signal } = context;
    this.times.push(this.runtime.now());
    this.#opens.add(signal);
    this.#look();
    try {
      const gate = this.opening(this.times.length, context);
      const resource = await this.#afterPause(gate, signal, (manner) => this.#opened(manner, context));
      resource.late = signal.aborted && resource.context === context;
      return resource;
    } finally {
      this.#opens.delete(signal);
    }
  }

  #opened(manner: Opening, context: OpenContext): Promise<Resource> | Resource {
    if (manner === "same") {
      const had = this.present;
      if (had !== undefined) return had;
    }
    if (manner === "throws" || manner === "rejects") throw new Refused("ECONNREFUSED");
    if (manner === "fatal") throw new Refused("EFATAL");
    if (manner === "never") return new Promise(() => undefined);
    const resource = new Resource(this.resources.length + 1, context, this.runtime.now());
    this.#opens.delete(context.signal);
    this.resources.push(resource);
    if (manner === "deadOnArrival") resource.lose(new Refused("ECONNRESET"));
    // After the pool has had it, and before the event loop turns: a pool that answers at once never lets it turn.
    if (manner === "dies") void soon().then(() => resource.lose(new Refused("ECONNRESET")));
    return resource;
  }

  #work(hook: string, resource: Resource, gate: Gate, signal: AbortSignal | undefined): unknown {
    const { id } = resource;
    if (resource.hook !== undefined) this.violations.push(`${hook} of resource ${id} during its ${resource.hook}`);
    if (resource.holders > 0) this.violations.push(`${hook} of resource ${id} while somebody has it`);
    resource.hook = hook;
    const act = (manner: Manner): unknown => {
      resource.hook = undefined;
      resource.bad = manner === "throws" || manner === "rejects" || (hook === "check" && manner === "no");
      if (manner === "never") return new Promise(() => undefined);
      if (manner === "throws") throw new Refused("EHOOK");
      if (manner === "rejects") return Promise.reject(new Refused("EHOOK"));
      if (hook === "reset") resource.dirty = false;
      return manner !== "no";
    };
    // Not by way of a promise where it need not be: a hook may throw, and may answer, at once.
    return typeof gate === "string" ? act(gate) : this.#afterPause(gate, signal, act);
  }

  #close(resource: Resource, reason: ExitReason): void | Promise<void> {
    const now = this.runtime.now();
    resource.closings.push(reason);
    resource.closingSince = now;
    // Given up in the very moment in which it came, before anybody had heard of it.
    if (resource.context.signal.aborted && resource.openedAt === now) resource.late = true;
    const gate = this.closing(resource);
    const act = (manner: Manner): void | Promise<void> => {
      if (manner === "never") return new Promise(() => undefined);
      resource.closed = true;
      if (manner === "throws") throw new Refused("ECLOSE");
      if (manner === "rejects") return Promise.reject(new Refused("ECLOSE"));
      return undefined;
    };
    return typeof gate === "string" ? act(gate) : this.#afterPause(gate, undefined, act);
  }

  async #afterPause<Then, T>(
    gate: Gate<Then>,
    signal: AbortSignal | undefined,
    act: (manner: Then) => T | Promise<T>,
  ): Promise<T> {
    if (typeof gate !== "object" || gate === null) return act(gate as Then);
    const { ms, then = "ok", deaf = false } = gate as { ms: number; then?: Then | "ok"; deaf?: boolean };
    const pause = this.pause(ms);
    if (deaf || signal === undefined) await pause;
    else await Promise.race([pause, aborted(signal)]);
    return act(then as Then);
  }

  #look(): void {
    const { load } = this;
    this.peak = Math.max(this.peak, load);
    if (load > this.max)
      this.violations.push(`${load} resources at ${this.runtime.now()} ms, where ${this.max} may be`);
  }
}

/** A few promises later. */
async function soon(): Promise<void> {
  for (let hop = 0; hop < 20; hop++) await Promise.resolve();
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason as Error);
    signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
  });
}
