/**
 * A supervisor for children that come and go while it runs.
 *
 * The same rules as a `Supervisor` with `one_for_one`, and these differences, as in Elixir's `DynamicSupervisor`: it
 * starts with no children; ids are only labels; a child is addressed by its process; what ends for good is forgotten;
 * at the end all children are shut down at once rather than one after another.
 */

import { OptionError, type SupervisorError } from "../errors.ts";
import { type Checks, checkOptions, integer } from "../options.ts";
import { type HasProcess, processOf } from "../process/index.ts";
import { Child, type ChildSpec, checkSpec } from "./child.ts";
import { type RestartOptions, restartChecks, Supervision } from "./supervisor.ts";

export interface DynamicSupervisorOptions extends RestartOptions {
  /** Children at once, those restarting included; the next is refused before its start is called. @default no limit */
  readonly maxChildren?: number;
}

const optionChecks: Checks<DynamicSupervisorOptions> = { ...restartChecks, maxChildren: integer(0) };

export class DynamicSupervisor extends Supervision {
  readonly #maxChildren: number;

  /** @throws {OptionError} */
  static async start(options: DynamicSupervisorOptions = {}): Promise<DynamicSupervisor> {
    checkOptions("DynamicSupervisor.start", options, optionChecks);
    const supervisor = new DynamicSupervisor(options);
    await supervisor.run(async () => undefined);
    return supervisor;
  }

  private constructor(options: DynamicSupervisorOptions) {
    super(options, "dynamic supervisor");
    this.#maxChildren = options.maxChildren ?? Infinity;
  }

  /**
   * Starts a child. `undefined` when its start gave nothing; then nothing is kept.
   *
   * @throws {SupervisorError} `_MAX_CHILDREN`; `_START_FAILED`, and nothing is kept; `_STOPPED`; `_REENTRANT`.
   *   {OptionError} for a spec that is wrong.
   */
  async startChild(spec: Omit<ChildSpec, "id"> & { id?: string }): Promise<HasProcess | undefined> {
    const checked = checkSpec("DynamicSupervisor.startChild", spec, false);
    if (checked.significant) {
      throw new OptionError("DynamicSupervisor.startChild: significant", "false: it never shuts itself down", true);
    }
    return this.request(async () => {
      if (this.children.length >= this.#maxChildren) throw this.#full();
      const child = new Child(this, checked);
      this.children.push(child);
      try {
        const handle = await child.start();
        if (handle === undefined) this.#forget(child);
        return handle;
      } catch (error) {
        this.#forget(child);
        throw error;
      }
    });
  }

  /**
   * Shuts a child down and forgets it. One that is restarting is addressed by the process that it last was.
   *
   * @throws {SupervisorError} `_NOT_FOUND`, also for a process that has been replaced; `_STOPPED`; `_REENTRANT`.
   */
  async terminateChild(child: HasProcess): Promise<void> {
    const process = processOf("DynamicSupervisor.terminateChild: child", child);
    return this.request(async () => {
      const found = this.children.find((each) => each.last === process);
      if (found === undefined) {
        throw this.refusal("ERR_SUPERVISOR_NOT_FOUND", `has no child that is process "${process.name}".`);
      }
      await found.shutDown();
      this.#forget(found);
    });
  }

  protected override async shutDownAll(): Promise<void> {
    await Promise.all(this.children.toReversed().map((child) => child.shutDown()));
  }

  protected override async putBack(child: Child): Promise<{ failed: Child; error: Error } | undefined> {
    try {
      const handle = await child.start();
      child.restarting = false;
      if (handle === undefined) this.#forget(child);
      return undefined;
    } catch (error) {
      return { failed: child, error: error as Error };
    }
  }

  protected override ended(child: Child): void {
    this.#forget(child);
  }

  #full(): SupervisorError {
    const says = `has ${this.children.length} children, its maximum. Raise maxChildren, or end one first.`;
    return this.refusal("ERR_SUPERVISOR_MAX_CHILDREN", says);
  }

  #forget(child: Child): void {
    const at = this.children.indexOf(child);
    if (at >= 0) this.children.splice(at, 1);
  }
}
