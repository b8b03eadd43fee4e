/**
 * The options of one `use`, checked: the same for both kinds of pool, each of which ignores what it has no use for.
 */

import { OptionError } from "../errors.ts";
import { checkOptions, duration, flag, type Checks, signal } from "../options.ts";
import type { UseOptions } from "./contract.ts";

const useChecks: Checks<UseOptions> = {
  signal: signal(),
  timeoutMs: duration({ zero: true, infinity: true }),
  key: { expected: "a string or a number", accepts: (value) => typeof value === "string" || typeof value === "number" },
  idempotent: flag(),
  priority: { expected: "a number", accepts: (value) => typeof value === "number" && !Number.isNaN(value) },
};

/** @throws {OptionError} */
export function checkUse(where: string, work: unknown, options: UseOptions): void {
  if (typeof work !== "function") throw new OptionError(`${where}: work`, "a function", work);
  if (options !== noOptions) checkOptions(where, options, useChecks);
}

export const noOptions: UseOptions = Object.freeze({});
