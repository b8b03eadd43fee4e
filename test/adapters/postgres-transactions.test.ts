/** Transactions on a real server: the pool's own, and those of Kysely, which takes it for a pool of pg's. */
import { Kysely, PostgresDialect } from "kysely";
import type pg from "pg";
import Cursor from "pg-cursor";
import { beforeEach, describe, expect, test } from "vitest";
import type { Pool, PostgresClient } from "../../src/adapters/postgres/index.ts";
import { postgresInstalled } from "../servers/postgres.ts";
import { ends, outcome, outsider, pool, withServer } from "./postgres.ts";
import { later } from "./turns.ts";

interface Tables {
  people: { id: number; name: string };
}

describe.skipIf(!postgresInstalled())("a transaction", () => {
  withServer();
  let behind: pg.Client;

  beforeEach(async () => {
    behind = await outsider();
    await behind.query("CREATE TABLE people (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, name text NOT NULL)");
    later(() => behind.query("DROP TABLE people"));
  });

  const names = async (): Promise<unknown[]> => {
    const { rows } = await behind.query("SELECT name FROM people ORDER BY id");
    return rows.map(({ name }) => name);
  };
  const add = (client: { query: PostgresClient["query"] }, id: number, name: string): Promise<unknown> =>
    client.query("INSERT INTO people VALUES ($1, $2)", [id, name]);

  describe("of the pool's", () => {
    test("keeps all when its work resolves, and nothing when it rejects", async () => {
      const p = pool();
      const kept = await p.transaction(async (client) => {
        await add(client, 1, "Ada");
        await add(client, 2, "Grace");
        return "done";
      });
      const lost = outcome(
        p.transaction(async (client) => {
          await add(client, 3, "Nobody");
          throw new Error("changed my mind");
        }),
      );
      expect([kept, await lost, await names()]).toEqual(["done", "changed my mind", ["Ada", "Grace"]]);
      expect(p.stats().totals).toMatchObject({ opened: 1, closed: 0 });
      await ends(p);
    });

    test("is of the kind that was asked for", async () => {
      const p = pool();
      const kind = (client: PostgresClient): Promise<unknown> =>
        client
          .query(
            "SELECT current_setting('transaction_isolation') AS level, current_setting('transaction_read_only') AS only, current_setting('transaction_deferrable') AS late",
          )
          .then(({ rows }) => Object.values(rows[0]));
      expect(await p.transaction(kind)).toEqual(["read committed", "off", "off"]);
      const options = { isolationLevel: "serializable", readOnly: true, deferrable: true } as const;
      expect(await p.transaction(kind, options)).toEqual(["serializable", "on", "on"]);
      expect(await p.transaction(kind, { isolationLevel: "repeatable read", readOnly: false })).toEqual([
        ...["repeatable read", "off", "off"],
      ]);
      const refused = p.transaction(kind, { isolationLevel: "1; DROP TABLE people" as never });
      expect(await outcome(refused)).toBe("ERR_OPTION");
      expect(await outcome(p.transaction("no work" as never))).toBe("ERR_OPTION");
      await ends(p);
    });

    test("says DEFERRABLE or NOT only when it is told to: else it is as the session would have it", async () => {
      const p = pool({ max: 1, onConnect: (client) => client.query("SET default_transaction_deferrable = on") });
      const late = (deferrable?: boolean): Promise<unknown> =>
        p.transaction(
          async (client) => (await client.query("SHOW transaction_deferrable")).rows[0].transaction_deferrable,
          deferrable === undefined ? {} : { deferrable },
        );
      expect([await late(), await late(false), await late(true)]).toEqual(["on", "off", "on"]);
      await ends(p);
    });

    test("waits in line by its priority, which is a number", async () => {
      const p = pool({ max: 1 });
      const client = await p.connect();
      const order: number[] = [];
      const all = [0, -1, 2, 1].map((priority) => p.transaction(() => order.push(priority), { priority }));
      client.release();
      await Promise.all(all);
      expect(order).toEqual([2, 1, 0, -1]);
      for (const priority of ["high", Number.NaN] as number[])
        expect(await outcome(p.transaction(() => undefined, { priority }))).toBe("ERR_OPTION");
      await ends(p);
    });

    test("that was rolled back by the server is no success, though its work was one", async () => {
      const p = pool();
      const swallows = p.transaction(async (client) => {
        await add(client, 1, "Ada");
        await client.query("SELECT 1/0").catch(() => undefined);
        return "all well";
      });
      expect(await outcome(swallows)).toBe("ERR_POSTGRES_ROLLED_BACK");
      const guards = p.transaction(async (client) => {
        await add(client, 2, "Grace");
        await client.query("SAVEPOINT risky");
        await client.query("SELECT 1/0").catch(() => client.query("ROLLBACK TO risky"));
      });
      expect([await outcome(guards), await names()]).toEqual(["ok", ["Grace"]]);
      await ends(p);
    });

    test("whose COMMIT is refused is not kept, and its client is as good as before", async () => {
      const p = pool({ max: 1 });
      await add(p, 1, "Ada");
      expect(await outcome(p.transaction((client) => add(client, 1, "Another")))).toBe("23505");
      expect(await names()).toEqual(["Ada"]);
      const { rows } = await p.query("SELECT now() = statement_timestamp() AS fresh");
      expect(rows).toEqual([{ fresh: true }]);
      expect(p.stats().totals).toMatchObject({ opened: 1, lost: 0 });
      await ends(p);
    });

    test("whose connection is lost fails as the driver says, and its client is not used again", async () => {
      const p = pool({ max: 1 });
      const lost = p.transaction(async (client) => {
        await add(client, 1, "Ada");
        await client.query("SELECT pg_terminate_backend(pg_backend_pid())");
      });
      expect(await outcome(lost)).toBe("57P01");
      expect([(await p.query("SELECT 1 AS one")).rows, await names()]).toEqual([[{ one: 1 }], []]);
      await ends(p);
    });

    test("whose caller has given up is not committed, whatever its work says", async () => {
      const p = pool({ max: 1 });
      const gone = new AbortController();
      const told = outcome(
        p.transaction(
          async (client) => {
            await add(client, 1, "Ada");
            gone.abort(new Error("gone"));
          },
          { signal: gone.signal },
        ),
      );
      expect(await told).toBe("gone");
      await p.query("SELECT 1");
      expect(await names()).toEqual([]);
      await ends(p);
    });

    test("is over when its work is: what that sends later reaches nobody", async () => {
      const p = pool({ max: 1 });
      const kept = await p.transaction((client) => client);
      expect(await outcome(kept.query("SELECT 1"))).toBe("ERR_LEASE_RELEASED");
      const used = await p.use((client) => client);
      expect(await outcome(used.query("SELECT 1"))).toBe("ERR_LEASE_RELEASED");
      await ends(p);
    });

    test("in a transaction is another one; where it could never begin, it is an error instead of a deadlock", async () => {
      const p = pool({ max: 2 });
      const nested = p.transaction(async (client) => {
        await add(client, 1, "Ada");
        await p.transaction((other) => add(other, 2, "Grace"));
        throw new Error("outer");
      });
      expect([await outcome(nested), await names()]).toEqual(["outer", ["Grace"]]);
      const tooDeep = p.transaction(() => p.transaction(() => p.transaction(() => undefined)));
      expect(await outcome(tooDeep)).toBe("ERR_POOL_NESTED");
      const asks = p.transaction(() => p.transaction(() => p.query("SELECT 1")));
      expect(await outcome(asks)).toBe("ERR_POOL_NESTED");
      await ends(p);
    });
  });

  describe("of Kysely's", () => {
    const kysely = (p: Pool): Kysely<Tables> =>
      new Kysely<Tables>({ dialect: new PostgresDialect({ pool: p, cursor: Cursor }) });

    test("keeps all or nothing, and queries beside it see what was kept", async () => {
      const p = pool({ max: 2 });
      const db = kysely(p);
      await db.transaction().execute(async (trx) => {
        await trx.insertInto("people").values({ id: 1, name: "Ada" }).execute();
        await trx.insertInto("people").values({ id: 2, name: "Grace" }).execute();
      });
      const fails = db.transaction().execute(async (trx) => {
        await trx.insertInto("people").values({ id: 3, name: "Nobody" }).execute();
        throw new Error("changed my mind");
      });
      expect(await outcome(fails)).toBe("changed my mind");
      expect(await db.selectFrom("people").select("name").orderBy("id").execute()).toEqual([
        { name: "Ada" },
        { name: "Grace" },
      ]);
      const update = await db.updateTable("people").set({ name: "Lovelace" }).where("id", "=", 1).executeTakeFirst();
      expect([update.numUpdatedRows, await names()]).toEqual([1n, ["Lovelace", "Grace"]]);
      const streamed: unknown[] = [];
      for await (const row of db.selectFrom("people").select("id").orderBy("id").stream(1)) streamed.push(row.id);
      expect(streamed).toEqual([1, 2]);
      await db.destroy();
      expect([p.ended, p.stats().totals.opened, p.stats().totals.closed]).toEqual([true, 1, 1]);
    });

    test("on many connections at once", async () => {
      const p = pool({ max: 3 });
      const db = kysely(p);
      const ids = Array.from({ length: 30 }, (_, id) => id);
      await Promise.all(
        ids.map((id) =>
          db
            .transaction()
            .setIsolationLevel("serializable")
            .setAccessMode("read write")
            .execute(async (trx) => {
              await trx
                .insertInto("people")
                .values({ id, name: String(id) })
                .execute();
            }),
        ),
      );
      expect(await names()).toEqual(ids.map(String));
      await ends(p);
    });
  });
});
