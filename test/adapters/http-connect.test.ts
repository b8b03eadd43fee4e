/**
 * How a dispatcher's sockets are made, and what becomes of those that nobody wants any more.
 *
 * The user's own `connect` stands where undici's would: it sees what it is asked for, and answers when the test says so.
 */
import { connect as connectNet, type Socket } from "node:net";
import { describe, expect, test } from "vitest";
import { virtualRuntime } from "../../src/sim/index.ts";
import { ask, dispatcher, events, handler, serve1, until } from "./http.ts";

type Asked = Record<string, unknown>;
type Answer = (error: Error | null, socket: Socket | null) => void;

/** A `connect` that writes down what it was asked for, and leads to this port whatever that was. */
function leadingTo(port: number): { asked: Asked[]; connect: never } {
  const asked: Asked[] = [];
  const connect = (options: Asked, answer: Answer): Socket => {
    asked.push(options);
    const socket = connectNet(port, "127.0.0.1", () => answer(null, socket));
    return socket;
  };
  return { asked, connect: connect as never };
}

describe("a connect function", () => {
  test.each([
    ["http://api.test", { hostname: "api.test", host: "api.test", port: "", servername: "api.test" }, "api.test"],
    ["api.test:81", { hostname: "api.test", host: "api.test:81", port: "81", servername: "api.test" }, "api.test:81"],
    ["http://[::1]:81", { hostname: "::1", host: "[::1]:81", port: "81" }, "[::1]:81"],
    ["10.0.0.1:81", { hostname: "10.0.0.1", host: "10.0.0.1:81", port: "81" }, "10.0.0.1:81"],
  ])("is asked for %s by its parts, and the server for its host", async (endpoint, expected, host) => {
    const { port } = await serve1((request, response) => response.end(request.headers.host));
    const { asked, connect } = leadingTo(port);
    const to = await dispatcher({ endpoints: [endpoint], connections: 1, connect });
    expect((await ask(to, {}, handler("new"))).body()).toBe(host);
    expect(asked).toEqual([{ ...expected, protocol: "http:", localAddress: null, allowH2: false }]);
  });

  test("hears of the unix socket that the client's options name, and of HTTP/2 where it is allowed", async () => {
    const { port } = await serve1((_, response) => response.end("whole"));
    const { asked, connect } = leadingTo(port);
    const client = { socketPath: "/run/api.sock" };
    const to = await dispatcher({ endpoints: ["http://api.test"], connections: 1, connect, client, allowH2: true });
    expect((await ask(to, {}, handler("new"))).body()).toBe("whole");
    expect(asked[0]).toMatchObject({ socketPath: "/run/api.sock", allowH2: true });
  });

  test("that opens nothing fails the attempt with its own error", async () => {
    const failed = events("connection.openFailed");
    const connect = (_: Asked, answer: Answer): void => answer(new Error("no sockets today"), null);
    await dispatcher({ endpoints: ["http://api.test"], connections: 1, connect: connect as never });
    await until(() => failed.length > 0);
    expect(failed[0]?.error).toMatchObject({ message: "no sockets today" });
  });

  test("that comes with its socket when its dispatcher has gone finds it closed", async () => {
    const { port } = await serve1(() => undefined);
    let answer!: Answer;
    // It gives nothing back: until it answers there is nothing to destroy.
    const connect = (_: Asked, then: Answer): void => {
      answer = then;
    };
    const to = await dispatcher({ endpoints: ["http://api.test"], connections: 1, connect: connect as never });
    await until(() => answer !== undefined);
    await to.destroy();
    const socket = connectNet(port, "127.0.0.1");
    answer(null, socket);
    expect(socket.destroyed).toBe(true);
    answer(new Error("nobody listens"), null);
  });
});

test("a request that comes in the moment in which an unused socket breaks goes elsewhere, whatever it is", async () => {
  const { port, accepted } = await serve1((_, response) => response.end("whole"));
  const opened: Socket[] = [];
  const connect = (_: Asked, answer: Answer): void => {
    const socket = connectNet(port, "127.0.0.1", () => answer(null, socket));
    opened.push(socket);
  };
  const to = await dispatcher({ endpoints: ["http://api.test"], connections: 1, connect: connect as never });
  await to.ready();
  opened[0]?.destroy(); // Nobody has heard of it when the request comes.
  const heard = await ask(to, { method: "POST", body: "text" }, handler("new"));
  expect([heard.error(), heard.body(), accepted()]).toEqual([undefined, "whole", 2]);
  expect(Object.values(to.stats())[0]?.totals).toMatchObject({ lost: 1, retried: 1 });
});

test("a connection that cannot be had again is given up, and what waits in it goes elsewhere", async () => {
  const { port } = await serve1((_, response) => response.setHeader("connection", "close").end("whole"));
  let opened = 0;
  const connect = (_: Asked, answer: Answer): void => {
    if (++opened === 2) return; // The first time that it is opened again, nothing comes of it.
    const socket = connectNet(port, "127.0.0.1", () => answer(null, socket));
  };
  const runtime = virtualRuntime();
  const to = await dispatcher({
    endpoints: ["http://api.test"],
    connections: 1,
    pipelining: 2,
    stallMs: 1_000,
    connect: connect as never,
    runtime,
  });
  await to.ready();
  const first = ask(to, { method: "POST" }, handler("new"));
  const second = ask(to, { method: "POST" }, handler("new"));
  expect((await first).body()).toBe("whole");
  await until(() => opened === 2);
  await runtime.advance(2_000);
  await until(() => Object.values(to.stats())[0]?.totals.lost === 1);
  await runtime.advance(20);
  expect((await second).body()).toBe("whole");
  expect(Object.values(to.stats())[0]?.totals).toMatchObject({ failed: 0, retried: 1 });
});

test("a socket that comes while its dispatcher is being destroyed is closed, at whatever step", async () => {
  const { port, sockets } = await serve1((_, response) => response.setHeader("connection", "close").end("whole"));
  // -1: just before.
  for (let steps = -1; steps < 20; steps++) {
    const opened: Socket[] = [];
    let reopened: (() => void) | undefined;
    const connect = (_: Asked, answer: Answer): void => {
      const socket = connectNet(port, "127.0.0.1", () => {
        // The first is for the request that uses it up; the second, which replaces it, waits for the test.
        if (opened.length === 1) answer(null, socket);
        else reopened = () => answer(null, socket);
      });
      opened.push(socket);
    };
    const to = await dispatcher({ endpoints: ["http://api.test"], connections: 1, connect: connect as never });
    expect((await ask(to, {}, handler("new"))).body()).toBe("whole");
    await until(() => reopened !== undefined);
    if (steps < 0) reopened?.();
    const over = to.destroy();
    for (let step = 0; step < steps; step++) await Promise.resolve();
    if (steps >= 0) reopened?.();
    await over;
    await until(() => opened.every((socket) => socket.destroyed), `all are closed when it comes after ${steps} steps`);
    expect(opened).toHaveLength(2);
  }
  await until(() => sockets.size === 0);
});

test.each([
  [true, "whole"],
  [false, "ECONNREFUSED"],
])(
  "with families of addresses tried in turn (%s), a name of which only the last answers gives %s",
  async (all, end) => {
    const { port } = await serve1((_, response) => response.end("whole"));
    const failed = events("connection.openFailed");
    const addresses = ["127.0.0.2", "127.0.0.1"].map((address) => ({ address, family: 4 }));
    const lookup = (_: string, options: { all?: boolean }, found: (...answer: unknown[]) => void): void => {
      if (options.all) found(null, addresses);
      else found(null, addresses[0]?.address, 4);
    };
    const to = await dispatcher({
      endpoints: [`http://many.test:${port}`],
      connections: 1,
      connect: { lookup: lookup as never },
      client: { autoSelectFamily: all, autoSelectFamilyAttemptTimeout: 5_000 },
    });
    if (end === "whole") expect((await ask(to, {}, handler("new"))).body()).toBe(end);
    else {
      await until(() => failed.length > 0);
      expect(failed[0]?.error).toMatchObject({ code: end });
    }
  },
);
