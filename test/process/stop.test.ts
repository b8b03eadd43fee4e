/** The end that is asked for: `stop`, its `terminate`, its time, and `kill`, which asks nobody. */

import { describe, expect, test } from "vitest";
import { type ExitReason, Process, type StopOptions } from "../../src/process/index.ts";
import { type VirtualRuntime, virtualRuntime } from "../../src/sim/index.ts";
import { heard } from "./heard.ts";

type Terminate = (state: string, reason: ExitReason) => void | Promise<void>;

function live(runtime: VirtualRuntime, terminate?: Terminate): Promise<Process<string>> {
  return Process.start({ name: "child", runtime, init: () => "state", ...(terminate !== undefined && { terminate }) });
}

const never = (): Promise<void> => new Promise(() => undefined);

describe("stop", () => {
  test("ends a process that has no terminate before it returns, for shutdown unless told otherwise", async () => {
    const runtime = virtualRuntime();
    const child = await live(runtime);
    const stopped = child.stop();
    expect(child.alive).toBe(false);
    expect(await stopped).toBe("shutdown");
    const error = new Error("why not");
    expect(await (await live(runtime)).stop({ reason: error })).toBe(error);
    expect(runtime.timers).toBe(0);
  });

  test("is what leaving an await using block does", async () => {
    let child: Process<string>;
    {
      await using scoped = await live(virtualRuntime());
      child = scoped;
      expect(child.alive).toBe(true);
    }
    expect(await child.exited).toBe("shutdown");
  });

  test("runs terminate with the state and the reason, and the process is alive until that is done", async () => {
    const runtime = virtualRuntime();
    const order: unknown[] = [];
    const child = await live(runtime, async (state, reason) => {
      order.push([state, reason, child.alive]);
      await new Promise<void>((resolve) => void runtime.setTimer(resolve, 100));
      order.push(["done", child.alive]);
    });
    child.monitor((reason) => order.push(["dead", reason]));
    const stopped = child.stop({ reason: "normal" });
    await runtime.advance(99);
    expect(order).toEqual([["state", "normal", true]]);
    await runtime.advance(1);
    expect(order.slice(1)).toEqual([
      ["done", true],
      ["dead", "normal"],
    ]);
    expect(await stopped).toBe("normal");
  });

  test("kills at timeoutMs, 5 s by default, and says so in an event", async () => {
    for (const [options, afterMs] of [
      [{}, 5_000],
      [{ timeoutMs: 70 }, 70],
      [{ timeoutMs: 0 }, 0],
    ] as const) {
      using failed = heard("process.terminateFailed");
      const runtime = virtualRuntime();
      const child = await live(runtime, never);
      expect(await runtime.until(child.stop(options))).toBe("killed");
      expect(runtime.now()).toBe(afterMs);
      expect(failed.events).toMatchObject([{ name: "child", process: child.id }]);
      expect(failed.events[0]?.error.message).toContain(`${afterMs} ms`);
    }
  });

  test("waits with timers that keep the program alive, since a promise depends on them, and leaves none", async () => {
    const runtime = virtualRuntime();
    let finish!: () => void;
    const child = await live(runtime, () => new Promise((resolve) => void (finish = resolve)));
    const stopped = child.stop();
    expect([runtime.timers, runtime.keepAliveTimers]).toEqual([1, 1]);
    finish();
    expect(await stopped).toBe("shutdown");
    expect(runtime.timers).toBe(0);
  });

  test("waits for ever, with no timer, when timeoutMs is Infinity", async () => {
    const runtime = virtualRuntime();
    const child = await live(runtime, never);
    void child.stop({ timeoutMs: Infinity });
    expect(runtime.timers).toBe(0);
    await runtime.advance(10_000_000);
    expect(child.alive).toBe(true);
    child.kill();
  });

  test.each([
    [
      "throws",
      () => {
        throw new Error("cannot close");
      },
    ],
    ["rejects", () => Promise.reject(new Error("cannot close"))],
  ])("ends the process for the reason asked when terminate %s, which is an event", async (_, terminate) => {
    using failed = heard("process.terminateFailed");
    const child = await live(virtualRuntime(), terminate);
    expect(await child.stop({ reason: "normal" })).toBe("normal");
    expect(failed.events.map(({ error }) => error.message)).toEqual(["cannot close"]);
  });

  test("is idempotent: one terminate, the first reason, the same answer for all, dead or alive", async () => {
    const runtime = virtualRuntime();
    const reasons: ExitReason[] = [];
    const child = await live(runtime, async (_, reason) => {
      reasons.push(reason);
      await runtime.settle();
    });
    const asked = [child.stop({ reason: "normal" }), child.stop({ reason: new Error("second") }), child.stop()];
    expect(await Promise.all(asked)).toEqual(["normal", "normal", "normal"]);
    expect(await child.stop({ reason: "shutdown" })).toBe("normal");
    expect(reasons).toEqual(["normal"]);
    expect(runtime.timers).toBe(0);
  });

  test("keeps the first reason when a listener of the signal stops it again, before or after init", async () => {
    for (const early of [true, false]) {
      let child!: Process;
      const started = Process.start({
        runtime: virtualRuntime(),
        init: (self) => {
          child = self.process;
          self.signal.addEventListener("abort", () => void child.stop({ reason: "normal" }));
          return early ? never() : undefined;
        },
      });
      if (!early) await started;
      expect(await child.stop({ reason: "shutdown" })).toBe("shutdown");
      if (early) await expect(started).rejects.toThrow();
    }
  });

  test("counts the shortest of the times asked for", async () => {
    const runtime = virtualRuntime();
    const child = await live(runtime, never);
    const asked = [
      child.stop({ timeoutMs: Infinity }),
      child.stop({ timeoutMs: 50 }),
      child.stop({ timeoutMs: 9_000 }),
    ];
    expect(await runtime.until(Promise.all(asked))).toEqual(["killed", "killed", "killed"]);
    expect([runtime.now(), runtime.timers]).toEqual([50, 0]);
  });

  test("called by terminate itself hangs no longer than its time", async () => {
    const runtime = virtualRuntime();
    const child = await live(runtime, async () => {
      await child.stop();
    });
    expect(await runtime.until(child.stop())).toBe("killed");
    expect(runtime.now()).toBe(5_000);
  });

  test("aborts the signal before terminate runs, with an error that says why", async () => {
    let signal!: AbortSignal;
    const seen: boolean[] = [];
    const child = await Process.start({
      name: "child",
      init: (self) => void ({ signal } = self),
      terminate: () => void seen.push(signal.aborted),
    });
    expect(signal.aborted).toBe(false);
    await child.stop({ reason: "normal" });
    expect(seen).toEqual([true]);
    expect(signal.reason).toMatchObject({ code: "ERR_PROCESS_EXITED", reason: "normal" });
    expect((signal.reason as Error).message).toMatch(/process "child" ends \(normal\)/);
  });

  test("rejects, and never throws, when its options are wrong; and nothing has begun then", async () => {
    const child = await live(virtualRuntime());
    const wrong: unknown[] = [
      null,
      7,
      { reason: "because" },
      { reason: null },
      { timeoutMs: -1 },
      { timeoutMs: Number.NaN },
      { timeoutMs: "soon" },
      { timeout: 5 },
    ];
    for (const options of wrong) {
      await expect(child.stop(options as StopOptions)).rejects.toMatchObject({ code: "ERR_OPTION" });
    }
    expect(child.alive).toBe(true);
  });
});

describe("kill", () => {
  test("calls no terminate, and none again when it comes in the middle of one", async () => {
    const runtime = virtualRuntime();
    let terminated = 0;
    const terminate = (): Promise<void> => {
      terminated++;
      return never();
    };
    const killed = await live(runtime, terminate);
    killed.kill();
    expect(terminated).toBe(0);

    const stopping = await live(runtime, terminate);
    const stopped = stopping.stop({ reason: "normal" });
    stopping.kill();
    stopping.kill();
    expect(stopping.alive).toBe(false);
    expect(await stopped).toBe("killed");
    expect([terminated, runtime.timers]).toEqual([1, 0]);
  });

  test("by a listener of the stop signal leaves terminate uncalled", async () => {
    let terminated = 0;
    const child = await Process.start({
      init: (self) => self.signal.addEventListener("abort", () => self.process.kill()),
      terminate: () => void terminated++,
    });
    expect(await child.stop()).toBe("killed");
    expect(terminated).toBe(0);
  });

  test("makes whatever terminate still does of no consequence, except that its failure is an event", async () => {
    using failed = heard("process.terminateFailed");
    const runtime = virtualRuntime();
    let reject!: (error: Error) => void;
    const child = await live(runtime, () => new Promise((_, rejected) => void (reject = rejected)));
    void child.stop();
    child.kill();
    reject(new Error("half closed"));
    await runtime.settle();
    expect(await child.exited).toBe("killed");
    expect(failed.events.map(({ error }) => error.message)).toEqual(["half closed"]);
  });
});
