/**
 * Step 2: the supervision tree.
 *
 * The registry and the connections depend on each other in one direction: without the registry nobody finds a
 * connection, so when it dies they must start again and register anew (`rest_for_one`). Among themselves connections
 * are strangers: the death of one is no reason to touch another (`one_for_one`).
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { subscribe } from "node:diagnostics_channel";
import { EventEmitter } from "node:events";
import { Registry, Supervisor } from "poolwarden";
import { FantaServer, FantaTCP } from "poolwarden/fanta";

await using server = await FantaServer.listen({ handler: (request) => request });

let registry: Registry<string, FantaTCP>;

function connection(id: string) {
  return {
    id,
    start: async () => {
      const connected = await FantaTCP.connect({ host: "127.0.0.1", port: server.port });
      registry.register(connected, "fanta", connected);
      return connected;
    },
  };
}

const pool = await Supervisor.start(
  [
    {
      id: "registry",
      start: async () => {
        registry = await Registry.start({ keys: "duplicate" });
        return registry;
      },
    },
    {
      id: "connections",
      type: "supervisor",
      start: () =>
        Supervisor.start([connection("one"), connection("two"), connection("three")], { strategy: "one_for_one" }),
    },
  ],
  { strategy: "rest_for_one", name: "pool" },
);

// Every restart is an event; here we wait for them.
const restarts = new EventEmitter();
subscribe("poolwarden:supervisor.childRestarted", (event) => restarts.emit((event as { child: string }).child));

const before = registry!.lookup("fanta").map(({ owner }) => owner.id);
registry!.lookup("fanta")[1]!.owner.kill();
await once(restarts, "two");
const after = registry!.lookup("fanta").map(({ owner }) => owner.id);
console.log("one connection killed:", before, "→", after);
assert.equal(after.length, 3);
assert.equal(after.filter((id) => before.includes(id)).length, 2, "the others were not touched");

registry!.process.kill();
await once(restarts, "registry");
console.log("the registry killed: ", registry!.lookup("fanta").length, "connections have registered again");
assert.equal(registry!.lookup("fanta").length, 3);

await pool.stop();
