import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { convertBatch } from '../../src/conversion/batch.ts';
import { type DatasetConfig, datasetConfig } from '../../src/conversion/config.ts';
import { removeLeftOvers } from '../../src/conversion/left-overs.ts';
import { verifyDataset } from '../../src/dataset/verify.ts';
import { bench, quiet } from '../helpers/conversion.ts';
import { demonstration } from '../helpers/demonstration.ts';

const camera = 'observation.images.cam_high';
const config = {
  fps: 30,
  clock: 'header',
  publish: 'complete',
  features: {
    [camera]: { topic: '/cam_high/image_raw/compressed', type: 'video' },
    'observation.state': { topic: '/joint_states', field: 'position', names: 'all' },
    action: { topic: '/joint_commands', field: 'position', names: 'all' },
  },
};
const keys = ['first', 'second'];

/** Two recordings, and what there is to say about their dataset. */
async function published(t: ExecutionContext, given: object) {
  const rig = await bench(t);
  const recordings: string[] = [];
  for (const key of keys) {
    const path = join(rig.folder, `${key}.mcap`);
    await writeFile(path, await demonstration({ seconds: 1 }));
    recordings.push(path);
  }
  const convertAs = async (settings: object, which: readonly number[]) => {
    for (const slot of which) {
      await rig.convert(recordings[slot] ?? '', { ...given, ...settings }, keys[slot], slot);
    }
  };
  const files = async () =>
    (await readdir(rig.output, { recursive: true }))
      .filter((path) => /\.(mp4|parquet)$/.test(path))
      .toSorted();
  const faults = async () =>
    (await verifyDataset(rig.context.output)).filter(({ ok }) => !ok).map(({ message }) => message);
  return { ...rig, recordings, convertAs, files, faults };
}

for (const [name, given] of Object.entries({
  'videos of their own': config,
  'joined videos': { ...config, videos: { pack: true } },
  'v2.1': { ...config, format: 'v2.1' },
})) {
  test(`converting a recording again leaves the dataset as published until it is published anew: ${name}`, async (t) => {
    const { convertAs, finalize, files, faults, output, context } = await published(t, given);
    await convertAs({}, [0, 1]);
    await finalize(given, keys);
    const before = await files();
    const digest = async () => {
      const sums: string[] = [];
      for (const path of before) sums.push((await context.output.head(path))?.etag ?? path);
      return sums;
    };
    const sums = await digest();

    await convertAs({ fps: 15 }, [0]);
    await t.throwsAsync(finalize({ ...given, fps: 15 }, keys), { message: /must agree on fps/ });
    t.deepEqual(await digest(), sums, 'nothing of what is published was touched');
    if (!('format' in given)) t.deepEqual(await faults(), []);

    await convertAs({ fps: 15 }, [1]);
    t.is((await finalize({ ...given, fps: 15 }, keys)).frames, 30);
    if (!('format' in given)) t.deepEqual(await faults(), []);
    t.is((await files()).length, before.length, `earlier files are gone: ${(await files()).join(', ')}`);

    await convertAs({}, [0, 1]);
    t.is((await finalize(given, keys)).frames, 60);
    if (!('format' in given)) t.deepEqual(await faults(), []);
    t.is((await files()).length, before.length);
    t.deepEqual(
      (await readdir(join(output, '.roboflow/staged'))).filter((path) => path.endsWith('.parquet')),
      ['first.2.parquet', 'second.2.parquet'],
    );
  });
}

test('a recording that cannot be converted again keeps what was made of it, and nothing else stays', async (t) => {
  const { convertAs, finalize, files, faults, recordings, context } = await published(t, config);
  await convertAs({}, [0, 1]);
  await finalize(config, keys);
  const before = await files();
  await writeFile(recordings[0] ?? '', 'no recording any more');
  await t.throwsAsync(convertAs({}, [0]), { name: 'InputError' });
  t.deepEqual(await files(), before);
  // of an attempt that was killed: nobody took it back
  const sent = ['.roboflow/staged/first.1.parquet', `videos/${camera}/chunk-000/file-1000.mp4`];
  for (const path of sent) await context.output.put(path, { bytes: Buffer.from('half') });
  const claim = async () => async () => {};
  t.is(
    await removeLeftOvers(context.output, [{ key: 'first', slot: 0 }], claim, { ...context, log: quiet }),
    2,
  );
  t.deepEqual(await files(), before);
  t.deepEqual(await faults(), []);
});

test('a dataset of joined videos takes no recording with videos of its own: they would bear the same names', async (t) => {
  const packed = datasetConfig.parse({ ...config, videos: { pack: true } });
  const { recordings, context, faults, files } = await published(t, packed);
  const batch = (settings: DatasetConfig, names: readonly string[], runId: string) =>
    convertBatch(
      {
        datasetId: 'd',
        runId,
        config: settings,
        recordings: names.map((key) => ({ key, source: recordings[keys.indexOf(key)] ?? '', task: 'Pick.' })),
      },
      context,
    );
  t.is((await batch(packed, ['first'], 'r1')).dataset?.episodes, 1);
  const before = await files();
  const apart = datasetConfig.parse(config);
  const refused = {
    name: 'InputError',
    message: /expected videos\.pack: true, as file:.*first\.mcap of this dataset/,
  };
  await t.throwsAsync(batch(apart, ['second'], 'r2'), refused);
  t.deepEqual(await files(), before);
  t.is((await batch(packed, ['second'], 'r3')).dataset?.episodes, 2);
  // all of them are another matter
  t.is((await batch(apart, keys, 'r4')).dataset?.episodes, 2);
  t.deepEqual(await faults(), []);
  t.deepEqual(
    (await files()).filter((path) => path.endsWith('.mp4')),
    ['file-1000.mp4', 'file-1001.mp4'].map((name) => `videos/${camera}/chunk-000/${name}`),
  );
});
