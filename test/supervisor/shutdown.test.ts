import { describe, expect, test } from "vitest";
import { Process } from "../../src/process/index.ts";
import type { ChildSpec } from "../../src/supervisor/index.ts";
import { type Manner, type Stage, running, stage, standing } from "./workers.ts";

test(
  "children are shut down in reverse, one after another, each waited for",
  stage(async (s) => {
    const supervisor = await s.supervise(["a", "b", "c"].map((id) => s.worker(id, { stopMs: 100 })));
    s.diary();
    await s.until(supervisor.stop());
    const shutDown = ["c", "b", "a"].flatMap((id) => [`stop ${id}`, `down ${id} shutdown`]);
    expect(s.diary()).toEqual(shutDown);
    expect(s.runtime.now()).toBe(300);
  }),
);

test(
  "a child that dies while others are shut down is not put back",
  stage(async (s) => {
    const supervisor = await s.supervise([s.worker("a"), s.worker("b", { stopMs: 100 })], { strategy: "one_for_all" });
    const stopped = supervisor.stop();
    await s.runtime.advance(50);
    await s.crashed("a");
    expect(standing(supervisor)).toEqual(["a down", "b up"]);
    await s.until(stopped);
    expect([s.starts("a"), s.starts("b")]).toEqual([1, 1]);
  }),
);

describe("the shutdown of a child", () => {
  const shutDown = async (s: Stage, manner: Manner): Promise<{ ms: number; diary: string[] }> => {
    const supervisor = await s.supervise([s.worker("a", manner)]);
    s.diary();
    const began = s.runtime.now();
    await s.until(supervisor.terminateChild("a"));
    const ms = s.runtime.now() - began;
    await s.runtime.advance(manner.stopMs ?? 0);
    return { ms, diary: s.diary() };
  };

  const rows: [says: string, manner: Manner, ms: number, diary: string[]][] = [
    ["brutal_kill: killed without being asked", { shutdown: "brutal_kill", stopMs: 10 }, 0, ["down a killed"]],
    ["0: asked, and killed at once", { shutdown: 0, stopMs: 10 }, 0, ["stop a", "down a killed"]],
    ["a number: asked, and waited for", { shutdown: 100, stopMs: 99 }, 99, ["stop a", "down a shutdown"]],
    ["a number: killed when that has passed", { shutdown: 100, stopMs: 101 }, 100, ["stop a", "down a killed"]],
    ["a worker is given 5 seconds", { stopMs: 4_999 }, 4_999, ["stop a", "down a shutdown"]],
    ["and no more", { stopMs: 5_001 }, 5_000, ["stop a", "down a killed"]],
    [
      "infinity: as long as it takes",
      { shutdown: "infinity", stopMs: 3_600_000 },
      3_600_000,
      ["stop a", "down a shutdown"],
    ],
    [
      "a supervisor is given as long as it takes",
      { type: "supervisor", stopMs: 600_000 },
      600_000,
      ["stop a", "down a shutdown"],
    ],
    ["unless told otherwise", { type: "supervisor", shutdown: 10, stopMs: 20 }, 10, ["stop a", "down a killed"]],
  ];
  for (const [says, manner, ms, diary] of rows) {
    test(
      says,
      stage(async (s) => expect(await shutDown(s, manner)).toEqual({ ms, diary })),
    );
  }

  test(
    "0: no time passes, not even a turn of the event loop",
    stage(async (s) => {
      const supervisor = await s.supervise([s.worker("a", { shutdown: 0, stopMs: 10 })]);
      await supervisor.terminateChild("a");
      expect(s.diary().slice(-2)).toEqual(["stop a", "down a killed"]);
      await s.runtime.advance(10);
    }),
  );

  const reasons: [how: string, manner: Manner, reason: "normal" | "shutdown" | undefined, unexpected: unknown][] = [
    ["as asked", {}, "shutdown", undefined],
    ["normal, permanent", {}, "normal", "normal"],
    ["normal, transient", { restart: "transient" }, "normal", undefined],
    ["normal, temporary", { restart: "temporary" }, "normal", undefined],
    ["killed, as told", { shutdown: "brutal_kill" }, undefined, undefined],
    ["killed, late", { shutdown: 10 }, undefined, "killed"],
  ];
  for (const [how, manner, reason, unexpected] of reasons) {
    test(
      `that ends otherwise than asked is an event and no more (${how})`,
      stage(async (s) => {
        const supervisor = await s.supervise([s.worker("a"), s.worker("b", { ...manner, stopMs: 100 })]);
        const events = s.events("supervisor.shutdownFailed");
        // Asked by somebody else first, whose reason stays.
        if (reason !== undefined) void s.newest("b").stop({ reason });
        expect(await s.outcome(supervisor.terminateChild("b"))).toBe("ok");
        const event = { supervisor: "supervisor", child: "b", reason: unexpected };
        expect(events).toEqual(unexpected === undefined ? [] : [event]);
        expect(s.alive()).toEqual(["a"]);
        await s.runtime.advance(100);
      }),
    );
  }

  test(
    "that breaks in its terminate is over all the same, and the others follow",
    stage(async (s) => {
      const broken = (id: string, terminate: () => Promise<void>): ChildSpec => ({
        id,
        start: () => Process.start({ runtime: s.runtime, init: () => undefined, terminate }),
      });
      const throwing = broken("b", () => {
        throw new Error("no");
      });
      const supervisor = await s.supervise([
        s.worker("a"),
        throwing,
        broken("c", () => Promise.reject(new Error("no"))),
      ]);
      expect(await s.until(supervisor.stop())).toBe("normal");
      expect(s.diary().slice(-1)).toEqual(["down a shutdown"]);
    }),
  );

  test(
    "that ends by itself with an error while it is asked is an event and no more",
    stage(async (s) => {
      const supervisor = await s.supervise([s.worker("a", { stopMs: 100 })], { strategy: "one_for_all" });
      const terminated = supervisor.terminateChild("a");
      await s.runtime.advance(50);
      s.crash("a");
      await terminated;
      expect(standing(supervisor)).toEqual(["a down"]);
      await s.runtime.advance(50);
      expect(s.starts("a")).toBe(1);
    }),
  );

  test(
    "does not wait for one that is dead already, unnoticed so far",
    stage(async (s) => {
      const supervisor = await s.supervise([s.worker("a"), s.worker("b")]);
      const terminated = supervisor.terminateChild("a");
      const stopped = supervisor.stop();
      s.newest("a").kill();
      s.newest("b").kill();
      expect(await s.outcome(terminated)).toBe("ERR_SUPERVISOR_STOPPED");
      expect(await stopped).toBe("normal");
    }),
  );

  test(
    "keeps the program alive until it is over",
    stage(async (s) => {
      const kept: (boolean | undefined)[] = [];
      const runtime = {
        now: () => s.runtime.now(),
        random: () => s.runtime.random(),
        setTimer: (...[act, delayMs, options]: Parameters<typeof s.runtime.setTimer>) => {
          kept.push(options?.keepAlive);
          return s.runtime.setTimer(act, delayMs, options);
        },
      };
      const supervisor = await s.supervise([s.worker("a", { stopMs: 10 })], { runtime });
      await s.until(supervisor.stop({ timeoutMs: 100 }));
      expect(kept).toEqual([true, true]);
    }),
  );

  test(
    "is timed by the runtime of the supervisor, whatever that of the child",
    stage(async (s) => {
      const child: ChildSpec = {
        id: "a",
        shutdown: 60_000,
        start: () => Process.start({ init: () => undefined, terminate: () => new Promise<void>(() => undefined) }),
      };
      const supervisor = await s.supervise([child]);
      const process = running(supervisor, "a");
      const terminated = supervisor.terminateChild("a");
      await s.runtime.advance(59_999);
      expect(process.alive).toBe(true);
      await s.runtime.advance(1);
      expect(process.alive).toBe(false);
      await terminated;
    }),
  );
});
