import { chmod, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { Registry } from 'prom-client';
import { encoderArguments, encoderThreads } from '../../src/dataset/encoder-options.ts';
import { DatasetWriter } from '../../src/dataset/writer.ts';
import type { Feature, Picture } from '../../src/frame/types.ts';
import { createMetrics } from '../../src/metrics/index.ts';
import { camera, numberedJpeg, tempFolder, VIDEO } from './build.ts';

test('cameras share the cores: an encoder has two threads where its camera has most of the pixels, else one', async (t) => {
  const dir = await tempFolder(t);
  const script = join(dir, 'ffmpeg');
  await writeFile(script, `#!/bin/bash\necho "$*" >> ${join(dir, 'said')}\nexec ffmpeg "$@"\n`);
  await chmod(script, 0o755);
  const threadsOf = async (sizes: readonly (readonly [number, number])[], threads?: number) => {
    await writeFile(join(dir, 'said'), '');
    const features = sizes.map(([width, height], i) => camera(`observation.images.c${i}`, width, height));
    const pictures = await Promise.all(sizes.map(([width, height]) => numberedJpeg(1, width, height)));
    const writer = await DatasetWriter.create({
      dir: await tempFolder(t),
      fps: 30,
      features,
      video: { ...VIDEO, threads },
      expectedFrames: 1,
      signal: new AbortController().signal,
      metrics: createMetrics(new Registry()).video,
      ffmpeg: script,
    });
    const values = new Map(features.map(({ key }, i) => [key, pictures[i] as Picture]));
    await writer.addFrame({ episode: 0, index: 0, time: 0n, values }, 'look');
    await writer.saveEpisode({ startTime: 0n, endTime: 1n });
    await writer.finish();
    const said = await readFile(join(dir, 'said'), 'utf8');
    const found = [...said.matchAll(/ -preset \S+ -threads (\d+) .*\/camera-(\d)\.mp4/g)];
    return found.toSorted(([, , a], [, , b]) => Number(a) - Number(b)).map(([, count]) => Number(count));
  };
  t.deepEqual(await threadsOf([[64, 48]]), [2]);
  t.deepEqual(
    await threadsOf([
      [64, 48],
      [64, 48],
    ]),
    [1, 1],
  );
  t.deepEqual(
    await threadsOf([
      [64, 48],
      [128, 96],
      [64, 48],
    ]),
    [1, 2, 1],
  );
  t.deepEqual(await threadsOf([[64, 48]], 3), [3]);
});

test('depth keeps its two threads beside other cameras', (t) => {
  const colour = camera('observation.images.colour', 64, 48);
  const depth = { ...camera('observation.images.depth', 64, 48), camera: { depthUnit: 'mm' } } as Feature;
  const both = [colour, depth];
  t.deepEqual(
    both.map((each) => encoderThreads(each, both)),
    [1, 2],
  );
});

for (const [codec, said] of [
  ['h264', '-threads 5'],
  ['hevc', ':pools=5'],
  ['av1', 'lp=5'],
  ['libaom-av1', '-threads 5'],
] as const) {
  test(`${codec}: the number of threads is said to the encoder, and not said where it is to choose`, (t) => {
    const settings = { ...VIDEO, codec };
    t.true(
      encoderArguments({ ...settings, threads: 5 })
        .join(' ')
        .includes(said),
    );
    t.notRegex(encoderArguments(settings).join(' '), /-threads |pools|lp=/);
  });
}
