/**
 * Drivers other than today's pg, on a real server: one that says less of itself, one that has been wrapped, one that
 * counts how it is held, one that is not there.
 */
import { EventEmitter } from "node:events";
import pg from "pg";
import { afterEach, describe, expect, test, vi } from "vitest";
import { Pool } from "../../src/adapters/postgres/index.ts";
import { virtualRuntime } from "../../src/sim/index.ts";
import { postgresInstalled } from "../servers/postgres.ts";
import { ends, once, outcome, outsider, pool, withServer } from "./postgres.ts";
import { later, until } from "./turns.ts";

/** As pg once was: what state its transaction is in, only the server says. */
class Older extends pg.Client {
  override readonly getTransactionStatus = undefined as never;
}

/** As far from the socket as pg-native: it shows no connection, no state and no way to let the program end. */
class Bare extends EventEmitter {
  readonly sent: string[] = [];
  readonly #client: pg.Client;

  constructor(config?: pg.ClientConfig) {
    super();
    this.#client = new pg.Client(config);
    for (const event of ["error", "end", "drain"] as const)
      this.#client.on(event as "error", (error) => this.emit(event, error));
  }

  connect(): Promise<unknown> {
    return this.#client.connect();
  }

  query(text: string, ...more: unknown[]): Promise<pg.QueryResult> {
    this.sent.push(text);
    return this.#client.query(text, ...(more as [])) as never;
  }

  end(callback: () => void): void {
    this.#client.end(callback);
  }
}

/** Writes down whether the program may end while it is open. */
class Counting extends pg.Client {
  readonly told: string[] = [];

  ref(): void {
    this.told.push("ref");
  }

  unref(): void {
    this.told.push("unref");
  }
}

/** The clients that a pool opens from now on. */
function opened<Client>(of: Pool): Client[] {
  const clients: Client[] = [];
  of.on("connect", (client: Client) => clients.push(client));
  return clients;
}

const fresh = "SELECT now() = statement_timestamp() AS fresh";

describe.skipIf(!postgresInstalled())("a driver", () => {
  withServer();

  describe("that does not say whether a transaction is open", () => {
    test("is listened to: a client at rest is lent again as it is, one in a transaction is rolled back", async () => {
      const p = pool({ max: 1, Client: Older });
      const sent: unknown[] = [];
      p.on("connect", (client: pg.Client) => {
        const { query } = client.connection as unknown as { query: (text: string) => void };
        Object.assign(client.connection, {
          query(text: string): void {
            sent.push(text);
            query.call(this, text);
          },
        });
      });
      for (const text of ["SELECT 1", "SELECT 2", "BEGIN"]) await p.query(text);
      expect((await p.query(fresh)).rows).toEqual([{ fresh: true }]);
      expect(await outcome(p.query("BEGIN; SELECT 1/0"))).toBe("22012");
      expect(await outcome(p.query("SELECT 3"))).toBe("ok");
      const expected = [
        "SELECT 1",
        "SELECT 2",
        "BEGIN",
        "ROLLBACK",
        fresh,
        "BEGIN; SELECT 1/0",
        "ROLLBACK",
        "SELECT 3",
      ];
      expect(sent).toEqual(expected);
      await ends(p);
    });
  });

  describe("that shows nothing of its connection", () => {
    test("is asked to roll back after each lease, since it cannot be known whether there is something to", async () => {
      const p = pool({ max: 1, Client: Bare });
      const clients = opened<Bare>(p);
      await p.query("BEGIN");
      expect((await p.query(fresh)).rows).toEqual([{ fresh: true }]);
      await p.transaction((client) => client.query("SELECT 1"));
      await ends(p);
      expect(clients.map(({ sent }) => sent)).toEqual([
        ["BEGIN", "ROLLBACK", fresh, "ROLLBACK", "BEGIN", "SELECT 1", "COMMIT", "ROLLBACK"],
      ]);
    });

    test("is asked for a sign of life after a rest, before it is lent; one that gives none is replaced", async () => {
      const runtime = virtualRuntime();
      const p = pool({ max: 1, Client: Bare, checkAfterIdleMs: 1_000, runtime });
      const clients = opened<Bare>(p);
      const rest = async (): Promise<void> => {
        await until(() => p.idleCount === 1, "it has been rolled back");
        await runtime.advance(1_001);
      };
      expect((await p.query("SELECT 2 AS two")).rows).toEqual([{ two: 2 }]);
      await rest();
      expect((await p.query("SELECT 2 AS two")).rows).toEqual([{ two: 2 }]);
      await rest();
      const [first] = clients as [Bare];
      expect(first.sent).toEqual(["SELECT 2 AS two", "ROLLBACK", "SELECT 1", "SELECT 2 AS two", "ROLLBACK"]);
      first.query = () => Promise.reject(new Error("nobody there"));
      expect((await p.query("SELECT 3 AS three")).rows).toEqual([{ three: 3 }]);
      await ends(p);
      expect(clients[1]?.sent).toEqual(["SELECT 3 AS three", "ROLLBACK"]);
    });

    test("is closed by its own end when it is lost, and when it is not let in", async () => {
      const p = pool({ max: 1, Client: Bare });
      const { rows } = await p.query("SELECT pg_backend_pid() AS pid");
      const removed = once(p, "remove");
      await (await outsider()).query("SELECT pg_terminate_backend($1)", [rows[0]?.pid]);
      await removed;
      expect((await p.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
      expect(p.stats().totals).toMatchObject({ opened: 2, lost: 1 });
      await ends(p);
      const stranger = pool({ Client: Bare, password: "wrong" });
      expect(await outcome(stranger.query("SELECT 1"))).toBe("ERR_POOL_OPEN_FAILED");
      await ends(stranger);
    });
  });

  describe("that can let the program end", () => {
    test("is told to when it has been idle for a moment, and not to as soon as somebody has it", async () => {
      const runtime = virtualRuntime();
      const p = pool({ max: 1, Client: Counting, runtime });
      const clients = opened<Counting>(p);
      const told = (): unknown => clients.map((client) => client.told.splice(0));
      (await p.connect()).release();
      expect(told()).toEqual([[]]);
      await runtime.advance(100);
      expect(told()).toEqual([["unref"]]);
      const held = await p.connect();
      await runtime.advance(100);
      expect(told()).toEqual([["ref"]]);
      held.release();
      // Whoever comes within the moment is lent what nobody was told of.
      await p.query("SELECT 1");
      expect(told()).toEqual([[]]);
      await ends(p);
      expect(told()).toEqual([["ref"]]);
    });

    test("never is with allowExitOnIdle: false", async () => {
      const runtime = virtualRuntime();
      const p = pool({ max: 1, Client: Counting, runtime, allowExitOnIdle: false });
      const clients = opened<Counting>(p);
      await p.query("SELECT 1");
      await runtime.advance(60_000);
      expect(clients.map(({ told }) => told)).toEqual([[]]);
      await ends(p);
    });
  });
});

describe("a driver that cannot be found", () => {
  afterEach(() => {
    vi.doUnmock("pg");
  });

  test.each(["close", "destroy"] as const)(
    "is what everybody is told who asks, and leaves nothing to %s",
    async (end) => {
      vi.doMock("pg", () => ({ Client: undefined, default: {} }));
      expect(await outcome(Pool.start())).toBe("ERR_POSTGRES_DRIVER");
      const p = new Pool();
      later(() => p.destroy());
      const asked = [p.query("SELECT 1"), p.connect(), p.use(() => undefined), p.ready()];
      expect(await Promise.all(asked.map(outcome))).toEqual(asked.map(() => "ERR_POSTGRES_DRIVER"));
      expect([p.totalCount, p.idleCount, p.waitingCount]).toEqual([0, 0, 0]);
      expect(await p[end]()).toEqual(end === "close" ? { finished: 0, aborted: 0 } : undefined);
      expect([p.ending, p.ended]).toEqual([true, true]);
    },
  );
});
