import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // Tests run on virtual time, or on loopback sockets. One that needs longer than this is stuck.
    testTimeout: 20_000,
    hookTimeout: 20_000,
    // A promise rejected with nobody listening is a bug of ours, not noise.
    dangerouslyIgnoreUnhandledErrors: false,
    coverage: {
      provider: "v8",
      // Named here, so that a file no test loads counts as 0 % instead of not at all.
      include: ["src/**/*.ts"],
      reporter: ["text", "html", "json-summary"],
      reportsDirectory: "coverage",
    },
  },
});
