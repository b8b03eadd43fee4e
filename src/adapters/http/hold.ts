/**
 * What a stranger is given to hold, where it may never let go.
 *
 * `fetch` keeps what it was given to abort and to resume a response with long after its end: until a full collection. So
 * what it is given points to a hold, and the hold to us until we let go.
 *
 * A class, and no literal: of what literals make V8 notes how long it lives, and would soon put each hold, and whatever
 * it points to, where only a full collection frees it.
 */
export class Hold<T> {
  on: T | undefined;

  constructor(on: T) {
    this.on = on;
  }

  release(): void {
    this.on = undefined;
  }
}
