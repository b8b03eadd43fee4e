/**
 * Death is one synchronous step: `alive` is false, no registry shows it, its monitors run, its links act, `exited`
 * resolves. Each test dies in every way there is, since there must be only one way.
 */

import { describe, expect, test } from "vitest";
import { type ExitReason, Process, type Self } from "../../src/process/index.ts";
import { Registry } from "../../src/registry/index.ts";
import { virtualRuntime } from "../../src/sim/index.ts";
import { heard } from "./heard.ts";

interface Living {
  readonly child: Process;
  readonly self: Self;
}

async function live(name = "child"): Promise<Living> {
  let inside!: Self;
  const child = await Process.start({
    name,
    init: (self) => {
      inside = self;
    },
  });
  return { child, self: inside };
}

const broken = new Error("broken");

const ways: [name: string, die: (living: Living) => void, reason: ExitReason][] = [
  ["killed", ({ child }) => child.kill(), "killed"],
  ["asked to stop", ({ child }) => void child.stop(), "shutdown"],
  ["asked to stop for an error", ({ child }) => void child.stop({ reason: broken }), broken],
  ["ended from inside", ({ self }) => self.exit("normal"), "normal"],
  ["broken from inside", ({ self }) => self.exit(broken), broken],
  [
    "caught throwing",
    ({ self }) =>
      self.guard(() => {
        throw broken;
      })(),
    broken,
  ],
];

describe.each(ways)("a process that is %s", (_, die, reason) => {
  test("is in no registry when its monitors run, whatever the order of subscription", async () => {
    const living = await live();
    const { child } = living;
    const before = await Registry.start<string, number>({ keys: "duplicate" });
    const after = await Registry.start<string, number>({ keys: "unique" });
    const seen: unknown[] = [];
    const look = (): void => {
      seen.push([child.alive, before.lookup("key").length, after.whereis("key"), before.count() + after.count()]);
    };
    child.monitor(look);
    before.register(child, "key", 1);
    child.monitor(look);
    after.register(child, "key", 2);
    before.register(child, "key", 3);
    child.monitor(look);
    die(living);
    const dead = [false, 0, undefined, 0];
    expect(seen).toEqual([dead, dead, dead]);
  });

  test("is in no registry when a listener of any registry hears of it", async () => {
    const living = await live();
    const registries = await Promise.all([1, 2, 3].map(() => Registry.start<string, number>({ keys: "duplicate" })));
    const seen: number[] = [];
    for (const registry of registries) {
      registry.register(living.child, "key", 1);
      registry.listen(() => seen.push(registries.reduce((sum, each) => sum + each.lookup("key").length, 0)));
    }
    die(living);
    expect(seen).toEqual([0, 0, 0]);
  });

  test("tells its registries, then its monitors, then its links, then those who await exited", async () => {
    const living = await live();
    const { child } = living;
    const registry = await Registry.start<string, number>({ keys: "duplicate" });
    const linked = await live("linked");
    const order: string[] = [];
    child.link(linked.child);
    linked.child.monitor(() => order.push("link"));
    const awaited = child.exited.then(() => order.push("exited"));
    child.monitor(() => order.push("monitor 1"));
    registry.listen(({ type }) => order.push(type));
    registry.register(child, "key", 1);
    child.monitor(() => order.push("monitor 2"));
    die(living);
    const told = ["register", "unregister", "monitor 1", "monitor 2"];
    const clean = reason === "normal" || reason === "shutdown";
    expect(order).toEqual(clean ? told : [...told, "link"]);
    await awaited;
    expect(order.at(-1)).toBe("exited");
  });

  test("is dead before the call returns, and its reason is known to all", async () => {
    const living = await live();
    const told: ExitReason[] = [];
    living.child.monitor((why) => told.push(why));
    die(living);
    expect(living.child.alive).toBe(false);
    expect(told).toEqual([reason]);
    expect(await living.child.exited).toBe(reason);
  });

  test("has aborted its signal, and stays dead of the first reason", async () => {
    const living = await live();
    die(living);
    expect(living.self.signal.aborted).toBe(true);
    living.self.exit(new Error("later"));
    living.child.kill();
    expect(await living.child.stop({ reason: "normal" })).toBe(reason);
    expect(await living.child.exited).toBe(reason);
  });

  test("is an event exactly when it died of an error", async () => {
    using crashes = heard("process.crashed");
    const living = await live("loud");
    die(living);
    const expected = reason === broken ? [{ process: living.child.id, name: "loud", reason }] : [];
    expect(crashes.events).toEqual(expected);
  });
});

describe("a monitor", () => {
  test("is called in a microtask, and once, when the process is dead already", async () => {
    const { child } = await live();
    child.kill();
    const told: ExitReason[] = [];
    child.monitor((reason) => told.push(reason));
    expect(told).toEqual([]);
    await Promise.resolve();
    expect(told).toEqual(["killed"]);
    await virtualRuntime().settle();
    expect(told).toHaveLength(1);
  });

  test("is called exactly once, in the order of subscription, the same function as often as it subscribed", async () => {
    const { child } = await live();
    const told: string[] = [];
    const twice = (): void => void told.push("twice");
    child.monitor(twice);
    child.monitor(() => told.push("once"));
    child.monitor(twice);
    child.kill();
    await virtualRuntime().settle();
    expect(told).toEqual(["twice", "once", "twice"]);
  });

  test("that was disposed of hears nothing: before the death, during it, or after it but before the microtask", async () => {
    const { child } = await live();
    const told: string[] = [];
    const before = child.monitor(() => told.push("before"));
    before[Symbol.dispose]();
    before[Symbol.dispose]();
    child.monitor(() => during[Symbol.dispose]());
    const during = child.monitor(() => told.push("during"));
    child.kill();
    const after = child.monitor(() => told.push("after"));
    after[Symbol.dispose]();
    await virtualRuntime().settle();
    expect(told).toEqual([]);
  });

  test("that subscribes another while the process dies has it called, in a microtask", async () => {
    const { child } = await live();
    const told: string[] = [];
    child.monitor(() => {
      told.push("first");
      child.monitor((reason) => told.push(`second, ${String(reason)}`));
    });
    child.kill();
    expect(told).toEqual(["first"]);
    await Promise.resolve();
    expect(told).toEqual(["first", "second, killed"]);
  });

  test("that throws, or returns a promise that rejects, is an event and stops nobody else", async () => {
    using failed = heard("callback.failed");
    const { child } = await live();
    const told: ExitReason[] = [];
    child.monitor(() => {
      throw new Error("thrown");
    });
    child.monitor((async () => {
      throw new Error("rejected");
    }) as () => void);
    child.monitor((reason) => told.push(reason));
    child.kill();
    expect(told).toEqual(["killed"]);
    expect(await child.exited).toBe("killed");
    await virtualRuntime().settle();
    expect(failed.events.map(({ error }) => error.message)).toEqual(["thrown", "rejected"]);
  });

  test("must be a function", async () => {
    const { child } = await live();
    expect(() => child.monitor(undefined as unknown as () => void)).toThrow(
      /onExit: expected a function, got undefined/,
    );
  });

  test("may stop, kill or end the dying process again, to no effect", async () => {
    const { child, self } = await live();
    child.monitor(() => {
      child.kill();
      self.exit(broken);
      void child.stop({ reason: broken });
    });
    self.exit("normal");
    expect(await child.exited).toBe("normal");
  });
});
