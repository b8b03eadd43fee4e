export type { BreakerOptions } from "./health.ts";
export type { HedgeOptions } from "./hedging.ts";
export { leastUsed } from "./least-used.ts";
export {
  type MemberInfo,
  type PoolParts,
  type RetryOptions,
  type Route,
  RoutingPool,
  type RoutingPoolOptions,
  routingChecks,
} from "./pool.ts";
export { Router } from "./router.ts";
export {
  type Member,
  type Outcome,
  type RouteRequest,
  random,
  roundRobin,
  type Strategy,
  type StrategyFactory,
  type StrategyLike,
  strictRoundRobin,
} from "./strategy.ts";
export {
  type PeakEwmaOptions,
  type PerTickOptions,
  peakEwma,
  perTick,
  powerOfTwo,
  type RendezvousOptions,
  rendezvous,
  weighted,
} from "./strategies/index.ts";
export { PoolMember } from "./member.ts";
export { anyone, Ticket, type Traffic } from "./traffic.ts";
