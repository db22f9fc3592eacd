import { InputError } from '../errors.ts';
import { isArrayValue, isRecord, valueAt, type Place } from './field-path.ts';
import { JointOrder, namesOf } from './joint-names.ts';

type Steps = readonly (string | number)[];

/** Reads one place of a decoded message. */
type PlaceReader = (decoded: unknown) => unknown;

/** Fields in which an element of an array says its own name. */
const ownNames = ['name', 'joint_name', 'child_frame_id'] as const;

/**
 * Reads one place of the messages that follow `first`, and stays with what is there by name where the message tells
 * names: elements that say their own (`joints[2].position`, `transforms[0]`), and numbers beside a list of joint names
 * (`position`, `position[2]`). A message that lists them in another order is put right, one that lacks a name is an
 * `InputError`; a list of names that is empty or gone says nothing.
 */
export function placeReader({ steps, label }: Place, first: unknown, where: string): PlaceReader {
  const usual: PlaceReader = (decoded) => valueAt(decoded, steps);
  const depth = steps.findIndex((_, at) => ownName(steps, at, first) !== undefined);
  const own = depth < 0 ? undefined : ownName(steps, depth, first);
  if (own) {
    const [before, place, after] = [steps.slice(0, depth), Number(steps[depth]), steps.slice(depth + 1)];
    const inner = placeReader({ steps: after, label }, valueAt(first, steps.slice(0, depth + 1)), where);
    return (decoded) => {
      const elements = valueAt(decoded, before);
      const index = isArrayValue(elements) ? indexOf(elements, own, place) : -1;
      if (isArrayValue(elements) && index >= 0) return inner(elements[index]);
      throw new InputError(
        `${where}: expected one element with ${own.field} '${own.name}' for field '${label}', as in the first message`,
      );
    };
  }
  const listed = listedNames(steps, first);
  if (!listed) return usual;
  const order = new JointOrder(where, listed.field, listed.wanted);
  return (decoded) => {
    const owner = valueAt(decoded, listed.owner);
    const names = isRecord(owner) ? owner[listed.field] : undefined;
    if (!isArrayValue(names) || names.length === 0) return usual(decoded);
    const positions = order.of(owner) ?? [];
    const values = valueAt(decoded, listed.array);
    if (!isArrayValue(values) || values.length !== order.length) return usual(decoded);
    return listed.whole ? positions.map((position) => values[position]) : values[positions[0] ?? 0];
  };
}

/** Whether the elements of an array are told apart by names: their own, or those that are listed beside it. */
export function isNamed({ steps }: Place, first: unknown): boolean {
  return ownName([...steps, 0], steps.length, first) !== undefined || listedNames(steps, first) !== undefined;
}

/** The name that the element at an index step says, unless the path leads to that name. */
function ownName(steps: Steps, depth: number, first: unknown): { field: string; name: string } | undefined {
  const element = typeof steps[depth] === 'number' ? valueAt(first, steps.slice(0, depth + 1)) : undefined;
  if (!isRecord(element)) return undefined;
  for (const field of ownNames) {
    const name = element[field];
    if (typeof name === 'string' && name !== '' && steps[depth + 1] !== field) return { field, name };
  }
  return undefined;
}

/** Where the element of this name is, usually at `place`; -1 unless there is exactly one. */
function indexOf(
  elements: ArrayLike<unknown>,
  { field, name }: { readonly field: string; readonly name: string },
  place: number,
): number {
  const found = Array.from(elements, (element) => isRecord(element) && element[field] === name);
  const index = found[place] ? place : found.indexOf(true);
  return found.lastIndexOf(true) === found.indexOf(true) ? index : -1;
}

/** The joint names that stand beside an array of numbers, or above it: one a number, no name twice. */
function listedNames(steps: Steps, first: unknown) {
  const whole = typeof steps.at(-1) !== 'number';
  const array = whole ? steps : steps.slice(0, -1);
  const values = valueAt(first, array);
  if (!isArrayValue(values)) return undefined;
  for (let depth = array.length - 1; depth >= 0; depth--) {
    const owner = steps.slice(0, depth);
    const listed = namesOf(valueAt(first, owner));
    if (listed?.names.length !== values.length || new Set(listed.names).size !== values.length) continue;
    if (listed.field === array.at(-1)) continue;
    const wanted = whole ? listed.names : listed.names.slice(Number(steps.at(-1))).slice(0, 1);
    return { owner, array, whole, field: listed.field, wanted };
  }
  return undefined;
}
