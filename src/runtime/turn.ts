/**
 * The end of a turn of the event loop: after the callbacks of all sockets that had something to read.
 *
 * What is asked for in one turn can be done in one go when it is over. That is worth the more, the later it is done: a
 * microtask and `process.nextTick` come after each single callback, an immediate after all of them.
 *
 * It is no part of `Runtime`, because it is not time: no time passes in a turn, and virtual time has turns too.
 */

import { AsyncLocalStorage } from "node:async_hooks";

let waiting: (() => void)[] = [];

/**
 * Calls back once, at the end of this turn; at the end of the next one, if this turn has come to its end already. One
 * immediate serves everyone who asks in a turn. The program lives on until then.
 *
 * @param callback Must not throw. It runs in nobody's async context: an immediate would have that of whoever asked first.
 */
export function atEndOfTurn(callback: () => void): void {
  if (waiting.push(callback) === 1) setImmediate(endTurn);
}

/** Whether somebody waits for the end of this turn: a simulation must then let it end before time passes. */
export function turnIsAwaited(): boolean {
  return waiting.length > 0;
}

const inNoContext = AsyncLocalStorage.snapshot();
const endTurn = (): void => inNoContext(callBack);

function callBack(): void {
  const all = waiting;
  waiting = [];
  for (const callback of all) callback();
}
