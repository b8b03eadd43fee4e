/**
 * Headers between undici and `node:http2`.
 *
 * undici takes a request's headers as an object, as a flat list or as pairs, and checks them; so do we, with its errors,
 * since a header that one protocol refuses must not slip through in the other. What HTTP/2 forbids because it has its
 * own way of saying it (`connection`, `host`, RFC 9113 8.2.2) is left out or put where it belongs.
 */

import { validateHeaderName, validateHeaderValue } from "node:http";
import type { OutgoingHttpHeaders } from "node:http2";
import { stringify } from "node:querystring";
import { errors } from "undici";
import type { Fields, ParsedHeaders, RawHeaders } from "./listener.ts";
import type { HttpRequest } from "./request.ts";

/** Whose names are put in small letters once. Programs have few of them; a stranger's are not let in without end. */
const namesKnown = 1_000;

const smallNames = new Map<string, string>();
const nameBuffers = new Map<string, Buffer>();

/** @throws what undici would: {errors.InvalidArgumentError}, {errors.NotSupportedError}. */
export function requestHeaders(request: HttpRequest, scheme: string, authority: string): OutgoingHttpHeaders {
  const headers: OutgoingHttpHeaders = {
    ":method": methodOf(request),
    ":scheme": scheme,
    ":authority": authority,
    ":path": pathOf(request),
  };
  for (const [name, value] of pairs(request.headers)) add(headers, name, value);
  if (request.expectContinue) headers["expect"] = "100-continue";
  return headers;
}

function methodOf({ method }: HttpRequest): string {
  if (typeof method !== "string") throw new errors.InvalidArgumentError("method must be a string");
  if (!/^[!#$%&'*+.^_`|~A-Za-z0-9-]+$/.test(method)) throw new errors.InvalidArgumentError("invalid request method");
  return method;
}

function pathOf({ path, query }: HttpRequest): string {
  if (typeof path !== "string") throw new errors.InvalidArgumentError("path must be a string");
  if (/[^\u0021-\u00ff]/.test(path)) throw new errors.InvalidArgumentError("invalid request path");
  const absolute = path.startsWith("http://") || path.startsWith("https://");
  if (path[0] !== "/" && !absolute) {
    throw new errors.InvalidArgumentError("path must be an absolute URL or start with a slash");
  }
  const relative = absolute ? path.slice(new URL(path).origin.length) || "/" : path;
  if (!query) return relative;
  if (/[?#]/.test(relative)) {
    throw new Error('Query params cannot be passed when url already contains "?" or "#".');
  }
  const asked = stringify(query);
  return asked === "" ? relative : `${relative}?${asked}`;
}

/** All the forms in which undici takes headers. */
function* pairs(headers: HttpRequest["headers"]): Iterable<readonly [string, unknown]> {
  if (headers === undefined || headers === null) return;
  if (typeof headers !== "object") throw new errors.InvalidArgumentError("headers must be an object or an array");
  if (Array.isArray(headers)) {
    if (headers.length % 2 !== 0) throw new errors.InvalidArgumentError("headers array must be even");
    for (let at = 0; at < headers.length; at += 2) yield [headers[at] as string, headers[at + 1]];
  } else if (Symbol.iterator in headers) {
    for (const pair of headers as Iterable<unknown>) {
      if (!Array.isArray(pair) || pair.length !== 2) {
        throw new errors.InvalidArgumentError("headers must be in key-value pair format");
      }
      yield pair as [string, unknown];
    }
  } else {
    for (const name of Object.keys(headers)) yield [name, (headers as Record<string, unknown>)[name]];
  }
}

function add(headers: OutgoingHttpHeaders, given: string, value: unknown): void {
  if (value === undefined) return;
  const name = smallName(given);
  switch (name) {
    case "connection":
      return; // Of no meaning here.
    case "host":
      if (typeof value !== "string") throw new errors.InvalidArgumentError("invalid host header");
      headers[":authority"] = checked(name, value);
      return;
    case "transfer-encoding":
    case "keep-alive":
    case "upgrade":
      throw new errors.InvalidArgumentError(`invalid ${name} header`);
    case "expect":
      throw new errors.NotSupportedError("expect header not supported");
    default: {
      const text = Array.isArray(value) ? value.map((each) => checked(name, each)) : checked(name, value);
      const before = Object.hasOwn(headers, name) ? (headers[name] as string | string[]) : undefined;
      headers[name] = before === undefined ? text : ([] as string[]).concat(before, text);
    }
  }
}

function smallName(given: string): string {
  const known = smallNames.get(given);
  if (known !== undefined) return known;
  try {
    validateHeaderName(given);
  } catch {
    throw new errors.InvalidArgumentError("invalid header key");
  }
  const small = given.toLowerCase();
  if (smallNames.size < namesKnown) smallNames.set(given, small);
  return small;
}

function checked(name: string, value: unknown): string {
  if (value === null) return "";
  if (typeof value === "object" || typeof value === "function" || typeof value === "symbol") {
    throw new errors.InvalidArgumentError(`invalid ${name} header`);
  }
  const text = String(value as string | number | boolean | bigint);
  try {
    validateHeaderValue(name, text);
  } catch {
    throw new errors.InvalidArgumentError(`invalid ${name} header`);
  }
  return text;
}

/** Fields that came from `node:http2`: name, value, name, value, as strings, the pseudo-headers before them. */
export class Http2Fields implements Fields {
  readonly #flat: readonly string[];

  constructor(flat: readonly string[]) {
    this.#flat = flat;
  }

  raw(): RawHeaders {
    const raw: RawHeaders = [];
    for (const [name, value] of this.#regular()) raw.push(nameBuffer(name), Buffer.from(value, "latin1"));
    return raw;
  }

  parsed(): ParsedHeaders {
    const parsed: ParsedHeaders = {};
    for (const [name, value] of this.#regular()) {
      const before = Object.hasOwn(parsed, name) ? parsed[name] : undefined;
      const next = before === undefined ? value : Array.isArray(before) ? [...before, value] : [before, value];
      // Defined, not assigned: a header may be called __proto__.
      Object.defineProperty(parsed, name, { value: next, enumerable: true, configurable: true, writable: true });
    }
    return parsed;
  }

  *#regular(): Iterable<readonly [string, string]> {
    const flat = this.#flat;
    for (let at = 0; at < flat.length; at += 2) {
      const name = flat[at] as string;
      if (name[0] !== ":") yield [name, flat[at + 1] as string];
    }
  }
}

function nameBuffer(name: string): Buffer {
  let buffer = nameBuffers.get(name);
  if (buffer === undefined) {
    buffer = Buffer.from(name, "latin1");
    if (nameBuffers.size < namesKnown) nameBuffers.set(name, buffer);
  }
  return buffer;
}
