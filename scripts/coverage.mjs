/**
 * Whether the tests reach enough: 95 % of the branches of `src/`, and 90 % of each file's. What they do not reach stands in
 * CONTRIBUTING.md, with the reason; `--list` shows each. Reads what `vitest run --coverage` has left; tests that failed
 * leave nothing.
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
if (process.argv.includes("--list")) list();

const { total, ...files } = summary;
const shares = Object.entries(files)
  .filter(([, { branches }]) => branches.total > 0) // Of none, no share can be reached.
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
/** Each branch that no test takes: where it is, and the line it is in. */
function list() {
  for (const [path, { b: times, branchMap }] of Object.entries(
    JSON.parse(readFileSync("coverage/coverage-final.json", "utf8")),
  )) {
    const lines = readFileSync(path, "utf8").split("\n");
    for (const [id, { loc, locations }] of Object.entries(branchMap)) {
      for (const [at, { start }] of locations.entries()) {
        const line = start.line ?? loc.start.line;
        if (times[id][at] === 0) console.log(`${relative(".", path)}:${line}  ${lines[line - 1].trim()}`);
      }
    }
  }
}

process.exitCode = total.branches.pct < least.all || lowest.share < least.file ? 1 : 0;
