/** The face of pg's own pool, on a real server, and what is behind it that pg's does not have. */
import { AsyncLocalStorage } from "node:async_hooks";
import pg from "pg";
import Cursor from "pg-cursor";
import QueryStream from "pg-query-stream";
import { describe, expect, test } from "vitest";
import { Pool, type PoolClient, postgresPool } from "../../src/adapters/postgres/index.ts";
import { Supervisor } from "../../src/index.ts";
import { virtualRuntime } from "../../src/sim/index.ts";
import { postgresInstalled } from "../servers/postgres.ts";
import { codeOf, ends, once, outcome, outsider, pool, server, withServer } from "./postgres.ts";
import { events, later, turn, until } from "./turns.ts";

describe.skipIf(!postgresInstalled())("a pool of Postgres clients", () => {
  withServer();

  describe("is asked as pg's is", () => {
    test("by a text, with values, by a configuration, in rows that are arrays, and before it has started", async () => {
      const p = pool();
      const [text, values, config, named, arrays] = await Promise.all([
        p.query("SELECT 1 AS one"),
        p.query("SELECT $1::int AS two", [2]),
        p.query({ text: "SELECT $1::int AS three", values: [3] }),
        p.query({ name: "four", text: "SELECT $1::int AS four" }, [4]),
        p.query({ text: "SELECT 5, 6", rowMode: "array" }),
      ]);
      expect([text.rows, values.rows, config.rows, named.rows, arrays.rows]).toEqual([
        [{ one: 1 }],
        [{ two: 2 }],
        [{ three: 3 }],
        [{ four: 4 }],
        [[5, 6]],
      ]);
      expect(text).toBeInstanceOf(pg.Result);
      await ends(p);
    });

    test("with a callback, which is called in its caller's async context, as a promise goes on in it", async () => {
      const p = pool({ max: 1 });
      const context = new AsyncLocalStorage<number>();
      const seen = await Promise.all(
        [1, 2, 3].map((id) =>
          context.run(id, async () => {
            await p.query("SELECT 1");
            const after = context.getStore();
            const inCallback = await new Promise((resolve) => {
              p.query("SELECT $1::int AS id", [id], (_error, { rows }) => resolve([context.getStore(), rows[0]?.id]));
            });
            const connected = await new Promise((resolve) => {
              p.connect((_error, _client, done) => {
                done();
                resolve(context.getStore());
              });
            });
            return [after, inCallback, connected];
          }),
        ),
      );
      expect(seen).toEqual([1, 2, 3].map((id) => [id, [id, id], id]));
      await ends(p);
    });

    test("with a callback that hears of errors, of the statement and of the pool", async () => {
      const p = pool();
      const told = (text: string): Promise<string> =>
        new Promise((resolve) => p.query(text, (error) => resolve(codeOf(error))));
      expect(await told("SELECT 1/0")).toBe("22012");
      await p.end();
      expect(await told("SELECT 1")).toBe("ERR_POOL_CLOSED");
      const connected = new Promise((resolve) => p.connect((error) => resolve(codeOf(error))));
      expect(await connected).toBe("ERR_POOL_CLOSED");
    });

    test("by what runs itself: the client is lent until a stream or a cursor is through", async () => {
      const p = pool({ max: 1 });
      const stream = p.query(new QueryStream("SELECT n FROM generate_series(1, 250) AS n"));
      const cursor = p.query(new Cursor("SELECT n FROM generate_series(1, 5) AS n"));
      const numbers: number[] = [];
      for await (const { n } of stream) numbers.push(n as number);
      expect(numbers).toEqual(Array.from({ length: 250 }, (_, at) => at + 1));
      expect(await cursor.read(2)).toEqual([{ n: 1 }, { n: 2 }]);
      expect(p.idleCount).toBe(0);
      await cursor.close();
      expect((await p.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
      await ends(p);
      const refused = p.query(new QueryStream("SELECT 1"));
      const [error] = await new Promise<unknown[]>((resolve) => refused.once("error", (...e) => resolve(e)));
      expect(codeOf(error)).toBe("ERR_POOL_CLOSED");
    });

    test("by what cannot be a query: its caller is told, and the client is free again", async () => {
      const p = pool({ max: 1 });
      const wrong = [null, 7, {}] as never[];
      for (const each of wrong) expect(await outcome(p.query(each))).not.toBe("ok");
      expect(await outcome(p.query("SELECT $1", "no array" as never))).toBe("Query values must be an array");
      const told = new Promise((resolve) => p.query(((error: unknown) => resolve(codeOf(error))) as never));
      expect(await told).toBe("ERR_OPTION");
      const fails = {
        toPostgres: () => {
          throw new Error("not to be written");
        },
      };
      expect(await outcome(p.query("SELECT $1::text", [fails]))).toBe("not to be written");
      expect((await p.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
      await ends(p);
    });
  });

  describe("lends a client", () => {
    test("that is one of pg's, and counts as pg counts", async () => {
      const p = pool({ max: 2, maxLifetimeSeconds: 600 });
      const client = await p.connect();
      expect(client).toBeInstanceOf(pg.Client);
      expect(client.processID).toBeGreaterThan(0);
      expect((await client.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
      const other = await p.connect();
      const third = p.connect();
      expect([p.totalCount, p.idleCount, p.waitingCount, p.expiredCount]).toEqual([2, 0, 1, 0]);
      client.release();
      (await third).release();
      other.release(true);
      await once(p, "remove");
      await until(() => p.totalCount === 1);
      expect([p.idleCount, p.waitingCount, p.ending, p.ended]).toEqual([1, 0, false, false]);
      await ends(p);
      expect([p.totalCount, p.ending, p.ended]).toEqual([0, true, true]);
    });

    test("and tells of it as pg does", async () => {
      const p = pool({ max: 1 });
      const told: unknown[] = [];
      for (const event of ["connect", "acquire", "release", "remove", "error"]) {
        p.on(event, (...fields: unknown[]) =>
          told.push([event, ...fields.map((each) => each instanceof pg.Client || each)]),
        );
      }
      await p.query("SELECT 1");
      const broken = new Error("broken");
      (await p.connect()).release(broken);
      await p.end();
      expect(told).toEqual([
        ["connect", true],
        ["acquire", true],
        ["release", undefined, true],
        ["acquire", true],
        ["release", broken, true],
        ["remove", true],
      ]);
    });

    test("that is out of reach after its release, whoever has the connection then", async () => {
      const misused = events("lease.misused");
      const p = pool({ max: 1 });
      const first = await p.connect();
      first.release();
      const second = await p.connect();
      const third = p.connect();
      expect(second.processID).toBe(first.processID);

      first.release();
      first.release(new Error("broken"));
      expect(await outcome(first.query("SELECT 1"))).toBe("ERR_LEASE_RELEASED");
      expect(await new Promise((resolve) => first.query("SELECT 1", (error) => resolve(codeOf(error))))).toBe(
        "ERR_LEASE_RELEASED",
      );
      expect(await outcome(first.query(new Cursor("SELECT 1")).read(1))).toBe("ERR_LEASE_RELEASED");
      expect(() => first.on("notice", () => undefined)).toThrow(
        expect.objectContaining({ code: "ERR_LEASE_RELEASED" }),
      );
      expect(() => first.end()).toThrow(expect.objectContaining({ code: "ERR_LEASE_RELEASED" }));

      expect((await second.query("SELECT 2 AS two")).rows).toEqual([{ two: 2 }]);
      expect(p.waitingCount).toBe(1);
      expect(misused).toHaveLength(2);
      second.release();
      (await third).release();
      await ends(p);
    });

    test("that may be older than it should be while it is lent: expired, and closed when it comes back", async () => {
      const runtime = virtualRuntime();
      const p = pool({ max: 2, maxLifetimeSeconds: 60, runtime });
      const [first, second] = [await p.connect(), await p.connect()];
      await runtime.advance(59_000);
      expect(p.expiredCount).toBe(0);
      await runtime.advance(1_000);
      expect([p.expiredCount, p.totalCount]).toEqual([2, 2]);
      first.release();
      await until(() => p.totalCount === 1);
      expect(p.expiredCount).toBe(1);
      second.release();
      await ends(p);
      expect(p.expiredCount).toBe(0);
    });

    test("that is as its holder has set it, until it is given back", async () => {
      const p = pool({ max: 1 });
      const client = await p.connect();
      const set = (ssl: boolean): void => void (client.ssl = ssl);
      set(true);
      expect(client.ssl).toBe(true);
      set(false);
      client.release();
      expect(() => set(true)).toThrow(expect.objectContaining({ code: "ERR_LEASE_RELEASED" }));
      const next = await p.connect();
      expect(next.ssl).toBe(false);
      next.release();
      await ends(p);
    });

    test("whose listeners leave with its holder", async () => {
      const p = pool({ max: 1 });
      const client = await p.connect();
      const heard: string[] = [];
      client.on("notice", (notice: { message: string }) => heard.push(notice.message)).on("error", () => undefined);
      await client.query("DO $$ BEGIN RAISE NOTICE 'first'; END $$");
      client.release();
      const next = await p.connect();
      await next.query("DO $$ BEGIN RAISE NOTICE 'second'; END $$");
      expect([heard, next.listenerCount("notice")]).toEqual([["first"], 0]);
      next.release();
      await ends(p);
    });

    test("or does not wait, or not for long, or not any longer", async () => {
      const p = pool({ max: 1 });
      const client = await p.connect();
      const gone = new AbortController();
      const waiting = outcome(p.connect({ signal: gone.signal }));
      expect(await outcome(p.connect({ timeoutMs: 0 }))).toBe("ERR_POOL_BUSY");
      expect(await outcome(p.connect({ timeoutMs: 1 }))).toBe("ERR_POOL_ACQUIRE_TIMEOUT");
      gone.abort(new Error("gone"));
      expect(await waiting).toBe("gone");
      expect(await outcome(p.connect({ within: 3 } as never))).toBe("ERR_OPTION");
      client.release();
      await ends(p);
    });

    test("that was set up before, however that is said", async () => {
      const p = pool({
        max: 1,
        onConnect: (client) => client.query("SET application_name = 'first'"),
        verify: (client: pg.Client, done) => client.query("SET work_mem = '1MB'", () => done()),
      });
      p.on("connect", (client: pg.Client) => void client.query("SET search_path = 'elsewhere'"));
      const shown = await Promise.all(
        ["application_name", "work_mem", "search_path"].map(async (name) => (await p.query(`SHOW ${name}`)).rows[0]),
      );
      expect(shown).toEqual([{ application_name: "first" }, { work_mem: "1MB" }, { search_path: "elsewhere" }]);
      await ends(p);
    });

    test.each<[string, unknown, number]>([
      ["an error", new Error("of no use"), 1],
      ["null, which is no error", null, 0],
      ["nothing", undefined, 0],
    ])("that was found good: verify, called back with %s", async (_, said, failures) => {
      const failed = events("connection.openFailed");
      const p = pool({ max: 1, verify: (_client, done) => done(failed.length === 0 ? (said as Error) : undefined) });
      expect((await p.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
      expect(failed.map(({ error }) => error)).toEqual(Array.from({ length: failures }, () => said));
      expect(p.stats().totals).toMatchObject({ opened: 1, openFailed: failures });
      await ends(p);
    });

    test("though who is told of its opening fails", async () => {
      const failed = events("callback.failed");
      const p = pool({ max: 1 });
      p.on("connect", () => {
        throw new Error("a listener's own");
      });
      expect((await p.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
      expect(failed.map(({ error }) => error.message)).toEqual(["a listener's own"]);
      await ends(p);
    });

    test("and whose connection is out of reach when it is given back", async () => {
      const p = pool({ max: 1 });
      const client = await p.connect();
      expect(client.connection.stream.writable).toBe(true);
      client.release();
      expect(() => client.connection).toThrow(expect.objectContaining({ code: "ERR_LEASE_RELEASED" }));
      const used = await p.use((each) => each);
      expect(() => used.connection).toThrow(expect.objectContaining({ code: "ERR_LEASE_RELEASED" }));
      await ends(p);
    });

    test("and opens another when one could not be set up", async () => {
      const failed = events("connection.openFailed");
      let times = 0;
      const p = pool({ max: 1, onConnect: () => ++times === 1 && Promise.reject(new Error("not now")) });
      expect((await p.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
      expect(failed.map(({ error }) => error.message)).toEqual(["not now"]);
      // The one of no use is closed: it leaves the server.
      const mine = "SELECT count(*)::int AS count FROM pg_stat_activity WHERE backend_type = 'client backend'";
      while ((await p.query(mine)).rows[0].count > 1) await turn();
      await ends(p);
    });
  });

  describe("lends nothing that is not fit", () => {
    test("a statement that fails costs no connection, and says who asked for it", async () => {
      const p = pool({ max: 1 });
      const asker = async (): Promise<void> => {
        await p.query("SELECT 1/0");
      };
      const error = await asker().catch((thrown: unknown) => thrown as Error & { code: string });
      expect(error).toMatchObject({ code: "22012" });
      expect((error as Error).stack).toContain("asker");
      await p.query("SELECT 1");
      expect(p.stats().totals).toMatchObject({ opened: 1, closed: 0 });
      await ends(p);
    });

    const inserts = "INSERT INTO kept VALUES (1)";
    test.each([
      ["open", async (client: PoolClient) => void (await client.query("BEGIN")), "ok"],
      [
        "failed",
        async (client: PoolClient) => {
          await client.query("BEGIN");
          await client.query("SELECT 1/0").catch(() => undefined);
        },
        "25P02",
      ],
      [
        "failing, its holder does not wait for that",
        async (client: PoolClient) => {
          await client.query("BEGIN");
          void client.query("SELECT 1/0").catch(() => undefined);
        },
        "25P02",
      ],
    ])("a transaction that was left %s is over for the next", async (_, leave, inside) => {
      const p = pool({ max: 1 });
      await p.query("CREATE TABLE kept (n int)");
      later(async () => (await outsider()).query("DROP TABLE kept"));
      const client = await p.connect();
      await leave(client);
      expect(await outcome(client.query(inserts))).toBe(inside);
      client.release();
      const { rows } = await p.query("SELECT now() = statement_timestamp() AS fresh, (SELECT count(*)::int FROM kept)");
      expect(rows).toEqual([{ fresh: true, count: 0 }]);
      expect(p.stats().totals).toMatchObject({ opened: 1, closed: 0 });
      await ends(p);
    });

    test("even one that a single query has begun", async () => {
      const p = pool({ max: 1 });
      await p.query("BEGIN");
      expect((await p.query("SELECT now() = statement_timestamp() AS fresh")).rows).toEqual([{ fresh: true }]);
      expect(await outcome(p.query("BEGIN; SELECT 1/0"))).toBe("22012");
      expect((await p.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
      await ends(p);
    });

    test("a client whose query still runs is not lent before that has ended", async () => {
      const p = pool({ max: 1 });
      const lock = await outsider();
      await lock.query("SELECT pg_advisory_lock(1)");
      const client = await p.connect();
      const order: string[] = [];
      void client.query("SELECT pg_advisory_lock(1)").then(() => order.push("first"));
      client.release();
      const next = p.query("SELECT 1").then(() => order.push("second"));
      await lock.query("SELECT pg_advisory_unlock(1)");
      await next;
      expect(order).toEqual(["first", "second"]);
      expect(p.stats().totals).toMatchObject({ opened: 1, closed: 0 });
      await ends(p);
    });

    test.each([false, true])(
      "nor one with queries behind the one whose callback releases it (pipeline: %s)",
      async (pipeline) => {
        const p = pool({ max: 1, pipeline });
        const client = await p.connect();
        const next = p.connect();
        const begun = new Promise<void>((resolve) => {
          client.query("SELECT 1", () => client.release());
          client.query("BEGIN", () => resolve());
        });
        const other = await next;
        await begun;
        const { rows } = await other.query("SELECT now() = statement_timestamp() AS fresh");
        expect([rows, other.getTransactionStatus()]).toEqual([[{ fresh: true }], "I"]);
        other.release();
        expect(p.stats().totals).toMatchObject({ opened: 1, closed: 0 });
        // What was noted of that one is over: the next release costs nothing.
        await p.query("SELECT 1");
        expect(p.stats()).toMatchObject({ idle: 1 });
        await ends(p);
      },
    );

    test.each<[string, (client: PoolClient) => unknown]>([
      ["ended", (client) => client.end()],
      ["cut off", (client) => client.connection.stream.destroy()],
    ])("a client that its holder has %s is closed; the next caller has another", async (_, end) => {
      const p = pool({ max: 1 });
      const client = await p.connect();
      const next = p.query("SELECT 1 AS one");
      void end(client);
      client.release();
      expect((await next).rows).toEqual([{ one: 1 }]);
      expect(p.stats().totals).toMatchObject({ opened: 2, closed: 1 });
      await ends(p);
    });

    test("nor one in a transaction that a listener of its opening has begun", async () => {
      const p = pool({ max: 1 });
      p.on("connect", (client: pg.Client) => void client.query("BEGIN"));
      const client = await p.connect();
      expect(client.getTransactionStatus()).toBe("I");
      client.release();
      await ends(p);
    });

    test("and is closed when that takes too long; its query is told", async () => {
      const p = pool({ max: 1, resetTimeoutMs: 20 });
      const lock = await outsider();
      await lock.query("SELECT pg_advisory_lock(1)");
      const client = await p.connect();
      const stuck = outcome(client.query("SELECT pg_advisory_lock(1)"));
      client.release();
      expect((await p.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
      expect(await stuck).toBe("Connection terminated");
      expect(p.stats().totals).toMatchObject({ opened: 2, closed: 1 });
      await ends(p);
    });

    test.each(["DISCARD ALL", "deallocate all", "SELECT 1"])(
      "a statement with a name is known after reset: %s, or prepared again",
      async (reset) => {
        const p = pool({ max: 1, reset });
        const named = (n: number): Promise<unknown> =>
          p.query({ name: "named", text: "SELECT $1::int AS n", values: [n] }).then(({ rows }) => rows[0].n);
        expect([await named(1), await named(2), await named(3)]).toEqual([1, 2, 3]);
        await ends(p);
      },
    );

    test("a client that its reset leaves in a transaction is closed; the next caller has another", async () => {
      const p = pool({ max: 1, reset: "BEGIN" });
      const pids: number[] = [];
      for (let n = 0; n < 3; n++) {
        const client = await p.connect();
        expect(client.getTransactionStatus()).toBe("I");
        pids.push(client.processID as number);
        client.release();
      }
      await ends(p);
      expect([new Set(pids).size, p.stats().totals.opened]).toEqual([3, 3]);
    });

    test("with reset, what a caller has left in its session is gone", async () => {
      const p = pool({ max: 1, reset: "DISCARD ALL" });
      await p.query("CREATE TEMP TABLE mine (n int)");
      await p.query("SET search_path = 'elsewhere'");
      await p.query("BEGIN");
      expect((await p.query("SHOW search_path")).rows).toEqual([{ search_path: '"$user", public' }]);
      expect(await outcome(p.query("SELECT * FROM mine"))).toBe("42P01");
      await ends(p);
    });
  });

  describe("ends", () => {
    test("when everybody is done: those who wait are served, those who come are refused", async () => {
      const p = pool({ max: 1 });
      const client = await p.connect();
      const waiting = p.query("SELECT 1 AS one");
      const ended = p.end();
      expect(await outcome(p.query("SELECT 1"))).toBe("ERR_POOL_CLOSED");
      expect([p.ending, p.ended]).toEqual([true, false]);
      client.release();
      expect((await waiting).rows).toEqual([{ one: 1 }]);
      await ended;
      await p.end();
      await new Promise<void>((resolve) => p.end(resolve));
      await ends(p);
    });

    test("before it has begun, and goes on when the end was asked for in a wrong way", async () => {
      const p = pool();
      const asked = outcome(p.query("SELECT 1"));
      await p.end();
      expect(await asked).not.toBe("");
      const other = await postgresPool(server().address);
      expect(await outcome(other.close({ timeoutMs: -1 }))).toBe("ERR_OPTION");
      expect((await other.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
      await ends(other);
    });

    test("by force, with the reason for everybody who waits or works", async () => {
      const p = pool({ max: 1 });
      const lock = await outsider();
      await lock.query("SELECT pg_advisory_lock(1)");
      const running = outcome(p.query("SELECT pg_advisory_lock(1)"));
      await until(() => p.totalCount === 1 && p.stats().inFlight === 1);
      const waiting = outcome(p.query("SELECT 1"));
      await turn();
      await p.destroy(new Error("enough"));
      expect(await Promise.all([running, waiting])).toEqual(["enough", "enough"]);
      await ends(p);
    });
  });

  test("is a pool like our others: it can be used, seen, resized, recycled and supervised", async () => {
    const p = await postgresPool({ ...server().address, max: 2, min: 1, name: "seen" });
    later(() => p.destroy());
    await p.ready();
    const one = await p.use(async (client) => (await client.query("SELECT 1 AS one")).rows[0]);
    expect(one).toEqual({ one: 1 });
    expect(p.tree().children.map(({ id }) => id)).toEqual(["registry", "connections"]);
    expect(p.snapshot()).toMatchObject({ name: "seen", kind: "checkout", connections: [{ state: "ready" }] });
    await p.resize(1);
    await p.recycle();
    await p.ready();
    expect(p.stats()).toMatchObject({ size: 1, totals: { opened: 2, closed: 1 } });
    expect(p.process.alive).toBe(true);
    expect(await outcome(p.use("no work" as never))).toBe("ERR_OPTION");
    await ends(p);
    expect(p.process.alive).toBe(false);
  });

  test("can be a child of a supervisor of one's own, which ends it", async () => {
    expect(Pool.childSpec().id).toBe("postgres");
    const made: Pool[] = [];
    const spec = Pool.childSpec({ ...server().address, name: "mine", min: 1 });
    const start = async (): Promise<Pool> => {
      const p = (await spec.start()) as Pool;
      made.push(p);
      return p;
    };
    const supervisor = await Supervisor.start([{ ...spec, start }], { strategy: "one_for_one" });
    later(() => supervisor.stop());
    expect(supervisor.whichChildren()).toMatchObject([{ id: "mine", type: "supervisor" }]);
    const [p] = made as [Pool];
    await p.ready();
    await supervisor.stop();
    expect(p.process.alive).toBe(false);
    expect(await outcome(p.query("SELECT 1"))).toBe("ERR_POOL_CLOSED");
    await ends(p);
  });

  test("is ended by `await using`, when what has been asked is answered", async () => {
    const p = pool();
    const asked = p.query("SELECT 1 AS one");
    await p.ready();
    await p[Symbol.asyncDispose]();
    expect([(await asked).rows, p.ended]).toEqual([[{ one: 1 }], true]);
    await ends(p);
  });
});
