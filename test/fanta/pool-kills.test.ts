/**
 * A hundred thousand requests over real sockets, while connections die at moments that a seed has chosen.
 *
 * They die in both ways there are: the process that owns the connection is killed, or the socket under it goes. Each
 * answer carries its own request's text, so one that reaches the wrong caller is seen.
 */
import { expect, test } from "vitest";
import { FantaPool, FantaServer } from "../../src/fanta/index.ts";
import { seededRandom } from "../../src/sim/index.ts";

const requests = 100_000;
const callers = 200;

test("100,000 requests settle once and with their own answer while connections are killed", {
  timeout: 120_000,
}, async () => {
  const random = seededRandom(20_261_124);
  const server = await FantaServer.listen({ handler: (text) => `answer to ${text}` });
  const pool = await FantaPool.start({
    host: "127.0.0.1",
    port: server.port,
    size: 10,
    maxRestarts: 1_000_000,
    // Who kills connections so often would have their places ejected for it, for a while.
    breaker: false,
    backoff: { minMs: 1, maxMs: 20 },
  });
  await pool.ready({ min: 10 });
  const atStart = pool.stats();

  let next = 0;
  let kills = 0;
  let answered = 0;
  let wrong = 0;
  const settled = new Uint8Array(requests);
  const failures = new Map<string, number>();
  const caller = async (): Promise<void> => {
    while (next < requests) {
      const n = next++;
      if (random() < 0.005) kills += killOne(pool, random);
      const text = `request ${n}`;
      await pool.request(text, { idempotent: n % 2 === 0 }).then(
        (answer) => {
          settled[n]!++;
          if (answer === `answer to ${text}`) answered++;
          else wrong++;
        },
        (error: { code: string }) => {
          settled[n]!++;
          failures.set(error.code, (failures.get(error.code) ?? 0) + 1);
        },
      );
    }
  };
  await Promise.all(Array.from({ length: callers }, caller));

  const lost = failures.get("ERR_CONNECTION_LOST") ?? 0;
  console.log(
    `${requests} requests, ${kills} kills: ${answered} answered, ${lost} lost and not to be repeated, ${wrong} wrong`,
  );

  expect(settled.every((times) => times === 1)).toBe(true);
  expect(wrong).toBe(0);
  expect(kills).toBeGreaterThan(300);
  expect(answered).toBeGreaterThan(requests / 2);
  // What is not idempotent and may have been sent is nobody's to repeat. Nothing else may fail.
  expect([...failures.keys()].filter((code) => code !== "ERR_CONNECTION_LOST")).toEqual([]);

  await pool.ready({ min: 10 });
  const { totals: _, ...gauges } = pool.stats();
  const { totals: __, ...gaugesAtStart } = atStart;
  expect(gauges).toEqual(gaugesAtStart);
  expect(await pool.close()).toEqual({ finished: 0, aborted: 0 });
  const { opened, closed } = pool.stats().totals;
  expect(closed).toBe(opened);
  await server.close();
});

/** Ends one connection that is up. Returns how many were. */
function killOne(pool: FantaPool, random: () => number): number {
  if (random() < 0.5) {
    const connections = pool.tree().children[1]?.children ?? [];
    connections[Math.floor(random() * connections.length)]?.process.kill();
    return connections.length > 0 ? 1 : 0;
  }
  if (pool.stats().ready === 0) return 0;
  const route = pool.pick();
  route.resource.process.kill();
  route.settle();
  return 1;
}
