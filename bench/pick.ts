/**
 * What a choice costs: `Router.pick`, by strategy and number of members.
 *
 * The members have loads as they are under traffic (0 to 7 in flight, ties among them) and have answered before, so that
 * a strategy that remembers has something to remember; requests have keys. CPU time a pick, medians of rounds; and the
 * bytes allocated a pick, which must be none. All picks of a round are one turn of the event loop: `perTick` asks its
 * strategy once in as many as its limit says.
 *
 *     npm run bench            [--only leastUsed] [--rounds 9]
 */
import { parseArgs } from "node:util";
import {
  leastUsed,
  peakEwma,
  perTick,
  powerOfTwo,
  Process,
  Registry,
  type RouteRequest,
  Router,
  random,
  rendezvous,
  roundRobin,
  type StrategyLike,
  strictRoundRobin,
  weighted,
} from "poolwarden";

const { values: flags } = parseArgs({ options: { rounds: { type: "string" }, only: { type: "string" } } });
const rounds = Number(flags.rounds ?? 9);
/** How long a round takes, about. A strategy that looks at every member gets fewer picks. */
const roundMs = 50;
const strategies: Record<string, () => StrategyLike<number>> = {
  random,
  roundRobin,
  strictRoundRobin,
  leastUsed,
  powerOfTwo,
  peakEwma,
  weighted: () => weighted(),
  "weighted(weightOf)": () => weighted<number>((member) => 1 + (member.slot % 5)),
  rendezvous,
  "perTick(random)": () => perTick(random()),
  "perTick(leastUsed)": () => perTick(leastUsed()),
};
const requests: readonly RouteRequest[] = Array.from({ length: 1_024 }, (_, n) => ({ key: `key ${n}` }));

/** What was picked goes somewhere, or there would be nothing to measure. */
let sink = 0;

console.log(`Node ${process.version}; Router.pick, medians of ${rounds} rounds\n`);
print(["strategy", "members", "ns/pick", "bytes/pick"]);
for (const [name, make] of Object.entries(strategies)) {
  if (flags.only !== undefined && name !== flags.only) continue;
  for (const size of [10, 100, 1_000, 10_000]) {
    const { router, end } = await routerOver(size, make());
    const keyed = name === "rendezvous";
    const picks = picksIn(roundMs, router, keyed);
    const ns: number[] = [];
    for (let round = 0; round < rounds; round++) {
      const cpu = process.cpuUsage();
      run(router, picks, keyed);
      const { user, system } = process.cpuUsage(cpu);
      ns.push(((user + system) * 1_000) / picks);
    }
    const bytes = bytesOf(Math.min(Math.max(picks, 20_000), 200_000), router, keyed);
    print([name, String(size), median(ns).toFixed(1), bytes.toFixed(2)]);
    await end();
  }
}
console.log(
  "\nBars: random and roundRobin ≤ 60 ns at any size; leastUsed ≤ 60 ns at 10, ≤ 500 ns at 100, ≤ 1,000 ns at 10,000.",
);

async function routerOver(
  size: number,
  strategy: StrategyLike<number>,
): Promise<{ router: Router<string, number>; end: () => Promise<void> }> {
  const registry = await Registry.start<string, number>({ keys: "duplicate" });
  for (let n = 0; n < size; n++) registry.register(await Process.start({ init: () => n }), "members", n);
  const router = new Router(registry, "members", strategy);
  for (let n = 0; n < size; n++) await router.use(() => undefined, requests[n % requests.length]);
  // Works that never end: what is in flight is spread as the strategy spreads it.
  for (let n = 0; n < size * 3.5; n++) {
    void router.use(() => new Promise<never>(() => undefined), requests[n % requests.length]);
  }
  return { router, end: () => registry.close() };
}

/** How many picks take so long. Warms the pick up on the way. */
function picksIn(ms: number, router: Router<string, number>, keyed: boolean): number {
  for (let picks = 1_000; ; picks *= 2) {
    const startedAt = performance.now();
    run(router, picks, keyed);
    if (performance.now() - startedAt >= ms) return picks;
  }
}

function run(router: Router<string, number>, picks: number, keyed: boolean): void {
  if (keyed) for (let n = 0; n < picks; n++) sink ^= router.pick(requests[n & 1_023]).value;
  else for (let n = 0; n < picks; n++) sink ^= router.pick().value;
}

/** The least of three times: what the program allocates once, to run at all, is not a pick's. */
function bytesOf(picks: number, router: Router<string, number>, keyed: boolean): number {
  const seen = [1, 2, 3].map(() => {
    globalThis.gc?.();
    const before = process.memoryUsage().heapUsed;
    run(router, picks, keyed);
    return Math.max(0, process.memoryUsage().heapUsed - before) / picks;
  });
  return Math.min(...seen);
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[(sorted.length - 1) >> 1] as number;
}

function print([name = "", ...figures]: readonly string[]): void {
  console.log(name.padEnd(20) + figures.map((figure) => figure.padStart(12)).join(""));
}
