/**
 * Fanta clients and servers that come, go and fail, over a network that does to bytes what networks do.
 *
 * What must hold is in fanta-telegraph.ts, the network in fanta-network.ts.
 */

import type { Draw } from "../harness/draw.ts";
import { at, command, type Scenario } from "../harness/scenario.ts";
import { networkFaults } from "./fanta-network.ts";
import { type Asking, type Manner, manners, Telegraph } from "./fanta-telegraph.ts";

const all = Object.keys(manners) as Manner[];
const asking = (draw: Draw): Asking => ({
  manner: draw.chance(0.4) ? "answers at once" : draw.one(...all),
  length: draw.one(0, 0, 1, 20, 300, 1_190, 2_000),
  timeoutMs: draw.one(1, 20, 300, 3_000),
  abortable: draw.chance(0.4),
  idempotent: draw.chance(0.4),
});
const levels = ["connection", "connections", "registry", "pool"] as const;
const one = (draw: Draw): { which: number } => ({ which: draw.below(64) });
const closing = (draw: Draw): { which: number; timeoutMs: number } => ({
  ...one(draw),
  timeoutMs: draw.one(0, 50, 1_000),
});

export const fanta: Scenario<Telegraph> = {
  name: "fanta",
  about: "Fanta clients, a pool and servers over a network in memory",
  seeds: 300,
  steps: 150,
  faults: {
    ...networkFaults,
    "encoding fails at the client": 0.03,
    "decoding fails at the client": 0.03,
    "encoding fails at the server": 0.03,
    "decoding fails at the server": 0.03,
  },
  commands: {
    connect: command<Telegraph, { which: number; timeoutMs: number; aborts: boolean }>({
      weight: 8,
      draw: (draw) => ({ ...one(draw), timeoutMs: draw.one(5, 100, 1_000), aborts: draw.chance(0.1) }),
      run: (play, { which, timeoutMs, aborts }) => play.connect(which, timeoutMs, aborts),
    }),
    request: command<Telegraph, Asking & { which: number }>({
      weight: 30,
      draw: (draw) => ({ ...asking(draw), ...one(draw) }),
      run: (play, { which, ...args }) => void play.ask(which, args),
    }),
    "request of the pool": command<Telegraph, Asking>({
      weight: 20,
      draw: asking,
      run: (play, args) => void play.askPool(args),
    }),
    "use of the pool": command<Telegraph, Asking>({
      weight: 5,
      draw: asking,
      run: (play, args) => play.usePool(args),
    }),
    "many ask at once": command<Telegraph, Asking & { which: number; count: number }>({
      weight: 2,
      draw: (draw) => ({ ...asking(draw), ...one(draw), count: draw.between(3, 12) }),
      run: (play, { which, count, ...args }) => {
        for (let nth = 0; nth < count; nth++)
          if (nth % 2 === 0 || play.askPool(args) === undefined) play.ask(which, args);
      },
    }),
    ping: command<Telegraph, { which: number; timeoutMs: number }>({
      weight: 3,
      draw: (draw) => ({ ...one(draw), timeoutMs: draw.one(5, 1_000) }),
      run: (play, { which, timeoutMs }) => play.ping(which, timeoutMs),
    }),
    "a handler answers": command<Telegraph, { which: number }>({
      weight: 18,
      draw: one,
      run: (play, { which }) => void play.endHandler(which, "answers"),
    }),
    "a handler fails": command<Telegraph, { which: number }>({
      weight: 4,
      fault: true,
      draw: one,
      run: (play, { which }) => play.endHandler(which, "fails"),
    }),
    "a caller gives up": command<Telegraph, { which: number }>({
      weight: 6,
      fault: true,
      draw: one,
      run: (play, { which }) => play.giveUp(which),
    }),
    "a client closes": command<Telegraph, { which: number; timeoutMs: number }>({
      weight: 1.5,
      draw: closing,
      run: (play, { which, timeoutMs }) => void play.endClient(which, "close", timeoutMs),
    }),
    "a client is killed": command<Telegraph, { which: number }>({
      weight: 1,
      fault: true,
      draw: one,
      run: (play, { which }) => play.endClient(which, "kill", 0),
    }),
    "a server closes": command<Telegraph, { which: number; timeoutMs: number }>({
      weight: 0.6,
      draw: closing,
      run: (play, { which, timeoutMs }) => void play.endServer(which, "close", timeoutMs),
    }),
    "a server is killed": command<Telegraph, { which: number }>({
      weight: 0.4,
      fault: true,
      draw: one,
      run: (play, { which }) => play.endServer(which, "kill", 0),
    }),
    "a server starts": command<Telegraph, { which: number }>({
      weight: 2,
      draw: one,
      run: (play, { which }) => play.startServer(which),
    }),
    "a cable is cut": command<Telegraph, { which: number }>({
      weight: 1.5,
      fault: true,
      draw: one,
      run: (play, { which }) => {
        const cable = at(play.network.cables, which);
        cable?.break();
        return cable !== undefined;
      },
    }),
    resize: command<Telegraph, { size: number }>({
      weight: 0.7,
      draw: (draw) => ({ size: draw.below(4) }),
      run: (play, { size }) => play.resize(size),
    }),
    recycle: command<Telegraph, { overMs: number }>({
      weight: 0.5,
      draw: (draw) => ({ overMs: draw.one(0, 100) }),
      run: (play, { overMs }) => play.recyclePool(overMs),
    }),
    "the pool closes": command<Telegraph, { timeoutMs: number }>({
      weight: 0.12,
      draw: (draw) => ({ timeoutMs: draw.one(0, 100, 5_000) }),
      run: (play, { timeoutMs }) => play.endPool("close", timeoutMs),
    }),
    "the pool is destroyed": command<Telegraph>({
      weight: 0.08,
      fault: true,
      run: (play) => play.endPool("destroy", 0),
    }),
    "a process of the pool ends": command<Telegraph, { level: (typeof levels)[number]; which: number; asks: boolean }>({
      weight: 1,
      fault: true,
      draw: (draw) => ({
        ...one(draw),
        level: draw.chance(0.6) ? "connection" : draw.one(...levels),
        asks: draw.chance(0.3),
      }),
      run: (play, { level, which, asks }) => play.killProcess(level, which, asks),
    }),
    pick: command<Telegraph, Asking & { twice: boolean }>({
      weight: 4,
      draw: (draw) => ({ ...asking(draw), twice: draw.chance(0.2) }),
      run: (play, { twice, ...args }) => play.routeOf(args, twice),
    }),
    broadcast: command<Telegraph, { length: number }>({
      weight: 1,
      draw: (draw) => ({ length: draw.one(0, 20, 1_190, 2_000) }),
      run: (play, { length }) => play.tellAll(length),
    }),
    ready: command<Telegraph, { min: number }>({
      weight: 1,
      draw: (draw) => ({ min: draw.below(5) }),
      run: (play, { min }) => play.readyPool(min),
    }),
  },
  start: async (world) => {
    const play = new Telegraph(world);
    await play.begin();
    return play;
  },
};
