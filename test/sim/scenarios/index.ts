/**
 * All scenarios. One that is not listed here is not run.
 */

import type { Scenario } from "../harness/scenario.ts";
import { registry } from "./registry.ts";

export const scenarios: readonly Scenario[] = [registry as unknown as Scenario];
