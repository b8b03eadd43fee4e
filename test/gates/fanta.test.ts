/**
 * Every way in which a Fanta server's handler can go, under every way in which callers can go. The sockets are real, the
 * time is virtual.
 */

import { expect } from "vitest";
import { FantaPool, FantaServer } from "../../src/fanta/index.ts";
import { virtualRuntime } from "../../src/sim/index.ts";
import { turn, turns, until } from "../multiplex/turns.ts";
import { codeOf } from "../routing/scene.ts";
import { gates, type Manner, type Played, type Setting, type Way } from "./gates.ts";

const told: Record<Manner, string> = {
  ok: "ok",
  fails: "ERR_FANTA_RESPONSE",
  slow: "ok",
  never: "ERR_FANTA_TIMEOUT",
};
const besides: Record<Way, readonly string[]> = {
  stays: [],
  aborts: ["gone"],
  timesOut: ["ERR_FANTA_TIMEOUT"],
  closes: ["ERR_POOL_CLOSED", "ERR_CONNECTION_LOST"],
};

/** Six requests over two connections. */
async function play({ handler, way }: Setting<"handler">): Promise<Played> {
  const runtime = virtualRuntime();
  let asked = 0;
  const server = await FantaServer.listen({
    runtime,
    handler: (request) => {
      asked++;
      if (handler === "ok") return request;
      if (handler === "fails") throw new Error("broken");
      return new Promise((resolve) => {
        if (handler === "slow") runtime.setTimer(() => resolve(request), 20);
      });
    },
  });
  const pool = await FantaPool.start({ host: "127.0.0.1", port: server.port, size: 2, runtime });
  await until("both connections are there", () => pool.stats().ready === 2);
  const gone = new AbortController();
  const stays = { timeoutMs: 300 };
  const options = { stays, aborts: { ...stays, signal: gone.signal }, timesOut: { timeoutMs: 15 }, closes: stays }[way];
  const outcomes: string[] = [];
  for (let each = 0; each < 6; each++) {
    void pool.request(`request ${each}`, options).then(
      (answer) => outcomes.push(answer === `request ${each}` ? "ok" : `answered with ${answer}`),
      (error: unknown) => outcomes.push(codeOf(error)),
    );
  }
  await until("the server was asked", () => asked === 6);
  if (way === "aborts") gone.abort(new Error("gone"));
  const closed = way === "closes" ? pool.close({ timeoutMs: 60 }) : undefined;
  for (let step = 0; step < 40; step++) {
    await runtime.advance(10);
    await turns(3);
    const { inFlight, ready } = pool.stats();
    expect(inFlight).toBeLessThanOrEqual(6);
    expect(ready).toBeLessThanOrEqual(2);
  }
  expect(outcomes).toHaveLength(6);
  await closed;
  // What a caller has given up is in flight until it is answered: for ever, where the handler never answers.
  if (way !== "closes") expect(pool.stats().inFlight).toBe(handler === "never" ? 6 : 0);
  await pool.destroy();
  expect(pool.stats()).toMatchObject({ size: 0, inFlight: 0, waiting: 0 });
  const ended = server.close({ timeoutMs: 0 });
  while (server.process.alive) {
    await runtime.advance(1);
    await turn();
  }
  await ended;
  expect([server.connections, runtime.timers]).toEqual([0, 0]);
  return { outcomes, allowed: [told[handler], ...besides[way]], certain: way === "stays" ? told[handler] : undefined };
}

gates<"handler">("a Fanta pool", ["handler"], play);
