/** What is drawn, as it looks. */
import { expect, test } from "vitest";
import { drawTree, grouped, table } from "../../src/cli/table.ts";
import type { ProcessTree } from "../../src/pool/index.ts";

let lastId = 0;

function node(id: string, children: ProcessTree[] = [], alive = true): ProcessTree {
  return { id, process: { id: ++lastId, alive } as ProcessTree["process"], children };
}

test("a table has its first column to the left, the others to the right, as wide as their widest cell", () => {
  const drawn = table([
    ["phase", "healthy", "x"],
    ["p50 ms", "0.5", "1,000"],
    ["a longer one", "", "2"],
  ]);
  expect(drawn.split("\n")).toEqual([
    "phase         healthy      x",
    "────────────────────────────",
    "p50 ms            0.5  1,000",
    "a longer one               2",
  ]);
});

test("a tree has a line a process: its number, whether it is dead, and a note beside it", () => {
  lastId = 0;
  const leaves = [node("first"), node("second", [], false)];
  const tree = node("pool", [
    node("registry"),
    node("connections", [...leaves, node("third", [node("below")])]),
    node("last"),
  ]);
  const notes: Record<string, string> = { pool: "all of it", first: "the first" };
  expect(drawTree(tree, ({ id }) => notes[id] ?? "").split("\n")).toEqual([
    "pool <8>                 all of it",
    "├── registry <3>",
    "├── connections <6>",
    "│   ├── first <1>        the first",
    "│   ├── second <2> dead",
    "│   └── third <5>",
    "│       └── below <4>",
    "└── last <7>",
  ]);
  expect(drawTree(node("alone"))).toBe("alone <9>");
});

test("numbers are whole and in groups of three digits, whatever the language of the machine", () => {
  expect([0, 999, 1_234_567.8].map(grouped)).toEqual(["0", "999", "1,234,568"]);
});
