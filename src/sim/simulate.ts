/**
 * A run: real pools over simulated servers, in virtual time.
 *
 * The pools are those that ship, with their strategies, queues, breakers and retries; they do not know that their clock
 * stands still while they think. Callers come by chance, each with some work for a server, and wait as long as they do.
 * With the seed the whole run repeats itself, to the last pick.
 *
 *     const { latencyMs, failed } = await simulate({
 *       strategy: leastUsed(),
 *       faults: [{ kind: "slow", member: 0, factor: 10 }],
 *     });
 *
 * What it cannot show: what a machine costs. Choosing takes no time here, nor does the network.
 */

import { PoolwardenError } from "../errors.ts";
import { RoutingPool } from "../routing/index.ts";
import { Dice } from "../runtime/index.ts";
import { Cluster, exponential, type SimulatedConnection } from "./cluster.ts";
import { Report, type SimulationResult } from "./report.ts";
import { Virtual } from "./runtime.ts";
import { meanMsOf, type Scenario, scenarioOf, type ServiceTime, type SimulateOptions } from "./scenario.ts";

/** So much longer than the requests come may the last of them take. */
const patienceMs = 3_600_000;
const reportsOfProgress = 200;

/**
 * Simulates, and resolves with what it has shown. A million requests take a few seconds.
 *
 * @throws {OptionError} before anything has started; an `Error` if a request never settles, which would be a bug of ours.
 */
export async function simulate(options: SimulateOptions = {}): Promise<SimulationResult> {
  return new Simulation(scenarioOf(options)).run();
}

class Simulation {
  readonly #scenario: Scenario;
  readonly #runtime: Virtual;
  readonly #report: Report;
  readonly #cluster: Cluster;
  readonly #work: () => number;
  readonly #arrivals: Dice;
  readonly #choices: Dice;
  readonly #pools: RoutingPool<SimulatedConnection>[] = [];
  /** When the last request came. */
  #at = 0;
  #startedAt = 0;
  #over = false;

  constructor(scenario: Scenario) {
    const runtime = new Virtual(scenario.seed, 0);
    this.#scenario = scenario;
    this.#runtime = runtime;
    this.#report = new Report(scenario, runtime.now);
    // Thrown before any pool throws: the strategy must not change what comes.
    this.#arrivals = Dice.seededBy(runtime);
    this.#choices = Dice.seededBy(runtime);
    this.#work = drawnFrom(scenario.service, Dice.seededBy(runtime));
    const dice = Array.from({ length: scenario.members }, () => Dice.seededBy(runtime));
    this.#cluster = new Cluster(scenario, runtime, dice, this.#report);
  }

  async run(): Promise<SimulationResult> {
    const runtime = this.#runtime;
    const { durationMs, members, pool } = this.#scenario;
    await runtime.until(this.#start(members * (pool.size ?? 1)));
    this.#startedAt = runtime.now();
    this.#at = this.#startedAt;
    this.#report.begin();
    this.#cluster.begin();
    this.#tellProgress(durationMs / reportsOfProgress);
    this.#expectNext();
    await runtime.drive(() => this.#done, durationMs + patienceMs);
    if (!this.#done) {
      const { requests, settled } = this.#report;
      throw new Error(`simulate: ${requests - settled} requests never settled (seed ${this.#scenario.seed})`);
    }
    this.#tellProgress(Infinity);
    await runtime.until(Promise.all(this.#pools.map((each) => each.destroy())));
    return this.#report.result();
  }

  get #done(): boolean {
    return this.#over && this.#report.settled === this.#report.requests;
  }

  async #start(connections: number): Promise<void> {
    const { clients, pool: options, strategy } = this.#scenario;
    for (let client = 0; client < clients; client++) {
      const pool = await RoutingPool.start<SimulatedConnection>({
        ...options,
        ...(strategy === undefined ? {} : { strategy }),
        name: `client ${client}`,
        connector: this.#cluster.connectorOf(client),
        runtime: this.#runtime,
      });
      this.#pools.push(pool);
    }
    await Promise.all(this.#pools.map((pool) => pool.ready({ min: connections })));
  }

  #expectNext(): void {
    const { arrivals, requestsPerSecond, durationMs } = this.#scenario;
    const now = this.#runtime.now();
    const endsAt = this.#startedAt + durationMs;
    const gaps = arrivals === "even" ? 1 : exponential(this.#arrivals);
    this.#at += (gaps * 1_000) / requestsPerSecond;
    if (this.#at >= endsAt) this.#runtime.setTimer(() => this.#end(), endsAt - now);
    else this.#runtime.setTimer(this.#arrive, this.#at - now);
  }

  readonly #arrive = (): void => {
    const { clients, keys, calls } = this.#scenario;
    const pool = this.#pools[this.#choices.below(clients)] as RoutingPool<SimulatedConnection>;
    const key = keys === 0 ? undefined : this.#choices.below(keys);
    const madeAt = this.#runtime.now();
    this.#report.made(madeAt);
    this.#call({ pool, key, madeAt, workMs: this.#work() }, calls);
    this.#expectNext();
  };

  #end(): void {
    this.#over = true;
  }

  #call(request: Request, callsLeft: number): void {
    const { timeoutMs, idempotent } = this.#scenario;
    const { pool, key, madeAt, workMs } = request;
    const patience = new Patience();
    const timer = this.#runtime.setTimer(patience.end, timeoutMs);
    const work = (connection: SimulatedConnection): Promise<void> => connection.request(workMs);
    const signal = patience as unknown as AbortSignal;
    const options = { signal, timeoutMs, idempotent };
    pool.use(work, key === undefined ? options : { ...options, key }).then(
      () => {
        timer.cancel();
        this.#report.told(madeAt, undefined);
      },
      (error: unknown) => {
        timer.cancel();
        if (callsLeft > 1) this.#call(request, callsLeft - 1);
        else this.#report.told(madeAt, codeOf(error));
      },
    );
  }

  #tellProgress(everyMs: number): void {
    const { onProgress, durationMs } = this.#scenario;
    if (onProgress === undefined) return;
    const simulatedMs = Math.min(this.#runtime.now() - this.#startedAt, durationMs);
    onProgress({ simulatedMs, durationMs, requests: this.#report.requests });
    if (!this.#over) this.#runtime.setTimer(() => this.#tellProgress(everyMs), everyMs);
  }
}

/** What a caller wants, however often it calls. */
interface Request {
  readonly pool: RoutingPool<SimulatedConnection>;
  readonly key: number | undefined;
  readonly madeAt: number;
  readonly workMs: number;
}

/** The error that a caller gives itself when it waits no longer. */
class TimedOut extends PoolwardenError {
  readonly code = "TIMEOUT";

  constructor() {
    super("the simulated caller waited no longer");
    // Like that of AbortSignal.timeout: whoever tells the kinds of abort apart goes by the name.
    Object.defineProperty(this, "name", { value: "TimeoutError" });
  }
}

/**
 * How long a caller waits: an AbortSignal, as far as a pool looks at it. One of Node's costs more than the rest of a
 * simulated request together.
 */
class Patience {
  aborted = false;
  reason: unknown = undefined;
  #listener: (() => void) | undefined = undefined;

  addEventListener(_: "abort", listener: () => void): void {
    this.#listener = listener;
  }

  removeEventListener(): void {
    this.#listener = undefined;
  }

  readonly end = (): void => {
    this.aborted = true;
    this.reason = new TimedOut();
    this.#listener?.();
  };
}

/** How much work there is in each request, one after another. */
function drawnFrom(service: ServiceTime, dice: Dice): () => number {
  const meanMs = meanMsOf(service);
  switch (service.kind) {
    case "exponential":
      return () => exponential(dice) * meanMs;
    case "fixed":
      return () => meanMs + (2 * dice.fraction() - 1) * (service.spreadMs ?? 0);
    case "trace": {
      let at = -1;
      return () => {
        at = (at + 1) % service.traceMs.length;
        return service.traceMs[at] as number;
      };
    }
  }
}

function codeOf(error: unknown): string {
  return error instanceof PoolwardenError ? error.code : String(error);
}
