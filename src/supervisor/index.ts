export type { ChildInfo, ChildSpec } from "./child.ts";
export { DynamicSupervisor, type DynamicSupervisorOptions } from "./dynamic.ts";
export { ownStart } from "./inside.ts";
export { type ChildCounts, type RestartOptions, Supervisor, type SupervisorOptions } from "./supervisor.ts";
