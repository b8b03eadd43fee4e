/** What is taken from a command line, and in what words the rest is refused. */
import { describe, expect, test } from "vitest";
import { choiceFlag, numberFlag, parse, textFlag, UsageError } from "../../src/cli/usage.ts";

const kinds = { port: "text", host: "text", json: "switch" } as const;
const range = { least: 0, most: 65_535, otherwise: 7_301 };

function given(...args: string[]): ReturnType<typeof parse> {
  return parse(args, kinds);
}

describe("a command line", () => {
  test("is flags, with what stands after them, and words in their order", () => {
    const { flags, words } = given("one", "--port", "7000", "--json", "two", "--host=::1");
    expect([...flags]).toEqual([
      ["port", "7000"],
      ["json", ""],
      ["host", "::1"],
    ]);
    expect(words).toEqual(["one", "two"]);
  });

  test("may give a flag twice: the last one counts", () => {
    expect(numberFlag(given("--port", "1", "--port", "2"), "port", range)).toBe(2);
  });

  test("has nothing but words after --", () => {
    const { flags, words } = given("--", "--port", "--json", "--");
    expect([...flags]).toEqual([]);
    expect(words).toEqual(["--port", "--json", "--"]);
  });

  test.each([
    [["--prot", "1"], `the flags are --port, --host, --json; got "--prot"`],
    [["-p", "1"], `the flags are --port, --host, --json; got "-p"`],
    [["--no-json"], `the flags are --port, --host, --json; got "--no-json"`],
    [["--toString"], `the flags are --port, --host, --json; got "--toString"`],
    [["--json=yes"], `--json takes no value, got "yes"`],
  ])("is refused with %j", (args, message) => {
    expect(() => given(...args)).toThrow(new UsageError(message));
  });
});

describe("a flag that is a number", () => {
  test("is what was given, or its default", () => {
    expect(numberFlag(given("--port", "0"), "port", range)).toBe(0);
    expect(numberFlag(given("--port", "65535"), "port", range)).toBe(65_535);
    expect(numberFlag(given("--port", "1.5"), "port", { ...range, whole: false })).toBe(1.5);
    expect(numberFlag(given(), "port", range)).toBe(7_301);
  });

  test.each([
    [["--port", "-1"], `"-1"`],
    [["--port", "65536"], `"65536"`],
    [["--port", "1.5"], `"1.5"`],
    [["--port", "NaN"], `"NaN"`],
    [["--port", "80 81"], `"80 81"`],
    [["--port", " "], `" "`],
    [["--port="], "nothing"],
    [["--port"], "nothing"],
  ])("is refused with %j", (args, got) => {
    const message = `--port takes a whole number from 0 to 65535, got ${got}`;
    expect(() => numberFlag(given(...args), "port", range)).toThrow(new UsageError(message));
  });

  test("that need not be whole is refused in other words", () => {
    const seconds = { least: 0.5, most: 2, otherwise: 1, whole: false };
    const message = `--port takes a number from 0.5 to 2, got "0.25"`;
    expect(() => numberFlag(given("--port", "0.25"), "port", seconds)).toThrow(new UsageError(message));
  });
});

test("a flag that is a choice is one of them, or its default, or refused", () => {
  const choose = (...args: string[]): string => choiceFlag(given(...args), "host", ["here", "there"], "here");
  expect([choose(), choose("--host", "there")]).toEqual(["here", "there"]);
  expect(() => choose("--host", "toString")).toThrow(new UsageError(`--host takes one of here, there, got "toString"`));
});

test("a flag that is a text is not none", () => {
  expect([textFlag(given("--host", "::1"), "host", "any"), textFlag(given(), "host", "any")]).toEqual(["::1", "any"]);
  expect(() => textFlag(given("--host"), "host", "any")).toThrow(new UsageError("--host takes a text, got nothing"));
});
