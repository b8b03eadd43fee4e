/** The soak is awake: a leak that is planted fails it, and a run without one passes. */

import { execFile, execFileSync } from "node:child_process";
import { beforeAll, expect, test } from "vitest";

beforeAll(() => {
  execFileSync("npm", ["run", "--silent", "soak:build"], { stdio: "inherit" });
});

function soak(...args: string[]): Promise<{ code: unknown; output: string }> {
  return new Promise((resolve) => {
    const program = ["--expose-gc", ".cache/soak/test/soak/soak.js", ...args];
    execFile(process.execPath, program, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : error.code, output: stdout + stderr });
    });
  });
}

test("a short soak of what leaks nothing is steady in all it watches", { timeout: 120_000 }, async () => {
  const { code, output } = await soak("--minutes", "0.05");
  expect(output.match(/: steady$/gm)).toHaveLength(4);
  expect(code).toBe(0);
});

test("leaks of heap, timers and sockets are each found, and fail it", { timeout: 120_000 }, async () => {
  const { code, output } = await soak("--minutes", "0.05", "--leak");
  for (const gauge of ["heapMb", "timers", "sockets"]) expect(output).toMatch(new RegExp(`${gauge} .*GROWS`));
  expect(code).toBe(1);
});

test.each(["--minutes=none", "--minutes=0"])("it is not begun with %s", async (flag) => {
  expect(await soak(flag)).toMatchObject({ code: 2, output: expect.stringContaining("--minutes takes a number") });
});
