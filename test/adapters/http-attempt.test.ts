/**
 * How the attempts of all protocols tell the pool that they have ended: once, later, and in order.
 */
import { expect, test } from "vitest";
import { blameless, HttpAttempt } from "../../src/adapters/http/attempt.ts";
import { turn } from "./http.ts";

/** An attempt that ends when it is told to, and a pool that writes down what it hears. */
class Told extends HttpAttempt {
  constructor(name: string, heard: string[], then: () => void = () => undefined) {
    const end = (ok: boolean, result: unknown): void => {
      heard.push(`${name}: ${ok ? "well" : (result as Error).message}`);
      then();
    };
    super({} as never, { end } as never);
  }

  override send(): void {
    // Nothing to send.
  }

  override abort(reason: Error): void {
    this.ends(reason);
  }

  ends(error?: Error): boolean {
    return this.end(error);
  }
}

test("an attempt ends once, and its pool hears of it when whoever ended it is done", async () => {
  const heard: string[] = [];
  const attempt = new Told("it", heard);
  expect([attempt.ends(new Error("lost")), attempt.ends(), attempt.ends(blameless)]).toEqual([true, false, false]);
  expect(heard).toEqual([]);
  await turn();
  expect(heard).toEqual(["it: lost"]);
});

test("pools hear in the order in which attempts ended, of those last that end for it", async () => {
  const heard: string[] = [];
  const last = new Told("last", heard);
  const attempts = ["first", "second"].map((name) => new Told(name, heard, () => last.ends()));
  for (const attempt of attempts) attempt.ends();
  await turn();
  expect(heard).toEqual(["first: well", "second: well", "last: well"]);
});

test("a pool that throws keeps no other from hearing", async () => {
  const heard: string[] = [];
  const thrown: unknown[] = [];
  const note = (error: unknown): void => void thrown.push(error);
  const before = process.listeners("unhandledRejection");
  process.removeAllListeners("unhandledRejection");
  process.on("unhandledRejection", note);
  const broken = new Error("broken");
  const attempts = [
    new Told("first", heard, () => {
      throw broken;
    }),
    new Told("second", heard),
  ];
  for (const attempt of attempts) attempt.ends();
  await turn();
  process.off("unhandledRejection", note);
  for (const listener of before) process.on("unhandledRejection", listener);
  expect([heard, thrown]).toEqual([["first: well", "second: well"], [broken]]);
});
