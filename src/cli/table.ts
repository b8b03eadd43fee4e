/**
 * Text in columns: the first column to the left, numbers to the right. And a supervision tree, drawn.
 */

import type { ProcessTree } from "../pool/index.ts";

/** Rows of equal length, the first of which is the heading. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const line = (row: readonly string[]): string =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join("  ")
      .trimEnd();
  const [heading = [], ...body] = rows;
  const rule = widths.map((width) => "─".repeat(width)).join("──");
  return [line(heading), rule, ...body.map(line)].join("\n");
}

/** A supervision tree, one process a line: its id, its number in angle brackets, and what `note` has to say of it. */
export function drawTree(tree: ProcessTree, note: (of: ProcessTree) => string = () => ""): string {
  const rows: (readonly [name: string, note: string])[] = [];
  const draw = (of: ProcessTree, stem: string, branch: string): void => {
    rows.push([`${stem}${branch}${of.id} <${of.process.id}>${of.process.alive ? "" : " dead"}`, note(of)]);
    const below = stem + { "": "", "├── ": "│   ", "└── ": "    " }[branch];
    for (const [at, child] of of.children.entries()) draw(child, below, at < of.children.length - 1 ? "├── " : "└── ");
  };
  draw(tree, "", "");
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, text]) => `${name.padEnd(width)}  ${text}`.trimEnd()).join("\n");
}

/** 1234567 as 1,234,567. */
export function grouped(value: number): string {
  return Math.round(value).toLocaleString("en");
}
