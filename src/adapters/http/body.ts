/**
 * A request's body onto an HTTP/2 stream, in every form in which undici takes one.
 *
 * What is there as a whole is written as a whole, with its length; what comes bit by bit is read only as fast as the
 * stream takes it.
 */

import type { ClientHttp2Stream } from "node:http2";
import { finished, Readable } from "node:stream";
import { errors, Response as UndiciResponse } from "undici";

/** A body ready to be sent. `length` and `type` become headers, where the caller has not set them. */
export interface Body {
  readonly length: number | undefined;
  readonly type?: string;
  readonly content: Uint8Array | Readable;
}

/** @throws {errors.InvalidArgumentError} for what can be none. `undefined` for a body that is empty. */
export function bodyOf(given: unknown): Body | undefined {
  if (given === undefined || given === null || given === "") return undefined;
  if (typeof given === "string") return whole(Buffer.from(given));
  if (ArrayBuffer.isView(given)) return whole(new Uint8Array(given.buffer, given.byteOffset, given.byteLength));
  if (given instanceof ArrayBuffer) return whole(new Uint8Array(given));
  if (given instanceof Blob) {
    const type = given.type === "" ? {} : { type: given.type };
    return { length: given.size, ...type, content: Readable.fromWeb(given.stream() as never) };
  }
  if (isFormData(given)) return multipart(given);
  if (given instanceof Readable) return { length: undefined, content: given };
  if (typeof (given as Readable).pipe === "function") return { length: undefined, content: wrapped(given as Readable) };
  if (typeof given === "object" && (Symbol.asyncIterator in given || Symbol.iterator in given)) {
    return { length: undefined, content: Readable.from(given as Iterable<unknown>, { objectMode: false }) };
  }
  throw new errors.InvalidArgumentError(
    "body must be a string, a Buffer, a Readable stream, an iterable, or an async iterable",
  );
}

/**
 * Sends a body and ends the stream. `failed` is called at most once, when the body broke; a stream that closes takes what
 * is left of its body with it.
 *
 * Not by `pipeline`: it destroys a stream that says "aborted", which Node's says before it has told the peer, and then
 * never tells. Such a stream would count against the peer's limit for as long as the session lives.
 */
export function sendBody(
  { content }: Body,
  stream: ClientHttp2Stream,
  sent: (chunk: Uint8Array) => void,
  done: () => void,
  failed: (error: Error) => void,
): void {
  if (content instanceof Uint8Array) {
    sent(content);
    stream.end(content, done);
    return;
  }
  stream.once("finish", done);
  stream.once("close", () => content.destroy());
  finished(content, { writable: false }, (error) => {
    if (error) failed(error);
  });
  content.pipe(stream);
  content.on("data", sent);
}

/** A stream of another library's, or of the first kind. Node's `wrap` ends with it, but does not end it. */
function wrapped(given: NodeJS.ReadableStream & { destroy?(): unknown }): Readable {
  const content = new Readable({
    destroy: (error, done) => {
      given.destroy?.();
      done(error);
    },
  });
  return content.wrap(given);
}

function whole(content: Uint8Array): Body | undefined {
  return content.byteLength === 0 ? undefined : { length: content.byteLength, content };
}

function isFormData(given: unknown): boolean {
  const form = given as { append?: unknown; [Symbol.toStringTag]?: unknown };
  return typeof form.append === "function" && form[Symbol.toStringTag] === "FormData";
}

/** Node's own form data or undici's: each is understood by the `Response` it came with. */
function multipart(form: unknown): Body {
  for (const kind of [globalThis.Response, UndiciResponse]) {
    const response = new kind(form as never);
    const type = response.headers.get("content-type");
    if (type?.startsWith("multipart/form-data")) {
      return { length: undefined, type, content: Readable.fromWeb(response.body as never) };
    }
  }
  throw new errors.InvalidArgumentError("body must be a FormData of this Node's or this undici's");
}
