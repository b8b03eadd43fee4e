/**
 * A routing pool over servers that fail in every way, with callers who do what they like.
 *
 * What is known of it without asking, and what must hold, is in routing-exchange.ts.
 */

import { ConnectionLostError } from "../../../src/index.ts";
import type { Draw } from "../harness/draw.ts";
import { at, command, type Scenario } from "../harness/scenario.ts";
import { type Asking, type Beginning, beginnings } from "./routing-callers.ts";
import type { Saying } from "./routing-endpoints.ts";
import { everywhere, Exchange } from "./routing-exchange.ts";

const asking = (draw: Draw): Asking => ({
  timeoutMs: draw.one<number | "for ever">(0, 5, 50, 500, 5_000, "for ever", 5_000),
  idempotent: draw.chance(0.5),
  key: draw.below(5),
  abortable: draw.chance(0.5),
  begins: draw.chance(0.7) ? "waits" : draw.one<Beginning>(...beginnings),
  ms: draw.one(1, 10, 60),
});
const one = (draw: Draw): { which: number } => ({ which: draw.below(64) });

export const routing: Scenario<Exchange> = {
  name: "routing",
  about: "a routing pool, its servers and its callers, beside what runs where and who waits",
  seeds: 600,
  steps: 200,
  faults: {
    "open refuses": 0.1,
    "open hangs": 0.04,
    "open is slow": 0.2,
    "open is slow, and refuses": 0.05,
    "open answers after its timeout": 0.04,
    "open succeeds and dies at once": 0.06,
    "open gives what is dead": 0.04,
    "open gives what wants to go": 0.04,
    "open can never succeed": 0.03,
    "close fails": 0.06,
    "close throws": 0.04,
    "close hangs": 0.05,
    "close is slow": 0.15,
    "check fails": 0.1,
    "check hangs": 0.1,
    "check lies": 0.1,
    "isFailure throws": 0.1,
    "isFailure is async, and rejects": 0.1,
    "a strategy throws": 0.03,
    "a strategy names a stranger": 0.03,
    "a strategy takes what it is shown": 0.03,
    "a strategy throws at the end": 0.03,
    "one of a broadcast fails": 0.2,
    "a listener kills a connection": 0.01,
  },
  commands: {
    use: command<Exchange, Asking>({ weight: 26, draw: asking, run: (play, args) => void play.use(args) }),
    "a crowd comes": command<Exchange, Asking & { count: number }>({
      weight: 2,
      draw: (draw) => ({ ...asking(draw), count: draw.between(3, 12) }),
      run: (play, { count, ...args }) => {
        for (let nth = 0; nth < count; nth++) play.use(args);
      },
    }),
    "one asks whose signal is aborted already": command<Exchange, Asking>({
      weight: 1,
      fault: true,
      draw: (draw) => ({ ...asking(draw), abortable: true }),
      run: (play, args) => play.use(args, "gone"),
    }),
    "one asks, and is gone at once": command<Exchange, Asking>({
      weight: 1,
      fault: true,
      draw: (draw) => ({ ...asking(draw), abortable: true }),
      run: (play, args) => play.use(args).giveUp("gone"),
    }),
    pick: command<Exchange, { key: number }>({
      weight: 6,
      draw: (draw) => ({ key: draw.below(5) }),
      run: (play, { key }) => play.pick(key),
    }),
    settle: command<Exchange, { which: number; failed: boolean }>({
      weight: 5,
      draw: (draw) => ({ ...one(draw), failed: draw.chance(0.3) }),
      run: (play, { which, failed }) => void play.settle(which, failed, false),
    }),
    "a route is settled twice": command<Exchange, { which: number; failed: boolean }>({
      weight: 1,
      fault: true,
      draw: (draw) => ({ ...one(draw), failed: draw.chance(0.3) }),
      run: (play, { which, failed }) => play.settle(which, failed, true),
    }),
    broadcast: command<Exchange>({ weight: 1, run: (play) => play.broadcast() }),
    "a work ends": command<Exchange, { which: number }>({
      weight: 22,
      draw: one,
      run: (play, { which }) => at(play.endable, which)?.end(),
    }),
    "a work fails": command<Exchange, { which: number; how: number }>({
      weight: 6,
      fault: true,
      draw: (draw) => ({ ...one(draw), how: draw.below(4) }),
      run: (play, { which, how }) => {
        const run = at(play.endable, which);
        run?.end(failures[how]?.());
        return run !== undefined;
      },
    }),
    "a caller gives up": command<Exchange, { which: number; late: boolean }>({
      weight: 7,
      fault: true,
      draw: (draw) => ({ ...one(draw), late: draw.chance(0.4) }),
      run: (play, { which, late }) => {
        const there = play.requests.filter(({ abort, pending }) => pending && abort?.signal.aborted === false);
        const request = at(there, which);
        request?.giveUp(late ? "out of time" : "gone");
        return request !== undefined;
      },
    }),
    "a resource dies": command<Exchange, { which: number; dumb: boolean }>({
      weight: 4,
      fault: true,
      draw: (draw) => ({ ...one(draw), dumb: draw.chance(0.2) }),
      run: (play, { which, dumb }) => {
        const resource = at([...play.open], which);
        resource?.lose(dumb ? undefined : new Error("reset by peer"));
        return resource !== undefined;
      },
    }),
    "a resource says nothing any more": command<Exchange, { which: number }>({
      weight: 1.5,
      fault: true,
      draw: one,
      run: (play, { which }) => {
        const resource = at(play.registered, which);
        if (resource !== undefined) play.silent.add(resource);
        return resource !== undefined;
      },
    }),
    "a resource wants to go": command<Exchange, { which: number }>({
      weight: 1.5,
      fault: true,
      draw: one,
      run: (play, { which }) => {
        const resource = at(play.registered, which);
        resource?.goAway();
        return resource !== undefined;
      },
    }),
    "a capacity changes": command<Exchange, { which: number; to: number }>({
      weight: 3,
      draw: (draw) => ({ ...one(draw), to: draw.below(9) }),
      run: (play, { which, to }) => at(play.registered, which)?.setCapacity(capacities[to]),
    }),
    "the source of endpoints says something": command<Exchange, { saying: Saying; which: number }>({
      weight: 2.5,
      fault: true,
      draw: (draw) => ({ ...one(draw), saying: draw.one<Saying>("some", "some", "the same", "none", "nonsense") }),
      run: (play, { saying, which }) => {
        const some = everywhere.filter((_, place) => (which >> place) % 2 === 1);
        return play.say(saying, some, which);
      },
    }),
    "the source of endpoints is over": command<Exchange, { fails: boolean }>({
      weight: 0.3,
      fault: true,
      draw: (draw) => ({ fails: draw.chance(0.5) }),
      run: (play, { fails }) => {
        if (play.source === undefined || play.source.over || play.source.believed.length === 0) return false;
        play.source.end(fails ? "fails" : "ends");
        return true;
      },
    }),
    resize: command<Exchange, { size: number }>({
      weight: 1.5,
      draw: (draw) => ({ size: draw.one(0, 1, 1, 2, 2, 3, 4) }),
      run: (play, { size }) => play.resize(size),
    }),
    recycle: command<Exchange, { overMs: number }>({
      weight: 1,
      draw: (draw) => ({ overMs: draw.one(0, 100) }),
      run: (play, { overMs }) => play.control("recycle", play.pool.recycle({ overMs })),
    }),
    ready: command<Exchange, { min: number }>({
      weight: 1,
      draw: (draw) => ({ min: draw.between(1, 4) }),
      run: (play, { min }) => play.control("ready", play.pool.ready({ min, timeoutMs: 200 })),
    }),
    look: command<Exchange>({ weight: 2, run: (play) => play.look() }),
    "a connection is killed": command<Exchange, { which: number; ask: boolean }>({
      weight: 2,
      fault: true,
      draw: (draw) => ({ ...one(draw), ask: draw.chance(0.3) }),
      run: (play, { which, ask }) => play.kill("connection", which, ask),
    }),
    "the registry is killed": command<Exchange>({
      weight: 0.3,
      fault: true,
      run: (play) => play.kill("registry", 0, false),
    }),
    "the supervisor of the connections is killed": command<Exchange, { ask: boolean }>({
      weight: 0.3,
      fault: true,
      draw: (draw) => ({ ask: draw.chance(0.3) }),
      run: (play, { ask }) => play.kill("connections", 0, ask),
    }),
    "the pool is killed": command<Exchange, { ask: boolean }>({
      weight: 0.08,
      fault: true,
      draw: (draw) => ({ ask: draw.chance(0.3) }),
      run: (play, { ask }) => play.kill("pool", 0, ask),
    }),
    close: command<Exchange, { timeoutMs: number }>({
      weight: 0.05,
      draw: (draw) => ({ timeoutMs: draw.one(0, 100, 1_000) }),
      run: (play, { timeoutMs }) => play.end("close", timeoutMs),
    }),
    destroy: command<Exchange>({ weight: 0.02, run: (play) => play.end("destroy", 0) }),
  },
  start: async (world) => {
    const play = new Exchange(world);
    await play.begin();
    return play;
  },
};

const failures: readonly (() => Error)[] = [
  () => new Error("failed"),
  () => new Error("not found"),
  () => new ConnectionLostError("it never left", { sent: "no" }),
  () => new ConnectionLostError("it may have left", { sent: "maybe" }),
];

const capacities: readonly unknown[] = [0, 1, 2, 3, 5, Infinity, NaN, "many", new Error("capacity throws")];
