/** What is wrong is refused by name before anything starts; what lies is found out. */

import { describe, expect, test } from "vitest";
import { CheckoutPool, type CheckoutPoolOptions } from "../../src/index.ts";
import { virtualRuntime } from "../../src/sim/index.ts";
import { codeOf, scene } from "./scene.ts";

const connector = { name: "fake", open: async () => ({}), check: () => true };

async function refusal(options: unknown): Promise<string> {
  const runtime = virtualRuntime();
  try {
    const pool = await CheckoutPool.start({ connector, runtime, ...(options as object) });
    await pool.destroy();
    return "none";
  } catch (error) {
    expect(codeOf(error)).toBe("ERR_OPTION");
    expect(runtime.timers).toBe(0);
    return (error as { option: string }).option;
  }
}

const durations = [
  "acquireTimeoutMs",
  "leaseTimeoutMs",
  "idleTimeoutMs",
  "maxLifetimeMs",
  "checkAfterIdleMs",
  "pingIdleMs",
  "leakReportMs",
  "openTimeoutMs",
  "checkTimeoutMs",
  "resetTimeoutMs",
  "closeTimeoutMs",
] as const satisfies readonly (keyof CheckoutPoolOptions<unknown>)[];

/** 0 means something here: not at all, or always. */
const mayBeZero = new Set<string>(["acquireTimeoutMs", "checkAfterIdleMs"]);
/** Waiting for ever is the user's own wish. What the pool itself waits for has an end. */
const mayBeInfinite = new Set<string>([
  "acquireTimeoutMs",
  "leaseTimeoutMs",
  "idleTimeoutMs",
  "maxLifetimeMs",
  "checkAfterIdleMs",
  "pingIdleMs",
  "leakReportMs",
]);

describe("CheckoutPool.start refuses", () => {
  test.each(durations)("a %s that is no duration", async (name) => {
    const where = `CheckoutPool.start: ${name}`;
    for (const value of [-1, Number.NaN, "5s", null, {}]) expect(await refusal({ [name]: value })).toBe(where);
    expect(await refusal({ [name]: 0 })).toBe(mayBeZero.has(name) ? "none" : where);
    expect(await refusal({ [name]: Infinity })).toBe(mayBeInfinite.has(name) ? "none" : where);
    expect(await refusal({ [name]: 1.5 })).toBe("none");
    expect(await refusal({ [name]: undefined })).toBe("none");
  });

  test.each([
    ["min", [-1, 1.5, Number.NaN, "1", Infinity]],
    ["max", [0, -1, 1.5, "10", Infinity]],
    ["order", ["random", 1]],
    ["lifetimeJitter", [-0.1, 1, 2, "0.1"]],
    ["maxUses", [0, -1, 1.5, Infinity]],
    ["pingLimit", [0, 1.5]],
    ["maxOpening", [0, 1.5]],
    ["queue", [3, true, "long"]],
    ["backoff", ["fast"]],
    ["maxRestarts", [-1, 0.5]],
    ["maxSeconds", [0]],
    ["name", ["", 3]],
    ["runtime", [{}, Date]],
  ] as const)("a %s that is none", async (name, values) => {
    for (const value of values) expect(await refusal({ [name]: value })).toBe(`CheckoutPool.start: ${name}`);
  });

  test("more min than max, said or not", async () => {
    expect(await refusal({ min: 3, max: 2 })).toBe("CheckoutPool.start: min");
    expect(await refusal({ min: 11 })).toBe("CheckoutPool.start: min");
    expect(await refusal({ min: 2, max: 2 })).toBe("none");
  });

  test("options that it does not know, at any depth", async () => {
    expect(await refusal({ maxSize: 3 })).toBe("CheckoutPool.start: maxSize");
    expect(await refusal({ queue: { limits: 3 } })).toBe("CheckoutPool.start: queue: limits");
    expect(await refusal({ queue: { shed: { targetMs: 0 } } })).toBe("CheckoutPool.start: queue: shed: targetMs");
    expect(await refusal({ queue: { limit: -1 } })).toBe("CheckoutPool.start: queue: limit");
    expect(await refusal({ backoff: { minMs: 5, maxMs: 1 } })).toBe("CheckoutPool.start: backoff: minMs");
  });

  test("a connector that is none, and checks without a connector that can check", async () => {
    expect(await refusal({ connector: undefined })).toBe("CheckoutPool.start: connector");
    expect(await refusal({ connector: { name: "x" } })).toBe("CheckoutPool.start: connector");
    expect(await refusal({ connector: { ...connector, name: "" } })).toBe("CheckoutPool.start: connector: name");
    expect(await refusal({ connector: { ...connector, reset: true } })).toBe("CheckoutPool.start: connector: reset");
    const mute = { name: "mute", open: async () => ({}) };
    expect(await refusal({ connector: mute, checkAfterIdleMs: 5 })).toBe("CheckoutPool.start: checkAfterIdleMs");
    expect(await refusal({ connector: mute, pingIdleMs: 5 })).toBe("CheckoutPool.start: pingIdleMs");
    expect(await refusal({ connector: mute, pingIdleMs: Infinity })).toBe("none");
  });
});

test(
  "acquire refuses what is no option, by a rejection and never by a throw",
  scene(async (s) => {
    await s.start({ min: 1 });
    const wrong = [
      { timeoutMs: -1 },
      { timeoutMs: Number.NaN },
      { timeout: 5 },
      { priority: "high" },
      { priority: Number.NaN },
      { signal: {} },
      3,
      [],
    ];
    for (const options of wrong) expect(await s.outcome(s.pool.acquire(options as never))).toBe("ERR_OPTION");
    expect(s.pool.stats()).toMatchObject({ idle: 1, waiting: 0, totals: { acquired: 0 } });
  }),
);

describe("a connector that hands out a resource which the pool has", () => {
  test(
    "has failed to open: nobody gets it twice, and it is closed once",
    scene(async (s) => {
      await s.start({ max: 2, backoff: { minMs: 100, maxMs: 100 } });
      const holder = await s.hold();
      s.server.next("same");
      const other = s.acquire();
      await s.settle();
      expect([other.outcome, s.pool.stats().totals.openFailed]).toEqual(["pending", 1]);
      expect(s.pool.snapshot().connections[1]?.lastError).toMatch(/not in the pool already/);
      s.check();
      await s.advance(100);
      expect(other.resource.id).toBe(2);
      expect([holder.holds, holder.resource.closings.length]).toEqual([true, 0]);
      s.check();
    }),
  );

  test(
    "twice in one tick has failed to open the second time: before either is lent",
    scene(async (s) => {
      await s.start();
      const only = {};
      const closed: unknown[] = [];
      const opening = s.server.pause(10);
      const pool = await CheckoutPool.start({
        // One promise for both: they are opened in the same turn, one microtask apart.
        connector: {
          name: "only",
          open: () => opening.then(() => only),
          close: (resource) => void closed.push(resource),
        },
        max: 2,
        runtime: s.runtime,
      });
      const [first, second] = [pool.acquire(), pool.acquire({ timeoutMs: 50 })];
      const refused = s.outcome(second);
      expect((await s.until(first)).resource).toBe(only);
      expect(await refused).toBe("ERR_POOL_ACQUIRE_TIMEOUT");
      expect(pool.stats()).toMatchObject({ ready: 1, inFlight: 1, totals: { opened: 1 } });
      await s.until(pool.destroy());
      expect(closed).toEqual([only]);
    }),
  );

  test(
    "while it is being closed likewise",
    scene(async (s) => {
      s.server.closing = () => ({ ms: 50 });
      await s.start({ max: 2, backoff: { minMs: 100, maxMs: 100 } });
      const holder = await s.hold();
      s.server.next("same");
      holder.discard();
      const other = s.acquire();
      await s.advance(100);
      expect([other.resource.id, holder.resource.closings.length]).toEqual([2, 1]);
      s.check();
    }),
  );
});

test(
  "an isFatal that throws is an event, and the opening a failed one",
  scene(async (s) => {
    const isFatal = (): never => {
      throw new Error("no idea");
    };
    s.server.next("rejects");
    await s.start({ connector: { ...s.server.connector(), isFatal }, backoff: { minMs: 50, maxMs: 50 } });
    const failed = s.events("callback.failed");
    const caller = s.acquire();
    await s.advance(50);
    expect(caller.outcome).toBe("ok");
    expect(failed).toMatchObject([{ where: "scene: isFatal" }]);
  }),
);

test(
  "a close that calls the pool again finds it in order",
  scene(async (s) => {
    const taken: (string | undefined)[] = [];
    const bare = s.server.connector();
    const close: typeof bare.close = (resource, reason) => {
      const lease = s.pool.tryAcquire();
      taken.push(lease === undefined ? undefined : String(lease.resource.id));
      lease?.release();
      return bare.close?.(resource, reason);
    };
    await s.start({ max: 4, maxOpening: 4, connector: { ...bare, close }, idleTimeoutMs: 1_000 });
    const holders = await s.holdAll(4);
    for (const holder of holders) holder.release();
    await s.advance(1_000);
    expect(taken).toEqual(["4", "4", "4"]);
    expect(s.pool.stats(), "used a moment ago").toMatchObject({ size: 1, idle: 1 });
    s.check();
  }),
);

test(
  "a listener of the lease's signal that calls the pool again finds it in order",
  scene(async (s) => {
    await s.start({ max: 1, leaseTimeoutMs: 100 });
    const holder = await s.hold();
    const waits = s.acquire();
    holder.lease?.signal.addEventListener("abort", () => {
      holder.release();
      s.acquire();
    });
    await s.advance(100);
    expect(waits.resource.id).toBe(2);
    expect(s.pool.stats()).toMatchObject({ inFlight: 1, waiting: 1 });
    s.check();
  }),
);

test(
  "destroy refuses a reason that is no error, and has ended nothing",
  scene(async (s) => {
    await s.start({ max: 1 });
    const refused = s.pool.destroy("because" as never);
    await expect(refused).rejects.toMatchObject({ code: "ERR_OPTION", option: "CheckoutPool.destroy: reason" });
    (await s.hold()).release();
    s.check();
  }),
);
