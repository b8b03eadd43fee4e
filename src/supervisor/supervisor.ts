/**
 * A supervisor: starts its children in order, stops them in reverse, and puts back what dies.
 *
 * What fails in a long-running program is mostly transient, and a fresh start from a known state mends it. So the code
 * that serves does not try to survive everything; it dies, and the supervisor above it starts it again, together with
 * whatever depended on it:
 *
 * - `one_for_one`: only the child that died.
 * - `rest_for_one`: it and those started after it, which may depend on it. The others are not touched.
 * - `one_for_all`: everybody.
 *
 * A fault that restarts cannot mend must not be hidden: more than `maxRestarts` in `maxSeconds`, and the supervisor ends
 * its children and itself, for the next one up to decide.
 *
 * Requests, deaths and retries are served one at a time, in order (mailbox.ts). A child is in one of three states:
 *
 *                    start ok
 *       stopped ───────────────▶ running
 *          ▲                      │   ▲
 *          │ terminateChild       │   │ restarted
 *          ├──────────────────────┤   │
 *          │        its end, to   ▼   │
 *          └───────────────── restarting ◀─┐
 *           be followed by nothing      └──┘ start failed: again, counted, behind the requests already waiting
 *
 * After OTP's `supervisor`. Different here: starting is asynchronous, so `stop` need not wait for a start that hangs; a
 * failed restart is tried again one event-loop turn later, so that a child which always fails cannot freeze the
 * program; and `restartBackoff`, which OTP has not, spaces those retries.
 */

import { AsyncLocalStorage } from "node:async_hooks";
import { OptionError, SupervisorError, type SupervisorErrorCode } from "../errors.ts";
import {
  type Checks,
  checkOptions,
  duration,
  either,
  integer,
  oneOf,
  required,
  runtimeCheck,
  text,
} from "../options.ts";
import { type ExitReason, type HasProcess, Process, type StopOptions } from "../process/index.ts";
import {
  type Backoff,
  type BackoffOptions,
  backoff,
  backoffCheck,
  nextDelay,
  type Runtime,
  systemRuntime,
} from "../runtime/index.ts";
import { emit } from "../telemetry/index.ts";
import { Child, type ChildInfo, type ChildSpec, checkSpec } from "./child.ts";
import { currentVisit, isInside } from "./inside.ts";
import { RestartWindow } from "./intensity.ts";
import { Mailbox } from "./mailbox.ts";

export interface ChildCounts {
  /** Children known, running or not. */
  readonly specs: number;
  /** Children running. */
  readonly active: number;
  readonly supervisors: number;
  readonly workers: number;
}

/** What `Supervisor` and `DynamicSupervisor` have in common. */
export interface RestartOptions {
  /** Restarts allowed in `maxSeconds`; the next one ends the supervisor. @default 3 */
  readonly maxRestarts?: number;
  /** @default 5 */
  readonly maxSeconds?: number;
  /** Spaces the retries of a restart that failed. Off by default, as in OTP: then they follow a turn apart. */
  readonly restartBackoff?: BackoffOptions;
  readonly name?: string;
  readonly runtime?: Runtime;
}

export interface SupervisorOptions extends RestartOptions {
  readonly strategy: "one_for_one" | "rest_for_one" | "one_for_all";
  /**
   * Whether the end of significant children ends the supervisor: of the first one, or of the last. Only an end by
   * itself that is not followed by a restart counts. @default "never"
   */
  readonly autoShutdown?: "never" | "any_significant" | "all_significant";
}

export const restartChecks: Checks<RestartOptions> = {
  maxRestarts: integer(0),
  maxSeconds: integer(1),
  restartBackoff: backoffCheck,
  name: text(),
  runtime: runtimeCheck,
};

const optionChecks: Checks<SupervisorOptions> = {
  ...restartChecks,
  strategy: required(oneOf("one_for_one", "rest_for_one", "one_for_all")),
  autoShutdown: oneOf("never", "any_significant", "all_significant"),
};

const stopChecks: Checks<StopOptions> = {
  reason: either(oneOf("normal", "shutdown", "killed"), {
    expected: "an Error",
    accepts: (value) => value instanceof Error,
  }),
  timeoutMs: duration({ zero: true, infinity: true }),
};

/**
 * The part that does not depend on which children there are: the mailbox, the window of restarts, retries, giving up,
 * and the process that the supervisor is. Not exported from the package.
 */
export abstract class Supervision implements HasProcess, AsyncDisposable {
  readonly name: string;
  readonly runtime: Runtime;
  /** @internal */
  readonly onStopping: Set<() => void> = new Set();
  /** Oldest first. */
  protected children: Child[] = [];
  protected readonly mailbox: Mailbox = new Mailbox();
  #process!: Process;
  #stopping = false;
  readonly #window: RestartWindow;
  readonly #maxSeconds: number;
  readonly #backoff: Backoff | undefined;
  /** Restarts run in the context the supervisor was made in, never in that of whoever caused the death. */
  readonly #context = AsyncLocalStorage.snapshot();

  protected constructor(options: RestartOptions, kind: string) {
    const { maxRestarts = 3, maxSeconds = 5, restartBackoff, runtime = systemRuntime } = options;
    this.name = options.name ?? kind;
    this.runtime = runtime;
    this.#window = new RestartWindow(maxRestarts, maxSeconds);
    this.#maxSeconds = maxSeconds;
    this.#backoff = restartBackoff === undefined ? undefined : backoff(restartBackoff);
  }

  get process(): Process {
    return this.#process;
  }

  /** @internal */
  get stopping(): boolean {
    return this.#stopping;
  }

  /** The children as they are now, newest first. */
  whichChildren(): ChildInfo[] {
    return this.children.map((child) => child.info).reverse();
  }

  countChildren(): ChildCounts {
    const infos = this.whichChildren();
    const supervisors = infos.filter((info) => info.type === "supervisor").length;
    const active = infos.filter((info) => info.process instanceof Process).length;
    return { specs: infos.length, active, supervisors, workers: infos.length - supervisors };
  }

  /**
   * Ends the children as their specs say (a start still pending is abandoned), then the supervisor. At `timeoutMs` the
   * rest of the tree is killed. Resolves with the reason it died of.
   *
   * @param options.reason What the supervisor exits with; children always get `"shutdown"`. @default "normal"
   * @param options.timeoutMs @default Infinity
   * @throws {OptionError}. {SupervisorError} `ERR_SUPERVISOR_REENTRANT` from inside a child's start or stop.
   */
  async stop(options: StopOptions = {}): Promise<ExitReason> {
    checkOptions("Supervisor.stop", options, stopChecks);
    this.refuseInside();
    const { reason = "normal", timeoutMs = Infinity } = options;
    return this.#process.stop({ reason, timeoutMs });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /** @internal */
  stoppedError(): SupervisorError {
    return this.refusal("ERR_SUPERVISOR_STOPPED", "is stopping or stopped. Start another one.");
  }

  /** @internal */
  childExited(child: Child, process: Process, reason: ExitReason): void {
    this.inOwnContext(async () => {
      if (child.process !== process) return; // A group restart or a terminateChild came first and took it along.
      child.process = undefined;
      const restart = child.restartsAfter(reason);
      emit("supervisor.childExited", { supervisor: this.name, child: child.label, reason, restart });
      if (restart) await this.#restart(child, reason);
      else this.ended(child);
    });
  }

  /** Becomes a process whose `init` is `begin` and whose end is the end of all children. */
  protected async run(begin: () => Promise<void>): Promise<void> {
    const birth = currentVisit();
    if (birth?.at === "abandoned") throw birth.of.stoppedError(); // Nobody waits for us, and nobody would ever stop us.
    let release!: () => void;
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    try {
      await Process.start<void>({
        name: this.name,
        runtime: this.runtime,
        init: (self) => {
          this.#process = self.process;
          const kill = (): void => self.process.kill();
          birth?.born.add(kill);
          self.process.hold(() => {
            birth?.born.delete(kill);
            // Not until no registry shows this supervisor: the monitors of those who die with it may look.
            return () => {
              this.#close();
              for (const child of this.children.toReversed()) child.kill();
            };
          });
          return new Promise((resolve, reject) => {
            // A task of the mailbox, not over before we are up: a child that dies while its siblings start is dealt
            // with afterwards, as in OTP.
            const first = async (): Promise<void> => {
              resolve(await begin());
              await released;
            };
            this.mailbox.ask(first).catch(reject);
          });
        },
        terminate: async () => {
          this.#close();
          await this.mailbox.idle();
          await this.shutDownAll();
        },
      });
    } finally {
      release();
    }
  }

  /** Ends every child, in the order that this kind of supervisor promises. */
  protected abstract shutDownAll(): Promise<void>;
  /** Puts a child back, with whatever its death takes along. Returns the child whose start failed, if one did. */
  protected abstract putBack(child: Child): Promise<{ failed: Child; error: Error } | undefined>;
  /** A child has ended by itself and is not restarted. */
  protected abstract ended(child: Child): void;

  /** Serves a request in its turn; refused from inside a start or stop of this supervisor, and when it is over. */
  protected async request<T>(task: () => Promise<T>): Promise<T> {
    this.refuseInside();
    return this.mailbox.ask(task);
  }

  protected refuseInside(): void {
    if (isInside(this)) {
      throw this.refusal(
        "ERR_SUPERVISOR_REENTRANT",
        "was called from inside the start or stop of one of its children, which it is waiting for. Call it afterwards.",
      );
    }
  }

  protected refusal(code: SupervisorErrorCode, says: string, childId?: string): SupervisorError {
    return new SupervisorError(code, `supervisor "${this.name}" ${says}`, { supervisor: this.name, childId });
  }

  /** Ends the supervisor by its own decision. Does not wait: it is called from inside a task of the mailbox. */
  protected shutDownSelf(): void {
    void this.#process.stop({ reason: "shutdown", timeoutMs: Infinity });
  }

  protected inOwnContext(task: () => Promise<void>): void {
    // Refused only when the supervisor has begun to stop, and then nothing is to be restarted.
    this.#context(() => this.mailbox.ask(task)).catch(() => undefined);
  }

  #close(): void {
    this.#stopping = true;
    this.mailbox.close(() => this.stoppedError());
    for (const giveUp of [...this.onStopping]) giveUp();
    this.onStopping.clear();
    for (const child of this.children) child.cancelRetry();
  }

  async #restart(child: Child, reason: ExitReason): Promise<void> {
    if (!this.#window.allows(this.runtime.now())) {
      const restarts = this.#window.count - 1;
      const gaveUp = { supervisor: this.name, child: child.label, restarts, maxSeconds: this.#maxSeconds, reason };
      emit("supervisor.gaveUp", gaveUp);
      this.shutDownSelf();
      return;
    }
    child.restarting = true;
    const failure = await this.putBack(child);
    if (this.#stopping) return;
    if (failure !== undefined) {
      this.#retryLater(failure.failed, failure.error);
      return;
    }
    emit("supervisor.childRestarted", { supervisor: this.name, child: child.label });
  }

  #retryLater(child: Child, error: Error): void {
    let delayMs = 0;
    if (this.#backoff !== undefined) {
      const [next, after] = nextDelay(child.backoff ?? this.#backoff, () => this.runtime.random());
      delayMs = next;
      child.backoff = after;
    }
    emit("supervisor.restartFailed", { supervisor: this.name, child: child.label, error, delayMs });
    child.restarting = true;
    const timer = this.runtime.setTimer(
      () => {
        this.inOwnContext(async () => {
          if (child.retry !== timer) return; // Terminated, or put back with a group in the meantime.
          child.retry = undefined;
          await this.#restart(child, error);
        });
      },
      delayMs,
      { keepAlive: delayMs === 0 },
    );
    child.retry = timer;
  }
}

export class Supervisor extends Supervision {
  readonly #options: SupervisorOptions;

  /**
   * Starts the children, one after another in this order, and resolves when the last one is up. If one does not start,
   * those before it are shut down in reverse, those after it never start, and this rejects.
   *
   * @throws {OptionError} before anything has started. {SupervisorError} `ERR_SUPERVISOR_START_FAILED` with `childId` and
   *   `cause`.
   */
  static async start(children: readonly ChildSpec[], options: SupervisorOptions): Promise<Supervisor> {
    if (!Array.isArray(children)) throw new OptionError("Supervisor.start: children", "an array of specs", children);
    checkOptions("Supervisor.start", options, optionChecks);
    const supervisor = new Supervisor(options);
    const ids = new Set<string>();
    for (const [at, spec] of children.entries()) {
      const where = `Supervisor.start: children[${at}]`;
      const checked = supervisor.#check(where, spec);
      if (ids.has(spec.id)) throw new OptionError(`${where}: id`, "an id no other child has", spec.id);
      ids.add(spec.id);
      supervisor.children.push(new Child(supervisor, checked));
    }
    await supervisor.run(() => supervisor.#startAll());
    return supervisor;
  }

  private constructor(options: SupervisorOptions) {
    super(options, "supervisor");
    this.#options = options;
  }

  /**
   * Starts one more child, last in the order.
   *
   * @returns what its start gave; `undefined` when it gave nothing (the spec is kept unless it is temporary).
   * @throws {SupervisorError} `_ALREADY_STARTED` or `_ALREADY_PRESENT` for a known id; `_START_FAILED`, and the spec is
   *   forgotten; `_STOPPED`; `_REENTRANT`. {OptionError} for a spec that is wrong.
   */
  async startChild(spec: ChildSpec): Promise<HasProcess | undefined> {
    const checked = this.#check("Supervisor.startChild", spec);
    return this.request(async () => {
      const present = this.#find(spec.id);
      if (present?.process !== undefined) {
        throw this.refusal("ERR_SUPERVISOR_ALREADY_STARTED", `runs a child "${spec.id}" already.`, spec.id);
      }
      if (present !== undefined) {
        const says = `has a child "${spec.id}" that is not running. Call restartChild, or deleteChild first.`;
        throw this.refusal("ERR_SUPERVISOR_ALREADY_PRESENT", says, spec.id);
      }
      const child = new Child(this, checked);
      this.children.push(child);
      try {
        const handle = await child.start();
        if (handle === undefined && checked.restart === "temporary") this.#forget(child);
        return handle;
      } catch (error) {
        this.#forget(child);
        throw error;
      }
    });
  }

  /**
   * Shuts a child down and keeps its spec (a temporary one is forgotten). Not a restart, not counted, no strategy, no
   * auto-shutdown. A child that is down stays down; one that is restarting is no longer.
   *
   * @throws {SupervisorError} `_NOT_FOUND`, `_STOPPED`, `_REENTRANT`.
   */
  async terminateChild(id: string): Promise<void> {
    return this.request(async () => {
      const child = this.#findOrRefuse(id);
      await child.shutDown();
      if (child.spec.restart === "temporary") this.#forget(child);
    });
  }

  /**
   * Starts a child that is down.
   *
   * @throws {SupervisorError} `_RUNNING`, `_RESTARTING`, `_NOT_FOUND`; `_START_FAILED`, and the spec is kept; `_STOPPED`;
   *   `_REENTRANT`.
   */
  async restartChild(id: string): Promise<HasProcess | undefined> {
    return this.request(async () => this.#findDown(id).start());
  }

  /**
   * Forgets a child that is down.
   *
   * @throws {SupervisorError} `_RUNNING`, `_RESTARTING`, `_NOT_FOUND`, `_STOPPED`, `_REENTRANT`.
   */
  async deleteChild(id: string): Promise<void> {
    return this.request(async () => this.#forget(this.#findDown(id)));
  }

  protected override async shutDownAll(): Promise<void> {
    for (const child of this.children.toReversed()) await child.shutDown();
  }

  protected override async putBack(child: Child): Promise<{ failed: Child; error: Error } | undefined> {
    const group = this.#groupOf(child);
    const again = group.filter((member) => member.spec.restart !== "temporary");
    for (const member of group.toReversed()) {
      const down = member.shutDown();
      member.restarting = again.includes(member); // Shown once it is down.
      await down;
      if (member.spec.restart === "temporary") this.#forget(member);
    }
    for (const [at, member] of again.entries()) {
      try {
        await member.start();
        member.restarting = false;
      } catch (error) {
        for (const later of again.slice(at + 1)) later.restarting = false; // This one is: it will be tried again.
        return { failed: member, error: error as Error };
      }
    }
    return undefined;
  }

  protected override ended(child: Child): void {
    const { autoShutdown = "never" } = this.#options;
    if (child.spec.restart === "temporary") this.#forget(child);
    if (!child.spec.significant || autoShutdown === "never") return;
    const others = this.children.some(
      (other) => other !== child && other.spec.significant && (other.process !== undefined || other.restarting),
    );
    if (autoShutdown === "any_significant" || !others) this.shutDownSelf();
  }

  async #startAll(): Promise<void> {
    for (const child of [...this.children]) {
      try {
        const handle = await child.start();
        if (handle === undefined && child.spec.restart === "temporary") this.#forget(child);
      } catch (error) {
        const started = this.children.slice(0, this.children.indexOf(child));
        for (const earlier of started.toReversed()) await earlier.shutDown();
        throw error;
      }
    }
  }

  #groupOf(child: Child): Child[] {
    switch (this.#options.strategy) {
      case "one_for_one":
        return [child];
      case "rest_for_one":
        return this.children.slice(this.children.indexOf(child));
      case "one_for_all":
        return [...this.children];
    }
  }

  #check(where: string, spec: ChildSpec): ReturnType<typeof checkSpec> {
    const checked = checkSpec(where, spec, true);
    if (checked.significant && (this.#options.autoShutdown ?? "never") === "never") {
      throw new OptionError(`${where}: significant`, 'false while autoShutdown is "never"', true);
    }
    return checked;
  }

  #find(id: string): Child | undefined {
    return this.children.find((child) => child.spec.id === id);
  }

  #findOrRefuse(id: string): Child {
    const child = this.#find(id);
    if (child === undefined)
      throw this.refusal("ERR_SUPERVISOR_NOT_FOUND", `has no child "${String(id)}".`, String(id));
    return child;
  }

  #findDown(id: string): Child {
    const child = this.#findOrRefuse(id);
    if (child.restarting) {
      const says = `is restarting the child "${id}". Wait for it, or call terminateChild.`;
      throw this.refusal("ERR_SUPERVISOR_RESTARTING", says, id);
    }
    if (child.process !== undefined) {
      throw this.refusal("ERR_SUPERVISOR_RUNNING", `is running the child "${id}". Call terminateChild first.`, id);
    }
    return child;
  }

  #forget(child: Child): void {
    const at = this.children.indexOf(child);
    if (at >= 0) this.children.splice(at, 1);
  }
}
