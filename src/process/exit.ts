/**
 * Why a process ended.
 *
 * `"normal"` and `"shutdown"` are clean: it finished, or it was asked to stop. `"killed"` and any `Error` are abnormal:
 * links carry them, and a supervisor restarts a transient child for them.
 */
export type ExitReason = "normal" | "shutdown" | "killed" | Error;

/** Whether a reason counts as a clean end. */
export function isClean(reason: ExitReason): boolean {
  return reason === "normal" || reason === "shutdown";
}

/** Whether a value is an exit reason at all. */
export function isExitReason(value: unknown): value is ExitReason {
  return value === "normal" || value === "shutdown" || value === "killed" || value instanceof Error;
}
