import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compress } from '@foxglove/wasm-zstd';
import { loadDecompressHandlers } from '@mcap/support';
import test from 'ava';
import sqlite from 'node-sqlite3-wasm';
import { Registry } from 'prom-client';
import { createStorageMetrics } from '../../src/metrics/storage.ts';
import { createDecoder } from '../../src/recording/decode.ts';
import { isPictureSchema, toPicture } from '../../src/recording/image.ts';
import { openRecording } from '../../src/recording/open.ts';
import { createStampReader } from '../../src/recording/stamp.ts';
import type { Message, Recording, RecordingFiles } from '../../src/recording/types.ts';
import { openRecordingFiles } from '../../src/storage/recording-files.ts';
import { bagOf } from '../helpers/bags.ts';
import {
  DEMONSTRATION_JOINTS,
  DEMONSTRATION_TASK,
  START,
  demonstrationChannels,
  frameTime,
  jointPosition,
  numberedJpeg,
} from '../helpers/demonstration.ts';
import { protobufChannel } from '../helpers/foxglove.ts';
import { localFiles, mcapOf, memoryFiles } from '../helpers/recordings.ts';
import type { BuiltChannel } from '../helpers/recordings.ts';
import { rosbag2Of } from '../helpers/rosbag2.ts';

/** One way of writing the same recording; `counted` when the file itself tells the number of messages. */
type Cell = {
  readonly title: string;
  readonly container: Recording['container'];
  readonly make: (channels: readonly BuiltChannel[]) => Promise<Uint8Array | Record<string, Uint8Array>>;
  readonly losses?: RegExp;
};

const cells: readonly Cell[] = [
  ...(['none', 'lz4', 'zstd'] as const).flatMap((compression): Cell[] => [
    {
      title: `an MCAP file with ${compression} chunks`,
      container: 'mcap',
      make: (channels) => mcapOf({ channels, compression }),
    },
    {
      title: `an MCAP file with ROS 1 messages in ${compression} chunks`,
      container: 'mcap',
      make: (channels) =>
        mcapOf({ channels: channels.map((channel) => ({ ...channel, encoding: 'ros1' })), compression }),
    },
  ]),
  {
    title: 'an MCAP file compressed as a whole',
    container: 'mcap',
    make: async (channels) => {
      await loadDecompressHandlers();
      return compress(await mcapOf({ channels, compression: 'none' }), 1);
    },
  },
  ...(['none', 'lz4'] as const).map((compression): Cell => ({
    title: `a ROS 1 bag with ${compression} chunks`,
    container: 'rosbag1',
    make: async (channels) => bagOf({ channels, compression, chunkSize: 8192 }),
  })),
  {
    title: 'a ROS 1 bag whose topics are written one after the other',
    container: 'rosbag1',
    make: async (channels) => bagOf({ channels, order: 'given', chunkSize: 4096 }),
  },
  {
    title: 'a ROS 1 bag that was never closed',
    container: 'rosbag1',
    make: async (channels) => bagOf({ channels, closed: false, chunkSize: 8192 }),
    losses: /it has no index: the recorder never closed it/,
  },
  {
    title: 'a ROS 1 bag without any index record',
    container: 'rosbag1',
    make: async (channels) => bagOf({ channels, closed: false, indexed: false, chunkSize: 8192 }),
    losses: /it has no index: the recorder never closed it/,
  },
  ...([4, 3, 2, 1] as const).map((schema): Cell => ({
    title: `a rosbag2 folder with a database of schema ${schema}`,
    container: 'rosbag2',
    make: (channels) => rosbag2Of({ channels, schema }),
  })),
  ...(['sqlite3', 'mcap'] as const).flatMap((storage) =>
    (['none', 'file', 'message'] as const).map((compression): Cell => ({
      title: `a rosbag2 folder of three ${storage} files, ${compression} compressed`,
      container: 'rosbag2',
      make: (channels) => rosbag2Of({ channels, storage, files: 3, compression }),
    })),
  ),
  {
    title: 'a database that was opened alone',
    container: 'rosbag2',
    make: async (channels) => only((await rosbag2Of({ channels }))['bag_0.db3']),
  },
  ...(['sqlite3', 'mcap'] as const).map((storage): Cell => ({
    title: `a ${storage} file with compressed messages that was opened alone`,
    container: storage === 'mcap' ? 'mcap' : 'rosbag2',
    make: async (channels) => {
      const files = await rosbag2Of({ channels, storage, compression: 'message' });
      return only(files['bag_0.db3'] ?? files['bag_0.mcap']);
    },
  })),
  {
    title: 'a rosbag2 folder without its description',
    container: 'rosbag2',
    make: async (channels) => {
      const { 'metadata.yaml': _, ...files } = await rosbag2Of({ channels, files: 2 });
      return files;
    },
    losses: /the folder has no metadata.yaml/,
  },
];

function only(bytes: Uint8Array | undefined): Uint8Array {
  if (!bytes) throw new Error('no such file was built');
  return bytes;
}

async function all(recording: Recording, options?: Parameters<Recording['messages']>[0]): Promise<Message[]> {
  const messages: Message[] = [];
  for await (const message of recording.messages(options)) messages.push(message);
  return messages;
}

const CAMERA = '/cam_high/image_raw/compressed';
const FPS = 10;

for (const { title, container, make, losses } of cells) {
  test(`${title} gives every message, decoded, in order of time`, async (t) => {
    const channels = await demonstrationChannels({ seconds: 1, fps: FPS, jointRate: 50 });
    const recording = await openRecording(memoryFiles(await make(channels)));
    t.is(recording.container, container);
    t.deepEqual(recording.channels.map(({ topic }) => topic).toSorted(), [
      CAMERA,
      '/joint_commands',
      '/joint_states',
      '/task',
    ]);
    t.is(recording.startTime, START - 5_000_000n);
    t.is(recording.endTime, START + 982_000_000n);
    const messages = await all(recording);
    t.is(messages.length, FPS + 50 + 50 + 1);
    for (let at = 1; at < messages.length; at++) {
      t.true((messages[at]?.logTime ?? 0n) >= (messages[at - 1]?.logTime ?? 0n));
    }
    const decoders = new Map(recording.channels.map((channel) => [channel, createDecoder(channel)]));
    const stamps = new Map(recording.channels.map((channel) => [channel, createStampReader(channel)]));
    const seen = new Map<string, number>();
    for (const { channel, data, logTime, position } of messages) {
      const index = seen.get(channel.topic) ?? 0;
      seen.set(channel.topic, index + 1);
      const value = decoders.get(channel)?.(data);
      t.regex(position, /byte \d+|row \d+/);
      const stamp = stamps.get(channel)?.(data);
      if (channel.topic === '/task') {
        t.is((value as { data: string }).data, DEMONSTRATION_TASK);
        t.is(stamp, undefined);
      } else if (channel.topic === CAMERA) {
        t.is(stamp, START + frameTime(index, FPS));
        t.is(logTime, START + frameTime(index, FPS) + 35_000_000n);
        const picture = toPicture(value, channel);
        t.deepEqual([picture.format, picture.width, picture.height], ['jpeg', 96, 64]);
        t.deepEqual(
          Buffer.from(picture.data),
          Buffer.from(await numberedJpeg(index, { width: 96, height: 64 })),
        );
      } else {
        const action = channel.topic === '/joint_commands';
        t.is(stamp, START + frameTime(index, 50));
        const { name, position: positions } = value as { name: string[]; position: Float64Array };
        t.deepEqual(name, DEMONSTRATION_JOINTS);
        t.deepEqual(
          [...positions],
          DEMONSTRATION_JOINTS.map((_, joint) => jointPosition(joint, frameTime(index, 50), action)),
        );
      }
    }
    const ranges = await recording.topicRanges();
    t.deepEqual(ranges?.get('/joint_states'), {
      first: START + 1_000_000n,
      last: START + 981_000_000n,
      count: 50,
    });
    const some = { topics: new Set(['/joint_states']), start: START + 1_000_000n, end: START + 101_000_000n };
    t.is((await all(recording, some)).length, 6);
    if (losses) t.regex(recording.losses.map(({ what }) => what).join('\n'), losses);
    else t.deepEqual(recording.losses, []);
    await recording.close();
  });
}

test('an MCAP file with protobuf and JSON messages beside each other gives both', async (t) => {
  const jpeg = await numberedJpeg(3, { width: 96, height: 64 });
  const time = START + 1n;
  const stamp = { sec: Number(time / 1_000_000_000n), nsec: Number(time % 1_000_000_000n) };
  const rows = [
    { log: time, time, value: { width: 2, height: 1, step: 6, encoding: 'rgb8', data: [1, 2, 3, 4, 5, 6] } },
  ];
  const bytes = await mcapOf({
    channels: [
      protobufChannel('/coded', 'foxglove.CompressedImage', [
        { log: time, time, value: { data: jpeg, format: 'jpeg' } },
      ]),
      protobufChannel('/raw', 'foxglove.RawImage', rows),
      {
        topic: '/json',
        type: 'foxglove.CompressedImage',
        encoding: 'json',
        messages: [
          {
            log: time,
            value: { timestamp: stamp, data: Buffer.from(jpeg).toString('base64'), format: 'jpeg' },
          },
        ],
      },
    ],
  });
  const recording = await openRecording(memoryFiles(bytes));
  const found: string[] = [];
  for (const { channel, data } of await all(recording)) {
    t.is(createStampReader(channel)?.(data), time);
    t.true(isPictureSchema(channel));
    const picture = toPicture(createDecoder(channel)(data), channel);
    found.push(
      `${channel.topic} ${picture.format} ${picture.width}x${picture.height} ${picture.data.byteLength}`,
    );
  }
  t.deepEqual(found, [
    `/coded jpeg 96x64 ${jpeg.byteLength}`,
    '/raw raw 2x1 6',
    `/json jpeg 96x64 ${jpeg.byteLength}`,
  ]);
  await recording.close();
});

test('a folder on disk is read through links: nothing is written beside the source, nothing is left behind', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'source-'));
  const scratch = await mkdtemp(join(tmpdir(), 'scratch-'));
  t.teardown(() => Promise.all([rm(folder, { recursive: true }), rm(scratch, { recursive: true })]));
  const channels = await demonstrationChannels({ seconds: 0.5 });
  await mkdir(join(folder, 'bag'));
  for (const [name, bytes] of Object.entries(await rosbag2Of({ channels, files: 2 }))) {
    await writeFile(join(folder, 'bag', name), bytes);
  }
  const files = await localFiles(join(folder, 'bag'));
  const first = await openRecording(files, { scratch });
  const second = await openRecording(files, { scratch });
  const iterator = first.messages()[Symbol.asyncIterator]();
  await iterator.next();
  t.is((await all(second)).length, 15 + 50 + 50 + 1);
  t.deepEqual((await readdir(join(folder, 'bag'))).toSorted(), ['bag_0.db3', 'bag_1.db3', 'metadata.yaml']);
  await iterator.return?.();
  await first.close();
  await second.close();
  t.deepEqual(await readdir(scratch), []);
});

test('a database whose recorder was killed is read with its write-ahead log, and without it that is reported', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'wal-'));
  t.teardown(() => rm(folder, { recursive: true }));
  const channels = await demonstrationChannels({ seconds: 0.2 });
  const { database, log } = await writeAheadOf(only((await rosbag2Of({ channels }))['bag_0.db3']), folder);
  const whole = await openRecording(memoryFiles({ 'bag_0.db3': database, 'bag_0.db3-wal': log }));
  t.is((await all(whole)).length, 47 + 1);
  t.deepEqual(
    whole.losses.map(({ what }) => what),
    ['the folder has no metadata.yaml; every recording in it is read'],
  );
  await whole.close();
  await writeFile(join(folder, 'alone.db3'), database);
  await writeFile(join(folder, 'alone.db3-wal'), log);
  const metrics = createStorageMetrics(new Registry());
  const found = await openRecordingFiles(join(folder, 'alone.db3'), { metrics });
  const alone = await openRecording(found, { recover: false });
  t.is((await all(alone)).length, 47 + 1);
  t.deepEqual(alone.losses, []);
  await alone.close();
  const without = await openRecording(memoryFiles(database));
  t.is((await all(without)).length, 47);
  t.regex(without.losses[0]?.what ?? '', /write-ahead mode without its -wal file/);
  await without.close();
});

/** The database in write-ahead mode, with one more row that only its log holds. */
async function writeAheadOf(
  plain: Uint8Array,
  folder: string,
): Promise<{ database: Uint8Array; log: Uint8Array }> {
  const path = join(folder, 'work.db3');
  await writeFile(path, plain);
  const database = new sqlite.Database(path);
  database.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0;');
  database.exec(
    'INSERT INTO messages(topic_id, timestamp, data) SELECT topic_id, timestamp + 1, data FROM messages LIMIT 1;',
  );
  const copies = { database: await readFile(path), log: await readFile(`${path}-wal`) };
  database.close();
  return { database: new Uint8Array(copies.database), log: new Uint8Array(copies.log) };
}

test('a database that is cut gives the rows that are whole, in order of time; without recovery it is refused', async (t) => {
  const channels = await demonstrationChannels({ seconds: 3, jointRate: 200, width: 320, height: 240 });
  const bytes = only((await rosbag2Of({ channels }))['bag_0.db3']);
  const intact = await openRecording(memoryFiles(bytes));
  const whole = (await all(intact)).map(
    ({ channel, logTime, data }) => `${channel.topic} ${logTime} ${data.join()}`,
  );
  await intact.close();
  for (const share of [0.4, 0.9]) {
    const cut = bytes.slice(0, Math.floor(bytes.byteLength * share));
    const recording = await openRecording(memoryFiles(cut));
    const found = await all(recording);
    const lines = found.map(({ channel, logTime, data }) => `${channel.topic} ${logTime} ${data.join()}`);
    t.deepEqual(lines, whole.slice(0, lines.length));
    t.true(lines.length > whole.length * (share - 0.2), `${lines.length} of ${whole.length} at ${share}`);
    t.regex(recording.losses[0]?.what ?? '', /malformed.*; the rows that can be reached are read/);
    t.is((await recording.topicRanges())?.get('/task')?.count, 1);
    await recording.close();
    t.regex(
      await refusal(t, memoryFiles(cut)),
      /InputError: memory.mcap: the SQLite database cannot be read/,
    );
  }
});

test('damaged indexes of a bag cost none of the messages that lie whole in its chunks', async (t) => {
  const channels = await demonstrationChannels({ seconds: 1 });
  const bytes = bagOf({ channels, chunkSize: 8192 });
  const intact = await openRecording(memoryFiles(bytes));
  const [whole, ranges] = [(await all(intact)).length, await intact.topicRanges()];
  await intact.close();
  const at = (text: string, from = 0) => Buffer.from(bytes).indexOf(text, from, 'latin1');
  const behindChunk = at('count=', at('\u0008\0\0\0ver='));
  const inIndex = Buffer.from(bytes).lastIndexOf('md5sum=');
  const damages: { readonly spoiled: number; readonly closed: boolean; readonly known: boolean }[] = [
    { spoiled: behindChunk + 'count='.length, closed: true, known: false },
    { spoiled: behindChunk + 'count='.length, closed: false, known: true },
    { spoiled: inIndex - 4, closed: true, known: true },
  ];
  for (const { spoiled, closed, known } of damages) {
    const own = bytes.slice();
    own[spoiled] = 0xee;
    if (!closed)
      own.fill(0, at('index_pos=') + 'index_pos='.length, at('index_pos=') + 'index_pos='.length + 8);
    const recording = await openRecording(memoryFiles(own));
    t.is((await all(recording)).length, whole);
    t.deepEqual(await recording.topicRanges(), known ? ranges : undefined);
    await recording.close();
    const strict = async () => {
      const opened = await openRecording(memoryFiles(own), { recover: false });
      try {
        await opened.topicRanges();
      } finally {
        await opened.close();
      }
    };
    await t.throwsAsync(strict, { name: 'InputError' });
  }
});

test('a database with a damaged time index is read through its rows', async (t) => {
  const channels = await demonstrationChannels({ seconds: 2, jointRate: 100 });
  const bytes = only((await rosbag2Of({ channels }))['bag_0.db3']).slice();
  const pageSize = new DataView(bytes.buffer).getUint16(16);
  // leaf pages of indexes begin with 10: every one of them is spoiled
  for (let at = pageSize; at < bytes.byteLength; at += pageSize)
    if (bytes[at] === 10) bytes.fill(0xff, at, at + 64);
  const recording = await openRecording(memoryFiles(bytes));
  const found = await all(recording);
  t.is(found.length, 60 + 200 + 200 + 1);
  t.true(found.every((message, at) => at === 0 || message.logTime >= (found[at - 1]?.logTime ?? 0n)));
  t.true(recording.losses.length > 0);
  await recording.close();
});

async function refusal(
  t: { throwsAsync: (promise: Promise<unknown>) => Promise<Error | undefined> },
  files: RecordingFiles,
) {
  const error = await t.throwsAsync(openRecording(files, { recover: false }));
  return `${error?.name}: ${error?.message}`;
}

test('what is missing from a folder is a loss, or a refusal without recovery', async (t) => {
  const channels = await demonstrationChannels({ seconds: 1 });
  const { 'bag_1.db3': _, ...files } = await rosbag2Of({ channels, files: 3 });
  const recording = await openRecording(memoryFiles(files));
  t.true((await all(recording)).length > 100);
  t.is(recording.losses[0]?.what, 'metadata.yaml lists bag_1.db3, which is not in the folder');
  await recording.close();
  t.is(
    await refusal(t, memoryFiles(files, { name: 'some/bag' })),
    'InputError: some/bag: metadata.yaml lists bag_1.db3, which is not in the folder',
  );
});

test('a folder of recordings that are not parts of one is refused, not read as one', async (t) => {
  const channels = await demonstrationChannels({ seconds: 2 });
  const day = await mcapOf({ channels });
  const later = channels.map((channel) => ({
    ...channel,
    messages: channel.messages.map((message) => ({ ...message, log: message.log + 60_000_000_000n })),
  }));
  const tooLate = await mcapOf({ channels: later });
  for (const files of [
    { 'left.mcap': day, 'right.mcap': tooLate },
    { 'take_0.mcap': day, 'take_1.mcap': tooLate },
    { 'take_0.mcap': day, 'take_1.mcap': day },
  ]) {
    const error = await t.throwsAsync(openRecording(memoryFiles(files, { name: 'raw' })));
    t.is(error?.name, 'InputError');
    t.regex(error?.message ?? '', /found 2 recordings \((left|take_0).mcap, .*\): give the files themselves/);
  }
});

test('a folder without recordings, and one with a broken description, say so', async (t) => {
  t.regex(
    await refusal(t, memoryFiles({ 'notes.txt': Buffer.from('x') })),
    /expected a metadata.yaml in the folder/,
  );
  const error = await t.throwsAsync(openRecording(memoryFiles({ 'notes.txt': Buffer.from('x') })));
  t.regex(error?.message ?? '', /expected MCAP files, bags or rosbag2 databases in the folder, found none/);
  t.regex(
    await refusal(t, memoryFiles({ 'metadata.yaml': Buffer.from('a: [1') })),
    /InputError: memory: metadata.yaml does not parse/,
  );
  t.regex(
    await refusal(t, memoryFiles({ 'metadata.yaml': Buffer.from('a: 1') })),
    /expected rosbag2 information in metadata.yaml/,
  );
});

test("a recorder's custom data is metadata of the recording, in a folder and in each file", async (t) => {
  const channels = await demonstrationChannels({ seconds: 0.1 });
  const customData = { task: 'Open the drawer.' };
  for (const storage of ['sqlite3', 'mcap'] as const) {
    const files = await rosbag2Of({ channels, storage, customData });
    for (const content of [files, only(files['bag_0.db3'] ?? files['bag_0.mcap'])]) {
      const recording = await openRecording(memoryFiles(content));
      const found = recording.metadata.filter(({ name }) => name === 'custom_data');
      t.deepEqual(found[0]?.entries, new Map(Object.entries(customData)));
      await recording.close();
    }
  }
});

test('a compressed message that is damaged is counted and left out, or ends a strict reading with its place', async (t) => {
  const channels = await demonstrationChannels({ seconds: 0.5 });
  const files = await rosbag2Of({ channels, compression: 'message' });
  const scratch = await mkdtemp(join(tmpdir(), 'spoiled-'));
  t.teardown(() => rm(scratch, { recursive: true }));
  await writeFile(join(scratch, 'bag.db3'), only(files['bag_0.db3']));
  const database = new sqlite.Database(join(scratch, 'bag.db3'));
  database.exec("UPDATE messages SET data = x'00010203' WHERE topic_id = 2 AND id < 20");
  const spoiled = Number(database.get('SELECT count(*) AS n FROM messages WHERE length(data) = 4')?.['n']);
  database.close();
  t.true(spoiled > 3);
  const bytes = await readFile(join(scratch, 'bag.db3'));
  const folder = memoryFiles({ ...files, 'bag_0.db3': bytes });
  const recording = await openRecording(folder);
  t.is((await all(recording)).length, 15 + 50 + 50 + 1 - spoiled);
  t.is((await all(recording)).length, 15 + 50 + 50 + 1 - spoiled);
  t.is(
    recording.losses.reduce((sum, { count = 0 }) => sum + count, 0),
    spoiled,
  );
  t.regex(
    recording.losses[0]?.what ?? '',
    /messages whose compression is damaged, the first bag_0.db3, row \d+/,
  );
  await recording.close();
  const strict = await openRecording(folder, { recover: false });
  await t.throwsAsync(all(strict), {
    name: 'InputError',
    message: /bag_0.db3, row \d+: expected a message to be a zstd frame/,
  });
  await strict.close();
});

test('paths in a description never leave the folder', async (t) => {
  const channels = await demonstrationChannels({ seconds: 0.2 });
  const files = await rosbag2Of({
    channels,
    info: (info) => (info['relative_file_paths'] = ['../../etc/passwd', 'old_name/bag_0.db3']),
  });
  const recording = await openRecording(memoryFiles(files));
  t.is((await all(recording)).length, 47);
  t.deepEqual(
    recording.losses.map(({ what }) => what),
    ['metadata.yaml lists ../../etc/passwd, which is not in the folder'],
  );
  await recording.close();
});

test('a SQLite database that is no recording says which tables it has', async (t) => {
  const channels = await demonstrationChannels({ seconds: 0.1 });
  const bytes = Buffer.from(only((await rosbag2Of({ channels }))['bag_0.db3']));
  for (let at = bytes.indexOf('messages'); at >= 0; at = bytes.indexOf('messages', at))
    bytes.write('massages', at);
  t.regex(
    await refusal(t, memoryFiles(bytes)),
    /expected a rosbag2 database with the tables topics and messages/,
  );
});

test('a zstd file that is cut gives what was expanded, and one with a text in it is refused', async (t) => {
  await loadDecompressHandlers();
  const channels = await demonstrationChannels({ seconds: 4, jointRate: 400 });
  const whole = compress(await mcapOf({ channels, compression: 'none' }), 1);
  const cut = Uint8Array.from(whole.subarray(0, whole.byteLength >> 1));
  const recording = await openRecording(memoryFiles(cut));
  t.true((await all(recording)).length > 500);
  t.regex(recording.losses.map(({ what }) => what).join('\n'), /the zstd data is damaged or cut off/);
  await recording.close();
  t.regex(await refusal(t, memoryFiles(cut)), /the zstd data is damaged or cut off/);
  const text = Uint8Array.from(compress(Buffer.from('just some text, no recording'), 1));
  t.regex(await refusal(t, memoryFiles(text)), /inside its zstd compression: .*found text \('just some text/);
});
