/**
 * Every way in which a connector's hooks can go, at every point where the pool waits for them, under every way in which a
 * caller can go: 4 × 4 × 4 × 4 × 4 pools. Whatever goes wrong, the counts are right all the time, and every caller has an
 * answer.
 */

import { describe, expect, test } from "vitest";
import { type Holder, Scene } from "./scene.ts";
import type { Gate } from "./server.ts";

const gates = {
  ok: "ok",
  fails: "rejects",
  slow: { ms: 20 },
  never: "never",
} as const satisfies Record<string, Gate>;
type Name = keyof typeof gates;
const names = Object.keys(gates) as Name[];

const ways = ["stays", "aborts", "timesOut", "closes"] as const;
type Way = (typeof ways)[number];

const limits = { openTimeoutMs: 50, checkTimeoutMs: 50, resetTimeoutMs: 50, closeTimeoutMs: 50 };
const backoff = { kind: "exponential", minMs: 30, maxMs: 30 } as const;

/** Four callers, three times each, on two resources, each of which is checked before and reset after each lease. */
async function play(open: Name, check: Name, reset: Name, close: Name, way: Way): Promise<Holder[]> {
  const s = new Scene(1);
  const gone = new AbortController();
  const stays = { timeoutMs: 600 };
  const options = { stays, aborts: { ...stays, signal: gone.signal }, timesOut: { timeoutMs: 25 }, closes: stays }[way];
  s.server.opening = () => gates[open];
  s.server.checking = () => gates[check];
  s.server.resetting = () => gates[reset];
  s.server.closing = () => gates[close];
  await s.start({ max: 2, hooks: ["check", "reset"], checkAfterIdleMs: 0, backoff, ...limits });

  const holders: Holder[] = [];
  const caller = async (): Promise<void> => {
    for (let round = 0; round < 3; round++) {
      const holder = s.acquire(options);
      holders.push(holder);
      await holder.promise.catch(() => undefined);
      if (holder.outcome !== "ok") continue;
      await s.server.pause(5);
      if (round === 1) holder.discard();
      else holder.release();
    }
  };
  const callers = Promise.all([caller(), caller(), caller(), caller()]);
  for (let step = 0; step < 8; step++) {
    if (step === 2 && way === "aborts") gone.abort(new Error("gone"));
    if (step === 2 && way === "closes") s.follow("close", s.pool.close({ timeoutMs: 60 }));
    await s.advance(15);
    s.check();
  }
  await s.until(callers);
  await s.settle();
  s.check();
  const { inFlight, waiting } = s.pool.stats();
  expect({ inFlight, waiting }).toEqual({ inFlight: 0, waiting: 0 });
  await s.finish();
  return holders;
}

/** What a caller may be told, that way. */
const allowed: Record<Way, readonly string[]> = {
  stays: ["ok", "ERR_POOL_ACQUIRE_TIMEOUT"],
  aborts: ["ok", "gone"],
  timesOut: ["ok", "ERR_POOL_ACQUIRE_TIMEOUT"],
  closes: ["ok", "ERR_POOL_CLOSED"],
};

const opens = (open: Name): boolean => open === "ok" || open === "slow";

for (const open of names) {
  describe(`when open is ${open}`, () => {
    for (const check of names) {
      test.each(ways)(`and check is ${check}, the counts are right and every caller is answered: %s`, async (way) => {
        for (const reset of names) {
          for (const close of names) {
            const holders = await play(open, check, reset, close, way);
            const outcomes = [...new Set(holders.map(({ outcome }) => outcome))];
            const setting = `open ${open}, check ${check}, reset ${reset}, close ${close}, caller ${way}`;
            expect(
              outcomes.filter((outcome) => !allowed[way].includes(outcome)),
              setting,
            ).toEqual([]);
            // Whatever else goes wrong, one who waits long enough is served where resources can be opened at all.
            if (way === "stays") expect(outcomes, setting).toEqual([opens(open) ? "ok" : "ERR_POOL_ACQUIRE_TIMEOUT"]);
          }
        }
      });
    }
  });
}
