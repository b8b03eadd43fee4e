/**
 * Fanta frames by hand, from the description and not from the code under test.
 */

import type { Far } from "../multiplex/loopback.ts";
import { until } from "../multiplex/turns.ts";

export const data = 0;
export const error = 1;
export const ping = 2;
export const pong = 3;
export const goaway = 4;
export const cancel = 5;

export interface Frame {
  readonly id: number;
  readonly kind: number;
  readonly text: string;
}

export function frame(id: number, kind: number, payload: string | Uint8Array = ""): Buffer {
  const bytes = Buffer.from(payload as string);
  const header = Buffer.alloc(9);
  header.writeUInt32BE(bytes.length + 5, 0);
  header.writeUInt32BE(id, 4);
  header.writeUInt8(kind, 8);
  return Buffer.concat([header, bytes]);
}

/** The first bytes of a frame that says it is so long. */
export function announced(length: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(length);
  return bytes;
}

/** The frames that are whole, and the bytes behind them. */
export function parsed(bytes: Buffer): { frames: Frame[]; rest: Buffer } {
  const frames: Frame[] = [];
  let at = 0;
  while (bytes.length - at >= 9) {
    const next = at + 4 + bytes.readUInt32BE(at);
    if (next > bytes.length) break;
    frames.push({
      id: bytes.readUInt32BE(at + 4),
      kind: bytes[at + 8] as number,
      text: bytes.toString("utf8", at + 9, next),
    });
    at = next;
  }
  return { frames, rest: bytes.subarray(at) };
}

/** Every frame that the far end has been sent. */
export function framesAt(far: Far): Frame[] {
  return parsed(far.bytes).frames;
}

/** Waits until so many frames have come, or no more can; returns all that have. */
export async function hears(far: Far, count: number): Promise<Frame[]> {
  await until(`${count} frames have come`, () => far.closed || framesAt(far).length >= count);
  return framesAt(far);
}
