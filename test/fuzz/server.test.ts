/**
 * A Fanta server among hostile clients, over real sockets: frames of every kind, spoilt and cut anywhere, or mere noise.
 *
 * What each client must be told follows from its bytes, read by hand: the answers to its requests and pings in their
 * order, up to the first byte that is not Fanta. One that never broke the rules hears all of them; one that did hears a
 * beginning, and its connection ends with the protocol error. A good client goes on beside them all the time.
 */

import { expect, test } from "vitest";
import { binary, FantaServer, FantaTCP } from "../../src/fanta/index.ts";
import * as wire from "../fanta/frames.ts";
import { meaning } from "../fanta/frames.ts";
import { Far } from "../multiplex/loopback.ts";
import { turn, until } from "../multiplex/turns.ts";
import { heard } from "../process/heard.ts";
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

const words = "not today";

/** Refuses what begins with an odd byte, and echoes the rest. */
function handler(request: Uint8Array): Uint8Array {
  if ((request[0] ?? 0) % 2 === 1) throw new Error(words);
  return request;
}

/** What a client may send. */
function request(dice: Dice): Sent {
  const kind = [wire.data, wire.data, wire.data, wire.ping, wire.cancel][dice.below(5)] as number;
  return { id: anyId(dice, kind === wire.ping ? 0 : 1), kind, payload: anyPayload(dice) };
}

function hostile(dice: Dice): Buffer {
  const way = dice.below(8);
  if (way === 0) return noise(dice, 1 + dice.below(400));
  const each = way === 1 ? anyFrame : request;
  const bytes = Buffer.concat(Array.from({ length: 1 + dice.below(150) }, () => bytesOf(each(dice))));
  return way < 4 ? bytes : spoilt(dice, bytes);
}

/** The answers to a stream, and whether it breaks the rules somewhere. */
function due(bytes: Buffer): { answers: Buffer[]; frames: number; broken: boolean } {
  const { starts, failure } = meaning(bytes, maxFrameBytes);
  const answers: Buffer[] = [];
  for (const [at, start] of starts.entries()) {
    const id = bytes.readUInt32BE(start + 4);
    const kind = bytes[start + 8] as number;
    const payload = bytes.subarray(start + 9, start + 4 + bytes.readUInt32BE(start));
    if (kind === wire.error || kind === wire.pong || kind === wire.goaway) return { answers, frames: at, broken: true };
    if (kind === wire.ping) answers.push(wire.frame(id, wire.pong, payload));
    if (kind !== wire.data) continue;
    answers.push((payload[0] ?? 0) % 2 === 1 ? wire.frame(id, wire.error, words) : wire.frame(id, wire.data, payload));
  }
  return { answers, frames: starts.length, broken: failure !== undefined };
}

async function visit(port: number, seed: number): Promise<{ frames: number; broken: boolean }> {
  const dice = new Dice(seed);
  const bytes = hostile(dice);
  const { answers, frames, broken } = due(bytes);
  const far = await Far.connect(port);
  const size = cutter(dice);
  for (let at = 0, pieces = 0; at < bytes.length && !far.closed; pieces++) {
    const length = size();
    far.send(bytes.subarray(at, at + length));
    at += length;
    if (pieces % 16 === 0) await turn(); // So that pieces are read as such, now and then.
  }
  far.socket.end();
  await until(`the server has closed the connection of client ${seed}`, () => far.closed);
  const expected = Buffer.concat(answers);
  if (broken) expect(far.bytes.equals(expected.subarray(0, far.length)), `seed ${seed}`).toBe(true);
  else expect(far.bytes.equals(expected), `seed ${seed}`).toBe(true);
  return { frames, broken };
}

test("the server answers 600 hostile clients by the rules, ends what breaks them, and serves a good one beside them", {
  timeout: 120_000,
}, async () => {
  using failed = heard("fanta.protocolFailed");
  const server = await FantaServer.listen({ codec: binary, maxFrameBytes, handler });
  const good = await FantaTCP.connect({ host: "127.0.0.1", port: server.port, codec: binary, maxFrameBytes });
  const visits = 600;
  const atOnce = 20;
  let frames = 0;
  let broken = 0;
  let asked = 0;
  for (let seed = 1; seed <= visits; seed += atOnce) {
    const guests = Promise.all(Array.from({ length: atOnce }, (_, each) => visit(server.port, seed + each)));
    const requests = Array.from({ length: 50 }, (_, each) => Uint8Array.of(2 * (each % 100), seed % 256, each));
    expect(await Promise.all(requests.map((each) => good.request(each)))).toEqual(requests);
    asked += requests.length;
    for (const guest of await guests) {
      frames += guest.frames;
      if (guest.broken) broken++;
    }
  }
  await until("only the good client is left", () => server.connections === 1);
  console.log(
    `fuzz: ${frames} frames from ${visits} hostile clients: ${broken} broke the rules; ${asked} good requests`,
  );
  expect(frames).toBeGreaterThan(20_000);
  expect(failed.events.map(({ side, error }) => [side, (error as { code?: unknown }).code])).toEqual(
    Array.from({ length: broken }, () => ["server", "ERR_FANTA_PROTOCOL"]),
  );
  expect(broken).toBeGreaterThan(100);
  await good.close();
  await server.close();
  expect([server.process.alive, server.connections]).toEqual([false, 0]);
});
