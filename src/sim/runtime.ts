/**
 * Virtual time and seeded chance: the other implementation of `Runtime`.
 *
 * A test that sleeps is slow, and still does not know whether it slept long enough. Here the clock stands still until
 * it is told to go, timers run in the order of their times (those of the same time in the order they were set), and
 * between two of them everything that can run without time passing has run: promises, one turn of the event loop, and as
 * many more as somebody waits for the end of. With the seed, a whole run repeats itself exactly.
 *
 *     const runtime = virtualRuntime({ seed: 7 });
 *     const pool = await RoutingPool.start({ connector, runtime });
 *     await runtime.advance(1_000);
 *
 * Not simulated: real sockets and real timers of other libraries. They run in their own time.
 */

import { OptionError } from "../errors.ts";
import { checkOptions, duration, integer } from "../options.ts";
import { type Runtime, type Timer, type TimerOptions, turnIsAwaited } from "../runtime/index.ts";
import { seededRandom } from "./random.ts";

export interface VirtualRuntime extends Runtime {
  readonly seed: number;
  /** Timers set and neither run nor cancelled. */
  readonly timers: number;
  /** Those of them that would keep a program alive. */
  readonly keepAliveTimers: number;
  /** Lets virtual time pass, running what falls due on the way. Ends with everything settled that can be. */
  advance(ms: number): Promise<void>;
  /** Lets everything run that needs no time to pass. */
  settle(): Promise<void>;
  /**
   * Lets as much time pass as `promise` needs to settle, and settles with it.
   *
   * @throws an `Error` when no timer is left, or `limitMs` have passed: it would wait for ever.
   */
  until<T>(promise: Promise<T>, options?: { limitMs?: number }): Promise<T>;
  /** Moves the clock without running anything: what a blocked event loop looks like. Timers are late afterwards. */
  stall(ms: number): void;
}

/** @throws {OptionError} for a seed that is no whole number from 0 to 2³² − 1. */
export function virtualRuntime(options: { seed?: number; startMs?: number } = {}): VirtualRuntime {
  checkOptions<{ seed?: number; startMs?: number }>("virtualRuntime", options, {
    seed: integer(0, 2 ** 32 - 1),
    startMs: integer(0),
  });
  return new Virtual(options.seed ?? 1, options.startMs ?? 0);
}

/** So many timers at most does `drive` run in one turn of the event loop. */
const driveAtATime = 256;

/** With what the simulator needs, and nobody else. */
export class Virtual implements VirtualRuntime {
  readonly seed: number;
  readonly random: () => number;
  readonly #timers = new Timers();
  #now: number;

  constructor(seed: number, startMs: number) {
    this.seed = seed;
    this.#now = startMs;
    this.random = seededRandom(seed);
  }

  // A field rather than a method: strategies and pools take it off the object.
  readonly now = (): number => this.#now;

  get timers(): number {
    return this.#timers.pending;
  }

  get keepAliveTimers(): number {
    return this.#timers.keepAlive;
  }

  setTimer(callback: () => void, delayMs: number, options: TimerOptions = {}): Timer {
    if (delayMs === Infinity) return { cancel: () => undefined };
    const at = this.#now + (delayMs > 0 ? delayMs : 0);
    return this.#timers.add(callback, at, options.keepAlive === true);
  }

  async settle(): Promise<void> {
    // A turn of the event loop runs every promise callback there is, and those they set off. They may wait for its end.
    do await new Promise((resolve) => setImmediate(resolve));
    while (turnIsAwaited());
  }

  async advance(ms: number): Promise<void> {
    checkMs("VirtualRuntime.advance: ms", ms);
    const end = this.#now + ms;
    await this.settle();
    while (this.#runNext(end)) await this.settle();
    this.#now = Math.max(this.#now, end);
  }

  async until<T>(promise: Promise<T>, options: { limitMs?: number } = {}): Promise<T> {
    checkOptions("VirtualRuntime.until", options, { limitMs: duration({ zero: true, infinity: true }) });
    const { limitMs = 24 * 3_600_000 } = options;
    const end = this.#now + limitMs;
    let settled = false;
    const note = (): void => {
      settled = true;
    };
    promise.then(note, note);
    await this.settle();
    while (!settled) {
      if (!this.#runNext(end)) {
        const why = this.timers === 0 ? "no timer is left" : `${limitMs} ms have passed`;
        throw new Error(`virtual time: the promise has not settled and ${why} (seed ${this.seed}).`);
      }
      await this.settle();
    }
    return promise;
  }

  /**
   * Lets time pass until `done`, or no timer is left, or `limitMs` have passed.
   *
   * Between two timers run all promises, as in `advance`, but no turn of the event loop is waited for: many immediates
   * are asked for at once, and Node runs what is due of ticks and promises after each of them. Only when somebody waits
   * for the end of the turn (`atEndOfTurn`) does it end, before the next timer. That is exact for code that does not wait
   * for a turn in any other way, and costs a fifteenth (0.3 µs a timer, not 5).
   */
  drive(done: () => boolean, limitMs: number): Promise<void> {
    const end = this.#now + limitMs;
    return new Promise((resolve, reject) => {
      /** Immediates of an earlier batch do nothing. */
      let batch = 0;
      let size = 1;
      let left = 0;
      const ask = (): void => {
        batch++;
        left = size;
        for (let times = 0; times < size; times++) setImmediate(step, batch);
      };
      const step = (mine: number): void => {
        if (mine !== batch) return;
        if (turnIsAwaited()) {
          size = 1;
          ask(); // Comes behind those who wait.
          return;
        }
        left--;
        try {
          if (done() || !this.#runNext(end)) {
            batch = 0;
            resolve();
            return;
          }
        } catch (error) {
          batch = 0;
          reject(error);
          return;
        }
        if (left > 0) return;
        size = Math.min(2 * size, driveAtATime);
        ask();
      };
      ask();
    });
  }

  stall(ms: number): void {
    checkMs("VirtualRuntime.stall: ms", ms);
    this.#now += ms;
  }

  /** Moves the clock to the next timer and runs it, if there is one until `end`. Only one: what it sets off comes first. */
  #runNext(end: number): boolean {
    const next = this.#timers.next();
    if (next === undefined || next.at > end) return false;
    this.#now = Math.max(this.#now, next.at);
    this.#timers.run(next);
    return true;
  }
}

function checkMs(what: string, ms: number): void {
  if (!(ms >= 0 && ms < Infinity)) throw new OptionError(what, "a number of milliseconds, 0 or more", ms);
}

class VirtualTimer implements Timer {
  readonly at: number;
  readonly order: number;
  readonly keepAlive: boolean;
  /** Not set once it has run or was cancelled. */
  callback: (() => void) | undefined;
  readonly #among: Timers;

  constructor(among: Timers, callback: () => void, at: number, order: number, keepAlive: boolean) {
    this.#among = among;
    this.callback = callback;
    this.at = at;
    this.order = order;
    this.keepAlive = keepAlive;
  }

  cancel(): void {
    this.#among.cancel(this);
  }
}

/**
 * The timers to come, in a heap. Taking one out of the middle would mean finding it, so a cancelled one stays until it
 * comes up, or until more than half are such: most timers guard something that ends well, and are cancelled early.
 */
class Timers {
  #heap: VirtualTimer[] = [];
  #order = 0;
  #pending = 0;
  #keepAlive = 0;

  get pending(): number {
    return this.#pending;
  }

  get keepAlive(): number {
    return this.#keepAlive;
  }

  add(callback: () => void, at: number, keepAlive: boolean): VirtualTimer {
    const timer = new VirtualTimer(this, callback, at, this.#order++, keepAlive);
    push(this.#heap, timer);
    this.#pending++;
    if (keepAlive) this.#keepAlive++;
    return timer;
  }

  cancel(timer: VirtualTimer): void {
    if (timer.callback === undefined) return;
    this.#done(timer);
    if (this.#heap.length > 2 * this.#pending + 64) this.#compact();
  }

  /** The first to come. It stays where it is. */
  next(): VirtualTimer | undefined {
    while (this.#heap[0] !== undefined && this.#heap[0].callback === undefined) pop(this.#heap);
    return this.#heap[0];
  }

  run(timer: VirtualTimer): void {
    const { callback } = timer;
    this.#done(timer);
    callback?.();
  }

  #done(timer: VirtualTimer): void {
    timer.callback = undefined;
    this.#pending--;
    if (timer.keepAlive) this.#keepAlive--;
  }

  /** Those left, sorted: a sorted array is a heap. */
  #compact(): void {
    this.#heap = this.#heap.filter((timer) => timer.callback !== undefined).sort((a, b) => (before(a, b) ? -1 : 1));
  }
}

function before(a: VirtualTimer, b: VirtualTimer): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}

/** A binary heap: the earliest first. */
function push(heap: VirtualTimer[], timer: VirtualTimer): void {
  let at = heap.push(timer) - 1;
  while (at > 0) {
    const parent = (at - 1) >> 1;
    if (!before(timer, heap[parent] as VirtualTimer)) break;
    heap[at] = heap[parent] as VirtualTimer;
    at = parent;
  }
  heap[at] = timer;
}

function pop(heap: VirtualTimer[]): VirtualTimer | undefined {
  const first = heap[0];
  const last = heap.pop();
  if (last === undefined || heap.length === 0) return first;
  let at = 0;
  for (;;) {
    let child = 2 * at + 1;
    if (child >= heap.length) break;
    if (child + 1 < heap.length && before(heap[child + 1] as VirtualTimer, heap[child] as VirtualTimer)) child++;
    if (!before(heap[child] as VirtualTimer, last)) break;
    heap[at] = heap[child] as VirtualTimer;
    at = child;
  }
  heap[at] = last;
  return first;
}
