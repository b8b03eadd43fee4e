/**
 * Who asked: undici's handler, in either of its two shapes.
 *
 * Up to undici 6, and so in the `fetch` of Node 20 and 22, a handler has `onConnect`, `onHeaders`, `onData`,
 * `onComplete` and `onError`, takes headers as a flat list of buffers, and answers `false` for "wait". Since undici 7
 * there are `onRequestStart`, `onResponseStart` and so on, headers are an object, and waiting is asked for with a
 * controller. undici 7 takes both, undici 8 only the new. We take both, whichever undici is installed: a program may
 * well use Node's own `fetch` with the undici it has from npm.
 *
 * As undici does, a handler that has `onRequestStart` is taken for a new one.
 */

import type { Duplex } from "node:stream";
import { util } from "undici";

/** Name, value, name, value. A value is an array where a name came more than once. */
export type RawHeaders = (Buffer | Buffer[])[];

export type ParsedHeaders = Record<string, string | string[]>;

export type Abort = (reason?: Error) => void;

/** Headers or trailers as they came, to be had in either form; made when it is asked for. */
export interface Fields {
  raw(): RawHeaders;
  parsed(): ParsedHeaders;
}

/** What an exchange tells, in the order in which it happens. `headers` and `data` answer whether more may come. */
export interface Listener {
  start(abort: Abort): void;
  bodySent(chunk: Uint8Array): void;
  requestSent(): void;
  responseStarted(): void;
  headers(statusCode: number, fields: Fields, resume: () => void, statusText: string): boolean;
  data(chunk: Buffer): boolean;
  complete(trailers: Fields): void;
  upgraded(statusCode: number, fields: Fields, socket: Duplex): void;
  failed(error: Error): void;
}

/** Both shapes at once: which methods there are tells them apart. */
interface Handler {
  onConnect?(abort: Abort, context?: unknown): void;
  onHeaders?(statusCode: number, headers: RawHeaders, resume: () => void, statusText: string): boolean | void;
  onData?(chunk: Buffer): boolean | void;
  onComplete?(trailers: RawHeaders): void;
  onUpgrade?(statusCode: number, headers: RawHeaders, socket: Duplex): void;
  onError?(error: Error): void;

  onRequestStart?(controller: Controller, context: unknown): void;
  onResponseStart?(controller: Controller, statusCode: number, headers: ParsedHeaders, statusText: string): void;
  onResponseData?(controller: Controller, chunk: Buffer): void;
  onResponseEnd?(controller: Controller, trailers: ParsedHeaders): void;
  onRequestUpgrade?(controller: Controller, statusCode: number, headers: ParsedHeaders, socket: Duplex): void;
  onResponseError?(controller: Controller | null, error: Error): void;

  onBodySent?(chunk: Uint8Array): void;
  onRequestSent?(): void;
  onResponseStarted?(): void;
}

/** What new handlers hold in their hands. */
interface Controller {
  readonly aborted: boolean;
  readonly paused: boolean;
  readonly reason: Error | null;
  rawHeaders: RawHeaders | null;
  rawTrailers: RawHeaders | null;
  abort(reason: Error): void;
  pause(): void;
  resume(): void;
}

/** The listener for a handler; `undefined` for what can be none, since there would be nobody to tell the end. */
export function listenerOf(handler: unknown): Listener | undefined {
  if (typeof handler !== "object" || handler === null) return undefined;
  const known = handler as Handler;
  if (typeof known.onRequestStart === "function") {
    return typeof known.onResponseError === "function" ? new NewListener(known) : undefined;
  }
  return typeof known.onConnect === "function" && typeof known.onError === "function"
    ? new OldListener(known)
    : undefined;
}

class OldListener implements Listener {
  readonly #handler: Handler;

  constructor(handler: Handler) {
    this.#handler = handler;
  }

  start(abort: Abort): void {
    this.#handler.onConnect?.(abort);
  }

  bodySent(chunk: Uint8Array): void {
    this.#handler.onBodySent?.(chunk);
  }

  requestSent(): void {
    this.#handler.onRequestSent?.();
  }

  responseStarted(): void {
    this.#handler.onResponseStarted?.();
  }

  headers(statusCode: number, fields: Fields, resume: () => void, statusText: string): boolean {
    return this.#handler.onHeaders?.(statusCode, fields.raw(), resume, statusText) !== false;
  }

  data(chunk: Buffer): boolean {
    return this.#handler.onData?.(chunk) !== false;
  }

  complete(trailers: Fields): void {
    this.#handler.onComplete?.(trailers.raw());
  }

  upgraded(statusCode: number, fields: Fields, socket: Duplex): void {
    this.#handler.onUpgrade?.(statusCode, fields.raw(), socket);
  }

  failed(error: Error): void {
    this.#handler.onError?.(error);
  }
}

class NewListener implements Listener, Controller {
  readonly #handler: Handler;
  #abort: Abort | undefined;
  #resume: (() => void) | undefined;
  #headers: Fields | undefined;
  #trailers: Fields | undefined;
  aborted = false;
  paused = false;
  reason: Error | null = null;

  constructor(handler: Handler) {
    this.#handler = handler;
  }

  /** Made when it is asked for. What decorates a handler may put something else there. */
  get rawHeaders(): RawHeaders | null {
    return this.#headers?.raw() ?? null;
  }

  set rawHeaders(value: RawHeaders | null) {
    this.#headers = value === null ? undefined : new RawFields(value);
  }

  get rawTrailers(): RawHeaders | null {
    return this.#trailers?.raw() ?? null;
  }

  set rawTrailers(value: RawHeaders | null) {
    this.#trailers = value === null ? undefined : new RawFields(value);
  }

  start(abort: Abort): void {
    this.#abort = abort;
    this.#handler.onRequestStart?.(this, null);
  }

  bodySent(chunk: Uint8Array): void {
    this.#handler.onBodySent?.(chunk);
  }

  requestSent(): void {
    this.#handler.onRequestSent?.();
  }

  responseStarted(): void {
    this.#handler.onResponseStarted?.();
  }

  headers(statusCode: number, fields: Fields, resume: () => void, statusText: string): boolean {
    this.#resume = resume;
    this.#headers = fields;
    this.#handler.onResponseStart?.(this, statusCode, fields.parsed(), statusText);
    return !this.paused;
  }

  data(chunk: Buffer): boolean {
    this.#handler.onResponseData?.(this, chunk);
    return !this.paused;
  }

  complete(trailers: Fields): void {
    this.#trailers = trailers;
    this.#handler.onResponseEnd?.(this, trailers.parsed());
  }

  upgraded(statusCode: number, fields: Fields, socket: Duplex): void {
    this.#headers = fields;
    this.#handler.onRequestUpgrade?.(this, statusCode, fields.parsed(), socket);
  }

  failed(error: Error): void {
    this.#handler.onResponseError?.(this, error);
  }

  abort(reason: Error): void {
    if (this.aborted) return;
    this.aborted = true;
    this.reason = reason;
    this.#abort?.(reason);
  }

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    if (!this.paused) return;
    this.paused = false;
    this.#resume?.();
  }
}

/** Fields that came as a list of buffers, from undici's parser. */
export class RawFields implements Fields {
  readonly #raw: RawHeaders;

  constructor(raw: RawHeaders) {
    this.#raw = raw;
  }

  raw(): RawHeaders {
    return this.#raw;
  }

  parsed(): ParsedHeaders {
    return util.parseHeaders(this.#raw as Buffer[]) as ParsedHeaders;
  }
}
