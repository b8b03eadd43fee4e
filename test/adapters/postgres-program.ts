/**
 * A program that asks a few questions and then does nothing: it ends by itself, though it has closed nothing.
 *
 *     node --import tsx postgres-program.ts <url>
 */
import { Pool } from "../../src/adapters/postgres/index.ts";

const pool = new Pool({ connectionString: process.argv[2], min: 2 });
await pool.ready();
console.log((await pool.query("SELECT 1 AS n")).rows[0].n);
console.log(await pool.transaction(async (client) => (await client.query("SELECT 2 AS n")).rows[0].n));
const client = await pool.connect();
console.log((await client.query("SELECT 3 AS n FROM pg_advisory_lock(1)")).rows[0].n);
void client.query("BEGIN");
client.release();
