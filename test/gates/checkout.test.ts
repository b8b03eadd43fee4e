/**
 * Every way in which a connector's hooks and its callers' works can go, at every point where a checkout pool waits for
 * them, under every way in which callers can go.
 */

import { Scene, type Work } from "../checkout/scene.ts";
import type { Gate } from "../checkout/server.ts";
import { gates, type Manner, type Played, type Setting, type Way } from "./gates.ts";

type Hook = "open" | "check" | "reset" | "close" | "work";

const gateOf = { ok: "ok", fails: "rejects", slow: { ms: 20 }, never: "never" } as const satisfies Record<Manner, Gate>;
const limits = { openTimeoutMs: 50, checkTimeoutMs: 50, resetTimeoutMs: 50, closeTimeoutMs: 50, leaseTimeoutMs: 60 };
const backoff = { kind: "exponential", minMs: 30, maxMs: 30 } as const;

/** What the work's caller is told when nothing else goes wrong. */
const told: Record<Manner, string> = { ok: "ok", fails: "broken", slow: "ok", never: "ERR_LEASE_EXPIRED" };

const besides: Record<Way, readonly string[]> = {
  stays: ["ERR_POOL_ACQUIRE_TIMEOUT"],
  aborts: ["ERR_POOL_ACQUIRE_TIMEOUT", "gone"],
  timesOut: ["ERR_POOL_ACQUIRE_TIMEOUT"],
  closes: ["ERR_POOL_CLOSED"],
};

/**
 * Three callers, twice each, on two resources: two with works, one with leases. Each resource is checked before and reset
 * after each lease.
 */
async function play(setting: Setting<Hook>): Promise<Played> {
  const { open, check, reset, close, work, way } = setting;
  const s = new Scene(1);
  const gone = new AbortController();
  const stays = { timeoutMs: 450 };
  const options = { stays, aborts: { ...stays, signal: gone.signal }, timesOut: { timeoutMs: 15 }, closes: stays }[way];
  s.server.opening = () => gateOf[open];
  s.server.checking = () => gateOf[check];
  s.server.resetting = () => gateOf[reset];
  s.server.closing = () => gateOf[close];
  await s.start({ max: 2, hooks: ["check", "reset"], checkAfterIdleMs: 0, backoff, ...limits });

  const works: Work[] = [];
  const caller = async (): Promise<void> => {
    for (let round = 0; round < 2; round++) {
      const each = s.use(options, (begun) => end(s, begun, work));
      works.push(each);
      await each.promise.catch(() => undefined);
    }
  };
  /** One who takes a lease, and throws its resource away. */
  const spendthrift = async (): Promise<void> => {
    for (let round = 0; round < 2; round++) {
      const holder = s.acquire(options);
      await holder.promise.catch(() => undefined);
      if (holder.outcome === "ok") await s.server.pause(5);
      holder.discard();
    }
  };
  const callers = Promise.all([caller(), caller(), spendthrift()]);
  for (let step = 0; step < 5; step++) {
    if (step === 1 && way === "aborts") gone.abort(new Error("gone"));
    if (step === 1 && way === "closes") s.follow("close", s.pool.close({ timeoutMs: 40 }));
    await s.advance(15);
    s.check();
  }
  await s.until(callers);
  // A work whose caller has gone still has its resource, until its lease has run out.
  await s.advance(limits.leaseTimeoutMs);
  s.check();
  await s.finish();
  // One who has had a lease has had all there is to be told of it.
  const had = s.holders.map(({ outcome }) => (outcome === "ok" ? told[work] : outcome));
  const outcomes = [...works.map(({ outcome }) => outcome), ...had];
  const served = open === "ok" || open === "slow";
  const certain = way !== "stays" ? undefined : served ? told[work] : "ERR_POOL_ACQUIRE_TIMEOUT";
  return { outcomes, allowed: [told[work], ...besides[way]], certain };
}

function end(s: Scene, work: Work, manner: Manner): void {
  if (manner === "ok") work.end();
  if (manner === "fails") work.fail(new Error("broken"));
  if (manner === "slow") void s.server.pause(20).then(() => work.end());
}

gates<Hook>("a checkout pool", ["open", "work", "check", "reset", "close"], play);
