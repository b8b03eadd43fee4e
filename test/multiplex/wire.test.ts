/**
 * Dialling, against real listeners: how each way of not getting a socket ends, and that nothing is left of it.
 *
 * Time is virtual. A listener that never answers is one that speaks no TLS: it takes the connection, and the handshake
 * waits for ever.
 */

import { getEventListeners } from "node:events";
import type { Socket } from "node:net";
import { describe, expect, test } from "vitest";
import { type DialOptions, dial, type Wire } from "../../src/multiplex/wire.ts";
import type { Runtime, Timer, TimerOptions } from "../../src/runtime/index.ts";
import { virtualRuntime } from "../../src/sim/index.ts";
import { deadPort, Listener, listen } from "./loopback.ts";
import { turns, until } from "./turns.ts";

interface Dialling {
  readonly runtime: ReturnType<typeof virtualRuntime>;
  readonly caller: AbortController;
  readonly wire: Promise<Wire>;
  /** Nothing of it is left: no timer, nobody who listens to the signal. */
  readonly leftNothing: () => void;
}

/** A runtime whose one timer is over when the test says so, within the same step: no socket gets anywhere meanwhile. */
class Crank implements Runtime {
  readonly set: object[] = [];
  turn: () => void = () => undefined;

  now(): number {
    return 0;
  }

  random(): number {
    return 0;
  }

  setTimer(callback: () => void, delayMs: number, options?: TimerOptions): Timer {
    this.set.push({ delayMs, ...options });
    this.turn = callback;
    return { cancel: () => undefined };
  }
}

function dialling(port: number, options: Partial<DialOptions> = {}): Dialling {
  const runtime = virtualRuntime();
  const caller = new AbortController();
  const wire = dial({ host: "127.0.0.1", port, signal: caller.signal, timeoutMs: 1_000, runtime, ...options });
  wire.catch(() => undefined); // Some fail before the test looks.
  return {
    runtime,
    caller,
    wire,
    leftNothing: () => {
      expect(runtime.timers).toBe(0);
      expect(getEventListeners(caller.signal, "abort")).toEqual([]);
    },
  };
}

describe("dialling", () => {
  test("gives a wire that misses nothing of what the other side says at once", async () => {
    const listener = await Listener.open((far) => far.send("welcome"));
    const { wire, caller, leftNothing, runtime } = dialling(listener.port);
    let heard = "";
    const { socket, ...rest } = await wire;
    rest.receive((chunk, end) => {
      heard += chunk.toString("latin1", 0, end);
    });
    leftNothing();
    await until("it has been heard", () => heard === "welcome");
    socket.write("thanks");
    const far = await listener.guest();
    await until("it has been answered", () => far.text === "thanks");
    caller.abort(); // Ends dialling, and nothing after it.
    await runtime.advance(10_000);
    await turns(20);
    expect(socket.destroyed).toBe(false);
    expect(far.ended).toBe(false);
    socket.destroy();
  });

  test("leaves no listener of its own on the socket", async () => {
    const listener = await Listener.open();
    const { socket } = await dialling(listener.port).wire;
    // "end" is Node's own; the others are ours to set.
    expect(["error", "close", "connect"].map((event) => socket.listenerCount(event))).toEqual([0, 0, 0]);
    socket.destroy();
  });

  test("where nobody listens rejects with the socket's own error", async () => {
    const { wire, leftNothing } = dialling(await deadPort());
    await expect(wire).rejects.toMatchObject({ code: "ECONNREFUSED" });
    leftNothing();
  });

  test("with a signal that is aborted already opens nothing", async () => {
    const listener = await Listener.open();
    const reason = new Error("before");
    const { wire, leftNothing } = dialling(listener.port, { signal: AbortSignal.abort(reason) });
    await expect(wire).rejects.toBe(reason);
    leftNothing();
    await turns(20);
    expect(listener.guests).toEqual([]);
  });
});

describe.each([
  ["before the connection is there", false],
  ["during the handshake", true],
])("given up %s", (_, connected) => {
  async function begun(runtime?: Runtime): Promise<Dialling & { listener: Listener }> {
    const listener = await Listener.open();
    const given = runtime === undefined ? {} : { runtime };
    const all = dialling(listener.port, connected ? { tls: {}, ...given } : given);
    // A handshake begins with the client's word.
    if (connected) {
      const far = await listener.guest();
      await until("the client has spoken", () => far.bytes.length > 0);
    }
    return { ...all, listener };
  }

  async function gone(listener: Listener): Promise<void> {
    if (listener.guests.length === 0) return;
    const far = await listener.guest();
    await until("the far end has heard of it", () => far.ended || far.closed);
  }

  test("by its signal, it rejects with the signal's reason, and no socket is left", async () => {
    const { listener, wire, caller, leftNothing } = await begun();
    const reason = new Error("enough");
    caller.abort(reason);
    await expect(wire).rejects.toBe(reason);
    leftNothing();
    await turns(50);
    await gone(listener);
  });

  test("by its time, it rejects with how long that was, and no socket is left", async () => {
    const crank = new Crank();
    const { listener, wire, caller } = await begun(crank);
    expect(crank.set).toEqual([{ delayMs: 1_000, keepAlive: true }]);
    crank.turn();
    await expect(wire).rejects.toThrow("not connected after 1000 ms");
    expect(getEventListeners(caller.signal, "abort")).toEqual([]);
    await turns(50);
    await gone(listener);
  });
});

describe("dialling with TLS", () => {
  test("waits for the whole time and not a millisecond longer", async () => {
    const listener = await Listener.open();
    const { wire, runtime } = dialling(listener.port, { tls: {}, timeoutMs: 700 });
    let over = false;
    wire.catch(() => {
      over = true;
    });
    await listener.guest();
    await runtime.advance(699);
    expect(over).toBe(false);
    await runtime.advance(1);
    expect(over).toBe(true);
  });

  const ends: [string, (socket: Socket) => void][] = [
    ["closes", (socket) => socket.end()],
    ["resets", (socket) => socket.resetAndDestroy()],
    ["speaks no TLS", (socket) => socket.write("HTTP/1.1 400 Bad Request\r\n\r\n")],
  ];

  test.each(ends)("to a server that %s in the middle of the handshake rejects at once", async (_, end) => {
    const { port } = await listen((socket) => {
      socket.on("error", () => undefined);
      socket.once("data", () => end(socket));
    });
    const { wire, runtime, leftNothing } = dialling(port, { tls: {} });
    await expect(wire).rejects.toBeInstanceOf(Error);
    expect(runtime.now()).toBe(0);
    leftNothing();
  });

  test("with options that node:tls refuses rejects, and opens nothing", async () => {
    const listener = await Listener.open();
    const { wire, leftNothing } = dialling(listener.port, { tls: { cert: "no certificate", key: "no key" } });
    await expect(wire).rejects.toBeInstanceOf(Error);
    leftNothing();
    await turns(20);
    expect(listener.guests).toEqual([]);
  });

  test("tells the server whom it wants when that is a name, and not when it is an address", async () => {
    const listener = await Listener.open();
    const calls = ["localhost", "127.0.0.1"].map((host) => dialling(listener.port, { tls: {}, host }));
    // The client's first word holds the name in plain text.
    await until("both have spoken", () => listener.guests.filter((far) => far.bytes.length > 0).length === 2);
    const named = listener.guests.map((far) => far.text.includes("localhost"));
    expect(named.filter(Boolean)).toHaveLength(1);
    expect(listener.guests.some((far) => far.text.includes("127.0.0.1"))).toBe(false);
    for (const { caller } of calls) caller.abort();
  });
});
