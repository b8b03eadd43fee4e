/**
 * The real clock, without waiting for it: Node's timers are replaced by a notebook, and rung by hand.
 *
 * Whether a timer keeps the program alive is asked of Node itself, with timers that never get to ring.
 */

import { afterEach, describe, expect, test, vi } from "vitest";
import { systemRuntime } from "../../src/runtime/index.ts";

interface Rung {
  readonly delayMs: number;
  readonly ring: () => void;
  keepsAlive: boolean;
  cleared: boolean;
}

/** Node's timers, written down instead of set, and the clock, moved by hand. */
function notebook() {
  const timers: Rung[] = [];
  const clock = { now: 1_000.25 };
  vi.stubGlobal("setTimeout", (ring: () => void, delayMs: number) => {
    const timer = { delayMs, ring, keepsAlive: true, cleared: false, unref: () => void (timer.keepsAlive = false) };
    timers.push(timer);
    return timer;
  });
  vi.stubGlobal("clearTimeout", (timer: Rung | undefined) => {
    if (timer !== undefined) timer.cleared = true;
  });
  vi.spyOn(performance, "now").mockImplementation(() => clock.now);
  return { timers, clock };
}

afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

const longestMs = 2 ** 31 - 1; // What Node can wait for in one go; it calls at once for anything longer.

describe("a timer of the system runtime", () => {
  test.each([0.1, 0.9, 1, 1.5, 10, 49.999, 5_000, longestMs - 2])(
    "is never early: Node, which may be almost 2 ms short, is asked for more (%d ms)",
    (delayMs) => {
      const { timers } = notebook();
      systemRuntime.setTimer(() => undefined, delayMs);
      const [timer] = timers;
      expect(Math.trunc(timer?.delayMs as number) - 1).toBeGreaterThanOrEqual(delayMs);
      expect(timer?.delayMs).toBeLessThanOrEqual(Math.min(delayMs + 2, longestMs));
    },
  );

  test.each([0, -5, Number.NaN])(
    "rings in the next turn for %d ms, and asks Node for nothing that makes it warn",
    (delayMs) => {
      const { timers } = notebook();
      systemRuntime.setTimer(() => undefined, delayMs);
      expect(timers.map((timer) => timer.delayMs)).toEqual([0]);
    },
  );

  test("waits longer than Node can, in legs, by the clock, and rings once", () => {
    const { timers, clock } = notebook();
    let rung = 0;
    const delayMs = 3 * longestMs;
    const due = clock.now + delayMs;
    systemRuntime.setTimer(() => rung++, delayMs);
    for (let leg = 0; rung === 0; leg++) {
      const timer = timers[leg] as Rung;
      expect(timer.delayMs).toBeLessThanOrEqual(longestMs);
      expect(timer.keepsAlive).toBe(false);
      clock.now += timer.delayMs - 0.9; // As early as Node may be.
      timer.ring();
    }
    expect(clock.now).toBeGreaterThanOrEqual(due);
    expect([rung, timers.length]).toEqual([1, 4]);
  });

  test("keeps to keepAlive in every leg, and is cancelled in any", () => {
    const { timers } = notebook();
    const timer = systemRuntime.setTimer(() => undefined, 2 * longestMs, { keepAlive: true });
    timers[0]?.ring();
    timer.cancel();
    timer.cancel();
    expect(timers.map(({ keepsAlive, cleared }) => [keepsAlive, cleared])).toEqual([
      [true, false],
      [true, true],
    ]);
  });

  test("never rings for Infinity: nothing is set, and nothing keeps the program alive", () => {
    const { timers } = notebook();
    systemRuntime.setTimer(() => undefined, Infinity, { keepAlive: true }).cancel();
    expect(timers).toEqual([]);
  });

  test("keeps the program alive only when asked to, and no longer than it is set", () => {
    const waiting = (): number => process.getActiveResourcesInfo().filter((name) => name === "Timeout").length;
    const before = waiting();
    const idle = systemRuntime.setTimer(() => undefined, 3_600_000);
    const also = systemRuntime.setTimer(() => undefined, 3_600_000, { keepAlive: false });
    expect(waiting()).toBe(before);
    const needed = systemRuntime.setTimer(() => undefined, 3_600_000, { keepAlive: true });
    expect(waiting()).toBe(before + 1);
    for (const timer of [idle, also, needed]) timer.cancel();
    expect(waiting()).toBe(before);
  });

  test("may be cancelled from its own callback", () => {
    const { timers } = notebook();
    const timer = systemRuntime.setTimer(() => timer.cancel(), 5);
    timers[0]?.ring();
    expect(timers).toHaveLength(1);
  });
});

test("the system runtime's clock is monotonic, and its dice stay in [0, 1)", () => {
  const first = systemRuntime.now();
  expect(systemRuntime.now()).toBeGreaterThanOrEqual(first);
  for (let times = 0; times < 100; times++) {
    const thrown = systemRuntime.random();
    expect(thrown >= 0 && thrown < 1).toBe(true);
  }
});
