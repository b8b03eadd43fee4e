/** CoDel on the line: a burst is not shed, an overload is, and a line that is stuck is looked at. */

import { describe, expect, test } from "vitest";
import { Line, Waiter } from "../../src/pool/index.ts";
import { type VirtualRuntime, virtualRuntime } from "../../src/sim/index.ts";

class Caller extends Waiter {
  outcome: "waiting" | "served" | "shed" | "expired" = "waiting";
  waitedMs = 0;
  readonly #runtime: VirtualRuntime;

  constructor(runtime: VirtualRuntime) {
    super();
    this.#runtime = runtime;
  }

  serve(): void {
    this.#end("served");
  }

  override expired(): void {
    this.#end("expired");
  }

  override shed(): void {
    this.#end("shed");
  }

  #end(outcome: "served" | "shed" | "expired"): void {
    expect(this.outcome).toBe("waiting");
    this.outcome = outcome;
    this.waitedMs = this.#runtime.now() - this.joinedAt;
  }
}

/** Callers who come every `everyMs` for a while, and somebody who serves one every `serveMs` (0: nobody). */
async function run(options: {
  everyMs: number;
  serveMs: number;
  forMs: number;
  burst?: number;
}): Promise<{ callers: Caller[]; runtime: VirtualRuntime; line: Line<Caller> }> {
  const runtime = virtualRuntime();
  const line = new Line<Caller>(runtime, { limit: 100_000, shed: true });
  const callers: Caller[] = [];
  const { everyMs, serveMs, forMs, burst = 1 } = options;
  for (let ms = 0; ms < forMs; ms += everyMs) {
    runtime.setTimer(() => {
      for (let n = 0; n < burst; n++) {
        const caller = new Caller(runtime);
        callers.push(caller);
        line.join(caller, runtime.now(), 500);
      }
    }, ms);
  }
  if (serveMs > 0)
    for (let ms = serveMs; ms < forMs + 1_000; ms += serveMs) runtime.setTimer(() => line.next()?.serve(), ms);
  await runtime.advance(forMs + 1_000);
  return { callers, runtime, line };
}

describe("the line, with shed", () => {
  test("sheds nobody of a burst that is over soon", async () => {
    const { callers } = await run({ everyMs: 1_000, serveMs: 1, forMs: 5_000, burst: 60 });
    expect(callers.filter(({ outcome }) => outcome !== "served")).toEqual([]);
  });

  test("serves at its full rate under twice the load, and those it serves have not waited long", async () => {
    const { callers, line, runtime } = await run({ everyMs: 1, serveMs: 2, forMs: 5_000 });
    const served = callers.filter(({ outcome }) => outcome === "served");
    expect(served.length).toBeGreaterThan(2_450);
    expect(callers.some(({ outcome }) => outcome === "shed")).toBe(true);
    expect(callers.some(({ outcome }) => outcome === "expired")).toBe(false);
    const waits = served.map(({ waitedMs }) => waitedMs).sort((a, b) => a - b);
    expect(waits[Math.floor(0.99 * waits.length)]).toBeLessThan(80);
    expect([line.size, runtime.timers]).toEqual([0, 0]);
  });

  test("sheds from a line that does not move, after an interval and not after three", async () => {
    const { callers } = await run({ everyMs: 1, serveMs: 0, forMs: 300 });
    const first = callers[0] as Caller;
    expect([first.outcome, first.waitedMs]).toEqual(["shed", 100]);
    expect(Math.max(...callers.slice(0, 100).map(({ waitedMs }) => waitedMs))).toBeLessThanOrEqual(200);
  });

  test("keeps serving in order of arrival", async () => {
    const { callers } = await run({ everyMs: 1, serveMs: 2, forMs: 2_000 });
    const served = callers.filter(({ outcome }) => outcome === "served");
    const at = served.map(({ joinedAt, waitedMs }) => joinedAt + waitedMs);
    expect(at).toEqual(at.toSorted((a, b) => a - b));
  });
});
