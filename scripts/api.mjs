// Compares the public types, one report per entry of package.json's exports, with the reports in api/.
//
//   node scripts/api.mjs            fails when a report differs: a change of the public face is never an accident
//   node scripts/api.mjs --local    writes the reports; read the diff before you commit it
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { Extractor, ExtractorConfig } from "@microsoft/api-extractor";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const local = process.argv.includes("--local");
const base = ExtractorConfig.loadFile(join(root, "api-extractor.json"));
const { name, exports } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const entries = Object.entries(exports).filter(([, target]) => typeof target === "object");

mkdirSync(join(root, "api"), { recursive: true });
const reports = entries.map(([subpath, target]) => report(subpath, target.types));
const orphans = readdirSync(join(root, "api")).filter((file) => !reports.some((done) => done.file === file));
const differing = reports.filter((done) => done.differs).map((done) => done.file);

for (const done of reports) console.log(`api/${done.file}: ${done.differs ? (local ? "updated" : "DIFFERS") : "same"}`);
for (const file of orphans) console.error(`api/${file}: no entry has this report. Delete it, or restore the entry.`);
if (reports.length === 0) fail("package.json exports no entry with types: there was nothing to compare.");
if (orphans.length > 0) fail("api/ holds reports of entries that are gone.");
if (differing.length > 0 && !local) {
  // API Extractor has written the report of today into temp/.
  for (const file of differing) {
    spawnSync("diff", ["-uN", `api/${file}`, `temp/${file}`], { cwd: root, stdio: "inherit" });
  }
  fail(
    "the public types are not those of the committed reports. If you meant that, run `npm run api -- --local`, " +
      "read the diff under api/, and commit it with the change.",
  );
}

function report(subpath, types) {
  const file = `${[name, ...subpath.split("/").slice(1)].join("-")}.api.md`;
  const entry = join(root, types);
  if (!existsSync(entry)) fail(`${types} is missing. Run \`npm run build\` first.`);
  const config = ExtractorConfig.prepare({
    configObject: {
      ...base,
      projectFolder: root,
      mainEntryPointFilePath: entry,
      apiReport: { ...base.apiReport, reportFileName: file },
    },
    configObjectFullPath: join(root, "api-extractor.json"),
    packageJsonFullPath: join(root, "package.json"),
  });
  const result = Extractor.invoke(config, { localBuild: local, messageCallback: quiet });
  if (result.errorCount > 0) fail(`api-extractor found ${result.errorCount} errors in ${types}.`);
  return { file, differs: result.apiReportChanged };
}

/** Errors are printed. That a report differs is ours to say, and the rest is about the tool itself. */
function quiet(message) {
  if (message.logLevel !== "error") message.handled = true;
}

function fail(why) {
  console.error(`api: ${why}`);
  process.exit(1);
}
