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
export { Place, PoolTree, stateOf, type TreeOptions, type TreeOwner } from "./tree.ts";
