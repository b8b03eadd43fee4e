/**
 * Small bugs, planted one at a time to see whether the simulation is awake.
 *
 * Each is an exact piece of text in `src`, what takes its place, and the scenario that must find it. A piece that is not
 * there exactly once is an error: then the code has moved on, and the bug must be planted anew. One that survives is a
 * check that is missing.
 */

import { routed } from "./routed.ts";

export interface Mutant {
  /** What is wrong with it, in a few words. */
  readonly name: string;
  /** In `src`. */
  readonly file: string;
  readonly before: string;
  readonly after: string;
  /** Who must find it. */
  readonly scenario: "registry" | "supervisor" | "connection" | "checkout" | "routing" | "fanta";
}

export const mutants: readonly Mutant[] = [
  {
    name: "the entries of the dead stay",
    file: "registry/registry.ts",
    before: "    for (const slot of slots) this.#takeFromBucket(slot);\n    return () => {",
    after: "    return () => {",
    scenario: "registry",
  },
  {
    name: "a look-up shows an old array after a registration",
    file: "registry/registry.ts",
    before: "      bucket.slots.add(slot);\n      bucket.shown = undefined;",
    after: "      bucket.slots.add(slot);",
    scenario: "registry",
  },
  {
    name: "an entry can be undone twice",
    file: "registry/registry.ts",
    before: 'if (!slot.gone) this.#take([slot], "asked");',
    after: 'this.#take([slot], "asked");',
    scenario: "registry",
  },
  {
    name: "a unique key is given to two",
    file: "registry/registry.ts",
    before: "if (this.#unique && bucket !== undefined) {",
    after: "if (this.#unique && bucket !== undefined && bucket.slots.size > 1) {",
    scenario: "registry",
  },
  {
    name: "one who gave up waiting for a lock stays in its line",
    file: "registry/lock.ts",
    before: "  refuse(error: unknown): void {\n    this.#leave();\n",
    after: "  refuse(error: unknown): void {\n",
    scenario: "registry",
  },
  {
    name: "a lock goes to the last in line",
    file: "registry/lock.ts",
    before: "line.waiters.get(line.called)?.grant();",
    after: "[...line.waiters.values()].at(-1)?.grant();",
    scenario: "registry",
  },
  {
    name: "a new listener hears of what was before it",
    file: "registry/registry.ts",
    before: "      if (subscription.since > number) continue;\n",
    after: "      void number;\n",
    scenario: "registry",
  },
  {
    name: "one who has left the line of a lock still listens to its signal",
    file: "registry/lock.ts",
    before: "    if (this.#signal !== undefined) unwatchAbort(this.#signal, this);\n",
    after: "",
    scenario: "registry",
  },
  {
    name: "a process that is stopping cannot be killed",
    file: "process/process.ts",
    before: "    if (!this.alive) return;\n    this.#killed = true;",
    after: '    if (!this.alive || this.#phase === "stopping") return;\n    this.#killed = true;',
    scenario: "supervisor",
  },
  {
    name: "an off-by-one in the restarts allowed",
    file: "supervisor/intensity.ts",
    before: "return this.#restarts.length <= this.#maxRestarts;",
    after: "return this.#restarts.length < this.#maxRestarts;",
    scenario: "supervisor",
  },
  {
    name: "the window of restarts is too long",
    file: "supervisor/intensity.ts",
    before: "now - at <= this.#windowMs",
    after: "now - at <= 2 * this.#windowMs",
    scenario: "supervisor",
  },
  {
    name: "one_for_all leaves the oldest alone",
    file: "supervisor/supervisor.ts",
    before: "return [...this.children];",
    after: "return this.children.slice(1);",
    scenario: "supervisor",
  },
  {
    name: "children are stopped in the order of their starts",
    file: "supervisor/supervisor.ts",
    before: "for (const child of this.children.toReversed()) await child.shutDown();",
    after: "for (const child of [...this.children]) await child.shutDown();",
    scenario: "supervisor",
  },
  {
    name: "a temporary child is not forgotten",
    file: "supervisor/supervisor.ts",
    before: '    if (child.spec.restart === "temporary") this.#forget(child);\n    if (!child.spec.significant',
    after: "    if (!child.spec.significant",
    scenario: "supervisor",
  },
  {
    name: "a transient child is restarted after a clean end",
    file: "supervisor/child.ts",
    before: '(this.spec.restart === "transient" && !isClean(reason))',
    after: 'this.spec.restart === "transient"',
    scenario: "supervisor",
  },
  {
    name: "the timer of a shutdown is not cleared",
    file: "supervisor/child.ts",
    before: "        timer?.cancel();\n        endVisit(inside);",
    after: "        endVisit(inside);",
    scenario: "supervisor",
  },
  {
    name: "what an abandoned start yields lives on",
    file: "supervisor/child.ts",
    before: "if (abandoned) discard(handle);",
    after: "if (abandoned) return;",
    scenario: "supervisor",
  },
  {
    name: "a supervisor that is killed leaves its children",
    file: "supervisor/supervisor.ts",
    before: "              for (const child of this.children.toReversed()) child.kill();\n",
    after: "",
    scenario: "supervisor",
  },
  {
    name: "all_significant ends at the first",
    file: "supervisor/supervisor.ts",
    before: 'if (autoShutdown === "any_significant" || !others) this.shutDownSelf();',
    after: "void others;\n    this.shutDownSelf();",
    scenario: "supervisor",
  },
  {
    name: "all_significant never ends",
    file: "supervisor/supervisor.ts",
    before: 'if (autoShutdown === "any_significant" || !others) this.shutDownSelf();',
    after: 'void others;\n    if (autoShutdown === "any_significant") this.shutDownSelf();',
    scenario: "supervisor",
  },
  {
    name: "any_significant waits for the last",
    file: "supervisor/supervisor.ts",
    before: 'if (autoShutdown === "any_significant" || !others) this.shutDownSelf();',
    after: "if (!others) this.shutDownSelf();",
    scenario: "supervisor",
  },
  {
    name: "a child has twenty times its shutdown to go",
    file: "supervisor/child.ts",
    before: "setTimer(() => process.kill(), shutdown, {",
    after: "setTimer(() => process.kill(), 20 * shutdown, {",
    scenario: "supervisor",
  },
  {
    name: "the wait before a retry is not short again after a good start",
    file: "supervisor/child.ts",
    before: "    this.last = process;\n    this.backoff = undefined;\n",
    after: "    this.last = process;\n",
    scenario: "supervisor",
  },
  {
    name: "a connection stays registered when its resource is lost",
    file: "connection/machine.ts",
    before: '        { do: "leave" }, // First: nobody may be sent there while we tell the others.\n',
    after: "",
    scenario: "connection",
  },
  {
    name: "a resource that comes late is not closed",
    file: "connection/machine.ts",
    before: '  return [state, [{ do: "dispose", resource: event.resource, reason: "normal" }]];',
    after: "  return [state, []];",
    scenario: "connection",
  },
  {
    name: "a resource is opened before its predecessor is closed",
    file: "connection/connection.ts",
    before: "        await this.place.closing;\n",
    after: "",
    scenario: "connection",
  },
  {
    name: "an old resource speaks for the new one",
    file: "connection/machine.ts",
    before:
      '      if (event.attempt !== attempt) return [state, []];\n      const reason = event.reason ?? new Error("the resource was lost");\n      const gone',
    after: '      const reason = event.reason ?? new Error("the resource was lost");\n      const gone',
    scenario: "connection",
  },
  {
    name: "a server that is down is tried again at once",
    file: "connection/machine.ts",
    before: "return memory.attemptedAt + memory.backoff.minMs;",
    after: "return memory.attemptedAt;",
    scenario: "connection",
  },
  {
    name: "a connection that drains does not wait for what is in flight",
    file: "connection/connection.ts",
    before: 'if (inFlight === 0) this.#post({ on: "quiet" });',
    after: 'if (inFlight >= 0) this.#post({ on: "quiet" });',
    scenario: "connection",
  },
  {
    name: "the timer of an opening is not cleared",
    file: "connection/connection.ts",
    before: '        timer.cancel();\n        this.#host.count("opened");',
    after: '        this.#host.count("opened");',
    scenario: "connection",
  },
  {
    name: "the resource of a draining connection that is killed is not closed",
    file: "connection/connection.ts",
    before: 'if (state.at === "connected" || state.at === "draining") this.#closeInPlace(state.resource, reason);',
    after: 'if (state.at === "connected") this.#closeInPlace(state.resource, reason);',
    scenario: "connection",
  },
  {
    name: "a close that fails is not told",
    file: "connection/connection.ts",
    before: 'emit("connection.closeFailed", { ...this.#named(), error: asError(thrown) });',
    after: "asError(thrown);",
    scenario: "connection",
  },
  {
    name: "a release skips the line",
    file: "checkout/lending.ts",
    before: "const ticket = this.line.size > 0 ? this.line.next() : undefined;",
    after: "const ticket = this.line.size > 1 ? this.line.next() : undefined;",
    scenario: "checkout",
  },
  {
    name: "the last to come is the first to be served",
    file: "pool/line.ts",
    before: "this.#enter(waiter, level, level.last, undefined, now, waitMs);\n    return true;",
    after: "this.#enter(waiter, level, undefined, level.first, now, waitMs);\n    return true;",
    scenario: "checkout",
  },
  {
    name: "a lease is good twice",
    file: "checkout/lease.ts",
    before: "      this.#unit = undefined;\n      this.#cut();\n    } else if",
    after: "      return unit;\n    } else if",
    scenario: "checkout",
  },
  {
    name: "a lease granted to one who has left is lost",
    file: "checkout/pool.ts",
    before: "        lease[Symbol.dispose]();\n        throw signal.reason;",
    after: "        throw signal.reason;",
    scenario: "checkout",
  },
  {
    name: "a resource whose check has failed is lent",
    file: "checkout/lending.ts",
    before: "    if (!good) {\n      this.#leave(unit);\n      return;\n    }\n    unit.goodAt = now;",
    after: "    void good;\n    unit.goodAt = now;",
    scenario: "checkout",
  },
  {
    name: "a resource is lent while it is being pinged",
    file: "checkout/lending.ts",
    before: "    this.idle.take(unit);\n    this.#pinging++;",
    after: "    this.#pinging++;",
    scenario: "checkout",
  },
  {
    name: "a lease on a lost resource counts as in force",
    file: "checkout/lending.ts",
    before: "// The whole pool was killed.\n    this.#endLease(unit, false);",
    after: "// The whole pool was killed.",
    scenario: "checkout",
  },
  {
    name: "a caller who aborts its work is not told",
    file: "checkout/use.ts",
    before: "if (theirs !== undefined) watchAbort(theirs, this);",
    after: "",
    scenario: "checkout",
  },
  {
    name: "nobody in line ever times out",
    file: "pool/line.ts",
    before: "    this.#deadlines.add(waiter, now, waitMs);\n",
    after: "    void waitMs;\n",
    scenario: "checkout",
  },
  {
    name: "the timer of a check is not cleared",
    file: "checkout/errand.ts",
    before: "    this.#timer.cancel();\n",
    after: "",
    scenario: "checkout",
  },
  {
    name: "the end of a pool leaves leases in force",
    file: "checkout/lending.ts",
    before: "      lease.end(error);\n",
    after: "",
    scenario: "checkout",
  },
  {
    name: "a connection may have one request more than maxInFlight",
    file: "fanta/session.ts",
    before: "if (this.#working.size >= this.#options.maxInFlight) {",
    after: "if (this.#working.size > this.#options.maxInFlight) {",
    scenario: "fanta",
  },
  {
    name: "a connection may have one request less than maxInFlight",
    file: "fanta/session.ts",
    before: "if (this.#working.size >= this.#options.maxInFlight) {",
    after: "if (this.#working.size + 1 >= this.#options.maxInFlight) {",
    scenario: "fanta",
  },
  {
    name: "a request of the pool that is over listens to its signal",
    file: "fanta/pool.ts",
    before: "    if (this.#options?.signal !== undefined) unwatchAbort(this.#options.signal, this);\n",
    after: "",
    scenario: "fanta",
  },
  {
    name: "a server that closes tells nobody",
    file: "fanta/server.ts",
    before: "          for (const session of this.#sessions) session.goaway();\n",
    after: "",
    scenario: "fanta",
  },
  {
    name: "an id is given out again at once, as it was",
    file: "multiplex/slots.ts",
    before: "    const next = (id + generation) | 0;\n",
    after:
      "    const next = id;\n    this.#after[slot] = this.#first;\n    this.#first = slot;\n    this.#size--;\n    if (this.#size >= 0) return item;\n",
    scenario: "fanta",
  },
  {
    name: "a buffer is used again before it is written",
    file: "multiplex/writer.ts",
    before: "    this.#underBuffers.push(bytes);\n",
    after: "    recycle(bytes);\n",
    scenario: "fanta",
  },
  ...routed,
];
