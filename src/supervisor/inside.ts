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
 * children that pools have of their own (`ownStart`) call no supervisor that waits for them, so their visits are seen
 * only in the step in which they begin, by the supervisor that is started there; and a program whose supervisors are its
 * pools' keeps its promises as they were.
 */

import { Carried } from "../runtime/index.ts";

export interface Visit {
  readonly of: { stoppedError(): Error };
  /** The one further out that was not over when this one began. */
  readonly outer: Visit | undefined;
  at: "under way" | "over" | "abandoned";
  /** How to kill what was started within it. */
  readonly born: Set<() => void>;
  /** Whether it is of a child of our own, and carried no further than the step in which it begins. */
  readonly own: boolean;
}

const visits = new Carried<Visit>();

/** The visit of a child of our own whose first step this is. */
let stepping: Visit | undefined;

const ownStarts = new WeakSet<object>();

/** Marks the start function of a child that calls no supervisor that waits for it, be it in its start or in its stop. */
export function ownStart<F extends object>(start: F): F {
  ownStarts.add(start);
  return start;
}

export function isOwnStart(start: object): boolean {
  return ownStarts.has(start);
}

/** Runs `act` as a visit of `of`. End it with `endVisit`, once, when what it started has settled. */
export function visit<T>(of: Visit["of"], act: (visit: Visit) => T, own: boolean = false): { visit: Visit; result: T } {
  const visit: Visit = { of, outer: currentVisit(), at: "under way", born: new Set(), own };
  const before = stepping;
  stepping = own ? visit : undefined;
  try {
    return { visit, result: own ? act(visit) : visits.run(visit, () => act(visit)) };
  } finally {
    stepping = before;
  }
}

export function endVisit(visit: Visit): void {
  visit.at = "over";
  visit.born.clear();
  if (!visit.own) visits.end();
}

/** Gives up a visit nobody waits for any more, and what was started within it. */
export function abandonVisit(visit: Visit): void {
  visit.at = "abandoned";
  for (const kill of visit.born) kill();
  visit.born.clear();
}

/** The innermost visit we are in that is not over. */
export function currentVisit(): Visit | undefined {
  let visit = stepping ?? visits.get();
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
