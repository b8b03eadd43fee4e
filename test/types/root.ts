/** The public contract of the root entry, as types: what is there, what is inferred, and what is refused. */

import type * as root from "poolwarden";
import {
  AcquireTimeoutError,
  CheckoutPool,
  ConnectionLostError,
  type Connector,
  DynamicSupervisor,
  type Entry,
  type ExitReason,
  FantaError,
  type HasProcess,
  type Lease,
  LeaseError,
  leastUsed,
  type Member,
  type MemberInfo,
  type Pool,
  PoolwardenError,
  type PoolSnapshot,
  type PoolStats,
  Process,
  type ProcessTree,
  peakEwma,
  perTick,
  Registry,
  type RegistryEvent,
  type Route,
  Router,
  RoutingPool,
  type RoutingPoolOptions,
  type Runtime,
  rendezvous,
  type Strategy,
  type StrategyLike,
  Supervisor,
  SupervisorError,
  systemRuntime,
  weighted,
} from "poolwarden";
import { claim, type Same } from "./expect.ts";

// ── What there is: no more, and no less ────────────────────────────────────────────────────────────────────────────

claim<
  Same<
    keyof typeof root,
    | ("Process" | "Supervisor" | "DynamicSupervisor" | "Registry" | "Router" | "RoutingPool" | "CheckoutPool")
    | ("leastUsed" | "random" | "roundRobin" | "strictRoundRobin" | "powerOfTwo" | "peakEwma" | "weighted")
    | ("rendezvous" | "perTick" | "systemRuntime" | "asError")
    | ("PoolwardenError" | "OptionError" | "ProcessError" | "SupervisorError" | "RegistryError" | "PoolError")
    | ("AcquireTimeoutError" | "QueueFullError" | "OpenFailedError" | "NestedUseError" | "ShedError" | "NoMemberError")
    | ("BusyError" | "ClosedError" | "LeaseError" | "ConnectionLostError" | "FantaError" | "PostgresError")
  >
>();

// ── Pools ──────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Socket {
  send(text: string): Promise<number>;
}
declare const connector: Connector<Socket>;

export async function pools(): Promise<void> {
  const routing = await RoutingPool.start({ connector });
  const checkout = await CheckoutPool.start({ connector, min: 1, max: 2, order: "fifo", idleTimeoutMs: Infinity });
  claim<Same<typeof routing, RoutingPool<Socket>>>();
  claim<Same<typeof checkout, CheckoutPool<Socket>>>();

  for (const pool of [routing, checkout] satisfies Pool<Socket>[]) {
    // What the work gives is what `use` gives, awaited or not; what it is given is the resource and a signal.
    const now = await pool.use(() => "now");
    const later = await pool.use(async (socket, { signal }) => {
      claim<Same<typeof socket, Socket>>();
      claim<Same<typeof signal, AbortSignal>>();
      return socket.send("PING");
    });
    claim<Same<typeof now, string>>();
    claim<Same<typeof later, number>>();
    const either = await pool.use((socket) => (Math.random() > 0.5 ? socket.send("PING") : undefined));
    claim<Same<typeof either, number | undefined>>();
    await pool.use(() => 1, { signal: AbortSignal.timeout(1), timeoutMs: 1, key: 7, idempotent: true, priority: 1 });

    claim<Same<ReturnType<typeof pool.stats>, PoolStats>>();
    claim<Same<ReturnType<typeof pool.snapshot>, PoolSnapshot>>();
    claim<Same<ReturnType<typeof pool.tree>, ProcessTree>>();
    const report = await pool.close({ timeoutMs: 1 });
    claim<Same<typeof report.aborted, number>>();
    await pool.ready({ min: 1, timeoutMs: 1 });
    await pool.resize(3);
    await pool.recycle({ overMs: 1 });
    await pool.destroy(new Error("over"));
    await pool[Symbol.asyncDispose]();

    // @ts-expect-error -- what is shown of a pool is not to be changed
    pool.stats().ready = 1;
    // @ts-expect-error
    pool.stats().totals.acquired++;
    // @ts-expect-error
    pool.snapshot().connections.push();
    // @ts-expect-error
    pool.name = "other";
    // @ts-expect-error -- milliseconds are numbers
    await pool.use(() => 1, { timeoutMs: "1s" });
    // @ts-expect-error -- unknown options are mistakes
    await pool.use(() => 1, { timeout: 1 });
    // @ts-expect-error -- an option is given or not; undefined is neither
    await pool.close({ timeoutMs: undefined });
  }

  const route: Route<Socket> = routing.pick({ key: "a" });
  route.settle({ error: new Error("failed") });
  const members: readonly MemberInfo[] = routing.members();
  const settled = await routing.broadcast((socket) => socket.send("PING"));
  claim<Same<typeof settled, PromiseSettledResult<number>[]>>();
  const lease: Lease<Socket> = await checkout.acquire({ priority: 1 });
  const maybe: Lease<Socket> | undefined = checkout.tryAcquire();
  claim<Same<typeof lease.resource, Socket>>();
  lease.discard(new Error("bad"));
  maybe?.release();

  // @ts-expect-error -- a lease's resource is the lease's
  lease.resource = { send: async () => 1 };
  // @ts-expect-error -- nor is a member's state the reader's
  (members[0] as MemberInfo).inFlight = 0;
  // @ts-expect-error -- only checkout pools lend
  routing.acquire();
  // @ts-expect-error -- only routing pools route
  checkout.pick();
  // @ts-expect-error -- a pool needs a connector
  await RoutingPool.start({});
  // @ts-expect-error -- which knows how to open
  await RoutingPool.start({ connector: { name: "x" } });
  // @ts-expect-error
  await CheckoutPool.start({ connector, order: "random" });
  // @ts-expect-error -- each kind has options of its own
  await CheckoutPool.start({ connector, strategy: leastUsed() });
  // @ts-expect-error
  await RoutingPool.start({ connector, breaker: true });
  // @ts-expect-error -- the constructor is not public: a pool has to be started
  new RoutingPool(connector);
}

// ── Strategies: made for any resource, and checked against the pool's ────────────────────────────────────────────

export async function strategies(): Promise<void> {
  for (const strategy of [leastUsed(), peakEwma({ decayMs: 1 }), rendezvous({ loadBound: 2 }), perTick(weighted())]) {
    await RoutingPool.start({ connector, strategy });
  }
  const mine: Strategy<Socket> = {
    pick: (members, { key }) => {
      claim<Same<typeof members, readonly Member<Socket>[]>>();
      claim<Same<typeof key, string | number | undefined>>();
      return members[0] as Member<Socket>;
    },
    finished: (_, { ok, durationMs }) => void [ok satisfies boolean, durationMs satisfies number],
  };
  await RoutingPool.start({ connector, strategy: mine });
  await RoutingPool.start({ connector, strategy: (runtime: Runtime) => (runtime.now() > 0 ? mine : mine) });
  await RoutingPool.start({ connector, strategy: weighted<Socket>(({ resource }) => resource.send.length) });
  claim<Same<RoutingPoolOptions<Socket>["strategy"], StrategyLike<Socket> | undefined>>();

  const ofOthers: Strategy<{ readonly other: true }> = { pick: (members) => members[0] as Member<{ other: true }> };
  // @ts-expect-error -- one for other resources
  await RoutingPool.start({ connector, strategy: ofOthers });
  // @ts-expect-error -- one that chooses nobody
  await RoutingPool.start({ connector, strategy: { pick: () => undefined } });
  // @ts-expect-error
  peakEwma({ decay: 1 });
}

// ── Connectors ─────────────────────────────────────────────────────────────────────────────────────────────────────

export async function connectors(): Promise<void> {
  // The resource is what `open` resolves with, and each hook is given it.
  const pool = await CheckoutPool.start({
    connector: {
      name: "typed",
      open: async ({ signal, slot, endpoint, lost, draining, capacityChanged }) => {
        claim<Same<[typeof signal, typeof slot, typeof endpoint.id], [AbortSignal, number, string]>>();
        lost(new Error("gone"));
        draining();
        capacityChanged();
        return { query: (sql: string) => sql.length };
      },
      close: (connection, reason) => void [connection.query("x"), reason satisfies ExitReason],
      check: (connection) => connection.query("SELECT 1") > 0,
      reset: (connection) => void connection.query("DISCARD ALL"),
      isFatal: (error) => error.message === "no such database",
    },
  });
  const length = await pool.use((connection) => connection.query("SELECT 1"));
  claim<Same<typeof length, number>>();
}

// ── Processes, supervisors, registries ─────────────────────────────────────────────────────────────────────────────

export async function trees(): Promise<void> {
  const process = await Process.start({
    init: () => ({ count: 1 }),
    terminate: ({ count }) => void (count satisfies number),
  });
  claim<Same<typeof process, Process<{ count: number }>>>();
  claim<Same<typeof process.exited, Promise<ExitReason>>>();
  claim<Same<ExitReason, "normal" | "shutdown" | "killed" | Error>>();
  using _monitor: Disposable = process.monitor((reason) => void (reason satisfies ExitReason));
  const reason: ExitReason = await process.stop({ reason: "normal", timeoutMs: 1 });
  await process.stop({ reason });
  // @ts-expect-error -- a reason is one of three words, or an error
  await process.stop({ reason: "because" });
  // @ts-expect-error
  process.state = { count: 2 };

  const children = [{ id: "one", start: () => process, restart: "transient", shutdown: 1 }] as const;
  const tree = await Supervisor.start(children, { strategy: "rest_for_one", maxRestarts: 1, maxSeconds: 1 });
  const child: HasProcess | undefined = await tree.startChild({ id: "two", start: async () => undefined });
  claim<Same<ReturnType<typeof tree.countChildren>["active"], number>>();
  const dynamic = await DynamicSupervisor.start({ maxChildren: 1 });
  await dynamic.startChild({ start: () => child });
  // @ts-expect-error -- here a child needs an id
  await tree.startChild({ start: () => process });
  // @ts-expect-error
  await Supervisor.start([], { strategy: "one_for_two" });
  // @ts-expect-error -- a supervisor needs to be told how
  await Supervisor.start([]);

  const registry = await Registry.start<string, number>({ keys: "unique" });
  const entries: readonly Entry<string, number>[] = registry.lookup("a");
  registry.listen((event: RegistryEvent<string, number>) => void (event.cause satisfies "asked" | "exit" | undefined));
  const locked = await registry.lock("a", async () => true);
  claim<Same<typeof locked, boolean>>();
  const { value } = new Router(registry, "a", leastUsed()).pick({ key: 1 });
  claim<Same<typeof value, number>>();
  // @ts-expect-error -- entries are not to be changed
  entries.push();
  // @ts-expect-error -- a key is what this registry's keys are
  registry.register(process, 7, 7);
  // @ts-expect-error
  registry.register(process, "a", "b");
  // @ts-expect-error
  await Registry.start({ keys: "both" });
}

// ── Errors: told apart by class or by code, whichever is at hand ───────────────────────────────────────────────────

export function errors(error: unknown): string {
  if (error instanceof AcquireTimeoutError) {
    claim<Same<typeof error.phase, "queue" | "open" | "check">>();
    claim<Same<typeof error.code, "ERR_POOL_ACQUIRE_TIMEOUT">>();
    return error.stats.name;
  }
  if (error instanceof ConnectionLostError) {
    claim<Same<typeof error.sent, "no" | "maybe">>();
    // @ts-expect-error -- what has happened has happened
    error.sent = "no";
  }
  if (error instanceof LeaseError) claim<Same<typeof error.code, "ERR_LEASE_RELEASED" | "ERR_LEASE_EXPIRED">>();
  // @ts-expect-error -- no such code: a typo in a branch is found
  if (error instanceof SupervisorError && error.code === "ERR_SUPERVISOR_NOT_FUOND") return "typo";
  // @ts-expect-error
  if (error instanceof FantaError && error.code === "ERR_FANTA_TIME") return "typo";
  if (error instanceof PoolwardenError) {
    claim<Same<[typeof error.code, typeof error.retryable], [string, boolean]>>();
    return error.code;
  }
  // @ts-expect-error -- it must say whether it was sent
  throw new ConnectionLostError("gone");
}

// ── Runtime ────────────────────────────────────────────────────────────────────────────────────────────────────────

export const mine: Runtime = {
  ...{ now: () => 0, random: () => 0.5 },
  setTimer: (callback, delayMs, options) => systemRuntime.setTimer(callback, delayMs, options),
};
