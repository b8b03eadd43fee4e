/**
 * One child of a supervisor: its spec, and the process that currently is it.
 *
 * Starting and shutting down are the same for every supervisor and every strategy, so they are here; who is started
 * when is not. A child is the same child across restarts: the process changes, the spec stays.
 */

import { asError, OptionError, SupervisorError } from "../errors.ts";
import { callback, checkFields, duration, either, flag, literal, oneOf, required, text } from "../options.ts";
import { type ExitReason, type HasProcess, isClean, type Process, processOf } from "../process/index.ts";
import type { Backoff, Runtime, Timer } from "../runtime/index.ts";
import { emit } from "../telemetry/index.ts";
import { abandonVisit, endVisit, isOwnStart, ownVisit, visit } from "./inside.ts";

/** How to start a child, and what to do when it ends. Fields not named here are ignored. */
export interface ChildSpec {
  /** Unique among the children of one supervisor. */
  readonly id: string;
  /** Starts it and resolves when it is up. `undefined` means: nothing to run now (OTP's `ignore`). */
  readonly start: () => HasProcess | undefined | Promise<HasProcess | undefined>;
  /**
   * `permanent`: always restarted, even after a clean end. `transient`: only after an abnormal one. `temporary`: never,
   * and forgotten when it ends. @default "permanent"
   */
  readonly restart?: "permanent" | "transient" | "temporary";
  /**
   * How it is shut down: asked, then killed after this many milliseconds; asked and waited for; or killed at once.
   * @default 5_000 for a worker, "infinity" for a supervisor
   */
  readonly shutdown?: number | "infinity" | "brutal_kill";
  /** @default "worker" */
  readonly type?: "worker" | "supervisor";
  /** Whether its end can end the supervisor (`autoShutdown`). Not for permanent children. @default false */
  readonly significant?: boolean;
}

/** A child as its supervisor shows it. */
export interface ChildInfo {
  /** `undefined` for a child of a `DynamicSupervisor` that was given none. */
  readonly id: string | undefined;
  /** `undefined`: not running. `"restarting"`: ended, and about to be put back. */
  readonly process: Process | undefined | "restarting";
  readonly type: "worker" | "supervisor";
}

/** A spec with its defaults filled in. */
export interface CheckedSpec {
  readonly id: string | undefined;
  readonly start: ChildSpec["start"];
  readonly restart: "permanent" | "transient" | "temporary";
  readonly shutdown: number | "infinity" | "brutal_kill";
  readonly type: "worker" | "supervisor";
  readonly significant: boolean;
  /** Whether it is one of ours, as `ownStart` says. */
  readonly own: boolean;
}

const specChecks = {
  start: required(callback()),
  restart: oneOf("permanent", "transient", "temporary"),
  shutdown: either(duration({ zero: true }), literal("infinity"), literal("brutal_kill")),
  type: oneOf("worker", "supervisor"),
  significant: flag(),
};

/** @throws {OptionError} naming the field that is wrong. */
export function checkSpec(
  where: string,
  spec: Omit<ChildSpec, "id"> & { id?: string },
  idRequired: boolean,
): CheckedSpec {
  checkFields<typeof spec>(where, spec, { ...specChecks, id: idRequired ? required(text()) : text() });
  const { id, start, restart = "permanent", type = "worker", significant = false } = spec;
  if (significant && restart === "permanent") {
    throw new OptionError(`${where}: significant`, "false for a permanent child, which never ends for good", true);
  }
  const shutdown = spec.shutdown ?? (type === "supervisor" ? "infinity" : 5_000);
  // Called on the spec, so that a spec may be an object with methods.
  return { id, start: () => start.call(spec), restart, shutdown, type, significant, own: isOwnStart(start) };
}

/** What a child needs of its supervisor. */
export interface Parent {
  readonly name: string;
  readonly runtime: Runtime;
  readonly stopping: boolean;
  /** Called when the supervisor begins to stop, so that nobody waits for a start that is still pending. */
  readonly onStopping: Set<() => void>;
  stoppedError(): SupervisorError;
  childExited(child: Child, process: Process, reason: ExitReason): void;
}

export class Child {
  readonly spec: CheckedSpec;
  /** Set while the supervisor is putting it back, or is waiting to try again. */
  restarting = false;
  retry: Timer | undefined;
  /** How long the next retry waits, while its start keeps failing. */
  backoff: Backoff | undefined;
  /** The process that is this child, alive or just dead; not set while it is down. */
  process: Process | undefined;
  /** The process that last was it: how a restarting child of a `DynamicSupervisor` is addressed. */
  last: Process | undefined;
  readonly #parent: Parent;
  #monitor: Disposable | undefined;

  constructor(parent: Parent, spec: CheckedSpec) {
    this.#parent = parent;
    this.spec = spec;
  }

  get label(): string {
    return this.spec.id ?? this.last?.name ?? "child";
  }

  get info(): ChildInfo {
    const { id, type } = this.spec;
    return { id, type, process: this.#shown() };
  }

  /** Whether its end, for this reason, is followed by a restart. */
  restartsAfter(reason: ExitReason): boolean {
    return this.spec.restart === "permanent" || (this.spec.restart === "transient" && !isClean(reason));
  }

  /**
   * Starts it, and waits for that no longer than the supervisor lives. Resolves with `undefined` when the start function
   * says so.
   *
   * @throws {SupervisorError} `ERR_SUPERVISOR_START_FAILED`, or `_STOPPED` when the supervisor began to stop first.
   */
  start(): Promise<HasProcess | undefined> {
    return new Promise((resolve, reject) => {
      const parent = this.#parent;
      if (parent.stopping) return reject(parent.stoppedError());
      const { visit: inside, result } = this.#enter()(parent, async () => this.spec.start());
      const giveUp = (): void => {
        abandonVisit(inside);
        reject(parent.stoppedError());
      };
      // The start function may itself have ended the supervisor.
      if (parent.stopping) giveUp();
      else parent.onStopping.add(giveUp);
      const settled = (outcome: () => HasProcess | undefined): void => {
        const abandoned = inside.at === "abandoned";
        endVisit(inside);
        parent.onStopping.delete(giveUp);
        try {
          const handle = outcome();
          if (abandoned) discard(handle);
          else resolve(this.#adopt(handle));
        } catch (thrown) {
          if (abandoned) emit("callback.failed", { where: `${this.label}: start, abandoned`, error: asError(thrown) });
          else reject(this.#startFailed(thrown));
        }
      };
      const failed = (thrown: unknown): void =>
        settled(() => {
          throw thrown;
        });
      result.then((handle) => settled(() => handle), failed);
    });
  }

  /** Ends it as its `shutdown` says, and resolves when it is dead. Nothing to do when it is down. */
  async shutDown(): Promise<void> {
    this.cancelRetry();
    const process = this.process;
    this.#monitor?.[Symbol.dispose]();
    this.#monitor = undefined;
    if (process === undefined) return;
    if (process.alive) {
      const { shutdown } = this.spec;
      if (shutdown === "brutal_kill") process.kill();
      else await this.#ask(process, shutdown);
    }
    this.#tellUnexpected(process.reason as ExitReason);
    // Only now: until it is dead it is running, and whoever looks must find it.
    this.process = undefined;
  }

  /** Ends it without asking. */
  kill(): void {
    this.cancelRetry();
    this.#monitor?.[Symbol.dispose]();
    this.process?.kill();
    this.process = undefined;
  }

  cancelRetry(): void {
    this.retry?.cancel();
    this.retry = undefined;
    this.restarting = false;
  }

  #enter(): typeof visit {
    return this.spec.own ? ownVisit : visit;
  }

  #shown(): ChildInfo["process"] {
    const process = this.process;
    if (process?.alive) return process;
    if (this.#parent.stopping) return undefined;
    const unserved = process !== undefined && this.restartsAfter(process.reason as ExitReason);
    return this.restarting || unserved ? "restarting" : undefined;
  }

  /** In the very step in which its start settled: a supervisor killed in between would not know of it. */
  #adopt(handle: HasProcess | undefined): HasProcess | undefined {
    if (handle === undefined) return undefined;
    const process = processOf("ChildSpec.start: result", handle);
    if (!process.alive) throw process.reason;
    this.process = process;
    this.last = process;
    this.backoff = undefined;
    this.#monitor = process.monitor((reason) => this.#parent.childExited(this, process, reason));
    return handle;
  }

  async #ask(process: Process, shutdown: number | "infinity"): Promise<void> {
    let timer: Timer | undefined;
    const { result } = this.#enter()(this.#parent, (inside) => {
      // Before its monitors: they are no longer inside, and may call the supervisor.
      process.hold(() => {
        timer?.cancel();
        endVisit(inside);
        return undefined;
      });
      return process.stop({ timeoutMs: Infinity });
    });
    if (shutdown === 0) process.kill();
    if (shutdown !== "infinity" && process.alive) {
      timer = this.#parent.runtime.setTimer(() => process.kill(), shutdown, { keepAlive: true });
    }
    await result;
  }

  #tellUnexpected(reason: ExitReason): void {
    const { shutdown, restart } = this.spec;
    if (reason === (shutdown === "brutal_kill" ? "killed" : "shutdown")) return;
    if (reason === "normal" && restart !== "permanent") return;
    emit("supervisor.shutdownFailed", { supervisor: this.#parent.name, child: this.label, reason });
  }

  #startFailed(cause: unknown): SupervisorError {
    return new SupervisorError(
      "ERR_SUPERVISOR_START_FAILED",
      `supervisor "${this.#parent.name}": child "${this.label}" did not start. See the cause, mend it, start again.`,
      { supervisor: this.#parent.name, childId: this.spec.id, cause },
    );
  }
}

/** Nobody else will ever know of it. */
function discard(handle: HasProcess | undefined): void {
  if (handle !== undefined) processOf("ChildSpec.start: result", handle).kill();
}
