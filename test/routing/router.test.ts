/**
 * The router: a registry and a strategy, for pools made by hand.
 *
 * The registry is the membership. Nobody tells the router of a change; it sees it when it next looks.
 */

import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { afterEach, describe, expect, test } from "vitest";
import {
  type Events,
  leastUsed,
  type Member,
  NoMemberError,
  type Outcome,
  Process,
  Registry,
  roundRobin,
  Router,
  type Strategy,
  type StrategyLike,
  strictRoundRobin,
} from "../../src/index.ts";
import { virtualRuntime } from "../../src/sim/index.ts";
import { codeOf } from "./scene.ts";

const atEnd: (() => void)[] = [];

afterEach(() => {
  for (const act of atEnd.splice(0)) act();
});

function failures(): Events["callback.failed"][] {
  const seen: Events["callback.failed"][] = [];
  const listener = (fields: unknown): unknown => seen.push(fields as Events["callback.failed"]);
  subscribe("poolwarden:callback.failed", listener);
  atEnd.push(() => unsubscribe("poolwarden:callback.failed", listener));
  return seen;
}

/** A registry with some workers in it, each of whose name is its value, and a router over them. */
async function stage(strategy: StrategyLike<string> = roundRobin(), ...names: string[]) {
  const registry = await Registry.start<string, string>({ keys: "duplicate", name: "hand-made" });
  const runtime = virtualRuntime();
  const router = new Router(registry, "workers", strategy, { runtime });
  const owners = new Map<string, Process>();
  const join = async (...more: string[]): Promise<void> => {
    for (const name of more) {
      const owner = await Process.start({ name, init: () => undefined });
      owners.set(name, owner);
      registry.register(owner, "workers", name);
    }
  };
  await join(...names);
  const die = (name: string): void => owners.get(name)?.kill();
  const picks = (count: number): string[] => Array.from({ length: count }, () => router.pick().value);
  return { registry, runtime, router, owners, join, die, picks };
}

/** A work that ends when it is told to. */
function held(): { work: () => Promise<string>; end: (value: string) => void; fail: (error: unknown) => void } {
  let end!: (value: string) => void;
  let fail!: (error: unknown) => void;
  const promise = new Promise<string>((resolve, reject) => {
    end = resolve;
    fail = reject;
  });
  return { work: () => promise, end, fail };
}

/** What a call throws. */
function thrownBy(call: () => unknown): unknown {
  try {
    call();
  } catch (error) {
    return error;
  }
  throw new Error("it has not thrown");
}

const first = (members: readonly Member<string>[]): Member<string> => members[0] as Member<string>;

describe("a router", () => {
  test("picks an entry by its strategy: owner, key and value", async () => {
    const { router, owners, picks } = await stage(roundRobin(), "a", "b");
    expect(router.pick()).toEqual({ owner: owners.get("a"), key: "workers", value: "a" });
    expect(picks(3)).toEqual(["b", "a", "b"]);
  });

  test("throws that there is nobody, and finds whoever comes", async () => {
    const { router, registry, join } = await stage();
    const error = thrownBy(() => router.pick());
    expect(error).toBeInstanceOf(NoMemberError);
    expect(error).toMatchObject({
      code: "ERR_POOL_NO_MEMBER",
      retryable: true,
      stats: { name: "hand-made", ready: 0 },
    });
    await expect(router.use(() => 1)).rejects.toMatchObject({ code: "ERR_POOL_NO_MEMBER" });
    await join("a");
    expect(router.pick().value).toBe("a");
    expect(registry.count()).toBe(1);
  });

  test("knows of nobody under another key", async () => {
    const { registry, router } = await stage();
    const owner = await Process.start({ init: () => undefined });
    registry.register(owner, "others", "x");
    expect(codeOf(thrownBy(() => router.pick()))).toBe("ERR_POOL_NO_MEMBER");
  });

  test("follows the registry: who dies is never picked again, in the very same step", async () => {
    const { picks, die, join } = await stage(roundRobin(), "a", "b", "c");
    picks(1);
    die("b");
    expect(new Set(picks(6))).toEqual(new Set(["a", "c"]));
    await join("d");
    expect(new Set(picks(6))).toEqual(new Set(["a", "c", "d"]));
    for (const name of ["a", "c", "d"]) die(name);
    expect(codeOf(thrownBy(() => picks(1)))).toBe("ERR_POOL_NO_MEMBER");
  });

  test("has a registration that was taken back no longer, and the owner's other one still", async () => {
    const { registry, picks } = await stage();
    const owner = await Process.start({ init: () => undefined });
    const [one] = [registry.register(owner, "workers", "one"), registry.register(owner, "workers", "two")];
    expect(new Set(picks(4))).toEqual(new Set(["one", "two"]));
    one.unregister();
    expect(new Set(picks(4))).toEqual(new Set(["two"]));
  });

  test("works over a registry of unique keys, whose one owner may change its value", async () => {
    const registry = await Registry.start<string, string>({ keys: "unique" });
    const router = new Router(registry, "leader", leastUsed());
    const owner = await Process.start({ init: () => undefined });
    registry.register(owner, "leader", "first term");
    expect(router.pick().value).toBe("first term");
    registry.updateValue(owner, "leader", () => "second term");
    expect(router.pick().value).toBe("second term");
  });

  test("throws what a closed registry throws", async () => {
    const { router, registry, picks } = await stage(roundRobin(), "a");
    picks(1);
    await registry.close();
    expect(codeOf(thrownBy(() => router.pick()))).toBe("ERR_REGISTRY_CLOSED");
    await expect(router.use(() => 1)).rejects.toMatchObject({ code: "ERR_REGISTRY_CLOSED" });
  });

  test.each([
    ["a registry that is none", { registry: {} }, "registry"],
    ["a strategy that was not made", { strategy: leastUsed }, "strategy"],
    ["a strategy that cannot pick", { strategy: {} }, "strategy"],
    ["an option nobody knows", { options: { size: 3 } }, "size"],
    ["a runtime that is none", { options: { runtime: {} } }, "runtime"],
  ])("refuses %s", async (_, wrong, option) => {
    const right = { registry: (await stage()).registry, strategy: roundRobin(), options: {} };
    const { registry, strategy, options } = { ...right, ...wrong } as typeof right;
    const error = thrownBy(() => new Router(registry, "workers", strategy, options));
    expect(error).toMatchObject({ code: "ERR_OPTION", option: expect.stringContaining(option) });
  });

  test("tells its strategy the request", async () => {
    const { router } = await stage(
      { pick: (members, { key }) => members[Number(key)] as Member<string> },
      "a",
      "b",
      "c",
    );
    expect([2, 0, 1].map((key) => router.pick({ key }).value)).toEqual(["c", "a", "b"]);
    expect(await router.use(({ value }) => value, { key: 2 })).toBe("c");
  });

  test("shows its strategy a member with its owner's name, and a slot that nobody else ever has", async () => {
    const seen: Member<string>[] = [];
    const { router, die, join } = await stage(
      {
        pick: (members) => {
          seen.push(...members.map((member) => ({ ...member })));
          return first(members);
        },
      },
      "a",
    );
    router.pick();
    die("a");
    await join("b");
    router.pick();
    expect(seen).toMatchObject([
      { resource: "a", endpoint: { id: "a" }, slot: 0, inFlight: 0, capacity: Infinity, weight: 1 },
      { resource: "b", endpoint: { id: "b" }, slot: 1, inFlight: 0, capacity: Infinity, weight: 1 },
    ]);
  });
});

describe("use", () => {
  test("gives what the work returns, now or later, and what it throws", async () => {
    const { router } = await stage(roundRobin(), "a");
    expect(await router.use(({ value }) => `${value}!`)).toBe("a!");
    expect(await router.use(async ({ value }) => `${value}!`)).toBe("a!");
    await expect(router.use(() => Promise.reject(new Error("later")))).rejects.toThrow("later");
    const thrown = router.use(() => {
      throw new Error("now");
    });
    await expect(thrown).rejects.toThrow("now");
    await expect(router.use("work" as never)).rejects.toMatchObject({ code: "ERR_OPTION" });
  });

  test("counts what is in flight for the strategy, until it settles, well or badly", async () => {
    const { router } = await stage(leastUsed(), "a", "b", "c");
    const works = [held(), held(), held()];
    const values: string[] = [];
    const used = works.map(({ work }) =>
      router.use((entry) => {
        values.push(entry.value);
        return work();
      }),
    );
    expect(new Set(values)).toEqual(new Set(["a", "b", "c"]));
    works[1]?.end("done");
    expect(await used[1]).toBe("done");
    expect(router.pick().value).toBe(values[1]);
    works[2]?.fail(new Error("broken"));
    await expect(used[2]).rejects.toThrow("broken");
    // Both are free: the one that has failed comes last.
    expect(router.pick().value).toBe(values[1]);
    works[0]?.end("done");
    await used[0];
  });

  test("tells the strategy in pairs, with how long and how", async () => {
    const told: unknown[] = [];
    const { router, runtime } = await stage(
      {
        pick: first,
        started: ({ resource, inFlight }) => void told.push(["started", resource, inFlight]),
        finished: ({ resource, inFlight }, { ok, durationMs, error }: Outcome) =>
          void told.push(["finished", resource, inFlight, ok, durationMs, error]),
      },
      "a",
    );
    const [good, bad] = [held(), held()];
    const used = [router.use(good.work), router.use(bad.work)] as const;
    await runtime.advance(20);
    good.end("done");
    await used[0];
    await runtime.advance(20);
    const error = new Error("broken");
    bad.fail(error);
    await expect(used[1]).rejects.toBe(error);
    expect(told).toEqual([
      ["started", "a", 1],
      ["started", "a", 2],
      ["finished", "a", 1, true, 20, undefined],
      ["finished", "a", 0, false, 40, error],
    ]);
  });

  test("ends well for one whose entry has gone meanwhile", async () => {
    const counts: number[] = [];
    const { router, die } = await stage(
      { pick: first, finished: ({ inFlight }) => void counts.push(inFlight) },
      "a",
      "b",
    );
    const { work, end } = held();
    const used = router.use(work);
    die("a");
    expect(router.pick().value).toBe("b");
    end("all the same");
    expect(await used).toBe("all the same");
    expect(counts).toEqual([0]);
  });
});

describe("what a router knows of a member", () => {
  test("stays while others come and go", async () => {
    const { router, join, die } = await stage(leastUsed(), "a", "b");
    const { work, end } = held();
    let busy = "";
    const used = router.use(({ value }) => {
      busy = value;
      return work();
    });
    const idle = busy === "a" ? "b" : "a";
    await join("c");
    die(idle);
    await join("d");
    for (const name of ["c", "d"]) {
      expect(["c", "d"]).toContain(router.pick().value);
      die(name);
    }
    expect(router.pick().value).toBe(busy);
    end("done");
    await used;
  });

  test("keeps a strict cycle strict", async () => {
    const { picks, join, die } = await stage(strictRoundRobin(), "a", "b", "c", "d");
    const begun = picks(2);
    await join("e");
    const gone = ["a", "b", "c", "d"].find((name) => !begun.includes(name)) as string;
    die(gone);
    const rest = ["a", "b", "c", "d", "e"].filter((name) => !begun.includes(name) && name !== gone);
    expect(picks(2).sort()).toEqual(rest);
  });

  test("is told to the strategy: who joined, who left, each once, at the next pick", async () => {
    const told: string[] = [];
    const { router, join, die } = await stage(
      {
        pick: first,
        joined: ({ resource }) => void told.push(`+${resource}`),
        left: ({ resource }) => void told.push(`-${resource}`),
      },
      "a",
      "b",
    );
    expect(told).toEqual([]);
    router.pick();
    router.pick();
    await join("c");
    die("a");
    router.pick();
    expect(told).toEqual(["+a", "+b", "-a", "+c"]);
  });
});

describe("a strategy that misbehaves", () => {
  let stranger: Member<string> | undefined;

  const wrong: [string, (members: Member<string>[]) => unknown][] = [
    [
      "throws",
      () => {
        throw new Error("no idea");
      },
    ],
    ["names nobody", () => undefined],
    ["names a stranger", (members) => ({ ...first(members) })],
    ["names one of another router", () => stranger],
    ["is async and rejects", () => Promise.reject(new Error("no idea"))],
  ];
  test.each(wrong)("(it %s) is an event, and the first entry is taken", async (_, pick) => {
    const failed = failures();
    await (await stage({ pick: (members) => (stranger = first(members)) }, "x")).router.use(() => 1);
    const { router } = await stage({ pick: pick as never }, "a", "b");
    expect(router.pick().value).toBe("a");
    expect(await router.use(({ value }) => value)).toBe("a");
    await new Promise((resolve) => setImmediate(resolve));
    expect(failed.length).toBeGreaterThanOrEqual(2);
    expect(new Set(failed.map(({ where }) => where))).toEqual(new Set([`router over "hand-made": strategy.pick`]));
  });

  test("(it names one that has gone) is an event, and somebody who is there is taken", async () => {
    const failed = failures();
    let favourite: Member<string> | undefined;
    const { router, die } = await stage({ pick: (members) => (favourite ??= first(members)) }, "a", "b");
    expect(router.pick().value).toBe("a");
    die("a");
    expect(router.pick().value).toBe("b");
    expect(failed).toMatchObject([{ error: { code: "ERR_OPTION" } }]);
  });

  const rude: [string, (members: Member<string>[]) => unknown][] = [
    ["sorts", (members) => members.sort((a, b) => b.slot - a.slot)[0]],
    ["takes one out of", (members) => members.pop()],
    [
      "empties",
      (members) => {
        const [one] = members;
        members.length = 0;
        return one;
      },
    ],
    [
      "takes one out of, and throws because of",
      (members) => {
        members.shift();
        throw new Error("oops");
      },
    ],
  ];
  test.each(rude)("(it %s the array it is shown) loses nobody, nor what is known of them", async (_, pick) => {
    const told: string[] = [];
    let sizes: number[] = [];
    const strategy: Strategy<string> = {
      pick: (members) => {
        sizes.push(members.length);
        return pick(members as Member<string>[]) as Member<string>;
      },
      joined: ({ resource }) => void told.push(`+${resource}`),
      left: ({ resource }) => void told.push(`-${resource}`),
    };
    const { router, die } = await stage(strategy, "a", "b", "c");
    for (let request = 0; request < 6; request++) await router.use(() => 1);
    expect(sizes).toEqual([3, 3, 3, 3, 3, 3]);
    die("b");
    sizes = [];
    for (let request = 0; request < 3; request++) expect(["a", "c"]).toContain(router.pick().value);
    expect([sizes, told]).toEqual([
      [2, 2, 2],
      ["+a", "+b", "+c", "-b"],
    ]);
  });

  const forged: [string, (members: (Member<string> | undefined)[], gone: Member<string>) => unknown][] = [
    ["one that has gone", (members, gone) => members.splice(0, 1, gone)],
    ["a stranger", (members) => members.splice(0, 1, { resource: "x" } as Member<string>)],
    ["nobody", (members) => members.splice(0, 1, undefined)],
  ];
  test.each(forged)(
    "(it puts %s first in the array, and fails then and later) still has the first who is there taken",
    async (_, forge) => {
      const failed = failures();
      let gone: Member<string> | undefined;
      const strategy: Strategy<string> = {
        pick: (members) => {
          gone ??= first(members);
          if (members.length === 3) return first(members);
          forge(members as Member<string>[], gone);
          throw new Error("no idea");
        },
      };
      const { router, registry, die } = await stage(strategy, "a", "b", "c");
      router.pick();
      die("a");
      for (let request = 0; request < 3; request++) expect(router.pick()).toBe(registry.lookup("workers")[0]);
      expect(await router.use(({ value }) => value)).toBe("b");
      expect(failed.map(({ error }) => error.message)).toEqual(new Array(4).fill("no idea"));
    },
  );

  test("(it puts one that has gone first in the array, and names it) has the first who is there taken, then and later", async () => {
    let gone: Member<string> | undefined;
    const { router, die } = await stage(
      {
        pick: (members) => {
          gone ??= first(members);
          if (members.length === 2) (members as Member<string>[]).fill(gone);
          return first(members);
        },
      },
      "a",
      "b",
      "c",
    );
    router.pick();
    die("a");
    expect([router.pick().value, router.pick().value]).toEqual(["b", "b"]);
  });

  test.each(["joined", "left", "started", "finished"])(
    "(its %s throws or rejects) is an event, and harms nobody",
    async (hook) => {
      const failed = failures();
      let calls = 0;
      const { router, die } = await stage(
        {
          pick: first,
          [hook]: () => {
            if (++calls % 2 === 0) return Promise.reject(new Error("broken hook"));
            throw new Error("broken hook");
          },
        },
        "a",
        "b",
        "c",
      );
      expect([await router.use(({ value }) => value), await router.use(({ value }) => value)]).toEqual(["a", "a"]);
      die("a");
      die("b");
      expect(router.pick().value).toBe("c");
      await new Promise((resolve) => setImmediate(resolve));
      const expected = { where: `router over "hand-made": strategy.${hook}`, error: new Error("broken hook") };
      expect(calls).toBeGreaterThanOrEqual(2);
      expect(failed).toEqual(new Array(calls).fill(expected));
    },
  );
});
