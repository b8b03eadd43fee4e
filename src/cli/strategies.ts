/**
 * The strategies that can be named on a command line.
 */

import {
  leastUsed,
  peakEwma,
  perTick,
  powerOfTwo,
  random,
  rendezvous,
  roundRobin,
  type StrategyFactory,
  strictRoundRobin,
  weighted,
} from "../routing/index.ts";

export type StrategyName =
  | "leastUsed"
  | "powerOfTwo"
  | "peakEwma"
  | "weighted"
  | "rendezvous"
  | "roundRobin"
  | "strictRoundRobin"
  | "random"
  | "perTick";

export const strategies: Readonly<Record<StrategyName, () => StrategyFactory>> = {
  leastUsed,
  powerOfTwo,
  peakEwma,
  weighted,
  rendezvous,
  roundRobin,
  strictRoundRobin,
  random,
  /** Of the default: what it keeps to for a turn, somebody must have chosen. */
  perTick: () => perTick(leastUsed()),
};

export const strategyNames: readonly StrategyName[] = Object.keys(strategies) as StrategyName[];
