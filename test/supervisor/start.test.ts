import { describe, expect, test } from "vitest";
import { Process } from "../../src/process/index.ts";
import { type ChildSpec, Supervisor } from "../../src/supervisor/index.ts";
import { stage, standing } from "./workers.ts";

describe("starting", () => {
  test(
    "children are started in the order of the list, each when the one before it is up",
    stage(async (s) => {
      await s.supervise([s.worker("a", { startMs: 30 }), s.worker("b", { startMs: 10 }), s.worker("c")]);
      expect(s.diary()).toEqual(["start a", "up a", "start b", "up b", "start c", "up c"]);
      expect(s.runtime.now()).toBe(40);
    }),
  );

  test(
    "a supervisor has started when its last child is up, and not before",
    stage(async (s) => {
      let started = false;
      const starting = s.begin([s.worker("a"), s.worker("b", { startMs: 10 })]);
      void starting.then(() => {
        started = true;
      });
      await s.runtime.settle();
      expect({ started, alive: s.alive() }).toEqual({ started: false, alive: ["a"] });
      await s.until(starting);
      expect(s.alive()).toEqual(["a", "b"]);
    }),
  );

  test(
    "a supervisor may start with no children",
    stage(async (s) => {
      const supervisor = await s.supervise([]);
      expect(supervisor.whichChildren()).toEqual([]);
      expect(supervisor.process.alive).toBe(true);
    }),
  );

  test(
    "a start may return its process without a promise, may return what has a process, and is called on its spec",
    stage(async (s) => {
      const ready = await s.process("a");
      const spec: ChildSpec & { gives: Process } = {
        id: "a",
        gives: ready,
        start(this: { gives: Process }) {
          return { process: this.gives };
        },
      };
      const supervisor = await s.supervise([spec]);
      expect(supervisor.whichChildren()).toEqual([{ id: "a", process: ready, type: "worker" }]);
    }),
  );

  test(
    "a supervisor and what it supervises are both processes under their own names",
    stage(async (s) => {
      const supervisor = await s.supervise([s.worker("a")], { name: "top" });
      expect(supervisor.name).toBe("top");
      expect(supervisor.process).toBeInstanceOf(Process);
      expect(supervisor.process.name).toBe("top");
    }),
  );
});

describe("a start that gives nothing", () => {
  test(
    "keeps the spec, with no process, and the children after it are started",
    stage(async (s) => {
      const ignoring = s.worker("b", { restart: "transient", attempt: () => "ignore" });
      const supervisor = await s.supervise([s.worker("a", { attempt: () => "ignore" }), ignoring, s.worker("c")]);
      expect(standing(supervisor)).toEqual(["a down", "b down", "c up"]);
    }),
  );

  test(
    "drops the spec of a temporary child",
    stage(async (s) => {
      const ignoring = s.worker("a", { restart: "temporary", attempt: () => "ignore" });
      expect(standing(await s.supervise([ignoring, s.worker("b")]))).toEqual(["b up"]);
    }),
  );
});

describe("a start that fails", () => {
  test(
    "shuts down the children before it in reverse, one after another, and the children after it never start",
    stage(async (s) => {
      const failing = s.worker("c", { attempt: () => "fail" });
      const starting = s.supervise([
        s.worker("a", { stopMs: 10 }),
        s.worker("b", { stopMs: 10 }),
        failing,
        s.worker("d"),
      ]);
      await expect(starting).rejects.toMatchObject({ code: "ERR_SUPERVISOR_START_FAILED", childId: "c" });
      expect(s.diary().slice(4)).toEqual(["start c", "stop b", "down b shutdown", "stop a", "down a shutdown"]);
      expect(s.runtime.now()).toBe(20);
    }),
  );

  test(
    "shuts them down as their specs say",
    stage(async (s) => {
      const slow = s.worker("a", { stopMs: 1_000, shutdown: 5 });
      const starting = s.supervise([
        slow,
        s.worker("b", { shutdown: "brutal_kill" }),
        s.worker("c", { attempt: () => "fail" }),
      ]);
      await expect(starting).rejects.toMatchObject({ childId: "c" });
      expect(s.diary().slice(5)).toEqual(["down b killed", "stop a", "down a killed"]);
      await s.runtime.advance(1_000);
    }),
  );

  test(
    "is not tried again",
    stage(async (s) => {
      await expect(s.supervise([s.worker("a", { attempt: () => "fail" })])).rejects.toThrow();
      await s.runtime.advance(10_000);
      expect(s.starts("a")).toBe(1);
    }),
  );

  test(
    "in a supervisor below fails the start of the one above, with the whole story in the causes",
    stage(async (s) => {
      const branch = s.branch("branch", [s.worker("b"), s.worker("c", { attempt: () => "fail" })]);
      await expect(s.supervise([s.worker("a"), branch])).rejects.toMatchObject({
        childId: "branch",
        cause: { code: "ERR_SUPERVISOR_START_FAILED", childId: "c", cause: { message: "c cannot start" } },
      });
      expect(s.alive()).toEqual([]);
    }),
  );

  const dead = async (s: { process(id: string): Promise<Process> }, reason: "normal" | Error): Promise<Process> => {
    const born = await s.process("a");
    await born.stop({ reason });
    return born;
  };
  const boom = new Error("boom");
  const ways: [string, (s: { process(id: string): Promise<Process> }) => ChildSpec["start"], unknown][] = [
    [
      "throwing",
      () => () => {
        throw boom;
      },
      boom,
    ],
    ["rejecting", () => () => Promise.reject(boom), boom],
    ["throwing what is no Error", () => () => Promise.reject("no"), "no"],
    ["throwing nothing", () => () => Promise.reject(undefined), undefined],
    ["giving a process that has died of an error", (s) => () => dead(s, boom), boom],
    ["giving a process that has ended cleanly", (s) => () => dead(s, "normal"), "normal"],
  ];
  for (const [way, startIn, cause] of ways) {
    test(
      `by ${way} carries the cause untouched`,
      stage(async (s) => {
        const error: unknown = await s.supervise([{ id: "a", start: startIn(s) }]).catch((thrown) => thrown);
        expect(error).toMatchObject({ code: "ERR_SUPERVISOR_START_FAILED", childId: "a", retryable: false });
        expect((error as Error).cause).toBe(cause);
      }),
    );
  }

  for (const [what, given] of [
    ["null", null],
    ["a number", 5],
    ["an object without a process", {}],
  ] as const) {
    test(
      `by giving ${what} says that a process was expected`,
      stage(async (s) => {
        const starting = s.supervise([{ id: "a", start: () => given as never }]);
        await expect(starting).rejects.toMatchObject({
          code: "ERR_SUPERVISOR_START_FAILED",
          cause: { code: "ERR_OPTION", option: "ChildSpec.start: result" },
        });
      }),
    );
  }

  test(
    "is the failure of a child whose process ended while its init was pending",
    stage(async (s) => {
      const start = (): Promise<Process> =>
        Process.start({
          runtime: s.runtime,
          init: async (self) => {
            await s.pause(10);
            self.exit("normal");
          },
        });
      await expect(s.supervise([{ id: "a", start }])).rejects.toMatchObject({
        code: "ERR_SUPERVISOR_START_FAILED",
        cause: { code: "ERR_PROCESS_EXITED", reason: "normal" },
      });
    }),
  );
});

describe("a child that dies while its siblings start", () => {
  test(
    "is dealt with when all are up",
    stage(async (s) => {
      const starting = s.begin([s.worker("a"), s.worker("b", { startMs: 10 }), s.worker("c")]);
      await s.runtime.settle();
      s.crash("a");
      await s.until(starting);
      await s.runtime.settle();
      expect(s.diary()).toEqual([
        ...["start a", "up a", "start b", "down a crash"],
        ...["up b", "start c", "up c", "start a", "up a"],
      ]);
    }),
  );

  test(
    "once too often ends the supervisor after it has started, and its siblings are asked first",
    stage(async (s) => {
      const starting = s.begin([s.worker("a"), s.worker("b", { startMs: 10 })], { maxRestarts: 0 });
      await s.runtime.settle();
      s.crash("a");
      const supervisor = await s.until(starting);
      expect(await s.until(supervisor.process.exited)).toBe("shutdown");
      expect(s.diary().slice(3)).toEqual(["down a crash", "up b", "stop b", "down b shutdown"]);
    }),
  );

  test(
    "is no trouble when a sibling then fails to start",
    stage(async (s) => {
      const starting = s.begin([s.worker("a"), s.worker("b", { startMs: 10, attempt: () => "fail" })]);
      await s.runtime.settle();
      s.crash("a");
      await expect(s.until(starting)).rejects.toMatchObject({ childId: "b" });
      expect(s.starts("a")).toBe(1);
    }),
  );

  test(
    "of significance ends the supervisor after it has started",
    stage(async (s) => {
      const significant = s.worker("a", { restart: "temporary", significant: true });
      const options = { autoShutdown: "any_significant" } as const;
      const starting = s.begin([significant, s.worker("b", { startMs: 10 })], options);
      await s.runtime.settle();
      s.crash("a");
      const supervisor = await s.until(starting);
      expect(await s.until(supervisor.process.exited)).toBe("shutdown");
      expect(s.diary().slice(-2)).toEqual(["stop b", "down b shutdown"]);
    }),
  );
});

test(
  "a start that is wrong in its last spec starts nobody",
  stage(async (s) => {
    const wrong = { id: "b", start: "no" } as unknown as ChildSpec;
    const starting = Supervisor.start([s.worker("a"), wrong], { strategy: "one_for_one", runtime: s.runtime });
    await expect(starting).rejects.toMatchObject({ code: "ERR_OPTION" });
    expect(s.diary()).toEqual([]);
  }),
);
