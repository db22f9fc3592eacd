import type { CheckList } from './check-list.ts';
import { type ChunkFile, INFO_PATH, nextPlace, STATS_PATH, TASKS_PATH } from './layout.ts';
import { manifestFiles } from './manifest.ts';
import { readWhole } from './read-tables.ts';
import type { StatementId } from './statements.ts';
import type { DatasetFiles } from './types.ts';

const KNOWN = [
  /^data\/chunk-\d{3}\/file-\d{3,}\.parquet$/,
  /^meta\/episodes\/chunk-\d{3}\/file-\d{3,}\.parquet$/,
  /^videos\/[^/]+\/chunk-\d{3,}\/file-\d{3,}\.mp4$/,
];
const META = new Set([INFO_PATH, STATS_PATH, TASKS_PATH]);

/** Examines the names of all files, and their lengths against the ledger where there is one. */
export async function verifyLayout(files: DatasetFiles, list: CheckList<StatementId>): Promise<void> {
  list.examine('layout', 'file-order');
  let last: { prefix: string; at: ChunkFile } | undefined;
  const sizes = new Map<string, number>();
  const manifests: string[] = [];
  for await (const { key, size } of files.list('')) {
    if (/^\.roboflow\/episodes\/[^/]+\.json$/.test(key)) manifests.push(key);
    if (key.startsWith('.roboflow/')) {
      if (key.startsWith('.roboflow/staged/')) sizes.set(key, size);
      continue;
    }
    if (key.startsWith('videos/')) sizes.set(key, size);
    const foreign = !key.includes('/') && !key.endsWith('.parquet');
    const known = foreign || META.has(key) || KNOWN.some((pattern) => pattern.test(key));
    list.expect('layout', known, () => `${key} does not belong to a dataset`);
    const table = /^(data|meta\/episodes)\/chunk-(\d+)\/file-(\d+)\.parquet$/.exec(key);
    if (!table) continue;
    const [prefix, at] = [table[1] ?? '', { chunk: Number(table[2]), file: Number(table[3]) }];
    const expected: ChunkFile = last?.prefix === prefix ? nextPlace(last.at) : { chunk: 0, file: 0 };
    const follows = at.chunk === expected.chunk && at.file === expected.file;
    list.expect('file-order', follows, () => `${key} does not follow the file before it`);
    last = { prefix, at };
  }
  for (const path of [INFO_PATH, STATS_PATH, TASKS_PATH]) {
    list.expect('layout', (await files.head(path)) !== undefined, () => `${path} is missing`);
  }
  if (manifests.length === 0) {
    list.skip('there are no manifests', 'ledger');
    return;
  }
  list.examine('ledger');
  for (const path of manifests) {
    const expected = manifestFiles((await readWhole(files, path)) ?? new Uint8Array());
    if (!expected) list.fault('ledger', `${path} is no manifest`);
    for (const file of expected ?? []) {
      const size = sizes.get(file.path);
      list.expect(
        'ledger',
        size === file.bytes,
        () => `${file.path} has ${size ?? 'no'} bytes, expected ${file.bytes}`,
      );
    }
  }
}
