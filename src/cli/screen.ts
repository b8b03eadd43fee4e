/**
 * What the demo says while it runs: lines that stay, and below them one that is written over.
 *
 * The last is for terminals only. It is cut to their width, since a line that wraps cannot be written over.
 */

/** Standard output, or what stands for it. */
export interface Output {
  readonly isTTY?: boolean;
  readonly columns?: number;
  /** False, too, for whoever has set NO_COLOR. */
  hasColors?(): boolean;
  write(text: string): unknown;
}

const clearLine = "\r\u001b[2K";

export class Screen {
  readonly #out: Output;
  readonly #quiet: boolean;
  /** Whether the cursor can go back. */
  readonly #terminal: boolean;
  #live = false;

  constructor(out: Output, options: { quiet?: boolean; term?: string | undefined } = {}) {
    this.#out = out;
    this.#quiet = options.quiet === true;
    this.#terminal = out.isTTY === true && options.term !== "dumb";
  }

  /** Says something that stays. `title` is in bold where that can be. */
  say(title: string, text: string): void {
    if (this.#quiet) return;
    this.clear();
    const bold = title !== "" && this.#terminal && this.#out.hasColors?.() === true;
    this.#out.write(`${bold ? `\u001b[1m${title}\u001b[22m` : title}${text}\n`);
  }

  /** Shows a line in place of the last. */
  show(line: string): void {
    if (this.#quiet || !this.#terminal) return;
    // One column is left free: in some terminals the cursor leaves the line with the last one.
    const room = (this.#out.columns || 80) - 1;
    this.#out.write(clearLine + (line.length > room ? `${line.slice(0, Math.max(0, room - 1))}…` : line));
    this.#live = true;
  }

  /** Takes the line away. */
  clear(): void {
    if (this.#live) this.#out.write(clearLine);
    this.#live = false;
  }
}
