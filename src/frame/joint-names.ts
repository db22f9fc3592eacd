import { InputError } from '../errors.ts';
import { describe, isArrayValue, isRecord } from './field-path.ts';
import { hint } from './faults.ts';

/** Fields in which messages list the names of their joints (JointState; trajectories; custom types). */
const nameFields = ['name', 'joint_names', 'names', 'joint_name'] as const;

/** The field with the joint names of a message and its texts; undefined when there is none. */
export function namesOf(message: unknown): { field: string; names: readonly string[] } | undefined {
  if (!isRecord(message)) return undefined;
  for (const field of nameFields) {
    const names = message[field];
    if (Array.isArray(names) && names.every((name) => typeof name === 'string')) return { field, names };
  }
  return undefined;
}

/**
 * Where the wanted joints are in a message, by name. The answer is kept while the names stay the same, so a message
 * costs one comparison; a message that lists them in another order is put right, one that misses a joint is refused.
 */
export class JointOrder {
  private readonly where: string;
  private readonly field: string;
  private readonly wanted: readonly string[];
  private readonly shared: boolean;
  private known: readonly string[] = [];
  private positions: readonly number[] = [];

  /** `shared`: several publishers send on the topic, each about joints of its own. */
  constructor(where: string, field: string, wanted: readonly string[], shared = false) {
    this.where = where;
    this.field = field;
    this.wanted = wanted;
    this.shared = shared;
  }

  /** Number of names in the message that was read last: the length its value arrays must have. */
  get length(): number {
    return this.known.length;
  }

  /**
   * Index in the message of every wanted joint, in the wanted order; undefined when it names other joints only and the
   * topic is shared.
   */
  of(message: unknown): readonly number[] | undefined {
    const names = isRecord(message) ? message[this.field] : undefined;
    if (!isArrayValue(names)) {
      throw new InputError(
        `${this.where}: expected joint names in '${this.field}', found ${describe(names)}`,
      );
    }
    if (!sameNames(names, this.known)) {
      const texts = Array.from(names, String);
      if (this.shared && texts.length > 0 && !this.wanted.some((name) => texts.includes(name)))
        return undefined;
      const faults = missingJoints(this.wanted, texts);
      if (faults.length > 0) throw new InputError(`${this.where}: ${faults.join('; ')}`);
      this.positions = this.wanted.map((name) => texts.indexOf(name));
      this.known = texts;
    }
    return this.positions;
  }
}

/** One sentence for each wanted joint that a message does not name exactly once. */
export function missingJoints(wanted: readonly string[], names: readonly string[]): string[] {
  return wanted.flatMap((name) => {
    const times = names.filter((other) => other === name).length;
    if (times === 1) return [];
    return times === 0
      ? [`joint '${name}' is not in the message${hint(name, names)}`]
      : [`joint '${name}' is in the message ${times} times`];
  });
}

function sameNames(names: ArrayLike<unknown>, known: readonly string[]): boolean {
  if (names.length !== known.length || known.length === 0) return false;
  for (let i = 0; i < known.length; i++) if (names[i] !== known[i]) return false;
  return true;
}
