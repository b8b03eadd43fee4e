/** Events: published as they are, to whoever listens, and to nobody's harm. */

import { channel } from "node:diagnostics_channel";
import { afterEach, describe, expect, test, vi } from "vitest";
import { emit, type Events, watched } from "../src/telemetry/index.ts";
import { heard } from "./process/heard.ts";

const fields = (): Events["callback.failed"] => ({ where: "a test", error: new Error("broken") });

afterEach(() => {
  vi.restoreAllMocks();
});

describe("an event", () => {
  test("reaches every subscriber of poolwarden:<event>, synchronously, as the very object", () => {
    using one = heard("callback.failed");
    using two = heard("callback.failed");
    const event = fields();
    emit("callback.failed", event);
    expect(one.events[0]).toBe(event);
    expect(two.events[0]).toBe(event);
  });

  test("reaches nobody who listens to another, or no longer listens", () => {
    const gone = heard("callback.failed");
    using other = heard("process.crashed");
    gone[Symbol.dispose]();
    emit("callback.failed", fields());
    expect([gone.events, other.events]).toEqual([[], []]);
  });

  test("is not even published when nobody listens", () => {
    const to = channel("poolwarden:callback.failed");
    const published = vi.spyOn(to, "publish");
    emit("callback.failed", fields());
    expect(published).not.toHaveBeenCalled();
  });

  test("does no harm by a subscriber that throws: the others hear it, emit returns, and Node reports it later", () => {
    const later: unknown[] = [];
    using _ = {
      [Symbol.dispose]: () => channel("poolwarden:callback.failed").unsubscribe(broken),
    };
    const broken = (): void => {
      throw new Error("a subscriber's own");
    };
    channel("poolwarden:callback.failed").subscribe(broken);
    using other = heard("callback.failed");
    vi.spyOn(process, "nextTick").mockImplementation((act: unknown) => void later.push(act));
    emit("callback.failed", fields());
    vi.restoreAllMocks();
    expect(other.events).toHaveLength(1);
    expect(later).toHaveLength(1);
  });
});

test("watched tells whether anybody listens, as it changes, from one look-up", () => {
  const calls = watched("pool.queued");
  expect(calls.hasSubscribers).toBe(false);
  {
    using _ = heard("pool.queued");
    expect(calls.hasSubscribers).toBe(true);
  }
  expect(calls.hasSubscribers).toBe(false);
});
