/**
 * Whether the tests reach enough: 95 % of the branches of `src/`, and 90 % of each file's. What they do not reach stands in
 * CONTRIBUTING.md, with the reason. Reads what `vitest run --coverage` has left; tests that failed leave nothing.
 */
import { readFileSync } from "node:fs";
import { relative } from "node:path";

const least = { all: 95, file: 90 };

let summary;
try {
  summary = JSON.parse(readFileSync("coverage/coverage-summary.json", "utf8"));
} catch (error) {
  console.error(`No coverage to look at (${error.message}). Run "npx vitest run --coverage" first.`);
  process.exit(1);
}
const { total, ...files } = summary;
const shares = Object.entries(files)
  .map(([path, { branches }]) => ({ path: relative(".", path), share: branches.pct }))
  .sort((a, b) => a.share - b.share);
const [lowest] = shares;
for (const { path, share } of shares) {
  if (share < least.file) console.error(`${share} % of the branches of ${path}: at least ${least.file} % are wanted`);
}
if (total.branches.pct < least.all) console.error(`at least ${least.all} % of all branches are wanted`);
console.log(
  `${total.branches.covered} of ${total.branches.total} branches, ${total.branches.pct} %; ` +
    `of ${shares.length} files the least is ${lowest.share} %, ${lowest.path}`,
);
process.exitCode = total.branches.pct < least.all || lowest.share < least.file ? 1 : 0;
