/** Callers who know the right answer, and count what they were told. */

import { expect } from "vitest";
import { PoolwardenError } from "../../src/errors.ts";

export interface Tally {
  readonly asked: number;
  readonly ok: number;
  readonly wrong: readonly string[];
  /** How often each error came, by its code. */
  readonly failed: Readonly<Record<string, number>>;
}

/**
 * So many requests, a number of them at a time.
 *
 * @param ask Resolves with the answer, which must be the same text.
 * @param at What happens when so many have been answered. Waits are the callers' too.
 */
export async function traffic(
  requests: number,
  ask: (text: string, nth: number) => Promise<string>,
  at: Readonly<Record<number, () => unknown>> = {},
): Promise<Tally> {
  const failed: Record<string, number> = {};
  const wrong: string[] = [];
  let [asked, ok, done] = [0, 0, 0];
  const caller = async (): Promise<void> => {
    while (asked < requests) {
      const nth = asked++;
      const text = `request ${nth} `.padEnd(20 + (nth % 80), "poolwarden ");
      try {
        const answer = await ask(text, nth);
        if (answer === text) ok++;
        else wrong.push(answer);
      } catch (error) {
        expect(error, "errors are typed").toBeInstanceOf(PoolwardenError);
        const { code } = error as PoolwardenError;
        failed[code] = (failed[code] ?? 0) + 1;
      }
      await at[++done]?.();
    }
  };
  await Promise.all(Array.from({ length: 20 }, caller));
  return { asked, ok, wrong, failed };
}

/** Every one was answered in some way. */
export function settled({ asked, ok, wrong, failed }: Tally): boolean {
  return asked === ok + wrong.length + Object.values(failed).reduce((sum, each) => sum + each, 0);
}
