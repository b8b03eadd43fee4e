/**
 * What tests over real sockets wait with. Nothing sleeps: whoever waits for the kernel lets the event loop turn until
 * something is true.
 */
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { afterEach, expect } from "vitest";
import type { Events } from "../../src/index.ts";

const atEnd: (() => unknown)[] = [];

afterEach(async () => {
  for (const end of atEnd.splice(0).reverse()) await end();
});

/** Something to be undone when the test is over, the last first. */
export function later(end: () => unknown): void {
  atEnd.push(end);
}

/** Lets the event loop turn once: what the kernel has for us is read. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Lets the event loop turn until something is true. */
export async function until(test: () => boolean, what: string = String(test)): Promise<void> {
  for (let turns = 0; turns < 200_000 && !test(); turns++) await turn();
  expect(test(), what).toBe(true);
}

/** What is emitted under this name from now on. */
export function events<E extends keyof Events>(name: E): Events[E][] {
  const seen: Events[E][] = [];
  const listener = (fields: unknown): unknown => seen.push(fields as Events[E]);
  subscribe(`poolwarden:${name}`, listener);
  later(() => unsubscribe(`poolwarden:${name}`, listener));
  return seen;
}
