/**
 * Members made by hand, and a service of such members on virtual time.
 *
 * A strategy must do with plain objects: without the fields that a pool's members have besides the public ones, and
 * without having been told that they joined.
 */

import { subscribe, unsubscribe } from "node:diagnostics_channel";
import type { Events, Member, Strategy, StrategyFactory } from "../../../src/index.ts";
import { type VirtualRuntime, virtualRuntime } from "../../../src/sim/index.ts";

export interface Hand extends Member<string> {
  inFlight: number;
  capacity: number;
  weight: number;
}

export function hand(slot: number, given: Partial<Hand> = {}): Hand {
  const endpoint = { id: `10.0.0.${slot}:7000` };
  return { resource: `resource ${slot}`, endpoint, slot, inFlight: 0, capacity: Infinity, weight: 1, ...given };
}

export function hands(count: number, given: (slot: number) => Partial<Hand> = () => ({})): Hand[] {
  return Array.from({ length: count }, (_, slot) => hand(slot, given(slot)));
}

/** One of the array, and never past its end. */
export function at<T>(items: readonly T[], index: number): T {
  const item = items[index];
  if (item === undefined) throw new Error(`nothing stands at ${index}`);
  return item;
}

/** Another order, told by the runtime's seed. */
export function shuffled<T>(items: readonly T[], runtime: VirtualRuntime): T[] {
  return items
    .map((item) => ({ item, by: runtime.random() }))
    .sort((a, b) => a.by - b.by)
    .map(({ item }) => item);
}

/** What was emitted under this name while `act` ran. */
export function eventsOf<E extends keyof Events>(name: E, act: () => void): Events[E][] {
  const seen: Events[E][] = [];
  const listener = (fields: unknown): unknown => seen.push(fields as Events[E]);
  subscribe(`poolwarden:${name}`, listener);
  try {
    act();
  } finally {
    unsubscribe(`poolwarden:${name}`, listener);
  }
  return seen;
}

export interface Answer {
  readonly ok: boolean;
  readonly ms: number;
}

/** Requests that come at random, one in `everyMs` on average, each to the member that the strategy names. */
export class Service {
  readonly runtime: VirtualRuntime = virtualRuntime({ seed: 1 });
  readonly members: Hand[];
  /** How many each has had, by slot. */
  had: number[];
  readonly #strategy: Strategy<string>;
  readonly #everyMs: number;
  readonly #answer: (member: Hand, service: Service) => Answer;

  constructor(
    factory: StrategyFactory,
    options: { members: Hand[]; everyMs: number; answer: (member: Hand, service: Service) => Answer },
  ) {
    this.members = options.members;
    this.had = options.members.map(() => 0);
    this.#everyMs = options.everyMs;
    this.#answer = options.answer;
    this.#strategy = factory<string>(this.runtime);
    this.runtime.setTimer(() => this.#arrive(), 0);
  }

  /** The share of the member in this slot of what came in the next so many milliseconds. */
  async share(slot: number, ms: number): Promise<number> {
    this.had = this.members.map(() => 0);
    await this.runtime.advance(ms);
    return at(this.had, slot) / this.had.reduce((sum, count) => sum + count, 0);
  }

  /** A time that is this long on average. */
  spread(meanMs: number): number {
    return -Math.log(1 - this.runtime.random()) * meanMs;
  }

  #arrive(): void {
    const { runtime } = this;
    const member = this.#strategy.pick(this.members, {}) as Hand;
    const startedAt = runtime.now();
    this.had[member.slot] = at(this.had, member.slot) + 1;
    member.inFlight++;
    this.#strategy.started?.(member);
    const { ok, ms } = this.#answer(member, this);
    runtime.setTimer(() => {
      member.inFlight--;
      this.#strategy.finished?.(member, { ok, durationMs: runtime.now() - startedAt, endedAt: runtime.now() });
    }, ms);
    runtime.setTimer(() => this.#arrive(), this.spread(this.#everyMs));
  }
}
