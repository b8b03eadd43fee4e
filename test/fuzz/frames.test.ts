/**
 * A million frames through the reader and the codec, as a connection has them: cut and merged anywhere, some streams
 * spoilt, the reading stopped and resumed in between.
 *
 * What must come out is read from the same bytes by hand (`meaning`). So a frame that is lost, doubled, changed or made
 * up is found, and so is an error that comes for good bytes, or does not come for bad ones.
 */

import { expect, test } from "vitest";
import { FantaError } from "../../src/errors.ts";
import * as codec from "../../src/fanta/codec.ts";
import { type Frames, Reader } from "../../src/multiplex/reader.ts";
import { meaning } from "../fanta/frames.ts";
import { anyFrame, bytesOf, cutter, Dice, maxFrameBytes, spoilt } from "./stream.ts";

/** One stream's reading, compared with its meaning as it goes. */
class Reading implements Frames, codec.FrameSink {
  readonly #bytes: Buffer;
  readonly #starts: readonly number[];
  readonly #dice: Dice;
  readonly #mayStop: boolean;
  readonly #reader = new Reader(this);
  #seen = 0;
  stopped = false;
  stops = 0;
  pieces = 0;

  constructor(bytes: Buffer, starts: readonly number[], dice: Dice) {
    this.#bytes = bytes;
    this.#starts = starts;
    this.#dice = dice;
    this.#mayStop = dice.below(3) === 0;
  }

  take(bytes: Buffer, start: number, end: number): number {
    return codec.readFrames(bytes, start, end, maxFrameBytes, this);
  }

  needs(bytes: Buffer, start: number, end: number): number {
    return codec.frameNeeds(bytes, start, end);
  }

  frame(id: number, kind: codec.Kind, bytes: Buffer, start: number, end: number): boolean {
    const from = this.#starts[this.#seen++];
    if (from === undefined) throw new Error("a frame came that is not in the stream");
    const whole = this.#bytes.readUInt32BE(from) + 4;
    const same =
      id >>> 0 === this.#bytes.readUInt32BE(from + 4) &&
      kind === this.#bytes[from + 8] &&
      end - start === whole - 9 &&
      bytes.compare(this.#bytes, from + 9, from + whole, start, end) === 0;
    if (!same) throw new Error(`frame ${this.#seen - 1} of the stream came out as another`);
    if (this.#mayStop && this.#dice.below(40) === 0) {
      this.stopped = true;
      this.stops++;
    }
    return !this.stopped;
  }

  /** @returns the words of the protocol error that ended it, if one did. */
  run(): string | undefined {
    // One buffer for all chunks, as a socket has it: what is kept of a chunk must have been copied.
    const chunk = Buffer.allocUnsafe(65_536);
    const size = cutter(this.#dice);
    try {
      for (let at = 0; at < this.#bytes.length; ) {
        const length = Math.min(size(), this.#bytes.length - at);
        this.#bytes.copy(chunk, 0, at, at + length);
        at += length;
        this.pieces++;
        this.#reader.push(chunk, length);
        chunk.fill(0xee, 0, length);
        if (this.stopped && this.#dice.below(2) === 0) this.#resume();
        if (!this.stopped && this.#reader.keptBytes > maxFrameBytes + 4) throw new Error("more is kept than one frame");
      }
      while (this.stopped) this.#resume();
      return undefined;
    } catch (thrown) {
      if (!(thrown instanceof FantaError) || thrown.code !== "ERR_FANTA_PROTOCOL") throw thrown;
      return thrown.message;
    }
  }

  #resume(): void {
    this.stopped = false;
    this.#reader.resume();
  }

  get seen(): number {
    return this.#seen;
  }

  get keptBytes(): number {
    return this.#reader.keptBytes;
  }
}

test("a million frames come out as they went in, however they are cut, and what is none ends in the protocol error", {
  timeout: 120_000,
}, () => {
  const streams = 1_400;
  const framesEach = 500;
  const count = { frames: 0, pieces: 0, stops: 0, refused: 0, unfinished: 0, otherwise: 0 };
  const read = (bytes: Buffer, seed: number): string | undefined => {
    const { starts, end, failure } = meaning(bytes, maxFrameBytes);
    const reading = new Reading(bytes, starts, new Dice(seed));
    try {
      const refused = reading.run();
      expect(reading.seen).toBe(starts.length);
      if (failure === undefined) expect([refused, reading.keptBytes]).toEqual([undefined, bytes.length - end]);
      else expect(refused).toContain(failure);
    } catch (error) {
      throw new Error(`seed ${seed}`, { cause: error });
    }
    count.frames += reading.seen;
    count.pieces += reading.pieces;
    count.stops += reading.stops;
    return failure;
  };
  for (let seed = 1; seed <= streams; seed++) {
    const dice = new Dice(seed);
    const bytes = Buffer.concat(Array.from({ length: framesEach }, () => bytesOf(anyFrame(dice))));
    expect(read(bytes, seed)).toBeUndefined();
    const bad = spoilt(dice, bytes);
    if (read(bad, seed) !== undefined) count.refused++;
    else if (meaning(bad, maxFrameBytes).end < bad.length) count.unfinished++;
    else count.otherwise++;
  }
  const { frames, pieces, stops, refused, unfinished, otherwise } = count;
  console.log(
    `fuzz: ${frames} frames in ${pieces} pieces, stopped ${stops} times; ` +
      `${streams} spoilt streams: ${refused} refused, ${unfinished} left waiting for the rest of a frame, ${otherwise} read otherwise`,
  );
  expect(frames).toBeGreaterThan(1_000_000);
  expect([refused, unfinished, otherwise].every((each) => each > 0)).toBe(true);
});
