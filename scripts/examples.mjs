// Runs every examples/*.ts, and every TypeScript block of the pages below, against the built package: one line each with its
// time. With --installed FOLDER they run as plain JavaScript there, with the package that is installed in it: as its users
// have it.
// An example that fails shows all it printed; so does one that is still running after a minute, since a reader would not wait.
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const { installed } = parseArgs({ options: { installed: { type: "string" } } }).values;

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const folder = join(root, "examples");
const examples = existsSync(folder) ? readdirSync(folder).filter((file) => file.endsWith(".ts")) : [];
const programs = examples.sort().map((file) => join("examples", file));

// What these pages show must run as it stands there. Inside the package, so that it finds the package by its name.
const pages = ["README.md", "docs/guide/testing.md"];
mkdirSync(join(root, ".cache/shown"), { recursive: true });
for (const page of pages) {
  const shown = [...readFileSync(join(root, page), "utf8").matchAll(/^```ts\n(.*?)^```$/gms)];
  for (const [at, [, code]] of shown.entries()) {
    const file = join(".cache/shown", `${page.replaceAll("/", "-")}-block-${at + 1}.ts`);
    writeFileSync(join(root, file), code);
    programs.push(file);
  }
  if (shown.length === 0) {
    console.error(`examples: ${page} shows no TypeScript, so nothing of it was shown to work`);
    process.exit(1);
  }
}

const longestMs = 60_000;

if (examples.length === 0) {
  console.error("examples: there are none under examples/, so nothing was shown to work");
  process.exit(1);
}

/** How a program is run, and where. */
let run = (program) => ({ cwd: root, args: ["--import", "tsx", program] });
if (installed !== undefined) {
  // Not every Node that we support knows `await using`: what runs is what a user's compiler gives.
  const compiled = join(installed, "examples");
  const compiler = join(root, "node_modules/typescript/bin/tsc");
  execFileSync(process.execPath, [compiler, "-p", join(root, "tsconfig.examples.json"), "--outDir", compiled], {
    stdio: "inherit",
  });
  run = (program) => ({ cwd: installed, args: [join(compiled, program.replace(/\.ts$/, ".js"))] });
}

let failed = 0;
for (const program of programs) {
  const started = performance.now();
  const { cwd, args } = run(program);
  const ran = spawnSync(process.execPath, args, {
    cwd,
    encoding: "utf8",
    timeout: longestMs,
    killSignal: "SIGKILL",
    stdio: ["ignore", "pipe", "pipe"],
  });
  const seconds = ((performance.now() - started) / 1_000).toFixed(1);
  const ok = ran.status === 0;
  const why = ran.error ? ran.error.message : ran.signal ? `killed by ${ran.signal}` : `exit code ${ran.status}`;
  console.log(`${program}  ${seconds} s  ${ok ? "ok" : `FAILED (${why})`}`);
  if (!ok) {
    failed += 1;
    console.log(`${ran.stdout ?? ""}${ran.stderr ?? ""}`);
  }
}
process.exitCode = failed === 0 ? 0 : 1;
