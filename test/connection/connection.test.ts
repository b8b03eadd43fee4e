/**
 * A connection on its own: the process that owns one resource, with a faked pool around it.
 *
 * Whatever the pool or the connector is told goes into a diary, each line with a `+` when the connection is registered
 * at that moment and a `-` when it is not. So one can read that it is registered exactly while it is able to serve.
 *
 * A test written with `bench` ends on what must hold of any connection: its process is killed if it still lives, then
 * it is not registered, every resource that was opened was closed exactly once, and no timer is left.
 */

import { AsyncLocalStorage } from "node:async_hooks";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { describe, expect, test } from "vitest";
import {
  Connection,
  type ConnectionHost,
  type ConnectionPlace,
  type Connector,
  newMemory,
  type OpenContext,
} from "../../src/connection/index.ts";
import type { ExitReason } from "../../src/process/index.ts";
import { Registry } from "../../src/registry/index.ts";
import { type VirtualRuntime, virtualRuntime } from "../../src/sim/index.ts";
import type { Events } from "../../src/telemetry/index.ts";

interface Resource {
  readonly name: string;
  readonly context: OpenContext;
  readonly closings: ExitReason[];
}

/** What the pool registers. */
interface Member {
  readonly of: Resource;
}

const openTimeoutMs = 500;
const closeTimeoutMs = 200;
const drainTimeoutMs = 1_000;

class Bench {
  readonly runtime: VirtualRuntime = virtualRuntime({ seed: 1 });
  readonly diary: string[] = [];
  readonly opened: Resource[] = [];
  readonly signals: AbortSignal[] = [];
  readonly place: ConnectionPlace;
  registry!: Registry<string, Member>;
  connection!: Connection<Resource, Member>;
  inFlight = 0;
  wanted = false;
  /** What is to be closed before the pool is. */
  readonly cleanings: Promise<void>[] = [];
  /** Called at each line of the diary, while it happens. */
  onLine: (what: string) => void = () => undefined;
  open: (nth: number, resource: Resource) => Resource | Promise<Resource> = (_, resource) => resource;
  close: (resource: Resource) => void | Promise<void> = () => undefined;
  inContext: <T>(act: () => T) => T = (act) => act();
  readonly hooks: Partial<Connector<Resource>> = {};
  readonly #atEnd: (() => void)[] = [];

  constructor() {
    const backoff = { kind: "exponential", minMs: 100, maxMs: 400 } as const;
    this.place = { slot: 3, endpoint: { id: "here" }, memory: newMemory(backoff), closing: undefined };
  }

  get registered(): boolean {
    return this.registry.lookup("ready").length > 0;
  }

  async start(): Promise<Connection<Resource, Member>> {
    const { runtime } = this;
    if (this.registry === undefined) {
      this.registry = await Registry.start<string, Member>({ keys: "duplicate", runtime });
      this.registry.listen(({ type }) => this.#note(type));
    }
    const connection = await Connection.start(this.#host(), this.place);
    await runtime.settle();
    return connection;
  }

  /** Lines written since the last look. A process that dies by itself has its change told twice. */
  news(): string[] {
    return this.diary.splice(0);
  }

  /** What is emitted under this name from now on. */
  events<E extends keyof Events>(name: E): Events[E][] {
    const seen: Events[E][] = [];
    this.on(name, (fields) => seen.push(fields));
    return seen;
  }

  on<E extends keyof Events>(name: E, act: (fields: Events[E]) => void): void {
    const listener = (fields: unknown): void => act(fields as Events[E]);
    subscribe(`poolwarden:${name}`, listener);
    this.#atEnd.push(() => unsubscribe(`poolwarden:${name}`, listener));
  }

  last(): Resource {
    return this.opened.at(-1) as Resource;
  }

  async finish(): Promise<void> {
    this.connection.process.kill();
    await this.runtime.until(Promise.all(this.cleanings));
    await this.runtime.settle();
    expect(this.registered).toBe(false);
    expect(this.opened.map(({ name, closings }) => `${name} ${closings.length}`)).toEqual(
      this.opened.map(({ name }) => `${name} 1`),
    );
    expect(this.runtime.timers).toBe(0);
    for (const act of this.#atEnd) act();
  }

  #note(what: string): void {
    this.diary.push(`${what} ${this.registered ? "+" : "-"}`);
    this.onLine(what);
  }

  #connector(): Connector<Resource> {
    return {
      name: "fake",
      open: async (context) => {
        this.signals.push(context.signal);
        const resource = { name: `resource ${this.signals.length}`, context, closings: [] };
        this.#note("open");
        const result = await this.open(this.signals.length, resource);
        this.opened.push(result);
        return result;
      },
      close: (resource, reason) => {
        resource.closings.push(reason);
        this.#note(`close ${resource.name}`);
        return this.close(resource);
      },
      ...this.hooks,
    };
  }

  #host(): ConnectionHost<Resource, Member> {
    return {
      ...{ pool: "faked", connector: this.#connector(), runtime: this.runtime, registry: this.registry },
      ...{ openTimeoutMs, closeTimeoutMs, drainTimeoutMs },
      inContext: (act) => this.inContext(act),
      born: (connection) => {
        this.connection = connection;
        this.#note("born");
      },
      enter: (_, resource) => {
        this.#note(`enter ${resource.name}`);
        return { of: resource };
      },
      inFlight: () => this.inFlight,
      fail: (member, reason) => this.#note(`fail ${member.of.name}: ${reason?.message ?? "no reason"}`),
      capacityChanged: () => this.#note("capacity"),
      leaves: () => this.#note("leaves"),
      wanted: () => this.wanted,
      needed: () => true,
      changed: (connection) => this.#note(`${connection.process.alive ? connection.state : "dead"}`),
      count: (what) => this.#note(what),
      cleaning: (done) => this.cleanings.push(done),
    };
  }
}

/** The body of a test. */
function bench(act: (b: Bench) => Promise<void>): () => Promise<void> {
  return async () => {
    const b = new Bench();
    await act(b);
    await b.finish();
  };
}

const never = new Promise<never>(() => undefined);

describe("a connection is registered exactly while it can serve:", () => {
  test(
    "from when it has opened",
    bench(async (b) => {
      const connection = await b.start();
      expect(b.news()).toEqual([
        ...["born -", "open -", "opening -", "opened -", "enter resource 1 -", "register +", "ready +"],
      ]);
      expect(connection.state).toBe("ready");
      const [entry] = b.registry.lookup("ready");
      expect(entry?.owner).toBe(connection.process);
      expect(entry?.value).toBe(connection.member);
      expect(connection.member?.of).toBe(b.last());
    }),
  );

  test(
    "until it is lost, before anybody hears of that; and again when the next has opened",
    bench(async (b) => {
      const connection = await b.start();
      b.news();
      b.last().context.lost(new Error("reset"));
      expect(connection.state).toBe("opening");
      await b.runtime.settle();
      expect(b.news()).toEqual([
        ...["unregister -", "lost -", "fail resource 1: reset -", "close resource 1 -", "open -", "opening -"],
        ...["closed -", "opened -", "enter resource 2 -", "register +", "ready +"],
      ]);
      expect(b.opened[0]?.closings).toEqual([new Error("reset")]);
    }),
  );

  test(
    "not while it opens or waits",
    bench(async (b) => {
      b.open = async (nth) => {
        throw new Error(`refused ${nth}`);
      };
      const connection = await b.start();
      expect(b.news()).toEqual(["born -", "open -", "opening -", "openFailed -", "waitingToReopen -"]);
      expect([connection.state, connection.attempts, connection.lastError?.message]).toEqual([
        "waitingToReopen",
        1,
        "refused 1",
      ]);
      await b.runtime.advance(100);
      expect(b.news()).toEqual(["open -", "opening -", "openFailed -", "waitingToReopen -"]);
      expect(connection.member).toBeUndefined();
      b.open = (_, resource) => resource;
      await b.runtime.advance(200);
      expect([connection.state, connection.attempts, connection.lastError]).toEqual(["ready", 0, undefined]);
      expect(b.registered).toBe(true);
    }),
  );

  test(
    "not from when it drains, though it still answers",
    bench(async (b) => {
      const connection = await b.start();
      b.news();
      b.inFlight = 1;
      connection.drain();
      expect(b.news()).toEqual(["unregister -", "draining -"]);
      expect([connection.process.alive, connection.member?.of]).toEqual([true, b.last()]);
      await b.runtime.advance(drainTimeoutMs - 1);
      expect(b.news()).toEqual([]);
      connection.quiet();
      await b.runtime.settle();
      expect(b.news()).toEqual([
        ...["close resource 1 -", "draining -"],
        ...["closed -", "fail resource 1: no reason -", "dead -", "dead -"],
      ]);
      expect(b.opened[0]?.closings).toEqual(["normal"]);
      expect(await connection.process.exited).toBe("normal");
    }),
  );

  test(
    "not from when its resource asks to go",
    bench(async (b) => {
      await b.start();
      b.news();
      b.inFlight = 1;
      b.last().context.draining();
      expect(b.news()).toEqual(["unregister -", "draining -", "leaves -"]);
    }),
  );

  test(
    "not for good when opening is useless",
    bench(async (b) => {
      b.hooks.isFatal = () => true;
      b.open = async () => {
        throw new Error("no such user");
      };
      const connection = await b.start();
      connection.nudge();
      await b.runtime.advance(60_000);
      expect(b.news()).toEqual(["born -", "open -", "opening -", "openFailed -", "fatal -"]);
      connection.drain();
      expect(connection.process.alive).toBe(false);
    }),
  );

  test(
    "not when it is killed, in the very step",
    bench(async (b) => {
      const connection = await b.start();
      b.news();
      connection.process.kill();
      expect(b.news()).toEqual(["fail resource 1: no reason -", "close resource 1 -", "dead -", "unregister -"]);
      expect(connection.member).toBeUndefined();
    }),
  );

  test(
    "not in a registry that is dead",
    bench(async (b) => {
      b.open = async (_, resource) => {
        await new Promise<void>((resolve) => void b.runtime.setTimer(resolve, 50));
        return resource;
      };
      const connection = await b.start();
      b.registry.process.kill();
      const registry = await Registry.start<string, Member>({ keys: "duplicate", runtime: b.runtime });
      b.registry = registry;
      await b.runtime.advance(50);
      expect([connection.process.alive, connection.state]).toEqual([true, "draining"]);
      expect(b.opened).toHaveLength(1);
    }),
  );
});

describe("the opening of a connection", () => {
  test(
    "is told where and for whom, and may be synchronous",
    bench(async (b) => {
      const context = { seen: undefined as OpenContext | undefined };
      b.hooks.open = (given) => {
        context.seen = given;
        const resource = { name: "plain", context: given, closings: [] };
        b.opened.push(resource);
        return resource;
      };
      await b.start();
      expect(context.seen).toMatchObject({ slot: 3, endpoint: { id: "here" } });
      expect(context.seen?.signal.aborted).toBe(false);
      expect(b.registered).toBe(true);
    }),
  );

  test.each([
    ["throws", "throws"],
    ["rejects", "rejects"],
  ])("that %s has failed, whatever with", (manner) =>
    bench(async (b) => {
      b.hooks.open = (): Promise<Resource> => {
        if (manner === "throws") throw "no error";
        return Promise.reject({ password: "tiger" });
      };
      const connection = await b.start();
      expect(connection.state).toBe("waitingToReopen");
      expect(connection.lastError).toBeInstanceOf(Error);
      expect(connection.lastError?.message).not.toContain("tiger");
    })(),
  );

  test(
    "has failed when its time is over, and is told so; what comes later is closed, and nobody hears of it",
    bench(async (b) => {
      let come = (): void => undefined;
      b.open = (nth, resource) => (nth > 1 ? never : new Promise((resolve) => void (come = () => resolve(resource))));
      const failed = b.events("connection.openFailed");
      const connection = await b.start();
      await b.runtime.advance(openTimeoutMs - 1);
      expect([connection.state, b.signals[0]?.aborted]).toEqual(["opening", false]);
      await b.runtime.advance(1);
      expect([connection.state, b.signals[0]?.aborted]).toEqual(["waitingToReopen", true]);
      expect(failed).toMatchObject([
        { attempt: 1, retryMs: 100, error: { message: "opening took longer than 500 ms" } },
      ]);
      await b.runtime.advance(100);
      expect(connection.state).toBe("opening");
      b.news();
      come();
      await b.runtime.settle();
      expect(b.news()).toEqual(["opened -", "close resource 1 -", "closed -"]);
      expect([connection.state, b.signals[1]?.aborted]).toEqual(["opening", false]);
    }),
  );

  test.each(["drain", "stop", "kill"] as const)("is given up by a %s, and leaves no timer", (how) =>
    bench(async (b) => {
      let come = (): void => undefined;
      b.open = (_, resource) => new Promise((resolve) => void (come = () => resolve(resource)));
      const connection = await b.start();
      if (how === "drain") connection.drain();
      if (how === "stop") void connection.process.stop();
      if (how === "kill") connection.process.kill();
      expect([connection.process.alive, b.signals[0]?.aborted]).toEqual([false, true]);
      await b.runtime.settle();
      expect(b.runtime.timers).toBe(0);
      come();
      await b.runtime.settle();
      expect(b.opened[0]?.closings).toEqual(["normal"]);
    })(),
  );

  test(
    "of a resource that was lost before it was handed over has failed",
    bench(async (b) => {
      b.open = (nth, resource) => {
        if (nth === 1) resource.context.lost(new Error("gone already"));
        return resource;
      };
      const connection = await b.start();
      expect([connection.state, connection.lastError?.message]).toEqual(["waitingToReopen", "gone already"]);
      expect(b.news()).toEqual([
        ...["born -", "open -", "opening -", "opened -", "close resource 1 -", "openFailed -", "waitingToReopen -"],
        "closed -",
      ]);
      await b.runtime.advance(100);
      expect(b.registered).toBe(true);
    }),
  );

  test(
    "is brought forward by a nudge, which does nothing at any other time",
    bench(async (b) => {
      let refuse = true;
      b.open = async (_, resource) => {
        if (refuse) throw new Error("refused");
        return resource;
      };
      const connection = await b.start();
      await b.runtime.advance(300); // The third was at 300; the fourth would be at 700.
      connection.nudge();
      refuse = false;
      await b.runtime.advance(100);
      expect([connection.state, b.runtime.now()]).toEqual(["ready", 400]);
      b.news();
      connection.nudge();
      await b.runtime.settle();
      expect(b.news()).toEqual([]);
    }),
  );

  test(
    "counts as useless only when isFatal says so; one that throws has said nothing",
    bench(async (b) => {
      b.hooks.isFatal = () => {
        throw new Error("who knows");
      };
      b.open = async () => {
        throw new Error("refused");
      };
      const failed = b.events("callback.failed");
      const connection = await b.start();
      expect(connection.state).toBe("waitingToReopen");
      expect(failed).toMatchObject([{ where: "faked: isFatal", error: { message: "who knows" } }]);
    }),
  );
});

describe("what a resource says", () => {
  test(
    "of its loss counts once, and only of the current one",
    bench(async (b) => {
      await b.start();
      const [first] = b.opened;
      first?.context.lost();
      first?.context.lost();
      await b.runtime.settle();
      b.news();
      first?.context.lost();
      first?.context.draining();
      first?.context.capacityChanged();
      await b.runtime.settle();
      expect(b.news()).toEqual([]);
      expect([b.registered, b.opened.length]).toEqual([true, 2]);
    }),
  );

  test(
    "of its capacity is passed on while it serves",
    bench(async (b) => {
      b.open = (_, resource) => {
        resource.context.capacityChanged();
        return resource;
      };
      const connection = await b.start();
      expect(b.news()).not.toContain("capacity -");
      b.last().context.capacityChanged();
      expect(b.news()).toEqual(["capacity +"]);
      b.inFlight = 1;
      connection.drain();
      b.news();
      b.last().context.capacityChanged();
      expect(b.news()).toEqual([]);
    }),
  );

  test(
    "while it drains: its loss ends it, and nothing else does",
    bench(async (b) => {
      const connection = await b.start();
      b.inFlight = 1;
      connection.drain();
      b.news();
      b.last().context.draining();
      expect(b.news()).toEqual([]);
      b.last().context.lost(new Error("reset"));
      expect(b.news()).toEqual(["lost -", "fail resource 1: reset -", "close resource 1 -", "dead -", "dead -"]);
      expect(connection.process.alive).toBe(false);
    }),
  );

  test(
    "when it is closed, or being closed, is not heard",
    bench(async (b) => {
      b.close = () => new Promise((resolve) => void b.runtime.setTimer(resolve, 50));
      const connection = await b.start();
      connection.drain();
      await b.runtime.settle();
      b.news();
      for (const say of [b.last().context.lost, b.last().context.draining]) say();
      await b.runtime.advance(50);
      for (const say of [b.last().context.lost, b.last().context.draining]) say();
      expect(b.news()).toEqual(["closed -", "fail resource 1: no reason -", "dead -", "dead -"]);
    }),
  );
});

describe("a connection that drains", () => {
  test(
    "is closed at once when nothing is in flight",
    bench(async (b) => {
      const connection = await b.start();
      b.news();
      connection.drain();
      await b.runtime.settle();
      expect(b.news()).toEqual([
        ...["unregister -", "close resource 1 -", "draining -"],
        ...["closed -", "fail resource 1: no reason -", "dead -", "dead -"],
      ]);
      expect([connection.process.alive, b.runtime.now()]).toEqual([false, 0]);
    }),
  );

  test(
    "fails what is in flight when its time is over, then closes",
    bench(async (b) => {
      const connection = await b.start();
      b.inFlight = 2;
      connection.drain();
      b.news();
      await b.runtime.advance(drainTimeoutMs - 1);
      expect(b.news()).toEqual([]);
      await b.runtime.advance(1);
      expect(b.news()).toEqual([
        ...["fail resource 1: its time to finish was over -", "close resource 1 -", "draining -"],
        ...["closed -", "dead -", "dead -"],
      ]);
      expect(b.opened[0]?.closings).toEqual(["shutdown"]);
    }),
  );

  test(
    "is quiet only when it drains",
    bench(async (b) => {
      const connection = await b.start();
      b.news();
      connection.quiet();
      await b.runtime.settle();
      expect([b.news(), b.registered]).toEqual([[], true]);
    }),
  );

  test(
    "because it was asked to stop dies of the reason it was given, when it has closed",
    bench(async (b) => {
      b.close = () => new Promise((resolve) => void b.runtime.setTimer(resolve, 50));
      const connection = await b.start();
      b.inFlight = 1;
      const reason = new Error("maintenance");
      const stopped = connection.process.stop({ reason, timeoutMs: 60_000 });
      await b.runtime.advance(500);
      expect(connection.process.alive).toBe(true);
      connection.quiet();
      expect(await b.runtime.until(stopped)).toBe(reason);
      expect(b.runtime.now()).toBe(550);
      expect(b.opened[0]?.closings).toEqual(["normal"]);
    }),
  );

  test.each(["waits", "opens", "is fatal"])("while it %s ends at once", (what) =>
    bench(async (b) => {
      b.hooks.isFatal = () => what === "is fatal";
      b.open = what === "opens" ? () => never : () => Promise.reject(new Error("refused"));
      const connection = await b.start();
      connection.drain();
      expect(connection.process.alive).toBe(false);
      expect(await connection.process.exited).toBe("normal");
      await b.runtime.settle();
      expect(b.runtime.timers).toBe(0);
    })(),
  );
});

describe("a close", () => {
  const manners: Record<string, () => void | Promise<void>> = {
    "that throws": () => {
      throw new Error("will not");
    },
    "that rejects": () => Promise.reject(new Error("will not")),
    "that hangs": () => never,
  };

  test.each(Object.entries(manners))("%s is an event, and the resource counts as closed", (what, close) =>
    bench(async (b) => {
      b.close = close;
      const failed = b.events("connection.closeFailed");
      const closed = b.events("connection.closed");
      const connection = await b.start();
      connection.drain();
      await b.runtime.until(connection.process.exited);
      expect(b.runtime.now()).toBe(what === "that hangs" ? closeTimeoutMs : 0);
      const message = what === "that hangs" ? "close took longer than 200 ms" : "will not";
      const named = { pool: "faked", connection: "connection 3", endpoint: "here" };
      expect(failed).toMatchObject([{ ...named, error: { message } }]);
      expect(closed).toEqual([{ ...named, reason: "normal" }]);
      expect(b.diary.filter((line) => line.startsWith("closed"))).toHaveLength(1);
    })(),
  );

  test(
    "of what was lost is not waited for by the next opening",
    bench(async (b) => {
      b.close = () => never;
      const connection = await b.start();
      b.last().context.lost();
      await b.runtime.settle();
      expect([connection.state, b.runtime.now(), b.opened.length]).toEqual(["ready", 0, 2]);
      await b.runtime.advance(closeTimeoutMs);
      expect(b.diary).toContain("closed +");
    }),
  );

  test(
    "keeps the program alive until it is done, or its time is over",
    bench(async (b) => {
      b.close = () => never;
      const connection = await b.start();
      expect(b.runtime.keepAliveTimers).toBe(0);
      connection.process.kill();
      expect(b.runtime.keepAliveTimers).toBe(1);
      await b.runtime.advance(closeTimeoutMs);
      expect(b.runtime.keepAliveTimers).toBe(0);
    }),
  );

  test(
    "never rejects to the pool, which waits for it",
    bench(async (b) => {
      b.close = () => Promise.reject(new Error("will not"));
      const connection = await b.start();
      connection.process.kill();
      await expect(b.runtime.until(Promise.all(b.cleanings))).resolves.toEqual([undefined]);
    }),
  );
});

/** A life in which everything happens: refused, opened, lost, opened again, asked to go, cut off. */
async function wholeLife(b: Bench, over: () => boolean = () => false): Promise<void> {
  b.open = async (nth, resource) => {
    if (nth === 1) throw new Error("refused");
    return resource;
  };
  b.inFlight = 1;
  await b.start().catch(() => undefined);
  const steps = [
    () => b.runtime.advance(100),
    () => b.opened[0]?.context.capacityChanged(),
    () => b.opened[0]?.context.lost(new Error("reset")),
    () => b.runtime.settle(),
    () => b.opened[1]?.context.draining(),
    () => b.runtime.advance(drainTimeoutMs),
  ];
  for (const step of steps) if (!over()) await step();
}

/** Every line that a whole life writes, and how often. */
const lines: readonly (readonly [line: string, times: number])[] = [
  ["born", 1],
  ["open", 3],
  ["opening", 3],
  ["openFailed", 1],
  ["waitingToReopen", 1],
  ["opened", 2],
  ["enter resource 2", 1],
  ["register", 2],
  ["ready", 2],
  ["capacity", 1],
  ["unregister", 2],
  ["lost", 1],
  ["fail resource 2: reset", 1],
  ["close resource 2", 1],
  ["closed", 2],
  ["enter resource 3", 1],
  ["draining", 2],
  ["leaves", 1],
  ["fail resource 3: its time to finish was over", 1],
  ["close resource 3", 1],
];

const emitted = [
  ["connection.openFailed", 1],
  ["connection.opened", 2],
  ["connection.lost", 1],
  ["connection.drained", 1],
  ["connection.closed", 2],
] as const;

/** Each of them, at each of its times. */
function each<W extends string>(points: readonly (readonly [W, number])[]): (readonly [W, number])[] {
  return points.flatMap(([what, times]) => Array.from({ length: times }, (_, at) => [what, at + 1] as const));
}

/** Kills the connection when it has been called `nth` times. That is the end of its life: no timer is left by it. */
async function killedAt(b: Bench, nth: number, when: (act: () => void) => void): Promise<void> {
  let times = 0;
  let opensAtDeath = -1;
  when(() => {
    if (++times !== nth) return;
    b.connection.process.kill();
    expect(b.connection.process.alive).toBe(false);
    opensAtDeath = b.signals.length;
  });
  await wholeLife(b, () => opensAtDeath >= 0);
  await b.runtime.settle();
  expect(b.runtime.timers).toBe(0);
  expect(b.signals.length, "it begins nothing new").toBe(opensAtDeath);
  expect(b.signals.at(-1)?.aborted ?? true).toBe(true);
  expect(b.connection.member, "nothing is left that waits for an answer").toBeUndefined();
}

describe("a connection that is killed in the middle of it all", () => {
  test(
    "could be at each of these points",
    bench(async (b) => {
      await wholeLife(b);
      const written = b.diary.map((line) => line.slice(0, -2)).filter((line) => line !== "dead");
      expect(written.toSorted()).toEqual(
        each(lines)
          .map(([line]) => line)
          .toSorted(),
      );
    }),
  );

  test.each(each(lines))("(at %s, time %i) is dead, and everything is cleaned up", (line, nth) =>
    bench((b) =>
      killedAt(b, nth, (act) => {
        b.onLine = (what) => {
          if (what === line) act();
        };
      }),
    )(),
  );

  test.each(each(emitted))("(at the event %s, time %i) is dead, and everything is cleaned up", (event, nth) =>
    bench((b) => killedAt(b, nth, (act) => b.on(event, act)))(),
  );
});

describe("a fault of the pool's", () => {
  test(
    "is the connection's death, for its supervisor to see, and the resource is closed",
    bench(async (b) => {
      const fault = new Error("a fault");
      b.onLine = (what) => {
        if (what.startsWith("enter")) throw fault;
      };
      const connection = await b.start();
      expect(await connection.process.exited).toBe(fault);
      expect(b.opened[0]?.closings).toEqual([fault]);
    }),
  );
});

describe("what is remembered", () => {
  test(
    "is in the place, and the next process goes on from there",
    bench(async (b) => {
      b.open = () => Promise.reject(new Error("refused"));
      const first = await b.start();
      await b.runtime.advance(100);
      expect(first.attempts).toBe(2);
      first.process.kill();
      const second = await b.start();
      expect([second.attempts, second.state, b.signals.length]).toEqual([2, "waitingToReopen", 2]);
      await b.runtime.advance(199);
      expect(b.signals.length).toBe(2);
      await b.runtime.advance(1);
      expect([b.signals.length, second.attempts]).toEqual([3, 3]);
    }),
  );

  test(
    "is not touched by what the dead one is still told",
    bench(async (b) => {
      let come = (): void => undefined;
      b.open = (nth, resource) => {
        if (nth > 1) return Promise.reject(new Error("refused"));
        return new Promise((resolve) => void (come = () => resolve(resource)));
      };
      (await b.start()).process.kill();
      await b.start();
      const { memory } = b.place;
      expect(memory).toMatchObject({ attempts: 2, failures: 1 });
      come();
      await b.runtime.settle();
      expect(b.place.memory).toBe(memory);
    }),
  );
});

describe("since", () => {
  test(
    "is when the state last changed, and nothing else changes it",
    bench(async (b) => {
      b.open = async (_, resource) => {
        await new Promise<void>((resolve) => void b.runtime.setTimer(resolve, 30));
        return resource;
      };
      const connection = await b.start();
      expect([connection.state, connection.since]).toEqual(["opening", 0]);
      await b.runtime.advance(100);
      expect([connection.state, connection.since]).toEqual(["ready", 30]);
      b.last().context.capacityChanged();
      connection.nudge();
      expect(connection.since).toBe(30);
      b.inFlight = 1;
      connection.drain();
      expect([connection.state, connection.since]).toEqual(["draining", 100]);
      await b.runtime.advance(100);
      connection.drain();
      expect(connection.since).toBe(100);
    }),
  );
});

describe("the events of a connection", () => {
  test(
    "tell its life, with its pool, its name and its endpoint",
    bench(async (b) => {
      const told: unknown[] = [];
      const named = { pool: "faked", connection: "connection 3", endpoint: "here" };
      for (const [name] of emitted) b.on(name, (fields) => told.push([name, fields]));
      b.open = async (nth, resource) => {
        await new Promise<void>((resolve) => void b.runtime.setTimer(resolve, 30));
        if (nth === 1) throw new Error("refused");
        return resource;
      };
      const connection = await b.start();
      await b.runtime.advance(160);
      const reason = new Error("reset");
      b.inFlight = 2;
      b.last().context.lost(reason);
      await b.runtime.advance(30);
      connection.drain();
      connection.quiet();
      await b.runtime.settle();
      expect(told).toEqual([
        ["connection.openFailed", { ...named, attempt: 1, error: new Error("refused"), retryMs: 100 }],
        ["connection.opened", { ...named, openMs: 30 }],
        ["connection.lost", { ...named, reason, inFlight: 2 }],
        ["connection.closed", { ...named, reason }],
        ["connection.opened", { ...named, openMs: 30 }],
        ["connection.drained", { ...named, inFlight: 2 }],
        ["connection.closed", { ...named, reason: "normal" }],
      ]);
    }),
  );

  test(
    "say of a failure for good that there is no other attempt",
    bench(async (b) => {
      b.hooks.isFatal = ({ message }) => message === "no such user";
      b.open = () => Promise.reject(new Error("no such user"));
      const failed = b.events("connection.openFailed");
      await b.start();
      expect(failed).toMatchObject([{ attempt: 1, retryMs: undefined }]);
    }),
  );
});

describe("the async context of open and close", () => {
  test(
    "is the pool's, never that of whoever caused them",
    bench(async (b) => {
      const storage = new AsyncLocalStorage<string>();
      b.inContext = storage.run("the pool's", () => AsyncLocalStorage.snapshot());
      const seen: string[] = [];
      let refused = 0;
      b.open = async (nth, resource) => {
        seen.push(`open in ${storage.getStore()}`);
        if (nth === 1 || nth === 3) throw new Error(`refused ${++refused}`);
        await Promise.resolve();
        seen.push(`and still in ${storage.getStore()}`);
        return resource;
      };
      b.close = () => void seen.push(`close in ${storage.getStore()}`);
      const connection = await storage.run("a start's", () => b.start());
      storage.run("a waiting caller's", () => connection.nudge());
      await b.runtime.advance(100);
      storage.run("the socket's", () => b.last().context.lost());
      await b.runtime.advance(200);
      storage.run("a resize's", () => connection.drain());
      await b.runtime.settle();
      expect(seen).toEqual([
        ...["open in the pool's", "open in the pool's", "and still in the pool's", "close in the pool's"],
        ...["open in the pool's", "open in the pool's", "and still in the pool's", "close in the pool's"],
      ]);
      const next = await storage.run("a start's", () => b.start());
      storage.run("a destroy's", () => next.process.kill());
      expect(seen.slice(8)).toEqual(["open in the pool's", "and still in the pool's", "close in the pool's"]);
    }),
  );
});
