export { type Abortable, unwatchAbort, watchAbort } from "./abort.ts";
export { type Backoff, type BackoffOptions, backoff, backoffCheck, nextDelay } from "./backoff.ts";
export { Carried } from "./carried.ts";
export { Dice } from "./dice.ts";
export { newPromise, takeReject, takeResolve } from "./deferred.ts";
export { Deadlines, type DurationList, type Timed } from "./deadlines.ts";
export { HeldTimer } from "./held.ts";
export { type Runtime, systemRuntime, type Timer, type TimerOptions } from "./runtime.ts";
export { atEndOfTurn, turnIsAwaited } from "./turn.ts";
