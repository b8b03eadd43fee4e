import { AsyncLocalStorage } from "node:async_hooks";
import { describe, expect, test } from "vitest";
import type { ExitReason } from "../../src/process/index.ts";
import { Process } from "../../src/process/index.ts";
import { type Stage, stage, standing } from "./workers.ts";

describe("whether a child is restarted", () => {
  const reasons: ExitReason[] = ["normal", "shutdown", "killed", new Error("crash")];
  const again: Record<"permanent" | "transient" | "temporary", boolean[]> = {
    permanent: [true, true, true, true],
    transient: [false, false, true, true],
    temporary: [false, false, false, false],
  };
  for (const [restart, answers] of Object.entries(again) as ["permanent", boolean[]][]) {
    for (const [at, reason] of reasons.entries()) {
      test(
        `${restart}, after ${reason instanceof Error ? "an error" : reason}: ${answers[at] ? "yes" : "no"}`,
        stage(async (s) => {
          const supervisor = await s.supervise([s.worker("a", { restart })]);
          const events = s.events("supervisor.childExited");
          s.end("a", reason);
          await s.runtime.settle();
          expect(s.starts("a")).toBe(answers[at] ? 2 : 1);
          expect(events).toEqual([{ supervisor: "supervisor", child: "a", reason, restart: answers[at] }]);
          expect(supervisor.process.alive).toBe(true);
        }),
      );
    }
  }

  test(
    "a permanent child that ends normally spends the budget of restarts",
    stage(async (s) => {
      const supervisor = await s.supervise([s.worker("a")], { maxRestarts: 1 });
      for (let times = 0; times < 2; times++) {
        s.end("a", "normal");
        await s.runtime.settle();
      }
      expect(await s.until(supervisor.process.exited)).toBe("shutdown");
    }),
  );

  test(
    "ends that are followed by no restart spend nothing",
    stage(async (s) => {
      const transient = ["a", "b"].map((id) => s.worker(id, { restart: "transient" }));
      const temporary = ["c", "d"].map((id) => s.worker(id, { restart: "temporary" }));
      const supervisor = await s.supervise([...transient, ...temporary], { maxRestarts: 0 });
      for (const id of ["a", "b"]) s.end(id, "normal");
      await s.crashed("c", "d");
      expect(supervisor.process.alive).toBe(true);
    }),
  );

  test(
    "a temporary child that has ended is forgotten, a transient one is kept",
    stage(async (s) => {
      const transient = s.worker("a", { restart: "transient" });
      const supervisor = await s.supervise([transient, s.worker("b", { restart: "temporary" })]);
      for (const id of ["a", "b"]) s.end(id, "normal");
      await s.runtime.settle();
      expect(standing(supervisor)).toEqual(["a down"]);
      expect(await s.outcome(supervisor.startChild(transient))).toBe("ERR_SUPERVISOR_ALREADY_PRESENT");
      expect(await s.outcome(supervisor.restartChild("a"))).toBe("ok");
      expect(await s.outcome(supervisor.startChild(s.worker("b")))).toBe("ok");
    }),
  );
});

describe("what a strategy restarts", () => {
  const abc = (s: Stage) => ["a", "b", "c"].map((id) => s.worker(id, { stopMs: 10 }));

  test(
    "one_for_one: the child that died, in its place",
    stage(async (s) => {
      const supervisor = await s.supervise(abc(s));
      s.diary();
      await s.crashed("b");
      expect(s.diary()).toEqual(["down b crash", "start b", "up b"]);
      expect(standing(supervisor)).toEqual(["a up", "b up", "c up"]);
    }),
  );

  test(
    "one_for_all: the others are shut down in reverse, one after another, then all are started in order",
    stage(async (s) => {
      const supervisor = await s.supervise(abc(s), { strategy: "one_for_all" });
      s.diary();
      s.crash("b");
      await s.runtime.advance(20);
      expect(s.diary()).toEqual([
        "down b crash",
        ...["stop c", "down c shutdown", "stop a", "down a shutdown"],
        ...["start a", "up a", "start b", "up b", "start c", "up c"],
      ]);
      expect(standing(supervisor)).toEqual(["a up", "b up", "c up"]);
    }),
  );

  test(
    "rest_for_one: it and those after it; those before it are not touched",
    stage(async (s) => {
      const supervisor = await s.supervise([...abc(s), s.worker("d", { stopMs: 10 })], { strategy: "rest_for_one" });
      const a = s.newest("a");
      s.diary();
      s.crash("b");
      await s.runtime.advance(20);
      expect(s.diary()).toEqual([
        "down b crash",
        ...["stop d", "down d shutdown", "stop c", "down c shutdown"],
        ...["start b", "up b", "start c", "up c", "start d", "up d"],
      ]);
      expect(standing(supervisor)).toEqual(["a up", "b up", "c up", "d up"]);
      expect(s.newest("a")).toBe(a);
    }),
  );

  test(
    "rest_for_one: a child added later comes after all others",
    stage(async (s) => {
      const supervisor = await s.supervise([s.worker("a"), s.worker("b")], { strategy: "rest_for_one" });
      await supervisor.startChild(s.worker("added"));
      s.diary();
      await s.crashed("b");
      expect(s.diary().slice(-4)).toEqual(["start b", "up b", "start added", "up added"]);
      await s.crashed("added");
      expect(s.diary()).toEqual(["down added crash", "start added", "up added"]);
    }),
  );
});

describe("a group that is restarted", () => {
  test(
    "starts also those that were terminated, had finished or had given nothing, and drops the temporary ones",
    stage(async (s) => {
      const supervisor = await s.supervise(
        [
          s.worker("terminated"),
          s.worker("finished", { restart: "transient" }),
          s.worker("ignored", { attempt: (nth) => (nth === 1 ? "ignore" : "up") }),
          s.worker("temporary", { restart: "temporary" }),
          s.worker("dead"),
        ],
        { strategy: "one_for_all" },
      );
      await s.until(supervisor.terminateChild("terminated"));
      s.end("finished", "normal");
      await s.crashed("dead");
      expect(standing(supervisor)).toEqual(["terminated up", "finished up", "ignored up", "dead up"]);
      expect(s.diary().slice(-10)).toEqual([
        ...["stop temporary", "down temporary shutdown"],
        ...["start terminated", "up terminated", "start finished", "up finished"],
        ...["start ignored", "up ignored", "start dead", "up dead"],
      ]);
    }),
  );

  test(
    "is one restart, however many are in it",
    stage(async (s) => {
      const abc = ["a", "b", "c"].map((id) => s.worker(id));
      const supervisor = await s.supervise(abc, { strategy: "one_for_all", maxRestarts: 1 });
      await s.crashed("b");
      expect(standing(supervisor)).toEqual(["a up", "b up", "c up"]);
    }),
  );

  for (const strategy of ["one_for_all", "rest_for_one"] as const) {
    test(
      `takes along a sibling that died at the same moment: one restart (${strategy})`,
      stage(async (s) => {
        const abc = ["a", "b", "c"].map((id) => s.worker(id));
        const supervisor = await s.supervise(abc, { strategy, maxRestarts: 1 });
        await s.crashed("a", "c");
        expect(standing(supervisor)).toEqual(["a up", "b up", "c up"]);
        expect([s.starts("a"), s.starts("c")]).toEqual([2, 2]);
      }),
    );
  }

  test(
    "takes along a sibling that dies while the others are shut down",
    stage(async (s) => {
      const children = [s.worker("a"), s.worker("b"), s.worker("c", { stopMs: 10 })];
      const supervisor = await s.supervise(children, { strategy: "one_for_all", maxRestarts: 1 });
      s.crash("b");
      await s.runtime.advance(5);
      s.crash("a");
      await s.runtime.advance(5);
      expect(standing(supervisor)).toEqual(["a up", "b up", "c up"]);
      expect(s.starts("a")).toBe(2);
    }),
  );

  test(
    "is restarted once more when one of it dies again while the rest are started",
    stage(async (s) => {
      const children = [s.worker("a"), s.worker("b", { startMs: 10 })];
      const supervisor = await s.supervise(children, { strategy: "one_for_all", maxRestarts: 2 });
      s.crash("a");
      await s.runtime.advance(5);
      s.crash("a");
      await s.runtime.advance(15);
      expect(standing(supervisor)).toEqual(["a up", "b up"]);
      expect([s.starts("a"), s.starts("b")]).toEqual([3, 3]);
    }),
  );

  test(
    "shows a member as running until it is dead, then as restarting until it is back",
    stage(async (s) => {
      const members = [s.worker("a"), s.worker("b"), s.worker("c", { stopMs: 10, startMs: 10 })];
      const supervisor = await s.supervise(members, { strategy: "one_for_all" });
      s.crash("b");
      expect(standing(supervisor)).toEqual(["a up", "b restarting", "c up"]);
      expect(supervisor.countChildren()).toEqual({ specs: 3, active: 2, supervisors: 0, workers: 3 });
      await s.runtime.advance(5);
      expect(standing(supervisor)).toEqual(["a up", "b restarting", "c up"]);
      await s.runtime.advance(5);
      expect(standing(supervisor)).toEqual(["a up", "b up", "c restarting"]);
      await s.runtime.advance(10);
      expect(standing(supervisor)).toEqual(["a up", "b up", "c up"]);
    }),
  );

  test(
    "shows its temporary members as down once they are, not as restarting",
    stage(async (s) => {
      const members = [s.worker("a", { stopMs: 10 }), s.worker("b"), s.worker("c", { restart: "temporary" })];
      const supervisor = await s.supervise(members, { strategy: "one_for_all" });
      await s.crashed("b");
      expect(standing(supervisor)).toEqual(["a up", "b restarting"]);
      await s.runtime.advance(10);
      expect(standing(supervisor)).toEqual(["a up", "b up"]);
    }),
  );
});

test(
  "under one_for_one two that die at the same moment are two restarts",
  stage(async (s) => {
    const supervisor = await s.supervise([s.worker("a"), s.worker("b")], { maxRestarts: 1 });
    s.crash("a", "b");
    expect(await s.until(supervisor.process.exited)).toBe("shutdown");
    expect([s.starts("a"), s.starts("b")]).toEqual([2, 1]);
  }),
);

test(
  "a restart that gives nothing keeps the spec, and the supervisor is content",
  stage(async (s) => {
    const children = [s.worker("a", { attempt: (nth) => (nth === 1 ? "up" : "ignore") }), s.worker("b")];
    const supervisor = await s.supervise(children, { strategy: "one_for_all" });
    await s.crashed("a");
    await s.runtime.advance(60_000);
    expect(standing(supervisor)).toEqual(["a down", "b up"]);
    expect(s.starts("a")).toBe(2);
  }),
);

test(
  "a restart is told once it is done",
  stage(async (s) => {
    await s.supervise([s.worker("a", { startMs: 10 })], { name: "top" });
    const events = s.events("supervisor.childRestarted");
    await s.crashed("a");
    expect(events).toEqual([]);
    await s.runtime.advance(10);
    expect(events).toEqual([{ supervisor: "top", child: "a" }]);
  }),
);

test(
  "a restart runs in the async context the supervisor was made in, not in that of the one who caused the death",
  stage(async (s) => {
    const context = new AsyncLocalStorage<string>();
    const seen: (string | undefined)[] = [];
    const child = {
      id: "a",
      start: () => {
        seen.push(context.getStore());
        return Process.start({ runtime: s.runtime, init: () => undefined });
      },
    };
    const supervisor = await context.run("maker", () => s.supervise([child]));
    const first = supervisor.whichChildren()[0]?.process as Process;
    await context.run("killer", async () => first.kill());
    await s.runtime.settle();
    expect(seen).toEqual(["maker", "maker"]);
  }),
);
