/** How a process begins: `start`, `init`, and every way in which the two can miss each other. */

import { describe, expect, test } from "vitest";
import { Process, type ProcessSpec, type Self } from "../../src/process/index.ts";
import { virtualRuntime } from "../../src/sim/index.ts";
import { heard } from "./heard.ts";

/** An `init` that waits for the test. `self` is there as soon as `start` was called. */
function held<S>() {
  let resolve!: (state: S) => void;
  let reject!: (thrown: unknown) => void;
  const pending = new Promise<S>((resolved, rejected) => {
    resolve = resolved;
    reject = rejected;
  });
  const handle = { self: undefined as unknown as Self, resolve, reject, init };
  function init(self: Self): Promise<S> {
    handle.self = self;
    return pending;
  }
  return handle;
}

describe("a process that starts", () => {
  test("has the state that init returned", async () => {
    const state = { open: true };
    expect((await Process.start({ init: () => state })).state).toBe(state);
    expect((await Process.start({ init: async () => state })).state).toBe(state);
  });

  test("has an id of its own, and is called by it when it was given no name", async () => {
    const first = await Process.start({ init: () => 1 });
    const second = await Process.start({ init: () => 2, name: "second" });
    expect(second.id).toBeGreaterThan(first.id);
    expect(first.name).toBe(`process ${first.id}`);
    expect(second.name).toBe("second");
  });

  test("is itself what has the process, and init has it before start resolves", async () => {
    let inside: Process | undefined;
    const born = await Process.start({
      init: (self) => {
        inside = self.process;
        expect(self.process.alive).toBe(true);
      },
    });
    expect(inside).toBe(born);
    expect(born.process).toBe(born);
    expect(born.alive).toBe(true);
  });

  test("calls init and terminate on the spec, so that a spec may be an object with fields of its own", async () => {
    class Counter implements ProcessSpec<number> {
      readonly name = "counter";
      readonly step = 7;
      ended = 0;
      init() {
        return this.step;
      }
      terminate(state: number) {
        this.ended += state + this.step;
      }
    }
    const spec = new Counter();
    await (await Process.start(spec)).stop();
    expect(spec.ended).toBe(14);
  });
});

describe("a process that does not start", () => {
  test.each([
    [
      "throws",
      (error: unknown) => () => {
        throw error;
      },
    ],
    [
      "rejects with",
      (error: unknown) => async () => {
        throw error;
      },
    ],
  ])("makes start reject with exactly what init %s", async (_, failing) => {
    const error = new Error("no such host");
    await expect(Process.start({ init: failing(error) })).rejects.toBe(error);
    await expect(Process.start({ init: failing("no error at all") })).rejects.toBe("no error at all");
  });

  test("is dead of what init threw, as an Error", async () => {
    let born!: Process;
    const init = (self: Self): never => {
      born = self.process;
      throw "a string";
    };
    await Process.start({ init }).catch(() => undefined);
    expect(born.alive).toBe(false);
    const reason = await born.exited;
    expect(reason).toBeInstanceOf(Error);
    expect((reason as Error).cause).toBe("a string");
  });

  test("was refused before init when its options are wrong, by a rejection and not by a throw", async () => {
    let called = 0;
    const init = () => {
      called++;
    };
    const wrong: unknown[] = [
      undefined,
      null,
      {},
      { init: 1 },
      { init, name: "" },
      { init, name: 7 },
      { init, terminate: "yes" },
      { init, runtime: {} },
    ];
    for (const spec of wrong) {
      await expect(Process.start(spec as ProcessSpec<void>)).rejects.toMatchObject({ code: "ERR_OPTION" });
    }
    expect(called).toBe(0);
  });
});

describe("an exit while init is pending", () => {
  test("makes start reject with the error it was for", async () => {
    const init = held();
    const started = Process.start(init);
    const error = new Error("handshake refused");
    init.self.exit(error);
    expect(init.self.process.alive).toBe(false);
    await expect(started).rejects.toBe(error);
  });

  test.each(["normal", "shutdown", "killed"] as const)(
    "makes start reject with ERR_PROCESS_EXITED when the reason is %s",
    async (reason) => {
      const init = held();
      const started = Process.start({ ...init, init: init.init, name: "early" });
      init.self.exit(reason);
      await expect(started).rejects.toMatchObject({ code: "ERR_PROCESS_EXITED", reason, retryable: false });
      await expect(started).rejects.toThrow(/process "early" exited/);
      expect(await init.self.process.exited).toBe(reason);
    },
  );

  test("does so although init throws something else in the same breath", async () => {
    const error = new Error("first");
    const init = (self: Self) => {
      self.exit(error);
      throw new Error("second");
    };
    await expect(Process.start({ init })).rejects.toBe(error);
  });

  test("ends it at once when it is asked to stop, with the reason it was asked for", async () => {
    const init = held();
    const started = Process.start(init);
    const stopped = init.self.process.stop({ reason: "normal" });
    expect(init.self.process.alive).toBe(false);
    expect(init.self.signal.aborted).toBe(true);
    await expect(started).rejects.toMatchObject({ code: "ERR_PROCESS_EXITED", reason: "normal" });
    expect(await stopped).toBe("normal");
  });

  test("lets init stop its own process and wait for that, without a hang", async () => {
    const runtime = virtualRuntime();
    const init = async (self: Self) => {
      await self.process.stop();
    };
    const started = runtime.until(Process.start({ runtime, init }));
    await expect(started).rejects.toMatchObject({ code: "ERR_PROCESS_EXITED" });
    expect(runtime.now()).toBe(0);
  });
});

describe("a result of init that comes after the exit", () => {
  const ways: [string, (self: Self) => unknown, unknown][] = [
    ["it was asked to stop", (self) => self.process.stop(), "shutdown"],
    ["it ended itself", (self) => self.exit("normal"), "normal"],
    ["it called itself killed", (self) => self.exit("killed"), "killed"],
  ];
  test.each(ways)("is cleaned up by terminate when %s", async (_, end, reason) => {
    const init = held<string>();
    const terminated: unknown[] = [];
    const started = Process.start({ init: init.init, terminate: (...args) => void terminated.push(args) });
    void end(init.self);
    await expect(started).rejects.toThrow();
    expect(terminated).toEqual([]);

    init.resolve("socket");
    await virtualRuntime().settle();
    expect(terminated).toEqual([["socket", reason]]);
  });

  test("is cleaned up by terminate when a link brought the end, although the other was killed", async () => {
    const init = held<string>();
    const terminated: unknown[] = [];
    const started = Process.start({ init: init.init, terminate: (state) => void terminated.push(state) });
    const other = await Process.start({ init: () => undefined });
    init.self.process.link(other);
    other.kill();
    await expect(started).rejects.toMatchObject({ reason: "killed" });
    init.resolve("socket");
    await virtualRuntime().settle();
    expect(terminated).toEqual(["socket"]);
  });

  test("is left alone when it was killed, as terminate is never called then", async () => {
    const init = held<string>();
    const terminated: unknown[] = [];
    const started = Process.start({ init: init.init, terminate: (state) => void terminated.push(state) });
    init.self.process.kill();
    await expect(started).rejects.toMatchObject({ reason: "killed" });
    init.resolve("socket");
    await virtualRuntime().settle();
    expect(terminated).toEqual([]);
  });

  test("is told once when it is a failure, by start or by an event, however close the exit comes before it", async () => {
    const outcomes = new Set<string>();
    for (let hops = 0; hops < 8; hops++) {
      using failed = heard("callback.failed");
      const child = held();
      const started = Process.start({ init: child.init }).catch((error: unknown) => error as Error);
      child.reject(new Error("no"));
      for (let hop = 0; hop < hops; hop++) await Promise.resolve();
      child.self.process.kill();
      const { message } = (await started) as Error;
      await virtualRuntime().settle();
      expect(
        [message, ...failed.events.map(({ error }) => error.message)].filter((text) => text === "no"),
      ).toHaveLength(1);
      outcomes.add(failed.events.length === 0 ? "start" : "event");
    }
    expect(outcomes).toEqual(new Set(["start", "event"]));
  });

  test("is an event when it is a failure, and none when it only says that init gave up as told", async () => {
    using failed = heard("callback.failed");
    const late = held();
    const started = Process.start({ init: late.init, name: "late" });
    late.self.exit("normal");
    await expect(started).rejects.toThrow();
    late.reject(new Error("too late"));

    const init = async (self: Self) => {
      await new Promise((_, reject) => self.signal.addEventListener("abort", () => reject(self.signal.reason)));
    };
    let obedient!: Process;
    const second = Process.start({
      init: (self) => {
        obedient = self.process;
        return init(self);
      },
    });
    void obedient.stop();
    await expect(second).rejects.toThrow();
    await virtualRuntime().settle();
    expect(failed.events.map(({ where, error }) => [where, error.message])).toEqual([
      ["late: init, after its exit", "too late"],
    ]);
  });
});
