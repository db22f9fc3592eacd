import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { PictureSamples } from '../../src/dataset/picture-samples.ts';
import { isCandidate, nearestCandidates, sampleIndices } from '../../src/dataset/picture-sampling.ts';
import { InputError } from '../../src/errors.ts';
import { temporaryFolder } from '../helpers/conversion.ts';

const LAYOUT = { width: 3, height: 2, format: 'rgb24' } as const;

/** A picture that only its frame has. */
const picture = (frame: number) => Uint8Array.from({ length: 18 }, (_, i) => (frame * 7 + i * i) % 256);

test('the statistics of every episode are those of all pictures at hand, also of those in the file', async (t) => {
  const path = join(await temporaryFolder(t), 'cam.samples');
  const samples = new PictureSamples('observation.images.cam', path);
  const episodes = [
    { first: 0, frames: 40 },
    { first: 40, frames: 3000 },
    { first: 3040, frames: 700 },
  ];
  const taken: number[] = [];
  for (const { first, frames } of episodes) {
    for (let frame = first; frame < first + frames; frame++) {
      // a gap stands for pictures that never came back
      if (!isCandidate(frame - first, undefined) || (frame > 500 && frame < 560)) continue;
      samples.add(frame, picture(frame), LAYOUT);
      taken.push(frame);
    }
  }
  for (const { first, frames } of episodes) {
    const targets = sampleIndices(frames).map((index) => first + index);
    const own = taken.filter((frame) => frame >= first && frame < first + frames);
    const expected = [0, 1, 2].map(() => Array.from({ length: 256 }, () => 0));
    for (const frame of nearestCandidates(targets, own)) {
      picture(frame).forEach((value, i) => {
        const counts = expected[i % 3];
        if (counts) counts[value] = (counts[value] ?? 0) + 1;
      });
    }
    const { stats, histograms } = await samples.statsOf({ first, frames });
    t.deepEqual(histograms, expected);
    t.is(stats.count, targets.length);
  }
  t.true((await stat(path)).size > 0, 'there were more than fit into memory');
});

test('the samples of a short episode need no file', async (t) => {
  const folder = await temporaryFolder(t);
  const samples = new PictureSamples('observation.images.cam', join(folder, 'cam.samples'));
  for (let frame = 0; frame < 100; frame++) samples.add(frame, picture(frame), LAYOUT);
  t.is((await samples.statsOf({ first: 0, frames: 100 })).stats.count, 100);
  t.deepEqual(await readdir(folder), []);
});

test('an episode without a picture, and samples that could not be kept, are errors', async (t) => {
  const samples = new PictureSamples('observation.images.cam', join(await temporaryFolder(t), 'none', 'x'));
  for (let frame = 0; frame < 300; frame++) samples.add(frame, picture(frame), LAYOUT);
  await t.throwsAsync(samples.statsOf({ first: 300, frames: 5 }), {
    instanceOf: InputError,
    message: 'observation.images.cam: no picture of frames 300 to 304 could be decoded',
  });
  await t.throwsAsync(samples.statsOf({ first: 0, frames: 300 }), { code: 'ENOENT' });
});
