/** Reading a registry, `updateValue`, and the meta store. */

import { describe, expect, test } from "vitest";
import { Process } from "../../src/process/index.ts";
import { Registry } from "../../src/registry/index.ts";

const live = (): Promise<Process> => Process.start({ init: () => undefined });

/** Three entries of two owners under "key", one under "other", interleaved. */
async function filled() {
  const registry = await Registry.start<string, number>({ keys: "duplicate" });
  const [a, b] = [await live(), await live()];
  registry.register(a, "key", 1);
  registry.register(b, "other", 2);
  registry.register(b, "key", 3);
  registry.register(a, "key", 4);
  return { registry, a, b };
}

describe("lookup", () => {
  test("gives the very same frozen array until the key's entries change, and a new one then", async () => {
    const { registry, a } = await filled();
    const first = registry.lookup("key");
    expect(Object.isFrozen(first)).toBe(true);
    expect(registry.lookup("key")).toBe(first);

    const registration = registry.register(a, "other", 5);
    expect(registry.lookup("key"), "another key changed").toBe(first);
    const added = registry.register(a, "key", 6);
    const second = registry.lookup("key");
    expect(second).not.toBe(first);
    expect(second.map((entry) => entry.value)).toEqual([1, 3, 4, 6]);
    expect(registry.lookup("key")).toBe(second);
    expect(first, "what was handed out stays as it was").toHaveLength(3);

    registration.unregister();
    expect(registry.lookup("key")).toBe(second);
    added.unregister();
    expect(registry.lookup("key")).not.toBe(second);
  });

  test("gives one and the same frozen empty array for every key that has nothing", async () => {
    const { registry } = await filled();
    expect(registry.lookup("nothing")).toBe(registry.lookup("nothing either"));
    expect(Object.isFrozen(registry.lookup("nothing"))).toBe(true);
    expect(registry.lookup("nothing")).toEqual([]);
  });

  test("keeps the order of registration when entries go from the middle and come at the end", async () => {
    const { registry, a, b } = await filled();
    registry.unregister(b, "key");
    registry.register(b, "key", 5);
    registry.register(a, "key", 6);
    expect(registry.lookup("key").map((entry) => entry.value)).toEqual([1, 4, 5, 6]);
  });

  test("gives entries that are the same objects as long as they are registered", async () => {
    const { registry, a, b } = await filled();
    const [first] = registry.lookup("key");
    b.kill();
    registry.register(a, "key", 9);
    expect(registry.lookup("key")[0]).toBe(first);
  });
});

describe("the other readings", () => {
  test("whereis gives the owner of a unique key, and is refused for duplicate keys", async () => {
    const registry = await Registry.start<string, number>({ keys: "unique" });
    const owner = await live();
    registry.register(owner, "key", 1);
    expect(registry.whereis("key")).toBe(owner);
    expect(registry.whereis("nothing")).toBeUndefined();
    const { registry: duplicate } = await filled();
    expect(() => duplicate.whereis("key")).toThrow(expect.objectContaining({ code: "ERR_REGISTRY_UNSUPPORTED" }));
  });

  test("keys gives a key for each entry of the owner, in order of registration, whatever the keys' order", async () => {
    const { registry, a, b } = await filled();
    registry.register(a, "other", 5);
    registry.register(a, "key", 6);
    expect(registry.keys(a)).toEqual(["key", "key", "other", "key"]);
    expect(registry.keys(b)).toEqual(["other", "key"]);
    expect(registry.keys(await live())).toEqual([]);
  });

  test("values gives those of one owner under one key, in order of registration", async () => {
    const { registry, a, b } = await filled();
    expect([registry.values("key", a), registry.values("key", b), registry.values("nothing", a)]).toEqual([
      [1, 4],
      [3],
      [],
    ]);
  });

  test("match and countMatch ask the predicate for value and owner of each entry under the key", async () => {
    const { registry, a, b } = await filled();
    const asked: unknown[] = [];
    const odd = (value: number, owner: Process): boolean => {
      asked.push([value, owner]);
      return value % 2 === 1;
    };
    expect(registry.match("key", odd).map((entry) => entry.value)).toEqual([1, 3]);
    expect(asked).toEqual([
      [1, a],
      [3, b],
      [4, a],
    ]);
    expect(registry.countMatch("key", odd)).toBe(2);
    expect(registry.countMatch("key", (_, owner) => owner === a)).toBe(2);
    expect(registry.countMatch("nothing", () => true)).toBe(0);
  });

  test("entries iterates over all, in order of registration, as of the call", async () => {
    const { registry, a, b } = await filled();
    const entries = registry.entries();
    b.kill();
    registry.register(a, "key", 5);
    expect([...entries].map((entry) => entry.value)).toEqual([1, 2, 3, 4]);
    expect([...registry.entries()].map((entry) => entry.value)).toEqual([1, 4, 5]);
  });

  test("count counts entries, not keys", async () => {
    const { registry, b } = await filled();
    expect(registry.count()).toBe(4);
    b.kill();
    expect(registry.count()).toBe(2);
  });

  test("dispatch hands over what lookup gives, once, in the call; not when there is nothing; and lets a throw out", async () => {
    const { registry } = await filled();
    const sent: unknown[] = [];
    registry.dispatch("key", (entries) => sent.push(entries));
    registry.dispatch("nothing", (entries) => sent.push(entries));
    expect(sent).toHaveLength(1);
    expect(sent[0]).toBe(registry.lookup("key"));
    const broken = new Error("broken");
    expect(() =>
      registry.dispatch("key", () => {
        throw broken;
      }),
    ).toThrow(broken);
  });
});

describe("updateValue", () => {
  async function unique() {
    const registry = await Registry.start<string, number>({ keys: "unique" });
    const [owner, other] = [await live(), await live()];
    registry.register(owner, "first", 1);
    registry.register(owner, "key", 7);
    registry.register(other, "last", 9);
    return { registry, owner, other };
  }

  test("replaces the value by a new entry in the same place, and tells the new and the old", async () => {
    const { registry, owner } = await unique();
    const [before] = registry.lookup("key");
    const shown = registry.lookup("key");
    expect(registry.updateValue(owner, "key", (value) => value + 1)).toEqual({ value: 8, previous: 7 });
    expect(before?.value).toBe(7);
    expect(registry.lookup("key")).not.toBe(shown);
    expect(registry.lookup("key")).toEqual([{ owner, key: "key", value: 8 }]);
    expect([...registry.entries()].map((entry) => entry.value)).toEqual([1, 8, 9]);
    expect([registry.values("key", owner), registry.count()]).toEqual([[8], 3]);
  });

  test("is undefined, and does not call, when the key is free or somebody else's", async () => {
    const { registry, other } = await unique();
    const never = (): number => {
      throw new Error("called");
    };
    expect(registry.updateValue(other, "key", never)).toBeUndefined();
    expect(registry.updateValue(other, "nothing", never)).toBeUndefined();
    expect(registry.updateValue(await live(), "key", never)).toBeUndefined();
  });

  test("lets a throw out and changes nothing", async () => {
    const { registry, owner } = await unique();
    const shown = registry.lookup("key");
    const broken = new Error("broken");
    const fails = (): number => {
      throw broken;
    };
    expect(() => registry.updateValue(owner, "key", fails)).toThrow(broken);
    expect(registry.lookup("key")).toBe(shown);
  });

  test("is undefined when the update itself has the entry removed, and does not bring it back", async () => {
    const { registry, owner } = await unique();
    const removes = (value: number): number => {
      registry.unregister(owner, "key");
      return value;
    };
    expect(registry.updateValue(owner, "key", removes)).toBeUndefined();
    expect(registry.lookup("key")).toEqual([]);
    const kills = (value: number): number => {
      owner.kill();
      return value;
    };
    expect(registry.updateValue(owner, "first", kills)).toBeUndefined();
    expect(registry.count()).toBe(1);
  });

  test("is refused for duplicate keys", async () => {
    const { registry, a } = await filled();
    expect(() => registry.updateValue(a, "key", () => 0)).toThrow(
      expect.objectContaining({ code: "ERR_REGISTRY_UNSUPPORTED" }),
    );
  });

  test("leaves the registration good: it still removes its entry", async () => {
    const registry = await Registry.start<string, number>({ keys: "unique" });
    const owner = await live();
    const registration = registry.register(owner, "key", 1);
    registry.updateValue(owner, "key", () => 2);
    registration.unregister();
    expect([registry.count(), registry.keys(owner)]).toEqual([0, []]);
  });
});

describe("meta", () => {
  test("is seeded, put, overwritten, deleted, and deleted again", async () => {
    const registry = await Registry.start({ keys: "unique", meta: new Map<unknown, unknown>([["limit", 7]]) });
    expect(registry.getMeta("limit")).toBe(7);
    registry.putMeta("limit", 8);
    registry.putMeta(Symbol.iterator, "any key");
    expect([registry.getMeta("limit"), registry.getMeta(Symbol.iterator)]).toEqual([8, "any key"]);
    registry.deleteMeta("limit");
    registry.deleteMeta("limit");
    expect(registry.getMeta("limit")).toBeUndefined();
  });

  test("has nothing to do with entries, nor with what it was seeded from", async () => {
    const seed: [unknown, unknown][] = [["key", 1]];
    const registry = await Registry.start<string, number>({ keys: "unique", meta: seed });
    registry.putMeta("key", 2);
    expect(registry.lookup("key")).toEqual([]);
    expect(seed).toEqual([["key", 1]]);
  });
});

test.each<[string, (registry: Registry<string, number>, owner: Process) => unknown]>([
  ["match: match", (registry) => registry.match("nothing", 5 as never)],
  ["match: match", (registry) => registry.countMatch("key", undefined as never)],
  ["dispatch: send", (registry) => registry.dispatch("nothing", {} as never)],
  ["unregisterMatch: match", (registry, owner) => registry.unregisterMatch(owner, "key", 7 as never)],
  ["updateValue: update", (registry, owner) => registry.updateValue(owner, "key", 8 as never)],
])("Registry.%s has to be a function, whether it would be called or not", async (option, call) => {
  const registry = await Registry.start<string, number>({ keys: "unique" });
  const owner = await live();
  registry.register(owner, "key", 7);
  const refused = { code: "ERR_OPTION", option: `Registry.${option}`, expected: "a function" };
  expect(() => call(registry, owner)).toThrow(expect.objectContaining(refused));
  expect(registry.values("key", owner)).toEqual([7]);
});
