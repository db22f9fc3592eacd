import { open, type FileHandle } from 'node:fs/promises';
import { type FileMetaData, parquetMetadataAsync, parquetRead, type SchemaElement } from 'hyparquet';
import { ByteWriter, ParquetWriter } from 'hyparquet-writer';
import { InputError, throwIfUnread } from '../errors.ts';
import type { Column } from './columns.ts';
import type { ByteReader } from './mp4.ts';

/** Values of a column in row order, as the writer takes and the reader gives them. */
export type ColumnValues = unknown[] | BigInt64Array | Float64Array | Float32Array;

/** Rows of one row group, by column name. */
export type RowGroupData = ReadonlyMap<string, ColumnValues>;

/** A sink that appends what the encoder buffered to a file, asynchronously. */
class FileSink extends ByteWriter {
  readonly #handle: FileHandle;

  constructor(handle: FileHandle) {
    super(1 << 16);
    this.#handle = handle;
  }

  async flush(): Promise<void> {
    const { bytesWritten } = await this.#handle.write(new Uint8Array(this.buffer, 0, this.index));
    if (bytesWritten !== this.index) {
      throw new Error(`expected to write ${this.index} bytes of a table, wrote ${bytesWritten}`);
    }
    this.index = 0;
  }
}

/** Writes a Parquet file row group by row group: snappy, nothing in it that varies between runs. */
export class ParquetFile {
  readonly #handle: FileHandle;
  readonly #sink: FileSink;
  readonly #writer: ParquetWriter;
  readonly #columns: readonly Column[];

  private constructor(
    handle: FileHandle,
    columns: readonly Column[],
    footer: Readonly<Record<string, string>>,
  ) {
    this.#handle = handle;
    this.#columns = columns;
    this.#sink = new FileSink(handle);
    const root: SchemaElement = { name: 'schema', num_children: columns.length };
    this.#writer = new ParquetWriter({
      writer: this.#sink,
      schema: [root, ...columns.flatMap((column) => [...column.elements])],
      kvMetadata: Object.entries(footer).map(([key, value]) => ({ key, value })),
      createdBy: 'roboflow-worker',
    });
  }

  /** Creates the file; `footer` is its key-value metadata. */
  static async create(
    path: string,
    columns: readonly Column[],
    footer: Readonly<Record<string, string>> = {},
  ): Promise<ParquetFile> {
    return new ParquetFile(await open(path, 'w'), columns, footer);
  }

  /** Bytes written so far. */
  get bytes(): number {
    return this.#sink.offset;
  }

  /** Appends one row group; a group without rows is left out (readers take the first group's size for a batch). */
  async write(rows: RowGroupData): Promise<void> {
    const count = rows.get(this.#columns[0]?.name ?? '')?.length ?? 0;
    if (count === 0) return;
    const columnData = this.#columns.map((column) => {
      const data = rows.get(column.name);
      if (!data) throw new Error(`a row group needs column "${column.name}"`);
      const types = column.elements.map((element) => element.type);
      // Dictionaries would make 0 and -0 one value, and are no gain for pictures.
      const plain = types.some((type) => type === 'FLOAT' || type === 'DOUBLE') || types.length === 3;
      // Readers skip row groups by whole numbers only (`episode_index`); bounds of the rest would fill the footer.
      const statistics = column.elements.length === 1 && types[0] === 'INT64';
      return { name: column.name, data, statistics, ...(plain ? { encoding: 'PLAIN' as const } : {}) };
    });
    await this.#writer.write({ columnData, rowGroupSize: count });
  }

  /** Writes the footer and closes the file. */
  async finish(): Promise<void> {
    await this.#writer.finish();
    await this.#sink.flush();
    await this.#handle.close();
  }

  /** Closes the file as it is. */
  async abort(): Promise<void> {
    await this.#handle.close();
  }
}

/** An opened Parquet file: its footer, and its rows group by group. */
export type ParquetReader = {
  readonly metadata: FileMetaData;
  readonly rows: number;
  /** Text of a key of the footer's key-value metadata. */
  footer(key: string): string | undefined;
  /** Rows of one row group; all columns unless some are named. */
  rowGroup(index: number, columns?: readonly string[]): Promise<Map<string, ColumnValues>>;
};

/** Opens a Parquet file over ranged reads; a file that is damaged is an `InputError` naming `path`. */
export async function openParquet(file: ByteReader, path: string): Promise<ParquetReader> {
  const byteLength = Number(await file.size());
  const buffer = {
    byteLength,
    slice: async (start: number, end: number = byteLength) => {
      const bytes = await file.read(BigInt(start), BigInt(end - start));
      return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer;
    },
  };
  const damaged = (cause: unknown) => {
    throwIfUnread(cause);
    return new InputError(
      `${path} is not a whole Parquet file: ${cause instanceof Error ? cause.message : 'unreadable'}`,
      {
        cause,
      },
    );
  };
  let metadata: FileMetaData;
  try {
    metadata = await parquetMetadataAsync(buffer);
  } catch (cause) {
    throw damaged(cause);
  }
  const starts = [0];
  for (const group of metadata.row_groups) starts.push((starts.at(-1) ?? 0) + Number(group.num_rows));
  return {
    metadata,
    rows: Number(metadata.num_rows),
    footer: (name) => metadata.key_value_metadata?.find(({ key }) => key === name)?.value,
    rowGroup: async (index, columns) => {
      const rowStart = starts[index] ?? 0;
      const rowEnd = starts[index + 1] ?? 0;
      const parts = new Map<string, { columnData: ColumnValues; rowStart: number; rowEnd: number }[]>();
      try {
        await parquetRead({
          file: buffer,
          metadata,
          rowStart,
          rowEnd,
          utf8: false,
          ...(columns ? { columns: [...columns] } : {}),
          onChunk: (chunk) => {
            const list = parts.get(chunk.columnName) ?? [];
            parts.set(chunk.columnName, list);
            list.push(chunk as (typeof list)[number]);
          },
        });
      } catch (cause) {
        throw damaged(cause);
      }
      return new Map(
        [...parts].map(([name, chunks]) => [name, joinChunks(chunks, rowEnd - rowStart, rowStart)]),
      );
    },
  };
}

function joinChunks(
  chunks: readonly { columnData: ColumnValues; rowStart: number }[],
  rows: number,
  first: number,
): ColumnValues {
  const only = chunks[0];
  if (chunks.length === 1 && only?.columnData.length === rows) return only.columnData;
  const joined: unknown[] = Array.from({ length: rows });
  for (const { columnData, rowStart } of chunks) {
    for (let i = 0; i < columnData.length; i += 1) joined[rowStart - first + i] = columnData[i];
  }
  return joined;
}
