/**
 * A child that calls its own supervisor while that one waits for it would hang both. Each test lets a child try, in its
 * start or in its stop, and then goes on as if nothing had happened.
 */

import { AsyncLocalStorage } from "node:async_hooks";
import { describe, expect, test } from "vitest";
import { Process } from "../../src/process/index.ts";
import type { ChildSpec, DynamicSupervisor, Supervisor } from "../../src/supervisor/index.ts";
import { currentVisit, endVisit, isInside, ownVisit, type Visit, visit } from "../../src/supervisor/inside.ts";
import { outcome, running, type Stage, stage, standing } from "./workers.ts";

type Of = Visit["of"];

const REENTRANT = "ERR_SUPERVISOR_REENTRANT";

/** A child that does something inside its start, or inside its stop. */
function child(s: Stage, when: "start" | "stop", act: () => Promise<unknown>, shutdown = 1_000): ChildSpec {
  return {
    id: "x",
    shutdown,
    start: async () => {
      if (when === "start") await act();
      return Process.start({
        name: "x",
        runtime: s.runtime,
        init: () => undefined,
        terminate: async () => {
          if (when === "stop") await act();
        },
      });
    },
  };
}

describe("inside its own start or stop", () => {
  const calls: Record<string, (supervisor: Supervisor, s: Stage) => Promise<unknown>> = {
    startChild: (supervisor, s) => supervisor.startChild(s.worker("b")),
    terminateChild: (supervisor) => supervisor.terminateChild("a"),
    restartChild: (supervisor) => supervisor.restartChild("a"),
    deleteChild: (supervisor) => supervisor.deleteChild("a"),
    stop: (supervisor) => supervisor.stop(),
    "leaving its scope": (supervisor) => supervisor[Symbol.asyncDispose](),
  };
  for (const [name, call] of Object.entries(calls)) {
    for (const when of ["start", "stop"] as const) {
      test(
        `a child is refused ${name} (${when})`,
        stage(async (s) => {
          const supervisor = await s.supervise([s.worker("a")]);
          let answer = "";
          const act = async (): Promise<void> => {
            await s.pause(10); // The mark goes along with what the start awaits.
            answer = await outcome(call(supervisor, s));
          };
          await s.until(supervisor.startChild(child(s, when, act)));
          await s.until(supervisor.terminateChild("x"));
          expect(answer).toBe(REENTRANT);
          expect(standing(supervisor)).toEqual(["a up", "x down"]);
        }),
      );
    }
  }

  test(
    "a child may look: whichChildren and countChildren answer",
    stage(async (s) => {
      const supervisor = await s.supervise([s.worker("a")]);
      let seen: unknown;
      const act = async (): Promise<void> => {
        seen = [standing(supervisor), supervisor.countChildren().active];
      };
      await supervisor.startChild(child(s, "start", act));
      expect(seen).toEqual([["a up", "x down"], 1]);
    }),
  );

  test(
    "a child of a dynamic supervisor is refused as well",
    stage(async (s) => {
      const supervisor: DynamicSupervisor = await s.dynamic();
      const answers: string[] = [];
      const act = async (): Promise<void> => {
        answers.push(await outcome(supervisor.startChild(s.worker("b"))));
        answers.push(await outcome(supervisor.terminateChild(supervisor)));
        answers.push(await outcome(supervisor.stop()));
      };
      await supervisor.startChild(child(s, "start", act));
      expect(answers).toEqual([REENTRANT, REENTRANT, REENTRANT]);
    }),
  );

  test(
    "a child is refused also when it is restarted, and when the supervisor stops",
    stage(async (s) => {
      const answers: string[] = [];
      const known: { supervisor?: Supervisor } = {};
      const act = async (): Promise<void> => {
        if (known.supervisor !== undefined) answers.push(await outcome(known.supervisor.deleteChild("x")));
      };
      const supervisor = await s.supervise(
        [child(s, "start", act), child(s, "stop", act)].map((spec, at) => ({ ...spec, id: `x${at}` })),
      );
      known.supervisor = supervisor;
      running(supervisor, "x0").kill();
      await s.runtime.settle();
      await s.until(supervisor.stop());
      expect(answers).toEqual([REENTRANT, REENTRANT]);
    }),
  );

  test(
    "a grandchild is refused by the one at the top, which waits for it through the one between",
    stage(async (s) => {
      const top = await s.supervise([]);
      const answers: string[] = [];
      const act = async (): Promise<void> => {
        answers.push(await outcome(top.startChild(s.worker("b"))));
      };
      await top.startChild(s.branch("branch", [child(s, "start", act)]));
      expect(answers).toEqual([REENTRANT]);
      running(top, "branch");
    }),
  );

  test(
    "a child is refused by its supervisor when it calls through another one",
    stage(async (s) => {
      const first = await s.supervise([]);
      const second = await s.dynamic();
      const answers: string[] = [];
      const back = child(s, "start", async () => {
        answers.push(await outcome(first.terminateChild("x")));
      });
      await first.startChild(child(s, "start", () => second.startChild(back)));
      expect(answers).toEqual([REENTRANT]);
    }),
  );
});

test("a visit does not hold on to those that were over when it began", () => {
  const [first, second] = [{ stoppedError: () => new Error() }, { stoppedError: () => new Error() }];
  visit(first, (outer) => {
    visit(second, (over) => {
      endVisit(over);
      expect(currentVisit()).toBe(outer);
      expect([isInside(first), isInside(second)]).toEqual([true, false]);
      visit(second, (inner) => expect(inner.outer).toBe(outer));
      endVisit(outer);
      visit(second, (inner) => expect(inner.outer).toBeUndefined());
    });
  });
});

test("nobody is inside the visit of a child of our own, nor is anything born there", () => {
  const [outer, own] = [0, 1].map(() => ({ stoppedError: () => new Error() })) as [Of, Of];
  visit(outer, (around) => {
    const { visit: ours } = ownVisit(own, (within) => {
      expect(within.outer).toBe(around);
      expect([currentVisit(), isInside(own), isInside(outer)]).toEqual([around, false, true]);
    });
    endVisit(ours);
    expect(currentVisit()).toBe(around);
    endVisit(around);
  });
  expect(currentVisit()).toBeUndefined();
});

describe("is not inside", () => {
  test(
    "a child that calls another supervisor",
    stage(async (s) => {
      const other = await s.supervise([]);
      const supervisor = await s.supervise([child(s, "start", () => other.startChild(s.worker("a")))]);
      expect([standing(supervisor), standing(other)]).toEqual([["x up"], ["a up"]]);
    }),
  );

  test(
    "a grandchild that is restarted, for the one at the top: it does not wait",
    stage(async (s) => {
      const top = await s.supervise([]);
      let answer = "none";
      let first = true;
      const act = async (): Promise<void> => {
        if (!first) answer = await outcome(top.startChild(s.worker("b")));
        first = false;
      };
      await top.startChild(s.branch("branch", [s.worker("a"), child(s, "start", act)], { strategy: "rest_for_one" }));
      await s.crashed("a");
      expect(answer).toBe("ok");
    }),
  );

  test(
    "a handler that the child has set up in its start, once that has settled",
    stage(async (s) => {
      const supervisor = await s.supervise([]);
      const answers: Promise<string>[] = [];
      const act = async (): Promise<void> => {
        const call = (id: string): unknown => answers.push(outcome(supervisor.startChild(s.worker(id))));
        // Bound, as real timers are: virtual ones run in the context of whoever lets time pass.
        s.runtime.setTimer(
          AsyncLocalStorage.bind(() => call("inside")),
          10,
        );
        s.runtime.setTimer(
          AsyncLocalStorage.bind(() => call("later")),
          30,
        );
        await s.pause(20);
      };
      await s.until(supervisor.startChild(child(s, "start", act)));
      await s.runtime.advance(30);
      expect(await Promise.all(answers)).toEqual([REENTRANT, "ok"]);
    }),
  );

  test(
    "the same when the start has failed",
    stage(async (s) => {
      const supervisor = await s.supervise([]);
      let later: Promise<string> | undefined;
      const act = async (): Promise<void> => {
        const call = AsyncLocalStorage.bind(() => {
          later = outcome(supervisor.startChild(s.worker("later")));
        });
        s.runtime.setTimer(call, 10);
        throw new Error("no");
      };
      expect(await outcome(supervisor.startChild(child(s, "start", act)))).toBe("ERR_SUPERVISOR_START_FAILED");
      await s.runtime.advance(10);
      expect(await later).toBe("ok");
    }),
  );

  test(
    "a terminate that goes on after its child was killed",
    stage(async (s) => {
      const supervisor = await s.supervise([s.worker("a")]);
      let answer = "none";
      const act = async (): Promise<void> => {
        await s.pause(200);
        answer = await outcome(supervisor.startChild(s.worker("b")));
      };
      await supervisor.startChild(child(s, "stop", act, 100));
      await s.until(supervisor.terminateChild("x"));
      await s.runtime.advance(100);
      expect(answer).toBe("ok");
    }),
  );

  for (const how of ["terminateChild", "a crash"] as const) {
    test(
      `a monitor of a child that ${how === "a crash" ? "has crashed" : "was terminated"}`,
      stage(async (s) => {
        const supervisor = await s.supervise([s.worker("a", { stopMs: 10, restart: "transient" })]);
        let answer: Promise<string> | undefined;
        s.newest("a").monitor(() => {
          answer = outcome(supervisor.startChild(s.worker("b")));
        });
        if (how === "a crash") s.crash("a");
        else await s.until(supervisor.terminateChild("a"));
        expect(await answer).toBe("ok");
      }),
    );
  }

  test(
    "whoever waits for the child elsewhere",
    stage(async (s) => {
      const supervisor = await s.supervise([]);
      const started = supervisor.startChild(s.worker("a", { startMs: 10 }));
      await s.runtime.settle();
      const waiting = outcome(supervisor.startChild(s.worker("b")));
      await s.until(started);
      expect(await waiting).toBe("ok");
    }),
  );
});
