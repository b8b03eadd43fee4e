import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    // Tests run on virtual time, or on loopback sockets. One that needs longer than this is stuck.
    testTimeout: 20_000,
    hookTimeout: 20_000,
    // A promise rejected with nobody listening is a bug of ours, not noise.
    dangerouslyIgnoreUnhandledErrors: false,
    projects: [
      {
        extends: true,
        test: {
          name: "src",
          include: ["test/**/*.test.ts"],
          exclude: ["test/cli/program.test.ts", "test/faults/**", "test/soak/soak.test.ts"],
        },
      },
      // What is built, as its users run it. Built before any test begins, and only when these are among them.
      {
        extends: true,
        test: {
          name: "program",
          include: ["test/cli/program.test.ts"],
          globalSetup: "test/cli/build.ts",
          // Each starts up to eight processes.
          maxConcurrency: 2,
          testTimeout: 60_000,
        },
      },
    ],
    coverage: {
      // Always in CI, where `scripts/coverage.mjs` then looks whether it is enough.
      enabled: process.env["CI"] === "true",
      provider: "v8",
      // Named here, so that a file no test loads counts as 0 % instead of not at all.
      include: ["src/**/*.ts"],
      // Run as programs, in processes of their own, where nothing is measured: test/cli/program.test.ts and test/faults.
      exclude: ["src/cli/demo.ts", "src/cli/fanta.ts", "src/cli/main.ts", "src/cli/servers.ts"],
      reporter: ["html", "json", "json-summary"],
      reportsDirectory: "coverage",
    },
  },
});
