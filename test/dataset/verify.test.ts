import { appendFile, cp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { DEFAULT_FEATURES, featureColumn, listColumn } from '../../src/dataset/columns.ts';
import { openLocalFile } from '../../src/dataset/local-file.ts';
import { openParquet, ParquetFile } from '../../src/dataset/parquet.ts';
import { verifyDataset } from '../../src/dataset/verify.ts';
import { verifyWritten } from '../../src/dataset/verify-written.ts';
import { StorageError } from '../../src/errors.ts';
import { buildDataset, FEATURES, folderFiles, tempFolder, writeRecording } from './build.ts';

const PLANS = [
  { lengths: [13], tasks: ['pick'] },
  { lengths: [6, 8], tasks: ['place', 'pick'] },
];
const DATA = 'data/chunk-000/file-000.parquet';
const EPISODES = 'meta/episodes/chunk-000/file-000.parquet';
const VIDEO = 'videos/observation.images.wrist/chunk-000/file-001.mp4';

let whole: Promise<string> | undefined;
const undo: (() => Promise<void>)[] = [];
test.after.always(async () => {
  for (const each of undo) await each();
});

/** A copy of the dataset that all tests share, built by the first. */
async function dataset(t: ExecutionContext): Promise<string> {
  whole ??= (async () => {
    const dir = await tempFolder({ teardown: (each) => undo.push(each) });
    return (await buildDataset(dir, PLANS)).root;
  })();
  const own = await tempFolder(t);
  await cp(await whole, own, { recursive: true });
  return own;
}

const failed = async (root: string) =>
  (await verifyDataset(folderFiles(root))).filter((check) => !check.ok).map((check) => check.id);

type Rows = Map<string, unknown[]>;

/** Rewrites a table of the dataset with its rows changed. */
async function rewrite(root: string, path: string, change: (rows: Rows) => void): Promise<void> {
  const file = await openLocalFile(join(root, path));
  const table = await openParquet(file, path);
  const groups: Rows[] = [];
  for (let group = 0; group < table.metadata.row_groups.length; group += 1) {
    const rows = await table.rowGroup(group);
    groups.push(new Map([...rows].map(([key, column]) => [key, Array.from(column as ArrayLike<unknown>)])));
  }
  await file.close();
  groups.forEach(change);
  const { schema } = table.metadata;
  const known = new Map(
    [...FEATURES, ...DEFAULT_FEATURES]
      .filter((f) => f.dtype !== 'video')
      .map((f) => [f.key, featureColumn(f)]),
  );
  const columns = [...(groups[0]?.keys() ?? [])].map((name) => {
    const at = schema.findIndex((element) => element.name === name);
    let depth = 0;
    let leaf = schema[at];
    for (let i = at; leaf?.num_children; i += 2) {
      depth += 1;
      leaf = schema[i + 2];
    }
    const { type, converted_type } = leaf ?? {};
    return (
      known.get(name) ??
      listColumn(name, depth, { ...(type ? { type } : {}), ...(converted_type ? { converted_type } : {}) })
    );
  });
  const footer = Object.fromEntries(
    (table.metadata.key_value_metadata ?? []).map(({ key, value }) => [key, value ?? '']),
  );
  const out = await ParquetFile.create(join(root, path), columns, footer);
  for (const rows of groups) {
    await out.write(rows);
  }
  await out.finish();
}

const cell = (rows: Rows, key: string, row: number, value: unknown) => {
  const column = rows.get(key);
  if (column) column[row] = value;
};

test('a dataset as written holds in every statement', async (t) => {
  const checks = await verifyDataset(folderFiles(await dataset(t)));
  t.deepEqual(
    checks.filter((check) => !check.ok),
    [],
  );
  t.true(checks.length >= 30);
  t.is(new Set(checks.map((check) => check.id)).size, checks.length);
});

test('a store that does not answer is no fault of the dataset', async (t) => {
  const root = await dataset(t);
  const files = folderFiles(root);
  for (const path of ['meta/tasks.parquet', EPISODES, DATA, VIDEO]) {
    for (const readsBefore of [0, 1]) {
      const gone = new StorageError(`cannot read ${path}`, { retryable: true, reason: 'network' });
      const open = async (key: string) => {
        const file = await files.open(key);
        let reads = 0;
        const read: typeof file.read = async (offset, length) => {
          if (key === path && ++reads > readsBefore) throw gone;
          return await file.read(offset, length);
        };
        return { ...file, read };
      };
      t.is(await t.throwsAsync(verifyDataset({ ...files, open })), gone, `${path} after ${readsBefore}`);
    }
  }
});

test('a table that is read and written again without a change still holds', async (t) => {
  const root = await dataset(t);
  for (const path of [DATA, EPISODES]) await rewrite(root, path, () => {});
  t.deepEqual(await failed(root), []);
});

const tableDamage: [string, string, (rows: Rows) => void, string[]][] = [
  ['a shifted index', DATA, (rows) => cell(rows, 'index', 3, 99n), ['index']],
  ['a changed episode number', DATA, (rows) => rows.get('episode_index')?.fill(5n), ['index']],
  ['a wall-clock time', DATA, (rows) => cell(rows, 'timestamp', 2, 1.7e9), ['frame-index']],
  ['a repeated frame number', DATA, (rows) => cell(rows, 'frame_index', 4, 3n), ['frame-index']],
  ['an unknown task', DATA, (rows) => cell(rows, 'task_index', 0, 7n), ['task-index']],
  ['NaN in a vector', DATA, (rows) => cell(rows, 'action', 1, [Number.NaN, 0]), ['types']],
  ['a vector that is too short', DATA, (rows) => cell(rows, 'action', 1, [0]), ['types']],
  ['a missing value', DATA, (rows) => cell(rows, 'gripper.count', 1, null), ['types']],
  [
    'a changed value',
    DATA,
    (rows) => cell(rows, 'observation.state', 0, [50, 0]),
    ['episode-stats', 'stats-exact'],
  ],
  ['a dropped row', DATA, (rows) => rows.forEach((column) => column.pop()), ['episodes', 'totals']],
  ['a missing column', DATA, (rows) => rows.delete('next.done'), ['columns']],
  ['a wrong length of an episode', EPISODES, (rows) => cell(rows, 'length', 1, 7n), ['episodes']],
  [
    'a pointer to another data file',
    EPISODES,
    (rows) => cell(rows, 'data/file_index', 0, 1n),
    ['data-pointers'],
  ],
  [
    'a pointer to an absent video',
    EPISODES,
    (rows) => cell(rows, 'videos/observation.images.wrist/file_index', 0, 9n),
    ['video-columns'],
  ],
  [
    'a shifted video time',
    EPISODES,
    (rows) => cell(rows, 'videos/observation.images.wrist/from_timestamp', 2, 0.65),
    ['video-offsets'],
  ],
  [
    'a task the rows do not have',
    EPISODES,
    (rows) => cell(rows, 'tasks', 0, ['pick', 'place']),
    ['episode-tasks'],
  ],
  [
    'a wrong statistic of an episode',
    EPISODES,
    (rows) => cell(rows, 'stats/action/max', 0, [9, 9]),
    ['episode-stats'],
  ],
  [
    'a missing statistic',
    EPISODES,
    (rows) => rows.delete('stats/action/q50'),
    ['episode-stats', 'quantiles'],
  ],
  [
    'a wrong name of the episodes file',
    EPISODES,
    (rows) => cell(rows, 'meta/episodes/file_index', 1, 3n),
    ['episode-files'],
  ],
  ['tasks out of order', 'meta/tasks.parquet', (rows) => rows.get('task_index')?.reverse(), ['tasks']],
];

for (const [what, path, change, expected] of tableDamage) {
  test(`${what} is found`, async (t) => {
    const root = await dataset(t);
    await rewrite(root, path, change);
    const found = await failed(root);
    for (const id of expected) t.true(found.includes(id), `${id} is not among ${found.join(', ')}`);
  });
}

const fileDamage: [string, (root: string) => Promise<void>, string[]][] = [
  [
    'a video cut by one byte',
    async (root) => truncate(join(root, VIDEO), (await readFile(join(root, VIDEO))).length - 1),
    ['video-frames'],
  ],
  ['a byte too many in a video', (root) => appendFile(join(root, VIDEO), '!'), ['video-frames']],
  [
    'the video of another episode',
    async (root) => writeFile(join(root, VIDEO), await readFile(join(root, VIDEO.replace('001', '000')))),
    ['video-frames'],
  ],
  ['a missing video', (root) => rm(join(root, VIDEO)), ['video-columns']],
  ['a stray table', async (root) => writeFile(join(root, 'data/chunk-000/extra.parquet'), 'x'), ['layout']],
  ['a left-over picture', async (root) => writeFile(join(root, 'videos/frame.png'), 'x'), ['layout']],
  ['a table cut in the middle', (root) => truncate(join(root, DATA), 300), ['columns']],
  ['an episodes table cut in the middle', (root) => truncate(join(root, EPISODES), 300), ['episode-files']],
  [
    'a dataset without info.json',
    (root) => rm(join(root, 'meta/info.json')),
    ['info-keys', 'index', 'stats'],
  ],
];

for (const [what, damage, expected] of fileDamage) {
  test(`${what} is found`, async (t) => {
    const root = await dataset(t);
    await damage(root);
    const found = await failed(root);
    for (const id of expected) t.true(found.includes(id), `${id} is not among ${found.join(', ')}`);
  });
}

type Json = Record<string, unknown> & { features: Record<string, Record<string, unknown>> };
const jsonDamage: [string, string, (value: Json) => void, string[]][] = [
  ['a wrong total', 'info', (info) => Object.assign(info, { total_frames: 28 }), ['totals']],
  ['a fractional fps', 'info', (info) => Object.assign(info, { fps: 29.97 }), ['info-keys']],
  ['a missing key', 'info', (info) => delete info['robot_type'], ['info-keys']],
  [
    'splits of another length',
    'info',
    (info) => Object.assign(info, { splits: { train: '0:9' } }),
    ['splits'],
  ],
  [
    'a vector named like a camera',
    'info',
    (info) => Object.assign(info.features, { 'observation.image_embedding': info.features['action'] }),
    ['cameras', 'columns'],
  ],
  [
    'a camera in channel-first order',
    'info',
    (info) => Object.assign(info.features['observation.images.wrist'] ?? {}, { shape: [3, 48, 64] }),
    ['cameras', 'video-times'],
  ],
  [
    'another codec than declared',
    'info',
    (info) =>
      Object.assign((info.features['observation.images.wrist'] as { info: object }).info, {
        'video.codec': 'av1',
      }),
    ['video-format'],
  ],
  [
    'a wrong mean',
    'stats',
    (stats) => Object.assign(stats['action'] as object, { mean: [5, 5] }),
    ['stats-exact'],
  ],
  [
    'a wrong count',
    'stats',
    (stats) => Object.assign(stats['index'] as object, { count: [28] }),
    ['stats-exact'],
  ],
  ['a missing feature', 'stats', (stats) => delete stats['action'], ['stats']],
  [
    'a null statistic',
    'stats',
    (stats) => Object.assign(stats['action'] as object, { std: [null, 1] }),
    ['stats'],
  ],
  [
    'quantiles out of order',
    'stats',
    (stats) => Object.assign(stats['action'] as object, { q10: [1e3, 1e3] }),
    ['quantiles'],
  ],
  [
    'camera statistics that are flat',
    'stats',
    (stats) => Object.assign(stats['observation.images.wrist'] as object, { mean: [0.5, 0.5, 0.5] }),
    ['stats'],
  ],
  [
    'camera statistics in levels',
    'stats',
    (stats) =>
      Object.assign(stats['observation.images.wrist'] as object, { max: [[[255]], [[255]], [[255]]] }),
    ['camera-stats'],
  ],
];

for (const [what, name, change, expected] of jsonDamage) {
  test(`${what} in ${name}.json is found`, async (t) => {
    const root = await dataset(t);
    const path = join(root, `meta/${name}.json`);
    const value = JSON.parse(await readFile(path, 'utf8')) as Json;
    change(value);
    await writeFile(path, JSON.stringify(value));
    const found = await failed(root);
    for (const id of expected) t.true(found.includes(id), `${id} is not among ${found.join(', ')}`);
  });
}

test('a recording as written holds, and any damage before its upload is found', async (t) => {
  const dir = await tempFolder(t);
  const written = await writeRecording(dir, 0, { lengths: [5, 4], tasks: ['pick'] });
  const faults = async (changed = written) =>
    (await verifyWritten(changed, FEATURES, 10)).filter((check) => !check.ok).map((check) => check.id);
  t.deepEqual(await faults(), []);
  const [first, ...parts] = written.parts;
  if (!first) return t.fail('no episode was written');
  t.deepEqual(await faults({ ...written, parts: [{ ...first, frames: 4 }, ...parts] }), [
    'rows',
    'frame-index',
    'video-frames',
  ]);
  const table = written.files.filter((file) => file.type !== 'video');
  t.deepEqual(await faults({ ...written, files: table }), ['video-frames', 'video-times']);
  const video = join(dir, 'camera-0.mp4');
  await truncate(video, (await readFile(video)).length - 1);
  t.deepEqual(await faults(), ['video-frames', 'video-times', 'files']);
});
