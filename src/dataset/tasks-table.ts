import { listColumn } from './columns.ts';
import { ParquetFile } from './parquet.ts';

/** Columns and types as pandas describes them: the text column is the index, without it readers see numbers. */
const PANDAS_FOOTER = JSON.stringify({
  index_columns: ['task'],
  column_indexes: [
    {
      name: null,
      field_name: null,
      pandas_type: 'unicode',
      numpy_type: 'object',
      metadata: { encoding: 'UTF-8' },
    },
  ],
  columns: [
    {
      name: 'task_index',
      field_name: 'task_index',
      pandas_type: 'int64',
      numpy_type: 'int64',
      metadata: null,
    },
    { name: 'task', field_name: 'task', pandas_type: 'unicode', numpy_type: 'object', metadata: null },
  ],
  creator: { library: 'pyarrow', version: '21.0.0' },
  pandas_version: '2.2.3',
});

/** Writes `meta/tasks.parquet`: row i is task i. */
export async function writeTasks(path: string, tasks: readonly string[]): Promise<void> {
  const columns = [
    listColumn('task_index', 0, { type: 'INT64' }),
    listColumn('task', 0, { type: 'BYTE_ARRAY', converted_type: 'UTF8' }),
  ];
  const file = await ParquetFile.create(path, columns, { pandas: PANDAS_FOOTER });
  try {
    const numbers = BigInt64Array.from(tasks, (_, i) => BigInt(i));
    await file.write(
      new Map<string, unknown[] | BigInt64Array>([
        ['task_index', numbers],
        ['task', [...tasks]],
      ]),
    );
    await file.finish();
  } catch (error) {
    await file.abort();
    throw error;
  }
}
