/**
 * Requests that nobody waits for any more: given up by their caller, or out of time. And what becomes of the line when
 * nothing comes back on it at all.
 */

import { getEventListeners } from "node:events";
import { describe, expect, test } from "vitest";
import { turn, turns, until } from "../multiplex/turns.ts";
import { type Scene, scene, sceneOf } from "./client.ts";
import { cancel, data, error, type Frame, frame, ping } from "./frames.ts";

const idOf = (frames: readonly Frame[], n = 0): number => frames[n]?.id as number;

describe("a caller that gives up", () => {
  test(
    "is told at once with its own reason, and the server is told with a cancel",
    scene(async (s) => {
      const caller = new AbortController();
      const reason = { any: "value" };
      const asked = s.ask("x", { signal: caller.signal });
      const id = idOf(await s.hears(1));
      caller.abort(reason);
      await turn();
      expect(asked.settled).toBe(true);
      const outcome = await asked.outcome;
      expect("error" in outcome && (outcome.error as unknown) === reason).toBe(true);
      expect((await s.hears(2))[1]).toEqual({ id, kind: cancel, text: "" });
      expect(s.fanta.inFlight).toBe(1);
    }),
  );

  test.each([
    ["its answer", data],
    ["its error", error],
  ])("counts in flight until %s comes, which nobody hears", async (_, kind) => {
    await scene(async (s) => {
      const caller = new AbortController();
      const asked = s.ask("x", { signal: caller.signal });
      const id = idOf(await s.hears(1));
      caller.abort(new Error("enough"));
      await s.hears(2);
      expect(s.fanta.inFlight).toBe(1);
      const next = s.ask("next");
      const nextId = idOf(await s.hears(3), 2);
      expect(nextId).not.toBe(id);
      s.far.send(Buffer.concat([frame(id, kind, "too late"), frame(nextId, data, "in time")]));
      expect(await next.outcome).toEqual({ answer: "in time" });
      expect(await asked.outcome).toMatchObject({ error: { message: "enough" } });
      expect({ inFlight: s.fanta.inFlight, open: s.fanta.open }).toEqual({ inFlight: 0, open: true });
    })();
  });

  test(
    "before its request has left sends it and its cancel all the same: the id is taken",
    scene(async (s) => {
      const caller = new AbortController();
      const asked = s.ask("x", { signal: caller.signal });
      caller.abort(new Error("at once"));
      const frames = await s.hears(2);
      expect(frames.map(({ kind }) => kind)).toEqual([data, cancel]);
      expect(new Set(frames.map(({ id }) => id)).size).toBe(1);
      s.far.send(frame(idOf(frames), data));
      expect(await asked.outcome).toMatchObject({ error: { message: "at once" } });
      await until("nothing is in flight", () => s.fanta.inFlight === 0);
    }),
  );

  test(
    "has given up before it asks sends nothing",
    scene(async (s) => {
      const reason = new Error("before");
      const outcome = await s.ask("x", { signal: AbortSignal.abort(reason) }).outcome;
      expect("error" in outcome && outcome.error === reason).toBe(true);
      await s.roundTrip();
      expect(s.frames.map(({ kind }) => kind)).toEqual([ping]);
      expect(s.fanta.inFlight).toBe(0);
    }),
  );

  test(
    "after the answer, or twice, tells nobody anything",
    scene(async (s) => {
      const [late, twice] = [new AbortController(), s.send("twice")];
      const asked = s.ask("x", { signal: late.signal });
      const frames = await s.hears(2);
      s.far.send(frame(idOf(frames, 1), data, "done"));
      expect(await asked.outcome).toEqual({ answer: "done" });
      late.abort();
      s.fanta.abandon(twice, "first");
      s.fanta.abandon(twice, "second");
      expect(twice.error).toBe("first");
      await s.roundTrip();
      expect(s.frames.map(({ kind }) => kind)).toEqual([data, data, cancel, ping]);
    }),
  );

  test(
    "on a request that is on another connection, or on none, does nothing",
    scene(async (s) => {
      const other = s.send("x");
      const id = idOf(await s.hears(1));
      s.far.send(frame(id, data, "done"));
      await until("it is answered", () => other.told.length > 0);
      s.fanta.abandon(other, new Error("late"));
      expect(other.told).toEqual(["released", "answered done"]);
      await s.roundTrip();
      expect(s.frames.map(({ kind }) => kind)).toEqual([data, ping]);
      const elsewhere = await sceneOf();
      const theirs = elsewhere.send("y");
      s.fanta.abandon(theirs, new Error("not mine"));
      expect(theirs.told).toEqual([]);
      await s.roundTrip();
      expect(s.frames.map(({ kind }) => kind)).toEqual([data, ping, ping]);
      await elsewhere.end();
    }),
  );

  test(
    "shares its signal with a thousand others at the price of one listener, which goes with the last of them",
    scene(async (s) => {
      const caller = new AbortController();
      const { signal } = caller;
      const listeners = (): number => getEventListeners(signal, "abort").length;
      const all = Array.from({ length: 1_000 }, () => s.ask("x", { signal }));
      const pings = Array.from({ length: 20 }, () => s.fanta.ping({ signal }).catch((thrown: unknown) => thrown));
      expect(listeners()).toBe(1);
      const frames = await s.hears(1_020);
      s.far.send(Buffer.concat(frames.slice(0, 500).map(({ id }) => frame(id, data, "done"))));
      for (const { outcome } of all.slice(0, 500)) expect(await outcome).toEqual({ answer: "done" });
      expect(listeners()).toBe(1);
      const reason = new Error("enough");
      caller.abort(reason);
      for (const { outcome } of all.slice(500)) expect(await outcome).toEqual({ error: reason });
      expect(new Set(await Promise.all(pings))).toEqual(new Set([reason]));
      expect(listeners()).toBe(0);
      await s.hears(1_520);
    }),
  );

  test.each<[string, (s: Scene, id: number) => void]>([
    ["is answered", (s, id) => s.far.send(frame(id, data))],
    ["is refused by the server", (s, id) => s.far.send(frame(id, error))],
    ["is lost", (s) => s.far.socket.resetAndDestroy()],
    ["is out of time", (s) => void s.runtime.advance(1_000)],
  ])("leaves nothing on its signal when its request %s", async (_, end) => {
    await scene(async (s) => {
      const { signal } = new AbortController();
      const asked = s.ask("x", { signal, timeoutMs: 1_000 });
      end(s, idOf(await s.hears(1)));
      await asked.outcome;
      expect(getEventListeners(signal, "abort")).toEqual([]);
    })();
  });

  test(
    "leaves nothing on its signal when its request is refused here",
    scene(
      async (s) => {
        const { signal } = new AbortController();
        expect(await s.ask("too large", { signal }).outcome).toMatchObject({ error: { code: "ERR_FANTA_TOO_LARGE" } });
        expect(await s.ask("\uD800", { signal }).outcome).toMatchObject({ error: { code: "ERR_FANTA_CODEC" } });
        expect(getEventListeners(signal, "abort")).toEqual([]);
      },
      { maxFrameBytes: 10 },
    ),
  );

  test(
    "and whose connection is gone before the answer is released once",
    scene(async (s) => {
      const request = s.send("x");
      await s.hears(1);
      s.fanta.abandon(request, new Error("enough"));
      expect(request.told).toEqual(["gaveUp"]);
      s.far.socket.resetAndDestroy();
      await s.exit();
      expect(request.told).toEqual(["gaveUp", "released"]);
    }),
  );

  test(
    "in the step in which the connection is killed has one outcome",
    scene(async (s) => {
      const request = s.send("x");
      await s.hears(1);
      s.fanta.process.kill();
      s.fanta.abandon(request, new Error("enough"));
      await turn();
      expect(request.told).toEqual(["gaveUp", "released"]);
    }),
  );
});

describe("a request out of time", () => {
  test(
    "rejects when its timeoutMs is over and not before, and the server is told",
    scene(async (s) => {
      const asked = s.ask("x", { timeoutMs: 500 });
      const id = idOf(await s.hears(1));
      await s.runtime.advance(499);
      expect(asked.settled).toBe(false);
      await s.runtime.advance(1);
      expect(asked.settled).toBe(true);
      expect(await asked.outcome).toEqual({
        error: expect.objectContaining({
          code: "ERR_FANTA_TIMEOUT",
          retryable: true,
          message: expect.stringContaining("within 500 ms"),
        }),
      });
      expect((await s.hears(2))[1]).toEqual({ id, kind: cancel, text: "" });
      expect(s.fanta.inFlight).toBe(1);
      s.far.send(frame(id, data, "too late"));
      await until("its late answer has come", () => s.fanta.inFlight === 0);
      expect(s.fanta.open).toBe(true);
    }),
  );

  test.each([
    ["30 s when nobody says", {}, undefined, 30_000],
    ["what the connection says", { requestTimeoutMs: 70 }, undefined, 70],
    ["what the request says, before the connection", { requestTimeoutMs: 70 }, { timeoutMs: 90 }, 90],
    ["what the connection says, when the request says nothing", { requestTimeoutMs: 70 }, {}, 70],
  ])("has %s", async (_, options, requestOptions, expected) => {
    await scene(async (s) => {
      const asked = s.ask("x", requestOptions);
      await s.runtime.advance(expected - 1);
      expect(asked.settled).toBe(false);
      await s.runtime.advance(1);
      expect(await asked.outcome).toMatchObject({ error: { code: "ERR_FANTA_TIMEOUT" } });
    }, options)();
  });

  test(
    "never is, with a timeoutMs of Infinity",
    scene(
      async (s) => {
        const all = [s.ask("x"), s.ask("y", { timeoutMs: Infinity })];
        const frames = await s.hears(2);
        expect(s.runtime.timers).toBe(0);
        await s.runtime.advance(1e9);
        expect(all.map(({ settled }) => settled)).toEqual([false, false]);
        s.far.send(Buffer.concat(frames.map(({ id }) => frame(id, data, "at last"))));
        for (const { outcome } of all) expect(await outcome).toEqual({ answer: "at last" });
      },
      { requestTimeoutMs: Infinity },
    ),
  );

  test(
    "is told so once, although its answer, its caller's end and its connection's come in the same turn",
    scene(async (s) => {
      const request = s.send("x", 100);
      const id = idOf(await s.hears(1));
      s.far.send(frame(id, data, "a moment too late"));
      s.runtime.stall(100);
      const passed = s.runtime.advance(0);
      s.fanta.abandon(request, new Error("enough"));
      s.far.socket.end();
      await passed;
      await s.exit();
      expect(request.told).toEqual(["gaveUp", "released"]);
    }),
  );

  test(
    "holds the program only as long as somebody waits",
    scene(async (s) => {
      const caller = new AbortController();
      const asked = s.ask("x", { signal: caller.signal });
      expect(s.runtime.keepAliveTimers).toBe(1);
      caller.abort(new Error("enough"));
      await asked.outcome;
      expect(s.runtime.timers).toBe(0);
    }),
  );
});

describe("a line on which nothing comes back", () => {
  async function silent(s: Scene): Promise<void> {
    const before = s.frames.length;
    const asked = s.ask("x", { timeoutMs: 1_000 });
    await s.runtime.advance(1_000);
    expect(await asked.outcome).toMatchObject({ error: { code: "ERR_FANTA_TIMEOUT" } });
    const frames = (await s.hears(before + 3)).slice(before);
    expect(frames.map(({ kind }) => kind)).toEqual([data, cancel, ping]);
    expect(idOf(frames, 2)).toBe(0);
  }

  test(
    "is asked with a ping, and lost when in ten seconds nothing comes",
    scene(async (s) => {
      const waits = s.ask("another", { timeoutMs: 100_000 });
      await s.hears(1);
      await silent(s);
      await s.runtime.advance(9_999);
      expect(s.fanta.open).toBe(true);
      await s.runtime.advance(1);
      expect(await s.exit()).toMatchObject({ code: "ERR_CONNECTION_LOST", message: expect.stringContaining("dead") });
      expect(await waits.outcome).toMatchObject({ error: { code: "ERR_CONNECTION_LOST", sent: "maybe" } });
      await until("the peer has heard of it", () => s.far.ended || s.far.closed);
    }),
  );

  test(
    "lives when the pong comes, and the next silence is asked about again",
    scene(async (s) => {
      await silent(s);
      s.far.send(s.echo());
      await s.roundTrip();
      await s.runtime.advance(60_000);
      expect(s.fanta.open).toBe(true);
      await silent(s);
      await s.runtime.advance(10_000);
      expect(s.fanta.open).toBe(false);
    }),
  );

  test.each<[string, (s: Scene) => Buffer]>([
    ["a late answer", (s) => frame(idOf(s.frames), data, "late")],
    ["a ping of the server's", () => frame(0, ping, "are you there?")],
    ["the beginning of a frame", (s) => frame(idOf(s.frames), data, "late").subarray(0, 3)],
  ])("lives when anything else comes: %s", async (_, bytes) => {
    await scene(async (s) => {
      await silent(s);
      s.far.send(bytes(s));
      await turns(50);
      await s.runtime.advance(10_000);
      expect(s.fanta.open).toBe(true);
    })();
  });

  test(
    "is not one on which a long answer comes in, piece by piece",
    scene(async (s) => {
      const long = s.ask("long", { timeoutMs: Infinity });
      const id = idOf(await s.hears(1));
      const answer = frame(id, data, "z".repeat(100));
      s.far.send(answer.subarray(0, 20));
      await turns(50);
      const short = s.ask("short", { timeoutMs: 1_000 });
      s.far.send(answer.subarray(20, 30));
      await turns(50);
      await s.runtime.advance(1_000);
      expect(await short.outcome).toMatchObject({ error: { code: "ERR_FANTA_TIMEOUT" } });
      const quiet = s.ask("quiet", { timeoutMs: 1_000 });
      await s.runtime.advance(1_000);
      expect(await quiet.outcome).toMatchObject({ error: { code: "ERR_FANTA_TIMEOUT" } });
      // Asked about only now: while the first waited, something had come.
      expect((await s.hears(6)).map(({ kind }) => kind)).toEqual([data, data, cancel, data, cancel, ping]);
      s.far.send(answer.subarray(30, 40));
      await turns(50);
      await s.runtime.advance(10_000);
      expect(s.fanta.open).toBe(true);
      s.far.send(answer.subarray(40));
      expect(await long.outcome).toEqual({ answer: "z".repeat(100) });
    }),
  );

  test(
    "is not suspected while something has come since the request was sent",
    scene(async (s) => {
      const slow = s.ask("slow", { timeoutMs: 1_000 });
      const fast = s.ask("fast", { timeoutMs: 1_000 });
      s.far.send(frame(idOf(await s.hears(2), 1), data, "here"));
      await fast.outcome;
      await s.runtime.advance(1_000);
      expect(await slow.outcome).toMatchObject({ error: { code: "ERR_FANTA_TIMEOUT" } });
      await s.roundTrip();
      expect(s.frames.map(({ kind }) => kind)).toEqual([data, data, cancel, ping]); // The last is the round trip's own.
      await s.runtime.advance(60_000);
      expect(s.fanta.open).toBe(true);
    }),
  );

  test(
    "is asked once at a time, however many requests time out",
    scene(async (s) => {
      const all = [100, 100, 200, 5_000].map((timeoutMs) => s.ask("x", { timeoutMs }));
      await s.hears(4);
      await s.runtime.advance(5_000);
      for (const { outcome } of all) expect(await outcome).toMatchObject({ error: { code: "ERR_FANTA_TIMEOUT" } });
      await s.hears(9);
      expect(s.frames.filter(({ kind }) => kind === ping)).toHaveLength(1);
      // Counted from the first.
      await s.runtime.advance(5_099);
      expect(s.fanta.open).toBe(true);
      await s.runtime.advance(1);
      expect(s.fanta.open).toBe(false);
    }),
  );

  test(
    "does not hold the program while it is asked",
    scene(async (s) => {
      await silent(s);
      expect({ timers: s.runtime.timers, keepAlive: s.runtime.keepAliveTimers }).toEqual({ timers: 1, keepAlive: 0 });
    }),
  );

  test(
    "is found dead while it closes, too",
    scene(async (s) => {
      const waits = s.ask("waits", { timeoutMs: 100_000 });
      const asked = s.ask("x", { timeoutMs: 1_000 });
      const closed = s.fanta.close({ timeoutMs: Infinity });
      await s.runtime.advance(1_000);
      expect(await asked.outcome).toMatchObject({ error: { code: "ERR_FANTA_TIMEOUT" } });
      expect((await s.hears(4)).map(({ kind }) => kind)).toEqual([data, data, cancel, ping]);
      await s.runtime.advance(10_000);
      expect(await waits.outcome).toMatchObject({ error: { code: "ERR_CONNECTION_LOST", sent: "maybe" } });
      await closed;
      expect(await s.exit()).toBe("normal");
    }),
  );
});
