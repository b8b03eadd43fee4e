/** The connector, as a pool sees it: where it goes, what it reports, and how it closes. */

import { afterEach, describe, expect, test } from "vitest";
import type { Connector, Endpoint, OpenContext } from "../../src/connection/index.ts";
import { FantaError } from "../../src/errors.ts";
import { FantaPool, FantaServer, type FantaTCP, fantaConnector } from "../../src/fanta/index.ts";
import { virtualRuntime } from "../../src/sim/index.ts";
import { Listener } from "../multiplex/loopback.ts";
import { turns, until } from "../multiplex/turns.ts";

const servers: FantaServer[] = [];

afterEach(() => {
  for (const server of servers.splice(0)) server.process.kill();
});

async function serve(
  handler: (request: string) => string | Promise<string> = (request) => request,
): Promise<FantaServer> {
  const server = await FantaServer.listen({ handler });
  servers.push(server);
  return server;
}

interface Opened {
  readonly fanta: FantaTCP;
  readonly lost: (Error | undefined)[];
  readonly drained: number[];
}

async function opened(connector: Connector<FantaTCP>, endpoint: Endpoint): Promise<Opened> {
  const lost: (Error | undefined)[] = [];
  const drained: number[] = [];
  const fanta = await connector.open({
    endpoint,
    signal: new AbortController().signal,
    lost: (error?: Error) => lost.push(error),
    draining: () => drained.push(1),
  } as unknown as OpenContext);
  return { fanta, lost, drained };
}

describe("a Fanta connector", () => {
  test("with a port has one endpoint; without, the pool has to say", () => {
    expect(fantaConnector({ host: "db", port: 7_000 }).endpoints).toEqual([
      { id: "db:7000", data: { host: "db", port: 7_000 } },
    ]);
    expect(fantaConnector({ port: 7_000 }).endpoints).toMatchObject([{ id: "127.0.0.1:7000" }]);
    expect(fantaConnector().endpoints).toBeUndefined();
    expect(fantaConnector().name).toBe("fanta");
  });

  test("goes where the endpoint's data says, or else its id", async () => {
    const { port } = await serve();
    const connector = fantaConnector();
    for (const { fanta } of [
      await opened(connector, { id: `127.0.0.1:${port}` }),
      await opened(connector, { id: "somewhere else:1", data: { host: "127.0.0.1", port } }),
      await opened(connector, { id: `127.0.0.1:${port}`, data: { zone: "a" } }),
    ]) {
      expect(await fanta.request("x")).toBe("x");
      await fanta.close();
    }
  });

  test.each<[string, object | null]>([
    ["nothing in it", null],
    ["no port in its id", { id: "somewhere" }],
    ["a port of 0 in its id", { id: "somewhere:0" }],
    ["a port out of range in its id", { id: "somewhere:65536" }],
    ["a port out of range in its data", { id: "somewhere:1", data: { host: "somewhere", port: 65_536 } }],
    ["no whole port in its data", { id: "somewhere:1", data: { host: "somewhere", port: 1.5 } }],
    ["an empty host in its data", { id: "somewhere:1", data: { host: "", port: 7_000 } }],
  ])("is not started with an endpoint that has %s", async (_, endpoint) => {
    await expect(FantaPool.start({ endpoints: [endpoint as never] })).rejects.toMatchObject({ code: "ERR_OPTION" });
    await expect(opened(fantaConnector(), endpoint as never)).rejects.toMatchObject({ code: "ERR_OPTION" });
  });

  test("reads an address in brackets as what is within", async () => {
    // Not every machine has IPv6.
    const server = await FantaServer.listen({ host: "::1", handler: (request) => request }).catch(() => undefined);
    const { fanta } = await opened(fantaConnector(), {
      id: server === undefined ? `[127.0.0.1]:${(await serve()).port}` : `[::1]:${server.port}`,
    });
    expect(await fanta.request("x")).toBe("x");
    await fanta.close();
    await server?.close();
  });

  test("tells that a connection drains, and that it is gone: with an error, unless that was well", async () => {
    const connector = fantaConnector();
    const [polite, rude] = [await serve(), await serve()];
    const [first, second] = [await opened(connector, at(polite)), await opened(connector, at(rude))];
    await polite.close();
    expect(await first.fanta.process.exited).toBe("normal");
    expect({ lost: first.lost, drained: first.drained }).toEqual({ lost: [undefined], drained: [1] });
    rude.process.kill();
    const reason = await second.fanta.process.exited;
    expect({ lost: second.lost, drained: second.drained }).toEqual({ lost: [reason], drained: [] });
    expect(reason).toBeInstanceOf(Error);
  });

  test("lets opening take as long as the pool does, and no longer", async () => {
    const listener = await Listener.open();
    const runtime = virtualRuntime();
    // What never answers is the handshake: a listener takes any connection.
    const pool = await FantaPool.start({ port: listener.port, tls: true, size: 1, openTimeoutMs: 60_000, runtime });
    const failed = pool.ready({ timeoutMs: 60_001 }).catch((error: unknown) => error);
    await runtime.advance(59_999);
    expect(pool.stats()).toMatchObject({ opening: 1, totals: { openFailed: 0 } });
    await runtime.advance(2);
    expect(await failed).toMatchObject({ phase: "open", cause: { message: "opening took longer than 60000 ms" } });
    await pool.destroy();
    expect(runtime.timers).toBe(0);
  });

  test("closes a connection that is not wanted by letting it finish, and one that is broken or out of time at once", async () => {
    let release!: () => void;
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    const server = await serve(async (request) => {
      await gate;
      return request;
    });
    const connector = fantaConnector();
    const first = await opened(connector, at(server));
    const finishes = first.fanta.request("x");
    const closing = connector.close?.(first.fanta, "normal");
    for (const reason of [new Error("broken"), "shutdown", "killed"] as const) {
      const second = await opened(connector, at(server));
      const breaks = second.fanta.request("x").catch((error: unknown) => error);
      await turns(50);
      expect(connector.close?.(second.fanta, reason)).toBeUndefined();
      expect(await breaks).toMatchObject({ code: "ERR_CONNECTION_LOST" });
      expect(second.fanta.process.alive).toBe(false);
    }
    expect(first.fanta.process.alive).toBe(true);
    release();
    expect(await finishes).toBe("x");
    await closing;
    expect(first.fanta.process.alive).toBe(false);
    await until("nobody is left", () => server.connections === 0);
  });

  test.each([
    ["ERR_FANTA_CODEC", false],
    ["ERR_FANTA_TOO_LARGE", false],
    ["ERR_FANTA_RESPONSE", true],
    ["ERR_FANTA_TIMEOUT", true],
    ["ERR_FANTA_PROTOCOL", true],
  ] as const)("holds %s against the connection: %s", (code, failure) => {
    expect(fantaConnector().isFailure?.(new FantaError(code, "x"))).toBe(failure);
  });

  test("holds any other error against the connection", () => {
    expect(fantaConnector().isFailure?.(new Error("x"))).toBe(true);
  });

  test.each<[string, object]>([
    ["an unknown option", { prot: 7_000 }],
    ["a port out of range", { port: 65_536 }],
    ["an empty host", { host: "" }],
    ["half a codec", { codec: { encode: String } }],
    ["a connectTimeoutMs, which is the pool's", { connectTimeoutMs: 5 }],
  ])("refuses %s", (_, options) => {
    expect(() => fantaConnector(options as never)).toThrow(expect.objectContaining({ code: "ERR_OPTION" }));
  });
});

function at(server: FantaServer): Endpoint {
  return { id: `127.0.0.1:${server.port}` };
}
