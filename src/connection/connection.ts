/**
 * A connection: the process that owns one resource.
 *
 * It opens the resource, is registered exactly while it can serve, notices its loss, backs off, opens again, and closes
 * what it opened. The decisions are in machine.ts; this file performs them: timers, hooks with their time limits, the
 * registry. Every hook of the connector's is awaited for a bounded time and may do what it likes; whatever resource
 * comes out of `open`, however late, is closed once.
 *
 * A connection that cannot reach its server is not broken, it is waiting. So a failed open never reaches the supervisor;
 * what does is a kill, or a fault in here. A new process then takes up the memory of the old one.
 */

import { asError } from "../errors.ts";
import { type ExitReason, type HasProcess, Process, type Self } from "../process/index.ts";
import type { Registration, Registry } from "../registry/index.ts";
import { HeldTimer, type Runtime, type Timer } from "../runtime/index.ts";
import { emit } from "../telemetry/index.ts";
import type { Connector, Endpoint, OpenContext } from "./connector.ts";
import { type Effect, type Event, initialState, type Memory, type State, step } from "./machine.ts";

export type ConnectionState = "ready" | "opening" | "waitingToReopen" | "draining" | "fatal";

/** What a connection needs of the pool it is in. `M` is what the pool registers for a resource. */
export interface ConnectionHost<R, M> {
  readonly pool: string;
  readonly connector: Connector<R>;
  readonly runtime: Runtime;
  readonly registry: Registry<string, M>;
  readonly openTimeoutMs: number;
  readonly closeTimeoutMs: number;
  readonly drainTimeoutMs: number;
  /** Runs something in the async context that the pool was made in: no caller's context leaks into a socket. */
  readonly inContext: <T>(act: () => T) => T;
  /** The process runs; everything else comes after this. */
  born(connection: Connection<R, M>): void;
  /** What to register for this resource. */
  enter(connection: Connection<R, M>, resource: R): M;
  /** In flight on what was registered: a draining connection closes when there is nothing. */
  inFlight(member: M): number;
  /** The resource is gone under whatever is in flight on it. Its registration is gone already. */
  fail(member: M, reason: Error | undefined): void;
  capacityChanged(member: M): void;
  /** The resource itself wants to go: it finishes, and its place is somebody else's from now on. */
  leaves(connection: Connection<R, M>): void;
  /** Whether a caller waits for a connection. */
  wanted(): boolean;
  /** Whether this connection, which has no resource, should get one. */
  needed(connection: Connection<R, M>): boolean;
  /** The state has changed; called after everything that belongs to the change is done. */
  changed(connection: Connection<R, M>): void;
  /** A count for the totals. */
  count(what: "opened" | "openFailed" | "lost" | "closed"): void;
  /** A promise that must have settled before the pool is really closed. */
  cleaning(done: Promise<void>): void;
}

export interface ConnectionPlace {
  readonly slot: number;
  readonly endpoint: Endpoint;
  /** Kept here from one process to the next. */
  memory: Memory;
  /** While a resource that was in this place, and was not lost, is being closed. Its successor is not opened before. */
  closing: Promise<void> | undefined;
}

/** The key that connections register under. */
const readyKey = "ready";

export class Connection<R, M> implements HasProcess {
  readonly place: ConnectionPlace;
  readonly name: string;
  /** `runtime.now()` when the state last changed. */
  since: number;
  readonly #host: ConnectionHost<R, M>;
  #self!: Self;
  #state: State<R>;
  #member: M | undefined;
  #registration: Registration | undefined;
  #retry: HeldTimer | undefined;
  #overdue: Timer | undefined;
  /** The attempt to open that goes on, or went on last. */
  #opening: { readonly controller: AbortController; readonly timer: HeldTimer } | undefined;
  #openedAt = 0;
  #events: Event<R>[] = [];
  #stepping = false;
  #gone!: () => void;
  readonly #ended: Promise<void>;

  /** Resolves when the process runs: connected or not. */
  static async start<R, M>(host: ConnectionHost<R, M>, place: ConnectionPlace): Promise<Connection<R, M>> {
    const connection = new Connection(host, place);
    await Process.start<void>({
      name: connection.name,
      runtime: host.runtime,
      init: (self) => {
        connection.#self = self;
        self.process.hold((reason) => () => connection.#died(reason));
        host.born(connection);
        connection.#post({ on: "start" });
      },
      terminate: () => {
        connection.#post({ on: "stop" });
        return connection.#ended;
      },
    });
    return connection;
  }

  private constructor(host: ConnectionHost<R, M>, place: ConnectionPlace) {
    this.#host = host;
    this.place = place;
    this.name = `connection ${place.slot}`;
    this.#state = initialState(place.memory);
    this.since = host.runtime.now();
    this.#ended = new Promise((resolve) => {
      this.#gone = resolve;
    });
  }

  get process(): Process {
    return this.#self.process;
  }

  get state(): ConnectionState {
    switch (this.#state.at) {
      case "connected":
        // Without a registry nobody can find it, and its supervisor is about to stop it for that.
        return this.#host.registry.process.alive ? "ready" : "draining";
      case "waiting":
        return "waitingToReopen";
      case "closing":
      case "gone":
        return "draining";
      default:
        return this.#state.at;
    }
  }

  /** What is registered for its resource; none while there is no resource. */
  get member(): M | undefined {
    return this.#member;
  }

  get lastError(): Error | undefined {
    return this.place.memory.lastError;
  }

  /** Failed attempts since the last success. */
  get attempts(): number {
    return this.place.memory.failures;
  }

  /** Somebody waits: try as soon as the backoff's `minMs` allows. */
  nudge(): void {
    const { at } = this.#state;
    if (at === "waiting") this.#post({ on: "nudge" });
    else if (at !== "opening") return;
    this.#hold(this.#host.wanted());
  }

  /** Nobody waits any more. What goes on goes on, but the program need not wait for it. */
  relax(): void {
    this.#hold(false);
  }

  /** The resource is no good any more, though it has not said so. */
  lose(reason: Error): void {
    if (this.#state.at === "connected" || this.#state.at === "draining") {
      this.#post({ on: "lost", attempt: this.#state.attempt, reason });
    }
  }

  /** Takes nothing new, finishes what is in flight, closes the resource and ends. */
  drain(): void {
    this.#post({ on: "drain" });
  }

  /** Nothing is in flight any more; called by the pool when that becomes true of a draining connection. */
  quiet(): void {
    if (this.#state.at === "draining") this.#post({ on: "quiet" });
  }

  /** Whether the program waits for the next attempt, or for the end of the one that goes on. */
  #hold(alive: boolean): void {
    this.#retry?.hold(alive);
    this.#opening?.timer.hold(alive);
  }

  /** One event at a time: an effect that causes another event finishes first. */
  #post(event: Event<R>): void {
    this.#events.push(event);
    if (this.#stepping) return;
    this.#stepping = true;
    const before = this.#state.at;
    try {
      for (let next = this.#events.shift(); next !== undefined; next = this.#events.shift()) this.#step(next);
    } catch (thrown) {
      this.#self.exit(asError(thrown)); // A fault of ours. A fresh start mends what can be mended.
    } finally {
      this.#stepping = false;
    }
    if (this.#state.at !== before) this.#host.changed(this);
  }

  #step(event: Event<R>): void {
    const { runtime } = this.#host;
    const given = {
      now: runtime.now(),
      random: () => runtime.random(),
      wanted: this.#host.wanted(),
      needed: this.#needed(event),
    };
    const [state, effects] = step(this.#state, event, given);
    if (state.at !== this.#state.at) this.since = given.now;
    this.#state = state;
    // Dead, its place is somebody else's, who may have learnt more.
    if (this.process.alive) this.place.memory = state.memory;
    for (const effect of effects) {
      // One effect may call somebody who kills us. What is left to clean up still is; nothing new is begun.
      if (this.process.alive || effect.do === "dispose" || effect.do === "close") this.#perform(effect);
    }
  }

  /** Asked for only where the machine looks at it: the answer may cost a look at the whole pool. */
  #needed({ on }: Event<R>): boolean {
    const asks = on === "start" || on === "retry" || on === "opened" || on === "failed" || on === "lost";
    return !asks || this.#host.needed(this);
  }

  #perform(effect: Effect<R>): void {
    const host = this.#host;
    switch (effect.do) {
      case "open":
        this.#open(effect.attempt);
        return;
      case "abandonOpen":
        this.#abandonOpen("the connection is no longer wanted");
        return;
      case "retryIn":
        this.#retry?.cancel();
        this.#retry = new HeldTimer(host.runtime, () => this.#post({ on: "retry" }), effect.delayMs, host.wanted());
        return;
      case "cancelRetry":
        this.#retry?.cancel();
        this.#retry = undefined;
        return;
      case "enter":
        this.#enter(effect.resource);
        return;
      case "leave":
        this.#registration?.unregister();
        this.#registration = undefined;
        return;
      case "fail":
        this.#fail(effect.reason);
        return;
      case "giveUp":
        host.leaves(this);
        return;
      case "watchDrain":
        this.#watchDrain();
        return;
      case "dispose":
        host.cleaning(this.#close(effect.resource, effect.reason));
        return;
      case "close":
        this.#overdue?.cancel();
        this.#closeInPlace(effect.resource, effect.reason, () => this.#post({ on: "closed" }));
        return;
      case "tellFailed": {
        const { error, retryMs } = effect;
        host.count("openFailed");
        emit("connection.openFailed", { ...this.#named(), attempt: this.attempts, error, retryMs });
        return;
      }
      case "tellLost": {
        const inFlight = this.#member === undefined ? 0 : host.inFlight(this.#member);
        host.count("lost");
        emit("connection.lost", { ...this.#named(), reason: effect.reason, inFlight });
        return;
      }
      case "exit":
        this.#exit();
        return;
    }
  }

  #open(attempt: number): void {
    const { connector, runtime, openTimeoutMs, inContext } = this.#host;
    const controller = new AbortController();
    this.#openedAt = runtime.now();
    const failed = (error: Error): void => {
      this.#post({ on: "failed", attempt, error, fatal: this.#isFatal(error) });
    };
    const late = (): void => {
      const error = new Error(`opening took longer than ${openTimeoutMs} ms`);
      controller.abort(error);
      this.#post({ on: "failed", attempt, error, fatal: false });
    };
    const timer = new HeldTimer(runtime, late, openTimeoutMs, this.#host.wanted());
    this.#opening = { controller, timer };
    const context: OpenContext = {
      signal: controller.signal,
      slot: this.place.slot,
      endpoint: this.place.endpoint,
      lost: (reason) => this.#post({ on: "lost", attempt, reason }),
      draining: () => this.#drainResource(attempt),
      capacityChanged: () => {
        if (this.#serves(attempt)) this.#host.capacityChanged(this.#member as M);
      },
    };
    // An async function, so that a synchronous throw is a rejection too.
    const opened = inContext(async () => {
      if (this.place.closing !== undefined) {
        await this.place.closing;
        controller.signal.throwIfAborted();
      }
      return connector.open(context);
    });
    opened.then(
      (resource) => {
        timer.cancel();
        this.#host.count("opened");
        this.#post({ on: "opened", attempt, resource });
      },
      (thrown: unknown) => {
        timer.cancel();
        failed(asError(thrown));
      },
    );
  }

  /** No timer is left behind for an opening that never ends. */
  #abandonOpen(why: string): void {
    this.#opening?.timer.cancel();
    this.#opening?.controller.abort(new Error(why));
  }

  /** The resource itself asks for it: it must be the current one. */
  #drainResource(attempt: number): void {
    if (this.#state.at === "opening" && this.#state.attempt === attempt) {
      this.#post({ on: "lost", attempt, reason: new Error("the resource asked to go while it was being opened") });
      return;
    }
    if (!this.#serves(attempt)) return;
    this.#post({ on: "drain" });
    if (this.process.alive) this.#host.leaves(this); // Else its supervisor puts it back.
  }

  #serves(attempt: number): boolean {
    return this.#state.at === "connected" && this.#state.attempt === attempt && this.#member !== undefined;
  }

  #isFatal(error: Error): boolean {
    const failed = (thrown: unknown): void => {
      emit("callback.failed", { where: `${this.#host.pool}: isFatal`, error: asError(thrown) });
    };
    try {
      const verdict: unknown = this.#host.connector.isFatal?.(error);
      if (verdict instanceof Promise) verdict.catch(failed); // It should not be async. If it is, that must not end the program.
      return verdict === true;
    } catch (thrown) {
      failed(thrown);
      return false;
    }
  }

  #enter(resource: R): void {
    const host = this.#host;
    const openMs = host.runtime.now() - this.#openedAt;
    const member = host.enter(this, resource);
    if (!this.process.alive) return; // Killed in there.
    this.#member = member;
    emit("connection.opened", { ...this.#named(), openMs });
    // Without a registry nobody can find us, and our supervisor is about to stop us for that.
    if (!this.process.alive || !host.registry.process.alive) return;
    this.#registration = host.registry.register(this, readyKey, member);
  }

  #fail(reason: Error | undefined): void {
    const member = this.#member;
    this.#member = undefined;
    if (member !== undefined) this.#host.fail(member, reason);
  }

  #watchDrain(): void {
    const { runtime, drainTimeoutMs } = this.#host;
    const inFlight = this.#member === undefined ? 0 : this.#host.inFlight(this.#member);
    emit("connection.drained", { ...this.#named(), inFlight });
    if (!this.process.alive) return; // Killed by somebody who heard of it.
    if (inFlight === 0) this.#post({ on: "quiet" });
    else {
      this.#overdue = runtime.setTimer(() => this.#post({ on: "overdue" }), drainTimeoutMs, { keepAlive: true });
    }
  }

  /** Calls the connector's close once, and waits for it as long as is allowed. Never rejects. */
  async #close(resource: R, reason: ExitReason): Promise<void> {
    const { connector, runtime, closeTimeoutMs, inContext } = this.#host;
    let timer: Timer | undefined;
    try {
      const closed = inContext(async () => connector.close?.(resource, reason));
      const late = new Promise<never>((_, reject) => {
        const error = new Error(`close took longer than ${closeTimeoutMs} ms`);
        timer = runtime.setTimer(() => reject(error), closeTimeoutMs, { keepAlive: true });
      });
      await Promise.race([closed, late]);
    } catch (thrown) {
      emit("connection.closeFailed", { ...this.#named(), error: asError(thrown) });
    }
    timer?.cancel();
    this.#host.count("closed");
    emit("connection.closed", { ...this.#named(), reason });
  }

  /** The resource is there until this is done, and its place is not free. */
  #closeInPlace(resource: R, reason: ExitReason, then?: () => void): void {
    const { place } = this;
    const closed = this.#close(resource, reason).then(() => {
      place.closing = undefined;
      then?.();
    });
    place.closing = closed;
    this.#host.cleaning(closed);
  }

  #exit(): void {
    this.#overdue?.cancel();
    this.#gone();
    this.#self.exit("normal"); // When it was asked to stop, the reason it was given stays.
  }

  /**
   * The process died: by itself, and then nothing is left to do; or killed, and then it had no time to do what the
   * machine would have done. Runs when no registry shows the connection any more.
   */
  #died(reason: ExitReason): void {
    this.#retry?.cancel();
    this.#overdue?.cancel();
    this.#abandonOpen("the connection has ended");
    const state = this.#state;
    if (state.at !== "gone") this.#state = { at: "gone", memory: state.memory };
    this.#fail(reason instanceof Error ? reason : undefined);
    if (state.at === "connected" || state.at === "draining") this.#closeInPlace(state.resource, reason);
    this.#gone();
    this.#host.changed(this);
  }

  #named(): { pool: string; connection: string; endpoint: string } {
    return { pool: this.#host.pool, connection: this.name, endpoint: this.place.endpoint.id };
  }
}
