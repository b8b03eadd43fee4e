/**
 * The way in: chunks in, whole frames out.
 *
 * A socket cuts its stream where it likes. As long as a chunk holds whole frames they are read where they lie. Only the
 * frame that a chunk breaks off is put together in a buffer of its own, and only it: the frames behind it are read
 * from the chunk again. That buffer grows with what has really come, at most fourfold, so a peer that announces a huge
 * frame and sends nothing costs nothing, and a frame in a thousand pieces is copied about once, not a thousand times.
 *
 * What a frame is, its `Frames` know. They may stop in the middle of a chunk; the rest is kept for `resume`.
 */

export interface Frames {
  /**
   * Handles the whole frames in `bytes` from `start` to `end`, in order, and returns where it stopped: at `end`, at the
   * beginning of a frame that is not whole, or anywhere after `stopped` became true. What it throws ends the reading.
   * The bytes are only lent: they are overwritten after the call.
   */
  take(bytes: Buffer, start: number, end: number): number;
  /**
   * How many bytes must be there before `take` can tell more of the frame that begins at `start`: those of its header,
   * then all of it. `take` is called as soon as they are.
   */
  needs(bytes: Buffer, start: number, end: number): number;
  /** True when no more frames are wanted for now. */
  readonly stopped: boolean;
}

/** The least that is set aside for a broken frame. Most are smaller. */
const leastBytes = 1_024;

export class Reader {
  readonly #frames: Frames;
  /** What has come of a frame that is not whole, or was not wanted yet. */
  #rest: Buffer | undefined;
  #have = 0;

  constructor(frames: Frames) {
    this.#frames = frames;
  }

  /** Bytes kept until more come. */
  get keptBytes(): number {
    return this.#have;
  }

  /** Takes the first `end` bytes of a chunk. The chunk can be used again afterwards. */
  push(chunk: Buffer, end: number): void {
    let at = 0;
    if (this.#rest !== undefined) at = this.#complete(chunk, end);
    if (at === end) return;
    if (!this.#frames.stopped) at = this.#frames.take(chunk, at, end);
    if (at < end) this.#keep(chunk, at, end);
  }

  /** Goes on with what was kept when the frames stopped. */
  resume(): void {
    const rest = this.#rest;
    if (rest === undefined) return;
    const end = this.#have;
    this.#rest = undefined;
    this.#have = 0;
    this.push(rest, end);
  }

  /** Fills up the broken frame, and handles it once it is whole. Returns where the chunk goes on. */
  #complete(chunk: Buffer, end: number): number {
    let at = 0;
    while (at < end && this.#rest !== undefined && !this.#frames.stopped) {
      const needs = this.#frames.needs(this.#rest, 0, this.#have);
      const to = Math.max(at, Math.min(at + needs - this.#have, end));
      this.#append(chunk, at, to, needs);
      at = to;
      if (this.#have < needs) return end;
      this.#takeRest();
    }
    // Nobody wants frames now. What comes meanwhile stands behind what is kept.
    if (at < end && this.#rest !== undefined) {
      this.#append(chunk, at, end, 0);
      at = end;
    }
    return at;
  }

  /** Nothing is taken when the header has become whole and says that the frame is longer. */
  #takeRest(): void {
    const rest = this.#rest as Buffer;
    const end = this.#have;
    const stop = this.#frames.take(rest, 0, end);
    if (stop === 0) return;
    this.#rest = undefined;
    this.#have = 0;
    if (stop < end) this.#keep(rest, stop, end);
  }

  #keep(bytes: Buffer, start: number, end: number): void {
    this.#append(bytes, start, end, this.#frames.stopped ? 0 : this.#frames.needs(bytes, start, end));
  }

  #append(bytes: Buffer, start: number, end: number, needs: number): void {
    const have = this.#have + (end - start);
    let rest = this.#rest;
    if (rest === undefined || rest.length < have) {
      const larger = Buffer.allocUnsafeSlow(Math.max(have, Math.min(needs, 4 * have), leastBytes));
      rest?.copy(larger, 0, 0, this.#have);
      this.#rest = larger;
      rest = larger;
    }
    bytes.copy(rest, this.#have, start, end);
    this.#have = have;
  }
}
