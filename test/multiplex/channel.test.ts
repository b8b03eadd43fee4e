/**
 * A channel over real sockets, both kinds of wire. Frames are words, with two bytes before each that say how long it is.
 *
 * What its user hears goes into one list, so that the order is seen, and each test ends on that list: whatever happens,
 * "closed" comes once and last.
 */

import { AsyncLocalStorage } from "node:async_hooks";
import { describe, expect, test } from "vitest";
import { Channel, type ChannelUser, type Wire } from "../../src/multiplex/index.ts";
import { connected, type Far, tooManyBytes, ways } from "./loopback.ts";
import { turns, until } from "./turns.ts";

const context = new AsyncLocalStorage<string>();

function words(...all: readonly string[]): Buffer {
  return Buffer.concat(
    all.map((word) => Buffer.concat([Buffer.of(word.length >> 8, word.length & 0xff), Buffer.from(word)])),
  );
}

class Words implements ChannelUser {
  readonly heard: string[] = [];
  readonly contexts: unknown[] = [];
  readonly channel: Channel;
  stopped = false;
  drains = 0;
  /** Called for each word, inside `take`. */
  onWord: (word: string) => void = () => undefined;

  /** Called when it has been told something. */
  onEvent: () => void = () => undefined;

  constructor(wire: Wire) {
    this.channel = new Channel(wire, this);
  }

  put(text: string): void {
    const { writer } = this.channel;
    const at = writer.reserve(text.length);
    writer.used += writer.bytes.write(text, at, "latin1");
  }

  get closedYet(): boolean {
    return this.heard.includes("closed");
  }

  take(bytes: Buffer, start: number, end: number): number {
    let at = start;
    while (end - at >= 2 && !this.stopped) {
      const next = at + 2 + bytes.readUInt16BE(at);
      if (next > end) break;
      const word = bytes.toString("latin1", at + 2, next);
      at = next;
      this.heard.push(word);
      this.onWord(word);
    }
    return at;
  }

  needs(bytes: Buffer, start: number, end: number): number {
    return end - start < 2 ? 2 : 2 + bytes.readUInt16BE(start);
  }

  ended(): void {
    this.#hears("ended");
  }

  failed(error: Error): void {
    this.#hears(`failed: ${error.message}`);
  }

  closed(): void {
    this.#hears("closed");
  }

  drained(): void {
    this.drains++;
  }

  #hears(what: string): void {
    this.heard.push(what);
    this.onEvent();
    this.contexts.push(context.getStore());
  }
}

function wordsOver(wire: Wire): Words {
  return context.run("the owner", () => new Words(wire));
}

async function gone({ near, far }: { near: Words; far: Far }): Promise<void> {
  await until("the channel is closed", () => near.closedYet);
  await until("the far end is closed, or has been told of the end", () => far.closed || far.ended);
  await turns(20); // Whatever is told late is told by now.
}

describe.each(ways)("a channel over a wire that was %s", (way) => {
  test("hands on frames in order, and tells the other side's end before that all is closed", async () => {
    const all = await connected(way, wordsOver);
    const { near, far } = all;
    far.send(words("one", "two"));
    far.send(words("three").subarray(0, 4));
    await until("two words have come", () => near.heard.length === 2);
    far.send(words("three").subarray(4));
    far.socket.end();
    await until("the end has come", () => near.heard.includes("ended"));
    near.put("we may still speak");
    near.channel.finish();
    await gone(all);
    expect(near.heard).toEqual(["one", "two", "three", "ended", "closed"]);
    expect(far.text).toBe("we may still speak");
  });

  test("tells once that the line broke, destroyed by then, and then that it is closed", async () => {
    const all = await connected(way, wordsOver);
    const { near, far, socket } = all;
    let destroyed = false;
    near.onEvent = () => {
      destroyed ||= near.heard.length === 1 && socket.destroyed;
    };
    far.socket.resetAndDestroy();
    await gone(all);
    expect(near.heard).toEqual(["failed: read ECONNRESET", "closed"]);
    expect(destroyed).toBe(true);
  });

  test("that cannot understand a frame fails with what was thrown, and hears nothing more", async () => {
    const all = await connected(way, wordsOver);
    const { near, far } = all;
    near.onWord = (word) => {
      near.put("never leaves: it fails in the same turn");
      if (word === "bad") throw new Error("no word");
    };
    far.send(words("good", "bad", "worse"));
    far.socket.end();
    await gone(all);
    expect(near.heard).toEqual(["good", "bad", "failed: no word", "closed"]);
    expect(far.text).toBe("");
  });

  test("makes an error of what is thrown and is none", async () => {
    const all = await connected(way, wordsOver);
    all.near.onWord = () => {
      throw "a string";
    };
    all.far.send(words("x"));
    await gone(all);
    expect(all.near.heard[1]).toContain('"a string"');
    expect(all.near.heard).toHaveLength(3);
  });

  test("finished, sends all there is, hands on no frame and closes", async () => {
    const all = await connected(way, wordsOver);
    const { near, far } = all;
    near.put("x".repeat(300_000));
    near.channel.finish();
    await gone(all);
    await until("the end has come", () => far.ended);
    expect(near.heard).toEqual(["closed"]);
    expect(far.bytes).toHaveLength(300_000);
  });

  test("finished in the middle of a chunk, hands on none of the frames behind", async () => {
    const all = await connected(way, wordsOver);
    const { near, far } = all;
    near.onWord = () => {
      near.stopped = true;
      near.channel.finish();
    };
    far.send(words("one", "two", "three"));
    await gone(all);
    expect(near.heard).toEqual(["one", "closed"]);
  });

  test("finished, waits for as long as the other side does not read, and does not hear it meanwhile", async () => {
    const all = await connected(way, wordsOver);
    const { near, far } = all;
    far.socket.pause();
    near.put("y".repeat(tooManyBytes));
    near.channel.finish();
    far.socket.end(words("unwanted"));
    await turns(500);
    expect(near.heard).toEqual([]);
    expect(near.channel.writer.pendingBytes).toBeGreaterThan(0);
    far.socket.resume();
    await gone(all);
    await until("all has come", () => far.ended);
    expect(far.bytes).toHaveLength(tooManyBytes);
    expect(near.heard).toEqual(["closed"]);
  });

  test("finished while it is paused, lets the other side have its say, so that it comes to listen", async () => {
    const all = await connected(way, wordsOver);
    const { near, far } = all;
    near.stopped = true;
    near.channel.pause();
    far.socket.pause();
    // It listens when it has said all. Neither can before the other does.
    far.socket.write(Buffer.alloc(tooManyBytes), () => far.socket.resume());
    near.put("n".repeat(tooManyBytes));
    near.channel.finish();
    await gone(all);
    expect(near.heard).toEqual(["closed"]);
  });

  test("destroyed, lets nothing out that was asked in this turn, and tells only that it is closed", async () => {
    const all = await connected(way, wordsOver);
    const { near, far } = all;
    near.put("too late");
    near.channel.destroy();
    await gone(all);
    expect(near.heard).toEqual(["closed"]);
    expect(far.text).toBe("");
    near.channel.destroy();
    near.channel.finish();
    near.channel.resume();
    near.put("nobody's business");
    await turns(20);
    expect(near.heard).toEqual(["closed"]);
    expect(near.channel.writer.handed).toBe(0);
  });

  test("destroyed or broken after it was asked to finish, tells only that it is closed", async () => {
    const all = await connected(way, wordsOver);
    const { near, far } = all;
    far.socket.pause();
    near.put("z".repeat(tooManyBytes));
    near.channel.finish();
    await turns(100);
    far.socket.resetAndDestroy();
    await until("it is closed", () => near.closedYet);
    await turns(20);
    expect(near.heard).toEqual(["closed"]);
  });

  test("paused, makes the other side wait; resumed, hands on all that came meanwhile, in order", async () => {
    const all = await connected(way, wordsOver);
    const { near, far } = all;
    near.onWord = (word) => {
      if (word !== "0") return;
      near.stopped = true;
      near.channel.pause();
    };
    const sent = Array.from({ length: 1 + tooManyBytes / 64_000 }, (_, n) => `${n}${"-".repeat(n === 0 ? 0 : 64_000)}`);
    far.send(words(...sent));
    await until("the first word has come", () => near.stopped);
    await turns(500);
    expect(near.heard).toEqual(["0"]);
    expect(far.unsent).toBeGreaterThan(0);
    near.stopped = false;
    near.channel.resume();
    await until("all words have come", () => near.heard.length === sent.length);
    expect(near.heard.every((word, n) => word === sent[n])).toBe(true);
  });

  test("resumed while its user has stopped again, stays paused and loses nothing", async () => {
    const all = await connected(way, wordsOver);
    const { near, far } = all;
    near.onWord = () => {
      near.stopped = true;
      near.channel.pause();
    };
    far.send(words("one", "two", "three", "four"));
    far.send(Buffer.alloc(tooManyBytes));
    for (const count of [1, 2, 3, 4]) {
      await until(`word ${count} has come`, () => near.heard.length === count);
      await turns(20);
      expect(near.heard).toHaveLength(count);
      near.stopped = false;
      near.channel.resume();
    }
    await turns(500);
    expect(far.unsent).toBeGreaterThan(0);
    expect(near.heard.slice(0, 5)).toEqual(["one", "two", "three", "four", ""]);
  });

  test("tells when all that was written has left, and not before", async () => {
    const { near, far } = await connected(way, wordsOver);
    far.socket.pause();
    near.put("d".repeat(tooManyBytes));
    await turns(500);
    near.put("d");
    expect(near.drains).toBe(0);
    far.socket.resume();
    await until("it is told", () => near.drains > 0);
    expect(near.channel.writer.pendingBytes).toBe(0);
    await until("all has come", () => far.bytes.length === tooManyBytes + 1);
    expect(near.drains).toBe(1);
  });

  test("speaks to its owner in the owner's context, whoever wrote last", async () => {
    const broken = await connected(way, wordsOver);
    broken.far.socket.resetAndDestroy();
    context.run("a caller", () => broken.near.put("into the void"));
    await gone(broken);
    const ended = await connected(way, wordsOver);
    context.run("a caller", () => ended.near.put("x"));
    await until("that has come", () => ended.far.text === "x");
    ended.far.socket.end();
    await until("the end is told", () => ended.near.heard.length === 1);
    context.run("another caller", () => ended.near.channel.finish());
    await gone(ended);
    expect([...broken.near.contexts, ...ended.near.contexts]).toEqual(Array(4).fill("the owner"));
  });
});
