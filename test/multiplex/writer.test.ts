/**
 * The writer, over a socket that only notes what it is given and writes when the test says so.
 *
 * It also looks at what it was given once more when it "has written" it: until then nobody may have used the buffer
 * again.
 */

import { AsyncLocalStorage } from "node:async_hooks";
import type { Socket } from "node:net";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Writer } from "../../src/multiplex/writer.ts";
import { turn } from "./turns.ts";

type Written = (error?: Error | null) => void;

class NotedSocket {
  /** What each write was given, as it was then. Those corked together are one. */
  readonly writes: Buffer[] = [];
  readonly contexts: unknown[] = [];
  readonly context = new AsyncLocalStorage<string>();
  #lent: { bytes: Buffer; copy: Buffer; written: Written | undefined }[] = [];
  #corked: Buffer[] | undefined;

  write(bytes: Buffer, written: Written | undefined): boolean {
    const copy = Buffer.from(bytes);
    this.#lent.push({ bytes, copy, written });
    if (this.#corked === undefined) this.writes.push(copy);
    else this.#corked.push(copy);
    this.contexts.push(this.context.getStore());
    return true;
  }

  cork(): void {
    this.#corked = [];
  }

  uncork(): void {
    this.writes.push(Buffer.concat(this.#corked ?? []));
    this.#corked = undefined;
  }

  get busy(): boolean {
    return this.#lent.length > 0;
  }

  /** All it was given has been written, or has failed. */
  wrote(error?: Error): void {
    const lent = this.#lent;
    this.#lent = [];
    for (const { bytes, copy } of lent) expect(bytes.equals(copy)).toBe(true);
    const callbacks = lent.flatMap(({ written }) => (written === undefined ? [] : [written]));
    expect(callbacks).toHaveLength(1);
    callbacks[0]?.(error);
  }

  get text(): string {
    return Buffer.concat(this.writes).toString("latin1");
  }
}

function writerOf(): { socket: NotedSocket; writer: Writer; drained: () => number } {
  const socket = new NotedSocket();
  let drained = 0;
  const writer = new Writer(socket as unknown as Socket, () => {
    drained++;
  });
  return { socket, writer, drained: () => drained };
}

/** As its users do: room first, then the bytes, then `used`. Asks for more room than it uses. */
function put(writer: Writer, text: string, more = 0): number {
  const at = writer.reserve(text.length + more);
  expect(at).toBe(writer.used);
  expect(writer.bytes.length - at).toBeGreaterThanOrEqual(text.length + more);
  writer.used += writer.bytes.write(text, at, "latin1");
  return writer.batch;
}

const large = 100_000;

describe("what is asked in one turn", () => {
  test("leaves in one write at its end, in order", async () => {
    const { socket, writer } = writerOf();
    for (const text of ["one ", "two ", "three"]) put(writer, text, 10);
    expect(socket.writes).toEqual([]);
    expect(writer.pendingBytes).toBe(13);
    await turn();
    expect(socket.writes.map(String)).toEqual(["one two three"]);
    expect(writer.pendingBytes).toBe(13);
    socket.wrote();
    expect(writer.pendingBytes).toBe(0);
  });

  test("leaves in one write even when it fills many buffers", async () => {
    const { socket, writer } = writerOf();
    const texts = Array.from({ length: 40 }, (_, n) => String.fromCharCode(65 + n).repeat(n * 1_000));
    for (const text of texts) put(writer, text);
    expect(writer.pendingBytes).toBe(texts.join("").length);
    await turn();
    expect(socket.writes).toHaveLength(1);
    expect(socket.text).toBe(texts.join(""));
    socket.wrote();
    expect(writer.pendingBytes).toBe(0);
  });

  test("may be larger than any buffer, before and after what is small", async () => {
    const { socket, writer } = writerOf();
    put(writer, "a");
    put(writer, "b".repeat(large));
    put(writer, "c");
    await turn();
    expect(socket.writes).toHaveLength(1);
    expect(socket.text).toBe(`a${"b".repeat(large)}c`);
  });

  test("is nothing when room was made and not used", async () => {
    const { socket, writer, drained } = writerOf();
    writer.reserve(10);
    writer.reserve(large);
    await turn();
    expect(socket.writes).toEqual([]);
    expect({ handed: writer.handed, batch: writer.batch, pending: writer.pendingBytes, drained: drained() }).toEqual({
      handed: 0,
      batch: 1,
      pending: 0,
      drained: 0,
    });
  });

  test("is not written in the context of whoever asked first", async () => {
    const { socket, writer } = writerOf();
    socket.context.run("a caller", () => put(writer, "x"));
    await turn();
    expect(socket.contexts).toEqual([undefined]);
  });

  test("over many sockets leaves each by its own, in the same turn", async () => {
    const all = Array.from({ length: 5 }, writerOf);
    for (const [n, { writer }] of all.entries()) put(writer, `to ${n}`);
    await turn();
    expect(all.map(({ socket }) => socket.text)).toEqual(["to 0", "to 1", "to 2", "to 3", "to 4"]);
  });
});

describe("while a write is under way", () => {
  test("what is asked waits, and leaves as one piece when it is over", async () => {
    const { socket, writer, drained } = writerOf();
    put(writer, "first");
    await turn();
    for (const text of ["a", "b"]) {
      put(writer, text);
      await turn();
    }
    expect(socket.writes.map(String)).toEqual(["first"]);
    expect(writer.pendingBytes).toBe(7);
    socket.wrote();
    expect(socket.writes.map(String)).toEqual(["first", "ab"]);
    expect(drained()).toBe(0);
    socket.wrote();
    expect(drained()).toBe(1);
  });

  test("and ends in the middle of a turn, that turn's requests leave together all the same", async () => {
    const { socket, writer, drained } = writerOf();
    put(writer, "first");
    await turn();
    put(writer, "a");
    socket.wrote();
    put(writer, "b");
    expect(socket.writes.map(String)).toEqual(["first"]);
    await turn();
    expect(socket.writes.map(String)).toEqual(["first", "ab"]);
    socket.wrote();
    expect(drained()).toBe(1);
  });

  test("room that was made and not used does not keep its end from being told", async () => {
    const { socket, writer, drained } = writerOf();
    put(writer, "first");
    await turn();
    writer.reserve(10);
    socket.wrote();
    await turn();
    expect(drained()).toBe(1);
  });
});

describe("batches tell what has certainly not left", () => {
  test("a batch is handed over at the end of its turn, or when the socket has room", async () => {
    const { socket, writer } = writerOf();
    const first = put(writer, "1");
    expect(writer.handed).toBeLessThan(first);
    await turn();
    expect(writer.handed).toBe(first);
    const second = put(writer, "2");
    await turn();
    const alsoSecond = put(writer, "2");
    expect(second).toBe(alsoSecond);
    expect(writer.handed).toBe(first);
    socket.wrote();
    expect(writer.handed).toBe(first); // This turn is not over.
    await turn();
    expect(writer.handed).toBe(second);
    expect(put(writer, "3")).toBe(second + 1);
  });

  test("what is asked after the socket is gone is in a batch that is never handed over", async () => {
    const { socket, writer } = writerOf();
    put(writer, "1");
    await turn();
    const waiting = put(writer, "2");
    writer.stop();
    const late = put(writer, "3");
    await turn();
    socket.wrote();
    await turn();
    expect(writer.handed).toBe(1);
    expect([waiting, late].every((batch) => batch > writer.handed)).toBe(true);
    expect(socket.text).toBe("1");
  });
});

describe("finish", () => {
  test("hands over what there is at once, and calls back once it is written", async () => {
    const { socket, writer } = writerOf();
    let done = 0;
    put(writer, "last words");
    writer.finish(() => done++);
    expect(socket.writes.map(String)).toEqual(["last words"]);
    await turn();
    expect(done).toBe(0);
    socket.wrote();
    expect(done).toBe(1);
    await turn();
    expect({ done, writes: socket.writes.length }).toEqual({ done: 1, writes: 1 });
  });

  test("calls back at once when there is nothing to write", () => {
    const { writer } = writerOf();
    let done = 0;
    writer.finish(() => done++);
    expect(done).toBe(1);
  });

  test.each([0, 1, 2])("waits for the write under way and what waits behind it (%i pieces)", async (pieces) => {
    const { socket, writer } = writerOf();
    let done = 0;
    put(writer, "under way");
    await turn();
    for (let n = 0; n < pieces; n++) put(writer, "waits");
    writer.finish(() => done++);
    expect(done).toBe(0);
    while (socket.busy) {
      expect(done).toBe(0);
      socket.wrote();
      await turn();
    }
    expect(done).toBe(1);
    expect(socket.text).toBe(`under way${"waits".repeat(pieces)}`);
  });
});

describe("stop", () => {
  test("drops what has not been handed over, and nobody is called back any more", async () => {
    const { socket, writer, drained } = writerOf();
    let done = 0;
    put(writer, "handed over");
    await turn();
    put(writer, "not handed over");
    put(writer, "x".repeat(large));
    writer.finish(() => done++);
    writer.stop();
    expect(writer.pendingBytes).toBe("handed over".length);
    await turn();
    socket.wrote();
    await turn();
    expect(socket.text).toBe("handed over");
    expect({ done, drained: drained(), pending: writer.pendingBytes }).toEqual({ done: 0, drained: 0, pending: 0 });
  });

  test("in the turn of the asking lets nothing out", async () => {
    const { socket, writer } = writerOf();
    put(writer, "x");
    writer.stop();
    put(writer, "y");
    await turn();
    expect(socket.writes).toEqual([]);
  });
});

describe("a write that fails", () => {
  test("is the last", async () => {
    const { socket, writer, drained } = writerOf();
    let done = 0;
    put(writer, "lost");
    await turn();
    put(writer, "never");
    writer.finish(() => done++);
    socket.wrote(new Error("EPIPE"));
    await turn();
    expect(socket.text).toBe("lost");
    expect({ done, drained: drained() }).toEqual({ done: 0, drained: 0 });
    expect(writer.handed).toBe(1);
  });
});

describe("whatever is asked and whenever the sockets write it", () => {
  type Step = { to: number; size: number; more: number } | { wrote: number } | "turn";
  const steps: fc.Arbitrary<Step[]> = fc.array(
    fc.oneof(
      {
        weight: 6,
        arbitrary: fc.record({
          to: fc.nat(2),
          size: fc.oneof(fc.nat(40), fc.nat(30_000), fc.integer({ min: 65_000, max: 140_000 })),
          more: fc.nat(30_000),
        }),
      },
      { weight: 3, arbitrary: fc.record({ wrote: fc.nat(2) }) },
      { weight: 3, arbitrary: fc.constant<Step>("turn") },
    ),
    { maxLength: 40 },
  );

  test("each socket gets its own bytes, in order, once, and never while they are used by another", async () => {
    await fc.assert(
      fc.asyncProperty(steps, async (all) => {
        const ends = Array.from({ length: 3 }, writerOf);
        const expected = ["", "", ""];
        let n = 0;
        for (const step of all) {
          if (step === "turn") await turn();
          else if ("wrote" in step) {
            const { socket } = ends[step.wrote] as (typeof ends)[number];
            if (socket.busy) socket.wrote();
          } else {
            const text = String.fromCharCode(33 + (n++ % 90)).repeat(step.size);
            put((ends[step.to] as (typeof ends)[number]).writer, text, step.more);
            expected[step.to] += text;
          }
        }
        for (const [to, { socket, writer, drained }] of ends.entries()) {
          let done = 0;
          writer.finish(() => done++);
          while (socket.busy) socket.wrote();
          expect(socket.text === expected[to]).toBe(true);
          expect({ done, pending: writer.pendingBytes }).toEqual({ done: 1, pending: 0 });
          expect(drained() > 0).toBe(expected[to] !== "");
          writer.stop();
        }
        await turn();
      }),
      { numRuns: 60 },
    );
  });
});
