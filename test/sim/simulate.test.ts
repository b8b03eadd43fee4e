/**
 * The simulator: its servers do as queueing theory and the scenario say, its callers as they promise, and the same seed
 * makes the same run.
 */

import fc from "fast-check";
import { afterEach, describe, expect, test, vi } from "vitest";
import {
  leastUsed,
  type Member,
  type RouteRequest,
  random,
  roundRobin,
  type Strategy,
} from "../../src/routing/index.ts";
import {
  type Attempt,
  type Fault,
  type SimulatedConnection,
  type SimulateOptions,
  type SimulationResult,
  simulate,
} from "../../src/sim/index.ts";
import { Virtual } from "../../src/sim/runtime.ts";

/** One server that takes 10 ms, and a request every 100 ms: nobody waits for anybody. */
const calm: SimulateOptions = {
  members: 1,
  slots: 1,
  service: { kind: "fixed", meanMs: 10 },
  requestsPerSecond: 10,
  arrivals: "even",
  durationMs: 1_000,
};

async function attemptsOf(options: SimulateOptions): Promise<{ attempts: Attempt[]; result: SimulationResult }> {
  const attempts: Attempt[] = [];
  const result = await simulate({ ...options, onAttempt: (attempt) => attempts.push(attempt) });
  check(result);
  return { attempts, result };
}

/** What holds of every result. */
function check(result: SimulationResult): void {
  const sum = (numbers: readonly number[]): number => numbers.reduce((total, each) => total + each, 0);
  const { requests, succeeded, failed, failures, members, overTime, latencyMs } = result;
  expect(succeeded + failed).toBe(requests);
  expect(sum(Object.values(failures))).toBe(failed);
  expect(sum(overTime.map((bucket) => bucket.requests))).toBe(requests);
  expect(sum(overTime.map((bucket) => bucket.succeeded))).toBe(succeeded);
  for (const { picks, picksOverTime } of members) expect(sum(picksOverTime)).toBe(picks);
  const picks = sum(members.map((member) => member.picks));
  expect(result.attemptsPerRequest * requests).toBeCloseTo(picks);
  expect(sum(members.map(({ share }) => share))).toBeCloseTo(picks === 0 ? 0 : 1);
  const { p50, p90, p99, p999, max } = latencyMs;
  expect([p50, p90, p99, p999, max]).toEqual([p50, p90, p99, p999, max].sort((a, b) => a - b));
  const curve = result.distribution.map(({ ms }) => ms);
  expect(curve).toEqual([...curve].sort((a, b) => a - b));
}

const rounded = (values: readonly number[]): number[] => values.map((value) => Math.round(value * 1_000) / 1_000);

describe("the servers", () => {
  test("make callers wait as queueing theory says: one slot at half its load doubles the time (M/M/1)", async () => {
    const { latencyMs } = await simulate({ members: 1, slots: 1, load: 0.5, durationMs: 1_000_000, timeoutMs: 60_000 });
    expect(latencyMs.mean).toBeGreaterThan(19.5);
    expect(latencyMs.mean).toBeLessThan(20.5);
    // The time in an M/M/1 queue is exponential, too: half the callers wait less than mean · ln 2.
    expect(latencyMs.p50).toBeGreaterThan(13.5);
    expect(latencyMs.p50).toBeLessThan(14.2);
  });

  test("work on as many as they have slots, and take the others in the order they came", async () => {
    const burst = {
      ...calm,
      slots: 2,
      requestsPerSecond: 1_000,
      durationMs: 7,
      service: { kind: "fixed", meanMs: 50 },
    };
    const { attempts } = await attemptsOf(burst as SimulateOptions);
    expect(rounded(attempts.map(({ startedAt }) => startedAt))).toEqual([1, 2, 3, 4, 5, 6]);
    expect(rounded(attempts.map(({ endedAt }) => endedAt))).toEqual([51, 52, 101, 102, 151, 152]);
  });

  test("of more weight have more slots, and are offered as much more work", async () => {
    const options: SimulateOptions = {
      ...calm,
      members: 2,
      weights: [1, 3],
      load: 0.5,
      service: { kind: "fixed", meanMs: 20 },
    };
    const { requestsPerSecond: _, ...byLoad } = options;
    const { requests } = await simulate(byLoad);
    expect(requests).toBe(99); // Four slots, 20 ms, half of it: 100 a second, of which the last falls on the end.
  });

  test("work on what their callers have given up", async () => {
    const { attempts, result } = await attemptsOf({
      ...calm,
      requestsPerSecond: 100,
      durationMs: 31,
      timeoutMs: 5,
      service: { kind: "fixed", meanMs: 50 },
    });
    expect(result.failures).toEqual({ TIMEOUT: 3 });
    expect(result.latencyMs.max).toBeCloseTo(5);
    expect(attempts.length).toBeLessThan(3); // When the callers had left, the servers were not through.
  });

  test("replay a trace, one time after another, whatever the strategy", async () => {
    const service = { kind: "trace", traceMs: [1, 20, 5] } as const;
    const { attempts } = await attemptsOf({ ...calm, members: 3, service, strategy: random() });
    expect(rounded(attempts.map(({ startedAt, endedAt }) => endedAt - startedAt))).toEqual([
      1, 20, 5, 1, 20, 5, 1, 20, 5,
    ]);
  });

  test("announce a capacity, which the pool keeps to: others wait in its line", async () => {
    let most = 0;
    const watch: Strategy<SimulatedConnection> = {
      pick: (members) => members[0] as Member<SimulatedConnection>,
      started: (member) => {
        most = Math.max(most, member.inFlight);
      },
    };
    const result = await simulate({
      members: 4,
      slots: 2,
      capacity: 3,
      load: 2,
      durationMs: 3_000,
      timeoutMs: 500,
      strategy: watch,
    });
    check(result);
    expect(most).toBe(3);
    expect(result.failed).toBeGreaterThan(0);
  });
});

describe("a fault", () => {
  const durations = async (...faults: Fault[]): Promise<number[]> => {
    const { attempts } = await attemptsOf({ ...calm, faults });
    return rounded(attempts.map(({ startedAt, endedAt }) => endedAt - startedAt));
  };

  test("of slowness multiplies what is begun in its time", async () => {
    const slow = { kind: "slow", member: 0, factor: 4, fromMs: 250, untilMs: 450 } as const;
    expect(await durations(slow)).toEqual([10, 10, 40, 40, 10, 10, 10, 10, 10]);
    const twice = { kind: "slow", member: "all", factor: 2, fromMs: 350, untilMs: 550 } as const;
    expect(await durations(slow, twice)).toEqual([10, 10, 40, 80, 20, 10, 10, 10, 10]);
  });

  test("of standing still delays what is worked on, and what comes, by exactly what is left of it", async () => {
    // From 305 to 395: half of the request of 300 is done. From 490 to 530 and on to 560: that of 500 comes into it.
    expect(
      await durations(
        { kind: "stall", member: 0, fromMs: 305, forMs: 90 },
        { kind: "stall", member: 0, fromMs: 490, forMs: 40 },
        { kind: "stall", member: 0, fromMs: 510, forMs: 50 },
      ),
    ).toEqual([10, 10, 100, 10, 70, 10, 10, 10, 10]);
  });

  test("of failing answers with an error, in its time, without a slot", async () => {
    const fail = { kind: "fail", member: 0, afterMs: 1, fromMs: 250, untilMs: 450 } as const;
    const { attempts, result } = await attemptsOf({ ...calm, faults: [fail] });
    expect(rounded(attempts.map(({ startedAt, endedAt }) => endedAt - startedAt))).toEqual([
      10, 10, 1, 1, 10, 10, 10, 10, 10,
    ]);
    expect(result.failures).toEqual({ ERR_SERVER: 2 });
    expect(result.members[0]?.failed).toBe(2);
  });

  test("of failing now and then does so as often as it says", async () => {
    const { members } = await simulate({
      durationMs: 10_000,
      faults: [{ kind: "fail", member: "all", afterMs: 1, probability: 0.1 }],
      pool: { retry: { attempts: 1 } },
      strategy: roundRobin(),
    });
    const [picks, failed] = members.reduce(([a, b], member) => [a + member.picks, b + member.failed], [0, 0] as [
      number,
      number,
    ]);
    expect(failed / picks).toBeGreaterThan(0.09);
    expect(failed / picks).toBeLessThan(0.11);
  });

  test("that loses requests unsent is mended by the pool; what may have been sent only if the caller allows", async () => {
    const options: SimulateOptions = { ...calm, members: 2, strategy: roundRobin() };
    const lose = async (sent: "no" | "maybe", idempotent: boolean): Promise<number> => {
      const result = await simulate({
        ...options,
        idempotent,
        faults: [{ kind: "fail", member: 0, afterMs: 0, sent }],
      });
      check(result);
      return result.failed;
    };
    expect(await lose("no", false)).toBe(0);
    expect(await lose("maybe", false)).toBeGreaterThan(0);
    expect(await lose("maybe", true)).toBe(0);
  });

  test("of spells comes for its share of the time, on each server by itself", async () => {
    const { attempts } = await attemptsOf({
      ...calm,
      members: 2,
      slots: Infinity,
      requestsPerSecond: 100,
      durationMs: 200_000,
      strategy: roundRobin(),
      faults: [{ kind: "spells", factor: 5, meanMs: 500, share: 0.1 }],
    });
    const slow = attempts.filter(({ startedAt, endedAt }) => endedAt - startedAt > 20);
    for (const member of [0, 1]) {
      const share = slow.filter((attempt) => attempt.member === member).length / (attempts.length / 2);
      expect(share).toBeGreaterThan(0.08);
      expect(share).toBeLessThan(0.12);
    }
    const together = new Set(slow.map(({ startedAt, member }) => `${Math.floor(startedAt / 100)} ${member}`));
    const both = [...together].filter((each) => each.endsWith(" 0") && together.has(each.replace(/ 0$/, " 1")));
    expect(both.length / together.size).toBeLessThan(0.2);
  });

  test("of crashing takes along what the server was working on, and the pool finds it again when it is back", async () => {
    const { attempts, result } = await attemptsOf({
      ...calm,
      members: 2,
      strategy: roundRobin(),
      durationMs: 10_000,
      faults: [{ kind: "crash", member: 1, fromMs: 2_005, downMs: 500 }],
    });
    expect(result.failures).toEqual({ ERR_CONNECTION_LOST: 1 });
    const toIt = attempts.filter(({ member }) => member === 1).map(({ startedAt }) => startedAt);
    expect(toIt.filter((at) => at > 2_005 && at < 2_506)).toEqual([]);
    expect(toIt.some((at) => at > 2_506)).toBe(true);
  });

  test("that takes down a server which is down already changes nothing", async () => {
    const crash = { kind: "crash", member: 1, fromMs: 2_005, downMs: 500 } as const;
    const twice = { ...crash, fromMs: 2_100, downMs: 5_000 };
    const restart = { kind: "restart", member: 1, fromMs: 2_200, downMs: 5_000 } as const;
    const options = { ...calm, members: 2, strategy: roundRobin(), durationMs: 10_000 };
    const { attempts } = await attemptsOf({ ...options, faults: [crash, twice, restart] });
    expect(attempts).toEqual((await attemptsOf({ ...options, faults: [crash] })).attempts);
    expect(attempts.some(({ member, startedAt }) => member === 1 && startedAt > 2_506 && startedAt < 5_000)).toBe(true);
  });

  test("of failing later is not told of what a crash has taken along before", async () => {
    const { result } = await attemptsOf({
      ...calm,
      durationMs: 2_000,
      faults: [
        { kind: "fail", member: 0, afterMs: 50, fromMs: 950, untilMs: 1_001 },
        { kind: "crash", member: 0, fromMs: 1_005, downMs: 10 },
      ],
    });
    expect(result.failures).toEqual({ ERR_CONNECTION_LOST: 1 });
  });

  test("of spells that have no share of the time is none, and one that ends is over", async () => {
    const spells = { kind: "spells", factor: 5, meanMs: 100 } as const;
    const options = { ...calm, durationMs: 20_000 };
    const none = (await attemptsOf(options)).attempts;
    expect((await attemptsOf({ ...options, faults: [{ ...spells, share: 0 }] })).attempts).toEqual(none);
    const ended = (await attemptsOf({ ...options, faults: [{ ...spells, share: 0.5, untilMs: 10_000 }] })).attempts;
    const slow = ended.filter(({ startedAt, endedAt }) => endedAt - startedAt > 20);
    expect(slow.length).toBeGreaterThan(10);
    expect(slow.filter(({ startedAt }) => startedAt > 10_000)).toEqual([]);
  });

  test("of restarting in turn loses nothing, and no server is sent anything after its goodbye", async () => {
    const result = await simulate({
      members: 4,
      durationMs: 20_000,
      faults: [{ kind: "restart", member: "all", fromMs: 1_000, everyMs: 5_000, downMs: 1_000 }],
    });
    check(result);
    expect({ failed: result.failed, late: result.lateAttempts }).toEqual({ failed: 0, late: 0 });
    for (const { picksOverTime } of result.members) expect(picksOverTime).toContain(0); // It was really down.
    expect(result.members.every(({ picksOverTime }) => (picksOverTime.at(-1) ?? 0) > 0)).toBe(true);
  });
});

describe("callers", () => {
  test("come as often as the load says, by chance or evenly", async () => {
    for (const arrivals of ["poisson", "even"] as const) {
      const { requests, overTime } = await simulate({ members: 5, slots: 2, load: 0.5, arrivals, durationMs: 20_000 });
      expect(requests / 10_000).toBeCloseTo(1, 1);
      const even = new Set(overTime.map((bucket) => bucket.requests)).size <= 2;
      expect(even).toBe(arrivals === "even");
    }
  });

  test("call again when they are told of an error, as often as they may, and the whole counts as one request", async () => {
    const failing: Fault = { kind: "fail", member: 0, afterMs: 3 };
    const { result } = await attemptsOf({ ...calm, calls: 3, faults: [failing], pool: { retry: { attempts: 1 } } });
    expect({ ...result.failures, attempts: result.attemptsPerRequest }).toEqual({ ERR_SERVER: 9, attempts: 3 });
    expect(result.latencyMs.p50).toBeCloseTo(9, 1);
  });

  test("have pools of their own, and do not know of each other", async () => {
    const seen = new Set<unknown>();
    const strategy = (): Strategy<SimulatedConnection> => {
      const mine = {};
      return {
        pick: (members) => {
          seen.add(mine);
          return members[0] as Member<SimulatedConnection>;
        },
      };
    };
    const { attempts } = await attemptsOf({ ...calm, slots: 4, clients: 5, requestsPerSecond: 100, strategy });
    expect(seen.size).toBe(5);
    expect(new Set(attempts.map(({ client }) => client))).toEqual(new Set([0, 1, 2, 3, 4]));
  });

  test("name a key where there are keys", async () => {
    const seen: RouteRequest[] = [];
    const strategy: Strategy<SimulatedConnection> = {
      pick: (members, request) => {
        seen.push({ ...request });
        return members[0] as Member<SimulatedConnection>;
      },
    };
    await simulate({ ...calm, strategy, keys: 3, requestsPerSecond: 100 });
    expect(new Set(seen.map(({ key }) => key))).toEqual(new Set([0, 1, 2]));
    seen.length = 0;
    await simulate({ ...calm, strategy });
    expect(seen.every(({ key }) => key === undefined)).toBe(true);
  });

  test("are told how far it is, from the beginning to the end", async () => {
    const told: number[] = [];
    const { requests } = await simulate({
      ...calm,
      onProgress: (progress) => told.push(progress.simulatedMs, progress.requests),
    });
    expect(told.slice(0, 2)).toEqual([0, 0]);
    expect(told.slice(-2)).toEqual([1_000, requests]);
    expect(told.length).toBeGreaterThan(100);
  });
});

describe("the same seed", () => {
  const eventful: SimulateOptions = {
    members: 5,
    slots: 2,
    clients: 3,
    load: 0.8,
    durationMs: 2_000,
    timeoutMs: 100,
    calls: 2,
    idempotent: true,
    faults: [
      { kind: "spells", factor: 5, meanMs: 200, share: 0.1 },
      { kind: "fail", member: 1, afterMs: 1, probability: 0.3, sent: "maybe" },
      { kind: "stall", member: "all", fromMs: 500, forMs: 200 },
      { kind: "crash", member: 2, fromMs: 900, downMs: 100 },
      { kind: "restart", member: "all", fromMs: 1_100, everyMs: 100, downMs: 100 },
    ],
  };

  afterEach(() => {
    vi.restoreAllMocks();
  });

  test("makes the same run, and another seed another one", async () => {
    const [first, again, other] = [
      await simulate(eventful),
      await simulate(eventful),
      await simulate({ ...eventful, seed: 2 }),
    ];
    for (const each of [first, again, other]) check(each);
    expect(again).toEqual(first);
    expect(other).not.toEqual(first);
    expect([first.failed > 0, first.attemptsPerRequest > 1]).toEqual([true, true]); // It was eventful.
  });

  test("brings the same requests to every strategy", async () => {
    const made = async (strategy: SimulateOptions["strategy"]): Promise<number[]> => {
      const { overTime } = await simulate({
        ...eventful,
        ...(strategy === undefined ? {} : { strategy }),
        bucketMs: 10,
      });
      return overTime.map(({ requests }) => requests);
    };
    const byDefault = await made(undefined);
    expect(await made(random())).toEqual(byDefault);
    expect(await made(roundRobin())).toEqual(byDefault);
  });

  test("makes the same run when the event loop has a whole turn between any two timers", async () => {
    const quick = await simulate(eventful);
    let turns = 0;
    vi.spyOn(Virtual.prototype, "drive").mockImplementation(async function (this: Virtual, done, limitMs) {
      await new Promise<void>((resolve, reject) => {
        const settle = this.settle.bind(this);
        const ended = new Promise<void>((end) => {
          vi.spyOn(this, "settle").mockImplementation(async () => {
            turns++;
            await settle();
            if (done()) end();
          });
        });
        this.until(ended, { limitMs }).then(resolve, reject);
      });
    });
    expect(await simulate(eventful)).toEqual(quick);
    expect(turns).toBeGreaterThan(1_000);
  });

  test("makes the same run of any scenario, and every request of it settles", () =>
    fc.assert(
      fc.asyncProperty(
        fc.record({
          members: fc.integer({ min: 1, max: 4 }),
          slots: fc.constantFrom(1, 3, Infinity),
          clients: fc.integer({ min: 1, max: 3 }),
          capacity: fc.constantFrom(1, 5, Infinity),
          requestsPerSecond: fc.integer({ min: 10, max: 600 }),
          timeoutMs: fc.constantFrom(5, 100, Infinity),
          calls: fc.integer({ min: 1, max: 3 }),
          idempotent: fc.boolean(),
          seed: fc.nat(),
          faults: fc.subarray<Fault>([
            { kind: "slow", member: 0, factor: 20, fromMs: 100 },
            { kind: "spells", factor: 5, meanMs: 50, share: 0.3 },
            { kind: "fail", member: "all", afterMs: 0, probability: 0.5, sent: "maybe" },
            { kind: "fail", member: 0, afterMs: 2, sent: "no" },
            { kind: "stall", member: "all", fromMs: 200, forMs: 200 },
            { kind: "crash", member: "all", fromMs: 300, downMs: 50 },
            { kind: "restart", member: "all", fromMs: 500, everyMs: 50, downMs: 100 },
          ]),
        }),
        async (options) => {
          const short = { ...options, durationMs: 700, strategy: leastUsed() };
          const result = await simulate(short);
          check(result);
          expect(await simulate(short)).toEqual(result);
        },
      ),
      { numRuns: 25 },
    ));
});

test.each<[string, object]>([
  ["simulate: members", { members: 0 }],
  ["simulate: slots", { slots: 1.5 }],
  ["simulate: load", { load: 0 }],
  ["simulate: requestsPerSecond", { slots: Infinity }],
  ["simulate: weights", { weights: [] }],
  ["simulate: timeoutMs", { timeoutMs: 0 }],
  ["simulate: seed", { seed: -1 }],
  ["simulate: colour", { colour: "red" }],
  ["simulate: service: kind", { service: { kind: "swift" } }],
  ["simulate: service: meanMs", { service: { kind: "exponential" } }],
  ["simulate: service: spreadMs", { service: { kind: "fixed", meanMs: 5, spreadMs: 6 } }],
  ["simulate: service: traceMs", { service: { kind: "trace", traceMs: [] } }],
  ["simulate: faults[0]: kind", { faults: [{ kind: "boredom" }] }],
  [
    "simulate: faults[1]: member",
    {
      members: 2,
      faults: [
        { kind: "stall", member: 1, fromMs: 0, forMs: 1 },
        { kind: "slow", member: 2, factor: 2 },
      ],
    },
  ],
  ["simulate: faults[0]: factor", { faults: [{ kind: "slow", member: 0, factor: 0 }] }],
  ["simulate: faults[0]: probability", { faults: [{ kind: "fail", member: 0, afterMs: 1, probability: 2 }] }],
  ["simulate: faults[0]: share", { faults: [{ kind: "spells", factor: 2, meanMs: 5, share: 1 }] }],
  ["simulate: strategy", { clients: 2, strategy: { pick: () => undefined } }],
  ["simulate: pool: size", { pool: { size: 0 } }],
  ["simulate: bucketMs", { durationMs: 1_000, bucketMs: 1e-6 }],
  ["simulate: requestsPerSecond", { service: { kind: "trace", traceMs: [Number.MIN_VALUE] } }],
  ["simulate: service: traceMs", { service: { kind: "trace", traceMs: [Symbol("odd") as never] } }],
])("what is wrong is refused by name: %s", async (name, options) => {
  await expect(simulate(options as SimulateOptions)).rejects.toThrow(`${name}: `);
});
