/**
 * Pools to be measured beside ours, each through the least that its users must write.
 *
 * A way runs two loads: one caller who takes an idle resource and puts it back, again and again; and many callers for
 * few resources, who hold what they get for a microtask. Both end when everything is given back. Ten resources, all of
 * them open before anything is measured.
 */
import { Effect, Exit, Pool as EffectPool, Scope } from "effect";
import genericPool from "generic-pool";
import { createPool } from "lightning-pool";
import { CheckoutPool } from "poolwarden";
import { Pool as TarnPool } from "tarn";

export interface Way {
  readonly name: string;
  /** Whether callers who wait are given up on in time. */
  readonly timeouts: boolean;
  alone(times: number): Promise<void>;
  crowd(callers: number, times: number): Promise<void>;
  end(): Promise<void>;
}

/** One who holds a resource, and a line of others who wait for it. */
interface Standing {
  /** So many times one is served and another joins. */
  turns(times: number): Promise<void>;
  end(): Promise<void>;
}

export interface StandingWay extends Way {
  stand(waiting: number): Promise<Standing>;
}

interface Resource {
  readonly id: number;
}

const resources = 10;
const acquireTimeoutMs = 5_000;
const longLine = 100_000;

let made = 0;
const create = async (): Promise<Resource> => ({ id: ++made });
const destroy = async (): Promise<void> => undefined;

/** For pools with an acquire that gives a promise. */
function promising<L>(
  acquire: () => Promise<L>,
  release: (lease: L) => void,
): Pick<StandingWay, "alone" | "crowd" | "stand"> {
  return {
    alone: async (times) => {
      for (let n = 0; n < times; n++) release(await acquire());
    },
    crowd: async (callers, times) => {
      const caller = async (): Promise<void> => {
        for (let n = 0; n < times; n++) {
          const lease = await acquire();
          await Promise.resolve();
          release(lease);
        }
      };
      await Promise.all(Array.from({ length: callers }, caller));
    },
    stand: async (waiting) => {
      const others = await Promise.all(Array.from({ length: resources - 1 }, acquire));
      let held = await acquire();
      const line = Array.from({ length: waiting }, acquire);
      let at = 0;
      const serve = async (): Promise<void> => {
        const next = line[at] as Promise<L>;
        release(held);
        held = await next;
        at = at + 1 === waiting ? 0 : at + 1;
      };
      return {
        turns: async (times) => {
          for (let n = 0; n < times; n++) {
            const joined = at;
            const asked = acquire();
            await serve();
            line[joined] = asked;
          }
        },
        end: async () => {
          for (let n = 0; n < waiting; n++) await serve();
          for (const lease of [held, ...others]) release(lease);
        },
      };
    },
  };
}

async function warm({ crowd }: Pick<Way, "crowd">): Promise<void> {
  await crowd(5 * resources, 20);
}

/** As little as can be called a pool: what is idle is a stack, who waits is a queue. Nothing ever goes wrong in it. */
export async function bareDeque(): Promise<StandingWay> {
  const idle: Resource[] = [];
  for (let n = 0; n < resources; n++) idle.push(await create());
  // A ring. No more wait than there are places in it.
  const mask = 2 ** 17 - 1;
  const waiting = new Array<((resource: Resource) => void) | undefined>(mask + 1).fill(undefined);
  let first = 0;
  let end = 0;
  const acquire = (): Promise<Resource> => {
    const resource = idle.pop();
    if (resource !== undefined) return Promise.resolve(resource);
    return new Promise((resolve) => {
      waiting[end++ & mask] = resolve;
    });
  };
  const release = (resource: Resource): void => {
    if (first === end) {
      idle.push(resource);
      return;
    }
    const at = first++ & mask;
    const next = waiting[at];
    waiting[at] = undefined;
    next?.(resource);
  };
  return { name: "bare deque", timeouts: false, ...promising(acquire, release), end: destroy };
}

/** Ours, with every default on. */
export async function ours(): Promise<StandingWay> {
  const pool = await CheckoutPool.start({
    connector: { name: "bench", open: create },
    max: resources,
    queue: { limit: longLine },
  });
  await pool.ready({ min: resources });
  const loads = promising(
    () => pool.acquire(),
    (lease) => lease.release(),
  );
  return { name: "poolwarden", timeouts: true, ...loads, end: () => pool.destroy() };
}

/** The same through `use`. */
export async function oursByUse(): Promise<Way> {
  const pool = await CheckoutPool.start({
    connector: { name: "bench", open: create },
    max: resources,
    queue: { limit: longLine },
  });
  await pool.ready({ min: resources });
  const nothing = (): undefined => undefined;
  const microtask = async (): Promise<void> => undefined;
  return {
    name: "poolwarden use",
    timeouts: true,
    alone: async (times) => {
      for (let n = 0; n < times; n++) await pool.use(nothing);
    },
    crowd: async (callers, times) => {
      const caller = async (): Promise<void> => {
        for (let n = 0; n < times; n++) await pool.use(microtask);
      };
      await Promise.all(Array.from({ length: callers }, caller));
    },
    end: () => pool.destroy(),
  };
}

export async function generic(timeouts: boolean): Promise<Way> {
  const pool = genericPool.createPool<Resource>(
    { create, destroy },
    { min: resources, max: resources, ...(timeouts ? { acquireTimeoutMillis: acquireTimeoutMs } : {}) },
  );
  const loads = promising(
    async () => pool.acquire(),
    (resource) => void pool.release(resource),
  );
  await warm(loads);
  const end = async (): Promise<void> => {
    await pool.drain();
    await pool.clear();
  };
  return { name: "generic-pool", timeouts, ...loads, end };
}

/** Its acquire timeout cannot be switched off. */
export async function tarn(): Promise<Way> {
  const pool = new TarnPool<Resource>({
    create,
    destroy,
    min: resources,
    max: resources,
    acquireTimeoutMillis: acquireTimeoutMs,
  });
  const loads = promising(
    () => pool.acquire().promise,
    (resource) => void pool.release(resource),
  );
  await warm(loads);
  const end = async (): Promise<void> => {
    await pool.destroy();
  };
  return { name: "tarn", timeouts: true, ...loads, end };
}

export async function lightning(timeouts: boolean): Promise<Way> {
  const pool = createPool<Resource>(
    { create, destroy },
    { min: resources, max: resources, maxQueue: longLine, acquireTimeoutMillis: timeouts ? acquireTimeoutMs : 0 },
  );
  const loads = promising(
    () => pool.acquire(),
    (resource) => pool.release(resource),
  );
  await warm(loads);
  return { name: "lightning-pool", timeouts, ...loads, end: async () => pool.close(true) };
}

/** In its own world: the loop is an effect too, and no promise is made for each turn of it. */
export async function effect(timeouts: boolean): Promise<Way> {
  const scope = await Effect.runPromise(Scope.make());
  const pool = await Effect.runPromise(
    Scope.provide(EffectPool.make({ acquire: Effect.promise(create), size: resources }), scope),
  );
  // What bounds the wait bounds what is done with the resource, too: they are one effect.
  const bounded = (held: Effect.Effect<void>): Effect.Effect<void, unknown> => {
    const used = EffectPool.use(pool, () => held);
    return timeouts ? Effect.timeout(used, acquireTimeoutMs) : used;
  };
  const repeat = (held: Effect.Effect<void>, times: number): Effect.Effect<void, unknown> => {
    const once = bounded(held);
    return Effect.gen(function* () {
      for (let n = 0; n < times; n++) yield* once;
    });
  };
  return {
    name: "effect Pool",
    timeouts,
    alone: (times) => Effect.runPromise(repeat(Effect.void, times)),
    crowd: async (callers, times) => {
      const microtask = Effect.promise(async () => undefined);
      const caller = repeat(microtask, times);
      await Effect.runPromise(
        Effect.all(
          Array.from({ length: callers }, () => caller),
          { concurrency: "unbounded", discard: true },
        ),
      );
    },
    end: () => Effect.runPromise(Scope.close(scope, Exit.void)),
  };
}
