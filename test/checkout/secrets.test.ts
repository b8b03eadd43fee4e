/** What a driver's errors say may hold a password. None of it gets into what we say: a `cause` is theirs, untouched. */

import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { inspect } from "node:util";
import { expect, test } from "vitest";
import { CheckoutPool, type Events, PoolwardenError } from "../../src/index.ts";
import { scene } from "./scene.ts";
import { Refused, secret } from "./server.ts";

const password = "tiger";

/** All that somebody sees of a value: of an error what we wrote, and of a driver's error nothing. */
function seen(value: unknown): string {
  if (value instanceof PoolwardenError) {
    const { message, stack, cause: _, ...fields } = value as PoolwardenError & { cause?: unknown };
    return [message, stack, seen(fields)].join("\n");
  }
  if (value instanceof Error) return value instanceof Refused ? "" : [value.message, value.stack].join("\n");
  if (typeof value === "object" && value !== null) return Object.values(value).map(seen).join("\n");
  return String(value);
}

const names = [
  "connection.opened",
  "connection.openFailed",
  "connection.lost",
  "connection.drained",
  "connection.closed",
  "connection.closeFailed",
  "pool.queued",
  "pool.refused",
  "pool.died",
  "lease.expired",
  "lease.leaked",
  "lease.misused",
  "lease.discarded",
  "callback.failed",
  "process.crashed",
] as const satisfies readonly (keyof Events)[];

test(
  "no error, event or snapshot of ours tells what a connector's errors said",
  scene(async (s) => {
    const said: string[] = [];
    const heard = new Set<string>();
    const listeners = names.map((name) => {
      const listener = (fields: unknown): void => {
        heard.add(name);
        said.push(seen(fields));
      };
      subscribe(`poolwarden:${name}`, listener);
      return () => unsubscribe(`poolwarden:${name}`, listener);
    });
    const look = (): void => {
      said.push(JSON.stringify(s.pool.snapshot()), inspect(s.pool.stats()));
    };
    s.server.opening = (nth) => (nth % 3 === 0 ? "rejects" : "ok");
    s.server.closing = ({ id }) => (id % 2 === 0 ? "rejects" : "ok");
    s.server.checking = ({ id }) => (id % 3 === 0 ? "throws" : "ok");
    s.server.resetting = ({ id }) => (id % 5 === 0 ? "rejects" : "ok");
    const backoff = { kind: "exponential", minMs: 50, maxMs: 50 } as const;
    const hooks = ["check", "reset"] as const;
    await s.start({
      max: 3,
      hooks,
      backoff,
      checkAfterIdleMs: 10,
      leaseTimeoutMs: 200,
      leakReportMs: 100,
      queue: { limit: 4 },
    });
    for (let round = 0; round < 40; round++) {
      s.acquire({ timeoutMs: 70 });
      const holder = s.holders[round - 2];
      if (round % 3 === 0) holder?.discard(new Refused("EDISCARD"));
      else if (round % 5 === 0 && holder?.holds) holder.resource.lose(new Refused("ECONNRESET"));
      else if (round % 7 !== 0) holder?.release();
      if (round % 4 === 0) holder?.release();
      await s.advance(23);
      look();
    }
    s.server.always("fatal");
    await s.until(s.pool.recycle());
    s.acquire();
    await s.advance(300);
    look();
    await s.until(s.pool.destroy(new Refused("EDESTROY")));
    for (const { error } of s.holders) said.push(seen(error));
    for (const end of listeners) end();

    expect(names.filter((name) => !heard.has(name))).toEqual(["pool.died", "process.crashed"]);
    expect(said.length).toBeGreaterThan(200);
    expect(said.filter((text) => text.includes(password))).toEqual([]);
  }),
);

test("no refusal of an option shows an address, however short it is", async () => {
  const refusals = [
    { connector: secret },
    { connector: { name: "db", open: secret } },
    { order: secret },
    { runtime: secret },
  ];
  for (const wrong of refusals) {
    const options = { connector: { name: "db", open: () => 1 }, ...wrong } as never;
    const error = await CheckoutPool.start(options).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "ERR_OPTION" });
    expect(inspect(error)).not.toContain(password);
  }
});

test(
  "a resource that is an address itself is not shown when it is handed out twice",
  scene(async (s) => {
    await s.start();
    const pool = await CheckoutPool.start({
      connector: { name: "text", open: () => secret },
      max: 2,
      runtime: s.runtime,
    });
    await s.until(pool.acquire());
    const error = await s.until(pool.acquire({ timeoutMs: 10 }).catch((thrown: unknown) => thrown));
    expect((error as Error).cause).toMatchObject({ code: "ERR_OPTION" });
    expect(inspect(error) + JSON.stringify(pool.snapshot())).not.toContain(password);
    await s.until(pool.destroy());
  }),
);
