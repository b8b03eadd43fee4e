/**
 * The system's runtime, counting the timers that are set and have neither run nor been cancelled: Node shows only those
 * that keep it alive.
 */

import { type Runtime, systemRuntime } from "../../src/index.ts";

let timers = 0;

export const runtime: Runtime & { readonly timers: number } = {
  get timers() {
    return timers;
  },
  now: () => systemRuntime.now(),
  random: () => systemRuntime.random(),
  setTimer(callback, delayMs, options) {
    let over = false;
    const end = (): void => {
      if (!over) timers--;
      over = true;
    };
    timers++;
    const timer = systemRuntime.setTimer(
      () => {
        end();
        callback();
      },
      delayMs,
      options,
    );
    return {
      cancel: () => {
        end();
        timer.cancel();
      },
    };
  },
};
