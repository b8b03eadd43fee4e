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
export { defaultQueueLimit, defaultWaitMs, Line, type QueueOptions, queueCheck, Waiter } from "./line.ts";
export { Place, PoolTree, stateOf } from "./tree.ts";
