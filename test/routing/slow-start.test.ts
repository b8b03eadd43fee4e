/** A member that joins late, or was restored, is not flooded: it may have a growing share of what the others have. */

import { describe, expect, test } from "vitest";
import { type Scene, scene, type Work } from "./scene.ts";
import { after } from "./server.ts";

/** Keeps so many requests in flight on each member, and lets the pool grow old. */
async function loaded(s: Scene, each: number): Promise<void> {
  for (let n = 0; n < each * s.pool.stats().ready; n++) s.use();
  await s.settle();
}

const inFlight = (s: Scene): Record<number, number> =>
  Object.fromEntries(s.pool.members().map((member) => [member.slot, member.inFlight]));

describe("a member that comes back", () => {
  test(
    "gets a tenth of what the others have at first, more with time, and all of it when the time is over",
    scene(async (s) => {
      await s.start({ size: 10, slowStartMs: 10_000 });
      await s.advance(20_000);
      await loaded(s, 20);
      s.registered.find(({ slot }) => slot === 4)?.lose();
      await s.settle();
      expect(inFlight(s)[4]).toBe(0);
      for (let n = 0; n < 50; n++) s.use();
      expect(inFlight(s)[4], "without it, a full scan would send it 20 of these 50").toBe(2);
      await s.advance(5_000);
      s.works.find((work) => work.resource.slot === 4 && work.outcome === "pending")?.end();
      await s.settle();
      for (let n = 0; n < 50; n++) s.use();
      const half = inFlight(s)[4] as number;
      expect(half).toBeGreaterThan(10);
      expect(half).toBeLessThan(20);
      await s.advance(5_000);
      s.works.filter((work) => work.resource.slot === 4 && work.outcome === "pending")[0]?.end();
      await s.settle();
      for (let n = 0; n < 50; n++) s.use();
      const counts = Object.values(inFlight(s));
      expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1);
      s.check();
    }),
  );

  test(
    "serves at once when nobody else has room",
    scene(async (s) => {
      s.server.capacity = 10;
      await s.start({ size: 2 });
      await s.advance(20_000);
      await loaded(s, 10);
      s.registered[0]?.lose();
      await s.settle();
      const works = Array.from({ length: 10 }, () => s.use());
      expect(works.every((work) => work.started)).toBe(true);
      s.check();
    }),
  );

  test.each([
    ["one of its requests has ended", (work: Work) => work.end()],
    ["its capacity grows", (work: Work) => work.resource.setCapacity(3)],
  ])("has room for whoever waits as soon as %s, though it is held back", (_, make) =>
    scene(async (s) => {
      s.server.capacity = 2;
      await s.start({ size: 2 });
      await s.advance(20_000);
      await loaded(s, 2);
      s.registered.find(({ slot }) => slot === 0)?.lose();
      await s.advance(0);
      const [first, second, waits] = [s.use(), s.use(), s.use({ timeoutMs: 60_000 })];
      await s.settle();
      expect([first.resource.slot, second.resource.slot, waits.started]).toEqual([0, 0, false]);
      make(first);
      await s.settle();
      expect(waits.started && waits.resource.slot).toBe(0);
      s.check();
    })(),
  );

  test(
    "is one of the others when it is not wanted: slowStartMs 0",
    scene(async (s) => {
      await s.start({ size: 10, slowStartMs: 0 });
      await s.advance(20_000);
      await loaded(s, 20);
      s.registered[0]?.lose();
      await s.settle();
      for (let n = 0; n < 20; n++) s.use();
      expect(Math.max(...Object.values(inFlight(s)))).toBe(20);
    }),
  );
});

test(
  "a pool that starts, or comes back as a whole, starts at once with all it has",
  scene(async (s) => {
    s.server.script = (nth) => after(nth * 100, "ok");
    await s.start({ size: 4 });
    for (let n = 0; n < 40; n++) s.use();
    await s.advance(400);
    for (let n = 0; n < 40; n++) s.use();
    const counts = Object.values(inFlight(s));
    expect(Math.min(...counts), "those that came later have caught up").toBeGreaterThanOrEqual(13);
    s.check();
  }),
);
