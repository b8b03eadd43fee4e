/**
 * `FantaTCP` against a peer that a test plays by hand, on virtual time.
 *
 * A scene ends on what must hold whatever has happened: every request has settled, each request object that was sent
 * had exactly one outcome and was let go exactly once, nothing is in flight, no timer is left, the socket is gone.
 */

import { expect } from "vitest";
import { FantaTCP, type FantaTCPOptions } from "../../src/fanta/index.ts";
import { FantaRequest } from "../../src/fanta/request.ts";
import { type VirtualRuntime, virtualRuntime } from "../../src/sim/index.ts";
import { type Far, Listener } from "../multiplex/loopback.ts";
import { turn, turns, until } from "../multiplex/turns.ts";
import { type Frame, framesAt, hears, ping, pong } from "./frames.ts";

/** A request that notes what it is told. */
export class Noted extends FantaRequest<string> {
  readonly told: string[] = [];
  error: unknown;
  /** Runs in the step of the outcome. */
  onOutcome: () => void = () => undefined;

  answered(value: string): void {
    this.#outcome(`answered ${value}`);
  }

  refused(error: Error): void {
    this.#outcome("refused", error);
  }

  gaveUp(error: unknown): void {
    this.#outcome("gaveUp", error);
  }

  lost(error: Error, sent: "no" | "maybe"): void {
    this.#outcome(`lost ${sent}`, error);
  }

  released(): void {
    this.told.push("released");
  }

  #outcome(what: string, error?: unknown): void {
    this.error = error;
    this.told.push(what);
    this.onOutcome();
  }
}

/** What a request came to: its answer, or its error. */
type Outcome = { readonly answer: string } | { readonly error: Error & Record<string, unknown> };

export interface Asked {
  readonly outcome: Promise<Outcome>;
  readonly settled: boolean;
}

export class Scene {
  readonly runtime: VirtualRuntime;
  readonly fanta: FantaTCP;
  /** The peer. */
  readonly far: Far;
  readonly port: number;
  readonly #asked: Asked[] = [];
  readonly #noted: Noted[] = [];

  constructor(runtime: VirtualRuntime, fanta: FantaTCP, far: Far, port: number) {
    this.runtime = runtime;
    this.fanta = fanta;
    this.far = far;
    this.port = port;
  }

  ask(payload: string, options?: { timeoutMs?: number; signal?: AbortSignal }): Asked {
    const asked = { settled: false, outcome: undefined as unknown as Promise<Outcome> };
    const request = options === undefined ? this.fanta.request(payload) : this.fanta.request(payload, options);
    asked.outcome = request.then(
      (answer) => {
        asked.settled = true;
        return { answer };
      },
      (error: Error & Record<string, unknown>) => {
        asked.settled = true;
        return { error };
      },
    );
    this.#asked.push(asked);
    return asked;
  }

  send(payload: string, timeoutMs = Infinity): Noted {
    const request = new Noted();
    this.#noted.push(request);
    this.fanta.send(request, payload, timeoutMs, this.runtime.now());
    return request;
  }

  get frames(): Frame[] {
    return framesAt(this.far);
  }

  hears(count: number): Promise<Frame[]> {
    return hears(this.far, count);
  }

  /** Asks for something the peer is told of, and waits until it is: all that went before has come too, either way. */
  async roundTrip(): Promise<void> {
    const pings = (): number => this.frames.filter(({ kind }) => kind === ping).length;
    const before = pings();
    const pinged = this.fanta.ping({ timeoutMs: Infinity });
    await until("the ping has come", () => pings() > before);
    this.far.send(this.echo());
    await pinged;
    await turn();
  }

  /** The pong to the ping that has come last, and with nothing behind it. */
  echo(): Buffer {
    const bytes = Buffer.from(this.far.bytes.subarray(-13));
    expect(bytes[8]).toBe(ping);
    bytes[8] = pong;
    return bytes;
  }

  async exit(): Promise<unknown> {
    await until("the connection's process is dead", () => !this.fanta.process.alive);
    return this.fanta.process.exited;
  }

  async end(): Promise<void> {
    const { fanta, far, runtime } = this;
    fanta.process.kill();
    await until("the far end has heard of the end", () => far.ended || far.closed);
    await turns(3);
    expect(this.#asked.filter(({ settled }) => !settled)).toEqual([]);
    for (const { told } of this.#noted) {
      expect(told.filter((what) => what === "released")).toHaveLength(1);
      expect(told).toHaveLength(2);
      // Free before its outcome, unless its caller gave up: then the outcome comes first.
      expect(told[0] === "gaveUp" ? told[1] : told[0]).toBe("released");
    }
    expect({ inFlight: fanta.inFlight, open: fanta.open, timers: runtime.timers }).toEqual({
      inFlight: 0,
      open: false,
      timers: 0,
    });
  }
}

type Options = Partial<Omit<FantaTCPOptions, "host" | "port" | "runtime">>;

export async function sceneOf(options: Options = {}): Promise<Scene> {
  const runtime = virtualRuntime();
  const listener = await Listener.open();
  const fanta = await FantaTCP.connect({ ...options, host: "127.0.0.1", port: listener.port, runtime });
  return new Scene(runtime, fanta, await listener.guest(), listener.port);
}

/** A test on a scene. */
export function scene(body: (scene: Scene) => Promise<void>, options: Options = {}): () => Promise<void> {
  return async () => {
    const set = await sceneOf(options);
    await body(set);
    await set.end();
  };
}
