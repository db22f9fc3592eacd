import { Registry } from 'prom-client';
import { DatasetWriter } from '../../src/dataset/writer.ts';
import { createMetrics } from '../../src/metrics/index.ts';
import { camera, numberedJpeg, VIDEO } from './build.ts';

/** Encodes into the folder named on the command line until it is killed; says so once the encoder runs. */
const writer = await DatasetWriter.create({
  dir: process.argv[2] ?? '.',
  fps: 30,
  features: [camera('observation.images.front', 64, 48)],
  video: VIDEO,
  expectedFrames: 1000,
  signal: new AbortController().signal,
  metrics: createMetrics(new Registry()).video,
});
const picture = await numberedJpeg(1, 64, 48);
const values = new Map([['observation.images.front', picture]]);
for (let index = 0; index < 10; index += 1)
  await writer.addFrame({ episode: 0, index, time: 0n, values }, 'look');
process.stdout.write('encoding\n');
setInterval(() => {}, 1000);
