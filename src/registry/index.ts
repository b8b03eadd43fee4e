export { type Entry, type Registration, Registry, type RegistryEvent, type RegistryOptions } from "./registry.ts";
