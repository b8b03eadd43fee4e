/**
 * The dispatcher as a pool: capacity, loss, retries, ends.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { connect as connectNet, createServer as createNetServer, type Socket } from "node:net";
import { once } from "node:events";
import { Readable } from "node:stream";
import http2, { type ClientHttp2Session, constants, type ServerHttp2Stream } from "node:http2";
import { syncBuiltinESMExports } from "node:module";
import { describe, expect, test } from "vitest";
import { errors } from "undici";
import { HttpDispatcher } from "../../src/adapters/http/index.ts";
import { roundRobin, Supervisor } from "../../src/index.ts";
import { virtualRuntime } from "../../src/sim/index.ts";
import {
  inShort,
  ask,
  bodyOf,
  dispatcher,
  events,
  Gate,
  handler,
  type Heard,
  later,
  serve1,
  serve2,
  serveTls,
  turn,
  until,
} from "./http.ts";
import { certificate } from "../servers/certificate.ts";

const protocols = ["http/1.1", "h2"] as const;

function codeOf(error: Error | undefined): string {
  return String((error as { code?: string } | undefined)?.code ?? error);
}

/** The one pool's numbers. */
function statsOf(to: HttpDispatcher) {
  const [stats] = Object.values(to.stats());
  if (stats === undefined) throw new Error("there is no pool");
  return stats;
}

/** A server that answers with the number of its connection, and counts what it was asked. */
async function numbered(
  protocol: (typeof protocols)[number],
  during: (path: string, end: () => void) => unknown = (_, end) => end(),
) {
  const asked: string[] = [];
  if (protocol === "http/1.1") {
    const served = await serve1(async (request, response) => {
      await bodyOf(request).catch(() => undefined);
      asked.push(`${request.method} ${request.url}`);
      during(request.url ?? "", () => response.end("whole"));
    });
    return { ...served, asked, sessions: [] };
  }
  const served = await serve2(async (stream, headers) => {
    await bodyOf(stream).catch(() => undefined);
    asked.push(`${headers[":method"]} ${headers[":path"]}`);
    during(headers[":path"] ?? "", () => {
      if (stream.destroyed) return;
      stream.respond({ ":status": 200 });
      stream.end("whole");
    });
  });
  return { ...served, asked };
}

/** A way to a server that can freeze: what is on it stays on it, and nobody is told. */
async function between(port: number) {
  const pairs: Socket[][] = [];
  const server = createNetServer((socket: Socket) => {
    const onward = connectNet(port, "127.0.0.1");
    pairs.push([socket, onward]);
    for (const each of [socket, onward]) each.on("error", () => undefined);
    socket.pipe(onward).pipe(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  later(() => {
    server.close();
    for (const each of pairs.flat()) each.destroy();
  });
  return {
    port: (server.address() as import("node:net").AddressInfo).port,
    accepted: () => pairs.length,
    freeze: () => {
      for (const each of pairs.flat()) each.unpipe().pause();
    },
  };
}

describe.each(protocols)("over %s", (protocol) => {
  const useH2c = protocol === "h2";
  /** It knows by now how long a request takes, and so when it takes long. */
  const hedging = async (endpoints: string[]) => {
    const runtime = virtualRuntime();
    const hedge = { percentile: 0.9 };
    const to = await dispatcher({ endpoints, connections: 1, useH2c, runtime, hedge, strategy: roundRobin() });
    await to.ready({ min: 2 });
    for (let n = 0; n < 100; n++) await ask(to, {}, handler("new"));
    return { to, runtime };
  };

  test("a connection that is registered is open: the server has it before anybody asks", async () => {
    const { url, sockets, asked } = await numbered(protocol);
    const to = await dispatcher({ endpoints: [url], connections: 3, useH2c });
    await to.ready({ min: 3 });
    await until(() => sockets.size === 3);
    expect(asked).toEqual([]);
  });

  test("one that the server closes unused is lost, and opened again", async () => {
    const { url, sockets, accepted } = await numbered(protocol);
    const to = await dispatcher({ endpoints: [url], connections: 1, useH2c });
    await to.ready();
    for (const socket of sockets) socket.destroy();
    await until(() => statsOf(to).totals.lost === 1);
    await until(() => accepted() === 2 && statsOf(to).ready === 1);
    expect((await ask(to, {}, handler("new"))).body()).toBe("whole");
  });

  test("requests go on when a server dies, and come back when it does", async () => {
    const gate = new Gate();
    const one = await numbered(protocol, (path, end) => (path === "/gate" ? void gate.pass().then(end) : end()));
    const two = await numbered(protocol);
    const to = await dispatcher({ endpoints: [one.url, two.url], connections: 2, useH2c, strategy: roundRobin() });
    await to.ready({ min: 4 });
    const many = Array.from({ length: 20 }, () => ask(to, { path: "/gate" }, handler("new")));
    await until(() => gate.waiting > 0);
    await one.stop();
    const all = await Promise.all(many);
    expect(all.map((heard) => heard.body())).toEqual(all.map(() => "whole"));
    await until(() => statsOf(to).ready === 2);
    for (let n = 0; n < 10; n++) expect((await ask(to, {}, handler("new"))).body()).toBe("whole");
    expect(two.asked.length).toBeGreaterThanOrEqual(30 - one.asked.length);
  });

  test.each([
    ["GET", undefined, "whole"],
    ["PUT", "text", "whole"],
    ["DELETE", undefined, "whole"],
    ["POST", "text", "error"],
    ["PUT", "stream", "error"],
    ["PATCH", undefined, "error"],
  ] as const)("a %s with a body of %s whose connection is lost under it ends with %s", async (method, body, end) => {
    const asked: string[] = [];
    // The first time the connection is cut, with the request read and nothing answered.
    const { url, sockets } = await numbered(protocol, (path, answer) => {
      asked.push(path);
      if (asked.length > 1) answer();
      else for (const socket of sockets) socket.destroy();
    });
    const to = await dispatcher({ endpoints: [url], connections: 1, useH2c });
    await to.ready();
    async function* pieces(): AsyncIterable<Uint8Array> {
      yield Buffer.from("text");
    }
    const heard = await ask(to, { method, body: body === "stream" ? pieces() : body }, handler("new"));
    expect(asked).toHaveLength(end === "whole" ? 2 : 1);
    expect(heard.calls.filter((call) => call === "start")).toHaveLength(1);
    if (end === "whole") expect(heard.body()).toBe("whole");
    else expect(heard.error()).toBeInstanceOf(errors.SocketError);
    expect(statsOf(to).totals.retried).toBe(end === "whole" ? 1 : 0);
  });

  test("what is asked in the call that tells of a loss goes elsewhere, whatever it is", async () => {
    const { url, sockets, asked, accepted } = await numbered(protocol, (path, end) => {
      if (path !== "/lost") end();
      else for (const socket of sockets) socket.destroy();
    });
    const to = await dispatcher({ endpoints: [url], connections: 1, useH2c });
    await to.ready();
    const next = handler("new");
    const lost = handler("new", (call) => {
      if (call === "error") to.dispatch({ path: "/next", method: "POST" }, next as never);
    });
    await ask(to, { path: "/lost", method: "POST" }, lost);
    await next.ended;
    expect([next.error(), next.body()]).toEqual([undefined, "whole"]);
    expect([asked, accepted()]).toEqual([["POST /lost", "POST /next"], 2]);
  });

  test("the caller's word on whether a request may be repeated goes", async () => {
    const { url, sockets, asked } = await numbered(protocol, () => {
      for (const socket of sockets) socket.destroy();
    });
    const to = await dispatcher({ endpoints: [url], connections: 1, useH2c });
    await ask(to, { idempotent: false, path: "/once" }, handler("new"));
    await ask(to, { idempotent: true, method: "POST", path: "/thrice" }, handler("new"));
    expect(asked.filter((each) => each === "GET /once")).toHaveLength(1);
    expect(asked.filter((each) => each === "POST /thrice")).toHaveLength(3);
  });

  test("a request is never repeated once its response has begun", async () => {
    let asked = 0;
    const { url, sockets } =
      protocol === "h2"
        ? await serve2((stream) => {
            asked++;
            stream.respond({ ":status": 200 });
            stream.write("half", () => [...sockets][0]?.destroy());
          })
        : await serve1((_, response) => {
            asked++;
            response.write("half", () => [...sockets][0]?.destroy());
          });
    const to = await dispatcher({ endpoints: [url], connections: 1, useH2c });
    const heard = await ask(to, {}, handler("new"));
    expect(heard.calls.at(-1)).toBe("error");
    expect(heard.body()).toBe("half");
    await until(() => statsOf(to).ready === 1);
    expect(asked).toBe(1);
  });

  test("with all servers down every request ends, with an error that says why, and goes when one is back", async () => {
    const { url, port, stop } = await numbered(protocol);
    await stop();
    const runtime = virtualRuntime();
    const backoff = { minMs: 1_000, maxMs: 1_000 };
    const to = await dispatcher({ endpoints: [url], connections: 2, useH2c, runtime, backoff });
    const all = Array.from({ length: 5 }, () => ask(to, {}, handler("new")));
    await until(() => statsOf(to).waitingToReopen === 2);
    await runtime.advance(5_000);
    for (const heard of await Promise.all(all)) {
      expect(codeOf(heard.error())).toBe("ERR_POOL_ACQUIRE_TIMEOUT");
      expect(codeOf(heard.error()?.cause as Error)).toBe("ECONNREFUSED");
    }
    if (protocol === "h2") {
      await serve2(
        (stream) => {
          stream.respond({ ":status": 200 });
          stream.end();
        },
        {},
        port,
      );
    } else await serve1((_, response) => response.end(), port);
    const heard = ask(to, {}, handler("new"));
    await runtime.advance(1_000);
    expect((await heard).statusCode).toBe(200);
  });

  test("close lets what is under way finish, and refuses the rest", async () => {
    const gate = new Gate();
    const { url, sockets } = await numbered(protocol, (_, end) => void gate.pass().then(end));
    const to = await dispatcher({ endpoints: [url], connections: 1, useH2c });
    const heard = ask(to, {}, handler("new"));
    await until(() => gate.waiting === 1);
    const closed = to.close();
    expect([to.closed, to.destroyed]).toEqual([true, false]);
    expect(codeOf((await ask(to, {}, handler("new"))).error())).toBe("UND_ERR_CLOSED");
    gate.open();
    expect((await heard).body()).toBe("whole");
    await closed;
    await until(() => sockets.size === 0);
    expect(to.close()).toBe(closed);
  });

  test("destroy ends what is under way and what waits with its reason", async () => {
    const gate = new Gate();
    const { url, sockets } = await numbered(protocol, (_, end) => void gate.pass().then(end));
    const to = await dispatcher({ endpoints: [url], connections: 1, useH2c, maxConcurrentStreams: 1 });
    const heard = [handler("new"), handler("old")];
    const asked = heard.map((each) => ask(to, {}, each));
    await until(() => gate.waiting === 1);
    const reason = new Error("going down");
    await new Promise<void>((resolve) => to.destroy(reason, resolve));
    await Promise.all(asked);
    expect(heard.map((each) => each.error())).toEqual([reason, reason]);
    expect(codeOf((await ask(to, {}, handler("new"))).error())).toBe("UND_ERR_DESTROYED");
    await until(() => sockets.size === 0);
  });

  test("a handler hears of its failure in the context of its own request, whoever has brought it about", async () => {
    const storage = new AsyncLocalStorage<string>();
    const gate = new Gate();
    const { url } = await numbered(protocol, (_, end) => void gate.pass().then(end));
    const to = await dispatcher({ endpoints: [url], connections: 1, useH2c, maxConcurrentStreams: 2, pipelining: 2 });
    await to.ready();
    const seen = new Map<number, string | undefined>();
    const asked = ["GET", "POST", "GET", "POST"].map((method, at) => {
      const heard = handler("new", (call) => {
        if (call === "error") seen.set(at, storage.getStore());
      });
      return storage.run(`caller ${at}`, () => ask(to, { method }, heard));
    });
    await until(() => gate.waiting > 0);
    await storage.run("whoever ends it", () => to.destroy());
    await Promise.all(asked);
    expect(seen).toEqual(new Map([0, 1, 2, 3].map((at) => [at, `caller ${at}`])));
  });

  test("close and destroy call back, if they are asked to, as undici's dispatchers do", async () => {
    const { url, sockets } = await numbered(protocol);
    const ends: ((to: HttpDispatcher, told: () => void) => void)[] = [
      (to, told) => to.close(told),
      (to, told) => to.destroy(told),
      (to, told) => to.destroy(null, told),
      (to, told) => void to[Symbol.asyncDispose]().then(told),
    ];
    for (const [at, end] of ends.entries()) {
      const to = await dispatcher({ endpoints: [url], connections: 1, useH2c });
      await to.ready();
      await new Promise<void>((resolve) => end(to, resolve));
      expect([to.closed, to.destroyed, to.process.alive], String(at)).toEqual([true, at === 1 || at === 2, false]);
    }
    await until(() => sockets.size === 0);
  });

  test("nobody waits without limit: in number, or in time", async () => {
    const gate = new Gate();
    const { url } = await numbered(protocol, (_, end) => void gate.pass().then(end));
    const runtime = virtualRuntime();
    const to = await dispatcher({
      endpoints: [url],
      connections: 1,
      useH2c,
      maxConcurrentStreams: 1,
      queue: { limit: 1 },
      waitTimeoutMs: 700,
      runtime,
    });
    const first = ask(to, {}, handler("new"));
    await until(() => gate.waiting === 1);
    const [second, third] = [ask(to, {}, handler("new")), ask(to, {}, handler("new"))];
    expect(codeOf((await third).error())).toBe("ERR_POOL_QUEUE_FULL");
    await runtime.advance(700);
    expect(codeOf((await second).error())).toBe("ERR_POOL_ACQUIRE_TIMEOUT");
    gate.open();
    expect((await first).body()).toBe("whole");
  });

  test("a response that is late is undici's error, and speaks against its connection", async () => {
    const gate = new Gate();
    const { url, asked } = await numbered(protocol, (_, end) => void gate.pass().then(end));
    const runtime = virtualRuntime();
    const to = await dispatcher({ endpoints: [url], connections: 1, useH2c, runtime, stallMs: Infinity });
    // Over HTTP/1.1 the time is undici's own, and real.
    const late = ask(to, { headersTimeout: useH2c ? 60_000 : 1 }, handler("new"));
    await until(() => gate.waiting === 1);
    if (useH2c) {
      await runtime.advance(59_999);
      expect(statsOf(to).inFlight).toBe(1);
      await runtime.advance(2);
    }
    expect(codeOf((await late).error())).toBe("UND_ERR_HEADERS_TIMEOUT");
    expect(asked).toHaveLength(1);
    await until(() => statsOf(to).inFlight === 0);
    expect(statsOf(to).totals.failed).toBe(1);
    gate.open();
  });

  test("a request that takes long has a copy elsewhere where its pool hedges, and one response", async () => {
    const gate = new Gate();
    const asked: string[] = [];
    const servers = await Promise.all(
      ["one", "two"].map((name) =>
        numbered(protocol, (path, end) => {
          asked.push(`${name} ${path}`);
          if (path === "/slow" && asked.filter((each) => each.endsWith("/slow")).length === 1)
            void gate.pass().then(end);
          else end();
        }),
      ),
    );
    const { to, runtime } = await hedging(servers.map(({ url }) => url));
    const slow = handler("new");
    const done = ask(to, { path: "/slow" }, slow);
    await until(() => gate.waiting === 1);
    await runtime.advance(5_000);
    await done;
    expect(inShort(slow.calls)).toEqual(["start", "headers 200", "data", "complete"]);
    expect(slow.body()).toBe("whole");
    const copies = asked.filter((each) => each.endsWith("/slow")).map((each) => each.split(" ")[0]);
    expect(new Set(copies)).toEqual(new Set(["one", "two"]));
    expect(copies).toHaveLength(2);
    gate.open();
    await until(() => statsOf(to).inFlight === 0 && statsOf(to).ready === 2);
    expect((await ask(to, {}, handler("new"))).body()).toBe("whole");
    expect(inShort(slow.calls)).toEqual(["start", "headers 200", "data", "complete"]);
  });

  test("a copy whose connection is lost leaves the first to answer", async () => {
    const gate = new Gate();
    const never = new Gate();
    const servers = await Promise.all(
      ["one", "two"].map(() =>
        numbered(protocol, (path, end) => {
          if (path === "/slow") void (gate.waiting === 0 ? gate : never).pass().then(end);
          else end();
        }),
      ),
    );
    const { to, runtime } = await hedging(servers.map(({ url }) => url));
    const slow = handler("new");
    const done = ask(to, { path: "/slow" }, slow);
    await until(() => gate.waiting === 1);
    const first = servers.find(({ asked }) => asked.includes("GET /slow"));
    await runtime.advance(5_000);
    await until(() => never.waiting === 1);
    for (const server of servers) if (server !== first) await server.stop();
    await until(() => statsOf(to).totals.lost === 1);
    expect(slow.calls).toEqual(["start"]);
    gate.open();
    await done;
    expect(inShort(slow.calls)).toEqual(["start", "headers 200", "data", "complete"]);
    await until(() => statsOf(to).inFlight === 0);
  });

  test("has ten connections to each endpoint where nobody says how many", async () => {
    const { url, sockets } = await numbered(protocol);
    const to = await dispatcher({ endpoints: [url], useH2c });
    await to.ready({ min: 10 });
    await until(() => sockets.size === 10);
    expect(statsOf(to).size).toBe(10);
  });

  test("a response of 500 or more counts as a failure of the one that gave it, and is a response all the same", async () => {
    let status = 503;
    const { url } =
      protocol === "h2"
        ? await serve2((stream) => {
            stream.respond({ ":status": status });
            stream.end();
          })
        : await serve1((_, response) => response.writeHead(status).end());
    const to = await dispatcher({ endpoints: [url], connections: 1, useH2c });
    expect((await ask(to, {}, handler("new"))).calls.at(-1)).toBe("complete");
    status = 404;
    expect((await ask(to, {}, handler("new"))).calls.at(-1)).toBe("complete");
    await until(() => statsOf(to).inFlight === 0);
    expect(statsOf(to).totals).toMatchObject({ acquired: 2, failed: 1, succeeded: 1, retried: 0 });
  });
});

describe("over http/1.1", () => {
  test("a connection has one request at a time, or as many as may be pipelined", async () => {
    for (const pipelining of [1, 3]) {
      const gate = new Gate();
      const { url } = await numbered("http/1.1", (_, end) => void gate.pass().then(end));
      const to = await dispatcher({ endpoints: [url], connections: 2, pipelining });
      await to.ready({ min: 2 });
      const all = Array.from({ length: 10 }, () => ask(to, { blocking: false }, handler("new")));
      expect(statsOf(to)).toMatchObject({ inFlight: 2 * pipelining, waiting: 10 - 2 * pipelining });
      await until(() => gate.waiting === 2 * pipelining);
      gate.open();
      for (const heard of await Promise.all(all)) expect(heard.body()).toBe("whole");
    }
  });

  test("a request whose neighbour in a pipeline is given up is not sent twice behind its caller's back", async () => {
    const gate = new Gate();
    const { url, asked } = await numbered("http/1.1", (path, end) =>
      path === "/gate" ? void gate.pass().then(end) : end(),
    );
    const to = await dispatcher({ endpoints: [url], connections: 1, pipelining: 2 });
    await to.ready();
    const first = ask(to, { path: "/gate", method: "POST", blocking: false }, handler("new"));
    const second = handler("new");
    const given = ask(to, { path: "/second", blocking: false }, second);
    await until(() => gate.waiting === 1 && asked.length === 2);
    second.abort(new Error("given up"));
    expect((await first).error()).toBeInstanceOf(errors.SocketError);
    await given;
    gate.open();
    expect((await ask(to, { path: "/third" }, handler("new"))).body()).toBe("whole");
    expect(asked.filter((each) => each === "POST /gate")).toHaveLength(1);
  });

  test("what stands in a pipeline and was not sent goes elsewhere, whatever it is, when its connection is lost", async () => {
    const asked: string[] = [];
    const { url, accepted } = await serve1((request, response) => {
      asked.push(request.url ?? "");
      if (request.url === "/first") request.socket.destroy();
      else response.end("whole");
    });
    const to = await dispatcher({ endpoints: [url], connections: 1, pipelining: 2 });
    await to.ready();
    const storage = new AsyncLocalStorage<string>();
    const contexts: unknown[] = [];
    const note = (): void => void contexts.push(storage.getStore());
    subscribe("undici:request:create", note);
    // undici sends nothing behind a POST: the second waits in the client.
    const post = (path: string): Promise<Heard> =>
      storage.run(path, () => ask(to, { path, method: "POST" }, handler("new")));
    const [first, second] = [post("/first"), post("/second")];
    expect(statsOf(to).inFlight).toBe(2);
    expect((await first).error()).toBeInstanceOf(errors.SocketError);
    expect((await second).body()).toBe("whole");
    unsubscribe("undici:request:create", note);
    expect(contexts, "each is sent, and sent again, in its caller's context").toEqual(["/first", "/second", "/second"]);
    expect([asked, accepted()]).toEqual([["/first", "/second"], 2]);
    expect(statsOf(to).totals).toMatchObject({ lost: 1, retried: 1 });
  });

  test("a server that is slow is left alone for as long as its socket is open", async () => {
    const gate = new Gate();
    const { url, accepted } = await numbered("http/1.1", (_, end) => void gate.pass().then(end));
    const runtime = virtualRuntime();
    const to = await dispatcher({ endpoints: [url], connections: 1, runtime, stallMs: 1_000 });
    const slow = ask(to, {}, handler("new"));
    await until(() => gate.waiting === 1);
    await runtime.advance(60_000);
    expect(statsOf(to)).toMatchObject({ inFlight: 1, totals: { lost: 0 } });
    gate.open();
    expect([(await slow).body(), accepted()]).toEqual(["whole", 1]);
  });

  test("a server that closes after every response costs a connection each, and nothing else", async () => {
    const { url, accepted } = await serve1((_, response) => response.setHeader("connection", "close").end("whole"));
    const to = await dispatcher({ endpoints: [url], connections: 2, backoff: { minMs: 60_000 } });
    const all = await Promise.all(Array.from({ length: 40 }, () => ask(to, {}, handler("new"))));
    for (const heard of all) expect(heard.body()).toBe("whole");
    expect(accepted()).toBeGreaterThanOrEqual(40);
    expect(statsOf(to).totals).toMatchObject({ lost: 0, retried: 0, failed: 0 });
  });

  test("requests that are given up cost their sockets, and the others find room", async () => {
    const gate = new Gate();
    const { url } = await numbered("http/1.1", (path, end) => (path === "/gate" ? void gate.pass().then(end) : end()));
    const to = await dispatcher({ endpoints: [url], connections: 2, backoff: { minMs: 60_000 } });
    for (let round = 1; round <= 5; round++) {
      const given = [handler("new"), handler("new")];
      const asked = given.map((each) => ask(to, { path: "/gate" }, each));
      await until(() => gate.waiting === 2 * round);
      for (const each of given) each.abort(new Error("given up"));
      await Promise.all(asked);
    }
    expect((await ask(to, {}, handler("new"))).body()).toBe("whole");
    expect(statsOf(to).totals.lost).toBe(0);
    gate.open();
  });

  test("a server that accepts and hangs up is not called in a loop", async () => {
    let accepted = 0;
    const server = createNetServer((socket: Socket) => {
      accepted++;
      socket.destroy();
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    later(() => server.close());
    const { port } = server.address() as import("node:net").AddressInfo;
    const lost = events("connection.lost");
    await dispatcher({ endpoints: [`127.0.0.1:${port}`], connections: 1, backoff: { minMs: 60_000, maxMs: 60_000 } });
    await until(() => lost.length >= 2);
    for (let turns = 0; turns < 200; turns++) await turn();
    expect(accepted).toBeLessThanOrEqual(2);
  });

  test("a server that goes while it has nothing to do is found out before the next request", async () => {
    const { url, stop, sockets } = await numbered("http/1.1");
    const two = await numbered("http/1.1");
    const to = await dispatcher({ endpoints: [url, two.url], connections: 1, strategy: roundRobin() });
    await to.ready({ min: 2 });
    for (let n = 0; n < 4; n++) await ask(to, { method: "POST" }, handler("new"));
    expect(sockets.size).toBe(1);
    await stop();
    await turn();
    for (let n = 0; n < 4; n++) {
      const heard = await ask(to, { method: "POST" }, handler("new"));
      expect(heard.error()).toBeUndefined();
      await until(() => statsOf(to).inFlight === 0);
    }
    expect(statsOf(to).totals.failed).toBe(0);
  });

  test("a server that says goodbye on a connection nobody has used costs no request anything", async () => {
    let connections = 0;
    const server = createNetServer((socket: Socket) => {
      socket.on("error", () => undefined);
      if (++connections === 1) socket.end("HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n\r\n");
      else socket.on("data", () => socket.write("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwhole"));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    later(() => server.close());
    const { port } = server.address() as import("node:net").AddressInfo;
    const to = await dispatcher({ endpoints: [`127.0.0.1:${port}`], connections: 1 });
    await to.ready();
    for (let turns = 0; turns < 20; turns++) await turn();
    const heard = await ask(to, { method: "POST", body: "x" }, handler("new"));
    expect([heard.error(), heard.body()]).toEqual([undefined, "whole"]);
  });

  test("CONNECT hands the tunnel over", async () => {
    const { url, server } = await serve1((_, response) => response.end("whole"));
    server.on("connect", (request, socket) => {
      socket.write(`HTTP/1.1 200 OK\r\n\r\n`);
      socket.on("data", (chunk: Buffer) => socket.write(`${request.url} ${chunk.toString()}`));
    });
    const to = await dispatcher({ endpoints: [url], connections: 1 });
    const { statusCode, socket } = await to.connect({ path: "far.test:443", origin: url });
    expect(statusCode).toBe(200);
    const answered = once(socket, "data");
    socket.write("hello");
    expect(String((await answered)[0])).toBe("far.test:443 hello");
    socket.destroy();
    expect((await ask(to, {}, handler("new"))).body()).toBe("whole");
  });

  test("bytes that are not HTTP end the request with undici's parser's error", async () => {
    let asked = 0;
    const server = createNetServer((socket: Socket) => {
      socket.on("data", () => {
        asked++;
        socket.write("SSH-2.0\r\n\r\n");
      });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    later(() => server.close());
    const { port } = server.address() as import("node:net").AddressInfo;
    const to = await dispatcher({ endpoints: [`127.0.0.1:${port}`], connections: 1 });
    expect((await ask(to, {}, handler("new"))).error()).toBeInstanceOf(errors.HTTPParserError);
    expect(asked).toBe(1);
  });
});

describe("over h2", () => {
  test("a session that has no stream left finishes, and another takes over without a request lost", async () => {
    const sessions: ClientHttp2Session[] = [];
    const { connect } = http2;
    http2.connect = ((...given: Parameters<typeof connect>) => {
      const session = connect(...given);
      sessions.push(session);
      return session;
    }) as typeof connect;
    syncBuiltinESMExports();
    later(() => {
      http2.connect = connect;
      syncBuiltinESMExports();
    });
    const { url } = await numbered("h2");
    const to = await dispatcher({ endpoints: [url], connections: 1, useH2c: true });
    await to.ready();
    (sessions[0] as unknown as { setNextStreamID(id: number): void }).setNextStreamID(2 ** 31 - 1); // Node's types lack it.
    for (let n = 0; n < 3; n++) {
      expect((await ask(to, { method: "POST", body: "x" }, handler("new"))).body()).toBe("whole");
    }
    expect(sessions).toHaveLength(2);
    await until(() => statsOf(to).size === 1);
    expect(statsOf(to).totals.failed).toBe(0);
  });

  test("a server that has stopped answering is found out by a ping, and replaced; one that is slow is not", async () => {
    const gate = new Gate();
    const { port, sessions } = await numbered("h2", (path, end) => (path === "/gate" ? gate.pass() : end()));
    const way = await between(port);
    const runtime = virtualRuntime();
    const endpoints = [`127.0.0.1:${way.port}`];
    const to = await dispatcher({ endpoints, connections: 1, useH2c: true, runtime, stallMs: 1_000 });
    const slow = ask(to, { path: "/gate", method: "POST" }, handler("new"));
    await until(() => gate.waiting === 1);
    let pings = 0;
    sessions[0]?.on("ping", () => pings++);
    for (let checks = 1; checks <= 3; checks++) {
      await runtime.advance(2_000);
      await until(() => pings === checks);
      expect((await ask(to, {}, handler("new"))).body()).toBe("whole"); // Behind the answer to the ping.
    }
    expect([way.accepted(), statsOf(to).totals.lost]).toEqual([1, 0]);
    way.freeze();
    await runtime.advance(10_000);
    expect((await slow).calls.at(-1)).toBe("error");
    expect((await ask(to, {}, handler("new"))).body()).toBe("whole");
    expect(way.accepted()).toBe(2);
  });

  test("a server whose bytes make no sense any more is found out, and replaced", async () => {
    const { url, sockets, accepted } = await numbered("h2", (path, end) => {
      if (path !== "/lost") end();
      else for (const socket of sockets) socket.write("This is of no protocol at all.\r\n\r\n");
    });
    const runtime = virtualRuntime();
    const to = await dispatcher({ endpoints: [url], connections: 1, useH2c: true, runtime, stallMs: 1_000 });
    const heard = handler("new");
    const asked = ask(to, { path: "/lost", method: "POST" }, heard);
    await until(() => statsOf(to).inFlight === 1);
    for (let looks = 0; looks < 20 && heard.calls.at(-1) !== "error"; looks++) {
      for (let turns = 0; turns < 100; turns++) await turn();
      await runtime.advance(1_000);
    }
    await asked;
    expect(heard.calls).toEqual(["start", "error"]);
    expect((await ask(to, {}, handler("new"))).body()).toBe("whole");
    expect(accepted()).toBe(2);
  });

  test("a session that is finishing is not taken for one that has stopped: what it has accepted is answered", async () => {
    const gate = new Gate();
    const { url, sessions } = await numbered("h2", (_, end) => void gate.pass().then(end));
    const runtime = virtualRuntime();
    const to = await dispatcher({ endpoints: [url], connections: 1, useH2c: true, runtime, stallMs: 1_000 });
    const drained = events("connection.drained");
    const slow = ask(to, { method: "POST" }, handler("new"));
    await until(() => gate.waiting === 1);
    sessions[0]?.close();
    await until(() => drained.length === 1);
    for (let looks = 0; looks < 4; looks++) {
      await runtime.advance(1_000);
      for (let turns = 0; turns < 20; turns++) await turn();
    }
    gate.open();
    expect((await slow).body()).toBe("whole");
    expect(statsOf(to).totals).toMatchObject({ lost: 0, failed: 0 });
  });

  test("a server that goes away with an error takes what is on it along: it is sent again, or told why", async () => {
    let asked = 0;
    const { url } = await serve2(async (stream, headers) => {
      asked++;
      await turn();
      if (headers[":path"] === "/bad" || asked === 1) stream.session?.goaway(constants.NGHTTP2_INTERNAL_ERROR);
      else {
        stream.respond({ ":status": 200 });
        stream.end("whole");
      }
    });
    const to = await dispatcher({ endpoints: [url], connections: 1, useH2c: true });
    expect((await ask(to, {}, handler("new"))).body()).toBe("whole");
    const bad = await ask(to, { path: "/bad", method: "POST", body: "text" }, handler("new"));
    expect(codeOf(bad.error())).toMatch(/^ERR_HTTP2_(?:SESSION|STREAM)_ERROR$/);
    expect(asked).toBe(3);
    expect((await ask(to, {}, handler("new"))).body()).toBe("whole");
  });

  test.each([
    ["HTTP/1.1", constants.NGHTTP2_HTTP_1_1_REQUIRED],
    ["calm", constants.NGHTTP2_ENHANCE_YOUR_CALM],
  ])("a server that asks for %s instead has answered: nothing is sent again", async (_, code) => {
    let asked = 0;
    const { url, accepted } = await serve2((stream) => {
      asked++;
      stream.close(code);
    });
    const to = await dispatcher({ endpoints: [url], connections: 1, useH2c: true });
    expect(codeOf((await ask(to, {}, handler("new"))).error())).toBe("ERR_HTTP2_STREAM_ERROR");
    await until(() => statsOf(to).inFlight === 0);
    expect([asked, accepted()]).toEqual([1, 1]);
    expect(statsOf(to).totals).toMatchObject({ failed: 1, lost: 0, retried: 0 });
  });

  test("a request that is given up while its headers are being read is not sent", async () => {
    const { url, asked } = await numbered("h2");
    const to = await dispatcher({ endpoints: [url], connections: 1, useH2c: true });
    await to.ready();
    const heard = handler("new");
    function* headers(): Iterable<[string, string]> {
      heard.abort(new Error("enough"));
      yield ["x-one", "1"];
    }
    await ask(to, { path: "/given-up", headers: headers() }, heard);
    expect([heard.calls, heard.error()?.message]).toEqual([["start", "error"], "enough"]);
    expect((await ask(to, { path: "/next" }, handler("new"))).body()).toBe("whole");
    expect(asked).toEqual(["GET /next"]);
    expect(statsOf(to)).toMatchObject({ inFlight: 0, totals: { lost: 0 } });
  });

  test("where a timeout is 0, nothing is ever late", async () => {
    const gate = new Gate();
    const { url } = await serve2(async (stream, headers) => {
      if (headers[":path"] === "/headers") await gate.pass();
      stream.respond({ ":status": 200 });
      stream.write("wh");
      await gate.pass();
      stream.end("ole");
    });
    const runtime = virtualRuntime();
    const client = { headersTimeout: 0, bodyTimeout: 0 };
    const to = await dispatcher({ endpoints: [url], connections: 1, useH2c: true, runtime, stallMs: Infinity, client });
    const [first, second] = [handler("new"), handler("new")];
    const asked = [ask(to, { path: "/headers" }, first), ask(to, { path: "/body" }, second)];
    await until(() => gate.waiting === 2 && second.body() === "wh");
    await runtime.advance(365 * 24 * 3_600_000);
    gate.open();
    for (const each of await Promise.all(asked)) expect(each.body()).toBe("whole");
  });

  test("a handler that has room again after its end is waited for no more", async () => {
    const { url } = await serve2((stream) => {
      stream.respond({ ":status": 200 });
      stream.write("half");
    });
    const runtime = virtualRuntime();
    const to = await dispatcher({ endpoints: [url], connections: 1, useH2c: true, runtime, stallMs: Infinity });
    const heard = handler("old", (call, self) => call === "data" && self.pause());
    const asked = ask(to, {}, heard);
    await until(() => heard.body() === "half");
    heard.abort(new Error("enough"));
    await asked;
    await until(() => statsOf(to).inFlight === 0);
    heard.resume();
    expect(runtime.timers).toBe(0);
    expect(heard.calls.at(-1)).toBe("error");
  });

  test("a body that stops coming is late, unless it is its reader who has no room", async () => {
    const { url } = await serve2((stream) => {
      stream.respond({ ":status": 200 });
      stream.write("half");
    });
    const runtime = virtualRuntime();
    const to = await dispatcher({
      endpoints: [url],
      connections: 1,
      useH2c: true,
      runtime,
      stallMs: Infinity,
      client: { bodyTimeout: 9_000 },
    });
    const heard = handler("new", (call, self) => call === "data" && self.pause());
    const asked = ask(to, {}, heard);
    await until(() => heard.body() === "half");
    await runtime.advance(60_000);
    expect(heard.calls.at(-1)).toBe("data");
    heard.resume();
    await runtime.advance(8_999);
    expect(heard.calls.at(-1)).toBe("data");
    await runtime.advance(2);
    expect(codeOf((await asked).error())).toBe("UND_ERR_BODY_TIMEOUT");
    await until(() => statsOf(to).inFlight === 0);
    expect(runtime.timers).toBe(0);
  });

  test("the first burst knows how many streams the server allows", async () => {
    const gate = new Gate();
    const { url, most, sessions } = await serve2(
      async (stream) => {
        await gate.pass();
        stream.respond({ ":status": 200 });
        stream.end();
      },
      { maxConcurrentStreams: 10 },
    );
    const to = await dispatcher({ endpoints: [url], connections: 2, useH2c: true });
    const all = Array.from({ length: 50 }, () => ask(to, {}, handler("new")));
    await until(() => gate.waiting >= 20 || statsOf(to).inFlight === 20);
    await until(() => gate.waiting === 20);
    expect(statsOf(to)).toMatchObject({ inFlight: 20, waiting: 30 });
    gate.open();
    await Promise.all(all);
    expect(most()).toBe(10);
    expect(sessions).toHaveLength(2);
  });

  test("a limit that changes is heeded from then on; none at all is a wait", async () => {
    const { url, sessions } = await numbered("h2");
    const runtime = virtualRuntime();
    const to = await dispatcher({ endpoints: [url], connections: 1, useH2c: true, runtime });
    await to.ready();
    const [pool] = to.pools().values();
    const capacity = (): number | undefined => pool?.members()[0]?.capacity;
    for (const limit of [3, 0]) {
      sessions[0]?.settings({ maxConcurrentStreams: limit });
      await until(() => capacity() === limit);
    }
    const waiting = ask(to, {}, handler("new"));
    await runtime.advance(5_000);
    expect(codeOf((await waiting).error())).toBe("ERR_POOL_ACQUIRE_TIMEOUT");
    sessions[0]?.settings({ maxConcurrentStreams: 1 });
    await until(() => capacity() === 1);
    expect((await ask(to, {}, handler("new"))).body()).toBe("whole");
  });

  test("after a GOAWAY what the server has accepted ends as it should, and the rest goes elsewhere", async () => {
    const gate = new Gate();
    const { url, sessions, accepted } = await numbered("h2", (path, end) =>
      path === "/gate" ? void gate.pass().then(end) : end(),
    );
    const to = await dispatcher({ endpoints: [url], connections: 1, useH2c: true });
    const drained = events("connection.drained");
    const early = ask(to, { path: "/gate", method: "POST" }, handler("new"));
    await until(() => gate.waiting === 1);
    sessions[0]?.close();
    await until(() => drained.length === 1);
    const rest = await Promise.all(Array.from({ length: 5 }, () => ask(to, { method: "POST" }, handler("new"))));
    for (const heard of rest) expect(heard.body()).toBe("whole");
    expect(accepted()).toBe(2);
    gate.open();
    expect((await early).body()).toBe("whole");
    await until(() => statsOf(to).size === 1);
    expect(statsOf(to).totals).toMatchObject({ failed: 0, retried: 0 });
  });

  test("streams beyond the last that a GOAWAY names were not processed: they are sent again, whatever they are", async () => {
    const asked: ServerHttp2Stream[] = [];
    const { url, sessions } = await serve2((stream) => {
      asked.push(stream);
      if (sessions.length === 1) {
        if (asked.length === 3) stream.session?.goaway(constants.NGHTTP2_NO_ERROR, asked[0]?.id);
        return;
      }
      stream.respond({ ":status": 200 });
      stream.end("whole");
    });
    const to = await dispatcher({ endpoints: [url], connections: 1, useH2c: true });
    await to.ready();
    const all = Array.from({ length: 3 }, () => ask(to, { method: "POST", body: "text" }, handler("new")));
    expect([(await all[1])?.body(), (await all[2])?.body()]).toEqual(["whole", "whole"]);
    asked[0]?.respond({ ":status": 200 });
    asked[0]?.end("whole");
    expect((await all[0])?.body()).toBe("whole");
    expect(statsOf(to).totals).toMatchObject({ failed: 0, retried: 2 });
  });

  test("a stream that is refused is sent again once; refused twice, it is an error", async () => {
    let asked = 0;
    let refuse = 1;
    const { url } = await serve2((stream) => {
      asked++;
      if (refuse-- > 0) stream.close(constants.NGHTTP2_REFUSED_STREAM);
      else {
        stream.respond({ ":status": 200 });
        stream.end("whole");
      }
    });
    const to = await dispatcher({ endpoints: [url], connections: 1, useH2c: true });
    expect((await ask(to, { method: "POST", body: "text" }, handler("new"))).body()).toBe("whole");
    expect(asked).toBe(2);
    refuse = 9;
    expect(codeOf((await ask(to, {}, handler("new"))).error())).toBe("ERR_HTTP2_STREAM_ERROR");
    expect(asked).toBe(4);
    expect(statsOf(to).totals.lost).toBe(0);
  });

  test("a body that has been read from is not sent again, even to one who has refused it", async () => {
    let asked = 0;
    const { url } = await serve2((stream) => {
      asked++;
      stream.close(constants.NGHTTP2_REFUSED_STREAM);
    });
    const to = await dispatcher({ endpoints: [url], connections: 1, useH2c: true });
    async function* pieces(): AsyncIterable<Uint8Array> {
      yield Buffer.from("text");
    }
    expect(codeOf((await ask(to, { method: "POST", body: pieces() }, handler("new"))).error())).toBe(
      "ERR_HTTP2_STREAM_ERROR",
    );
    expect(asked).toBe(1);
  });

  test.each([
    ["with an error", (stream: ServerHttp2Stream) => stream.destroy(new Error("broken"))],
    // What a server of Node's says to its other streams when their session goes.
    ["without one", (stream: ServerHttp2Stream) => stream.destroy()],
  ])("a body that the server resets in the middle, %s, is an error", async (_, reset) => {
    const { url } = await serve2((stream) => {
      stream.respond({ ":status": 200 });
      stream.write("half", () => reset(stream));
    });
    const to = await dispatcher({ endpoints: [url], connections: 1, useH2c: true });
    const heard = await ask(to, {}, handler("new"));
    expect(heard.calls.at(-1)).toBe("error");
    expect(heard.body()).toBe("half");
    expect(statsOf(to).totals.lost).toBe(0);
  });

  test("a response that comes before the request's body has gone out ends both", async () => {
    const { url } = await serve2((stream) => {
      stream.respond({ ":status": 413 });
      stream.end("too much");
    });
    const to = await dispatcher({ endpoints: [url], connections: 1, useH2c: true });
    let given = false;
    async function* endless(): AsyncIterable<Uint8Array> {
      try {
        for (;;) yield Buffer.alloc(65_536);
      } finally {
        given = true;
      }
    }
    const heard = await ask(to, { method: "POST", body: endless() }, handler("new"));
    expect([heard.statusCode, heard.body(), heard.calls.at(-1)]).toEqual([413, "too much", "complete"]);
    await until(() => given && statsOf(to).inFlight === 0);
    expect(statsOf(to).totals.lost).toBe(0);
  });

  test.each([
    ["that is given up", (heard: Heard) => heard.abort()],
    ["that is late", () => undefined],
    ["whose body breaks", (_: Heard, fail: () => void) => fail()],
    ["that is answered early", () => undefined],
  ])("a request %s while its body is being sent has left the server, too: its room is free", async (how, end) => {
    const { url, open } = await serve2((stream, headers) => {
      if (headers[":path"] === "/late") return;
      stream.respond({ ":status": 200 });
      stream.end("whole");
    });
    const runtime = virtualRuntime();
    const only = { endpoints: [url], connections: 1, maxConcurrentStreams: 1 };
    const to = await dispatcher({ ...only, useH2c: true, runtime, stallMs: Infinity });
    let fail!: () => void;
    const broken = new Promise<never>((_, reject) => {
      fail = () => reject(new Error("broken"));
    });
    let given = false;
    async function* body(): AsyncIterable<Uint8Array> {
      try {
        yield Buffer.from("half");
        await broken;
      } finally {
        given = true;
      }
    }
    const stream = Readable.from(body(), { objectMode: false });
    const heard = handler("new");
    const asked = ask(to, { path: how.endsWith("early") ? "/early" : "/late", method: "POST", body: stream }, heard);
    await until(() => open() === 1 || heard.calls.at(-1) === "complete");
    end(heard, fail);
    if (how.endsWith("late")) await runtime.advance(300_000);
    await asked;
    expect(heard.calls.at(-1)).toBe(how.endsWith("early") ? "complete" : "error");
    expect((await ask(to, {}, handler("new"))).body()).toBe("whole");
    await until(() => open() === 0 && stream.destroyed);
    fail();
    await broken.catch(() => undefined);
    await until(() => given);
    expect(statsOf(to)).toMatchObject({ inFlight: 0, totals: { lost: 0 } });
  });

  test("a server that asks for it gets 100-continue before a body", async () => {
    const order: string[] = [];
    const { url } = await serve2(async (stream, headers) => {
      order.push(`${headers["expect"]}`);
      for (let turns = 0; turns < 20; turns++) await turn();
      order.push(`${stream.readableLength}`);
      stream.additionalHeaders({ ":status": 100 });
      order.push(`body ${(await bodyOf(stream)).length}`);
      stream.respond({ ":status": 200 });
      stream.end();
    });
    const to = await dispatcher({ endpoints: [url], connections: 1, useH2c: true });
    const heard = await ask(to, { method: "POST", body: "hello", expectContinue: true }, handler("new"));
    expect(heard.calls).toEqual(["start", "headers 200", "complete"]);
    expect(order).toEqual(["100-continue", "0", "body 5"]);
  });

  test("a server that does not speak it is an opening that fails", async () => {
    const { url } = await numbered("http/1.1");
    const failed = events("connection.openFailed");
    await dispatcher({ endpoints: [url], connections: 1, useH2c: true });
    await until(() => failed.length > 0);
    expect(failed[0]?.error).toBeInstanceOf(Error);
  });
});

describe("over TLS", () => {
  test("the server chooses the protocol, and must be who it should be", async () => {
    const { port, most } = await serveTls(
      (stream, headers) => {
        stream.respond({ ":status": 200 });
        stream.end(`h2 ${headers[":authority"]}`);
      },
      (request, response) => response.end(`http/1.1 ${request.headers.host}`),
    );
    const origin = "https://api.test";
    const endpoints = [`https://127.0.0.1:${port}`];
    for (const [allowH2, protocol] of [
      [true, "h2"],
      [false, "http/1.1"],
    ] as const) {
      const to = await dispatcher({ origin, endpoints, allowH2, connections: 1, connect: { ca: certificate } });
      const heard = await ask(to, { origin }, handler("new"));
      expect(heard.body()).toBe(`${protocol} api.test`);
      const [pool] = to.pools().values();
      expect(await pool?.use((connection) => [connection.protocol, connection.origin])).toEqual([protocol, origin]);
      // A host of the caller's own is a header, no other server.
      const other = await ask(to, { origin, headers: { host: "other.test" } }, handler("new"));
      expect(other.body()).toBe(`${protocol} other.test`);
      expect(statsOf(to).totals).toMatchObject({ opened: 1, lost: 0 });
    }
    expect(most()).toBe(1);
    const failed = events("connection.openFailed");
    await dispatcher({ origin: "https://stranger.test", endpoints, connections: 1, connect: { ca: certificate } });
    await until(() => failed.length > 0);
    expect(codeOf(failed[0]?.error)).toBe("ERR_TLS_CERT_ALTNAME_INVALID");
    const told = await dispatcher({
      endpoints,
      connections: 1,
      connect: { ca: certificate, servername: "localhost" },
    });
    expect((await ask(told, {}, handler("new"))).body()).toBe(`http/1.1 127.0.0.1:${port}`);
  });
});

test("a connect function that throws is a failed attempt, and is not heard of again when the dispatcher ends", async () => {
  const failed = events("connection.openFailed");
  const broken = (): never => {
    throw new Error("no sockets today");
  };
  const to = await dispatcher({ endpoints: ["http://127.0.0.1:1"], connections: 1, connect: broken as never });
  await until(() => failed.length > 0);
  expect(failed[0]?.error).toMatchObject({ message: "no sockets today" });
  await to.destroy(); // Whoever still listened to the attempt's signal would speak now.
});

describe("an origin", () => {
  test("that the endpoints serve is in every request, and no other gets in", async () => {
    const { url } = await serve1((request, response) => response.end(request.headers.host));
    const to = await dispatcher({ origin: "http://api.test:8080/", endpoints: [url], connections: 1 });
    for (const origin of [
      "http://api.test:8080",
      new URL("http://api.test:8080"),
      "http://API.test:8080/",
      undefined,
    ]) {
      const heard = await ask(to, origin === undefined ? {} : { origin: origin as string }, handler("new"));
      expect(heard.body()).toBe("api.test:8080");
    }
    for (const origin of ["http://api.test", "https://api.test:8080", "http://other.test:8080", "nonsense"]) {
      expect(codeOf((await ask(to, { origin }, handler("new"))).error())).toBe("UND_ERR_INVALID_ARG");
    }
    expect([...to.pools().keys()]).toEqual(["http://api.test:8080"]);
  });

  test("is each endpoint's own when none was named", async () => {
    const { url } = await serve1((request, response) => response.end(request.headers.host));
    const to = await dispatcher({ endpoints: [new URL(url).host], connections: 1 });
    expect((await ask(to, { origin: "http://whatever.test" }, handler("new"))).body()).toBe(new URL(url).host);
  });
});

describe("a dispatcher", () => {
  test("goes on when what says which responses are failures fails", async () => {
    const failed = events("callback.failed");
    const { url } = await numbered("http/1.1");
    const to = await dispatcher({
      endpoints: [url],
      connections: 1,
      isFailure: () => {
        throw new Error("no idea");
      },
    });
    expect((await ask(to, {}, handler("new"))).body()).toBe("whole");
    expect(failed.map(({ error }) => error.message)).toEqual(["no idea"]);
  });

  test("routes by the key that its caller makes of a request", async () => {
    const keys: unknown[] = [];
    const failed = events("callback.failed");
    const { url } = await numbered("http/1.1");
    const to = await dispatcher({
      endpoints: [url],
      connections: 2,
      key: ({ path }) => {
        if (path === "/throws") throw new Error("no key");
        return path;
      },
      strategy: {
        pick: (members, { key }) => {
          keys.push(key);
          return members[0] as (typeof members)[number];
        },
      },
    });
    await to.ready();
    await ask(to, { path: "/a" }, handler("new"));
    await ask(to, { path: "/throws" }, handler("new"));
    expect(keys).toEqual(["/a", undefined]);
    expect(failed.map(({ error }) => error.message)).toEqual(["no key"]);
  });

  test("follows endpoints that change", async () => {
    const one = await numbered("http/1.1");
    const two = await numbered("http/1.1");
    let go!: () => void;
    const changed = new Promise<void>((resolve) => {
      go = resolve;
    });
    async function* sets(): AsyncIterable<string[]> {
      yield [one.url];
      await changed;
      yield [two.url];
    }
    const to = await dispatcher({ endpoints: sets(), connections: 1 });
    await ask(to, {}, handler("new"));
    go();
    await until(() => one.sockets.size === 0 && two.sockets.size === 1);
    await ask(to, {}, handler("new"));
    expect([one.asked.length, two.asked.length]).toEqual([1, 1]);
  });

  test("can be a child in its user's tree", async () => {
    const { url, sockets } = await numbered("http/1.1");
    const tree = await Supervisor.start([HttpDispatcher.childSpec({ endpoints: [url], connections: 2 })], {
      strategy: "one_for_one",
    });
    await until(() => sockets.size === 2);
    await tree.stop();
    await until(() => sockets.size === 0);
  });

  test("lets what undici composes around it call everything it has", async () => {
    const { interceptors } = await import("undici");
    const { url } = await numbered("http/1.1");
    const to = await dispatcher({ endpoints: [url], connections: 1 });
    const composed = to.compose(interceptors.retry(), interceptors.redirect()) as unknown as HttpDispatcher;
    expect((await ask(composed, {}, handler("new"))).body()).toBe("whole");
    await composed.ready();
    expect(composed.pools().size).toBe(1);
    expect(Object.values(composed.stats())[0]?.totals.succeeded).toBe(1);
    expect(composed.closed).toBe(false);
    await composed.close();
    expect(to.closed).toBe(true);
  });
});
