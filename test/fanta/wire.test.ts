/**
 * `FantaTCP` on the wire: requests and answers, peers that misbehave, connections that break.
 *
 * The peer is a plain socket that a test plays by hand (client.ts), so it can do what no server of ours would.
 */

import { Socket } from "node:net";
import fc from "fast-check";
import { afterEach, describe, expect, test, vi } from "vitest";
import { FantaTCP } from "../../src/fanta/index.ts";
import { slotsMax } from "../../src/multiplex/index.ts";
import { Far, tooManyBytes } from "../multiplex/loopback.ts";
import { turn, turns, until } from "../multiplex/turns.ts";
import { heard } from "../process/heard.ts";
import { Noted, type Scene, scene, sceneOf } from "./client.ts";
import { announced, cancel, data, error, type Frame, frame, goaway, pong } from "./frames.ts";

afterEach(() => {
  vi.restoreAllMocks();
});

const idOf = (frames: readonly Frame[], n = 0): number => frames[n]?.id as number;

describe("a request", () => {
  test(
    "is a frame of kind 0 with its payload, and an id that is not 0",
    scene(async (s) => {
      const asked = s.ask("häh?");
      const [first] = await s.hears(1);
      expect(s.far.bytes).toEqual(frame(first?.id as number, data, "häh?"));
      expect(first?.id).not.toBe(0);
      s.far.send(frame(first?.id as number, data, "aha"));
      expect(await asked.outcome).toEqual({ answer: "aha" });
    }),
  );

  test(
    "leaves in one write with all others of its turn",
    scene(async (s) => {
      const write = vi.spyOn(Socket.prototype, "write");
      const all = Array.from({ length: 100 }, (_, n) => s.ask(`${n}`));
      await s.hears(100);
      const writes = write.mock.contexts.filter((socket) => (socket as Socket).remotePort === s.port);
      expect(writes).toHaveLength(1);
      s.far.send(Buffer.concat(s.frames.map(({ id, text }) => frame(id, data, text))));
      for (const [n, { outcome }] of all.entries()) expect(await outcome).toEqual({ answer: `${n}` });
    }),
  );

  test(
    "gets its own answer, in whatever order answers come and however the stream is cut",
    scene(async (s) => {
      const plan = fc.record({
        payloads: fc.array(fc.string({ unit: "grapheme", maxLength: 30 }), { minLength: 1, maxLength: 40 }),
        order: fc.infiniteStream(fc.nat()),
        cuts: fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 5 }),
      });
      await fc.assert(
        fc.asyncProperty(plan, async ({ payloads, order, cuts }) => {
          const before = s.frames.length;
          const all = payloads.map((payload) => s.ask(payload));
          const left = (await s.hears(before + payloads.length)).slice(before);
          expect(left.map(({ text }) => text)).toEqual(payloads);
          expect(s.fanta.inFlight).toBe(payloads.length);
          const answers: Buffer[] = [];
          while (left.length > 0) {
            const [next] = left.splice((order.next().value as number) % left.length, 1);
            answers.push(frame(next?.id as number, data, `re: ${next?.text}`));
          }
          const bytes = Buffer.concat(answers);
          for (let at = 0, n = 0; at < bytes.length; n++) {
            const size = cuts[n % cuts.length] as number;
            s.far.send(bytes.subarray(at, at + size));
            at += size;
            if (n % 8 === 0) await turn();
          }
          const outcomes = await Promise.all(all.map(({ outcome }) => outcome));
          expect(outcomes).toEqual(payloads.map((payload) => ({ answer: `re: ${payload}` })));
          expect(s.fanta.inFlight).toBe(0);
        }),
        { seed: 9, numRuns: 30 },
      );
    }),
  );

  test(
    "that the server answers with an error rejects with the server's words and nothing else",
    scene(async (s) => {
      const [refused, alsoRefused, fine] = [s.ask("a"), s.ask("b"), s.ask("c")];
      const frames = await s.hears(3);
      s.far.send(frame(idOf(frames, 0), error, "não"));
      s.far.send(frame(idOf(frames, 1), error));
      s.far.send(frame(idOf(frames, 2), data, "fine"));
      const outcome = (message: string): object => ({
        error: expect.objectContaining({ code: "ERR_FANTA_RESPONSE", name: "FantaError", message, retryable: false }),
      });
      expect(await refused.outcome).toEqual(outcome("não"));
      expect(await alsoRefused.outcome).toEqual(outcome(""));
      expect(await fine.outcome).toEqual({ answer: "fine" });
    }),
  );

  test(
    "never has an id that may still be answered, nor soon one that was",
    scene(async (s) => {
      const caller = new AbortController();
      // 255 that are given up and never answered leave one place in the table.
      for (let n = 0; n < 255; n++) s.ask("lost", { signal: caller.signal });
      const taken = (await s.hears(255)).map(({ id }) => id);
      caller.abort(new Error("enough"));
      const seen = new Set(taken);
      for (let n = 0; n < 100; n++) {
        const before = s.frames.length;
        const asked = s.ask("next");
        const [next] = (await s.hears(before + (n === 0 ? 256 : 1))).filter(({ text }, at) => at >= before && text);
        const id = next?.id as number;
        expect(seen.has(id)).toBe(false);
        seen.add(id);
        s.far.send(frame(id, data, "yes"));
        expect(await asked.outcome).toEqual({ answer: "yes" });
      }
      expect(s.fanta.inFlight).toBe(255);
    }),
  );

  test(
    "may be sent again from within its loss, on the object it had",
    scene(async (s) => {
      const other = await sceneOf();
      const request = s.send("x");
      await s.hears(1);
      request.onOutcome = () => {
        request.onOutcome = () => undefined;
        other.fanta.send(request, "x", Infinity, 0);
      };
      s.far.socket.resetAndDestroy();
      const frames = await other.hears(1);
      other.far.send(frame(idOf(frames), data, "here"));
      await until("it is answered", () => request.told.length === 4);
      expect(request.told.splice(2)).toEqual(["released", "answered here"]);
      await other.end();
    }),
  );
});

describe("a million requests", () => {
  test("may be in flight, and one more is refused and was not sent", async () => {
    const s = await sceneOf();
    // One object for all: nothing is known of it, so nothing is to be told apart.
    let released = 0;
    let lost = 0;
    class Crowd extends Noted {
      override released(): void {
        released++;
      }
      override lost(): void {
        lost++;
      }
    }
    const crowd = new Crowd();
    for (let n = 0; n < slotsMax; n++) s.fanta.send(crowd, "", Infinity, 0);
    expect(s.fanta.inFlight).toBe(slotsMax);
    const { outcome } = s.ask("one more");
    expect(await outcome).toEqual({
      error: expect.objectContaining({ code: "ERR_FANTA_BUSY", message: expect.stringContaining("Nothing was sent") }),
    });
    await until("all have come", () => s.far.length === slotsMax * 9);
    // A million errors, each with its stack: that is all the time this test would take.
    const { stackTraceLimit } = Error;
    Error.stackTraceLimit = 0;
    await s.end();
    Error.stackTraceLimit = stackTraceLimit;
    expect({ released, lost }).toEqual({ released: slotsMax, lost: slotsMax });
  });
});

describe("a payload", () => {
  const maxFrameBytes = 20_005;
  const most = 20_000;
  const payloads: [string, string, string][] = [
    ["plain text", "x".repeat(most), "x".repeat(most + 1)],
    ["text of two bytes a character", "é".repeat(most / 2), `${"é".repeat(most / 2)}x`],
    ["text of three bytes a character", `${"€".repeat(6_666)}é`, "€".repeat(6_667)],
    ["text of four bytes a character", "🜂".repeat(most / 4), `${"🜂".repeat(most / 4)}x`],
  ];

  test.each(payloads)(
    "of exactly maxFrameBytes - 5 passes, one byte more is refused and nothing is sent (%s)",
    async (_, fits, tooLarge) => {
      expect([Buffer.byteLength(fits), Buffer.byteLength(tooLarge)]).toEqual([most, most + 1]);
      await scene(
        async (s) => {
          const refused = s.ask(tooLarge);
          const asked = s.ask(fits);
          expect(await refused.outcome).toEqual({
            error: expect.objectContaining({ code: "ERR_FANTA_TOO_LARGE", retryable: false }),
          });
          const frames = await s.hears(1);
          expect(frames.map(({ text }) => text === fits)).toEqual([true]);
          s.far.send(frame(idOf(frames), data, fits));
          const outcome = await asked.outcome;
          expect("answer" in outcome && outcome.answer === fits).toBe(true);
          await s.roundTrip();
          expect(s.frames.filter(({ kind }) => kind === data)).toHaveLength(1);
        },
        { maxFrameBytes },
      )();
    },
  );

  test("may be short of the limit in characters and over it in bytes, be they few or many", async () => {
    for (const max of [10, 100, 9_000]) {
      await scene(
        async (s) => {
          for (const length of [Math.ceil((max - 4) / 2), max - 5]) {
            const { outcome } = s.ask("é".repeat(length));
            expect(await outcome).toMatchObject({ error: { code: "ERR_FANTA_TOO_LARGE" } });
          }
          s.ask("x".repeat(max - 5));
          expect(await s.hears(1)).toMatchObject([{ text: "x".repeat(max - 5) }]);
        },
        { maxFrameBytes: max },
      )();
    }
  });

  test(
    "may be empty, both ways",
    scene(
      async (s) => {
        const asked = s.ask("");
        const frames = await s.hears(1);
        expect(s.far.bytes).toEqual(frame(idOf(frames), data));
        s.far.send(frame(idOf(frames), data));
        expect(await asked.outcome).toEqual({ answer: "" });
        expect(await s.ask("x").outcome).toMatchObject({ error: { code: "ERR_FANTA_TOO_LARGE" } });
      },
      { maxFrameBytes: 5 },
    ),
  );
});

describe("a peer that is not, or no longer, a Fanta server", () => {
  const misbehaviours: [string, (s: Scene, id: number) => void][] = [
    ["answers an id that was never sent", (s, id) => s.far.send(frame(id + 7, data, "?"))],
    ["answers twice", (s, id) => s.far.send(Buffer.concat([frame(id, data, "1"), frame(id, data, "2")]))],
    [
      "answers with data, then with an error",
      (s, id) => s.far.send(Buffer.concat([frame(id, data), frame(id, error)])),
    ],
    ["answers the id 0", (s) => s.far.send(frame(0, data, "?"))],
    ["refuses the id 0", (s) => s.far.send(frame(0, error, "?"))],
    ["sends a cancel", (s, id) => s.far.send(frame(id, cancel))],
    ["sends a pong that nobody asked for", (s) => s.far.send(frame(0, pong, "1234"))],
    ["sends a kind that there is not", (s, id) => s.far.send(frame(id, 6, "?"))],
    ["announces a frame that is too long", (s) => s.far.send(announced(1_001))],
    ["announces a frame that is too short", (s) => s.far.send(announced(4))],
    ["speaks HTTP", (s) => s.far.send("HTTP/1.1 400 Bad Request\r\n\r\n")],
    ["sends nothing but zeros", (s) => s.far.send(Buffer.alloc(100))],
  ];

  test.each(misbehaviours)(
    "and %s ends the connection, and whoever it may concern is told why",
    async (_, misbehave) => {
      using failures = heard("fanta.protocolFailed");
      await scene(
        async (s) => {
          const answered = s.ask("answered first");
          const inFlight = s.ask("in flight");
          const frames = await s.hears(2);
          s.far.send(frame(idOf(frames, 0), data, "good"));
          const bystander = await FantaTCP.connect({ host: "127.0.0.1", port: s.port });
          misbehave(s, idOf(frames, 0));
          const reason = await s.exit();
          expect(reason).toMatchObject({ code: "ERR_FANTA_PROTOCOL", retryable: false });
          expect(await answered.outcome).toEqual({ answer: "good" });
          const outcome = await inFlight.outcome;
          expect("error" in outcome && outcome.error === reason).toBe(true);
          expect(failures.events).toEqual([{ side: "client", error: reason }]);
          await until("the peer has heard of it", () => s.far.ended || s.far.closed);
          expect(bystander.open).toBe(true);
          bystander.process.kill();
        },
        { maxFrameBytes: 1_000 },
      )();
    },
  );

  test(
    "is not blamed by a request that was certainly not sent",
    scene(async (s) => {
      const [first, sent] = [s.send("first"), s.send("sent")];
      let unsent: Noted | undefined;
      first.onOutcome = () => {
        unsent = s.send("not sent: what is no frame is in the same chunk");
      };
      s.far.send(Buffer.concat([frame(idOf(await s.hears(2)), data), Buffer.from("garbage!")]));
      const reason = await s.exit();
      const after = s.send("after the end");
      await turn();
      expect(sent.error).toBe(reason);
      for (const each of [unsent, after]) {
        expect(each?.told).toEqual(["released", "lost no"]);
        expect(each?.error).toMatchObject({ code: "ERR_CONNECTION_LOST", sent: "no", retryable: true, cause: reason });
      }
    }),
  );
});

describe("a connection that breaks", () => {
  const ends: [string, (s: Scene, id: number) => void, object][] = [
    ["is closed by the server", (s) => s.far.socket.end(), { code: "ERR_CONNECTION_LOST", sent: "maybe" }],
    ["is reset", (s) => s.far.socket.resetAndDestroy(), { code: "ECONNRESET" }],
    [
      "ends in a frame",
      (s, id) => s.far.socket.end(frame(id, data, "cut off").subarray(0, 12)),
      { code: "ERR_CONNECTION_LOST" },
    ],
    ["ends in a header", (s, id) => s.far.socket.end(frame(id, data).subarray(0, 6)), { code: "ERR_CONNECTION_LOST" }],
  ];

  test.each(ends)("since it %s tells each request whether it may have been done", async (_, end, why) => {
    using failures = heard("fanta.protocolFailed");
    await scene(async (s) => {
      const caller = new AbortController();
      const orphan = s.ask("given up", { signal: caller.signal });
      const asked = s.ask("in flight");
      const frames = await s.hears(2);
      caller.abort(new Error("enough"));
      end(s, idOf(frames, 1));
      const reason = await s.exit();
      expect(reason).toMatchObject(why);
      expect(await asked.outcome).toEqual({
        error: expect.objectContaining({ code: "ERR_CONNECTION_LOST", sent: "maybe", retryable: false, cause: reason }),
      });
      expect(await orphan.outcome).toMatchObject({ error: { message: "enough" } });
      expect(s.fanta.inFlight).toBe(0);
      expect(await s.ask("too late").outcome).toMatchObject({
        error: { code: "ERR_CONNECTION_LOST", sent: "no", retryable: true, cause: reason },
      });
      expect(failures.events).toEqual([]);
    })();
  });

  test(
    "takes along what was handed to the socket, and knows that what waited behind it never left",
    scene(
      async (s) => {
        s.far.socket.pause();
        const first = s.send("x".repeat(tooManyBytes));
        await until("the first is under way", () => s.fanta.inFlight === 1);
        await turns(200);
        const behind = [s.send("behind"), s.send("behind it, too")];
        await turns(10);
        behind.push(s.send("in the same turn"));
        s.far.socket.resetAndDestroy();
        await s.exit();
        expect(first.told).toEqual(["released", "lost maybe"]);
        for (const { told, error: thrown } of behind) {
          expect(told).toEqual(["released", "lost no"]);
          expect(thrown).toMatchObject({ sent: "no", retryable: true });
        }
      },
      { maxFrameBytes: 2 * tooManyBytes },
    ),
  );

  test(
    "in the turn of a request never sent it",
    scene(async (s) => {
      const before = s.send("sent");
      await s.hears(1);
      const unsent = [s.send("a"), s.send("b")];
      s.fanta.process.kill();
      await until("the peer has heard of it", () => s.far.ended || s.far.closed);
      expect(before.told).toEqual(["released", "lost maybe"]);
      expect(unsent.map((each) => each.told)).toEqual([
        ["released", "lost no"],
        ["released", "lost no"],
      ]);
      expect(s.frames.map(({ text }) => text)).toEqual(["sent"]);
    }),
  );

  test.each([
    ["is lost", (s: Scene) => s.far.socket.resetAndDestroy()],
    ["is killed", (s: Scene) => s.fanta.process.kill()],
    ["understands no more", (s: Scene) => s.far.send("garbage!")],
  ])("and %s is dead for all who watch it before any request hears of it", async (_, end) => {
    await scene(async (s) => {
      const order: string[] = [];
      const request = s.send("x");
      request.onOutcome = () => order.push(`request: open ${s.fanta.open}, alive ${s.fanta.process.alive}`);
      s.fanta.process.monitor(() => order.push(`monitor: in flight ${s.fanta.inFlight}`));
      await s.hears(1);
      end(s);
      await s.exit();
      await turn();
      expect(order).toEqual(["monitor: in flight 1", "request: open false, alive false"]);
    })();
  });

  test("stays lost, and says of each request after it that it was not sent", async () => {
    const s = await sceneOf();
    s.far.socket.end();
    await s.exit();
    await turns(20); // Its socket is closed, too: nothing more is to be told of it.
    const outcomes = await Promise.all(Array.from({ length: 3 }, () => s.ask("x").outcome));
    for (const outcome of outcomes) expect(outcome).toMatchObject({ error: { sent: "no" } });
    await expect(s.fanta.ping()).rejects.toMatchObject({ code: "ERR_CONNECTION_LOST", sent: "no" });
    await s.fanta.close();
    await s.end();
  });
});

describe("frames that come in one piece with the end", () => {
  test(
    "are heard before it",
    scene(async (s) => {
      const [a, b] = [s.ask("a"), s.ask("b")];
      const frames = await s.hears(2);
      s.far.socket.end(Buffer.concat([frame(idOf(frames, 1), data, "re: b"), frame(idOf(frames, 0), data, "re: a")]));
      expect(await a.outcome).toEqual({ answer: "re: a" });
      expect(await b.outcome).toEqual({ answer: "re: b" });
      expect(await s.exit()).toMatchObject({ code: "ERR_CONNECTION_LOST" });
    }),
  );

  test(
    "and with a goaway are heard, and the end is a clean one",
    scene(async (s) => {
      const asked = s.ask("a");
      const frames = await s.hears(1);
      s.far.socket.end(Buffer.concat([frame(0, goaway), frame(idOf(frames), data, "re: a")]));
      expect(await asked.outcome).toEqual({ answer: "re: a" });
      expect(await s.exit()).toBe("normal");
    }),
  );
});

describe("a peer", () => {
  test("may come and go while others stay", async () => {
    const all = await Promise.all(Array.from({ length: 5 }, () => sceneOf()));
    const asked = all.map((s) => s.ask("x"));
    await Promise.all(all.map((s) => s.hears(1)));
    expect(all[0]?.far).toBeInstanceOf(Far);
    for (const s of all.slice(1)) s.far.socket.resetAndDestroy();
    await Promise.all(all.slice(1).map((s) => s.exit()));
    all[0]?.far.send(frame(idOf(all[0].frames), data, "still here"));
    expect(await asked[0]?.outcome).toEqual({ answer: "still here" });
    for (const s of all) await s.end();
  });
});
