import type { SchemaElement } from 'hyparquet';
import type { Feature } from '../frame/types.ts';

/** The columns every dataset has, in LeRobot's order (`DEFAULT_FEATURES`). */
export const DEFAULT_FEATURES = [
  { key: 'timestamp', dtype: 'float32', shape: [1], names: null },
  { key: 'frame_index', dtype: 'int64', shape: [1], names: null },
  { key: 'episode_index', dtype: 'int64', shape: [1], names: null },
  { key: 'index', dtype: 'int64', shape: [1], names: null },
  { key: 'task_index', dtype: 'int64', shape: [1], names: null },
] as const satisfies readonly Feature[];

/** Features that are columns of the data files: all but videos, the default columns last. */
export function dataColumns(features: readonly Feature[]): Feature[] {
  return [...features.filter((feature) => feature.dtype !== 'video'), ...DEFAULT_FEATURES];
}

/** Features that have statistics: all but texts, the default columns last. */
export function statFeatures(features: readonly Feature[]): Feature[] {
  return [...features, ...DEFAULT_FEATURES].filter((feature) => feature.dtype !== 'string');
}

/** Numbers in one value of a feature. */
export function valueLength(feature: Feature): number {
  return feature.shape.reduce((product, side) => product * side, 1);
}

export function isCamera(feature: Feature): boolean {
  return feature.dtype === 'video' || feature.dtype === 'image';
}

const PHYSICAL = { float32: 'FLOAT', float64: 'DOUBLE', int64: 'INT64', bool: 'BOOLEAN' } as const;

/** A Parquet column: its schema elements, depth first. */
export type Column = { readonly name: string; readonly elements: readonly SchemaElement[] };

/** A column of nested lists (`depth` levels; 0 = plain values) of one physical type. */
export function listColumn(name: string, depth: number, leaf: Omit<SchemaElement, 'name'>): Column {
  const elements: SchemaElement[] = [];
  let inner = name;
  for (let level = 0; level < depth; level += 1) {
    elements.push(
      { name: inner, repetition_type: 'OPTIONAL', num_children: 1, converted_type: 'LIST' },
      { name: 'list', repetition_type: 'REPEATED', num_children: 1 },
    );
    inner = 'element';
  }
  elements.push({ name: inner, repetition_type: 'OPTIONAL', ...leaf });
  return { name, elements };
}

/** The Parquet column of a feature: plain values for shape [1], lists of lists otherwise, a struct for pictures. */
export function featureColumn(feature: Feature): Column {
  const { key, dtype, shape } = feature;
  if (dtype === 'video') throw new Error(`${key} is a video: it has no column`);
  if (dtype === 'string') return listColumn(key, 0, { type: 'BYTE_ARRAY', converted_type: 'UTF8' });
  if (dtype === 'image') {
    const elements: SchemaElement[] = [
      { name: key, repetition_type: 'OPTIONAL', num_children: 2 },
      { name: 'bytes', repetition_type: 'OPTIONAL', type: 'BYTE_ARRAY' },
      { name: 'path', repetition_type: 'OPTIONAL', type: 'BYTE_ARRAY', converted_type: 'UTF8' },
    ];
    return { name: key, elements };
  }
  const depth = shape.length === 1 && shape[0] === 1 ? 0 : shape.length;
  return listColumn(key, depth, { type: PHYSICAL[dtype] });
}

/** How the `huggingface` footer describes a feature; `list` is the name the reader's version has for lists. */
function huggingfaceType(feature: Feature, list: 'List' | 'Sequence'): unknown {
  const { dtype, shape } = feature;
  if (dtype === 'image') return { _type: 'Image' };
  const value = { dtype, _type: 'Value' };
  if (shape.length === 1 && shape[0] === 1) return value;
  if (shape.length === 1) return { feature: value, length: shape[0], _type: list };
  return { shape, dtype, _type: `Array${shape.length}D` };
}

/** The `huggingface` footer of a data file (`datasets` >= 4 says `List`, older ones `Sequence`). */
export function huggingfaceFooter(features: readonly Feature[], list: 'List' | 'Sequence' = 'List'): string {
  const described = features.map((feature) => [feature.key, huggingfaceType(feature, list)]);
  return JSON.stringify({ info: { features: Object.fromEntries(described) } });
}
