/**
 * One socket that many requests share: its way out, its way in, and its end.
 *
 * The user of a channel says what a frame is and what to do with one; the channel makes sure of the rest: that bytes
 * leave once a turn, that frames come whole and in order, and that the end is told once and in this order:
 *
 *     ended   the other side has nothing more to say. We may.
 *     failed  the socket broke, or `take` threw. At most once; the channel is destroyed by then.
 *     closed  nothing of the socket is left. Always, once, last.
 *
 * After `finish` or `destroy` no frame is handed on. Socket events that come late are nobody's business.
 */

import { AsyncLocalStorage } from "node:async_hooks";
import type { Socket } from "node:net";
import { asError } from "../errors.ts";
import { type Frames, Reader } from "./reader.ts";
import type { Wire } from "./wire.ts";
import { Writer } from "./writer.ts";

export interface ChannelUser extends Frames {
  ended(): void;
  failed(error: Error): void;
  closed(): void;
  /** All that was written has left. */
  drained(): void;
}

export class Channel {
  readonly socket: Socket;
  readonly writer: Writer;
  /** Chunks that have come. It changes with every sign of life, be it a part of a frame only. */
  chunks = 0;
  readonly #user: ChannelUser;
  readonly #reader: Reader;
  #reading = true;

  constructor(wire: Wire, user: ChannelUser) {
    this.socket = wire.socket;
    this.writer = new Writer(this.socket, () => user.drained());
    this.#user = user;
    this.#reader = new Reader(user);
    // A failed write tells its error in the context it was written in. The owner hears all in its own.
    const inContext = AsyncLocalStorage.snapshot();
    this.socket.on("end", () => {
      if (this.#reading) inContext(() => user.ended());
    });
    this.socket.on("error", (error) => inContext(() => this.#fail(error)));
    this.socket.on("close", () => inContext(() => this.#closed()));
    wire.receive((chunk, end) => this.#read(chunk, end));
  }

  /** Stops reading; to be called when `stopped` has become true. The other side feels it when its buffers are full. */
  pause(): void {
    this.socket.pause();
  }

  /** Goes on reading where it was stopped. */
  resume(): void {
    this.#read(undefined, 0);
    if (this.#reading && !this.#user.stopped) this.socket.resume();
  }

  /** Sends what is to be sent, then ends and closes the socket. Waits as long as the other side lets it. */
  finish(): void {
    this.#reading = false;
    this.writer.finish(() => this.socket.destroySoon());
    this.socket.resume(); // Bytes nobody wants must not keep the end of the stream from being seen.
  }

  /** Closes the socket at once. What has not left never will. */
  destroy(): void {
    this.#reading = false;
    this.writer.stop();
    this.socket.destroy();
  }

  /** @param chunk `undefined` to go on with what was kept. */
  #read(chunk: Buffer | undefined, end: number): void {
    if (!this.#reading) return;
    try {
      if (chunk === undefined) this.#reader.resume();
      else {
        this.chunks++;
        this.#reader.push(chunk, end);
      }
    } catch (thrown) {
      this.#fail(asError(thrown));
    }
  }

  #fail(error: Error): void {
    const first = this.#reading;
    this.destroy();
    if (first) this.#user.failed(error);
  }

  #closed(): void {
    this.#reading = false;
    this.writer.stop();
    this.#user.closed();
  }
}
