/**
 * The ways in which a connection ends well: the server says goaway, or its owner closes it. Then it takes nothing new,
 * and whoever waits for an answer gets it.
 */

import { describe, expect, test } from "vitest";
import { tooManyBytes } from "../multiplex/loopback.ts";
import { turn, turns, until } from "../multiplex/turns.ts";
import { type Scene, scene } from "./client.ts";
import { cancel, data, type Frame, frame, goaway } from "./frames.ts";

const idOf = (frames: readonly Frame[], n = 0): number => frames[n]?.id as number;

async function drains(s: Scene): Promise<void> {
  await until("it drains", () => !s.fanta.open);
}

const notSent = { error: expect.objectContaining({ code: "ERR_CONNECTION_LOST", sent: "no", retryable: true }) };

describe("a goaway", () => {
  test(
    "lets what is in flight be answered, takes nothing new, and then closes",
    scene(async (s) => {
      const all = [s.ask("a"), s.ask("b")];
      const frames = await s.hears(2);
      s.far.send(frame(0, goaway));
      await drains(s);
      expect(await s.ask("new").outcome).toEqual(notSent);
      s.far.send(frame(idOf(frames, 1), data, "re: b"));
      expect(await all[1]?.outcome).toEqual({ answer: "re: b" });
      await turns(20);
      expect(s.fanta.process.alive).toBe(true);
      s.far.send(frame(idOf(frames, 0), data, "re: a"));
      expect(await all[0]?.outcome).toEqual({ answer: "re: a" });
      expect(await s.exit()).toBe("normal");
      await until("the peer is told", () => s.far.ended);
      expect(s.frames).toHaveLength(2);
    }),
  );

  test(
    "closes an idle connection at once, cleanly",
    scene(async (s) => {
      s.far.send(frame(0, goaway));
      expect(await s.exit()).toBe("normal");
      await until("the peer is told", () => s.far.ended);
      expect(s.far.error).toBeUndefined();
    }),
  );

  test(
    "may come twice, and with an id",
    scene(async (s) => {
      const asked = s.ask("a");
      const id = idOf(await s.hears(1));
      s.far.send(Buffer.concat([frame(0, goaway), frame(9, goaway, "please"), frame(id, data, "re: a")]));
      expect(await asked.outcome).toEqual({ answer: "re: a" });
      expect(await s.exit()).toBe("normal");
    }),
  );

  test(
    "does not wait for answers that nobody waits for",
    scene(async (s) => {
      const caller = new AbortController();
      const orphan = s.ask("orphan", { signal: caller.signal });
      const asked = s.ask("a", { timeoutMs: 1_000 });
      await s.hears(2);
      caller.abort(new Error("enough"));
      s.far.send(frame(0, goaway));
      await drains(s);
      expect(s.fanta.inFlight).toBe(2);
      expect(s.fanta.process.alive).toBe(true);
      await s.runtime.advance(1_000);
      expect(await asked.outcome).toMatchObject({ error: { code: "ERR_FANTA_TIMEOUT" } });
      await orphan.outcome;
      expect(await s.exit()).toBe("normal");
      // The server hears both cancels before the end.
      await until("the peer is told", () => s.far.ended);
      expect(s.frames.map(({ kind }) => kind)).toEqual([data, data, cancel, cancel]);
      expect(s.fanta.inFlight).toBe(0);
    }),
  );

  test(
    "is told to whoever asked to hear it, once; late ones hear it at once",
    scene(async (s) => {
      let times = 0;
      s.fanta.onDraining(() => times++);
      s.far.send(Buffer.concat([frame(0, goaway), frame(0, goaway)]));
      await s.exit();
      expect(times).toBe(1);
      s.fanta.onDraining(() => times++);
      expect(times).toBe(2);
    }),
  );

  test(
    "and a line that breaks before the last answer is a loss",
    scene(async (s) => {
      const asked = s.ask("a");
      await s.hears(1);
      s.far.send(frame(0, goaway));
      await drains(s);
      s.far.socket.resetAndDestroy();
      expect(await s.exit()).toMatchObject({ code: "ECONNRESET" });
      expect(await asked.outcome).toMatchObject({ error: { code: "ERR_CONNECTION_LOST", sent: "maybe" } });
    }),
  );

  test(
    "in one turn with a request that has not left lets that be answered, too",
    scene(async (s) => {
      s.far.send(frame(0, goaway));
      await until("the goaway is under way", () => s.far.unsent === 0);
      const asked = s.ask("just in time");
      const frames = await s.hears(1);
      expect(frames).toMatchObject([{ kind: data, text: "just in time" }]);
      await drains(s);
      s.far.send(frame(idOf(frames), data, "yes"));
      expect(await asked.outcome).toEqual({ answer: "yes" });
      expect(await s.exit()).toBe("normal");
    }),
  );
});

describe("close", () => {
  test(
    "waits for the answers that somebody waits for, and resolves when the socket is closed",
    scene(async (s) => {
      const asked = s.ask("a");
      const id = idOf(await s.hears(1));
      let closed = false;
      const closing = s.fanta.close().then(() => {
        closed = true;
      });
      expect(s.fanta.open).toBe(false);
      expect(await s.ask("new").outcome).toEqual(notSent);
      await s.runtime.advance(29_000);
      expect(closed).toBe(false);
      s.far.send(frame(id, data, "re: a"));
      expect(await asked.outcome).toEqual({ answer: "re: a" });
      await closing;
      expect(await s.fanta.process.exited).toBe("normal");
      expect(s.runtime.timers).toBe(0);
    }),
  );

  test(
    "sends first what was asked in the same turn",
    scene(async (s) => {
      const asked = s.ask("a");
      const closing = s.fanta.close();
      s.far.send(frame(idOf(await s.hears(1)), data, "re: a"));
      expect(await asked.outcome).toEqual({ answer: "re: a" });
      await closing;
    }),
  );

  test.each([
    ["30 s when nobody says", undefined, 30_000],
    ["timeoutMs", { timeoutMs: 200 }, 200],
    ["nothing at all", { timeoutMs: 0 }, 0],
  ])("cuts off what is not answered after %s", async (_, options, ms) => {
    await scene(async (s) => {
      const asked = s.ask("a", { timeoutMs: Infinity });
      await s.hears(1);
      const closing = s.fanta.close(options);
      if (ms > 0) await s.runtime.advance(ms - 1);
      expect(asked.settled).toBe(false);
      await s.runtime.advance(1);
      expect(await asked.outcome).toEqual({
        error: expect.objectContaining({ code: "ERR_CONNECTION_LOST", sent: "maybe" }),
      });
      await closing;
      expect(await s.fanta.process.exited).toBe("normal");
    })();
  });

  test(
    "again can shorten the time, and not lengthen it",
    scene(async (s) => {
      const asked = s.ask("a", { timeoutMs: Infinity });
      await s.hears(1);
      const closings = [1_000, 100, 10_000].map((timeoutMs) => s.fanta.close({ timeoutMs }));
      await s.runtime.advance(99);
      expect(asked.settled).toBe(false);
      await s.runtime.advance(1);
      expect(asked.settled).toBe(true);
      await Promise.all(closings);
      expect(s.runtime.timers).toBe(0);
    }),
  );

  test(
    "resolves at once on a connection that is closed or lost already",
    scene(async (s) => {
      s.far.socket.resetAndDestroy();
      const reason = await s.exit();
      await s.fanta.close();
      await s.fanta.close();
      expect(await s.fanta.process.exited).toBe(reason);
    }),
  );

  test(
    "resolves when the line breaks meanwhile, and who waited is told",
    scene(async (s) => {
      const asked = s.ask("a");
      await s.hears(1);
      const closing = s.fanta.close();
      s.far.socket.resetAndDestroy();
      await closing;
      expect(await asked.outcome).toMatchObject({ error: { code: "ERR_CONNECTION_LOST", sent: "maybe" } });
      expect(await s.fanta.process.exited).toBe("normal");
    }),
  );

  test(
    "gives up after five seconds on a peer that does not let the last words out",
    scene(
      async (s) => {
        const caller = new AbortController();
        s.far.socket.pause();
        const asked = s.ask("x".repeat(tooManyBytes), { signal: caller.signal });
        await turns(50);
        caller.abort(new Error("enough"));
        await asked.outcome;
        let closed = false;
        const closing = s.fanta.close().then(() => {
          closed = true;
        });
        await s.runtime.advance(4_999);
        await turns(20);
        expect(closed).toBe(false);
        await s.runtime.advance(1);
        await closing;
        expect(await s.fanta.process.exited).toBe("normal");
        s.far.socket.resume();
      },
      { maxFrameBytes: 2 * tooManyBytes },
    ),
  );

  test(
    "is what `await using` does",
    scene(async (s) => {
      {
        await using fanta = s.fanta;
        expect(fanta.open).toBe(true);
      }
      expect(await s.fanta.process.exited).toBe("normal");
    }),
  );

  test(
    "refuses what is no time, and does nothing then",
    scene(async (s) => {
      for (const options of [{ timeoutMs: -1 }, { timeoutMs: "1" }, { timeout: 1 }, null]) {
        await expect(s.fanta.close(options as never)).rejects.toMatchObject({ code: "ERR_OPTION" });
      }
      expect({ open: s.fanta.open, timers: s.runtime.timers }).toEqual({ open: true, timers: 0 });
    }),
  );
});

describe("the process of a connection", () => {
  test(
    "stopped, drains as close does",
    scene(async (s) => {
      const asked = s.ask("a");
      const id = idOf(await s.hears(1));
      const stopped = s.fanta.process.stop();
      await turn();
      expect(s.fanta.open).toBe(false);
      s.far.send(frame(id, data, "re: a"));
      expect(await asked.outcome).toEqual({ answer: "re: a" });
      expect(await stopped).toBe("shutdown");
    }),
  );

  test(
    "stopped and not done in time is killed, and takes its requests along",
    scene(async (s) => {
      const asked = s.ask("a");
      await s.hears(1);
      const stopped = s.fanta.process.stop({ timeoutMs: 100 });
      await s.runtime.advance(100);
      expect(await stopped).toBe("killed");
      expect(await asked.outcome).toMatchObject({ error: { code: "ERR_CONNECTION_LOST", sent: "maybe" } });
      await until("the peer is told", () => s.far.ended || s.far.closed);
    }),
  );

  test(
    "has the connection's address for a name",
    scene(async (s) => {
      expect(s.fanta.process.name).toBe(`fanta 127.0.0.1:${s.port}`);
      expect(s.fanta.process.state).toBe(s.fanta);
    }),
  );
});
