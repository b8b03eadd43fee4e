/** One work on every member: to subscribe, to flush a cache, to ask each how it is. */

import { describe, expect, test } from "vitest";
import { ConnectionLostError } from "../../src/index.ts";
import { codeOf, type Scene, scene } from "./scene.ts";
import type { Resource } from "./server.ts";

/** A broadcast whose works last until the test ends them. */
class Broadcast {
  readonly ran: Resource[] = [];
  results: string[] | undefined;
  readonly #ends: ((end: () => unknown) => void)[] = [];

  constructor(s: Scene) {
    const promise = s.pool.broadcast(
      (resource) =>
        new Promise((resolve, reject) => {
          this.ran.push(resource);
          resource.begins();
          this.#ends.push((end) => {
            resource.running--;
            try {
              resolve(end());
            } catch (error) {
              reject(error as Error);
            }
          });
        }),
    );
    s.follow(
      promise.then((results) => {
        this.results = results.map((each) =>
          each.status === "fulfilled" ? String(each.value) : `rejected ${codeOf(each.reason)}`,
        );
      }),
    );
  }

  end(at: number, how: () => unknown): void {
    this.#ends[at]?.(how);
  }
}

describe("a broadcast", () => {
  test(
    "runs on every member that is ready, and gives what became of each, in the order of their slots",
    scene(async (s) => {
      const pool = await s.start({ size: 3 });
      s.server.resources[0]?.goAway(); // Its successor comes last, in the first slot.
      await s.settle();
      expect(s.registered.map(({ slot }) => slot)).toEqual([1, 2, 0]);
      expect(pool.members().map(({ slot }) => slot)).toEqual([1, 2, 0]);
      const results = await s.until(pool.broadcast(async ({ slot }) => `slot ${slot}`));
      expect(results).toEqual([0, 1, 2].map((slot) => ({ status: "fulfilled", value: `slot ${slot}` })));
      s.check();
    }),
  );

  test(
    "leaves out those that are not ready",
    scene(async (s) => {
      s.server.next("ok", "refuse", "never", "fatal", "ok");
      const pool = await s.start({ size: 5, strategy: { pick: (members) => members.at(-1)! } });
      const route = pool.pick();
      s.server.always("never");
      route.resource.goAway();
      await s.settle();
      expect(pool.stats()).toMatchObject({ ready: 1, opening: 2, waitingToReopen: 1, fatal: 1, draining: 1 });
      const results = await s.until(pool.broadcast(({ slot }) => slot));
      expect(results).toEqual([{ status: "fulfilled", value: 0 }]);
      s.check();
    }),
  );

  test(
    "is empty when nobody is ready",
    scene(async (s) => {
      s.server.always("never");
      const pool = await s.start({ size: 2 });
      expect(await s.until(pool.broadcast(() => 1))).toEqual([]);
      s.check();
    }),
  );

  test(
    "takes no other along when one fails, throws or is lost",
    scene(async (s) => {
      await s.start({ size: 4 });
      const broadcast = new Broadcast(s);
      broadcast.end(0, () => {
        throw new Error("broken");
      });
      s.server.resources[1]?.lose();
      await s.advance(0);
      expect(broadcast.results).toBeUndefined();
      s.connections[2]?.kill();
      broadcast.end(3, () => "fine");
      await s.advance(0);
      expect(broadcast.results).toEqual([
        "rejected broken",
        "rejected ERR_CONNECTION_LOST",
        "rejected ERR_CONNECTION_LOST",
        "fine",
      ]);
      s.check();
    }),
  );

  test(
    "takes a throw for a rejection, and a value for an answer",
    scene(async (s) => {
      const pool = await s.start({ size: 2 });
      const results = await s.until(
        pool.broadcast(({ slot }) => {
          if (slot === 0) throw new Error("at once");
          return "plain";
        }),
      );
      expect(results).toEqual([
        { status: "rejected", reason: new Error("at once") },
        { status: "fulfilled", value: "plain" },
      ]);
      s.check();
    }),
  );

  test(
    "is made again nowhere, not even what was never sent",
    scene(async (s) => {
      const pool = await s.start({ size: 2 });
      let ran = 0;
      const results = await s.until(
        pool.broadcast(async () => {
          ran++;
          throw new ConnectionLostError("not sent", { sent: "no" });
        }),
      );
      expect(results.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
      expect([ran, pool.stats().totals.retried]).toEqual([2, 0]);
      s.check();
    }),
  );

  test(
    "goes to the full ones too, counts as in flight there, and makes no room by ending",
    scene(async (s) => {
      s.server.capacity = 1;
      const pool = await s.start({ size: 2 });
      const works = [s.use(), s.use(), s.use()];
      await s.settle();
      const broadcast = new Broadcast(s);
      expect(broadcast.ran.map(({ slot }) => slot)).toEqual([0, 1]);
      expect(pool.members().map(({ inFlight }) => inFlight)).toEqual([2, 2]);
      broadcast.end(0, () => "a");
      broadcast.end(1, () => "b");
      await s.settle();
      expect(broadcast.results).toEqual(["a", "b"]);
      expect(works[2]?.started, "both members are still full").toBe(false);
      works[0]?.end();
      await s.settle();
      expect(works[2]?.started).toBe(true);
      expect(pool.stats()).toMatchObject({ inFlight: 2, totals: { acquired: 5, succeeded: 3 } });
      s.check();
    }),
  );

  test(
    "fills a member: the next caller waits until it has ended",
    scene(async (s) => {
      s.server.capacity = 1;
      await s.start({ size: 1 });
      const broadcast = new Broadcast(s);
      const next = s.use();
      await s.settle();
      expect(next.started).toBe(false);
      broadcast.end(0, () => "done");
      await s.settle();
      expect(next.started).toBe(true);
      s.check();
    }),
  );

  test(
    "does not reach a member that went away before its turn, and says that nothing was sent",
    scene(async (s) => {
      const pool = await s.start({ size: 2 });
      const ran: number[] = [];
      const results = await s.until(
        pool.broadcast(({ slot }) => {
          ran.push(slot);
          s.connections[1]?.kill();
        }),
      );
      expect(ran).toEqual([0]);
      expect(results[1]).toMatchObject({ status: "rejected", reason: { code: "ERR_CONNECTION_LOST", sent: "no" } });
      expect(pool.stats().totals).toMatchObject({ acquired: 1, rejected: 1 });
      s.check();
    }),
  );

  test(
    "is waited for by close, each work for itself",
    scene(async (s) => {
      const pool = await s.start({ size: 2 });
      const broadcast = new Broadcast(s);
      const closed = s.follow(pool.close({ timeoutMs: 1_000 }));
      broadcast.end(0, () => "in time");
      await s.advance(1_000);
      expect(closed.value).toEqual({ finished: 1, aborted: 1 });
      expect(broadcast.results).toEqual(["in time", "rejected ERR_POOL_CLOSED"]);
    }),
  );

  test(
    "gives the reason of a destroy for what was not done",
    scene(async (s) => {
      const pool = await s.start({ size: 2 });
      const broadcast = new Broadcast(s);
      await s.until(pool.destroy(new Error("enough")));
      expect(broadcast.results).toEqual(["rejected enough", "rejected enough"]);
    }),
  );
});
