/**
 * What a choice costs: `Router.pick`, by strategy and number of members.
 *
 * The members have loads as they are under traffic (0 to 7 in flight, ties among them). CPU time a pick, medians of
 * rounds; and the bytes allocated a pick, which must be none.
 *
 *     npm run bench
 */
import {
  leastUsed,
  Process,
  Registry,
  Router,
  random,
  roundRobin,
  type StrategyLike,
  strictRoundRobin,
} from "poolwarden";

const rounds = 9;
const strategies: Record<string, () => StrategyLike<number>> = { random, roundRobin, strictRoundRobin, leastUsed };

/** What was picked goes somewhere, or there would be nothing to measure. */
let sink = 0;

console.log(`Node ${process.version}; Router.pick, medians of ${rounds} rounds\n`);
console.log(["strategy".padEnd(18), "members".padStart(8), "ns/pick".padStart(10), "bytes/pick".padStart(12)].join(""));
for (const [name, make] of Object.entries(strategies)) {
  for (const size of [10, 100, 1_000, 10_000]) {
    const { router, end } = await routerOver(size, make());
    const picks = size > 256 && name === "leastUsed" ? 500_000 : 2_000_000;
    run(router, picks); // Warm.
    const ns: number[] = [];
    for (let round = 0; round < rounds; round++) {
      const cpu = process.cpuUsage();
      run(router, picks);
      const { user, system } = process.cpuUsage(cpu);
      ns.push(((user + system) * 1_000) / picks);
    }
    globalThis.gc?.();
    const before = process.memoryUsage().heapUsed;
    run(router, 200_000);
    const bytes = Math.max(0, process.memoryUsage().heapUsed - before) / 200_000;
    console.log(
      [
        name.padEnd(18),
        String(size).padStart(8),
        median(ns).toFixed(1).padStart(10),
        bytes.toFixed(2).padStart(12),
      ].join(""),
    );
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
  // Works that never end: what is in flight is spread as the strategy spreads it.
  for (let n = 0; n < size * 3.5; n++) void router.use(() => new Promise<never>(() => undefined));
  return { router, end: () => registry.close() };
}

function run(router: Router<string, number>, picks: number): void {
  for (let n = 0; n < picks; n++) sink ^= router.pick().value;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[(sorted.length - 1) >> 1] as number;
}
