/**
 * Poolwarden: supervised resource pools.
 *
 * What `import … from "poolwarden"` gives: processes, supervisors, the registry, routing, and every error. Protocols and
 * tools have entry points of their own (`poolwarden/fanta`, `poolwarden/sim`).
 */
export { type AcquireOptions, CheckoutPool, type CheckoutPoolOptions, type Lease } from "./checkout/index.ts";
export type { Connector, ConnectionState, Endpoint, EndpointSource, OpenContext } from "./connection/index.ts";
export * from "./errors.ts";
export type {
  CloseReport,
  Pool,
  PoolSnapshot,
  ProcessTree,
  QueueOptions,
  ReadyOptions,
  ShedOptions,
  UseOptions,
  Work,
  WorkContext,
} from "./pool/index.ts";
export {
  type ExitReason,
  type HasProcess,
  Process,
  type ProcessSpec,
  type Self,
  type StopOptions,
} from "./process/index.ts";
export {
  type Entry,
  type Registration,
  Registry,
  type RegistryEvent,
  type RegistryOptions,
} from "./registry/index.ts";
export {
  type BreakerOptions,
  type HedgeOptions,
  leastUsed,
  type Member,
  type MemberInfo,
  type Outcome,
  type PeakEwmaOptions,
  type PerTickOptions,
  peakEwma,
  perTick,
  powerOfTwo,
  type RendezvousOptions,
  type RetryOptions,
  type Route,
  type RouteRequest,
  Router,
  RoutingPool,
  type RoutingPoolOptions,
  random,
  rendezvous,
  roundRobin,
  type Strategy,
  type StrategyFactory,
  type StrategyLike,
  strictRoundRobin,
  weighted,
} from "./routing/index.ts";
export { type BackoffOptions, type Runtime, systemRuntime, type Timer, type TimerOptions } from "./runtime/index.ts";
export {
  type ChildCounts,
  type ChildInfo,
  type ChildSpec,
  DynamicSupervisor,
  type DynamicSupervisorOptions,
  type RestartOptions,
  Supervisor,
  type SupervisorOptions,
} from "./supervisor/index.ts";
export type { Events, PoolStats, PoolTotals, Reason } from "./telemetry/index.ts";
