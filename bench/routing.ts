/**
 * What the routing pool promises of slow, failing and leaving members, each shown in the simulator with a fixed seed,
 * beside what others do: round robin, random, the better of two (Mitzenmacher), and Finagle's Peak EWMA of two.
 *
 * They are strategies of the same pool, with its breaker, its slow start, its retries and its eye on requests that nobody
 * waits for, so a difference between them is the strategy's. The last row, "bare", is round robin without any of that: what
 * is easily written by hand. Nothing here depends on the machine: the figures are the same everywhere.
 *
 *     npm run bench:routing            [-- NAME …]   only the bars whose names begin so
 */
import { leastUsed, peakEwma, powerOfTwo, random, roundRobin } from "poolwarden";
import { type Attempt, type MemberResult, type SimulateOptions, type SimulationResult, simulate } from "poolwarden/sim";

const seed = 1;
const bare = { breaker: false, slowStartMs: 0, maxOrphans: 1e9, retry: { attempts: 1 } } as const;

/** The default first. */
const strategies = { leastUsed, roundRobin, random, powerOfTwo, peakEwma };

type Column = (result: SimulationResult) => string;
const verdicts: { readonly bar: string; readonly figure: string; readonly met: boolean }[] = [];
const wanted = process.argv.slice(2);

/** Runs a scenario with each strategy, prints a row for each, and returns the results by name. */
async function compare(
  title: string,
  options: SimulateOptions,
  extra: Readonly<Record<string, Column>> = {},
): Promise<(name: string) => SimulationResult> {
  const columns: Record<string, Column> = {
    requests: ({ requests }) => requests.toLocaleString("en"),
    "answered %": (result) => percent(answered(result), 3),
    "p50 ms": ({ latencyMs }) => latencyMs.p50.toFixed(1),
    "p99 ms": ({ latencyMs }) => latencyMs.p99.toFixed(1),
    "p99.9 ms": ({ latencyMs }) => latencyMs.p999.toFixed(1),
    ...extra,
  };
  const headings = Object.keys(columns);
  const widths = [12, ...headings.map((heading) => Math.max(10, heading.length + 2))];
  const print = (cells: readonly string[]): void =>
    console.log(cells.map((cell, at) => (at === 0 ? cell.padEnd(12) : cell.padStart(widths[at] as number))).join(""));
  console.log(`\n${title}\n`);
  print(["", ...headings]);
  const results = new Map<string, SimulationResult>();
  const row = async (name: string, with_: SimulateOptions): Promise<void> => {
    const result = await simulate({ seed, ...with_ });
    results.set(name, result);
    print([name, ...Object.values(columns).map((cell) => cell(result))]);
  };
  for (const [name, make] of Object.entries(strategies)) await row(name, { ...options, strategy: make() });
  await row("bare", { ...options, strategy: roundRobin(), pool: { ...options.pool, ...bare } });
  return (name) => results.get(name) as SimulationResult;
}

function answered({ succeeded, requests }: SimulationResult): number {
  return succeeded / requests;
}

function percent(share: number, digits: number): string {
  return (100 * share).toFixed(digits);
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0);
}

function judge(bar: string, figure: string, met: boolean): void {
  verdicts.push({ bar, figure, met });
}

const bars: Record<string, () => Promise<void>> = {
  /** Buoyant, "Beyond Round Robin". */
  async control() {
    const results = await compare(
      "The published control: 11 backends, 167 ± 5 ms, 1,000 requests/s for 60 s, one at 2 s for the middle 30 s, callers wait 1 s",
      {
        members: 11,
        slots: Infinity,
        service: { kind: "fixed", meanMs: 167, spreadMs: 5 },
        requestsPerSecond: 1_000,
        faults: [{ kind: "slow", member: 0, factor: 2_000 / 167, fromMs: 15_000, untilMs: 45_000 }],
      },
    );
    // What was published had no breaker: that is the bare pool.
    const [round, least] = [answered(results("bare")), answered(results("leastUsed"))];
    judge("control: bare round robin 95 ± 1 %", `${percent(round, 2)} %`, Math.abs(round - 0.95) <= 0.01);
    judge("control: least used ≥ 99 %", `${percent(least, 2)} %`, least >= 0.99);
    judge("control: the default ≥ 99.9 %", `${percent(least, 2)} %`, least >= 0.999);
  },

  async slow() {
    for (const clients of [1, 20]) {
      const who = clients === 1 ? "1 client" : `${clients} clients`;
      const healthy = await compare(`All of 20 replicas healthy, load 0.7, ${who}`, { clients });
      const sick = await compare(`One of 20 slow (× 10), load 0.7, ${who}`, {
        clients,
        faults: [{ kind: "slow", member: 0, factor: 10 }],
      });
      const ratio = sick("leastUsed").latencyMs.p99 / healthy("leastUsed").latencyMs.p99;
      const { failed } = sick("leastUsed");
      const lost = 1 - answered(sick("bare"));
      judge(`slow, ${who}: p99 ≤ 1.10 × all healthy`, `${ratio.toFixed(3)} ×`, ratio <= 1.1);
      judge(`slow, ${who}: no failure`, `${failed} failed`, failed === 0);
      judge(`slow, ${who}: bare round robin loses 5 %`, `${percent(lost, 2)} %`, Math.abs(lost - 0.05) <= 0.005);
    }
  },

  async moving() {
    const results = await compare(
      "Slow spells that move: each of 20 × 5 for about 500 ms, 10 % of the time, load 0.75, 20 clients",
      { clients: 20, load: 0.75, faults: [{ kind: "spells", factor: 5, meanMs: 500, share: 0.1 }] },
    );
    const { p99 } = results("leastUsed").latencyMs;
    judge("moving: p99 ≤ 70 ms", `${p99.toFixed(1)} ms`, p99 <= 70);
  },

  async failing() {
    const [fromMs, untilMs] = [5_000, 30_000];
    const [first, last] = [fromMs / 1_000 + 1, untilMs / 1_000];
    const scenario: SimulateOptions = {
      members: 10,
      faults: [{ kind: "fail", member: 0, afterMs: 1, fromMs, untilMs }],
    };
    const share = ({ members }: SimulationResult): number => {
      const picks = members.map(({ picksOverTime }) => sum(picksOverTime.slice(first, last)));
      return (picks[0] as number) / sum(picks);
    };
    const results = await compare("One of 10 fails in 1 ms from second 5 to second 30, load 0.7", scenario, {
      "its share %": (result) => percent(share(result), 3),
    });
    const mine = share(results("leastUsed"));
    judge("failing: ≤ 1 % of the traffic after the first second", `${percent(mine, 3)} %`, mine <= 0.01);

    // What the default sends there when it has healed.
    const attempts: Attempt[] = [];
    const { members } = await simulate({
      ...scenario,
      seed,
      onAttempt: (attempt) => {
        if (attempt.member === 0 && attempt.startedAt >= untilMs) attempts.push(attempt);
      },
    });
    attempts.sort((a, b) => a.startedAt - b.startedAt);
    const [probe, next] = attempts;
    if (probe === undefined || next === undefined) {
      judge("failing: heals through exactly one probe", "nothing was sent there", false);
      return;
    }
    const at = (ms: number): string => `${(ms / 1_000).toFixed(3)} s`;
    judge(
      "failing: heals through exactly one probe",
      `from ${at(probe.startedAt)} to ${at(probe.endedAt)}, the next at ${at(next.startedAt)}`,
      probe.ok && next.startedAt >= probe.endedAt,
    );
    const second = Math.ceil(probe.endedAt / 1_000);
    const shares = Array.from({ length: 14 }, (_, after) => {
      const picks = (of: MemberResult): number => of.picksOverTime[second + after] ?? 0;
      return picks(members[0] as MemberResult) / (sum(members.map(picks)) / members.length);
    });
    console.log(
      `\nIts share in the seconds after that probe; 1 is fair: ${shares.map((each) => each.toFixed(2)).join(" ")}`,
    );
    const [young, grown] = [shares[0] as number, sum(shares.slice(-4)) / 4];
    judge(
      "failing: then slow start",
      `${young.toFixed(2)} of its share, ${grown.toFixed(2)} after 10 s`,
      young < 0.5 && grown > 0.8,
    );
  },

  async retries() {
    const results = await compare(
      "Every call is lost (perhaps sent), callers allow repeats",
      { idempotent: true, durationMs: 20_000, faults: [{ kind: "fail", member: "all", afterMs: 1, sent: "maybe" }] },
      { attempts: ({ attemptsPerRequest }) => attemptsPerRequest.toFixed(4) },
    );
    const { attemptsPerRequest } = results("leastUsed");
    // To the two digits that the bar has: the floor of ten retries a second lets a few more through at the start.
    judge(
      "retries: ≤ 1.10 attempts a request",
      attemptsPerRequest.toFixed(4),
      Number(attemptsPerRequest.toFixed(2)) <= 1.1,
    );
  },

  async stall() {
    const [fromMs, forMs] = [10_000, 5_000];
    const scenario: SimulateOptions = {
      slots: 1,
      service: { kind: "exponential", meanMs: 20 },
      load: 0.85,
      timeoutMs: 500,
      durationMs: 45_000,
      faults: [{ kind: "stall", member: "all", fromMs, forMs }],
    };
    /** Of the requests made between these seconds after the stall, the share that was answered. */
    const goodput = ({ overTime }: SimulationResult, from: number, to: number): number => {
      const over = overTime.filter(
        (each) => each.fromMs >= fromMs + forMs + from * 1_000 && each.fromMs < fromMs + forMs + to * 1_000,
      );
      return sum(over.map(({ succeeded }) => succeeded)) / sum(over.map(({ requests }) => requests));
    };
    const columns: Record<string, Column> = {
      "before %": (result) => percent(goodput(result, -15, -6), 2),
      "0–5 s later %": (result) => percent(goodput(result, 0, 5), 2),
      "5–10 s %": (result) => percent(goodput(result, 5, 10), 2),
      "10–20 s %": (result) => percent(goodput(result, 10, 20), 2),
      attempts: ({ attemptsPerRequest }) => attemptsPerRequest.toFixed(3),
    };
    const what = "All stand still for 5 s at load 0.85 (20 × 1 slot, 20 ms, callers wait 500 ms)";
    const known = { capacity: 1, pool: { queue: { shed: true } } };
    const results = await compare(
      `${what}; capacity known, shedding on, callers call 3 times`,
      { ...scenario, ...known, calls: 3 },
      columns,
    );
    const back = goodput(results("leastUsed"), 10, 20);
    judge("stall: ≥ 99 % goodput within 10 s", `${percent(back, 2)} %`, back >= 0.99);
    await compare(
      `${what}; capacity known, no shedding, callers call 3 times`,
      { ...scenario, capacity: 1, calls: 3 },
      columns,
    );
    await compare(`${what}; capacity known, shedding on, callers call once`, { ...scenario, ...known }, columns);
    await compare(`${what}; nothing known, callers call once`, scenario, columns);
  },

  async restart() {
    const results = await compare(
      "Rolling restart: 10 members in turn, each 5 s down, load 0.7, a million requests",
      {
        members: 10,
        durationMs: 360_000,
        faults: [{ kind: "restart", member: "all", fromMs: 10_000, everyMs: 34_000, downMs: 5_000 }],
      },
      { failed: ({ failed }) => String(failed), "after goodbye": ({ lateAttempts }) => String(lateAttempts) },
    );
    const { requests, failed, lateAttempts } = results("leastUsed");
    judge("restart: 0 failed of 10⁶", `${failed} of ${requests.toLocaleString("en")}`, failed === 0 && requests >= 1e6);
    judge("restart: nothing sent after a goodbye", String(lateAttempts), lateAttempts === 0);
  },
};

for (const [name, run] of Object.entries(bars)) {
  if (wanted.length === 0 || wanted.some((each) => name.startsWith(each))) await run();
}
const width = Math.max(...verdicts.map(({ bar }) => bar.length));
console.log("");
for (const { bar, figure, met } of verdicts)
  console.log(`${met ? "met   " : "MISSED"}  ${bar.padEnd(width)}  ${figure}`);
console.log(`\nSeed ${seed}; ${(process.cpuUsage().user / 1e6).toFixed(0)} s of CPU time.`);
