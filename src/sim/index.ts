export type { SimulatedConnection } from "./cluster.ts";
export { seededRandom } from "./random.ts";
export type { BucketResult, MemberResult, SimulationResult } from "./report.ts";
export { type VirtualRuntime, virtualRuntime } from "./runtime.ts";
export type {
  Attempt,
  Fault,
  Progress,
  ServiceTime,
  SimulatedPoolOptions,
  SimulateOptions,
} from "./scenario.ts";
export { simulate } from "./simulate.ts";
