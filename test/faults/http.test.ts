/**
 * An HTTP dispatcher, a bad network, and nginx and nghttpd behind it.
 *
 * Every request settles with its answer or an error; one that is idempotent is made again while the budget lasts; the
 * pool is whole again by itself, and nothing is left.
 */

import { afterEach, describe, expect, test } from "vitest";
import { HttpDispatcher } from "../../src/adapters/http/index.ts";
import { ask, handler } from "../adapters/http.ts";
import { heard } from "../process/heard.ts";
import { nghttpdInstalled, startNghttpd } from "../servers/nghttpd.ts";
import { nginxInstalled, startNginx } from "../servers/nginx.ts";
import type { Program } from "../servers/program.ts";
import { eventually } from "./processes.ts";
import { type Faults, Proxy } from "./proxy.ts";
import { sockets } from "./sockets.ts";

const connections = 4;
const text = "hello from the other side\n";

afterEach(() => eventually("no socket is left", () => sockets() === 0));

interface Upstream {
  readonly name: string;
  readonly installed: boolean;
  readonly useH2c: boolean;
  readonly path: string;
  readonly start: (port?: number) => Promise<Program & { readonly content: string }>;
}

const upstreams: readonly Upstream[] = [
  {
    name: "nginx, HTTP/1.1",
    installed: nginxInstalled(),
    useH2c: false,
    path: "/",
    start: async (port) => ({ ...(await startNginx({ text, ...(port && { port }) })), content: text }),
  },
  {
    name: "nghttpd, HTTP/2",
    installed: nghttpdInstalled(),
    useH2c: true,
    path: "/hello.txt",
    start: (port) => startNghttpd({ maxConcurrentStreams: 10, ...(port && { port }) }),
  },
];

describe.each(upstreams.filter(({ installed }) => installed))("$name", (upstream) => {
  interface Scene {
    server: Program;
    readonly proxy: Proxy;
    readonly dispatcher: HttpDispatcher;
    /** `"ok"`, or the name of the error. */
    readonly call: () => Promise<string>;
  }

  async function scene(act: (scene: Scene) => Promise<void>): Promise<void> {
    const server = await upstream.start();
    const proxy = await Proxy.listen({ host: "127.0.0.1", port: server.port });
    const dispatcher = await HttpDispatcher.start({
      ...{ endpoints: [`http://127.0.0.1:${proxy.port}`], connections, useH2c: upstream.useH2c },
      ...{ backoff: { minMs: 10, maxMs: 50 }, stallMs: 100, checkTimeoutMs: 100, openTimeoutMs: 1_000 },
      client: { headersTimeout: 1_000, bodyTimeout: 1_000 },
    });
    await dispatcher.ready({ min: connections });
    const { content } = server;
    const call = async (): Promise<string> => {
      const answer = await ask(dispatcher, { path: upstream.path }, handler("new"));
      const error = answer.error();
      if (error !== undefined) return (error as Error & { code?: string }).code ?? (error as Error).name;
      return answer.body() === content ? "ok" : `answered with ${answer.statusCode}`;
    };
    const set = { server, proxy, dispatcher, call };
    const stats = () => Object.values(dispatcher.stats())[0];
    try {
      await act(set);
      await eventually("the pool is whole again", () => stats()?.ready === connections);
      await eventually("what went wrong is over", () => stats()?.inFlight === 0);
      expect(await calls(200, call)).toEqual({ ok: 200 });
    } finally {
      await dispatcher.destroy();
      await proxy.close();
      await set.server.stop();
    }
    await eventually("the network is empty", () => proxy.connections === 0);
  }

  test.each<[string, Faults]>([
    ["latency and jitter", { latencyMs: 3, jitterMs: 3 }],
    ["slices of eleven bytes", { sliceBytes: 11 }],
  ])("over a slow network answers all: %s", (_, faults) =>
    scene(async ({ proxy, call }) => {
      proxy.set("up", faults);
      proxy.set("down", faults);
      expect(await calls(500, call)).toEqual({ ok: 500 });
      proxy.heal();
    }),
  );

  test.each<[string, (proxy: Proxy) => void]>([
    ["resets", (proxy) => proxy.reset()],
    ["connections that end after 2,000 bytes", (proxy) => proxy.set("down", { limitBytes: 2_000 })],
    ["connections that end in the middle of what is asked", (proxy) => proxy.set("up", { limitBytes: 1_000 })],
    ["half-closed connections", (proxy) => proxy.halfClose("down")],
    ["a black hole", (proxy) => proxy.set("down", { blackHole: true })],
  ])("over a network that breaks never answers wrongly, and the losses are counted: %s", (_, fault) =>
    scene(async ({ proxy, dispatcher, call }) => {
      using lost = heard("connection.lost");
      let mended: Promise<void> | undefined;
      const told = await calls(600, call, {
        200: () => {
          fault(proxy);
          mended = eventually("connections are lost", () => lost.events.length >= connections).then(() => proxy.heal());
        },
      });
      await mended;
      expect(Object.keys(told).filter((each) => each.startsWith("answered"))).toEqual([]);
      expect(told["ok"]).toBeGreaterThan(400);
      expect(Object.values(dispatcher.stats())[0]?.totals.lost).toBe(lost.events.length);
    }),
  );

  test("killed and started again on its port is found again", () =>
    scene(async (set) => {
      const { port } = set.server;
      const told = await calls(600, set.call, {
        200: async () => {
          await set.server.stop();
          set.server = await upstream.start(port);
        },
      });
      expect(told["ok"]).toBeGreaterThan(400);
    }));

  test("that stands still is noticed, and serves again when it goes on", () =>
    scene(async ({ server, call }) => {
      using lost = heard("connection.lost");
      let goesOn: Promise<void> | undefined;
      const told = await calls(400, call, {
        200: () => {
          server.signal("SIGSTOP");
          goesOn = eventually("all were lost", () => lost.events.length >= connections).then(() =>
            server.signal("SIGCONT"),
          );
        },
      });
      await goesOn;
      expect(told["ok"]).toBeGreaterThan(200);
    }));
});

/** So many calls, ten at a time, and how often each came out how. */
async function calls(
  count: number,
  call: () => Promise<string>,
  at: Readonly<Record<number, () => unknown>> = {},
): Promise<Record<string, number>> {
  const told: Record<string, number> = {};
  let [begun, done] = [0, 0];
  const caller = async (): Promise<void> => {
    while (begun++ < count) {
      const how = await call();
      told[how] = (told[how] ?? 0) + 1;
      await at[++done]?.();
    }
  };
  await Promise.all(Array.from({ length: 10 }, caller));
  expect(done).toBe(count);
  return told;
}
