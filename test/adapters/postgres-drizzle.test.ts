/**
 * Drizzle on the pool, which it takes for one of pg's: unchanged, in its types and when it runs. It asks by name whether it
 * has a pool or a single client, and would otherwise run the statements of a transaction on several connections.
 *
 * A file of its own: Drizzle's types do not pass the check that all others are held to (tsconfig.drizzle.json).
 */
import { eq, sql } from "drizzle-orm";
import { drizzle } from "drizzle-orm/node-postgres";
import { integer, pgTable, text } from "drizzle-orm/pg-core";
import type pg from "pg";
import { describe, expect, test } from "vitest";
import type { Pool } from "../../src/adapters/postgres/index.ts";
import { postgresInstalled } from "../servers/postgres.ts";
import { ends, outcome, outsider, pool, withServer } from "./postgres.ts";
import { events, later } from "./turns.ts";

const people = pgTable("people", { id: integer("id").primaryKey(), name: text("name").notNull() });

const names = async (behind: pg.Client): Promise<unknown[]> => {
  const { rows } = await behind.query("SELECT name FROM people ORDER BY id");
  return rows.map(({ name }) => name);
};

describe.skipIf(!postgresInstalled())("a transaction of Drizzle's", () => {
  withServer();

  test.each([
    ["drizzle(pool)", (p: Pool) => drizzle(p)],
    ["drizzle({ client: pool })", (p: Pool) => drizzle({ client: p })],
  ])("keeps all or nothing, on one connection, with %s", async (_, make) => {
    const misused = events("lease.misused");
    const behind = await outsider();
    await behind.query("CREATE TABLE people (id int PRIMARY KEY, name text NOT NULL)");
    later(() => behind.query("DROP TABLE people"));
    const p = pool({ max: 2 });
    const db = make(p);
    const pids = new Set<unknown>();
    const other = await p.connect(); // So that what ran beside its transaction would run elsewhere.
    await p.query("SELECT 1");
    other.release();
    await db.transaction(async (tx) => {
      for (const [id, name] of [
        [1, "Ada"],
        [2, "Grace"],
      ] as const) {
        await tx.insert(people).values({ id, name });
        const { rows } = await tx.execute(sql`select pg_backend_pid() as pid`);
        pids.add(rows[0]?.["pid"]);
        await tx
          .transaction(async (inner) => {
            await inner.insert(people).values({ id: id + 10, name: "Nobody" });
            inner.rollback();
          })
          .catch(() => undefined);
      }
    });
    const fails = db.transaction(
      async (tx) => {
        await tx.insert(people).values({ id: 3, name: "Nobody" });
        throw new Error("changed my mind");
      },
      { isolationLevel: "serializable" },
    );
    expect(await outcome(fails)).toBe("changed my mind");
    expect(await db.select({ name: people.name }).from(people).orderBy(people.id)).toEqual([
      { name: "Ada" },
      { name: "Grace" },
    ]);
    expect(await db.update(people).set({ name: "Hopper" }).where(eq(people.id, 2)).returning()).toEqual([
      { id: 2, name: "Hopper" },
    ]);
    expect([pids.size, await names(behind)]).toEqual([1, ["Ada", "Hopper"]]);
    expect(misused).toEqual([]);
    await ends(p);
  });
});
