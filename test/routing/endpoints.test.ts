/** Where a pool connects to: a fixed list, or full sets that a source gives as they change. */

import { describe, expect, test } from "vitest";
import type { Endpoint } from "../../src/index.ts";
import { type Scene, scene } from "./scene.ts";

/** A source that yields what the test hands it. */
class Source implements AsyncIterable<readonly Endpoint[]> {
  /** How often it was asked to end. */
  returned = 0;
  #given: ((result: IteratorResult<readonly Endpoint[]> | Promise<never>) => void) | undefined;

  [Symbol.asyncIterator](): AsyncIterator<readonly Endpoint[]> {
    return {
      next: () =>
        new Promise((resolve) => {
          this.#given = resolve;
        }),
      return: async () => {
        this.returned++;
        return { done: true, value: undefined };
      },
    };
  }

  /** `null`: it ends. An error: it throws. Anything else is a set, or is meant to be one. */
  give(what: unknown): void {
    if (what === null) this.#given?.({ done: true, value: undefined });
    else if (what instanceof Error) this.#given?.(Promise.reject(what));
    else this.#given?.({ done: false, value: what as Endpoint[] });
  }

  ids(...ids: string[]): void {
    this.give(ids.map((id) => ({ id })));
  }
}

/** How many connections there are at each endpoint, leaving ones not counted. */
function at(s: Scene): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { endpoint, state } of s.pool.members()) {
    if (state !== "draining") counts[endpoint.id] = (counts[endpoint.id] ?? 0) + 1;
  }
  return counts;
}

/** A pool that follows a source, with `a` and `b` to begin with. */
async function followed(s: Scene, options: Parameters<Scene["start"]>[0] = {}): Promise<Source> {
  const source = new Source();
  await s.start({ size: 2, endpoints: source, ...options });
  source.ids("a", "b");
  await s.settle();
  expect(at(s)).toEqual({ a: 2, b: 2 });
  return source;
}

describe("a fixed list of endpoints", () => {
  test(
    "has size connections at each, and what it says of an endpoint reaches the connector and the members",
    scene(async (s) => {
      const endpoints = [{ id: "a", weight: 3, data: { port: 1 } }, { id: "b" }];
      const pool = await s.start({ size: 2, endpoints });
      expect(at(s)).toEqual({ a: 2, b: 2 });
      expect(s.server.resources.map(({ context }) => context.endpoint)).toEqual(
        expect.arrayContaining([endpoints[0], endpoints[1]]),
      );
      const shown = pool.members().map(({ slot, endpoint, weight }) => [slot, endpoint.id, weight]);
      expect(shown).toEqual([
        [0, "a", 3],
        [1, "b", 1],
        [2, "a", 3],
        [3, "b", 1],
      ]);
      s.check();
    }),
  );

  test(
    "takes two of the same id for one, the first",
    scene(async (s) => {
      await s.start({ size: 1, endpoints: [{ id: "a", data: 1 }, { id: "b" }, { id: "a", data: 2 }] });
      expect(at(s)).toEqual({ a: 1, b: 1 });
      expect(s.server.resources[0]?.context.endpoint.data).toBe(1);
      s.check();
    }),
  );

  test(
    "is the connector's own when the pool is given none, and one named after it when that has none",
    scene(async (s) => {
      await s.start({ size: 1, connector: { ...s.server.connector, endpoints: [{ id: "a" }, { id: "b" }] } });
      expect(at(s)).toEqual({ a: 1, b: 1 });
      await s.until(s.pool.destroy());
      await s.start({ size: 1 });
      expect(at(s)).toEqual({ fake: 1 });
      await s.until(s.pool.destroy());
      const connector = { ...s.server.connector, endpoints: [{ id: "a" }] };
      await s.start({ size: 1, connector, endpoints: [{ id: "c" }] });
      expect(at(s)).toEqual({ c: 1 });
      s.check();
    }),
  );

  test(
    "that is empty is a pool without connections",
    scene(async (s) => {
      const pool = await s.start({ endpoints: [] });
      const ready = s.follow(pool.ready({ timeoutMs: 100 }));
      await s.advance(100);
      expect([ready.outcome, pool.stats().size]).toEqual(["ERR_POOL_ACQUIRE_TIMEOUT", 0]);
      await s.until(pool.resize(5));
      expect(pool.stats().size).toBe(0);
      s.check();
    }),
  );

  test(
    "is read once: to change it afterwards changes nothing",
    scene(async (s) => {
      const endpoints = [{ id: "a" }];
      const pool = await s.start({ size: 1, endpoints });
      endpoints.push({ id: "b" });
      await s.until(pool.resize(2));
      await s.settle();
      expect(at(s)).toEqual({ a: 2 });
      s.check();
    }),
  );
});

describe("a source of endpoints", () => {
  test(
    "need not have said anything for the pool to start; callers wait for it",
    scene(async (s) => {
      const source = new Source();
      const pool = await s.start({ size: 2, endpoints: source });
      expect(pool.stats().size).toBe(0);
      const [work, ready] = [s.use(), s.follow(pool.ready({ min: 2 }))];
      await s.advance(1_000);
      expect([work.started, ready.outcome]).toEqual([false, "pending"]);
      source.ids("a");
      await s.settle();
      expect([work.started, ready.outcome, at(s)]).toEqual([true, "ok", { a: 2 }]);
      s.check();
    }),
  );

  test(
    "adds and takes away; those that stay keep their connections",
    scene(async (s) => {
      const source = await followed(s);
      const events = s.events("pool.endpointsChanged");
      const atA = s.registered.filter(({ endpoint }) => endpoint === "a");
      source.ids("c", "a");
      await s.settle();
      expect(at(s)).toEqual({ a: 2, c: 2 });
      expect(s.registered.filter(({ endpoint }) => endpoint === "a")).toEqual(atA);
      expect(s.server.attempts.length).toBe(6);
      expect(events).toEqual([{ pool: "scene", added: 1, removed: 1, error: undefined }]);
      source.ids("a", "c");
      await s.settle();
      expect([events.length, s.server.attempts.length], "the same set in another order is no news").toEqual([1, 6]);
      s.check();
    }),
  );

  test(
    "that takes one away lets it finish first",
    scene(async (s) => {
      const source = await followed(s, { strategy: { pick: (members) => members.at(-1)! } });
      const work = s.use();
      await s.settle();
      expect(work.resource.endpoint).toBe("b");
      source.ids("a");
      await s.settle();
      const next = s.use();
      await s.advance(10_000);
      expect([work.outcome, work.signal.aborted, next.resource.endpoint]).toEqual(["pending", false, "a"]);
      expect(s.pool.stats()).toMatchObject({ ready: 2, draining: 1, inFlight: 2 });
      work.end("in time");
      await s.settle();
      expect([work.value, s.pool.stats().size]).toEqual(["in time", 2]);
      s.check();
    }),
  );

  test(
    "that takes one away whose server is down stops trying it",
    scene(async (s) => {
      s.server.script = (_, { endpoint }) => (endpoint.id === "b" ? "refuse" : "ok");
      const source = await followed(s);
      source.ids("a");
      const before = s.server.attempts.length;
      await s.advance(120_000);
      expect(s.server.attempts.length).toBe(before);
      expect(s.pool.stats()).toMatchObject({ size: 2, ready: 2 });
      s.check();
    }),
  );

  test(
    "that brings one back whose connections still finish gives it new ones",
    scene(async (s) => {
      const source = await followed(s, { strategy: { pick: (members) => members.at(-1)! } });
      const work = s.use();
      await s.settle();
      source.ids("a");
      await s.settle();
      source.ids("a", "b");
      await s.settle();
      expect([at(s), s.pool.stats().draining]).toEqual([{ a: 2, b: 2 }, 1]);
      work.end();
      await s.settle();
      expect(s.pool.stats()).toMatchObject({ size: 4, ready: 4 });
      expect(
        s.pool
          .members()
          .map(({ slot }) => slot)
          .toSorted((a, b) => a - b),
      ).toEqual([0, 1, 2, 3]);
      s.check();
    }),
  );

  test(
    "knows an endpoint by its id alone, and takes two of an id for one",
    scene(async (s) => {
      const source = await followed(s);
      const events = s.events("pool.endpointsChanged");
      source.give([{ id: "a", data: "other" }, { id: "b", weight: 2 }, { id: "b" }]);
      await s.settle();
      expect([at(s), s.server.attempts.length, events]).toEqual([{ a: 2, b: 2 }, 4, []]);
      s.check();
    }),
  );

  test(
    "is what resize, recycle and GOAWAY go by, as of now",
    scene(async (s) => {
      const source = await followed(s);
      source.ids("b", "c");
      await s.settle();
      await s.until(s.pool.resize(1));
      await s.settle();
      expect(at(s)).toEqual({ b: 1, c: 1 });
      s.server.last.goAway();
      await s.settle();
      expect(at(s)).toEqual({ b: 1, c: 1 });
      await s.until(s.pool.recycle());
      expect(at(s)).toEqual({ b: 1, c: 1 });
      s.check();
    }),
  );

  test(
    "that takes away what is being recycled does not keep the recycle waiting",
    scene(async (s) => {
      const source = await followed(s);
      s.server.always("never");
      const recycled = s.follow(s.pool.recycle());
      await s.advance(1_000);
      s.server.always("ok");
      source.ids("c");
      await s.settle();
      expect([recycled.outcome, at(s)]).toEqual(["ok", { c: 2 }]);
      s.check();
    }),
  );
});

describe("an empty set", () => {
  test(
    "is believed only when it has stood for 30 seconds",
    scene(async (s) => {
      const source = await followed(s);
      const events = s.events("pool.endpointsChanged");
      source.ids();
      await s.advance(29_999);
      expect([at(s), events]).toEqual([{ a: 2, b: 2 }, []]);
      expect(s.runtime.keepAliveTimers, "an idle pool lets the program end").toBe(0);
      await s.advance(1);
      expect([at(s), s.pool.stats().size]).toEqual([{}, 0]);
      expect(events).toEqual([{ pool: "scene", added: 0, removed: 2, error: undefined }]);
      source.ids("a");
      await s.settle();
      expect(at(s)).toEqual({ a: 2 });
      s.check();
    }),
  );

  test(
    "said again and again is counted from the first",
    scene(async (s) => {
      const source = await followed(s);
      for (let second = 0; second < 29; second++) {
        source.ids();
        await s.advance(1_000);
      }
      expect(at(s)).toEqual({ a: 2, b: 2 });
      await s.advance(1_000);
      expect(at(s)).toEqual({});
      s.check();
    }),
  );

  test(
    "is forgotten when another comes in time",
    scene(async (s) => {
      const source = await followed(s);
      source.ids();
      await s.advance(29_000);
      source.ids("a");
      await s.advance(10_000);
      expect(at(s)).toEqual({ a: 2 });
      source.ids();
      await s.advance(29_999);
      expect(at(s), "counted anew").toEqual({ a: 2 });
      s.check();
    }),
  );

  test(
    "to begin with is what there is",
    scene(async (s) => {
      const source = new Source();
      const pool = await s.start({ endpoints: source });
      source.ids();
      await s.settle();
      expect([pool.stats().size, s.runtime.timers]).toEqual([0, 0]);
      s.check();
    }),
  );

  test(
    "leaves no timer when the pool ends first",
    scene(async (s) => {
      const source = await followed(s);
      source.ids();
      await s.settle();
      await s.until(s.pool.close());
      expect(s.runtime.timers).toBe(0);
    }),
  );
});

const garbage: readonly (readonly [what: string, set: unknown])[] = [
  ["no array", "a"],
  ["nothing", undefined],
  ["an endpoint that is none", [{ id: "c" }, undefined]],
  ["an id that is no string", [{ id: 7 }]],
  ["an id that is empty", [{ id: "" }]],
  ["a weight that is none", [{ id: "c", weight: 0 }]],
  ["a weight without end", [{ id: "c", weight: Infinity }]],
];

describe("a source that is wrong", () => {
  test.each(garbage)("(%s) is an event; the last set stays, and the next is heard", (_, set) =>
    scene(async (s) => {
      const source = await followed(s);
      const events = s.events("pool.endpointsChanged");
      source.give(set);
      await s.settle();
      expect(at(s)).toEqual({ a: 2, b: 2 });
      expect(events).toMatchObject([{ pool: "scene", added: 0, removed: 0, error: { code: "ERR_OPTION" } }]);
      source.ids("c");
      await s.settle();
      expect(at(s)).toEqual({ c: 2 });
      s.check();
    })(),
  );

  test.each([
    ["throws", new Error("no such service"), "no such service"],
    ["ends", null, "the source of endpoints has ended; the last set stays"],
  ])("(it %s) is an event; the last set stays", (_, what, message) =>
    scene(async (s) => {
      const source = await followed(s);
      const events = s.events("pool.endpointsChanged");
      source.give(what);
      await s.advance(60_000);
      expect(at(s)).toEqual({ a: 2, b: 2 });
      expect(events.map(({ added, removed, error }) => [added, removed, error?.message])).toEqual([[0, 0, message]]);
      expect(s.pool.process.alive).toBe(true);
      s.check();
    })(),
  );

  test(
    "(it cannot even begin) is an event, and a pool without connections",
    scene(async (s) => {
      const events = s.events("pool.endpointsChanged");
      const endpoints = {
        [Symbol.asyncIterator]: () => {
          throw new Error("not now");
        },
      };
      const pool = await s.start({ endpoints });
      expect(events.map(({ error }) => error?.message)).toEqual(["not now"]);
      expect(pool.stats().size).toBe(0);
      s.check();
    }),
  );
});

describe("the end of the pool", () => {
  test.each([
    ["a set", [{ id: "c" }]],
    ["an error", new Error("too late")],
    ["its end", null],
  ])("is the end of the source; what comes late (%s) is not heard", (_, late) =>
    scene(async (s) => {
      const source = await followed(s);
      const events = s.events("pool.endpointsChanged");
      await s.until(s.pool.close());
      expect(source.returned).toBe(1);
      source.give(late);
      await s.settle();
      expect([s.server.attempts.length, events]).toEqual([4, []]);
    })(),
  );

  test(
    "by itself is so too",
    scene(async (s) => {
      const source = await followed(s);
      s.pool.process.kill();
      await s.settle();
      expect(source.returned).toBe(1);
    }),
  );

  test.each(["hangs", "throws", "rejects"])("does not wait for a source whose return %s", (manner) =>
    scene(async (s) => {
      const events = s.events("pool.endpointsChanged");
      const endpoints = {
        [Symbol.asyncIterator]: () => ({
          next: () => new Promise<never>(() => undefined),
          return: (): Promise<never> => {
            if (manner === "throws") throw new Error("will not end");
            return manner === "hangs" ? new Promise(() => undefined) : Promise.reject(new Error("will not end"));
          },
        }),
      };
      const pool = await s.start({ endpoints });
      await s.until(pool.close());
      await s.settle();
      expect(s.runtime.now()).toBe(0);
      expect(events.map(({ error }) => error?.message)).toEqual(manner === "hangs" ? [] : ["will not end"]);
    })(),
  );

  test(
    "comes to an async generator in its finally",
    scene(async (s) => {
      const ended: string[] = [];
      async function* source(): AsyncGenerator<Endpoint[]> {
        try {
          yield [{ id: "a" }];
          await s.server.pause(1_000);
          yield [{ id: "b" }];
        } finally {
          ended.push("finally");
        }
      }
      const pool = await s.start({ size: 1, endpoints: source() });
      expect(at(s)).toEqual({ a: 1 });
      await s.until(pool.close());
      await s.advance(1_000);
      expect([ended, s.server.attempts.length]).toEqual([["finally"], 1]);
    }),
  );
});
