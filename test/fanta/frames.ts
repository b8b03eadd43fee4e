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

/** What a stream of bytes means, read from the description. */
export interface Meaning {
  /** Where the frames begin that are whole and good, up to the first that is none. */
  readonly starts: readonly number[];
  /** Where the last of them ends: from here on there is nothing, a beginning, or what is no frame. */
  readonly end: number;
  /** Words that the error must have, when what stands at `end` is no frame. */
  readonly failure: string | undefined;
}

export function meaning(bytes: Buffer, maxFrameBytes: number): Meaning {
  const starts: number[] = [];
  let end = 0;
  const failing = (failure?: string): Meaning => ({ starts, end, failure });
  for (;;) {
    const rest = bytes.length - end;
    if (rest < 4) return failing();
    const length = bytes.readUInt32BE(end);
    if (length < 5) return failing("the least is 5");
    if (length > maxFrameBytes) return failing(`maxFrameBytes is ${maxFrameBytes}`);
    if (rest < 9) return failing();
    const id = bytes.readUInt32BE(end + 4);
    const kind = bytes[end + 8] as number;
    if (kind > 5) return failing(`the kind ${kind}, which there is not`);
    if (id === 0 && (kind < 2 || kind === 5)) return failing("the id 0, which is no request's");
    if (rest < 4 + length) return failing();
    starts.push(end);
    end += 4 + length;
  }
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
