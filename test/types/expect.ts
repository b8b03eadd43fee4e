/**
 * Claims about types, for the compiler to check. A file of these has no tests to run: `npm run typecheck` compiles it,
 * against the built declarations, as a user's editor would. What must be refused stands under `@ts-expect-error`, which
 * is an error itself when it is not.
 */

/** The same type, and not only one that fits. */
export type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;

/** Takes nothing but `true`. */
export function claim<_Claim extends true>(): void {
  // The compiler has done it.
}
