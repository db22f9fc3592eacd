import { expandSources, isPattern, type ExpandOptions } from '../storage/expand-sources.ts';
import { assertInsideRoots, resolveLocation } from '../storage/location.ts';

/**
 * A location of a request as a URL. Throws `InputError` unless it lies under one of the roots (no roots: anywhere);
 * `what` names it in the message.
 */
export async function allowedLocation(
  location: string,
  roots: readonly string[],
  what: string,
): Promise<string> {
  const url = resolveLocation(location);
  if (roots.length > 0) await assertInsideRoots(url, roots, what);
  return url.href;
}

/**
 * The same for a source: a pattern, or a location that ends in a slash, becomes the recordings that lie there now;
 * none is an `InputError`. A single location is not looked up: whether it is there shows when it is converted.
 */
export async function allowedSources(
  location: string,
  roots: readonly string[],
  options: Pick<ExpandOptions, 'metrics' | 's3' | 'signal'>,
): Promise<string | readonly string[]> {
  if (!isPattern(location)) return allowedLocation(location, roots, 'source');
  const found = await expandSources([location], {
    ...options,
    roots,
    check: async (base) => {
      if (roots.length > 0) await assertInsideRoots(base, roots, 'source');
    },
  });
  return found.map(({ url }) => url);
}
