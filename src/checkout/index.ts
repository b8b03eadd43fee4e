export type { Lease } from "./lease.ts";
export { type AcquireOptions, type CheckoutPoolOptions, checkCheckout, checkoutChecks } from "./options.ts";
export { CheckoutPool } from "./pool.ts";
