import { describe, expect, test } from "vitest";
import { type Manner, outcome, stage, standing } from "./workers.ts";

/** Up the first time, then failing for ever, or for so many attempts. */
const failing = (times = Infinity): Manner => ({
  attempt: (nth) => (nth > 1 && nth <= 1 + times ? "fail" : "up"),
});

describe("a restart that fails", () => {
  for (const maxRestarts of [0, 1, 3, 5]) {
    test(
      `is tried again until ${maxRestarts} restarts are spent: ${maxRestarts + 1} starts in all`,
      stage(async (s) => {
        const supervisor = await s.supervise([s.worker("a", failing())], { maxRestarts });
        s.crash("a");
        expect(await s.until(supervisor.process.exited)).toBe("shutdown");
        expect(s.starts("a")).toBe(maxRestarts + 1);
        expect(s.runtime.now()).toBe(0);
      }),
    );
  }

  test(
    "is tried again one turn of the event loop later, not in the same",
    stage(async (s) => {
      const supervisor = await s.supervise([s.worker("a", failing())], { maxRestarts: 1_000 });
      await s.crashed("a");
      expect({ starts: s.starts("a"), timers: s.runtime.timers }).toEqual({ starts: 2, timers: 1 });
      for (let turns = 0; turns < 5; turns++) await s.runtime.settle();
      expect(s.starts("a")).toBe(2);
      expect(standing(supervisor)).toEqual(["a restarting"]);
      expect(supervisor.countChildren()).toEqual({ specs: 1, active: 0, supervisors: 0, workers: 1 });
    }),
  );

  test(
    "is shown as restarting at every moment until the next try",
    stage(async (s) => {
      const supervisor = await s.supervise([s.worker("a", failing())], { maxRestarts: 1_000 });
      s.crash("a");
      for (let hop = 0; hop < 50; hop++) {
        await Promise.resolve();
        expect(standing(supervisor), `after ${hop} microtasks`).toEqual(["a restarting"]);
      }
      expect(s.starts("a")).toBe(2);
    }),
  );

  test(
    "is tried again behind the requests that wait already",
    stage(async (s) => {
      const slow = s.worker("a", { attempt: (nth) => (nth === 2 ? "fail" : "up"), startMs: 10 });
      const supervisor = await s.supervise([slow]);
      await s.crashed("a");
      const added = supervisor.startChild(s.worker("b", { startMs: 10 }));
      const another = supervisor.startChild(s.worker("c"));
      s.diary();
      await s.runtime.advance(30);
      expect(s.diary()).toEqual(["start b", "up b", "start c", "up c", "start a", "up a"]);
      await Promise.all([added, another]);
    }),
  );

  test(
    "is tried no more once the child is terminated, by a request that was waiting",
    stage(async (s) => {
      const supervisor = await s.supervise([s.worker("a", { ...failing(), startMs: 10 })]);
      await s.crashed("a");
      const terminated = supervisor.terminateChild("a");
      await s.runtime.advance(60_000);
      await terminated;
      expect({ starts: s.starts("a"), standing: standing(supervisor) }).toEqual({ starts: 2, standing: ["a down"] });
    }),
  );

  test(
    "is tried no more once the child is terminated, or deleted, while the retry itself waits its turn",
    stage(async (s) => {
      const restartBackoff = { kind: "exponential", minMs: 5, maxMs: 5 } as const;
      const children = [s.worker("a", failing(1)), s.worker("b", failing(1))];
      const supervisor = await s.supervise(children, { restartBackoff });
      await s.crashed("a", "b");
      const answers = [
        outcome(supervisor.startChild(s.worker("slow", { startMs: 10 }))),
        outcome(supervisor.terminateChild("a")),
        outcome(supervisor.terminateChild("b")),
        outcome(supervisor.deleteChild("b")),
      ];
      await s.runtime.advance(1_000);
      expect(await Promise.all(answers)).toEqual(["ok", "ok", "ok", "ok"]);
      expect([s.starts("a"), s.starts("b"), standing(supervisor)]).toEqual([2, 2, ["a down", "slow up"]]);
    }),
  );

  test(
    "is tried no more once the supervisor stops",
    stage(async (s) => {
      const supervisor = await s.supervise([s.worker("a", failing())], { maxRestarts: 1_000 });
      await s.crashed("a");
      const stopped = supervisor.stop();
      expect(s.runtime.timers).toBe(0);
      expect(await stopped).toBe("normal");
      await s.runtime.advance(1_000);
      expect(s.starts("a")).toBe(2);
    }),
  );

  test(
    "is told each time, with the error and the wait",
    stage(async (s) => {
      await s.supervise([s.worker("a", failing(2))], { name: "top" });
      const events = s.events("supervisor.restartFailed");
      await s.crashed("a");
      await s.runtime.advance(0);
      const error = { code: "ERR_SUPERVISOR_START_FAILED", childId: "a", cause: { message: "a cannot start" } };
      const event = { supervisor: "top", child: "a", delayMs: 0, error };
      expect(events).toMatchObject([event, event]);
    }),
  );

  test(
    "under one_for_all: those already started again are shut down again, and everything starts anew",
    stage(async (s) => {
      const children = [s.worker("a"), s.worker("b", failing(1)), s.worker("c")];
      const supervisor = await s.supervise(children, { strategy: "one_for_all" });
      s.diary();
      await s.crashed("c");
      expect(standing(supervisor)).toEqual(["a up", "b restarting", "c down"]);
      expect(s.diary().slice(5)).toEqual(["start a", "up a", "start b"]);
      await s.runtime.advance(0);
      expect(s.diary()).toEqual([
        ...["stop a", "down a shutdown"],
        ...["start a", "up a", "start b", "up b", "start c", "up c"],
      ]);
    }),
  );

  test(
    "under rest_for_one: it is that of the member that failed; those before it stay up, those after it wait",
    stage(async (s) => {
      const children = [s.worker("a"), s.worker("b", failing(1)), s.worker("c")];
      const supervisor = await s.supervise(children, { strategy: "rest_for_one" });
      s.diary();
      await s.crashed("a");
      expect(standing(supervisor)).toEqual(["a up", "b restarting", "c down"]);
      expect(s.diary().slice(5)).toEqual(["start a", "up a", "start b"]);
      await s.runtime.advance(0);
      expect(s.diary()).toEqual(["start b", "up b", "start c", "up c"]);
      expect(standing(supervisor)).toEqual(["a up", "b up", "c up"]);
    }),
  );

  test(
    "is not tried again for a member that a restarted group has put back meanwhile",
    stage(async (s) => {
      const backoff = { kind: "exponential", minMs: 100, maxMs: 100 } as const;
      const children = [s.worker("a"), s.worker("b", failing(1))];
      const supervisor = await s.supervise(children, { strategy: "rest_for_one", restartBackoff: backoff });
      await s.crashed("b");
      expect(standing(supervisor)).toEqual(["a up", "b restarting"]);
      await s.crashed("a");
      expect(standing(supervisor)).toEqual(["a up", "b up"]);
      await s.runtime.advance(1_000);
      expect(s.starts("b")).toBe(3);
    }),
  );

  test(
    "does not hold up the restart of a sibling",
    stage(async (s) => {
      const supervisor = await s.supervise([s.worker("a", failing(1)), s.worker("b")]);
      await s.crashed("a");
      await s.crashed("b");
      expect(standing(supervisor)).toEqual(["a restarting", "b up"]);
      await s.runtime.advance(0);
      expect(standing(supervisor)).toEqual(["a up", "b up"]);
    }),
  );
});

describe("restartBackoff", () => {
  const restartBackoff = { kind: "exponential", minMs: 100, maxMs: 1_000 } as const;

  test(
    "spaces the retries, and only them: the restart itself is at once",
    stage(async (s) => {
      const at: number[] = [];
      const attempt = (nth: number): "up" | "fail" => {
        at.push(s.runtime.now());
        return nth === 1 || nth === 6 ? "up" : "fail";
      };
      await s.supervise([s.worker("a", { attempt })], { restartBackoff, maxRestarts: 100 });
      s.crash("a");
      await s.runtime.advance(10_000);
      expect(at).toEqual([0, 0, 100, 300, 700, 1_500]);
      await s.crashed("a");
      expect(at.at(-1)).toBe(10_000);
    }),
  );

  test(
    "does not save from giving up: each try is counted",
    stage(async (s) => {
      const supervisor = await s.supervise([s.worker("a", failing())], { restartBackoff, maxRestarts: 3 });
      s.crash("a");
      expect(await s.until(supervisor.process.exited)).toBe("shutdown");
      expect(s.starts("a")).toBe(4);
    }),
  );

  test(
    "lets a child be restarted for ever when the waits outlast the window",
    stage(async (s) => {
      const slow = { kind: "exponential", minMs: 2_000, maxMs: 2_000 } as const;
      const supervisor = await s.supervise([s.worker("a", failing())], { restartBackoff: slow });
      s.crash("a");
      await s.runtime.advance(100_000);
      expect({ alive: supervisor.process.alive, starts: s.starts("a") }).toEqual({ alive: true, starts: 52 });
    }),
  );

  for (const strategy of ["one_for_one", "rest_for_one"] as const) {
    test(
      `begins anew for a child that has been up in between (${strategy})`,
      stage(async (s) => {
        const attempt = (nth: number): "up" | "fail" => ([1, 4, 6].includes(nth) ? "up" : "fail");
        const children = [s.worker("a"), s.worker("b", { attempt })];
        await s.supervise(children, { restartBackoff, strategy, maxRestarts: 100 });
        const waits = s.events("supervisor.restartFailed");
        await s.crashed("b");
        await s.runtime.advance(100);
        if (strategy === "rest_for_one") await s.crashed("a");
        else await s.runtime.advance(200);
        await s.crashed("b");
        expect(waits.map(({ delayMs }) => delayMs)).toEqual([100, 200, 100]);
        await s.runtime.advance(100);
      }),
    );
  }

  test(
    "asks the dice of a runtime that needs its this",
    stage(async (s) => {
      const loaded = Object.assign(Object.create(s.runtime) as typeof s.runtime, {
        seed: 0.5,
        random(this: { seed: number }): number {
          return this.seed;
        },
        now: () => s.runtime.now(),
        setTimer: s.runtime.setTimer.bind(s.runtime),
      });
      const random = { kind: "random", minMs: 100, maxMs: 300 } as const;
      await s.supervise([s.worker("a", failing(1))], { restartBackoff: random, runtime: loaded });
      const waits = s.events("supervisor.restartFailed");
      await s.crashed("a");
      expect(waits.map(({ delayMs }) => delayMs)).toEqual([200]);
      await s.runtime.advance(200);
    }),
  );

  test(
    "lets the program end while it waits; a retry that follows at once does not",
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
      await s.supervise([s.worker("a", failing(1))], { runtime });
      await s.crashed("a");
      await s.supervise([s.worker("b", failing(1))], { runtime, restartBackoff });
      await s.crashed("b");
      await s.runtime.advance(100);
      expect(kept).toEqual([true, false]);
    }),
  );
});
