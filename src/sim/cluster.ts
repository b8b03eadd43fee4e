/**
 * The servers of a simulation, and the connector to them.
 *
 *                       GOAWAY                  quiet
 *          up ─────────────────────▶ leaving ──────────▶ down
 *          ▲ └── crash ──────────────────────────────────▶ │
 *          └───────────────────────────────────────────────┘ after downMs
 *
 * A server works on as many requests as it has slots, each for as long as the request takes it; the others stand in one
 * line, first come, first served, whichever connection they came by. What a caller has given up is worked on all the
 * same: the server does not know. The network takes no time.
 */

import type { Connector, OpenContext } from "../connection/index.ts";
import { ConnectionLostError, PoolwardenError } from "../errors.ts";
import { type Dice, newPromise, type Runtime, takeReject, takeResolve } from "../runtime/index.ts";
import type { Report } from "./report.ts";
import { type Fault, type Scenario, type Span, weightOf } from "./scenario.ts";

/** What a simulated pool is a pool of. */
export interface SimulatedConnection {
  /** The number of the server that it leads to. */
  readonly member: number;
  /** Sends a request with so much work in it. */
  request(workMs: number): Promise<void>;
}

/** A server's answer that says no. */
class ServerError extends PoolwardenError {
  readonly code = "ERR_SERVER";

  constructor() {
    super("the simulated server answered with an error. It was told to.");
  }
}

class Connection implements SimulatedConnection {
  readonly member: number;
  readonly client: number;
  readonly server: Server;
  readonly context: OpenContext;

  constructor(server: Server, client: number, context: OpenContext) {
    this.member = server.member;
    this.client = client;
    this.server = server;
    this.context = context;
  }

  request(workMs: number): Promise<void> {
    const answer = newPromise<void>();
    this.server.take(new Job(this, workMs, takeResolve<void>(), takeReject()));
    return answer;
  }
}

/** One request at one server. */
class Job {
  readonly connection: Connection;
  readonly workMs: number;
  readonly resolve: (value: void) => void;
  readonly reject: (error: unknown) => void;
  /** In which life of the server it came: a crash ends one. */
  life = 0;
  startedAt = 0;
  /** How long the server had stood still before, in all. */
  stalledBefore = 0;
  /** Behind it in the line. */
  next: Job | undefined = undefined;
  readonly worked = (): void => this.connection.server.worked(this);

  constructor(
    connection: Connection,
    workMs: number,
    resolve: (value: void) => void,
    reject: (error: unknown) => void,
  ) {
    this.connection = connection;
    this.workMs = workMs;
    this.resolve = resolve;
    this.reject = reject;
  }
}

export class Server {
  readonly member: number;
  readonly id: string;
  readonly weight: number;
  readonly connections: Set<Connection> = new Set();
  readonly #slots: number;
  readonly #runtime: Runtime;
  readonly #report: Report;
  readonly #dice: Dice;
  #state: "up" | "leaving" | "down" = "up";
  #downMs = 0;
  #life = 0;
  #busy = 0;
  #first: Job | undefined;
  #last: Job | undefined;
  /** What makes it slow now, and the product of it. */
  readonly #slow = new Set<{ readonly factor: number }>();
  #factor = 1;
  readonly #failing = new Set<Extract<Fault, { kind: "fail" }>>();
  #stalledUntil = 0;
  #stalledMs = 0;

  constructor(member: number, scenario: Scenario, runtime: Runtime, dice: Dice, report: Report) {
    this.member = member;
    this.id = `server ${member}`;
    this.weight = weightOf(scenario, member);
    this.#slots = scenario.slots * this.weight;
    this.#runtime = runtime;
    this.#dice = dice;
    this.#report = report;
  }

  get takesConnections(): boolean {
    return this.#state === "up";
  }

  take(job: Job): void {
    job.life = this.#life;
    job.startedAt = this.#runtime.now();
    this.#report.began(this.member, this.#state !== "up");
    const fault = this.#failing.size === 0 ? undefined : this.#drawFailure();
    if (fault !== undefined) {
      this.#runtime.setTimer(() => this.#fail(job, fault), fault.afterMs);
    } else if (this.#busy < this.#slots) {
      this.#begin(job);
    } else if (this.#last === undefined) {
      this.#first = job;
      this.#last = job;
    } else {
      this.#last.next = job;
      this.#last = job;
    }
  }

  /** The time it takes has passed, as it was known when it began. */
  worked(job: Job): void {
    if (job.life !== this.#life) return;
    const missingMs = this.#stalledMs - job.stalledBefore;
    if (missingMs > 0) {
      job.stalledBefore = this.#stalledMs;
      this.#runtime.setTimer(job.worked, missingMs);
      return;
    }
    this.#busy--;
    const next = this.#first;
    if (next !== undefined) {
      this.#first = next.next;
      if (this.#first === undefined) this.#last = undefined;
      this.#begin(next);
    }
    this.#ended(job, true);
    job.resolve();
    this.#leaveIfQuiet();
  }

  /** A sign of life, as soon as it can give one. */
  ping(): Promise<void> {
    return new Promise((resolve) => {
      this.#runtime.setTimer(resolve, Math.max(this.#stalledUntil - this.#runtime.now(), 0));
    });
  }

  closed(connection: Connection): void {
    this.connections.delete(connection);
    this.#leaveIfQuiet();
  }

  slowDown(cause: { readonly factor: number }): void {
    this.#slow.add(cause);
    this.#multiply();
  }

  speedUp(cause: { readonly factor: number }): void {
    this.#slow.delete(cause);
    this.#multiply();
  }

  fail(fault: Extract<Fault, { kind: "fail" }>): void {
    this.#failing.add(fault);
  }

  heal(fault: Extract<Fault, { kind: "fail" }>): void {
    this.#failing.delete(fault);
  }

  stall(forMs: number): void {
    const now = this.#runtime.now();
    const until = Math.max(this.#stalledUntil, now + forMs);
    this.#stalledMs += until - Math.max(this.#stalledUntil, now);
    this.#stalledUntil = until;
  }

  crash(downMs: number): void {
    if (this.#state === "down") return;
    this.#life++;
    this.#busy = 0;
    this.#first = undefined;
    this.#last = undefined;
    this.#goDown(downMs);
    for (const connection of [...this.connections]) connection.context.lost(new Error(`${this.id} has crashed`));
  }

  /** Says goodbye to all, and goes down when it has answered them and they are gone. */
  restart(downMs: number): void {
    if (this.#state !== "up") return;
    this.#state = "leaving";
    this.#downMs = downMs;
    for (const connection of [...this.connections]) connection.context.draining();
    this.#leaveIfQuiet();
  }

  #leaveIfQuiet(): void {
    if (this.#state === "leaving" && this.#busy === 0 && this.connections.size === 0) this.#goDown(this.#downMs);
  }

  #goDown(downMs: number): void {
    this.#state = "down";
    this.#runtime.setTimer(() => {
      this.#state = "up";
    }, downMs);
  }

  #begin(job: Job): void {
    this.#busy++;
    job.stalledBefore = this.#stalledMs;
    const standsStillMs = Math.max(this.#stalledUntil - this.#runtime.now(), 0);
    this.#runtime.setTimer(job.worked, standsStillMs + job.workMs * this.#factor);
  }

  #fail(job: Job, { sent }: Extract<Fault, { kind: "fail" }>): void {
    if (job.life !== this.#life) return;
    this.#ended(job, false);
    if (sent === undefined) job.reject(new ServerError());
    else job.reject(new ConnectionLostError("the simulated server lost the request. It was told to.", { sent }));
  }

  #ended(job: Job, ok: boolean): void {
    this.#report.ended(job.connection.client, this.member, job.startedAt, ok);
  }

  #drawFailure(): Extract<Fault, { kind: "fail" }> | undefined {
    for (const fault of this.#failing) if (this.#dice.fraction() < (fault.probability ?? 1)) return fault;
    return undefined;
  }

  #multiply(): void {
    this.#factor = 1;
    for (const { factor } of this.#slow) this.#factor *= factor;
  }
}

export class Cluster {
  readonly servers: readonly Server[];
  readonly #scenario: Scenario;
  readonly #runtime: Runtime;
  readonly #dice: readonly Dice[];

  /** @param dice One for each server. */
  constructor(scenario: Scenario, runtime: Runtime, dice: readonly Dice[], report: Report) {
    this.#scenario = scenario;
    this.#runtime = runtime;
    this.#dice = dice;
    this.servers = dice.map((each, member) => new Server(member, scenario, runtime, each, report));
  }

  connectorOf(client: number): Connector<SimulatedConnection> {
    const { capacity, connectMs } = this.#scenario;
    return {
      name: `client ${client}`,
      endpoints: this.servers.map(({ id, weight, member }) => ({ id, weight, data: member })),
      open: (context) => this.#open(client, context, connectMs),
      check: ({ member }) => this.#server(member).ping(),
      close: (connection) => this.#server(connection.member).closed(connection as Connection),
      ...(capacity === Infinity ? {} : { capacity: () => capacity }),
    };
  }

  /** From now on the faults of the scenario come. */
  begin(): void {
    for (const fault of this.#scenario.faults) {
      const hit = fault.kind === "spells" || fault.member === "all" ? this.servers : [this.#server(fault.member)];
      for (const [nth, server] of hit.entries()) this.#plan(fault, server, nth);
    }
  }

  #plan(fault: Fault, server: Server, nth: number): void {
    switch (fault.kind) {
      case "slow":
        this.#during(
          fault,
          () => server.slowDown(fault),
          () => server.speedUp(fault),
        );
        return;
      case "fail":
        this.#during(
          fault,
          () => server.fail(fault),
          () => server.heal(fault),
        );
        return;
      case "stall":
        this.#runtime.setTimer(() => server.stall(fault.forMs), fault.fromMs);
        return;
      case "crash":
        this.#runtime.setTimer(() => server.crash(fault.downMs), fault.fromMs);
        return;
      case "restart":
        this.#runtime.setTimer(() => server.restart(fault.downMs), fault.fromMs + nth * (fault.everyMs ?? 0));
        return;
      case "spells":
        this.#planSpells(fault, server);
        return;
    }
  }

  #during({ fromMs = 0, untilMs = Infinity }: Span, begin: () => void, end: () => void): void {
    this.#runtime.setTimer(begin, fromMs);
    this.#runtime.setTimer(end, untilMs);
  }

  /** Slow and quick by turns, each for an exponential time; already slow at the beginning as often as at any time. */
  #planSpells(fault: Extract<Fault, { kind: "spells" }>, server: Server): void {
    const { meanMs, share } = fault;
    if (share === 0) return;
    const dice = this.#dice[server.member] as Dice;
    const spell = { factor: fault.factor };
    let over = false;
    const turn = (slow: boolean): void => {
      if (over) return;
      if (slow) server.slowDown(spell);
      else server.speedUp(spell);
      const lengthMs = slow ? meanMs : (meanMs * (1 - share)) / share;
      this.#runtime.setTimer(() => turn(!slow), exponential(dice) * lengthMs);
    };
    this.#during(
      fault,
      () => turn(dice.fraction() < share),
      () => {
        over = true;
        server.speedUp(spell);
      },
    );
  }

  #open(client: number, context: OpenContext, connectMs: number): Promise<Connection> {
    const server = this.#server(context.endpoint.data as number);
    return new Promise((resolve, reject) => {
      this.#runtime.setTimer(() => {
        if (!server.takesConnections) {
          reject(new Error(`${server.id} takes no connections`));
          return;
        }
        const connection = new Connection(server, client, context);
        server.connections.add(connection);
        resolve(connection);
      }, connectMs);
    });
  }

  #server(member: number): Server {
    return this.servers[member] as Server;
  }
}

/** Drawn from the exponential distribution with mean 1. */
export function exponential(dice: Dice): number {
  return -Math.log(1 - dice.fraction());
}
