/** Opening: every way in which it can go, and what a pool does about it. */

import { describe, expect, test } from "vitest";
import { scene } from "./scene.ts";

describe("a pool that starts", () => {
  test(
    "resolves when its tree is up, connected or not",
    scene(async (s) => {
      s.server.always("never");
      const pool = await s.start({ size: 3 });
      expect(pool.stats()).toMatchObject({ size: 3, opening: 3, ready: 0 });
      s.check();
    }),
  );
});
