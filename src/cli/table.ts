/**
 * Text in columns: the first column to the left, numbers to the right. And a supervision tree, drawn.
 */

import type { ProcessTree } from "../pool/index.ts";

type Row = readonly string[];

/** Rows of equal length, the first of which is the heading. */
export function table(rows: readonly [heading: Row, ...body: Row[]]): string {
  const [heading, ...body] = rows;
  const widths = heading.map((_, column) => Math.max(...rows.map((row) => (row[column] as string).length)));
  const padded = (cell: string, column: number): string => {
    const width = widths[column] as number;
    return column === 0 ? cell.padEnd(width) : cell.padStart(width);
  };
  const line = (row: Row): string => row.map(padded).join("  ").trimEnd();
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
