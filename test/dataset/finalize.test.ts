import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import test from 'ava';
import { DataPacker } from '../../src/dataset/data-packer.ts';
import { finalizeDataset } from '../../src/dataset/finalize.ts';
import {
  conversionVideoPath,
  dataPath,
  nextPlace,
  ownerOfFile,
  slotPlace,
  stagedPath,
  videoPath,
} from '../../src/dataset/layout.ts';
import type { DatasetInfo } from '../../src/dataset/info.ts';
import { openLocalFile } from '../../src/dataset/local-file.ts';
import { parseManifest, serializeManifest } from '../../src/dataset/manifest.ts';
import { openParquet } from '../../src/dataset/parquet.ts';
import { readAhead } from '../../src/dataset/read-ahead.ts';
import { verifyDataset } from '../../src/dataset/verify.ts';
import type { EpisodeManifest } from '../../src/dataset/types.ts';
import { InputError } from '../../src/errors.ts';
import type { AlignedFrame, Feature } from '../../src/frame/types.ts';
import {
  buildDataset,
  FEATURES,
  finalizeInto,
  folderFiles,
  sampleFrame,
  tempFolder,
  writeRecording,
} from './build.ts';

/** Columns only: what finalize does is the same, without encoders. */
const TABLE: readonly Feature[] = FEATURES.filter((feature) => feature.dtype !== 'video');
const options = { features: TABLE, frame: rowOnly };

async function rowOnly(recording: number, k: number): Promise<AlignedFrame> {
  return sampleFrame(recording, k, false);
}

const failed = async (root: string) => (await verifyDataset(folderFiles(root))).filter((check) => !check.ok);

async function readRows(root: string, path: string): Promise<Map<string, unknown[]>> {
  const file = await openLocalFile(join(root, path));
  const table = await openParquet(file, path);
  const all = new Map<string, unknown[]>();
  for (let group = 0; group < table.metadata.row_groups.length; group += 1) {
    for (const [key, column] of await table.rowGroup(group)) {
      all.set(key, [...(all.get(key) ?? []), ...Array.from(column as ArrayLike<unknown>)]);
    }
  }
  await file.close();
  return all;
}

test('places are counted over chunks of 1000 files', (t) => {
  t.is(dataPath({ chunk: 2, file: 7 }), 'data/chunk-002/file-007.parquet');
  t.deepEqual(nextPlace({ chunk: 0, file: 999 }), { chunk: 1, file: 0 });
  t.deepEqual(slotPlace(12_345), { chunk: 12, file: 345 });
  t.deepEqual(slotPlace(12_345, 2), { chunk: 2_000_012, file: 345 });
  t.deepEqual(slotPlace(12_345, 2, 3), { chunk: 2_000_012, file: 3345 });
  t.deepEqual(ownerOfFile(videoPath('cam', 12_345, 2)), { slot: 12_345, edition: 0 });
  t.deepEqual(ownerOfFile(videoPath('cam', 12_345, 2, 3)), { slot: 12_345, edition: 3 });
  t.deepEqual(ownerOfFile(stagedPath('a-b_1')), { key: 'a-b_1', edition: 0 });
  for (const pack of [true, false]) {
    const path = conversionVideoPath(
      { format: 'v2.1', pack },
      { feature: 'cam.1' },
      { key: 'k', slot: 1, edition: 12 },
    );
    t.deepEqual(ownerOfFile(path), { key: 'k', edition: 12 });
  }
  t.is(videoPath('observation.images.wrist', 1001), 'videos/observation.images.wrist/chunk-001/file-001.mp4');
});

test('episodes are numbered in plan order without holes, info.json comes last', async (t) => {
  const dir = await tempFolder(t);
  const { root, manifests } = await buildDataset(
    dir,
    [
      { lengths: [4], tasks: ['pick'] },
      { lengths: [3, 5], tasks: ['place', 'pick'] },
      { lengths: [2], tasks: ['wave'] },
    ],
    options,
  );
  const [first, second, third] = manifests as [EpisodeManifest, EpisodeManifest, EpisodeManifest];
  t.deepEqual(await failed(root), []);
  // The middle one failed: its manifest is not there, and the others close up.
  const totals = await finalizeInto(root, [first, third]);
  t.like(totals, { episodes: 2, frames: 6, tasks: 2 });
  t.is(totals.order.at(-1), 'meta/info.json');
  const rows = await readRows(root, 'data/chunk-000/file-000.parquet');
  t.deepEqual(rows.get('episode_index'), [0n, 0n, 0n, 0n, 1n, 1n]);
  t.deepEqual(rows.get('index'), [0n, 1n, 2n, 3n, 4n, 5n]);
  t.deepEqual(rows.get('task_index'), [0n, 0n, 0n, 0n, 1n, 1n]);
  t.deepEqual(
    (await failed(root)).map((check) => check.id),
    [],
  );
  // Plan order decides, not the order of slots.
  await finalizeInto(root, [third, second, first]);
  const tasks = await readRows(root, 'meta/tasks.parquet');
  t.deepEqual(tasks.get('task'), ['wave', 'place', 'pick']);
});

test('whole-dataset quantiles are those of one histogram over all rows', async (t) => {
  const dir = await tempFolder(t);
  const { root } = await buildDataset(
    dir,
    [
      { lengths: [50], tasks: ['a'] },
      { lengths: [30], tasks: ['a'] },
    ],
    options,
  );
  const stats = JSON.parse(await readFile(join(root, 'meta/stats.json'), 'utf8')) as Record<
    string,
    Record<string, number[]>
  >;
  t.deepEqual(stats['index']?.['count'], [80]);
  t.deepEqual(stats['index']?.['mean'], [39.5]);
  const values: number[] = [];
  for (const [recording, length] of [50, 30].entries()) {
    for (let k = 0; k < length; k += 1) {
      const state = (await sampleFrame(recording, k)).values.get('observation.state') as Float64Array;
      values.push(Math.fround(state[0] ?? 0));
    }
  }
  values.sort((a, b) => a - b);
  for (const [name, q] of [
    ['q01', 0.01],
    ['q10', 0.1],
    ['q50', 0.5],
    ['q90', 0.9],
    ['q99', 0.99],
  ] as const) {
    const exact = values[Math.ceil(q * values.length) - 1] ?? 0;
    const bin = ((values.at(-1) ?? 0) - (values[0] ?? 0)) / 5000;
    t.true(Math.abs((stats['observation.state']?.[name]?.[0] ?? 0) - exact) <= bin, name);
  }
});

test('finalizing again gives the same bytes, and removes what a longer dataset left', async (t) => {
  const dir = await tempFolder(t);
  const { root, manifests } = await buildDataset(
    dir,
    [
      { lengths: [4], tasks: ['pick'] },
      { lengths: [3], tasks: ['pick'] },
    ],
    options,
  );
  const paths = [
    'meta/info.json',
    'meta/stats.json',
    'meta/tasks.parquet',
    'data/chunk-000/file-000.parquet',
  ];
  const before = await Promise.all(paths.map((path) => readFile(join(root, path))));
  await writeFile(join(root, 'data/chunk-000/file-001.parquet'), 'left over');
  await finalizeInto(root, manifests);
  t.deepEqual(await Promise.all(paths.map((path) => readFile(join(root, path)))), before);
  t.deepEqual(await failed(root), []);
});

const conflicts: [string, (manifest: EpisodeManifest) => Partial<EpisodeManifest>, RegExp][] = [
  ['another fps', () => ({ fps: 30 }), /agree on fps: file:.*rec-0000.* has 10, file:.*rec-0001.* has 30/],
  ['another robot', () => ({ robotType: 'other' }), /robot_type/],
  ['a missing feature', (m) => ({ features: m.features.slice(1) }), /the list of features/],
  [
    'other names',
    (m) => ({
      features: m.features.map((f) => (f.key === 'action' ? { ...f, names: ['elbow', 'shoulder'] } : f)),
    }),
    /agree on action: .*"shoulder","elbow".*"elbow","shoulder"/,
  ],
  [
    'another shape',
    (m) => ({
      features: m.features.map((f) => (f.key === 'action' ? { ...f, shape: [3], names: null } : f)),
    }),
    /agree on action/,
  ],
];

test('recordings that do not fit together are refused, naming both', async (t) => {
  const { root, manifests } = await buildDataset(
    await tempFolder(t),
    [
      { lengths: [2], tasks: ['a'] },
      { lengths: [2], tasks: ['a'] },
    ],
    options,
  );
  const [first, second] = manifests as [EpisodeManifest, EpisodeManifest];
  for (const [what, change, expected] of conflicts) {
    const error = await t.throwsAsync(
      finalizeInto(root, [first, { ...second, ...change(second) }]),
      { instanceOf: InputError },
      what,
    );
    t.regex(error.message, expected);
  }
});

test('recordings that do not fit are left out where a dataset of the others is wanted', async (t) => {
  const plan = { lengths: [2], tasks: ['a'] };
  const { root, manifests } = await buildDataset(await tempFolder(t), [plan, plan, plan], options);
  const published = JSON.parse(await readFile(join(root, 'meta/info.json'), 'utf8')) as DatasetInfo;
  const odd = (at: number) => {
    const manifest = manifests[at] as EpisodeManifest;
    const features = manifest.features.map((f) =>
      f.key === 'action' ? { ...f, names: ['elbow', 'shoulder'] } : f,
    );
    return { ...manifest, features };
  };
  const left = async (oddAt: readonly number[], given: Parameters<typeof finalizeInto>[2]) => {
    const mixed = manifests.map((manifest, at) => (oddAt.includes(at) ? odd(at) : manifest));
    const { misfits, episodes } = await finalizeInto(root, mixed, { partial: true, ...given });
    t.is(episodes, 3 - misfits.length);
    for (const { reason } of misfits) t.regex(reason, /must agree on action: file:.* has .*, file:.* has /);
    return misfits.map(({ key }) => Number(key.slice('rec-'.length)));
  };
  t.deepEqual(await left([0], {}), [0], 'the most make the dataset, though the first is another');
  t.deepEqual(await failed(root), [], 'which is whole');
  t.deepEqual(await left([1, 2], {}), [0]);
  t.deepEqual(await left([1, 2], { published }), [1, 2], 'what is published stays');
  t.deepEqual(await left([1], { outdated: new Set(['rec-0002']) }), [1], 'of as many the first');
  t.deepEqual(
    await left([1, 2], { published, outdated: new Set(['rec-0000']) }),
    [0],
    'unless it is outdated',
  );
  t.deepEqual(await left([], { published: {} }), []);
});

test('no recording, or manifests that can be read only once, are refused', async (t) => {
  const { root, manifests } = await buildDataset(
    await tempFolder(t),
    [{ lengths: [2], tasks: ['a'] }],
    options,
  );
  await t.throwsAsync(finalizeInto(root, []), { message: /at least one converted recording/ });
  const once = (async function* () {
    yield* manifests;
  })();
  const order: string[] = [];
  const attempt = finalizeDataset({
    manifests: once,
    files: folderFiles(root),
    scratch: join(root, '../scratch'),
    signal: new AbortController().signal,
    emit: async ({ path }) => void order.push(path),
  });
  await t.throwsAsync(attempt, { message: /changed between two readings: 1, then 0/ });
  t.deepEqual(order, []);
});

test('an aborted finalize publishes no info.json', async (t) => {
  const { root, manifests } = await buildDataset(
    await tempFolder(t),
    [{ lengths: [2], tasks: ['a'] }],
    options,
  );
  const controller = new AbortController();
  const order: string[] = [];
  const attempt = finalizeDataset({
    manifests,
    files: folderFiles(root),
    scratch: join(root, '../scratch'),
    signal: controller.signal,
    emit: async ({ path }) => {
      order.push(path);
      controller.abort();
    },
  });
  await t.throwsAsync(attempt, { name: 'CanceledError' });
  t.deepEqual(order, ['data/chunk-000/file-000.parquet']);
});

test('data files roll over by the size of their frames, and episodes stay whole', async (t) => {
  const dir = await tempFolder(t);
  const emitted: [string, number][] = [];
  const features: readonly Feature[] = [{ key: 'noise', dtype: 'float64', shape: [1], names: null }];
  const packer = new DataPacker(
    features,
    dir,
    async ({ path, body }) => {
      const table =
        'path' in body
          ? await readRows(dirname(body.path), body.path.slice(dirname(body.path).length + 1))
          : new Map();
      emitted.push([path, (table.get('index') as unknown[]).length]);
    },
    40_000,
  );
  const places: number[] = [];
  for (let episode = 0; episode < 6; episode += 1) {
    const length = 1000;
    places.push((await packer.startEpisode(length)).file);
    const ints = () => Array.from({ length }, (_, i) => BigInt(i));
    const noise = Array.from({ length }, (_, i) => Math.sin(episode * 1000 + i));
    await packer.write(
      new Map<string, unknown[]>([
        ['noise', noise],
        ['timestamp', noise],
        ...['frame_index', 'episode_index', 'index', 'task_index'].map((key): [string, unknown[]] => [
          key,
          ints(),
        ]),
      ]),
    );
  }
  await packer.finish();
  // About 25 kB an episode: the second one would reach the limit of 40 kB.
  t.deepEqual(places, [0, 1, 2, 3, 4, 5]);
  t.deepEqual(emitted[0], ['data/chunk-000/file-000.parquet', 1000]);
  t.is(emitted.length, 6);
});

test('tables read ahead come in order, and an early stop gives them back', async (t) => {
  const given: number[] = [];
  const seen: number[] = [];
  const load = async (n: number) => {
    await new Promise((resolve) => setTimeout(resolve, 10 - n));
    return n;
  };
  for await (const n of readAhead([1, 2, 3, 4, 5, 6], 3, load, async (rest) => void given.push(rest))) {
    seen.push(n);
    if (n === 2) break;
  }
  t.deepEqual(
    [seen, given],
    [
      [1, 2],
      [3, 4],
    ],
  );
});

test('manifests survive their bytes, and faults are named', async (t) => {
  const { manifests } = await buildDataset(await tempFolder(t), [{ lengths: [2], tasks: ['a'] }], options);
  const [manifest] = manifests as [EpisodeManifest];
  t.deepEqual(parseManifest(serializeManifest(manifest), 'm'), manifest);
  t.throws(() => parseManifest(Buffer.from('{"version": 2}'), 'a.json'), {
    message: /a\.json: .*version.*fps/,
  });
  t.throws(() => parseManifest(Buffer.from('nonsense'), 'a.json'), { message: /a\.json.*no JSON/ });
  t.throws(() => serializeManifest({ ...manifest, key: '../up' }), { instanceOf: InputError });
});

test('values a reader could not hold are refused with feature, name and frame', async (t) => {
  const dir = await tempFolder(t);
  const bad: [string, unknown, RegExp][] = [
    [
      'action',
      Float64Array.of(0, Number.NaN),
      /action: expected a finite number.*elbow at frame 1 of episode 0, found NaN/,
    ],
    ['action', Float64Array.of(1e39, 0), /action.*float32.*shoulder.*1e\+39/],
    ['action', Float64Array.of(1), /action: expected 2 numbers.*found 1/],
    ['gripper.count', Float64Array.of(0.5), /gripper.count: expected an integer.*0.5/],
    ['note', Float64Array.of(1), /note: expected a text/],
  ];
  for (const [key, value, expected] of bad) {
    const attempt = writeRecording(
      join(dir, 'one'),
      0,
      { lengths: [3], tasks: ['a'] },
      {
        ...options,
        frame: async (recording, k) => {
          const frame = await sampleFrame(recording, k);
          return k === 1
            ? { ...frame, values: new Map(frame.values).set(key, value as Float64Array) }
            : frame;
        },
      },
    );
    const error = await t.throwsAsync(attempt, { instanceOf: InputError });
    t.regex(error.message, expected);
  }
});

test('a thousand recordings are finalized in seconds', async (t) => {
  const dir = await tempFolder(t);
  const { root, manifests } = await buildDataset(dir, [{ lengths: [120], tasks: ['a'] }], options);
  const [one] = manifests as [EpisodeManifest];
  const many = (count: number) => ({
    *[Symbol.iterator]() {
      for (let i = 0; i < count; i += 1) yield { ...one, slot: i };
    },
  });
  const started = performance.now();
  const totals = await finalizeDataset({
    manifests: many(1000),
    files: folderFiles(root),
    scratch: join(dir, 'scratch'),
    signal: new AbortController().signal,
    emit: async ({ path, body }) => {
      await mkdir(dirname(join(root, path)), { recursive: true });
      await writeFile(join(root, path), 'bytes' in body ? body.bytes : await readFile(body.path));
    },
  });
  t.like(totals, { episodes: 1000, frames: 120_000, tasks: 1 });
  t.log(`${Math.round(performance.now() - started)} ms`);
  t.true(performance.now() - started < 30_000);
  const footer = await readRows(root, 'meta/episodes/chunk-000/file-000.parquet');
  t.is(footer.get('episode_index')?.length, 1000);
});
