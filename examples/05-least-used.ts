/**
 * Step 5: the least used. A router that is told when a request begins and ends (`use`) knows who is busy, and sends the
 * next one to whoever is not. One slow member then costs its share, not everybody's time.
 */
import assert from "node:assert/strict";
import { Process, Registry, Router, leastUsed } from "poolwarden";
import { virtualRuntime } from "poolwarden/sim";

const runtime = virtualRuntime({ seed: 1 }); // Virtual time: seconds of traffic in an instant.
const registry = await Registry.start<string, number>({ keys: "duplicate", runtime });
const serviceMs = [10, 10, 10, 200];
for (const ms of serviceMs) {
  registry.register(await Process.start({ runtime, init: () => ms }), "workers", ms);
}

const router = new Router(registry, "workers", leastUsed(), { runtime });
const served = new Map<number, number>();
const request = (): Promise<void> =>
  router.use(async ({ value: ms, owner }) => {
    served.set(owner.id, (served.get(owner.id) ?? 0) + 1);
    await new Promise<void>((resolve) => runtime.setTimer(resolve, ms));
  });

const all: Promise<void>[] = [];
for (let n = 0; n < 400; n++) {
  all.push(request());
  await runtime.advance(5);
}
await runtime.until(Promise.all(all));

const counts = [...served.values()];
console.log("requests served by members of 10, 10, 10 and 200 ms:", counts.join(" "));
assert.ok((counts[3] ?? 0) * 4 < (counts[0] ?? 0), "the slow one got less than a quarter of a quick one's share");
