/**
 * All scenarios. One that is not listed here is not run.
 */

import type { Scenario } from "../harness/scenario.ts";
import { checkout } from "./checkout.ts";
import { connection } from "./connection.ts";
import { dynamic } from "./dynamic.ts";
import { fanta } from "./fanta.ts";
import { processes } from "./process.ts";
import { registry } from "./registry.ts";
import { router } from "./router.ts";
import { routing } from "./routing.ts";
import { supervisor } from "./supervisor.ts";

export const scenarios: readonly Scenario[] = [
  processes,
  registry,
  supervisor,
  dynamic,
  connection,
  router,
  routing,
  checkout,
  fanta,
] as unknown as readonly Scenario[];
