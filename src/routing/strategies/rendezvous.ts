/**
 * The same key to the same member: rendezvous hashing, weighted, with a bound on the load.
 *
 * Every member draws a number for the key, by a hash of both, and the highest takes it (Thaler and Ravishankar 1998,
 * "highest random weight"). There is no table and nothing to agree on: whoever knows the same members routes alike.
 * When a member goes, the keys it was highest for go to whoever was second there, and no other key moves.
 *
 * With weights, the number is w / −ln(h), h being the hash as a fraction: then a member is highest for its weight's
 * share of the keys, and a weight that changes moves no more keys than it must (Schindelhauer and Schomaker 2005).
 *
 * Endpoints draw first, then the connections of the winner, by their slots. So it is the endpoint that a key belongs to,
 * however many connections each pool has there and in whatever order it came to know of them; and when a connection goes
 * its keys go to another of the same endpoint, whose caches are warm for them.
 *
 * A key that everybody wants must not drown its member: one that has its share of all that is in flight, and a quarter
 * more, is passed over for the next ("consistent hashing with bounded loads": Mirrokni, Thorup, Zadimoghaddam 2018).
 * The share is by weight. Everyone together may then have more than there is, so somebody always has room.
 */

import { checkOptions } from "../../options.ts";
import type { Runtime } from "../../runtime/index.ts";
import { leastUsed } from "../least-used.ts";
import type { Member, Outcome, RouteRequest, Strategy, StrategyFactory } from "../strategy.ts";

export interface RendezvousOptions {
  /** How much of its share of all requests in flight a member may have; `Infinity` for any. @default 1.25 */
  readonly loadBound?: number;
}

/**
 * Requests with the same `key` go to the same member, in every process that knows the same endpoints, as long as it is
 * there and no busier than `loadBound` allows: then to the next, always in the same order. Keys are spread by weight.
 * Without a key: `leastUsed`. The number 1 and the string "1" are two keys.
 *
 * Cost: O(members) a pick, two passes, and O(length of the key).
 *
 * For members that are faster for what they have seen before: caches, shards, sessions. Not to keep an order of requests
 * or to reach state that is nowhere else: the bound, and a member that is full or away, send a key elsewhere. It does not
 * look at latencies or failures.
 *
 * @throws {OptionError}
 */
export function rendezvous(options: RendezvousOptions = {}): StrategyFactory {
  checkOptions("rendezvous", options, {
    loadBound: {
      expected: "a number, 1 or more (Infinity for no bound)",
      accepts: (value) => typeof value === "number" && value >= 1,
    },
  });
  const { loadBound = 1.25 } = options;
  return <R>(runtime: Runtime): Strategy<R> => new Rendezvous<R>(loadBound, leastUsed()<R>(runtime));
}

class Rendezvous<R> implements Strategy<R> {
  readonly #loadBound: number;
  readonly #leastUsed: Strategy<R>;
  /** The hash of each member's endpoint, by place, and whose it is: members hardly ever change places. */
  readonly #hashes: number[] = [];
  readonly #hashed: Member<R>[] = [];
  /** What a member may have in flight, for each unit of its weight. An array, since a fraction that is handed on is an object. */
  readonly #perWeight = new Float64Array(1);

  constructor(loadBound: number, withoutKey: Strategy<R>) {
    this.#loadBound = loadBound;
    this.#leastUsed = withoutKey;
  }

  finished(member: Member<R>, outcome: Outcome): void {
    this.#leastUsed.finished?.(member, outcome);
  }

  left(member: Member<R>): void {
    this.#hashed.length = 0; // Nothing of a member that has left is kept.
    this.#leastUsed.left?.(member);
  }

  pick(members: readonly Member<R>[], request: RouteRequest): Member<R> {
    const { key } = request;
    if (key === undefined) return this.#leastUsed.pick(members, request);
    const keyHash = hashOf(key);
    this.#share(members);
    const highest = this.#highest(members, keyHash);
    if (highest !== undefined) return highest;
    this.#perWeight[0] = Infinity; // By a rounding error nobody has a share left.
    return this.#highest(members, keyHash) as Member<R>;
  }

  #share(members: readonly Member<R>[]): void {
    let inFlight = 1; // With this request.
    let weights = 0;
    for (let at = 0; at < members.length; at++) {
      const member = members[at] as Member<R>;
      inFlight += member.inFlight;
      weights += weightOf(member);
    }
    this.#perWeight[0] = (this.#loadBound * inFlight) / weights;
  }

  /** Of all endpoints, then of all members there, the highest of those that have a share left. */
  #highest(members: readonly Member<R>[], keyHash: number): Member<R> | undefined {
    const perWeight = this.#perWeight[0] as number;
    let best: Member<R> | undefined;
    let bestWeight = 0;
    let bestHash = 0;
    for (let at = 0; at < members.length; at++) {
      const member = members[at] as Member<R>;
      const weight = weightOf(member);
      if (member.inFlight >= perWeight * weight) continue; // The share, rounded up, is what it may have.
      const hash = mixed(this.#hashAt(at, member), keyHash);
      // The same number again is another connection of the same endpoint: its turn comes.
      if (best !== undefined && compare(weight, hash, bestWeight, bestHash) <= 0) continue;
      best = member;
      bestWeight = weight;
      bestHash = hash;
    }
    return best === undefined ? undefined : this.#highestAt(best, bestHash, members);
  }

  #highestAt(first: Member<R>, hash: number, members: readonly Member<R>[]): Member<R> {
    const perWeight = this.#perWeight[0] as number;
    const endpointHash = hashOf(first.endpoint.id);
    let best = first;
    let bestWeight = weightOf(first);
    let bestHash = mixed(hash, first.slot);
    for (let at = 0; at < members.length; at++) {
      if (this.#hashes[at] !== endpointHash) continue; // Nearly all. Of those with a share left, it is up to date.
      const member = members[at] as Member<R>;
      const weight = weightOf(member);
      if (member.inFlight >= perWeight * weight) continue;
      const slotHash = mixed(hash, member.slot);
      if (compare(weight, slotHash, bestWeight, bestHash) <= 0) continue;
      best = member;
      bestWeight = weight;
      bestHash = slotHash;
    }
    return best;
  }

  #hashAt(at: number, member: Member<R>): number {
    if (this.#hashed[at] === member) return this.#hashes[at] as number;
    const hash = hashOf(member.endpoint.id);
    this.#hashed[at] = member;
    this.#hashes[at] = hash;
    return hash;
  }
}

/** A pool's weights are checked; a member made by hand may have any. */
function weightOf({ weight }: Member<unknown>): number {
  return weight > 0 && weight < Infinity ? weight : 0;
}

/** Which of two weighted draws is the higher: more than 0 for the first. Those of one weight need no logarithm. */
function compare(weightA: number, hashA: number, weightB: number, hashB: number): number {
  if (weightA === weightB) return (hashA >>> 0) - (hashB >>> 0);
  return weightA / -Math.log(fraction(hashA)) - weightB / -Math.log(fraction(hashB));
}

/** Neither 0 nor 1. */
function fraction(hash: number): number {
  return ((hash >>> 0) + 0.5) / 2 ** 32;
}

const bits = new DataView(new ArrayBuffer(8));

/** 32 bits, the same in every process: other pools must come to the same. */
function hashOf(key: string | number): number {
  if (typeof key === "number") {
    bits.setFloat64(0, key + 0); // −0 is 0.
    return mixed(bits.getInt32(0), bits.getInt32(4));
  }
  // FNV-1a (Fowler, Noll, Vo), over UTF-16.
  let hash = 0x811c9dc5 | 0;
  for (let at = 0; at < key.length; at++) hash = Math.imul(hash ^ key.charCodeAt(at), 0x01000193);
  return mixed(hash, key.length);
}

/** Two hashes made one, every bit of either in every bit of it (the finish is Chris Wellons's lowbias32). */
function mixed(a: number, b: number): number {
  let hash = a ^ Math.imul(b + 1, 0x9e3779b1);
  hash = Math.imul(hash ^ (hash >>> 16), 0x7feb352d);
  hash = Math.imul(hash ^ (hash >>> 15), 0x846ca68b);
  return hash ^ (hash >>> 16);
}
