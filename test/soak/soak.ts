/**
 * A soak: traffic with faults, for as long as you like, and a look at what grows.
 *
 *     npm run soak -- --minutes 60 [--leak]
 *
 * A FantaPool and a checkout pool of Fanta connections ask a server in another process, through a proxy that breaks the
 * network in one way after another; the server is killed now and then, callers abort and time out, and pools come and
 * go. Between two rounds everything rests: calls are over, the network is healed, the pools are whole, garbage is
 * collected. Then heap, timers, sockets and other handles are read. What is read at rest must not grow (`trend.ts`).
 *
 * Tolerances, from runs of this program: over the second half the heap of runs that leak nothing grew by 0.2 to 0.7 MB,
 * so 2 MB are no noise. Sockets and other handles are equal at every rest, so one more is a leak; timers wander between
 * 1 and 7, as a deadline is set or not, so 8 more are.
 * With `--leak` it leaks on purpose, and fails; a test sees to that.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { FantaPool, type FantaTCP, fantaConnector } from "../../src/fanta/index.ts";
import { CheckoutPool, type Pool } from "../../src/index.ts";
import { seededRandom } from "../../src/sim/index.ts";
import { Proxy } from "../faults/proxy.ts";
import { sockets } from "../faults/sockets.ts";
import { runtime } from "./counting.ts";
import { growthOf } from "./trend.ts";

/** How much more may be there at the end of the second half than at its beginning. */
const tolerances = { heapMb: 2, timers: 8, sockets: 0.5, otherHandles: 0.5 } as const;
const fewestSamples = 12;

interface Sample {
  readonly heapMb: number;
  readonly timers: number;
  readonly sockets: number;
  readonly otherHandles: number;
}

const random = seededRandom(1);
const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)] as T;
const backoff = { minMs: 10, maxMs: 50 };
const patience = { runtime, backoff, requestTimeoutMs: 500, stallMs: 100, checkTimeoutMs: 100, openTimeoutMs: 500 };

function corrupt(proxy: Proxy): void {
  proxy.set("up", { corruptBytes: 499 });
}

/** One way each in which the network breaks, until it is healed. */
const faults: readonly ((proxy: Proxy) => void)[] = [
  (proxy) => proxy.reset(),
  (proxy) => proxy.set("down", { latencyMs: 3, jitterMs: 3 }),
  (proxy) => proxy.set("up", { sliceBytes: 5 }),
  (proxy) => proxy.set("down", { limitBytes: 2_000 }),
  (proxy) => proxy.halfClose("down"),
  (proxy) => proxy.halfClose("up"),
  corrupt,
  (proxy) => proxy.set("down", { blackHole: true }),
];

class Server {
  #child: ChildProcess | undefined;
  port = 0;

  constructor() {
    // However the soak ends, its server does not outlive it.
    process.once("exit", () => this.#child?.kill("SIGKILL"));
  }

  async start(): Promise<void> {
    const main = fileURLToPath(new URL("../../src/cli/main.js", import.meta.url));
    this.#child = spawn(process.execPath, [main, "fanta", "serve", "--port", String(this.port)], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const [line] = (await once(this.#child.stdout as NonNullable<ChildProcess["stdout"]>, "data")) as [Buffer];
    this.port = Number(/:(\d+)/.exec(line.toString())?.[1]);
  }

  async kill(): Promise<void> {
    const exited = once(this.#child as ChildProcess, "close");
    this.#child?.kill("SIGKILL");
    await exited;
  }
}

class Soak {
  readonly #server: Server;
  readonly #proxy: Proxy;
  readonly #fanta: FantaPool;
  readonly #checkout: CheckoutPool<FantaTCP>;
  readonly #leaks: boolean;
  readonly #leaked: unknown[] = [];
  readonly #samples: Sample[] = [];
  #calls = 0;
  #errors = 0;
  #wrong = 0;
  /** The network changes bytes: then an answer may be another. Fanta has no checksums. */
  #lies = false;
  #faults = 0;

  static async run(minutes: number, leaks: boolean): Promise<boolean> {
    const server = new Server();
    await server.start();
    const proxy = await Proxy.listen({ host: "127.0.0.1", port: server.port });
    const where = { host: "127.0.0.1", port: proxy.port };
    const fanta = await FantaPool.start({ ...where, ...patience, size: 4 });
    const connector = fantaConnector({ ...where, requestTimeoutMs: 500, runtime });
    const checkout = await CheckoutPool.start({
      connector,
      runtime,
      backoff,
      max: 4,
      min: 4,
      openTimeoutMs: 500,
      maxUses: 500,
    });
    const soak = new Soak(server, proxy, fanta, checkout, leaks);
    const steady = await soak.#run(minutes * 60_000);
    await Promise.all([fanta.destroy(), checkout.destroy()]);
    await proxy.close();
    await server.kill();
    return steady;
  }

  private constructor(
    server: Server,
    proxy: Proxy,
    fanta: FantaPool,
    checkout: CheckoutPool<FantaTCP>,
    leaks: boolean,
  ) {
    this.#server = server;
    this.#proxy = proxy;
    this.#fanta = fanta;
    this.#checkout = checkout;
    this.#leaks = leaks;
  }

  async #run(ms: number): Promise<boolean> {
    const begun = performance.now();
    const everyMs = Math.min(60_000, ms / fewestSamples);
    do {
      const until = performance.now() + everyMs;
      while (performance.now() < until) await this.#round(Math.min(until, performance.now() + 1_000));
      await this.#rest();
      this.#sample((performance.now() - begun) / 60_000);
    } while (performance.now() - begun < ms || this.#samples.length < fewestSamples);
    return this.#judge();
  }

  /** Callers call, and in the middle something breaks. */
  async #round(until: number): Promise<void> {
    const callers = Array.from({ length: 16 }, (_, nth) => this.#caller(until, nth));
    const passing = this.#passingPool();
    this.#faults++;
    if (this.#leaks) this.#plant();
    if (random() < 0.1) {
      await this.#server.kill();
      await this.#server.start();
    } else {
      const fault = pick(faults);
      this.#lies = fault === corrupt;
      fault(this.#proxy);
    }
    await Promise.all(callers.slice(0, 4));
    this.#proxy.heal();
    await Promise.all([...callers, passing]);
    this.#lies = false;
  }

  async #caller(until: number, nth: number): Promise<void> {
    while (performance.now() < until) {
      const text = `call ${this.#calls++}`;
      try {
        const answer = nth % 2 === 0 ? await this.#ask(text) : await this.#askAlone(text);
        if (answer !== text && !this.#lies) this.#wrong++;
      } catch {
        this.#errors++;
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
  }

  #ask(text: string): Promise<string> {
    const gone = new AbortController();
    const answer = this.#fanta.request(text, { idempotent: true, signal: gone.signal });
    if (random() < 0.02) setImmediate(() => gone.abort(new Error("gone")));
    return answer;
  }

  #askAlone(text: string): Promise<string> {
    return this.#checkout.use((connection, { signal }) => connection.request(text, { signal }), {
      timeoutMs: random() < 0.02 ? 1 : 500,
    });
  }

  /** A pool that is made, used and closed. */
  async #passingPool(): Promise<void> {
    const pool = await FantaPool.start({ host: "127.0.0.1", port: this.#proxy.port, size: 1, ...patience });
    await pool.request("call of a passing pool").catch(() => this.#errors++);
    await pool.close({ timeoutMs: 200 });
  }

  /** Nothing is wrong with the network, nobody calls, and both pools are whole again. */
  async #rest(): Promise<void> {
    this.#proxy.heal();
    const pools: Pool<unknown>[] = [this.#fanta, this.#checkout];
    const rested = (): boolean =>
      this.#proxy.connections === 8 &&
      pools.every((pool) => {
        const { ready, inFlight, opening } = pool.stats();
        return ready === 4 && inFlight === 0 && opening === 0;
      });
    for (let looks = 0; !rested(); looks++) {
      if (looks > 3_000) throw new Error(`soak: no rest: ${JSON.stringify(pools.map((pool) => pool.stats()))}`);
      // A connection that nobody asks may be dead without anybody knowing.
      if (looks % 20 === 0) {
        for (const pool of pools)
          pool.use((connection) => (connection as FantaTCP).request("call")).catch(() => undefined);
      }
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
    for (let times = 0; times < 3; times++) {
      globalThis.gc?.();
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  #sample(minutes: number): void {
    const others = process.getActiveResourcesInfo().filter((each) => !each.startsWith("TCP"));
    const heapMb = process.memoryUsage().heapUsed / 2 ** 20;
    this.#samples.push({ heapMb, timers: runtime.timers, sockets: sockets(), otherHandles: others.length });
    const so = `${minutes.toFixed(1)} min: ${this.#calls} calls, ${this.#errors} errors, ${this.#faults} faults`;
    console.log(
      `${so}; at rest ${heapMb.toFixed(2)} MB, ${this.#last.timers} timers, ${this.#last.sockets} sockets, ${this.#last.otherHandles} other`,
    );
  }

  get #last(): Sample {
    return this.#samples.at(-1) as Sample;
  }

  #judge(): boolean {
    let steady = this.#wrong === 0;
    if (!steady) console.log(`soak: ${this.#wrong} answers were to another question`);
    for (const gauge of ["heapMb", "timers", "sockets", "otherHandles"] as const) {
      const growth = growthOf(this.#samples.map((sample) => sample[gauge]));
      const most = tolerances[gauge];
      const verdict = growth > most ? "GROWS" : "steady";
      if (growth > most) steady = false;
      console.log(
        `soak: ${gauge} ${growth >= 0 ? "+" : ""}${growth.toFixed(2)} over the second half (up to ${most}): ${verdict}`,
      );
    }
    return steady;
  }

  /** What leaks would look like: 20 things of each kind a round. */
  #plant(): void {
    for (let times = 0; times < 20; times++) {
      this.#leaked.push(Array.from({ length: 2_000 }, () => ({ at: this.#calls })));
      this.#leaked.push(createServer().listen(0, "127.0.0.1").unref());
      runtime.setTimer(() => undefined, 2 ** 30);
    }
  }
}

/** What was asked for; of what cannot be, a line, and the program ends. */
function asked(): { minutes: number; leak: boolean } {
  const options = { minutes: { type: "string", default: "1" }, leak: { type: "boolean", default: false } } as const;
  try {
    const { values } = parseArgs({ options });
    const minutes = Number(values.minutes);
    if (!(minutes > 0 && minutes < Infinity))
      throw new Error(`--minutes takes a number more than 0, not "${values.minutes}"`);
    if (globalThis.gc === undefined) throw new Error("it collects garbage before it looks: node --expose-gc");
    return { minutes, leak: values.leak };
  } catch (error) {
    console.error(`soak: ${(error as Error).message}`);
    return process.exit(2);
  }
}

const { minutes, leak } = asked();
process.exit((await Soak.run(minutes, leak)) ? 0 : 1);
