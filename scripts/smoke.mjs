// Uses the package as its users get it: copied beside an installed tarball and run there, on every Node we support.
// Imports and requires each subpath by name, and checks that both ways lead to the same exports.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const { name, version, exports } = JSON.parse(readFileSync(require.resolve("poolwarden/package.json"), "utf8"));
const subpaths = Object.keys(exports).filter((subpath) => subpath !== "./package.json");
if (subpaths.length === 0) throw new Error("the package exports no subpath: nothing was checked");

for (const subpath of subpaths) {
  const specifier = name + subpath.slice(1);
  const imported = await import(specifier);
  const required = require(specifier);
  const names = Object.keys(imported);
  if (names.length === 0) throw new Error(`${specifier} exports nothing`);
  for (const each of names) {
    if (required[each] !== imported[each])
      throw new Error(`${specifier}: require and import give two different ${each}`);
  }
}

// A subpath can be imported without its optional peer. Who uses it then is told what to install.
const { Pool } = await import(`${name}/postgres`);
const refusal = await new Pool().query("SELECT 1").catch((error) => error);
if (refusal?.code !== "ERR_POSTGRES_DRIVER") throw new Error("no typed error where pg is missing", { cause: refusal });

console.log(`${name} ${version} on Node ${process.versions.node}: ${subpaths.length} subpaths imported and required`);
