/**
 * The life of a connection, as a pure state machine.
 *
 *                      failed                 retry
 *       waiting ◀───────────────── opening ◀──────── waiting
 *                                   │  ▲
 *                            opened │  │ lost: at once, if the last time is not too recent
 *       fatal ◀──failed for good────┤  │
 *         │                         ▼  │
 *         │                       connected ──drain──▶ draining ──quiet, overdue──▶ closing ──closed──▶ gone
 *         │                           │                   │ lost                      ▲               ▲
 *         │                           └──────stop─────────┼───────────────────────────┘               │
 *         └──────────────drain, stop (from opening and waiting too)──────────────────────────────────┘
 *
 * Registered ⇔ able to serve is decided here and nowhere else: `enter` is an effect of entering *connected*, `leave`
 * the first effect of leaving it. A connection serves one resource after another until it is told to drain; it then
 * finishes with the one it has and ends, and whoever wanted a successor has started one. One that has no resource, and
 * that nobody needs one of (`needed`), ends too: `giveUp`.
 *
 * When to try again is remembered apart (`Memory`), so that it outlives a crash of the connection: a restarted process
 * must not hammer a server that is down. A healthy resource that drops is replaced at once. Once a `minMs`, that is: a
 * server that accepts and hangs up would otherwise be called in a tight loop. The same holds for one that asks to go;
 * there it is the successor that is held back, and `succeeding` says what it remembers.
 *
 * `step` has no socket, no clock and no dice; what is to be done comes back as data. After redix's and Finch's state
 * functions; the backoff is DBConnection's.
 */

import { type Backoff, type BackoffOptions, backoff, nextDelay } from "../runtime/index.ts";

/** What must survive the process that owns the connection. */
export interface Memory {
  readonly backoff: Backoff;
  /** Attempts made, ever: the number of the current one. */
  readonly attempts: number;
  /** Of them, those that have failed since the last success. */
  readonly failures: number;
  /** When the last attempt began. */
  readonly attemptedAt: number;
  /** When a resource that went away was last replaced without waiting. */
  readonly replacedAt: number;
  /** No attempt before this, unless somebody waits. */
  readonly retryAt: number;
  /** The last attempt failed for good: there is no other. */
  readonly fatal: boolean;
  readonly lastError: Error | undefined;
}

export type State<R> = { readonly memory: Memory } & (
  | { readonly at: "waiting" }
  | { readonly at: "opening"; readonly attempt: number; readonly lostAlready: Lost | undefined }
  | { readonly at: "connected"; readonly attempt: number; readonly resource: R }
  | { readonly at: "draining"; readonly attempt: number; readonly resource: R }
  | { readonly at: "closing" }
  | { readonly at: "fatal" }
  | { readonly at: "gone" }
);

interface Lost {
  readonly reason: Error | undefined;
}

/** `attempt` says which opening an event is about: timers and sockets of an earlier one may still call. */
export type Event<R> =
  | { readonly on: "start" }
  | { readonly on: "retry" }
  | { readonly on: "nudge" }
  | { readonly on: "opened"; readonly attempt: number; readonly resource: R }
  | { readonly on: "failed"; readonly attempt: number; readonly error: Error; readonly fatal: boolean }
  | { readonly on: "lost"; readonly attempt: number; readonly reason: Error | undefined }
  | { readonly on: "drain" }
  | { readonly on: "quiet" }
  | { readonly on: "overdue" }
  | { readonly on: "closed" }
  | { readonly on: "stop" };

export type Effect<R> =
  | { readonly do: "open"; readonly attempt: number }
  /** Nobody waits for this opening any more; what it yields later is closed. */
  | { readonly do: "abandonOpen" }
  | { readonly do: "retryIn"; readonly delayMs: number }
  | { readonly do: "cancelRetry" }
  /** Register: from now on it may be chosen. */
  | { readonly do: "enter"; readonly resource: R }
  /** Unregister: from now on it may not. */
  | { readonly do: "leave" }
  /** What is in flight on it gets no answer any more. */
  | { readonly do: "fail"; readonly reason: Error | undefined }
  /** The place is free: nobody needs a resource here. */
  | { readonly do: "giveUp" }
  | { readonly do: "watchDrain" }
  /** Closes a resource nobody uses, and waits for nothing. */
  | { readonly do: "dispose"; readonly resource: R; readonly reason: "normal" | "shutdown" | Error }
  /** The same, and `closed` comes when it is done. */
  | { readonly do: "close"; readonly resource: R; readonly reason: "normal" | "shutdown" }
  | { readonly do: "tellFailed"; readonly error: Error; readonly retryMs: number | undefined }
  | { readonly do: "tellLost"; readonly reason: Error | undefined }
  | { readonly do: "exit" };

export type Step<R> = readonly [State<R>, readonly Effect<R>[]];

/** Time and chance for one step. */
export interface Given {
  readonly now: number;
  readonly random: () => number;
  /** Somebody is waiting for a connection: a retry is due as soon as `minMs` allows. */
  readonly wanted: boolean;
  /** Whether a resource is wanted in this place at all. A pool that opens on demand may have no use for it any more. */
  readonly needed: boolean;
}

type In<R, At extends State<R>["at"]> = Extract<State<R>, { at: At }>;

/** The memory of a connection that has never been tried. */
export function newMemory(options: BackoffOptions | undefined): Memory {
  return {
    backoff: backoff(options),
    attempts: 0,
    failures: 0,
    attemptedAt: -Infinity,
    replacedAt: -Infinity,
    retryAt: -Infinity,
    fatal: false,
    lastError: undefined,
  };
}

/** What whoever replaces a resource that went away by itself begins with: leave to open at once, but once a `minMs`. */
export function succeeding(memory: Memory, { now, random }: Pick<Given, "now" | "random">): Memory {
  if (now - memory.replacedAt >= memory.backoff.minMs) return { ...memory, replacedAt: now };
  const [delayMs, after] = nextDelay(memory.backoff, random);
  return { ...memory, backoff: after, retryAt: now + delayMs };
}

/** Where a new process begins; `start` gets it going. */
export function initialState<R>(memory: Memory): State<R> {
  return { at: "waiting", memory };
}

export function step<R>(state: State<R>, event: Event<R>, given: Given): Step<R> {
  switch (state.at) {
    case "waiting":
      return waiting(state, event, given);
    case "opening":
      return opening(state, event, given);
    case "connected":
      return connected(state, event, given);
    case "draining":
      return draining(state, event);
    case "closing":
      return closing(state, event);
    case "fatal":
      return fatal(state, event);
    case "gone":
      return gone(state, event);
  }
}

function waiting<R>(state: In<R, "waiting">, event: Event<R>, given: Given): Step<R> {
  const { memory } = state;
  switch (event.on) {
    case "start": {
      // After a crash: configuration is not mended by it, and a server that is down not any sooner.
      if (memory.fatal) return [{ at: "fatal", memory }, []];
      if (!given.needed) return [{ at: "gone", memory }, [{ do: "giveUp" }, { do: "exit" }]];
      const retryAt = memory.failures > 0 ? Math.max(memory.retryAt, soonest(memory)) : memory.retryAt;
      return openInTime({ ...memory, retryAt }, given);
    }
    case "retry":
      return given.needed ? open(memory, given.now) : [{ at: "gone", memory }, [{ do: "giveUp" }, { do: "exit" }]];
    case "nudge": {
      const earliest = soonest(memory);
      return earliest < memory.retryAt ? waitUntil(memory, true, given.now) : [state, []];
    }
    case "drain":
    case "stop":
      return [{ at: "gone", memory }, [{ do: "cancelRetry" }, { do: "exit" }]];
    default:
      return late(state, event); // An attempt that was given up.
  }
}

function opening<R>(state: In<R, "opening">, event: Event<R>, given: Given): Step<R> {
  const { memory, attempt, lostAlready } = state;
  switch (event.on) {
    case "opened":
      if (event.attempt !== attempt) return late(state, event);
      if (lostAlready !== undefined) {
        // It was lost before we had it: an opening that failed, with a resource to clean up.
        const error = lostAlready.reason ?? new Error("the resource was lost while it was being opened");
        const [next, effects] = failed<R>(memory, error, given);
        return [next, [{ do: "dispose", resource: event.resource, reason: error }, ...effects]];
      }
      return [
        { at: "connected", attempt, resource: event.resource, memory: succeeded(memory) },
        [{ do: "enter", resource: event.resource }],
      ];
    case "failed":
      if (event.attempt !== attempt) return late(state, event);
      if (!event.fatal) return failed(memory, event.error, given);
      return [
        { at: "fatal", memory: { ...memory, failures: memory.failures + 1, fatal: true, lastError: event.error } },
        [{ do: "tellFailed", error: event.error, retryMs: undefined }],
      ];
    case "lost":
      if (event.attempt !== attempt || lostAlready !== undefined) return [state, []];
      return [{ ...state, lostAlready: { reason: event.reason } }, []];
    case "drain":
    case "stop":
      return [{ at: "gone", memory }, [{ do: "abandonOpen" }, { do: "exit" }]];
    case "nudge":
      return [state, []]; // It is being opened already.
    default:
      return late(state, event);
  }
}

function connected<R>(state: In<R, "connected">, event: Event<R>, given: Given): Step<R> {
  const { memory, attempt, resource } = state;
  switch (event.on) {
    case "lost": {
      if (event.attempt !== attempt) return [state, []];
      const reason = event.reason ?? new Error("the resource was lost");
      const gone: Effect<R>[] = [
        { do: "leave" }, // First: nobody may be sent there while we tell the others.
        { do: "tellLost", reason: event.reason },
        { do: "fail", reason: event.reason },
        { do: "dispose", resource, reason },
      ];
      const remembered = succeeding({ ...memory, lastError: reason }, given);
      if (!given.needed) {
        return [{ at: "gone", memory: remembered }, [...gone, { do: "giveUp" }, { do: "exit" }]];
      }
      const [next, effects] = openInTime<R>(remembered, given);
      return [next, [...gone, ...effects]];
    }
    case "drain":
      return [{ at: "draining", attempt, resource, memory }, [{ do: "leave" }, { do: "watchDrain" }]];
    case "stop":
      // Asked by the supervisor, which bounds it: what is in flight may finish until the shutdown time is over.
      return [{ at: "draining", attempt, resource, memory }, [{ do: "leave" }, { do: "watchDrain" }]];
    case "nudge":
      return [state, []]; // Somebody waits because we are full, not because we are away.
    default:
      return late(state, event);
  }
}

function draining<R>(state: In<R, "draining">, event: Event<R>): Step<R> {
  const { memory, attempt, resource } = state;
  switch (event.on) {
    case "quiet":
      return [{ at: "closing", memory }, [{ do: "close", resource, reason: "normal" }]];
    case "overdue":
      return [
        { at: "closing", memory },
        [
          { do: "fail", reason: new Error("its time to finish was over") },
          { do: "close", resource, reason: "shutdown" },
        ],
      ];
    case "lost": {
      if (event.attempt !== attempt) return [state, []];
      const reason = event.reason ?? new Error("the resource was lost");
      const effects: Effect<R>[] = [
        { do: "tellLost", reason: event.reason },
        { do: "fail", reason: event.reason },
        { do: "dispose", resource, reason },
        { do: "exit" },
      ];
      return [{ at: "gone", memory }, effects];
    }
    case "drain":
    case "stop":
    case "nudge":
      return [state, []]; // We are leaving already.
    default:
      return late(state, event);
  }
}

function closing<R>(state: In<R, "closing">, event: Event<R>): Step<R> {
  // A resource that is lost while it is being closed is a resource that has closed.
  if (event.on === "closed") return [{ at: "gone", memory: state.memory }, [{ do: "exit" }]];
  return late(state, event);
}

function fatal<R>(state: In<R, "fatal">, event: Event<R>): Step<R> {
  // No retry, and no nudge: the configuration is wrong until somebody says otherwise (recycle: drain, and a successor).
  if (event.on === "drain" || event.on === "stop") return [{ at: "gone", memory: state.memory }, [{ do: "exit" }]];
  return late(state, event);
}

function gone<R>(state: In<R, "gone">, event: Event<R>): Step<R> {
  return late(state, event); // Timers and sockets may still call. Nobody is home.
}

/** What comes when nobody waits for it any more. Only a resource matters: it must not stay open. */
function late<R>(state: State<R>, event: Event<R>): Step<R> {
  if (event.on !== "opened") return [state, []];
  return [state, [{ do: "dispose", resource: event.resource, reason: "normal" }]];
}

function open<R>(memory: Memory, now: number): Step<R> {
  const attempt = memory.attempts + 1;
  return [
    { at: "opening", attempt, lostAlready: undefined, memory: { ...memory, attempts: attempt, attemptedAt: now } },
    [{ do: "cancelRetry" }, { do: "open", attempt }],
  ];
}

function failed<R>(memory: Memory, error: Error, given: Given): Step<R> {
  const [delayMs, after] = nextDelay(memory.backoff, given.random);
  const remembered = { ...memory, failures: memory.failures + 1, lastError: error, backoff: after };
  if (!given.needed) {
    const end: Effect<R>[] = [{ do: "tellFailed", error, retryMs: undefined }, { do: "giveUp" }, { do: "exit" }];
    return [{ at: "gone", memory: { ...remembered, retryAt: given.now + delayMs } }, end];
  }
  const [next, effects] = waitUntil<R>({ ...remembered, retryAt: given.now + delayMs }, given.wanted, given.now);
  return [next, [{ do: "tellFailed", error, retryMs: next.memory.retryAt - given.now }, ...effects]];
}

/** At once, unless the memory says that it is too early. */
function openInTime<R>(memory: Memory, given: Given): Step<R> {
  return memory.retryAt > given.now ? waitUntil(memory, given.wanted, given.now) : open(memory, given.now);
}

/** Waits for the remembered time, or, when somebody wants it, only for what `minMs` demands. */
function waitUntil<R>(memory: Memory, wanted: boolean, now: number): Step<R> {
  const retryAt = wanted ? Math.min(memory.retryAt, Math.max(soonest(memory), now)) : memory.retryAt;
  return [{ at: "waiting", memory: { ...memory, retryAt } }, [{ do: "retryIn", delayMs: retryAt - now }]];
}

function soonest(memory: Memory): number {
  return memory.attemptedAt + memory.backoff.minMs;
}

function succeeded(memory: Memory): Memory {
  return {
    ...memory,
    backoff: { ...memory.backoff, previousMs: undefined },
    failures: 0,
    retryAt: -Infinity,
    lastError: undefined,
  };
}
