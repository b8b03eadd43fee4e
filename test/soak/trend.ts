/**
 * Whether something grows.
 *
 * A leak is a trend, not a value: heaps breathe, and one sample says nothing. So each gauge is read at rest, many times,
 * and the slope of the second half is judged (the first warms up: code is compiled, caches fill). The slope is Theil and
 * Sen's: the median of the slopes between all pairs, which a few odd samples cannot bend.
 *
 * After Theil, "A rank-invariant method of linear and polynomial regression analysis" (1950), and Sen (1968).
 */

/** The median slope between all pairs of samples, a step. Of fewer than two it is 0. */
export function slopeOf(samples: readonly number[]): number {
  const slopes: number[] = [];
  for (let from = 0; from < samples.length; from++) {
    for (let to = from + 1; to < samples.length; to++) {
      slopes.push(((samples[to] as number) - (samples[from] as number)) / (to - from));
    }
  }
  slopes.sort((a, b) => a - b);
  const middle = slopes.length / 2;
  if (slopes.length === 0) return 0;
  return ((slopes[Math.ceil(middle) - 1] as number) + (slopes[Math.floor(middle)] as number)) / 2;
}

/** By how much the samples grow over their second half. */
export function growthOf(samples: readonly number[]): number {
  const second = samples.slice(Math.floor(samples.length / 2));
  return slopeOf(second) * (second.length - 1);
}
