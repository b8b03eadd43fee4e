/**
 * Step 8: under `fetch`. Three servers, of which one is slow and one is restarted in the middle; the program only says
 * `fetch`, and the dispatcher below it sends each request to whoever can take it.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as after } from "node:timers/promises";
import { HttpDispatcher } from "poolwarden/http";
import { fetch, setGlobalDispatcher } from "undici";

async function serve(name: string, ms: number, port = 0): Promise<Server> {
  const server = createServer((_, response) => void after(ms).then(() => response.end(name)));
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  return server;
}
const portOf = (server: Server): number => (server.address() as AddressInfo).port;

const [quick, slow, unlucky] = await Promise.all([serve("quick", 2), serve("slow", 100), serve("unlucky", 2)]);
const servers = [quick, slow, unlucky];

const dispatcher = await HttpDispatcher.start({
  origin: "http://greetings.test", // What the three serve together. Nobody asks a name server for it.
  endpoints: servers.map((server) => `127.0.0.1:${portOf(server)}`),
  connections: 4, // to each of them
});
setGlobalDispatcher(dispatcher); // From here on every `fetch` of the program goes through it.

const served = { quick: 0, slow: 0, unlucky: 0 };
let [left, failed] = [900, 0];
const caller = async (): Promise<void> => {
  while (left-- > 0) {
    try {
      const response = await fetch("http://greetings.test/hello");
      served[(await response.text()) as keyof typeof served]++;
    } catch {
      failed++;
    }
  }
};
const callers = Promise.all(Array.from({ length: 4 }, caller));

// With requests under way on it, one server goes, and comes back where it was.
while (left > 600) await after(5);
const port = portOf(unlucky);
unlucky.close();
unlucky.closeAllConnections();
while (left > 300) await after(5);
servers[2] = await serve("unlucky", 2, port);
await callers;

const { retried, lost } = Object.values(dispatcher.stats())[0]!.totals;
console.log(`served by: quick ${served.quick}, slow ${served.slow}, restarted ${served.unlucky}; failed: ${failed}`);
console.log(`connections lost: ${lost}, requests sent a second time without their callers noticing: ${retried}`);
assert.equal(failed, 0);
assert.equal(served.quick + served.slow + served.unlucky, 900);
assert.ok(served.slow * 4 < served.quick, "the slow one got less than a quarter of the quick one's share");

await dispatcher.close();
for (const server of servers) server.close();
