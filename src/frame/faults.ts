import { distance } from 'fastest-levenshtein';
import { InputError } from '../errors.ts';

/** One `InputError` for everything found wrong with one thing: a sentence when it is one fault, else a list. */
export function refusal(what: string, faults: readonly string[], options?: { cause?: unknown }): InputError {
  const [only] = faults;
  const text =
    faults.length === 1
      ? `${what}: ${only}`
      : `${what}: ${faults.length} faults\n${faults.map((fault) => `- ${fault}`).join('\n')}`;
  return new InputError(text, options);
}

/** Longer than any name that somebody mistyped, and more than anybody would choose from. */
const LONGEST_NAME = 200;
const MOST_NAMES = 1000;

/**
 * Up to `limit` of the known names that are closest to the wanted one, closest first; far ones are left out, and those
 * that take too long to compare.
 */
export function nearestNames(wanted: string, known: Iterable<string>, limit = 3): string[] {
  if (wanted.length > LONGEST_NAME) return [];
  const low = wanted.toLowerCase();
  return [...known]
    .slice(0, MOST_NAMES)
    .filter((name) => name.length <= LONGEST_NAME)
    .map((name) => ({ name, far: distanceOf(low, name.toLowerCase()) }))
    .filter(({ name, far }) => far <= Math.ceil(Math.max(wanted.length, name.length) * 0.5))
    .toSorted((a, b) => a.far - b.far || (a.name < b.name ? -1 : 1))
    .slice(0, limit)
    .map(({ name }) => name);
}

/** A name that contains the other counts as close: people leave namespaces out. */
function distanceOf(a: string, b: string): number {
  const between = distance(a, b);
  if (a.length >= 3 && b.includes(a)) return Math.min(between, 1);
  return b.length >= 3 && a.includes(b) ? Math.min(between, 2) : between;
}

/** `; nearest: a, b` for the end of a message, or what there is when nothing is near, or '' when there is nothing. */
export function hint(wanted: string, known: Iterable<string>): string {
  const all = [...known];
  const near = nearestNames(wanted, all);
  if (near.length > 0) return `; nearest: ${near.join(', ')}`;
  if (all.length === 0) return '';
  return `; there is: ${all.slice(0, 12).join(', ')}${all.length > 12 ? `, and ${all.length - 12} more` : ''}`;
}
