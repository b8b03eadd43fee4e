/**
 * Arguments, checked: what is wrong with them is said in one line, with the flag, what it takes and what it got.
 */

import { parseArgs } from "node:util";

/** The command was called wrongly. */
export class UsageError extends Error {}

/** A flag is followed by a text, or is a switch that is there or not. */
export type FlagKinds = Readonly<Record<string, "text" | "switch">>;

export interface Arguments {
  /** What stands after each flag that was given: `""` if nothing does, as after a switch. The last one counts. */
  readonly flags: ReadonlyMap<string, string>;
  readonly words: readonly string[];
}

/** The flags and words of a command. What is no flag of its own is refused. */
export function parse(args: readonly string[], kinds: FlagKinds): Arguments {
  const options = Object.fromEntries(
    Object.entries(kinds).map(([name, kind]) => [name, { type: kind === "text" ? "string" : "boolean" }] as const),
  );
  // Not strict: Node's own messages are several lines long, and do not say which flags there are.
  const { tokens } = parseArgs({ args: [...args], options, strict: false, allowPositionals: true, tokens: true });
  const flags = new Map<string, string>();
  const words: string[] = [];
  for (const token of tokens) {
    if (token.kind === "positional") words.push(token.value);
    if (token.kind !== "option") continue;
    const kind = Object.hasOwn(kinds, token.name) && token.rawName.startsWith("--") ? kinds[token.name] : undefined;
    if (kind === undefined) {
      const known = Object.keys(kinds).map((name) => `--${name}`);
      throw new UsageError(`the flags are ${known.join(", ")}; got ${JSON.stringify(token.rawName)}`);
    }
    if (kind === "switch" && token.value !== undefined) {
      throw new UsageError(`--${token.name} takes no value, got ${JSON.stringify(token.value)}`);
    }
    flags.set(token.name, token.value ?? "");
  }
  return { flags, words };
}

/** A flag that is a number from `least` to `most`. */
export function numberFlag(
  { flags }: Arguments,
  name: string,
  range: { least: number; most: number; otherwise: number; whole?: boolean },
): number {
  const given = flags.get(name);
  if (given === undefined) return range.otherwise;
  const { least, most, whole = true } = range;
  const value = given.trim() === "" ? Number.NaN : Number(given);
  if (!(value >= least && value <= most) || (whole && !Number.isInteger(value))) {
    refuse(name, `a ${whole ? "whole " : ""}number from ${least} to ${most}`, given);
  }
  return value;
}

/** A flag that is one of a few words. */
export function choiceFlag<Choice extends string>(
  { flags }: Arguments,
  name: string,
  choices: readonly Choice[],
  otherwise: Choice,
): Choice {
  const given = flags.get(name);
  if (given === undefined) return otherwise;
  return choices.find((choice) => choice === given) ?? refuse(name, `one of ${choices.join(", ")}`, given);
}

/** A flag that is any text but none. */
export function textFlag({ flags }: Arguments, name: string, otherwise: string): string {
  const given = flags.get(name) ?? otherwise;
  return given === "" ? refuse(name, "a text", given) : given;
}

/** Says what a flag takes, and what it got. */
export function refuse(name: string, expected: string, got: string): never {
  throw new UsageError(`--${name} takes ${expected}, got ${got === "" ? "nothing" : JSON.stringify(got)}`);
}
