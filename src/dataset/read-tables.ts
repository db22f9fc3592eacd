import type { CheckList } from './check-list.ts';
import { type ColumnValues, openParquet, type ParquetReader } from './parquet.ts';
import { throwIfUnread, toError } from '../errors.ts';
import type { DatasetFiles } from './types.ts';
import type { StatementId } from './statements.ts';

/** One row group of a numbered table, and where it lies. */
export type TableGroup = {
  readonly path: string;
  /** Position of the file in path order, and its numbers by name. */
  readonly file: number;
  readonly chunk: number;
  readonly number: number;
  readonly table: ParquetReader;
  readonly group: number;
  /** Reads the group's rows; all columns unless some are named. */
  readonly read: (columns?: readonly string[]) => Promise<Map<string, ColumnValues>>;
};

/** Paths of the tables under `prefix` in row order, which is the order of their names. */
export async function tablePaths(files: DatasetFiles, prefix: string): Promise<string[]> {
  const paths: string[] = [];
  for await (const { key } of files.list(prefix)) if (key.endsWith('.parquet')) paths.push(key);
  return paths.toSorted((a, b) => (a < b ? -1 : 1));
}

/**
 * The row groups of the tables under `prefix`, in row order, one file open at a time. A file that cannot be read is a
 * fault of `id`, and ends the walk.
 */
export async function* walkTables(
  files: DatasetFiles,
  prefix: string,
  list: CheckList<StatementId>,
  id: StatementId,
): AsyncGenerator<TableGroup> {
  for (const [position, path] of (await tablePaths(files, prefix)).entries()) {
    const numbers = /chunk-(\d+)\/file-(\d+)\.parquet$/.exec(path);
    const file = await files.open(path);
    try {
      let table: ParquetReader;
      try {
        table = await openParquet(file, path);
      } catch (error) {
        throwIfUnread(error);
        list.fault(id, toError(error).message);
        return;
      }
      for (let group = 0; group < table.metadata.row_groups.length; group += 1) {
        const [chunk, number] = [Number(numbers?.[1] ?? -1), Number(numbers?.[2] ?? -1)];
        const own = table;
        yield {
          path,
          file: position,
          chunk,
          number,
          table,
          group,
          read: (columns) => own.rowGroup(group, columns),
        };
      }
    } finally {
      await file.close();
    }
  }
}

/** Reads a small file whole; undefined when it is absent. */
export async function readWhole(files: DatasetFiles, path: string): Promise<Uint8Array | undefined> {
  if ((await files.head(path)) === undefined) return undefined;
  const file = await files.open(path);
  try {
    return await file.read(0n, await file.size());
  } finally {
    await file.close();
  }
}
