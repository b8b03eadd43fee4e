/**
 * A seeded generator: the same seed, the same numbers, on every machine.
 *
 * Mulberry32 (Tommy Ettinger): one 32-bit word of state, 2³² numbers before it repeats, good enough to choose members
 * and faults by. Not for secrets.
 */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
