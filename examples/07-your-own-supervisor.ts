/**
 * Step 7: a pool in your own tree. A pool is a child like any other: started after what it needs, stopped before it,
 * and put back when it fails for good.
 */
import assert from "node:assert/strict";
import { type HasProcess, Process, Supervisor } from "poolwarden";
import { FantaPool, FantaServer } from "poolwarden/fanta";

await using server = await FantaServer.listen({ handler: (request) => request });

let pool: FantaPool | undefined;
const stopped: string[] = [];

const application = await Supervisor.start(
  [
    {
      id: "settings",
      start: () =>
        Process.start({ init: () => ({ greeting: "hello" }), terminate: () => void stopped.push("settings") }),
    },
    {
      id: "pool",
      type: "supervisor",
      start: async (): Promise<HasProcess> => {
        pool = await FantaPool.start({ host: "127.0.0.1", port: server.port, size: 2, name: "greetings" });
        pool.process.monitor(() => stopped.push("pool"));
        await pool.ready();
        return pool;
      },
    },
  ],
  { strategy: "rest_for_one", name: "application" },
);

assert.ok(pool);
console.log(await pool.request("hello"));

const first = pool;
first.process.kill(); // As if its restarts had been used up.
while (pool === first || !application.whichChildren().every(({ process }) => process instanceof Process)) {
  await new Promise((resolve) => setImmediate(resolve));
}
console.log(`the pool died and was put back: ${first.stats().size} connections before, ${pool.stats().ready} now`);
assert.equal(await pool.request("hello again"), "hello again");

await application.stop();
console.log("stopped in reverse order:", stopped.slice(1).join(", "));
assert.deepEqual(stopped, ["pool", "pool", "settings"]);
