import test from 'ava';
import { McapIndexedReader } from '@mcap/core';
import { loadDecompressHandlers } from '@mcap/support';
import { InputError } from '../../src/errors.ts';
import { openRecording } from '../../src/recording/open.ts';
import type { Message, Recording } from '../../src/recording/types.ts';
import { demonstration, demonstrationChannels, START } from '../helpers/demonstration.ts';
import { mcapOf, memoryFile, memoryFiles } from '../helpers/recordings.ts';
import type { BuildOptions, ReadLog } from '../helpers/recordings.ts';

async function all(recording: Recording, options?: Parameters<Recording['messages']>[0]): Promise<Message[]> {
  const messages: Message[] = [];
  for await (const message of recording.messages(options)) messages.push(message);
  return messages;
}

function line({ channel, logTime, publishTime, data }: Message): string {
  return `${channel.topic} ${logTime} ${publishTime} ${Buffer.from(data).toString('base64')}`;
}

/** What the reference reader finds in the same bytes. */
async function reference(bytes: Uint8Array): Promise<string[]> {
  const reader = await McapIndexedReader.Initialize({
    readable: memoryFile(bytes),
    decompressHandlers: await loadDecompressHandlers(),
  });
  const lines: string[] = [];
  for await (const message of reader.readMessages()) {
    const topic = reader.channelsById.get(message.channelId)?.topic;
    lines.push(
      `${topic} ${message.logTime} ${message.publishTime} ${Buffer.from(message.data).toString('base64')}`,
    );
  }
  return lines;
}

for (const compression of ['none', 'lz4', 'zstd'] as const) {
  test(`an indexed file with ${compression} chunks gives what the reference reader gives`, async (t) => {
    const bytes = await demonstration({ seconds: 1, compression });
    const recording = await openRecording(memoryFiles(bytes), { recover: false });
    t.deepEqual((await all(recording)).map(line), await reference(bytes));
    t.is(recording.container, 'mcap');
    t.is(recording.writtenBy, 'roboflow-test, profile ros2');
    t.deepEqual(recording.losses, []);
    await recording.close();
  });
}

test('topics, counts, times and ranges are known without reading a message', async (t) => {
  const bytes = await demonstration({ seconds: 10, width: 640, height: 480, compression: 'none' });
  const log: ReadLog = [];
  const recording = await openRecording(memoryFiles(bytes, { log }));
  t.deepEqual(
    recording.channels.map(({ topic, schema, messageEncoding, messageCount }) => [
      topic,
      schema.name,
      schema.encoding,
      messageEncoding,
      messageCount,
    ]),
    [
      ['/cam_high/image_raw/compressed', 'sensor_msgs/msg/CompressedImage', 'ros2msg', 'cdr', 300],
      ['/joint_states', 'sensor_msgs/msg/JointState', 'ros2msg', 'cdr', 1000],
      ['/joint_commands', 'sensor_msgs/msg/JointState', 'ros2msg', 'cdr', 1000],
      ['/task', 'std_msgs/msg/String', 'ros2msg', 'cdr', 1],
    ],
  );
  t.is(recording.startTime, START - 5_000_000n);
  const ranges = await recording.topicRanges();
  t.deepEqual(ranges?.get('/joint_states'), {
    first: START + 1_000_000n,
    last: START + 9_991_000_000n,
    count: 1000,
  });
  // the window around the summary, the header and a few indexes
  const read = log.reduce((sum, { length }) => sum + length, 0);
  t.true(read < bytes.byteLength / 2, `${read} of ${bytes.byteLength} bytes`);
  await recording.close();
});

test('topics and times select messages, both ends included', async (t) => {
  const recording = await openRecording(memoryFiles(await demonstration({ seconds: 1 })));
  const start = START + 101_000_000n;
  const end = START + 201_000_000n;
  const messages = await all(recording, { topics: new Set(['/joint_states']), start, end });
  t.is(messages.length, 11);
  t.is(messages[0]?.logTime, start);
  t.is(messages.at(-1)?.logTime, end);
  t.deepEqual(await all(recording, { topics: new Set(['/none']) }), []);
  await recording.close();
});

const shapes: readonly [string, Partial<BuildOptions>][] = [
  [
    'without an index at all',
    {
      writer: {
        useChunkIndex: false,
        useMessageIndex: false,
        useStatistics: false,
        repeatChannels: false,
        repeatSchemas: false,
        useSummaryOffsets: false,
        useMetadataIndex: false,
        useAttachmentIndex: false,
      },
    },
  ],
  ['without message indexes', { writer: { useMessageIndex: false } }],
  ['without statistics', { writer: { useStatistics: false } }],
  ['without channels in its summary', { writer: { repeatChannels: false, repeatSchemas: false } }],
  ['without chunks', { writer: { useChunks: false } }],
  ['with one chunk for each message', { chunkSize: 1 }],
  ['with chunks that overlap and go back in time', { order: 'given', chunkSize: 4096 }],
];

for (const order of ['log', 'given'] as const) {
  test(`a message is whole until the next one is pulled, with chunks written in ${order === 'log' ? 'order' : 'any order'}`, async (t) => {
    const [first] = await demonstrationChannels({ seconds: 1 });
    if (!first) throw new Error('no channels');
    const messages = (seed: number) =>
      Array.from({ length: 120 }, (_, i) => ({
        log: START + BigInt(i * 10 + seed) * 1_000_000n,
        value: Buffer.alloc(100_000 + i, seed * 120 + i),
      }));
    const channels = [0, 1].map((seed) => ({ ...first, topic: `/t${seed}`, messages: messages(seed) }));
    const bytes = await mcapOf({ channels, compression: 'none', chunkSize: 1 << 20, order });
    const recording = await openRecording(memoryFiles(bytes), { recover: false });
    const seen = new Set<ArrayBufferLike>();
    let count = 0;
    for await (const { channel, data } of recording.messages()) {
      seen.add(data.buffer);
      const i = count >> 1;
      t.is(channel.topic, `/t${count % 2}`);
      t.true(Buffer.alloc(100_000 + i, (count % 2) * 120 + i).equals(data), `message ${count}`);
      count += 1;
    }
    t.is(count, 240);
    // 24 MB were read
    if (order === 'log') t.true(seen.size <= 3, `${seen.size} pieces of memory`);
    await recording.close();
  });
}

for (const [title, options] of shapes) {
  test(`a file ${title} gives the same messages in the same order`, async (t) => {
    const channels = await demonstrationChannels({ seconds: 1 });
    const plain = await reference(await mcapOf({ channels }));
    const recording = await openRecording(memoryFiles(await mcapOf({ channels, ...options })), {
      recover: false,
    });
    t.deepEqual((await all(recording)).map(line), plain);
    t.is(recording.channels.length, 4);
    const ranges = await recording.topicRanges();
    t.is(ranges?.get('/joint_states')?.count, 100);
    await recording.close();
  });
}

test('chunks without message index whose times are not filled in are read all the same', async (t) => {
  const bytes = await demonstration({
    seconds: 1,
    chunkSize: 8192,
    writer: { useMessageIndex: false, useSummaryOffsets: false },
  });
  const plain = await reference(await demonstration({ seconds: 1 }));
  // the times of each chunk index (kind 8) are its first sixteen bytes; the CRC of the summary is left out
  const view = new DataView(bytes.buffer);
  const footer = bytes.byteLength - 37;
  for (let at = Number(view.getBigUint64(footer + 9, true)); at < footer;) {
    if (bytes[at] === 8) bytes.fill(0, at + 9, at + 25);
    at += 9 + Number(view.getBigUint64(at + 1, true));
  }
  view.setUint32(footer + 25, 0, true);
  const recording = await openRecording(memoryFiles(bytes), { recover: false });
  t.deepEqual((await all(recording)).map(line), plain);
  t.is(recording.startTime, START - 5_000_000n);
  await recording.close();
});

test('thousands of tiny chunks are read with few reads', async (t) => {
  const bytes = await demonstration({ seconds: 10, jointRate: 200, chunkSize: 1 });
  const log: ReadLog = [];
  const recording = await openRecording(memoryFiles(bytes, { log }));
  const opened = log.length;
  t.is((await all(recording)).length, 300 + 2 * 2000 + 1);
  t.true(log.length - opened <= Math.ceil(bytes.byteLength / (4 << 20)) + 1, `${log.length - opened} reads`);
  await recording.close();
});

test('a file cut anywhere gives a prefix of each chunk that is whole, and says what is lost', async (t) => {
  const bytes = await demonstration({ seconds: 3, chunkSize: 4 << 10, compression: 'lz4' });
  const whole = await reference(bytes);
  for (const share of [0.2, 0.5, 0.8, 0.99]) {
    const cut = bytes.slice(0, Math.floor(bytes.byteLength * share));
    const recording = await openRecording(memoryFiles(cut));
    const found = (await all(recording)).map(line);
    t.deepEqual(found, whole.slice(0, found.length));
    t.true(
      found.length >= Math.floor(whole.length * share * 0.6),
      `${found.length} of ${whole.length} at ${share}`,
    );
    t.is(recording.losses.length, 1);
    await recording.close();
    await t.throwsAsync(openRecording(memoryFiles(cut), { recover: false }), {
      instanceOf: InputError,
      message: /was cut off or never closed/,
    });
  }
});

for (const compression of ['none', 'lz4', 'zstd'] as const) {
  test(`the whole messages of a ${compression} chunk that is cut off are kept`, async (t) => {
    const bytes = await demonstration({ seconds: 4, jointRate: 300, compression, chunkSize: 64 << 20 });
    const whole = await reference(bytes);
    const recording = await openRecording(memoryFiles(bytes.slice(0, bytes.byteLength >> 1)));
    const found = (await all(recording)).map(line);
    t.true(found.length > whole.length / 4, `${found.length} of ${whole.length} messages`);
    t.deepEqual(found, whole.slice(0, found.length));
    t.regex(recording.losses[0]?.what ?? '', /its whole messages are kept/);
    await recording.close();
  });
}

test('after damage in the middle the reading goes on at the next whole chunk', async (t) => {
  const bytes = await demonstration({ seconds: 2, chunkSize: 4 << 10, compression: 'lz4' });
  const whole = (await reference(bytes)).length;
  const at = Math.floor(bytes.byteLength * 0.3);
  const gap = new Uint8Array([...bytes.subarray(0, at), ...bytes.subarray(at + 100, bytes.byteLength - 40)]);
  const recording = await openRecording(memoryFiles(gap));
  const found = await all(recording);
  t.true(found.length > whole * 0.8 && found.length < whole, `${found.length} of ${whole} messages`);
  t.true(recording.endTime > START + 1_900_000_000n);
  t.regex(
    recording.losses.map(({ what }) => what).join('\n'),
    /no record can be read from byte \d+ to the chunk at byte \d+/,
  );
  await recording.close();
});

test('a damaged chunk is reported once and the others are read; without recovery it ends the reading', async (t) => {
  const bytes = await demonstration({ seconds: 1, chunkSize: 16 << 10 });
  bytes[4000] = (bytes[4000] ?? 0) ^ 0xff;
  const recording = await openRecording(memoryFiles(bytes));
  const first = await all(recording);
  const second = await all(recording);
  t.is(first.length, second.length);
  t.true(first.length > 150 && first.length < 231, `${first.length} messages`);
  t.is(recording.losses.length, 1);
  t.regex(recording.losses[0]?.what ?? '', /chunk at byte \d+: .*damaged/);
  await recording.close();
  const strict = await openRecording(memoryFiles(bytes), { recover: false });
  await t.throwsAsync(all(strict), { instanceOf: InputError, message: /damaged/ });
  await strict.close();
});

test('a damaged summary is left aside and the file is read without it', async (t) => {
  const bytes = await demonstration({ seconds: 1 });
  const at = bytes.byteLength - 200;
  bytes[at] = (bytes[at] ?? 0) ^ 0xff;
  const recording = await openRecording(memoryFiles(bytes));
  t.is((await all(recording)).length, 231);
  t.regex(recording.losses[0]?.what ?? '', /the summary cannot be used/);
  await recording.close();
});

test('a damaged message index leaves the ranges of topics to the messages', async (t) => {
  const bytes = await demonstration({ seconds: 1, chunkSize: 16 << 10 });
  const opened = await McapIndexedReader.Initialize({ readable: memoryFile(bytes) });
  const [at = 0n] = opened.chunkIndexes[0]?.messageIndexOffsets.values() ?? [];
  // behind opcode, length and channel id: the length of the entries
  bytes[Number(at) + 11] = (bytes[Number(at) + 11] ?? 0) + 1;
  const recording = await openRecording(memoryFiles(bytes));
  t.is(await recording.topicRanges(), undefined);
  t.is((await all(recording)).length, 231);
  await recording.close();
  const strict = await openRecording(memoryFiles(bytes), { recover: false });
  await t.throwsAsync(strict.topicRanges(), { instanceOf: InputError, message: /message index/ });
  await strict.close();
});

test('of files joined byte by byte the first is read, and told what was not', async (t) => {
  const bytes = await demonstration({ seconds: 1 });
  const joined = Buffer.concat([bytes, await demonstration({ seconds: 2 })]);
  const recording = await openRecording(memoryFiles(joined));
  t.is((await all(recording)).length, 231);
  t.deepEqual(recording.losses.at(-1), {
    what: `the recording ends at byte ${bytes.byteLength}, what follows was not read`,
    bytes: joined.byteLength - bytes.byteLength - 37,
  });
  await recording.close();
});

test('metadata records are read, with and without their index', async (t) => {
  const metadata = [{ name: 'episode', entries: { task: 'Fold the towel.' } }];
  for (const useMetadataIndex of [true, false]) {
    const bytes = await demonstration({ seconds: 0.1, metadata, writer: { useMetadataIndex } });
    const recording = await openRecording(memoryFiles(bytes));
    t.deepEqual(recording.metadata, [{ name: 'episode', entries: new Map([['task', 'Fold the towel.']]) }]);
    await recording.close();
  }
});

test('an aborted signal ends the reading', async (t) => {
  const recording = await openRecording(memoryFiles(await demonstration({ seconds: 1 })));
  const control = new AbortController();
  await t.throwsAsync(
    async () => {
      for await (const message of recording.messages({ signal: control.signal })) {
        if (message.channel.topic === '/joint_states') control.abort();
      }
    },
    { name: 'CanceledError' },
  );
  await recording.close();
});

test('an error of the source is passed on as it is, not taken for damage', async (t) => {
  const bytes = await demonstration({ seconds: 1 });
  const files = memoryFiles(bytes);
  const gone = new Error('connection reset');
  let failing = false;
  const recording = await openRecording({
    ...files,
    open: async (name) => {
      const file = await files.open(name);
      return {
        ...file,
        read: async (offset, length) => {
          if (failing) throw gone;
          return file.read(offset, length);
        },
      };
    },
  });
  failing = true;
  const error = await t.throwsAsync(all(recording));
  t.is(error, gone);
  t.deepEqual(recording.losses, []);
});

const refusals: readonly [string, Uint8Array, RegExp][] = [
  ['an empty file', new Uint8Array(0), /found an empty file/],
  ['a text file', Buffer.from('hello there, no recording\n'), /found text \('hello there/],
  ['random bytes', Uint8Array.from({ length: 300 }, (_, i) => (i * 73 + 129) & 0xff), /starts with 81 ca 13/],
  ['a ROS bag of version 1.2', Buffer.from('#ROSBAG V1.2\n0000'), /a ROS bag of another version than 2.0/],
  [
    'the description of a rosbag2 folder',
    Buffer.from('rosbag2_bagfile_information:\n  version: 5\n'),
    /found the metadata\.yaml of a rosbag2 folder: give the folder/,
  ],
  ['an MP4 file', Buffer.from('\0\0\0\x20ftypisom\0\0\0\0'), /found an MP4 file/],
];

for (const [title, bytes, message] of refusals) {
  test(`${title} is refused in one sentence that says what was found`, async (t) => {
    const error = await t.throwsAsync(openRecording(memoryFiles(bytes, { name: 'some.mcap' })), {
      instanceOf: InputError,
      message,
    });
    t.regex(
      error?.message ?? '',
      /^some\.mcap: expected an MCAP file, a ROS bag or a rosbag2 database, found/,
    );
  });
}
