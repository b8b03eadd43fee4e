/**
 * Arguments, checked: what is wrong with them is said in one line, by the name of the flag.
 */

import { type ParseArgsConfig, parseArgs } from "node:util";

/** The command was called wrongly. */
export class UsageError extends Error {}

/** The flags and words of a command. Flags that are not declared are refused. */
export function parse(
  args: readonly string[],
  options: NonNullable<ParseArgsConfig["options"]>,
): { flags: Record<string, string | boolean | undefined>; words: string[] } {
  try {
    const { values, positionals } = parseArgs({ args: [...args], options, allowPositionals: true, strict: true });
    return { flags: values as Record<string, string | boolean | undefined>, words: positionals };
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

/** A flag that is a number from `min` to `max`. */
export function numberFlag(
  flags: Record<string, string | boolean | undefined>,
  name: string,
  range: { least: number; most: number; otherwise: number; whole?: boolean },
): number {
  const given = flags[name];
  if (given === undefined) return range.otherwise;
  const value = Number(given);
  const { least, most, whole = true } = range;
  if (given === "" || !(value >= least && value <= most) || (whole && !Number.isInteger(value))) {
    throw new UsageError(
      `--${name} takes a ${whole ? "whole " : ""}number from ${least} to ${most}, not "${String(given)}"`,
    );
  }
  return value;
}
