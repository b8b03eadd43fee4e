/**
 * A client, to be killed: takes leases on all the connections of a checkout pool, asks something on each that is never
 * answered, says so, and holds them.
 */

import { CheckoutPool } from "../../src/index.ts";
import { fantaConnector } from "../../src/fanta/index.ts";

const [port, max] = process.argv.slice(2).map(Number) as [number, number];
const pool = await CheckoutPool.start({ connector: fantaConnector({ port }), max });
const leases = await Promise.all(Array.from({ length: max }, () => pool.acquire()));
for (const lease of leases) lease.resource.request("hold").catch(() => undefined);
process.stdout.write(`holds ${leases.length}\n`);
