/**
 * What a simulation is told: servers, callers, and what goes wrong when.
 *
 * Everything that is left to chance is drawn from streams of its own, each with a seed that the first seed gave. So two
 * runs with one seed meet the same requests at the same times with the same work in them, whatever strategy routes
 * them, and a difference between two strategies is theirs.
 */

import { OptionError } from "../errors.ts";
import {
  callback,
  type Check,
  type Checks,
  checkFields,
  checkOptions,
  duration,
  either,
  flag,
  fraction,
  having,
  integer,
  literal,
  nested,
  oneOf,
  required,
  withoutUndefined,
} from "../options.ts";
import { type RoutingPoolOptions, routingChecks, type StrategyLike } from "../routing/index.ts";
import type { SimulatedConnection } from "./cluster.ts";

export interface SimulateOptions {
  /** Servers; the simulated pool has one endpoint for each. @default 20 */
  readonly members?: number;
  /** Requests a server works on at once; the others stand in a line in front of it. May be Infinity. @default 4 */
  readonly slots?: number;
  /** Of each server, in turn from the first again; one of weight 2 has twice the slots. @default 1 for all */
  readonly weights?: readonly number[];
  /** What a server announces that it takes at once, its line included; Infinity for nothing. @default Infinity */
  readonly capacity?: number;
  /** How long a server works on a request when all is well. @default exponential, 10 ms in the mean */
  readonly service?: ServiceTime;
  /** How long opening a connection takes. @default 1 */
  readonly connectMs?: number;
  /** The work offered, as a share of what all servers can do. @default 0.7 */
  readonly load?: number;
  /** Instead of `load`. */
  readonly requestsPerSecond?: number;
  /** How requests come. @default "poisson" */
  readonly arrivals?: "poisson" | "even";
  /** How long they come, in milliseconds of the simulated time. @default 60_000 */
  readonly durationMs?: number;
  /** Those who send them; each has a pool of its own, and knows nothing of the others. @default 1 */
  readonly clients?: number;
  /** How long a caller waits for its answer, the line of the pool included; Infinity for ever. @default 1_000 */
  readonly timeoutMs?: number;
  /** Times a caller calls in all, when it is told of an error or has waited too long: each a new call. @default 1 */
  readonly calls?: number;
  /** What callers say of their requests. @default false */
  readonly idempotent?: boolean;
  /** Different keys that requests carry, each as often as another; 0 for none. @default 0 */
  readonly keys?: number;
  /** @default the pool's own */
  readonly strategy?: StrategyLike<SimulatedConnection>;
  /** The other options of the pools. @default the pool's own, but for a `size` of 1 */
  readonly pool?: SimulatedPoolOptions;
  /** What goes wrong. */
  readonly faults?: readonly Fault[];
  /** @default 1 */
  readonly seed?: number;
  /** The width of the buckets in which the result counts over time. @default 1_000 */
  readonly bucketMs?: number;
  /** Told of each request that a server has been sent, when it is over for the server. */
  readonly onAttempt?: (attempt: Attempt) => void;
  /** Told now and then how far the run has come. */
  readonly onProgress?: (progress: Progress) => void;
}

export type SimulatedPoolOptions = Omit<
  RoutingPoolOptions<SimulatedConnection>,
  "connector" | "endpoints" | "strategy" | "name" | "runtime"
>;

export type ServiceTime =
  | { readonly kind: "exponential"; readonly meanMs: number }
  /** Anything in `meanMs` ± `spreadMs`, alike. */
  | { readonly kind: "fixed"; readonly meanMs: number; readonly spreadMs?: number }
  /** These, one after another, and from the first again. */
  | { readonly kind: "trace"; readonly traceMs: readonly number[] };

/** From `fromMs` (0) to `untilMs` (Infinity) of the simulated time. */
export interface Span {
  readonly fromMs?: number;
  readonly untilMs?: number;
}

/** `member` is the number of a server, from 0, or all of them. */
export type Fault =
  /** What it begins in that time takes `factor` times as long. */
  | ({ readonly kind: "slow"; readonly member: number | "all"; readonly factor: number } & Span)
  /** Each server by itself is slow for about `meanMs` at a time (exponential), `share` of the time in all. */
  | ({ readonly kind: "spells"; readonly factor: number; readonly meanMs: number; readonly share: number } & Span)
  /**
   * It answers with an error after `afterMs`, without a slot, with this probability (1). With `sent` the answer is
   * instead that of a request lost on its way, which a pool may make again.
   */
  | ({
      readonly kind: "fail";
      readonly member: number | "all";
      readonly afterMs: number;
      readonly probability?: number;
      readonly sent?: "no" | "maybe";
    } & Span)
  /** It stands still: what it works on is as much later. */
  | { readonly kind: "stall"; readonly member: number | "all"; readonly fromMs: number; readonly forMs: number }
  /** It is gone in one instant, with all it was working on, and back after `downMs`. */
  | { readonly kind: "crash"; readonly member: number | "all"; readonly fromMs: number; readonly downMs: number }
  /**
   * It says goodbye (GOAWAY), takes no new connection, answers what it has, is down for `downMs`, and back. All of them
   * one by one, the next `everyMs` after the one before.
   */
  | {
      readonly kind: "restart";
      readonly member: number | "all";
      readonly fromMs: number;
      readonly downMs: number;
      readonly everyMs?: number;
    };

/** One request at one server. Times are milliseconds of the simulated time. */
export interface Attempt {
  readonly client: number;
  readonly member: number;
  readonly startedAt: number;
  readonly endedAt: number;
  readonly ok: boolean;
}

export interface Progress {
  readonly simulatedMs: number;
  readonly durationMs: number;
  readonly requests: number;
}

/** The options, whole: nothing is left to be decided. */
export type Scenario = Required<Omit<SimulateOptions, Open>> & { readonly [K in Open]: SimulateOptions[K] | undefined };
type Open = "load" | "strategy" | "onAttempt" | "onProgress";

const fromOn: Checks<Span> = { fromMs: duration({ zero: true }), untilMs: duration({ infinity: true }) };
const factor: Check = required({
  expected: "a number more than 0",
  accepts: (value) => typeof value === "number" && value > 0 && value < Infinity,
});

const zeroOrMore: Check = duration({ zero: true });

const serviceKinds: { readonly [K in ServiceTime["kind"]]: Checks<Extract<ServiceTime, { kind: K }>> } = {
  exponential: { kind: required(literal("exponential")), meanMs: required(duration()) },
  fixed: { kind: required(literal("fixed")), meanMs: required(duration()), spreadMs: duration({ zero: true }) },
  trace: {
    kind: required(literal("trace")),
    traceMs: required({
      expected: "numbers of milliseconds, each 0 or more and at least one more than 0",
      accepts: (value) =>
        Array.isArray(value) && value.every((ms) => zeroOrMore.accepts(ms)) && value.some((ms) => ms > 0),
    }),
  },
};

const faultKinds = (members: number): { readonly [K in Fault["kind"]]: Checks<Extract<Fault, { kind: K }>> } => {
  const member = required(either(literal("all"), integer(0, members - 1)));
  const since = required(duration({ zero: true }));
  return {
    slow: { kind: required(literal("slow")), member, factor, ...fromOn },
    spells: {
      kind: required(literal("spells")),
      factor,
      meanMs: required(duration()),
      share: required({
        expected: "a number from 0 to less than 1",
        accepts: (value) => typeof value === "number" && value >= 0 && value < 1,
      }),
      ...fromOn,
    },
    fail: {
      kind: required(literal("fail")),
      member,
      afterMs: required(duration({ zero: true })),
      probability: fraction(),
      sent: oneOf("no", "maybe"),
      ...fromOn,
    },
    stall: { kind: required(literal("stall")), member, fromMs: since, forMs: required(duration()) },
    crash: { kind: required(literal("crash")), member, fromMs: since, downMs: required(duration({ zero: true })) },
    restart: {
      kind: required(literal("restart")),
      member,
      fromMs: since,
      downMs: required(duration({ zero: true })),
      everyMs: duration({ zero: true }),
    },
  };
};

const list: Check = { expected: "an array", accepts: Array.isArray };
const positive: Check = {
  expected: "a number more than 0",
  accepts: (value) => typeof value === "number" && value > 0 && value < Infinity,
};
const countOrInfinity: Check = either(integer(1), literal(Infinity));

// The others are the simulation's to give.
const { endpoints: _endpoints, strategy: _strategy, name: _name, runtime: _runtime, ...poolChecks } = routingChecks;

const checks: Checks<SimulateOptions> = {
  members: integer(1, 10_000),
  slots: countOrInfinity,
  weights: {
    expected: "an array of whole numbers, 1 or more",
    accepts: (value) => Array.isArray(value) && value.length > 0 && value.every((each) => integer(1).accepts(each)),
  },
  capacity: countOrInfinity,
  service: having(),
  connectMs: duration({ zero: true }),
  load: positive,
  requestsPerSecond: positive,
  arrivals: oneOf("poisson", "even"),
  durationMs: duration(),
  clients: integer(1, 10_000),
  timeoutMs: duration({ infinity: true }),
  calls: integer(1),
  idempotent: flag(),
  keys: integer(0),
  strategy: either(callback(), having("pick")),
  pool: nested(poolChecks),
  faults: list,
  seed: integer(0, 2 ** 32 - 1),
  bucketMs: duration(),
  onAttempt: callback(),
  onProgress: callback(),
};

/** An hour of work for the fastest machine; and what its report can hold. More was not meant. */
const requestsMost = 1e9;
const bucketsMost = 1e6;

/**
 * The scenario that these options describe.
 *
 * @throws {OptionError} naming the first that is wrong.
 */
export function scenarioOf(options: SimulateOptions): Scenario {
  checkOptions("simulate", options, checks);
  const {
    service = { kind: "exponential", meanMs: 10 },
    members = 20,
    slots = 4,
    weights = [1],
    clients = 1,
  } = options;
  const pool = withoutUndefined({ ...options.pool });
  checkKind("simulate: service", service, serviceKinds);
  if (service.kind === "fixed" && (service.spreadMs ?? 0) > service.meanMs) {
    throw new OptionError("simulate: service: spreadMs", `at most meanMs (${service.meanMs})`, service.spreadMs);
  }
  for (const [at, fault] of (options.faults ?? []).entries()) {
    checkKind(`simulate: faults[${at}]`, fault, faultKinds(members));
  }
  if (clients > 1 && typeof options.strategy === "object") {
    throw new OptionError("simulate: strategy", "one that is made for each client: leastUsed()", options.strategy);
  }
  const { requestsPerSecond = loadOf(options, members, slots, weights, service), ...given } = options;
  const { durationMs = 60_000, bucketMs = 1_000 } = given;
  const requests = (requestsPerSecond * durationMs) / 1_000;
  if (!(requests <= requestsMost)) {
    const most = "a number that gives a billion requests at the most, with load, service and durationMs";
    throw new OptionError("simulate: requestsPerSecond", most, requestsPerSecond);
  }
  if (durationMs / bucketMs > bucketsMost) {
    throw new OptionError("simulate: bucketMs", `a millionth of durationMs (${durationMs}) at least`, bucketMs);
  }
  return {
    capacity: Infinity,
    connectMs: 1,
    arrivals: "poisson",
    timeoutMs: 1_000,
    calls: 1,
    idempotent: false,
    keys: 0,
    faults: [],
    seed: 1,
    ...{ load: undefined, strategy: undefined, onAttempt: undefined, onProgress: undefined },
    ...withoutUndefined(given),
    pool: { size: 1, ...pool },
    ...{ members, slots, weights, clients, service, requestsPerSecond, durationMs, bucketMs },
  };
}

/** What a server works on a request in the mean. */
export function meanMsOf(service: ServiceTime): number {
  if (service.kind !== "trace") return service.meanMs;
  return service.traceMs.reduce((sum, ms) => sum + ms, 0) / service.traceMs.length;
}

/** The weight of the server with this number. */
export function weightOf({ weights }: Pick<Scenario, "weights">, member: number): number {
  return weights[member % weights.length] as number;
}

function loadOf(
  { load = 0.7 }: SimulateOptions,
  members: number,
  slots: number,
  weights: readonly number[],
  service: ServiceTime,
): number {
  if (slots === Infinity) {
    throw new OptionError(
      "simulate: requestsPerSecond",
      "given, for servers of unlimited slots have no load",
      undefined,
    );
  }
  let all = 0;
  for (let member = 0; member < members; member++) all += slots * weightOf({ weights }, member);
  return (load * all * 1_000) / meanMsOf(service);
}

function checkKind<T extends { readonly kind: string }>(
  where: string,
  given: T,
  kinds: { readonly [kind: string]: object },
): void {
  const row = oneOf(...Object.keys(kinds));
  checkFields<{ kind: unknown }>(where, given, { kind: required(row) });
  checkOptions<T>(where, given, kinds[given.kind] as Checks<T>);
}
