/**
 * Fanta over TLS: who is let in, who is not and how that is told, and that all else is as it is without.
 *
 * Certificates are made for the run (certificates.ts). Time is virtual where somebody waits for it; handshakes take the
 * turns they take.
 */

import { connect as connectPlain } from "node:net";
import { connect as connectSecure, type ConnectionOptions } from "node:tls";
import { afterEach, describe, expect, test } from "vitest";
import {
  type FantaContext,
  FantaPool,
  FantaServer,
  type FantaServerOptions,
  FantaTCP,
  type FantaTCPOptions,
} from "../../src/fanta/index.ts";
import { virtualRuntime } from "../../src/sim/index.ts";
import { Far, tooManyBytes } from "../multiplex/loopback.ts";
import { turn, turns, until } from "../multiplex/turns.ts";
import { heard } from "../process/heard.ts";
import { Authority } from "./certificates.ts";
import { data, frame, framesAt, goaway, hears } from "./frames.ts";

const host = "127.0.0.1";
const authority = new Authority("Poolwarden tests");
const stranger = new Authority("Poolwarden tests"); // Of the same name, but with another key.
const ours = authority.issue("server", [host, "localhost"]);
const elsewhere = authority.issue("elsewhere", ["elsewhere.test"]);
const mine = authority.issue("client 7");
const forged = stranger.issue("client 7");
const { cert: ca } = authority;

const open: (FantaServer | FantaTCP)[] = [];

afterEach(async () => {
  for (const each of open.splice(0)) {
    each.process.kill();
    if (each instanceof FantaServer) await until("the server is empty", () => each.connections === 0);
  }
});

async function serve(options: Partial<FantaServerOptions> = {}): Promise<FantaServer> {
  const server = await FantaServer.listen({ handler: (request) => `re: ${request}`, tls: ours, ...options });
  open.push(server);
  return server;
}

async function connect(
  to: FantaServer,
  tls: boolean | ConnectionOptions,
  more: Partial<FantaTCPOptions> = {},
): Promise<FantaTCP> {
  const fanta = await FantaTCP.connect({ host, port: to.port, tls, ...more });
  open.push(fanta);
  return fanta;
}

type Refusal = Error & { code: string; cause: Error & { code: string } };

function refusal(attempt: Promise<unknown>): Promise<Refusal> {
  return attempt.then(
    () => {
      throw new Error("it was not refused");
    },
    (thrown: Refusal) => thrown,
  );
}

describe("a client", () => {
  test("that trusts the server's authority is served, by address and by name", async () => {
    const server = await serve();
    for (const to of [host, "localhost"]) {
      const fanta = await connect(server, { ca }, { host: to });
      expect(await fanta.request("x")).toBe("re: x");
      expect(await fanta.ping()).toBeGreaterThanOrEqual(0);
      await fanta.close();
      expect(await fanta.process.exited).toBe("normal");
    }
    await until("both are gone", () => server.connections === 0);
  });

  test.each<[string, boolean | ConnectionOptions]>([
    ["knows no authority of ours", true],
    ["trusts another of the same name", { ca: stranger.cert }],
  ])("that %s does not connect, and says why", async (_, tls) => {
    const server = await serve();
    const refused = await refusal(connect(server, tls));
    expect(refused).toMatchObject({ name: "FantaError", code: "ERR_FANTA_CONNECT", retryable: true });
    expect(refused.cause.code).toMatch(/CERT|VERIFY/);
    await turns(50);
    expect(server.connections).toBe(0);
  });

  test("does not connect to one who proves to be another, unless that is whom it wants", async () => {
    const server = await serve({ tls: elsewhere });
    for (const to of [host, "localhost"]) {
      const refused = await refusal(connect(server, { ca }, { host: to }));
      expect(refused).toMatchObject({ code: "ERR_FANTA_CONNECT", cause: { code: "ERR_TLS_CERT_ALTNAME_INVALID" } });
    }
    const fanta = await connect(server, { ca, servername: "elsewhere.test" });
    expect(await fanta.request("x")).toBe("re: x");
  });

  test("with TLS does not connect to a server without, which closes", async () => {
    using failures = heard("fanta.protocolFailed");
    const server = await serve({ tls: undefined as never });
    expect(await refusal(connect(server, { ca }))).toMatchObject({ code: "ERR_FANTA_CONNECT" });
    expect(failures.events).toMatchObject([{ side: "server", error: { code: "ERR_FANTA_PROTOCOL" } }]);
    await until("it is gone", () => server.connections === 0);
  });

  test("without TLS is told by a server with it that it does not speak Fanta; nobody else is harmed", async () => {
    using failures = heard("fanta.protocolFailed");
    const server = await serve();
    const good = await connect(server, { ca });
    const plain = await connect(server, false);
    const refused = await refusal(plain.request("x"));
    expect(["ERR_FANTA_PROTOCOL", "ERR_CONNECTION_LOST"]).toContain(refused.code);
    await plain.process.exited;
    await until("the server has said so", () => failures.events.some(({ side }) => side === "server"));
    expect(await good.request("x")).toBe("re: x");
    expect(server.connections).toBe(1);
  });
});

describe("mutual TLS", () => {
  const mutual = { ...ours, ca, requestCert: true, rejectUnauthorized: true };

  test("shows the client's certificate to the handler", async () => {
    const seen: FantaContext["peerCertificate"][] = [];
    const server = await serve({
      tls: mutual,
      handler: (request, context) => {
        seen.push(context.peerCertificate);
        return request;
      },
    });
    const fanta = await connect(server, { ca, ...mine });
    expect(await fanta.request("x")).toBe("x");
    expect(seen).toMatchObject([{ subject: { CN: "client 7" }, issuer: { CN: "Poolwarden tests" } }]);
  });

  test("that is not demanded shows none of a client that has none", async () => {
    const seen: FantaContext["peerCertificate"][] = [];
    const server = await serve({
      tls: { ...mutual, rejectUnauthorized: false },
      handler: (request, context) => {
        seen.push(context.peerCertificate);
        return request;
      },
    });
    expect(await (await connect(server, { ca })).request("x")).toBe("x");
    expect(seen).toEqual([undefined]);
  });

  const unwelcome: [string, ConnectionOptions][] = [
    ["no certificate", {}],
    ["a certificate of another authority", forged],
  ];

  test.each(unwelcome)("refuses a client with %s while it connects (TLS 1.2)", async (_, certificate) => {
    using failures = heard("fanta.protocolFailed");
    const server = await serve({ tls: mutual });
    const refused = await refusal(connect(server, { ca, ...certificate, maxVersion: "TLSv1.2" }));
    expect(refused).toMatchObject({ name: "FantaError", code: "ERR_FANTA_CONNECT" });
    await until("the server has said so", () => failures.events.length > 0);
    expect(failures.events).toMatchObject([{ side: "server" }]);
    expect(server.connections).toBe(0);
  });

  test.each(unwelcome)(
    "refuses a client with %s, which may learn it only from its first request (TLS 1.3)",
    async (_, certificate) => {
      using failures = heard("fanta.protocolFailed");
      let asked = 0;
      const server = await serve({
        tls: mutual,
        handler: (request) => {
          asked++;
          return request;
        },
      });
      // A client has its side of the handshake done before the server has looked at the certificate.
      const refused = await refusal(
        connect(server, { ca, ...certificate, minVersion: "TLSv1.3" }).then((fanta) => fanta.request("x")),
      );
      expect(["ERR_CONNECTION_LOST", "ERR_FANTA_CONNECT"]).toContain(refused.code);
      await until("the server has said so", () => failures.events.length > 0);
      expect(failures.events).toMatchObject([{ side: "server" }]);
      expect({ asked, connections: server.connections }).toEqual({ asked: 0, connections: 0 });
    },
  );
});

describe("a connection over TLS", () => {
  test("carries many requests and large payloads, in any order", async () => {
    const gates: (() => void)[] = [];
    const server = await serve({
      handler: (request) => new Promise((resolve) => gates.push(() => resolve(`${request.length}: ${request}`))),
    });
    const fanta = await connect(server, { ca });
    const payloads = Array.from({ length: 50 }, (_, n) => `${n}`.repeat(n * 1_000 + 1));
    const answers = payloads.map((payload) => fanta.request(payload));
    await until("all have come", () => gates.length === 50);
    for (const answer of gates.reverse()) answer();
    const got = await Promise.all(answers);
    expect(got.every((answer, n) => answer === `${payloads[n]?.length}: ${payloads[n]}`)).toBe(true);
    expect(fanta.inFlight).toBe(0);
  });

  test("ends as one without: with a goaway, when the server closes", async () => {
    let release!: () => void;
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    const server = await serve({
      handler: async (request) => {
        await gate;
        return request;
      },
    });
    const fanta = await connect(server, { ca });
    const asked = fanta.request("x");
    await turns(50);
    const closing = server.close();
    await until("the client has been told", () => !fanta.open);
    release();
    expect(await asked).toBe("x");
    await closing;
    expect(await fanta.process.exited).toBe("normal");
  });

  test("is lost when its server is killed", async () => {
    const server = await serve({ handler: () => new Promise(() => undefined) });
    const fanta = await connect(server, { ca });
    const asked = refusal(fanta.request("x"));
    await until("it is there", () => server.connections === 1);
    await turns(50);
    server.process.kill();
    expect(await asked).toMatchObject({ code: "ERR_CONNECTION_LOST", sent: "maybe" });
    expect(await fanta.process.exited).toBeInstanceOf(Error);
  });

  test("is not read from while it does not read", async () => {
    let handled = 0;
    const word = "w".repeat(100_000);
    const server = await serve({
      handler: () => {
        handled++;
        return word;
      },
    });
    const client = new Far(connectSecure({ host, port: server.port, ca }));
    client.socket.pause();
    const count = tooManyBytes / word.length;
    client.send(Buffer.concat(Array.from({ length: count }, (_, n) => frame(n + 1, data, word))));
    await until("the first is handled", () => handled > 0);
    await turns(1_000);
    expect(handled).toBeLessThan(count);
    client.socket.resume();
    await until("all is answered", () => client.length === count * 100_009);
    expect(framesAt(client).every(({ id, text }, n) => id === n + 1 && text === word)).toBe(true);
    expect(handled).toBe(count);
  });
});

describe("a server that closes", () => {
  test("tells the goaway to one who was still shaking hands", async () => {
    const server = await serve();
    const socket = connectPlain({ host, port: server.port });
    const late = new Far(socket);
    socket.pause();
    await until("it is connected", () => !socket.connecting);
    await turns(50);
    const closing = server.close();
    const client = new Far(connectSecure({ socket, host, ca }));
    expect(await hears(client, 1)).toEqual([{ id: 0, kind: goaway, text: "" }]);
    client.send(frame(1, data, "served all the same"));
    expect((await hears(client, 2))[1]?.text).toBe("re: served all the same");
    client.socket.end();
    await closing;
    late.socket.destroy();
  });

  test("cuts off one who never does", async () => {
    const runtime = virtualRuntime();
    const server = await serve({ runtime });
    const silent = await Far.connect(server.port);
    await turns(50);
    expect(server.connections).toBe(0);
    const closing = server.close({ timeoutMs: 1_000 });
    await runtime.advance(999);
    expect({ alive: server.process.alive, closed: silent.closed }).toEqual({ alive: true, closed: false });
    await runtime.advance(1);
    await closing;
    await until("it has heard of it", () => silent.ended || silent.closed);
  });
});

describe("a pool over TLS", () => {
  test("reconnects to a server that comes back, with the certificate it had or with a new one", async () => {
    const runtime = virtualRuntime();
    let server = await serve();
    const { port } = server;
    const pool = await FantaPool.start({ host, port, tls: { ca }, size: 2, runtime });
    /** Time passes only while no handshake is under way: those take turns. */
    const ready = async (count: number): Promise<void> => {
      for (let n = 0; n < 100_000 && pool.stats().ready !== count; n++) {
        if (pool.stats().opening > 0 || pool.stats().waitingToReopen === 0) await turn();
        else await runtime.advance(10);
      }
      expect(pool.stats().ready).toBe(count);
    };
    await ready(2);
    expect(await pool.request("one")).toBe("re: one");
    for (const certificate of [ours, authority.issue("the new one", [host])]) {
      server.process.kill();
      await ready(0);
      const waiting = pool.request("two");
      server = await serve({ port, tls: certificate });
      await ready(2);
      expect(await waiting).toBe("re: two");
      // A client may have its side of the handshake done before the server has.
      await until("both are served", () => server.connections === 2);
    }
    expect(pool.stats()).toMatchObject({ inFlight: 0, waiting: 0, totals: { lost: 4, succeeded: 3, failed: 0 } });
    await pool.close();
    await until("nobody is left", () => server.connections === 0);
    expect(runtime.timers).toBe(0);
  });

  test("to a server it must not trust opens nothing, and says why", async () => {
    const runtime = virtualRuntime();
    const server = await serve({ tls: stranger.issue("stranger", [host]) });
    const pool = await FantaPool.start({ host, port: server.port, tls: { ca }, size: 1, runtime });
    await until("it has tried", () => pool.stats().totals.openFailed > 0);
    const asked = refusal(pool.request("x", { timeoutMs: 50 }));
    await runtime.advance(50);
    const refused = await asked;
    expect(refused).toMatchObject({
      code: "ERR_POOL_ACQUIRE_TIMEOUT",
      phase: "open",
      cause: { code: "ERR_FANTA_CONNECT" },
    });
    expect(server.connections).toBe(0);
    await pool.destroy();
  });
});
