/**
 * Where sockets come from: this machine's network, unless a simulation has given its runtime another.
 *
 * A runtime is all that a program may know of the world besides its memory: time, chance, and whom it can reach. What
 * only users have to do with stays in `Runtime`; this is for our own simulations, and not public.
 */

import type { Server, Socket } from "node:net";
import type { Runtime } from "../runtime/index.ts";

export interface Network {
  /** A socket that is connecting, as that of `net.connect`. It need not read into a buffer of ours. */
  connect(to: { readonly host: string; readonly port: number }): Socket;
  /** A server that does not listen yet, as that of `net.createServer`. */
  createServer(): Server;
}

const networks = new WeakMap<Runtime, Network>();

/** From now on, whoever has this runtime has this network. */
export function giveNetwork(runtime: Runtime, network: Network): void {
  networks.set(runtime, network);
}

/** Its own network; `undefined`: that of the machine. */
export function networkOf(runtime: Runtime): Network | undefined {
  return networks.get(runtime);
}
