/**
 * Many who wait, one signal.
 *
 * A program hands the same signal to all it does (its shutdown, one request's end). Node keeps listeners in a list that
 * it walks for each new one, so ten thousand callers who wait with one signal cost fifty million steps, and from the
 * eleventh on it warns of a leak. So there is one listener a signal, for however many wait; it is there only while
 * somebody does.
 *
 * Promised: O(1) to join and to leave; those who wait are told in the order they came.
 */

/** One who waits with a signal. Must not throw. */
export interface Abortable {
  aborted(reason: unknown): void;
}

interface Watch {
  readonly waiting: Set<Abortable>;
  readonly listener: () => void;
}

const watches = new WeakMap<AbortSignal, Watch>();

/** Tells `who` when the signal is aborted. It must not be aborted already; ask first. */
export function watchAbort(signal: AbortSignal, who: Abortable): void {
  let watch = watches.get(signal);
  if (watch === undefined) {
    const waiting = new Set<Abortable>();
    const listener = (): void => {
      // The set itself, no copy: what the first sets off may make the next leave, and that one is not to be told.
      for (const each of waiting) each.aborted(signal.reason);
      watches.delete(signal);
    };
    watch = { waiting, listener };
    watches.set(signal, watch);
    signal.addEventListener("abort", listener, { once: true });
  }
  watch.waiting.add(who);
}

/** `who` hears nothing from now on. Does nothing for one that is not watching. */
export function unwatchAbort(signal: AbortSignal, who: Abortable): void {
  const watch = watches.get(signal);
  if (watch === undefined) return;
  watch.waiting.delete(who);
  if (watch.waiting.size > 0) return;
  watches.delete(signal);
  signal.removeEventListener("abort", watch.listener);
}
