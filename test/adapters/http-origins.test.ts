/**
 * A dispatcher without endpoints: a pool for each origin, of the size that it needs, as long as it is needed.
 *
 * The sockets are real, the time is not: an origin grows old when the test says so.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { interceptors } from "undici";
import { describe, expect, test } from "vitest";
import type { HttpDispatcher } from "../../src/adapters/http/index.ts";
import { type VirtualRuntime, virtualRuntime } from "../../src/sim/index.ts";
import {
  ask,
  dispatcher,
  events,
  Gate,
  type Heard,
  handler,
  later,
  serve1,
  serve2,
  serve1Tls,
  turn,
  until,
} from "./http.ts";
import { certificate } from "../servers/certificate.ts";

async function anyOrigin(options = {}): Promise<{ to: HttpDispatcher; runtime: VirtualRuntime }> {
  const runtime = virtualRuntime();
  return { to: await dispatcher({ runtime, idleTimeoutMs: 4_000, connections: 4, ...options }), runtime };
}

function sizeOf(to: HttpDispatcher, origin: string): number {
  return to.stats()[origin]?.size ?? 0;
}

function get(to: HttpDispatcher, origin: string, path = "/"): Promise<Heard> {
  return ask(to, { origin, path }, handler("new"));
}

describe("an origin", () => {
  test("gets one pool with the first request, however many come at once", async () => {
    const { url, accepted } = await serve1((_, response) => response.end("hello"));
    const { to } = await anyOrigin();
    expect(to.pools().size).toBe(0);
    await to.ready(); // There is nothing to wait for.
    const all = await Promise.all(Array.from({ length: 12 }, () => get(to, url)));
    expect(all.map((heard) => heard.body())).toEqual(all.map(() => "hello"));
    expect([...to.pools().keys()]).toEqual([url]);
    expect(accepted()).toBeLessThanOrEqual(4);
  });

  test("is one, however it is written; what is none is an error", async () => {
    const { url, port } = await serve1((request, response) => response.end(request.headers.host));
    const { to } = await anyOrigin();
    for (const origin of [url, `${url}/`, new URL(url), `http://127.0.0.1:${port}/ignored?x`]) {
      const heard = await ask(to, { origin: origin as string }, handler("new"));
      expect(heard.body()).toBe(`127.0.0.1:${port}`);
    }
    expect([...to.pools().keys()]).toEqual([url]);
    for (const origin of [undefined, "", "nonsense", "ftp://127.0.0.1"]) {
      const heard = await ask(to, origin === undefined ? {} : { origin }, handler("new"));
      expect((heard.error() as { code?: string }).code).toBe("UND_ERR_INVALID_ARG");
    }
  });

  test("has as many connections as it has requests at once, and no more than it may", async () => {
    const gate = new Gate();
    const { url, sockets } = await serve1(async (_, response) => {
      await gate.pass();
      response.end();
    });
    const { to } = await anyOrigin();
    const first = get(to, url);
    await until(() => gate.waiting === 1);
    expect([sockets.size, sizeOf(to, url)]).toEqual([1, 1]);
    const second = get(to, url);
    await until(() => gate.waiting === 2);
    expect([sockets.size, sizeOf(to, url)]).toEqual([2, 2]);
    const rest = Array.from({ length: 10 }, () => get(to, url));
    await until(() => gate.waiting === 4);
    expect([sockets.size, sizeOf(to, url)]).toEqual([4, 4]);
    gate.open();
    await Promise.all([first, second, ...rest]);
  });

  test("needs one connection as long as its HTTP/2 has room, and another when it has not", async () => {
    const gate = new Gate();
    const { url, sessions } = await serve2(
      async (stream) => {
        await gate.pass();
        stream.respond({ ":status": 200 });
        stream.end();
      },
      { maxConcurrentStreams: 5 },
    );
    const { to } = await anyOrigin({ useH2c: true });
    const all = Array.from({ length: 5 }, () => get(to, url));
    await until(() => gate.waiting === 5);
    expect(sessions).toHaveLength(1);
    all.push(...Array.from({ length: 7 }, () => get(to, url)));
    await until(() => gate.waiting === 12);
    expect(sessions).toHaveLength(3);
    gate.open();
    await Promise.all(all);
  });

  test("over TLS waits for its first connection to say what it speaks", async () => {
    const gate = new Gate();
    const { port, sockets } = await serve1Tls(async (_, response) => {
      await gate.pass();
      response.end();
    });
    const { to } = await anyOrigin({ allowH2: true, connect: { ca: certificate } });
    const url = `https://localhost:${port}`;
    const all = Array.from({ length: 3 }, () => get(to, url));
    await until(() => gate.waiting === 3);
    expect(sockets.size).toBe(3);
    gate.open();
    await Promise.all(all);
  });

  test("is asked by its address for the name it must prove, as undici's dns interceptor does", async () => {
    const { port, sockets } = await serve1Tls((request, response) => response.end(request.headers.host));
    const { to } = await anyOrigin({ connect: { ca: certificate } });
    const named = to.compose(interceptors.dns({ affinity: 4 })) as unknown as HttpDispatcher;
    const origin = `https://localhost:${port}`;
    for (let n = 0; n < 2; n++) expect((await ask(named, { origin }, handler("new"))).body()).toBe(`localhost:${port}`);
    expect(sockets.size).toBe(1);
    const address = `https://127.0.0.1:${port}`;
    expect([...to.pools().keys()]).toEqual([`${address} as ${origin}`]);
    // Another name at the same address is another server, and must prove it.
    const stranger = { origin: address, servername: "stranger.test" };
    const failed = events("connection.openFailed");
    const asked = handler("new");
    to.dispatch({ path: "/", method: "GET", ...stranger } as never, asked as never);
    await until(() => failed.length > 0);
    expect(failed[0]?.error).toMatchObject({ code: "ERR_TLS_CERT_ALTNAME_INVALID" });
    asked.abort();
    // What has no TLS proves nothing: there the name is of no matter.
    const { url } = await serve1((_, response) => response.end("plain"));
    const plain = await ask(to, { origin: url, servername: "stranger.test" }, handler("new"));
    expect([plain.body(), to.pools().has(url)]).toEqual(["plain", true]);
  });

  test("may be reached through a unix socket, whatever its name", async () => {
    const folder = await mkdtemp(join(tmpdir(), "poolwarden-"));
    later(() => rm(folder, { recursive: true }));
    const socketPath = join(folder, "http.sock");
    const server = createServer((request, response) => response.end(request.headers.host));
    server.listen(socketPath);
    await once(server, "listening");
    later(() => server.close());
    for (const options of [{ connect: { socketPath } }, { client: { socketPath } }]) {
      const { to } = await anyOrigin(options);
      expect((await get(to, "http://api.test:81")).body()).toBe("api.test:81");
      await to.close();
    }
  });

  test("whose server cannot prove its name is told so, by way of the wait for it", async () => {
    const { port } = await serve1Tls((_, response) => response.end());
    const { to, runtime } = await anyOrigin({ connect: { ca: certificate } });
    const failed = events("connection.openFailed");
    const asked = get(to, `https://127.0.0.1:${port}`);
    await until(() => failed.length > 0);
    await runtime.advance(5_000);
    expect((await asked).error()).toMatchObject({
      code: "ERR_POOL_ACQUIRE_TIMEOUT",
      phase: "open",
      cause: { code: "ERR_TLS_CERT_ALTNAME_INVALID" },
    });
  });

  test("shrinks to what it has needed of late, and goes when nobody has asked for it", async () => {
    const gate = new Gate();
    const { url, sockets, accepted } = await serve1(async (request, response) => {
      if (request.url === "/gate") await gate.pass();
      response.end();
    });
    const { to, runtime } = await anyOrigin();
    const all = Array.from({ length: 4 }, () => get(to, url, "/gate"));
    await until(() => gate.waiting === 4);
    await runtime.advance(4_000); // What is under way counts, however long it has been.
    expect(sizeOf(to, url)).toBe(4);
    gate.open();
    await Promise.all(all);
    await get(to, url);
    await runtime.advance(4_000);
    await get(to, url);
    await runtime.advance(4_000);
    await until(() => sizeOf(to, url) === 1 && sockets.size === 1);
    await runtime.advance(4_000);
    expect(to.pools().size).toBe(0);
    await until(() => sockets.size === 0);
    expect(runtime.timers).toBe(0);
    const before = accepted();
    await get(to, url);
    expect([to.pools().size, accepted()]).toEqual([1, before + 1]);
  });

  test("whose server cannot be reached costs its callers their wait, and no other origin anything", async () => {
    const gone = await serve1(() => undefined);
    await gone.stop();
    const { url } = await serve1((_, response) => response.end("hello"));
    const { to, runtime } = await anyOrigin({ backoff: { minMs: 1_000, maxMs: 1_000 } });
    const lost = get(to, gone.url);
    await until(() => to.stats()[gone.url]?.waitingToReopen === 1);
    expect((await get(to, url)).body()).toBe("hello");
    await runtime.advance(5_000);
    const error = (await lost).error() as { code?: string; cause?: { code?: string } };
    expect([error.code, error.cause?.code]).toEqual(["ERR_POOL_ACQUIRE_TIMEOUT", "ECONNREFUSED"]);
  });

  test("has a pool of its dispatcher's name and its own", async () => {
    const { url } = await serve1((_, response) => response.end());
    const { to } = await anyOrigin({ name: "out" });
    await get(to, url);
    expect(to.stats()[url]?.name).toBe(`out ${url}`);
  });

  test("whose server closes after every response is no reason for more connections", async () => {
    const { url, accepted } = await serve1((_, response) => response.setHeader("connection", "close").end("whole"));
    const { to } = await anyOrigin();
    for (let n = 0; n < 5; n++) expect((await get(to, url)).body()).toBe("whole");
    expect(accepted()).toBeGreaterThanOrEqual(5);
    expect([sizeOf(to, url), to.stats()[url]?.totals.lost]).toEqual([1, 0]);
  });

  test("grows for those who ask while its pool is being started", async () => {
    const gate = new Gate();
    const { url } = await serve1(async (_, response) => {
      await gate.pass();
      response.end("whole");
    });
    const more: Promise<Heard>[] = [];
    const { to } = await anyOrigin({
      strategy: () => {
        more.push(get(to, url), get(to, url));
        return { pick: (members: readonly unknown[]) => members[0] };
      },
    });
    const first = get(to, url);
    await until(() => gate.waiting === 3);
    expect(sizeOf(to, url)).toBe(3);
    gate.open();
    for (const heard of await Promise.all([first, ...more])) expect(heard.body()).toBe("whole");
  });

  test("whose pool cannot be started tells why, and is no obstacle to closing", async () => {
    const { url } = await serve1((_, response) => response.end());
    for (const how of ["close", "destroy"] as const) {
      const { to, runtime } = await anyOrigin({
        strategy: () => {
          throw new Error("no strategy today");
        },
      });
      expect((await get(to, url)).error()).toMatchObject({ cause: { message: "no strategy today" } });
      const heard = get(to, url);
      await to[how]();
      expect((await heard).error()).toBeInstanceOf(Error);
      expect(to.process.alive).toBe(false);
      expect([to.pools().size, runtime.timers]).toEqual([0, 0]);
    }
  });

  test("does not inherit the async context of whoever asked for it first", async () => {
    const storage = new AsyncLocalStorage<string>();
    const seen: unknown[] = [];
    const { url } = await serve1((_, response) => response.end());
    const { to } = await anyOrigin({
      strategy: () => {
        seen.push(storage.getStore());
        return { pick: (members: readonly unknown[]) => members[0] };
      },
    });
    await storage.run("caller", () => get(to, url));
    expect(seen).toEqual([undefined]);
  });
});

describe("a dispatcher for any origin", () => {
  test("is aborted in the request that starts a pool", async () => {
    const { url, accepted } = await serve1((_, response) => response.end());
    const { to } = await anyOrigin();
    const heard = handler("new");
    const asked = ask(to, { origin: url }, heard);
    const reason = new Error("changed my mind");
    heard.abort(reason);
    await asked;
    expect(heard.error()).toBe(reason);
    await until(() => accepted() === 1 && to.stats()[url]?.ready === 1);
    for (let turns = 0; turns < 20; turns++) await turn();
    expect(to.stats()[url]).toMatchObject({ inFlight: 0, waiting: 0 });
  });

  test("closes all its pools, and destroys them", async () => {
    for (const how of ["close", "destroy"] as const) {
      const gate = new Gate();
      const servers = await Promise.all(
        [1, 2].map(() =>
          serve1(async (_, response) => {
            await gate.pass();
            response.end("whole");
          }),
        ),
      );
      const { to, runtime } = await anyOrigin();
      const all = servers.map(({ url }) => get(to, url));
      await until(() => gate.waiting === 2);
      const over = to[how]();
      if (how === "close") gate.open();
      const heard = await Promise.all(all);
      await over;
      for (const each of heard) {
        if (how === "close") expect(each.body()).toBe("whole");
        else expect((each.error() as { code?: string }).code).toBe("UND_ERR_DESTROYED");
      }
      await until(() => servers.every(({ sockets }) => sockets.size === 0));
      expect(to.process.alive).toBe(false);
      expect(runtime.timers).toBe(0);
    }
  });

  test("that its supervisor has stopped says so to whoever asks", async () => {
    const { url } = await serve1((_, response) => response.end());
    const { to } = await anyOrigin();
    await get(to, url);
    await to.process.stop();
    const heard = await get(to, url);
    expect((heard.error() as { code?: string }).code).toMatch(/^ERR_(?:SUPERVISOR_STOPPED|POOL_CLOSED)$/);
  });
});
