import { readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import test from 'ava';
import { createDecoder } from '../../src/recording/decode.ts';
import { openRecording } from '../../src/recording/open.ts';
import { createStampReader } from '../../src/recording/stamp.ts';
import { localFiles } from '../helpers/recordings.ts';

/** Recordings of one content by an independent writer; `make.py` beside them says what they hold. */
const FOLDER = resolve('test/fixtures/rosbags');
const START = 1_700_000_000_000_000_000n;

const names = readdirSync(FOLDER).filter((name) => name.startsWith('ros'));

test('the fixtures are there', (t) => {
  t.deepEqual(names.toSorted(), [
    'ros1_bz2.bag',
    'ros1_lz4.bag',
    'ros2_v8_mcap_storage',
    'ros2_v9_mcap_file',
    'ros2_v9_mcap_message',
    'ros2_v9_sqlite3_file',
  ]);
});

for (const name of names) {
  test(`${name}, written by the rosbags package, gives what was written`, async (t) => {
    const recording = await openRecording(await localFiles(join(FOLDER, name)), { recover: false });
    const ros2 = name.startsWith('ros2');
    t.is(recording.container, ros2 ? 'rosbag2' : 'rosbag1');
    const readers = new Map(
      recording.channels.map((channel) => [
        channel,
        { decode: createDecoder(channel), stamp: createStampReader(channel) },
      ]),
    );
    const counts = new Map<string, number>();
    for await (const { channel, data, logTime } of recording.messages()) {
      const index = counts.get(channel.topic) ?? 0;
      counts.set(channel.topic, index + 1);
      const reader = readers.get(channel);
      const value = reader?.decode(data) as {
        data: string | Uint8Array;
        name: string[];
        position: Float64Array;
      };
      const stamp = reader?.stamp?.(data);
      if (channel.topic === '/task') {
        t.is(value.data, 'Stack the cups.');
        t.is(logTime, START - 5n);
        t.is(stamp, undefined);
      } else if (channel.topic === '/joint_states') {
        const time = START + BigInt(index) * 10_000_000n;
        t.deepEqual([logTime, stamp], [time + 1000n, time]);
        t.deepEqual(value.name, ['a', 'b', 'c']);
        t.deepEqual([...value.position], [index / 8, 0 - index / 4, index * 2]);
      } else {
        const time = START + BigInt(index) * 40_000_000n;
        t.deepEqual([logTime, stamp], [time + 2000n, time]);
        const bytes = Array.from({ length: 500 }, (_, at) => (index * 28 + at) % 256);
        t.deepEqual([...(value.data as Uint8Array)], bytes);
      }
    }
    t.deepEqual(Object.fromEntries(counts), { '/task': 1, '/joint_states': 40, '/blob': 10 });
    t.deepEqual(
      Object.fromEntries(recording.channels.map(({ topic, messageCount }) => [topic, messageCount])),
      { '/task': 1, '/joint_states': 40, '/blob': 10 },
    );
    t.is((await recording.topicRanges())?.get('/blob')?.last, START + 360_002_000n);
    if (ros2) {
      const custom = recording.metadata.find((record) => record.name === 'custom_data');
      t.deepEqual(custom?.entries, new Map([['operator', 'Ada']]));
    }
    t.deepEqual(recording.losses, []);
    await recording.close();
  });
}
