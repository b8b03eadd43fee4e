/** Getting a connection, or not: wrong options, nobody there, nobody who answers, a caller who has had enough. */

import { getEventListeners } from "node:events";
import { describe, expect, test } from "vitest";
import { FantaPool, FantaTCP, type FantaTCPOptions } from "../../src/fanta/index.ts";
import { systemRuntime } from "../../src/runtime/index.ts";
import { virtualRuntime } from "../../src/sim/index.ts";
import { deadPort, Listener } from "../multiplex/loopback.ts";
import { turns, until } from "../multiplex/turns.ts";
import { scene } from "./client.ts";
import { data, frame } from "./frames.ts";

const host = "127.0.0.1";

function connecting(options: Partial<FantaTCPOptions> & { port: number }): Promise<unknown> {
  return FantaTCP.connect({ host, ...options }).catch((thrown: unknown) => thrown);
}

describe("connecting", () => {
  test("where nobody listens rejects with the socket's error as its cause, and may be tried again", async () => {
    const error = await connecting({ port: await deadPort() });
    expect(error).toMatchObject({ name: "FantaError", code: "ERR_FANTA_CONNECT", retryable: true });
    expect((error as Error).cause).toMatchObject({ code: "ECONNREFUSED" });
  });

  test("with certificates that are none is a mistake in the call, not of the server, for a pool too", async () => {
    const tls = { key: "no key", cert: "no certificate" };
    expect(await connecting({ port: 1, tls })).toMatchObject({ code: "ERR_OPTION", option: "FantaTCP.connect: tls" });
    await expect(FantaPool.start({ port: 1, tls })).rejects.toMatchObject({
      code: "ERR_OPTION",
      option: "FantaPool.start: tls",
    });
  });

  test("to one who never answers rejects when connectTimeoutMs are over and not before", async () => {
    const listener = await Listener.open();
    for (const [given, expected] of [
      [undefined, 10_000],
      [250, 250],
    ] as const) {
      const runtime = virtualRuntime();
      let error: unknown;
      const limits = given === undefined ? {} : { connectTimeoutMs: given };
      // What never answers is the handshake: a listener takes any connection.
      const over = connecting({ port: listener.port, tls: true, runtime, ...limits }).then((thrown) => {
        error = thrown;
      });
      await runtime.advance(expected - 1);
      expect(error).toBeUndefined();
      await runtime.advance(1);
      await over;
      expect(error).toMatchObject({
        code: "ERR_FANTA_CONNECT",
        cause: { message: `not connected after ${expected} ms` },
      });
      expect(runtime.timers).toBe(0);
    }
  });

  test("given up rejects with the caller's reason, whatever it is, and leaves nothing", async () => {
    const listener = await Listener.open();
    const caller = new AbortController();
    const reason = { any: "value" };
    const given = connecting({ port: listener.port, tls: true, signal: caller.signal, runtime: virtualRuntime() });
    const far = await listener.guest();
    caller.abort(reason);
    expect(await given).toBe(reason);
    expect(getEventListeners(caller.signal, "abort")).toEqual([]);
    await until("the peer has heard of it", () => far.ended || far.closed);
    expect(await connecting({ port: listener.port, signal: caller.signal })).toBe(reason);
    await turns(20);
    expect(listener.guests).toHaveLength(1);
  });

  test("done, is not ended by the signal it was given", async () => {
    const listener = await Listener.open();
    const caller = new AbortController();
    const fanta = await FantaTCP.connect({ host, port: listener.port, signal: caller.signal });
    caller.abort(new Error("too late"));
    await turns(20);
    const asked = fanta.request("x");
    const far = await listener.guest();
    await until("it has come", () => far.bytes.length > 9);
    far.send(frame(far.bytes.readUInt32BE(4), data, "yes"));
    expect(await asked).toBe("yes");
    await fanta.close();
  });

  test("misses nothing of what the server says at once", async () => {
    const listener = await Listener.open((far) => far.send(frame(0, 4)));
    const fanta = await FantaTCP.connect({ host, port: listener.port });
    expect(await fanta.process.exited).toBe("normal"); // That was a goaway.
  });

  const port = 7_000;
  test.each<[string, object]>([
    ["no options", undefined as never],
    ["no host", { port }],
    ["an empty host", { host: "", port }],
    ["no port", { host }],
    ["a port out of range", { host, port: 65_536 }],
    ["the port 0", { host, port: 0 }],
    ["a port that is a string", { host, port: "7000" }],
    ["tls that is none", { host, port, tls: "yes" }],
    ["half a codec", { host, port, codec: { encode: String } }],
    ["a requestTimeoutMs of 0", { host, port, requestTimeoutMs: 0 }],
    ["a connectTimeoutMs of Infinity", { host, port, connectTimeoutMs: Infinity }],
    ["a maxFrameBytes in which no frame fits", { host, port, maxFrameBytes: 4 }],
    ["a maxFrameBytes over a GiB", { host, port, maxFrameBytes: 2 ** 30 + 1 }],
    ["a signal that is none", { host, port, signal: {} }],
    ["a runtime that is none", { host, port, runtime: {} }],
    ["an unknown option", { host, port, prot: 1 }],
  ])("refuses %s before anything starts", async (_, options) => {
    await expect(FantaTCP.connect(options as never)).rejects.toMatchObject({ code: "ERR_OPTION" });
  });

  test("takes each option at the edge of its range", async () => {
    const listener = await Listener.open();
    const edges: Partial<FantaTCPOptions>[] = [
      { maxFrameBytes: 5, requestTimeoutMs: Infinity, tls: false },
      { maxFrameBytes: 2 ** 30, requestTimeoutMs: 0.001, runtime: systemRuntime },
    ];
    for (const options of edges) {
      const fanta = await FantaTCP.connect({ host, port: listener.port, ...options });
      expect(fanta.open).toBe(true);
      fanta.process.kill();
    }
  });
});

describe("a request", () => {
  test.each<[string, object]>([
    ["a timeoutMs of 0", { timeoutMs: 0 }],
    ["a timeoutMs that is no number", { timeoutMs: Number.NaN }],
    ["a signal that is none", { signal: "abort" }],
    ["an unknown option", { timeout: 5 }],
  ])("with %s rejects and is not sent", async (_, options) => {
    await scene(async (s) => {
      expect(await s.ask("x", options).outcome).toMatchObject({ error: { code: "ERR_OPTION" } });
      await s.roundTrip();
      expect({ inFlight: s.fanta.inFlight, sent: s.frames.length }).toEqual({ inFlight: 0, sent: 1 });
    })();
  });
});
