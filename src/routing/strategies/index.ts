export { type PeakEwmaOptions, peakEwma } from "./peak-ewma.ts";
export { type PerTickOptions, perTick } from "./per-tick.ts";
export { powerOfTwo } from "./power-of-two.ts";
export { type RendezvousOptions, rendezvous } from "./rendezvous.ts";
export { weighted } from "./weighted.ts";
