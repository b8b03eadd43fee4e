// Makes the tables and pictures of docs/guide/strategies.md: runs each `npx poolwarden simulate` that the page shows, as it
// is shown there, and puts what it prints into the block below it. The figures are the same on every machine.
//
//   npm run docs:strategies              writes them
//   npm run docs:strategies -- --check   fails when one differs from what is written
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const check = process.argv.includes("--check");
const page = "docs/guide/strategies.md";
const written = readFileSync(join(root, page), "utf8");

let shown = 0;
const printed = written.replace(/^```sh\nnpx poolwarden (simulate .*?)\n```\n\n```text\n.*?^```$/gms, (_, command) => {
  shown++;
  const args = command.split(/\s+/).filter((word) => word !== "\\");
  console.log(args.join(" "));
  const run = spawnSync(process.execPath, ["dist/cli/main.js", ...args], { cwd: root, encoding: "utf8" });
  if (run.status !== 0) fail(run.stderr);
  return `\`\`\`sh\nnpx poolwarden ${command}\n\`\`\`\n\n\`\`\`text\n${run.stdout.trim()}\n\`\`\``;
});
if (shown === 0) fail(`${page} shows no command, so nothing was made`);

if (check && printed !== written) fail(`${page} differs from what its commands print. Run npm run docs:strategies.`);
if (!check) writeFileSync(join(root, page), printed);

// What the prose says in figures, it has from the tables.
const tables = printed.match(/^```.*?^```$/gms).join("\n");
const prose = printed.replace(/^```.*?^```$/gms, "").replace(/`[^`]*`|!\[[^\]]*\]/g, "");
const invented = [...prose.matchAll(/(\d[\d,]*(?:\.\d+)?) (?:ms|%)/g)].filter(([, figure]) => {
  return !new RegExp(`(?<![\\d.,])${figure.replace(".", "\\.")}(?![\\d.,]*\\d)`).test(tables);
});
if (invented.length > 0) fail(`in no table: ${invented.map(([text]) => text).join(", ")}`);

function fail(why) {
  console.error(`docs:strategies: ${why}`);
  process.exit(1);
}
