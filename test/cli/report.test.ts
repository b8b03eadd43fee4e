/** When a run of the demo is in order, and when it is not: with the books of a run that was, spoilt in one place. */
import { describe, expect, test } from "vitest";
import { Phase } from "../../src/cli/callers.ts";
import { asRecord, faults, inOrder, inWords, type Result, type Run } from "../../src/cli/report.ts";
import type { ProcessTree } from "../../src/pool/index.ts";
import type { PoolStats, PoolTotals } from "../../src/telemetry/index.ts";

const rest = {
  size: 12,
  ready: 12,
  opening: 0,
  waitingToReopen: 0,
  draining: 0,
  fatal: 0,
  ejected: 0,
  idle: 12,
  used: 0,
};
const totals: PoolTotals = {
  acquired: 1_090,
  succeeded: 995,
  failed: 2,
  timedOut: 2,
  rejected: 1,
  shed: 0,
  retried: 90,
  opened: 28,
  openFailed: 7,
  lost: 4,
  closed: 28,
};

function stats(changes: Partial<PoolStats>, counted: Partial<PoolTotals> = {}): PoolStats {
  const base = { name: "pool", kind: "routing", ...rest, inFlight: 0, waiting: 0 } as const;
  return { ...base, ...changes, totals: { ...totals, ...counted } };
}

function run(changes: Partial<Run> = {}): Run {
  return {
    callers: { begun: 1_000, settled: 1_000, answered: 995, wrong: 0 },
    before: stats({}, { opened: 12, closed: 0, succeeded: 0, failed: 0, timedOut: 0, rejected: 0 }),
    after: stats({}, { closed: 16 }),
    closed: stats({ size: 0, ready: 0, idle: 0 }),
    ...changes,
  };
}

describe("a run", () => {
  test("is in order when both books agree and the pool is as it was", () => {
    expect(faults(run())).toEqual([]);
  });

  test("is not when a request never settled", () => {
    const callers = { begun: 1_001, settled: 1_000, answered: 995, wrong: 0 };
    expect(faults(run({ callers }))).toEqual(["1 requests never settled"]);
  });

  test("is not when a request was answered wrongly", () => {
    const callers = { begun: 1_000, settled: 1_000, answered: 995, wrong: 2 };
    expect(faults(run({ callers }))).toEqual(["2 requests were answered wrongly"]);
  });

  // What the callers see is the first time; the second shows in the pool's totals alone.
  test.each([
    ["answered twice", { succeeded: 996 }],
    ["answered after it had failed", { succeeded: 996 }],
    ["failed after it was answered", { failed: 3 }],
    ["turned away twice", { rejected: 2 }],
    ["answered, by the pool's book, and failed, by its caller's", { succeeded: 996, failed: 1 }],
    ["settled, and not counted", { succeeded: 994 }],
  ])("is not when a request was %s", (_, counted) => {
    const found = faults(run({ after: stats({}, { closed: 16, ...counted }) }));
    expect(found).toEqual([expect.stringMatching(/^not every request settled exactly once: the callers saw 1,000 /)]);
  });

  test.each(["size", "ready", "waitingToReopen", "idle", "used", "inFlight", "waiting"] as const)(
    "is not when the pool's gauge %s is another at the end",
    (gauge) => {
      const found = faults(run({ after: stats({ [gauge]: 5 }, { closed: 16 }) }));
      expect(found).toEqual([
        expect.stringMatching(new RegExp(`^the pool's "${gauge}" was \\d+ before and is 5 after$`)),
      ]);
    },
  );

  test("is not when a connection was opened and never closed", () => {
    expect(faults(run({ closed: stats({ size: 0 }, { closed: 27 }) }))).toEqual([
      "28 connections were opened and 27 closed",
    ]);
  });

  test("may have more than one fault", () => {
    const callers = { begun: 1_001, settled: 1_000, answered: 995, wrong: 1 };
    expect(faults(run({ callers, after: stats({ waiting: 1 }, { closed: 16 }) }))).toHaveLength(3);
  });
});

describe("what is told of a run", () => {
  function phase(name: string, latenciesMs: readonly number[], failures: Record<string, number> = {}): Phase {
    const made = new Phase(name);
    for (const ms of latenciesMs) made.latencyNs.record(ms * 1e6);
    made.settled = latenciesMs.length;
    for (const [code, count] of Object.entries(failures)) made.failures.set(code, count);
    made.answered = made.settled - Object.values(failures).reduce((sum, count) => sum + count, 0);
    made.seconds = 2;
    return made;
  }

  function result(phases: readonly Phase[], found: readonly string[] = []): Result {
    return {
      faults: found,
      requests: { begun: 1_000, settled: 1_000, answered: 995, wrong: 0 },
      phases,
      tree: "pool <1>\n└── registry <2>",
    };
  }

  test("is a table of its phases side by side, with the reasons for what failed", () => {
    const killed = phase("killed", [1, 2, 3, 4_000], { ERR_CONNECTION_LOST: 2, ERR_FANTA_TIMEOUT: 1 });
    killed.rerouted = 84;
    const back = phase("back", [0.5], { ERR_FANTA_TIMEOUT: 1 });
    back.reconnects = 1_004;
    back.restarts = 1;
    expect(
      inWords(result([killed, back]))
        .split("\n")
        .slice(1, 14),
    ).toEqual([
      "phase                  killed   back",
      "────────────────────────────────────",
      "requests                    4      1",
      "requests/s                  2      1",
      expect.stringMatching(/^p50 ms +2\.00 +0\.50$/),
      expect.stringMatching(/^p99 ms +[34],\d{3} +0\.50$/),
      expect.stringMatching(/^slowest ms +[34],\d{3} +0\.50$/),
      "re-routed                  84      0",
      "failed                      3      1",
      "  ERR_CONNECTION_LOST       2      0",
      "  ERR_FANTA_TIMEOUT         1      1",
      "reconnects                  0  1,004",
      "restarts                    0      1",
    ]);
  });

  test("ends with the tree, and says whether it was in order", () => {
    const good = inWords(result([phase("healthy", [1])]));
    expect(good).toContain("\n\npool <1>\n└── registry <2>\n\nIn order: 1,000 requests");
    expect(good).not.toContain("NOT");
    const bad = inWords(result([phase("healthy", [1])], ["one thing", "another"]));
    expect(bad).toMatch(/\n\nNOT in order: one thing;\nanother\.$/);
    expect(bad).not.toContain("In order");
  });

  test("fits 80 columns, explanations and all", () => {
    const phases = ["healthy", "killed", "back", "stalled", "rolling restart"].map((name) => phase(name, [1]));
    for (const each of phases) each.settled = 99_999_999;
    const lines = inWords(result(phases)).split("\n");
    expect(lines.filter((line) => line.length > 80)).toEqual([]);
  });

  test("is the same in JSON", () => {
    const killed = phase("killed", [1, 2], { ERR_CONNECTION_LOST: 1 });
    expect(JSON.parse(JSON.stringify(asRecord(result([killed], ["a fault"]))))).toEqual({
      ok: false,
      faults: ["a fault"],
      requests: { begun: 1_000, settled: 1_000, answered: 995, wrong: 0 },
      phases: [
        {
          phase: "killed",
          seconds: 2,
          requests: 2,
          requestsPerSecond: 1,
          p50Ms: expect.closeTo(1, 1),
          p99Ms: expect.closeTo(2, 1),
          slowestMs: expect.closeTo(2, 1),
          answered: 1,
          wrong: 0,
          rerouted: 0,
          failed: 1,
          failures: { ERR_CONNECTION_LOST: 1 },
          reconnects: 0,
          restarts: 0,
        },
      ],
      tree: ["pool <1>", "└── registry <2>"],
    });
    expect(asRecord(result([killed]))).toMatchObject({ ok: true, faults: [] });
  });
});

test("connections are shown in the order of their numbers, other children in that of their start", () => {
  const node = (id: string, children: ProcessTree[] = []): ProcessTree => ({ id, children }) as unknown as ProcessTree;
  const connections = ["connection 10", "connection 9", "connection 0"].map((id) => node(id));
  const tree = inOrder(node("pool", [node("registry"), node("connections", connections)]));
  expect(tree.children.map(({ id }) => id)).toEqual(["registry", "connections"]);
  expect(tree.children[1]?.children.map(({ id }) => id)).toEqual(["connection 0", "connection 9", "connection 10"]);
  expect(connections.map(({ id }) => id)).toEqual(["connection 10", "connection 9", "connection 0"]);
});
