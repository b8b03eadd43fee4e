/**
 * A process: something that starts, lives, and exits once for a reason.
 *
 * Node has no such unit. A socket closes, a worker exits, an object is forgotten, each in its own way. Supervisors and
 * registries need one way, so here it is, after Erlang's: a process has an identity, can be watched (monitor), can be
 * tied to another (link), can be asked to stop, and can be killed. It is not an OS process and not a thread.
 *
 *                 init ok                stop()                terminate done
 *     starting ────────────▶ running ────────────▶ stopping ────────────────────▶ dead
 *         │                     │                      │                            ▲
 *         └─────────────────────┴──────────────────────┴────────────────────────────┘
 *           init failed      self.exit, a throw in guard, an abnormal link,       kill
 *
 * Promised: dying is one synchronous step. `alive` is false, then what the process held is taken back (no registry
 * shows it), then its monitors run, then its links act, then `exited` resolves. So nobody who hears of a death can
 * still find the dead. The first reason wins: once `stop` has named one, `exit` can only end the process sooner.
 *
 * Not promised: that a kill stops running JavaScript. There is no preemption in a thread; what a killed process still
 * does is ignored by everyone here.
 *
 * After Erlang/OTP's processes, monitors, links and `proc_lib` start-up.
 */

import { asError, OptionError, ProcessError } from "../errors.ts";
import {
  callback,
  type Checks,
  checkFields,
  checkOptions,
  duration,
  required,
  runtimeCheck,
  text,
} from "../options.ts";
import { type Runtime, systemRuntime, type Timer } from "../runtime/index.ts";
import { emit } from "../telemetry/index.ts";
import { type ExitReason, isClean, isExitReason } from "./exit.ts";

/** Whatever is a process or is run by one: pools, registries, supervisors and connections are. */
export interface HasProcess {
  readonly process: Process;
}

/** How to start one. An object with fields of its own (a class) is fine. */
export interface ProcessSpec<S> {
  readonly name?: string;
  readonly runtime?: Runtime;
  /** Builds the state. Until it has returned, nobody has the process but `self`. */
  init(self: Self): S | Promise<S>;
  /** Cleans up what `init` and the life since then have taken. Not called for a process that is killed. */
  terminate?(state: S, reason: ExitReason): void | Promise<void>;
}

/** A process seen from inside. */
export interface Self {
  readonly process: Process;
  /** Aborted when the process is asked to stop, and when it dies without having been asked. */
  readonly signal: AbortSignal;
  /** I am done (`"normal"`), or I am broken (an `Error`). Dead before this returns; `terminate` then cleans up. */
  exit(reason: ExitReason): void;
  /** Wraps an event handler: what it throws, or its promise rejects with, becomes the exit reason. Dead, it does nothing. */
  guard<A extends unknown[]>(fn: (...args: A) => unknown): (...args: A) => void;
}

export interface StopOptions {
  /** What `exited` will say. @default "shutdown" */
  readonly reason?: ExitReason;
  /** How long `terminate` may take before the process is killed. @default 5_000 */
  readonly timeoutMs?: number;
}

type Phase = "starting" | "running" | "stopping" | "dead";

/** What a death takes back. May return what is to be told about it once everything is taken back. */
type Holding = (reason: ExitReason) => (() => void) | undefined;

let lastId = 0;

/** When a `terminate` that nobody waits for counts as hanging: as long as `stop` would have waited. */
const hangingMs = 5_000;

export class Process<S = unknown> implements AsyncDisposable {
  readonly id: number;
  readonly name: string;
  /** Never rejects. */
  readonly exited: Promise<ExitReason>;

  readonly #spec: ProcessSpec<S>;
  readonly #runtime: Runtime;
  readonly #stopSignal = new AbortController();
  readonly #holdings = new Set<Holding>();
  readonly #monitors = new Set<Monitor>();
  readonly #links = new Map<Process, number>();
  readonly #resolveExited: (reason: ExitReason) => void;
  #phase: Phase = "starting";
  #state: S | undefined;
  #reason: ExitReason | undefined;
  #asked: ExitReason | undefined;
  #killed = false;
  #terminating = false;
  #terminated: Promise<void> | undefined;

  /**
   * Starts a process and resolves when `init` has returned.
   *
   * @throws what `init` threw or rejected with; the reason of an exit while `init` was pending (a `ProcessError`
   *   `ERR_PROCESS_EXITED` when that reason is no `Error`); `OptionError` for a spec that is none.
   */
  static async start<S>(spec: ProcessSpec<S>): Promise<Process<S>> {
    checkFields<ProcessSpec<S>>("Process.start", spec, specChecks);
    const born = new Process<S>(spec);
    await born.#begin();
    return born;
  }

  private constructor(spec: ProcessSpec<S>) {
    this.id = ++lastId;
    this.name = spec.name ?? `process ${this.id}`;
    this.#spec = spec;
    this.#runtime = spec.runtime ?? systemRuntime;
    let resolve!: (reason: ExitReason) => void;
    this.exited = new Promise((resolved) => {
      resolve = resolved;
    });
    this.#resolveExited = resolve;
  }

  /** What `init` returned. */
  get state(): S {
    return this.#state as S;
  }

  get alive(): boolean {
    return this.#phase !== "dead";
  }

  /** A `Process` is a `HasProcess`. */
  get process(): this {
    return this;
  }

  /**
   * Calls back exactly once when this process is dead; in a microtask if it is already. Dispose the result to hear
   * nothing. What the callback throws is an event and stops nobody else.
   */
  monitor(onExit: (reason: ExitReason) => void): Disposable {
    if (typeof onExit !== "function") throw new OptionError("Process.monitor: onExit", "a function", onExit);
    const monitor = new Monitor(onExit, this.#monitors);
    if (this.alive) this.#monitors.add(monitor);
    else queueMicrotask(() => monitor.tell(this.#reason as ExitReason));
    return monitor;
  }

  /**
   * Ties two processes: the abnormal exit of either ends the other with the same reason; a clean exit unties them.
   * Linking to one that has died abnormally acts at once. Links of the same pair count; each is undone by its own
   * disposal.
   */
  link(other: HasProcess): Disposable {
    const peer = processOf("Process.link: other", other);
    if (peer === (this as Process)) return { [Symbol.dispose]: () => undefined };
    const self = this as unknown as Process;
    if (!peer.alive) {
      if (!isClean(peer.#reason as ExitReason)) this.#endAtOnce(peer.#reason as ExitReason);
    } else if (!this.alive) {
      if (!isClean(this.#reason as ExitReason)) peer.#endAtOnce(this.#reason as ExitReason);
    } else {
      count(this.#links, peer, 1);
      count(peer.#links, self, 1);
    }
    let linked = true;
    return {
      [Symbol.dispose]: () => {
        if (!linked) return;
        linked = false;
        count(this.#links, peer, -1);
        count(peer.#links, self, -1);
      },
    };
  }

  /**
   * Asks the process to stop: aborts its signal, runs `terminate`, and resolves with the reason it died of. Killed
   * when `terminate` takes longer than `timeoutMs`. Idempotent: the first reason stays; the shortest of the asked
   * timeouts counts.
   */
  async stop(options: StopOptions = {}): Promise<ExitReason> {
    checkOptions("Process.stop", options, stopChecks);
    const { reason = "shutdown", timeoutMs = 5_000 } = options;
    if (!this.alive) return this.exited;
    this.#beginStopping(reason);
    if (this.alive && timeoutMs !== Infinity) this.#killAfter(timeoutMs);
    return this.exited;
  }

  /** Dead before this returns, with the reason `"killed"`; `terminate` is not called. */
  kill(): void {
    if (!this.alive) return;
    this.#killed = true;
    this.#asked = undefined;
    this.#die("killed");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /**
   * Ties something to the life of this process: called in the step in which it dies, before any monitor. What it
   * returns is called when all holdings are taken back. Undo with `release`.
   * @internal
   */
  hold(holding: Holding): void {
    this.#holdings.add(holding);
  }

  /** @internal */
  release(holding: Holding): void {
    this.#holdings.delete(holding);
  }

  /** The reason it died of. @internal */
  get reason(): ExitReason | undefined {
    return this.#reason;
  }

  #begin(): Promise<void> {
    return new Promise((resolve, reject) => {
      let settled = false;
      const initialised = (async () => this.#spec.init(this.#inside()))();
      void this.exited.then((reason) => {
        if (!settled) reject(startError(this.name, reason));
      });
      initialised.then(
        (state) => {
          this.#initialised(state);
          settled = this.alive; // If not, the line above rejects.
          if (settled) resolve();
        },
        (thrown: unknown) => {
          if (!this.alive) {
            this.#initFailedLate(thrown); // Too late for start, which rejects with what the process died of.
            return;
          }
          settled = true;
          reject(thrown); // Untouched: what init threw is what start rejects with.
          this.#die(asError(thrown));
        },
      );
    });
  }

  /** `init` has returned: in time, or after the process was ended. Then what it made is cleaned up all the same. */
  #initialised(state: S): void {
    this.#state = state;
    if (this.#phase === "starting") this.#phase = "running";
    else if (!this.#killed) this.#cleanUp();
  }

  /** One that gave up because it was told to has done right. Anything else is to be heard of. */
  #initFailedLate(thrown: unknown): void {
    if (thrown === this.#stopSignal.signal.reason) return;
    emit("callback.failed", { where: `${this.name}: init, after its exit`, error: asError(thrown) });
  }

  #inside(): Self {
    const signal = this.#stopSignal.signal;
    return {
      process: this as unknown as Process,
      signal,
      exit: (reason) => {
        if (!isExitReason(reason)) {
          throw new OptionError("Self.exit: reason", '"normal", "shutdown", "killed" or an Error', reason);
        }
        this.#endSelf(reason);
      },
      guard: (fn) => {
        return (...args) => {
          if (!this.alive) return;
          try {
            const result = fn(...args);
            if (isThenable(result)) result.then(undefined, (thrown: unknown) => this.#endSelf(asError(thrown)));
          } catch (thrown) {
            this.#endSelf(asError(thrown));
          }
        };
      },
    };
  }

  /** The end that comes from inside. An error that comes while the process stops is told: the reason of the stop stays. */
  #endSelf(reason: ExitReason): void {
    if (this.alive && this.#asked !== undefined && reason instanceof Error && reason !== this.#asked) {
      emit("process.terminateFailed", { process: this.id, name: this.name, error: reason });
    }
    this.#endAtOnce(reason);
  }

  /** From inside, or by a link: dead at once, cleaned up afterwards. */
  #endAtOnce(reason: ExitReason): void {
    if (!this.alive) return;
    const initialised = this.#phase !== "starting";
    this.#die(reason);
    if (initialised) this.#cleanUp();
  }

  /** Runs `terminate` for a process that is dead already. */
  #cleanUp(): void {
    const ended = this.#terminate(this.#reason as ExitReason);
    if (ended !== undefined) this.#watchOver(ended);
  }

  /** Nobody waits for a `terminate` when its process is dead; one that hangs is an event. */
  #watchOver(ended: Promise<void>): void {
    const timer = this.#runtime.setTimer(() => this.#terminateHangs(hangingMs), hangingMs);
    void ended.then(() => timer.cancel());
  }

  #beginStopping(reason: ExitReason): void {
    if (this.#asked !== undefined) return;
    const running = this.#phase === "running";
    this.#asked = reason;
    if (running) this.#phase = "stopping";
    this.#stopSignal.abort(abortReason(this.name, reason));
    // Not yet running: there is no state to clean up. What init returns later is cleaned up then.
    if (!running) {
      this.#die(reason);
      return;
    }
    if (!this.alive) return; // A listener of the signal has ended it.
    const ended = this.#terminate(reason);
    if (ended === undefined) this.#die(reason);
    else if (this.alive) void ended.then(() => this.#die(reason));
    else if (!this.#killed) this.#watchOver(ended); // It has ended its process itself, and goes on.
  }

  /** Runs `terminate` once. Returns a promise that never rejects, or nothing when it is done already. */
  #terminate(reason: ExitReason): Promise<void> | undefined {
    if (this.#spec.terminate === undefined || this.#terminating) return this.#terminated;
    this.#terminating = true;
    const failed = (thrown: unknown): void => {
      emit("process.terminateFailed", { process: this.id, name: this.name, error: asError(thrown) });
    };
    try {
      const result: unknown = this.#spec.terminate(this.#state as S, reason);
      if (isThenable(result)) this.#terminated = Promise.resolve(result).then(() => undefined, failed);
    } catch (thrown) {
      failed(thrown);
    }
    return this.#terminated;
  }

  #killAfter(timeoutMs: number): void {
    const late = (): void => {
      this.#terminateHangs(timeoutMs);
      this.kill();
    };
    const timer: Timer = this.#runtime.setTimer(late, timeoutMs, { keepAlive: true });
    this.hold(() => {
      timer.cancel();
      return undefined;
    });
  }

  #terminateHangs(afterMs: number): void {
    const error = new Error(`terminate had not returned after ${afterMs} ms`);
    emit("process.terminateFailed", { process: this.id, name: this.name, error });
  }

  #die(cause: ExitReason): void {
    if (!this.alive) return;
    const reason = this.#asked ?? cause;
    this.#reason = reason;
    this.#phase = "dead";
    const announcements: (() => void)[] = [];
    for (const holding of takeAll(this.#holdings)) {
      isolated(`${this.name}: holding`, () => {
        const announce = holding(reason);
        if (announce !== undefined) announcements.push(announce);
      });
    }
    for (const announce of announcements) isolated(`${this.name}: announcement`, announce);
    if (reason instanceof Error) emit("process.crashed", { process: this.id, name: this.name, reason });
    for (const monitor of takeAll(this.#monitors)) monitor.tell(reason);
    signalLinks(this.#takeLinks(), reason, (peer) => peer.#endAtOnce(reason));
    if (!this.#stopSignal.signal.aborted) this.#stopSignal.abort(abortReason(this.name, reason));
    this.#resolveExited(reason);
  }

  #takeLinks(): Process[] {
    const peers = [...this.#links.keys()];
    this.#links.clear();
    for (const peer of peers) peer.#links.delete(this as unknown as Process);
    return peers;
  }
}

/** One who watches. Tells at most once. */
class Monitor implements Disposable {
  #onExit: ((reason: ExitReason) => void) | undefined;
  readonly #among: Set<Monitor>;

  constructor(onExit: (reason: ExitReason) => void, among: Set<Monitor>) {
    this.#onExit = onExit;
    this.#among = among;
  }

  tell(reason: ExitReason): void {
    const onExit = this.#onExit;
    this.#onExit = undefined;
    if (onExit !== undefined) isolated("monitor", () => onExit(reason));
  }

  [Symbol.dispose](): void {
    this.#onExit = undefined;
    this.#among.delete(this);
  }
}

const specChecks: Checks<ProcessSpec<unknown>> = {
  name: text(),
  runtime: runtimeCheck,
  init: required(callback()),
  terminate: callback(),
};

const stopChecks: Checks<StopOptions> = {
  reason: { expected: '"normal", "shutdown", "killed" or an Error', accepts: isExitReason },
  timeoutMs: duration({ zero: true, infinity: true }),
};

/**
 * The process behind a value.
 *
 * @throws {OptionError} naming `what`, when there is none.
 */
export function processOf(what: string, value: HasProcess): Process {
  const found: unknown = value?.process;
  if (found instanceof Process) return found;
  throw new OptionError(what, "a process, or an object that has one (.process)", value);
}

/** Signals on their way along links. A chain of a hundred thousand links must not be a hundred thousand stack frames. */
const pendingSignals: (() => void)[] = [];
let signalling = false;

function signalLinks(peers: Process[], reason: ExitReason, end: (peer: Process) => void): void {
  if (isClean(reason)) return;
  for (const peer of peers) pendingSignals.push(() => end(peer));
  if (signalling) return; // The loop below is running further up the stack and will come to them.
  signalling = true;
  for (let at = 0; at < pendingSignals.length; at++) isolated("link", pendingSignals[at] as () => void);
  pendingSignals.length = 0;
  signalling = false;
}

function startError(name: string, reason: ExitReason): Error {
  if (reason instanceof Error) return reason;
  return new ProcessError(
    "ERR_PROCESS_EXITED",
    `process "${name}" exited (${reason}) before it had started. Start it again if it is still needed.`,
    reason,
  );
}

function abortReason(name: string, reason: ExitReason): Error {
  if (reason instanceof Error) return reason;
  return new ProcessError(
    "ERR_PROCESS_EXITED",
    `process "${name}" ends (${reason}). Give up what was begun for it.`,
    reason,
  );
}

function count(links: Map<Process, number>, peer: Process, by: 1 | -1): void {
  const left = (links.get(peer) ?? 0) + by;
  if (left > 0) links.set(peer, left);
  else links.delete(peer);
}

function takeAll<T>(set: Set<T>): T[] {
  const all = [...set];
  set.clear();
  return all;
}

/** Calls what nobody waits for. What it throws, or its promise rejects with, is an event. */
function isolated(where: string, act: () => unknown): void {
  const failed = (thrown: unknown): void => emit("callback.failed", { where, error: asError(thrown) });
  try {
    const result = act();
    if (isThenable(result)) result.then(undefined, failed);
  } catch (thrown) {
    failed(thrown);
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === "object" && value !== null && typeof (value as { then?: unknown }).then === "function";
}
