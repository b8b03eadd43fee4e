/**
 * The way out: whatever is asked in one turn of the event loop leaves in one write.
 *
 * A write costs a system call, some ten microseconds with what Node does around it; a small request is worth half of
 * one. So a request only puts its bytes behind those of the others, and when the turn is over (runtime/turn.ts: after
 * the callbacks of all sockets that had something to read) they go out together. It is measured to be worth a factor of
 * five, and the same in a microtask or in `process.nextTick` is worth only half as much: they come after each callback.
 *
 * One write is under way at a time. What is asked meanwhile waits here and not in the socket, for two reasons: it
 * goes out as one piece when the socket has room again, and when the socket dies we know that it never left. That is
 * what `handed` is for: a request whose `batch` is above it was certainly not sent.
 *
 * Bytes are put straight into a buffer that belongs to the writer until it is written, and to all writers afterwards:
 * an idle connection holds none. There is no limit here: what waits is bounded by what its users let be in flight.
 */

import type { Socket } from "node:net";
import { atEndOfTurn } from "../runtime/index.ts";

/** The size of a buffer that is used again. More than one turn of small requests makes, and one write of the kernel's liking. */
const bufferBytes = 65_536;
/** How many buffers wait for their next use: 2 MiB, for all connections of the program. */
const sparesMax = 32;

const none = Buffer.alloc(0);
const spares: Buffer[] = [];

export class Writer {
  /** Where to write; from `used` on, after `reserve`. */
  bytes: Buffer = none;
  /** How many bytes of it are taken. Whoever has reserved and written sets it. */
  used = 0;
  /** The number of the batch that is being put together, from 1. */
  batch = 1;

  readonly #socket: Socket;
  readonly #drained: () => void;
  readonly #written: (error?: Error | null) => void;
  readonly #turnEnded = (): void => this.flush();
  /** Buffers filled before the current one, and how far the last of them is. Empty nearly always. */
  #full: Buffer[] = [];
  #fullUsed: number[] = [];
  #fullBytes = 0;
  #scheduled = false;
  /** Bytes given to the socket that it has not written yet; 0 means that it can take the next. */
  #under = 0;
  #underBuffers: Buffer[] = [];
  #handed = 0;
  #finish: (() => void) | undefined;
  #stopped = false;

  /** @param drained Called after a write when nothing is left to write. */
  constructor(socket: Socket, drained: () => void) {
    this.#socket = socket;
    this.#drained = drained;
    this.#written = (error) => this.#afterWrite(error);
  }

  /** The last batch that was handed to the socket. */
  get handed(): number {
    return this.#handed;
  }

  /** Bytes that have not left yet, those the socket has included. */
  get pendingBytes(): number {
    return this.#under + this.#fullBytes + this.used;
  }

  /**
   * Makes room for `count` bytes. Returns where they go in `bytes`; the caller writes them and moves `used`, before
   * anything else runs. Reserving more than is used costs nothing, using nothing is fine.
   */
  reserve(count: number): number {
    if (!this.#scheduled) this.#schedule();
    if (this.bytes.length - this.used < count) this.#next(count);
    return this.used;
  }

  /** Hands over what there is without waiting for the end of the turn, then calls back once all of it is written. */
  finish(done: () => void): void {
    this.#finish = done;
    this.flush();
  }

  /** The socket is gone: what has not left never will. */
  stop(): void {
    this.#stopped = true;
    this.#giveBack();
    this.#full = [];
    this.#fullUsed = [];
    this.#fullBytes = 0;
    this.#finish = undefined;
  }

  /** The turn is over. @internal */
  flush(): void {
    this.#scheduled = false;
    if (this.#stopped || this.#under > 0) return; // Still writing: #afterWrite comes back to the rest.
    if (this.pendingBytes === 0) {
      this.#giveBack();
      this.#finished();
      return;
    }
    this.#handed = this.batch++;
    this.#under = this.pendingBytes;
    if (this.#full.length === 0) this.#write();
    else this.#writeAll();
  }

  #schedule(): void {
    if (this.#stopped) return;
    this.#scheduled = true;
    atEndOfTurn(this.#turnEnded); // In nobody's context: a socket must not carry a caller's on to its events.
  }

  #next(count: number): void {
    if (this.used > 0) this.#setAside();
    else this.#giveBack();
    this.bytes =
      count > bufferBytes ? Buffer.allocUnsafeSlow(count) : (spares.pop() ?? Buffer.allocUnsafeSlow(bufferBytes));
  }

  #setAside(): void {
    this.#full.push(this.bytes);
    this.#fullUsed.push(this.used);
    this.#fullBytes += this.used;
    this.bytes = none;
    this.used = 0;
  }

  #write(): void {
    const bytes = this.bytes;
    const used = this.used;
    this.#underBuffers.push(bytes);
    this.bytes = none;
    this.used = 0;
    this.#socket.write(bytes.subarray(0, used), this.#written);
  }

  /** More than one buffer in a turn: corked, so that the kernel takes them in one call (writev). */
  #writeAll(): void {
    if (this.used > 0) this.#setAside();
    else this.#giveBack();
    const all = this.#full;
    const used = this.#fullUsed;
    this.#underBuffers = all;
    this.#full = [];
    this.#fullUsed = [];
    this.#fullBytes = 0;
    const last = all.length - 1;
    this.#socket.cork();
    for (let at = 0; at <= last; at++) {
      this.#socket.write((all[at] as Buffer).subarray(0, used[at]), at === last ? this.#written : undefined);
    }
    this.#socket.uncork();
  }

  #afterWrite(error: Error | null | undefined): void {
    this.#under = 0;
    if (error != null) {
      // Nobody knows whether the kernel still reads the buffers, so they are not used again. The socket tells its owner.
      this.#underBuffers = [];
      this.stop();
      return;
    }
    for (let buffer = this.#underBuffers.pop(); buffer !== undefined; buffer = this.#underBuffers.pop()) {
      recycle(buffer);
    }
    if (this.#stopped) return;
    if (this.pendingBytes === 0) {
      this.#finished();
      this.#drained();
    } else if (!this.#scheduled) this.flush(); // Scheduled: the turn of what is left is not over yet.
  }

  #finished(): void {
    const finish = this.#finish;
    this.#finish = undefined;
    finish?.();
  }

  /** A buffer that was reserved and not used, or will not be sent any more. */
  #giveBack(): void {
    recycle(this.bytes);
    this.bytes = none;
    this.used = 0;
  }
}

/** Only buffers of the one size are used again; the rare large ones are left to the collector. */
function recycle(buffer: Buffer): void {
  if (buffer.length === bufferBytes && spares.length < sparesMax) spares.push(buffer);
}
