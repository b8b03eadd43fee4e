/**
 * How options are checked: before anything starts, by name, with what was expected and what came.
 *
 * Each `start` has one table of checks, a row an option, typed so that a missing or a surplus row does not compile. An
 * unknown option is a mistake (most often a misspelt one) and is refused. Specs and connectors are objects that the
 * user may implement with a class: of those only the known fields are looked at.
 */

import { OptionError } from "./errors.ts";

/** One row: tells what it expects, and whether a value is that. `undefined` never reaches it: it means "the default". */
export interface Check {
  readonly expected: string;
  /** Whether `undefined` is refused. */
  readonly required?: boolean;
  accepts(value: unknown): boolean;
  /** For a value made of options itself. */
  readonly inside?: (name: string, value: unknown) => void;
}

export type Checks<O> = { readonly [K in keyof O]-?: Check };

/**
 * Refuses what is not a plain set of the known options.
 *
 * @param where The function called, for the message: `"RoutingPool.start"`.
 * @throws {OptionError} naming the first option that is wrong.
 */
export function checkOptions<O extends object>(where: string, given: O, checks: Checks<O>): void {
  if (!isObject(given) || Array.isArray(given)) throw new OptionError(where, "an object of options", given);
  for (const name of Object.keys(given)) {
    if (!Object.hasOwn(checks, name)) {
      throw new OptionError(
        `${where}: ${name}`,
        `one of ${Object.keys(checks).join(", ")}`,
        undefined,
        "unknown option",
      );
    }
  }
  checkFields(where, given, checks);
}

/** The same for an object that may carry fields of its own. */
export function checkFields<O extends object>(where: string, given: O, checks: Checks<O>): void {
  if (!isObject(given)) throw new OptionError(where, "an object", given);
  for (const name of Object.keys(checks) as (keyof O & string)[]) {
    const value = (given as Record<string, unknown>)[name];
    const check = checks[name];
    if (value === undefined && !check.required) continue;
    if (!check.accepts(value)) throw new OptionError(`${where}: ${name}`, check.expected, value);
    check.inside?.(`${where}: ${name}`, value);
  }
}

/** The options that were given: one that is `undefined` means the default, and must not stand in its place. */
export function withoutUndefined<O extends object>(options: O): WithoutUndefined<O> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as WithoutUndefined<O>;
}

type WithoutUndefined<O> = { [K in keyof O]: Exclude<O[K], undefined> };

/** Makes a row refuse `undefined` too. */
export function required(check: Check): Check {
  return { ...check, required: true };
}

export function integer(min: number, max: number = Number.MAX_SAFE_INTEGER): Check {
  const upTo = max === Number.MAX_SAFE_INTEGER ? `${min} or more` : `from ${min} to ${max}`;
  return {
    expected: `a whole number, ${upTo}`,
    accepts: (value) => Number.isInteger(value) && (value as number) >= min && (value as number) <= max,
  };
}

/** Milliseconds that must be more than zero; `Infinity` for "no limit" only where that makes sense. */
export function duration(options: { zero?: boolean; infinity?: boolean } = {}): Check {
  const least = options.zero ? "0 or more" : "more than 0";
  return {
    expected: `a number of milliseconds, ${least}${options.infinity ? " (Infinity for no limit)" : ""}`,
    accepts: (value) =>
      typeof value === "number" &&
      (options.zero ? value >= 0 : value > 0) &&
      (value !== Infinity || options.infinity === true),
  };
}

export function fraction(): Check {
  return {
    expected: "a number from 0 to 1",
    accepts: (value) => typeof value === "number" && value >= 0 && value <= 1,
  };
}

export function text(): Check {
  return { expected: "a string that is not empty", accepts: (value) => typeof value === "string" && value !== "" };
}

export function flag(): Check {
  return { expected: "true or false", accepts: (value) => typeof value === "boolean" };
}

export function callback(): Check {
  return { expected: "a function", accepts: (value) => typeof value === "function" };
}

export function oneOf(...allowed: readonly string[]): Check {
  return {
    expected: `one of ${allowed.map((each) => JSON.stringify(each)).join(", ")}`,
    accepts: (value) => allowed.includes(value as string),
  };
}

export function iterable(): Check {
  return { expected: "an iterable", accepts: (value) => isObject(value) && Symbol.iterator in value };
}

/** An object whose named members are functions: a runtime, a connector, a strategy. */
export function having(...methods: readonly string[]): Check {
  return {
    expected: `an object with the method${methods.length > 1 ? "s" : ""} ${methods.join(", ")}`,
    accepts: (value) =>
      isObject(value) && methods.every((method) => typeof (value as Record<string, unknown>)[method] === "function"),
  };
}

/** A row whose value is a set of options with rows of its own. */
export function nested<O extends object>(checks: Checks<O>): Check {
  return {
    expected: "an object of options",
    accepts: isObject,
    inside: (name, value) => checkOptions(name, value as O, checks),
  };
}

/** The first row that accepts decides. */
export function either(...rows: readonly Check[]): Check {
  const of = (value: unknown): Check | undefined => rows.find((row) => row.accepts(value));
  return {
    expected: rows.map((row) => row.expected).join(", or "),
    accepts: (value) => of(value) !== undefined,
    inside: (name, value) => of(value)?.inside?.(name, value),
  };
}

/** Exactly this value: `literal(false)` for "off". */
export function literal(allowed: unknown): Check {
  return { expected: String(allowed), accepts: (value) => value === allowed };
}

export function signal(): Check {
  const listens = having("addEventListener", "removeEventListener");
  return {
    expected: "an AbortSignal",
    accepts: (value) => isObject(value) && "aborted" in value && listens.accepts(value),
  };
}

export const runtimeCheck: Check = having("now", "setTimer", "random");

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}
