export type { Lease } from "./lease.ts";
export type { AcquireOptions, CheckoutPoolOptions } from "./options.ts";
export { CheckoutPool } from "./pool.ts";
