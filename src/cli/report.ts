/**
 * What a run of the demo has shown: whether it was in order, a table, and the tree.
 */

import type { ProcessTree } from "../pool/index.ts";
import type { PoolStats } from "../telemetry/index.ts";
import type { Phase } from "./callers.ts";
import { grouped, table } from "./table.ts";

/** The callers' book: requests begun, and of them those that settled, got an answer, and got a wrong one. */
export interface Book {
  readonly begun: number;
  readonly settled: number;
  readonly answered: number;
  readonly wrong: number;
}

/** What a run is judged by. */
export interface Run {
  readonly callers: Book;
  /** The pool's, before the first request, after the last, and when it was closed. */
  readonly before: PoolStats;
  readonly after: PoolStats;
  readonly closed: PoolStats;
}

/** What was not in order, in words. Nothing, if every request settled exactly once and rightly, and nothing is left. */
export function faults({ callers, before, after, closed }: Run): string[] {
  const found: string[] = [];
  const say = (wrong: boolean, what: string): void => {
    if (wrong) found.push(what);
  };
  const { begun, settled, answered, wrong } = callers;
  say(settled < begun, `${grouped(begun - settled)} requests never settled`);
  say(wrong > 0, `${grouped(wrong)} requests were answered wrongly`);
  // A promise shows only the first time it is settled. The pool counts each time.
  const { succeeded, failed, timedOut, rejected, shed } = after.totals;
  const inPool = succeeded + failed + timedOut + rejected + shed;
  say(
    inPool !== settled || succeeded !== answered,
    `not every request settled exactly once: the callers saw ${grouped(settled)} settle, ${grouped(answered)} of them ` +
      `with an answer, and the pool has settled ${grouped(inPool)}, ${grouped(succeeded)} of them with an answer`,
  );
  for (const gauge of gauges) {
    say(
      after[gauge] !== before[gauge],
      `the pool's "${gauge}" was ${before[gauge]} before and is ${after[gauge]} after`,
    );
  }
  const { opened, closed: done } = closed.totals;
  say(opened !== done, `${grouped(opened)} connections were opened and ${grouped(done)} closed`);
  return found;
}

/** When nothing goes on, these are what they were at the start. */
const gauges = [
  "size",
  "ready",
  "opening",
  "waitingToReopen",
  "draining",
  "fatal",
  "ejected",
  "idle",
  "used",
  "inFlight",
  "waiting",
] as const;

/** What is told of a run. */
export interface Result {
  readonly faults: readonly string[];
  readonly requests: Book;
  readonly phases: readonly Phase[];
  /** Drawn. */
  readonly tree: string;
}

/** For people, on 80 columns. */
export function inWords({ faults: found, requests, phases, tree }: Result): string {
  const verdict =
    found.length > 0
      ? `NOT in order: ${found.join(";\n")}.`
      : `In order: ${grouped(requests.begun)} requests, those of the warm-up included.\n` +
        `Each settled exactly once, none was answered wrongly, nothing is left behind.`;
  return `
${phaseTable(phases)}

${legend}

The supervision tree at the end. The numbers count processes as they start.

${tree}

${verdict}`;
}

/** For programs. */
export function asRecord({ faults: found, requests, phases, tree }: Result): object {
  return { ok: found.length === 0, faults: found, requests, phases: phases.map(phaseRecord), tree: tree.split("\n") };
}

/** One column a phase: side by side they can be compared. */
function phaseTable(phases: readonly Phase[]): string {
  const row = (name: string, cell: (phase: Phase) => string): string[] => [name, ...phases.map(cell)];
  const failures = new Set(phases.flatMap((phase) => [...phase.failures.keys()]));
  return table([
    row("phase", (phase) => phase.name),
    row("requests", (phase) => grouped(phase.settled)),
    row("requests/s", (phase) => grouped(phase.perSecond)),
    row("p50 ms", (phase) => milliseconds(phase.latencyMs(50))),
    row("p99 ms", (phase) => milliseconds(phase.latencyMs(99))),
    row("slowest ms", (phase) => milliseconds(phase.slowestMs)),
    row("re-routed", (phase) => grouped(phase.rerouted)),
    row("failed", (phase) => grouped(phase.failed)),
    ...[...failures].map((code) => row(`  ${code}`, (phase) => grouped(phase.failures.get(code) ?? 0))),
    row("reconnects", (phase) => grouped(phase.reconnects)),
    row("restarts", (phase) => grouped(phase.restarts)),
  ]);
}

const legend = `\
re-routed   sent again over another connection: the first went away before the
            answer came
reconnects  connections opened anew: their server was gone, or had said goodbye
restarts    processes of the tree that crashed and were put back: losing its
            server does not crash a connection, it waits and opens again`;

function phaseRecord(phase: Phase): object {
  return {
    phase: phase.name,
    seconds: rounded(phase.seconds),
    requests: phase.settled,
    requestsPerSecond: Math.round(phase.perSecond),
    p50Ms: rounded(phase.latencyMs(50)),
    p99Ms: rounded(phase.latencyMs(99)),
    slowestMs: rounded(phase.slowestMs),
    answered: phase.answered,
    wrong: phase.wrong,
    rerouted: phase.rerouted,
    failed: phase.failed,
    failures: Object.fromEntries(phase.failures),
    reconnects: phase.reconnects,
    restarts: phase.restarts,
  };
}

/** The tree with its connections in the order of their numbers; as it is, they stand in the order of their start. */
export function inOrder(tree: ProcessTree): ProcessTree {
  const numbered = tree.children.every(({ id }) => /^connection \d+$/.test(id));
  const children = tree.children.map(inOrder);
  if (numbered) children.sort((a, b) => a.id.localeCompare(b.id, "en", { numeric: true }));
  return { ...tree, children };
}

function milliseconds(ms: number): string {
  return ms < 100 ? ms.toFixed(2) : grouped(ms);
}

function rounded(value: number): number {
  return Math.round(value * 1_000) / 1_000;
}
