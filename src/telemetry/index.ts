export { emit, type Events, type Reason, watched } from "./events.ts";
export type { PoolStats, PoolTotals } from "./stats.ts";
