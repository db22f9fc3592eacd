import { InputError } from '../errors.ts';
import { namesOf } from '../frame/joint-names.ts';

/** More publishers than this do not share a topic. */
const MOST = 16;

/**
 * Finds out whether several publishers share a joint topic (an arm and a gripper, say): gathers the first messages that
 * name none of the joints named before.
 */
export class OtherNames {
  readonly found: unknown[] = [];
  readonly #known: Set<string>;

  constructor(first: unknown) {
    this.#known = new Set(namesOf(first)?.names);
  }

  /** Whether the first message names joints at all. */
  get possible(): boolean {
    return this.#known.size > 0;
  }

  /** Looks at one message; one that does not decode tells nothing. */
  add(decode: () => unknown): void {
    if (this.found.length >= MOST) return;
    try {
      const decoded = decode();
      const names = namesOf(decoded)?.names ?? [];
      if (names.length === 0 || names.some((name) => this.#known.has(name))) return;
      this.found.push(decoded);
      for (const name of names) this.#known.add(name);
    } catch (thrown) {
      if (!(thrown instanceof InputError)) throw thrown;
    }
  }
}
