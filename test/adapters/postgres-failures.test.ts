/**
 * What can happen to connections, done to them by a real server and a real kernel: backends that are ended, a server that
 * is restarted, one that is full, one that says nothing, one that will never let us in.
 *
 * After each, nobody waits for what cannot come, the program has not ended, and the pool goes on.
 */
import { spawn } from "node:child_process";
import { once as onceOf } from "node:events";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";
import { inspect } from "node:util";
import pg from "pg";
import { describe, expect, test } from "vitest";
import { loadDriver } from "../../src/adapters/postgres/driver.ts";
import { Pool } from "../../src/adapters/postgres/index.ts";
import { type Events, PoolwardenError } from "../../src/index.ts";
import { postgresInstalled, startPostgres } from "../servers/postgres.ts";
import { codeOf, ends, once, outcome, outsider, pool, server, withServer } from "./postgres.ts";
import { events, later, turn, until } from "./turns.ts";

const terminate = "SELECT pg_terminate_backend($1)";
const backoff = { minMs: 5, maxMs: 20 };

describe.skipIf(!postgresInstalled())("a connection", () => {
  withServer();

  test.each(["heard", "not heard"])("that is ended while idle is removed; its error is %s", async (heard) => {
    const lost = events("connection.lost");
    const p = pool({ max: 1 });
    const errors: unknown[] = [];
    if (heard === "heard")
      p.on("error", (error: unknown, client: unknown) => errors.push(codeOf(error), client instanceof pg.Client));
    const client = await p.connect();
    const pid = client.processID;
    client.release();
    const removed = once(p, "remove");
    await (await outsider()).query(terminate, [pid]);
    await removed;
    expect(lost.map(({ reason, inFlight }) => [codeOf(reason), inFlight])).toEqual([["57P01", 0]]);
    expect(errors).toEqual(heard === "heard" ? ["57P01", true] : []);
    await until(() => p.totalCount === 0);
    const { rows } = await p.query("SELECT pg_backend_pid() AS pid");
    expect(rows[0]?.pid).not.toBe(pid);
    await ends(p);
  });

  test("that is ended while idle ends no program, though a listener throws", async () => {
    const failed = events("callback.failed");
    const p = pool({ max: 1 });
    p.on("error", () => {
      throw new Error("a listener's own");
    });
    const { rows } = await p.query("SELECT pg_backend_pid() AS pid");
    const removed = once(p, "remove");
    await (await outsider()).query(terminate, [rows[0]?.pid]);
    await removed;
    expect(failed.map(({ error }) => error.message)).toEqual(["a listener's own"]);
    await ends(p);
  });

  test.each([[], ["error"]])("whose holder took all listeners away is removed too when it ends (%s)", async (...of) => {
    const p = pool({ max: 1 });
    const client = await p.connect();
    const pid = client.processID;
    const heard: unknown[] = [];
    client.on("error", (error: unknown) => heard.push(error)).removeAllListeners(...of);
    expect(client.listenerCount("error")).toBe(1); // The pool's.
    client.release();
    const removed = once(p, "remove");
    await (await outsider()).query(terminate, [pid]);
    await removed;
    expect([(await p.query("SELECT 1 AS one")).rows, heard]).toEqual([[{ one: 1 }], []]);
    await ends(p);
  });

  test("that is ended while it is lent fails its holder's queries, and is not lent again", async () => {
    const p = pool({ max: 1 });
    const client = await p.connect();
    const heard: string[] = [];
    client.on("error", (error: unknown) => heard.push(codeOf(error)));
    await (await outsider()).query(terminate, [client.processID]);
    await until(() => heard.length > 0);
    expect(heard[0]).toBe("57P01");
    expect(await outcome(client.query("SELECT 1"))).toBe("ERR_LEASE_RELEASED");
    const next = p.query("SELECT 1 AS one");
    client.release();
    expect((await next).rows).toEqual([{ one: 1 }]);
    expect(p.stats().totals).toMatchObject({ opened: 2, lost: 1 });
    await ends(p);
  });

  test("that is ended in the middle of a query fails it with what the server says", async () => {
    const p = pool({ max: 2 });
    const lock = await outsider();
    await lock.query("SELECT pg_advisory_lock(7)");
    const stuck = [
      outcome(p.query("SELECT pg_advisory_lock(7)")),
      outcome(p.use((client) => client.query("SELECT pg_advisory_lock(7)"))),
    ];
    const waiting = p.query("SELECT 1 AS one");
    const find = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    let pids: { pid: number }[] = [];
    while (pids.length < 2) ({ rows: pids } = await lock.query(find));
    for (const { pid } of pids) await lock.query(terminate, [pid]);
    expect(await Promise.all(stuck)).toEqual(["57P01", "57P01"]);
    expect((await waiting).rows).toEqual([{ one: 1 }]);
    await ends(p);
  });

  test.each<[string, (p: Pool) => Promise<unknown>]>([
    ["query", (p) => p.query("SELECT pg_sleep(60)")],
    ["use", (p) => p.use((client) => client.query("SELECT pg_sleep(60)"))],
    ["transaction", (p) => p.transaction((client) => client.query("SELECT pg_sleep(60)"))],
    [
      "connect",
      async (p) => {
        const client = await p.connect();
        await client.query("SELECT pg_sleep(60)").finally(() => client.release());
      },
    ],
    [
      "connect, called back",
      async (p) => {
        const client = await p.connect();
        await new Promise<void>((resolve, reject) => {
          client.query("SELECT pg_sleep(60)", (error) => {
            client.release();
            if (error) reject(error);
            else resolve();
          });
        });
      },
    ],
  ])("whose query has timed out is closed at once, and its place is free: %s", async (_, ask) => {
    const lost = events("connection.lost");
    const p = pool({ max: 1, query_timeout: 50, resetTimeoutMs: 3_600_000 });
    const timedOut = "Query read timeout";
    expect(await outcome(ask(p))).toBe(timedOut);
    expect((await p.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
    expect(lost.map(({ reason }) => codeOf(reason))).toEqual([timedOut]);
    await ends(p);
  });

  test("that breaks without a word fails a query too", async () => {
    const p = pool({ max: 1 });
    const lock = await outsider();
    await lock.query("SELECT pg_advisory_lock(8)");
    const stuck = outcome(p.query("SELECT pg_advisory_lock(8)"));
    const client = new Promise<pg.Client>((resolve) => p.once("acquire", resolve));
    ((await client) as unknown as { connection: { stream: Socket } }).connection.stream.destroy();
    expect(await stuck).toBe("Connection terminated unexpectedly");
    expect((await p.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
    await ends(p);
  });

  test("that is held, or queried, for longer than a lease may last is closed", async () => {
    const p = pool({ max: 1, leaseTimeoutMs: 30 });
    const lock = await outsider();
    await lock.query("SELECT pg_advisory_lock(9)");
    expect(await outcome(p.query("SELECT pg_advisory_lock(9)"))).toBe("ERR_LEASE_EXPIRED");
    const client = await p.connect();
    await once(p, "remove");
    const error = await client.query("SELECT 1").catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({
      code: "ERR_LEASE_EXPIRED",
      acquireStack: expect.stringContaining("postgres-failures"),
    });
    client.release();
    await ends(p);
    expect(p.stats().totals).toMatchObject({ acquired: 2, succeeded: 0, opened: 2, closed: 2 });
  });

  const stuck = "SELECT pg_advisory_lock(10)";
  test.each<[string, (p: Pool) => Promise<unknown>]>([
    ["a transaction", (p) => p.transaction((client) => client.query(stuck))],
    ["a work", (p) => p.use((client) => client.query(stuck))],
    [
      "a client",
      async (p) => {
        const client = await p.connect();
        client.on("error", () => undefined);
        try {
          await client.query(stuck);
        } finally {
          client.release();
        }
      },
    ],
  ])("whose lease ends in the middle of a query of %s fails it with that", async (_, ask) => {
    const p = pool({ max: 1, leaseTimeoutMs: 30 });
    const lock = await outsider();
    await lock.query(stuck);
    expect(await ask(p).catch((thrown: unknown) => thrown)).toMatchObject({
      code: "ERR_LEASE_EXPIRED",
      acquireStack: expect.any(String),
    });
    await ends(p);
  });

  test("whose process somebody ends in the middle of a query fails it, and is not lent again", async () => {
    const p = pool({ max: 1 });
    const lock = await outsider();
    await lock.query(stuck);
    const client = await p.connect();
    client.on("error", () => undefined);
    const told = outcome(client.query(stuck));
    const [connection] = p.tree().children[1]?.children ?? [];
    connection?.process.kill();
    expect(await told).toBe("ERR_CONNECTION_LOST");
    expect(await outcome(client.query("SELECT 1"))).toBe("ERR_LEASE_RELEASED");
    client.release();
    expect((await p.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
    await ends(p);
  });

  test("whose lease has ended between two queries of a work refuses the second with that", async () => {
    const p = pool({ max: 1, leaseTimeoutMs: 30 });
    const seen = new Promise((resolve) => {
      const told = p.use(async (client, { signal }) => {
        await new Promise((ended) => signal.addEventListener("abort", ended));
        resolve(await client.query("SELECT 1").catch((thrown: unknown) => thrown));
      });
      told.catch(() => undefined);
    });
    expect(await seen).toMatchObject({ code: "ERR_LEASE_EXPIRED" });
    await ends(p);
  });

  test("to a server that is restarted is opened anew: those who ask in the meantime wait for it", async () => {
    const p = pool({ max: 3 });
    await Promise.all([1, 2, 3].map(() => p.query("SELECT 1")));
    const held = await p.connect();
    await server().down();
    later(() => server().up());
    await until(() => p.stats().size === 0); // Lost, or closed when it came and nobody waited for it any more.
    expect(p.stats().totals.lost).toBeGreaterThan(0);
    const asked = Promise.all([1, 2, 3, 4].map((id) => p.query("SELECT $1::int AS id", [id])));
    await until(() => p.stats().totals.openFailed > 0);
    await server().up();
    expect((await asked).map(({ rows }) => rows[0]?.id)).toEqual([1, 2, 3, 4]);
    held.release();
    await ends(p);
  });

  test("that is refused for a wrong password is not tried again, and all who wait are told at once", async () => {
    const failed = events("connection.openFailed");
    const p = pool({ password: "wrong", acquireTimeoutMs: Infinity });
    const asked = [p.query("SELECT 1"), p.connect(), p.transaction(() => undefined), p.ready({ timeoutMs: Infinity })];
    const errors = await Promise.all(asked.map((each) => each.catch((thrown: unknown) => thrown)));
    for (const error of errors) expect(error).toMatchObject({ code: "ERR_POOL_OPEN_FAILED", cause: { code: "28P01" } });
    expect(await outcome(p.query("SELECT 1"))).toBe("ERR_POOL_OPEN_FAILED");
    expect(failed.map(({ retryMs }) => retryMs)).toEqual(failed.map(() => undefined));
    expect(failed.length).toBeLessThanOrEqual(2); // As many as are opened at once.
    await ends(p);
  });

  test.each([
    ["a database that is not there", { database: "nowhere" }, "3D000"],
    ["a role that is not there", { user: "nobody" }, "28P01"],
    ["no password", { password: undefined }, undefined],
    [
      "an address that is none",
      { connectionString: "postgres://tester:tiger@nowhere:port/db", host: undefined },
      "ERR_INVALID_URL",
    ],
  ])("that needs %s is not tried again either", async (_, wrong, code) => {
    const p = pool({ ...wrong, acquireTimeoutMs: Infinity });
    const error = await p.query("SELECT 1").catch((thrown: unknown) => thrown as { cause: { code: unknown } });
    expect(error).toMatchObject({ code: "ERR_POOL_OPEN_FAILED" });
    expect((error as { cause: { code: unknown } }).cause.code).toBe(code);
    await ends(p);
  });

  test("whose password is fetched each time is tried again: the next may be the right one", async () => {
    const passwords = ["old", "older", server().address.password];
    const p = pool({ max: 1, password: async () => passwords.shift() as string });
    expect((await p.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
    expect(p.stats().totals).toMatchObject({ opened: 1, openFailed: 2 });
    await ends(p);
  });
});

describe.skipIf(!postgresInstalled())("a server", () => {
  test("that is full is asked again until it has room: whoever waits is served then", async () => {
    const failed = events("connection.openFailed");
    const small = await startPostgres({ max_connections: 4 });
    later(() => small.stop());
    const others = await Promise.all(
      [1, 2, 3].map(async () => {
        const client = new pg.Client(small.address);
        client.on("error", () => undefined);
        await client.connect();
        return client;
      }),
    );
    const p = new Pool({ ...small.address, backoff, max: 4 });
    later(() => p.destroy());
    const asked = Array.from({ length: 20 }, (_, id) =>
      p.transaction((client) => client.query("SELECT $1::int AS id", [id])),
    );
    // One finds room, and serves them all; the others of the pool do not, and are no harm.
    expect((await Promise.all(asked)).map(({ rows }) => rows[0]?.id)).toEqual(asked.map((_, id) => id));
    const held = await p.connect();
    const waiting = [p.query("SELECT 1 AS one"), p.query("SELECT 1 AS one")];
    await until(() => failed.length >= 3);
    expect([...new Set(failed.map(({ error }) => codeOf(error)))]).toEqual(["53300"]);
    await others[0]?.end();
    for (const each of waiting) expect((await each).rows).toEqual([{ one: 1 }]);
    held.release();
    await ends(p);
    for (const each of others) await each.end();
  });

  const impatient = { acquireTimeoutMs: 60, openTimeoutMs: 25, backoff };
  const allTold = async (p: Pool): Promise<void> => {
    const asked = Array.from({ length: 50 }, (_, at) => (at % 2 === 0 ? p.query("SELECT 1") : p.connect()));
    const errors = await Promise.all(asked.map((each) => each.catch((thrown: unknown) => thrown)));
    for (const error of errors) {
      expect(error).toMatchObject({ code: "ERR_POOL_ACQUIRE_TIMEOUT", phase: "open", retryable: true });
      expect((error as Error).cause).toMatchObject({ message: "opening took longer than 25 ms" });
    }
    await ends(p);
  };

  test("that takes connections and says nothing keeps nobody waiting for longer than they want to", async () => {
    const sockets = new Set<Socket>();
    const silent = createServer((socket) => {
      sockets.add(
        socket
          .on("close", () => sockets.delete(socket))
          .on("error", () => undefined)
          .resume(),
      );
    }).listen(0, "127.0.0.1");
    await onceOf(silent, "listening");
    later(() => silent.close());
    const p = new Pool({
      host: "127.0.0.1",
      port: (silent.address() as AddressInfo).port,
      password: "x",
      ...impatient,
    });
    later(() => p.destroy());
    await allTold(p);
    await until(() => sockets.size === 0, "no socket is left");
  });

  test("that takes no more connections keeps nobody waiting either", async () => {
    // A process that is stopped accepts nothing, and the kernel accepts for it what its backlog holds.
    const program = `require("node:net").createServer().listen({ port: 0, host: "127.0.0.1", backlog: 1 }, function () { console.log(this.address().port) })`;
    const child = spawn(process.execPath, ["--eval", program], { stdio: ["ignore", "pipe", "inherit"] });
    later(() => child.kill("SIGKILL"));
    const [line] = (await onceOf(child.stdout, "data")) as [Buffer];
    const port = Number(line.toString());
    child.kill("SIGSTOP");
    const filling = Array.from({ length: 8 }, () => connect(port, "127.0.0.1").on("error", () => undefined));
    later(() => filling.forEach((socket) => socket.destroy()));
    await until(() => filling.some(({ connecting }) => !connecting));
    for (let turns = 0; turns < 50; turns++) await turn();
    const p = new Pool({ host: "127.0.0.1", port, password: "x", ...impatient });
    later(() => p.destroy());
    await allTold(p);
  });

  test("that is not there: whoever waits is told why", async () => {
    const gone = createServer().listen(0, "127.0.0.1");
    await onceOf(gone, "listening");
    const { port } = gone.address() as AddressInfo;
    gone.close();
    const p = new Pool({ host: "127.0.0.1", port, connectionTimeoutMillis: 50, backoff });
    later(() => p.destroy());
    const error = await p.query("SELECT 1").catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "ERR_POOL_ACQUIRE_TIMEOUT", phase: "open", cause: { code: "ECONNREFUSED" } });
    await ends(p);
  });
});

describe("the driver", () => {
  test("that is not installed is a typed error with what to do, for everybody who asks", async () => {
    const error = await loadDriver(() => import("no-such-package" as string)).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "ERR_POSTGRES_DRIVER", message: expect.stringContaining("npm install pg") });
    expect((error as Error).cause).toBeInstanceOf(Error);
    expect(await outcome(loadDriver(async () => ({ default: {} })))).toBe("ERR_POSTGRES_DRIVER");
    expect(await loadDriver(async () => ({ default: { Client: pg.Client } }))).toBe(pg.Client);
  });

  test("is pg's Client, unless another is given", async () => {
    class Mine extends pg.Client {}
    const p = new Pool({ Client: Mine });
    later(() => p.destroy());
    expect(() => p.Client).toThrow(expect.objectContaining({ code: "ERR_POSTGRES_NOT_STARTED" }));
    expect(() => p.process).toThrow(expect.objectContaining({ code: "ERR_POSTGRES_NOT_STARTED" }));
    await p.close();
    expect(p.Client).toBe(Mine);
  });
});

describe.skipIf(!postgresInstalled())("a secret", () => {
  withServer();

  const names = [
    ...["connection.opened", "connection.openFailed", "connection.lost", "connection.closed", "pool.queued"],
    ...["pool.refused", "lease.expired", "lease.misused", "lease.discarded", "callback.failed"],
  ] as (keyof Events)[];

  /** Of an error of ours its words and fields; of a driver's too, since a password has no place there either. */
  const seen = (value: unknown): string =>
    [
      inspect(value, { depth: 8 }),
      value instanceof PoolwardenError ? inspect(Object.entries(value)) : "",
      asJson(value),
    ].join("\n");
  const asJson = (value: unknown): string => {
    try {
      return JSON.stringify(value) ?? "";
    } catch {
      return ""; // A socket is a circle.
    }
  };

  test.each(["as options", "as an address"])(
    "given %s is in no error, event, snapshot or picture of a pool",
    async (how) => {
      const heard = names.map((name) => events(name));
      const said: string[] = [];
      const { address, url } = server();
      for (const password of [address.password, "wrong/tiger@night"]) {
        const given =
          how === "as options"
            ? { ...address, password }
            : { connectionString: url.replace(encodeURIComponent(address.password), encodeURIComponent(password)) };
        const p = new Pool({ ...given, max: 1, leaseTimeoutMs: 40, backoff, queue: { limit: 1 } });
        later(() => p.destroy());
        const look = (): unknown => said.push(seen(p), seen(p.options), seen(p.stats()), seen(p.snapshot()));
        await p.ready().catch((error: unknown) => said.push(seen(error)));
        look();
        p.on("error", (...fields: unknown[]) => said.push(...fields.map(seen)));
        const asked = [
          ...[p.query("SELECT 1"), p.query("SELECT 1/0"), p.query("SELECT pg_terminate_backend(pg_backend_pid())")],
          ...[
            p.query("SELECT pg_sleep(60)"),
            p.connect({ timeoutMs: 0 }),
            p.transaction(() => Promise.reject(new Error())),
          ],
        ];
        for (const each of asked) each.catch(() => undefined);
        for (const each of asked)
          await each.then(
            (result) => said.push(seen(result)),
            (error: unknown) => said.push(seen(error)),
          );
        look();
        await p.connect().then(
          (client) => said.push(seen(client)),
          (error: unknown) => said.push(seen(error)),
        );
        await p.end();
        look();
        await p.query("SELECT 1").catch((error: unknown) => said.push(seen(error)));
      }
      said.push(...heard.flat().map(seen));
      expect(said.length).toBeGreaterThan(30);
      expect(said.filter((text) => /tiger|night|%40/.test(text))).toEqual([]);
    },
  );

  test("is in the options for those who make a client of their own from them", async () => {
    const p = new Pool({ connectionString: server().url, max: 1, statement_timeout: 1_000 });
    later(() => p.destroy());
    const client = new pg.Client({ ...p.options });
    await client.connect();
    expect((await client.query("SHOW statement_timeout")).rows).toEqual([{ statement_timeout: "1s" }]);
    await client.end();
    const q = new Pool({ ...server().address });
    later(() => q.destroy());
    expect([q.options["password"], Object.keys(q.options).includes("password")]).toEqual([
      server().address.password,
      false,
    ]);
  });

  test("that is in a wrong option is not shown either", () => {
    const wrong = [
      "postgres://tester:tiger@host/db",
      { connectionString: { tiger: 1 } },
      { max: "tiger@x" },
      { tiger: "night" },
    ];
    for (const config of wrong) {
      const error = ((): unknown => {
        try {
          return new Pool(config as never);
        } catch (thrown) {
          return thrown;
        }
      })();
      expect(error).toMatchObject({ code: "ERR_OPTION" });
      expect(inspect(error)).not.toMatch(/tiger@|night/);
    }
  });
});
