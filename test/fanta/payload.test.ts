/**
 * Payloads: the three codecs that are here, and codecs of the user's that misbehave at each place where they are called.
 *
 * A codec that throws fails its own request. So each test ends with a request over the same connection that works.
 */

import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { binary, type Codec, FantaPool, FantaServer, FantaTCP, json, text } from "../../src/fanta/index.ts";
import { until } from "../multiplex/turns.ts";
import { scene } from "./client.ts";
import { data, error, frame } from "./frames.ts";

const open: (FantaServer | FantaTCP<never, never>)[] = [];

afterEach(() => {
  for (const each of open.splice(0)) each.process.kill();
});

type Thrown = Error & { code: string; cause?: unknown };

async function pair<Out, In>(
  near: Codec<Out, In>,
  far: Codec<In, Out>,
  handler: (request: Out) => In | Promise<In>,
): Promise<FantaTCP<Out, In>> {
  const server = await FantaServer.listen<Out, In>({ codec: far, handler });
  const fanta = await FantaTCP.connect<Out, In>({ host: "127.0.0.1", port: server.port, codec: near });
  open.push(server, fanta as never);
  return fanta;
}

function echo<T>(codec: Codec<T>): Promise<FantaTCP<T, T>> {
  return pair(codec, codec, (request) => request);
}

function failure(request: Promise<unknown>): Promise<Thrown> {
  return request.then(
    (value) => {
      throw new Error(`it was answered: ${String(value)}`);
    },
    (thrown: Thrown) => thrown,
  );
}

/** Ours, not the server's. */
const refusedHere = expect.objectContaining({ name: "FantaError", code: "ERR_FANTA_CODEC", retryable: false });

describe("text", () => {
  test("comes back as it was, or is refused when it has no UTF-8", async () => {
    const fanta = await echo(text);
    // Halves of surrogate pairs, and what is next to them; short strings take another way than long ones.
    const unit = fc.oneof(
      fc.constantFrom("a", "é", "€", "🜂", "\uFFFD", "\uFEFF", "\u0000", "\uD800", "\uDBFF", "\uDC00", "\uDFFF"),
      fc.string({ unit: "binary", minLength: 1, maxLength: 1 }),
    );
    const strings = fc.oneof(
      fc.string({ unit, maxLength: 20 }),
      fc
        .tuple(fc.string({ unit, maxLength: 4 }), fc.constantFrom(1, 30, 8_300), fc.string({ unit, maxLength: 4 }))
        .map(([before, length, after]) => `${before}${"x".repeat(length)}${after}`),
    );
    await fc.assert(
      fc.asyncProperty(strings, async (payload) => {
        const request = fanta.request(payload);
        if ((payload as unknown as { isWellFormed(): boolean }).isWellFormed())
          expect((await request) === payload).toBe(true);
        else expect(await failure(request)).toEqual(refusedHere);
      }),
      { seed: 4, numRuns: 400 },
    );
    expect(fanta.inFlight).toBe(0);
  });

  test("is nothing but strings, and says what kind of thing it was given instead", async () => {
    const fanta = await echo(text);
    const kinds: [unknown, string][] = [
      [5, "number"],
      [null, "null"],
      [new Map(), "an object (Map)"],
      [Object.create(null), "an object (without a prototype)"],
    ];
    for (const [value, kind] of kinds)
      expect((await failure(fanta.request(value as never))).message).toContain(`takes a string, not ${kind}.`);
    expect(await fanta.request("x")).toBe("x");
  });

  test.each([5, undefined, null, {}, Buffer.from("x"), ["x"], Symbol("x")])(
    "is nothing but strings (%j)",
    async (value) => {
      const fanta = await echo(text);
      const thrown = await failure(fanta.request(value as never));
      expect(thrown).toEqual(refusedHere);
      expect(thrown.message).toContain("takes a string");
      expect(await fanta.request("fine")).toBe("fine");
    },
  );

  test.each([
    ["a byte that begins nothing", [0x61, 0xff]],
    ["a character cut short", [0xe2, 0x82]],
    ["more bytes than needed for a character", [0xc0, 0x80]],
    ["half of a surrogate pair", [0xed, 0xa0, 0x80]],
    ["U+FFFD and a byte that begins nothing", [0xef, 0xbf, 0xbd, 0x80]],
  ])("is refused when it is no UTF-8: %s", async (_, bytes) => {
    await scene(async (s) => {
      const [refused, fine] = [s.ask("a"), s.ask("b")];
      const [a, b] = await s.hears(2);
      s.far.send(frame(a?.id as number, data, Buffer.from(bytes)));
      s.far.send(frame(b?.id as number, data, "\uFFFD fine"));
      expect(await refused.outcome).toEqual({ error: refusedHere });
      expect(await fine.outcome).toEqual({ answer: "\uFFFD fine" });
      expect(s.fanta.inFlight).toBe(0);
    })();
  });

  test(
    "of an error response is the server's, whatever it is",
    scene(async (s) => {
      const asked = s.ask("a");
      const [a] = await s.hears(1);
      s.far.send(frame(a?.id as number, error, Buffer.from([0x61, 0xff])));
      expect(await asked.outcome).toMatchObject({ error: { code: "ERR_FANTA_RESPONSE", message: "a\uFFFD" } });
    }),
  );
});

describe("binary", () => {
  test("comes back as it was, in memory of its own", async () => {
    const fanta = await echo(binary);
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 5_000 }), async (payload) => {
        const answers = await Promise.all([fanta.request(payload), fanta.request(payload)]);
        for (const answer of answers) {
          expect(answer).toEqual(payload);
          // Nothing else is kept in memory with it, and nobody else writes there.
          expect([answer.byteOffset, answer.buffer.byteLength]).toEqual([0, payload.length]);
        }
        answers[0]?.fill(0);
        expect(answers[1]).toEqual(payload);
      }),
      { seed: 4, numRuns: 100 },
    );
  });

  test("of exactly maxFrameBytes - 5 passes, both ways; one byte more is refused here, or by the server", async () => {
    const limited = { codec: binary, maxFrameBytes: 100 };
    const server = await FantaServer.listen({
      ...limited,
      handler: (request) => new Uint8Array(request[0] as number),
    });
    const fanta = await FantaTCP.connect({ ...limited, host: "127.0.0.1", port: server.port });
    open.push(server as never, fanta as never);
    const large = new Uint8Array(95).fill(95);
    expect(await fanta.request(large)).toEqual(new Uint8Array(95));
    expect(await failure(fanta.request(new Uint8Array(96)))).toMatchObject({ code: "ERR_FANTA_TOO_LARGE" });
    expect(await failure(fanta.request(Uint8Array.of(96)))).toMatchObject({ code: "ERR_FANTA_RESPONSE" });
    expect(await fanta.request(large)).toEqual(new Uint8Array(95));
  });

  test("is taken at once: what is changed after the call is not sent", async () => {
    const fanta = await echo(binary);
    const payload = Uint8Array.of(1, 2, 3);
    const request = fanta.request(payload);
    payload.fill(9);
    expect(await request).toEqual(Uint8Array.of(1, 2, 3));
  });

  test("may be a part of something larger, or a Buffer; what comes is a plain Uint8Array", async () => {
    const fanta = await echo(binary);
    const whole = Buffer.from("0123456789");
    const answer = await fanta.request(whole.subarray(3, 6));
    expect(answer).toEqual(Uint8Array.from(Buffer.from("345")));
    expect(Object.getPrototypeOf(answer)).toBe(Uint8Array.prototype);
  });

  test.each(["text", 5, undefined, [1, 2], new ArrayBuffer(2), new Uint16Array(2)])(
    "is nothing but bytes (%j)",
    async (value) => {
      const fanta = await echo(binary);
      expect(await failure(fanta.request(value as never))).toEqual(refusedHere);
      expect(await fanta.request(Uint8Array.of(1))).toEqual(Uint8Array.of(1));
    },
  );
});

describe("json", () => {
  test("comes back as JSON has it", async () => {
    const fanta = await echo(json);
    await fc.assert(
      fc.asyncProperty(fc.jsonValue(), async (value) => {
        expect(await fanta.request(value)).toEqual(JSON.parse(JSON.stringify(value)));
      }),
      { seed: 4, numRuns: 200 },
    );
  });

  const cycle: unknown[] = [];
  cycle.push(cycle);
  test.each<[string, unknown]>([
    ["undefined", undefined],
    ["a function", () => 1],
    ["a symbol", Symbol("x")],
    ["an object that has no JSON", { toJSON: () => undefined }],
    ["an object whose toJSON throws", { toJSON: () => JSON.parse("{") }],
    ["a bigint", 1n],
    ["a cycle", cycle],
  ])("has no word for %s", async (_, value) => {
    const fanta = await echo(json);
    expect(await failure(fanta.request(value))).toEqual(refusedHere);
    expect(await fanta.request([1])).toEqual([1]);
  });

  test("is refused when it is none, or no UTF-8", async () => {
    for (const answer of [Buffer.from("{"), Buffer.of(0x22, 0xff, 0x22), Buffer.alloc(0)]) {
      const fanta = await pair<unknown, unknown>(json, binary as Codec<unknown>, (request) =>
        (request as Uint8Array).length === 1 ? Buffer.from("2") : answer,
      );
      expect(await failure(fanta.request("long"))).toEqual(refusedHere);
      expect(await fanta.request(1)).toBe(2);
    }
  });
});

describe("a codec of one's own", () => {
  test("may take one thing and give another", async () => {
    const numbers: Codec<number, Date> = {
      encode: (value) => Uint8Array.of(value),
      decode: (bytes, start, end) => new Date(Number(bytes.toString("latin1", start, end))),
    };
    const server: Codec<Date, number> = {
      encode: (value) => String(value.getTime()),
      decode: (bytes, start, end) => (bytes[start] as number) * (end - start),
    };
    const fanta = await pair(numbers, server, (request) => new Date(request * 1_000));
    expect(await fanta.request(7)).toEqual(new Date(7_000));
  });

  test("sees its own payload only, as long as the call lasts", async () => {
    const seen: string[] = [];
    const codec: Codec<string> = {
      encode: (value) => value,
      decode: (bytes, start, end) => {
        seen.push(bytes.toString("latin1", start, end));
        return seen.at(-1) as string;
      },
    };
    const fanta = await pair(codec, text, (request) => request);
    const all = ["", "a", "bb", "ccc"];
    expect(await Promise.all(all.map((each) => fanta.request(each)))).toEqual(all);
    expect(seen).toEqual(all);
  });

  const bad = "bad";
  /** Does as text does, until it meets something bad at one place. */
  function failing(at: "encode" | "decode", misbehave: () => unknown): Codec<string> {
    return {
      encode: (value) => (at === "encode" && value.includes(bad) ? (misbehave() as string) : value),
      decode: (bytes, start, end) => {
        const value = text.decode(bytes, start, end);
        return at === "decode" && value.includes(bad) ? (misbehave() as string) : value;
      },
    };
  }

  const thrown = new RangeError("not today");
  const throws = (): never => {
    throw thrown;
  };

  test("that cannot encode a request fails it here, with what it threw as the cause", async () => {
    let asked = 0;
    const fanta = await pair(failing("encode", throws), text, (request) => {
      asked++;
      return request;
    });
    const refused = await failure(fanta.request(bad));
    expect(refused).toEqual(refusedHere);
    expect(refused.cause).toBe(thrown);
    expect(refused.message).toContain("the request could not be encoded: not today");
    expect(await fanta.request("good")).toBe("good");
    expect({ asked, inFlight: fanta.inFlight }).toEqual({ asked: 1, inFlight: 0 });
  });

  test("that cannot decode a response fails it here, with what it threw as the cause", async () => {
    const fanta = await pair(failing("decode", throws), text, (request) => request);
    const refused = await failure(fanta.request(bad));
    expect(refused).toEqual(refusedHere);
    expect(refused.cause).toBe(thrown);
    expect(refused.message).toContain("the response could not be decoded: not today");
    expect(await fanta.request("good")).toBe("good");
    expect(fanta.inFlight).toBe(0);
  });

  test("that cannot decode a request at the server has it answered with why, and never shows it to the handler", async () => {
    let asked = 0;
    const fanta = await pair(text, failing("decode", throws), (request) => {
      asked++;
      return request;
    });
    expect(await failure(fanta.request(bad))).toMatchObject({
      code: "ERR_FANTA_RESPONSE",
      message: expect.stringContaining("the request could not be decoded: not today"),
    });
    expect(await fanta.request("good")).toBe("good");
    expect(asked).toBe(1);
  });

  test.each([
    ["at once", (request: string) => request],
    ["later", (request: string) => Promise.resolve(request)],
  ])("that cannot encode a response at the server has it answered with why (%s)", async (_, handler) => {
    const fanta = await pair(text, failing("encode", throws), handler);
    expect(await failure(fanta.request(bad))).toMatchObject({
      code: "ERR_FANTA_RESPONSE",
      message: expect.stringContaining("the response could not be encoded: not today"),
    });
    expect(await fanta.request("good")).toBe("good");
  });

  test.each<[string, unknown]>([
    ["nothing", undefined],
    ["a number", 5],
    ["an array", [1, 2]],
    ["a promise", Promise.resolve("late")],
  ])("whose encode gives %s fails the request, on either side", async (_, value) => {
    const codec = failing("encode", () => value);
    const near = await pair(codec, text, (request) => request);
    expect(await failure(near.request(bad))).toEqual(refusedHere);
    expect(await near.request("good")).toBe("good");
    const far = await pair(text, codec, (request) => request);
    expect(await failure(far.request(bad))).toMatchObject({ code: "ERR_FANTA_RESPONSE" });
    expect(await far.request("good")).toBe("good");
  });

  test("that throws what is no Error is quoted as it can be", async () => {
    const fanta = await pair(
      failing("encode", () => {
        throw "a string";
      }),
      text,
      (request) => request,
    );
    const refused = await failure(fanta.request(bad));
    expect(refused).toEqual(refusedHere);
    expect(refused.cause).toBe("a string");
  });

  test("may ask for something else while it encodes", async () => {
    const inner: Promise<string>[] = [];
    const fanta: FantaTCP = await pair(
      {
        encode: (value) => {
          if (value === "outer") inner.push(fanta.request("inner"));
          return value;
        },
        decode: (bytes, start, end) => text.decode(bytes, start, end),
      } satisfies Codec<string>,
      text,
      (request) => `re: ${request}`,
    );
    expect(await fanta.request("outer")).toBe("re: outer");
    expect(await Promise.all(inner)).toEqual(["re: inner"]);
  });

  test("may end the connection while it encodes: the request was not sent", async () => {
    const fanta: FantaTCP = await pair(
      failing("encode", () => {
        fanta.process.kill();
        return "too late";
      }),
      text,
      (request) => request,
    );
    const before = fanta.request("good");
    expect(await failure(fanta.request(bad))).toMatchObject({ code: "ERR_CONNECTION_LOST", sent: "no" });
    expect(await failure(before)).toMatchObject({ code: "ERR_CONNECTION_LOST", sent: "no" });
    expect(fanta.inFlight).toBe(0);
  });

  test("may end the connection while it decodes: that request is answered, the others are lost", async () => {
    const fanta: FantaTCP = await pair(
      failing("decode", () => {
        fanta.process.kill();
        return "in time";
      }),
      text,
      (request) => request,
    );
    const all = [fanta.request("good"), fanta.request(bad), fanta.request("good")];
    expect(await all[0]).toBe("good");
    expect(await all[1]).toBe("in time");
    expect(await failure(all[2] as Promise<string>)).toMatchObject({ code: "ERR_CONNECTION_LOST", sent: "maybe" });
    expect(fanta.inFlight).toBe(0);
  });

  test("may give up the request that it encodes, alone or in a pool", async () => {
    const reason = new Error("too dear");
    let caller = new AbortController();
    const codec = failing("encode", () => {
      caller.abort(reason);
      return bad;
    });
    const fanta = await pair(codec, text, () => new Promise<string>(() => undefined));
    expect(await failure(fanta.request(bad, { signal: caller.signal }))).toBe(reason);
    caller = new AbortController();
    const server = open[0] as FantaServer;
    const pool = await FantaPool.start({ host: "127.0.0.1", port: server.port, codec, size: 1 });
    await pool.ready();
    expect(await failure(pool.request(bad, { signal: caller.signal }))).toBe(reason);
    await until("the server has been told", () => pool.stats().inFlight === 1);
    await pool.destroy();
    expect(pool.stats().inFlight).toBe(0);
  });
});
