/**
 * Step 4: a better choice than any. `Router` joins a registry and a strategy; here round robin, and what the article
 * names as its flaw, mended: `strictRoundRobin` hits each member exactly once a cycle, whoever joins or leaves.
 */
import assert from "node:assert/strict";
import { Process, Registry, Router, roundRobin, strictRoundRobin } from "poolwarden";

const registry = await Registry.start<string, string>({ keys: "duplicate" });
const worker = async (name: string): Promise<Process> => {
  const started = await Process.start({ name, init: () => name });
  registry.register(started, "workers", name);
  return started;
};
const [a] = await Promise.all([worker("a"), worker("b"), worker("c")]);

const simple = new Router(registry, "workers", roundRobin());
const picks = Array.from({ length: 6 }, () => simple.pick().value);
console.log("round robin:       ", picks.join(" "));
assert.deepEqual(picks, ["a", "b", "c", "a", "b", "c"]);

const strict = new Router(registry, "workers", strictRoundRobin());
const cycle = [strict.pick().value, strict.pick().value];
a.kill(); // In the middle of a cycle …
await worker("d"); // … and somebody joins.
cycle.push(strict.pick().value, strict.pick().value);
console.log("strict round robin:", cycle.join(" "));
assert.deepEqual(new Set(cycle), new Set(["a", "b", "c", "d"]));

await registry.close();
