export type { BreakerOptions } from "./health.ts";
export type { HedgeOptions } from "./hedging.ts";
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
  leastUsed,
  type PeakEwmaOptions,
  type PerTickOptions,
  peakEwma,
  perTick,
  powerOfTwo,
  type RendezvousOptions,
  rendezvous,
  weighted,
} from "./strategies/index.ts";
export { type Attempt, bySaying, type Caller } from "./attempt.ts";
export { Call } from "./call.ts";
export { PoolMember } from "./member.ts";
export { anyone, Ticket, type Traffic } from "./traffic.ts";
