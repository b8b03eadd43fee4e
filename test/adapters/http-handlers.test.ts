/**
 * What a handler hears, of either shape, over either protocol: the same.
 */
import { Stream } from "node:stream";
import { describe, expect, test } from "vitest";
import {
  ask,
  bodyOf,
  dispatcher,
  events,
  Gate,
  handler,
  inShort,
  serve1,
  serve2,
  shapes,
  turn,
  until,
} from "./http.ts";
import type { HttpDispatcher, HttpDispatcherOptions } from "../../src/adapters/http/index.ts";

interface Answer {
  status?: number;
  headers?: Record<string, string | string[]>;
  body?: string | Buffer;
  trailers?: Record<string, string>;
  early?: Record<string, string>;
  /** Answers when it opens. */
  gate?: Gate;
  /** Sends this much, and then cuts the connection. */
  cut?: boolean;
}

type Ask = { path: string; method: string; headers: Record<string, string | string[] | undefined>; body: Buffer };

/** One server of either protocol that answers as the function says, and a dispatcher to it. */
async function pair(
  protocol: "http/1.1" | "h2",
  answer: (asked: Ask) => Answer | Promise<Answer>,
  options: HttpDispatcherOptions = {},
): Promise<{ to: HttpDispatcher; sockets: Set<{ destroy(): void }> }> {
  if (protocol === "http/1.1") {
    const { url, sockets } = await serve1(async (request, response) => {
      const body = await bodyOf(request).catch(() => Buffer.alloc(0));
      const asked = { path: request.url ?? "", method: request.method ?? "", headers: request.headers, body };
      const { status = 200, headers = {}, body: content = "", trailers, early, gate, cut } = await answer(asked);
      if (early !== undefined) response.writeEarlyHints(early);
      await gate?.pass();
      if (trailers !== undefined) response.setHeader("trailer", Object.keys(trailers));
      response.writeHead(status, headers);
      if (trailers !== undefined) response.addTrailers(trailers);
      if (cut) response.write(content, () => request.socket.destroy());
      else response.end(content);
    });
    return { to: await dispatcher({ endpoints: [url], connections: 1, ...options }), sockets };
  }
  const { url, sockets } = await serve2(async (stream, headers) => {
    const body = await bodyOf(stream).catch(() => Buffer.alloc(0));
    const asked = { path: headers[":path"] ?? "", method: headers[":method"] ?? "", headers, body };
    const { status = 200, headers: more = {}, body: content = "", trailers, early, gate, cut } = await answer(asked);
    if (stream.destroyed) return;
    if (early !== undefined) stream.additionalHeaders({ ":status": 103, ...early });
    await gate?.pass();
    if (stream.destroyed) return;
    stream.respond({ ":status": status, ...more }, { waitForTrailers: trailers !== undefined });
    if (trailers !== undefined) stream.on("wantTrailers", () => stream.sendTrailers(trailers));
    if (cut) stream.write(content, () => [...sockets][0]?.destroy());
    else stream.end(content);
  });
  return { to: await dispatcher({ endpoints: [url], connections: 1, useH2c: true, ...options }), sockets };
}

/** A stream of the first kind, or of another library: it has `pipe`, and is no Readable of this Node's. */
function oldStream(...pieces: string[]): Stream & { destroyed: boolean } {
  const stream = Object.assign(new Stream(), {
    readable: true,
    destroyed: false,
    pause: () => undefined,
    resume: () => undefined,
    destroy: () => {
      stream.destroyed = true;
    },
  });
  let begun = pieces.length === 0; // Without any, it is one that never comes to an end.
  stream.on("newListener", (event) => {
    if (begun || event !== "data") return;
    begun = true;
    setImmediate(() => {
      for (const piece of pieces) stream.emit("data", Buffer.from(piece));
      stream.emit("end");
    });
  });
  return stream;
}

describe.each(["http/1.1", "h2"] as const)("over %s", (protocol) => {
  describe.each(shapes)("a handler of the %s shape", (shape) => {
    test("hears its request start, the headers, the body and the end, in this order", async () => {
      const { to } = await pair(protocol, () => ({ status: 201, headers: { "x-one": "1" }, body: "hello" }));
      const heard = await ask(to, {}, handler(shape));
      expect(inShort(heard.calls)).toEqual(["start", "headers 201", "data", "complete"]);
      expect(heard.body()).toBe("hello");
      expect(heard.headers["x-one"]).toBe("1");
      expect(heard.trailers).toEqual({});
    });

    test("hears of early hints before the headers, and has the trailers at the end", async () => {
      const { to } = await pair(protocol, () => ({
        early: { link: "</a.css>; rel=preload" },
        body: "hello",
        trailers: { "x-sum": "42" },
      }));
      const heard = await ask(to, {}, handler(shape));
      expect(inShort(heard.calls)).toEqual(["start", "headers 103", "headers 200", "data", "complete"]);
      expect(heard.trailers["x-sum"]).toBe("42");
    });

    test("hears the end of a response without a body", async () => {
      const { to } = await pair(protocol, () => ({ status: 204 }));
      expect((await ask(to, {}, handler(shape))).calls).toEqual(["start", "headers 204", "complete"]);
      expect((await ask(to, { method: "HEAD" }, handler(shape))).calls).toEqual(["start", "headers 204", "complete"]);
    });

    test("gets no more of a body than it has room for until it says so", async () => {
      const whole = Buffer.alloc(4_000_000, "x");
      const { to } = await pair(protocol, () => ({ body: whole }));
      let paused = 0;
      const heard = handler(shape, (call, self) => {
        if (call === "data" && paused === 0) {
          paused++;
          self.pause();
        }
      });
      const asked = ask(to, {}, heard);
      await until(() => paused === 1);
      for (let turns = 0; turns < 50; turns++) await turn();
      expect(heard.body().length).toBeLessThan(whole.length / 2);
      expect(heard.calls).not.toContain("complete");
      heard.resume();
      await asked;
      expect(heard.body().length).toBe(whole.length);
      expect(heard.calls.at(-1)).toBe("complete");
    });

    test("that has no room from the first gets the headers and nothing of the body until it says so", async () => {
      const { to } = await pair(protocol, () => ({ body: "hello" }));
      const heard = handler(shape, (call, self) => call === "headers 200" && self.pause());
      const asked = ask(to, {}, heard);
      await until(() => heard.statusCode === 200);
      for (let turns = 0; turns < 50; turns++) await turn();
      expect(heard.calls).toEqual(["start", "headers 200"]);
      heard.resume();
      await asked;
      expect([heard.body(), heard.calls.at(-1)]).toEqual(["hello", "complete"]);
    });

    test.each([
      ["text", () => "hello"],
      ["a blob, which must be read first", () => new Blob(["hello"])],
    ])("hears nothing of its body any more once it has given up: %s", async (_, body) => {
      const { to } = await pair(protocol, () => ({}));
      // On a connection that has served, a request goes out in the call of dispatch.
      await ask(to, {}, handler(shape));
      // Either while its body is being read, or in the call in which it hears that a piece has gone out.
      for (const at of ["start", "body"]) {
        const heard = Object.assign(handler(shape), {
          onBodySent: () => {
            heard.calls.push("body");
            if (at === "body") heard.abort(new Error("enough"));
          },
          onRequestSent: () => heard.calls.push("sent"),
        });
        await until(() => Object.values(to.stats())[0]?.idle === 1);
        for (let turns = 0; turns < 5; turns++) await turn();
        to.dispatch({ path: "/", method: "POST", body: body() } as never, heard as never);
        if (at === "start") heard.abort(new Error("enough"));
        await heard.ended;
        for (let turns = 0; turns < 50; turns++) await turn();
        expect(heard.calls.at(-1)).toBe("error");
        expect(heard.error()?.message).toBe("enough");
      }
      expect((await ask(to, {}, handler(shape))).calls.at(-1)).toBe("complete");
      expect(Object.values(to.stats())[0]?.totals).toMatchObject({ lost: 0, retried: 0 });
    });

    test("is told its own reason when it aborts, at whatever point, and nothing after it", async () => {
      const gate = new Gate();
      const { to } = await pair(protocol, ({ path }) =>
        path === "/gate" ? { gate, body: "late" } : { body: Buffer.alloc(1_000_000) },
      );
      const reason = new Error("enough");
      for (const at of ["start", "headers 200", "data"]) {
        const heard = await ask(
          to,
          {},
          handler(shape, (call, self) => call === at && self.abort(reason)),
        );
        expect(heard.error(), at).toBe(reason);
        expect(heard.calls.indexOf("error"), at).toBe(heard.calls.length - 1);
        expect(heard.calls.filter((call) => call === at)).toHaveLength(1);
      }
      const waiting = handler(shape);
      const asked = ask(to, { path: "/gate" }, waiting);
      await until(() => gate.waiting === 1);
      waiting.abort(reason);
      await asked;
      expect(waiting.error()).toBe(reason);
      gate.open();
      expect((await ask(to, {}, handler(shape))).calls.at(-1)).toBe("complete");
      expect(waiting.calls).toEqual(["start", "error"]);
      await until(() => Object.values(to.stats()).every(({ inFlight }) => inFlight === 0));
    });

    test("leaves the line when it aborts there, first or not", async () => {
      const gate = new Gate();
      const { to } = await pair(protocol, ({ path }) => (path === "/gate" ? { gate } : {}), {
        maxConcurrentStreams: 1,
      });
      // Nobody has waited yet. Of the first who does, only its turn tells that it has left.
      await to.ready();
      const holder = ask(to, { path: "/gate" }, handler(shape));
      await until(() => gate.waiting === 1);
      const waiters = [handler(shape), handler(shape), handler(shape)];
      const asked = waiters.map((waiter) => ask(to, {}, waiter));
      const reason = new Error("no patience");
      waiters[0]?.abort(reason);
      waiters[1]?.abort(reason);
      expect(waiters.map(({ calls }) => calls)).toEqual([["start", "error"], ["start", "error"], ["start"]]);
      gate.open();
      await holder;
      await Promise.all(asked);
      expect(waiters.map((waiter) => waiter.error())).toEqual([reason, reason, undefined]);
      await until(() => Object.values(to.stats()).every(({ inFlight, waiting }) => inFlight + waiting === 0));
      expect(Object.values(to.stats())[0]?.totals).toMatchObject({ lost: 0, retried: 0 });
    });

    test("that throws in its calls hears what it threw, once, and the connection lives on", async () => {
      const failed = events("callback.failed");
      const { to } = await pair(protocol, () => ({ body: "hello" }));
      for (const at of ["start", "headers 200", "data"]) {
        const thrown = new Error(`at ${at}`);
        const heard = await ask(
          to,
          {},
          handler(shape, (call) => {
            if (call === at) throw thrown;
          }),
        );
        expect(heard.error(), at).toBe(thrown);
        expect(heard.calls.filter((call) => call === "error" || call === "complete")).toEqual(["error"]);
      }
      // At the end it is an error, too: a handler that retries does it so. In its last call there is nobody to tell.
      const refusing = handler(shape, (call) => {
        if (call === "complete") throw new Error("not good enough");
      });
      await ask(to, {}, refusing);
      expect(inShort(refusing.calls)).toEqual(["start", "headers 200", "data", "complete", "error"]);
      expect(refusing.error()?.message).toBe("not good enough");
      const clumsy = handler(shape, (call) => {
        if (call === "error") throw new Error("in the last call");
      });
      expect((await ask(to, { path: "no slash" }, clumsy)).calls.at(-1)).toBe("error");
      expect(failed.map(({ error }) => error.message)).toEqual(["in the last call"]);
      expect((await ask(to, {}, handler(shape))).calls.at(-1)).toBe("complete");
      await until(() => Object.values(to.stats()).every(({ inFlight, ready }) => inFlight === 0 && ready === 1));
    });

    test("hears an error, not a shorter body, when the connection is cut in the middle of one", async () => {
      const { to } = await pair(protocol, () => ({ headers: { "content-length": "100" }, body: "half", cut: true }));
      const heard = await ask(to, {}, handler(shape));
      expect(inShort(heard.calls)).toEqual(["start", "headers 200", "data", "error"]);
      expect(heard.body()).toBe("half");
    });

    test("that asks for what cannot be sent hears undici's own error", async () => {
      const { to } = await pair(protocol, () => ({}));
      const wrong: Record<string, unknown>[] = [
        { path: "no slash" },
        { path: "/a b" },
        { method: "GE T" },
        { headers: { "a b": "1" } },
        { headers: { "x-line": "a\r\nb: c" } },
        { headers: { "transfer-encoding": "chunked" } },
        { headers: ["odd"] },
        { headers: { "x-object": {} } },
        { body: 42, method: "POST" },
        { body: { append() {}, [Symbol.toStringTag]: "FormData" }, method: "POST" },
      ];
      for (const options of wrong) {
        const heard = await ask(to, options, handler(shape));
        expect((heard.error() as { code?: string }).code, JSON.stringify(options)).toBe("UND_ERR_INVALID_ARG");
      }
      const wrongLength = { method: "PUT", body: "abc", headers: { "content-length": "5" } };
      const mistaken = await ask(to, wrongLength, handler(shape));
      expect((mistaken.error() as { code?: string }).code).toBe("UND_ERR_REQ_CONTENT_LENGTH_MISMATCH");
      const expecting = await ask(to, { headers: { expect: "100-continue" } }, handler(shape));
      expect((expecting.error() as { code?: string }).code).toBe("UND_ERR_NOT_SUPPORTED");
      expect((await ask(to, {}, handler(shape))).calls.at(-1)).toBe("complete");
      const [stats] = Object.values(to.stats());
      expect(stats?.totals.lost).toBe(0);
    });
  });

  test("headers arrive in every form in which undici takes them", async () => {
    const { to } = await pair(protocol, ({ headers }) => ({ body: JSON.stringify([headers["x-a"], headers["x-b"]]) }));
    const forms: unknown[] = [
      { "X-A": "1", "x-b": ["2", "3"] },
      ["x-a", "1", "x-b", "2", "x-b", "3"],
      [
        ["x-a", "1"],
        ["x-b", "2, 3"],
      ].values(),
      new Map<string, unknown>([
        ["x-a", 1],
        ["x-b", ["2", "3"]],
      ]),
      new Headers({ "x-a": "1", "x-b": "2, 3" }),
    ];
    for (const headers of forms) {
      const heard = await ask(to, { headers }, handler("new"));
      expect(JSON.parse(heard.body())).toEqual(["1", "2, 3"]);
    }
  });

  test("a body arrives in every form in which undici takes one", async () => {
    const { to } = await pair(protocol, ({ body, headers }) => ({
      headers: { "x-length": headers["content-length"] ?? "none", "x-type": headers["content-type"] ?? "none" },
      body,
    }));
    const { Readable } = await import("node:stream");
    async function* pieces(): AsyncIterable<Uint8Array> {
      yield Buffer.from("he");
      yield Buffer.from("llo");
    }
    const forms: [unknown, string][] = [
      ["hello", "5"],
      [Buffer.from("hello"), "5"],
      [new Uint8Array([104, 101, 108, 108, 111]), "5"],
      [new Uint8Array([0, 104, 101, 108, 108, 111]).subarray(1), "5"],
      [Uint8Array.from([104, 101, 108, 108, 111]).buffer, "5"],
      [new Blob(["hello"], { type: "text/x" }), "5"],
      [new Blob(["hello"]), "5"],
      [Readable.from([Buffer.from("he"), Buffer.from("llo")]), "none"],
      [pieces(), "none"],
      [[Buffer.from("he"), Buffer.from("llo")], "none"],
      [oldStream("he", "llo"), "none"],
    ];
    for (const [body, length] of forms) {
      const heard = await ask(to, { method: "POST", body }, handler("new"));
      expect(heard.error()).toBeUndefined();
      expect(heard.body()).toBe("hello");
      if (!(body instanceof Blob && protocol === "http/1.1")) expect(heard.headers["x-length"]).toBe(length);
      if (body instanceof Blob) expect(heard.headers["x-type"]).toBe(body.type || "none");
    }
    const { FormData: UndiciFormData } = await import("undici");
    // Over HTTP/1.1 it is undici that sends, and it takes only its own.
    for (const Form of protocol === "h2" ? [FormData, UndiciFormData] : [UndiciFormData]) {
      const form = new Form();
      form.append("field", "hello");
      const heard = await ask(to, { method: "POST", body: form }, handler("new"));
      expect(heard.body()).toMatch(/name="field"\r\n\r\nhello\r\n/);
      expect(heard.headers["x-type"]).toMatch(/^multipart\/form-data; boundary=/);
    }
    expect((await ask(to, { method: "POST" }, handler("new"))).headers["x-length"]).toBe("0");
    expect((await ask(to, {}, handler("new"))).headers["x-length"]).toBe("none");
  });

  test("a query is put behind the path", async () => {
    const { to } = await pair(protocol, ({ path }) => ({ body: path }));
    expect((await ask(to, { query: { a: "1 2", b: ["x", "y"] } }, handler("new"))).body()).toBe("/?a=1%202&b=x&b=y");
    expect((await ask(to, { path: "/p?q", query: { a: 1 } }, handler("new"))).error()).toBeInstanceOf(Error);
  });

  test("a body that breaks ends its request with what broke it", async () => {
    const { to } = await pair(protocol, () => ({ body: "hello" }));
    const broken = new Error("the disk is gone");
    async function* pieces(): AsyncIterable<Uint8Array> {
      yield Buffer.from("he");
      throw broken;
    }
    const heard = await ask(to, { method: "POST", body: pieces() }, handler("new"));
    expect(heard.error()).toBe(broken);
    expect(heard.calls).toEqual(["start", "error"]);
    expect((await ask(to, {}, handler("new"))).body()).toBe("hello");
  });

  test("a body of another library's stream is let go of when its request is given up", async () => {
    const { to } = await pair(protocol, () => ({}));
    await to.ready();
    const body = oldStream();
    const heard = handler("new");
    const asked = ask(to, { method: "POST", body }, heard);
    await until(() => Object.values(to.stats())[0]?.inFlight === 1);
    for (let turns = 0; turns < 20; turns++) await turn();
    heard.abort(new Error("enough"));
    await asked;
    await until(() => body.destroyed);
  });

  test("a controller has headers and trailers as they came, once they have, or what a decorator has put there", async () => {
    const { to } = await pair(protocol, () => ({
      headers: { "X-One": "1" },
      body: "hello",
      trailers: { "x-sum": "42" },
    }));
    const words = (raw: Buffer[] | null): string | undefined => raw?.map(String).join().toLowerCase();
    let held!: { rawHeaders: Buffer[] | null; rawTrailers: Buffer[] | null };
    const seen: (string | undefined)[] = [];
    const heard = handler("new", () => seen.push(words(held?.rawHeaders), words(held?.rawTrailers)));
    const { onRequestStart } = heard as unknown as { onRequestStart: (controller: unknown) => void };
    await ask(
      to,
      {},
      Object.assign(heard, {
        onRequestStart: (controller: typeof held) => {
          held = controller;
          onRequestStart(controller);
        },
      }),
    );
    expect(inShort(heard.calls)).toEqual(["start", "headers 200", "data", "complete"]);
    expect(seen.slice(0, 2)).toEqual([undefined, undefined]);
    expect(seen[2]).toContain("x-one,1");
    expect(seen.slice(-2)).toEqual([expect.stringContaining("x-one,1"), "x-sum,42"]);
    expect(seen.slice(3, -1).filter((_, at) => at % 2 === 0)).not.toContain("x-sum,42");
    held.rawHeaders = held.rawTrailers = [Buffer.from("x-two"), Buffer.from("2")];
    expect([words(held.rawHeaders), words(held.rawTrailers)]).toEqual(["x-two,2", "x-two,2"]);
    held.rawHeaders = held.rawTrailers = null;
    expect([held.rawHeaders, held.rawTrailers]).toEqual([null, null]);
  });

  test("a handler of the old shape may give up without saying why", async () => {
    const gate = new Gate();
    const { to } = await pair(protocol, () => ({ gate }));
    const heard = handler("old");
    const asked = ask(to, {}, heard);
    await until(() => gate.waiting === 1);
    heard.abort();
    await asked;
    expect((heard.error() as { code?: string }).code).toBe("UND_ERR_ABORTED");
    gate.open();
  });

  test("a body is read only as fast as the server takes it", async () => {
    const gate = new Gate();
    let taken = 0;
    async function* pieces(): AsyncIterable<Uint8Array> {
      for (let piece = 0; piece < 400; piece++) {
        taken++;
        yield Buffer.alloc(65_536);
      }
    }
    const { url } =
      protocol === "h2"
        ? await serve2(async (stream) => {
            await gate.pass();
            const { length } = await bodyOf(stream);
            stream.respond({ ":status": 200 });
            stream.end(String(length));
          })
        : await serve1(async (request, response) => {
            await gate.pass();
            response.end(String((await bodyOf(request)).length));
          });
    const to = await dispatcher({ endpoints: [url], connections: 1, useH2c: protocol === "h2" });
    const asked = ask(to, { method: "POST", body: pieces() }, handler("new"));
    await until(() => gate.waiting === 1);
    let before = -1;
    while (before !== taken) {
      before = taken;
      for (let turns = 0; turns < 200; turns++) await turn();
    }
    expect(taken).toBeLessThan(300);
    gate.open();
    expect((await asked).body()).toBe(String(400 * 65_536));
  });

  test("an upgrade hands the socket over, or is refused with a typed error", async () => {
    const { url, server } =
      protocol === "h2"
        ? await serve2((stream) => {
            stream.respond({ ":status": 200 });
            stream.end();
          })
        : await serve1((_, response) => response.end("hello"));
    if (protocol === "http/1.1") {
      server.on("upgrade", (_: unknown, socket: import("node:net").Socket) => {
        socket.write("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
        socket.pipe(socket);
      });
    }
    const to = await dispatcher({ endpoints: [url], connections: 1, useH2c: protocol === "h2" });
    for (const shape of shapes) {
      const heard = await ask(to, { upgrade: "echo" }, handler(shape));
      if (protocol === "h2") expect((heard.error() as { code?: string }).code).toBe("UND_ERR_NOT_SUPPORTED");
      else {
        expect(heard.calls).toEqual(["start", "upgrade 101"]);
        const { socket } = heard;
        const echoed = new Promise((resolve) => socket?.once("data", (data) => resolve(String(data))));
        socket?.write("over to you");
        expect(await echoed).toBe("over to you");
        socket?.destroy();
      }
    }
    // The connection has another socket by now, or the same.
    expect((await ask(to, {}, handler("new"))).statusCode).toBe(200);
    expect(Object.values(to.stats())[0]?.totals.lost).toBe(0);
  });
});

describe("dispatch", () => {
  test("throws for what is no handler, as there is nobody to tell", async () => {
    const to = await dispatcher();
    for (const wrong of [undefined, null, "handler", {}, { onConnect() {} }, { onRequestStart() {} }]) {
      expect(() => to.dispatch({ path: "/", method: "GET" }, wrong as never)).toThrow(/handler/);
    }
  });

  test.each(shapes)("tells a handler of the %s shape that what it was given is no request", async (shape) => {
    const to = await dispatcher();
    for (const wrong of [undefined, null, "/"]) {
      const heard = handler(shape);
      to.dispatch(wrong as never, heard as never);
      await heard.ended;
      expect((heard.error() as { code?: string }).code).toBe("UND_ERR_INVALID_ARG");
    }
  });

  test("says whether there was room, and when nobody waits any more", async () => {
    const gate = new Gate();
    const { url } = await serve1(async (_, response) => {
      await gate.pass();
      response.end();
    });
    const to = await dispatcher({ endpoints: [url], connections: 1 });
    await to.ready();
    let drains = 0;
    to.on("drain", () => drains++);
    const heard = [handler("new"), handler("new"), handler("new")];
    const room = heard.map((each) => to.dispatch({ path: "/", method: "GET" }, each as never));
    expect(room).toEqual([true, false, false]);
    gate.open();
    await Promise.all(heard.map(({ ended }) => ended));
    expect(drains).toBe(1);
  });
});
