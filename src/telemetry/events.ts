/**
 * Every event the library emits, in one table.
 *
 * Library code never logs. What is not thrown is emitted, on `node:diagnostics_channel`, under `poolwarden:<event>`:
 *
 *     import { subscribe } from "node:diagnostics_channel";
 *     subscribe("poolwarden:connection.lost", (event) => console.warn(event));
 *
 * An event nobody subscribes to costs one property read. Names are `subject.pastParticiple`; a field that is a
 * duration ends in `Ms`. A subscriber that throws cannot harm a pool: Node reports it as an uncaught exception, later.
 */

import { type Channel, channel } from "node:diagnostics_channel";

/** Why a process ended, as telemetry shows it: `"normal"`, `"shutdown"`, `"killed"` or the error. */
export type Reason = string | Error;

export interface Events {
  /** A process died of an error. A clean end is no event: monitors tell it. */
  "process.crashed": { process: number; name: string; reason: Error };
  /** `terminate` threw, rejected, or had not returned when its time was over. The process ended all the same. */
  "process.terminateFailed": { process: number; name: string; error: Error };
  /** A function of the user's threw where nobody waits for its result: a monitor, a listener, a hook. */
  "callback.failed": { where: string; error: Error };
  /** A supervised child ended by itself. `restart` says what happens next. */
  "supervisor.childExited": { supervisor: string; child: string; reason: Reason; restart: boolean };
  /** A child is back, with the group that the strategy put back with it. */
  "supervisor.childRestarted": { supervisor: string; child: string };
  /** Putting a child back failed; it is tried again after `delayMs`. */
  "supervisor.restartFailed": { supervisor: string; child: string; error: Error; delayMs: number };
  /** More restarts than allowed: the supervisor ends its children and itself. */
  "supervisor.gaveUp": { supervisor: string; child: string; restarts: number; maxSeconds: number; reason: Reason };
  /** A child outlived its shutdown time and was killed, or ended with an unexpected reason. */
  "supervisor.shutdownFailed": { supervisor: string; child: string; reason: Reason };
  /** A resource is ready. `openMs` is how long opening it took. */
  "connection.opened": { pool: string; connection: string; endpoint: string; openMs: number };
  /** Opening failed. The next attempt comes after `retryMs`; `undefined` means never (a fatal error). */
  "connection.openFailed": {
    pool: string;
    connection: string;
    endpoint: string;
    attempt: number;
    error: Error;
    retryMs: number | undefined;
  };
  /** The resource went away by itself; once a loss, before the first retry is timed. */
  "connection.lost": {
    pool: string;
    connection: string;
    endpoint: string;
    reason: Error | undefined;
    inFlight: number;
  };
  /** The connection takes nothing new and finishes what it has. */
  "connection.drained": { pool: string; connection: string; endpoint: string; inFlight: number };
  /** The resource was closed, by us or after its loss. */
  "connection.closed": { pool: string; connection: string; endpoint: string; reason: Reason };
  /** The connector's `close` threw, rejected or took too long. The resource counts as closed. */
  "connection.closeFailed": { pool: string; connection: string; endpoint: string; error: Error };
  /** A caller joined the line of a pool. `waiting` counts it. */
  "pool.queued": { pool: string; waiting: number };
  /** A caller left the line without being served; `code` is that of the error it got, or `"ABORTED"`. */
  "pool.refused": { pool: string; code: string; waitedMs: number };
  /** A work was given to another member. `attempt` is the one that failed, from 1. */
  "pool.retried": { pool: string; attempt: number; error: Error };
  /** A copy of a request that took long was sent to another member. */
  "pool.hedged": { pool: string; afterMs: number };
  /** A work ended after its caller had given up: the member is free again. */
  "pool.orphanEnded": { pool: string; connection: string; afterMs: number };
  /** A member has failed too often, and gets nothing for `ejectMs`. `probe`: it had its chance and failed again. */
  "member.ejected": {
    pool: string;
    connection: string;
    endpoint: string;
    reason: "consecutive" | "ratio" | "probe";
    failures: number;
    ejectMs: number;
  };
  /** One real request is sent to an ejected member; what becomes of it decides. */
  "member.probed": { pool: string; connection: string; endpoint: string };
  /** The probe went well: the member is one of the others again. */
  "member.restored": { pool: string; connection: string; endpoint: string; ejectedMs: number };
  /** A member is about to be replaced: it gave no sign of life (`stalled`), or has too many requests nobody waits for. */
  "member.replaced": {
    pool: string;
    connection: string;
    endpoint: string;
    reason: "stalled" | "orphans";
    inFlight: number;
    error: Error | undefined;
  };
  /** Too few members are up and trusted: their health is no longer looked at. */
  "pool.panicked": { pool: string; healthy: number; places: number };
  /** Enough are again. */
  "pool.calmed": { pool: string; healthy: number; places: number };
  /** A lease was held longer than `leaseTimeoutMs`: its resource is destroyed. `stack`: where it was acquired. */
  "lease.expired": { pool: string; connection: string; heldMs: number; stack: string | undefined };
  /** A lease is held longer than `leakReportMs`. */
  "lease.leaked": { pool: string; connection: string; heldMs: number; stack: string | undefined };
  /** A lease was dropped without being released: nobody holds it any more, and its resource is out. Needs `leakReportMs`. */
  "lease.dropped": { pool: string; connection: string; stack: string | undefined };
  /** A lease that was over was released or discarded again. Nothing happened. */
  "lease.misused": { pool: string; connection: string; error: Error };
  /** Its holder said that a resource is broken. */
  "lease.discarded": { pool: string; connection: string; reason: Error | undefined };
  /** The set of endpoints changed, or its source misbehaved (`error`). */
  "pool.endpointsChanged": { pool: string; added: number; removed: number; error: Error | undefined };
  /** The pool's supervision tree has ended other than by `close` or `destroy`: the pool is closed. */
  "pool.died": { pool: string; reason: Reason };
  /** Bytes that are not Fanta, or not in their place, ended a connection. */
  "fanta.protocolFailed": { side: "client" | "server"; error: Error };
}

type EventName = keyof Events;

const channels = new Map<EventName, Channel>();

function channelOf(event: EventName): Channel {
  let found = channels.get(event);
  if (found === undefined) {
    found = channel(`poolwarden:${event}`);
    channels.set(event, found);
  }
  return found;
}

/** Publishes one event. The fields are taken as they are; do not change them afterwards. */
export function emit<E extends EventName>(event: E, fields: Events[E]): void {
  const to = channelOf(event);
  if (to.hasSubscribers) to.publish(fields);
}

/**
 * Whether anybody listens, for places where even building the fields would cost. The channel is looked up once: hold
 * on to what this returns.
 */
export function watched(event: EventName): { readonly hasSubscribers: boolean } {
  return channelOf(event);
}
