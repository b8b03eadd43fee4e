/** What the library emitted while a test looked. */

import { subscribe, unsubscribe } from "node:diagnostics_channel";
import type { Events } from "../../src/telemetry/index.ts";

export interface Heard<E> extends Disposable {
  readonly events: E[];
}

/** Listens until it is disposed of. */
export function heard<E extends keyof Events>(event: E): Heard<Events[E]> {
  const name = `poolwarden:${event}`;
  const events: Events[E][] = [];
  const hear = (fields: unknown): void => {
    events.push(fields as Events[E]);
  };
  subscribe(name, hear);
  return { events, [Symbol.dispose]: () => unsubscribe(name, hear) };
}
