export { Conditions } from "./conditions.ts";
export type {
  CloseReport,
  Pool,
  PoolSnapshot,
  ProcessTree,
  ReadyOptions,
  UseOptions,
  Work,
  WorkContext,
} from "./contract.ts";
export { defaultWaitMs, Line, type QueueOptions, queueCheck, Waiter } from "./line.ts";
export type { ShedOptions } from "./shedding.ts";
export { checkUse, noOptions } from "./use.ts";
export { Place, PoolTree, stateOf } from "./tree.ts";
