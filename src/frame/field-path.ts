import { InputError } from '../errors.ts';
import { hint } from './faults.ts';

/**
 * Field paths: names separated by dots, each followed by any number of `[i]` (one element) or `[i:j]`
 * (elements i to j-1; either end may be left out). `position`, `pose.position.x`, `data[0:7]`, `joints[2].effort`.
 */
export type PathStep = string | number | { readonly from: number; readonly to: number | undefined };

/** One place in a message: keys and indexes from its root, and how it is called in messages and labels. */
export type Place = { readonly steps: readonly (string | number)[]; readonly label: string };

const segment = /^([^.[\]\s]+)((?:\[[^\]]*\])*)$/;
const bracket = /\[([^\]]*)\]/g;

/** Parses a field path; throws `InputError` with the place of the fault. */
export function parseFieldPath(text: string): PathStep[] {
  const steps: PathStep[] = [];
  for (const part of text.split('.')) {
    const match = segment.exec(part);
    if (!match) {
      throw new InputError(
        `field path '${text}': expected names separated by dots with [i] or [i:j] after them, found '${part}'`,
      );
    }
    steps.push(match[1] ?? '');
    for (const [, inner = ''] of (match[2] ?? '').matchAll(bracket)) steps.push(indexStep(text, inner));
  }
  return steps;
}

function indexStep(text: string, inner: string): PathStep {
  if (/^\d{1,9}$/.test(inner)) return Number(inner);
  const slice = /^(\d{0,9}):(\d{0,9})$/.exec(inner);
  if (!slice) throw new InputError(`field path '${text}': expected [i] or [i:j], found '[${inner}]'`);
  const from = slice[1] ? Number(slice[1]) : 0;
  const to = slice[2] ? Number(slice[2]) : undefined;
  if (to !== undefined && to <= from) {
    throw new InputError(`field path '${text}': [${inner}] is empty: the end is exclusive`);
  }
  return { from, to };
}

/** Plain array or typed array of the decoded message. */
export type ArrayValue = readonly unknown[] | (ArrayLike<number | bigint> & ArrayBufferView);

/** Whether a decoded value is an array. */
export function isArrayValue(value: unknown): value is ArrayValue {
  return Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView));
}

/** Whether a decoded value is a message with fields. */
export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !isArrayValue(value);
}

/**
 * The places a path names in a message, slices spread out. Throws `InputError` when a field or an element is not there;
 * the message says what is there instead.
 */
export function placesOf(path: string, message: unknown): Place[] {
  return follow(path, parseFieldPath(path), message);
}

/** The arrays of a message that a path takes to their end, wherever that is: those it slices with `[i:]`. */
export function openArraysOf(path: string, message: unknown): Place[] {
  const steps = parseFieldPath(path);
  return steps.flatMap((step, at) =>
    typeof step === 'object' && step.to === undefined ? follow(path, steps.slice(0, at), message) : [],
  );
}

function follow(path: string, steps: readonly PathStep[], message: unknown): Place[] {
  let places: { steps: (string | number)[]; label: string; value: unknown }[] = [
    { steps: [], label: '', value: message },
  ];
  for (const step of steps) {
    places = places.flatMap((place) => {
      if (typeof step === 'string') return [child(path, place, step)];
      const { value } = place;
      if (!isArrayValue(value)) {
        throw new InputError(`field '${path}': ${place.label} is ${describe(value)}, not an array`);
      }
      const [from, to] =
        typeof step === 'number'
          ? [step, step + 1]
          : [step.from, step.to ?? Math.max(value.length, step.from)];
      if (to > value.length || to === from) {
        throw new InputError(
          `field '${path}': ${place.label} has ${value.length} elements, element ${Math.max(from, to - 1)} is not there`,
        );
      }
      return Array.from({ length: to - from }, (_, i) => ({
        steps: [...place.steps, from + i],
        label: `${place.label}[${from + i}]`,
        value: value[from + i],
      }));
    });
  }
  return places;
}

function child(
  path: string,
  place: { steps: (string | number)[]; label: string; value: unknown },
  key: string,
) {
  const { value, label, steps } = place;
  const where = label === '' ? 'the message' : label;
  if (!isRecord(value)) {
    throw new InputError(`field '${path}': ${where} is ${describe(value)}, it has no field '${key}'`);
  }
  if (!Object.hasOwn(value, key)) {
    throw new InputError(`field '${path}': ${where} has no field '${key}'${hint(key, Object.keys(value))}`);
  }
  return { steps: [...steps, key], label: label === '' ? key : `${label}.${key}`, value: value[key] };
}

/** The single value a path names in a message. Throws `InputError` as `placesOf` does, and when it names several. */
export function readField(message: unknown, path: string): unknown {
  const [place, ...others] = placesOf(path, message);
  if (!place || others.length > 0) {
    throw new InputError(`field '${path}': expected one value, found ${others.length + 1}`);
  }
  return valueAt(message, place.steps);
}

/** The value at a place of a message; undefined when it is not there. */
export function valueAt(message: unknown, steps: readonly (string | number)[]): unknown {
  let value: unknown = message;
  for (const step of steps) {
    if (typeof value !== 'object' || value === null) return undefined;
    value = (value as Readonly<Record<string | number, unknown>>)[step];
  }
  return value;
}

/** A decoded value in words, for messages. */
export function describe(value: unknown): string {
  if (value === undefined) return 'absent';
  if (value === null) return 'null';
  if (isArrayValue(value)) return `an array of ${value.length}`;
  if (typeof value === 'object') return `an object (${Object.keys(value).slice(0, 6).join(', ')})`;
  if (typeof value === 'string') return `the text '${value.length > 40 ? `${value.slice(0, 40)}…` : value}'`;
  if (typeof value === 'number' || typeof value === 'boolean' || typeof value === 'bigint') {
    return `the ${typeof value} ${value}`;
  }
  return `a ${typeof value}`;
}
