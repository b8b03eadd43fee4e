/** Slots against a `Map` that never forgets an id, and at their edges: the last generation, the last slot. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Slots, slotsMax } from "../../src/multiplex/slots.ts";

interface Item {
  readonly n: number;
}

/** A table in which all places but one are taken, and the one that is left. */
function withOneFree(slot: number): Slots<Item> {
  const slots = new Slots<Item>();
  const ids = Array.from({ length: 256 }, (_, n) => slots.take({ n }));
  slots.free(ids[slot] as number);
  return slots;
}

type Step = { take: number } | { free: number } | { again: number } | { stranger: number } | "takeAll";

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ take: fc.integer({ min: 1, max: 300 }) }) },
  { weight: 8, arbitrary: fc.record({ free: fc.nat() }) },
  { weight: 2, arbitrary: fc.record({ again: fc.nat() }) },
  { weight: 2, arbitrary: fc.record({ stranger: fc.integer() }) },
  { weight: 1, arbitrary: fc.constant<Step>("takeAll") },
);

describe("slots", () => {
  test("hold what a map would hold, whatever is taken, freed, freed again or never was there", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
        const slots = new Slots<Item>();
        const model = new Map<number, Item>();
        const past: number[] = [];
        let n = 0;
        for (const each of steps) {
          if (each === "takeAll") {
            const all = slots.takeAll();
            expect(new Set(all)).toEqual(new Set(model.values()));
            expect(all).toHaveLength(model.size);
            past.push(...model.keys());
            model.clear();
          } else if ("take" in each) {
            for (let left = each.take; left > 0; left--) {
              const item = { n: n++ };
              const id = slots.take(item);
              if (id === 0 || id !== (id | 0) || model.has(id)) throw new Error(`${id} is no id, or is in use`);
              model.set(id, item);
            }
          } else if ("free" in each) {
            const ids = [...model.keys()];
            // Many at a time, so that the table is empty now and then.
            for (const id of ids.slice(each.free % (ids.length + 1))) {
              expect(slots.free(id)).toBe(model.get(id));
              model.delete(id);
              past.push(id);
            }
          } else {
            const id = "stranger" in each ? each.stranger : (past[each.again % (past.length || 1)] ?? 0);
            if (!model.has(id)) expect(slots.free(id)).toBeUndefined();
          }
          expect(slots.size).toBe(model.size);
        }
      }),
      { numRuns: 200 },
    );
  });

  test("find nothing under an id that has been freed, although its place has a new holder", () => {
    const slots = withOneFree(17);
    const first = slots.take({ n: 1 });
    slots.free(first);
    const second = slots.take({ n: 2 });
    expect(first & 0xf_ffff).toBe(second & 0xf_ffff);
    expect(slots.free(first)).toBeUndefined();
    expect(slots.free(second)).toEqual({ n: 2 });
    expect(slots.free(second)).toBeUndefined();
    expect(slots.size).toBe(255);
  });

  test("find nothing in an empty table, under 0 or beyond the last place", () => {
    const empty = new Slots<Item>();
    for (const id of [0, 1, -1, 2 ** 20, 0x7fff_ffff, -0x8000_0000]) expect(empty.free(id)).toBeUndefined();
    expect(empty.takeAll()).toEqual([]);
    const slots = withOneFree(0);
    for (const id of [0, (1 << 20) | 256, (1 << 20) | 0xf_ffff]) expect(slots.free(id)).toBeUndefined();
    expect(slots.size).toBe(255);
  });

  test("give out the place that has been free the longest", () => {
    const slots = new Slots<Item>();
    const ids = Array.from({ length: 256 }, (_, n) => slots.take({ n }));
    const order = [200, 3, 77, 255, 0];
    for (const slot of order) slots.free(ids[slot] as number);
    expect(order.map((n) => slots.take({ n }) & 0xf_ffff)).toEqual(order);
  });

  test.each([0, 1, 255])("bring an id back only after 4,095 others in its place, and never 0 (place %i)", (slot) => {
    const slots = withOneFree(slot);
    const seen = new Set<number>();
    const cycle: number[] = [];
    for (let n = 0; n < 2 * 4_095; n++) {
      const id = slots.take({ n });
      expect(slots.free(id)).toEqual({ n });
      if (n < 4_095) cycle.push(id);
      else if (cycle[n - 4_095] !== id) throw new Error(`the id ${n} is ${id}, not that of 4,095 before`);
      seen.add(id >>> 0);
    }
    expect(seen.size).toBe(4_095);
    expect(seen.has(0)).toBe(false);
    expect(slots.size).toBe(255);
  });

  test("bring an id back after a million requests, one at a time, as long as they have their first 256 places", () => {
    const slots = new Slots<Item>();
    const item = { n: 0 };
    const first = slots.take(item);
    slots.free(first);
    let requests = 1;
    for (let id = 0; id !== first; requests++) {
      id = slots.take(item);
      slots.free(id);
    }
    expect(requests - 1).toBe(4_095 * 256);
  });

  test("grow when they are full, and lose nobody by it", () => {
    const slots = new Slots<Item>();
    const ids = Array.from({ length: 5_000 }, (_, n) => slots.take({ n }));
    expect(new Set(ids).size).toBe(5_000);
    for (let n = 4_999; n >= 0; n--) expect(slots.free(ids[n] as number)).toEqual({ n });
    expect(slots.size).toBe(0);
  });

  test("take everybody out place by place, and are as new afterwards", () => {
    const slots = new Slots<Item>();
    const ids = Array.from({ length: 300 }, (_, n) => slots.take({ n }));
    for (const n of [0, 150, 299]) slots.free(ids[n] as number);
    const left = Array.from({ length: 300 }, (_, n) => ({ n })).filter(({ n }) => ![0, 150, 299].includes(n));
    expect(slots.takeAll()).toEqual(left);
    expect(slots.size).toBe(0);
    for (const id of ids) expect(slots.free(id)).toBeUndefined();
    const again = Array.from({ length: 600 }, (_, n) => slots.take({ n }));
    expect(new Set([...again, ...ids]).size).toBe(900);
  });

  test("hold a million, refuse the next with 0, and have room again when one is freed", () => {
    const slots = new Slots<Item>();
    const item = { n: 0 };
    const places = new Uint8Array(slotsMax);
    for (let n = 0; n < slotsMax; n++) places[slots.take(item) & (slotsMax - 1)]!++;
    expect(places.every((times) => times === 1)).toBe(true);
    expect(slots.size).toBe(slotsMax);
    expect(slots.take(item)).toBe(0);
    const freed = (1 << 20) | 123_456;
    expect(slots.free(freed)).toBe(item);
    expect(slots.take({ n: 1 })).toBe((2 << 20) | 123_456);
    expect(slots.take(item)).toBe(0);
    expect(slots.takeAll()).toHaveLength(slotsMax);
    expect(slots.size).toBe(0);
  });
});
