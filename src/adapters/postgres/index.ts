export { type ConnectOptions, Pool, postgresPool } from "./pool.ts";
export type { PgPoolOptions, PoolConfig, PostgresClientOptions, ShownOptions } from "./options.ts";
export type {
  ClientClass,
  DriverClient,
  FieldDef,
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
export type { TransactionOptions } from "./transaction.ts";
