/**
 * Frames on their way out: a payload is put straight where it leaves from, with room for its header in front.
 *
 * First the payload, then the header: how long a string is in UTF-8 is known for certain once it is written, and a
 * payload that is too large is to be refused before anything else has happened.
 */

import type { Writer } from "../multiplex/index.ts";
import { headerBytes, type Kind, writeHeader } from "./codec.ts";

/** Longer strings are measured first; shorter ones get room for the worst case, three bytes a character. */
const measuredFrom = 8_192;
/** Up to here a loop is as fast as the call into Node's native code, or faster. */
const loopUpTo = 16;

/**
 * Puts a payload into the writer, after room for a header; `sendPayload` makes it leave, nothing takes it back.
 *
 * @returns its bytes, or -1 when they are more than `maxBytes`.
 * @throws {TypeError} for a string that has no UTF-8.
 */
export function putPayload(writer: Writer, payload: string | Uint8Array, maxBytes: number): number {
  if (typeof payload === "string") return putText(writer, payload, maxBytes);
  if (!(payload instanceof Uint8Array))
    throw new TypeError("encode of the codec returned neither a string nor a Uint8Array");
  const size = payload.length;
  if (size > maxBytes) return -1;
  const at = writer.reserve(headerBytes + size);
  writer.bytes.set(payload, at + headerBytes);
  return size;
}

/** Puts the header in front of the payload that was put last. Both leave at the end of the turn. */
export function sendPayload(writer: Writer, size: number, id: number, kind: Kind): void {
  writeHeader(writer.bytes, writer.used, size, id, kind);
  writer.used += headerBytes + size;
}

/** A frame with this very payload, which is short enough. */
export function sendBytes(writer: Writer, id: number, kind: Kind, payload: Uint8Array): void {
  sendPayload(writer, putPayload(writer, payload, payload.length), id, kind);
}

/** A frame that says all in its header. */
export function sendEmpty(writer: Writer, id: number, kind: Kind): void {
  writer.reserve(headerBytes);
  sendPayload(writer, 0, id, kind);
}

function putText(writer: Writer, text: string, maxBytes: number): number {
  const { length } = text;
  const most = length >= measuredFrom ? Buffer.byteLength(text) : 3 * length;
  if (length > maxBytes || (length >= measuredFrom && most > maxBytes)) return -1;
  const at = writer.reserve(headerBytes + most) + headerBytes;
  const { bytes } = writer;
  if (length <= loopUpTo) {
    let seen = 0;
    for (let index = 0; index < length; index++) {
      const code = text.charCodeAt(index);
      seen |= code;
      bytes[at + index] = code;
    }
    if (seen < 0x80) return length;
  }
  const size = bytes.write(text, at, most, "utf8");
  if (size === length) return size; // A byte a character: plain ASCII.
  if (!wellFormed(text)) throw new TypeError("the string has a lone surrogate, and so no UTF-8");
  return size > maxBytes ? -1 : size;
}

/** ES2024, and in every Node we support. */
function wellFormed(text: string): boolean {
  return (text as unknown as { isWellFormed(): boolean }).isWellFormed();
}
