/**
 * Streams of Fanta frames for fuzzing: good ones, spoilt ones, and where to cut them. All from one seed's dice.
 *
 * Sizes are drawn so that what is rare in life is common here: empty payloads, frames of exactly the largest size,
 * pieces of one byte, pieces that end inside a header.
 */

import { Dice } from "../../src/runtime/dice.ts";
import { frame } from "../fanta/frames.ts";

export { Dice };

/** What fuzzed readers are told; small, so that streams often reach it. */
export const maxFrameBytes = 4_096;

export interface Sent {
  readonly id: number;
  readonly kind: number;
  readonly payload: Buffer;
}

export function bytesOf({ id, kind, payload }: Sent): Buffer {
  return frame(id, kind, payload);
}

/** A frame that the codec takes, whoever sends it: what a kind means on a connection is not the codec's to know. */
export function anyFrame(dice: Dice): Sent {
  const kind = dice.below(6);
  const mayBeZero = kind >= 2 && kind !== 5;
  return { id: anyId(dice, mayBeZero ? 0 : 1), kind, payload: anyPayload(dice) };
}

export function anyId(dice: Dice, least: number): number {
  const edges = [1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];
  if (dice.below(4) === 0) return edges[dice.below(edges.length)] as number;
  return Math.max(least, Math.floor(dice.fraction() * 2 ** 32));
}

/** Mostly small; now and then empty, of a page, or the largest that passes. */
export function anyPayload(dice: Dice): Buffer {
  const way = dice.below(64);
  const length =
    way === 0 ? maxFrameBytes - 5 : way === 1 ? dice.below(maxFrameBytes - 5) : way < 8 ? 0 : dice.below(48);
  const payload = Buffer.allocUnsafe(length);
  for (let at = 0; at < length; at++) payload[at] = dice.below(256);
  return payload;
}

/** The same bytes with one thing wrong. It may still read as frames, though as others. */
export function spoilt(dice: Dice, bytes: Buffer): Buffer {
  const at = dice.below(bytes.length);
  const some = 1 + dice.below(12);
  switch (dice.below(6)) {
    case 0: {
      const flipped = Buffer.from(bytes);
      flipped[at] = (flipped[at] as number) ^ (1 << dice.below(8));
      return flipped;
    }
    case 1:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + some)]); // Some are lost.
    case 2:
      return Buffer.concat([bytes.subarray(0, at + some), bytes.subarray(at)]); // Some come twice.
    case 3:
      return Buffer.concat([bytes.subarray(0, at), noise(dice, some), bytes.subarray(at)]);
    case 4:
      return bytes.subarray(0, at); // The rest never comes.
    default:
      return Buffer.concat([bytes.subarray(0, at), noise(dice, 64)]);
  }
}

export function noise(dice: Dice, length: number): Buffer {
  return Buffer.from(Array.from({ length }, () => dice.below(256)));
}

/** How long the next piece of a stream is: of one byte, of a header's size, or of many frames. One stream, one manner. */
export function cutter(dice: Dice): () => number {
  const most = [1, 4, 12, 60, 200, 2_000, 16_000, 65_536][dice.below(8)] as number;
  return () => 1 + dice.below(most);
}
