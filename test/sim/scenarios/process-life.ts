/**
 * What is known of one process from what was done to it: the model beside it, without the code.
 */

import type { ExitReason, Process, Self } from "../../../src/index.ts";
import type { Call } from "../harness/world.ts";

/** Somebody who watches it. */
export interface Watch {
  /** Called when it has heard. */
  heard: number;
  /** It was made while the process lived: then it hears in the step of its death. */
  readonly early: boolean;
  disposed: boolean;
  since: Disposable | undefined;
}

/** Something that its death takes back. */
export interface Held {
  taken: boolean;
  announced: boolean;
  released: boolean;
}

export class Life {
  readonly name: string;
  readonly hasTerminate: boolean;
  readonly state: object = {};
  readonly watches: Watch[] = [];
  readonly held: Held[] = [];
  /** From `init` on. */
  self: Self | undefined;
  start: Call<Process<object>> | undefined;
  /** `"coming"`: `init` has returned, and the process may have heard of that or not. */
  init: "pending" | "coming" | "done" | "failed" = "pending";
  /** What `init` has failed with. */
  initError: Error | undefined;
  /** What the first `stop` has named. */
  asked: ExitReason | undefined;
  /** When the stops are out of patience. */
  readonly deadlines: number[] = [];
  /** It was killed, by us. */
  killed = false;
  /** It must have ended of one of these when the act that brought it is over. */
  readonly due: ExitReason[] = [];
  /** It must have ended of one of these, or of something else before, when all has settled. */
  readonly soon: Error[] = [];
  /** What it has ended of. */
  over: ExitReason | undefined;
  /** What `init` was at when it ended. */
  overAt: Life["init"] | undefined;
  crashes = 0;
  terminations = 0;
  /** `terminate` has come to its end. */
  ended = false;
  /** It was told that `terminate` hangs. */
  hangTold = false;

  constructor(name: string, hasTerminate: boolean) {
    this.name = name;
    this.hasTerminate = hasTerminate;
  }

  get process(): Process {
    return (this.self as Self).process;
  }

  get alive(): boolean {
    return this.over === undefined;
  }

  /** Whether it may be known what the process makes of an act: not in the microtasks after its `init`. */
  get isSure(): boolean {
    return this.self !== undefined && this.init !== "coming";
  }

  /** Whether `terminate` must have been called when all has settled. */
  get mustClean(): boolean {
    const initialised = this.init === "done" || this.init === "coming";
    if (!this.hasTerminate || !initialised) return false;
    return this.asked !== undefined || (!this.alive && !this.killed);
  }

  /** Whether it may end of this, at `now`. `carried`: a link has brought that reason, or another. */
  mayEndOf(reason: ExitReason, carried: readonly ExitReason[], now: number): boolean {
    if (this.killed) return reason === "killed";
    const outOfTime = this.hangTold && this.deadlines.some((deadline) => deadline <= now);
    if (reason === "killed" && outOfTime) return true;
    const causes: readonly ExitReason[] = [...this.due, ...this.soon, ...carried];
    if (this.asked === undefined) return causes.includes(reason);
    return reason === this.asked && (causes.length > 0 || this.ended);
  }
}
