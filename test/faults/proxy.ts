/**
 * A TCP proxy that misbehaves as told: what a bad network does, between a real client and a real server.
 *
 *     client ──▶ │ proxy │ ──▶ server      "up": what the client says      "down": what the server answers
 *
 * Each direction of each connection is a line of pieces. A piece leaves when its time has come and all before it have
 * left; so latency and jitter delay and never reorder, as TCP does not. Faults can be changed while it runs, and hold
 * for what comes after. What is held back is bounded: a line of more than a mebibyte stops reading, and the sender
 * feels it as it would feel a slow network.
 *
 * Time and chance come from a runtime, so its own tests run in virtual time. As a program:
 *
 *     node proxy.ts --port 7001 --target 127.0.0.1:7000 [--latency-ms 20] [--jitter-ms 5] [--bytes-per-second 100000] …
 *
 * It ends with a message and exit code 1 when nothing answers at its target.
 */

import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { type Runtime, systemRuntime, type Timer } from "../../src/runtime/index.ts";

export interface Target {
  readonly host: string;
  readonly port: number;
}

/** What happens to one direction. Nothing, by default. */
export interface Faults {
  /** How much later a piece arrives. */
  readonly latencyMs?: number;
  /** Up to so much more or less, each piece by itself. */
  readonly jitterMs?: number;
  readonly bytesPerSecond?: number;
  /** Pieces of at most so many bytes, each sent by itself. */
  readonly sliceBytes?: number;
  /** After so many bytes of a connection, in this direction, both its ends are closed. */
  readonly limitBytes?: number;
  /** Of so many bytes, one has a bit flipped. */
  readonly corruptBytes?: number;
  /** Nothing arrives, and nobody is told. What was sent meanwhile arrives when this is over: TCP repeats itself. */
  readonly blackHole?: boolean;
}

export type Direction = "up" | "down";

/** A line stops reading above this, and goes on below. */
const heldBytes = 2 ** 20;

export class Proxy {
  readonly target: Target;
  /** Those whose target did not answer, in words. */
  readonly failures: string[] = [];
  /** Called for each of them. */
  onFailure: (message: string) => void = () => undefined;
  readonly #runtime: Runtime;
  readonly #server: Server;
  readonly #links = new Set<Link>();
  readonly #faults: Record<Direction, Faults> = { up: {}, down: {} };
  /** Connections ever taken. */
  taken = 0;

  /** Listens on a port of 127.0.0.1; 0 for any that is free. */
  static async listen(target: Target, options: { port?: number; runtime?: Runtime } = {}): Promise<Proxy> {
    const proxy = new Proxy(target, options.runtime ?? systemRuntime);
    proxy.#server.listen(options.port ?? 0, "127.0.0.1");
    await once(proxy.#server, "listening");
    return proxy;
  }

  private constructor(target: Target, runtime: Runtime) {
    this.target = target;
    this.#runtime = runtime;
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => this.#take(client));
  }

  get port(): number {
    return (this.#server.address() as { port: number }).port;
  }

  get connections(): number {
    return this.#links.size;
  }

  /** From now on these faults, and no others, in this direction. */
  set(direction: Direction, faults: Faults): void {
    this.#faults[direction] = faults;
    for (const link of this.#links) link.pipes[direction].look();
  }

  /** Both directions work as they should again. */
  heal(): void {
    this.set("up", {});
    this.set("down", {});
  }

  /** Ends every connection at both ends as a crash does: with a reset. */
  reset(): void {
    for (const link of this.#links) link.reset();
  }

  /** Says the end of the stream in this direction, on every connection; the other goes on. */
  halfClose(direction: Direction): void {
    for (const link of this.#links) link.pipes[direction].end();
  }

  /** Takes no more connections and resets those there are. */
  async close(): Promise<void> {
    if (!this.#server.listening) return;
    const closed = once(this.#server, "close");
    this.#server.close();
    this.reset();
    await closed;
  }

  #take(client: Socket): void {
    this.taken++;
    const server = connect({ ...this.target, allowHalfOpen: true, noDelay: true });
    const link = new Link(client, server, this.#runtime, this.#faults, () => this.#links.delete(link));
    this.#links.add(link);
    let answered = false;
    server.once("connect", () => {
      answered = true;
    });
    server.once("error", (error: NodeJS.ErrnoException) => {
      if (answered) return;
      const message = `proxy: nothing answers at ${this.target.host}:${this.target.port} (${error.code})`;
      this.failures.push(message);
      this.onFailure(message);
    });
  }
}

/** One connection: a socket to either side, and a line of pieces each way. */
class Link {
  readonly pipes: Record<Direction, Pipe>;
  readonly #sockets: readonly Socket[];

  constructor(
    client: Socket,
    server: Socket,
    runtime: Runtime,
    faults: Readonly<Record<Direction, Faults>>,
    gone: () => void,
  ) {
    this.#sockets = [client, server];
    const over = (): void => this.#sockets.forEach((socket) => socket.destroySoon());
    this.pipes = {
      up: new Pipe(client, server, runtime, () => faults.up, over),
      down: new Pipe(server, client, runtime, () => faults.down, over),
    };
    let open = this.#sockets.length;
    for (const socket of this.#sockets) {
      // A network tells one end that the other was reset.
      socket.on("error", () => this.reset());
      socket.on("close", () => {
        if (--open === 0) gone();
        // Where one end is gone for good there is nobody to hear the other.
        else if (!socket.readableEnded) this.reset();
      });
    }
  }

  reset(): void {
    for (const pipe of [this.pipes.up, this.pipes.down]) pipe.stop();
    for (const socket of this.#sockets) {
      // One that has said its end can not be reset as well: Node would never tell that it is closed.
      if (socket.writableEnded) socket.destroy();
      else socket.resetAndDestroy();
    }
  }
}

interface Piece {
  /** The end of the stream, when there are none. */
  readonly bytes: Buffer | undefined;
  readonly dueAt: number;
}

/** One direction of one connection. */
class Pipe {
  readonly #from: Socket;
  readonly #to: Socket;
  readonly #runtime: Runtime;
  readonly #faults: () => Faults;
  readonly #over: () => void;
  readonly #line: Piece[] = [];
  #held = 0;
  /** Bytes that have come, and that were let through. */
  #came = 0;
  #sent = 0;
  /** When the last piece was, or will be, sent: none overtakes. */
  #lastDueAt = 0;
  #timer: Timer | undefined;
  #ended = false;

  constructor(from: Socket, to: Socket, runtime: Runtime, faults: () => Faults, over: () => void) {
    this.#from = from;
    this.#to = to;
    this.#runtime = runtime;
    this.#faults = faults;
    this.#over = over;
    from.on("data", (chunk) => this.#come(chunk));
    from.on("end", () => this.#add(undefined, 0));
  }

  /** The end of the stream, now: behind what has left, before what is held. */
  end(): void {
    if (this.#ended) return;
    this.stop();
    this.#to.end();
  }

  /** Nothing more is let through. */
  stop(): void {
    this.#ended = true;
    this.#timer?.cancel();
    this.#line.length = 0;
  }

  /** The faults have changed. */
  look(): void {
    this.#next();
  }

  #come(chunk: Buffer): void {
    const { sliceBytes = Infinity } = this.#faults();
    if (this.#ended) return;
    this.#spoil(chunk);
    for (let at = 0; at < chunk.length; at += sliceBytes) {
      const piece = chunk.subarray(at, Math.min(at + sliceBytes, chunk.length));
      this.#add(piece, piece.length);
    }
    if (this.#held > heldBytes) this.#from.pause();
  }

  /** Flips a bit of every so many bytes of the stream. */
  #spoil(chunk: Buffer): void {
    const { corruptBytes = Infinity } = this.#faults();
    for (let at = 0; at < chunk.length; at++) {
      if (++this.#came % corruptBytes === 0) chunk[at] = (chunk[at] as number) ^ (1 << (this.#came % 8));
    }
  }

  #add(bytes: Buffer | undefined, length: number): void {
    const { latencyMs = 0, jitterMs = 0, bytesPerSecond = Infinity } = this.#faults();
    const delayMs = Math.max(0, latencyMs + (2 * this.#runtime.random() - 1) * jitterMs);
    const dueAt = Math.max(this.#runtime.now() + delayMs, this.#lastDueAt + (1_000 * length) / bytesPerSecond);
    this.#lastDueAt = dueAt;
    this.#line.push({ bytes, dueAt });
    this.#held += length;
    this.#next();
  }

  /** Sends what is due, and waits for the next. */
  #next(): void {
    this.#timer?.cancel();
    for (;;) {
      const [piece] = this.#line;
      if (piece === undefined || this.#ended || this.#faults().blackHole === true) return;
      const waitMs = piece.dueAt - this.#runtime.now();
      if (waitMs > 0) {
        this.#timer = this.#runtime.setTimer(() => this.#next(), waitMs);
        return;
      }
      this.#line.shift();
      this.#send(piece.bytes);
    }
  }

  #send(bytes: Buffer | undefined): void {
    if (bytes === undefined) return this.end();
    const { limitBytes = Infinity } = this.#faults();
    this.#held -= bytes.length;
    if (this.#held <= heldBytes) this.#from.resume();
    const room = limitBytes - this.#sent;
    this.#sent += bytes.length;
    this.#to.write(bytes.subarray(0, Math.max(0, room)));
    if (this.#sent < limitBytes) return;
    this.stop();
    this.#over();
  }
}

const flags = {
  port: { type: "string", default: "0" },
  target: { type: "string" },
  "latency-ms": { type: "string" },
  "jitter-ms": { type: "string" },
  "bytes-per-second": { type: "string" },
  "slice-bytes": { type: "string" },
  "limit-bytes": { type: "string" },
  "corrupt-bytes": { type: "string" },
} as const;

async function main(args: string[]): Promise<void> {
  const { values } = parseArgs({ args, options: flags });
  const [, host, port] = /^(.+):(\d{1,5})$/.exec(values.target ?? "") ?? [];
  if (host === undefined) throw new Error("proxy: --target HOST:PORT is needed: where what comes is sent to");
  const numbers = Object.entries(values).filter(([name]) => name !== "target");
  for (const [name, value] of numbers) {
    const least = name === "slice-bytes" || name === "bytes-per-second" ? 1 : 0; // With 0 nothing would ever come.
    if (!(Number(value) >= least)) throw new Error(`proxy: --${name} takes a number from ${least} on, not "${value}"`);
  }
  const target = { host, port: Number(port) };
  await answers(target);
  const proxy = await Proxy.listen(target, { port: Number(values.port) });
  const asGiven = numbers.filter(([name]) => name !== "port").map(([name, value]) => [camel(name), Number(value)]);
  const faults = Object.fromEntries(asGiven) as Faults;
  proxy.set("up", faults);
  proxy.set("down", faults);
  proxy.onFailure = (message) => {
    process.stderr.write(`${message}\n`);
    process.exit(1);
  };
  process.stdout.write(`proxy: 127.0.0.1:${proxy.port} to ${host}:${port}\n`);
}

/** @throws when nothing answers there. */
async function answers(target: Target): Promise<void> {
  const socket = connect(target);
  try {
    await once(socket, "connect");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new Error(`proxy: nothing answers at ${target.host}:${target.port} (${code}). Start the server first.`);
  } finally {
    socket.destroy();
  }
}

function camel(flag: string): string {
  return flag.replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase());
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  main(process.argv.slice(2)).catch((error: Error) => {
    process.stderr.write(`${error.message}\n`);
    process.exitCode = 1;
  });
}
