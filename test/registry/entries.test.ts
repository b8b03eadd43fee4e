/** What may be registered, by whom, and how it goes again. */

import { describe, expect, test } from "vitest";
import { type HasProcess, Process } from "../../src/process/index.ts";
import { Registry, type RegistryOptions } from "../../src/registry/index.ts";

const kinds = ["unique", "duplicate"] as const;

function start<K = string, V = unknown>(keys: "unique" | "duplicate", name = "names"): Promise<Registry<K, V>> {
  return Registry.start<K, V>({ keys, name });
}

function live(name = "owner"): Promise<Process> {
  return Process.start({ name, init: () => undefined });
}

describe.each(kinds)("a registry with %s keys", (keys) => {
  test("shows an entry from register until its registration is undone", async () => {
    const [registry, owner] = [await start(keys), await live()];
    const registration = registry.register(owner, "key", 7);
    expect(registry.lookup("key")).toEqual([{ owner, key: "key", value: 7 }]);
    expect(registry.count()).toBe(1);
    registration.unregister();
    registration.unregister();
    expect(registry.lookup("key")).toEqual([]);
    expect(registry.count()).toBe(0);
  });

  test("undoes a registration at the end of a using block", async () => {
    const [registry, owner] = [await start(keys), await live()];
    {
      using _ = registry.register(owner, "key", 7);
      expect(registry.count()).toBe(1);
    }
    expect(registry.count()).toBe(0);
  });

  test("leaves what came later alone when an old registration is undone again", async () => {
    const [registry, owner] = [await start(keys), await live()];
    const old = registry.register(owner, "key", 1);
    old.unregister();
    registry.register(owner, "key", 2);
    old.unregister();
    expect(registry.values("key", owner)).toEqual([2]);
  });

  test.each(["kill", "stop", "crash"] as const)(
    "forgets all of an owner in the step in which it dies (%s)",
    async (way) => {
      const [registry, owner, other] = [await start(keys), await live(), await live()];
      for (const key of ["a", "b", "c"]) registry.register(owner, key, key);
      registry.register(other, "d", "d");
      if (way === "kill") owner.kill();
      else void owner.stop(way === "stop" ? {} : { reason: new Error("broken") });
      expect(["a", "b", "c"].map((key) => registry.lookup(key))).toEqual([[], [], []]);
      expect(registry.keys(owner)).toEqual([]);
      expect(registry.values("a", owner)).toEqual([]);
      expect([...registry.entries()]).toEqual(registry.lookup("d"));
      expect(registry.count()).toBe(1);
    },
  );

  test("lets a new owner have the key of a dead one, and keeps it when the old registration is undone", async () => {
    const [registry, first, second] = [await start(keys), await live(), await live()];
    const old = registry.register(first, "key", 1);
    first.kill();
    registry.register(second, "key", 2);
    old.unregister();
    registry.unregister(first, "key");
    expect(registry.lookup("key").map((entry) => entry.owner)).toEqual([second]);
  });

  test("refuses a dead owner, and changes nothing", async () => {
    const [registry, owner] = [await start(keys), await live("late")];
    owner.kill();
    expect(() => registry.register(owner, "key", 1)).toThrow(
      expect.objectContaining({
        name: "RegistryError",
        code: "ERR_REGISTRY_NO_PROCESS",
        registry: "names",
        retryable: false,
      }),
    );
    expect(registry.count()).toBe(0);
  });

  test("takes whatever has a process as an owner, and nothing else", async () => {
    const [registry, owner] = [await start(keys), { process: await live() }];
    registry.register(owner, "key", 1);
    expect(registry.lookup("key")[0]?.owner).toBe(owner.process);
    expect(registry.keys(owner.process)).toEqual(["key"]);
    for (const wrong of [undefined, {}, "owner"] as unknown[]) {
      expect(() => registry.register(wrong as HasProcess, "key", 1)).toThrow(
        /Registry\.register: owner: expected a process/,
      );
      expect(() => registry.unregister(wrong as HasProcess, "key")).toThrow(/Registry\.unregister: owner/);
      expect(() => registry.keys(wrong as HasProcess)).toThrow(/Registry\.keys: owner/);
      expect(() => registry.values("key", wrong as HasProcess)).toThrow(/Registry\.values: owner/);
    }
  });

  test("can hold an entry of its own process, and of a process that is still in its init", async () => {
    const registry = await start(keys);
    registry.register(registry, "itself", 1);
    await Process.start({ init: (self) => void registry.register(self, "starting", 2) });
    expect(registry.count()).toBe(2);
    await registry.close();
    expect(registry.process.alive).toBe(false);
  });

  test("compares keys as a Map does, and takes none for a pattern", async () => {
    const [registry, owner] = [await start<unknown, number>(keys), await live()];
    const [object, list, symbol] = [{ a: 1 }, ["conn", 1], Symbol("key")];
    const all = [1, "1", 1n, Number.NaN, 0, object, list, symbol, undefined, null, "_", /1/];
    for (const [at, key] of all.entries()) registry.register(owner, key, at);
    expect(all.map((key) => registry.lookup(key).map((entry) => entry.value))).toEqual(all.map((_, at) => [at]));
    expect(registry.lookup(-0)).toBe(registry.lookup(0));
    expect(registry.lookup({ a: 1 })).toEqual([]);
    expect(registry.lookup(["conn", 1])).toEqual([]);
    expect(registry.keys(owner)).toEqual(all);
  });

  test("removes by unregister what the owner has under the key, and nothing of anybody else", async () => {
    const [registry, owner, other] = [await start(keys), await live(), await live()];
    registry.register(owner, "key", 1);
    registry.register(owner, "kept", 2);
    registry.unregister(other, "key");
    registry.unregister(owner, "absent");
    expect(registry.count()).toBe(2);
    registry.unregister(owner, "key");
    registry.unregister(owner, "key");
    expect([...registry.entries()].map((entry) => entry.key)).toEqual(["kept"]);
  });

  test("shows entries that cannot be changed", async () => {
    const [registry, owner] = [await start(keys), await live()];
    registry.register(owner, "key", 1);
    const [entry] = registry.lookup("key");
    expect(Object.isFrozen(entry)).toBe(true);
  });
});

describe("unique keys", () => {
  test("belong to one owner: the next is refused with the holder, even the holder itself, and nothing changes", async () => {
    const [registry, holder, other] = [await start("unique"), await live("first"), await live("second")];
    registry.register(holder, "key", 1);
    for (const owner of [holder, other]) {
      expect(() => registry.register(owner, "key", 2)).toThrow(
        expect.objectContaining({ code: "ERR_REGISTRY_TAKEN", holder, message: expect.stringContaining(`"first"`) }),
      );
    }
    expect(registry.lookup("key").map((entry) => entry.value)).toEqual([1]);
    expect(registry.keys(other)).toEqual([]);
    other.kill();
    expect(registry.whereis("key")).toBe(holder);
  });

  test("may be many for one owner", async () => {
    const [registry, owner] = [await start("unique"), await live()];
    for (const key of ["c", "a", "b"]) registry.register(owner, key, key);
    expect(registry.keys(owner)).toEqual(["c", "a", "b"]);
  });
});

describe("duplicate keys", () => {
  test("hold a multiset: the same owner, key and value as often as it was registered", async () => {
    const [registry, owner] = [await start("duplicate"), await live()];
    for (let times = 0; times < 3; times++) registry.register(owner, "key", 7);
    expect(registry.values("key", owner)).toEqual([7, 7, 7]);
    expect(registry.keys(owner)).toEqual(["key", "key", "key"]);
    registry.unregister(owner, "key");
    expect(registry.count()).toBe(0);
  });

  test("lose by one registration exactly its own entry, among equal ones too", async () => {
    const [registry, owner] = [await start("duplicate"), await live()];
    const [first, second, third] = [1, 1, 1].map((value) => registry.register(owner, "key", value));
    const [a, , c] = registry.lookup("key");
    second?.unregister();
    second?.unregister();
    expect(registry.lookup("key")).toHaveLength(2);
    expect(registry.lookup("key")[0]).toBe(a);
    expect(registry.lookup("key")[1]).toBe(c);
    first?.unregister();
    third?.unregister();
    expect(registry.count()).toBe(0);
  });
});

describe("unregisterMatch", () => {
  test("removes the owner's matching entries under the key, each as often as it is there, and keeps the rest", async () => {
    const [registry, owner, other] = [await start<string, number>("duplicate"), await live(), await live()];
    for (const value of [1, 2, 2, 3]) registry.register(owner, "key", value);
    registry.register(other, "key", 2);
    registry.register(owner, "other key", 2);
    registry.unregisterMatch(owner, "key", (value) => value === 2);
    expect(registry.lookup("key").map((entry) => entry.value)).toEqual([1, 3, 2]);
    expect(registry.keys(owner)).toEqual(["key", "key", "other key"]);
    registry.unregisterMatch(owner, "key", () => false);
    registry.unregisterMatch(other, "absent", () => true);
    expect(registry.count()).toBe(4);
  });

  test("removes nothing at all when the predicate throws", async () => {
    const [registry, owner] = [await start<string, number>("duplicate"), await live()];
    for (const value of [1, 2, 3]) registry.register(owner, "key", value);
    const picky = (value: number): boolean => {
      if (value === 3) throw new Error("not that one");
      return true;
    };
    expect(() => registry.unregisterMatch(owner, "key", picky)).toThrow("not that one");
    expect(registry.count()).toBe(3);
  });

  test("counts right when the predicate itself removes, kills or closes", async () => {
    const [registry, owner] = [await start<string, number>("duplicate"), await live()];
    for (const value of [1, 2]) registry.register(owner, "key", value);
    registry.unregisterMatch(owner, "key", () => {
      registry.unregister(owner, "key");
      return true;
    });
    expect(registry.count()).toBe(0);

    registry.register(owner, "key", 1);
    registry.unregisterMatch(owner, "key", () => {
      owner.kill();
      return true;
    });
    expect(registry.count()).toBe(0);

    const second = await live();
    registry.register(second, "key", 1);
    registry.unregisterMatch(second, "key", () => {
      registry.process.kill();
      return true;
    });
    expect(second.alive).toBe(true);
  });
});

test("start refuses wrong options by a rejection that names them", async () => {
  const wrong: [unknown, RegExp][] = [
    [undefined, /Registry\.start: expected an object of options/],
    [{}, /Registry\.start: keys: expected one of "unique", "duplicate", got undefined/],
    [{ keys: "many" }, /keys: expected one of "unique", "duplicate", got "many"/],
    [{ keys: "unique", name: "" }, /name: expected a string that is not empty/],
    [{ keys: "unique", meta: 7 }, /meta: expected an iterable/],
    [{ keys: "unique", meta: [7] }, /meta: expected an iterable of \[key, value\] pairs/],
    [{ keys: "unique", runtime: {} }, /runtime: expected an object with the methods now, setTimer, random/],
    [{ keys: "unique", listeners: [] }, /listeners: expected one of keys, name, meta, runtime, got unknown option/],
  ];
  for (const [options, message] of wrong) {
    await expect(Registry.start(options as RegistryOptions)).rejects.toThrow(message);
  }
});
