export { Channel, type ChannelUser } from "./channel.ts";
export { giveNetwork, type Network, networkOf } from "./network.ts";
export { Slots, slotsMax } from "./slots.ts";
export { accepted, dial, type Wire } from "./wire.ts";
export type { Writer } from "./writer.ts";
