/** Two at random, and the less used of them. What failures weigh is in failures.test.ts. */

import { expect, test } from "vitest";
import { powerOfTwo, type Member } from "../../../src/index.ts";
import { Dice } from "../../../src/runtime/index.ts";
import { virtualRuntime } from "../../../src/sim/index.ts";
import { at, hand, hands } from "./members.ts";

test("the two are different, and every pair comes as often as another", () => {
  const looked: number[] = [];
  const members = Array.from({ length: 5 }, (_, slot): Member<string> => {
    const { inFlight: _load, ...rest } = hand(slot);
    return {
      ...rest,
      get inFlight() {
        looked.push(slot);
        return 0;
      },
    };
  });
  const strategy = powerOfTwo()<string>(virtualRuntime());
  const pairs = new Map<string, number>();
  for (let picks = 0; picks < 20_000; picks++) {
    strategy.pick(members, {});
    const pair = looked.splice(0).join();
    pairs.set(pair, (pairs.get(pair) ?? 0) + 1);
  }
  expect(pairs.size).toBe(20);
  for (const slot of [0, 1, 2, 3, 4]) expect(pairs.has(`${slot},${slot}`)).toBe(false);
  const chiSquared = [...pairs.values()].reduce((sum, count) => sum + (count - 1_000) ** 2 / 1_000, 0);
  expect(chiSquared).toBeLessThan(64); // 19 degrees of freedom: p = 1e-6 at 63.
});

test("dice that leave one side out show each of the others as often", () => {
  const dice = new Dice(7);
  for (const sides of [2, 3, 10]) {
    for (let other = 0; other < sides; other++) {
      const counts = Array.from({ length: sides }, () => 0);
      for (let throws = 0; throws < 1_000 * (sides - 1); throws++) {
        const side = dice.another(sides, other);
        counts[side] = at(counts, side) + 1;
      }
      expect(counts.splice(other, 1)).toEqual([0]);
      for (const count of counts) expect(Math.abs(count - 1_000)).toBeLessThan(5 * Math.sqrt(1_000));
    }
  }
});

test("the fuller of the two is never taken, so the fullest of all gets nothing", () => {
  const members = hands(8, (slot) => ({ inFlight: slot === 5 ? 2 : 1 }));
  const strategy = powerOfTwo()<string>(virtualRuntime());
  const picked = new Set(Array.from({ length: 2_000 }, () => strategy.pick(members, {}).slot));
  expect([...picked].sort((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 6, 7]);
});

test("one member alone is taken, and of two the emptier always", () => {
  const strategy = powerOfTwo()<string>(virtualRuntime());
  const [full, empty] = [hand(0, { inFlight: 4 }), hand(1, { inFlight: 3 })];
  expect(strategy.pick([full], {})).toBe(full);
  for (let picks = 0; picks < 100; picks++) expect(strategy.pick([full, empty], {})).toBe(empty);
});

test("a thousand requests over a thousand members: nobody has more than log log n and a little", () => {
  const members = hands(1_000);
  const strategy = powerOfTwo()<string>(virtualRuntime());
  for (let requests = 0; requests < 1_000; requests++) at(members, strategy.pick(members, {}).slot).inFlight++;
  expect(Math.max(...members.map(({ inFlight }) => inFlight))).toBeLessThanOrEqual(4); // At random it is 5 to 7.
});
