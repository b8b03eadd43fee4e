import { describe, expect, test } from "vitest";
import { outcome, type Stage, stage, standing } from "./workers.ts";

const workers = (s: Stage, ...ids: string[]) => ids.map((id) => s.worker(id));

describe("the budget of restarts", () => {
  for (const maxRestarts of [0, 1, 3]) {
    test(
      `of ${maxRestarts} allows so many, and the next death ends the supervisor`,
      stage(async (s) => {
        const supervisor = await s.supervise(workers(s, "a"), { maxRestarts });
        for (let times = 0; times < maxRestarts; times++) await s.crashed("a");
        expect(standing(supervisor)).toEqual(["a up"]);
        s.crash("a");
        expect(await s.until(supervisor.process.exited)).toBe("shutdown");
        expect(s.starts("a")).toBe(maxRestarts + 1);
      }),
    );
  }

  test(
    "is 3 in 5 seconds unless told otherwise",
    stage(async (s) => {
      const supervisor = await s.supervise(workers(s, "a"));
      for (let times = 0; times < 10; times++) {
        await s.crashed("a");
        await s.runtime.advance(2_000);
      }
      expect(supervisor.process.alive).toBe(true);
      await s.runtime.advance(5_000);
      for (let times = 0; times < 4; times++) {
        await s.crashed("a");
        await s.runtime.advance(1_500);
      }
      expect(supervisor.process.alive).toBe(false);
    }),
  );

  test(
    "is shared by all children",
    stage(async (s) => {
      const supervisor = await s.supervise(workers(s, "a", "b", "c"), { maxRestarts: 2 });
      await s.crashed("a", "b");
      expect(supervisor.process.alive).toBe(true);
      s.crash("c");
      expect(await s.until(supervisor.process.exited)).toBe("shutdown");
      expect(s.starts("c")).toBe(1);
    }),
  );

  for (const [afterMs, counts] of [
    [0, true],
    [999, true],
    [1_000, true],
    [2_000, false],
    [2_001, false],
  ] as const) {
    test(
      `of 1 in 1 second: a restart ${afterMs} ms ago ${counts ? "counts" : "is forgotten"}`,
      stage(async (s) => {
        const supervisor = await s.supervise(workers(s, "a"), { maxRestarts: 1, maxSeconds: 1 });
        await s.crashed("a");
        await s.runtime.advance(afterMs);
        await s.crashed("a");
        expect(supervisor.process.alive).toBe(!counts);
      }),
    );
  }

  test(
    "slides: it is the restarts of the last seconds that count, not those of fixed periods",
    stage(async (s) => {
      const supervisor = await s.supervise(workers(s, "a"), { maxRestarts: 2, maxSeconds: 10 });
      await s.crashed("a");
      await s.runtime.advance(9_000);
      await s.crashed("a");
      await s.runtime.advance(2_000); // The first is forgotten, the second is not.
      await s.crashed("a");
      expect(supervisor.process.alive).toBe(true);
      await s.runtime.advance(1_000);
      await s.crashed("a");
      expect(supervisor.process.alive).toBe(false);
    }),
  );

  test(
    "is not given back by a child that is terminated and restarted by hand, and these are not counted",
    stage(async (s) => {
      const supervisor = await s.supervise(workers(s, "a"), { maxRestarts: 1 });
      await s.crashed("a");
      for (let times = 0; times < 5; times++) {
        await supervisor.terminateChild("a");
        await supervisor.restartChild("a");
      }
      expect(supervisor.process.alive).toBe(true);
      s.crash("a");
      expect(await s.until(supervisor.process.exited)).toBe("shutdown");
    }),
  );
});

describe("a supervisor that gives up", () => {
  test(
    "leaves the child dead, shuts the others down in reverse, and says so",
    stage(async (s) => {
      const supervisor = await s.supervise(workers(s, "a", "b", "c"), { maxRestarts: 0, maxSeconds: 7, name: "top" });
      const gaveUp = s.events("supervisor.gaveUp");
      s.diary();
      const reason = new Error("last straw");
      s.end("b", reason);
      expect(await s.until(supervisor.process.exited)).toBe("shutdown");
      expect(s.diary()).toEqual(["down b last straw", "stop c", "down c shutdown", "stop a", "down a shutdown"]);
      expect(gaveUp).toEqual([{ supervisor: "top", child: "b", restarts: 0, maxSeconds: 7, reason }]);
    }),
  );

  test(
    "leaves the siblings of a group running until it shuts them down",
    stage(async (s) => {
      const supervisor = await s.supervise(workers(s, "a", "b"), { strategy: "one_for_all", maxRestarts: 0 });
      s.diary();
      s.crash("b");
      await s.until(supervisor.process.exited);
      expect(s.diary()).toEqual(["down b crash", "stop a", "down a shutdown"]);
    }),
  );

  test(
    "gives them as long as their specs say",
    stage(async (s) => {
      const slow = s.worker("a", { shutdown: "infinity", stopMs: 3_600_000 });
      const supervisor = await s.supervise([slow, s.worker("b")], { maxRestarts: 0 });
      s.crash("b");
      await s.until(supervisor.process.exited);
      expect([s.runtime.now(), s.diary().at(-1)]).toEqual([3_600_000, "down a shutdown"]);
    }),
  );

  test(
    "refuses what waits and what comes",
    stage(async (s) => {
      const supervisor = await s.supervise([s.worker("a"), s.worker("b", { stopMs: 100 })], { maxRestarts: 0 });
      s.crash("a");
      const waiting = outcome(supervisor.startChild(s.worker("c")));
      await s.runtime.advance(50);
      const late = outcome(supervisor.terminateChild("b"));
      expect(await waiting).toBe("ERR_SUPERVISOR_STOPPED");
      expect(await late).toBe("ERR_SUPERVISOR_STOPPED");
      expect(s.runtime.now()).toBe(50);
      expect(s.starts("c")).toBe(0);
    }),
  );

  for (const [restart, starts] of [
    ["permanent", 2],
    ["transient", 1],
    ["temporary", 1],
  ] as const) {
    test(
      `is ${starts === 2 ? "" : "not "}restarted by the one above it when it is ${restart}: its end is clean`,
      stage(async (s) => {
        const branch = s.branch("branch", workers(s, "a", "b"), { restart, maxRestarts: 0 });
        const top = await s.supervise([branch]);
        await s.crashed("a");
        expect(s.starts("branch")).toBe(starts);
        expect(s.alive()).toEqual(starts === 2 ? ["a", "b"] : []);
        expect(top.process.alive).toBe(true);
      }),
    );
  }

  test(
    "passes the trouble up, level by level",
    stage(async (s) => {
      const low = s.branch("low", workers(s, "a"), { maxRestarts: 1 });
      const middle = s.branch("middle", [low], { maxRestarts: 1 });
      const top = await s.supervise([middle], { maxRestarts: 1 });
      for (let crashes = 1; crashes < 8; crashes++) await s.crashed("a");
      expect([s.starts("middle"), s.starts("low"), s.starts("a")]).toEqual([2, 4, 8]);
      expect(top.process.alive).toBe(true);
      s.crash("a");
      expect(await s.until(top.process.exited)).toBe("shutdown");
    }),
  );
});
