/**
 * A start that is still pending when its supervisor stops or is killed: nobody waits for it any more, and what it
 * yields later must not live.
 */

import { describe, expect, test } from "vitest";
import type { HasProcess } from "../../src/process/index.ts";
import { type ChildSpec, DynamicSupervisor, Supervisor } from "../../src/supervisor/index.ts";
import { outcome, stage } from "./workers.ts";

const STOPPED = "ERR_SUPERVISOR_STOPPED";

const ends = {
  "is stopped": (supervisor: Supervisor | DynamicSupervisor) => supervisor.stop(),
  "is killed": async (supervisor: Supervisor | DynamicSupervisor) => {
    supervisor.process.kill();
    return supervisor.process.exited;
  },
};

interface Pending {
  readonly start: ChildSpec["start"];
  readonly settle: (result: HasProcess | undefined) => void;
  readonly fail: (error: Error) => void;
}

/** A start that waits for the test to say what it yields. */
function pending(): Pending {
  let settle!: (result: HasProcess | undefined) => void;
  let fail!: (error: Error) => void;
  const result = new Promise<HasProcess | undefined>((resolve, reject) => {
    settle = resolve;
    fail = reject;
  });
  return { start: () => result, settle, fail };
}

for (const [how, end] of Object.entries(ends)) {
  describe(`when the supervisor ${how}`, () => {
    test(
      "a pending startChild is refused at once, and the end does not wait for it",
      stage(async (s) => {
        const supervisor = await s.supervise([s.worker("a")]);
        const added = outcome(supervisor.startChild(s.worker("b", { attempt: () => "hang" })));
        await s.runtime.settle();
        const ended = end(supervisor);
        expect(await added).toBe(STOPPED);
        await ended;
        expect({ now: s.runtime.now(), alive: s.alive() }).toEqual({ now: 0, alive: [] });
      }),
    );

    test(
      "so is a pending restartChild, and a startChild of a dynamic supervisor",
      stage(async (s) => {
        const attempt = (nth: number): "up" | "hang" => (nth === 1 ? "up" : "hang");
        const supervisor = await s.supervise([s.worker("a", { attempt })]);
        const dynamic = await s.dynamic();
        await supervisor.terminateChild("a");
        const answers = [
          supervisor.restartChild("a"),
          dynamic.startChild(s.worker("b", { attempt: () => "hang" })),
        ].map(outcome);
        await s.runtime.settle();
        await Promise.all([end(supervisor), end(dynamic)]);
        expect(await Promise.all(answers)).toEqual([STOPPED, STOPPED]);
      }),
    );

    for (const strategy of ["one_for_one", "one_for_all"] as const) {
      test(
        `a pending restart is given up, and nobody after it is started (${strategy})`,
        stage(async (s) => {
          const attempt = (nth: number): "up" | "hang" => (nth === 1 ? "up" : "hang");
          const supervisor = await s.supervise([s.worker("a"), s.worker("b", { attempt }), s.worker("c")], {
            strategy,
          });
          await s.crashed("b");
          const before = s.starts("c");
          await end(supervisor);
          expect([s.starts("b"), s.starts("c"), s.alive()]).toEqual([2, before, []]);
        }),
      );
    }

    test(
      "while a group is shut down for its restart, nobody is started again",
      stage(async (s) => {
        const children = [s.worker("a"), s.worker("b", { stopMs: 100 })];
        const supervisor = await s.supervise(children, { strategy: "one_for_all" });
        await s.crashed("a");
        await s.until(end(supervisor));
        await s.runtime.advance(100);
        expect([s.starts("a"), s.starts("b")]).toEqual([1, 1]);
        expect(supervisor.countChildren()).toMatchObject({ specs: 2, active: 0 });
      }),
    );

    test(
      "what the start yields later is killed, unasked",
      stage(async (s) => {
        const supervisor = await s.supervise([]);
        const dynamic = await s.dynamic();
        const [one, other] = [pending(), pending()];
        const answers = [supervisor.startChild({ id: "a", ...one }), dynamic.startChild(other)].map(outcome);
        await s.runtime.settle();
        await Promise.all([end(supervisor), end(dynamic)]);
        await Promise.all(answers);
        one.settle(await s.process("a"));
        other.settle(await s.supervise([s.worker("b")]));
        await s.runtime.settle();
        expect(s.alive()).toEqual([]);
        expect(s.diary().filter((line) => line.startsWith("stop"))).toEqual([]);
      }),
    );

    const late: [what: string, (start: Pending) => void, events: number][] = [
      ["nothing", ({ settle }) => settle(undefined), 0],
      ["an error", ({ fail }) => fail(new Error("late")), 1],
      ["what is no process", ({ settle }) => settle({} as never), 1],
      [
        "what throws when looked at",
        ({ settle }) =>
          settle({
            get process(): never {
              throw new Error("late");
            },
          }),
        1,
      ],
    ];
    for (const [what, yields, expected] of late) {
      test(
        `a start that later yields ${what} harms nobody, and ${expected === 0 ? "is no event" : "is an event"}`,
        stage(async (s) => {
          const supervisor = await s.supervise([]);
          const start = pending();
          const events = s.events("callback.failed");
          const answer = outcome(supervisor.startChild({ id: "a", ...start }));
          await s.runtime.settle();
          await end(supervisor);
          yields(start);
          await s.runtime.settle();
          expect(await answer).toBe(STOPPED);
          expect(events).toHaveLength(expected);
        }),
      );
    }

    test(
      "a supervisor below whose own start hangs is killed with the children it has, newest first",
      stage(async (s) => {
        const hanging = [s.worker("b"), s.worker("c"), s.worker("d", { attempt: () => "hang" })];
        const supervisor = await s.supervise([s.worker("a")]);
        const answer = outcome(supervisor.startChild(s.branch("branch", [s.branch("twig", hanging)])));
        await s.runtime.settle();
        expect(s.alive()).toEqual(["a", "b", "c"]);
        s.diary();
        await end(supervisor);
        expect(await answer).toBe(STOPPED);
        expect(s.diary().slice(0, 2)).toEqual(["down c killed", "down b killed"]);
        expect(s.alive()).toEqual([]);
      }),
    );

    test(
      "a supervisor below that is up, while the start that made it goes on, is killed too",
      stage(async (s) => {
        const supervisor = await s.supervise([]);
        const inner: string[] = [];
        const start = async (): Promise<DynamicSupervisor> => {
          const made = await DynamicSupervisor.start({ runtime: s.runtime });
          await made.startChild(s.worker("a"));
          inner.push(await outcome(made.startChild(s.worker("b", { attempt: () => "hang" }))));
          return made;
        };
        const answer = outcome(supervisor.startChild({ id: "branch", start }));
        await s.runtime.settle();
        expect(s.alive()).toEqual(["a"]);
        await end(supervisor);
        await s.runtime.settle();
        expect({ answer: await answer, inner, alive: s.alive() }).toEqual({
          answer: STOPPED,
          inner: [STOPPED],
          alive: [],
        });
      }),
    );

    test(
      "a supervisor that the start comes to only later is refused before it starts anybody",
      stage(async (s) => {
        const supervisor = await s.supervise([]);
        let later = "none";
        const start = async (): Promise<undefined> => {
          await s.pause(10);
          later = await outcome(Supervisor.start([s.worker("a")], { strategy: "one_for_one", runtime: s.runtime }));
          return undefined;
        };
        const answer = outcome(supervisor.startChild({ id: "branch", start }));
        await s.runtime.settle();
        await end(supervisor);
        await s.runtime.advance(10);
        expect([await answer, later, s.starts("a")]).toEqual([STOPPED, STOPPED, 0]);
      }),
    );

    test(
      "in any of the microtasks after a start has settled, nobody is left behind",
      stage(async (s) => {
        for (let ticks = 0; ticks < 16; ticks++) {
          const supervisor = await s.supervise([s.worker("a")]);
          const dynamic = await s.dynamic();
          const [one, other] = [pending(), pending()];
          const answers = [supervisor.startChild({ id: "b", ...one }), dynamic.startChild(other)].map(outcome);
          await s.runtime.settle();
          const [b, c] = [await s.process("b"), await s.process("c")];
          one.settle(b);
          other.settle(c);
          for (let tick = 0; tick < ticks; tick++) await Promise.resolve();
          const ended = [end(supervisor), end(dynamic)];
          await s.runtime.settle();
          expect({ ticks, alive: s.alive() }).toEqual({ ticks, alive: [] });
          await Promise.all(ended);
          for (const answer of await Promise.all(answers)) expect(["ok", STOPPED]).toContain(answer);
        }
      }),
    );
  });
}

test(
  "a start that ends its own supervisor, synchronously, is given up like any other",
  stage(async (s) => {
    for (const end of [(it: Supervisor) => it.process.kill(), (it: Supervisor) => void it.process.stop()]) {
      const supervisor = await s.supervise([s.worker("a")]);
      const start = async (): Promise<HasProcess> => {
        end(supervisor);
        return Supervisor.start([s.worker("b", { attempt: () => "hang" })], {
          strategy: "one_for_one",
          runtime: s.runtime,
        });
      };
      expect(await outcome(supervisor.startChild({ id: "x", start }))).toBe(STOPPED);
      await supervisor.process.exited;
      expect(s.alive()).toEqual([]);
    }
  }),
);

test(
  "a start that is given up while its supervisor shuts the earlier ones down again leaves nobody",
  stage(async (s) => {
    const top = await s.supervise([]);
    const children = [s.worker("a", { stopMs: 100 }), s.worker("b", { attempt: () => "fail" })];
    const answer = outcome(top.startChild(s.branch("branch", children)));
    await s.runtime.advance(50);
    await top.stop();
    expect([await answer, s.alive()]).toEqual([STOPPED, []]);
    await s.runtime.advance(50);
  }),
);

test(
  "a start that was given up is no longer inside: it may call the supervisor, and is told that it is stopping",
  stage(async (s) => {
    const supervisor = await s.supervise([s.worker("a", { stopMs: 100 })]);
    const answers: string[] = [];
    const start = async (): Promise<undefined> => {
      await s.pause(10);
      answers.push(await outcome(supervisor.terminateChild("a")), await outcome(supervisor.stop()));
      return undefined;
    };
    const answer = outcome(supervisor.startChild({ id: "b", start }));
    await s.runtime.settle();
    await s.until(supervisor.stop());
    expect([await answer, ...answers]).toEqual([STOPPED, STOPPED, "ok"]);
  }),
);
