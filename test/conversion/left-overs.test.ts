import { mkdir, readdir, utimes, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { removeLeftOvers } from '../../src/conversion/left-overs.ts';
import { expandSources } from '../../src/storage/expand-sources.ts';
import { bench, quiet } from '../helpers/conversion.ts';
import { demonstration } from '../helpers/demonstration.ts';

const config = {
  fps: 30,
  clock: 'header',
  features: {
    'observation.state': { topic: '/joint_states', field: 'position', names: 'all' },
    action: { topic: '/joint_commands', field: 'position', names: 'all' },
  },
};

test('finalizing removes temporary files of attempts of yesterday, and leaves those of today', async (t) => {
  const { folder, output, convert, finalize } = await bench(t);
  const recording = join(folder, 'a.mcap');
  await writeFile(recording, await demonstration({ seconds: 1 }));
  await convert(recording, config);
  // of a process on another machine: nobody here can tell whether it lives
  const [old, young] = ['.roboflow-tmp.000000000000.1.1.old', '.roboflow-tmp.000000000000.1.1.young'];
  await mkdir(join(output, 'videos'), { recursive: true });
  for (const name of [old, young]) await writeFile(join(output, 'videos', name), 'half a video');
  const yesterday = new Date(Date.now() - 25 * 60 * 60 * 1000);
  await utimes(join(output, 'videos', old), yesterday, yesterday);
  t.is((await finalize(config, ['episode'])).episodes, 1);
  t.deepEqual(await readdir(join(output, 'videos')), [young]);
});

test('a dataset above its own recordings takes none of them away, and they are all that is found there', async (t) => {
  const { output, context, convert, finalize, metrics } = await bench(t);
  const names = ['data/chunk-000/a.mcap', 'data/b.mcap', 'videos/c.mcap', 'meta/episodes/chunk-000/d.mcap'];
  for (const name of names) {
    await mkdir(dirname(join(output, name)), { recursive: true });
    await writeFile(join(output, name), await demonstration({ seconds: 1 }));
  }
  const others = ['data/notes.parquet', 'data/chunk-000/notes.parquet', 'meta/episodes/plan.parquet'];
  for (const name of others) await writeFile(join(output, name), 'mine');
  await convert(join(output, names[0] ?? ''), config, 'first');
  await convert(join(output, names[1] ?? ''), config, 'second', 1);
  t.is((await finalize(config, ['first', 'second'])).episodes, 2);
  // of an earlier, longer dataset
  await writeFile(join(output, 'data', 'chunk-000', 'file-001.parquet'), 'stale');
  t.is((await finalize(config, ['second'])).episodes, 1);
  for (const name of [...names, ...others]) t.truthy(await context.output.head(name), name);
  t.is(await context.output.head('data/chunk-000/file-001.parquet'), undefined);
  const found = await expandSources([`${output}/`], { metrics: metrics.storage });
  t.deepEqual(
    found.map(({ url }) => relative(output, fileURLToPath(url))),
    names.toSorted(),
  );
});

test('files sent early of recordings that failed for good go, those of anybody else stay', async (t) => {
  const { output: folder, context } = await bench(t);
  const { output, signal } = context;
  const put = (path: string) => output.put(path, { bytes: Buffer.from(path) });
  const video = (slot: number, camera = 'observation.images.cam_high') =>
    `videos/${camera}/chunk-00${Math.floor(slot / 1000)}/file-${String(slot % 1000).padStart(3, '0')}.mp4`;
  // a: failed, b: published, c: converted by another run right now, d: failed, and published by somebody meanwhile
  const lost = [video(0), video(0, 'cam'), '.roboflow/staged/a.parquet', '.roboflow/staged/a/cam/0.mp4'];
  const kept = [
    ...[1, 2, 3, 1000].map((slot) => video(slot)),
    ...['aa', 'b', 'c', 'd'].map((key) => `.roboflow/staged/${key}.parquet`),
    ...['b', 'd'].map((key) => `.roboflow/episodes/${key}.json`),
    'videos/chunk-000/cam/episode_000000.mp4',
    'videos/notes.txt',
  ];
  for (const path of [...lost, ...kept]) await put(path);
  const claimed: string[] = [];
  const claim = async (key: string) => {
    if (key === 'c') return undefined;
    claimed.push(key);
    return async () => void claimed.push(`${key} is free again`);
  };
  const failed = ['d', 'a', 'c', 'never-sent-anything'].map((key, i) => ({
    key,
    slot: [3, 0, 2, 4][i] ?? 0,
  }));
  t.is(await removeLeftOvers(output, failed, claim, { signal, log: quiet }), 4);
  const left = (await readdir(folder, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)));
  t.deepEqual(left.toSorted(), kept.toSorted());
  t.deepEqual(claimed, ['d', 'd is free again', 'a', 'a is free again']);

  // joined videos are numbered anew: their names say nothing of slots
  for (const path of [video(0), '.roboflow/staged/b/cam/0.mp4', '.roboflow/staged/a.parquet'])
    await put(path);
  t.is(await removeLeftOvers(output, failed, claim, { signal, log: quiet }), 1);
  t.truthy(await output.head(video(0)));
});
