/**
 * Strategies: the four that come with the library, and whatever users may come up with.
 *
 * A strategy is a function of members and dice, so most of this needs no pool: the members are made here, the time and
 * the dice are virtual. What a pool does with a strategy that misbehaves is seen with a pool.
 */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  ConnectionLostError,
  leastUsed,
  type Member,
  type Outcome,
  random,
  roundRobin,
  type Strategy,
  type StrategyFactory,
  strictRoundRobin,
} from "../../src/index.ts";
import { type VirtualRuntime, virtualRuntime } from "../../src/sim/index.ts";
import { codeOf, type Scene, scene, type Work } from "./scene.ts";
import type { Resource } from "./server.ts";

const backoff = { kind: "exponential", minMs: 100, maxMs: 1_000 } as const;

class Fake implements Member<string> {
  readonly resource: string;
  endpoint: { readonly id: string };
  readonly slot: number;
  readonly capacity = Infinity;
  readonly weight = 1;
  load = 0;
  /** How often somebody has asked for its load. */
  looks = 0;

  constructor(slot: number) {
    this.slot = slot;
    this.resource = `resource ${slot}`;
    this.endpoint = { id: `endpoint ${slot}` };
  }

  get inFlight(): number {
    this.looks++;
    return this.load;
  }
}

function fakes(count: number): Fake[] {
  return Array.from({ length: count }, (_, slot) => new Fake(slot));
}

/** A strategy without a pool. */
class Trial {
  readonly runtime: VirtualRuntime = virtualRuntime({ seed: 1 });
  readonly members: Fake[];
  readonly #strategy: Strategy<string>;
  #roll: number | undefined;

  constructor(factory: StrategyFactory, count: number) {
    const { runtime } = this;
    const random = (): number => this.#roll ?? runtime.random();
    this.#strategy = factory({ now: () => runtime.now(), setTimer: () => ({ cancel: () => undefined }), random });
    this.members = fakes(count);
  }

  /** From now on the dice show this. */
  roll(roll: number): void {
    this.#roll = roll;
  }

  /** The slot of the one picked. */
  pick(members: Fake[] = this.members): number {
    return this.#strategy.pick(members, {}).slot;
  }

  picks(count: number): number[] {
    return Array.from({ length: count }, () => this.pick());
  }

  /** The strategy hears of all members, as it does in a pool. */
  join(members: Fake[] = this.members): void {
    for (const member of members) this.#strategy.joined?.(member);
  }

  /** A request on the member in a slot has ended. */
  ended(slot: number, durationMs: number, ok = true): void {
    this.#strategy.finished?.(this.members[slot] as Fake, { ok, durationMs, endedAt: this.runtime.now() });
  }
}

describe("random", () => {
  test("takes each as the dice say, the first and the last too", () => {
    const trial = new Trial(random(), 4);
    const seen = [0, 0.24, 0.25, 0.5, 0.75, 0.999_999].map((roll) => {
      trial.roll(roll);
      return trial.pick();
    });
    expect(seen).toEqual([0, 0, 1, 2, 3, 3]);
  });

  test("takes all alike in the long run", () => {
    const counts = [0, 0, 0, 0, 0];
    for (const slot of new Trial(random(), 5).picks(5_000)) counts[slot] = (counts[slot] as number) + 1;
    expect(Math.min(...counts)).toBeGreaterThan(900);
  });

  test("repeats itself with the seed of its runtime", () => {
    expect(new Trial(random(), 100).picks(20)).toEqual(new Trial(random(), 100).picks(20));
  });
});

describe("roundRobin", () => {
  test("takes one after another", () => {
    expect(new Trial(roundRobin(), 3).picks(7)).toEqual([0, 1, 2, 0, 1, 2, 0]);
  });

  test("goes on among those that are left", () => {
    const trial = new Trial(roundRobin(), 4);
    trial.picks(4);
    trial.members.length = 2;
    expect(trial.picks(4)).toEqual([0, 1, 0, 1]);
    trial.members.length = 1;
    expect(trial.picks(2)).toEqual([0, 0]);
  });

  test("shares an index among all requests of a pool, and none among pools", () => {
    const factory = roundRobin();
    const [one, other] = [new Trial(factory, 3), new Trial(factory, 3)];
    expect([one.picks(2), other.picks(2)]).toEqual([
      [0, 1],
      [0, 1],
    ]);
  });
});

describe("strictRoundRobin", () => {
  test("takes one after another", () => {
    expect(new Trial(strictRoundRobin(), 3).picks(7)).toEqual([0, 1, 2, 0, 1, 2, 0]);
  });

  test("still takes in this cycle who joins in the middle of it", () => {
    const trial = new Trial(strictRoundRobin(), 3);
    trial.picks(2);
    trial.members.push(new Fake(3));
    expect(new Set(trial.picks(2))).toEqual(new Set([2, 3]));
    expect(new Set(trial.picks(4))).toEqual(new Set([0, 1, 2, 3]));
  });

  test("passes nobody over when one leaves and the last takes its place", () => {
    const trial = new Trial(strictRoundRobin(), 4);
    trial.picks(2);
    trial.members[0] = trial.members.pop() as Fake;
    expect(new Set(trial.picks(2))).toEqual(new Set([2, 3]));
    expect(new Set(trial.picks(3))).toEqual(new Set([1, 2, 3]));
  });

  test("takes one that was full at its turn when it has room again, within the cycle", () => {
    const trial = new Trial(strictRoundRobin(), 4);
    const [, full] = trial.members as [Fake, Fake];
    const withRoom = trial.members.filter((member) => member !== full);
    expect([trial.pick(), trial.pick(withRoom)]).toEqual([0, 2]);
    expect(new Set(trial.picks(2))).toEqual(new Set([1, 3]));
  });

  test("hits nobody twice before everybody who is there, whoever joins, leaves or is full", () => {
    const step = fc.record({ what: fc.constantFrom("pick", "pick", "pick", "join", "leave"), at: fc.nat(20) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), fc.array(fc.nat(3), { maxLength: 40 }), (steps, fulls) => {
        const trial = new Trial(strictRoundRobin(), 5);
        const { members } = trial;
        let hit = new Set<number>();
        let next = members.length;
        for (const [turn, { what, at }] of steps.entries()) {
          if (what === "join") members.push(new Fake(next++));
          else if (what === "leave" && members.length > 1) {
            const last = members.pop() as Fake;
            if (at < members.length) members[at] = last;
          } else {
            const full = fulls[turn] ?? 0;
            const shown = full > 0 ? members.filter((_, place) => place % (full + 1) !== 0) : members;
            const shownAll = shown.length > 0 ? shown : members;
            const slot = trial.pick(shownAll);
            if (hit.has(slot)) {
              expect(shownAll.filter((member) => !hit.has(member.slot)).map((member) => member.slot)).toEqual([]);
              hit = new Set();
            }
            hit.add(slot);
          }
        }
      }),
      { seed: 1, numRuns: 300 },
    );
  });

  test(
    "spreads a pool's requests evenly to the last one, through losses and returns",
    scene(async (s) => {
      await s.start({ size: 5, strategy: strictRoundRobin(), backoff });
      const hits = (): number[] =>
        s.registered.map(({ id }) => s.works.filter(({ resource }) => resource.id === id).length);
      for (let cycle = 0; cycle < 4; cycle++) for (let hit = 0; hit < 5; hit++) s.use().end();
      expect(hits()).toEqual([4, 4, 4, 4, 4]);
      s.use().end();
      const lost = s.registered.find(({ id }) => id !== s.works.at(-1)?.resource.id);
      lost?.lose();
      await s.advance(0);
      expect(s.registered.length).toBe(5);
      for (let hit = 0; hit < 4; hit++) s.use().end();
      // Everyone who was there has had its fifth; the new one its first.
      expect(hits().sort((a, b) => a - b)).toEqual([1, 5, 5, 5, 5]);
      s.check();
    }),
  );
});

describe("leastUsed", () => {
  test("takes the one with the fewest in flight", () => {
    const trial = new Trial(leastUsed(), 5);
    for (const [slot, load] of [3, 1, 4, 0, 5].entries()) (trial.members[slot] as Fake).load = load;
    expect(trial.pick()).toBe(3);
    (trial.members[3] as Fake).load = 2;
    expect(trial.pick()).toBe(1);
  });

  test("among equals takes the one that has been quickest of late", () => {
    const trial = new Trial(leastUsed(), 3);
    trial.ended(0, 50);
    trial.ended(1, 10);
    trial.ended(2, 30);
    expect(trial.pick()).toBe(1);
    (trial.members[1] as Fake).load = 1;
    expect(trial.pick()).toBe(2);
  });

  test("tries those it knows nothing of first", () => {
    const trial = new Trial(leastUsed(), 3);
    trial.ended(0, 1);
    trial.ended(2, 1);
    expect(trial.pick()).toBe(1);
  });

  test("leaves it to chance where nothing is known of any", () => {
    const trial = new Trial(leastUsed(), 4);
    trial.join();
    const firsts = [0, 0.3, 0.6, 0.9].map((roll) => {
      trial.roll(roll);
      return trial.pick();
    });
    expect(firsts).toEqual([0, 1, 2, 3]);
  });

  test("takes those who have not answered yet for ten times as slow as who has", async () => {
    const trial = new Trial(leastUsed(), 3);
    trial.join();
    trial.ended(1, 2);
    expect(trial.pick()).toBe(1);
    trial.ended(1, 19);
    expect(trial.pick()).toBe(1);
    trial.ended(1, 21);
    expect(trial.pick()).toBe(0);
  });

  test("gives them their turn once the peaks of the others have outgrown theirs", async () => {
    const trial = new Trial(leastUsed(), 2);
    trial.join();
    trial.ended(0, 2);
    await trial.runtime.advance(2_300);
    trial.ended(0, 2);
    expect(trial.pick()).toBe(0);
    await trial.runtime.advance(10);
    trial.ended(0, 2);
    expect(trial.pick()).toBe(1);
  });

  test("forgets what it took one for as soon as that one has answered", () => {
    const trial = new Trial(leastUsed(), 2);
    trial.join();
    trial.ended(0, 2);
    trial.ended(1, 1);
    expect(trial.pick()).toBe(1);
  });

  test("takes those at the endpoint of one that has been slow for as slow, until they have answered", () => {
    const trial = new Trial(leastUsed(), 4);
    const [quick, slow, sibling, other] = trial.members as [Fake, Fake, Fake, Fake];
    sibling.endpoint = slow.endpoint;
    trial.join();
    trial.ended(quick.slot, 2);
    trial.ended(slow.slot, 100);
    expect(trial.pick([sibling, other])).toBe(other.slot);
    trial.ended(other.slot, 90);
    expect(trial.pick([sibling, other])).toBe(other.slot);
    trial.ended(sibling.slot, 2);
    expect(trial.pick([sibling, other])).toBe(sibling.slot);
    // One that has answered speaks for itself.
    trial.ended(slow.slot, 1_000);
    expect(trial.pick([sibling, other])).toBe(sibling.slot);
  });

  test("takes one that joins later for ten times as slow as was usual of late", () => {
    const trial = new Trial(leastUsed(), 3);
    trial.join(trial.members.slice(0, 2));
    trial.ended(0, 100);
    trial.ended(1, 10);
    for (let quick = 0; quick < 200; quick++) trial.ended(1, 2);
    trial.join(trial.members.slice(2));
    expect(trial.pick([0, 2].map((slot) => trial.members[slot] as Fake))).toBe(2);
    expect(trial.pick([1, 2].map((slot) => trial.members[slot] as Fake))).toBe(1);
  });

  test("does not let speed outweigh load", () => {
    const trial = new Trial(leastUsed(), 2);
    trial.ended(0, 0.01);
    trial.ended(1, 10_000);
    (trial.members[0] as Fake).load = 1;
    expect(trial.pick()).toBe(1);
  });

  test("remembers the worst, whatever came since", () => {
    const trial = new Trial(leastUsed(), 2);
    trial.ended(0, 100);
    for (let quick = 0; quick < 10; quick++) trial.ended(0, 1);
    trial.ended(1, 50);
    expect(trial.pick()).toBe(1);
  });

  test("lets a peak fade, to 37 % in a second", async () => {
    const trial = new Trial(leastUsed(), 2);
    trial.ended(0, 100);
    await trial.runtime.advance(1_000);
    trial.ended(1, 36);
    expect(trial.pick()).toBe(1);
    trial.ended(1, 38);
    expect(trial.pick()).toBe(0);
  });

  test("counts a failure as 5 seconds, however quick it was", () => {
    const trial = new Trial(leastUsed(), 2);
    trial.ended(0, 1, false);
    trial.ended(1, 4_999);
    expect(trial.pick()).toBe(1);
    trial.ended(1, 5_001);
    expect(trial.pick()).toBe(0);
  });

  test("takes no latency for less than a microsecond: they are alike", () => {
    const trial = new Trial(leastUsed(), 2);
    trial.ended(0, 0.001);
    trial.ended(1, 0);
    expect(trial.pick()).toBe(0);
  });

  test.each([1, 2, 100, 256])("looks at all of %i members", (count) => {
    const trial = new Trial(leastUsed(), count);
    for (const member of trial.members) member.load = 5;
    (trial.members.at(-1) as Fake).load = 4;
    expect(trial.pick()).toBe(count - 1);
    expect(trial.members.filter(({ looks }) => looks === 0)).toEqual([]);
  });

  test.each([
    ["in the middle", 0.5, 150, 213],
    ["from the first", 0, 0, 63],
    ["around the end", 0.9, 270, 33],
    ["from the last", 0.999, 299, 62],
  ])("looks at 64 of more, %s", (_, roll, from, to) => {
    const trial = new Trial(leastUsed(), 300);
    trial.roll(roll);
    for (const member of trial.members) member.load = 5;
    const inside = (slot: number): boolean => (from <= to ? slot >= from && slot <= to : slot >= from || slot <= to);
    trial.pick();
    expect(trial.members.filter(({ looks }) => looks > 0).map(({ slot }) => slot)).toEqual(
      trial.members.map(({ slot }) => slot).filter(inside),
    );
    // The best of those looked at, wherever among them it stands, and none of the others.
    for (const slot of [from, to]) {
      (trial.members[slot] as Fake).load = 4;
      expect(trial.pick()).toBe(slot);
      (trial.members[slot] as Fake).load = 5;
    }
    (trial.members[(to + 1) % 300] as Fake).load = 0;
    expect(inside(trial.pick())).toBe(true);
  });

  test("finds the quickest of equals around the end, too", () => {
    const trial = new Trial(leastUsed(), 300);
    trial.roll(0.9);
    for (const { slot } of trial.members) trial.ended(slot, 100);
    for (const member of trial.members) member.load = 0;
    trial.members[5] = new Fake(5);
    expect(trial.pick()).toBe(5);
    trial.ended(5, 101);
    trial.members[280] = new Fake(280);
    expect(trial.pick()).toBe(280);
  });

  test("is what a plain search for the least would find", () => {
    const one = fc.record({ load: fc.nat(3), ms: fc.option(fc.nat(50)) });
    fc.assert(
      fc.property(fc.array(one, { minLength: 1, maxLength: 40 }), (given) => {
        const trial = new Trial(leastUsed(), given.length);
        for (const [slot, { load, ms }] of given.entries()) {
          (trial.members[slot] as Fake).load = load;
          if (ms !== null) trial.ended(slot, ms);
        }
        const fewest = Math.min(...given.map(({ load }) => load));
        const peaks = given.filter(({ load }) => load === fewest).map(({ ms }) => ms ?? -1);
        const picked = given[trial.pick()];
        expect([picked?.load, picked?.ms ?? -1]).toEqual([fewest, Math.min(...peaks)]);
      }),
      { seed: 1, numRuns: 300 },
    );
  });

  test(
    "keeps a pool's requests from a member that fails fast, and goes back to it when it has been forgotten",
    scene(async (s) => {
      await s.start({ size: 4 });
      let bad: Resource | undefined;
      let hits = 0;
      const call = async (): Promise<void> => {
        const work = s.use();
        bad ??= work.resource;
        if (work.resource === bad) {
          hits++;
          work.fail(new Error("broken"));
        } else {
          await s.advance(10);
          work.end();
        }
        await s.settle();
      };
      for (let request = 0; request < 100; request++) await call();
      expect(hits).toBe(1);
      await s.advance(30_000);
      for (let request = 0; request < 4; request++) await call();
      expect(hits).toBe(2);
      s.check();
    }),
  );

  test(
    "holds against a member only what its connector calls a failure",
    scene(async (s) => {
      s.server.isFailure = (error) => codeOf(error) !== "not found";
      await s.start({ size: 2 });
      const [first, second] = [s.use(), s.use()];
      await s.advance(100);
      first.fail(new Error("not found"));
      second.fail(new Error("broken"));
      await s.settle();
      const next = s.use();
      expect(next.resource).toBe(first.resource);
    }),
  );
});

describe("a connector's isFailure", () => {
  const heard = (s: Scene): Promise<boolean[]> => {
    const oks: boolean[] = [];
    const strategy: Strategy<Resource> = {
      pick: (members) => members[0] as Member<Resource>,
      finished: (_, { ok }) => void oks.push(ok),
    };
    return s.start({ size: 1, strategy }).then(() => oks);
  };

  test(
    "decides what a rejection, a throw or a route's error says of the resource, and nothing else",
    scene(async (s) => {
      const asked: string[] = [];
      s.server.isFailure = (error) => {
        asked.push(codeOf(error));
        return codeOf(error) !== "not found";
      };
      const oks = await heard(s);
      for (const message of ["not found", "broken"]) {
        s.use().fail(new Error(message));
        await s.settle();
        const thrown = s.pool.use(() => {
          throw new Error(message);
        });
        expect(await s.outcome(thrown)).toBe(message);
        s.pick().settle({ error: new Error(message) });
      }
      s.use().end(new Error("not found"));
      await s.settle();
      expect(oks).toEqual([true, true, true, false, false, false, true]);
      expect(asked).toEqual(["not found", "not found", "not found", "broken", "broken", "broken"]);
    }),
  );

  test(
    "is not asked about what a caller's own abort has caused",
    scene(async (s) => {
      let asked = 0;
      s.server.isFailure = () => ++asked;
      const oks = await heard(s);
      const caller = new AbortController();
      const work = s.use({ signal: caller.signal });
      caller.abort();
      work.fail(caller.signal.reason);
      await s.settle();
      expect([asked, oks]).toEqual([0, [true]]);
    }),
  );

  test.each([
    [
      "throws",
      () => {
        throw new Error("isFailure is broken");
      },
    ],
    ["rejects", () => Promise.reject(new Error("isFailure is broken"))],
  ])("that %s counts as a failure, is an event, and harms nobody", (_, isFailure) =>
    scene(async (s) => {
      const failed = s.events("callback.failed");
      s.server.isFailure = isFailure;
      const oks = await heard(s);
      const work = s.use();
      work.fail(new Error("broken"));
      await s.settle();
      expect([work.outcome, oks]).toEqual(["broken", [false]]);
      expect(failed).toEqual([{ where: "scene: isFailure", error: new Error("isFailure is broken") }]);
      s.check();
    })(),
  );
});

describe("a strategy of one's own", () => {
  const first = (members: readonly Member<Resource>[]): Member<Resource> => members[0] as Member<Resource>;

  test(
    "may be an object with fields of its own, or a function that makes one with the pool's runtime",
    scene(async (s) => {
      class Counting implements Strategy<Resource> {
        picked = 0;
        pick(members: readonly Member<Resource>[]): Member<Resource> {
          this.picked++;
          return first(members);
        }
      }
      const strategy = new Counting();
      await s.start({ size: 1, strategy });
      s.use();
      expect(strategy.picked).toBe(1);
      await s.until(s.pool.destroy());
      let given: unknown;
      await s.start({
        size: 1,
        strategy: (runtime) => {
          given = runtime;
          return { pick: first };
        },
      });
      expect(given).toBe(s.runtime);
    }),
  );

  test(
    "sees what there is to see of each member",
    scene(async (s) => {
      let seen: readonly Member<Resource>[] = [];
      s.server.capacity = 7;
      await s.start({
        endpoints: [{ id: "a", weight: 3, data: { zone: "x" } }],
        size: 1,
        strategy: {
          pick: (members) => {
            seen = members.map((member) => ({ ...pickFields(member) }));
            return first(members);
          },
        },
      });
      s.use();
      s.use();
      expect(seen).toEqual([
        {
          resource: s.server.last,
          endpoint: { id: "a", weight: 3, data: { zone: "x" } },
          slot: 0,
          inFlight: 1,
          capacity: 7,
          weight: 3,
        },
      ]);
    }),
  );

  const wrong: [string, (members: readonly Member<Resource>[]) => unknown][] = [
    [
      "throws",
      () => {
        throw new Error("no idea");
      },
    ],
    [
      "throws what is no error",
      () => {
        throw "no idea";
      },
    ],
    ["names nobody", () => undefined],
    ["names null", () => null],
    ["names a number", () => 3],
    ["names a stranger", (members) => ({ ...pickFields(first(members)) })],
    ["names one that stands in for a member", (members) => ({ ...first(members), index: 0 })],
    ["is async", async (members) => first(members)],
    ["is async and rejects", () => Promise.reject(new Error("no idea"))],
  ];
  test.each(wrong)("that %s is an event, and the first member is taken", (_, pick) =>
    scene(async (s) => {
      const failed = s.events("callback.failed");
      s.server.capacity = 2;
      const pool = await s.start({ size: 2, strategy: { pick: pick as never } });
      const works = Array.from({ length: 5 }, () => s.use());
      expect(pool.stats()).toMatchObject({ inFlight: 4, waiting: 1 });
      await s.settle();
      expect(new Set(failed.map(({ where }) => where))).toEqual(new Set(["scene: strategy.pick"]));
      expect(failed.length).toBeGreaterThanOrEqual(4);
      s.check();
      for (const work of works) {
        work.end("fine");
        await s.settle();
        s.check();
      }
      expect(works.map(({ value }) => value)).toEqual(works.map(() => "fine"));
    })(),
  );

  test(
    "that names one that has gone, or is full, is an event, and nobody is sent there",
    scene(async (s) => {
      const failed = s.events("callback.failed");
      let favourite: Member<Resource> | undefined;
      s.server.capacity = 1;
      await s.start({ size: 3, backoff, strategy: { pick: (members) => (favourite ??= first(members)) } });
      const works = [s.use(), s.use()];
      expect(new Set(works.map(({ resource }) => resource)).size).toBe(2);
      expect(failed).toMatchObject([{ where: "scene: strategy.pick", error: { code: "ERR_OPTION" } }]);
      favourite?.resource.lose();
      await s.advance(0);
      const next = s.use();
      expect(next.resource).not.toBe(favourite?.resource);
      expect(failed.length).toBe(2);
      s.check();
    }),
  );

  const rude: [string, (members: Member<Resource>[]) => unknown][] = [
    ["sorts", (members) => members.sort((a, b) => a.inFlight - b.inFlight || b.slot - a.slot)[0]],
    ["reverses", (members) => members.reverse()[0]],
    ["takes one out of", (members) => members.pop()],
    [
      "takes one out of, and throws because of",
      (members) => {
        members.shift();
        throw new Error("oops");
      },
    ],
    [
      "takes one out of, and names another of",
      (members) => {
        const [one] = members;
        members.pop();
        return one;
      },
    ],
    [
      "empties",
      (members) => {
        const [one] = members;
        members.length = 0;
        return one;
      },
    ],
    [
      "sorts and names nobody of",
      (members) => {
        members.sort((a, b) => b.slot - a.slot);
        return undefined;
      },
    ],
  ];
  test.each(rude)("that %s the array it is shown harms nobody", (_, pick) =>
    scene(async (s) => {
      s.server.capacity = 2;
      const pool = await s.start({
        endpoints: [{ id: "a" }, { id: "b" }],
        size: 2,
        backoff,
        strategy: { pick: pick as never },
      });
      for (let round = 0; round < 6; round++) {
        const works = Array.from({ length: 9 }, () => s.use());
        expect(pool.stats(), "all have room for two, and are found").toMatchObject({ inFlight: 8, waiting: 1 });
        s.check();
        for (const work of works) {
          work.end();
          await s.settle();
          s.check();
        }
        expect(s.server.fit.every(({ peak }) => peak === 2)).toBe(true);
        // Somebody leaves while the array is in whatever order.
        s.registered[round % 4]?.lose();
        await s.advance(1_000);
        expect(pool.stats()).toMatchObject({ ready: 4, inFlight: 0 });
      }
      expect(works(s, "ok").length).toBe(54);
    })(),
  );

  test.each(rude)("that %s the array it is shown harms no retry", (_, pick) =>
    scene(async (s) => {
      await s.start({ endpoints: [{ id: "a" }, { id: "b" }], size: 2, backoff, strategy: { pick: pick as never } });
      const work = s.use();
      work.fail(new ConnectionLostError("it never left", { sent: "no" }));
      await s.settle();
      expect(new Set(work.ran.map(({ endpoint }) => endpoint)).size).toBe(2);
      s.check();
    })(),
  );

  test(
    "is told who joins before anything is routed there, and who leaves before anybody else hears",
    scene(async (s) => {
      const told: string[] = [];
      let there: number[] = [];
      await s.start({
        size: 2,
        backoff,
        strategy: {
          pick: (members) => {
            expect(new Set(members.map(({ slot }) => slot))).toEqual(new Set(there));
            return first(members);
          },
          joined: ({ slot, inFlight }) => {
            there.push(slot);
            told.push(`joined ${slot}, ${inFlight} in flight`);
          },
          left: ({ slot, inFlight }) => {
            there = there.filter((each) => each !== slot);
            told.push(`left ${slot}, ${inFlight} in flight`);
          },
        },
      });
      const work = s.use();
      work.signal.addEventListener("abort", () => told.push("the work hears"));
      work.resource.lose();
      await s.advance(0);
      s.use();
      const busy = work.ran[0]?.slot;
      expect(told).toEqual([
        "joined 0, 0 in flight",
        "joined 1, 0 in flight",
        `left ${busy}, 1 in flight`,
        "the work hears",
        `joined ${busy}, 0 in flight`,
      ]);
    }),
  );

  test(
    "is told of each request when it starts and how it ended",
    scene(async (s) => {
      const told: unknown[] = [];
      await s.start({
        size: 1,
        strategy: {
          pick: first,
          started: ({ inFlight }) => told.push(["started", inFlight]) as never,
          finished: ({ inFlight }, { ok, durationMs, error, endedAt }: Outcome) =>
            told.push(["finished", inFlight, ok, durationMs, error, endedAt]) as never,
        },
      });
      const [good, bad] = [s.use(), s.use()];
      await s.advance(30);
      good.end();
      await s.settle();
      await s.advance(10);
      const error = new Error("broken");
      bad.fail(error);
      await s.settle();
      await s.pool.use(() => undefined);
      expect(told).toEqual([
        ["started", 1],
        ["started", 2],
        ["finished", 1, true, 30, undefined, 30],
        ["finished", 0, false, 40, error, 40],
        ["started", 1],
        ["finished", 0, true, 0, undefined, 40],
      ]);
    }),
  );

  test(
    "is told of one whose resource was lost at once, as one that has failed, in no time",
    scene(async (s) => {
      const told: unknown[] = [];
      await s.start({
        size: 1,
        backoff,
        strategy: {
          pick: first,
          finished: (_, { ok, durationMs, error, endedAt }) => void told.push([ok, durationMs, codeOf(error), endedAt]),
        },
      });
      const work = s.use();
      await s.advance(50);
      work.resource.lose();
      expect(told).toEqual([[false, 0, "ERR_CONNECTION_LOST", 50]]);
      work.end();
      await s.settle();
      expect(told.length, "once").toBe(1);
    }),
  );

  test(
    "is told who joins before those who wait for it are sent there",
    scene(async (s) => {
      const told: string[] = [];
      s.server.always("refuse");
      await s.start({
        size: 1,
        backoff,
        strategy: {
          pick: (members) => (told.push("pick"), first(members)),
          joined: () => void told.push("joined"),
          started: () => void told.push("started"),
        },
      });
      s.use();
      s.server.always("ok");
      await s.advance(100);
      expect(told).toEqual(["joined", "pick", "started"]);
    }),
  );

  test(
    "is told of a duration from the grant, not from the call",
    scene(async (s) => {
      const durations: number[] = [];
      s.server.capacity = 1;
      await s.start({
        size: 1,
        strategy: { pick: first, finished: (_, { durationMs }) => void durations.push(durationMs) },
      });
      const works = [s.use(), s.use()];
      for (const work of works) {
        await s.advance(100);
        work.end();
        await s.settle();
      }
      expect(durations).toEqual([100, 100]);
    }),
  );

  test.each(["joined", "left", "started", "finished"])(
    "whose %s throws or rejects is an event, and harms nobody",
    (hook) =>
      scene(async (s) => {
        const failed = s.events("callback.failed");
        let calls = 0;
        const strategy = {
          pick: first,
          [hook]: () => {
            calls++;
            if (calls % 2 === 0) throw new Error("broken hook");
            return Promise.reject(new Error("broken hook"));
          },
        };
        s.server.capacity = 1;
        await s.start({ size: 2, strategy, backoff });
        for (let round = 0; round < 3; round++) {
          const works = [s.use(), s.use(), s.use()];
          for (const work of works) {
            work.end();
            await s.settle();
            s.check();
          }
          expect(works.map(({ outcome }) => outcome)).toEqual(["ok", "ok", "ok"]);
          s.registered[0]?.lose();
          await s.advance(1_000);
          s.check();
        }
        expect(calls).toBeGreaterThan(2);
        expect(failed).toEqual(
          failed.map(() => ({ where: `scene: strategy.${hook}`, error: new Error("broken hook") })),
        );
        expect(failed.length).toBe(calls);
      })(),
  );

  test(
    "is told in pairs, whatever becomes of members and requests",
    scene(async (s) => {
      const balance = new Map<Member<Resource>, { there: number; atWork: number; joined: number; started: number }>();
      const of = (member: Member<Resource>) => {
        const found = balance.get(member) ?? { there: 0, atWork: 0, joined: 0, started: 0 };
        balance.set(member, found);
        return found;
      };
      const strategy: Strategy<Resource> = {
        pick: first,
        joined: (member) => {
          expect(of(member).joined++).toBe(0);
          of(member).there++;
        },
        left: (member) => expect(--of(member).there).toBe(0),
        started: (member) => {
          of(member).started++;
          of(member).atWork++;
        },
        finished: (member) => expect(--of(member).atWork).toBeGreaterThanOrEqual(0),
      };
      s.server.capacity = 2;
      const pool = await s.start({ size: 3, strategy, backoff });
      const atWork = (): number => [...balance.values()].reduce((sum, each) => sum + each.atWork, 0);

      // Ends well, badly, at once, never; gives up at work and in line; is routed and broadcast.
      s.use().end();
      s.use().fail(new Error("broken"));
      await s.settle();
      await s.outcome(
        pool.use(() => {
          throw new Error("at once");
        }),
      );
      const caller = new AbortController();
      const orphan = s.use({ signal: caller.signal });
      caller.abort();
      const route = s.pick();
      const broadcast = pool.broadcast(() => 1);
      const again = s.use();
      again.fail(new ConnectionLostError("it never left", { sent: "no" }));
      await s.settle();
      expect(atWork()).toBe(pool.stats().inFlight);
      route.settle();
      route.settle();
      again.end();
      await s.until(broadcast);
      expect(atWork()).toBe(1);

      // Members are lost, killed, asked to go, with works on them and grants not taken up.
      const works = Array.from({ length: 8 }, () => s.use({ idempotent: true }));
      works[0]?.end();
      while (pool.stats().waiting > 2) await Promise.resolve();
      s.registered[0]?.lose();
      s.connections[1]?.kill();
      s.registered.at(-1)?.goAway();
      await s.advance(1_000);
      expect(atWork()).toBe(pool.stats().inFlight);
      orphan.end();
      for (const work of works) work.end();
      await s.settle();
      s.use();
      s.pick();
      await s.until(pool.destroy());
      expect([...balance.values()].filter(({ there, atWork: left }) => there !== 0 || left !== 0)).toEqual([]);
      expect([...balance.values()].reduce((sum, { started }) => sum + started, 0)).toBe(pool.stats().totals.acquired);
      expect(balance.size).toBe(pool.stats().totals.opened);
    }),
  );
});

function pickFields(member: Member<Resource>): Member<Resource> {
  const { resource, endpoint, slot, inFlight, capacity, weight } = member;
  return { resource, endpoint, slot, inFlight, capacity, weight };
}

function works(s: Scene, outcome: string): Work[] {
  return s.works.filter((work) => work.outcome === outcome);
}
