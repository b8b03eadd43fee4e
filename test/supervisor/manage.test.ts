import { AsyncLocalStorage } from "node:async_hooks";
import { describe, expect, test } from "vitest";
import { Process } from "../../src/process/index.ts";
import type { ChildSpec, Supervisor } from "../../src/supervisor/index.ts";
import { type Manner, outcome, running, type Stage, stage, standing } from "./workers.ts";

/** A supervisor with the children a, x and z, of which x is brought into a state. */
type Situation = (s: Stage) => Promise<Supervisor>;

const withX = (s: Stage, x: ChildSpec): Promise<Supervisor> => {
  const restartBackoff = { kind: "exponential", minMs: 60_000, maxMs: 60_000 } as const;
  return s.supervise([s.worker("a"), x, s.worker("z")], { maxRestarts: 1, restartBackoff });
};

const situations: Record<string, Situation> = {
  running: (s) => withX(s, s.worker("x")),
  terminated: async (s) => {
    const supervisor = await withX(s, s.worker("x"));
    await supervisor.terminateChild("x");
    return supervisor;
  },
  finished: async (s) => {
    const supervisor = await withX(s, s.worker("x", { restart: "transient" }));
    s.end("x", "normal");
    await s.runtime.settle();
    return supervisor;
  },
  ignored: (s) => withX(s, s.worker("x", { attempt: (nth) => (nth === 1 ? "ignore" : "up") })),
  restarting: async (s) => {
    const supervisor = await withX(s, s.worker("x", { attempt: (nth) => (nth === 2 ? "fail" : "up") }));
    await s.crashed("x");
    return supervisor;
  },
  unknown: (s) => s.supervise([s.worker("a"), s.worker("z")], { maxRestarts: 1 }),
};

const calls = {
  startChild: (supervisor: Supervisor, s: Stage) => supervisor.startChild(s.worker("x")),
  terminateChild: (supervisor: Supervisor) => supervisor.terminateChild("x"),
  restartChild: (supervisor: Supervisor) => supervisor.restartChild("x"),
  deleteChild: (supervisor: Supervisor) => supervisor.deleteChild("x"),
};

/** What the call answers, and where x is afterwards: the table of OTP, cell by cell. */
const table: Record<keyof typeof calls, Record<string, [answer: string, x: string]>> = {
  startChild: {
    running: ["ERR_SUPERVISOR_ALREADY_STARTED", "x up"],
    terminated: ["ERR_SUPERVISOR_ALREADY_PRESENT", "x down"],
    finished: ["ERR_SUPERVISOR_ALREADY_PRESENT", "x down"],
    ignored: ["ERR_SUPERVISOR_ALREADY_PRESENT", "x down"],
    restarting: ["ERR_SUPERVISOR_ALREADY_PRESENT", "x restarting"],
    unknown: ["ok", "x up"],
  },
  terminateChild: {
    running: ["ok", "x down"],
    terminated: ["ok", "x down"],
    finished: ["ok", "x down"],
    ignored: ["ok", "x down"],
    restarting: ["ok", "x down"],
    unknown: ["ERR_SUPERVISOR_NOT_FOUND", "x absent"],
  },
  restartChild: {
    running: ["ERR_SUPERVISOR_RUNNING", "x up"],
    terminated: ["ok", "x up"],
    finished: ["ok", "x up"],
    ignored: ["ok", "x up"],
    restarting: ["ERR_SUPERVISOR_RESTARTING", "x restarting"],
    unknown: ["ERR_SUPERVISOR_NOT_FOUND", "x absent"],
  },
  deleteChild: {
    running: ["ERR_SUPERVISOR_RUNNING", "x up"],
    terminated: ["ok", "x absent"],
    finished: ["ok", "x absent"],
    ignored: ["ok", "x absent"],
    restarting: ["ERR_SUPERVISOR_RESTARTING", "x restarting"],
    unknown: ["ERR_SUPERVISOR_NOT_FOUND", "x absent"],
  },
};

for (const [call, cells] of Object.entries(table) as [keyof typeof calls, (typeof table)["startChild"]][]) {
  describe(call, () => {
    for (const [situation, [answer, x]] of Object.entries(cells)) {
      test(
        `of a child that is ${situation}: ${answer}, then ${x}; the others are not touched`,
        stage(async (s) => {
          const supervisor = await (situations[situation] as Situation)(s);
          const others = [s.newest("a"), s.newest("z")];
          expect(await outcome(calls[call](supervisor, s))).toBe(answer);
          const now = standing(supervisor);
          expect(now.filter((each) => each.startsWith("x"))).toEqual(x === "x absent" ? [] : [x]);
          expect([running(supervisor, "a"), running(supervisor, "z")]).toEqual(others);
        }),
      );
    }
  });
}

describe("startChild", () => {
  test(
    "gives what the start gave, and puts the child at the end of the order",
    stage(async (s) => {
      const supervisor = await s.supervise([s.worker("a")]);
      const process = await s.process("b");
      const handle = { process, mine: true };
      expect(await supervisor.startChild({ id: "b", start: () => handle })).toBe(handle);
      expect(standing(supervisor)).toEqual(["a up", "b up"]);
    }),
  );

  test(
    "gives undefined when the start gives nothing; the spec is kept unless it is temporary",
    stage(async (s) => {
      const supervisor = await s.supervise([]);
      const ignoring: Manner = { attempt: () => "ignore" };
      expect(await supervisor.startChild(s.worker("a", ignoring))).toBeUndefined();
      expect(await supervisor.startChild(s.worker("b", { ...ignoring, restart: "temporary" }))).toBeUndefined();
      expect(standing(supervisor)).toEqual(["a down"]);
    }),
  );

  test(
    "that fails forgets the child, and is neither tried again nor counted",
    stage(async (s) => {
      const supervisor = await s.supervise([s.worker("a")], { maxRestarts: 0 });
      const failing = supervisor.startChild(s.worker("b", { attempt: () => "fail" }));
      const error = { code: "ERR_SUPERVISOR_START_FAILED", childId: "b", cause: { message: "b cannot start" } };
      await expect(failing).rejects.toMatchObject(error);
      await s.runtime.advance(1_000);
      expect([standing(supervisor), s.starts("b")]).toEqual([["a up"], 1]);
    }),
  );

  test(
    "runs the start in the async context of its caller",
    stage(async (s) => {
      const context = new AsyncLocalStorage<string>();
      const supervisor = await s.supervise([]);
      const before = supervisor.startChild(s.worker("slow", { startMs: 10 }));
      let seen: string | undefined;
      const start = (): Promise<Process> => {
        seen = context.getStore();
        return s.process("a");
      };
      const added = context.run("caller", () => supervisor.startChild({ id: "a", start }));
      await s.until(Promise.all([before, added]));
      expect(seen).toBe("caller");
    }),
  );
});

describe("terminateChild", () => {
  test(
    "resolves when the child is dead, and shows it as running until then",
    stage(async (s) => {
      const supervisor = await s.supervise([s.worker("a", { stopMs: 100 })]);
      const terminated = supervisor.terminateChild("a");
      await s.runtime.advance(99);
      expect(standing(supervisor)).toEqual(["a up"]);
      await s.until(terminated);
      expect([standing(supervisor), s.runtime.now()]).toEqual([["a down"], 100]);
    }),
  );

  test(
    "forgets a temporary child",
    stage(async (s) => {
      const supervisor = await s.supervise([s.worker("a", { restart: "temporary" }), s.worker("b")]);
      await supervisor.terminateChild("a");
      expect(standing(supervisor)).toEqual(["b up"]);
    }),
  );

  for (const strategy of ["one_for_one", "rest_for_one", "one_for_all"] as const) {
    test(
      `is no restart, is not counted, and leaves the siblings alone (${strategy})`,
      stage(async (s) => {
        const supervisor = await s.supervise([s.worker("a"), s.worker("b"), s.worker("c")], {
          strategy,
          maxRestarts: 0,
        });
        await supervisor.terminateChild("b");
        await s.runtime.advance(1_000);
        expect(standing(supervisor)).toEqual(["a up", "b down", "c up"]);
        expect(["a", "b", "c"].map((id) => s.starts(id))).toEqual([1, 1, 1]);
      }),
    );
  }
});

describe("restartChild", () => {
  test(
    "gives what the start gives, in the old place",
    stage(async (s) => {
      const attempt = (nth: number): "ignore" | "up" => (nth === 2 ? "ignore" : "up");
      const supervisor = await s.supervise([s.worker("a", { attempt }), s.worker("b")]);
      await supervisor.terminateChild("a");
      expect(await supervisor.restartChild("a")).toBeUndefined();
      expect(standing(supervisor)).toEqual(["a down", "b up"]);
      expect(await supervisor.restartChild("a")).toBe(s.newest("a"));
      expect(standing(supervisor)).toEqual(["a up", "b up"]);
    }),
  );

  test(
    "that fails keeps the spec, and is neither tried again nor counted",
    stage(async (s) => {
      const attempt = (nth: number): "up" | "fail" => (nth === 2 ? "fail" : "up");
      const supervisor = await s.supervise([s.worker("a", { attempt })], { maxRestarts: 0 });
      await supervisor.terminateChild("a");
      expect(await s.outcome(supervisor.restartChild("a"))).toBe("ERR_SUPERVISOR_START_FAILED");
      await s.runtime.advance(1_000);
      expect(standing(supervisor)).toEqual(["a down"]);
      expect(await s.outcome(supervisor.restartChild("a"))).toBe("ok");
    }),
  );
});

test(
  "a child that is deleted and started again goes to the end of the order",
  stage(async (s) => {
    const supervisor = await s.supervise([s.worker("a"), s.worker("b")], { strategy: "rest_for_one" });
    await supervisor.terminateChild("a");
    await supervisor.deleteChild("a");
    await supervisor.startChild(s.worker("a"));
    expect(standing(supervisor)).toEqual(["b up", "a up"]);
    await s.crashed("b");
    expect([s.starts("b"), s.starts("a")]).toEqual([2, 3]);
  }),
);

test(
  "requests are served one at a time, in the order they were made, deaths among them",
  stage(async (s) => {
    const supervisor = await s.supervise([s.worker("a", { stopMs: 10 }), s.worker("z")]);
    s.diary();
    const answers = [
      outcome(supervisor.startChild(s.worker("b", { startMs: 10 }))),
      outcome(supervisor.terminateChild("a")),
      outcome(supervisor.startChild(s.worker("b"))),
      outcome(supervisor.deleteChild("a")),
      outcome(supervisor.restartChild("a")),
    ];
    s.crash("z");
    const last = outcome(supervisor.terminateChild("z"));
    await s.runtime.advance(20);
    expect(await Promise.all(answers)).toEqual([
      ...["ok", "ok", "ERR_SUPERVISOR_ALREADY_STARTED", "ok", "ERR_SUPERVISOR_NOT_FOUND"],
    ]);
    expect(await last).toBe("ok");
    expect(s.diary()).toEqual([
      ...["down z crash", "start b", "up b", "stop a", "down a shutdown"],
      ...["start z", "up z", "stop z", "down z shutdown"],
    ]);
  }),
);

test(
  "every refusal names the supervisor and the child, and says what to do",
  stage(async (s) => {
    const supervisor = await s.supervise([s.worker("a")], { name: "top" });
    const refusals = [supervisor.startChild(s.worker("a")), supervisor.restartChild("a"), supervisor.deleteChild("a")];
    for (const refusal of refusals) {
      const error = { name: "SupervisorError", supervisor: "top", childId: "a", retryable: false };
      await expect(refusal).rejects.toMatchObject({
        ...error,
        message: expect.stringMatching(/^supervisor "top" .*\.$/),
      });
    }
    await expect(supervisor.terminateChild("b")).rejects.toMatchObject({ supervisor: "top", childId: "b" });
  }),
);

test(
  "whichChildren lists the newest first; countChildren counts types whether they run or not",
  stage(async (s) => {
    const supervisor = await s.supervise([s.worker("a"), s.branch("b", [s.worker("below")]), s.branch("c", [])]);
    await supervisor.terminateChild("c");
    expect(supervisor.whichChildren()).toEqual([
      { id: "c", type: "supervisor", process: undefined },
      { id: "b", type: "supervisor", process: running(supervisor, "b") },
      { id: "a", type: "worker", process: s.newest("a") },
    ]);
    expect(supervisor.countChildren()).toEqual({ specs: 3, active: 2, supervisors: 2, workers: 1 });
  }),
);

test(
  "whichChildren never shows the dead, even in the moment of their death",
  stage(async (s) => {
    const children = (["permanent", "transient", "temporary"] as const).map((restart) =>
      s.worker(restart, { restart }),
    );
    const supervisor = await s.supervise(children);
    for (const { id } of children) s.end(id, "normal");
    expect(standing(supervisor)).toEqual(["permanent restarting", "transient down", "temporary down"]);
    expect(supervisor.countChildren().active).toBe(0);
    await s.runtime.settle();
    expect(standing(supervisor)).toEqual(["permanent up", "transient down"]);
  }),
);
