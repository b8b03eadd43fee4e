/** `poolwarden simulate`: what it takes, what it refuses, and what it says. Small runs, in this process. */

import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test, vi } from "vitest";
import { drawLatency } from "../../src/cli/picture.ts";
import { describeScene, readScene, readStrategies, type Scene, sceneFlags } from "../../src/cli/scene.ts";
import { simulation } from "../../src/cli/simulate.ts";
import { parse, UsageError } from "../../src/cli/usage.ts";
import { type SimulationResult, simulate } from "../../src/sim/index.ts";

const scratch = mkdtempSync(join(tmpdir(), "poolwarden-"));
const small = ["--members", "3", "--slots", "2", "--seconds", "2"];

function scene(...args: string[]): Scene {
  return readScene(parse(args, sceneFlags));
}

async function run(...args: string[]): Promise<{ code: number; out: string; err: string; shown: string[] }> {
  const said = { out: "", err: "" };
  const shown: string[] = [];
  const out = { write: (text: string) => (said.out += text) };
  const err = { isTTY: true, columns: 80, write: (text: string) => shown.push(text) };
  const code = await simulation(args, { out, err });
  return { code, ...said, shown };
}

describe("what is simulated", () => {
  test("is, when nothing is said, what the usage says", () => {
    expect(scene()).toEqual({
      members: 20,
      slots: 4,
      weights: [1],
      service: { kind: "exponential", meanMs: 10 },
      load: 0.7,
      clients: 1,
      durationMs: 60_000,
      timeoutMs: 1_000,
      calls: 1,
      idempotent: false,
      keys: 0,
      pool: { size: 1 },
      faults: [],
      seed: 1,
    });
  });

  test.each<[string[], object]>([
    [["--slots", "unlimited", "--rate", "50"], { slots: Infinity, requestsPerSecond: 50 }],
    [["--weights", "1,2"], { weights: [1, 2] }],
    [["--capacity", "4"], { capacity: 4 }],
    [["--service", "fixed:167:5"], { service: { kind: "fixed", meanMs: 167, spreadMs: 5 } }],
    [["--service", "fixed:2.5"], { service: { kind: "fixed", meanMs: 2.5 } }],
    [["--seconds", "0.5", "--timeout-ms", "50"], { durationMs: 500, timeoutMs: 50 }],
    [["--calls", "3", "--idempotent", "--keys", "7"], { calls: 3, idempotent: true, keys: 7 }],
    [["--size", "2", "--shed"], { pool: { size: 2, queue: { shed: true } } }],
    [["--bare"], { pool: { size: 1, breaker: false, slowStartMs: 0, retry: { attempts: 1 } } }],
    [
      ["--slow", "0:10,all:2:20-40.5"],
      {
        faults: [
          { kind: "slow", member: 0, factor: 10 },
          { kind: "slow", member: "all", factor: 2, fromMs: 20_000, untilMs: 40_500 },
        ],
      },
    ],
    [["--fail", "3:1"], { faults: [{ kind: "fail", member: 3, afterMs: 1, probability: 1 }] }],
    [
      ["--fail", "3:1:0.5:0-5"],
      { faults: [{ kind: "fail", member: 3, afterMs: 1, probability: 0.5, fromMs: 0, untilMs: 5_000 }] },
    ],
    [["--spells", "5:500:0.1"], { faults: [{ kind: "spells", factor: 5, meanMs: 500, share: 0.1 }] }],
    [["--stall", "all:20:5"], { faults: [{ kind: "stall", member: "all", fromMs: 20_000, forMs: 5_000 }] }],
    [["--crash", "1:2:0.5"], { faults: [{ kind: "crash", member: 1, fromMs: 2_000, downMs: 500 }] }],
    [
      ["--restart", "all:1:2:10,0:1:2"],
      {
        faults: [
          { kind: "restart", member: "all", fromMs: 1_000, downMs: 2_000, everyMs: 10_000 },
          { kind: "restart", member: 0, fromMs: 1_000, downMs: 2_000 },
        ],
      },
    ],
  ])("is what %j say", (args, expected) => {
    expect(scene(...args)).toMatchObject(expected);
  });

  test("may replay a trace out of a file", () => {
    const file = join(scratch, "trace");
    writeFileSync(file, "1.5\n20, 3\n");
    const replayed = scene("--service", `trace:${file}`);
    expect(replayed.service).toEqual({ kind: "trace", traceMs: [1.5, 20, 3] });
    expect(describeScene(replayed)).toContain(", a trace of 3 times,");
    writeFileSync(file, "1.5\nten\n");
    expect(() => scene("--service", `trace:${file}`)).toThrow(/^--service takes trace:FILE with a file of numbers/);
    expect(() => scene("--service", "trace:/nowhere")).toThrow(
      /^--service takes trace:FILE with a file that can be read/,
    );
  });

  test.each([
    [["--members", "0"], "--members takes a whole number from 1 to 10000, got"],
    [["--service", "swift"], "--service takes exponential:MEAN"],
    [["--service", "exponential:0"], "--service takes exponential:MEAN"],
    [["--service", "fixed:5:6"], "--service takes exponential:MEAN"],
    [["--slow", "0"], "--slow takes MEMBER:FACTOR[:FROM-TO]"],
    [["--slow", "20:10"], `--slow takes MEMBER:FACTOR[:FROM-TO]; MEMBER is from 0 to 19, or "all", got "20:10"`],
    [["--slow", "0:10:40-20"], "--slow takes"],
    [["--slow", "0:10:5-10:3"], "--slow takes"],
    [["--slow", ""], "--slow takes"],
    [["--fail", "0:1:2"], "--fail takes MEMBER:MS[:PROBABILITY[:FROM-TO]]"],
    [["--spells", "5:500:1"], "--spells takes FACTOR:MS:SHARE, got"],
    [["--stall", "all:5"], "--stall takes MEMBER:FROM:FOR"],
    [["--weights", "1,0.5"], "--weights takes whole numbers"],
    [["--load", "0.5", "--rate", "5"], "give --load or --rate, not both"],
    [["--slots", "unlimited"], "with --slots unlimited there is no load"],
    [["--seed", "-1"], "--seed takes"],
  ])("is refused in one line: %j", (args, message) => {
    let thrown: unknown;
    try {
      scene(...args);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(UsageError);
    expect((thrown as Error).message.startsWith(message)).toBe(true);
    expect((thrown as Error).message).not.toContain("\n");
  });

  test("has a heading that says all that is unusual about it", () => {
    expect(describeScene(scene(...small, "--slow", "0:10:5-8", "--fail", "1:2:0.5", "--restart", "all:1:1:1"))).toBe(
      "3 servers × 2 slots, 10 ms (exponential), load 0.7, 1 client, 2 s, server 0 × 10 from 5 s to 8 s, " +
        "server 1 fails 50 % in 2 ms, all servers restarting in turn, seed 1",
    );
    const faults = ["--fail", "1:2", "--stall", "0:1:2", "--crash", "all:1:2", "--restart", "2:1:1"];
    expect(describeScene(scene(...small, "--load", "0.5", "--service", "fixed:5:1", ...faults))).toBe(
      "3 servers × 2 slots, 5 ± 1 ms, load 0.5, 1 client, 2 s, server 1 fails in 2 ms, " +
        "server 0 standing still for 2 s, all servers crashing, server 2 restarting, seed 1",
    );
    const unusual = [
      "--slots",
      "unlimited",
      "--rate",
      "50",
      "--weights",
      "1,2",
      "--capacity",
      "4",
      "--size",
      "2",
      "--shed",
      "--bare",
    ];
    const callers = [
      "--timeout-ms",
      "50",
      "--calls",
      "3",
      "--idempotent",
      "--keys",
      "7",
      "--clients",
      "2",
      "--seed",
      "3",
    ];
    expect(describeScene(scene(...unusual, ...callers, "--service", "fixed:5", "--spells", "5:500:0.1"))).toBe(
      "20 servers, 5 ms, 50 requests/s, 2 clients, 60 s, weights 1 2, capacity 4, 2 connections each, shedding, a bare pool, " +
        "callers wait 50 ms, call 3 times, allow repeats, 7 keys, each server × 5 for 500 ms at a time (10 % of it), seed 3",
    );
  });
});

describe("the strategies", () => {
  const names = (...args: string[]): string[] => readStrategies(parse(args, sceneFlags));

  test("are the default, one, or several", () => {
    expect(names()).toEqual(["leastUsed"]);
    expect(names("--strategy", "random")).toEqual(["random"]);
    expect(names("--compare", "random,leastUsed,random")).toEqual(["random", "leastUsed"]);
  });

  test.each([
    [["--strategy", "best"], '--strategy takes names out of leastUsed, .*, got "best"$'],
    [["--compare", "random,"], "--compare takes names out of leastUsed, .*, got nothing$"],
    [["--strategy", "random,leastUsed"], "--strategy takes one name"],
    [["--strategy", "random", "--compare", "random"], "give --strategy or --compare, not both"],
    [["--strategy", "toString"], "--strategy takes names"],
  ])("are refused: %j", (args, message) => {
    expect(() => names(...args)).toThrow(new RegExp(message));
  });
});

describe("what it says", () => {
  test("is a table of what callers saw, and one of who was sent what, with the simulator's own figures", async () => {
    const { code, out } = await run(...small, "--compare", "leastUsed,random", "--fail", "1:3:0.2");
    const result = await simulate({ ...scene(...small, "--fail", "1:3:0.2") });
    expect(code).toBe(0);
    const row = out.split("\n").find((line) => line.startsWith("leastUsed")) ?? "";
    const { requests, failed, latencyMs, failures } = result;
    expect(row.split(/ +/)).toEqual([
      "leastUsed",
      String(requests),
      ((100 * failed) / requests).toFixed(3),
      ...[latencyMs.p50, latencyMs.p90, latencyMs.p99, latencyMs.p999, latencyMs.max].map((ms) => ms.toFixed(1)),
      result.attemptsPerRequest.toFixed(3),
      String(failures["ERR_SERVER"]),
    ]);
    const shares = out.split("\n").filter((line) => line.startsWith("server ") && !line.includes(","));
    expect(shares).toHaveLength(3);
    expect(shares[0]).toContain((100 * (result.members[0]?.share ?? 0)).toFixed(2));
  });

  test("is zeros when nobody has asked anything", async () => {
    const { code, out } = await run(...small, "--rate", "0.001", "--seconds", "0.001");
    const row = out.split("\n").find((line) => line.startsWith("leastUsed")) ?? "";
    expect([code, row.split(/ +/).slice(0, 3)]).toEqual([0, ["leastUsed", "0", "0"]]);
    expect(out).not.toMatch(/NaN|Infinity|undefined/);
  });

  test("shows of many members how far they lie apart, where nothing is wrong with any one of them", async () => {
    const { out } = await run("--members", "30", "--seconds", "0.5", "--spells", "5:100:0.1");
    const rows = out.split("\n").map((line) => line.slice(0, 20).trim());
    expect(rows.slice(rows.indexOf("share of requests, %") + 2)).toEqual([
      "a server, at least",
      "a server, at most",
      "",
    ]);
  });

  test("shows of many members those those that something is wrong with, and how far the others lie apart", async () => {
    const { out } = await run("--members", "30", "--seconds", "0.5", "--slow", "7:3");
    const rows = out.split("\n").map((line) => line.slice(0, 20).trim());
    expect(rows.slice(rows.indexOf("share of requests, %") + 2)).toEqual([
      "server 7",
      "another, at least",
      "another, at most",
      "",
    ]);
  });

  test("is JSON and nothing else, with --json", async () => {
    const { out } = await run(...small, "--json");
    const { strategies } = JSON.parse(out) as { strategies: Record<string, SimulationResult> };
    expect(strategies["leastUsed"]).toEqual(JSON.parse(JSON.stringify(await simulate(scene(...small)))));
  });

  test("tells on the terminal how far a long run is, and takes that away at the end", async () => {
    let now = 0;
    vi.spyOn(performance, "now").mockImplementation(() => (now += 60)); // Each second look finds that it is time to say so.
    const { shown } = await run(...small);
    vi.restoreAllMocks();
    expect(shown.some((line) => /leastUsed: \d+ %, \d+ requests/.test(line))).toBe(true);
    expect(shown.at(-1)).toBe("\r\u001b[2K");
  });

  test("is refused with words that belong nowhere", async () => {
    await expect(run("please")).rejects.toThrow(new UsageError('simulate takes no words, got "please"'));
    await expect(run("--colour", "red")).rejects.toThrow(UsageError);
  });
});

describe("the picture", () => {
  test("is an SVG with a line and a name for each strategy, and the scene", async () => {
    const file = join(scratch, "latency.svg");
    const { code, out } = await run(...small, "--compare", "leastUsed,random", "--slow", "0:9", "--svg", file);
    expect([code, out.includes(file)]).toEqual([0, true]);
    const svg = readFileSync(file, "utf8");
    expect(svg.startsWith("<svg ")).toBe(true);
    for (const text of ["leastUsed", "random", "99 %", "milliseconds", "server 0 × 9", "seed 1"])
      expect(svg).toContain(text);
    expect(svg.match(/class="mark-line/g)).toHaveLength(2);
    expect(svg).not.toMatch(/NaN|Infinity|undefined/);
  });

  test("is drawn of any run, of no requests too", async () => {
    const draw = await drawLatency();
    const none = await simulate({ durationMs: 0.001 });
    for (const results of [new Map([["leastUsed", none]]), new Map<string, SimulationResult>()]) {
      const svg = await draw(results, { title: "nothing", timeoutMs: Infinity });
      expect(svg).not.toMatch(/NaN|Infinity|undefined/);
    }
  });

  test("is refused before anything is simulated when the package is not there, with what to do", async () => {
    const missing = (): Promise<never> =>
      Promise.reject(Object.assign(new Error("Cannot find package"), { code: "ERR_MODULE_NOT_FOUND" }));
    await expect(drawLatency(missing)).rejects.toThrow(
      new UsageError("--svg draws with the package vega, which is not here: npm install vega"),
    );
    const broken = (): Promise<never> => Promise.reject(new Error("broken"));
    await expect(drawLatency(broken)).rejects.toThrow("broken");
  });

  test("that cannot be written is said, in one line, and the exit code is 1", async () => {
    const { code, shown } = await run(...small, "--svg", join(scratch, "no", "such", "folder.svg"));
    expect(code).toBe(1);
    expect(shown.at(-1)).toMatch(/^poolwarden: the picture could not be written: .*\n$/);
  });
});
