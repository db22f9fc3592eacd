import { toError } from './errors.ts';

/** Gives back one acquired resource. */
export type Releaser = () => void | Promise<void>;

/**
 * Runs `work`, then gives back what it acquired in reverse order, whatever happened.
 * The first error wins: that of `work`, else that of the first releaser that failed; the others still run.
 */
export async function withReleasers<T>(
  work: (release: (releaser: Releaser) => void) => Promise<T>,
): Promise<T> {
  const releasers: Releaser[] = [];
  let outcome: { value: T } | { error: Error };
  try {
    outcome = { value: await work((releaser) => releasers.push(releaser)) };
  } catch (thrown) {
    outcome = { error: toError(thrown) };
  }
  for (const releaser of releasers.toReversed()) {
    try {
      await releaser();
    } catch (thrown) {
      if ('value' in outcome) outcome = { error: toError(thrown) };
    }
  }
  if ('error' in outcome) throw outcome.error;
  return outcome.value;
}
