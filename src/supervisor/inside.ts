/**
 * Who is inside whose start or stop.
 *
 * A child that calls its own supervisor while that supervisor waits for it would hang: on the BEAM the call times out,
 * here it would wait for ever. So each start and stop runs inside a visit, carried by `AsyncLocalStorage`, and a
 * supervisor refuses calls from inside a visit of its own (or of one further out). The mark ends when the start or
 * stop settles: handlers that the child set up there may call later.
 *
 * A visit also knows the supervisors that were started within it. When it is given up (the outer supervisor stops and
 * waits no longer), they are killed, and no more can be started in it: they would run for ever, and nobody knows of
 * them yet. So start what is shared before, and not by the way in the start of a child.
 *
 * Up to Node 22 the first `AsyncLocalStorage` that is run costs the whole program something for good, also when it is
 * switched off again: V8 gives up compiling promises away (its "PromiseHook" protector; 500 bytes more a `fetch`). The
 * children that pools have of their own (`ownStart`) call no supervisor that waits for them, so nobody need know that
 * code runs inside their visits; and their starts settle soon, so what was started in vain is killed soon enough then. A
 * program whose supervisors are its pools' keeps its promises as they were.
 */

import { Carried } from "../runtime/index.ts";

export interface Visit {
  readonly of: { stoppedError(): Error };
  /** The one further out that was not over when this one began. */
  readonly outer: Visit | undefined;
  at: "under way" | "over" | "abandoned";
  /** How to kill what was started within it. */
  readonly born: Set<() => void>;
  /** Whether it is carried along the async context. */
  readonly carried: boolean;
}

const visits = new Carried<Visit>();

const ownStarts = new WeakSet<object>();

/** Marks the start function of a child that calls no supervisor that waits for it, and whose start soon settles. */
export function ownStart<F extends object>(start: F): F {
  ownStarts.add(start);
  return start;
}

export function isOwnStart(start: object): boolean {
  return ownStarts.has(start);
}

/** Runs `act` as a visit of `of`. End it with `endVisit`, once, when what it started has settled. */
export function visit<T>(of: Visit["of"], act: (visit: Visit) => T): { visit: Visit; result: T } {
  const visit = newVisit(of, true);
  return { visit, result: visits.run(visit, () => act(visit)) };
}

/** The same for a child of our own: nobody in it is seen to be inside. */
export function ownVisit<T>(of: Visit["of"], act: (visit: Visit) => T): { visit: Visit; result: T } {
  const visit = newVisit(of, false);
  return { visit, result: act(visit) };
}

function newVisit(of: Visit["of"], carried: boolean): Visit {
  return { of, outer: currentVisit(), at: "under way", born: new Set(), carried };
}

export function endVisit(visit: Visit): void {
  visit.at = "over";
  visit.born.clear();
  if (visit.carried) visits.end();
}

/** Gives up a visit nobody waits for any more, and what was started within it. */
export function abandonVisit(visit: Visit): void {
  visit.at = "abandoned";
  for (const kill of visit.born) kill();
  visit.born.clear();
}

/** The innermost visit we are in that is not over. */
export function currentVisit(): Visit | undefined {
  let visit = visits.get();
  while (visit?.at === "over") visit = visit.outer;
  return visit;
}

/** Whether we are inside a start or stop that `of` waits for. */
export function isInside(of: Visit["of"]): boolean {
  for (let visit = currentVisit(); visit !== undefined; visit = visit.outer) {
    if (visit.at === "under way" && visit.of === of) return true;
  }
  return false;
}
