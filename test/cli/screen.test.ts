/** What a terminal gets, and what a file. */
import { describe, expect, test } from "vitest";
import { type Output, Screen } from "../../src/cli/screen.ts";

const clear = "\r\u001b[2K";

function output(kind: Partial<Output>): Output & { written: string } {
  return {
    written: "",
    ...kind,
    write(text) {
      this.written += text;
    },
  };
}

const terminal = { isTTY: true, columns: 20, hasColors: (): boolean => true };

/** Everything a screen can do, done. */
function play(screen: Screen): void {
  screen.say("one", ": begins");
  screen.show("1");
  screen.show("2");
  screen.say("", "between");
  screen.show("3");
  screen.clear();
  screen.clear();
}

describe("a screen", () => {
  test("on a terminal has one line that is written over, below those that stay", () => {
    const out = output(terminal);
    play(new Screen(out));
    expect(out.written).toBe(`\u001b[1mone\u001b[22m: begins\n${clear}1${clear}2${clear}between\n${clear}3${clear}`);
  });

  test("on a terminal without colours has nothing in bold", () => {
    const out = output({ ...terminal, hasColors: () => false });
    play(new Screen(out));
    expect(out.written).toBe(`one: begins\n${clear}1${clear}2${clear}between\n${clear}3${clear}`);
  });

  test.each([
    ["a file", {}, undefined],
    ["a terminal whose cursor cannot go back", terminal, "dumb"],
  ])("on %s has only the lines that stay, in plain letters", (_, kind, term) => {
    const out = output(kind);
    play(new Screen(out, { term }));
    expect(out.written).toBe("one: begins\nbetween\n");
  });

  test("that is quiet has nothing", () => {
    const out = output(terminal);
    play(new Screen(out, { quiet: true }));
    expect(out.written).toBe("");
  });

  test("takes a terminal that does not know its width for one of 80 columns", () => {
    for (const columns of [0, undefined]) {
      const { columns: _, ...rest } = terminal;
      const out = output(columns === undefined ? rest : { ...rest, columns });
      const screen = new Screen(out);
      screen.show("x".repeat(79));
      screen.show("x".repeat(80));
      expect(out.written.split(clear)).toEqual(["", "x".repeat(79), `${"x".repeat(78)}…`]);
    }
  });

  test("cuts the line that is written over to the terminal's width, as it is then", () => {
    const out = output(terminal);
    const screen = new Screen(out);
    const line = "0123456789".repeat(3);
    screen.show(line);
    Object.assign(out, { columns: 31 });
    screen.show(line);
    Object.assign(out, { columns: 1 });
    screen.show(line);
    expect(out.written.split(clear)).toEqual(["", "012345678901234567…", line, "…"]);
  });
});
