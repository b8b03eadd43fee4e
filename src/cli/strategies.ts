/**
 * The strategies that can be named on a command line.
 */

import { leastUsed, random, roundRobin, type StrategyFactory, strictRoundRobin } from "../routing/index.ts";

export const strategies: Readonly<Record<string, () => StrategyFactory>> = {
  leastUsed,
  roundRobin,
  strictRoundRobin,
  random,
};
