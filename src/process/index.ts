export { type ExitReason, isClean } from "./exit.ts";
export { type HasProcess, Process, type ProcessSpec, processOf, type Self, type StopOptions } from "./process.ts";
