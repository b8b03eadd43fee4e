/**
 * Peak EWMA, against its formula written down plainly: linear numbers, a clock read at each look. What failures weigh
 * in traffic is in failures.test.ts.
 */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { OptionError, peakEwma, type Strategy } from "../../../src/index.ts";
import { type VirtualRuntime, virtualRuntime } from "../../../src/sim/index.ts";
import { at, type Hand, hands, Service } from "./members.ts";

class Trial {
  readonly runtime: VirtualRuntime = virtualRuntime({ startMs: 5_000_000 });
  readonly strategy: Strategy<string>;
  readonly members: Hand[];

  constructor(count: number, options?: Parameters<typeof peakEwma>[0]) {
    this.strategy = peakEwma(options)<string>(this.runtime);
    this.members = hands(count);
  }

  get picked(): number {
    return this.strategy.pick(this.members, {}).slot;
  }

  /** The load of the first: what another may have answered in, just now, and still not be taken before it. */
  get load(): number {
    let [less, more] = [1e-3, 1e9];
    while (more / less > 1 + 1e-9) {
      const ms = Math.sqrt(less * more);
      const [other] = hands(1) as [Hand];
      this.strategy.finished?.(other, { ok: true, durationMs: ms });
      const picked = this.strategy.pick([at(this.members, 0), other], {});
      if (picked === other) less = ms;
      else more = ms;
    }
    return less;
  }

  ended(slot: number, durationMs: number, ok: boolean = true): void {
    this.strategy.finished?.(at(this.members, slot), { ok, durationMs });
  }

  busy(slot: number, inFlight: number): void {
    at(this.members, slot).inFlight = inFlight;
  }
}

describe("of two members", () => {
  test("the one with the lower latency times load is taken", () => {
    const trial = new Trial(2);
    trial.ended(0, 10);
    trial.ended(1, 31);
    for (const [inFlight, expected] of [
      [0, 0],
      [1, 0],
      [2, 0],
      [3, 1],
    ] as const) {
      trial.busy(0, inFlight);
      expect(trial.picked, `${inFlight} in flight`).toBe(expected);
    }
  });

  test("one of which nothing is known is tried first, and with one request at a time", () => {
    const trial = new Trial(2);
    trial.ended(0, 1);
    expect(trial.picked).toBe(1);
    trial.busy(1, 1);
    trial.busy(0, 1_000_000);
    expect(trial.picked).toBe(0);
    trial.busy(1, 0);
    trial.ended(1, 5);
    trial.busy(0, 0);
    expect(trial.picked).toBe(0);
  });

  test("of two of which nothing is known, the one with less in flight", () => {
    const trial = new Trial(2);
    trial.busy(0, 2);
    trial.busy(1, 1);
    for (let picks = 0; picks < 10; picks++) expect(trial.picked).toBe(1);
  });

  test("a latency that rises counts at once, one that falls only with time", async () => {
    const trial = new Trial(2);
    trial.ended(0, 10);
    trial.ended(1, 50);
    trial.ended(0, 100);
    expect(trial.picked).toBe(1);
    trial.ended(0, 10);
    expect(trial.picked).toBe(1);
    await trial.runtime.advance(10_000);
    trial.ended(0, 10); // 10 · (1 − 1/e) + 100 / e = 43.1
    trial.ended(1, 43);
    trial.ended(1, 43);
    expect(trial.picked).toBe(0); // 43 · (1 − 1/e) + 50 / e = 45.6
  });

  test("one that is not asked gets cheaper, to 37 % in decayMs", async () => {
    const trial = new Trial(2, { decayMs: 1_000 });
    trial.ended(0, 100);
    await trial.runtime.advance(1_000);
    trial.ended(1, 36);
    expect(trial.picked).toBe(1);
    trial.ended(1, 37);
    expect(trial.picked).toBe(0);
  });

  test("a failure counts as five seconds, and never as less than what the member costs already", () => {
    const trial = new Trial(2);
    trial.ended(0, 1, false);
    trial.ended(1, 4_999);
    expect(trial.picked).toBe(1);
    trial.ended(1, 5_001);
    expect(trial.picked).toBe(0);
    trial.ended(0, 60_000);
    trial.ended(0, 1, false);
    trial.ended(1, 59_999);
    expect(trial.picked).toBe(1);
  });

  test("an answer that took no time is an answer still", () => {
    const trial = new Trial(2);
    trial.ended(0, 0);
    trial.busy(0, 3);
    trial.ended(1, 1_000);
    expect(trial.picked).toBe(0);
  });
});

test("what a member costs is what the formula says, whatever it has answered and when", async () => {
  const step = fc.record({
    ms: fc.double({ min: 0.01, max: 2_000, noNaN: true }),
    ok: fc.boolean(),
    waitMs: fc.nat(9_000),
    inFlight: fc.nat(9),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 15 }), async (steps) => {
      const trial = new Trial(1);
      const now = (): number => trial.runtime.now();
      let cost = 0;
      let answeredAt = 0;
      for (const { ms, ok, waitMs, inFlight } of steps) {
        await trial.runtime.advance(waitMs);
        trial.ended(0, ms, ok);
        const w = Math.exp((answeredAt - now()) / 10_000);
        if (!ok) cost = Math.max(5_000, cost * w);
        else cost = ms > cost ? ms : ms * (1 - w) + cost * w;
        answeredAt = now();
        await trial.runtime.advance(700);
        trial.busy(0, inFlight);
        expect(trial.load / (cost * Math.exp(-0.07) * (inFlight + 1))).toBeCloseTo(1, 6);
      }
    }),
    { seed: 1, numRuns: 60 },
  );
});

test("over two random choices, the costliest of all is never taken; over all members the cheapest always is", () => {
  const two = new Trial(6);
  const all = new Trial(6, { fullScan: true });
  for (const trial of [two, all]) for (let slot = 0; slot < 6; slot++) trial.ended(slot, slot === 4 ? 5 : 10 + slot);
  const picked = new Set(Array.from({ length: 500 }, () => two.picked));
  expect([...picked].sort((a, b) => a - b)).toEqual([0, 1, 2, 3, 4]);
  expect(new Set(Array.from({ length: 50 }, () => all.picked))).toEqual(new Set([4]));
});

test("above 256 members, all are too many to look at", () => {
  const trial = new Trial(257, { fullScan: true });
  for (let slot = 0; slot < 257; slot++) trial.ended(slot, slot === 0 ? 1 : 10);
  expect(new Set(Array.from({ length: 50 }, () => trial.picked)).size).toBeGreaterThan(10);
});

test("one member alone is taken", () => {
  expect(new Trial(1).picked).toBe(0);
});

test.each([
  ["two choices", false],
  ["all members", true],
])("a member twice as slow as the others gets about half of what they get, over %s", async (_, fullScan) => {
  const service = new Service(peakEwma({ fullScan }), {
    members: hands(5),
    everyMs: 1,
    answer: ({ slot }) => ({ ok: true, ms: slot === 2 ? 40 : 20 }),
  });
  await service.runtime.advance(500);
  const share = await service.share(2, 2_000);
  expect(share).toBeGreaterThan(0.05);
  expect(share).toBeLessThan(0.15); // Half of what each of the others gets is 0.11; the + 1 in the load takes from that.
});

test.each([
  { decayMs: 0 },
  { decayMs: -1 },
  { decayMs: NaN },
  { decayMs: Infinity },
  { decayMs: "1" },
  { fullScan: 1 },
  { decay: 1 },
])("refuses %o at once", (options) => {
  expect(() => peakEwma(options as object)).toThrow(OptionError);
});
