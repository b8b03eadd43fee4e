/**
 * The reader, with the simplest frames there are: two bytes that say how many follow.
 *
 * The chunks are lent, so each is overwritten as soon as the reader has had it, as a socket would do.
 */

import fc from "fast-check";
import { afterEach, describe, expect, test, vi } from "vitest";
import { type Frames, Reader } from "../../src/multiplex/reader.ts";

/** Collects frames, and stops when it is told to. */
class Collector implements Frames {
  readonly frames: string[] = [];
  stopped = false;
  /** Stop after this many more; then it must be set again. */
  stopAfter = Infinity;
  takes = 0;

  take(bytes: Buffer, start: number, end: number): number {
    this.takes++;
    if (this.stopped) throw new Error("asked to take while stopped");
    let at = start;
    while (end - at >= 2) {
      const next = at + 2 + bytes.readUInt16BE(at);
      if (next > end) break;
      this.frames.push(bytes.toString("latin1", at + 2, next));
      at = next;
      if (--this.stopAfter <= 0) {
        this.stopped = true;
        break;
      }
    }
    return at;
  }

  needs(bytes: Buffer, start: number, end: number): number {
    return end - start < 2 ? 2 : 2 + bytes.readUInt16BE(start);
  }
}

function encoded(frames: readonly string[]): Buffer {
  return Buffer.concat(
    frames.map((frame) => Buffer.concat([Buffer.of(frame.length >> 8, frame.length & 0xff), Buffer.from(frame)])),
  );
}

/** How many of the frames are whole in the first `bytes` bytes, and how many bytes lie behind them. */
function wholeIn(frames: readonly string[], bytes: number): { whole: number; rest: number } {
  let at = 0;
  let whole = 0;
  for (const frame of frames) {
    if (at + 2 + frame.length > bytes) break;
    at += 2 + frame.length;
    whole++;
  }
  return { whole, rest: bytes - at };
}

/** Hands over one chunk, longer than what is in it, and scribbles over it. */
function lend(reader: Reader, bytes: Buffer): void {
  const chunk = Buffer.alloc(bytes.length + 3, 0xee);
  bytes.copy(chunk);
  reader.push(chunk, bytes.length);
  chunk.fill(0xdd);
}

const ascii = fc.integer({ min: 0x20, max: 0x7e }).map((code) => String.fromCharCode(code));
const frame = fc.oneof(
  { weight: 6, arbitrary: fc.string({ unit: ascii, maxLength: 12 }) },
  { weight: 1, arbitrary: fc.string({ unit: ascii, minLength: 900, maxLength: 5_000 }) },
);
const stream = fc.record({
  frames: fc.array(frame, { maxLength: 20 }),
  sizes: fc.array(fc.oneof(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 3_000 })), { minLength: 1 }),
});

/** The bytes, cut into pieces of these sizes over and over. */
function* cut(bytes: Buffer, sizes: readonly number[]): Generator<Buffer> {
  for (let at = 0, n = 0; at < bytes.length; n++) {
    const size = sizes[n % sizes.length] as number;
    yield bytes.subarray(at, at + size);
    at += size;
  }
}

afterEach(() => {
  vi.restoreAllMocks();
});

describe("a reader", () => {
  test("hands on the same frames however the stream is cut, each as soon as its last byte has come", () => {
    fc.assert(
      fc.property(stream, ({ frames, sizes }) => {
        const collector = new Collector();
        const reader = new Reader(collector);
        let came = 0;
        for (const piece of cut(encoded(frames), sizes)) {
          lend(reader, piece);
          came += piece.length;
          const { whole, rest } = wholeIn(frames, came);
          expect(collector.frames).toEqual(frames.slice(0, whole));
          expect(reader.keptBytes).toBe(rest);
        }
        expect(collector.frames).toEqual(frames);
        expect(reader.keptBytes).toBe(0);
      }),
      { numRuns: 300 },
    );
  });

  test("hands on the same frames wherever it is stopped and whenever it goes on, and none while it is stopped", () => {
    const plan = fc.array(
      fc.record({ after: fc.integer({ min: 1, max: 4 }), pieces: fc.nat(3), resumed: fc.boolean() }),
      {
        minLength: 1,
        maxLength: 10,
      },
    );
    fc.assert(
      fc.property(stream, plan, ({ frames, sizes }, stops) => {
        const collector = new Collector();
        const reader = new Reader(collector);
        let at = 0;
        let missed = 0;
        const stop = (): (typeof stops)[number] => stops[at % stops.length] as (typeof stops)[number];
        const goOn = (resumed: boolean): void => {
          at++;
          missed = 0;
          collector.stopped = false;
          collector.stopAfter = stop().after;
          if (resumed) reader.resume(); // Else the next piece goes on.
        };
        collector.stopAfter = stop().after;
        let came = 0;
        for (const piece of cut(encoded(frames), sizes)) {
          const had = collector.frames.length;
          const wasStopped = collector.stopped;
          lend(reader, piece);
          came += piece.length;
          if (wasStopped) expect(collector.frames).toHaveLength(had);
          const handed = encoded(collector.frames).length;
          expect(reader.keptBytes).toBe(came - handed);
          if (collector.stopped && missed++ >= stop().pieces) goOn(stop().resumed);
        }
        goOn(true);
        while (collector.stopped) goOn(true);
        expect(collector.frames).toEqual(frames);
        expect(reader.keptBytes).toBe(0);
      }),
      { numRuns: 300 },
    );
  });

  test("does not ask for frames again before more of the broken one has come than it needs", () => {
    const collector = new Collector();
    const reader = new Reader(collector);
    const bytes = encoded(["x".repeat(1_000)]);
    for (const piece of cut(bytes, [1])) lend(reader, piece);
    // Once for the first byte, once for the header, once for the frame.
    expect(collector.takes).toBe(3);
    expect(collector.frames).toHaveLength(1);
  });

  test("lets what take throws through", () => {
    const reader = new Reader({
      stopped: false,
      needs: () => 1,
      take: () => {
        throw new Error("no frame");
      },
    });
    expect(() => reader.push(Buffer.from("x"), 1)).toThrow("no frame");
  });

  test("goes on with nothing when nothing was kept", () => {
    const collector = new Collector();
    new Reader(collector).resume();
    expect(collector.takes).toBe(0);
  });
});

describe("a frame of a gibibyte that is announced", () => {
  /** Four bytes of length, nothing ever whole. */
  const huge: Frames = {
    stopped: false,
    take: (_bytes, start) => start,
    needs: (bytes, start, end) => (end - start < 4 ? 4 : 4 + bytes.readUInt32BE(start)),
  };
  const announcement = Buffer.alloc(4);
  announcement.writeUInt32BE(2 ** 30);

  test("costs nothing until its bytes come, and then at most four times what has come", () => {
    const reader = new Reader(huge);
    const allocate = vi.spyOn(Buffer, "allocUnsafeSlow");
    reader.push(announcement, 4);
    let came = 4;
    const most = (): number => Math.max(...allocate.mock.calls.map(([size]) => size));
    expect(most()).toBeLessThanOrEqual(1_024);
    const piece = Buffer.alloc(65_536);
    for (let n = 0; n < 64; n++) {
      reader.push(piece, piece.length);
      came += piece.length;
      expect(most()).toBeLessThanOrEqual(4 * came);
    }
    expect(reader.keptBytes).toBe(came);
  });

  test("in a thousand pieces is copied about once, not a thousand times", () => {
    const collector = new Collector();
    const reader = new Reader(collector);
    const frames = ["y".repeat(65_000)];
    const copy = vi.spyOn(Buffer.prototype, "copy");
    const bytes = encoded(frames);
    for (const piece of cut(bytes, [65])) reader.push(piece, piece.length);
    const copied = copy.mock.results.reduce((sum, { value }) => sum + (value as number), 0);
    expect(collector.frames).toEqual(frames);
    expect(copied).toBeGreaterThanOrEqual(bytes.length);
    expect(copied).toBeLessThan(1.5 * bytes.length);
  });
});
