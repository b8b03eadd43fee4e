/**
 * Options that are wrong are refused by name, with what was expected and what came, before anything has started; and a
 * function that returns a promise rejects, it does not throw.
 */

import { describe, expect, test } from "vitest";
import { leastUsed, OptionError, RoutingPool, type RoutingPoolOptions } from "../../src/index.ts";
import { type Scene, scene } from "./scene.ts";
import type { Resource } from "./server.ts";

type Row = readonly [option: string, given: object, expected: string];

/** Values that `start` refuses. */
const wrong: readonly Row[] = [
  ["size", { size: 0 }, "a whole number, 1 or more"],
  ["size", { size: 1.5 }, "a whole number, 1 or more"],
  ["size", { size: "3" }, "a whole number, 1 or more"],
  ["size", { size: Number.NaN }, "a whole number, 1 or more"],
  ["size", { size: null }, "a whole number, 1 or more"],
  ["endpoints", { endpoints: "a" }, "an array of endpoints, or an async iterable of such arrays"],
  ["endpoints", { endpoints: new Set([{ id: "a" }]) }, "an array of endpoints, or an async iterable of such arrays"],
  ["endpoints[1]: id", { endpoints: [{ id: "a" }, { id: "" }] }, "a string"],
  ["endpoints[0]: id", { endpoints: [undefined] }, "a string"],
  ["endpoints[0]: weight", { endpoints: [{ id: "a", weight: -1 }] }, "a number more than 0"],
  ["endpoints[0]: weight", { endpoints: [{ id: "a", weight: Infinity }] }, "a number more than 0"],
  ["strategy", { strategy: "random" }, "a function, or an object with the method pick"],
  ["strategy", { strategy: {} }, "a function, or an object with the method pick"],
  ["queue", { queue: 5 }, "an object of options"],
  ["queue: limit", { queue: { limit: -1 } }, "a whole number, 0 or more"],
  ["queue: limit", { queue: { limit: Infinity } }, "a whole number, 0 or more"],
  ["retry", { retry: false }, "an object of options"],
  ["retry: attempts", { retry: { attempts: 0 } }, "a whole number, 1 or more"],
  ["retry: budget", { retry: { budget: 1.1 } }, "a number from 0 to 1"],
  ["retry: budget", { retry: { budget: Number.NaN } }, "a number from 0 to 1"],
  ["hedge", { hedge: true }, "an object of options"],
  ["hedge: percentile", { hedge: { percentile: "0.9" } }, "a number more than 0 and less than 1"],
  ["hedge: percentile", { hedge: { percentile: 0 } }, "a number more than 0 and less than 1"],
  ["hedge: percentile", { hedge: { percentile: 1 } }, "a number more than 0 and less than 1"],
  ["hedge: minSamples", { hedge: { minSamples: 0 } }, "a whole number, 1 or more"],
  ["backoff", { backoff: 100 }, "an object of options"],
  ["backoff: kind", { backoff: { kind: "linear" } }, 'one of "exponential", "random", "random-exponential"'],
  ["backoff: minMs", { backoff: { minMs: 0 } }, "a number of milliseconds, more than 0"],
  ["backoff: minMs", { backoff: { minMs: 20, maxMs: 10 } }, "at most maxMs (10)"],
  ["backoff: maxMs", { backoff: { maxMs: Infinity } }, "a number of milliseconds, more than 0"],
  ["openTimeoutMs", { openTimeoutMs: 0 }, "a number of milliseconds, more than 0"],
  ["openTimeoutMs", { openTimeoutMs: Infinity }, "a number of milliseconds, more than 0"],
  ["drainTimeoutMs", { drainTimeoutMs: -1 }, "a number of milliseconds, 0 or more"],
  ["drainTimeoutMs", { drainTimeoutMs: "1s" }, "a number of milliseconds, 0 or more"],
  ["maxRestarts", { maxRestarts: -1 }, "a whole number, 0 or more"],
  ["maxRestarts", { maxRestarts: Infinity }, "a whole number, 0 or more"],
  ["maxSeconds", { maxSeconds: 0 }, "a whole number, 1 or more"],
  ["name", { name: "" }, "a string that is not empty"],
  ["name", { name: 7 }, "a string that is not empty"],
  ["runtime", { runtime: { now: () => 0 } }, "an object with the methods now, setTimer, random"],
  ["connector", { connector: undefined }, "an object with the method open"],
  ["connector", { connector: null }, "an object with the method open"],
  ["connector", { connector: { name: "x" } }, "an object with the method open"],
  ["connector: name", { connector: { open: () => 1 } }, "a string that is not empty"],
  ["connector: name", { connector: { name: "", open: () => 1 } }, "a string that is not empty"],
  ["connector: close", { connector: { name: "x", open: () => 1, close: true } }, "a function"],
  ["connector: capacity", { connector: { name: "x", open: () => 1, capacity: 5 } }, "a function"],
  ["connector: isFatal", { connector: { name: "x", open: () => 1, isFatal: /x/ } }, "a function"],
  [
    "connector: endpoints",
    { connector: { name: "x", open: () => 1, endpoints: 7 } },
    "an array of endpoints, or an async iterable of such arrays",
  ],
];

/** Strategies are known only when they have been made. */
const madeWrong: readonly Row[] = [
  ["strategy", { strategy: leastUsed }, "a strategy, or a function that makes one: leastUsed()"],
  ["strategy", { strategy: () => undefined }, "a strategy, or a function that makes one: leastUsed()"],
];

const unknown: readonly Row[] = [
  ["queue: size", { queue: { size: 5 } }, "one of limit"],
  ["retry: times", { retry: { times: 3 } }, "one of attempts, budget"],
  ["backoff: max", { backoff: { max: 5 } }, "one of kind, minMs, maxMs"],
  ["min", { min: 2 }, "one of connector, size, endpoints, strategy"],
  ["openTimeout", { openTimeout: 5 }, "one of connector, size, endpoints, strategy"],
];

/** What stands in `given` under the name of an option: `"retry: budget"`, `"endpoints[1]: id"`. */
function valueAt(given: object, option: string): unknown {
  const keys = [...option.matchAll(/\w+/g)].map(([key]) => key);
  return keys.reduce<unknown>((value, key) => (value as Record<string, unknown> | undefined)?.[key], given);
}

/** The error of a start that was refused; nothing has been opened and no timer set. */
async function refusal(s: Scene, given: object): Promise<OptionError> {
  const options = { connector: s.server.connector, runtime: s.runtime, ...given } as RoutingPoolOptions<Resource>;
  const error = await RoutingPool.start(options).then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  await s.settle();
  expect([s.server.attempts.length, s.runtime.timers]).toEqual([0, 0]);
  expect(error).toBeInstanceOf(OptionError);
  await s.start();
  return error as OptionError;
}

describe("RoutingPool.start", () => {
  test.each([...wrong, ...madeWrong])("refuses %s: %o", (option, given, expected) =>
    scene(async (s) => {
      const error = await refusal(s, given);
      expect(error).toMatchObject({ code: "ERR_OPTION", option: `RoutingPool.start: ${option}`, retryable: false });
      expect(error.expected).toBe(expected);
      expect(error.message).toContain(`RoutingPool.start: ${option}: expected ${expected}, got `);
    })(),
  );

  test.each(wrong)("says what it got for %s: %o", (option, given) =>
    scene(async (s) => {
      const { got } = await refusal(s, given);
      expect(got).toBe(valueAt(given, option));
    })(),
  );

  test.each(unknown)("knows no %s, and says what it knows", (option, given, known) =>
    scene(async (s) => {
      const error = await refusal(s, given);
      expect(error).toMatchObject({ code: "ERR_OPTION", option: `RoutingPool.start: ${option}` });
      expect(error.message).toContain(`expected ${known}`);
      expect(error.message).toContain("got unknown option");
    })(),
  );

  test.each([undefined, null, 7, "options", []])("refuses %o for its options", (options) =>
    scene(async (s) => {
      const started = RoutingPool.start(options as unknown as RoutingPoolOptions<Resource>);
      const error = await started.then(
        () => undefined,
        (thrown: unknown) => thrown,
      );
      expect(error).toMatchObject({ code: "ERR_OPTION", option: "RoutingPool.start" });
      await s.start();
    })(),
  );

  test(
    "does not print the insides of what it refuses",
    scene(async (s) => {
      const connector = { name: "x", password: "tiger" } as never;
      const error = await RoutingPool.start({ connector }).catch((thrown: unknown) => thrown);
      expect(JSON.stringify(error) + String(error)).not.toContain("tiger");
      await s.start();
    }),
  );

  test(
    "takes every option at its widest",
    scene(async (s) => {
      const pool = await s.start({
        ...{ size: 1, endpoints: [{ id: "a", weight: 0.001 }], strategy: leastUsed(), queue: { limit: 0 } },
        ...{ retry: { attempts: 1, budget: 0 }, backoff: { kind: "random", minMs: 0.5, maxMs: 0.5 } },
        ...{ openTimeoutMs: 0.1, drainTimeoutMs: 0, maxRestarts: 0, maxSeconds: 1, name: "x" },
      });
      expect(pool.stats()).toMatchObject({ name: "x", size: 1 });
      s.check();
    }),
  );

  test(
    "takes undefined for not given",
    scene(async (s) => {
      const options = { size: undefined, queue: { limit: undefined }, backoff: undefined, strategy: undefined };
      const pool = await s.start(options as unknown as Partial<RoutingPoolOptions<Resource>>);
      expect(pool.stats().size).toBe(10);
      s.check();
    }),
  );

  test(
    "takes a connector that is a class with fields of its own",
    scene(async (s) => {
      const { connector: inner } = s.server;
      class Mine {
        readonly name = "mine";
        readonly secret = "tiger";
        open(context: Parameters<typeof inner.open>[0]): ReturnType<typeof inner.open> {
          expect(this.secret).toBe("tiger");
          return inner.open(context);
        }
        close(...args: Parameters<NonNullable<typeof inner.close>>): void | Promise<void> {
          expect(this.secret).toBe("tiger");
          return inner.close?.(...args);
        }
        capacity(): number {
          return this.secret.length;
        }
      }
      const pool = await s.start({ connector: new Mine(), size: 1 });
      expect(pool.members()).toMatchObject([{ state: "ready", capacity: 5 }]);
      s.check();
      await s.until(pool.close());
    }),
  );
});

const signal = { aborted: false };

/** Calls of a pool that runs. */
const calls: readonly (readonly [option: string, call: (pool: RoutingPool<Resource>) => Promise<unknown>])[] = [
  ["RoutingPool.use: work", (pool) => pool.use(undefined as never)],
  ["RoutingPool.use", (pool) => pool.use(() => 1, null as never)],
  ["RoutingPool.use: timeoutMs", (pool) => pool.use(() => 1, { timeoutMs: -1 })],
  ["RoutingPool.use: timeoutMs", (pool) => pool.use(() => 1, { timeoutMs: Number.NaN })],
  ["RoutingPool.use: signal", (pool) => pool.use(() => 1, { signal: signal as never })],
  ["RoutingPool.use: key", (pool) => pool.use(() => 1, { key: {} as never })],
  ["RoutingPool.use: idempotent", (pool) => pool.use(() => 1, { idempotent: 1 as never })],
  ["RoutingPool.use: priority", (pool) => pool.use(() => 1, { priority: "high" as never })],
  ["RoutingPool.use: timeout", (pool) => pool.use(() => 1, { timeout: 5 } as never)],
  ["RoutingPool.broadcast: work", (pool) => pool.broadcast("PING" as never)],
  ["RoutingPool.ready: min", (pool) => pool.ready({ min: 0 })],
  ["RoutingPool.ready: min", (pool) => pool.ready({ min: Infinity })],
  ["RoutingPool.ready: timeoutMs", (pool) => pool.ready({ timeoutMs: -1 })],
  ["RoutingPool.ready: signal", (pool) => pool.ready({ signal: signal as never })],
  ["RoutingPool.ready: max", (pool) => pool.ready({ max: 1 } as never)],
  ["RoutingPool.ready", (pool) => pool.ready(5 as never)],
  ["RoutingPool.resize: size", (pool) => pool.resize(-1)],
  ["RoutingPool.resize: size", (pool) => pool.resize(0.5)],
  ["RoutingPool.resize: size", (pool) => pool.resize(undefined as never)],
  ["RoutingPool.recycle: overMs", (pool) => pool.recycle({ overMs: -1 })],
  ["RoutingPool.recycle: overMs", (pool) => pool.recycle({ overMs: Infinity })],
  ["RoutingPool.recycle: over", (pool) => pool.recycle({ over: 1 } as never)],
  ["RoutingPool.close: timeoutMs", (pool) => pool.close({ timeoutMs: Number.NaN })],
  ["RoutingPool.close: force", (pool) => pool.close({ force: true } as never)],
];

describe("a pool that runs", () => {
  test.each(calls)("rejects a wrong %s, and nothing has happened", (option, call) =>
    scene(async (s) => {
      const pool = await s.start({ size: 2 });
      const before = pool.stats();
      const error = await call(pool).then(
        () => undefined,
        (thrown: unknown) => thrown,
      );
      expect(error).toBeInstanceOf(OptionError);
      expect(error).toMatchObject({ code: "ERR_OPTION", option });
      await s.settle();
      expect([pool.stats(), s.server.attempts.length, s.runtime.timers]).toEqual([before, 2, 0]);
      s.check();
    })(),
  );
});
