import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';
import { workerFlags } from '../../src/cluster/fleet.ts';
import { temporaryFolder } from '../helpers/conversion.ts';
import type { ChildResult } from '../helpers/convert-child.ts';
import { writeLongRecording } from '../helpers/long-recording.ts';

const run = promisify(execFile);

const config = {
  fps: 30,
  video: { preset: 'ultrafast' },
  clock: 'header',
  features: {
    'observation.images.cam': { topic: '/cam/image_raw/compressed', type: 'video' },
    'observation.state': { topic: '/joint_states', field: 'position', names: 'all' },
  },
};

const SHORT = 8;

test('a worker needs no more memory for a recording four times as long', async (t) => {
  t.timeout(240_000);
  const folder = await temporaryFolder(t);
  const [short, long] = [join(folder, 'short.mcap'), join(folder, 'long.mcap')];
  // Less than four minutes would not fill the memory that all reads share.
  const picture = { cameras: ['cam'], width: 160, height: 120 };
  await writeLongRecording(short, { seconds: 240, ...picture });
  await writeLongRecording(long, { seconds: 960, ...picture });
  const child = join(process.cwd(), 'dist/test/helpers/convert-child.js');
  // The short one often: what a running program loads once is loaded then, and garbage has been at its most.
  const { stdout } = await run(process.execPath, [
    ...workerFlags,
    child,
    JSON.stringify(config),
    join(folder, 'out'),
    ...Array.from({ length: SHORT }, () => short),
    long,
  ]);
  const results = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as ChildResult);
  t.is(results.length, SHORT + 1);
  t.true(Math.abs((results[SHORT - 1]?.frames ?? 0) - 240 * 30) <= 1, `${results[SHORT - 1]?.frames} rows`);
  t.true(Math.abs((results[SHORT]?.frames ?? 0) - 960 * 30) <= 1, `${results[SHORT]?.frames} rows`);
  const [before, after] = [results[SHORT - 1]?.peakRssBytes ?? 0, results[SHORT]?.peakRssBytes ?? 0];
  t.log(results.map(({ peakRssBytes }) => `${(peakRssBytes / 1e6).toFixed(0)} MB`).join(', '));
  t.true(after <= 250e6, `${(after / 1e6).toFixed(0)} MB`);
  t.true(after / before <= 1.1, `the longer one needs ${(after / before).toFixed(3)} times as much`);
});
