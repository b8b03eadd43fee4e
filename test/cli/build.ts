/**
 * Builds the program before the tests that run it.
 *
 * Nothing is removed first: whoever is running from dist meanwhile must not lose it.
 */
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";

export default function build(): void {
  const root = fileURLToPath(new URL("../..", import.meta.url));
  execFileSync("npm", ["exec", "--", "tsc", "-p", "tsconfig.build.json"], { cwd: root, stdio: "inherit" });
}
