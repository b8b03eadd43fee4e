/**
 * Retries, and what becomes of a work whose resource is lost under it.
 *
 * A work here ends when the test says so, with the error that a connection would have: `unsent` when the request
 * certainly never left, `maybeSent` when nobody knows. One tick is what virtual time calls no time: `s.advance(0)`.
 */

import { AsyncLocalStorage } from "node:async_hooks";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { describe, expect, test } from "vitest";
import { ConnectionLostError, type Strategy } from "../../src/index.ts";
import { type Scene, scene, Work } from "./scene.ts";
import { after, Refused, type Resource } from "./server.ts";

const unsent = (): ConnectionLostError => new ConnectionLostError("it never left", { sent: "no" });
const maybeSent = (): ConnectionLostError => new ConnectionLostError("it may have left", { sent: "maybe" });

/** Always the lowest slot there is: whoever is sent elsewhere is so by the pool. */
const lowest: Strategy<Resource> = {
  pick: (members) => members.reduce((least, member) => (member.slot < least.slot ? member : least)),
};

const backoff = { kind: "exponential", minMs: 100, maxMs: 1_000 } as const;
const twoByTwo = { endpoints: [{ id: "a" }, { id: "b" }], size: 2, backoff, strategy: lowest };

function idsOf(work: Work): number[] {
  return work.ran.map(({ id }) => id);
}

/** Ends the work's attempts with an error, one after the other, as long as it has new ones. */
async function failEach(s: Scene, work: Work, error: () => unknown): Promise<void> {
  for (let seen = 0; seen < work.ran.length; ) {
    seen = work.ran.length;
    work.fail(error());
    await s.settle();
    s.check();
  }
}

describe("a request that was certainly not sent", () => {
  test(
    "is routed again without its caller noticing",
    scene(async (s) => {
      const retried = s.events("pool.retried");
      const pool = await s.start({ ...twoByTwo });
      const work = s.use();
      const error = unsent();
      work.fail(error);
      await s.settle();
      expect([work.ran.length, work.outcome]).toEqual([2, "pending"]);
      expect(retried).toEqual([{ pool: "scene", attempt: 1, error }]);
      expect(pool.stats().inFlight, "the first has been released").toBe(1);
      work.end("answer");
      await s.settle();
      expect(work.value).toBe("answer");
      expect(pool.stats().totals).toMatchObject({ acquired: 2, retried: 1, succeeded: 1, failed: 0 });
      s.check();
    }),
  );

  test(
    "goes to another endpoint first, then to another member, then to anyone",
    scene(async (s) => {
      await s.start({ ...twoByTwo, retry: { attempts: 6 } });
      const work = s.use();
      await failEach(s, work, unsent);
      expect(work.ran.map(({ slot, endpoint }) => `${endpoint}${slot}`)).toEqual(["a0", "b1", "a2", "b3", "a0", "a0"]);
    }),
  );

  test(
    "that threw before there was a promise is routed again, too",
    scene(async (s) => {
      const pool = await s.start(twoByTwo);
      const ran: string[] = [];
      const used = pool.use(({ endpoint }) => {
        ran.push(endpoint);
        if (ran.length < 3) throw unsent();
        return "third time lucky";
      });
      expect(await used).toBe("third time lucky");
      expect(new Set(ran.slice(0, 2))).toEqual(new Set(["a", "b"]));
      s.check();
    }),
  );

  test(
    "has three attempts in all when nobody says how many, and rejects with the last error",
    scene(async (s) => {
      const pool = await s.start(twoByTwo);
      const errors: ConnectionLostError[] = [];
      const work = s.use();
      await failEach(s, work, () => {
        errors.push(unsent());
        return errors.at(-1);
      });
      expect(work.ran.length).toBe(3);
      expect(work.error).toBe(errors[2]);
      expect(work.error).toMatchObject({ code: "ERR_CONNECTION_LOST", sent: "no", retryable: true });
      expect(pool.stats().totals).toMatchObject({ acquired: 3, retried: 2, failed: 1, succeeded: 0 });
    }),
  );

  test(
    "is not made again once its caller has given up at the sight of that",
    scene(async (s) => {
      const pool = await s.start(twoByTwo);
      const caller = new AbortController();
      const giveUp = (): void => caller.abort(new Error("not twice"));
      subscribe("poolwarden:pool.retried", giveUp);
      const work = s.use({ signal: caller.signal });
      work.fail(unsent());
      await s.settle();
      unsubscribe("poolwarden:pool.retried", giveUp);
      expect([work.outcome, work.ran.length]).toEqual(["not twice", 1]);
      expect(pool.stats()).toMatchObject({ inFlight: 0, waiting: 0, totals: { failed: 0 } });
      s.check();
    }),
  );

  test.each([1, 2, 5])("has as many attempts as it may: %i", (attempts) =>
    scene(async (s) => {
      await s.start({ ...twoByTwo, retry: { attempts } });
      const work = s.use();
      await failEach(s, work, unsent);
      expect([work.ran.length, work.outcome]).toEqual([attempts, "ERR_CONNECTION_LOST"]);
    })(),
  );

  test(
    "costs nothing of the budget",
    scene(async (s) => {
      const pool = await s.start({ ...twoByTwo, retry: { budget: 0 } });
      const works = Array.from({ length: 50 }, () => s.use());
      for (const work of works) work.fail(unsent());
      await s.settle();
      expect(works.map(({ ran }) => ran.length)).toEqual(works.map(() => 2));
      expect(pool.stats().totals.retried).toBe(50);
      s.check();
    }),
  );

  test(
    "waits for a member when there is none, before everyone who has not been served yet and whatever the limit",
    scene(async (s) => {
      s.server.capacity = 1;
      await s.start({ size: 1, backoff, queue: { limit: 1 } });
      const [work, waits] = [s.use(), s.use()];
      s.server.last.lose();
      work.fail(unsent());
      await s.settle();
      // The connection came back at once, and the one who had been served was first.
      expect([idsOf(work), waits.started]).toEqual([[1, 2], false]);
      s.check();
      work.end();
      await s.settle();
      expect(idsOf(waits)).toEqual([2]);
      s.check();
    }),
  );

  test(
    "is sent once more on its only member, if there is no other",
    scene(async (s) => {
      await s.start({ size: 1, backoff });
      const work = s.use();
      work.fail(unsent());
      await s.settle();
      expect(idsOf(work)).toEqual([1, 1]);
      s.check();
    }),
  );

  test(
    "is not sent again by a pool that was destroyed, but by one that closes",
    scene(async (s) => {
      const pool = await s.start(twoByTwo);
      const work = s.use();
      const closed = pool.close();
      work.fail(unsent());
      await s.settle();
      expect(work.ran.length).toBe(2);
      await s.until(pool.destroy());
      work.fail(unsent());
      await s.until(closed);
      expect([work.outcome, work.ran.length]).toEqual(["ERR_POOL_CLOSED", 2]);
    }),
  );

  test(
    "is not sent again once its caller has given up",
    scene(async (s) => {
      const caller = new AbortController();
      await s.start(twoByTwo);
      const work = s.use({ signal: caller.signal });
      caller.abort(new Error("enough"));
      work.fail(unsent());
      await s.settle();
      expect([work.outcome, work.ran.length]).toEqual(["enough", 1]);
      s.check();
    }),
  );
});

describe("a request that may have been sent", () => {
  test(
    "is not repeated, and its caller told so",
    scene(async (s) => {
      const pool = await s.start(twoByTwo);
      const work = s.use();
      const error = maybeSent();
      work.fail(error);
      await s.settle();
      expect([work.error, work.ran.length]).toEqual([error, 1]);
      expect(error.retryable).toBe(false);
      expect(pool.stats().totals).toMatchObject({ retried: 0, failed: 1 });
      s.check();
    }),
  );

  test(
    "is repeated elsewhere when its caller said that it may be",
    scene(async (s) => {
      const pool = await s.start(twoByTwo);
      const work = s.use({ idempotent: true });
      work.fail(maybeSent());
      await s.settle();
      expect(new Set(work.ran.map(({ endpoint }) => endpoint))).toEqual(new Set(["a", "b"]));
      work.end(2);
      await s.settle();
      expect([work.value, pool.stats().totals]).toMatchObject([2, { retried: 1, succeeded: 1, failed: 0 }]);
      s.check();
    }),
  );

  test(
    "is repeated as often as attempts allow",
    scene(async (s) => {
      await s.start(twoByTwo);
      const work = s.use({ idempotent: true });
      await failEach(s, work, maybeSent);
      expect([work.ran.length, work.outcome]).toEqual([3, "ERR_CONNECTION_LOST"]);
    }),
  );

  test(
    "is not repeated without a budget",
    scene(async (s) => {
      await s.start({ ...twoByTwo, retry: { budget: 0 } });
      const work = s.use({ idempotent: true });
      work.fail(maybeSent());
      await s.settle();
      expect([work.ran.length, work.outcome]).toEqual([1, "ERR_CONNECTION_LOST"]);
    }),
  );

  test(
    "is repeated within the budget that all share: ten a second, or a tenth of what was asked",
    scene(async (s) => {
      const pool = await s.start({ ...twoByTwo, retry: { attempts: 2 } });
      const repeated = async (callers: number): Promise<number> => {
        const works = Array.from({ length: callers }, () => s.use({ idempotent: true }));
        for (const work of works) work.fail(maybeSent());
        await s.settle();
        const again = works.filter(({ ran }) => ran.length > 1).length;
        for (const work of works) work.end();
        await s.settle();
        return again;
      };
      expect(await repeated(40)).toBe(10);
      await s.advance(1_000);
      expect(await repeated(40)).toBe(10);
      await s.advance(60_000);
      expect(await repeated(300)).toBe(30);
      expect(pool.stats().totals.retried).toBe(50);
      s.check();
    }),
  );

  test(
    "is not repeated for an error that says nothing of a connection",
    scene(async (s) => {
      await s.start(twoByTwo);
      const work = s.use({ idempotent: true });
      const error = new Refused("ECONNRESET");
      work.fail(error);
      await s.settle();
      expect([work.error, work.ran.length]).toEqual([error, 1]);
    }),
  );
});

describe("all attempts", () => {
  test(
    "and their waits share the first deadline, after which the last error is the answer",
    scene(async (s) => {
      const refused = s.events("pool.refused");
      const pool = await s.start({ size: 1, backoff });
      const work = s.use({ timeoutMs: 500 });
      await s.advance(300);
      s.server.always("refuse");
      s.server.last.lose();
      const error = unsent();
      work.fail(error);
      await s.advance(199);
      expect([work.outcome, pool.stats().waiting]).toEqual(["pending", 1]);
      await s.advance(1);
      expect(work.error).toBe(error);
      expect(pool.stats()).toMatchObject({ waiting: 0, totals: { timedOut: 1, failed: 1 } });
      expect(refused).toEqual([{ pool: "scene", code: "ERR_CONNECTION_LOST", waitedMs: 200 }]);
      s.check();
    }),
  );

  test(
    "may go on after it as long as nobody has to wait",
    scene(async (s) => {
      await s.start(twoByTwo);
      const work = s.use({ timeoutMs: 500 });
      await s.advance(1_000);
      work.fail(unsent());
      await s.settle();
      expect(work.ran.length).toBe(2);
      s.check();
    }),
  );

  test.each([0, 500])("end with the last error when there is nobody, and no time left of %i ms", (timeoutMs) =>
    scene(async (s) => {
      const pool = await s.start({ size: 1, backoff });
      const work = s.use({ timeoutMs });
      await s.advance(501);
      s.server.always("refuse");
      s.server.last.lose();
      const error = unsent();
      work.fail(error);
      await s.settle();
      expect(work.error).toBe(error);
      expect(pool.stats()).toMatchObject({ waiting: 0, totals: { failed: 1 } });
      s.check();
    })(),
  );

  test(
    "end with the last error when no connection can ever come",
    scene(async (s) => {
      await s.start({ size: 1, backoff });
      const waits = s.use({ idempotent: true });
      s.server.always(after(50, "fatal"));
      s.server.last.lose();
      const error = maybeSent();
      waits.fail(error);
      await s.advance(49);
      expect(waits.outcome).toBe("pending");
      await s.advance(1);
      expect(waits.error).toBe(error);
      s.check();
    }),
  );

  test(
    "end when the pool is destroyed, with its reason",
    scene(async (s) => {
      const pool = await s.start({ size: 1, backoff });
      s.server.always("refuse");
      const work = s.use();
      s.server.last.lose();
      work.fail(unsent());
      await s.settle();
      expect(pool.stats().waiting).toBe(1);
      const reason = new Error("we are done");
      await s.until(pool.destroy(reason));
      expect(work.error).toBe(reason);
    }),
  );

  test(
    "end when the caller gives up between two of them",
    scene(async (s) => {
      const caller = new AbortController();
      await s.start({ size: 1, backoff });
      s.server.always("refuse");
      const work = s.use({ signal: caller.signal });
      s.server.last.lose();
      work.fail(unsent());
      await s.settle();
      caller.abort(new Error("enough"));
      await s.settle();
      expect([work.outcome, s.pool.stats().waiting]).toEqual(["enough", 0]);
      s.check();
    }),
  );

  test(
    "have a signal of their own: that of a lost one stays aborted, that of the next is not",
    scene(async (s) => {
      const caller = new AbortController();
      await s.start({ size: 2, backoff });
      const work = s.use({ idempotent: true, signal: caller.signal });
      const reason = new Refused("ECONNRESET");
      work.resource.lose(reason);
      await s.advance(0);
      const [first, second] = work.signals;
      expect([work.ran.length, first?.aborted, second?.aborted]).toEqual([2, true, false]);
      expect(first?.reason).toMatchObject({ code: "ERR_CONNECTION_LOST", cause: reason });
      caller.abort("enough");
      expect([first?.reason, second?.reason]).toMatchObject([{ code: "ERR_CONNECTION_LOST" }, "enough"]);
      work.end();
      s.check();
    }),
  );

  test.each([
    ["it rejected", (work: Work) => work.fail(maybeSent())],
    ["its resource was lost", (work: Work) => work.resource.lose()],
    ["its connection was killed", (_: Work, s: Scene) => s.connections[0]?.kill()],
    [
      "its resource was lost, and it said that nothing had left",
      (work: Work) => {
        const { resource } = work;
        resource.lose();
        work.fail(unsent());
      },
    ],
  ])("run in their caller's async context, begun again because %s", (_, end) =>
    scene(async (s) => {
      const context = new AsyncLocalStorage<string>();
      const seen: unknown[] = [];
      s.server.capacity = 1;
      const pool = await s.start({ size: 1, backoff });
      const work = context.run("caller", () => {
        const made = new Work();
        const run: typeof made.run = (resource, given) => {
          seen.push(context.getStore());
          return made.run(resource, given);
        };
        made.follow(pool.use(run, { idempotent: true }).finally(() => seen.push(context.getStore())));
        s.works.push(made);
        return made;
      });
      s.server.always("refuse");
      context.run("somebody else", () => end(work, s));
      await s.advance(0);
      s.server.always("ok");
      await context.run("the clock", () => s.advance(1_000));
      context.run("somebody else", () => work.end());
      await s.settle();
      expect([seen, work.outcome]).toEqual([["caller", "caller", "caller"], "ok"]);
      s.check();
    })(),
  );
});

describe("a resource lost under a work", () => {
  test(
    "is told to the work at once, and to its caller one tick later",
    scene(async (s) => {
      const pool = await s.start({ size: 1, backoff });
      const work = s.use();
      const { resource } = work;
      const reason = new Refused("ECONNRESET");
      resource.lose(reason);
      expect(work.signal.aborted).toBe(true);
      await s.settle();
      expect(work.outcome, "it may still say what it makes of it").toBe("pending");
      await s.advance(0);
      expect(work.error).toMatchObject({ code: "ERR_CONNECTION_LOST", sent: "maybe", cause: reason, retryable: false });
      expect((work.error as ConnectionLostError).stats).toMatchObject({ name: "scene", totals: { lost: 1 } });
      expect(pool.stats()).toMatchObject({ inFlight: 0, totals: { failed: 1, retried: 0 } });
      s.check();
    }),
  );

  test(
    "keeps the program alive until its callers know",
    scene(async (s) => {
      await s.start({ size: 1, backoff });
      const work = s.use();
      work.resource.lose();
      await s.settle(); // It has been closed by then: that keeps the program alive, too.
      expect(s.runtime.keepAliveTimers).toBe(1);
      await s.advance(0);
      expect([s.runtime.keepAliveTimers, work.outcome]).toEqual([0, "ERR_CONNECTION_LOST"]);
    }),
  );

  test(
    "is no matter when the work ends well within the tick",
    scene(async (s) => {
      const pool = await s.start({ size: 1, backoff });
      const work = s.use();
      work.resource.lose();
      await s.settle();
      work.end("it came just before");
      await s.advance(0);
      expect([work.value, pool.stats().totals]).toMatchObject(["it came just before", { succeeded: 1, failed: 0 }]);
      s.check();
    }),
  );

  test(
    "is what the work says of it within the tick",
    scene(async (s) => {
      await s.start(twoByTwo);
      const [own, no, maybe] = [s.use(), s.use(), s.use()];
      for (const work of [own, no, maybe]) work.resource.lose();
      own.fail(new Error("half written"));
      no.fail(unsent());
      const error = maybeSent();
      maybe.fail(error);
      await s.advance(0);
      expect([own.outcome, no.ran.length, maybe.error]).toEqual(["half written", 2, error]);
      expect(no.resource.endpoint).not.toBe(no.ran[0]?.endpoint);
      s.check();
    }),
  );

  test(
    "is nobody's answer later: what the lost attempt ends in is ignored",
    scene(async (s) => {
      const pool = await s.start({ size: 2, backoff });
      for (const late of ["resolves", "rejects"]) {
        const lost: { end(value: unknown): void; fail(error: unknown): void }[] = [];
        const used = s.pool.use(
          () => new Promise<unknown>((resolve, reject) => void lost.push({ end: resolve, fail: reject })),
          { idempotent: true },
        );
        const busy = pool.members().find(({ inFlight }) => inFlight > 0);
        s.registered.find(({ slot }) => slot === busy?.slot)?.lose();
        await s.advance(0);
        expect(lost.length).toBe(2);
        if (late === "resolves") lost[0]?.end("the first");
        else lost[0]?.fail(unsent());
        await s.settle();
        expect([lost.length, pool.stats().inFlight]).toEqual([2, 1]);
        lost[1]?.end("the second");
        expect(await used).toBe("the second");
        expect(pool.stats().inFlight).toBe(0);
        s.check();
        await s.advance(1_000);
      }
    }),
  );

  test(
    "is nobody's answer later, while its caller waits for another attempt either",
    scene(async (s) => {
      const pool = await s.start({ size: 1, backoff });
      const ends: ((value: string) => void)[] = [];
      const used = pool.use(() => new Promise<string>((resolve) => void ends.push(resolve)), { idempotent: true });
      s.server.always("refuse");
      s.server.last.lose();
      await s.advance(0);
      expect(pool.stats().waiting).toBe(1);
      ends[0]?.("the first");
      await s.settle();
      expect(pool.stats()).toMatchObject({ waiting: 1, totals: { succeeded: 0 } });
      s.server.always("ok");
      await s.advance(100);
      ends[1]?.("the second");
      expect(await used).toBe("the second");
      s.check();
    }),
  );

  test(
    "is repeated for those who allow it, elsewhere, one tick later",
    scene(async (s) => {
      const retried = s.events("pool.retried");
      const pool = await s.start(twoByTwo);
      const work = s.use({ idempotent: true });
      const first = work.resource;
      first.lose();
      await s.settle();
      expect(work.ran.length).toBe(1);
      await s.advance(0);
      expect(work.ran.length).toBe(2);
      expect(work.resource.endpoint).not.toBe(first.endpoint);
      expect(retried).toMatchObject([{ attempt: 1, error: { code: "ERR_CONNECTION_LOST", sent: "maybe" } }]);
      work.end();
      await s.settle();
      expect(pool.stats().totals).toMatchObject({ retried: 1, succeeded: 1, failed: 0 });
      s.check();
    }),
  );

  test(
    "counts against the attempts",
    scene(async (s) => {
      await s.start({ ...twoByTwo, retry: { attempts: 2 } });
      const work = s.use({ idempotent: true });
      for (let attempt = 0; attempt < 3; attempt++) {
        if (work.outcome === "pending") work.resource.lose();
        await s.advance(0);
      }
      expect([work.ran.length, work.outcome]).toEqual([2, "ERR_CONNECTION_LOST"]);
      s.check();
    }),
  );

  test(
    "takes all that were on it along, and nobody else, and tells them in the order they came",
    scene(async (s) => {
      await s.start({ size: 2, backoff });
      const works = Array.from({ length: 20 }, () => s.use());
      const [victim] = s.registered;
      const told: number[] = [];
      for (const [at, work] of works.entries()) work.promise.catch(() => told.push(at));
      victim?.lose();
      await s.advance(0);
      const on = works.flatMap(({ resource }, at) => (resource === victim ? [at] : []));
      expect(on.length).toBe(10);
      expect(told).toEqual(on);
      expect(s.pool.stats().inFlight).toBe(10);
      s.check();
    }),
  );

  test.each(["killed", "out of its time to finish"])("(its connection %s) is a loss like any other", (how) =>
    scene(async (s) => {
      await s.start({ size: 1, backoff, drainTimeoutMs: 50 });
      const work = s.use();
      if (how === "killed") s.connections[0]?.kill();
      else {
        work.resource.goAway();
        await s.advance(49);
        expect([work.outcome, work.signal.aborted]).toEqual(["pending", false]);
        await s.advance(1);
      }
      await s.advance(0);
      expect(work.error).toMatchObject({ code: "ERR_CONNECTION_LOST", sent: "maybe" });
      s.check();
    })(),
  );

  test(
    "and a caller who gives up in that tick: the caller has said it first",
    scene(async (s) => {
      const caller = new AbortController();
      await s.start({ size: 1, backoff });
      const work = s.use({ signal: caller.signal, idempotent: true });
      work.resource.lose();
      caller.abort(new Error("enough"));
      await s.advance(0);
      expect([work.outcome, work.ran.length]).toEqual(["enough", 1]);
      s.check();
    }),
  );

  test(
    "and a pool destroyed in that tick: the pool's reason",
    scene(async (s) => {
      const pool = await s.start({ size: 1, backoff });
      const work = s.use({ idempotent: true });
      work.resource.lose();
      const reason = new Error("we are done");
      await s.until(pool.destroy(reason));
      expect([work.error, work.ran.length]).toEqual([reason, 1]);
    }),
  );

  test(
    "by a work of its own making is a loss, too",
    scene(async (s) => {
      const pool = await s.start({ size: 1, backoff });
      const outcome = s.outcome(
        pool.use((resource) => {
          resource.lose();
          return new Promise(() => undefined);
        }),
      );
      await s.advance(0);
      expect(await outcome).toBe("ERR_CONNECTION_LOST");
      expect(await s.outcome(pool.use((resource) => resource.lose()))).toBe("ok");
      await s.advance(100);
      expect(pool.stats()).toMatchObject({ inFlight: 0, ready: 1 });
      s.check();
    }),
  );
});
