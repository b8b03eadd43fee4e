/**
 * The client's side of one connection: who is in flight, what the other side says, and how it ends.
 *
 *                goaway | drain                 nobody waits               socket closed
 *      open ───────────────────▶ draining ───────────────────▶ finishing ───────────────▶ gone
 *        └──────────────────────────┴──────────── lost, or ended by force ───────────────▶
 *
 * Open, it takes requests. Draining, it takes none and waits for the answers somebody waits for. Finishing, what is
 * still to be said leaves and the socket closes. Gone is told first (`lost`: the owner takes the connection out of
 * where it can be found), then to each request in flight, so that none is sent again to where it has just failed.
 *
 * A caller that gives up is told at once, the server is told with a cancel, and the id stays taken: the server may be
 * working still, and a late answer must not meet another request. `inFlight` counts such an orphan, because it is load.
 *
 * A request that times out when nothing at all has come since it was sent may have met a dead line: a cable pulled, a
 * machine gone, and no packet to say so. Then one ping is sent, and if in ten seconds nothing comes, no pong and no
 * byte of anything else, the connection counts as lost. A server that is only slow answers pings.
 */

import { ConnectionLostError, FantaError } from "../errors.ts";
import { Channel, type ChannelUser, Slots, slotsMax, type Wire } from "../multiplex/index.ts";
import { Deadlines, type Runtime, type Timed, type Timer } from "../runtime/index.ts";
import { emit } from "../telemetry/index.ts";
import * as codec from "./codec.ts";
import { putPayload, sendBytes, sendEmpty, sendPayload } from "./outgoing.ts";
import { type Codec, codecError } from "./payload.ts";
import { Ping, pingPayload } from "./ping.ts";
import type { FantaRequest } from "./request.ts";

export interface LinkOptions<Out, In> {
  /** For messages: "127.0.0.1:7000". */
  readonly peer: string;
  readonly codec: Codec<Out, In>;
  readonly maxFrameBytes: number;
  readonly runtime: Runtime;
}

/** What the owner of a link hears. */
export interface LinkOwner {
  /** It is over: with an error, unless it was asked for. Comes before the requests hear it; at most once. */
  lost(error: Error): void;
  /** Nothing of the socket is left. Once, last. */
  closed(): void;
}

/** How long a line that may be dead has to give a sign of life; and how long a peer may take to let us finish. */
const probeMs = 10_000;
const finishMs = 5_000;
/** Pongs that a server does not read. Twice what one turn of reading brings at the most, beside one huge ping. */
const unreadPongBytes = 4 * 2 ** 20;

type State = "open" | "draining" | "finishing" | "gone";

export class Link<Out, In> implements ChannelUser, codec.FrameSink {
  readonly #options: LinkOptions<Out, In>;
  readonly #owner: LinkOwner;
  readonly #codec: Codec<Out, In>;
  readonly #maxFrameBytes: number;
  readonly #channel: Channel;
  readonly #writer: Channel["writer"];
  readonly #deadlines: Deadlines<Expiring>;
  readonly #slots = new Slots<FantaRequest<In>>();
  readonly #drainers: (() => void)[] = [];
  /** Pings whose pong has not come, oldest first. */
  readonly #pings: Ping[] = [];
  #state: State = "open";
  /** Requests in flight that somebody waits for. While there are any, the program must not end. */
  #waiting = 0;
  /** Pongs that wait for the socket to take them, and the batch that the last of them leaves with. */
  #pongBytes = 0;
  #pongBatch = 0;
  #probe: Timer | undefined;
  #finishTimer: Timer | undefined;
  #why: Error | undefined;

  constructor(wire: Wire, options: LinkOptions<Out, In>, owner: LinkOwner) {
    this.#options = options;
    this.#owner = owner;
    this.#codec = options.codec;
    this.#maxFrameBytes = options.maxFrameBytes;
    this.#deadlines = deadlinesOf(options.runtime);
    this.#channel = new Channel(wire, this);
    this.#writer = this.#channel.writer;
    wire.socket.unref(); // An idle connection lets the program end.
  }

  /** Requests the server has not answered, those given up included. */
  get inFlight(): number {
    return this.#slots.size;
  }

  get open(): boolean {
    return this.#state === "open";
  }

  /** Calls back when the server says goaway or `drain` is called; at once if that has been. */
  onDraining(callback: () => void): void {
    if (this.#state === "open") this.#drainers.push(callback);
    else callback();
  }

  send(request: FantaRequest<In>, payload: Out, timeoutMs: number, now: number): void {
    let size: number;
    try {
      const encoded = this.#codec.encode(payload); // The user's code: it may even end this connection.
      if (this.#state !== "open") return this.#turnAway(request);
      size = putPayload(this.#writer, encoded, this.#maxFrameBytes - codec.overheadBytes);
    } catch (thrown) {
      return refuse(request, codecError("the request could not be encoded", thrown));
    }
    if (size < 0) return refuse(request, this.#tooLarge());
    const id = this.#slots.take(request);
    if (id === 0) return refuse(request, busy());
    sendPayload(this.#writer, size, id, codec.data);
    request.id = id;
    request.on = this;
    request.batch = this.#writer.batch;
    request.heard = this.#channel.chunks;
    request.timeoutMs = timeoutMs;
    request.orphaned = false;
    this.#deadlines.add(request, now, timeoutMs);
    if (this.#waiting++ === 0) this.#channel.socket.ref();
  }

  /** Its caller waits no more. Does nothing when it is not in flight here, or was given up before. */
  abandon(request: FantaRequest<In>, error: unknown): void {
    if (request.id === 0 || request.on !== this || request.orphaned) return;
    this.#deadlines.remove(request);
    request.orphaned = true;
    sendEmpty(this.#writer, request.id, codec.cancel);
    this.#waitsNoMore();
    request.gaveUp(error);
    this.#finishIfDrained();
  }

  /** The deadline of a request has passed. */
  expired(request: FantaRequest<In>): void {
    const { timeoutMs, heard } = request;
    this.abandon(
      request,
      new FantaError(
        "ERR_FANTA_TIMEOUT",
        `no answer from ${this.#options.peer} within ${timeoutMs} ms. The server may still do it: repeat only what may be ` +
          `done twice, or allow more time (timeoutMs).`,
      ),
    );
    if (heard === this.#channel.chunks) this.#probeLine();
  }

  ping(ping: Ping, now: number, timeoutMs: number): void {
    if (this.#state !== "open") {
      ping.fail(this.#lostError("no"));
      return;
    }
    ping.sentAt = now;
    sendBytes(this.#writer, 0, codec.ping, ping.payload);
    this.#pings.push(ping);
    this.#deadlines.add(ping, now, timeoutMs);
    ping.whenOver = () => this.#deadlines.remove(ping);
  }

  /** Takes nothing new, and closes when nobody waits for an answer any more. */
  drain(): void {
    if (this.#state !== "open") return;
    this.#state = "draining";
    for (const callback of this.#drainers.splice(0)) callback();
    this.#finishIfDrained();
  }

  /** Ends it now; whoever waits gets `error` or its like. */
  destroy(error: Error): void {
    this.#lose(error);
  }

  /** The same when the owner is dead already: requests are told after everyone who watches it. */
  kill(error: Error): void {
    if (this.#goneWith(error)) queueMicrotask(() => this.#tellAll());
  }

  // What the channel calls.

  get stopped(): boolean {
    return this.#state === "gone";
  }

  take(bytes: Buffer, start: number, end: number): number {
    return codec.readFrames(bytes, start, end, this.#maxFrameBytes, this);
  }

  needs(bytes: Buffer, start: number, end: number): number {
    return codec.frameNeeds(bytes, start, end);
  }

  frame(id: number, kind: codec.Kind, bytes: Buffer, start: number, end: number): boolean {
    switch (kind) {
      case codec.data:
      case codec.error:
        this.#response(id, kind, bytes, start, end);
        break;
      case codec.ping:
        this.#pinged(id, bytes, start, end);
        break;
      case codec.pong:
        this.#ponged(bytes, start, end);
        break;
      case codec.goaway:
        this.drain();
        break;
      case codec.cancel:
        throw codec.protocolError("The server sent a cancel, which only a client may.");
    }
    return this.#state !== "gone" && this.#state !== "finishing";
  }

  ended(): void {
    this.#lose(
      new ConnectionLostError(`${this.#options.peer} closed the connection. Open a new one.`, { sent: "maybe" }),
    );
  }

  failed(error: Error): void {
    if (error instanceof FantaError) emit("fanta.protocolFailed", { side: "client", error });
    this.#lose(error);
  }

  drained(): void {
    // A busy connection has no such moment, so nothing here waits for one.
  }

  closed(): void {
    if (this.#state === "finishing") this.#goneWith(undefined);
    else this.ended(); // Does nothing when it is gone already.
    this.#tellAll();
    this.#owner.closed();
  }

  #response(id: number, kind: codec.Kind, bytes: Buffer, start: number, end: number): void {
    const request = this.#slots.free(id);
    if (request === undefined) {
      throw codec.protocolError(
        `The server answered the id ${id >>> 0}, which is not in flight or was answered before.`,
      );
    }
    request.id = 0;
    if (request.orphaned) {
      request.released(); // The late answer: nobody waits for it.
      return;
    }
    this.#deadlines.remove(request);
    this.#waitsNoMore();
    if (kind === codec.data) {
      let value: In;
      try {
        value = this.#codec.decode(bytes, start, end);
      } catch (thrown) {
        refuse(request, codecError("the response could not be decoded", thrown));
        return this.#finishIfDrained();
      }
      request.released();
      request.answered(value);
    } else refuse(request, new FantaError("ERR_FANTA_RESPONSE", bytes.toString("utf8", start, end)));
    this.#finishIfDrained();
  }

  #pinged(id: number, bytes: Buffer, start: number, end: number): void {
    if (this.#pongBatch <= this.#writer.handed) this.#pongBytes = 0;
    this.#pongBatch = this.#writer.batch;
    this.#pongBytes += codec.headerBytes + (end - start);
    if (this.#pongBytes > this.#maxFrameBytes + unreadPongBytes) {
      throw codec.protocolError("The server sends pings and does not read the pongs.");
    }
    sendBytes(this.#writer, id, codec.pong, bytes.subarray(start, end));
  }

  #ponged(bytes: Buffer, start: number, end: number): void {
    const [ping] = this.#pings;
    if (ping === undefined || !bytes.subarray(start, end).equals(ping.payload)) {
      throw codec.protocolError("The server sent a pong that answers no ping."); // The ping hears that, too.
    }
    this.#pings.shift();
    ping.answered(this.#options.runtime.now());
  }

  #waitsNoMore(): void {
    if (--this.#waiting === 0) this.#channel.socket.unref();
  }

  #finishIfDrained(): void {
    if (this.#waiting > 0 || this.#state !== "draining") return;
    this.#state = "finishing";
    this.#channel.socket.ref();
    this.#channel.finish();
    this.#finishTimer = this.#options.runtime.setTimer(() => this.#channel.destroy(), finishMs, { keepAlive: true });
  }

  #probeLine(): void {
    if (this.#probe !== undefined || this.#state === "gone" || this.#state === "finishing") return;
    const ping = new Ping(pingPayload());
    sendBytes(this.#writer, 0, codec.ping, ping.payload);
    this.#pings.push(ping);
    const heard = this.#channel.chunks;
    this.#probe = this.#options.runtime.setTimer(() => {
      this.#probe = undefined;
      if (heard !== this.#channel.chunks) return;
      const silence = `a request to ${this.#options.peer} timed out, and for ${probeMs} ms not even a pong has come`;
      this.#lose(new ConnectionLostError(`${silence}: the line is dead. Open a new connection.`, { sent: "maybe" }));
    }, probeMs);
  }

  #lose(error: Error): void {
    if (!this.#goneWith(error)) return;
    this.#owner.lost(error);
    this.#tellAll();
  }

  #goneWith(error: Error | undefined): boolean {
    if (this.#state === "gone") return false;
    this.#state = "gone";
    this.#why = error;
    this.#probe?.cancel();
    this.#finishTimer?.cancel();
    this.#channel.destroy();
    return true;
  }

  /** Everyone still in flight learns that the connection is gone. */
  #tellAll(): void {
    const { handed } = this.#writer;
    for (const request of this.#slots.takeAll()) {
      request.id = 0;
      if (request.orphaned) {
        request.released();
        continue;
      }
      this.#deadlines.remove(request);
      this.#waitsNoMore();
      const sent = request.batch > handed ? "no" : "maybe";
      request.released();
      request.lost(this.#requestError(sent), sent);
    }
    for (const ping of this.#pings.splice(0)) ping.fail(this.#lostError("maybe"));
  }

  #turnAway(request: FantaRequest<In>): void {
    request.released();
    request.lost(this.#lostError("no"), "no");
  }

  /** A peer that does not speak Fanta is named as such to those it may have misunderstood. */
  #requestError(sent: "no" | "maybe"): ConnectionLostError | FantaError {
    return sent === "maybe" && this.#why instanceof FantaError ? this.#why : this.#lostError(sent);
  }

  #lostError(sent: "no" | "maybe"): ConnectionLostError {
    const { peer } = this.#options;
    const cause = this.#why;
    const what =
      this.#state === "gone"
        ? `the connection to ${peer} is gone${sent === "no" ? "" : " before an answer came"}`
        : `the connection to ${peer} takes nothing new`;
    const remedy =
      sent === "no"
        ? "The request was not sent: make it again on another."
        : "The server may have done it: repeat only what may be done twice.";
    return new ConnectionLostError(`${what}. ${remedy}`, { sent, cause });
  }

  #tooLarge(): FantaError {
    const most = this.#maxFrameBytes - codec.overheadBytes;
    return new FantaError(
      "ERR_FANTA_TOO_LARGE",
      `the payload is larger than ${most} bytes (maxFrameBytes ${this.#maxFrameBytes} less ${codec.overheadBytes}). ` +
        `Nothing was sent. Send less, or raise maxFrameBytes on both sides.`,
    );
  }
}

function refuse(request: FantaRequest, error: FantaError): void {
  request.released();
  request.refused(error);
}

function busy(): FantaError {
  return new FantaError(
    "ERR_FANTA_BUSY",
    `${slotsMax} requests are in flight on this connection already. Nothing was sent. Wait for answers, or open more connections.`,
  );
}

interface Expiring extends Timed {
  expired(): void;
}

/** One list of deadlines, so one timer, for all connections of a runtime. */
const deadlines = new WeakMap<Runtime, Deadlines<Expiring>>();

function deadlinesOf(runtime: Runtime): Deadlines<Expiring> {
  let found = deadlines.get(runtime);
  if (found === undefined) {
    found = new Deadlines<Expiring>(runtime, (item) => item.expired(), { keepAlive: true });
    deadlines.set(runtime, found);
  }
  return found;
}
