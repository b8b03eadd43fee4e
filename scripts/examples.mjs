// Runs every examples/*.ts against the built package, one line each with its time.
// An example that fails shows all it printed; so does one that is still running after a minute, since a reader would not wait.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const folder = join(root, "examples");
const examples = existsSync(folder) ? readdirSync(folder).filter((file) => file.endsWith(".ts")) : [];
const longestMs = 60_000;

if (examples.length === 0) {
  console.error("examples: there are none under examples/, so nothing was shown to work");
  process.exit(1);
}

let failed = 0;
for (const example of examples.sort()) {
  const started = performance.now();
  const run = spawnSync(process.execPath, ["--import", "tsx", join("examples", example)], {
    cwd: root,
    encoding: "utf8",
    timeout: longestMs,
    killSignal: "SIGKILL",
    stdio: ["ignore", "pipe", "pipe"],
  });
  const seconds = ((performance.now() - started) / 1_000).toFixed(1);
  const ok = run.status === 0;
  const why = run.error ? run.error.message : run.signal ? `killed by ${run.signal}` : `exit code ${run.status}`;
  console.log(`examples/${example}  ${seconds} s  ${ok ? "ok" : `FAILED (${why})`}`);
  if (!ok) {
    failed += 1;
    console.log(`${run.stdout ?? ""}${run.stderr ?? ""}`);
  }
}
process.exitCode = failed === 0 ? 0 : 1;
