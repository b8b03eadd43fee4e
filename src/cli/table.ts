/**
 * Text in columns: the first column to the left, numbers to the right.
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

/** A supervision tree, drawn. */
export function drawTree(tree: ProcessTree): string {
  const draw = ({ id, process, children }: ProcessTree, stem: string, branch: string): string[] => {
    const below = stem + (branch === "├── " ? "│   " : branch === "" ? "" : "    ");
    const last = children.length - 1;
    return [
      `${stem}${branch}${id}  <${process.id}>${process.alive ? "" : " dead"}`,
      ...children.flatMap((child, at) => draw(child, below, at === last ? "└── " : "├── ")),
    ];
  };
  return draw(tree, "", "").join("\n");
}
