import { describe, expect, test } from "vitest";
import { Process } from "../../src/process/index.ts";
import { outcome, running, stage, standing } from "./workers.ts";

describe("a dynamic supervisor", () => {
  test(
    "starts with no children, and needs no options",
    stage(async (s) => {
      const supervisor = await s.dynamic();
      expect(supervisor.whichChildren()).toEqual([]);
      expect(supervisor.countChildren()).toEqual({ specs: 0, active: 0, supervisors: 0, workers: 0 });
    }),
  );

  test(
    "gives what the start gave; ids are labels that may be the same, or missing",
    stage(async (s) => {
      const supervisor = await s.dynamic();
      const first = await supervisor.startChild(s.worker("a"));
      await supervisor.startChild(s.worker("a"));
      const { id: _, ...nameless } = s.worker("b", { type: "supervisor" });
      await supervisor.startChild(nameless);
      expect(supervisor.whichChildren()).toEqual([
        { id: undefined, type: "supervisor", process: s.newest("b") },
        { id: "a", type: "worker", process: s.newest("a") },
        { id: "a", type: "worker", process: first },
      ]);
      expect(supervisor.countChildren()).toEqual({ specs: 3, active: 3, supervisors: 1, workers: 2 });
    }),
  );

  test(
    "refuses a spec that is wrong, or significant: it never shuts itself down for a child",
    stage(async (s) => {
      const supervisor = await s.dynamic();
      const wrong = { ...s.worker("a"), restart: "always" } as never;
      const option = "DynamicSupervisor.startChild";
      await expect(supervisor.startChild(wrong)).rejects.toMatchObject({ option: `${option}: restart` });
      const significant = s.worker("a", { significant: true, restart: "temporary" });
      await expect(supervisor.startChild(significant)).rejects.toMatchObject({ option: `${option}: significant` });
      expect(s.diary()).toEqual([]);
    }),
  );

  test(
    "keeps nothing of a child whose start fails or gives nothing",
    stage(async (s) => {
      const supervisor = await s.dynamic({ maxRestarts: 0 });
      const failing = supervisor.startChild(s.worker("a", { attempt: () => "fail" }));
      const error = { code: "ERR_SUPERVISOR_START_FAILED", childId: "a", cause: { message: "a cannot start" } };
      await expect(failing).rejects.toMatchObject(error);
      expect(await supervisor.startChild(s.worker("b", { attempt: () => "ignore" }))).toBeUndefined();
      expect(supervisor.whichChildren()).toEqual([]);
    }),
  );

  test(
    "serves one request at a time: a slow start holds up the next",
    stage(async (s) => {
      const supervisor = await s.dynamic();
      const both = ["a", "b"].map((id) => supervisor.startChild(s.worker(id, { startMs: 10 })));
      await s.until(Promise.all(both));
      expect(s.diary()).toEqual(["start a", "up a", "start b", "up b"]);
      expect(s.runtime.now()).toBe(20);
    }),
  );

  test(
    "restarts the one that died and nobody else",
    stage(async (s) => {
      const supervisor = await s.dynamic();
      for (const id of ["a", "b"]) await supervisor.startChild(s.worker(id));
      await s.crashed("a");
      expect([s.starts("a"), s.starts("b")]).toEqual([2, 1]);
      expect(standing(supervisor)).toEqual(["a up", "b up"]);
    }),
  );

  for (const restart of ["transient", "temporary"] as const) {
    test(
      `forgets a ${restart} child that has ended for good`,
      stage(async (s) => {
        const supervisor = await s.dynamic();
        await supervisor.startChild(s.worker("a", { restart }));
        s.end("a", "normal");
        await s.runtime.settle();
        expect(supervisor.whichChildren()).toEqual([]);
      }),
    );
  }

  test(
    "shows a child that has ended for good as down until it is forgotten, also when it was restarted before",
    stage(async (s) => {
      const supervisor = await s.dynamic();
      await supervisor.startChild(s.worker("a", { restart: "transient" }));
      await s.crashed("a");
      s.end("a", "normal");
      expect(standing(supervisor)).toEqual(["a down"]);
      await s.runtime.settle();
      expect(standing(supervisor)).toEqual([]);
    }),
  );

  test(
    "drops a child whose restart gives nothing",
    stage(async (s) => {
      const supervisor = await s.dynamic();
      await supervisor.startChild(s.worker("a", { attempt: (nth) => (nth === 1 ? "up" : "ignore") }));
      await s.crashed("a");
      expect([supervisor.whichChildren(), s.starts("a")]).toEqual([[], 2]);
    }),
  );

  test(
    "tries a failed restart again until the budget is spent, then ends all",
    stage(async (s) => {
      const supervisor = await s.dynamic({ maxRestarts: 3 });
      await supervisor.startChild(s.worker("a", { attempt: (nth) => (nth === 1 ? "up" : "fail") }));
      await supervisor.startChild(s.worker("b"));
      await s.crashed("a");
      expect(standing(supervisor)).toEqual(["a restarting", "b up"]);
      expect(await s.until(supervisor.process.exited)).toBe("shutdown");
      expect([s.starts("a"), s.alive()]).toEqual([4, []]);
    }),
  );

  test(
    "shares the budget: four children that die once each end it, and all others",
    stage(async (s) => {
      const supervisor = await s.dynamic();
      const ids = ["a", "b", "c", "d", "e"];
      for (const id of ids) await supervisor.startChild(s.worker(id));
      await s.crashed("a", "b", "c");
      expect(s.alive()).toHaveLength(5);
      s.crash("d");
      expect(await s.until(supervisor.process.exited)).toBe("shutdown");
      expect(s.alive()).toEqual([]);
    }),
  );

  test(
    "shuts all children down at once, each with its own time",
    stage(async (s) => {
      const supervisor = await s.dynamic();
      for (const id of ["a", "b", "c", "d", "e"]) await supervisor.startChild(s.worker(id, { stopMs: 200 }));
      await supervisor.startChild(s.worker("late", { shutdown: 100, stopMs: 200 }));
      await supervisor.startChild(s.worker("brutal", { shutdown: "brutal_kill" }));
      s.diary();
      await s.until(supervisor.stop());
      expect(s.runtime.now()).toBe(200);
      expect(s.diary()).toEqual([
        ...["down brutal killed", "stop late", "stop e", "stop d", "stop c", "stop b", "stop a"],
        "down late killed",
        ...["e", "d", "c", "b", "a"].map((id) => `down ${id} shutdown`),
      ]);
    }),
  );

  test(
    "that is killed takes its children with it, newest first",
    stage(async (s) => {
      const supervisor = await s.dynamic();
      for (const id of ["a", "b"]) await supervisor.startChild(s.worker(id));
      s.diary();
      supervisor.process.kill();
      expect(s.diary()).toEqual(["down b killed", "down a killed"]);
    }),
  );

  test(
    "refuses every call once it stops",
    stage(async (s) => {
      const supervisor = await s.dynamic();
      const child = (await supervisor.startChild(s.worker("a", { stopMs: 10 }))) as Process;
      const stopped = supervisor.stop({ reason: "shutdown" });
      expect(await outcome(supervisor.startChild(s.worker("b")))).toBe("ERR_SUPERVISOR_STOPPED");
      expect(await outcome(supervisor.terminateChild(child))).toBe("ERR_SUPERVISOR_STOPPED");
      expect(await s.until(stopped)).toBe("shutdown");
    }),
  );

  test(
    "does not grow with the children that have been",
    stage(async (s) => {
      const supervisor = await s.dynamic({ maxRestarts: 0 });
      for (let times = 0; times < 100; times++) {
        await supervisor.startChild(s.worker("a", { restart: "temporary" }));
        await s.crashed("a");
      }
      expect([supervisor.countChildren().specs, supervisor.onStopping.size]).toEqual([0, 0]);
    }),
  );
});

describe("terminateChild of a dynamic supervisor", () => {
  test(
    "shuts the child down, waits for that and forgets it",
    stage(async (s) => {
      const supervisor = await s.dynamic({ maxRestarts: 0 });
      const child = (await supervisor.startChild(s.worker("a", { stopMs: 100 }))) as Process;
      const terminated = supervisor.terminateChild({ process: child });
      await s.runtime.advance(99);
      expect(standing(supervisor)).toEqual(["a up"]);
      await s.until(terminated);
      expect([supervisor.whichChildren(), s.runtime.now()]).toEqual([[], 100]);
      expect(await s.outcome(supervisor.terminateChild(child))).toBe("ERR_SUPERVISOR_NOT_FOUND");
    }),
  );

  test(
    "does not know a process of somebody else, nor one that has been replaced",
    stage(async (s) => {
      const supervisor = await s.dynamic();
      const first = (await supervisor.startChild(s.worker("a"))) as Process;
      await s.crashed("a");
      expect(await s.outcome(supervisor.terminateChild(first))).toBe("ERR_SUPERVISOR_NOT_FOUND");
      const stranger = await s.process("stranger");
      expect(await s.outcome(supervisor.terminateChild(stranger))).toBe("ERR_SUPERVISOR_NOT_FOUND");
      expect(await s.outcome(supervisor.terminateChild(running(supervisor, "a")))).toBe("ok");
      stranger.kill();
    }),
  );

  test(
    "addresses a child that is restarting by the process that it last was, and cancels the retry",
    stage(async (s) => {
      const restartBackoff = { kind: "exponential", minMs: 100, maxMs: 100 } as const;
      const supervisor = await s.dynamic({ restartBackoff });
      const failing = s.worker("a", { attempt: (nth) => (nth === 1 ? "up" : "fail") });
      const first = (await supervisor.startChild(failing)) as Process;
      await s.crashed("a");
      expect(standing(supervisor)).toEqual(["a restarting"]);
      expect(await outcome(supervisor.terminateChild(first))).toBe("ok");
      expect([supervisor.whichChildren(), s.runtime.timers]).toEqual([[], 0]);
    }),
  );

  test(
    "works in the moment in which the child has died",
    stage(async (s) => {
      const supervisor = await s.dynamic({ maxRestarts: 0 });
      const child = (await supervisor.startChild(s.worker("a"))) as Process;
      const terminated = supervisor.terminateChild(child);
      s.crash("a");
      expect(await outcome(terminated)).toBe("ok");
      await s.runtime.settle();
      expect(supervisor.process.alive).toBe(true);
    }),
  );
});

describe("maxChildren", () => {
  test(
    "refuses the next before its start is called",
    stage(async (s) => {
      const supervisor = await s.dynamic({ maxChildren: 1 });
      await supervisor.startChild(s.worker("a"));
      const ignoring = s.worker("b", { attempt: () => "ignore" });
      expect(await outcome(supervisor.startChild(ignoring))).toBe("ERR_SUPERVISOR_MAX_CHILDREN");
      expect(s.starts("b")).toBe(0);
      await supervisor.terminateChild(running(supervisor, "a"));
      expect(await outcome(supervisor.startChild(s.worker("c")))).toBe("ok");
    }),
  );

  test(
    "counts those that are restarting, and those that were asked for before",
    stage(async (s) => {
      const restartBackoff = { kind: "exponential", minMs: 100, maxMs: 100 } as const;
      const supervisor = await s.dynamic({ maxChildren: 2, restartBackoff });
      await supervisor.startChild(s.worker("a", { attempt: (nth) => (nth === 2 ? "fail" : "up") }));
      await s.crashed("a");
      const both = ["b", "c"].map((id) => outcome(supervisor.startChild(s.worker(id))));
      expect(await Promise.all(both)).toEqual(["ok", "ERR_SUPERVISOR_MAX_CHILDREN"]);
      await s.runtime.advance(100);
      expect(standing(supervisor)).toEqual(["a up", "b up"]);
    }),
  );

  test(
    "of 0 allows nobody",
    stage(async (s) => {
      const supervisor = await s.dynamic({ maxChildren: 0 });
      expect(await outcome(supervisor.startChild(s.worker("a")))).toBe("ERR_SUPERVISOR_MAX_CHILDREN");
    }),
  );
});
