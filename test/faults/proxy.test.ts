/** The proxy does what it is told, and nothing else. In virtual time, over real sockets. */

import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, test } from "vitest";
import { type VirtualRuntime, virtualRuntime } from "../../src/sim/index.ts";
import { deadPort, Far, Listener } from "../multiplex/loopback.ts";
import { turns, until } from "../multiplex/turns.ts";
import { Proxy } from "./proxy.ts";

const open: Proxy[] = [];

afterEach(async () => {
  for (const proxy of open.splice(0)) {
    await proxy.close();
    await until("nothing is left of it", () => proxy.connections === 0);
  }
});

interface Ends {
  readonly proxy: Proxy;
  readonly runtime: VirtualRuntime;
  readonly client: Far;
  readonly server: Far;
}

/** A client and a server, and the proxy between them. */
async function ends(): Promise<Ends> {
  const runtime = virtualRuntime();
  const listener = await Listener.open();
  const proxy = await Proxy.listen({ host: "127.0.0.1", port: listener.port }, { runtime });
  open.push(proxy);
  const client = await Far.connect(proxy.port);
  const server = await listener.guest();
  return { proxy, runtime, client, server };
}

const heard = (far: Far, text: string) => until(`"${text}" has come`, () => far.text === text);

describe("without faults", () => {
  test("what either end says reaches the other, and so does its end", async () => {
    const { client, server, proxy } = await ends();
    client.send("to the server");
    server.send("to the client");
    await heard(server, "to the server");
    await heard(client, "to the client");
    client.socket.end("last words");
    await until("the server hears the end", () => server.ended);
    expect(server.text).toBe("to the serverlast words");
    server.socket.end("!");
    await until("both are closed", () => client.closed && server.closed);
    await until("the proxy has forgotten them", () => proxy.connections === 0);
    expect([client.text, client.error, server.error]).toEqual(["to the client!", undefined, undefined]);
  });

  test("eight megabytes pass unchanged, however slowly it is read", async () => {
    const { client, server } = await ends();
    const bytes = Buffer.alloc(8_000_000, "poolwarden");
    server.socket.pause();
    client.send(bytes);
    await turns(100);
    server.socket.resume();
    await until("all has come", () => server.length === bytes.length);
    expect(server.bytes.equals(bytes)).toBe(true);
  });
});

describe("latency", () => {
  test("delays one direction and not the other, and keeps the order whatever the jitter", async () => {
    const { proxy, runtime, client, server } = await ends();
    proxy.set("up", { latencyMs: 100, jitterMs: 100 });
    for (const letter of "abcdefgh") {
      client.send(letter);
      await turns(20);
    }
    server.send("at once");
    await heard(client, "at once");
    expect(server.text).toBe("");
    await runtime.advance(200);
    await heard(server, "abcdefgh");
  });
});

describe("bandwidth", () => {
  test("lets through so many bytes a second", async () => {
    const { proxy, runtime, client, server } = await ends();
    proxy.set("up", { bytesPerSecond: 10, sliceBytes: 1 });
    client.send("x".repeat(30));
    await turns(50);
    for (const seconds of [1, 2, 3]) {
      await runtime.advance(1_000);
      await until("its bytes have come", () => server.length >= 10 * seconds);
      expect(server.length).toBe(10 * seconds);
    }
  });
});

describe("the slicer", () => {
  test("cuts what is sent into pieces, all of which arrive", async () => {
    const { proxy, runtime, client, server } = await ends();
    proxy.set("up", { sliceBytes: 3, bytesPerSecond: 3 });
    let pieces = 0;
    server.socket.on("data", () => pieces++);
    client.send("one piece");
    await turns(50);
    for (let second = 0; second < 3; second++) {
      await runtime.advance(1_000);
      await turns(20);
    }
    await heard(server, "one piece");
    expect(pieces).toBe(3);
  });
});

describe("a reset", () => {
  test("reaches both ends, as an error and not as the end of the stream", async () => {
    const { proxy, client, server } = await ends();
    proxy.reset();
    await until("both are closed", () => client.closed && server.closed);
    const codes = [client, server].map(({ error }) => (error as NodeJS.ErrnoException).code);
    expect([codes, client.ended, server.ended]).toEqual([["ECONNRESET", "ECONNRESET"], false, false]);
  });

  test("of one end reaches the other", async () => {
    const { client, server } = await ends();
    server.socket.resetAndDestroy();
    await until("the client is closed", () => client.closed);
    expect((client.error as NodeJS.ErrnoException).code).toBe("ECONNRESET");
  });
});

describe("a black hole", () => {
  test("lets nothing arrive and tells nobody, not even of the end; when it is over all arrives", async () => {
    const { proxy, client, server } = await ends();
    proxy.set("up", { blackHole: true });
    client.send("late");
    client.socket.end();
    server.send("at once");
    await heard(client, "at once");
    await turns(50);
    expect([server.text, server.ended, server.closed, client.closed]).toEqual(["", false, false, false]);
    proxy.heal();
    await until("the server hears the end", () => server.ended);
    expect(server.text).toBe("late");
  });
});

describe("limited data", () => {
  test("ends the connection at both ends behind so many bytes", async () => {
    const { proxy, client, server } = await ends();
    proxy.set("down", { limitBytes: 5 });
    server.send("abc");
    await heard(client, "abc");
    server.send("defgh");
    await until("both are closed", () => client.ended && server.ended);
    expect(client.text).toBe("abcde");
  });
});

describe("a half-close", () => {
  test("ends one direction, and the other goes on", async () => {
    const { proxy, client, server } = await ends();
    proxy.halfClose("down");
    await until("the client hears the end", () => client.ended);
    client.send("still here");
    await heard(server, "still here");
    expect(server.ended).toBe(false);
  });
});

describe("corruption", () => {
  test("flips one bit of every so many bytes, and no other", async () => {
    const { proxy, client, server } = await ends();
    proxy.set("up", { corruptBytes: 4 });
    const sent = Buffer.alloc(16);
    client.send(sent);
    await until("all has come", () => server.length === sent.length);
    const changed = [...server.bytes].flatMap((byte, at) => (byte === 0 ? [] : [at]));
    expect(changed).toEqual([3, 7, 11, 15]);
    expect([...server.bytes].every((byte) => (byte & (byte - 1)) === 0)).toBe(true);
  });
});

describe("a target that is gone", () => {
  test("is named, and the client is reset", async () => {
    const port = await deadPort();
    const proxy = await Proxy.listen({ host: "127.0.0.1", port });
    open.push(proxy);
    const client = await Far.connect(proxy.port);
    await until("the client is told", () => client.closed);
    expect(proxy.failures).toEqual([`proxy: nothing answers at 127.0.0.1:${port} (ECONNREFUSED)`]);
  });

  const program = fileURLToPath(new URL("proxy.ts", import.meta.url));
  const run = (...args: string[]): Promise<{ code: unknown; stderr: string }> =>
    new Promise((resolve) => {
      execFile(process.execPath, ["--import", "tsx", program, ...args], (error, _, stderr) => {
        resolve({ code: error?.code ?? 0, stderr });
      });
    });

  test("ends the program with a message and an exit code; so do flags that make no sense", async () => {
    const port = await deadPort();
    expect(await run("--target", `127.0.0.1:${port}`)).toEqual({
      code: 1,
      stderr: `proxy: nothing answers at 127.0.0.1:${port} (ECONNREFUSED). Start the server first.\n`,
    });
    expect(await run("--target", "nowhere")).toMatchObject({ code: 1, stderr: expect.stringContaining("--target") });
    const bad = await run("--target", `127.0.0.1:${port}`, "--latency-ms", "soon");
    expect(bad).toEqual({ code: 1, stderr: 'proxy: --latency-ms takes a number from 0 on, not "soon"\n' });
    const endless = await run("--target", `127.0.0.1:${port}`, "--slice-bytes", "0");
    expect(endless).toEqual({ code: 1, stderr: 'proxy: --slice-bytes takes a number from 1 on, not "0"\n' });
  });
});
