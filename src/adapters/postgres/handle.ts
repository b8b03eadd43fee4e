/**
 * A client in the hands of one caller: the driver's client, for as long as it is theirs.
 *
 * pg's pool hands out the client itself, and whoever keeps it beyond its release talks on a connection that is somebody
 * else's by then, or releases it under them. So each lease has a handle of its own. All that a client has is reached through
 * it; once it is over, a query is refused, and so is everything else that would do something to the connection. Listeners
 * that were added through it go with it, and `removeAllListeners` means those: the pool has its own on the client.
 *
 * The price: the handle of one lease is not that of the next, though the connection may be the same. `processID` tells
 * which it is.
 */

import type { DriverClient, PoolClient } from "./surface.ts";

export interface HandleOptions {
  readonly client: DriverClient;
  /** Throws when it is not the caller's any more. */
  readonly inForce: () => void;
  /** Told of each query before the client is. */
  readonly asked: () => void;
  /** Told of each error of a query before the caller is. */
  readonly queryFailed: (error: unknown) => void;
  /** What its `release` does; without it, it has none. */
  readonly release?: (error: unknown) => void;
}

export interface Handle {
  readonly client: PoolClient;
  /** Takes away what was left on the client. */
  leave(): void;
}

type Listener = (...fields: unknown[]) => void;
type Method = (...given: unknown[]) => unknown;

const adding: ReadonlySet<PropertyKey> = new Set([
  "on",
  "once",
  "addListener",
  "prependListener",
  "prependOnceListener",
]);
/** What a caller may do when it is over: tidy up, and look. */
const harmless: ReadonlySet<PropertyKey> = new Set([
  "off",
  "removeListener",
  "listenerCount",
  "listeners",
  "escapeLiteral",
  "escapeIdentifier",
  "getTransactionStatus",
  "constructor",
]);

export function handleOf({ client, inForce, asked, queryFailed, release }: HandleOptions): Handle {
  let listening: [name: string, listener: Listener][] = [];
  const removeAllListeners = (event?: unknown): PoolClient => {
    const leaving = listening.filter(([name]) => event === undefined || name === event);
    listening = listening.filter((each) => !leaving.includes(each));
    for (const [name, listener] of leaving) client.removeListener(name, listener);
    return handle as unknown as PoolClient;
  };
  const query: Method = (...given) => {
    try {
      inForce();
    } catch (error) {
      return refuse(given, error as Error);
    }
    asked();
    const at = isSubmittable(given[0]) ? -1 : given.findIndex((each) => typeof each === "function");
    if (at >= 0) {
      const callback = given[at] as Method;
      given[at] = (...answer: unknown[]): void => {
        if (answer[0]) queryFailed(answer[0]);
        callback(...answer);
      };
    }
    const answer = (client.query as Method).apply(client, given);
    if (!(answer instanceof Promise)) return answer;
    return answer.catch((error: unknown) => {
      queryFailed(error);
      throw error;
    });
  };
  const handle: DriverClient = new Proxy(client, {
    get(_, name): unknown {
      if (name === "query") return query;
      if (name === "release") return release;
      if (name === "removeAllListeners") return removeAllListeners;
      if (name === "connection") inForce(); // What is under the client does as it is told, whoever has it by then.
      const value: unknown = Reflect.get(client, name);
      if (typeof value !== "function" || name === "constructor") return value;
      return (...given: unknown[]): unknown => {
        if (!harmless.has(name)) inForce();
        if (adding.has(name)) listening.push(given as [string, Listener]);
        const answer: unknown = (value as Method).apply(client, given);
        return answer === client ? handle : answer;
      };
    },
    set(_, name, value): boolean {
      inForce();
      return Reflect.set(client, name, value);
    },
  });
  return {
    client: handle as unknown as PoolClient,
    leave: removeAllListeners,
  };
}

/** Says no in the way that was asked in: by a promise, a call back, or to what runs itself. */
export function refuse(given: readonly unknown[], error: Error): unknown {
  const [first] = given;
  if (isSubmittable(first)) {
    queueMicrotask(() => failSubmittable(first, error));
    return first;
  }
  const callback = given.find((each) => typeof each === "function") as ((error: Error) => void) | undefined;
  if (callback === undefined) return Promise.reject(error);
  queueMicrotask(() => callback(error));
  return undefined;
}

interface Runs {
  submit(connection: unknown): unknown;
  destroy?(error: Error): void;
  handleError?(error: Error, connection: unknown): void;
}

export function isSubmittable(value: unknown): value is Runs {
  return typeof (value as Partial<Runs> | null | undefined)?.submit === "function";
}

/** What was never sent. A stream is told as a stream; what is none, as the driver would tell it. */
export function failSubmittable(submittable: Runs, error: Error): void {
  if (submittable.destroy !== undefined) submittable.destroy(error);
  else submittable.handleError?.(error, undefined);
}
