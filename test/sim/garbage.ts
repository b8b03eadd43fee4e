/** Collects garbage now, so that a test can tell what is still held. */

import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { virtualRuntime } from "../../src/sim/index.ts";

setFlagsFromString("--expose-gc");
const gc = runInNewContext("gc") as () => void;

/** How many of these are still held by somebody. */
export async function alive(refs: readonly WeakRef<object>[]): Promise<number> {
  for (let times = 0; times < 3; times++) {
    await virtualRuntime().settle(); // A reference just read counts as held until the turn is over.
    gc();
  }
  return refs.filter((ref) => ref.deref() !== undefined).length;
}
