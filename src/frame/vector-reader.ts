import { InputError, toError } from '../errors.ts';
import {
  describe,
  isArrayValue,
  isRecord,
  openArraysOf,
  parseFieldPath,
  placesOf,
  valueAt,
  type ArrayValue,
  type Place,
} from './field-path.ts';
import { isNumeric, labelsOf, leavesOf, type Leaves, type Whole } from './flatten.ts';
import { hint } from './faults.ts';
import { JointOrder, missingJoints, namesOf } from './joint-names.ts';
import { isNamed, placeReader } from './named-elements.ts';
import type { SourceSetting } from './types.ts';

/** What a source yields: its dtype, one label a value, and the function that reads a decoded message. */
export type VectorReader =
  | {
      readonly dtype: 'float32' | 'bool' | 'int64';
      readonly labels: readonly string[];
      /** Whether the labels are given (joint names, `labels`) rather than made from the path. */
      readonly named: boolean;
      /** Undefined for a message about other joints on a shared topic. */
      readonly read: (decoded: unknown) => Float64Array | undefined;
    }
  | { readonly dtype: 'string'; readonly read: (decoded: unknown) => string };

/**
 * Makes the reader of one source from the first message of its topic. Throws `InputError` with every fault of the
 * source: unknown fields and joints, values that are no numbers, lengths that differ. `shared`: several publishers send
 * on the topic, each about joints of its own.
 */
export function vectorReader(setting: SourceSetting, first: unknown, shared = false): VectorReader {
  const paths = pathsOf(setting, first);
  const where = `topic ${setting.topic}`;
  if (setting.names !== undefined) return jointReader(setting, setting.names, paths, first, where, shared);
  const places = paths.flatMap((path) => placesOf(path, first));
  const [only] = places;
  const value = places.length === 1 && only ? valueAt(first, only.steps) : undefined;
  if (only && typeof value === 'string') return textReader(setting, only, first, where);
  const single = setting.scale === undefined && setting.offset === undefined;
  if (only && single && (typeof value === 'boolean' || typeof value === 'bigint')) {
    return scalarReader(setting, only, first, where);
  }
  const found = places.map((place) => leavesOf(place, first));
  const wholes = [
    ...found.flatMap((each) => each.wholes),
    ...paths.flatMap((path) => slicedToEnd(path, first)),
  ];
  return leafReader(setting, found, wholes, first, where);
}

/** The configured paths; without any, the one field of the message beside its header. */
function pathsOf({ field }: SourceSetting, first: unknown): readonly string[] {
  if (field !== undefined) return typeof field === 'string' ? [field] : field;
  const fields = isRecord(first) ? Object.keys(first).filter((key) => key !== 'header') : [];
  const [only] = fields;
  if (only !== undefined && fields.length === 1) return [only];
  if (fields.length === 0) throw new InputError('expected values in the message, it has no fields');
  throw new InputError(`expected 'field', the message has several: ${fields.join(', ')}`);
}

function textReader(setting: SourceSetting, place: Place, first: unknown, where: string): VectorReader {
  const { label } = place;
  refuseNumbersOnly(setting, `field '${label}' is a text`);
  const valueIn = placeReader(place, first, where);
  return {
    dtype: 'string',
    read(decoded) {
      const value = valueIn(decoded);
      if (typeof value === 'string') return value;
      throw new InputError(`${where}: expected a text in field '${label}', found ${describe(value)}`);
    },
  };
}

/** A single boolean or 64-bit integer keeps its type. */
function scalarReader(setting: SourceSetting, place: Place, first: unknown, where: string): VectorReader {
  const { label, steps } = place;
  const type = typeof valueAt(first, steps);
  const valueIn = placeReader(place, first, where);
  return {
    dtype: type === 'boolean' ? 'bool' : 'int64',
    ...labelled(setting, [label]),
    read(decoded) {
      const value = valueIn(decoded);
      if (typeof value !== type) {
        throw new InputError(`${where}: expected a ${type} in field '${label}', found ${describe(value)}`);
      }
      const number = Number(value);
      if (!Number.isSafeInteger(number)) {
        throw new InputError(
          `${where}: field '${label}' is ${String(value)}, integers beyond ±2^53 are not kept exactly`,
        );
      }
      return Float64Array.of(number);
    },
  };
}

/** The arrays that a path slices to their end; where elements have names, more of them are as good as other fields. */
function slicedToEnd(path: string, first: unknown): Whole[] {
  return openArraysOf(path, first).flatMap((place) => {
    const value = valueAt(first, place.steps);
    return isArrayValue(value) && !isNamed(place, first) ? [{ ...place, length: value.length }] : [];
  });
}

function leafReader(
  setting: SourceSetting,
  found: readonly Leaves[],
  wholes: readonly Whole[],
  first: unknown,
  where: string,
): VectorReader {
  const leaves = found.flatMap((each) => each.leaves);
  const reading = <T extends Place>(place: T) => ({ ...place, valueIn: placeReader(place, first, where) });
  const readers = leaves.map(reading);
  const kept = wholes.map(reading);
  const size = found.reduce((sum, each) => sum + each.size, 0);
  const { scale, offset } = linearOf(setting);
  return {
    dtype: 'float32',
    ...labelled(setting, labelsOf(leaves)),
    read(decoded) {
      for (const { valueIn, label, length } of kept) arrayAt(valueIn(decoded), length, where, label);
      const out = new Float64Array(size);
      let at = 0;
      for (const { valueIn, label, length } of readers) {
        const value = valueIn(decoded);
        if (length === undefined) {
          out[at++] = finite(value, scale, offset, where, label);
          continue;
        }
        const array = arrayAt(value, length, where, label);
        for (let i = 0; i < length; i++) out[at++] = finite(array[i], scale, offset, where, label, i);
      }
      return out;
    },
  };
}

function jointReader(
  setting: SourceSetting,
  names: 'all' | readonly string[],
  paths: readonly string[],
  first: unknown,
  where: string,
  shared: boolean,
): VectorReader {
  const listed = namesOf(first);
  if (!listed) {
    throw new InputError(
      `'names' needs a list of joint names in the message (name, joint_names)${hint('name', isRecord(first) ? Object.keys(first) : [])}`,
    );
  }
  if (names === 'all' && shared) {
    throw new InputError(
      `messages name different joints, so that 'names: all' says nothing: list those wanted (the first message has ${listed.names.join(', ')})`,
    );
  }
  const wanted = names === 'all' ? listed.names : names;
  if (wanted.length === 0)
    throw new InputError(`'${listed.field}' of the first message is empty: no joint to take`);
  const faults = missingJoints(wanted, listed.names);
  if (faults.length > 0) throw new InputError(faults.join('; '));
  const arrays = paths.map((path) => jointArray(path, first, listed));
  const { scale, offset } = linearOf(setting);
  const order = new JointOrder(where, listed.field, wanted, shared);
  const size = wanted.length * arrays.length;
  const labels =
    paths.length === 1 ? wanted : paths.flatMap((path) => wanted.map((name) => `${path}.${name}`));
  const { labels: given } = labelled(setting, labels);
  return {
    dtype: 'float32',
    labels: given,
    named: true,
    read(decoded) {
      const positions = order.of(decoded);
      if (!positions) return undefined;
      const out = new Float64Array(size);
      let at = 0;
      for (const { steps, label } of arrays) {
        const array = arrayAt(valueAt(decoded, steps), order.length, where, label);
        for (let i = 0; i < positions.length; i++) {
          const position = positions[i] ?? 0;
          out[at++] = finite(array[position], scale, offset, where, label, position, wanted[i]);
        }
      }
      return out;
    },
  };
}

/** The array of values beside the joint names that a path leads to. */
function jointArray(
  path: string,
  first: unknown,
  listed: { field: string; names: readonly string[] },
): Place {
  if (parseFieldPath(path).some((step) => typeof step === 'object')) {
    throw new InputError(
      `field '${path}': with 'names' the whole array is needed, joints are picked by name`,
    );
  }
  const [place] = placesOf(path, first);
  const value = place && valueAt(first, place.steps);
  if (!place || !isArrayValue(value)) {
    throw new InputError(
      `field '${path}' is ${describe(value)}: with 'names' it must be an array beside '${listed.field}'`,
    );
  }
  if (value.length !== listed.names.length) {
    throw new InputError(
      `field '${path}' has ${value.length} values for ${listed.names.length} names in '${listed.field}'`,
    );
  }
  for (let i = 0; i < value.length; i++) {
    if (!isNumeric(value[i]))
      throw new InputError(`field '${path}[${i}]' is ${describe(value[i])}, not a number`);
  }
  return place;
}

function labelled(
  setting: SourceSetting,
  made: readonly string[],
): { labels: readonly string[]; named: boolean } {
  const { labels } = setting;
  if (labels === undefined) return { labels: made, named: false };
  if (labels.length !== made.length) {
    throw new InputError(
      `'labels' has ${labels.length} entries for ${made.length} values (${made.slice(0, 8).join(', ')})`,
    );
  }
  return { labels, named: true };
}

function linearOf({ scale = 1, offset = 0 }: SourceSetting): { scale: number; offset: number } {
  return { scale, offset };
}

function refuseNumbersOnly(setting: SourceSetting, what: string): void {
  for (const key of ['scale', 'offset', 'labels'] as const) {
    if (setting[key] !== undefined) throw new InputError(`${what}: '${key}' is for numbers`);
  }
}

function arrayAt(value: unknown, length: number, where: string, label: string): ArrayValue {
  if (isArrayValue(value) && value.length === length) return value;
  throw new InputError(`${where}: expected ${length} values in field '${label}', found ${describe(value)}`);
}

/** One value of a vector: a finite number after scale and offset. */
function finite(
  value: unknown,
  scale: number,
  offset: number,
  where: string,
  label: string,
  index?: number,
  joint?: string,
): number {
  const number =
    (typeof value === 'number' ? value : isNumeric(value) ? Number(value) : Number.NaN) * scale + offset;
  if (Number.isFinite(number)) return number;
  const place = index === undefined ? label : `${label}[${index}]`;
  const found = typeof value === 'number' ? String(value) : describe(value);
  throw new InputError(
    `${where}: expected a finite number in field '${place}'${joint === undefined ? '' : ` (joint '${joint}')`}, found ${found}`,
  );
}

/** An error thrown while a source is read or made, as its sentence; anything unexpected is thrown on. */
export function sentenceOf(thrown: unknown): string {
  if (thrown instanceof InputError) return thrown.message;
  throw toError(thrown);
}
