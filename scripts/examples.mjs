// Runs every examples/*.ts, and every TypeScript block of the pages below, against the built package: one line each with its time.
// An example that fails shows all it printed; so does one that is still running after a minute, since a reader would not wait.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

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

let failed = 0;
for (const program of programs) {
  const started = performance.now();
  const run = spawnSync(process.execPath, ["--import", "tsx", program], {
    cwd: root,
    encoding: "utf8",
    timeout: longestMs,
    killSignal: "SIGKILL",
    stdio: ["ignore", "pipe", "pipe"],
  });
  const seconds = ((performance.now() - started) / 1_000).toFixed(1);
  const ok = run.status === 0;
  const why = run.error ? run.error.message : run.signal ? `killed by ${run.signal}` : `exit code ${run.status}`;
  console.log(`${program}  ${seconds} s  ${ok ? "ok" : `FAILED (${why})`}`);
  if (!ok) {
    failed += 1;
    console.log(`${run.stdout ?? ""}${run.stderr ?? ""}`);
  }
}
process.exitCode = failed === 0 ? 0 : 1;
