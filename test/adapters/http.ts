/**
 * HTTP servers in this process that do as they are told, and what the tests need to talk to them.
 *
 * Nothing sleeps. A server that must take its time waits for the test; whoever waits for the sockets lets the event loop
 * turn until something is true.
 */
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import {
  createSecureServer,
  createServer as createHttp2Server,
  type Http2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
  type Settings,
} from "node:http2";
import { createServer as createHttpsServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { HttpDispatcher, type HttpDispatcherOptions } from "../../src/adapters/http/index.ts";
import { certificate, key } from "../servers/certificate.ts";
import { later } from "./turns.ts";

export { events, later, turn, until } from "./turns.ts";

/** A gate: whoever passes waits until the test opens it. */
export class Gate {
  /** How many have come to it. */
  waiting = 0;
  #open!: () => void;
  #come!: () => void;
  readonly opened: Promise<void> = new Promise((resolve) => {
    this.#open = resolve;
  });
  /** Resolves when the first has come: for those who come from another process, which takes its time. */
  readonly reached: Promise<void> = new Promise((resolve) => {
    this.#come = resolve;
  });

  pass(): Promise<void> {
    this.waiting++;
    this.#come();
    return this.opened;
  }

  open(): void {
    this.#open();
  }
}

export async function dispatcher(options: HttpDispatcherOptions = {}): Promise<HttpDispatcher> {
  const made = await HttpDispatcher.start({ backoff: { minMs: 5, maxMs: 20 }, ...options });
  later(() => made.destroy());
  return made;
}

export interface Served<S> {
  readonly server: S;
  readonly port: number;
  readonly url: string;
  /** Connections that are open. */
  readonly sockets: Set<Socket>;
  /** Connections there have ever been. */
  readonly accepted: () => number;
  /** Takes no more connections, and drops those there are. */
  readonly stop: () => Promise<void>;
}

type Handle1 = (request: IncomingMessage, response: ServerResponse) => unknown;

/** HTTP/1.1. */
export async function serve1(handle: Handle1, port = 0): Promise<Served<Server>> {
  const server = createServer((request, response) => void handle(request, response));
  server.keepAliveTimeout = 0; // Only the test closes connections.
  return served(server, "http", port);
}

/** HTTP/1.1 over TLS, and nothing else. */
export async function serve1Tls(handle: Handle1): Promise<Served<Server>> {
  const server = createHttpsServer({ key, cert: certificate }, (request, response) => void handle(request, response));
  return served(server as unknown as Server, "https", 0);
}

type Handle2 = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => unknown;

export interface Served2 extends Served<Http2Server> {
  readonly sessions: ServerHttp2Session[];
  /** The most streams there were at once on one session. */
  readonly most: () => number;
  /** Streams that are open, as the server sees it. */
  readonly open: () => number;
}

/** HTTP/2 without TLS. */
export async function serve2(handle: Handle2, settings: Settings = {}, port = 0): Promise<Served2> {
  const server = createHttp2Server({ settings });
  return watched(server, await served(server, "http", port), handle);
}

/** HTTP/2 over TLS, and HTTP/1.1 for those who ask for it. */
export async function serveTls(handle: Handle2, handle1?: Handle1): Promise<Served2> {
  const server = createSecureServer({ key, cert: certificate, allowHTTP1: handle1 !== undefined });
  if (handle1 !== undefined) {
    server.on("request", (request, response) => {
      if (request.httpVersion === "1.1") void handle1(request as never, response as never);
    });
  }
  return watched(server, await served(server, "https", 0), handle);
}

function watched(server: Http2Server, rest: Served<Http2Server>, handle: Handle2): Served2 {
  const sessions: ServerHttp2Session[] = [];
  let most = 0;
  let open = 0;
  server.on("session", (session) => {
    sessions.push(session);
    let streams = 0;
    session.on("error", () => undefined);
    session.on("stream", (stream: ServerHttp2Stream) => {
      most = Math.max(most, ++streams);
      open++;
      stream.on("close", () => {
        streams--;
        open--;
      });
      stream.on("error", () => undefined);
    });
  });
  server.on("sessionError", () => undefined);
  server.on("stream", (stream, headers) => {
    // A stream that is cut off under its handler is what some tests are about.
    (async () => handle(stream, headers))().catch(() => undefined);
  });
  later(() => {
    for (const session of sessions) session.destroy();
  });
  return { ...rest, sessions, most: () => most, open: () => open };
}

async function served<S extends Server | Http2Server>(server: S, scheme: string, port: number): Promise<Served<S>> {
  const sockets = new Set<Socket>();
  let accepted = 0;
  server.on("connection", (socket: Socket) => {
    accepted++;
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.on("close", () => sockets.delete(socket));
  });
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  const at = (server.address() as AddressInfo).port;
  let stopped: Promise<void> | undefined;
  const stop = (): Promise<void> => {
    stopped ??= new Promise((resolve) => {
      server.close(() => resolve());
      for (const socket of sockets) socket.destroy();
    });
    return stopped;
  };
  later(stop);
  return { server, port: at, url: `${scheme}://127.0.0.1:${at}`, sockets, accepted: () => accepted, stop };
}

/** The body of a request, whole. */
export async function bodyOf(stream: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** Calls of a handler, in the order in which they came; and a promise of the last. */
export interface Heard {
  readonly calls: string[];
  readonly body: () => string;
  readonly error: () => Error | undefined;
  readonly ended: Promise<void>;
  abort(reason?: Error): void;
  pause(): void;
  resume(): void;
  statusCode: number;
  headers: Record<string, string | string[]>;
  trailers: Record<string, string | string[]>;
  socket: import("node:stream").Duplex | undefined;
}

/** A handler of either shape that writes down what it hears. `during` may throw, or do what it likes. */
export function handler(shape: Shape, during: (call: string, heard: Heard) => void = () => undefined): Heard & object {
  const calls: string[] = [];
  const chunks: Buffer[] = [];
  let error: Error | undefined;
  let end!: () => void;
  const heard: Heard = {
    calls,
    body: () => Buffer.concat(chunks).toString(),
    error: () => error,
    ended: new Promise<void>((resolve) => {
      end = resolve;
    }),
    abort: () => undefined,
    pause: () => undefined,
    resume: () => undefined,
    statusCode: 0,
    headers: {},
    trailers: {},
    socket: undefined,
  };
  const call = (name: string): void => {
    calls.push(name);
    if (/^(?:complete|error|upgrade)/.test(name)) queueMicrotask(end);
    during(name, heard);
  };
  if (shape === "new") {
    return Object.assign(heard, {
      onRequestStart(controller: { abort(reason: Error): void; pause(): void; resume(): void }) {
        heard.abort = (reason = new Error("aborted")) => controller.abort(reason);
        heard.pause = () => controller.pause();
        heard.resume = () => controller.resume();
        call("start");
      },
      onResponseStart(_: unknown, status: number, headers: Record<string, string>) {
        heard.statusCode = status;
        heard.headers = headers;
        call(`headers ${status}`);
      },
      onResponseData(_: unknown, chunk: Buffer) {
        chunks.push(chunk);
        call("data");
      },
      onResponseEnd(_: unknown, trailers: Record<string, string>) {
        heard.trailers = trailers;
        call("complete");
      },
      onRequestUpgrade(_: unknown, status: number, headers: Record<string, string>, socket: never) {
        Object.assign(heard, { socket, headers });
        call(`upgrade ${status}`);
      },
      onResponseError(_: unknown, given: Error) {
        error = given;
        call("error");
      },
    });
  }
  let paused = false;
  let resume: () => void = () => undefined;
  heard.pause = () => {
    paused = true;
  };
  heard.resume = () => {
    paused = false;
    resume();
  };
  return Object.assign(heard, {
    onConnect(abort: (reason?: Error) => void) {
      heard.abort = abort;
      call("start");
    },
    onHeaders(status: number, raw: Buffer[], go: () => void) {
      heard.statusCode = status;
      heard.headers = inWords(raw);
      resume = go;
      call(`headers ${status}`);
      return !paused;
    },
    onData(chunk: Buffer) {
      chunks.push(chunk);
      call("data");
      return !paused;
    },
    onComplete(raw: Buffer[]) {
      heard.trailers = inWords(raw);
      call("complete");
    },
    onUpgrade(status: number, raw: Buffer[], socket: never) {
      Object.assign(heard, { socket, headers: inWords(raw) });
      call(`upgrade ${status}`);
    },
    onError(given: Error) {
      error = given;
      call("error");
    },
  });
}

export type Shape = "old" | "new";
export const shapes: readonly Shape[] = ["old", "new"];

function inWords(raw: readonly Buffer[]): Record<string, string> {
  const words: Record<string, string> = {};
  for (let at = 0; at < raw.length; at += 2) words[String(raw[at]).toLowerCase()] = String(raw[at + 1]);
  return words;
}

/** Dispatches, and resolves when the handler has heard the end. */
export async function ask(
  to: HttpDispatcher,
  options: { path?: string; method?: string; origin?: string; body?: unknown; [other: string]: unknown },
  heard: Heard & object,
): Promise<Heard> {
  to.dispatch({ path: "/", method: "GET", ...options } as never, heard as never);
  await heard.ended;
  return heard;
}

/** The calls without their repetitions: how many pieces a body came in is up to the wire. */
export function inShort(calls: readonly string[]): string[] {
  return calls.filter((call, at) => call !== "data" || calls[at - 1] !== "data");
}
