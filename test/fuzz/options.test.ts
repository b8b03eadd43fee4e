/**
 * Every public function that takes options, given anything at all.
 *
 * One option at a time has a value that nobody meant, the others are good. Then either the call works, and when what it
 * made is ended nothing is left of it, or it is refused with a typed error that names the option. Which options there are
 * the library says itself: it lists them when it refuses one that is unknown. So a new option is fuzzed without a word here.
 */

import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { HttpDispatcher } from "../../src/adapters/http/index.ts";
import { Pool } from "../../src/adapters/postgres/index.ts";
import { OptionError, PoolwardenError } from "../../src/errors.ts";
import { FantaPool, FantaServer, FantaTCP, fantaConnector } from "../../src/fanta/index.ts";
import {
  CheckoutPool,
  DynamicSupervisor,
  leastUsed,
  peakEwma,
  perTick,
  Process,
  Registry,
  Router,
  RoutingPool,
  rendezvous,
  Supervisor,
  weighted,
} from "../../src/index.ts";
import { simulate, type VirtualRuntime, virtualRuntime } from "../../src/sim/index.ts";
import { deadPort } from "../multiplex/loopback.ts";
import { until } from "../multiplex/turns.ts";

/** What a call is made with. */
type Options = Record<string, unknown>;

interface Entry {
  readonly name: string;
  /** Good options, as few as there can be. */
  readonly good: (runtime: VirtualRuntime) => Options;
  /** Calls it, and ends what it made. */
  readonly call: (options: never, runtime: VirtualRuntime) => unknown;
  /** Options of objects that may have fields of their own, of which the library can give no list. */
  readonly options?: readonly string[];
  /** Its other typed errors: what only trying shows. */
  readonly codes?: readonly string[];
  /** Its options within options are those of another entry. */
  readonly flat?: boolean;
  /** Options that make work or memory in proportion, and how much of it is enough. */
  readonly most?: Record<string, number>;
}

const connector = { name: "fuzz", open: () => ({}), check: () => true };
const child = { id: "child", start: () => Process.start({ init: () => 0 }) };
const ports = { dead: 0, live: 0 };
let server: FantaServer;

beforeAll(async () => {
  ports.dead = await deadPort();
  server = await FantaServer.listen({ handler: (request) => request });
  ports.live = server.port;
});

afterAll(() => server.close({ timeoutMs: 0 }));

/** A call on something that is started before and ended after. */
function on<T>(
  start: (runtime: VirtualRuntime) => Promise<T>,
  call: (thing: T, options: never, runtime: VirtualRuntime) => unknown,
  end: (thing: T) => unknown,
): Entry["call"] {
  return async (options, runtime) => {
    const thing = await start(runtime);
    try {
      await call(thing, options, runtime);
    } finally {
      await end(thing);
    }
  };
}

const routing = (runtime: VirtualRuntime) => RoutingPool.start({ connector, size: 2, runtime });
const checkout = (runtime: VirtualRuntime) => CheckoutPool.start({ connector, runtime });
const supervisor = (runtime: VirtualRuntime) => Supervisor.start([], { strategy: "one_for_one", runtime });
const fanta = (runtime: VirtualRuntime) => FantaTCP.connect({ host: "127.0.0.1", port: ports.live, runtime });
const destroy = (pool: { destroy(): Promise<void> }) => pool.destroy();
const stop = (tree: { stop(): Promise<unknown> }) => tree.stop();
const nothing = () => ({});
const work = () => 1;
const fieldsOfAConnector = [
  "name",
  "endpoints",
  "open",
  "close",
  "check",
  "reset",
  "capacity",
  "isFailure",
  "isFatal",
  "fit",
];
const fieldsOfASpec = ["id", "start", "restart", "shutdown", "type", "significant"];
const waits = ["ERR_POOL_ACQUIRE_TIMEOUT", "ERR_POOL_NO_MEMBER", "ERR_POOL_BUSY"];

const entries: readonly Entry[] = [
  {
    name: "RoutingPool.start",
    good: (runtime) => ({ connector, runtime }),
    call: async (options) => (await RoutingPool.start(options)).destroy(),
    most: { size: 20 },
  },
  {
    name: "RoutingPool.start: connector",
    options: fieldsOfAConnector,
    good: () => connector,
    call: async (options, runtime) => (await RoutingPool.start({ connector: options, runtime })).destroy(),
  },
  {
    name: "RoutingPool.use",
    good: nothing,
    call: on(routing, (pool, options) => pool.use(work, options), destroy),
    codes: waits,
  },
  {
    name: "RoutingPool.ready",
    good: nothing,
    call: on(routing, (pool, options, at) => at.until(pool.ready(options)), destroy),
    codes: waits,
  },
  {
    name: "RoutingPool.recycle",
    good: nothing,
    call: on(routing, (pool, options, at) => at.until(pool.recycle(options), { limitMs: Infinity }), destroy),
  },
  {
    name: "RoutingPool.pick",
    options: ["key"],
    good: nothing,
    call: on(
      routing,
      async (pool, request, at) => {
        await at.until(pool.ready());
        pool.pick(request)[Symbol.dispose]();
      },
      destroy,
    ),
  },
  { name: "RoutingPool.close", good: nothing, call: on(routing, (pool, options) => pool.close(options), destroy) },
  {
    name: "RoutingPool.resize",
    options: ["size"],
    good: () => ({ size: 1 }),
    call: on(routing, (pool, { size }: { size: number }, at) => at.until(pool.resize(size)), destroy),
    most: { size: 20 },
  },
  {
    name: "CheckoutPool.start",
    good: (runtime) => ({ connector, runtime }),
    call: async (options) => (await CheckoutPool.start(options)).destroy(),
    most: { min: 20 },
  },
  {
    name: "CheckoutPool.start: connector",
    options: fieldsOfAConnector,
    good: () => connector,
    call: async (options, runtime) => (await CheckoutPool.start({ connector: options, runtime })).destroy(),
  },
  {
    name: "CheckoutPool.acquire",
    good: nothing,
    call: on(checkout, async (pool, options) => (await pool.acquire(options)).release(), destroy),
    codes: waits,
  },
  {
    name: "CheckoutPool.use",
    good: nothing,
    call: on(checkout, (pool, options) => pool.use(work, options), destroy),
    codes: waits,
  },
  {
    name: "CheckoutPool.ready",
    good: nothing,
    call: on(checkout, (pool, options, at) => at.until(pool.ready(options)), destroy),
    codes: waits,
  },
  {
    name: "CheckoutPool.recycle",
    good: nothing,
    call: on(checkout, (pool, options, at) => at.until(pool.recycle(options), { limitMs: Infinity }), destroy),
  },
  { name: "CheckoutPool.close", good: nothing, call: on(checkout, (pool, options) => pool.close(options), destroy) },
  {
    name: "CheckoutPool.resize",
    options: ["size"],
    good: () => ({ size: 1 }),
    call: on(checkout, (pool, { size }: { size: number }, at) => at.until(pool.resize(size)), destroy),
  },
  {
    name: "Process.start",
    options: ["name", "runtime", "init", "terminate"],
    good: (runtime) => ({ init: work, runtime }),
    call: async (options, runtime) => runtime.until((await Process.start(options)).stop()),
  },
  {
    name: "Process.stop",
    good: nothing,
    call: on(
      (runtime) => Process.start({ init: work, runtime }),
      (process, options, at) => at.until(process.stop(options)),
      stop,
    ),
  },
  {
    name: "Supervisor.start",
    good: (runtime) => ({ strategy: "one_for_all", runtime }),
    call: async (options) => (await Supervisor.start([child], options)).stop(),
  },
  {
    name: "Supervisor.start: children",
    options: ["children"],
    good: () => ({ children: [] }),
    call: async ({ children }: { children: never }, runtime) =>
      (await Supervisor.start(children, { strategy: "one_for_one", runtime })).stop(),
  },
  {
    name: "Supervisor.startChild",
    options: fieldsOfASpec,
    good: () => child,
    call: on(supervisor, (tree, spec) => tree.startChild(spec), stop),
    codes: ["ERR_SUPERVISOR_START_FAILED"],
  },
  { name: "Supervisor.stop", good: nothing, call: on(supervisor, (tree, options) => tree.stop(options), stop) },
  {
    name: "DynamicSupervisor.start",
    good: (runtime) => ({ runtime }),
    call: async (options) => (await DynamicSupervisor.start(options)).stop(),
  },
  {
    name: "DynamicSupervisor.startChild",
    options: fieldsOfASpec,
    good: () => child,
    call: on(
      (runtime) => DynamicSupervisor.start({ runtime }),
      (tree, spec) => tree.startChild(spec),
      stop,
    ),
    codes: ["ERR_SUPERVISOR_START_FAILED"],
  },
  {
    name: "Registry.start",
    good: (runtime) => ({ keys: "unique", runtime }),
    call: async (options) => (await Registry.start(options)).close(),
  },
  {
    name: "Registry.lock",
    good: nothing,
    call: on(
      (runtime) => Registry.start({ keys: "unique", runtime }),
      (registry, options) => registry.lock("a", work, options),
      (registry) => registry.close(),
    ),
  },
  {
    name: "Router",
    good: (runtime) => ({ runtime }),
    call: on(
      (runtime) => Registry.start<string, number>({ keys: "unique", runtime }),
      (registry, options) => new Router(registry, "a", leastUsed(), options),
      (registry) => registry.close(),
    ),
  },
  { name: "peakEwma", good: nothing, call: peakEwma },
  { name: "rendezvous", good: nothing, call: rendezvous },
  { name: "perTick", good: nothing, call: (options) => perTick(leastUsed(), options) },
  {
    name: "weighted",
    options: ["weightOf"],
    good: nothing,
    call: ({ weightOf }: { weightOf: () => number }) => weighted(weightOf),
  },
  {
    name: "FantaServer.listen",
    good: (runtime) => ({ handler: work, runtime }),
    call: async (options) => (await FantaServer.listen(options)).close(),
    codes: ["ERR_FANTA_LISTEN"],
  },
  {
    name: "FantaTCP.connect",
    good: (runtime) => ({ host: "127.0.0.1", port: ports.live, runtime }),
    call: async (options) => (await FantaTCP.connect(options)).process.kill(),
    codes: ["ERR_FANTA_CONNECT"],
  },
  {
    name: "FantaTCP.request",
    good: nothing,
    call: on(
      fanta,
      (tcp, options) => tcp.request("a", options),
      (tcp) => tcp.close(),
    ),
  },
  {
    name: "FantaTCP.ping",
    good: nothing,
    call: on(
      fanta,
      (tcp, options) => tcp.ping(options),
      (tcp) => tcp.close(),
    ),
  },
  {
    name: "FantaTCP.close",
    good: nothing,
    call: on(
      fanta,
      (tcp, options) => tcp.close(options),
      (tcp) => tcp.close(),
    ),
  },
  { name: "fantaConnector", good: nothing, call: fantaConnector },
  {
    name: "FantaPool.start",
    good: (runtime) => ({ host: "127.0.0.1", port: ports.dead, runtime }),
    call: async (options) => (await FantaPool.start(options)).destroy(),
    most: { size: 20 },
  },
  {
    name: "FantaPool.request",
    good: nothing,
    call: on(
      (runtime) => FantaPool.start({ host: "127.0.0.1", port: ports.live, size: 1, runtime }),
      (pool, options) => pool.request("a", options),
      destroy,
    ),
    codes: waits,
  },
  {
    name: "FantaServer.close",
    good: nothing,
    call: on(
      (runtime) => FantaServer.listen({ handler: work, runtime }),
      (listening, options) => listening.close(options),
      (listening) => listening.close(),
    ),
  },
  {
    name: "new Pool",
    good: (runtime) => ({ host: "127.0.0.1", port: ports.dead, runtime }),
    call: (options) => new Pool(options).destroy(),
    most: { min: 20 },
  },
  {
    name: "HttpDispatcher.start",
    good: (runtime) => ({ endpoints: [`http://127.0.0.1:${ports.dead}`], runtime }),
    call: async (options) => (await HttpDispatcher.start(options)).destroy(),
    most: { connections: 20 },
  },
  { name: "virtualRuntime", good: nothing, call: virtualRuntime },
  {
    name: "simulate",
    good: () => ({ members: 2, durationMs: 20, requestsPerSecond: 200 }),
    call: (options) => simulate(options),
    flat: true,
    codes: ["ERR_POOL_ACQUIRE_TIMEOUT"], // Connections take longer than the pools wait for them.
    most: { members: 10, clients: 3, durationMs: 200, requestsPerSecond: 1_000, calls: 5, slots: 100, load: 2 },
  },
];

/** The options that the library says there are, under `path`. */
async function known(entry: Entry, path: readonly string[]): Promise<readonly string[]> {
  const runtime = virtualRuntime();
  const bogus = path.reduceRight<Options>((inner, name) => ({ [name]: inner }), { noSuchOption: 1 });
  const error: unknown = await outcome(() => entry.call({ ...entry.good(runtime), ...bogus } as never, runtime));
  if (!(error instanceof OptionError) || !error.option.endsWith("noSuchOption")) return [];
  return error.expected.replace("one of ", "").split(", ");
}

async function outcome(call: () => unknown): Promise<unknown> {
  try {
    await call();
    return undefined;
  } catch (error) {
    return error;
  }
}

const symbol = Symbol("odd");
const trace = (...traceMs: unknown[]) => ({ kind: "trace", traceMs });
const nothings = [undefined, null, true, false, Number.NaN, 1n, symbol];
const numbers = [Infinity, -Infinity, -1, -0, 0, 0.5, 1, 2, 9, 2 ** 31, 2 ** 53, 1e300, 5e-324];
const texts = ["", "a", "1", "unique", "one_for_one", "infinity"];
const lists = [[], [undefined], [null], [[]], [{}], [1], ["a"], [symbol], [{ id: "a" }], [{ id: "127.0.0.1:1" }]];
const endpoints = [[{ id: "a", weight: symbol }], [{ id: "a", weight: "1" }], { [Symbol.asyncIterator]: 1 }];
const functions = [() => undefined, () => ({}), () => 1, async () => 1];
const objects = [{}, { id: "a" }, { pick: 1 }, { kind: "fixed" }, trace(1), trace(5e-324), trace("1"), trace(symbol)];
const likeOthers = [{ aborted: false, addEventListener: work }, { encode: work, decode: work }, Promise.resolve(1)];
const builtIn = [new Map([["a", 1]]), new Set([1]), Buffer.from("a"), new Date(Number.NaN), Object.create(null)];
const odd: readonly unknown[] = [
  ...[nothings, numbers, texts, lists, endpoints, functions, objects, likeOthers, builtIn].flat(),
  new AbortController().signal,
];

const anything = fc.oneof(
  { weight: 2, arbitrary: fc.constantFrom(...odd) },
  { weight: 1, arbitrary: fc.oneof(fc.nat(60), fc.double(), fc.string(), fc.bigInt()) },
  {
    weight: 1,
    arbitrary: fc.anything({
      ...{ maxDepth: 2, withBigInt: true, withDate: true, withMap: true, withSet: true, withTypedArray: true },
      ...{ withNullPrototype: true, withObjectString: true, withSparseArray: true, withBoxedValues: true },
    }),
  },
);

let calls = 0;
let refusals = 0;

/** What is wrong with a call that had `value` for the option at `path`; nothing if all is well. */
async function judged(entry: Entry, path: readonly string[], value: unknown): Promise<void> {
  const runtime = virtualRuntime();
  const given = path.reduceRight<unknown>((inner, name) => ({ [name]: inner }), value) as Options;
  const error = await outcome(() => entry.call({ ...entry.good(runtime), ...given } as never, runtime));
  calls++;
  if (error !== undefined) {
    refusals++;
    expect(error).toBeInstanceOf(PoolwardenError);
    const { code, message } = error as PoolwardenError;
    if (code === "ERR_OPTION") expect(message).toContain(path.at(-1)?.replace(/s$/, ""));
    else expect(entry.codes ?? [], message).toContain(code);
  }
  if (runtime.timers > 0) await runtime.advance(60_000);
  expect(runtime.timers).toBe(0);
}

describe("anything at all is taken or refused by name, and leaves nothing behind", () => {
  test.each(entries.map((entry) => [entry.name, entry] as const))("%s", async (_, entry) => {
    const names = entry.options ?? (await known(entry, []));
    expect(names, "the good options are not refused for another reason").not.toEqual([]);
    expect(await outcome(() => entry.call(entry.good(virtualRuntime()) as never, virtualRuntime()))).toBeUndefined();
    const paths = names.map((name) => [name]);
    for (const name of names) {
      const nested = entry.options === undefined && !entry.flat ? await known(entry, [name]) : [];
      paths.push(...nested.map((each) => [name, each]));
    }
    for (const path of paths) {
      const option = path.join(".");
      const most = entry.most?.[path.at(-1) as string] ?? Infinity;
      const fits = (value: unknown) => !(typeof value === "number" && value < Infinity && value > most);
      await fc.assert(
        fc.asyncProperty(fc.constant(option), anything.filter(fits), (_option, value) => judged(entry, path, value)),
        { examples: odd.filter(fits).map((value) => [option, value]), numRuns: odd.length + 30, seed: 1 },
      );
    }
  });

  test("in thousands of calls, of which many are refused and many work; no socket, server or timer is left", async () => {
    console.log(`fuzz: ${calls} calls with anything for an option: ${refusals} refused, ${calls - refusals} worked`);
    expect(calls).toBeGreaterThan(10_000);
    expect(Math.min(refusals, calls - refusals)).toBeGreaterThan(2_000);
    await until("no client is left", () => server.connections === 0);
  });
});
