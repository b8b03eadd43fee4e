/**
 * The wire format of Fanta, as pure functions over bytes.
 *
 *      0        4        8      9
 *     ┌────────┬────────┬──────┬───────────────┐
 *     │ length │   id   │ kind │    payload    │      big-endian
 *     └────────┴────────┴──────┴───────────────┘
 *         │    └────────── length ─────────────┘
 *         └─ u32: the bytes that follow, so 5 for an empty payload
 *
 * The id is chosen by the client and unique among its requests in flight; 0 is the connection itself. Here it is a
 * signed number of 32 bits, which is how V8 keeps it unboxed; `id >>> 0` is the number on the wire.
 *
 * Reading is strict and early: a length that cannot be is refused when its four bytes are there, a kind or an id that
 * cannot be when the header is, before any payload has come or room was made for it. There is no resynchronising:
 * after bytes that are not Fanta nobody knows where the next frame begins, so the connection must end.
 */

import { FantaError } from "../errors.ts";

/** What a frame is. The kinds from ping to goaway are about the connection, the others about one request. */
export type Kind = 0 | 1 | 2 | 3 | 4 | 5;

export const data = 0;
/** An error response: a UTF-8 message. */
export const error = 1;
export const ping = 2;
/** Echoes the ping's id and payload. */
export const pong = 3;
/** From the server: finish what is in flight here, send nothing new. */
export const goaway = 4;
/** From the client: nobody waits for this request any more. It is answered all the same. */
export const cancel = 5;

/** The length, the id and the kind. */
export const headerBytes = 9;
/** What `length` counts besides the payload: the id and the kind. */
export const overheadBytes = 5;
/** 16 MiB. */
export const maxFrameBytesDefault: number = 16 * 2 ** 20;

/** Where frames go, one by one and in order. */
export interface FrameSink {
  /**
   * The payload is `bytes` from `start` to `end`, and lent for the call only.
   * @returns whether to go on with the next.
   */
  frame(id: number, kind: Kind, bytes: Buffer, start: number, end: number): boolean;
}

/** Writes the nine bytes in front of a payload of `payloadBytes`. */
export function writeHeader(bytes: Buffer, at: number, payloadBytes: number, id: number, kind: Kind): void {
  const length = payloadBytes + overheadBytes;
  // Byte by byte: half the time of writeUInt32BE, which checks its range first.
  bytes[at] = length >>> 24;
  bytes[at + 1] = length >>> 16;
  bytes[at + 2] = length >>> 8;
  bytes[at + 3] = length;
  bytes[at + 4] = id >>> 24;
  bytes[at + 5] = id >>> 16;
  bytes[at + 6] = id >>> 8;
  bytes[at + 7] = id;
  bytes[at + 8] = kind;
}

/**
 * Hands the whole frames between `start` and `end` to the sink.
 *
 * @param maxFrameBytes The largest `length` that is accepted.
 * @returns where it stopped: at the beginning of a frame that is not whole, at `end`, or where the sink said so.
 * @throws {FantaError} `ERR_FANTA_PROTOCOL` at the first frame that is none; those before it have been handed on.
 */
export function readFrames(bytes: Buffer, start: number, end: number, maxFrameBytes: number, sink: FrameSink): number {
  let at = start;
  while (end - at >= 4) {
    const length = u32(bytes, at);
    if (length < overheadBytes || length > maxFrameBytes) throw badLength(length, maxFrameBytes);
    if (end - at < headerBytes) return at;
    const id = i32(bytes, at + 4);
    const kind = bytes[at + 8] as Kind;
    // Only the connection itself has the id 0; a ping may have one of its own to tell it by.
    if (kind > cancel || (id === 0 && (kind === data || kind === error || kind === cancel))) throw badKind(kind, id);
    const next = at + 4 + length;
    if (next > end) return at;
    if (!sink.frame(id, kind, bytes, at + headerBytes, next)) return next;
    at = next;
  }
  return at;
}

/**
 * How many bytes must be there before more can be told of the frame that begins at `start`: 4 for its length, 9 for
 * its header, then all of it.
 */
export function frameNeeds(bytes: Buffer, start: number, end: number): number {
  if (end - start < 4) return 4;
  return end - start < headerBytes ? headerBytes : 4 + u32(bytes, start);
}

/** A protocol error. `what` is a whole sentence. */
export function protocolError(what: string): FantaError {
  return new FantaError(
    "ERR_FANTA_PROTOCOL",
    `${what} The connection is closed. Check that both sides speak Fanta, over TLS or both without, with the same maxFrameBytes.`,
  );
}

function badLength(length: number, maxFrameBytes: number): FantaError {
  return protocolError(
    length < overheadBytes
      ? `A frame says that it is ${length} bytes long; the least is ${overheadBytes}.`
      : `A frame says that it is ${length} bytes long; maxFrameBytes is ${maxFrameBytes}.`,
  );
}

function badKind(kind: number, id: number): FantaError {
  return protocolError(
    kind > cancel
      ? `A frame has the kind ${kind}, which there is not.`
      : `A frame of kind ${kind} has the id ${id}, which is no request's.`,
  );
}

function i32(bytes: Buffer, at: number): number {
  return (
    ((bytes[at] as number) << 24) |
    ((bytes[at + 1] as number) << 16) |
    ((bytes[at + 2] as number) << 8) |
    (bytes[at + 3] as number)
  );
}

function u32(bytes: Buffer, at: number): number {
  return i32(bytes, at) >>> 0;
}
