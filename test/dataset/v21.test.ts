import { readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { verifyDataset } from '../../src/dataset/verify.ts';
import { DatasetWriter } from '../../src/dataset/writer.ts';
import { InputError } from '../../src/errors.ts';
import { createMetrics } from '../../src/metrics/index.ts';
import { Registry } from 'prom-client';
import { buildDataset, camera, finalizeInto, folderFiles, tempFolder, VIDEO } from './build.ts';

const PLANS = [
  { lengths: [5], tasks: ['pick'] },
  { lengths: [4, 3], tasks: ['place', 'pick'] },
];
const options = { format: 'v2.1' } as const;

const failed = async (root: string) =>
  (await verifyDataset(folderFiles(root))).filter((check) => !check.ok).map((check) => check.id);

const lines = async (root: string, name: string) =>
  (await readFile(join(root, 'meta', name), 'utf8'))
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);

test('a v2.1 dataset has a table and a video for every episode, and holds in every statement', async (t) => {
  const { root } = await buildDataset(await tempFolder(t), PLANS, options);
  const found: string[] = [];
  for await (const { key } of folderFiles(root).list('')) if (!key.startsWith('.roboflow/')) found.push(key);
  t.deepEqual(found, [
    'data/chunk-000/episode_000000.parquet',
    'data/chunk-000/episode_000001.parquet',
    'data/chunk-000/episode_000002.parquet',
    'meta/episodes.jsonl',
    'meta/episodes_stats.jsonl',
    'meta/info.json',
    'meta/tasks.jsonl',
    'videos/chunk-000/observation.images.wrist/episode_000000.mp4',
    'videos/chunk-000/observation.images.wrist/episode_000001.mp4',
    'videos/chunk-000/observation.images.wrist/episode_000002.mp4',
  ]);
  t.deepEqual(await failed(root), []);
  t.deepEqual(await lines(root, 'episodes.jsonl'), [
    { episode_index: 0, tasks: ['pick'], length: 5 },
    { episode_index: 1, tasks: ['place'], length: 4 },
    { episode_index: 2, tasks: ['pick'], length: 3 },
  ]);
  t.deepEqual(await lines(root, 'tasks.jsonl'), [
    { task_index: 0, task: 'pick' },
    { task_index: 1, task: 'place' },
  ]);
  const info = JSON.parse(await readFile(join(root, 'meta/info.json'), 'utf8')) as Record<string, unknown>;
  t.like(info, {
    codebase_version: 'v2.1',
    total_episodes: 3,
    total_videos: 3,
    total_chunks: 1,
    total_frames: 12,
  });
});

test('statistics are floats in every line, also whole numbers: converters take types from the text', async (t) => {
  const { root } = await buildDataset(await tempFolder(t), PLANS, options);
  const text = await readFile(join(root, 'meta/episodes_stats.jsonl'), 'utf8');
  t.regex(text, /"min":\[0\.0\]/);
  t.deepEqual(text.replaceAll(/"count":\[\d+\]/g, '').match(/[[,]-?\d+[\],]/g), null);
  const [first] = await lines(root, 'episodes_stats.jsonl');
  t.like(first, { episode_index: 0, stats: { frame_index: { min: [0], max: [4], mean: [2], count: [5] } } });
});

test('episodes are renumbered when a recording is left out, and nothing of them stays behind', async (t) => {
  const { root, manifests } = await buildDataset(await tempFolder(t), PLANS, options);
  await finalizeInto(root, manifests.slice(1));
  t.deepEqual(await failed(root), []);
  t.deepEqual(
    (await lines(root, 'episodes.jsonl')).map((line) => line['length']),
    [4, 3],
  );
});

test('damage to a v2.1 dataset is found', async (t) => {
  const { root } = await buildDataset(await tempFolder(t), PLANS, options);
  const video = join(root, 'videos/chunk-000/observation.images.wrist/episode_000001.mp4');
  const whole = await readFile(video);
  await truncate(video, whole.length - 1);
  t.deepEqual(await failed(root), ['video-frames']);
  await rm(video);
  t.deepEqual(await failed(root), ['layout', 'video-columns']);
  await writeFile(video, whole);
  const episodes = join(root, 'meta/episodes.jsonl');
  const text = await readFile(episodes, 'utf8');
  await writeFile(episodes, text.replace('"length":4', '"length":3'));
  t.true((await failed(root)).includes('episodes'));
  await writeFile(episodes, text);
  const stats = join(root, 'meta/episodes_stats.jsonl');
  const before = await readFile(stats, 'utf8');
  await writeFile(stats, before.replace('"count":[5]', '"count":[6]'));
  t.deepEqual(await failed(root), ['episode-stats']);
  await writeFile(stats, before);
  t.deepEqual(await failed(root), []);
});

test('a number of episodes in info.json that cannot be is a fault like any other', async (t) => {
  const { root } = await buildDataset(await tempFolder(t), PLANS, options);
  const path = join(root, 'meta/info.json');
  const info = JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>;
  await writeFile(path, JSON.stringify({ ...info, total_episodes: 1e12 }));
  t.deepEqual(await failed(root), ['totals', 'splits']);
});

test('depth is refused for v2.1, which has none', async (t) => {
  const feature = { ...camera('observation.images.depth', 64, 48), shape: [48, 64, 1] };
  const depth = { ...feature, camera: { width: 64, height: 48, transform: {}, depthUnit: 'mm' as const } };
  const attempt = DatasetWriter.create({
    dir: await tempFolder(t),
    fps: 10,
    features: [depth],
    video: VIDEO,
    format: 'v2.1',
    expectedFrames: 1,
    signal: new AbortController().signal,
    metrics: createMetrics(new Registry()).video,
  });
  await t.throwsAsync(attempt, { instanceOf: InputError, message: /v2\.1 has no depth/ });
});
