/**
 * The codec, fuzzed: whatever bytes come and however they are cut, it gives the frames that a reader by hand finds, up
 * to the first that is none, and then a protocol error. What is put together by hand, it takes apart, and the reverse.
 */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { FantaError } from "../../src/errors.ts";
import * as codec from "../../src/fanta/codec.ts";
import { Reader } from "../../src/multiplex/reader.ts";
import { announced, type Frame, frame, meaning, parsed } from "./frames.ts";

/** What came of reading a stream. */
interface Verdict {
  readonly frames: readonly Frame[];
  readonly failure: string | undefined;
  readonly rest: number;
}

/** Reads a stream in pieces of these sizes, over and over, as a connection does. */
function reading(bytes: Buffer, sizes: readonly number[], maxFrameBytes: number): Verdict {
  const frames: Frame[] = [];
  const sink: codec.FrameSink = {
    frame: (id, kind, from, start, end) => {
      frames.push({ id: id >>> 0, kind, text: from.toString("utf8", start, end) });
      return true;
    },
  };
  const reader = new Reader({
    stopped: false,
    take: (from, start, end) => codec.readFrames(from, start, end, maxFrameBytes, sink),
    needs: codec.frameNeeds,
  });
  let at = 0;
  for (let n = 0; at < bytes.length; n++) {
    // A buffer of its own, longer than what is in it, and scribbled over afterwards: chunks are only lent.
    const piece = bytes.subarray(at, at + (sizes[n % sizes.length] as number));
    const chunk = Buffer.concat([piece, Buffer.alloc(16, 0xff)]);
    try {
      reader.push(chunk, piece.length);
    } catch (thrown) {
      expect(thrown).toBeInstanceOf(FantaError);
      const { code, message, retryable } = thrown as FantaError;
      expect({ code, retryable }).toEqual({ code: "ERR_FANTA_PROTOCOL", retryable: false });
      return { frames, failure: message, rest: 0 };
    }
    chunk.fill(0xee);
    at += piece.length;
  }
  return { frames, failure: undefined, rest: reader.keptBytes };
}

function same(got: Verdict, bytes: Buffer, maxFrameBytes: number): void {
  const { end, failure } = meaning(bytes, maxFrameBytes);
  expect(got.frames).toEqual(parsed(bytes.subarray(0, end)).frames);
  if (failure === undefined)
    expect({ failure: got.failure, rest: got.rest }).toEqual({ failure, rest: bytes.length - end });
  else expect(got.failure).toContain(failure);
}

const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const sizes = fc.array(fc.oneof(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 400 })), { minLength: 1 });
/** Rules of the protocol that a client or a server adds are not the codec's: any kind but data, error and cancel may have the id 0. */
const good = fc
  .tuple(
    fc.oneof(fc.constantFrom(1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff), u32),
    fc.nat(5),
    fc.uint8Array({ maxLength: 300 }),
  )
  .filter(([id, kind]) => id !== 0 || (kind >= 2 && kind !== 5))
  .map(([id, kind, payload]) => frame(id, kind, payload));
const nearlyGood = fc.oneof(
  { weight: 12, arbitrary: good },
  { weight: 1, arbitrary: fc.tuple(u32, fc.integer({ min: 0, max: 255 })).map(([id, kind]) => frame(id, kind, "?")) },
  { weight: 1, arbitrary: fc.nat(20).map((length) => Buffer.concat([announced(length), Buffer.alloc(20, 1)])) },
  { weight: 1, arbitrary: u32.map(announced) },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 20 }).map((bytes) => Buffer.from(bytes)) },
);

describe("reading", () => {
  test("gives the same frames, or the same error, for any bytes in any pieces", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 200 }),
        sizes,
        fc.integer({ min: 5, max: 2 ** 30 }),
        (bytes, pieces, most) => {
          const stream = Buffer.from(bytes);
          same(reading(stream, pieces, most), stream, most);
        },
      ),
      { numRuns: 500 },
    );
  });

  test("gives the same frames, or the same error, for frames that are nearly all good", () => {
    fc.assert(
      fc.property(
        fc.array(nearlyGood, { maxLength: 30 }),
        sizes,
        fc.integer({ min: 250, max: 320 }),
        (all, pieces, most) => {
          const stream = Buffer.concat(all);
          same(reading(stream, pieces, most), stream, most);
        },
      ),
      { numRuns: 500 },
    );
  });

  test.each([
    ["a length of 0", announced(0)],
    ["a length of 4", announced(4)],
    ["a length one above the limit", announced(101)],
    ["a length of 4 GiB", announced(0xffff_ffff)],
  ])("refuses %s when its four bytes are there", (_, bytes) => {
    expect(reading(bytes.subarray(0, 3), [1], 100).failure).toBeUndefined();
    expect(reading(bytes, [1], 100).failure).toContain("The connection is closed.");
  });

  test.each([
    ["a kind that there is not", frame(1, 6, "payload")],
    ["a request with the id 0", frame(0, codec.data, "payload")],
    ["an error response with the id 0", frame(0, codec.error, "payload")],
    ["a cancel with the id 0", frame(0, codec.cancel, "payload")],
  ])("refuses %s when its header is there, before any payload", (_, bytes) => {
    expect(reading(bytes.subarray(0, 8), [1], 100).failure).toBeUndefined();
    expect(reading(bytes.subarray(0, 9), [1], 100).failure).toContain("The connection is closed.");
  });

  test("takes the largest frame and the smallest", () => {
    const largest = frame(1, codec.data, "x".repeat(95));
    const smallest = frame(0, codec.goaway);
    expect(reading(Buffer.concat([largest, smallest]), [7], 100)).toEqual({
      frames: [
        { id: 1, kind: codec.data, text: "x".repeat(95) },
        { id: 0, kind: codec.goaway, text: "" },
      ],
      failure: undefined,
      rest: 0,
    });
  });

  test("stops behind the frame at which its sink says so", () => {
    const bytes = Buffer.concat([
      frame(1, codec.data, "one"),
      frame(2, codec.data, "two"),
      frame(3, codec.data, "three"),
    ]);
    const seen: number[] = [];
    const sink: codec.FrameSink = {
      frame: (id) => {
        seen.push(id);
        return id !== 2;
      },
    };
    const stop = codec.readFrames(bytes, 0, bytes.length, 100, sink);
    expect(seen).toEqual([1, 2]);
    expect(codec.readFrames(bytes, stop, bytes.length, 100, sink)).toBe(bytes.length);
    expect(seen).toEqual([1, 2, 3]);
  });
});

describe("writing", () => {
  test("a header gives the bytes of the description, for every id and kind and length", () => {
    fc.assert(
      fc.property(u32, fc.nat(5), fc.integer({ min: 0, max: 2 ** 30 }), fc.nat(20), (id, kind, length, at) => {
        const bytes = Buffer.alloc(at + 9 + 3, 0xaa);
        codec.writeHeader(bytes, at, length, id | 0, kind as codec.Kind);
        const expected = Buffer.alloc(at + 9 + 3, 0xaa);
        expected.writeUInt32BE(length + 5, at);
        expected.writeUInt32BE(id, at + 4);
        expected.writeUInt8(kind, at + 8);
        expect(bytes).toEqual(expected);
      }),
    );
  });

  test("and reading what was written are inverse", () => {
    fc.assert(
      fc.property(u32, fc.constantFrom(2, 3, 4), fc.uint8Array({ maxLength: 200 }), (id, kind, payload) => {
        const bytes = Buffer.alloc(9 + payload.length);
        codec.writeHeader(bytes, 0, payload.length, id | 0, kind as codec.Kind);
        bytes.set(payload, 9);
        let seen: unknown;
        codec.readFrames(bytes, 0, bytes.length, 1_000, {
          frame: (...got) => {
            seen = [got[0] >>> 0, got[1], new Uint8Array(got[2].subarray(got[3], got[4]))];
            return true;
          },
        });
        expect(seen).toEqual([id, kind, payload]);
      }),
    );
  });
});

describe("what a frame needs", () => {
  test("is its length, then its header, then all of it", () => {
    const bytes = frame(7, codec.data, "payload");
    const needs = Array.from({ length: bytes.length + 1 }, (_, have) => codec.frameNeeds(bytes, 0, have));
    expect(needs).toEqual([4, 4, 4, 4, 9, 9, 9, 9, 9, ...Array<number>(bytes.length - 8).fill(bytes.length)]);
  });
});
