/** The end of a registry, and what it leaves behind: nothing. */

import { afterEach, describe, expect, test, vi } from "vitest";
import { Process } from "../../src/process/index.ts";
import { Registry } from "../../src/registry/index.ts";
import { virtualRuntime } from "../../src/sim/index.ts";

const live = (): Promise<Process> => Process.start({ init: () => undefined });

afterEach(() => {
  vi.restoreAllMocks();
});

/** How many ties to the life of a process are in force: taken, and not let go. */
function ties(owner: Process): () => number {
  const held = vi.spyOn(owner, "hold");
  const released = vi.spyOn(owner, "release");
  return () => held.mock.calls.length - released.mock.calls.length;
}

const ends: [name: string, end: (registry: Registry<string, number>) => unknown][] = [
  ["close", (registry) => registry.close()],
  ["the kill of its process", (registry) => registry.process.kill()],
  ["the stop of its process", (registry) => registry.process.stop()],
];

describe.each(ends)("after %s", (_, end) => {
  test.each(["unique", "duplicate"] as const)("every call throws ERR_REGISTRY_CLOSED (%s keys)", async (keys) => {
    const registry = await Registry.start<string, number>({ keys, name: "names" });
    const owner = await live();
    registry.register(owner, "key", 1);
    void end(registry);
    const calls: (() => unknown)[] = [
      () => registry.register(owner, "other", 1),
      () => registry.lookup("key"),
      () => registry.lookup("nothing"),
      () => registry.whereis("key"),
      () => registry.keys(owner),
      () => registry.values("key", owner),
      () => registry.updateValue(owner, "key", () => 2),
      () => registry.match("key", () => true),
      () => registry.countMatch("key", () => true),
      () => registry.entries(),
      () => registry.count(),
      () => registry.dispatch("key", () => undefined),
      () => registry.listen(() => undefined),
      () => registry.getMeta("key"),
      () => registry.putMeta("key", 1),
      () => registry.deleteMeta("key"),
    ];
    const closed = { code: "ERR_REGISTRY_CLOSED", registry: "names", retryable: false };
    for (const call of calls) expect(call, String(call)).toThrow(expect.objectContaining(closed));
    await expect(registry.lock("key", () => 1)).rejects.toMatchObject(closed);
  });

  test("taking out is fine, in every form", async () => {
    const registry = await Registry.start<string, number>({ keys: "duplicate" });
    const owner = await live();
    const registration = registry.register(owner, "key", 1);
    void end(registry);
    registration.unregister();
    registration[Symbol.dispose]();
    registry.unregister(owner, "key");
    registry.unregisterMatch(owner, "key", () => true);
    await registry.close();
  });

  test("owners live on, and their later death is no concern of it", async () => {
    const registry = await Registry.start<string, number>({ keys: "duplicate" });
    const owner = await live();
    const tied = ties(owner);
    registry.register(owner, "key", 1);
    registry.register(owner, "other", 1);
    expect(tied()).toBe(1);
    void end(registry);
    expect([owner.alive, tied()]).toEqual([true, 0]);
    owner.kill();
  });

  test("listeners hear nothing, neither of the entries forgotten nor of owners' exits", async () => {
    const registry = await Registry.start<string, number>({ keys: "duplicate" });
    const owner = await live();
    registry.register(owner, "key", 1);
    let told = 0;
    const subscription = registry.listen(() => told++);
    void end(registry);
    owner.kill();
    subscription[Symbol.dispose]();
    expect(told).toBe(0);
  });

  test("who waits for a lock is refused, and who has it goes on and finishes", async () => {
    const registry = await Registry.start<string, number>({ keys: "unique" });
    let finish!: (value: string) => void;
    const holder = registry.lock("key", () => new Promise<string>((resolve) => void (finish = resolve)));
    let worked = 0;
    const waiting = [1, 2, 3].map(() => registry.lock("key", () => worked++));
    const refused = Promise.all(
      waiting.map((each) => expect(each).rejects.toMatchObject({ code: "ERR_REGISTRY_CLOSED" })),
    );
    await virtualRuntime().settle();
    void end(registry);
    await refused;
    finish("done");
    expect(await holder).toBe("done");
    expect(worked).toBe(0);
  });
});

test("close resolves when it is closed, again and again, as does leaving an await using block", async () => {
  let registry: Registry;
  {
    await using scoped = await Registry.start({ keys: "unique" });
    registry = scoped;
    expect(registry.process.alive).toBe(true);
  }
  expect(await registry.process.exited).toBe("normal");
  await Promise.all([registry.close(), registry.close()]);
});

test("a listener may close the registry: the rest of the news is dropped, and the caller gets a dead registration", async () => {
  const registry = await Registry.start<string, number>({ keys: "duplicate" });
  const owner = await live();
  const told: string[] = [];
  registry.listen(({ type }) => {
    told.push(type);
    owner.kill();
    void registry.close();
  });
  registry.listen(({ type }) => told.push(`second ${type}`));
  registry.register(owner, "key", 1).unregister();
  expect(told).toEqual(["register"]);
});

describe("a registry keeps one tie to an owner", () => {
  test("however many entries it has, and lets go with the last of them, however that goes", async () => {
    const registry = await Registry.start<string, number>({ keys: "duplicate" });
    const owner = await live();
    const tied = ties(owner);
    const registrations = ["a", "a", "b"].map((key) => registry.register(owner, key, 1));
    expect(tied()).toBe(1);
    registrations[0]?.unregister();
    registry.unregister(owner, "b");
    expect(tied()).toBe(1);
    registry.unregisterMatch(owner, "a", () => true);
    expect(tied()).toBe(0);
    registry.register(owner, "a", 1);
    expect(tied()).toBe(1);
  });

  test("and none for a refused registration", async () => {
    const registry = await Registry.start<string, number>({ keys: "unique" });
    const [holder, other] = [await live(), await live()];
    const tied = ties(other);
    registry.register(holder, "key", 1);
    for (let times = 0; times < 3; times++) expect(() => registry.register(other, "key", 1)).toThrow();
    expect(tied()).toBe(0);
  });
});

test("an unused registry has no timer, and its process can be supervised like any other", async () => {
  const runtime = virtualRuntime();
  const registry = await Registry.start({ keys: "unique", name: "names", runtime });
  expect([runtime.timers, registry.name, registry.process.name]).toEqual([0, "names", "names"]);
  const linked = await live();
  linked.link(registry);
  linked.kill();
  expect(() => registry.count()).toThrow(expect.objectContaining({ code: "ERR_REGISTRY_CLOSED" }));
});
