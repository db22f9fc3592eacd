import { InputError } from '../errors.ts';
import type { Feature, FeatureValue } from '../frame/types.ts';
import { valueLength } from './columns.ts';

/**
 * A value as its column holds it, and the same as numbers for statistics (empty for texts). `rounded`: integers that
 * 32-bit floats cannot hold and round.
 */
export type Cell = {
  readonly stored: unknown;
  readonly numbers: ArrayLike<number>;
  readonly rounded: number;
};

const NO_NUMBERS: readonly number[] = [];

/**
 * Turns a row's value into what is stored. Throws `InputError` for values a reader could not hold: NaN, infinity,
 * fractions in integers, a wrong number of elements.
 */
export function featureCell(feature: Feature, value: FeatureValue | undefined, where: () => string): Cell {
  const { key, dtype } = feature;
  if (dtype === 'string') {
    if (typeof value !== 'string')
      throw new InputError(`${key}: expected a text ${where()}, found ${kind(value)}`);
    return { stored: value, numbers: NO_NUMBERS, rounded: 0 };
  }
  if (!(value instanceof Float64Array)) {
    throw new InputError(`${key}: expected numbers ${where()}, found ${kind(value)}`);
  }
  const length = valueLength(feature);
  if (value.length !== length) {
    throw new InputError(`${key}: expected ${length} numbers ${where()}, found ${value.length}`);
  }
  const numbers = dtype === 'float32' ? Float32Array.from(value) : value;
  const bad = numbers.findIndex((number) => !storable(dtype, number));
  if (bad >= 0) {
    const name = feature.names?.[bad] ?? `element ${bad}`;
    throw new InputError(
      `${key}: expected ${EXPECTED[dtype] ?? dtype} for ${name} ${where()}, found ${value[bad]}`,
    );
  }
  if (dtype === 'bool') {
    const truths = Float64Array.from(numbers, (number) => (number === 0 ? 0 : 1));
    return { stored: nest(Array.from(truths, Boolean), feature.shape), numbers: truths, rounded: 0 };
  }
  const elements = dtype === 'int64' ? Array.from(numbers, (number) => BigInt(number)) : Array.from(numbers);
  return { stored: nest(elements, feature.shape), numbers, rounded: roundedIn(value, numbers) };
}

/** Counts and codes lose digits in 32-bit floats where they grow beyond 2^24; measured values have no such digits. */
function roundedIn(value: Float64Array, numbers: ArrayLike<number>): number {
  let rounded = 0;
  for (let i = 0; i < value.length; i++) {
    const number = value[i] ?? 0;
    if (number !== numbers[i] && Number.isInteger(number)) rounded++;
  }
  return rounded;
}

const EXPECTED: Readonly<Record<string, string>> = {
  float32: 'a finite number within the range of float32',
  float64: 'a finite number',
  int64: 'an integer up to 2^53',
  bool: 'a finite number',
};

const storable = (dtype: Feature['dtype'], number: number) =>
  dtype === 'int64' ? Number.isSafeInteger(number) : Number.isFinite(number);

function kind(value: FeatureValue | undefined): string {
  if (value === undefined) return 'nothing';
  if (typeof value === 'string') return 'a text';
  return value instanceof Float64Array ? 'numbers' : 'a picture';
}

/** Elements in row-major order as nested lists of `shape`; a plain value for shape [1]. */
function nest(elements: readonly unknown[], shape: readonly number[]): unknown {
  if (shape.length === 1) return shape[0] === 1 ? elements[0] : elements;
  const [outer = 1, ...inner] = shape;
  const size = elements.length / outer;
  return Array.from({ length: outer }, (_, i) => nest(elements.slice(i * size, (i + 1) * size), inner));
}

/** The numbers of a stored value in row-major order: the inverse of what a column holds. */
export function cellNumbers(stored: unknown): number[] {
  if (Array.isArray(stored)) return stored.flatMap(cellNumbers);
  if (ArrayBuffer.isView(stored)) return Array.from(stored as unknown as ArrayLike<number | bigint>, Number);
  return [Number(stored)];
}
