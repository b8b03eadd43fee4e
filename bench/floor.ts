/**
 * The floor: as little client as can speak Fanta over one socket.
 *
 * What a person would write by hand who wants only speed: requests of a turn go out in one write, who waits is in an
 * array, answers are cut out of the chunks they came in. There are no deadlines, no checks, no cancelling, no closing
 * in order, and a lost connection leaves its callers waiting. So the difference between this and `FantaTCP` is the
 * price of all that, and nothing else.
 */
import { connect, type Socket } from "node:net";

type Resolve = (text: string) => void;

export class Floor {
  static connect(host: string, port: number): Promise<Floor> {
    return new Promise((resolve, reject) => {
      const socket = connect({ host, port, noDelay: true }, () => resolve(new Floor(socket)));
      socket.once("error", reject);
    });
  }

  readonly #socket: Socket;
  readonly #waiting: (Resolve | undefined)[] = [];
  readonly #free: number[] = [];
  #out: Buffer = Buffer.allocUnsafeSlow(65_536);
  #used = 0;
  #rest: Buffer | undefined;
  readonly #flush = (): void => {
    const bytes = this.#out.subarray(0, this.#used);
    this.#used = 0;
    const spare = this.#out;
    this.#out = Buffer.allocUnsafeSlow(0);
    this.#socket.write(bytes, () => {
      // Written: the buffer is ours again, unless a larger one has taken its place.
      if (this.#used === 0 && this.#out.length < spare.length) this.#out = spare;
    });
  };

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("data", (chunk: Buffer) => this.#read(chunk));
  }

  request(text: string): Promise<string> {
    return new Promise((resolve) => this.#send(text, resolve));
  }

  close(): void {
    this.#socket.destroy();
  }

  #send(text: string, resolve: Resolve): void {
    const slot = this.#free.pop() ?? this.#waiting.length;
    this.#waiting[slot] = resolve;
    const id = slot + 1;
    let at = this.#used;
    if (at === 0) setImmediate(this.#flush);
    const needed = at + 9 + text.length * 3;
    if (needed > this.#out.length) this.#grow(needed);
    const out = this.#out;
    const length = out.write(text, at + 9, "utf8") + 5;
    out[at++] = length >>> 24;
    out[at++] = length >>> 16;
    out[at++] = length >>> 8;
    out[at++] = length;
    out[at++] = id >>> 24;
    out[at++] = id >>> 16;
    out[at++] = id >>> 8;
    out[at++] = id;
    out[at++] = 0;
    this.#used = at + length - 5;
  }

  #grow(needed: number): void {
    const larger = Buffer.allocUnsafeSlow(Math.max(65_536, 2 ** Math.ceil(Math.log2(needed))));
    this.#out.copy(larger, 0, 0, this.#used);
    this.#out = larger;
  }

  #read(chunk: Buffer): void {
    const bytes = this.#rest === undefined ? chunk : Buffer.concat([this.#rest, chunk]);
    const end = bytes.length;
    let at = 0;
    while (end - at >= 9) {
      const length =
        ((bytes[at] as number) << 24) |
        ((bytes[at + 1] as number) << 16) |
        ((bytes[at + 2] as number) << 8) |
        (bytes[at + 3] as number);
      const next = at + 4 + length;
      if (next > end) break;
      const slot =
        (((bytes[at + 4] as number) << 24) |
          ((bytes[at + 5] as number) << 16) |
          ((bytes[at + 6] as number) << 8) |
          (bytes[at + 7] as number)) -
        1;
      const resolve = this.#waiting[slot] as Resolve;
      this.#waiting[slot] = undefined;
      this.#free.push(slot);
      resolve(bytes.toString("utf8", at + 9, next));
      at = next;
    }
    this.#rest = at === end ? undefined : bytes.subarray(at);
  }
}
