/**
 * Real sockets on the loopback, with a test at the far end.
 *
 * The far end is a plain socket that does what the test says and notes what it hears. All that was opened is gone when
 * the test is over, whatever came of it.
 */

import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { afterEach } from "vitest";
import { accepted, dial, type Wire } from "../../src/multiplex/index.ts";
import { systemRuntime } from "../../src/runtime/index.ts";
import { until } from "./turns.ts";

/**
 * More than a socket takes in whose far end never reads. Linux lets what one end sends grow to some 4 MB; what the other
 * receives grows as it is read, so it stays small.
 */
export const tooManyBytes = 16_000_000;

const opened = new Set<Server | Socket>();

afterEach(() => {
  for (const each of opened) {
    if ("listen" in each) each.close();
    else each.destroy();
  }
  opened.clear();
});

/** The far end of a connection. */
export class Far {
  readonly socket: Socket;
  #heard: Buffer[] = [];
  #length = 0;
  /** The near end has said all. */
  ended = false;
  /** Nothing of the socket is left. */
  closed = false;
  error: Error | undefined;

  /** @param socket Must be new: what has come before is not heard. */
  constructor(socket: Socket) {
    this.socket = socket;
    opened.add(socket);
    socket.on("data", (chunk) => {
      this.#heard.push(chunk);
      this.#length += chunk.length;
    });
    socket.on("end", () => {
      this.ended = true;
    });
    socket.on("error", (error) => {
      this.error = error;
    });
    socket.on("close", () => {
      this.closed = true;
    });
  }

  static async connect(port: number): Promise<Far> {
    const far = new Far(connect({ port, host: "127.0.0.1", allowHalfOpen: true, noDelay: true }));
    await once(far.socket, "connect");
    return far;
  }

  /** How many bytes have come. */
  get length(): number {
    return this.#length;
  }

  /** All that has come. */
  get bytes(): Buffer {
    if (this.#heard.length !== 1) this.#heard = [Buffer.concat(this.#heard)];
    return this.#heard[0] as Buffer;
  }

  get text(): string {
    return this.bytes.toString("latin1");
  }

  send(bytes: string | Buffer): void {
    this.socket.write(bytes);
  }

  /** Bytes that the near end's machine has not taken yet. */
  get unsent(): number {
    return this.socket.writableLength;
  }
}

/** Listens on a free port, and takes whoever comes. */
export async function listen(come: (socket: Socket) => void): Promise<{ server: Server; port: number }> {
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    opened.add(socket);
    come(socket);
  });
  opened.add(server);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { server, port: (server.address() as { port: number }).port };
}

/** A listener whose guests are far ends. It says nothing by itself. */
export class Listener {
  readonly port: number;
  /** Everyone who has come, in order. */
  readonly guests: Far[];

  private constructor(port: number, guests: Far[]) {
    this.port = port;
    this.guests = guests;
  }

  static async open(welcome?: (far: Far) => void): Promise<Listener> {
    const guests: Far[] = [];
    const { port } = await listen((socket) => {
      const far = new Far(socket);
      guests.push(far);
      welcome?.(far);
    });
    return new Listener(port, guests);
  }

  async guest(n = 0): Promise<Far> {
    await until(`guest ${n} has come`, () => this.guests.length > n);
    return this.guests[n] as Far;
  }
}

/** A port where nobody listens. */
export async function deadPort(): Promise<number> {
  const { server, port } = await listen(() => undefined);
  server.close();
  await once(server, "close");
  return port;
}

/** The two ways to a wire: opened by us (which reads into one buffer), and accepted. */
export const ways = ["dialled", "accepted"] as const;

/** A connection: a wire at the near end, given to `use` in the turn in which it is had, and a test at the far end. */
export async function connected<T>(
  way: (typeof ways)[number],
  use: (wire: Wire) => T,
): Promise<{ near: T; socket: Socket; far: Far }> {
  if (way === "dialled") {
    const listener = await Listener.open();
    const wire = await dial({ host: "127.0.0.1", port: listener.port, timeoutMs: 10_000, runtime: systemRuntime });
    opened.add(wire.socket);
    return { near: use(wire), socket: wire.socket, far: await listener.guest() };
  }
  let had: { near: T; socket: Socket } | undefined;
  const { port } = await listen((socket) => {
    had = { near: use(accepted(socket)), socket };
  });
  const far = await Far.connect(port);
  await until("the near end is there", () => had !== undefined);
  return { ...(had as { near: T; socket: Socket }), far };
}
