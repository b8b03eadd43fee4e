/**
 * A network in memory, on virtual time: sockets as Node's streams have them, and between each two of them a line for
 * either way that does to bytes what networks do.
 *
 * A line hands over what was written in pieces of its own making: cut anywhere, several writes in one, after a while.
 * It can lose all that comes (a black hole), change a byte, hold what is written so that the writer feels it, and break.
 * What is held is not copied before the writer is told that it is written: one that has used its buffer again by then has
 * written something else. And a server that is not in its right mind says something twice.
 */

import { EventEmitter } from "node:events";
import type { Server, Socket } from "node:net";
import { Duplex } from "node:stream";
import type { Network } from "../../../src/multiplex/index.ts";
import type { World } from "../harness/world.ts";

export const networkFaults = {
  "bytes are cut": 0.2,
  "bytes are late": 0.15,
  "a write is slow": 0.05,
  "a byte is changed": 0.003,
  "a line becomes a black hole": 0.003,
  "a line breaks": 0.006,
  "one side of a line ends": 0.006,
  "a connection is refused": 0.08,
  "a connection is slow": 0.15,
  "a connection never comes": 0.03,
  "a connection is broken when it has come": 0.04,
  "accepting fails": 0.02,
  "a server repeats itself": 0.03,
} as const;

/** Both ends, and both ways between them. */
export class Cable {
  readonly port: number;
  readonly near: Plug;
  readonly far: Plug;
  /** A byte of it has been changed: nobody knows what it carries. */
  spoilt = false;
  /** Something that the server has said has come again. */
  repeated = false;

  constructor(world: World, nr: number, port: number) {
    this.port = port;
    this.near = new Plug(port);
    this.far = new Plug(nr);
    this.near.out = new Line(world, this, this.near, this.far);
    this.far.out = new Line(world, this, this.far, this.near);
  }

  get whole(): boolean {
    return !this.near.destroyed && !this.far.destroyed;
  }

  /** All that is said on it arrives, as it was said. */
  get sound(): boolean {
    return this.whole && !this.spoilt && this.near.out.carries && this.far.out.carries;
  }

  get gone(): boolean {
    return this.near.destroyed && this.far.destroyed;
  }

  /** Both ends hear that it has broken. */
  break(): void {
    this.near.destroy(reset());
    this.far.destroy(reset());
  }
}

/** One end of a cable: as much of a socket as we use. */
export class Plug extends Duplex {
  readonly remoteAddress = "memory";
  readonly remotePort: number;
  out!: Line;

  constructor(remotePort: number) {
    super({ allowHalfOpen: true });
    this.remotePort = remotePort;
  }

  ref(): this {
    return this;
  }

  unref(): this {
    return this;
  }

  destroySoon(): void {
    if (this.writable) this.end();
    if (this.writableFinished) this.destroy();
    else this.once("finish", () => this.destroy());
  }

  override _read(): void {
    // What comes is pushed.
  }

  override _write(chunk: Buffer, _: string, written: (error?: Error) => void): void {
    this.out.send(chunk, written);
  }

  override _final(done: () => void): void {
    this.out.end();
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.out.abandon(error !== null);
    done(error);
  }
}

/** One way of a cable. */
class Line {
  readonly #world: World;
  readonly #cable: Cable;
  readonly #from: Plug;
  readonly #to: Plug;
  #queue: Buffer = Buffer.alloc(0);
  #ends = false;
  #hole = false;
  #under = false;

  constructor(world: World, cable: Cable, from: Plug, to: Plug) {
    this.#world = world;
    this.#cable = cable;
    this.#from = from;
    this.#to = to;
  }

  get carries(): boolean {
    return !this.#hole && !this.#ends;
  }

  send(chunk: Buffer, written: (error?: Error) => void): void {
    const world = this.#world;
    let change: (bytes: Buffer) => void = () => undefined;
    const fault = world.strike(
      ...["a byte is changed", "a line becomes a black hole", "a line breaks", "one side of a line ends"],
    );
    if (fault === "a byte is changed") {
      this.#cable.spoilt = true;
      const at = world.chance.below(chunk.length);
      const bit = 1 << world.chance.below(8);
      change = (bytes) => {
        bytes[at] = (bytes[at] as number) ^ bit;
      };
    } else if (fault === "a line becomes a black hole") this.#hole = true;
    else if (fault === "a line breaks") {
      this.#later(() => this.#cable.break(), world.chance.below(3));
    } else if (fault === "one side of a line ends") this.#to.out.end();
    const take = (): void => {
      const bytes = Buffer.from(chunk); // Not before now.
      change(bytes);
      this.#take(bytes);
      written();
    };
    if (world.strikes("a write is slow")) this.#later(take, world.chance.between(1, 100));
    else take();
  }

  /** No more is said on this way. */
  end(): void {
    this.#ends = true;
    this.#carry();
  }

  /** The sender is gone. What it has said still comes, unless it was broken off. */
  abandon(broken: boolean): void {
    if (broken && !this.#hole) {
      this.#queue = Buffer.alloc(0);
      this.#later(() => this.#to.destroy(reset()), 1);
    } else this.end();
  }

  #take(bytes: Buffer): void {
    const world = this.#world;
    // A peer that is gone answers with a reset.
    if (this.#to.destroyed) this.#later(() => this.#from.destroy(reset()), 1);
    else if (!this.#hole && !this.#from.destroyed) this.#put(bytes);
    // A write is made of whole frames, so what is said again is, too.
    if (this.#from === this.#cable.far && world.strikes("a server repeats itself")) {
      this.#later(() => this.#repeat(bytes), world.chance.between(1, 60));
    }
  }

  #repeat(bytes: Buffer): void {
    if (this.#hole || this.#ends || !this.#cable.whole) return;
    this.#cable.repeated = true;
    this.#put(bytes);
  }

  #put(bytes: Buffer): void {
    this.#queue = Buffer.concat([this.#queue, bytes]);
    this.#carry();
  }

  #carry(): void {
    if (this.#under || this.#hole) return;
    this.#under = true;
    const world = this.#world;
    this.#later(() => this.#arrive(), world.strikes("bytes are late") ? world.chance.between(1, 200) : 0);
  }

  #arrive(): void {
    this.#under = false;
    const world = this.#world;
    if (this.#to.destroyed || this.#hole) return;
    const cut = this.#queue.length > 1 && world.strikes("bytes are cut");
    const end = cut ? world.chance.between(1, this.#queue.length - 1) : this.#queue.length;
    const piece = this.#queue.subarray(0, end);
    this.#queue = this.#queue.subarray(end);
    if (piece.length > 0 && !this.#to.readableEnded) this.#to.push(piece);
    if (this.#queue.length > 0) this.#carry();
    else if (this.#ends) this.#hangUp();
  }

  #hangUp(): void {
    this.#hole = true; // Nothing may come after the end.
    this.#to.push(null);
  }

  #later(act: () => void, ms: number): void {
    this.#world.runtime.setTimer(act, ms);
  }
}

/** As much of a server as we use. */
class Door extends EventEmitter {
  port = 0;
  readonly #among: Map<number, Door>;

  constructor(among: Map<number, Door>) {
    super();
    this.#among = among;
  }

  listen({ port }: { readonly port: number }, listening: () => void): void {
    queueMicrotask(() => {
      if (this.#among.has(port)) {
        this.emit("error", Object.assign(new Error("the port is taken"), { code: "EADDRINUSE" }));
        return;
      }
      this.port = port;
      this.#among.set(port, this);
      listening();
    });
  }

  address(): { readonly port: number } {
    return { port: this.port };
  }

  close(): void {
    if (this.#among.get(this.port) === this) this.#among.delete(this.port);
  }
}

export class MemoryNetwork implements Network {
  /** Those with an end that is there. */
  readonly cables: Cable[] = [];
  readonly #world: World;
  readonly #doors = new Map<number, Door>();
  #made = 0;

  constructor(world: World) {
    this.#world = world;
  }

  /** That of this number: the port that a server sees at its end. */
  cable(nr: number): Cable | undefined {
    return this.cables.find(({ far }) => far.remotePort === nr);
  }

  connect({ port }: { readonly port: number }): Socket {
    const world = this.#world;
    const cable = new Cable(world, ++this.#made, port);
    this.cables.push(cable);
    cable.far.on("error", unheard); // Until a server has it, who must listen.
    const fault = world.strike("a connection is refused", "a connection is slow", "a connection never comes");
    if (fault !== "a connection never comes") {
      const ms = fault === "a connection is slow" ? world.chance.between(1, 150) : 1;
      world.runtime.setTimer(() => this.#arrive(cable, fault === "a connection is refused"), ms);
    }
    return cable.near as unknown as Socket;
  }

  createServer(): Server {
    return new Door(this.#doors) as unknown as Server;
  }

  /** Forgets those of which nothing is left. */
  tidy(): void {
    for (let at = this.cables.length - 1; at >= 0; at--) if (this.cables[at]?.gone) this.cables.splice(at, 1);
  }

  #arrive(cable: Cable, refused: boolean): void {
    const { near, far } = cable;
    const world = this.#world;
    if (near.destroyed) {
      far.destroy();
      return;
    }
    const door = this.#doors.get(cable.port);
    const fails = door !== undefined && world.strikes("accepting fails");
    if (fails) door.emit("error", Object.assign(new Error("no file descriptors"), { code: "EMFILE" }));
    if (refused || fails || door === undefined) {
      far.destroy();
      near.destroy(Object.assign(new Error("refused"), { code: "ECONNREFUSED" }));
      return;
    }
    door.emit("connection", far);
    far.off("error", unheard);
    near.emit("connect");
    if (world.strikes("a connection is broken when it has come")) cable.break();
  }
}

function unheard(): void {
  // Nobody has the socket.
}

function reset(): Error {
  return Object.assign(new Error("reset by peer"), { code: "ECONNRESET" });
}
