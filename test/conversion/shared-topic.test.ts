import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { asyncBufferFromFile, parquetReadObjects } from 'hyparquet';
import { parseDatasetConfig } from '../../src/conversion/config.ts';
import { inspectRecording } from '../../src/conversion/inspect.ts';
import { suggestConfig } from '../../src/conversion/suggest.ts';
import { openRecording } from '../../src/recording/open.ts';
import { bench, temporaryFolder } from '../helpers/conversion.ts';
import { demonstration, headerOf, SECOND, START } from '../helpers/demonstration.ts';
import { memoryFiles, type BuiltChannel } from '../helpers/recordings.ts';

const ARM = ['shoulder', 'elbow'];
const HAND = ['finger_l', 'finger_r'];
const RATE = 50n;

/** `/joint_states` as two drivers fill it in turn: the arm, and 7 ms later the hand. */
const twoPublishers = (channels: BuiltChannel[]): BuiltChannel[] =>
  channels.flatMap((channel) => {
    if (channel.topic !== '/joint_states') return [];
    const messages = Array.from({ length: 100 }, (_, i) => {
      const hand = i % 2 === 1;
      const k = Math.floor(i / 2);
      const stamp = START + (BigInt(k) * SECOND) / RATE + (hand ? 7_000_000n : 0n);
      const value = { header: headerOf(stamp, ''), velocity: [], effort: [] };
      const position = hand ? [k, 200 - k] : [k / 2, 100];
      return { log: stamp, value: { ...value, name: hand ? HAND : ARM, position } };
    });
    return [{ ...channel, messages }];
  });

const source = (names: readonly string[]) => ({
  topic: '/joint_states',
  field: 'position',
  names: [...names],
});

for (const clock of ['header', 'log']) {
  test(`publishers that share a topic are told apart by the joints they name, by ${clock} time`, async (t) => {
    const path = join(await temporaryFolder(t), 'take.mcap');
    await writeFile(path, await demonstration({ change: twoPublishers }));
    const { convert, finalize, output } = await bench(t);
    const config = { fps: 50, clock, features: { state: { concat: [source(HAND), source(ARM)] } } };
    const { manifest } = await convert(path, config);
    await finalize(config, ['episode']);
    const rows = await parquetReadObjects({
      file: await asyncBufferFromFile(join(output, 'data/chunk-000/file-000.parquet')),
    });
    // The first row lies where the hand, which begins last, has its first sample.
    t.deepEqual(
      rows.map((row) => row['state']),
      Array.from({ length: 49 }, (_, k) => [k, 200 - k, k / 2, 100]),
    );
    for (const report of manifest.alignment.sources) {
      t.like(report, { samples: 50, foreign: 50, undecodable: 0, dropped: 0 });
    }
    await t.throwsAsync(
      convert(path, { ...config, features: { state: { ...source([]), names: 'all' } } }, 'all', 1),
      {
        name: 'InputError',
        message: /messages name different joints.*the first message has shoulder, elbow/,
      },
    );
    await t.throwsAsync(
      convert(path, { ...config, features: { state: source(['shoulder', 'finger_l']) } }, 'mixed', 2),
      { name: 'InputError', message: /joint 'finger_l' is not in the message/ },
    );
  });
}

test('the suggestion takes the joints of all publishers', async (t) => {
  const recording = await openRecording(memoryFiles(await demonstration({ change: twoPublishers })));
  const { facts } = await inspectRecording(
    { name: 'take.mcap', recording, info: { size: 1 } },
    new AbortController().signal,
  );
  const { features } = parseDatasetConfig(suggestConfig(facts));
  t.deepEqual(features['observation.state'], { concat: [source(ARM), source(HAND)] });
});
