/**
 * HTTP/1.1 with an undici that takes handlers of the new shape only, as undici 8 does. What our own callers hear, of
 * either shape, is the same as ever.
 *
 * Where Node can load undici 8, which is from 22 on, this is it; elsewhere it is undici 7, made to refuse what 8 refuses.
 */
import type { Duplex } from "node:stream";
import type * as Undici from "undici";
import { describe, expect, test, vi } from "vitest";
import { ask, bodyOf, dispatcher, Gate, handler, inShort, serve1, shapes, turn, until } from "./http.ts";

const { isUndici8 } = vi.hoisted(() => ({ isUndici8: Number.parseInt(process.versions.node, 10) >= 22 }));

vi.mock("undici", async (importOriginal) => {
  if (isUndici8) return import("undici-8");
  const undici = await importOriginal<typeof Undici>();
  class Client extends undici.Client {
    override dispatch(...[options, given]: Parameters<Undici.Client["dispatch"]>): boolean {
      if (!("onRequestStart" in given)) throw new undici.errors.InvalidArgumentError("invalid onRequestStart method");
      return super.dispatch(options, given);
    }
  }
  return { ...undici, Client, Dispatcher1Wrapper: class {} };
});

describe.each(shapes)("a handler of the %s shape", (shape) => {
  test("hears hints, headers, body, trailers and end, and of its own body when it has gone out", async () => {
    const { url } = await serve1(async (request, response) => {
      if (request.method === "HEAD") return response.end();
      response.writeEarlyHints({ link: "</a.css>; rel=preload" });
      response.writeHead(201, { "x-one": "1", trailer: "x-sum" });
      response.addTrailers({ "x-sum": "42" });
      return response.end(await bodyOf(request));
    });
    const to = await dispatcher({ endpoints: [url], connections: 1 });
    const gone: string[] = [];
    const heard = Object.assign(handler(shape), {
      onBodySent: (chunk: Uint8Array) => gone.push(String(chunk)),
      onRequestSent: () => gone.push("sent"),
      onResponseStarted: () => gone.push("answered"),
    });
    await ask(to, { method: "POST", body: "hello" }, heard);
    expect(inShort(heard.calls)).toEqual(["start", "headers 103", "headers 201", "data", "complete"]);
    expect([heard.body(), heard.headers["x-one"], heard.trailers["x-sum"]]).toEqual(["hello", "1", "42"]);
    // Of what goes out, undici 7 tells handlers of the old shape only.
    const answered = ["answered", "answered"]; // The hints begin, too.
    expect(gone).toEqual(isUndici8 ? ["hello", "sent", ...answered] : answered);
    const empty = await ask(to, { method: "HEAD" }, handler(shape));
    expect([inShort(empty.calls).at(-1), empty.trailers]).toEqual(["complete", {}]);
  });

  test.each(["headers 200", "data"])("gets nothing more from %s on until it has room again", async (at) => {
    const whole = Buffer.alloc(4_000_000, "x");
    const { url } = await serve1((_, response) => response.end(whole));
    const to = await dispatcher({ endpoints: [url], connections: 1 });
    const paused = new Gate();
    const heard = handler(shape, (call, self) => {
      if (call !== at || paused.waiting > 0) return;
      void paused.pass();
      self.pause();
    });
    const asked = ask(to, {}, heard);
    await paused.reached;
    for (let turns = 0; turns < 50; turns++) await turn();
    expect(heard.calls.at(-1)).toBe(at);
    heard.resume();
    await asked;
    expect([heard.body().length, heard.calls.at(-1)]).toEqual([whole.length, "complete"]);
  });

  test("is told its own reason when it gives up, at whatever point, and nothing after it", async () => {
    const { url } = await serve1((_, response) => response.end(Buffer.alloc(1_000_000)));
    const to = await dispatcher({ endpoints: [url], connections: 1 });
    const reason = new Error("enough");
    for (const at of ["start", "headers 200", "data"]) {
      const giveUp = handler(shape, (call, self) => call === at && self.abort(reason));
      const heard = await ask(to, {}, giveUp);
      expect([heard.error(), heard.calls.indexOf("error")], at).toEqual([reason, heard.calls.length - 1]);
    }
    expect((await ask(to, {}, handler(shape))).calls.at(-1)).toBe("complete");
    await until(() => Object.values(to.stats()).every(({ inFlight, totals }) => inFlight + totals.lost === 0));
  });

  test("hears an error when its connection is cut in the middle of a body, and has its socket after an upgrade", async () => {
    const { url, server } = await serve1((request, response) => {
      if (request.url !== "/cut") return response.end("whole");
      response.writeHead(200, { "content-length": "100" });
      return response.write("half", () => request.socket.destroy());
    });
    server.on("upgrade", (_: unknown, socket: Duplex) => {
      socket.write("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
      socket.pipe(socket);
    });
    const to = await dispatcher({ endpoints: [url], connections: 1 });
    const cut = await ask(to, { path: "/cut" }, handler(shape));
    expect(inShort(cut.calls)).toEqual(["start", "headers 200", "data", "error"]);
    expect(cut.error()).toMatchObject({ code: "UND_ERR_SOCKET" });
    const { calls, headers, socket } = await ask(to, { upgrade: "echo" }, handler(shape));
    expect([calls, headers["upgrade"]]).toEqual([["start", "upgrade 101"], "echo"]);
    const echoed = new Promise((resolve) => socket?.once("data", (data) => resolve(String(data))));
    socket?.write("over to you");
    expect(await echoed).toBe("over to you");
    socket?.destroy();
    expect((await ask(to, {}, handler(shape))).body()).toBe("whole");
  });
});
