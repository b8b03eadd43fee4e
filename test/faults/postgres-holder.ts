/** A client, to be killed: begins transactions on all the connections of a Postgres pool, locks in each, says so, and holds them. */

import { Pool } from "../../src/adapters/postgres/index.ts";

const [connectionString, count] = process.argv.slice(2) as [string, string];
const max = Number(count);
const pool = new Pool({ connectionString, max });
const clients = await Promise.all(Array.from({ length: max }, () => pool.connect()));
for (const client of clients) {
  await client.query("BEGIN");
  await client.query("SELECT pg_advisory_xact_lock_shared(7)");
}
process.stdout.write(`holds ${clients.length}\n`);
