/**
 * `FantaPool` over real sockets: what `request` adds to a routing pool.
 *
 * Nothing sleeps: a handler that must take its time waits for the test to let it go.
 */
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { getEventListeners } from "node:events";
import { afterEach, describe, expect, test } from "vitest";
import {
  FantaPool,
  type FantaPoolOptions,
  FantaServer,
  type FantaServerOptions,
  type FantaTCP,
  json,
} from "../../src/fanta/index.ts";
import { rendezvous, roundRobin, type Strategy, Supervisor } from "../../src/index.ts";

const open: AsyncDisposable[] = [];

afterEach(async () => {
  for (const each of open.splice(0).reverse()) await each[Symbol.asyncDispose]();
});

async function serve(handler: FantaServerOptions["handler"], port = 0): Promise<FantaServer> {
  const server = await FantaServer.listen({ port, handler });
  open.push({ [Symbol.asyncDispose]: () => server.close({ timeoutMs: 100 }) });
  return server;
}

async function poolOf(options: FantaPoolOptions): Promise<FantaPool> {
  const pool = await FantaPool.start({ host: "127.0.0.1", backoff: { minMs: 5, maxMs: 20 }, ...options });
  open.push({ [Symbol.asyncDispose]: () => pool.destroy() });
  return pool;
}

/** A handler that answers when it is told to, and says when it has been asked. */
function held(): { handler: (text: string) => Promise<string>; asked: Promise<void>; release: () => void } {
  let tell!: () => void;
  let release!: () => void;
  const told = new Promise<void>((resolve) => {
    tell = resolve;
  });
  const gate = new Promise<void>((resolve) => {
    release = resolve;
  });
  return {
    handler: async (text) => {
      tell();
      await gate;
      return `late ${text}`;
    },
    asked: told,
    release,
  };
}

/** Lets what has come over the sockets be dealt with, until something is true. */
async function until(test: () => boolean): Promise<void> {
  for (let turn = 0; turn < 100_000 && !test(); turn++) await new Promise((resolve) => setImmediate(resolve));
  expect(test()).toBe(true);
}

describe("a request", () => {
  test("gets the server's answer over one of the connections", async () => {
    const server = await serve((text) => (text === "PING" ? "PONG" : text));
    const pool = await poolOf({ port: server.port, size: 3 });
    expect(await pool.request("PING")).toBe("PONG");
    await pool.ready({ min: 3 });
    const answers = await Promise.all(Array.from({ length: 300 }, (_, n) => pool.request(`n ${n}`)));
    expect(answers).toEqual(Array.from({ length: 300 }, (_, n) => `n ${n}`));
    expect(pool.stats()).toMatchObject({ kind: "routing", size: 3, ready: 3, inFlight: 0, waiting: 0 });
    expect(pool.stats().totals).toMatchObject({ acquired: 301, succeeded: 301, failed: 0, retried: 0 });
  });

  test("that the server refuses rejects with the server's words, and counts as failed", async () => {
    const server = await serve(() => {
      throw new Error("no such thing");
    });
    const pool = await poolOf({ port: server.port, size: 1 });
    await expect(pool.request("x")).rejects.toMatchObject({
      code: "ERR_FANTA_RESPONSE",
      message: expect.stringContaining("no such thing"),
    });
    expect(pool.stats().totals).toMatchObject({ succeeded: 0, failed: 1, retried: 0 });
  });

  test("goes to the member of its key", async () => {
    const servers = await Promise.all(["a", "b", "c"].map((name) => serve(() => name)));
    const endpoints = servers.map(({ port }) => ({ id: `127.0.0.1:${port}` }));
    const pool = await poolOf({ endpoints, size: 1, strategy: rendezvous() });
    const keys = [...Array.from({ length: 20 }, (_, n) => n), ...Array.from({ length: 20 }, (_, n) => `key ${n}`)];
    await pool.ready({ min: 3 });
    const first = new Map<string | number, string>();
    for (const key of keys) first.set(key, await pool.request("who?", { key }));
    expect(new Set(first.values())).toEqual(new Set(["a", "b", "c"]));
    for (const key of keys) expect(await pool.request("who?", { key })).toBe(first.get(key));
    await expect(pool.request("x", { key: {} as never })).rejects.toMatchObject({
      code: "ERR_OPTION",
      option: "FantaPool.request: key",
    });
  });

  test("has its key still when it has had to wait", async () => {
    const server = await serve((text) => text);
    const keys: unknown[] = [];
    const strategy: Strategy<FantaTCP> = {
      pick: (members, { key }) => {
        keys.push(key);
        return members[0] as (typeof members)[number];
      },
    };
    const pool = await poolOf({ port: server.port, size: 1, strategy });
    const asked = [pool.request("x", { key: "mine" }), pool.request("y")];
    expect(pool.stats().waiting).toBe(2);
    expect(await Promise.all(asked)).toEqual(["x", "y"]);
    expect(keys).toEqual(["mine", undefined]);
  });

  test("with an option that is none is refused by name, and never sent", async () => {
    const pool = await poolOf({ port: (await serve((text) => text)).port, size: 1 });
    await expect(pool.request("x", { timeoutMs: -1 })).rejects.toMatchObject({
      code: "ERR_OPTION",
      option: "FantaPool.request: timeoutMs",
    });
    expect(pool.stats().totals.acquired).toBe(0);
  });

  test("that may be done twice is asked of another member, too, when its answer takes long; the first answer counts", async () => {
    let holds = false;
    const { handler, asked, release } = held();
    const quick = await serve((text) => text);
    const slow = await serve((text) => (holds ? handler(text) : text), 0);
    const endpoints = [quick, slow].map(({ port }) => ({ id: `127.0.0.1:${port}` }));
    const hedge = { minSamples: 20, minMs: 0 };
    const pool = await poolOf({ endpoints, size: 1, strategy: roundRobin(), hedge });
    await pool.ready({ min: 2 });
    for (let n = 0; n < 40; n++) expect(await pool.request(`n ${n}`, { idempotent: true })).toBe(`n ${n}`);
    holds = true;
    const answers = [pool.request("one", { idempotent: true }), pool.request("two", { idempotent: true })];
    await asked;
    expect(await Promise.all(answers)).toEqual(["one", "two"]);
    release();
    await until(() => pool.stats().inFlight === 0);
    expect(pool.stats().totals).toMatchObject({ succeeded: 42, failed: 0, lost: 0 });
  });

  test("may be anything that its codec takes", async () => {
    const server = await FantaServer.listen({ codec: json, handler: (value) => ({ value }) });
    open.push({ [Symbol.asyncDispose]: () => server.close({ timeoutMs: 100 }) });
    const pool = await FantaPool.start({ host: "127.0.0.1", port: server.port, codec: json });
    open.push(pool);
    expect(await pool.request({ a: [1, 2] })).toEqual({ value: { a: [1, 2] } });
  });

  test("whose caller gives up counts against its member until the server has really answered", async () => {
    const { handler, asked, release } = held();
    const server = await serve(handler);
    const pool = await poolOf({ port: server.port, size: 1 });
    const caller = new AbortController();
    const reason = new Error("enough");
    const request = pool.request("x", { signal: caller.signal });
    await asked;
    caller.abort(reason);
    await expect(request).rejects.toBe(reason);
    expect(pool.stats().inFlight).toBe(1);
    release();
    await until(() => pool.stats().inFlight === 0);
    expect(pool.stats().totals).toMatchObject({ acquired: 1, succeeded: 0, failed: 0 });
  });

  test("that takes longer than its timeoutMs rejects, and its orphan counts until the answer", async () => {
    const { handler, release } = held();
    const server = await serve(handler);
    const pool = await poolOf({ port: server.port, size: 1 });
    await pool.ready();
    await expect(pool.request("x", { timeoutMs: 20 })).rejects.toMatchObject({
      code: "ERR_FANTA_TIMEOUT",
      retryable: true,
    });
    expect(pool.stats().inFlight).toBe(1);
    release();
    await until(() => pool.stats().inFlight === 0);
  });

  test("waits in line while nobody is connected, and leaves it when its caller gives up", async () => {
    const server = await serve((text) => text);
    const { port } = server;
    await server.close();
    const pool = await poolOf({ port, size: 1 });
    const caller = new AbortController();
    const leaves = pool.request("leaves", { signal: caller.signal });
    const stays = pool.request("stays");
    expect(pool.stats().waiting).toBe(2);
    caller.abort(new Error("gone"));
    await expect(leaves).rejects.toThrow("gone");
    expect(pool.stats().waiting).toBe(1);
    await serve((text) => text, port);
    expect(await stays).toBe("stays");
  });

  test("shares its caller's signal with a thousand others at the price of one listener", async () => {
    const { handler, release } = held();
    const server = await serve(handler);
    const pool = await poolOf({ port: server.port, size: 1 });
    const { signal } = new AbortController();
    const ask = (): Promise<string>[] => Array.from({ length: 500 }, () => pool.request("x", { signal }));
    const requests = ask();
    expect(pool.stats()).toMatchObject({ inFlight: 0, waiting: 500 });
    await pool.ready();
    requests.push(...ask());
    expect(pool.stats()).toMatchObject({ inFlight: 1_000, waiting: 0 });
    expect(getEventListeners(signal, "abort")).toHaveLength(1);
    release();
    expect(new Set(await Promise.all(requests))).toEqual(new Set(["late x"]));
    expect(getEventListeners(signal, "abort")).toHaveLength(0);
  });

  test("that nobody could take in time rejects with why opening failed", async () => {
    const server = await serve((text) => text);
    const { port } = server;
    await server.close();
    const pool = await poolOf({ port, size: 1 });
    const error = await pool.request("x", { timeoutMs: 30 }).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "ERR_POOL_ACQUIRE_TIMEOUT", phase: "open" });
    expect((error as Error).cause).toMatchObject({ code: "ERR_FANTA_CONNECT" });
  });

  test("with an aborted signal, wrong options or a closed pool never leaves", async () => {
    const server = await serve((text) => text);
    const pool = await poolOf({ port: server.port, size: 1 });
    await expect(pool.request("x", { signal: AbortSignal.abort(new Error("before")) })).rejects.toThrow("before");
    await expect(pool.request("x", { timeoutMs: 0 })).rejects.toMatchObject({ code: "ERR_OPTION" });
    await expect(pool.request("x", { timeout: 5 } as never)).rejects.toMatchObject({ code: "ERR_OPTION" });
    await pool.close();
    await expect(pool.request("x")).rejects.toMatchObject({ code: "ERR_POOL_CLOSED" });
    expect(pool.stats().totals.acquired).toBe(0);
  });
});

describe("when a connection goes", () => {
  test("a request that may have been sent rejects, and is sent again elsewhere if it is idempotent", async () => {
    let asked = 0;
    const first = await serve(() => {
      asked++;
      return new Promise(() => undefined);
    });
    const pool = await poolOf({ port: first.port, size: 1, endpoints: [{ id: `127.0.0.1:${first.port}` }] });
    await pool.ready();
    const once = pool.request("once").catch((error: unknown) => error);
    const again = pool.request("again", { idempotent: true });
    await until(() => asked === 2);
    await first.close({ timeoutMs: 0 });
    await serve((text) => `second ${text}`, first.port);
    expect(await once).toMatchObject({ code: "ERR_CONNECTION_LOST", sent: "maybe", retryable: false });
    expect(await again).toBe("second again");
    expect(pool.stats().totals).toMatchObject({ retried: 1, succeeded: 1, failed: 1 });
  });

  test("one that may have been sent, and then finds nobody in time, is told that and not that it was not sent", async () => {
    const { handler, asked } = held();
    const server = await serve(handler);
    const pool = await poolOf({ port: server.port, size: 1 });
    await pool.ready();
    const request = pool.request("x", { idempotent: true, timeoutMs: 300 }).catch((error: unknown) => error);
    await asked;
    await server.close({ timeoutMs: 0 });
    expect(await request).toMatchObject({ code: "ERR_CONNECTION_LOST", sent: "maybe" });
    expect(pool.stats().totals).toMatchObject({ retried: 1, failed: 1 });
  });

  test("one whose caller gives up at the sight of that is told at once, though it is to be sent again", async () => {
    const { handler, asked } = held();
    const server = await serve(handler);
    const pool = await poolOf({ port: server.port, size: 1 });
    await pool.ready();
    const caller = new AbortController();
    const reason = new Error("not twice");
    const giveUp = (): void => caller.abort(reason);
    subscribe("poolwarden:pool.retried", giveUp);
    open.push({ [Symbol.asyncDispose]: async () => void unsubscribe("poolwarden:pool.retried", giveUp) });
    const request = pool.request("x", { idempotent: true, signal: caller.signal }).catch((error: unknown) => error);
    await asked;
    await server.close({ timeoutMs: 0 });
    await until(() => caller.signal.aborted);
    expect(pool.stats().waiting).toBe(0);
    expect(await request).toBe(reason);
    expect(getEventListeners(caller.signal, "abort")).toHaveLength(0);
    expect(pool.stats().totals).toMatchObject({ succeeded: 0, failed: 0 });
  });

  test("one that was certainly not sent goes elsewhere without a word", async () => {
    const server = await serve((text) => text);
    const pool = await poolOf({ port: server.port, size: 2 });
    await pool.ready({ min: 2 });
    // In this turn nothing has been written yet: what dies now never left.
    const requests = Array.from({ length: 10 }, (_, n) => pool.request(`n ${n}`));
    const route = pool.pick();
    route.resource.process.kill();
    route.settle();
    expect(await Promise.all(requests)).toEqual(Array.from({ length: 10 }, (_, n) => `n ${n}`));
    expect(pool.stats().totals.retried).toBe(5);
  });

  test("a rolling restart with goaway loses no request, idempotent or not", async () => {
    let server = await serve((text) => text);
    const { port } = server;
    const pool = await poolOf({ port, size: 4 });
    await pool.ready({ min: 4 });
    let running = true;
    let answered = 0;
    const callers = Array.from({ length: 32 }, async (_, caller) => {
      for (let n = 0; running; n++) {
        expect(await pool.request(`${caller}/${n}`)).toBe(`${caller}/${n}`);
        answered++;
      }
    });
    for (let restart = 0; restart < 5; restart++) {
      const enough = answered + 500;
      await until(() => answered > enough);
      await server.close();
      server = await serve((text) => text, port);
    }
    running = false;
    await Promise.all(callers);
    expect(pool.stats().totals).toMatchObject({ failed: 0, succeeded: answered });
  });
});

describe("the pool", () => {
  test("reads an endpoint's id as host:port, or takes host and port from its data", async () => {
    const [a, b] = [await serve(() => "a"), await serve(() => "b")];
    const pool = await poolOf({
      size: 1,
      endpoints: [{ id: `127.0.0.1:${a.port}` }, { id: "the other", data: { host: "127.0.0.1", port: b.port } }],
    });
    await pool.ready({ min: 2 });
    const answers = await pool.broadcast((connection) => connection.request("who?"));
    expect(answers.map((each) => each.status === "fulfilled" && each.value)).toEqual(["a", "b"]);
  });

  test.each([
    ["no port and no endpoints", { host: "127.0.0.1" }],
    ["a port out of range", { port: 70_000 }],
    ["an unknown option", { port: 7_000, sise: 3 }],
    ["an endpoint that is nowhere", { endpoints: [{ id: "somewhere" }] }],
    ["a connector", { port: 7_000, connector: { name: "x", open: () => undefined } }],
  ])("refuses %s before anything starts", async (_, options) => {
    await expect(FantaPool.start(options as never)).rejects.toMatchObject({ code: "ERR_OPTION" });
  });

  test("destroyed, tells whoever waits or works the reason", async () => {
    const { handler, asked } = held();
    const server = await serve(handler);
    const pool = await poolOf({ port: server.port, size: 1 });
    const request = pool.request("x");
    await asked;
    const reason = new Error("pulled");
    const destroyed = pool.destroy(reason);
    await expect(request).rejects.toBe(reason);
    await destroyed;
  });

  test("closing, waits for the requests under way and refuses new ones", async () => {
    const { handler, asked, release } = held();
    const server = await serve(handler);
    const pool = await poolOf({ port: server.port, size: 1 });
    const request = pool.request("x");
    await asked;
    const closing = pool.close();
    await expect(pool.request("new")).rejects.toMatchObject({ code: "ERR_POOL_CLOSED" });
    release();
    expect(await request).toBe("late x");
    expect(await closing).toEqual({ finished: 1, aborted: 0 });
    await until(() => server.connections === 0);
  });

  test("can be a child of a supervisor of one's own", async () => {
    const server = await serve((text) => text);
    const spec = FantaPool.childSpec({ host: "127.0.0.1", port: server.port, size: 1, name: "mine" });
    const supervisor = await Supervisor.start([spec], { strategy: "one_for_one" });
    expect(supervisor.whichChildren()).toMatchObject([{ id: "mine", type: "supervisor" }]);
    expect(await supervisor.stop()).toBe("normal");
    expect(FantaPool.childSpec({ port: server.port }).id).toBe("fanta");
  });
});
