/**
 * `poolwarden simulate`: which strategy, under what? The real pool over simulated servers, in virtual time.
 *
 * Prints what callers saw and who was sent what, a row for each strategy. With `--svg` it also draws how latencies are
 * distributed; that takes the package `vega`, which is loaded only then and need not be there otherwise.
 */

import { writeFileSync } from "node:fs";
import { type Fault, type SimulationResult, simulate } from "../sim/index.ts";
import { drawLatency } from "./picture.ts";
import { describeScene, readScene, readStrategies, type Scene, sceneFlags } from "./scene.ts";
import { type Output, Screen } from "./screen.ts";
import { strategies, type StrategyName } from "./strategies.ts";
import { grouped, table } from "./table.ts";
import { parse, textFlag, UsageError } from "./usage.ts";

/** Members that are still shown one by one. */
const mostMembers = 8;
const showEveryMs = 100;

export interface Outputs {
  readonly out: Output;
  /** Where it says how far it is. */
  readonly err: Output;
}

type Results = ReadonlyMap<string, SimulationResult>;

export async function simulation(
  args: readonly string[],
  { out, err }: Outputs = { out: process.stdout, err: process.stderr },
): Promise<number> {
  const given = parse(args, { ...sceneFlags, svg: "text", json: "switch" });
  if (given.words.length > 0)
    throw new UsageError(`simulate takes no words, got ${JSON.stringify(given.words.join(" "))}`);
  const scene = readScene(given);
  const names = readStrategies(given);
  const json = given.flags.has("json");
  const file = given.flags.has("svg") ? textFlag(given, "svg", "") : undefined;
  const draw = file === undefined ? undefined : await drawLatency();
  const results = await runAll(names, scene, new Screen(err, { term: process.env["TERM"] }));
  const title = describeScene(scene);
  if (draw !== undefined && file !== undefined) {
    const svg = await draw(results, { title, timeoutMs: scene.timeoutMs });
    try {
      writeFileSync(file, svg);
    } catch (error) {
      err.write(`poolwarden: the picture could not be written: ${(error as Error).message}\n`);
      return 1;
    }
  }
  out.write(
    json ? `${JSON.stringify(asRecord(title, results), undefined, 2)}\n` : inWords(title, results, scene.faults),
  );
  if (file !== undefined && !json) out.write(`\nThe distribution of latencies is drawn in ${file}.\n`);
  return 0;
}

async function runAll(names: readonly StrategyName[], scene: Scene, screen: Screen): Promise<Results> {
  const results = new Map<string, SimulationResult>();
  for (const name of names) {
    let shownAt = performance.now();
    const result = await simulate({
      ...scene,
      strategy: strategies[name](),
      onProgress: ({ simulatedMs, durationMs, requests }) => {
        if (performance.now() - shownAt < showEveryMs) return;
        shownAt = performance.now();
        const percent = Math.floor((100 * simulatedMs) / durationMs);
        screen.show(`${name}: ${percent} %, ${grouped(requests)} requests`);
      },
    });
    results.set(name, result);
  }
  screen.clear();
  return results;
}

function inWords(title: string, results: Results, faults: readonly Fault[]): string {
  return `${[title, callersTable(results), membersTable(results, faults)].join("\n\n")}\n`;
}

/** What callers saw: a row a strategy, and a column for each thing that one of them was told instead of an answer. */
function callersTable(results: Results): string {
  const codes = [...new Set([...results.values()].flatMap(({ failures }) => Object.keys(failures)))].sort();
  const heading = [
    "strategy",
    "requests",
    "failed %",
    "p50 ms",
    "p90 ms",
    "p99 ms",
    "p99.9 ms",
    "max ms",
    "attempts",
    ...codes,
  ];
  const rows = [...results].map(([name, result]) => {
    const { latencyMs, requests, failed, failures, attemptsPerRequest } = result;
    const percentiles = [latencyMs.p50, latencyMs.p90, latencyMs.p99, latencyMs.p999, latencyMs.max];
    return [
      name,
      grouped(requests),
      requests === 0 ? "0" : ((100 * failed) / requests).toFixed(3),
      ...percentiles.map((ms) => ms.toFixed(1)),
      attemptsPerRequest.toFixed(3),
      ...codes.map((code) => grouped(failures[code] ?? 0)),
    ];
  });
  return table([heading, ...rows]);
}

/** Who was sent what, in per cent: a column a strategy. Of many, those with a fault of their own, and how the rest lie. */
function membersTable(results: Results, faults: readonly Fault[]): string {
  const shares = [...results.values()].map(({ members }) => members.map(({ share }) => 100 * share));
  const heading = ["share of requests, %", ...results.keys()];
  const all = (shares[0] as number[]).map((_, member) => member);
  const named = new Set(faults.map((fault) => ("member" in fault ? fault.member : "all")));
  const shown = all.length <= mostMembers ? all : all.filter((member) => named.has(member)).slice(0, mostMembers);
  const rows = shown.map((member) => [
    `server ${member}`,
    ...shares.map((each) => (each[member] as number).toFixed(2)),
  ]);
  if (shown.length === all.length) return table([heading, ...rows]);
  const rest = shares.map((each) => each.filter((_, member) => !shown.includes(member)).sort((a, b) => a - b));
  const others = shown.length === 0 ? "a server" : "another";
  const row = (name: string, at: number): string[] => [name, ...rest.map((each) => (each.at(at) as number).toFixed(2))];
  return table([heading, ...rows, row(`${others}, at least`, 0), row(`${others}, at most`, -1)]);
}

/** The same for programs. */
function asRecord(title: string, results: Results): object {
  return { scene: title, strategies: Object.fromEntries(results) };
}
