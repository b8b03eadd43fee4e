export { seededRandom } from "./random.ts";
export { type VirtualRuntime, virtualRuntime } from "./runtime.ts";
