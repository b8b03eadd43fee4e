/**
 * The table of gates: every hook that a pool waits for, in every manner in which it can go, under every way in which a
 * caller can go. From it come the tests, and their sentences.
 *
 * A test is one manner of each of the first two hooks and one way of the callers; the other hooks take all their manners
 * within it. All of it is in virtual time, and each pool ends on the invariants of the whole (`Scene.finish`).
 */

import { describe, expect, test } from "vitest";

/** How a hook goes. `slow` is longer than a caller with little time waits, and shorter than any limit of the pool's. */
export const manners = ["ok", "fails", "slow", "never"] as const;
export type Manner = (typeof manners)[number];

/** What callers do: wait as long as it takes, abort, allow little time, or see their pool closed. */
const ways = ["stays", "aborts", "timesOut", "closes"] as const;
export type Way = (typeof ways)[number];

export type Setting<Hook extends string> = Readonly<Record<Hook, Manner>> & { readonly way: Way };

/** What became of those who called. */
export interface Played {
  /** `"ok"`, or the code of the error (else its message), of each call. */
  readonly outcomes: readonly string[];
  /** What each may be told. */
  readonly allowed: readonly string[];
  /** The only outcome, where it is certain. */
  readonly certain?: string | undefined;
}

const goes: Record<Manner, string> = { ok: "does well", fails: "fails", slow: "takes its time", never: "never ends" };
const callers: Record<Way, string> = {
  stays: "callers who stay",
  aborts: "callers who abort",
  timesOut: "callers with little time",
  closes: "the callers of a pool that closes",
};

/** Makes the tests of one subject, which has at least one hook. */
export function gates<Hook extends string>(
  subject: string,
  hooks: readonly Hook[],
  play: (setting: Setting<Hook>) => Promise<Played>,
): void {
  const [outer, inner] = [hooks.slice(0, 2), hooks.slice(2)];
  let played = 0;
  describe(subject, () => {
    for (const named of combinations(outer)) {
      const whose = outer.map((hook) => `whose ${hook} ${goes[named[hook]]}`).join(" and ");
      for (const way of ways) {
        test(`${whose} keeps its counts, and answers ${callers[way]}`, async () => {
          for (const others of combinations(inner)) {
            const setting: Setting<Hook> = { ...named, ...others, way };
            judge(setting, await play(setting));
            played++;
          }
        });
      }
    }
    test("has been tried in all combinations", () => expect(played).toBe(manners.length ** hooks.length * ways.length));
  });
}

function judge(setting: object, { outcomes, allowed, certain }: Played): void {
  const told = [...new Set(outcomes)];
  const which = JSON.stringify(setting);
  expect(told.length, which).toBeGreaterThan(0);
  expect(
    told.filter((outcome) => !allowed.includes(outcome)),
    which,
  ).toEqual([]);
  if (certain !== undefined) expect(told, which).toEqual([certain]);
}

/** Each hook in each manner, with each manner of the others. */
function combinations<Hook extends string>(hooks: readonly Hook[]): Readonly<Record<Hook, Manner>>[] {
  const [hook, ...rest] = hooks;
  if (hook === undefined) return [{} as Record<Hook, Manner>];
  return manners.flatMap((manner) =>
    combinations(rest).map((others) => ({ ...others, [hook]: manner }) as Record<Hook, Manner>),
  );
}
