/**
 * A Fanta client whose server sends what it likes, over real sockets: answers in any order, pings, goodbyes, answers to
 * nobody, all of it cut anywhere and much of it spoilt.
 *
 * What each request must come to follows from the bytes, read by hand: its answer if one came before the first thing
 * that a server may not say; else the protocol error; else, when the line just ends, the loss of the connection.
 */

import { expect, test } from "vitest";
import { binary, FantaTCP } from "../../src/fanta/index.ts";
import { virtualRuntime } from "../../src/sim/index.ts";
import * as wire from "../fanta/frames.ts";
import { meaning } from "../fanta/frames.ts";
import { Listener } from "../multiplex/loopback.ts";
import { turn, until } from "../multiplex/turns.ts";
import {
  anyFrame,
  anyId,
  anyPayload,
  bytesOf,
  cutter,
  Dice,
  maxFrameBytes,
  noise,
  type Sent,
  spoilt,
} from "./stream.ts";

function shuffled<T>(dice: Dice, items: readonly T[]): T[] {
  const rest = [...items];
  return items.map(() => rest.splice(dice.below(rest.length), 1)[0] as T);
}

/** What a server says to those who wait under these ids. */
function hostile(dice: Dice, ids: readonly number[]): Buffer {
  const answered = shuffled(dice, ids).slice(0, dice.below(4) === 0 ? dice.below(ids.length) : ids.length);
  const frames = answered.flatMap((id): Sent[] => {
    const kind = dice.below(5) === 0 ? wire.error : wire.data;
    const answer = { id, kind, payload: kind === wire.error ? Buffer.from(`no ${id}`) : anyPayload(dice) };
    const ping = { id: anyId(dice, 0), kind: wire.ping, payload: noise(dice, 4) };
    if (dice.below(150) === 0) return [{ id: 0, kind: wire.goaway, payload: Buffer.alloc(0) }, answer];
    if (dice.below(300) === 0) return [answer, anyFrame(dice)];
    return dice.below(10) === 0 ? [ping, answer] : [answer];
  });
  const bytes = Buffer.concat(frames.map(bytesOf));
  if (bytes.length === 0 || dice.below(8) === 0) return noise(dice, 200);
  return dice.below(2) === 0 ? bytes : spoilt(dice, bytes);
}

type Told = Map<number, string>;

/** What those who wait must be told, and how the connection must end. */
function due(bytes: Buffer, ids: readonly number[]): { told: Told; frames: number; exit: string } {
  const { starts, failure } = meaning(bytes, maxFrameBytes);
  const told: Told = new Map();
  const rest = (what: string): Told => {
    for (const id of ids) if (!told.has(id)) told.set(id, what);
    return told;
  };
  let leaving = false;
  for (const [frames, start] of starts.entries()) {
    // The last who waited has its answer, and the server has said that it wants to go: nobody listens any more.
    if (leaving && told.size === ids.length) return { told, frames, exit: "normal" };
    const id = bytes.readUInt32BE(start + 4);
    const kind = bytes[start + 8] as number;
    const payload = bytes.subarray(start + 9, start + 4 + bytes.readUInt32BE(start));
    if (kind === wire.goaway) leaving = true;
    else if (
      kind === wire.pong ||
      kind === wire.cancel ||
      (kind !== wire.ping && (!ids.includes(id) || told.has(id)))
    ) {
      return { told: rest("ERR_FANTA_PROTOCOL"), frames, exit: "ERR_FANTA_PROTOCOL" };
    } else if (kind === wire.data) told.set(id, `answer ${payload.toString("hex")}`);
    else if (kind === wire.error) told.set(id, `ERR_FANTA_RESPONSE ${payload.toString()}`);
  }
  if (leaving && told.size === ids.length) return { told, frames: starts.length, exit: "normal" };
  const exit = failure === undefined ? "ERR_CONNECTION_LOST" : "ERR_FANTA_PROTOCOL";
  return { told: rest(exit), frames: starts.length, exit };
}

async function visit(seed: number): Promise<{ frames: number; exit: string }> {
  const dice = new Dice(seed);
  const runtime = virtualRuntime();
  const listener = await Listener.open();
  const fanta = await FantaTCP.connect({
    host: "127.0.0.1",
    port: listener.port,
    codec: binary,
    maxFrameBytes,
    runtime,
  });
  const far = await listener.guest();
  const count = 1 + dice.below(150);
  const outcomes = Array.from({ length: count }, async (_, n) => {
    try {
      return `answer ${Buffer.from(await fanta.request(Uint8Array.of(n))).toString("hex")}`;
    } catch (error) {
      const { code, message } = error as { code: string; message: string };
      return code === "ERR_FANTA_RESPONSE" ? `${code} ${message}` : code;
    }
  });
  const requests = await (async () => {
    await until("all requests have come", () => wire.framesAt(far).length === count);
    return wire.parsed(far.bytes).frames.map(({ id }) => id);
  })();
  const bytes = hostile(dice, requests);
  const { told, frames, exit } = due(bytes, requests);
  const size = cutter(dice);
  for (let at = 0, pieces = 0; at < bytes.length && !far.closed; pieces++) {
    const length = size();
    far.send(bytes.subarray(at, at + length));
    at += length;
    if (pieces % 16 === 0) await turn();
  }
  far.socket.end();
  expect(await Promise.all(outcomes), `seed ${seed}`).toEqual(requests.map((id) => told.get(id)));
  const reason = await fanta.process.exited;
  expect(reason instanceof Error ? (reason as { code?: unknown }).code : reason, `seed ${seed}`).toBe(exit);
  await until("the connection is gone", () => far.closed);
  expect([fanta.inFlight, runtime.timers], `seed ${seed}`).toEqual([0, 0]);
  return { frames, exit };
}

test("300 clients of hostile servers tell each caller what came for it, or why nothing can", async () => {
  const visits = 300;
  const exits: Record<string, number> = {};
  let frames = 0;
  for (let seed = 1; seed <= visits; seed++) {
    const visited = await visit(seed);
    frames += visited.frames;
    exits[visited.exit] = (exits[visited.exit] ?? 0) + 1;
  }
  console.log(`fuzz: ${frames} frames from ${visits} hostile servers: ${JSON.stringify(exits)}`);
  expect(frames).toBeGreaterThan(10_000);
  expect(Object.keys(exits).sort()).toEqual(["ERR_CONNECTION_LOST", "ERR_FANTA_PROTOCOL", "normal"]);
});
