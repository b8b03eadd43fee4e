/** Locks: one at a time for each key, first come, first served. */

import { describe, expect, test } from "vitest";
import { Registry } from "../../src/registry/index.ts";
import { virtualRuntime } from "../../src/sim/index.ts";
import { alive } from "../sim/garbage.ts";

const start = (name = "names"): Promise<Registry> => Registry.start({ keys: "unique", name });
const settle = (): Promise<void> => virtualRuntime().settle();

/** Work that lasts until the test says so. */
function gate<T = void>() {
  let open!: (value: T) => void;
  let fail!: (error: unknown) => void;
  const promise = new Promise<T>((resolve, reject) => {
    open = resolve;
    fail = reject;
  });
  return { work: () => promise, open, fail };
}

describe("a lock", () => {
  test("gives what the work gives, be it a value or a promise", async () => {
    const registry = await start();
    expect(await registry.lock("key", () => 1)).toBe(1);
    expect(await registry.lock("key", async () => 2)).toBe(2);
  });

  test("lets one at a time work, in the order they came", async () => {
    const registry = await start();
    const order: string[] = [];
    let inside = 0;
    const work = (name: string) => async () => {
      expect(++inside).toBe(1);
      order.push(name);
      await settle();
      inside--;
    };
    await Promise.all(["a", "b", "c", "d"].map((name) => registry.lock("key", work(name))));
    expect(order).toEqual(["a", "b", "c", "d"]);
  });

  test("keeps nobody waiting who wants another key; keys compare as those of a Map, and are no entry keys", async () => {
    const registry = await start();
    const holder = gate();
    registry.register(registry, "free", 1);
    const held = registry.lock(Number.NaN, holder.work);
    expect(await registry.lock("free", () => "at once")).toBe("at once");
    let reached = false;
    const waiting = registry.lock(Number.NaN, () => void (reached = true));
    await settle();
    expect(reached).toBe(false);
    holder.open();
    await Promise.all([held, waiting]);
    expect(reached).toBe(true);
  });

  test.each([
    [
      "throws",
      () => {
        throw new Error("broken");
      },
    ],
    ["rejects", () => Promise.reject(new Error("broken"))],
  ])("is free again when the work %s, and the next has it", async (_, broken) => {
    const registry = await start();
    const first = registry.lock("key", broken);
    const second = registry.lock("key", () => "next");
    await expect(first).rejects.toThrow("broken");
    expect(await second).toBe("next");
  });

  test("rejects, and never throws, for wrong arguments", async () => {
    const registry = await start();
    const wrong: [unknown, unknown, RegExp][] = [
      [7, undefined, /Registry\.lock: work: expected a function, got 7/],
      [() => 1, { signal: "stop" }, /signal: expected an AbortSignal/],
      [() => 1, { timeoutMs: 5 }, /timeoutMs: expected one of signal, got unknown option/],
      [() => 1, null, /expected an object of options, got null/],
    ];
    for (const [work, options, message] of wrong) {
      await expect(registry.lock("key", work as () => void, options as object)).rejects.toThrow(message);
    }
    expect(await registry.lock("key", () => "still free")).toBe("still free");
  });

  test("lets 20,000 wait, half of them with one signal, and serves in order those who have not left", async () => {
    const registry = await start();
    const holder = gate();
    const held = registry.lock("key", holder.work);
    const leaving = new AbortController();
    const order: number[] = [];
    const all = Array.from({ length: 20_000 }, (_, at) => {
      const options = at % 2 === 0 ? {} : { signal: leaving.signal };
      return registry.lock("key", () => order.push(at), options).catch(() => "left");
    });
    await settle();
    leaving.abort();
    holder.open();
    await Promise.all([held, ...all]);
    expect(order).toEqual(Array.from({ length: 10_000 }, (_, at) => 2 * at));
  });
});

describe("the signal of a lock", () => {
  test("refuses at once, with its reason, when it is aborted already; the lock is not touched", async () => {
    const registry = await start();
    const reason = new Error("changed my mind");
    let worked = false;
    const asked = registry.lock("key", () => void (worked = true), { signal: AbortSignal.abort(reason) });
    await expect(asked).rejects.toBe(reason);
    expect(worked).toBe(false);
    expect(await registry.lock("key", () => "free")).toBe("free");
  });

  test("ends the waiting with its reason, and the line closes up behind", async () => {
    const registry = await start();
    const [holder, leaving] = [gate(), new AbortController()];
    const order: string[] = [];
    const held = registry.lock("key", holder.work);
    const before = registry.lock("key", () => order.push("before"));
    const gone = registry.lock("key", () => order.push("gone"), { signal: leaving.signal });
    const after = registry.lock("key", () => order.push("after"));
    await settle();
    leaving.abort("enough");
    await expect(gone).rejects.toBe("enough");
    holder.open();
    await Promise.all([held, before, after]);
    expect(order).toEqual(["before", "after"]);
  });

  test("means nothing to who has the lock: the work goes on, and its result counts", async () => {
    const registry = await start();
    const [holder, leaving] = [gate<string>(), new AbortController()];
    const held = registry.lock("key", holder.work, { signal: leaving.signal });
    await settle();
    leaving.abort();
    holder.open("done");
    expect(await held).toBe("done");
  });

  test("keeps no listener of a wait that is over", async () => {
    const registry = await start();
    const { signal } = new AbortController();
    let listeners = 0;
    const add = signal.addEventListener.bind(signal);
    const remove = signal.removeEventListener.bind(signal);
    signal.addEventListener = (...args: Parameters<typeof add>) => (listeners++, add(...args));
    signal.removeEventListener = (...args: Parameters<typeof remove>) => (listeners--, remove(...args));
    const holder = gate();
    const all = [registry.lock("key", holder.work, { signal }), registry.lock("key", () => undefined, { signal })];
    await settle();
    expect(listeners).toBe(1);
    holder.open();
    await Promise.all(all);
    expect(listeners).toBe(0);
  });
});

describe("asking for a lock that one holds", () => {
  const reentrant = { code: "ERR_REGISTRY_REENTRANT", registry: "names", retryable: false };

  test("is refused, however deep inside and however much later, and the holder goes on", async () => {
    const registry = await start();
    const result = await registry.lock("key", async () => {
      await expect(registry.lock("key", () => "never")).rejects.toMatchObject(reentrant);
      await settle();
      return registry.lock("another", async () => {
        await expect(registry.lock("key", () => "never")).rejects.toMatchObject(reentrant);
        await expect(registry.lock("another", () => "never")).rejects.toMatchObject(reentrant);
        return "done";
      });
    });
    expect(result).toBe("done");
  });

  test("is not what another key, another registry, or another caller does", async () => {
    const [registry, other] = [await start(), await start()];
    let outside!: Promise<string>;
    const ask = gate();
    void ask.work().then(() => (outside = registry.lock("key", () => "outside")));
    const inside = await registry.lock("key", async () => {
      ask.open();
      await settle();
      return other.lock("key", () => registry.lock("another", () => "inside"));
    });
    expect([inside, await outside]).toEqual(["inside", "outside"]);
  });

  test("is fine for what began inside and asks when the lock is released", async () => {
    const registry = await start();
    let later!: Promise<string>;
    const released = gate();
    await registry.lock("key", () => {
      later = released.work().then(() => registry.lock("key", () => "later"));
    });
    released.open();
    expect(await later).toBe("later");
  });

  test("is refused to a holder's own child tasks while it holds, since nobody can tell whether it waits for them", async () => {
    const registry = await start();
    await registry.lock("key", async () => {
      const child = registry.lock("key", () => "never");
      await expect(child).rejects.toMatchObject(reentrant);
    });
  });
});

test("a chain of locks, each asked for inside the one before, holds on to none that is released", async () => {
  const registry = await start();
  const keys: WeakRef<object>[] = [];
  let innermost: Promise<void> | undefined;
  // Hand over hand: the next is taken before the last is let go, so the context always holds a lock.
  const take = (left: number, letGoOfLast: () => void): void => {
    const key = {};
    keys.push(new WeakRef(key));
    const { work, open } = gate();
    void registry.lock(key, () => {
      letGoOfLast();
      if (left > 0) take(left - 1, open);
      else innermost = new Promise(() => undefined); // Keeps this context.
      return work();
    });
    if (left === 0) open();
  };
  take(100, () => undefined);
  while (innermost === undefined) await settle();
  expect(keys).toHaveLength(101);
  expect(await alive(keys)).toBeLessThan(10);
  expect(innermost).toBeInstanceOf(Promise);
});
