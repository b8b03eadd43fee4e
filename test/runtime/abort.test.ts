/** One signal, many who wait: one listener, told in order, and none left when nobody waits. */

import { describe, expect, test } from "vitest";
import { type Abortable, unwatchAbort, watchAbort } from "../../src/runtime/index.ts";

/** A signal that counts the listeners on it. */
function counted() {
  const controller = new AbortController();
  const { signal } = controller;
  const counts = { added: 0, removed: 0 };
  const [add, remove] = [signal.addEventListener.bind(signal), signal.removeEventListener.bind(signal)];
  signal.addEventListener = (...args: Parameters<typeof add>) => {
    counts.added++;
    add(...args);
  };
  signal.removeEventListener = (...args: Parameters<typeof remove>) => {
    counts.removed++;
    remove(...args);
  };
  return { controller, signal, counts };
}

function waiter(told: string[], name: string, then?: () => void): Abortable {
  return {
    aborted: (reason) => {
      told.push(`${name}: ${String(reason)}`);
      then?.();
    },
  };
}

describe("who waits with a signal", () => {
  test("is told of the abort with its reason, in the order of waiting, through one listener", () => {
    const { controller, signal, counts } = counted();
    const told: string[] = [];
    for (const name of ["a", "b", "c"]) watchAbort(signal, waiter(told, name));
    expect(counts).toEqual({ added: 1, removed: 0 });
    controller.abort("enough");
    expect(told).toEqual(["a: enough", "b: enough", "c: enough"]);
  });

  test("hears nothing once it has left, and the last to leave takes the listener along", () => {
    const { controller, signal, counts } = counted();
    const told: string[] = [];
    const [a, b] = [waiter(told, "a"), waiter(told, "b")];
    watchAbort(signal, a);
    watchAbort(signal, b);
    unwatchAbort(signal, a);
    unwatchAbort(signal, a);
    expect(counts.removed).toBe(0);
    unwatchAbort(signal, b);
    unwatchAbort(signal, b);
    expect(counts).toEqual({ added: 1, removed: 1 });
    controller.abort();
    expect(told).toEqual([]);
  });

  test("may come back, by a new listener", () => {
    const { controller, signal, counts } = counted();
    const told: string[] = [];
    const a = waiter(told, "a");
    watchAbort(signal, a);
    unwatchAbort(signal, a);
    watchAbort(signal, a);
    expect(counts).toEqual({ added: 2, removed: 1 });
    controller.abort("now");
    expect(told).toEqual(["a: now"]);
  });

  test("is not told when somebody told before it has made it leave", () => {
    const { controller, signal } = counted();
    const told: string[] = [];
    const second = waiter(told, "second");
    watchAbort(
      signal,
      waiter(told, "first", () => unwatchAbort(signal, second)),
    );
    watchAbort(signal, second);
    watchAbort(signal, waiter(told, "third"));
    controller.abort("now");
    expect(told).toEqual(["first: now", "third: now"]);
  });

  test("waits with its own signal only", () => {
    const told: string[] = [];
    const [one, other] = [counted(), counted()];
    watchAbort(one.signal, waiter(told, "one"));
    watchAbort(other.signal, waiter(told, "other"));
    other.controller.abort("now");
    expect(told).toEqual(["other: now"]);
  });
});
