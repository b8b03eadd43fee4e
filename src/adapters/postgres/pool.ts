/**
 * A pool of Postgres clients with the face of pg's own, on a checkout pool.
 *
 *     import { Pool } from "pg";                     ──▶     import { Pool } from "poolwarden/postgres";
 *
 * What pg's pool can be asked, this one can: `query`, `connect`, `end`, the counts and the events, with pg's options. So
 * whatever takes a `pg.Pool` takes it, Kysely and Drizzle among them. Beside that it is a pool like our others: `use`,
 * `stats`, `snapshot`, `tree`, `resize`, `recycle`, `close`.
 *
 * Promised beyond pg's: every wait ends, in a bounded line. A client belongs to one caller at a time, and what the last
 * one still does to it reaches nobody. A transaction that was left open is rolled back before the next caller comes. A
 * client that dies while idle is removed, and ends no program. A statement that fails costs no connection.
 *
 * `new Pool()` returns at once, as pg's does; the pool itself starts in the next turns of the event loop, and who asks
 * before waits for that. `postgresPool()` resolves when it has.
 */

import { EventEmitter } from "node:events";
import { CheckoutPool, checkCheckout, type Lease } from "../../checkout/index.ts";
import { asError, LeaseError, OptionError, PostgresError, PoolwardenError } from "../../errors.ts";
import type {
  CloseReport,
  Pool as PoolContract,
  PoolSnapshot,
  ProcessTree,
  ReadyOptions,
  UseOptions,
  Work,
  WorkContext,
} from "../../pool/index.ts";
import type { Process } from "../../process/index.ts";
import { newPromise, takeReject, takeResolve } from "../../runtime/index.ts";
import type { ChildSpec } from "../../supervisor/index.ts";
import { emit, type PoolStats } from "../../telemetry/index.ts";
import { postgresConnector } from "./connector.ts";
import { loadDriver } from "./driver.ts";
import { failSubmittable, handleOf, isSubmittable, refuse } from "./handle.ts";
import { type PoolConfig, type ShownOptions, type SplitConfig, shownOptions, splitConfig } from "./options.ts";
import { type Holder, Idlers, type Session, type SessionHost } from "./session.ts";
import type {
  ClientClass,
  PoolClient,
  PostgresClient,
  Queries,
  QueryArrayConfig,
  QueryArrayResult,
  QueryConfig,
  QueryConfigValues,
  QueryResult,
  QueryResultRow,
  Submittable,
} from "./surface.ts";
import { checkTransaction, type Ground, runTransaction, type TransactionOptions } from "./transaction.ts";

/** For one `connect`. */
export interface ConnectOptions {
  /** Leaves the line at once. */
  readonly signal?: AbortSignal;
  /** 0: an idle client, or an error. @default the pool's acquireTimeoutMs */
  readonly timeoutMs?: number;
  /** Higher goes first. @default 0 */
  readonly priority?: number;
}

type Connected = (error: Error | undefined, client: PoolClient | undefined, done: (release?: any) => void) => void;
type Submits = Parameters<typeof failSubmittable>[0];
type Answered = (error: Error | undefined, result?: unknown) => void;

let made = 0;

export class Pool extends EventEmitter implements PoolContract<PostgresClient>, Queries {
  readonly name: string;
  readonly #config: PoolConfig;
  readonly #options: ShownOptions;
  readonly #split: SplitConfig;
  readonly #started: Promise<CheckoutPool<Session>>;
  readonly #sessions = new Set<Session>();
  #checkout: CheckoutPool<Session> | undefined = undefined;
  #Client: ClientClass | undefined = undefined;
  /** Calls that wait for the pool to have started. */
  #early = 0;
  #ending = false;
  #ended = false;

  /** @throws {OptionError} for what is unknown, out of range, or does not fit together. */
  constructor(config: PoolConfig = {}) {
    super();
    const where = "new Pool";
    this.#split = splitConfig(where, config);
    this.#config = config;
    checkCheckout(where, { ...this.#split.checkout, connector: this.#connector(Object as never) });
    this.name = config.name ?? `postgres pool ${++made}`;
    this.#options = shownOptions(config);
    this.#started = this.#start();
    this.#started.catch(() => undefined); // Whoever asks for something is told.
  }

  /** Starts a pool, and resolves when it is up; connected or not, which `ready()` waits for. */
  static async start(config: PoolConfig = {}): Promise<Pool> {
    const pool = new Pool(config);
    await pool.#started;
    return pool;
  }

  /** For the user's own supervisor. The pool closes what it has when it is shut down. */
  static childSpec(config: PoolConfig = {}): ChildSpec {
    return { id: config.name ?? "postgres", type: "supervisor", start: () => Pool.start(config) };
  }

  /** The driver's class. @throws {PostgresError} `ERR_POSTGRES_NOT_STARTED` before it is known. */
  get Client(): new (
    config?: any,
  ) => PostgresClient {
    return (this.#Client as unknown as (new () => PostgresClient) | undefined) ?? notStarted(this.name);
  }

  /** As it was given, with pg's defaults. To make a client of one's own from; shows no address when it is printed. */
  get options(): ShownOptions {
    return this.#options;
  }

  get totalCount(): number {
    return this.#checkout?.stats().size ?? 0;
  }

  get idleCount(): number {
    return this.#checkout?.stats().idle ?? 0;
  }

  get waitingCount(): number {
    return (this.#checkout?.stats().waiting ?? 0) + this.#early;
  }

  /** Clients older than `maxLifetimeSeconds` that are still with their holders. */
  get expiredCount(): number {
    const { runtime, maxLifetimeMs = Infinity } = this.#split.checkout;
    const now = runtime.now();
    let expired = 0;
    for (const { openedAt } of this.#sessions) if (now - openedAt >= maxLifetimeMs) expired++;
    return expired;
  }

  get ending(): boolean {
    return this.#ending;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /**
   * Lends a client. `release()` gives it back; `release(error)` closes it.
   *
   * @throws {AcquireTimeoutError}, {QueueFullError}, {ShedError}: retry later. {BusyError}, {NoMemberError} with
   *   `timeoutMs: 0`. {OpenFailedError} when the server will never let us in. {ClosedError}. The signal's own reason.
   */
  connect(options?: ConnectOptions): Promise<PoolClient>;
  connect(callback: Connected): void;
  connect(given?: ConnectOptions | Connected): Promise<PoolClient> | void {
    if (typeof given !== "function") return this.#connect(given);
    const done = (client: PoolClient | undefined) => (error?: any) => client?.release(error);
    void tell(this.#connect(undefined), (error, client) => given(error, client, done(client)));
  }

  /** One statement, on whichever client is free. What follows it may run on another: a transaction is `transaction`. */
  query<T extends Submittable>(submittable: T): T;
  query<R extends any[] = any[], I = any[]>(
    config: QueryArrayConfig<I>,
    values?: QueryConfigValues<I>,
  ): Promise<QueryArrayResult<R>>;
  query<R extends QueryResultRow = any, I = any>(config: QueryConfig<I>): Promise<QueryResult<R>>;
  query<R extends QueryResultRow = any, I = any[]>(
    textOrConfig: string | QueryConfig<I>,
    values?: QueryConfigValues<I>,
  ): Promise<QueryResult<R>>;
  query<R extends any[] = any[], I = any[]>(
    config: QueryArrayConfig<I>,
    callback: (error: Error, result: QueryArrayResult<R>) => void,
  ): void;
  query<R extends QueryResultRow = any, I = any[]>(
    textOrConfig: string | QueryConfig<I>,
    callback: (error: Error, result: QueryResult<R>) => void,
  ): void;
  query<R extends QueryResultRow = any, I = any[]>(
    text: string,
    values: QueryConfigValues<I>,
    callback: (error: Error, result: QueryResult<R>) => void,
  ): void;
  query(first: unknown, second?: unknown, third?: unknown): unknown {
    if (typeof first === "function") {
      return refuse([first], new OptionError("Pool.query", "a text, a configuration or a query", first));
    }
    const callback = (typeof second === "function" ? second : third) as Answered | undefined;
    const values = typeof second === "function" ? undefined : second;
    if (isSubmittable(first)) {
      void this.#submit(first, values, callback);
      return first;
    }
    const answer = this.#ask(first, values);
    if (callback === undefined) return answer;
    void tell(answer, callback);
    return undefined;
  }

  /**
   * Runs `work` in a transaction on one client: committed when it resolves, rolled back when it rejects.
   *
   * What `work` asks of the pool instead of its client runs on another connection, outside of the transaction; a
   * `transaction` in it is one of its own, which does not see what this one has done. For a part that may fail, send
   * SAVEPOINT and ROLLBACK TO through the client.
   *
   * @throws as `use`; what `work` throws; what the driver says of BEGIN or COMMIT; {PostgresError}
   *   `ERR_POSTGRES_ROLLED_BACK`.
   */
  async transaction<T>(work: Work<PostgresClient, T>, options: TransactionOptions = {}): Promise<T> {
    checkTransaction("Pool.transaction", work, options);
    const { isolationLevel: _i, readOnly: _r, deferrable: _d, ...waiting } = options;
    return this.#use((ground, context) => runTransaction(ground, work, context, options), waiting);
  }

  /** Lends a client to `work`, and takes it back when that has settled. As `CheckoutPool.use`, nested use included. */
  async use<T>(work: Work<PostgresClient, T>, options?: UseOptions): Promise<T> {
    if (typeof work !== "function") throw new OptionError("Pool.use: work", "a function", work);
    return this.#use((ground, context) => work(ground.client, context), options);
  }

  /** pg's word for `close`. */
  end(): Promise<void>;
  end(callback: () => void): void;
  end(callback?: () => void): Promise<void> | void {
    const ended = this.close().then(() => undefined);
    if (callback === undefined) return ended;
    void tell(ended, callback);
  }

  /** @throws {PostgresError} `ERR_POSTGRES_NOT_STARTED`, as all that looks at the pool before it is there. */
  get process(): Process {
    return this.#pool.process;
  }

  stats(): PoolStats {
    return this.#pool.stats();
  }

  snapshot(): PoolSnapshot {
    return this.#pool.snapshot();
  }

  tree(): ProcessTree {
    return this.#pool.tree();
  }

  async ready(options?: ReadyOptions): Promise<void> {
    await (await this.#started).ready(options);
  }

  async resize(size: number): Promise<void> {
    await (await this.#started).resize(size);
  }

  async recycle(options?: { readonly overMs?: number }): Promise<void> {
    await (await this.#started).recycle(options);
  }

  async close(options?: { readonly timeoutMs?: number }): Promise<CloseReport> {
    const before = this.#ending;
    this.#ending = true;
    const checkout = this.#checkout ?? (await this.#started.catch(() => undefined));
    let report: CloseReport | undefined;
    try {
      report = await checkout?.close(options);
    } catch (error) {
      this.#ending = before; // An option was wrong: nothing has happened.
      throw error;
    }
    this.#ended = true;
    return report ?? { finished: 0, aborted: 0 };
  }

  async destroy(reason?: Error): Promise<void> {
    this.#ending = true;
    const checkout = this.#checkout ?? (await this.#started.catch(() => undefined));
    await checkout?.destroy(reason);
    this.#ended = true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  get #pool(): CheckoutPool<Session> {
    return this.#checkout ?? notStarted(this.name);
  }

  async #start(): Promise<CheckoutPool<Session>> {
    const Client = (this.#config.Client as ClientClass | undefined) ?? (await loadDriver());
    const connector = this.#connector(Client);
    const checkout = await CheckoutPool.start<Session>({ ...this.#split.checkout, name: this.name, connector });
    this.#Client = Client;
    this.#checkout = checkout;
    return checkout;
  }

  #connector(Client: ClientClass): ReturnType<typeof postgresConnector> {
    const { client, checkout } = this.#split;
    const { host: address, port, database, password, reset, onConnect, verify, allowExitOnIdle } = this.#config;
    const host: SessionHost = {
      client,
      runtime: checkout.runtime,
      closeTimeoutMs: checkout.closeTimeoutMs,
      idlers: (allowExitOnIdle ?? true) ? new Idlers(checkout.runtime) : undefined,
      reset,
      onConnect,
      verify,
      opened: (session) => {
        this.#sessions.add(session);
        this.#tell("connect", session.client);
      },
      failed: (session, error) => this.#tell("error", error, session.client),
      closed: (session) => {
        this.#sessions.delete(session);
        this.#tell("remove", session.client);
      },
    };
    const endpoint = !address ? "postgres" : `${address}:${port || 5432}${database ? `/${database}` : ""}`;
    return postgresConnector({ endpoint, freshPassword: typeof password === "function", Client, host });
  }

  /** An event that nobody's promise waits for. Nobody has to listen, not even to errors, and a listener may throw. */
  #tell(event: string, ...fields: unknown[]): void {
    if (this.listenerCount(event) === 0) return;
    try {
      this.emit(event, ...fields);
    } catch (thrown) {
      emit("callback.failed", { where: `${this.name}: listener of "${event}"`, error: asError(thrown) });
    }
  }

  /** A lease, from a pool that may not have started yet. */
  #acquire(options?: ConnectOptions): Promise<Lease<Session>> {
    return this.#checkout?.acquire(options) ?? this.#acquireEarly(options);
  }

  async #acquireEarly(options?: ConnectOptions): Promise<Lease<Session>> {
    this.#early++;
    try {
      await this.#started;
    } finally {
      this.#early--;
    }
    return this.#pool.acquire(options);
  }

  #hold(session: Session, holder: Holder): void {
    session.hold(holder);
    this.#tell("acquire", session.client);
  }

  #letGo(lease: Lease<Session>, session: Session): void {
    session.letGo();
    lease.release();
    this.#tell("release", undefined, session.client);
  }

  async #connect(options: ConnectOptions | undefined): Promise<PoolClient> {
    const lease = await this.#acquire(options);
    const session = lease.resource;
    const { client } = session;
    this.#hold(session, lease);
    let over = false;
    const handle = handleOf({
      client,
      inForce: () => void lease.resource,
      asked: () => session.asked(),
      queryFailed: (error) => session.queryFailed(error),
      release: (error) => {
        if (over) {
          lease.release(); // Does nothing but tell that it was done twice.
          return;
        }
        over = true;
        handle.leave();
        if (!error) {
          this.#letGo(lease, session);
          return;
        }
        session.letGo();
        lease.discard(error instanceof Error ? error : undefined);
        this.#tell("release", error, client);
      },
    });
    return handle.client;
  }

  #ask(config: unknown, values: unknown): Promise<unknown> {
    const lease = this.#checkout?.tryAcquire();
    const answer = newPromise<unknown>();
    const resolve = takeResolve<unknown>();
    const reject = takeReject();
    if (lease !== undefined) this.#send(lease, config, values, resolve, reject);
    else this.#acquire().then((granted) => this.#send(granted, config, values, resolve, reject), reject);
    return answer.catch(retrace);
  }

  /** Asks on a lease, and gives it back with the answer. */
  #send(
    lease: Lease<Session>,
    config: unknown,
    values: unknown,
    resolve: (result: unknown) => void,
    reject: (error: unknown) => void,
  ): void {
    let session: Session;
    try {
      session = lease.resource;
    } catch (lost) {
      reject(lost);
      return;
    }
    this.#hold(session, lease);
    let answered = false; // pg may fail a query, and then say how the server took it.
    const settle = (error: unknown, result: unknown): void => {
      if (answered) return;
      answered = true;
      const failed = error !== null && error !== undefined;
      // Looked at before it is given back: then it is over by its own release.
      const why = failed ? whyEnded(lease, error) : undefined;
      if (failed) session.queryFailed(error);
      this.#letGo(lease, session);
      if (failed) reject(why);
      else resolve(result);
    };
    try {
      session.client.query(config, values, settle);
    } catch (thrown) {
      settle(thrown, undefined);
    }
  }

  /** For what runs itself: a lease until the client has nothing to do any more. */
  async #submit(submittable: Submits, values: unknown, callback: unknown): Promise<void> {
    let done = (): void => undefined;
    try {
      const lease = await this.#acquire();
      const session = lease.resource;
      const { client } = session;
      this.#hold(session, lease);
      done = (): void => {
        client.removeListener("drain", done);
        client.removeListener("end", done);
        this.#letGo(lease, session);
      };
      client.on("drain", done);
      client.on("end", done);
      client.query(submittable, values, callback as never);
    } catch (error) {
      done();
      failSubmittable(submittable, asError(error));
    }
  }

  async #use<T>(work: (ground: Ground, context: WorkContext) => T | Promise<T>, options?: UseOptions): Promise<T> {
    const checkout = this.#checkout ?? (await this.#started);
    return checkout.use(async (session, context) => {
      const { client, slot } = session;
      let over = false;
      const handle = handleOf({
        client,
        inForce: () => {
          if (over) throw new LeaseError("ERR_LEASE_RELEASED", { stats: checkout.stats(), slot });
          if (session.over) context.signal.throwIfAborted(); // By whatever has ended its lease.
        },
        asked: () => session.asked(),
        queryFailed: (error) => session.queryFailed(error),
      });
      const close = (): void => {
        over = true;
        handle.leave();
      };
      this.#hold(session, context);
      try {
        const ground: Ground = {
          client: handle.client,
          close,
          query: (text) => client.query(text),
        };
        return await work(ground, context);
      } finally {
        close();
        session.letGo();
        this.#tell("release", undefined, client);
      }
    }, options);
  }
}

/** A pool that has started; connected or not, which `ready()` waits for. */
export function postgresPool(config: PoolConfig = {}): Promise<Pool> {
  return Pool.start(config);
}

/** Calls back in the caller's async context. What that throws is the program's own, as with pg, and no rejection. */
async function tell<T>(answer: Promise<T>, callback: (error: Error | undefined, result?: T) => void): Promise<void> {
  let told: () => void;
  try {
    const result = await answer;
    told = () => callback(undefined, result);
  } catch (error) {
    told = () => callback(error as Error);
  }
  queueMicrotask(told);
}

/** A pool that was ended has an error of its own; what the driver says of its end is the consequence. */
function whyEnded(lease: Lease<Session>, error: unknown): unknown {
  const { signal } = lease;
  if (!signal.aborted) return error;
  const { code } = signal.reason as { code?: unknown };
  return code === "ERR_CONNECTION_LOST" ? error : signal.reason;
}

/** The stack of a driver's error ends in a socket. Made anew where a promise goes on, it leads to the caller who awaits. */
function retrace(error: unknown): never {
  if (error instanceof Error && !(error instanceof PoolwardenError)) Error.captureStackTrace(error, retrace);
  throw error;
}

function notStarted(name: string): never {
  throw new PostgresError(
    "ERR_POSTGRES_NOT_STARTED",
    `pool "${name}" has not started yet. Make it with postgresPool(), or await ready() first.`,
  );
}
