import { describe, expect, test } from "vitest";
import { Registry } from "../../src/registry/index.ts";
import type { ChildSpec, Supervisor } from "../../src/supervisor/index.ts";
import { outcome, running, stage, standing } from "./workers.ts";

describe("stop", () => {
  const boom = new Error("boom");
  for (const reason of [undefined, "shutdown", "killed", boom] as const) {
    test(
      `ends the supervisor with ${reason === boom ? "the error" : (reason ?? "normal")}, and the children with shutdown`,
      stage(async (s) => {
        const supervisor = await s.supervise([s.worker("a")]);
        const options = reason === undefined ? {} : { reason };
        expect(await s.until(supervisor.stop(options))).toBe(reason ?? "normal");
        expect(await supervisor.process.exited).toBe(reason ?? "normal");
        expect(s.diary().slice(-2)).toEqual(["stop a", "down a shutdown"]);
      }),
    );
  }

  test(
    "may be called by many, at any time: the first reason stays",
    stage(async (s) => {
      const supervisor = await s.supervise([s.worker("a", { stopMs: 10 })]);
      const answers = [supervisor.stop({ reason: "shutdown" }), supervisor.stop(), supervisor.process.stop()];
      expect(await s.until(Promise.all(answers))).toEqual(["shutdown", "shutdown", "shutdown"]);
      expect(await supervisor.stop({ reason: "killed" })).toBe("shutdown");
      expect(s.diary().filter((line) => line === "stop a")).toHaveLength(1);
    }),
  );

  test(
    "has no deadline of its own",
    stage(async (s) => {
      const supervisor = await s.supervise([s.worker("a", { shutdown: "infinity", stopMs: 3_600_000 })]);
      await s.until(supervisor.stop());
      expect(s.runtime.now()).toBe(3_600_000);
    }),
  );

  test(
    "kills the rest of the tree at its deadline, newest first",
    stage(async (s) => {
      const slow = (id: string): ChildSpec => s.worker(id, { shutdown: "infinity", stopMs: 3_600_000 });
      const branch = s.branch("branch", [slow("b"), slow("c")]);
      const supervisor = await s.supervise([slow("a"), branch, slow("d"), s.worker("e")]);
      s.diary();
      expect(await s.until(supervisor.stop({ timeoutMs: 1_000 }))).toBe("killed");
      expect(s.runtime.now()).toBe(1_000);
      const killed = ["d", "c", "b", "a"].map((id) => `down ${id} killed`);
      expect(s.diary()).toEqual(["stop e", "down e shutdown", "stop d", ...killed]);
      await s.runtime.advance(3_600_000);
    }),
  );

  test(
    "may be given a deadline later",
    stage(async (s) => {
      const supervisor = await s.supervise([s.worker("a", { shutdown: "infinity", stopMs: 3_600_000 })]);
      const first = supervisor.stop();
      await s.runtime.advance(500);
      expect(await s.until(supervisor.stop({ timeoutMs: 100 }))).toBe("killed");
      expect([await first, s.runtime.now()]).toEqual(["killed", 600]);
      await s.runtime.advance(3_600_000);
    }),
  );

  test(
    "refuses the requests that wait and those that come, and lets the one being served end",
    stage(async (s) => {
      const supervisor = await s.supervise([s.worker("a", { stopMs: 100 }), s.worker("b")]);
      const served = outcome(supervisor.terminateChild("a"));
      await s.runtime.settle();
      const calls = (): Promise<string[]> =>
        Promise.all([
          outcome(supervisor.startChild(s.worker("c"))),
          outcome(supervisor.terminateChild("b")),
          outcome(supervisor.restartChild("a")),
          outcome(supervisor.deleteChild("a")),
          outcome(supervisor.terminateChild("nobody")),
        ]);
      const waiting = calls();
      const stopped = supervisor.stop();
      const coming = calls();
      const refused = Array.from({ length: 5 }, () => "ERR_SUPERVISOR_STOPPED");
      expect(await waiting).toEqual(refused);
      expect(await coming).toEqual(refused);
      await s.until(stopped);
      expect(await served).toBe("ok");
      expect(await calls()).toEqual(refused);
      expect(s.starts("c")).toBe(0);
    }),
  );

  test(
    "waits for the request being served before it shuts anybody down",
    stage(async (s) => {
      const supervisor = await s.supervise([s.worker("a", { stopMs: 100 }), s.worker("b")]);
      const served = outcome(supervisor.terminateChild("a"));
      await s.runtime.settle();
      s.diary();
      await s.until(supervisor.stop());
      expect(s.diary()).toEqual(["down a shutdown", "stop b", "down b shutdown"]);
      expect(await served).toBe("ok");
    }),
  );

  test(
    "leaves the children listed, none of them running",
    stage(async (s) => {
      const supervisor = await s.supervise([s.worker("a"), s.branch("b", [])]);
      await supervisor.stop();
      expect(standing(supervisor)).toEqual(["a down", "b down"]);
      expect(supervisor.countChildren()).toEqual({ specs: 2, active: 0, supervisors: 1, workers: 1 });
    }),
  );

  test(
    "is what leaving the scope does",
    stage(async (s) => {
      let left: Supervisor;
      {
        await using supervisor = await s.supervise([s.worker("a")]);
        left = supervisor;
      }
      expect(await left.process.exited).toBe("normal");
      expect(s.diary().slice(-2)).toEqual(["stop a", "down a shutdown"]);
    }),
  );

  test(
    "by the supervisor above ends it with shutdown, its own children first",
    stage(async (s) => {
      const top = await s.supervise([s.worker("a"), s.branch("branch", [s.worker("b"), s.worker("c")])]);
      const branch = running(top, "branch");
      s.diary();
      await s.until(top.stop());
      expect(await branch.exited).toBe("shutdown");
      const shutDown = ["c", "b", "a"].flatMap((id) => [`stop ${id}`, `down ${id} shutdown`]);
      expect(s.diary()).toEqual(shutDown);
    }),
  );
});

describe("a supervisor that is killed", () => {
  test(
    "takes its children with it before kill returns, newest first, unasked",
    stage(async (s) => {
      const branch = s.branch("branch", [s.worker("b"), s.worker("c")]);
      const supervisor = await s.supervise([s.worker("a"), branch, s.worker("d")]);
      s.diary();
      supervisor.process.kill();
      expect(s.diary()).toEqual(["d", "c", "b", "a"].map((id) => `down ${id} killed`));
      expect(await supervisor.process.exited).toBe("killed");
    }),
  );

  test(
    "is found in no registry any more when the monitors of its children run",
    stage(async (s) => {
      const registry = await Registry.start<string, number>({ keys: "unique", runtime: s.runtime });
      const supervisor = await s.supervise([s.worker("a"), s.branch("branch", [s.worker("b")])]);
      registry.register(supervisor, "top", 1);
      const adding = outcome(
        supervisor.startChild(s.branch("late", [s.worker("c"), s.worker("d", { attempt: () => "hang" })])),
      );
      await s.runtime.settle();
      const found: unknown[] = [];
      for (const id of ["a", "b", "c"]) s.newest(id).monitor(() => found.push(registry.whereis("top")));
      supervisor.process.kill();
      expect(found).toEqual([undefined, undefined, undefined]);
      expect(await adding).toBe("ERR_SUPERVISOR_STOPPED");
      await registry.close();
    }),
  );

  test(
    "is put back by the supervisor above, with new children",
    stage(async (s) => {
      const top = await s.supervise([s.branch("branch", [s.worker("a")], { restart: "transient" })]);
      running(top, "branch").kill();
      await s.runtime.settle();
      expect([s.starts("a"), s.alive()]).toEqual([2, ["a"]]);
    }),
  );

  test(
    "while it shuts a child down answers whoever waits",
    stage(async (s) => {
      const supervisor = await s.supervise([s.worker("a", { stopMs: 100 })]);
      const served = outcome(supervisor.terminateChild("a"));
      const waiting = outcome(supervisor.deleteChild("a"));
      await s.runtime.settle();
      supervisor.process.kill();
      expect([await served, await waiting]).toEqual(["ok", "ERR_SUPERVISOR_STOPPED"]);
      expect(await supervisor.stop()).toBe("killed");
      await s.runtime.advance(100);
    }),
  );

  test(
    "by a link takes its children with it too",
    stage(async (s) => {
      const supervisor = await s.supervise([s.worker("a")]);
      const other = await s.process("other");
      supervisor.process.link(other);
      s.crash("other");
      expect(supervisor.process.alive).toBe(false);
      expect(s.alive()).toEqual([]);
    }),
  );
});
