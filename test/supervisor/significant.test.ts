import { describe, expect, test } from "vitest";
import type { ExitReason } from "../../src/process/index.ts";
import { type Manner, type Stage, stage, standing } from "./workers.ts";

const significant = (s: Stage, id: string, restart: Manner["restart"] & string = "transient", manner: Manner = {}) =>
  s.worker(id, { significant: true, restart, ...manner });

describe("any_significant", () => {
  const any = { autoShutdown: "any_significant" } as const;
  const rows: [restart: "transient" | "temporary", reason: ExitReason, ends: boolean][] = [
    ["transient", "normal", true],
    ["transient", "shutdown", true],
    ["transient", "killed", false],
    ["transient", new Error("crash"), false],
    ["temporary", "normal", true],
    ["temporary", "killed", true],
    ["temporary", new Error("crash"), true],
  ];
  for (const [restart, reason, ends] of rows) {
    test(
      `a ${restart} one that ends with ${reason instanceof Error ? "an error" : reason} ${ends ? "ends" : "does not end"} the supervisor`,
      stage(async (s) => {
        const children = [s.worker("a"), significant(s, "b", restart), s.worker("c"), significant(s, "d")];
        const supervisor = await s.supervise(children, any);
        s.diary();
        s.end("b", reason);
        await s.runtime.settle();
        expect(supervisor.process.alive).toBe(!ends);
        if (!ends) return;
        expect(await supervisor.process.exited).toBe("shutdown");
        const shutDown = ["d", "c", "a"].flatMap((id) => [`stop ${id}`, `down ${id} shutdown`]);
        expect(s.diary().slice(1)).toEqual(shutDown);
      }),
    );
  }

  test(
    "the end of a child that is not significant ends nobody",
    stage(async (s) => {
      const supervisor = await s.supervise([s.worker("a", { restart: "transient" }), significant(s, "b")], any);
      s.end("a", "normal");
      await s.runtime.settle();
      expect(standing(supervisor)).toEqual(["a down", "b up"]);
    }),
  );

  test(
    "terminateChild is no end by itself",
    stage(async (s) => {
      const supervisor = await s.supervise([significant(s, "a"), significant(s, "b", "temporary")], any);
      await supervisor.terminateChild("a");
      await supervisor.terminateChild("b");
      expect(standing(supervisor)).toEqual(["a down"]);
    }),
  );

  test(
    "nor is being shut down because a sibling is restarted",
    stage(async (s) => {
      const children = [significant(s, "a", "temporary"), significant(s, "b"), s.worker("c")];
      const supervisor = await s.supervise(children, { ...any, strategy: "one_for_all" });
      await s.crashed("c");
      expect(standing(supervisor)).toEqual(["b up", "c up"]);
    }),
  );

  test(
    "nor is a start that gives nothing, at first or again",
    stage(async (s) => {
      const children = [
        significant(s, "a", "temporary", { attempt: () => "ignore" }),
        significant(s, "b", "transient", { attempt: (nth) => (nth === 1 ? "up" : "ignore") }),
      ];
      const supervisor = await s.supervise(children, any);
      await s.crashed("b");
      expect(standing(supervisor)).toEqual(["b down"]);
    }),
  );

  test(
    "a child added later can be the one",
    stage(async (s) => {
      const supervisor = await s.supervise([s.worker("a")], any);
      await supervisor.startChild(significant(s, "b"));
      s.end("b", "normal");
      expect(await s.until(supervisor.process.exited)).toBe("shutdown");
    }),
  );
});

describe("all_significant", () => {
  const all = { autoShutdown: "all_significant" } as const;

  test(
    "the last one to end ends the supervisor, not one before it",
    stage(async (s) => {
      const children = [significant(s, "a"), s.worker("b"), significant(s, "c", "temporary")];
      const supervisor = await s.supervise(children, all);
      s.end("a", "normal");
      await s.runtime.settle();
      expect(standing(supervisor)).toEqual(["a down", "b up", "c up"]);
      s.crash("c");
      expect(await s.until(supervisor.process.exited)).toBe("shutdown");
      expect(s.diary().slice(-2)).toEqual(["stop b", "down b shutdown"]);
    }),
  );

  test(
    "two that end at the same moment end the supervisor",
    stage(async (s) => {
      const supervisor = await s.supervise([significant(s, "a"), significant(s, "b")], all);
      s.end("a", "normal");
      s.end("b", "normal");
      expect(await s.until(supervisor.process.exited)).toBe("shutdown");
    }),
  );

  test(
    "one terminated and then the other ended by itself: that ends the supervisor",
    stage(async (s) => {
      const supervisor = await s.supervise([significant(s, "a"), significant(s, "b")], all);
      await supervisor.terminateChild("a");
      expect(supervisor.process.alive).toBe(true);
      s.end("b", "normal");
      expect(await s.until(supervisor.process.exited)).toBe("shutdown");
    }),
  );

  test(
    "one ended by itself and then the other terminated: the supervisor stays",
    stage(async (s) => {
      const supervisor = await s.supervise([significant(s, "a"), significant(s, "b")], all);
      s.end("a", "normal");
      await s.runtime.settle();
      await supervisor.terminateChild("b");
      await s.runtime.advance(1_000);
      expect(standing(supervisor)).toEqual(["a down", "b down"]);
    }),
  );

  test(
    "one that is restarting counts as running",
    stage(async (s) => {
      const restartBackoff = { kind: "exponential", minMs: 100, maxMs: 100 } as const;
      const failing = significant(s, "a", "transient", { attempt: (nth) => (nth === 2 ? "fail" : "up") });
      const supervisor = await s.supervise([failing, significant(s, "b")], { ...all, restartBackoff });
      await s.crashed("a");
      s.end("b", "normal");
      await s.runtime.settle();
      expect(standing(supervisor)).toEqual(["a restarting", "b down"]);
      await s.runtime.advance(100);
      s.end("a", "normal");
      expect(await s.until(supervisor.process.exited)).toBe("shutdown");
    }),
  );

  test(
    "children that are not significant do not keep the supervisor up",
    stage(async (s) => {
      const supervisor = await s.supervise([s.worker("a"), s.worker("b"), significant(s, "c")], all);
      s.end("c", "normal");
      expect(await s.until(supervisor.process.exited)).toBe("shutdown");
    }),
  );
});

test(
  "a supervisor that ended so is restarted by the one above only if it is permanent",
  stage(async (s) => {
    for (const restart of ["permanent", "transient"] as const) {
      const child = significant(s, restart, "temporary");
      const top = await s.supervise([
        s.branch(`${restart} branch`, [child], { restart, autoShutdown: "any_significant" }),
      ]);
      s.end(restart, "normal");
      await s.runtime.settle();
      expect(standing(top)).toEqual([`${restart} branch ${restart === "permanent" ? "up" : "down"}`]);
    }
  }),
);

test(
  "a budget that is spent comes first: the death of a significant child that would be restarted gives up",
  stage(async (s) => {
    const supervisor = await s.supervise([significant(s, "a")], { autoShutdown: "any_significant", maxRestarts: 0 });
    const gaveUp = s.events("supervisor.gaveUp");
    s.crash("a");
    expect(await s.until(supervisor.process.exited)).toBe("shutdown");
    expect(gaveUp).toHaveLength(1);
  }),
);
