import { defineConfig } from "vitest/config";

/** Real faults on real sockets, between programs: `npm run test:faults`. Apart from the tests, since it needs the machine for itself. */
export default defineConfig({
  test: {
    include: ["test/faults/**/*.test.ts", "test/soak/soak.test.ts"],
    globalSetup: "test/cli/build.ts",
    testTimeout: 30_000,
    hookTimeout: 30_000,
    fileParallelism: false,
    dangerouslyIgnoreUnhandledErrors: false,
  },
});
