/**
 * Step 6: all of it in five lines. A supervised pool of connections that reconnect, routed to the least used.
 */
import assert from "node:assert/strict";
import { FantaPool, FantaServer } from "poolwarden/fanta";

await using server = await FantaServer.listen({ handler: (request) => (request === "PING" ? "PONG" : request) });

await using pool = await FantaPool.start({ host: "127.0.0.1", port: server.port, size: 4 });
await pool.ready();
console.log(await pool.request("PING"));

assert.equal(await pool.request("PING"), "PONG");
const many = await Promise.all(Array.from({ length: 1_000 }, (_, n) => pool.request(`request ${n}`)));
assert.ok(many.every((answer, n) => answer === `request ${n}`));
console.log(`${many.length} concurrent requests over ${pool.stats().ready} connections, each with its own answer`);
