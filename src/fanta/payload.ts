/**
 * What a payload means: values to bytes, and back.
 *
 * Fanta carries bytes. A codec makes something of them, one for what is sent and one for what comes, and both sides
 * must use the same. Three are here; yours is an object with two functions.
 *
 * A codec is strict: what is not text is refused rather than repaired, since a payload that silently becomes another
 * is worse than an error. A codec that throws fails that one request (`ERR_FANTA_CODEC`), never the connection.
 */

import { isUtf8 } from "node:buffer";
import { asError, FantaError } from "../errors.ts";
import { type Check, having } from "../options.ts";

export interface Codec<Out, In = Out> {
  /**
   * The bytes of a value; a string stands for its UTF-8. They are taken before the call that sends them returns, so
   * they may be changed afterwards.
   */
  encode(value: Out): string | Uint8Array;
  /**
   * The value of the bytes from `start` to `end`. They are lent for the call only: copy what you keep.
   */
  decode(bytes: Buffer, start: number, end: number): In;
}

/** UTF-8 strings. Refuses bytes that are no UTF-8, and strings that have none (lone surrogates). */
export const text: Codec<string> = {
  encode: (value) => {
    if (typeof value !== "string") throw new TypeError(`the text codec takes a string, not ${kindOf(value)}`);
    return value;
  },
  decode: decodeText,
};

/** Bytes. What comes is a copy of its own: keeping it keeps nothing else in memory. */
export const binary: Codec<Uint8Array> = {
  encode: (value) => {
    if (!(value instanceof Uint8Array))
      throw new TypeError(`the binary codec takes a Uint8Array, not ${kindOf(value)}`);
    return value;
  },
  // Not Buffer.from: that may lend a part of a shared 8 KiB, and a Buffer's slice does not copy as a Uint8Array's does.
  decode: (bytes, start, end) => new Uint8Array(bytes.buffer.slice(bytes.byteOffset + start, bytes.byteOffset + end)),
};

/** Whatever JSON can say. A value of which it says nothing (`undefined`, a function) is refused. */
export const json: Codec<unknown> = {
  encode: (value) => {
    const said: unknown = JSON.stringify(value);
    if (typeof said !== "string") throw new TypeError(`JSON has no word for ${kindOf(value)}`);
    return said;
  },
  decode: (bytes, start, end) => JSON.parse(decodeText(bytes, start, end)) as unknown,
};

/** The row for an option that holds a codec. */
export const codecCheck: Check = having("encode", "decode");

/** Why a value did not become bytes, or bytes no value. `what` is the request, the response, … */
export function codecError(what: string, cause: unknown): FantaError {
  const why = cause instanceof Error ? `: ${messageOf(cause)}` : "";
  return new FantaError(
    "ERR_FANTA_CODEC",
    `${what}${why}. Both sides must use the same codec, with values that it takes.`,
    {
      cause,
    },
  );
}

/** The words of whatever the user's code has thrown. Anything can be thrown, and an error's message be anything. */
export function messageOf(thrown: unknown): string {
  try {
    const message: unknown = asError(thrown).message;
    if (typeof message === "string") return message;
  } catch {
    // A message that throws when it is read.
  }
  return "an error whose message is no text";
}

/** What lies in front of U+FFFD: no text that is written in one byte a character has one. */
const replacement = "\uFFFD";

function decodeText(bytes: Buffer, start: number, end: number): string {
  const decoded = bytes.toString("utf8", start, end);
  // Node puts U+FFFD where the bytes are no UTF-8. Few texts have one, so only those are looked at twice.
  if (decoded.includes(replacement) && !isUtf8(bytes.subarray(start, end)))
    throw new TypeError("the bytes are no UTF-8");
  return decoded;
}

function kindOf(value: unknown): string {
  if (value === null) return "null";
  return typeof value === "object" ? `an object (${value.constructor?.name ?? "without a prototype"})` : typeof value;
}
