/**
 * Every error: its code, whether to retry, its fields, and a message that ends with what to do.
 *
 * One row for each class and code. A class without a row fails the last test.
 */

import { describe, expect, test } from "vitest";
import * as errors from "../src/errors.ts";
import { Process, type Self } from "../src/process/index.ts";
import { Registry } from "../src/registry/index.ts";
import type { PoolStats } from "../src/telemetry/index.ts";

const stats: PoolStats = {
  name: "orders",
  kind: "checkout",
  size: 10,
  ready: 7,
  opening: 2,
  waitingToReopen: 1,
  draining: 0,
  fatal: 0,
  ejected: 0,
  idle: 3,
  used: 4,
  inFlight: 4,
  waiting: 5,
  totals: {
    acquired: 0,
    succeeded: 0,
    failed: 0,
    timedOut: 0,
    rejected: 0,
    shed: 0,
    retried: 0,
    opened: 0,
    openFailed: 0,
    lost: 0,
    closed: 0,
  },
};

const cause = new Error("ECONNREFUSED");
const waitedMs = 123.456;
const counted = "10 connections: 7 ready, 2 opening, 1 waiting to reopen; 4 in flight, 5 waiting";

interface Row {
  readonly made: errors.PoolwardenError;
  readonly name: string;
  readonly code: string;
  readonly retryable: boolean;
  readonly fields?: object;
  /** How the message ends: what to do. */
  readonly remedy: string;
  readonly says?: readonly string[];
}

const rows: Row[] = [
  {
    made: new errors.OptionError("Pool.start: size", "a number", "ten"),
    name: "OptionError",
    code: "ERR_OPTION",
    retryable: false,
    fields: { option: "Pool.start: size", expected: "a number", got: "ten" },
    remedy: "Correct the call.",
  },
  ...(["queue", "open", "check"] as const).map((phase) => ({
    made: new errors.AcquireTimeoutError(phase, { stats, waitedMs, cause }),
    name: "AcquireTimeoutError",
    code: "ERR_POOL_ACQUIRE_TIMEOUT",
    retryable: true,
    fields: { phase, stats, waitedMs, cause },
    says: [`pool "orders": no resource after 123.5 ms (${phase};`, counted],
    remedy: {
      queue: "Look for works that hold too long first, then raise the size, then the timeout.",
      open: "No connection could be opened in that time: see the cause, and whether the server is up and takes more of them.",
      check: "The check of an idle resource did not end in that time: see the connector's check.",
    }[phase],
  })),
  {
    made: new errors.AcquireTimeoutError("open", { stats, waitedMs }),
    name: "AcquireTimeoutError",
    code: "ERR_POOL_ACQUIRE_TIMEOUT",
    retryable: true,
    fields: { phase: "open", stats, waitedMs },
    remedy: "No attempt to open a connection has ended yet: see whether the server answers at all.",
  },
  {
    made: new errors.QueueFullError(1_000, { stats }),
    name: "QueueFullError",
    code: "ERR_POOL_QUEUE_FULL",
    retryable: true,
    fields: { stats, waitedMs: undefined },
    says: [`pool "orders": 1000 callers wait already`, counted],
    remedy: "Retry after a pause, or raise queue.limit if the callers can afford the wait.",
  },
  {
    made: new errors.OpenFailedError({ stats, cause }),
    name: "OpenFailedError",
    code: "ERR_POOL_OPEN_FAILED",
    retryable: false,
    fields: { stats, cause },
    remedy: "Correct the configuration, then call recycle().",
  },
  {
    made: new errors.ShedError(5, { stats, waitedMs }),
    name: "ShedError",
    code: "ERR_POOL_SHED",
    retryable: true,
    fields: { stats, waitedMs },
    says: ["shed after 123.5 ms in line (target 5 ms", counted],
    remedy: "Retry after a pause; look for slow works, then raise the size, then queue.shed.targetMs.",
  },
  {
    made: new errors.LeaseError("ERR_LEASE_RELEASED", { stats, slot: 3 }),
    name: "LeaseError",
    code: "ERR_LEASE_RELEASED",
    retryable: false,
    fields: { stats, slot: 3, acquireStack: undefined },
    says: ["the lease of slot 3 was released before"],
    remedy: "Use a resource only until its release; acquire again for more.",
  },
  {
    made: new errors.LeaseError("ERR_LEASE_RELEASED", { stats, slot: 3, cause }),
    name: "LeaseError",
    code: "ERR_LEASE_RELEASED",
    retryable: false,
    fields: { stats, slot: 3, cause },
    says: ["is over, because its resource is gone (see cause)"],
    remedy: "Acquire again.",
  },
  {
    made: new errors.LeaseError("ERR_LEASE_EXPIRED", { stats, slot: 3, heldMs: 1_234.56, acquireStack: "    at here" }),
    name: "LeaseError",
    code: "ERR_LEASE_EXPIRED",
    retryable: false,
    fields: { stats, slot: 3, acquireStack: "    at here" },
    says: ["was held for 1234.6 ms, longer than leaseTimeoutMs allows, and its resource was destroyed."],
    remedy: "Hold it for less, or allow more.",
  },
  {
    made: new errors.NestedUseError({ stats }),
    name: "NestedUseError",
    code: "ERR_POOL_NESTED",
    retryable: false,
    fields: { stats },
    says: [counted, "nobody could ever be served"],
    remedy:
      "Pass the resource down instead of acquiring again, or make the pool larger than the works that nest. A call that " +
      "its work does not await is counted too: make it when the work has ended, or in an AsyncLocalStorage.snapshot() " +
      "taken outside of works.",
  },
  {
    made: new errors.NoMemberError({ stats, cause }),
    name: "NoMemberError",
    code: "ERR_POOL_NO_MEMBER",
    retryable: true,
    fields: { stats, cause },
    says: [counted],
    remedy: "Retry later; see the cause for why the last attempt to open one failed.",
  },
  {
    made: new errors.NoMemberError({ stats }),
    name: "NoMemberError",
    code: "ERR_POOL_NO_MEMBER",
    retryable: true,
    fields: { stats },
    says: [counted],
    remedy: "Retry later.",
  },
  {
    made: new errors.BusyError({ stats }),
    name: "BusyError",
    code: "ERR_POOL_BUSY",
    retryable: true,
    fields: { stats },
    says: [counted],
    remedy: "Retry later, allow a wait with timeoutMs, or raise the size.",
  },
  {
    made: new errors.ClosedError({ stats }),
    name: "ClosedError",
    code: "ERR_POOL_CLOSED",
    retryable: false,
    fields: { stats },
    remedy: "Start a new one to go on.",
  },
  ...(["no", "maybe"] as const).map((sent) => ({
    made: new errors.ConnectionLostError("the socket closed. Retry it.", { sent, cause, stats }),
    name: "ConnectionLostError",
    code: "ERR_CONNECTION_LOST",
    retryable: sent === "no",
    fields: { sent, cause, stats },
    remedy: "Retry it.",
  })),
  ...(["RESPONSE", "TIMEOUT", "PROTOCOL", "TOO_LARGE", "CODEC", "LISTEN", "CONNECT"] as const).map((what) => ({
    made: new errors.FantaError(`ERR_FANTA_${what}`, "it failed. See the cause.", { cause }),
    name: "FantaError",
    code: `ERR_FANTA_${what}`,
    retryable: what === "TIMEOUT" || what === "CONNECT",
    fields: { cause },
    remedy: "See the cause.",
  })),
  ...(["DRIVER", "NOT_STARTED", "ROLLED_BACK"] as const).map((what) => ({
    made: new errors.PostgresError(`ERR_POSTGRES_${what}`, "it failed. See the cause.", { cause }),
    name: "PostgresError",
    code: `ERR_POSTGRES_${what}`,
    retryable: false,
    fields: { cause },
    remedy: "See the cause.",
  })),
  {
    made: new errors.ProcessError("ERR_PROCESS_EXITED", "it exited. Start it again.", cause),
    name: "ProcessError",
    code: "ERR_PROCESS_EXITED",
    retryable: false,
    fields: { reason: cause, cause },
    remedy: "Start it again.",
  },
  {
    made: new errors.SupervisorError("ERR_SUPERVISOR_START_FAILED", "it failed. See the cause.", {
      supervisor: "pool",
      childId: "a",
      cause,
    }),
    name: "SupervisorError",
    code: "ERR_SUPERVISOR_START_FAILED",
    retryable: false,
    fields: { supervisor: "pool", childId: "a", cause },
    remedy: "See the cause.",
  },
  {
    made: new errors.RegistryError("ERR_REGISTRY_TAKEN", "it is taken. Use another key.", {
      registry: "names",
      holder: 7,
    }),
    name: "RegistryError",
    code: "ERR_REGISTRY_TAKEN",
    retryable: false,
    fields: { registry: "names", holder: 7 },
    remedy: "Use another key.",
  },
];

describe.each(rows.map((row) => [`${row.name} ${row.code}`, row] as const))("%s", (_, row) => {
  test("has its name, its code, and says whether to retry", () => {
    const { name, code, retryable } = row;
    expect(row.made).toBeInstanceOf(errors.PoolwardenError);
    expect(row.made).toMatchObject({ name, code, retryable, ...row.fields });
    expect(String(row.made)).toBe(`${name}: ${row.made.message}`);
  });

  test("has a message that ends with what to do", () => {
    for (const part of row.says ?? []) expect(row.made.message).toContain(part);
    expect(row.made.message.endsWith(` ${row.remedy}`), row.made.message).toBe(true);
  });

  test("carries a cause only when there is one", () => {
    const expected = row.fields !== undefined && "cause" in row.fields;
    expect(Object.hasOwn(row.made, "cause")).toBe(expected);
  });
});

describe("the errors that processes and registries make", () => {
  test("end with what to do, too", async () => {
    const live = (): Promise<Process> => Process.start({ init: () => undefined });
    const [unique, duplicate] = [await Registry.start({ keys: "unique" }), await Registry.start({ keys: "duplicate" })];
    const [owner, dead] = [await live(), await live()];
    dead.kill();
    unique.register(owner, "taken", 1);
    let inside!: Self;
    await Process.start({ init: (self) => void (inside = self) });
    void inside.process.stop();

    const made: [code: string, remedy: string, fails: () => unknown][] = [
      ["ERR_REGISTRY_TAKEN", "Use another key.", () => unique.register(owner, "taken", 2)],
      ["ERR_REGISTRY_NO_PROCESS", "Register its successor.", () => unique.register(dead, "key", 1)],
      ["ERR_REGISTRY_UNSUPPORTED", "Use lookup.", () => duplicate.whereis("key")],
      ["ERR_REGISTRY_REENTRANT", "or do the work inside.", () => unique.lock("a", () => unique.lock("a", () => 1))],
      [
        "ERR_REGISTRY_CLOSED",
        "Start another one.",
        async () => {
          await unique.close();
          unique.count();
        },
      ],
      [
        "ERR_PROCESS_EXITED",
        "Start it again if it is still needed.",
        () => Process.start({ init: (self) => self.exit("normal") }),
      ],
      ["ERR_PROCESS_EXITED", "Give up what was begun for it.", () => inside.signal.throwIfAborted()],
    ];
    for (const [code, remedy, fails] of made) {
      const error = await (async () => fails())().then(
        () => undefined,
        (thrown: unknown) => thrown as Error,
      );
      expect(error).toMatchObject({ code, retryable: false });
      expect(error?.message.endsWith(` ${remedy}`), error?.message).toBe(true);
    }
  });
});

describe("asError", () => {
  test("leaves an Error as it is", () => {
    expect(errors.asError(cause)).toBe(cause);
  });

  test.each([
    ["text", '"text"'],
    [404, "404"],
    [undefined, "undefined"],
    [{ password: "x" }, "an object (Object)"],
  ])("makes one of %s, with the value as its cause and nothing of its insides in the message", (thrown, words) => {
    const error = errors.asError(thrown);
    expect(error).toMatchObject({ message: `a value that is no Error was thrown: ${words}`, cause: thrown });
  });
});

test("every error class has a row here", () => {
  const abstracts = ["PoolwardenError", "PoolError"];
  const classes = Object.entries(errors)
    .filter(
      ([name, value]) => name.endsWith("Error") && String(value).startsWith("class ") && !abstracts.includes(name),
    )
    .map(([name]) => name);
  expect(classes.length).toBeGreaterThan(10);
  expect(classes.filter((name) => !rows.some((row) => row.name === name))).toEqual([]);
});
