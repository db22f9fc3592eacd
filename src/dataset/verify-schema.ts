import type { SchemaElement } from 'hyparquet';
import type { DeclaredFeature } from './read-info.ts';
import type { ParquetReader } from './parquet.ts';

const PHYSICAL: Readonly<Record<string, string>> = {
  float32: 'FLOAT',
  float64: 'DOUBLE',
  int64: 'INT64',
  uint64: 'INT64',
  int32: 'INT32',
  uint32: 'INT32',
  int16: 'INT32',
  uint16: 'INT32',
  int8: 'INT32',
  uint8: 'INT32',
  bool: 'BOOLEAN',
  string: 'BYTE_ARRAY',
};

type SchemaId = 'columns' | 'types' | 'huggingface-footer';

/** The part of a check list that the columns of a table are reported to. */
export type SchemaChecks = {
  examine(...ids: SchemaId[]): void;
  expect(id: SchemaId, holds: boolean, fault: () => string): void;
  fault(id: SchemaId, message: string): void;
};

/** A column of a file: its name, the lists around its values, and the types of its leaves. */
type FileColumn = { readonly name: string; lists: number; readonly leaves: SchemaElement[] };

/** Splits a file's schema, which lists elements depth first, into its columns. */
function fileColumns(schema: readonly SchemaElement[]): FileColumn[] {
  const columns: FileColumn[] = [];
  let at = 1;
  const walk = (column: FileColumn) => {
    const element = schema[at];
    at += 1;
    if (!element) return;
    if (element.repetition_type === 'REPEATED') column.lists += 1;
    if (!element.num_children) column.leaves.push(element);
    for (let i = 0; i < (element.num_children ?? 0); i += 1) walk(column);
  };
  while (at < schema.length) {
    const column: FileColumn = { name: schema[at]?.name ?? '', lists: 0, leaves: [] };
    walk(column);
    columns.push(column);
  }
  return columns;
}

/** Examines the columns of one data file against the features: readers refuse others, and fill in missing ones. */
export function verifySchema(
  path: string,
  table: ParquetReader,
  features: readonly DeclaredFeature[],
  list: SchemaChecks,
): void {
  list.examine('columns', 'types', 'huggingface-footer');
  const columns = new Map(fileColumns(table.metadata.schema).map((column) => [column.name, column]));
  const wanted = features.filter((feature) => feature.dtype !== 'video');
  for (const name of columns.keys()) {
    const known = wanted.some((feature) => feature.key === name);
    list.expect('columns', known, () => `${path} has a column "${name}" that is no feature`);
  }
  for (const { key, dtype, shape } of wanted) {
    const column = columns.get(key);
    list.expect('columns', column !== undefined, () => `${path} has no column for ${key}`);
    if (!column || dtype === 'language') continue;
    const types = column.leaves.map((leaf) => leaf.type).join(', ');
    if (dtype === 'image') {
      const names = column.leaves.map((leaf) => leaf.name).join(', ');
      list.expect(
        'types',
        names === 'bytes, path',
        () => `${path}: ${key} holds (${names}), expected (bytes, path)`,
      );
      continue;
    }
    const lists = shape.length === 1 && shape[0] === 1 ? 0 : shape.length;
    const expected = PHYSICAL[dtype];
    const right = column.lists === lists && (expected === undefined || types === expected);
    list.expect(
      'types',
      right,
      () => `${path}: ${key} is ${types} in ${column.lists} lists, expected ${dtype} in ${lists}`,
    );
  }
  const footer = table.footer('huggingface');
  if (footer !== undefined) verifyFooter(path, footer, wanted, list);
}

/** A footer that does not fit the columns is ignored by readers, or makes them fail. */
function verifyFooter(
  path: string,
  footer: string,
  features: readonly DeclaredFeature[],
  list: SchemaChecks,
): void {
  type Described = { _type?: string; dtype?: string; length?: number; feature?: { dtype?: string } };
  let described: Readonly<Record<string, Described>>;
  try {
    const parsed = JSON.parse(footer) as { info?: { features?: Record<string, Described> } };
    described = parsed.info?.features ?? {};
  } catch {
    list.fault('huggingface-footer', `${path}: the footer is not JSON`);
    return;
  }
  for (const { key, dtype, shape } of features) {
    const own = described[key];
    if (!own) continue;
    const type = own._type ?? '';
    if (dtype === 'image') {
      list.expect('huggingface-footer', type === 'Image', () => `${path}: ${key} is described as ${type}`);
    } else if (shape.length === 1 && shape[0] === 1) {
      const right = type === 'Value' && own.dtype === dtype;
      list.expect('huggingface-footer', right, () => `${path}: ${key} is described as ${type} ${own.dtype}`);
    } else if (shape.length === 1) {
      // `Sequence` is what datasets before 4.0, hence LeRobot v2.1, call a list.
      const right =
        ['List', 'Sequence'].includes(type) && own.length === shape[0] && own.feature?.dtype === dtype;
      list.expect(
        'huggingface-footer',
        right,
        () => `${path}: ${key} is described as ${JSON.stringify(own)}`,
      );
    }
  }
}
