/**
 * What a pool of Postgres clients and its users say to each other: pg's words, as types of our own.
 *
 * pg is an optional peer, and so are its types: nothing here imports them, and nothing has to be installed to compile
 * against us. The types are structural, and as wide as pg's: `pg.Client` can be given to us, and what we give can be
 * given to whoever wants pg's `Pool` or `PoolClient` (Kysely, Drizzle). What we do not touch ourselves is `any`.
 */

import type { EventEmitter } from "node:events";
import type { Readable, Writable } from "node:stream";

export interface QueryResultRow {
  [column: string]: any;
}

export interface FieldDef {
  name: string;
  tableID: number;
  columnID: number;
  dataTypeID: number;
  dataTypeSize: number;
  dataTypeModifier: number;
  format: string;
}

interface QueryResultBase {
  command: string;
  rowCount: number | null;
  oid: number;
  fields: FieldDef[];
}

export interface QueryResult<R extends QueryResultRow = any> extends QueryResultBase {
  rows: R[];
}

export interface QueryArrayResult<R extends any[] = any[]> extends QueryResultBase {
  rows: R[];
}

export type QueryConfigValues<T> = T extends Array<infer U> ? T | U[] : never;

export interface QueryConfig<I = any[]> {
  name?: string | undefined;
  text: string;
  values?: QueryConfigValues<I>;
  types?: any;
}

export interface QueryArrayConfig<I = any[]> extends QueryConfig<I> {
  rowMode: "array";
}

/** What runs itself on a connection: a cursor, a stream of rows, a copy. */
export interface Submittable {
  submit: (connection: any) => void;
}

/** How one asks: in any of pg's ways. */
export interface Queries {
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
}

/** A client of the driver as a caller sees it: everything that `pg.Client` is. */
export interface PostgresClient extends EventEmitter, Queries {
  /** Set once it is connected: the process of the server that serves it. */
  readonly processID?: number;
  user?: string | undefined;
  database?: string | undefined;
  port: number;
  host: string;
  password?: string | undefined;
  ssl: boolean;
  readonly pipeline: boolean;
  readonly connection: any;
  connect(): Promise<any>;
  connect(callback: (...outcome: any[]) => void): void;
  end(): Promise<void>;
  end(callback: (error: Error) => void): void;
  copyFrom(text: string): Writable;
  copyTo(text: string): Readable;
  pauseDrain(): void;
  resumeDrain(): void;
  escapeIdentifier: (text: string) => string;
  escapeLiteral: (text: string) => string;
  setTypeParser: any;
  getTypeParser: any;
  /** In no transaction, in one, in one that has failed; null when that is not known. */
  getTransactionStatus(): "I" | "T" | "E" | null;
}

/** A client that is lent: yours until `release`. Nothing it is asked after that reaches whoever has the connection then. */
export interface PoolClient extends PostgresClient {
  /** Gives it back; with an error, or `true`, as broken: then it is closed, and not lent again. */
  release(error?: Error | boolean): void;
}

/** What the pool itself needs of a client: little enough that any version of pg 8 has it. */
export interface DriverClient {
  /** False while a query runs, or its end has not been told by the server. */
  readonly readyForQuery?: boolean;
  readonly connection?: any;
  connect(): Promise<unknown>;
  end(callback: (...outcome: any[]) => void): void;
  query(text: string): Promise<{ readonly command: string }>;
  query(textOrConfig: any, values: any, callback: (error: any, result: any) => void): unknown;
  getTransactionStatus?(): "I" | "T" | "E" | null;
  ref?(): void;
  unref?(): void;
  on(event: "error", listener: (error: Error) => void): unknown;
  on(event: "drain" | "end", listener: () => void): unknown;
  removeListener(event: string, listener: (...fields: any[]) => void): unknown;
}

/** `pg.Client`, or a class of the same make. */
export type ClientClass = new (config?: any) => DriverClient;
