/**
 * Step 3: accounting for disconnections.
 *
 * A connection whose server is away is not broken: it waits and tries again. But while it has no socket it must not be
 * found. So the process lives on, and its entry goes and comes: registered exactly while able to serve. This is what
 * the pools of this package do inside (with backoff, limits and events); here it is by hand.
 */
import assert from "node:assert/strict";
import { Process, type Self, Registry } from "poolwarden";
import { FantaServer, FantaTCP } from "poolwarden/fanta";

const registry = await Registry.start<string, FantaTCP>({ keys: "duplicate" });

/** A process that keeps one connection open, and is in the registry while it is. */
function keeper(port: number): Promise<Process> {
  const connect = async (self: Self): Promise<void> => {
    while (!self.signal.aborted) {
      try {
        const socket = await FantaTCP.connect({ host: "127.0.0.1", port, signal: self.signal });
        const registration = registry.register(self.process, "fanta", socket);
        self.signal.addEventListener("abort", () => void socket.close());
        await socket.process.exited; // Until it is lost.
        registration.unregister();
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
  };
  return Process.start({ name: "keeper", init: (self) => void connect(self) });
}

/** Resolves when this many connections are registered. */
function registered(count: number): Promise<void> {
  return new Promise((resolve) => {
    const look = (): void => {
      if (registry.count() !== count) return;
      subscription[Symbol.dispose]();
      resolve();
    };
    const subscription = registry.listen(look);
    look();
  });
}

let server = await FantaServer.listen({ handler: (request) => request });
const { port } = server;
const keepers = await Promise.all([keeper(port), keeper(port), keeper(port)]);
await registered(3);
console.log("up:            ", registry.count(), "registered");

const gone = registered(0);
await server.close({ timeoutMs: 100 });
await gone;
console.log(
  "server away:   ",
  registry.count(),
  "registered,",
  keepers.filter(({ alive }) => alive).length,
  "keepers alive",
);
assert.ok(keepers.every(({ alive }) => alive));

server = await FantaServer.listen({ port, handler: (request) => request });
await registered(3);
console.log("server is back:", registry.count(), "registered");
assert.equal(await registry.lookup("fanta")[0]?.value.request("hello"), "hello");

await Promise.all(keepers.map((each) => each.stop()));
await server.close();
await registry.close();
