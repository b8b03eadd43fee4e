/**
 * `FantaServer` against clients that a test plays by hand, on virtual time.
 *
 * A client ends what it does with a ping: answers leave in order, so when the pong is there, all that was to come has
 * come, and what it has heard until then is the whole of it. Each test ends with the server: nothing of it is left.
 */

import { once } from "node:events";
import { createServer, Socket } from "node:net";
import { inspect } from "node:util";
import { afterEach, describe, expect, test, vi } from "vitest";
import { type Codec, type FantaContext, FantaServer, type FantaServerOptions, text } from "../../src/fanta/index.ts";
import { Process } from "../../src/process/index.ts";
import { type VirtualRuntime, virtualRuntime } from "../../src/sim/index.ts";
import { Far, tooManyBytes } from "../multiplex/loopback.ts";
import { turn, turns, until } from "../multiplex/turns.ts";
import { heard } from "../process/heard.ts";
import { announced, cancel, data, error, type Frame, frame, framesAt, goaway, hears, ping, pong } from "./frames.ts";

afterEach(() => {
  vi.restoreAllMocks();
});

type Handler = FantaServerOptions["handler"];

/** A request that a handler has been shown, to be answered by the test. */
interface Shown {
  working: boolean;
  readonly request: string;
  readonly context: FantaContext;
  readonly answer: (value: string) => void;
  readonly fail: (thrown: unknown) => void;
}

class Host {
  readonly runtime: VirtualRuntime;
  readonly server: FantaServer;
  readonly shown: Shown[];

  constructor(runtime: VirtualRuntime, server: FantaServer, shown: Shown[]) {
    this.runtime = runtime;
    this.server = server;
    this.shown = shown;
  }

  client(): Promise<Far> {
    return Far.connect(this.server.port);
  }

  /** Waits until the handler has been shown so many requests. */
  async shows(count: number): Promise<Shown> {
    await until(`the handler has been shown ${count}`, () => this.shown.length >= count);
    return this.shown[count - 1] as Shown;
  }

  async end(): Promise<void> {
    const { server, runtime } = this;
    server.process.kill();
    await until("all connections are gone", () => server.connections === 0);
    await turns(3);
    expect(runtime.timers).toBe(0);
    // Whoever still works for a client that is gone has been told.
    expect(this.shown.filter(({ working, context }) => working && !context.signal.aborted)).toEqual([]);
  }
}

/** A test with a server. Without a handler, the test itself answers what is shown. */
function host(body: (host: Host) => Promise<void>, options: Partial<FantaServerOptions> = {}): () => Promise<void> {
  return async () => {
    const runtime = virtualRuntime();
    const shown: Shown[] = [];
    const show: Handler = (request, context) =>
      new Promise<string>((resolve, reject) => {
        const one: Shown = {
          working: true,
          request,
          context,
          answer: (value) => {
            one.working = false;
            resolve(value);
          },
          fail: (thrown) => {
            one.working = false;
            reject(thrown as Error);
          },
        };
        shown.push(one);
      });
    const server = await FantaServer.listen({ handler: show, runtime, ...options });
    const set = new Host(runtime, server, shown);
    await body(set);
    await set.end();
  };
}

/** All that this client has been sent until now, but for the pong that tells it. */
async function all(client: Far): Promise<Frame[]> {
  const pongs = (): number => framesAt(client).filter(({ id, kind }) => kind === pong && id === 0xabcdef).length;
  const before = pongs();
  client.send(frame(0xabcdef, ping));
  await until("the pong has come", () => pongs() > before);
  return framesAt(client).filter(({ id }) => id !== 0xabcdef);
}

async function cutOff(client: Far): Promise<void> {
  await until("the client has been cut off", () => client.ended || client.closed);
}

const says = (id: number, word: string): Frame => ({ id, kind: data, text: word });
const refuses = (id: number, word: string): Frame => ({ id, kind: error, text: word });

describe("a request", () => {
  test(
    "is answered with what its handler returns, under its id, whatever that is",
    host(
      async (h) => {
        const client = await h.client();
        const ids = [1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];
        client.send(Buffer.concat(ids.map((id) => frame(id, data, `to ${id}`))));
        expect(await hears(client, 4)).toEqual(ids.map((id) => says(id, `re: to ${id}`)));
        expect(await all(client)).toHaveLength(4);
      },
      { handler: (request) => `re: ${request}` },
    ),
  );

  test(
    "is answered when its handler is done, be others done before it",
    host(async (h) => {
      const client = await h.client();
      client.send(Buffer.concat([1, 2, 3].map((id) => frame(id, data, `${id}`))));
      await h.shows(3);
      for (const n of [2, 0, 1]) {
        h.shown[n]?.answer(`re: ${h.shown[n].request}`);
        await turn();
      }
      expect(await all(client)).toEqual([says(3, "re: 3"), says(1, "re: 1"), says(2, "re: 2")]);
    }),
  );

  test(
    "may have any payload up to the limit, and come in any pieces",
    host(
      async (h) => {
        const client = await h.client();
        const bytes = Buffer.concat([frame(1, data), frame(2, data, "x".repeat(995)), frame(3, data, "é")]);
        for (const byte of bytes) {
          client.send(Buffer.of(byte));
          await turn();
        }
        expect(await all(client)).toEqual([says(1, ""), says(2, "x".repeat(995)), says(3, "é")]);
      },
      { handler: (request) => request, maxFrameBytes: 1_000 },
    ),
  );

  test(
    "tells its handler who asks",
    host(async (h) => {
      const client = await h.client();
      client.send(frame(0xffff_fffe, data, "who am I?"));
      const { context } = await h.shows(1);
      expect({
        id: context.id,
        remoteAddress: context.remoteAddress,
        remotePort: context.remotePort,
        peerCertificate: context.peerCertificate,
      }).toEqual({
        id: 0xffff_fffe,
        remoteAddress: "127.0.0.1",
        remotePort: client.socket.localPort,
        peerCertificate: undefined,
      });
    }),
  );

  test(
    "may have the id of one that has been answered",
    host(
      async (h) => {
        const client = await h.client();
        client.send(Buffer.concat([frame(7, data, "a"), frame(7, data, "b")]));
        for (const [n, request] of ["later", "never", "later", "c"].entries()) {
          client.send(frame(7, data, request));
          await hears(client, n + 3);
        }
        expect((await all(client)).map(({ id, text: said }) => `${id} ${said}`)).toEqual([
          "7 a",
          "7 b",
          "7 later",
          "7 refused",
          "7 later",
          "7 c",
        ]);
      },
      {
        handler: (request) => {
          if (request === "never") return Promise.reject(new Error("refused"));
          return request === "later" ? Promise.resolve(request) : request;
        },
      },
    ),
  );
});

describe("a handler that", () => {
  class Problem extends Error {}

  type Then = (resolve: (value: string) => void, reject: (error: Error) => void) => void;
  /** A promise of somebody's own making. */
  // oxlint-disable-next-line unicorn/no-thenable
  const thenable = (then: Then): Promise<string> => Object.fromEntries([["then", then]]) as unknown as Promise<string>;

  const misbehaviours: [string, Handler, string][] = [
    [
      "throws",
      () => {
        throw new Problem("no such thing");
      },
      "no such thing",
    ],
    ["rejects", async () => Promise.reject(new Problem("no such thing, later")), "no such thing, later"],
    [
      "throws a string",
      () => {
        throw "a string";
      },
      'a value that is no Error was thrown: "a string"',
    ],
    [
      "throws nothing",
      () => {
        throw undefined;
      },
      "a value that is no Error was thrown: undefined",
    ],
    ["rejects with null", async () => Promise.reject(null), "a value that is no Error was thrown: null"],
    [
      "throws an error without words",
      () => {
        throw new Error();
      },
      "",
    ],
    [
      "throws an error whose message is no text",
      () => {
        throw Object.assign(new Error(), { message: { code: 5 } });
      },
      "message is no text",
    ],
    [
      "rejects with an error whose message is no text",
      async () => {
        throw Object.assign(new Error(), { message: 5 });
      },
      "message is no text",
    ],
    ["returns nothing", () => undefined as never, "the text codec takes a string, not undefined"],
    ["returns a number", () => 5 as never, "the text codec takes a string, not number"],
    [
      "resolves with bytes",
      async () => Buffer.from("x") as never,
      "the text codec takes a string, not an object (Buffer)",
    ],
    ["returns text without UTF-8", () => "\uD800", "no UTF-8"],
    [
      "returns something that throws when it is looked at",
      () =>
        new Proxy({} as never, {
          get: () => {
            throw new Error("no then");
          },
        }),
      "no then",
    ],
    [
      "returns a thenable that throws",
      () =>
        thenable(() => {
          throw new Error("not a promise");
        }),
      "not a promise",
    ],
  ];

  test.each(misbehaviours)("%s has its request answered once, with an error response", async (_, handler, message) => {
    using unhandled = heard("callback.failed");
    await host(
      async (h) => {
        const client = await h.client();
        client.send(Buffer.concat([frame(1, data, "bad"), frame(2, data, "good")]));
        await hears(client, 2);
        await turns(5);
        const answers = await all(client);
        expect(answers).toHaveLength(2);
        const refused = answers.find(({ id }) => id === 1) as Frame;
        expect(refused.kind).toBe(error);
        expect(refused.text).toContain(message);
        // Never a stack, and nothing of our files.
        expect(refused.text).not.toMatch(/\n|\.ts/);
        expect(answers).toContainEqual(says(2, "re: good"));
      },
      { handler: (request, context) => (request === "bad" ? handler(request, context) : `re: ${request}`) },
    )();
    expect(unhandled.events).toEqual([]);
  });

  test(
    "returns a thenable that calls back twice answers once",
    host(
      async (h) => {
        const client = await h.client();
        client.send(frame(1, data, "x"));
        await hears(client, 1);
        await turns(5);
        expect(await all(client)).toEqual([says(1, "first")]);
      },
      {
        handler: () =>
          thenable((resolve, reject) => {
            resolve("first");
            resolve("second");
            reject(new Error("third"));
          }),
      },
    ),
  );

  test(
    "never ends keeps its own request, and nobody else's",
    host(async (h) => {
      const client = await h.client();
      client.send(Buffer.concat([frame(1, data, "for ever"), frame(2, data, "soon")]));
      (await h.shows(2)).answer("done");
      await h.runtime.advance(1e9);
      expect(await all(client)).toEqual([says(2, "done")]);
    }),
  );

  test(
    "says more than a frame holds has it refused, whether it returns it, resolves with it or throws it",
    host(
      async (h) => {
        const client = await h.client();
        const requests = ["fits", "too long", "too long, later", "throws"];
        client.send(Buffer.concat(requests.map((request, n) => frame(n + 1, data, request))));
        await hears(client, 4);
        const answers = await all(client);
        expect(answers.find(({ id }) => id === 1)).toEqual(says(1, "x".repeat(195)));
        for (const id of [2, 3]) {
          const refused = answers.find((each) => each.id === id) as Frame;
          expect(refused).toMatchObject({ kind: error, text: expect.stringContaining("maxFrameBytes (200)") });
        }
        // Of what is thrown, as much as fits; and still UTF-8.
        expect(answers.find(({ id }) => id === 4)).toEqual(refuses(4, "é".repeat(97)));
      },
      {
        maxFrameBytes: 200,
        handler: (request) => {
          if (request === "fits") return "x".repeat(195);
          if (request === "throws") throw new Error("é".repeat(200));
          return request.includes("later") ? Promise.resolve("x".repeat(196)) : "x".repeat(196);
        },
      },
    ),
  );
});

describe("a cancel", () => {
  test(
    "aborts the request's signal, and the request is answered all the same, once",
    host(async (h) => {
      const client = await h.client();
      client.send(Buffer.concat([1, 2, 3].map((id) => frame(id, data, `${id}`))));
      await h.shows(3);
      const signals = h.shown.map(({ context }) => context.signal);
      let reason: unknown;
      signals[0]?.addEventListener("abort", () => {
        reason = signals[0]?.reason;
      });
      client.send(Buffer.concat([frame(1, cancel), frame(2, cancel), frame(1, cancel)]));
      await until("both are aborted", () => signals[1]?.aborted === true);
      expect(signals.map(({ aborted }) => aborted)).toEqual([true, true, false]);
      expect(reason).toMatchObject({ name: "AbortError", message: "the client gave up" });
      expect(await all(client)).toEqual([]);
      h.shown[0]?.fail(reason);
      h.shown[1]?.answer("done nevertheless");
      h.shown[2]?.answer("done");
      await turn();
      expect(await all(client)).toEqual([
        refuses(1, "the client gave up"),
        says(2, "done nevertheless"),
        says(3, "done"),
      ]);
    }),
  );

  test(
    "is known to a handler that asks for its signal only afterwards",
    host(async (h) => {
      const client = await h.client();
      client.send(frame(1, data, "x"));
      const { context, answer } = await h.shows(1);
      client.send(frame(1, cancel));
      await all(client);
      expect(context.signal.aborted).toBe(true);
      expect(context.signal.reason).toMatchObject({ name: "AbortError" });
      expect(context.signal).toBe(context.signal);
      answer("x");
      await turn();
    }),
  );

  test(
    "for what was answered, or was never asked, is nobody's business",
    host(
      async (h) => {
        const client = await h.client();
        client.send(
          Buffer.concat([frame(5, cancel), frame(6, data, "x"), frame(6, cancel), frame(6, cancel, "payload")]),
        );
        expect(await all(client)).toEqual([says(6, "x")]);
        expect(h.server.connections).toBe(1);
      },
      { handler: (request) => request },
    ),
  );

  test(
    "keeps the id taken until the answer",
    host(async (h) => {
      const client = await h.client();
      client.send(Buffer.concat([frame(1, data, "x"), frame(1, cancel), frame(1, data, "again")]));
      await cutOff(client);
      expect(h.shown).toHaveLength(1);
    }),
  );
});

let answered = false;

describe("a client that is gone", () => {
  const ways: [string, (client: Far) => void, string][] = [
    ["has closed", (client) => client.socket.end(), "the client has closed the connection"],
    ["is reset", (client) => client.socket.resetAndDestroy(), "the connection to the client is lost"],
    ["is no Fanta client", (client) => client.send("GET / HTTP/1.1\r\n\r\n"), "the connection to the client is lost"],
  ];

  test.each(ways)(
    "since it %s waits for nothing: its signals are aborted, what is returned is dropped",
    async (_, go, why) => {
      using failures = heard("callback.failed");
      await host(async (h) => {
        const [client, other] = [await h.client(), await h.client()];
        client.send(
          Buffer.concat([frame(1, data, "a"), frame(2, data, "b"), frame(3, data, "c"), frame(4, data, "d")]),
        );
        await h.shows(4);
        other.send(frame(1, data, "other"));
        await h.shows(5);
        const signals = h.shown.map(({ context }) => context.signal);
        go(client);
        await until("the server has heard of it", () => signals[0]?.aborted === true);
        await until("its connection is gone", () => h.server.connections === 1);
        expect(signals.map(({ aborted }) => aborted)).toEqual([true, true, true, true, false]);
        expect(signals[0]?.reason).toMatchObject({ name: "AbortError", message: why });
        h.shown[0]?.answer("too late");
        h.shown[1]?.fail(signals[1]?.reason);
        h.shown[2]?.fail(Object.assign(new Error("stopped"), { name: "AbortError" }));
        h.shown[3]?.fail(new Error("something else"));
        await turns(3);
        // An error that says nothing but "I was told to stop" is none; another is not swallowed.
        expect(failures.events).toEqual([
          { where: `${h.server.process.name}: handler, after its client had gone`, error: new Error("something else") },
        ]);
        h.shown[4]?.answer("still here");
        await turn();
        expect(await all(other)).toEqual([says(1, "still here")]);
        expect(framesAt(client)).toEqual([]);
      })();
    },
  );

  test.each([
    ["small, in the turn of the end", 1],
    ["large", 100_000],
    ["larger than its socket holds", tooManyBytes],
  ])("and had been answered before it closed gets those answers, and then the end (%s)", async (_, length) => {
    await host(
      async (h) => {
        const client = await h.client();
        client.socket.pause();
        client.socket.end(frame(1, data, `${length}`));
        await until("the server knows", () => answered);
        answered = false;
        await turns(100);
        client.socket.resume();
        await until("the end has come", () => client.ended);
        expect({ length: client.length, error: client.error }).toEqual({ length: 9 + length, error: undefined });
      },
      {
        maxFrameBytes: 2 * tooManyBytes,
        handler: (request) => {
          answered = true;
          return "y".repeat(Number(request));
        },
      },
    )();
  });

  test(
    "and had been answered while an earlier answer was still leaving gets both",
    host(
      async (h) => {
        const client = await h.client();
        client.socket.pause();
        client.send(Buffer.concat([frame(1, data, "a"), frame(2, data, "b")]));
        await h.shows(2);
        h.shown[0]?.answer("y".repeat(tooManyBytes));
        await turns(20);
        h.shown[1]?.answer("behind it");
        await turn();
        client.socket.end();
        await turns(100);
        client.socket.resume();
        await until("the end has come", () => client.ended || client.closed);
        expect(framesAt(client).map(({ id, text: said }) => [id, said.length])).toEqual([
          [1, tooManyBytes],
          [2, "behind it".length],
        ]);
      },
      { maxFrameBytes: 2 * tooManyBytes },
    ),
  );

  test(
    "in the middle of a frame is gone all the same",
    host(async (h) => {
      const client = await h.client();
      await until("it is there", () => h.server.connections === 1);
      client.socket.end(frame(1, data, "cut off").subarray(0, 12));
      await until("it is gone", () => h.server.connections === 0);
      expect(h.shown).toEqual([]);
    }),
  );

  test("since its own request has ended the server tells that request", async () => {
    using failures = heard("callback.failed");
    let signal: AbortSignal | undefined;
    const set: { server?: FantaServer } = {};
    const ends: Handler = (request, context) => {
      set.server?.process.kill();
      signal = context.signal;
      if (request === "throws") throw new Error("in vain");
      return new Promise((_, reject) => {
        const stop = (): void => reject(new Error("not done"));
        if (context.signal.aborted) stop();
        else context.signal.addEventListener("abort", stop);
      });
    };
    for (const request of ["waits", "throws"]) {
      await host(
        async (h) => {
          set.server = h.server;
          const client = await h.client();
          client.send(frame(1, data, request));
          await cutOff(client);
          await turns(3);
          expect(signal?.aborted).toBe(true);
        },
        { handler: ends },
      )();
    }
    expect(failures.events.map(({ error: { message } }) => message)).toEqual(["not done", "in vain"]);
  });
});

describe("bytes that are not Fanta", () => {
  const misbehaviours: [string, Buffer | string][] = [
    ["a request with the id 0", frame(0, data, "x")],
    ["a cancel with the id 0", frame(0, cancel)],
    ["an id that is in flight", frame(1, data, "x")],
    ["a kind that there is not", frame(2, 6)],
    ["an error response", frame(2, error, "x")],
    ["a pong", frame(0, pong)],
    ["a goaway", frame(0, goaway)],
    ["a frame that is too long", announced(1_001)],
    ["a frame that is too short", announced(4)],
    ["HTTP", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"],
    ["a TLS handshake", Buffer.from("1603010200010001fc0303", "hex")],
  ];

  test.each(misbehaviours)("(%s) end their own connection and no other", async (_, bytes) => {
    using failures = heard("fanta.protocolFailed");
    await host(
      async (h) => {
        const [client, other] = [await h.client(), await h.client()];
        for (const each of [client, other]) each.send(frame(1, data, "good"));
        await h.shows(2);
        client.send(bytes);
        await cutOff(client);
        await until("its connection is gone", () => h.server.connections === 1);
        expect(failures.events).toMatchObject([{ side: "server", error: { code: "ERR_FANTA_PROTOCOL" } }]);
        expect(framesAt(client)).toEqual([]);
        expect(h.shown.filter(({ context }) => context.signal.aborted)).toHaveLength(1);
        const left = h.shown.find(({ context }) => context.remotePort === other.socket.localPort);
        left?.answer("fine");
        await turn();
        expect(await all(other)).toEqual([says(1, "fine")]);
        const third = await h.client();
        expect(await all(third)).toEqual([]);
      },
      { maxFrameBytes: 1_000 },
    )();
  });

  const requests: string[] = [];

  test(
    "may come behind what is: that is heard",
    host(
      async (h) => {
        const client = await h.client();
        client.send(Buffer.concat([frame(1, data, "x"), announced(0)]));
        await cutOff(client);
        expect(requests).toEqual(["x"]);
      },
      {
        handler: (request) => {
          requests.push(request);
          return request;
        },
      },
    ),
  );
});

describe("a client that asks for more than it takes", () => {
  test(
    "is refused what goes beyond maxInFlight, and served again when something is answered",
    host(
      async (h) => {
        const client = await h.client();
        client.send(Buffer.concat([1, 2, 3].map((id) => frame(id, data, `${id}`))));
        await h.shows(2);
        expect(await all(client)).toMatchObject([
          { id: 3, kind: error, text: expect.stringContaining("2 of this connection are unanswered (maxInFlight)") },
        ]);
        h.shown[0]?.answer("done");
        await turn();
        client.send(frame(4, data, "4"));
        (await h.shows(3)).answer("done, too");
        await turn();
        const answers = await all(client);
        expect(answers.slice(1)).toEqual([says(1, "done"), says(4, "done, too")]);
        const other = await h.client();
        other.send(frame(1, data, "of another connection"));
        (await h.shows(4)).answer("mine");
        await turn();
        expect(await all(other)).toEqual([says(1, "mine")]);
      },
      { maxInFlight: 2 },
    ),
  );

  const word = "w".repeat(100_000);
  const count = tooManyBytes / word.length;
  const flood = (kind: number): Buffer =>
    Buffer.concat(Array.from({ length: count }, (_, n) => frame(n + 1, kind, word)));

  test.each([
    ["requests and reads no answer", data],
    ["pings and reads no pong", ping],
  ])("(%s) is not read from until it does, and others are served meanwhile", async (_, kind) => {
    const pauses = vi.spyOn(Socket.prototype, "pause");
    await host(
      async (h) => {
        const client = await h.client();
        client.socket.pause();
        client.send(flood(kind));
        const mine = (): Socket | undefined =>
          (pauses.mock.contexts as Socket[]).find((socket) => socket.remotePort === client.socket.localPort);
        await until("the server has stopped reading", () => mine() !== undefined);
        await turns(500);
        expect(mine()?.bytesRead).toBeLessThan(tooManyBytes / 2);
        const other = await h.client();
        other.send(frame(1, data, "x"));
        expect(await all(other)).toEqual([says(1, "x")]);
        client.socket.resume();
        await until("all is answered", () => client.length === count * 100_009);
        const answers = framesAt(client);
        expect(answers.every(({ id, text: said }, n) => id === n + 1 && said === word)).toBe(true);
        expect(new Set(answers.map((answer) => answer.kind))).toEqual(new Set([kind === ping ? pong : data]));
      },
      { handler: (request) => request },
    )();
  });

  test(
    "and reads no answer is shown to no more handlers, when the answers come later, too",
    host(async (h) => {
      const client = await h.client();
      client.socket.pause();
      client.send(Buffer.concat(Array.from({ length: 300 }, (_, n) => frame(n + 1, data, "x"))));
      await h.shows(300);
      for (const { answer } of h.shown) answer(word);
      await turn();
      for (let n = 300; n < 400; n++) {
        client.send(frame(n + 1, data, "x"));
        await turn();
      }
      await turns(200);
      // The first that comes finds out.
      expect(h.shown).toHaveLength(301);
      client.socket.resume();
      await h.shows(400);
      for (const { answer } of h.shown.slice(300)) answer("at last");
      await until("all is answered", () => client.length === 300 * 100_009 + 100 * 16);
      expect(new Set(framesAt(client).map(({ id }) => id)).size).toBe(400);
    }),
  );

  test(
    "closes while it is not read from is gone, too",
    host(
      async (h) => {
        const client = await h.client();
        client.socket.pause();
        client.send(flood(data));
        await turns(200);
        client.socket.resetAndDestroy();
        await until("it is gone", () => h.server.connections === 0);
      },
      { handler: (request) => request },
    ),
  );
});

describe("a ping", () => {
  test(
    "is answered with its id and payload, between the answers",
    host(
      async (h) => {
        const client = await h.client();
        client.send(Buffer.concat([frame(0, ping, "1"), frame(1, data, "x"), frame(0xffff_ffff, ping, "é")]));
        expect(await hears(client, 3)).toEqual([
          { id: 0, kind: pong, text: "1" },
          says(1, "x"),
          { id: 0xffff_ffff, kind: pong, text: "é" },
        ]);
      },
      { handler: (request) => request },
    ),
  );
});

describe("close", () => {
  test(
    "says goaway, takes no new connection, serves until the clients have closed, and then resolves",
    host(async (h) => {
      const [client, idle] = [await h.client(), await h.client()];
      client.send(frame(1, data, "before"));
      await h.shows(1);
      let closed = false;
      const closing = h.server.close().then(() => {
        closed = true;
      });
      expect(await hears(idle, 1)).toEqual([{ id: 0, kind: goaway, text: "" }]);
      await expect(h.client()).rejects.toMatchObject({ code: "ECONNREFUSED" });
      // It may have sent more before the goaway came.
      client.send(frame(2, data, "crossed it"));
      await h.shows(2);
      for (const { request, answer } of h.shown) answer(`re: ${request}`);
      await turn();
      expect(await all(client)).toEqual([
        { id: 0, kind: goaway, text: "" },
        says(1, "re: before"),
        says(2, "re: crossed it"),
      ]);
      idle.socket.end();
      await until("one is left", () => h.server.connections === 1);
      await turns(10);
      expect(closed).toBe(false);
      client.socket.end();
      await closing;
      expect(await h.server.process.exited).toBe("normal");
      expect(h.runtime.timers).toBe(0);
    }),
  );

  test(
    "resolves at once when nobody is there, and again",
    host(async (h) => {
      await h.server.close();
      await h.server.close({ timeoutMs: 0 });
      expect(await h.server.process.exited).toBe("normal");
      expect(h.runtime.now()).toBe(0);
    }),
  );

  test.each([
    ["30 s when nobody says", undefined, 30_000],
    ["timeoutMs", { timeoutMs: 200 }, 200],
    ["nothing at all", { timeoutMs: 0 }, 0],
  ])("cuts off who has not closed after %s", async (_, options, ms) => {
    await host(async (h) => {
      const [client, silent] = [await h.client(), await h.client()];
      client.send(frame(1, data, "for ever"));
      const { context } = await h.shows(1);
      await until("both are there", () => h.server.connections === 2);
      const closing = h.server.close(options);
      if (ms > 0) await h.runtime.advance(ms - 1);
      expect(context.signal.aborted).toBe(false);
      await h.runtime.advance(1);
      await closing;
      expect(context.signal.reason).toMatchObject({
        name: "AbortError",
        message: "the server has closed the connection",
      });
      await Promise.all([client, silent].map(cutOff));
      expect(h.server.connections).toBe(0);
      expect(await h.server.process.exited).toBe("normal");
    })();
  });

  test(
    "again can shorten the time, and not lengthen it",
    host(async (h) => {
      const client = await h.client();
      await until("it is there", () => h.server.connections === 1);
      const closings = [1_000, 100, 10_000].map((timeoutMs) => h.server.close({ timeoutMs }));
      await h.runtime.advance(99);
      expect(client.ended || client.closed).toBe(false);
      expect(h.server.process.alive).toBe(true);
      await h.runtime.advance(1);
      await Promise.all(closings);
      await cutOff(client);
    }),
  );

  test(
    "cuts off one who does not read its answers",
    host(
      async (h) => {
        const client = await h.client();
        client.socket.pause();
        client.send(frame(1, data, "much"));
        await until("it is answered", () => answered);
        const closing = h.server.close({ timeoutMs: 50 });
        await h.runtime.advance(50);
        await closing;
        expect(h.server.connections).toBe(0);
      },
      {
        maxFrameBytes: 2 * tooManyBytes,
        handler: () => {
          answered = true;
          return "m".repeat(tooManyBytes);
        },
      },
    ),
  );
  test(
    "tells the goaway also to one who is here and has said nothing yet",
    host(async (h) => {
      const client = await h.client();
      await until("it is there", () => h.server.connections === 1);
      const closing = h.server.close();
      expect(await hears(client, 1)).toEqual([{ id: 0, kind: goaway, text: "" }]);
      client.socket.end();
      await closing;
    }),
  );

  test(
    "is what `await using` does",
    host(async (h) => {
      {
        await using server = h.server;
        expect(server.process.alive).toBe(true);
      }
      expect(await h.server.process.exited).toBe("normal");
    }),
  );

  test(
    "refuses what is no time, and does nothing then",
    host(async (h) => {
      for (const options of [{ timeoutMs: -1 }, { timeoutMs: "1" }, { timeout: 1 }, null]) {
        await expect(h.server.close(options as never)).rejects.toMatchObject({ code: "ERR_OPTION" });
      }
      const client = await h.client();
      expect(await all(client)).toEqual([]);
      expect(h.runtime.timers).toBe(0);
    }),
  );
});

describe("the process of a server", () => {
  test(
    "killed leaves nothing: no listener, no connection, and handlers that are told",
    host(async (h) => {
      const client = await h.client();
      client.send(frame(1, data, "x"));
      const { context, answer } = await h.shows(1);
      h.server.process.kill();
      expect(context.signal.aborted).toBe(true);
      expect(h.server.process.alive).toBe(false);
      answer("in vain");
      await cutOff(client);
      await until("nothing is left", () => h.server.connections === 0);
      expect(framesAt(client)).toEqual([]);
      await expect(h.client()).rejects.toMatchObject({ code: "ECONNREFUSED" });
      await h.server.close();
      expect(await h.server.process.exited).toBe("killed");
    }),
  );

  test(
    "goes with a process it is linked to",
    host(async (h) => {
      const owner = await Process.start({ init: () => undefined });
      owner.link(h.server);
      const client = await h.client();
      await until("it is there", () => h.server.connections === 1);
      owner.kill();
      await cutOff(client);
      expect(await h.server.process.exited).toBe("killed");
    }),
  );

  test(
    "stopped does as close does",
    host(async (h) => {
      const client = await h.client();
      await until("it is there", () => h.server.connections === 1);
      const stopped = h.server.process.stop();
      expect(await hears(client, 1)).toEqual([{ id: 0, kind: goaway, text: "" }]);
      client.socket.end();
      expect(await stopped).toBe("shutdown");
    }),
  );

  test(
    "has the server's address for a name, or the name it is given",
    host(async (h) => {
      expect(h.server.process.name).toBe(`fanta server 127.0.0.1:${h.server.port}`);
      const named = await FantaServer.listen({ handler: () => "", name: "mine" });
      expect(named.process.name).toBe("mine");
      expect(named.port).not.toBe(h.server.port);
      await named.close();
    }),
  );
});

describe("listening", () => {
  const handler: Handler = (request) => request;

  test("on a port that is taken rejects, with the socket's error as its cause", async () => {
    const other = createServer().listen(0, "127.0.0.1");
    await once(other, "listening");
    const { port } = other.address() as { port: number };
    const refused = await FantaServer.listen({ handler, port }).catch((thrown: unknown) => thrown);
    expect(refused).toMatchObject({
      name: "FantaError",
      code: "ERR_FANTA_LISTEN",
      cause: { code: "EADDRINUSE" },
      message: expect.stringContaining("Another program has the port"),
    });
    other.close();
    await once(other, "close");
    const server = await FantaServer.listen({ handler, port });
    expect(server.port).toBe(port);
    await server.close();
  });

  test("on an address that this machine does not have rejects", async () => {
    // 192.0.2.0/24 is for documentation: no machine has it.
    const refused = await FantaServer.listen({ handler, host: "192.0.2.1" }).catch((thrown: unknown) => thrown);
    expect(refused).toMatchObject({ code: "ERR_FANTA_LISTEN", cause: { code: "EADDRNOTAVAIL" } });
  });

  test("with certificates that are none is refused before anything starts, and the key is not shown", async () => {
    const tls = { key: "secret key", cert: "no certificate" };
    const refused = await FantaServer.listen({ handler, tls }).catch((error: unknown) => error);
    expect(refused).toMatchObject({ code: "ERR_OPTION", option: "FantaServer.listen: tls", got: undefined });
    expect(inspect(refused, { showHidden: true })).not.toContain("secret key");
  });

  test.each<[string, object]>([
    ["no handler", {}],
    ["a handler that is none", { handler: "echo" }],
    ["an empty host", { handler, host: "" }],
    ["a port out of range", { handler, port: 65_536 }],
    ["tls that is none", { handler, tls: true }],
    ["half a codec", { handler, codec: { decode: String } }],
    ["a maxFrameBytes in which no frame fits", { handler, maxFrameBytes: 4 }],
    ["a maxInFlight of 0", { handler, maxInFlight: 0 }],
    ["an empty name", { handler, name: "" }],
    ["a runtime that is none", { handler, runtime: {} }],
    ["an unknown option", { handler, prot: 1 }],
  ])("refuses %s before anything starts", async (_, options) => {
    await expect(FantaServer.listen(options as never)).rejects.toMatchObject({ code: "ERR_OPTION" });
  });

  test("refuses no options at all", async () => {
    await expect(FantaServer.listen(undefined as never)).rejects.toMatchObject({ code: "ERR_OPTION" });
  });
});

describe("a codec of the server's that ends it", () => {
  const noted: string[] = [];
  const ending = (at: "encode" | "decode", end: () => void): Codec<string> => ({
    encode: (value) => {
      if (at === "encode") end();
      return value;
    },
    decode: (bytes, start, end_) => {
      if (at === "decode") end();
      return text.decode(bytes, start, end_);
    },
  });

  test.each(["encode", "decode"] as const)("while it %ss harms nobody", async (at) => {
    let server: FantaServer | undefined;
    await host(
      async (h) => {
        server = h.server;
        const client = await h.client();
        client.send(Buffer.concat([frame(1, data, "x"), frame(2, data, "y")]));
        await cutOff(client);
        expect(framesAt(client)).toEqual([]);
        expect(noted.splice(0)).toEqual(["x"]);
      },
      {
        codec: ending(at, () => server?.process.kill()),
        handler: (request) => {
          noted.push(request);
          return request;
        },
      },
    )();
  });
});
