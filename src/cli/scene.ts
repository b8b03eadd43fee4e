/**
 * What `poolwarden simulate` is told, as the simulator takes it. On the command line times are seconds, as people say
 * them; only what belongs to one request is milliseconds.
 */

import { readFileSync } from "node:fs";
import type { Fault, ServiceTime, SimulateOptions } from "../sim/index.ts";
import { type StrategyName, strategyNames } from "./strategies.ts";
import { type Arguments, numberFlag, refuse, UsageError } from "./usage.ts";

export const sceneFlags = {
  members: "text",
  slots: "text",
  weights: "text",
  capacity: "text",
  service: "text",
  load: "text",
  rate: "text",
  clients: "text",
  seconds: "text",
  "timeout-ms": "text",
  calls: "text",
  idempotent: "switch",
  keys: "text",
  strategy: "text",
  compare: "text",
  size: "text",
  shed: "switch",
  bare: "switch",
  slow: "text",
  spells: "text",
  fail: "text",
  stall: "text",
  crash: "text",
  restart: "text",
  seed: "text",
} as const;

/** A pool as it is easily written by hand: it chooses, and that is all. */
const bare = {
  breaker: false,
  slowStartMs: 0,
  maxOrphans: Number.MAX_SAFE_INTEGER,
  retry: { attempts: 1 },
} as const;

type Given =
  | "members"
  | "slots"
  | "weights"
  | "service"
  | "clients"
  | "durationMs"
  | "timeoutMs"
  | "calls"
  | "idempotent"
  | "keys"
  | "faults"
  | "seed";

/** What is to be simulated, the strategies aside. */
export type Scene = Required<Pick<SimulateOptions, Given>> &
  Pick<SimulateOptions, "capacity" | "load" | "requestsPerSecond"> & {
    readonly pool: { readonly size: number; readonly queue?: { readonly shed: true }; readonly breaker?: false };
  };

export function readScene(given: Arguments): Scene {
  const { flags } = given;
  const members = numberFlag(given, "members", { least: 1, most: 10_000, otherwise: 20 });
  const slots = flags.get("slots") === "unlimited" ? Infinity : count(given, "slots", 4);
  const rate = flags.has("rate") ? { requestsPerSecond: number(given, "rate", 1e-3, 1e7) } : undefined;
  if (rate !== undefined && flags.has("load")) throw new UsageError("give --load or --rate, not both");
  if (rate === undefined && slots === Infinity) {
    throw new UsageError("with --slots unlimited there is no load: give --rate, in requests a second");
  }
  return {
    members,
    slots,
    weights: readWeights(given),
    ...(flags.has("capacity") ? { capacity: count(given, "capacity", 1) } : {}),
    service: readService(given),
    ...(rate ?? { load: flags.has("load") ? number(given, "load", 0.001, 100) : 0.7 }),
    clients: numberFlag(given, "clients", { least: 1, most: 10_000, otherwise: 1 }),
    durationMs: 1_000 * numberFlag(given, "seconds", { least: 0.001, most: 1e6, otherwise: 60, whole: false }),
    timeoutMs: numberFlag(given, "timeout-ms", { least: 0.001, most: 1e9, otherwise: 1_000, whole: false }),
    calls: numberFlag(given, "calls", { least: 1, most: 1_000, otherwise: 1 }),
    idempotent: flags.has("idempotent"),
    keys: numberFlag(given, "keys", { least: 0, most: 1e9, otherwise: 0 }),
    pool: {
      size: numberFlag(given, "size", { least: 1, most: 1_000, otherwise: 1 }),
      ...(flags.has("shed") ? { queue: { shed: true } } : {}),
      ...(flags.has("bare") ? bare : {}),
    },
    faults: readFaults(given, members),
    seed: numberFlag(given, "seed", { least: 0, most: 2 ** 32 - 1, otherwise: 1 }),
  };
}

/** The names of the strategies to run, one after another. */
export function readStrategies({ flags }: Arguments): StrategyName[] {
  if (flags.has("strategy") && flags.has("compare")) throw new UsageError("give --strategy or --compare, not both");
  const flag = flags.has("compare") ? "compare" : "strategy";
  const names = (flags.get(flag) ?? "leastUsed").split(",").map((word) => {
    const name = strategyNames.find((each) => each === word);
    return name ?? refuse(flag, `names out of ${strategyNames.join(", ")}`, word);
  });
  if (flag === "strategy" && names.length > 1) refuse(flag, "one name (--compare takes several)", names.join(","));
  return [...new Set(names)];
}

/** The scene in a line, for the heading of a table or a picture: the usual, and all that is not. */
export function describeScene(scene: Scene): string {
  const { members, slots, load, requestsPerSecond, clients, durationMs, service, weights, pool } = scene;
  const many = (count: number, what: string): string => `${count} ${what}${count === 1 ? "" : "s"}`;
  const unusual: readonly (readonly [is: boolean, what: string])[] = [
    [weights.length > 1, `weights ${weights.join(" ")}`],
    [scene.capacity !== undefined, `capacity ${scene.capacity}`],
    [pool.size > 1, `${pool.size} connections each`],
    [pool.queue !== undefined, "shedding"],
    [pool.breaker === false, "a bare pool"],
    [scene.timeoutMs !== 1_000, `callers wait ${scene.timeoutMs} ms`],
    [scene.calls > 1, `call ${many(scene.calls, "time")}`],
    [scene.idempotent, "allow repeats"],
    [scene.keys > 0, many(scene.keys, "key")],
  ];
  return [
    `${many(members, "server")}${slots === Infinity ? "" : ` × ${many(slots, "slot")}`}`,
    describeService(service),
    load === undefined ? `${requestsPerSecond} requests/s` : `load ${load}`,
    many(clients, "client"),
    `${durationMs / 1_000} s`,
    ...unusual.filter(([is]) => is).map(([, what]) => what),
    ...scene.faults.map(describeFault),
    `seed ${scene.seed}`,
  ].join(", ");
}

function describeService(service: ServiceTime): string {
  if (service.kind === "exponential") return `${service.meanMs} ms (exponential)`;
  if (service.kind === "trace") return `a trace of ${service.traceMs.length} times`;
  return service.spreadMs === undefined ? `${service.meanMs} ms` : `${service.meanMs} ± ${service.spreadMs} ms`;
}

function describeFault(fault: Fault): string {
  const who = "member" in fault && fault.member !== "all" ? `server ${fault.member}` : "all servers";
  switch (fault.kind) {
    case "slow":
      return `${who} × ${fault.factor}${during(fault)}`;
    case "spells":
      return `each server × ${fault.factor} for ${fault.meanMs} ms at a time (${100 * fault.share} % of it)`;
    case "fail": {
      const { probability = 1 } = fault;
      return `${who} fails${probability === 1 ? "" : ` ${100 * probability} %`} in ${fault.afterMs} ms${during(fault)}`;
    }
    case "stall":
      return `${who} standing still for ${fault.forMs / 1_000} s`;
    case "crash":
      return `${who} crashing`;
    case "restart":
      return `${who} restarting${fault.member === "all" ? " in turn" : ""}`;
  }
}

function during({ fromMs = 0, untilMs = Infinity }: { fromMs?: number; untilMs?: number }): string {
  if (untilMs < Infinity) return ` from ${fromMs / 1_000} s to ${untilMs / 1_000} s`;
  return fromMs > 0 ? ` from ${fromMs / 1_000} s on` : "";
}

function readWeights({ flags }: Arguments): number[] {
  const given = flags.get("weights");
  if (given === undefined) return [1];
  const weights = given.split(",").map(toNumber);
  if (!weights.every((weight) => Number.isInteger(weight) && weight >= 1)) {
    refuse("weights", "whole numbers from 1 on, with commas between them", given);
  }
  return weights;
}

function readService({ flags }: Arguments): ServiceTime {
  const given = flags.get("service") ?? "exponential:10";
  const expected = "exponential:MEAN, fixed:MEAN, fixed:MEAN:SPREAD (milliseconds) or trace:FILE";
  const [kind, ...rest] = given.split(":");
  if (kind === "trace") return { kind, traceMs: readTrace(rest.join(":")) };
  const [meanMs = Number.NaN, spreadMs, ...more] = rest.map(toNumber);
  const good = meanMs > 0 && meanMs < Infinity && more.length === 0;
  if (kind === "exponential" && good && spreadMs === undefined) return { kind, meanMs };
  if (kind === "fixed" && good && spreadMs === undefined) return { kind, meanMs };
  if (kind === "fixed" && good && spreadMs !== undefined && spreadMs >= 0 && spreadMs <= meanMs) {
    return { kind, meanMs, spreadMs };
  }
  return refuse("service", expected, given);
}

function readTrace(file: string): number[] {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    return refuse("service", `trace:FILE with a file that can be read (${(error as Error).message})`, `trace:${file}`);
  }
  const times = text
    .split(/[\s,]+/)
    .filter((word) => word !== "")
    .map(toNumber);
  if (!times.every((ms) => ms >= 0 && ms < Infinity) || !times.some((ms) => ms > 0)) {
    refuse("service", "trace:FILE with a file of numbers, milliseconds, 0 or more", `trace:${file}`);
  }
  return times;
}

/** How each kind of fault is written; several of a kind have commas between them. */
const faultForms: Record<Fault["kind"], { form: string; read: (words: Words) => Fault | undefined }> = {
  slow: {
    form: "MEMBER:FACTOR[:FROM-TO]",
    read: (words) => {
      const fault = { kind: "slow" as const, member: words.member(), factor: words.number(1e-6), ...words.span() };
      return words.end(fault);
    },
  },
  spells: {
    form: "FACTOR:MS:SHARE",
    read: (words) => {
      const fault = {
        kind: "spells" as const,
        factor: words.number(1e-6),
        meanMs: words.number(1e-3),
        share: words.number(0, 0.999),
      };
      return words.end(fault);
    },
  },
  fail: {
    form: "MEMBER:MS[:PROBABILITY[:FROM-TO]]",
    read: (words) => {
      const [member, afterMs] = [words.member(), words.number(0)];
      const probability = words.left === 0 ? 1 : words.number(0, 1);
      return words.end({ kind: "fail" as const, member, afterMs, probability, ...words.span() });
    },
  },
  stall: {
    form: "MEMBER:FROM:FOR",
    read: (words) => {
      const fault = {
        kind: "stall" as const,
        member: words.member(),
        fromMs: words.seconds(),
        forMs: words.seconds(1e-3),
      };
      return words.end(fault);
    },
  },
  crash: {
    form: "MEMBER:FROM:DOWN",
    read: (words) => {
      const fault = {
        kind: "crash" as const,
        member: words.member(),
        fromMs: words.seconds(),
        downMs: words.seconds(),
      };
      return words.end(fault);
    },
  },
  restart: {
    form: "MEMBER:FROM:DOWN[:EVERY]",
    read: (words) => {
      const fault = {
        kind: "restart" as const,
        member: words.member(),
        fromMs: words.seconds(),
        downMs: words.seconds(),
      };
      const every = words.left === 0 ? {} : { everyMs: words.seconds() };
      return words.end({ ...fault, ...every });
    },
  },
};

function readFaults({ flags }: Arguments, members: number): Fault[] {
  return (Object.keys(faultForms) as Fault["kind"][]).flatMap((kind) => {
    const { form, read } = faultForms[kind];
    return (flags.get(kind)?.split(",") ?? []).map((given) => {
      const fault = read(new Words(given.split(":"), members));
      const who = form.startsWith("MEMBER") ? `; MEMBER is from 0 to ${members - 1}, or "all"` : "";
      return fault ?? refuse(kind, `${form}${who}`, given);
    });
  });
}

/** What stands between the colons, read one after another. One that is wrong makes the whole wrong. */
class Words {
  readonly #words: string[];
  readonly #members: number;
  #wrong = false;

  constructor(words: string[], members: number) {
    this.#words = words;
    this.#members = members;
  }

  get left(): number {
    return this.#words.length;
  }

  member(): number | "all" {
    if (this.#words[0] === "all") {
      this.#words.shift();
      return "all";
    }
    const member = this.number(0, this.#members - 1);
    if (!Number.isInteger(member)) this.#wrong = true;
    return member;
  }

  number(least: number, most: number = 1e9): number {
    const value = toNumber(this.#words.shift() ?? "");
    if (!(value >= least && value <= most)) this.#wrong = true;
    return value;
  }

  /** Seconds, as milliseconds. */
  seconds(least: number = 0): number {
    return 1_000 * this.number(least);
  }

  /** `FROM-TO`, if anything is left. */
  span(): { fromMs?: number; untilMs?: number } {
    const word = this.#words.shift();
    if (word === undefined) return {};
    const [from = Number.NaN, until = Number.NaN, ...more] = word.split("-").map(toNumber);
    if (!(from >= 0 && until > from) || more.length > 0) this.#wrong = true;
    return { fromMs: 1_000 * from, untilMs: 1_000 * until };
  }

  end<F extends Fault>(fault: F): F | undefined {
    return this.#wrong || this.left > 0 ? undefined : fault;
  }
}

function count(given: Arguments, flag: string, otherwise: number): number {
  return numberFlag(given, flag, { least: 1, most: 1e6, otherwise });
}

function number(given: Arguments, flag: string, least: number, most: number): number {
  return numberFlag(given, flag, { least, most, otherwise: least, whole: false });
}

/** NaN for what is none: Number("") would be 0. */
function toNumber(word: string): number {
  return word.trim() === "" ? Number.NaN : Number(word);
}
