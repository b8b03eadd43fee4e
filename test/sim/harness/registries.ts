/**
 * The registry that belongs to a process: pools do not show theirs, and an invariant wants to see it.
 */

import { type Process, Registry } from "../../../src/index.ts";

const registries = new WeakMap<Process, Registry>();
const start = Registry.start.bind(Registry) as (options: never) => Promise<Registry>;
Registry.start = (async (options: never) => {
  const registry = await start(options);
  registries.set(registry.process, registry);
  return registry;
}) as typeof Registry.start;

/** What is registered there under this key, in order; nothing when the registry has ended. */
export function registeredIn<V>(process: Process, key: string): readonly V[] {
  const registry = registries.get(process) as Registry<string, V> | undefined;
  return process.alive && registry !== undefined ? registry.lookup(key).map(({ value }) => value) : [];
}
