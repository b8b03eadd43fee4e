/**
 * Under `fetch`: Node's own, whose undici is an older one with handlers of the old shape, and that of the undici
 * installed here.
 */
import { gzipSync } from "node:zlib";
import { afterEach, describe, expect, test } from "vitest";
import * as undici from "undici";
import type { HttpDispatcher } from "../../src/adapters/http/index.ts";
import { bodyOf, dispatcher, Gate, serve1, serve2, turn, until } from "./http.ts";

type Fetch = (url: string, init?: object) => Promise<Response>;

const fetches: readonly (readonly [string, Fetch])[] = [
  ["Node's fetch", fetch as Fetch],
  ["undici's fetch", undici.fetch as unknown as Fetch],
];

const before = undici.getGlobalDispatcher();
afterEach(() => undici.setGlobalDispatcher(before));

/** What the server does, in the words of either protocol. */
interface Reply {
  path: string;
  method: string;
  body: AsyncIterable<Uint8Array>;
  headers: Record<string, string | string[] | undefined>;
  head: (status: number, headers?: Record<string, string | string[]>) => void;
  write: (chunk: string | Buffer) => void;
  end: (chunk?: string | Buffer) => void;
}

async function serve(
  protocol: "http/1.1" | "h2",
  handle: (reply: Reply) => unknown,
): Promise<{ url: string; to: HttpDispatcher }> {
  const { url } =
    protocol === "h2"
      ? await serve2((stream, headers) =>
          handle({
            path: headers[":path"] ?? "",
            method: headers[":method"] ?? "",
            body: stream,
            headers,
            head: (status, more = {}) => stream.respond({ ":status": status, ...more }),
            write: (chunk) => void (stream.destroyed || stream.write(chunk)),
            end: (chunk) => void (stream.destroyed || stream.end(chunk)),
          }),
        )
      : await serve1((request, response) =>
          handle({
            path: request.url ?? "",
            method: request.method ?? "",
            body: request,
            headers: request.headers,
            head: (status, more = {}) => response.writeHead(status, more),
            write: (chunk) => response.write(chunk),
            end: (chunk) => response.end(chunk),
          }),
        );
  return { url, to: await dispatcher({ endpoints: [url], connections: 2, useH2c: protocol === "h2" }) };
}

describe.each(["http/1.1", "h2"] as const)("over %s", (protocol) => {
  describe.each(fetches)("%s", (_, get) => {
    test("gets status, headers and body", async () => {
      const { url, to } = await serve(protocol, ({ path, method, head, end }) => {
        head(200, { "content-type": "application/json", "set-cookie": ["a=1", "b=2"] });
        end(JSON.stringify({ path, method }));
      });
      const response = await get(`${url}/here?x=1`, { dispatcher: to });
      expect([response.status, response.ok, response.url]).toEqual([200, true, `${url}/here?x=1`]);
      expect(response.headers.getSetCookie()).toEqual(["a=1", "b=2"]);
      expect(await response.json()).toEqual({ path: "/here?x=1", method: "GET" });
    });

    test("sends bodies: text, forms, and streams that are read as they go", async () => {
      const { url, to } = await serve(protocol, async ({ headers, body, head, end }) => {
        const all = await bodyOf(body);
        head(200, { "x-type": headers["content-type"] ?? "none" });
        end(all);
      });
      const send = async (body: unknown): Promise<[string, string | null]> => {
        const response = await get(url, { dispatcher: to, method: "POST", body, duplex: "half" });
        return [await response.text(), response.headers.get("x-type")];
      };
      expect(await send("hello")).toEqual(["hello", "text/plain;charset=UTF-8"]);
      expect((await send(new URLSearchParams({ a: "1" })))[0]).toBe("a=1");
      const form = get === fetches[0]?.[1] ? new FormData() : new undici.FormData();
      form.append("field", "hello");
      expect((await send(form))[0]).toMatch(/name="field"\r\n\r\nhello/);
      const stream = new ReadableStream({
        start(controller) {
          for (const piece of ["he", "llo"]) controller.enqueue(new TextEncoder().encode(piece));
          controller.close();
        },
      });
      expect((await send(stream))[0]).toBe("hello");
    });

    test("reads a body as it comes, and holds the server back while it does not", async () => {
      let written = 0;
      const { url, to } = await serve(protocol, async ({ head, write, end }) => {
        head(200);
        for (let piece = 0; piece < 200; piece++) {
          write(Buffer.alloc(65_536, "x"));
          written++;
          await turn();
        }
        end();
      });
      const response = await get(url, { dispatcher: to });
      await until(() => written === 200);
      const [stats] = Object.values(to.stats());
      expect(stats?.inFlight).toBe(1); // The server has written it all; we have not taken it.
      expect((await response.arrayBuffer()).byteLength).toBe(200 * 65_536);
      await until(() => Object.values(to.stats())[0]?.inFlight === 0);
    });

    test("decodes, follows redirects, and takes a response without a body", async () => {
      const { url, to } = await serve(protocol, ({ path, head, end }) => {
        if (path === "/moved") {
          head(302, { location: "/zipped" });
          end();
        } else if (path === "/zipped") {
          head(200, { "content-encoding": "gzip" });
          end(gzipSync("hello"));
        } else {
          head(204);
          end();
        }
      });
      const response = await get(`${url}/moved`, { dispatcher: to });
      expect([response.redirected, await response.text()]).toEqual([true, "hello"]);
      expect((await get(`${url}/none`, { dispatcher: to })).status).toBe(204);
      expect((await get(`${url}/none`, { dispatcher: to, method: "HEAD" })).status).toBe(204);
    });

    test("is aborted before, while it waits for headers, and in the middle of a body", async () => {
      const gate = new Gate();
      const { url, to } = await serve(protocol, async ({ path, head, write, end }) => {
        if (path === "/gate") await gate.pass();
        head(200);
        write("half");
        if (path !== "/half") end();
      });
      const before = get(url, { dispatcher: to, signal: AbortSignal.abort() });
      await expect(before).rejects.toMatchObject({ name: "AbortError" });
      const controller = new AbortController();
      const waiting = get(`${url}/gate`, { dispatcher: to, signal: controller.signal });
      await until(() => gate.waiting === 1);
      controller.abort();
      await expect(waiting).rejects.toMatchObject({ name: "AbortError" });
      const middle = new AbortController();
      const response = await get(`${url}/half`, { dispatcher: to, signal: middle.signal });
      middle.abort();
      await expect(response.text()).rejects.toMatchObject({ name: "AbortError" });
      gate.open();
      expect(await (await get(url, { dispatcher: to })).text()).toBe("half");
      await until(() => Object.values(to.stats())[0]?.inFlight === 0);
    });

    test("that reads half a body and lets go gives the connection back", async () => {
      const { url, to } = await serve(protocol, ({ path, head, write, end }) => {
        head(200);
        write(Buffer.alloc(500_000));
        if (path === "/whole") end();
      });
      const response = await get(url, { dispatcher: to });
      await response.body?.cancel();
      await until(() => Object.values(to.stats())[0]?.inFlight === 0);
      expect((await (await get(`${url}/whole`, { dispatcher: to })).arrayBuffer()).byteLength).toBe(500_000);
    });

    test("fails as fetch does, with the pool's error as the cause", async () => {
      const { url, to } = await serve(protocol, ({ head, end }) => {
        head(200);
        end();
      });
      await to.destroy();
      await expect(get(url, { dispatcher: to })).rejects.toMatchObject({
        name: "TypeError",
        cause: { code: "UND_ERR_DESTROYED" },
      });
    });

    test("goes through the global dispatcher", async () => {
      const { url } = await serve(protocol, ({ head, end }) => {
        head(200);
        end("hello");
      });
      const to = await dispatcher({ useH2c: protocol === "h2", connections: 2 });
      undici.setGlobalDispatcher(to);
      const all = await Promise.all(Array.from({ length: 10 }, async () => (await get(url)).text()));
      expect(all).toEqual(all.map(() => "hello"));
      expect(to.stats()[url]?.totals.succeeded).toBe(10);
    });
  });

  test("undici's request, stream and interceptors work on it", async () => {
    let failures = 1;
    const { url, to } = await serve(protocol, ({ path, head, end }) => {
      if (path === "/flaky" && failures-- > 0) {
        head(503);
        end();
      } else {
        head(200);
        end("hello");
      }
    });
    const { statusCode, body } = await undici.request(url, { dispatcher: to });
    expect([statusCode, await body.text()]).toEqual([200, "hello"]);
    const { Writable } = await import("node:stream");
    const chunks: Buffer[] = [];
    await to.stream({ path: "/", method: "GET", origin: url }, () => {
      return new Writable({
        write: (chunk, _encoding, done) => {
          chunks.push(chunk);
          done();
        },
      });
    });
    expect(Buffer.concat(chunks).toString()).toBe("hello");
    const retrying = to.compose(undici.interceptors.retry({ minTimeout: 1 }));
    const flaky = await retrying.request({ origin: url, path: "/flaky", method: "GET" });
    expect([flaky.statusCode, await flaky.body.text(), failures]).toEqual([200, "hello", -1]);
  });
});
