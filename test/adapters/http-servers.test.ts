/**
 * Against servers that others have written.
 */
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { describe, expect, test } from "vitest";
import { fetch as undiciFetch } from "undici";
import { nghttpdInstalled, startNghttpd } from "../servers/nghttpd.ts";
import { nginxInstalled, startNginx } from "../servers/nginx.ts";
import { ask, dispatcher, events, handler, later, until } from "./http.ts";

describe.skipIf(!nghttpdInstalled())("nghttpd with a limit of ten streams", () => {
  test.each([
    ["Node's fetch", fetch as unknown as typeof undiciFetch],
    ["undici's fetch", undiciFetch],
  ] as const)("answers a burst of 200 calls of %s, never more than ten on a connection", async (_, get) => {
    const server = await startNghttpd({ maxConcurrentStreams: 10 });
    later(server.stop);
    const to = await dispatcher({ endpoints: [`127.0.0.1:${server.port}`], connections: 2, useH2c: true });
    const [pool] = to.pools().values();
    const most = new Map<number, number>();
    // Whenever anything of a response arrives, how much is under way on each connection.
    const look = (): void => {
      for (const { slot, inFlight } of pool?.members() ?? []) most.set(slot, Math.max(most.get(slot) ?? 0, inFlight));
    };
    const all = await Promise.all(
      Array.from({ length: 200 }, async () => {
        const response = await get(server.url, { dispatcher: to });
        look();
        return [response.status, await response.text()];
      }),
    );
    expect(all).toEqual(all.map(() => [200, server.content]));
    expect([...most.values()]).toEqual([10, 10]);
    expect(Object.values(to.stats())[0]?.totals).toMatchObject({ succeeded: 200, failed: 0, retried: 0, lost: 0 });
  });

  test("refuses nothing that an honest client sends", async () => {
    // A stream over the limit would be refused, and sent again: that must not be how 200 are answered.
    const retried = events("pool.retried");
    const server = await startNghttpd({ maxConcurrentStreams: 10 });
    later(server.stop);
    const to = await dispatcher({ useH2c: true, connections: 3 });
    const origin = new URL(server.url).origin;
    const all = await Promise.all(
      Array.from({ length: 200 }, () => ask(to, { origin, path: "/hello.txt" }, handler("new"))),
    );
    expect(all.map((heard) => heard.body())).toEqual(all.map(() => server.content));
    expect(retried).toEqual([]);
    expect(to.stats()[origin]?.size).toBe(3);
  });
});

describe.skipIf(!nginxInstalled())("two nginx", () => {
  test("of which one is killed in the middle: no idempotent request fails", async () => {
    const one = await startNginx({ text: "one" });
    const two = await startNginx({ text: "two" });
    later(one.stop);
    later(two.stop);
    const to = await dispatcher({ origin: "http://api.test", endpoints: [one.url, two.url], connections: 4 });
    await to.ready({ min: 8 });
    const answers: Record<string, number> = {};
    let left = 2_000;
    let killed: Promise<void> | undefined;
    const caller = async (): Promise<void> => {
      while (left-- > 0) {
        const heard = await ask(to, { path: `/${left}` }, handler("new"));
        const answer = heard.error() === undefined ? heard.body() : String(heard.error());
        answers[answer] = (answers[answer] ?? 0) + 1;
        if (left <= 1_000) killed ??= one.stop();
      }
    };
    await Promise.all(Array.from({ length: 8 }, caller));
    await killed;
    expect(Object.keys(answers).sort()).toEqual(["one", "two"]);
    expect((answers["one"] ?? 0) + (answers["two"] ?? 0)).toBe(2_000);
    expect(answers["one"]).toBeGreaterThan(100);
    await until(() => Object.values(to.stats())[0]?.ready === 4);
  });

  test("that close a connection every few requests: none is the worse for it, idempotent or not", async () => {
    const server = await startNginx({ text: "one", keepAliveRequests: 7 });
    later(server.stop);
    let sockets = 0;
    const count = (): unknown => sockets++;
    subscribe("undici:client:connected", count);
    later(() => unsubscribe("undici:client:connected", count));
    const to = await dispatcher({ endpoints: [server.url], connections: 3 });
    for (let round = 0; round < 20; round++) {
      const all = await Promise.all(
        Array.from({ length: 10 }, () => ask(to, { method: "POST", body: "x" }, handler("new"))),
      );
      expect(all.map((heard) => heard.statusCode)).toEqual(all.map(() => 200));
    }
    expect(sockets).toBeGreaterThanOrEqual(Math.floor(200 / 7));
    expect(Object.values(to.stats())[0]?.totals).toMatchObject({ succeeded: 200, failed: 0, retried: 0, lost: 0 });
  });
});
