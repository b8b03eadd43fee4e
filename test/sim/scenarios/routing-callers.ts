/**
 * Those who ask a routing pool for something: the model of a request, and of each run of its work on a resource.
 *
 * A run holds its member from its beginning to its end, whatever became of its caller. A request waits in line exactly
 * while it has no answer and no run.
 */

import { getEventListeners } from "node:events";
import { ConnectionLostError, type UseOptions, type WorkContext } from "../../../src/index.ts";
import type { Resource } from "../../routing/server.ts";
import { type Call, codeOf, type World } from "../harness/world.ts";

/** What a work does when it is begun. One that waits is ended by a command. */
export const beginnings = [
  "waits",
  "returns",
  "throws",
  "rejects",
  "was not sent",
  "may have been sent",
  "settles twice",
  "takes its time",
  "kills its resource",
  "sends its resource away",
  "aborts",
  "nests",
] as const;
export type Beginning = (typeof beginnings)[number];

/** What one asks with. Plain: it is part of a command. */
export interface Asking {
  /** A command is written as JSON, which has no Infinity. */
  readonly timeoutMs: number | "for ever";
  readonly idempotent: boolean;
  readonly key: number;
  readonly abortable: boolean;
  readonly begins: Beginning;
  readonly ms: number;
}

/** What the runs of works are to know of the world they are in. */
export interface Desk {
  readonly world: World;
  /** Those that have not ended, in order of their beginning. */
  readonly running: Run[];
  /** How many have begun. */
  begun: number;
  /** Asks the pool for something else, from inside a work. */
  nested(): Promise<unknown>;
}

/** One run of a work on one resource; or a route that was picked. */
export class Run {
  readonly resource: Resource;
  readonly of: Request | undefined;
  /** Its resource was lost under it. */
  lost = false;
  /** That was a tick ago: the pool waits for it no longer. */
  over = false;
  /** What it has ended in. */
  ended: "not" | "ok" | Error = "not";
  readonly #desk: Desk;
  /** What the pool tells it; a route, or one of a broadcast, is told nothing. */
  readonly #context: WorkContext | undefined;
  /** It asks for its signal at once. The others ask when it should have been aborted: it is made when it is asked for. */
  readonly #eager: boolean;
  #settle: ((error: Error | undefined) => void) | undefined;

  constructor(desk: Desk, resource: Resource, context?: WorkContext, of?: Request) {
    this.#desk = desk;
    this.resource = resource;
    this.of = of;
    this.#context = context;
    this.#eager = desk.begun % 2 === 0 && context?.signal !== undefined;
    resource.begins();
    desk.begun++;
    desk.running.push(this);
  }

  /** Whether a command can end it. */
  get endable(): boolean {
    return this.#settle !== undefined;
  }

  /** Its request need not look for another member: it is at work, or the pool has not given it up. */
  get holds(): boolean {
    return this.ended === "not" && !this.over;
  }

  /** Nobody waits for it any more, whoever was answered by whatever. */
  get orphaned(): boolean {
    return this.holds && !this.lost && this.of?.pending === false;
  }

  /** What its signal says that is not so, when all has settled. */
  get misled(): string | undefined {
    if (this.#context === undefined) return undefined;
    const nobodyWaits = this.of?.pending === false;
    const gone = this.lost || this.resource.lost;
    if (!nobodyWaits && !gone && !this.#eager) return undefined;
    const { aborted } = this.#context.signal;
    if (aborted === (nobodyWaits || gone)) return undefined;
    return aborted ? "is told to stop, and somebody waits for it" : "goes on for nobody, and is not told";
  }

  /** It may have given the answer of its request: only its resource can have been a reason to tell it to stop. */
  get mayHaveAnswered(): boolean {
    const { lost, closings } = this.resource;
    return this.ended === "ok" && (lost || closings.length > 0 || this.#context?.signal.aborted === false);
  }

  /** Ends the model of it; in the same step its promise settles. */
  finish(error?: Error): void {
    if (this.ended !== "not") return;
    this.ended = error ?? "ok";
    this.resource.running--;
    this.#desk.running.splice(this.#desk.running.indexOf(this), 1);
    if (this.of !== undefined) this.of.last = this;
  }

  end(error?: Error): void {
    const settle = this.#settle;
    this.#settle = undefined;
    settle?.(error);
  }

  /** Goes on until somebody calls `end`. */
  wait(): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#settle = (error) => {
        this.finish(error);
        if (error === undefined) resolve("done");
        else reject(error);
      };
    });
  }

  begin(begins: Beginning, ms: number): unknown {
    const { world } = this.#desk;
    switch (begins) {
      case "returns":
        this.finish();
        return "at once";
      case "throws":
        return this.#fails(new Error("thrown"), "throw");
      case "rejects":
        return this.#fails(new Error("not found"));
      case "was not sent":
        return this.#fails(new ConnectionLostError("it never left", { sent: "no" }));
      case "may have been sent":
        return this.#fails(new ConnectionLostError("it may have left", { sent: "maybe" }));
      case "settles twice":
        this.finish();
        return twice();
      case "takes its time":
        world.runtime.setTimer(() => this.end(), ms);
        return this.wait();
      case "kills its resource":
        this.resource.lose(new Error("lost by its work"));
        return this.wait();
      case "sends its resource away":
        this.resource.goAway();
        return this.wait();
      case "aborts":
        this.of?.giveUp("gone");
        return this.wait();
      case "nests":
        return this.#desk.nested().finally(() => this.finish());
      case "waits":
        return this.wait();
    }
  }

  #fails(error: Error, how: "throw" | "reject" = "reject"): Promise<never> {
    this.finish(error);
    if (how === "throw") throw error;
    return Promise.reject(error);
  }
}

/** A thenable of somebody who has not read the manual. */
function twice(): PromiseLike<string> {
  return {
    // oxlint-disable-next-line unicorn/no-thenable -- that is what it is about
    then: (resolve: (value: string) => void) => {
      resolve("once");
      resolve("twice");
      throw new Error("and thrown besides");
    },
  } as PromiseLike<string>;
}

/** One call of `use`. */
export class Request {
  readonly asking: Asking;
  readonly runs: Run[] = [];
  readonly abort: AbortController | undefined;
  call: Call | undefined;
  /** It may have been served, and had to wait again before it had begun. */
  cameBack = false;
  /** The run that ended last. */
  last: Run | undefined;
  #gone = false;

  constructor(asking: Asking) {
    this.asking = asking;
    this.abort = asking.abortable ? new AbortController() : undefined;
  }

  get pending(): boolean {
    return this.call?.pending !== false;
  }

  get waits(): boolean {
    return this.pending && !this.runs.some(({ holds }) => holds);
  }

  /** How many listen to its caller's signal. */
  get listeners(): number {
    return this.abort === undefined ? 0 : getEventListeners(this.abort.signal, "abort").length;
  }

  get options(): UseOptions {
    const { idempotent, key } = this.asking;
    const timeoutMs = this.asking.timeoutMs === "for ever" ? Infinity : this.asking.timeoutMs;
    const signal = this.abort?.signal;
    return { timeoutMs, idempotent, ...(key === 0 ? {} : { key }), ...(signal === undefined ? {} : { signal }) };
  }

  /** Its caller is told at once, and nothing is begun for it any more. */
  giveUp(how: "gone" | "out of time"): void {
    if (this.pending && this.abort !== undefined) this.#gone = true;
    this.abort?.abort(how === "gone" ? new Error("gone") : new DOMException("out of time", "TimeoutError"));
  }

  begin(desk: Desk, resource: Resource, context: WorkContext, most: number, hedged: boolean): unknown {
    const { asking, runs } = this;
    const why = this.#whyNot(most, hedged);
    desk.world.must("as-the-model", why === undefined, () => `${this.call?.what} is run ${why}`);
    const run = new Run(desk, resource, context, this);
    runs.push(run);
    return run.begin(runs.length > 1 && asking.begins === "nests" ? "returns" : asking.begins, asking.ms);
  }

  /** Why the work may not be run now. */
  #whyNot(most: number, hedged: boolean): string | undefined {
    const { runs, last } = this;
    const { idempotent } = this.asking;
    if (!this.pending) return "after its answer";
    if (this.#gone) return "though its caller is gone";
    if (runs.length === 0) return undefined;
    if (hedged && idempotent && runs.length === 1) return undefined;
    if (runs.length >= most) return `${runs.length + 1} times`;
    if (idempotent && runs.some(({ lost }) => lost)) return undefined;
    if (last?.ended instanceof ConnectionLostError && (last.ended.sent === "no" || idempotent)) return undefined;
    return `again after ${runs.map(({ ended, over }) => `${codeOf(ended)}${over ? ", over" : ""}`).join("; ")}`;
  }
}
