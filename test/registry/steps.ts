/**
 * What something costs, in steps.
 *
 * Time cannot be asserted without sleeping or luck. So while a probe is in place, every step of an iterator and every
 * element that an array method walks over is counted. It does not see what V8 does by itself (growing a table, say).
 */

const walks = [
  "filter",
  "map",
  "flatMap",
  "forEach",
  "indexOf",
  "includes",
  "find",
  "findIndex",
  "some",
  "every",
] as const;
const moves = ["splice", "slice", "concat", "shift", "unshift", "sort", "reverse", "join"] as const;

/** The steps that `act` takes. What it counts with is taken out again before this returns. */
export function steps(act: () => void): number {
  let counted = 0;
  const restore: (() => void)[] = [];
  const replace = (on: object, name: string, by: (original: (...args: unknown[]) => unknown) => unknown): void => {
    const original = Reflect.get(on, name) as (...args: unknown[]) => unknown;
    Reflect.set(on, name, by(original));
    restore.push(() => Reflect.set(on, name, original));
  };
  for (const sample of [[], new Set(), new Map()]) {
    replace(Object.getPrototypeOf(sample[Symbol.iterator]()), "next", (next) => {
      return function (this: unknown) {
        counted++;
        return Reflect.apply(next, this, []);
      };
    });
  }
  for (const name of [...walks, ...moves]) {
    replace(Array.prototype, name, (method) => {
      return function (this: unknown[], ...args: unknown[]) {
        counted += this.length;
        return Reflect.apply(method, this, args);
      };
    });
  }
  counted = 0;
  try {
    act();
    return counted;
  } finally {
    for (const undo of restore) undo();
  }
}
