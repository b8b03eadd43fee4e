/**
 * A member that fails in a millisecond, under the strategies that look for the least: it has next to nothing in flight,
 * so it looks free. Ten members, of which one fails; the others take 30 ms on average.
 */

import { describe, expect, test } from "vitest";
import { leastUsed, peakEwma, powerOfTwo, random, type Strategy, type StrategyFactory } from "../../../src/index.ts";
import { type VirtualRuntime, virtualRuntime } from "../../../src/sim/index.ts";
import { at, type Hand, hand, hands, Service } from "./members.ts";

const wary: [string, StrategyFactory][] = [
  ["leastUsed", leastUsed()],
  ["powerOfTwo", powerOfTwo()],
  ["peakEwma", peakEwma()],
  ["peakEwma over all", peakEwma({ fullScan: true })],
];
/** In flight on each of the others, on average: 0.3, 1.7 and 3.3. */
const loads = [
  { traffic: "little", everyMs: 10 },
  { traffic: "medium", everyMs: 2 },
  { traffic: "heavy", everyMs: 1 },
];

/** One fails in 1 ms for as long as `sick` says so. */
function serviceOf(factory: StrategyFactory, everyMs: number, sick: () => boolean = () => true): Service {
  return new Service(factory, {
    members: hands(10),
    everyMs,
    answer: ({ slot }, service) => (slot === 3 && sick() ? { ok: false, ms: 1 } : { ok: true, ms: service.spread(30) }),
  });
}

describe.each(wary)("%s", (_, factory) => {
  test.each(loads)(
    "sends a hundredth of $traffic traffic, or less, to a member that fails at once",
    async ({ everyMs }) => {
      const service = serviceOf(factory, everyMs);
      await service.runtime.advance(1_000);
      expect(await service.share(3, 3_000)).toBeLessThanOrEqual(0.01);
    },
  );

  test("comes back to a member that has recovered", async () => {
    let sick = true;
    const service = serviceOf(factory, 2, () => sick);
    await service.runtime.advance(2_000);
    sick = false;
    // A failure is forgotten by e in ten seconds at the slowest, and counts 170 times what an answer does: ln 170 is 5.
    await service.runtime.advance(60_000);
    expect(await service.share(3, 5_000)).toBeGreaterThan(0.05);
  });

  test("does not mind failures that all members have alike", async () => {
    const service = new Service(factory, {
      members: hands(4),
      everyMs: 4,
      answer: (__, at) => ({ ok: at.runtime.random() > 0.1, ms: at.spread(30) }),
    });
    await service.runtime.advance(2_000);
    const shares = [];
    for (let slot = 0; slot < 4; slot++) shares.push(await service.share(slot, 5_000));
    expect(Math.min(...shares)).toBeGreaterThan(0.1);
    expect(Math.max(...shares)).toBeLessThan(0.4);
  });
});

test("a strategy that knows of no failures sends it its share: what the others are measured against", async () => {
  const service = serviceOf(random(), 1);
  await service.runtime.advance(1_000);
  expect(await service.share(3, 3_000)).toBeGreaterThan(0.08);
});

describe.each([
  ["leastUsed", leastUsed()],
  ["powerOfTwo", powerOfTwo()],
] as [string, StrategyFactory][])("to %s", (_, factory) => {
  class Pair {
    readonly runtime: VirtualRuntime = virtualRuntime();
    readonly strategy: Strategy<string> = factory<string>(this.runtime);
    readonly failing: Hand = hand(0);
    readonly other: Hand = hand(1);

    ends(ok: boolean, durationMs: number = 1): void {
      this.strategy.finished?.(this.failing, { ok, durationMs, endedAt: this.runtime.now() });
    }

    /** How many the other must have in flight for the failing one to be chosen. */
    weight(): number {
      for (let inFlight = 0; ; inFlight++) {
        this.other.inFlight = inFlight;
        const picks = Array.from({ length: 20 }, () => this.strategy.pick([this.failing, this.other], {}));
        if (picks.every((picked) => picked === this.failing)) return inFlight;
      }
    }
  }

  test("one failure weighs nothing against a request in flight", () => {
    const pair = new Pair();
    pair.ends(false);
    expect(pair.weight()).toBe(1);
  });

  test("each failure in a row after the first weighs as a request in flight", () => {
    const pair = new Pair();
    for (let failures = 0; failures < 6; failures++) pair.ends(false);
    expect(pair.weight()).toBe(6); // Five more than none: it takes six to be more.
  });

  test("failures weigh for five seconds, one with another", async () => {
    const pair = new Pair();
    for (let failures = 0; failures < 6; failures++) pair.ends(false);
    await pair.runtime.advance(5_000 * Math.log(6 / 3.5)); // Of the six, three and a half are left.
    expect(pair.weight()).toBe(3);
    await pair.runtime.advance(5_000 * Math.log(3.5)); // One is left, and one weighs nothing.
    await pair.runtime.advance(1);
    expect(pair.weight()).toBe(1);
  });

  test("a success makes up for all of them", () => {
    const pair = new Pair();
    for (let failures = 0; failures < 6; failures++) pair.ends(false);
    pair.ends(true);
    expect(pair.weight()).toBe(1);
  });

  test("a member that leaves and comes back comes back without them", () => {
    const pair = new Pair();
    for (let failures = 0; failures < 6; failures++) pair.ends(false);
    pair.strategy.left?.(pair.failing);
    expect(pair.weight()).toBe(1);
  });

  test("when all fail alike, the fewest in flight is chosen still", () => {
    const pair = new Pair();
    for (let failures = 0; failures < 6; failures++) {
      for (const member of [pair.failing, pair.other]) pair.strategy.finished?.(member, { ok: false, durationMs: 1 });
    }
    pair.failing.inFlight = 3;
    pair.other.inFlight = 2;
    expect(pair.strategy.pick([pair.failing, pair.other], {})).toBe(pair.other);
  });
});

test("leastUsed finds the least burdened of those it looks at, around the end too", () => {
  const strategy = leastUsed()<string>(virtualRuntime());
  // The first 50 are busy, so that any 64 together hold others. Of those a seventh fails, and a seventh has two in flight.
  const members = hands(300, (slot) => ({ inFlight: slot < 50 ? 9 : at([0, 9, 9, 2, 9, 9, 9], slot % 7) }));
  for (const member of members.filter(({ inFlight }) => inFlight === 0)) {
    for (let failures = 0; failures < 5; failures++) {
      strategy.finished?.(member, { ok: false, durationMs: 1, endedAt: 0 });
    }
  }
  for (let picks = 0; picks < 50; picks++) expect(strategy.pick(members, {}).inFlight).toBe(2);
});
