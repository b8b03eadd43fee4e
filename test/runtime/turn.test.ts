/** The end of a turn of the event loop. */

import { AsyncLocalStorage } from "node:async_hooks";
import { setImmediate as turn } from "node:timers/promises";
import { expect, test } from "vitest";
import { atEndOfTurn } from "../../src/runtime/index.ts";

test("calls back once, in the order of asking, after every promise callback of the turn and before the next", async () => {
  const seen: string[] = [];
  atEndOfTurn(() => seen.push("first"));
  atEndOfTurn(() => seen.push("second"));
  for (let hops = 0; hops < 10; hops++) await Promise.resolve();
  await new Promise<void>((resolve) => process.nextTick(resolve));
  seen.push("promise");
  await turn();
  seen.push("next turn");
  await turn();
  expect(seen).toEqual(["promise", "first", "second", "next turn"]);
});

test("what is asked for while a turn ends is for the end of the next", async () => {
  const seen: string[] = [];
  atEndOfTurn(() => {
    seen.push("this");
    atEndOfTurn(() => seen.push("next"));
  });
  await turn();
  expect(seen).toEqual(["this"]);
  await turn();
  expect(seen).toEqual(["this", "next"]);
});

test("runs in nobody's async context, whoever asked first", async () => {
  const storage = new AsyncLocalStorage<string>();
  const seen: unknown[] = [];
  storage.run("somebody", () => atEndOfTurn(() => seen.push(storage.getStore())));
  storage.run("another", () => atEndOfTurn(() => seen.push(storage.getStore())));
  await turn();
  expect(seen).toEqual([undefined, undefined]);
});
