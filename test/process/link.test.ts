/** Links: what an abnormal exit takes along, and what a clean one does not. */

import { describe, expect, test } from "vitest";
import { type ExitReason, type HasProcess, Process } from "../../src/process/index.ts";
import { virtualRuntime } from "../../src/sim/index.ts";
import { heard } from "./heard.ts";

const broken = new Error("broken");

function live(terminate?: (state: undefined, reason: ExitReason) => void): Promise<Process<undefined>> {
  return Process.start({ init: () => undefined, ...(terminate !== undefined && { terminate }) });
}

/** An abnormal end, by the reason it is to have. */
function end(child: Process, reason: "killed" | Error): void {
  if (reason === "killed") child.kill();
  else void child.stop({ reason });
}

describe.each(["killed", broken] as const)("the abnormal exit (%s)", (reason) => {
  test.each([
    ["of the one that linked ends the other", (a: Process, b: Process) => [a, b] as const],
    ["of the other ends the one that linked", (a: Process, b: Process) => [b, a] as const],
  ])("%s, with the same reason, at once", async (_, order) => {
    const [a, b] = [await live(), await live()];
    a.link(b);
    const [first, second] = order(a, b);
    end(first, reason);
    expect(second.alive).toBe(false);
    expect(await second.exited).toBe(reason);
  });

  test("lets the linked one clean up what it held, and does not call terminate of one that was killed", async () => {
    const terminated: [string, ExitReason][] = [];
    const a = await live((_, why) => void terminated.push(["a", why]));
    const b = await live((_, why) => void terminated.push(["b", why]));
    a.link(b);
    end(a, reason);
    const expected: typeof terminated = reason === "killed" ? [] : [["a", reason]];
    expect(terminated).toEqual([...expected, ["b", reason]]);
  });

  test("acts at once on who links to it when it is over, from either side, once", async () => {
    const dead = await live();
    end(dead, reason);
    const told: ExitReason[] = [];
    const [a, b] = [await live(), await live()];
    a.monitor((why) => told.push(why));
    b.monitor((why) => told.push(why));
    a.link(dead);
    expect(a.alive).toBe(false);
    dead.link(b);
    expect(b.alive).toBe(false);
    expect(told).toEqual([reason, reason]);
  });

  test("travels through a ring, and ends each one once", async () => {
    const ring = await Promise.all([1, 2, 3, 4].map(() => live()));
    const told: number[] = [];
    for (const [at, child] of ring.entries()) {
      child.link(ring[(at + 1) % ring.length] as Process);
      child.monitor(() => told.push(at));
    }
    end(ring[2] as Process, reason);
    expect(ring.every((child) => !child.alive)).toBe(true);
    expect(told.toSorted((a, b) => a - b)).toEqual([0, 1, 2, 3]);
  });
});

describe.each(["normal", "shutdown"] as const)("a clean exit (%s)", (reason) => {
  test("leaves the linked one alive, and unties it for good", async () => {
    const [a, b] = [await live(), await live()];
    a.link(b);
    await a.stop({ reason });
    b.monitor(() => undefined);
    expect(b.alive).toBe(true);
    b.kill();
    expect(await a.exited).toBe(reason);
  });

  test("that is over when somebody links to it does nothing", async () => {
    const [dead, child] = [await live(), await live()];
    await dead.stop({ reason });
    dead.link(child);
    child.link(dead);
    expect(child.alive).toBe(true);
  });
});

describe("a link", () => {
  test("is undone by its disposal, from both sides, and disposing twice undoes no other", async () => {
    const [a, b] = [await live(), await live()];
    const first = a.link(b);
    const second = b.link(a);
    first[Symbol.dispose]();
    first[Symbol.dispose]();
    const [c, d] = [await live(), await live()];
    const third = c.link(d);
    third[Symbol.dispose]();
    c.kill();
    expect(d.alive).toBe(true);
    a.kill();
    expect(b.alive).toBe(false);
    second[Symbol.dispose]();
  });

  test("of a pair counts: only when each one is disposed of are the two free", async () => {
    const [a, b] = [await live(), await live()];
    const links = [a.link(b), a.link(b), b.link(a)];
    for (const link of links) link[Symbol.dispose]();
    a.kill();
    expect(b.alive).toBe(true);
  });

  test("that was made with a dead one may be disposed of, and ties nobody", async () => {
    const [dead, child] = [await live(), await live()];
    await dead.stop();
    child.link(dead)[Symbol.dispose]();
    const other = await live();
    child.link(other);
    other.kill();
    expect(child.alive).toBe(false);
  });

  test("to itself is nothing", async () => {
    const child = await live();
    child.link(child)[Symbol.dispose]();
    child.kill();
    expect(await child.exited).toBe("killed");
  });

  test("takes whatever has a process, and nothing else", async () => {
    const [child, owner] = [await live(), { process: await live() }];
    child.link(owner);
    owner.process.kill();
    expect(child.alive).toBe(false);
    for (const wrong of [undefined, null, {}, { process: {} }, "child"]) {
      expect(() => child.link(wrong as unknown as HasProcess)).toThrow(/Process\.link: other: expected a process/);
    }
  });

  test("acts after the monitors: when one's are told, the other is alive still", async () => {
    const [a, b] = [await live(), await live()];
    const seen: boolean[] = [];
    a.link(b);
    a.monitor(() => seen.push(b.alive));
    a.kill();
    expect(seen).toEqual([true]);
    expect(b.alive).toBe(false);
  });

  test("made by a monitor of the dying one acts too", async () => {
    const [a, b, c] = [await live(), await live(), await live()];
    a.link(b);
    b.monitor(() => b.link(c));
    a.kill();
    expect([a.alive, b.alive, c.alive]).toEqual([false, false, false]);
  });

  test("to one that is stopping ends it sooner, for its own reason, and is no failure of its terminate", async () => {
    using failed = heard("process.terminateFailed");
    const runtime = virtualRuntime();
    const [early, late] = [await live(), await live()];
    const terminate = (): Promise<void> => runtime.settle();
    const stopping = await Process.start({ runtime, init: () => undefined, terminate });
    stopping.link(early);
    void stopping.stop();
    end(early, broken);
    expect(stopping.alive).toBe(false);
    expect(stopping.reason).toBe("shutdown");

    const another = await Process.start({ runtime, init: () => undefined, terminate });
    void another.stop();
    end(late, broken);
    another.link(late);
    expect(another.reason).toBe("shutdown");
    await runtime.settle();
    expect([failed.events, runtime.timers]).toEqual([[], 0]);
  });

  test("reaches the others although the terminate of one on the way throws", async () => {
    using failed = heard("process.terminateFailed");
    const hub = await live();
    const bad = await live(() => {
      throw new Error("cannot close");
    });
    const good = await live();
    hub.link(bad);
    hub.link(good);
    hub.kill();
    expect([bad.alive, good.alive]).toEqual([false, false]);
    expect(failed.events.map(({ error }) => error.message)).toEqual(["cannot close"]);
  });
});

test("a chain of 100,000 links ends in one step, with no stack to overflow", async () => {
  const chain: Process[] = [];
  for (let at = 0; at < 100_000; at++) chain.push(await live());
  for (let at = 1; at < chain.length; at++) (chain[at - 1] as Process).link(chain[at] as Process);
  const order: number[] = [];
  for (const at of [0, 1, 50_000, 99_999]) chain[at]?.monitor(() => order.push(at));

  void chain[0]?.stop({ reason: broken });
  expect(order).toEqual([0, 1, 50_000, 99_999]);
  expect(chain.some((child) => child.alive)).toBe(false);
  expect(await chain.at(-1)?.exited).toBe(broken);
  await virtualRuntime().settle();
});
