/** Pings both ways: the client's, which a test answers by hand, and the server's, which the client must echo. */

import { getEventListeners } from "node:events";
import { describe, expect, test } from "vitest";
import { turns, until } from "../multiplex/turns.ts";
import { heard } from "../process/heard.ts";
import { type Scene, scene } from "./client.ts";
import { type Frame, frame, goaway, ping, pong } from "./frames.ts";

const codeOf = (thrown: unknown): string => (thrown as { code: string }).code;
const rejection = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => undefined,
    (thrown) => thrown,
  );

/** The bytes of each ping that the peer has been sent, whole. A ping of ours has a payload of four bytes. */
function pingsAt(s: Scene): Buffer[] {
  const { bytes } = s.far;
  expect(bytes.length % 13).toBe(0);
  return Array.from({ length: bytes.length / 13 }, (_, n) => bytes.subarray(13 * n, 13 * n + 13));
}

function echoOf(sent: Buffer): Buffer {
  const bytes = Buffer.from(sent);
  bytes[8] = pong;
  return bytes;
}

describe("a ping", () => {
  test(
    "is a frame with the id 0, and resolves with the milliseconds that its pong took",
    scene(async (s) => {
      const pinged = s.fanta.ping();
      expect(await s.hears(1)).toMatchObject([{ id: 0, kind: ping }]);
      await s.runtime.advance(12.5);
      s.far.send(s.echo());
      expect(await pinged).toBe(12.5);
      expect({ inFlight: s.fanta.inFlight, timers: s.runtime.timers }).toEqual({ inFlight: 0, timers: 0 });
    }),
  );

  test(
    "of many is answered by its own pong, in their order",
    scene(async (s) => {
      const first = s.fanta.ping();
      await s.runtime.advance(10);
      const second = s.fanta.ping();
      await s.hears(2);
      const [one, two] = pingsAt(s).map(echoOf) as [Buffer, Buffer];
      expect(one.equals(two)).toBe(false);
      s.far.send(one);
      expect(await first).toBe(10);
      await s.runtime.advance(5);
      s.far.send(two);
      expect(await second).toBe(5);
    }),
  );

  test(
    "rejects when its time is over and not before, and its late pong harms nobody",
    scene(async (s) => {
      const late = rejection(s.fanta.ping({ timeoutMs: 100 }));
      let over = false;
      void late.then(() => {
        over = true;
      });
      await s.hears(1);
      await s.runtime.advance(99);
      expect(over).toBe(false);
      await s.runtime.advance(1);
      expect(await late).toMatchObject({ code: "ERR_FANTA_TIMEOUT", retryable: true });
      const next = s.fanta.ping();
      await s.hears(2);
      s.far.send(Buffer.concat(pingsAt(s).map(echoOf)));
      expect(await next).toBe(0);
      expect(s.fanta.open).toBe(true);
    }),
  );

  test(
    "has the connection's requestTimeoutMs when it does not say",
    scene(
      async (s) => {
        const late = rejection(s.fanta.ping());
        await s.runtime.advance(70);
        expect(codeOf(await late)).toBe("ERR_FANTA_TIMEOUT");
      },
      { requestTimeoutMs: 70 },
    ),
  );

  test(
    "given up rejects with the caller's reason, and leaves nothing on its signal",
    scene(async (s) => {
      const caller = new AbortController();
      const reason = new Error("enough");
      const given = rejection(s.fanta.ping({ signal: caller.signal }));
      await s.hears(1);
      caller.abort(reason);
      expect(await given).toBe(reason);
      expect(s.runtime.timers).toBe(0);
      s.far.send(s.echo());
      const again = new AbortController();
      const answered = s.fanta.ping({ signal: again.signal });
      await s.hears(2);
      s.far.send(s.echo());
      await answered;
      expect(getEventListeners(again.signal, "abort")).toEqual([]);
    }),
  );

  test(
    "with an aborted signal or wrong options is not sent",
    scene(async (s) => {
      const reason = new Error("before");
      expect(await rejection(s.fanta.ping({ signal: AbortSignal.abort(reason) }))).toBe(reason);
      expect(codeOf(await rejection(s.fanta.ping({ timeoutMs: 0 })))).toBe("ERR_OPTION");
      expect(codeOf(await rejection(s.fanta.ping({ timeout: 5 } as never)))).toBe("ERR_OPTION");
      await s.roundTrip();
      expect(s.frames).toHaveLength(1);
    }),
  );

  test(
    "on its way when the connection goes rejects with that, be it timed out or not",
    scene(async (s) => {
      const given = rejection(s.fanta.ping({ timeoutMs: 10 }));
      const waits = rejection(s.fanta.ping());
      await s.hears(2);
      await s.runtime.advance(10);
      s.far.socket.resetAndDestroy();
      expect(codeOf(await given)).toBe("ERR_FANTA_TIMEOUT");
      expect(await waits).toMatchObject({ code: "ERR_CONNECTION_LOST" });
      await s.exit();
      expect(await rejection(s.fanta.ping())).toMatchObject({ code: "ERR_CONNECTION_LOST", sent: "no" });
    }),
  );

  test(
    "is not taken by a connection that is going away",
    scene(async (s) => {
      const request = s.ask("x");
      const { id } = (await s.hears(1))[0] as Frame;
      s.far.send(frame(0, goaway));
      await until("it drains", () => !s.fanta.open);
      expect(await rejection(s.fanta.ping())).toMatchObject({ code: "ERR_CONNECTION_LOST", sent: "no" });
      s.far.send(frame(id, 0, "done"));
      expect(await request.outcome).toEqual({ answer: "done" });
    }),
  );

  test.each([
    ["another's payload", (sent: Buffer) => frame(0, pong, Buffer.from(sent.subarray(9).map((byte) => byte ^ 1)))],
    ["no payload", () => frame(0, pong)],
  ])("answered with %s ends the connection, and hears of it at once", async (_, answer) => {
    await scene(async (s) => {
      const pinged = rejection(s.fanta.ping({ timeoutMs: Infinity }));
      await s.hears(1);
      s.far.send(answer(pingsAt(s)[0] as Buffer));
      const reason = await s.exit();
      expect(reason).toMatchObject({ code: "ERR_FANTA_PROTOCOL" });
      expect(await pinged).toMatchObject({ code: "ERR_CONNECTION_LOST", cause: reason });
    })();
  });

  test(
    "answered twice ends the connection",
    scene(async (s) => {
      const pinged = s.fanta.ping();
      await s.hears(1);
      s.far.send(Buffer.concat([s.echo(), s.echo()]));
      expect(await pinged).toBe(0);
      expect(await s.exit()).toMatchObject({ code: "ERR_FANTA_PROTOCOL" });
    }),
  );
});

describe("a ping of the server's", () => {
  test(
    "is answered with its id and its payload, whatever they are",
    scene(async (s) => {
      const pings: [number, string][] = [
        [0, ""],
        [0, "hello"],
        [7, "x"],
        [0xffff_ffff, "é".repeat(1_000)],
      ];
      s.far.send(Buffer.concat(pings.map(([id, text]) => frame(id, ping, text))));
      expect(await s.hears(4)).toEqual(pings.map(([id, text]) => ({ id, kind: pong, text })));
    }),
  );

  test(
    "is answered while the connection drains",
    scene(async (s) => {
      const request = s.ask("x");
      const { id } = (await s.hears(1))[0] as Frame;
      s.far.send(Buffer.concat([frame(0, goaway), frame(0, ping, "still there?")]));
      expect((await s.hears(2))[1]).toEqual({ id: 0, kind: pong, text: "still there?" });
      s.far.send(frame(id, 0, "done"));
      expect(await request.outcome).toEqual({ answer: "done" });
    }),
  );

  test(
    "may come as often as it likes, as long as it reads the pongs",
    scene(
      async (s) => {
        // Four times what it may leave unread.
        const bytes = Buffer.concat(Array.from({ length: 100 }, () => frame(0, ping, "p".repeat(1_000))));
        for (let n = 1; n <= 200; n++) {
          s.far.send(bytes);
          await until("the pongs have come", () => s.far.length === n * bytes.length);
        }
        expect(s.fanta.open).toBe(true);
      },
      { maxFrameBytes: 10_000 },
    ),
  );

  test(
    "is answered for as long as pongs leave, although the connection never has a moment's rest",
    scene(
      async (s) => {
        // Requests stand in line behind the sockets all the time, so there is always more to write.
        const request = "r".repeat(1_900_000);
        const backlog = 10_000_000;
        let asked = 0;
        const keepBusy = (): void => {
          for (; asked * request.length < s.far.length + backlog; asked++) s.send(request);
        };
        const payload = "p".repeat(1_900_000);
        for (let n = 0; n < 6 && s.fanta.open; n++) {
          s.far.send(frame(n, ping, payload));
          const { length } = s.far;
          await until("a round of requests has come", () => {
            keepBusy();
            return !s.fanta.open || s.far.length > length + backlog;
          });
        }
        expect(s.fanta.process.reason).toBeUndefined();
        const total = asked * (request.length + 9) + 6 * (payload.length + 9);
        await until("all has come", () => s.far.length === total);
        expect(s.frames.filter(({ kind }) => kind === pong).map(({ id }) => id)).toEqual([0, 1, 2, 3, 4, 5]);
      },
      { maxFrameBytes: 2_000_000 },
    ),
  );

  test("ends the connection when it comes for ever and the pongs are not read", async () => {
    using failures = heard("fanta.protocolFailed");
    await scene(
      async (s) => {
        s.far.socket.pause();
        const bytes = Buffer.concat(Array.from({ length: 100 }, () => frame(0, ping, "p".repeat(1_000))));
        for (let n = 0; n < 1_000 && s.fanta.open; n++) {
          s.far.send(bytes);
          await turns(2);
        }
        expect(await s.exit()).toMatchObject({ code: "ERR_FANTA_PROTOCOL" });
        expect(failures.events).toHaveLength(1);
        s.far.socket.resume();
      },
      { maxFrameBytes: 10_000 },
    )();
  });
});
