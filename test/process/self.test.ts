/** A process from inside: `exit`, `guard`, `signal`, and the clean-up of an end that nobody asked for. */

import { describe, expect, test } from "vitest";
import { type ExitReason, isClean, Process, type Self } from "../../src/process/index.ts";
import { type VirtualRuntime, virtualRuntime } from "../../src/sim/index.ts";
import { heard } from "./heard.ts";

interface Living {
  readonly child: Process<string>;
  readonly self: Self;
  readonly runtime: VirtualRuntime;
  readonly terminated: [state: string, reason: ExitReason, alive: boolean][];
}

async function live(terminate?: () => void | Promise<void>): Promise<Living> {
  const runtime = virtualRuntime();
  const terminated: Living["terminated"] = [];
  let inside!: Self;
  const child: Process<string> = await Process.start({
    name: "child",
    runtime,
    init: (self) => {
      inside = self;
      return "state";
    },
    terminate: (state, reason) => {
      terminated.push([state, reason, child.alive]);
      return terminate?.();
    },
  });
  return { child, self: inside, runtime, terminated };
}

const broken = new Error("broken");
const never = (): Promise<void> => new Promise(() => undefined);

describe("exit", () => {
  test.each(["normal", "shutdown", "killed", broken] as const)(
    "ends the process at once (%s), and terminate cleans up what it held, afterwards and once",
    async (reason) => {
      const { child, self, terminated } = await live();
      self.exit(reason);
      expect(child.alive).toBe(false);
      expect(terminated).toEqual([["state", reason, false]]);
      self.exit("normal");
      await child.stop();
      expect(terminated).toHaveLength(1);
      expect(await child.exited).toBe(reason);
    },
  );

  test("takes nothing but an exit reason, and the process lives on", async () => {
    const { child, self } = await live();
    for (const wrong of [undefined, null, "finished", { message: "no" }]) {
      expect(() => self.exit(wrong as ExitReason)).toThrow(/Self\.exit: reason: expected "normal"/);
    }
    expect(child.alive).toBe(true);
  });

  test("while the process stops ends it sooner, for the reason that stop had named", async () => {
    const { child, self, terminated, runtime } = await live(never);
    const stopped = child.stop({ reason: "normal", timeoutMs: 9_000 });
    self.exit("shutdown");
    expect(child.alive).toBe(false);
    expect(await stopped).toBe("normal");
    expect(terminated).toHaveLength(1);
    await runtime.advance(10_000);
    expect(runtime.timers).toBe(0);
  });

  test("for an error while the process stops is an event, since the reason named first stays", async () => {
    using failed = heard("process.terminateFailed");
    const { child, self } = await live(async () => self.exit(broken));
    expect(await child.stop()).toBe("shutdown");
    expect(failed.events.map(({ error }) => error)).toEqual([broken]);
  });

  test("by a listener of the stop signal still lets terminate clean up", async () => {
    const { child, self, terminated } = await live();
    self.signal.addEventListener("abort", () => self.exit("normal"));
    expect(await child.stop()).toBe("shutdown");
    expect(terminated).toEqual([["state", "shutdown", false]]);
  });

  test("is waited for by nobody: a terminate that throws or rejects is an event, and one that hangs is too", async () => {
    using failed = heard("process.terminateFailed");
    const error = new Error("cannot close");
    const throwing = await live(() => {
      throw error;
    });
    const rejecting = await live(() => Promise.reject(error));
    const hanging = await live(never);
    for (const { child, self } of [throwing, rejecting, hanging]) {
      self.exit("normal");
      expect(await child.exited).toBe("normal");
    }
    expect(failed.events.map((event) => event.error)).toEqual([error, error]);
    expect(hanging.runtime.keepAliveTimers).toBe(0);
    await hanging.runtime.advance(5_000);
    expect(failed.events[2]?.error.message).toBe("terminate had not returned after 5000 ms");
    expect(hanging.runtime.timers).toBe(0);
  });

  test("by terminate itself, which then hangs, is an event too, unless it has killed the process", async () => {
    using failed = heard("process.terminateFailed");
    const exiting = await live(() => {
      exiting.self.exit("normal");
      return never();
    });
    const killing = await live(() => {
      killing.child.kill();
      return never();
    });
    expect([await exiting.child.stop(), await killing.child.stop()]).toEqual(["shutdown", "killed"]);
    for (const { runtime } of [exiting, killing]) {
      await runtime.advance(5_000);
      expect(runtime.timers).toBe(0);
    }
    expect(failed.events).toMatchObject([
      { process: exiting.child.id, error: { message: "terminate had not returned after 5000 ms" } },
    ]);
  });

  test("leaves no timer behind a terminate that ends in time", async () => {
    using failed = heard("process.terminateFailed");
    const { self, runtime } = await live(() => runtime.settle());
    self.exit("normal");
    await runtime.settle();
    await runtime.settle();
    expect(runtime.timers).toBe(0);
    expect(failed.events).toEqual([]);
  });
});

describe("guard", () => {
  test("hands over the arguments and keeps the process alive when nothing goes wrong", async () => {
    const { child, self } = await live();
    const heardOf: unknown[] = [];
    const handler = self.guard((...args: [number, string]) => void heardOf.push(args));
    handler(1, "a");
    handler(2, "b");
    self.guard(async () => undefined)();
    await virtualRuntime().settle();
    expect(heardOf).toEqual([
      [1, "a"],
      [2, "b"],
    ]);
    expect(child.alive).toBe(true);
  });

  test.each([
    [
      "a throw",
      () => {
        throw broken;
      },
    ],
    ["a rejected promise", () => Promise.reject(broken)],
  ])("makes %s the exit reason, and terminate cleans up", async (_, fn) => {
    const { child, self, terminated } = await live();
    self.guard(fn)();
    expect(await child.exited).toBe(broken);
    expect(terminated).toEqual([["state", broken, false]]);
  });

  test("makes an Error of what is thrown and is none", async () => {
    const { child, self } = await live();
    self.guard(() => {
      throw 404;
    })();
    expect(await child.exited).toMatchObject({ message: "a value that is no Error was thrown: 404", cause: 404 });
  });

  test("does nothing after death: the handler is not called, and a late rejection is nobody's", async () => {
    using crashes = heard("process.crashed");
    const { child, self, runtime } = await live();
    let called = 0;
    let reject!: (error: Error) => void;
    const handler = self.guard(() => {
      called++;
      return new Promise((_, rejected) => void (reject = rejected));
    });
    handler();
    self.exit("normal");
    handler();
    reject(broken);
    await runtime.settle();
    expect(called).toBe(1);
    expect(await child.exited).toBe("normal");
    expect(crashes.events).toEqual([]);
  });

  test("makes start reject when the handler fails while init is pending", async () => {
    const init = (self: Self): Promise<void> => {
      self.guard(() => {
        throw broken;
      })();
      return never();
    };
    await expect(Process.start({ init })).rejects.toBe(broken);
  });
});

describe("the signal", () => {
  test("is aborted when the process dies without having been asked, after its monitors, with the error itself", async () => {
    const { child, self } = await live();
    const order: string[] = [];
    self.signal.addEventListener("abort", () => order.push("signal"));
    child.monitor(() => order.push("monitor"));
    self.exit(broken);
    expect(order).toEqual(["monitor", "signal"]);
    expect(self.signal.reason).toBe(broken);
  });

  test("is aborted for a process that is killed before init has returned", async () => {
    let signal!: AbortSignal;
    const started = Process.start({
      init: (self) => {
        ({ signal } = self);
        self.process.kill();
        return never();
      },
    });
    await expect(started).rejects.toThrow(/exited \(killed\)/);
    expect(signal.aborted).toBe(true);
  });
});

test("normal and shutdown are clean; killed and errors are not", () => {
  expect((["normal", "shutdown", "killed", broken] as const).map(isClean)).toEqual([true, true, false, false]);
});
