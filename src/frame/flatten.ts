import { InputError } from '../errors.ts';
import { describe, isArrayValue, isRecord, valueAt, type Place } from './field-path.ts';

/** More values than this in one vector are taken for raw data (a picture, a point cloud). */
const maxValues = 10_000;

/** A number, or an array of numbers with a fixed length, at one place of a message. */
export type Leaf = Place & { readonly length: number | undefined };

/** An array that was taken whole, or to its end: it must keep its length. */
export type Whole = Place & { readonly length: number };

/** What lies below a place: `size` numbers in `leaves`, and the arrays they were found in. */
export type Leaves = {
  readonly leaves: readonly Leaf[];
  readonly wholes: readonly Whole[];
  readonly size: number;
};

/**
 * The numbers below a place in documented order: fields in the order of the message definition (x, y, z, w;
 * position before orientation), array elements by index. Texts, headers and times are refused with a sentence.
 */
export function leavesOf(place: Place, message: unknown): Leaves {
  const leaves: Leaf[] = [];
  const wholes: Whole[] = [];
  collect(place, valueAt(message, place.steps), leaves, wholes);
  const total = leaves.reduce((sum, leaf) => sum + (leaf.length ?? 1), 0);
  if (total === 0) {
    throw new InputError(`field '${place.label}' is empty in the first message: its size cannot be known`);
  }
  if (total > maxValues) {
    throw new InputError(
      `field '${place.label}' holds ${total} values, a vector may have ${maxValues}: pick some with [i:j]`,
    );
  }
  return { leaves, wholes, size: total };
}

function collect(place: Place, value: unknown, leaves: Leaf[], wholes: Whole[]): void {
  const { label, steps } = place;
  if (isNumeric(value)) {
    leaves.push({ steps, label, length: undefined });
  } else if (isArrayValue(value)) {
    if (value.length > maxValues || allNumeric(value)) {
      leaves.push({ steps, label, length: value.length });
      return;
    }
    wholes.push({ steps, label, length: value.length });
    for (let i = 0; i < value.length; i++) {
      collect({ steps: [...steps, i], label: `${label}[${i}]` }, value[i], leaves, wholes);
    }
  } else if (isTime(value)) {
    throw new InputError(
      `field '${label}' is a time, not a number: a vector holds numbers only (the row's time comes from 'clock')`,
    );
  } else if (isRecord(value)) {
    for (const key of Object.keys(value)) {
      const name = label === '' ? key : `${label}.${key}`;
      if (key === 'header') {
        throw new InputError(
          `field '${label}' includes '${name}', which holds no values: name the fields beside it`,
        );
      }
      collect({ steps: [...steps, key], label: name }, value[key], leaves, wholes);
    }
  } else {
    throw new InputError(`field '${label}' is ${describe(value)}: a vector holds numbers and booleans only`);
  }
}

/** Whether a decoded value can be an element of a vector. */
export function isNumeric(value: unknown): value is number | bigint | boolean {
  return typeof value === 'number' || typeof value === 'bigint' || typeof value === 'boolean';
}

function allNumeric(values: ArrayLike<unknown>): boolean {
  for (let i = 0; i < values.length; i++) if (!isNumeric(values[i])) return false;
  return true;
}

function isTime(value: unknown): boolean {
  if (!isRecord(value)) return false;
  const [first = '', second = '', ...others] = Object.keys(value);
  return /^sec(s|onds)?$/.test(first) && /^n(ano)?sec(s|onds)?$|^nanos$/.test(second) && others.length === 0;
}

/** One label a value, in the order in which `leavesOf` found them. */
export function labelsOf(leaves: readonly Leaf[]): string[] {
  return leaves.flatMap(({ label, length }) =>
    length === undefined ? [label] : Array.from({ length }, (_, i) => `${label}[${i}]`),
  );
}
