import type { Check } from './types.ts';

/** What a check says that was never examined; it fails. */
export const NOT_EXAMINED = 'could not be examined: what it needs is missing or damaged';

/** Faults kept in words for one check; the rest is counted. */
const SHOWN = 3;

/**
 * The statements of a verification. Each is examined, and then holds unless a fault was found; one that was never
 * examined fails, so that nothing passes because something else was missing.
 */
export class CheckList<Id extends string> {
  readonly #statements: Readonly<Record<Id, string>>;
  readonly #examined = new Set<Id>();
  readonly #faults = new Map<Id, { shown: string[]; count: number }>();
  readonly #skipped = new Map<Id, string>();

  /** @param statements what holds, by check id, in the order of the report */
  constructor(statements: Readonly<Record<Id, string>>) {
    this.#statements = statements;
  }

  /** Says that checks are examined, whether or not there is anything to find fault with. */
  examine(...ids: Id[]): void {
    for (const id of ids) this.#examined.add(id);
  }

  /** Says why checks do not apply to this dataset; they hold. */
  skip(reason: string, ...ids: Id[]): void {
    for (const id of ids) this.#skipped.set(id, reason);
  }

  /** Examines a check: records `fault` unless it holds. */
  expect(id: Id, holds: boolean, fault: () => string): void {
    this.#examined.add(id);
    if (!holds) this.fault(id, fault());
  }

  fault(id: Id, message: string): void {
    this.#examined.add(id);
    const faults = this.#faults.get(id) ?? { shown: [], count: 0 };
    this.#faults.set(id, faults);
    faults.count += 1;
    if (faults.shown.length < SHOWN) faults.shown.push(message);
  }

  /** The report, one entry a statement. */
  get checks(): Check[] {
    return (Object.keys(this.#statements) as Id[]).map((id) => {
      const faults = this.#faults.get(id);
      if (faults) {
        const more =
          faults.count > faults.shown.length ? `; and ${faults.count - faults.shown.length} more` : '';
        return { id, ok: false, message: faults.shown.join('; ') + more };
      }
      const skipped = this.#skipped.get(id);
      if (skipped !== undefined) return { id, ok: true, message: `does not apply: ${skipped}` };
      if (!this.#examined.has(id)) {
        return { id, ok: false, message: NOT_EXAMINED };
      }
      return { id, ok: true, message: this.#statements[id] };
    });
  }
}
