/**
 * A source of endpoints that says what it is told to, and the model of what a pool believes of it.
 */

import type { Endpoint } from "../../../src/index.ts";

/** What a source may say. Plain: it is part of a command. */
export type Saying = "some" | "the same" | "none" | "nonsense";

const nonsense: readonly unknown[] = [null, "a", [{ id: "" }], [{ id: "a", weight: 0 }], [null], [{ weight: 1 }]];

export class Source implements AsyncIterable<readonly Endpoint[]> {
  /** What the pool has been told last that can be true. It believes an empty set only after a while. */
  believed: readonly Endpoint[] = [];
  over = false;
  readonly #said: unknown[] = [];
  #wake: (() => void) | undefined;
  #end: "ends" | "fails" | undefined;

  say(saying: Saying, some: readonly Endpoint[], which: number): void {
    if (this.over) return;
    if (saying === "nonsense") {
      this.#push(nonsense[which % nonsense.length]);
      return;
    }
    if (saying !== "the same") this.believed = saying === "none" ? [] : some;
    // Somebody may stand in the list twice.
    this.#push(which % 3 === 0 ? [...this.believed, ...this.believed] : this.believed);
  }

  end(how: "ends" | "fails"): void {
    this.over = true;
    this.#end = how;
    this.#wake?.();
  }

  [Symbol.asyncIterator](): AsyncIterator<readonly Endpoint[]> {
    return {
      next: async () => {
        while (this.#said.length === 0 && this.#end === undefined) {
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
        }
        if (this.#said.length > 0) return { done: false, value: this.#said.shift() as readonly Endpoint[] };
        if (this.#end === "fails") throw new Error("the source is broken");
        return { done: true, value: undefined };
      },
      return: () => {
        this.over = true;
        return Promise.reject(new Error("the source does not want to end"));
      },
    };
  }

  #push(said: unknown): void {
    this.#said.push(said);
    this.#wake?.();
  }
}
