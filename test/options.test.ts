/** Option checks: what is refused, with which words, and what is never said. */

import { inspect } from "node:util";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { OptionError } from "../src/errors.ts";
import {
  type Check,
  type Checks,
  callback,
  checkFields,
  checkOptions,
  duration,
  either,
  flag,
  fraction,
  having,
  integer,
  iterable,
  literal,
  nested,
  oneOf,
  required,
  runtimeCheck,
  signal,
  text,
} from "../src/options.ts";
import { systemRuntime } from "../src/runtime/index.ts";
import { virtualRuntime } from "../src/sim/index.ts";

interface Options {
  readonly size?: number;
  readonly name: string;
}

const checks: Checks<Options> = { size: integer(1, 9), name: required(text()) };

/** The error that a set of options gives, or nothing. */
function refusal(given: unknown, by: (where: string, given: Options, checks: Checks<Options>) => void = checkOptions) {
  try {
    by("Pool.start", given as Options, checks);
    return undefined;
  } catch (error) {
    expect(error).toBeInstanceOf(OptionError);
    return error as OptionError;
  }
}

describe("a set of options", () => {
  test("passes when all is known and in range; undefined means the default", () => {
    for (const given of [{ name: "a" }, { name: "a", size: 9 }, { name: "a", size: undefined }]) {
      expect(refusal(given)).toBeUndefined();
    }
  });

  test.each<[string, unknown, string]>([
    ["unknown", { name: "a", sise: 3 }, "Pool.start: sise: expected one of size, name, got unknown option."],
    ["known to every object only", { name: "a", toString: 3 }, "Pool.start: toString: expected one of size, name, got"],
    ["out of range", { name: "a", size: 10 }, "Pool.start: size: expected a whole number, from 1 to 9, got 10."],
    ["of the wrong type", { name: "a", size: "3" }, 'Pool.start: size: expected a whole number, from 1 to 9, got "3".'],
    ["null", { name: "a", size: null }, "Pool.start: size: expected a whole number, from 1 to 9, got null."],
    ["missing", { size: 3 }, "Pool.start: name: expected a string that is not empty, got undefined."],
    [
      "undefined and required",
      { name: undefined },
      "Pool.start: name: expected a string that is not empty, got undefined.",
    ],
  ])("is refused when one is %s, with its name, what was expected and what came", (_, given, message) => {
    expect(refusal(given)?.message).toContain(message);
  });

  test.each([undefined, null, 7, "name", [], () => undefined])("is refused when it is none: %s", (given) => {
    expect(refusal(given)?.message).toMatch(/^Pool\.start: expected an object of options, got /);
  });

  test("is refused with an error that a program can read", () => {
    const error = refusal({ name: "a", size: 0 });
    expect(error).toMatchObject({
      name: "OptionError",
      code: "ERR_OPTION",
      retryable: false,
      option: "Pool.start: size",
      expected: "a whole number, from 1 to 9",
      got: 0,
    });
  });

  test("may be an object of a class, whose inherited fields count", () => {
    class Named {
      get name() {
        return "";
      }
    }
    expect(refusal(new Named())?.option).toBe("Pool.start: name");
  });
});

test("an object with fields of its own is looked at for the known ones only", () => {
  expect(refusal({ name: "a", mine: 1 }, checkFields)).toBeUndefined();
  expect(refusal({ name: "a", size: 0 }, checkFields)?.option).toBe("Pool.start: size");
  expect(refusal({}, checkFields)?.option).toBe("Pool.start: name");
  expect(refusal(7, checkFields)?.message).toContain("Pool.start: expected an object, got 7.");
});

class Runtime {
  now() {}
  setTimer() {}
  random() {}
}

const rows: [name: string, check: Check, good: unknown[], bad: unknown[]][] = [
  ["integer", integer(0), [0, 1, Number.MAX_SAFE_INTEGER], [-1, 0.5, Infinity, Number.NaN, "1", 1n, 2 ** 53]],
  ["duration", duration(), [0.001, 1, 1e12], [0, -1, Infinity, Number.NaN, "1", null]],
  ["duration, zero allowed", duration({ zero: true }), [0, 1], [-1, Infinity, Number.NaN]],
  ["duration, Infinity allowed", duration({ infinity: true }), [1, Infinity], [0, -Infinity, Number.NaN]],
  ["fraction", fraction(), [0, 0.1, 1], [-0.1, 1.1, Number.NaN, "0.5"]],
  ["text", text(), ["a", " "], ["", 7, null, ["a"]]],
  ["flag", flag(), [true, false], [0, 1, "true", null]],
  ["callback", callback(), [() => 1, class {}], [{}, "f", null]],
  ["oneOf", oneOf("lifo", "fifo"), ["lifo", "fifo"], ["LIFO", "", 0, ["lifo"]]],
  ["iterable", iterable(), [[], new Map(), (function* () {})()], ["text", {}, null, 7]],
  ["having", having("open"), [{ open() {} }], [{}, { open: 1 }, null, "open"]],
  ["literal", literal(false), [false], [true, 0, "false"]],
  [
    "signal",
    signal(),
    [new AbortController().signal, AbortSignal.abort()],
    [{}, new AbortController(), { aborted: false }, { aborted: false, addEventListener() {} }],
  ],
  ["runtime", runtimeCheck, [systemRuntime, virtualRuntime(), new Runtime()], [{}, { now() {} }, null]],
  ["either", either(literal(false), integer(1)), [false, 1], [true, 0, "1"]],
  ["nested", nested<{ a?: number }>({ a: integer(1) }), [{}, { a: 1 }], [7, null, "a"]],
];

describe.each(rows)("a row for %s", (_, check, good, bad) => {
  test("accepts what it should, and nothing else", () => {
    expect(good.filter((value) => !check.accepts(value))).toEqual([]);
    expect(bad.filter((value) => check.accepts(value))).toEqual([]);
  });

  test("says what it expects", () => {
    expect(check.expected.length).toBeGreaterThan(3);
    expect(check.expected).not.toMatch(/undefined|\[object|\.$/);
  });
});

describe("options within options", () => {
  const queue = { queue: nested<{ limit?: number }>({ limit: integer(1) }) };
  const breaker = { breaker: either(literal(false), nested<{ limit?: number }>({ limit: integer(1) })) };
  const check = (given: object, by: object) => () => checkOptions("Pool.start", given, by as Checks<object>);

  test("are refused by their whole name", () => {
    expect(check({ queue: { limit: 0 } }, queue)).toThrow(
      "Pool.start: queue: limit: expected a whole number, 1 or more, got 0.",
    );
    expect(check({ queue: { limits: 1 } }, queue)).toThrow(
      "Pool.start: queue: limits: expected one of limit, got unknown option.",
    );
    expect(check({ queue: [] }, queue)).toThrow("Pool.start: queue: expected an object of options, got an array of 0.");
  });

  test("are looked into by the row that accepts them", () => {
    expect(check({ breaker: false }, breaker)).not.toThrow();
    expect(check({ breaker: { limit: 1 } }, breaker)).not.toThrow();
    expect(check({ breaker: { limit: 0 } }, breaker)).toThrow("breaker: limit: expected");
    expect(check({ breaker: true }, breaker)).toThrow("breaker: expected false, or an object of options, got true.");
  });
});

describe("what came", () => {
  const secret = "hunter2 correct horse";

  class Config {
    readonly password = secret;
  }

  test.each<[unknown, string]>([
    [{ password: secret }, "an object (Object)"],
    [new Config(), "an object (Config)"],
    [Object.create(null), "an object"],
    [[secret, secret], "an array of 2"],
    [new Map([[secret, secret]]), "an object (Map)"],
    [() => secret, "a function"],
    [secret.repeat(10), "a string of 210 characters"],
    [Symbol("name"), "Symbol(name)"],
    [10n, "10n"],
    [-0.5, "-0.5"],
    [undefined, "undefined"],
  ])("is told in a few words, an object's insides never (%#)", (got, words) => {
    expect(new OptionError("Pool.start: size", "a number", got).message).toBe(
      `Pool.start: size: expected a number, got ${words}. Correct the call.`,
    );
  });

  test("is not given away by printing the error either, and is there for who asks", () => {
    const got = new Config();
    const error = new OptionError("Pool.start: connector", "a connector", got);
    expect(inspect(error, { depth: 9 })).not.toContain(secret);
    expect(JSON.stringify(error)).not.toContain(secret);
    expect(error.got).toBe(got);
  });

  test("never shows what an object holds, whatever the object", () => {
    const holding = fc.oneof(
      fc.array(fc.constant(secret), { minLength: 1 }),
      fc.dictionary(fc.string(), fc.constant(secret), { minKeys: 1 }),
      fc.constant(new Error(secret)),
      fc.constant(new Set([secret])),
      fc.constant(Buffer.from(secret)),
    );
    fc.assert(
      fc.property(holding, (got) => {
        const error = new OptionError("a", "b", got);
        expect(error.message).not.toContain(secret);
        expect(inspect(error, { depth: 9 })).not.toContain(secret);
      }),
    );
  });
});
