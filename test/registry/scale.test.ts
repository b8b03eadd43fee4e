/** A registry with many entries under one key. Four times the entries may cost four times the steps, not sixteen times. */

import { describe, expect, test } from "vitest";
import { Process } from "../../src/process/index.ts";
import { type Registration, Registry } from "../../src/registry/index.ts";
import { steps } from "./steps.ts";

async function filled(entries: number, owners: number) {
  const registry = await Registry.start<string, number>({ keys: "duplicate" });
  const living: Process[] = [];
  for (let at = 0; at < owners; at++) living.push(await Process.start({ init: () => undefined }));
  const registrations: Registration[] = [];
  const fill = (): void => {
    for (let at = 0; at < entries; at++) {
      registrations.push(registry.register(living[at % owners] as Process, "key", at));
    }
  };
  return { registry, living, registrations, fill };
}

type Filled = Awaited<ReturnType<typeof filled>>;

const removals: [name: string, remove: (filled: Filled) => void][] = [
  [
    "by their registrations, oldest first",
    ({ registrations }) => {
      for (const each of registrations) each.unregister();
    },
  ],
  [
    "by their registrations, newest first",
    ({ registrations }) => {
      for (let at = registrations.length - 1; at >= 0; at--) registrations[at]?.unregister();
    },
  ],
  [
    "by unregister",
    ({ registry, living }) => {
      for (const owner of living) registry.unregister(owner, "key");
    },
  ],
  [
    "by the exit of their owners",
    ({ living }) => {
      for (const owner of living) owner.kill();
    },
  ],
];

describe.each([
  ["one owner", () => 1],
  ["an owner each", (entries: number) => entries],
])("under one key with %s", (_, owners) => {
  test.each(removals)("entries come and go %s in a number of steps that grows as they do", async (__, remove) => {
    const cost = async (entries: number): Promise<number> => {
      const all = await filled(entries, owners(entries));
      const counted = steps(() => {
        all.fill();
        all.registry.lookup("key");
        remove(all);
      });
      expect(all.registry.count()).toBe(0);
      return counted;
    };
    const [small, large] = [await cost(250), await cost(1_000)];
    expect(small).toBeGreaterThan(0);
    expect(large).toBeLessThan(4.5 * small);
  });
});

test("a look-up takes no step at all, however many entries there are", async () => {
  const { registry, fill } = await filled(1_000, 1);
  fill();
  registry.lookup("key");
  expect(steps(() => void registry.lookup("key"))).toBe(0);
  expect(steps(() => void registry.count())).toBe(0);
});

test("150,000 entries under one key are all there, and all gone with their owners", async () => {
  const { registry, living, fill } = await filled(150_000, 3);
  fill();
  expect(registry.lookup("key").length).toBe(150_000);
  for (const owner of living) owner.kill();
  expect([registry.count(), registry.lookup("key")]).toEqual([0, []]);
});
