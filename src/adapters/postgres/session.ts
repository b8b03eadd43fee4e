/**
 * One client of the driver, and what the pool must know about it.
 *
 *     open ──▶ at rest ──lent──▶ with its holder ──released──▶ at rest?  ──yes──▶ at rest
 *                 ▲                                              │ no
 *                 └──────── rolled back, and whatever `reset` says ◀── the server has ended what still ran
 *
 * The server says with the end of each query whether a transaction is open (ReadyForQuery). So that a client is fit for
 * the next caller costs a few comparisons, and a ROLLBACK only where there is something to roll back. A client whose query
 * still runs is waited for; if it does not end in its time it is closed, and with it the query. One that its holder has
 * ended, whose socket is gone, or whose query the driver has given up waiting for, is closed at once.
 *
 * The driver calls back with an answer before it takes up what waits behind that query. A holder that releases in there
 * leaves queries behind on a client that looks as if it were at rest. So a query that finds another one running is noted,
 * and the client is not at rest before the driver has said that its line is empty ("drain").
 *
 * A client that fails while nobody uses it emits an error. Somebody always listens here, so that it never ends the program.
 */

import type { OpenContext } from "../../connection/index.ts";
import { asError } from "../../errors.ts";
import type { Runtime } from "../../runtime/index.ts";
import type { PgPoolOptions } from "./options.ts";
import type { ClientClass, DriverClient } from "./surface.ts";

/** What its pool tells it, and is told. */
export interface SessionHost {
  readonly client: object;
  readonly runtime: Runtime;
  readonly closeTimeoutMs: number;
  /** Run on each client that is given back. */
  readonly reset: string | undefined;
  readonly onConnect: PgPoolOptions["onConnect"];
  readonly verify: PgPoolOptions["verify"];
  /** There if what nobody uses lets the program end. */
  readonly idlers: Idlers | undefined;
  opened(session: Session): void;
  /** It is lost; nobody had it. */
  failed(session: Session, error: Error): void;
  closed(session: Session): void;
}

/**
 * Those that have been given back a moment ago. To tell the event loop with each query that a socket no longer keeps it
 * going, and again that it does, costs more than the lending; under load the next caller has it at once. So it is told of
 * those that are still idle after this moment, and a program that has nothing else to do ends that much later.
 */
export class Idlers {
  readonly #runtime: Runtime;
  readonly #sessions = new Set<Session>();

  constructor(runtime: Runtime) {
    this.#runtime = runtime;
  }

  add(session: Session): void {
    // Their sockets keep the program alive; when these are closed, there is nothing to be done.
    if (this.#sessions.size === 0) this.#runtime.setTimer(this.#look, momentMs, { keepAlive: false });
    this.#sessions.add(session);
  }

  readonly #look = (): void => {
    for (const session of this.#sessions) session.idled();
    this.#sessions.clear();
  };
}

const momentMs = 20;

/** Who has it, for as long as it is theirs. */
export interface Holder {
  readonly signal: AbortSignal;
}

/** What pg's own pool looks at as well. */
interface Ending {
  /** It is closed, or about to be. */
  readonly _ending?: boolean;
  /** False once its connection has failed. */
  readonly _queryable?: boolean;
}

/** How pg says that `query_timeout` is over. It has no code for it. */
const readTimeout = "Query read timeout";

/** After these the server knows no prepared statement any more. */
const forgettingStatements = /\b(?:DISCARD\s+ALL|DEALLOCATE\s+(?:PREPARE\s+)?ALL)\b/i;

export class Session {
  readonly client: DriverClient;
  readonly slot: number;
  readonly openedAt: number;
  readonly #host: SessionHost;
  readonly #lost: (reason?: Error) => void;
  /** For a driver that does not say it when asked. */
  #toldStatus: string | undefined = undefined;
  #holder: Holder | undefined = undefined;
  /** Something was asked while a query ran, and the driver has not said since that it has nothing to do. */
  #queued = false;
  /** The program may end while it is open. */
  #letsGo = false;
  #over = false;

  /** Connects. Gives up when the context's signal is aborted. */
  static async open(Client: ClientClass, host: SessionHost, context: OpenContext): Promise<Session> {
    const session = new Session(new Client(host.client), host, context);
    const giveUp = (): void => session.#destroy();
    context.signal.addEventListener("abort", giveUp);
    try {
      await session.#connect();
    } catch (error) {
      session.#over = true;
      session.#destroy();
      throw error;
    } finally {
      context.signal.removeEventListener("abort", giveUp);
    }
    return session;
  }

  private constructor(client: DriverClient, host: SessionHost, context: OpenContext) {
    this.client = client;
    this.slot = context.slot;
    this.openedAt = host.runtime.now();
    this.#host = host;
    this.#lost = context.lost;
    client.on("error", (error) => this.#fail(error));
    client.on("end", () => this.#fail(new Error("the server has closed the connection")));
    if (client.getTransactionStatus === undefined) {
      client.connection?.on?.("readyForQuery", (message: { status?: string } | undefined) => {
        this.#toldStatus = message?.status;
      });
    }
  }

  /** Somebody has it: the program must not end under them. */
  hold(holder: Holder): void {
    this.#holder = holder;
    if (!this.#letsGo) return;
    this.#letsGo = false;
    this.client.ref?.();
  }

  letGo(): void {
    this.#holder = undefined;
    this.#host.idlers?.add(this);
  }

  /** Nobody has used it for a moment. @internal */
  idled(): void {
    if (this.#letsGo || this.#holder !== undefined || this.#over) return;
    this.#letsGo = true;
    this.client.unref?.();
  }

  /** It is lost, closed or being closed. */
  get over(): boolean {
    return this.#over;
  }

  /** Its holder asks something of it: called before the driver is. */
  asked(): void {
    const { client } = this;
    if (this.#queued || client.readyForQuery !== false) return;
    this.#queued = true;
    const drained = (): void => {
      client.removeListener("drain", drained);
      this.#queued = false;
    };
    client.on("drain", drained);
  }

  /** The holder was told of this error. After a query that has timed out nobody knows when it will answer anything again. */
  queryFailed(error: unknown): void {
    const timedOut = error instanceof Error && error.message === readTimeout;
    if (timedOut && this.client.readyForQuery === false) this.#fail(error);
  }

  /** Whether it is at rest, in no transaction, and nothing is to be cleared. */
  get fit(): boolean {
    return (
      this.client.readyForQuery === true &&
      !this.#queued &&
      this.#status === "I" &&
      this.#host.reset === undefined &&
      this.#answers
    );
  }

  /** Makes it fit for the next. */
  async reset(): Promise<void> {
    const { client } = this;
    const { reset } = this.#host;
    if (!this.#answers) throw new Error("the client was ended by its holder, or its connection is gone");
    await this.#rested();
    // A driver that does not tell is asked to roll back what may not be there: the server takes it as a mere warning.
    if (this.#status !== "I") await client.query("ROLLBACK");
    if (reset !== undefined) await this.#clear(reset);
    if (this.#inTransaction) throw new Error("the transaction is still open after its reset");
  }

  /** Asks the server for a sign of life. */
  async check(): Promise<void> {
    await this.client.query("SELECT 1");
  }

  /** Says goodbye to the server; cuts the connection when that takes long, or when there is nobody to say it to. */
  async close(): Promise<void> {
    const { runtime, closeTimeoutMs } = this.#host;
    const lost = this.#over;
    const holder = this.#holder;
    this.#over = true;
    this.client.ref?.();
    // Half of the time: the place is free when this is done, and then the socket is to be gone too.
    const timer = runtime.setTimer(() => this.#destroy(), closeTimeoutMs / 2, { keepAlive: true });
    try {
      if (lost) this.#destroy();
      else if (holder !== undefined && this.client.readyForQuery === false) {
        await Promise.resolve(); // The holder is told in the step that we are called in, and after us.
        const { aborted, reason } = holder.signal;
        this.#destroy(aborted ? asError(reason) : undefined);
      }
      await new Promise<void>((resolve) => this.client.end(() => resolve()));
    } finally {
      timer.cancel();
      this.#host.closed(this);
    }
  }

  async #connect(): Promise<void> {
    const { client } = this;
    const { onConnect, verify } = this.#host;
    await client.connect();
    await onConnect?.(client as never);
    if (verify !== undefined) {
      await new Promise<void>((resolve, reject) => {
        verify(client, (error) => (error === undefined || error === null ? resolve() : reject(error)));
      });
    }
    this.#host.opened(this);
    // Those who were told may have sent something. It is lent when that is done, so that its first holder need not wait.
    await this.#rested();
    if (this.#inTransaction) await client.query("ROLLBACK");
    this.#host.idlers?.add(this);
  }

  /** Whether something that is asked of it could be answered. */
  get #answers(): boolean {
    const { _ending, _queryable, connection }: DriverClient & Ending = this.client;
    return _ending !== true && _queryable !== false && connection?.stream?.writable !== false;
  }

  get #inTransaction(): boolean {
    const status = this.#status;
    return status === "T" || status === "E";
  }

  get #status(): string | null | undefined {
    return this.client.getTransactionStatus === undefined ? this.#toldStatus : this.client.getTransactionStatus();
  }

  /** Runs what the user wants run between two leases. */
  async #clear(reset: string): Promise<void> {
    const { client } = this;
    await client.query(reset);
    // The driver remembers what it has prepared, and is not told by the server that it is gone.
    if (forgettingStatements.test(reset) && client.connection?.parsedStatements !== undefined) {
      client.connection.parsedStatements = {};
    }
  }

  /** Resolves when no query runs on it, and none waits. */
  async #rested(): Promise<void> {
    const { client } = this;
    if (client.readyForQuery !== false && !this.#queued) return;
    await new Promise<void>((resolve, reject) => {
      const settle = (act: () => void) => (): void => {
        client.removeListener("drain", drained);
        client.removeListener("end", ended);
        act();
      };
      const drained = settle(resolve);
      const ended = settle(() => reject(new Error("the connection has ended")));
      client.on("drain", drained);
      client.on("end", ended);
    });
  }

  #fail(error: unknown): void {
    if (this.#over) return;
    this.#over = true;
    const reason = asError(error);
    const held = this.#holder !== undefined;
    this.#lost(reason);
    if (!held) this.#host.failed(this, reason);
  }

  /** pg waits for an answer of the server's before it lets a socket go. There may be none. What runs fails with the reason. */
  #destroy(reason?: Error): void {
    const { client } = this;
    const stream: { destroy?: (reason?: Error) => void } | undefined = client.connection?.stream;
    if (typeof stream?.destroy === "function") stream.destroy(reason);
    else client.end(() => undefined);
  }
}
