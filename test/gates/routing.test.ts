/**
 * Every way in which a connector's hooks, the source of its endpoints and its callers' works can go, at every point where a
 * routing pool waits for them, under every way in which callers can go.
 */

import type { Endpoint } from "../../src/index.ts";
import { Scene, type Work } from "../routing/scene.ts";
import { after, type Closing, type Opening } from "../routing/server.ts";
import { gates, type Manner, type Played, type Setting, type Way } from "./gates.ts";

type Hook = "open" | "check" | "close" | "work" | "source";

const openings: Record<Manner, Opening> = { ok: "ok", fails: "refuse", slow: after(20, "ok"), never: "never" };
const closings: Record<Manner, Closing> = { ok: "ok", fails: "reject", slow: { ms: 20 }, never: "never" };
const limits = { openTimeoutMs: 50, checkTimeoutMs: 50, drainTimeoutMs: 50, stallMs: 30 };
const backoff = { kind: "exponential", minMs: 30, maxMs: 30 } as const;

const besides: Record<Way, readonly string[]> = {
  stays: ["ERR_POOL_ACQUIRE_TIMEOUT"],
  aborts: ["ERR_POOL_ACQUIRE_TIMEOUT", "gone"],
  timesOut: ["ERR_POOL_ACQUIRE_TIMEOUT"],
  closes: ["ERR_POOL_CLOSED"],
};

/** Three callers, twice each, on two members, which are checked when they have answered nothing for a while. */
async function play({ open, check, close, work, source, way }: Setting<Hook>): Promise<Played> {
  const s = new Scene(1);
  const gone = new AbortController();
  const stays = { timeoutMs: 120 };
  const options = { stays, aborts: { ...stays, signal: gone.signal }, timesOut: { timeoutMs: 15 }, closes: stays }[way];
  s.server.always(openings[open]);
  s.server.closing = () => closings[close];
  const connector = { ...s.server.connector, check: () => checked(s, check) };
  await s.start({ connector, size: 2, endpoints: sourceOf(s, source), breaker: false, backoff, ...limits });

  const works: Work[] = [];
  const caller = async (): Promise<void> => {
    for (let round = 0; round < 2; round++) {
      const each = s.use(options, (begun) => end(s, begun, work));
      works.push(each);
      await each.promise.catch(() => undefined);
    }
  };
  for (let callers = 0; callers < 3; callers++) void caller();
  for (let step = 0; step < 5; step++) {
    if (step === 1 && way === "aborts") gone.abort(new Error("gone"));
    if (step === 1 && way === "closes") s.follow(s.pool.close({ timeoutMs: 40 }));
    await s.advance(15);
    s.check();
  }
  // Longer than any of them waits. What is left is a work that never ends, on a member that gives signs of life.
  await s.advance(300);
  s.check();
  await s.until(s.pool.destroy());
  await s.advance(20); // What a hook of ours was still at.
  await s.finish();
  const served = (open === "ok" || open === "slow") && (source === "ok" || source === "slow");
  const told = {
    ok: "ok",
    fails: "broken",
    slow: "ok",
    never: isSilent(check) ? "ERR_CONNECTION_LOST" : "ERR_POOL_CLOSED",
  };
  const certain = way !== "stays" ? undefined : served ? told[work] : "ERR_POOL_ACQUIRE_TIMEOUT";
  return { outcomes: works.map(({ outcome }) => outcome), allowed: [told[work], ...besides[way]], certain };
}

/** Whether a member whose check goes so gives no sign of life. */
function isSilent(check: Manner): boolean {
  return check === "fails" || check === "never";
}

function checked(s: Scene, manner: Manner): unknown {
  if (manner === "ok") return true;
  if (manner === "fails") throw new Error("dead");
  return manner === "slow" ? s.server.pause(20) : new Promise(() => undefined);
}

async function* sourceOf(s: Scene, manner: Manner): AsyncGenerator<readonly Endpoint[]> {
  if (manner === "fails") throw new Error("nobody knows");
  if (manner === "slow") await s.server.pause(20);
  if (manner === "ok" || manner === "slow") yield [{ id: "a" }];
  await new Promise(() => undefined);
}

function end(s: Scene, work: Work, manner: Manner): void {
  if (manner === "ok") work.end();
  if (manner === "fails") work.fail(new Error("broken"));
  if (manner === "slow") void s.server.pause(20).then(() => work.end());
}

gates<Hook>("a routing pool", ["open", "work", "check", "close", "source"], play);
