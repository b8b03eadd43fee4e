/**
 * `npm run sim:mutants`: is the simulation awake?
 *
 * Plants the bugs of the table one at a time in a copy of what was compiled, and lets the scenario that must find each
 * look for it, in no more seeds than the default run has. All must be found.
 */

import { execFileSync, spawn } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { type Mutant, mutants } from "./table.ts";

/** What `npm run sim:build` has made, and where the copies go. */
const compiled = ".cache/sim";
const copies = ".cache/mutants";
const atOnce = 2;
/** One run takes milliseconds. */
const hangingMs = 10_000;

interface Caught {
  readonly seed: number;
  readonly commands: number;
  readonly found: string;
}

/** The text with the bug in it. */
function planted({ name, file, before, after }: Mutant): string {
  const text = readFileSync(join("src", file), "utf8");
  const pieces = text.split(before).length - 1;
  if (pieces === 1) return text.replace(before, () => after);
  throw new Error(`"${name}": src/${file} has the text to be replaced ${pieces} times, not once. Plant the bug anew.`);
}

/** Plants all, each in a copy of its own. The compiler runs once for all. */
function plant(): void {
  rmSync(copies, { recursive: true, force: true });
  const sources = mutants.map((mutant, at) => {
    const source = join(copies, "source", `${at}`, "src", mutant.file);
    mkdirSync(dirname(source), { recursive: true });
    writeFileSync(source, planted(mutant));
    return source;
  });
  for (const at of mutants.keys()) {
    cpSync(compiled, join(copies, `${at}`), { recursive: true, filter: (path) => !path.endsWith(".map") });
  }
  const options = ["--noCheck", "--noResolve", "--rewriteRelativeImportExtensions", "--erasableSyntaxOnly"];
  const how = ["--module", "nodenext", "--target", "es2022", "--skipLibCheck", "--ignoreConfig"];
  const where = ["--rootDir", join(copies, "source"), "--outDir", copies];
  execFileSync("node_modules/.bin/tsc", [...options, ...how, ...where, ...sources], { stdio: "inherit" });
}

/** Lets its scenario look for it. `undefined`: it has survived. */
function hunt(at: number, { name, scenario }: Mutant): Promise<Caught | undefined> {
  const program = join(copies, `${at}`, "test/sim/mutants/hunt.js");
  return new Promise((resolve, reject) => {
    const hunter = spawn(process.execPath, [program, scenario], { stdio: ["ignore", "pipe", "inherit"] });
    let last = { seed: 0, commands: 0 } as { seed: number; commands: number; found?: string };
    let rest = "";
    let hangs = false;
    const hang = (): void => {
      hangs = true;
      hunter.kill("SIGKILL");
    };
    let watch = setTimeout(hang, hangingMs);
    hunter.stdout.setEncoding("utf8").on("data", (text: string) => {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      const line = lines.at(-1);
      if (line !== undefined) last = JSON.parse(line) as typeof last;
      clearTimeout(watch);
      watch = setTimeout(hang, hangingMs);
    });
    hunter.on("error", reject).on("close", (code) => {
      clearTimeout(watch);
      const { seed, commands, found } = last;
      if (hangs) resolve({ seed, commands, found: "settles: the run does not end" });
      else if (found !== undefined) resolve({ seed, commands, found });
      // It may have broken what the harness itself stands on. But what cannot even be loaded is no bug that was found.
      else if (code !== 0 && seed === 0) reject(new Error(`"${name}" has not begun: it ended with ${code}`));
      else if (code !== 0) resolve({ seed, commands, found: `nothing-swallowed: the program ended with ${code}` });
      else resolve(undefined);
    });
  });
}

const startedAt = performance.now();
if (process.argv.length > 2) {
  console.error(`sim:mutants takes no arguments, and was given ${process.argv.slice(2).join(" ")}`);
  process.exit(2);
}
if (!existsSync(compiled)) throw new Error(`${compiled} is missing. Run "npm run sim:mutants", which builds it.`);
plant();
const open = [...mutants.entries()];
let caught = 0;
const worker = async (): Promise<void> => {
  for (let next = open.shift(); next !== undefined; next = open.shift()) {
    const [at, mutant] = next;
    const result = await hunt(at, mutant);
    if (result !== undefined) caught++;
    const how = result && `${mutant.scenario}, seed ${result.seed}, ${result.commands} commands: ${result.found}`;
    console.log(`${result === undefined ? "SURVIVED" : "caught  "} ${mutant.name} (${how ?? mutant.scenario})`);
  }
};
await Promise.all(Array.from({ length: atOnce }, worker));
const seconds = ((performance.now() - startedAt) / 1_000).toFixed(1);
console.log(`${caught} of ${mutants.length} caught, ${seconds} s`);
process.exitCode = caught === mutants.length ? 0 : 1;
