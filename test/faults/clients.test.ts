/** Clients in other processes that die with leases held: the server sees every connection go, and what was asked on it is told to stop. */

import { expect, test } from "vitest";
import { FantaServer } from "../../src/fanta/index.ts";
import { eventually, Program } from "./processes.ts";
import { sockets } from "./sockets.ts";

test("three clients that are killed leave no connection and no request at the server", async () => {
  let [held, aborted] = [0, 0];
  const server = await FantaServer.listen({
    handler: (_, { signal }) => {
      held++;
      return new Promise((_, reject) => {
        signal.addEventListener("abort", () => {
          aborted++;
          reject(signal.reason);
        });
      });
    },
  });
  const [leases, clients] = [5, 3];
  const client = (): Promise<Program> =>
    Program.start(process.execPath, ["--import", "tsx", "test/faults/holder.ts", String(server.port), String(leases)]);
  const programs = await Promise.all(Array.from({ length: clients }, client));
  await eventually("all that is held was asked for", () => held === clients * leases);
  expect(server.connections).toBe(clients * leases);
  for (const [at, program] of programs.entries()) {
    await program.end("SIGKILL");
    const left = (clients - at - 1) * leases;
    await eventually(`${left} connections are left`, () => server.connections === left);
    await eventually("what was asked on the others was told to stop", () => aborted === clients * leases - left);
  }
  await server.close();
  await eventually("no socket is left", () => sockets() === 0);
});
