/** What listeners hear: each entry that really came or went, once, in the same order for all. */

import { describe, expect, test } from "vitest";
import { type ExitReason, Process } from "../../src/process/index.ts";
import { Registry, type RegistryEvent } from "../../src/registry/index.ts";
import { virtualRuntime } from "../../src/sim/index.ts";
import { heard } from "../process/heard.ts";

const live = (): Promise<Process> => Process.start({ init: () => undefined });

/** An event in a few words: "+key=1", "-key=1 asked". */
function words({ type, key, value, cause, reason }: RegistryEvent<string, number>): string {
  const why = [cause, reason].filter((each) => each !== undefined).map((each) => ` ${String(each)}`);
  return `${type === "register" ? "+" : "-"}${key}=${value}${why.join("")}`;
}

async function listening(keys: "unique" | "duplicate" = "duplicate") {
  const registry = await Registry.start<string, number>({ keys, name: "names" });
  const told: string[] = [];
  const subscription = registry.listen((event) => told.push(words(event)));
  return { registry, told, subscription, owner: await live() };
}

describe("a listener hears", () => {
  test("of an entry that comes and goes by its registration, once, with all that is known of it", async () => {
    const { registry, owner } = await listening();
    const events: RegistryEvent<string, number>[] = [];
    registry.listen((event) => events.push(event));
    const registration = registry.register(owner, "key", 1);
    registration.unregister();
    registration.unregister();
    expect(events).toEqual([
      { type: "register", owner, key: "key", value: 1 },
      { type: "unregister", owner, key: "key", value: 1, cause: "asked" },
    ]);
  });

  test("of each entry that unregister and unregisterMatch remove, and of none that they do not", async () => {
    const { registry, told, owner } = await listening();
    const other = await live();
    for (const value of [1, 2, 3]) registry.register(owner, "key", value);
    registry.register(other, "key", 4);
    told.length = 0;
    registry.unregisterMatch(owner, "key", (value) => value === 2);
    registry.unregisterMatch(owner, "key", () => false);
    registry.unregister(owner, "nothing");
    registry.unregister(await live(), "key");
    registry.unregister(owner, "key");
    registry.unregister(owner, "key");
    expect(told).toEqual(["-key=2 asked", "-key=1 asked", "-key=3 asked"]);
  });

  const ends: [ExitReason, (owner: Process) => unknown][] = [
    ["killed", (owner) => owner.kill()],
    ["shutdown", (owner) => owner.stop()],
    [new Error("broken"), (owner) => owner.stop({ reason: new Error("broken") })],
  ];
  test.each(ends)(
    "of each entry of an owner that exits (%s), in order of registration, with the reason",
    async (reason, end) => {
      const { registry, told, owner } = await listening();
      for (const [at, key] of ["b", "a", "b", "c"].entries()) registry.register(owner, key, at);
      registry.unregister(owner, "c");
      told.length = 0;
      void end(owner);
      expect(told).toEqual([`-b=0 exit ${reason}`, `-a=1 exit ${reason}`, `-b=2 exit ${reason}`]);
    },
  );

  test("nothing of a refused registration or an updated value; the value as it was when it goes", async () => {
    const { registry, told, owner } = await listening("unique");
    const other = await live();
    registry.register(owner, "key", 1);
    expect(() => registry.register(other, "key", 2)).toThrow();
    registry.updateValue(owner, "key", () => 3);
    owner.kill();
    expect(told).toEqual(["+key=1", "-key=3 exit killed"]);
  });

  test("when the entry is there, or gone, already", async () => {
    const { registry, owner } = await listening();
    const seen: number[] = [];
    registry.listen(() => seen.push(registry.lookup("key").length));
    const registration = registry.register(owner, "key", 1);
    registry.register(owner, "key", 2);
    registration.unregister();
    registry.unregister(owner, "key");
    expect(seen).toEqual([1, 2, 1, 0]);
  });

  test("nothing from before it subscribed, nothing after it was disposed of", async () => {
    const { registry, told, subscription, owner } = await listening();
    registry.register(owner, "key", 1);
    const later: string[] = [];
    registry.listen((event) => later.push(words(event)));
    subscription[Symbol.dispose]();
    subscription[Symbol.dispose]();
    registry.register(owner, "key", 2);
    expect([told, later]).toEqual([["+key=1"], ["+key=2"]]);
  });
});

describe("listeners are kept from each other", () => {
  test("when one throws or rejects: an event, and neither the others nor the caller notice", async () => {
    using failed = heard("callback.failed");
    const registry = await Registry.start<string, number>({ keys: "duplicate", name: "names" });
    registry.listen(() => {
      throw new Error("thrown");
    });
    registry.listen((async () => {
      throw new Error("rejected");
    }) as () => void);
    const told: string[] = [];
    registry.listen((event) => told.push(words(event)));
    const owner = await live();
    registry.register(owner, "key", 1);
    owner.kill();
    await virtualRuntime().settle();
    expect(told).toEqual(["+key=1", "-key=1 exit killed"]);
    expect(failed.events.map(({ where, error }) => `${where}: ${error.message}`).toSorted()).toEqual(
      ["rejected", "rejected", "thrown", "thrown"].map((message) => `registry "names": listener: ${message}`),
    );
  });

  test("when one tries to change the event", async () => {
    const registry = await Registry.start<string, number>({ keys: "duplicate" });
    registry.listen((event) => {
      (event as { value: number }).value = 99;
    });
    const told: string[] = [];
    registry.listen((event) => told.push(words(event)));
    registry.register(await live(), "key", 1);
    expect(told).toEqual(["+key=1"]);
  });

  test("when one registers in the middle: everyone hears everything in the same order", async () => {
    const registry = await Registry.start<string, number>({ keys: "duplicate" });
    const owner = await live();
    const [first, last]: string[][] = [[], []];
    registry.listen((event) => first?.push(words(event)));
    registry.listen(({ type, value }) => {
      if (type === "register" && value < 3) registry.register(owner, "key", value + 1);
    });
    registry.listen((event) => last?.push(words(event)));
    registry.register(owner, "key", 1);
    expect(first).toEqual(["+key=1", "+key=2", "+key=3"]);
    expect(last).toEqual(first);
  });

  test("when one ends the owner in the middle: its exit is told after its coming, to all", async () => {
    const registry = await Registry.start<string, number>({ keys: "duplicate" });
    const owner = await live();
    registry.listen(({ type }) => {
      if (type === "register") owner.kill();
    });
    const told: string[] = [];
    registry.listen((event) => told.push(words(event)));
    const registration = registry.register(owner, "key", 1);
    registration.unregister();
    expect(told).toEqual(["+key=1", "-key=1 exit killed"]);
    expect(registry.count()).toBe(0);
  });

  test("when one disposes of another in the middle: that one hears nothing more, not even of this", async () => {
    const registry = await Registry.start<string, number>({ keys: "duplicate" });
    const told: string[] = [];
    registry.listen(() => second[Symbol.dispose]());
    const second = registry.listen((event) => told.push(words(event)));
    registry.register(await live(), "key", 1);
    expect(told).toEqual([]);
  });

  test("when one subscribes another in the middle: that one hears only of what comes then, not of what it can see", async () => {
    const registry = await Registry.start<string, number>({ keys: "duplicate" });
    const owner = await live();
    const told: string[] = [];
    let subscribed = false;
    registry.listen(({ value }) => {
      if (value !== 1) return;
      registry.register(owner, "key", 2);
      registry.listen((event) => told.push(words(event)));
      subscribed = true;
      expect(registry.count()).toBe(2);
      registry.register(owner, "key", 3);
    });
    registry.register(owner, "key", 1);
    expect(subscribed).toBe(true);
    expect(told).toEqual(["+key=3"]);
  });
});

test("a listener must be a function", async () => {
  const registry = await Registry.start({ keys: "unique" });
  expect(() => registry.listen(7 as unknown as () => void)).toThrow(
    /Registry\.listen: listener: expected a function, got 7/,
  );
});
