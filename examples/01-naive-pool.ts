/**
 * Step 1 of "Process pools with Elixir's Registry": a pool is a look-up and a choice.
 *
 * Each connection registers itself under one key; whoever needs one looks the key up and takes any. That is a whole
 * routing pool, in ten lines. It has no supervision yet, and keeps connections in the registry that have lost their
 * socket only as long as they live: see the next steps.
 */
import assert from "node:assert/strict";
import { Registry } from "poolwarden";
import { FantaServer, FantaTCP } from "poolwarden/fanta";

await using server = await FantaServer.listen({ handler: (request) => (request === "PING" ? "PONG" : request) });

const registry = await Registry.start<string, FantaTCP>({ keys: "duplicate", name: "connections" });
for (let n = 0; n < 5; n++) {
  const connection = await FantaTCP.connect({ host: "127.0.0.1", port: server.port });
  registry.register(connection, "fanta", connection); // Gone from the registry in the step in which it dies.
}

async function request(payload: string): Promise<string> {
  const entries = registry.lookup("fanta");
  const entry = entries[Math.floor(Math.random() * entries.length)];
  if (entry === undefined) throw new Error("no connection is up");
  return entry.value.request(payload);
}

console.log(await request("PING"));
assert.equal(await request("PING"), "PONG");

const [first] = registry.lookup("fanta");
first?.owner.kill();
console.log(`${registry.count()} connections are left when one has died`);
assert.equal(registry.count(), 4);
assert.equal(await request("still here"), "still here");

for (const { value } of registry.lookup("fanta")) await value.close();
await registry.close();
