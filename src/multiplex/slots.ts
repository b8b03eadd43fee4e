/**
 * Who waits for which answer.
 *
 * A `Map` from id to caller costs a hash, a probe and now and then a rehash a request. Here the id says itself where the
 * caller stands: its low 20 bits are a slot in an array, its high 12 bits are how often that slot has been used.
 *
 *      31          20 19                    0
 *     ┌──────────────┬───────────────────────┐
 *     │  generation  │          slot         │      generation is 1 to 4,095, so an id is never 0
 *     └──────────────┴───────────────────────┘
 *
 * So an answer that comes twice, or late, or to an id that was never given out, finds that slot in another generation
 * and is recognised; it never reaches the slot's next holder. Slots are given out in the order in which they became
 * free, the longest free first: an id comes back only after 4,095 times as many requests as there are free slots, a
 * million with the first 256.
 *
 * Promised: O(1) to take, find and free. Memory grows with the most that were ever in flight at once, and stays.
 */

const slotBits = 20;
const slotMask = 2 ** slotBits - 1;
const generation = 2 ** slotBits;

/** The most that one table can hold, in flight at once: 1,048,576. */
export const slotsMax: number = 2 ** slotBits;

/** Ids are 32 bits as a signed number, since V8 keeps those unboxed. `id >>> 0` is the number on the wire. */
export class Slots<T> {
  #items: (T | undefined)[] = [];
  /** The id a slot has given out last, or will give out next when it is free. */
  #ids: Int32Array = new Int32Array(0);
  /** For a free slot: the one that is given out after it. */
  #after: Int32Array = new Int32Array(0);
  #first = 0;
  #last = 0;
  #size = 0;

  /** How many are in flight. */
  get size(): number {
    return this.#size;
  }

  /** Puts an item into a free slot. Returns its id, or 0 when a million are in flight. */
  take(item: T): number {
    if (this.#size === this.#items.length && !this.#grow()) return 0;
    const slot = this.#first;
    this.#first = this.#after[slot] as number;
    this.#items[slot] = item;
    this.#size++;
    return this.#ids[slot] as number;
  }

  /** Takes out what stands under an id and frees the slot; `undefined` when nothing stands there. */
  free(id: number): T | undefined {
    const slot = id & slotMask;
    if (this.#ids[slot] !== id) return undefined; // Out of the array, too: `undefined` is no id.
    const item = this.#items[slot];
    if (item === undefined) return undefined;
    this.#items[slot] = undefined;
    const next = (id + generation) | 0;
    // From the last generation to the first, not to generation 0: slot 0 would have the id 0.
    this.#ids[slot] = next >>> slotBits === 0 ? generation | slot : next;
    // Slots are full when none is free: then there is no last one to stand behind.
    if (this.#size === this.#items.length) this.#first = slot;
    else this.#after[this.#last] = slot;
    this.#last = slot;
    this.#size--;
    return item;
  }

  /** Takes out everything, slot by slot. What is put in meanwhile stays. */
  takeAll(): T[] {
    const all: T[] = [];
    for (let slot = 0; slot < this.#items.length; slot++) {
      const item = this.#items[slot];
      if (item === undefined) continue;
      this.free(this.#ids[slot] as number);
      all.push(item);
    }
    return all;
  }

  /** Doubles the table. Called when it is full, so the new slots are all the free ones. */
  #grow(): boolean {
    const from = this.#items.length;
    if (from === slotsMax) return false;
    const to = Math.max(256, 2 * from);
    const ids = new Int32Array(to);
    const after = new Int32Array(to);
    ids.set(this.#ids);
    after.set(this.#after);
    for (let slot = from; slot < to; slot++) {
      ids[slot] = generation | slot;
      after[slot] = slot + 1;
      this.#items.push(undefined);
    }
    this.#ids = ids;
    this.#after = after;
    this.#first = from;
    this.#last = to - 1;
    return true;
  }
}
