import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { compress } from '@foxglove/wasm-zstd';
import { loadDecompressHandlers } from '@mcap/support';
import test from 'ava';
import { InputError } from '../../src/errors.ts';
import { createDecoder } from '../../src/recording/decode.ts';
import { isPictureSchema, toPicture } from '../../src/recording/image.ts';
import { openRecording } from '../../src/recording/open.ts';
import { createStampReader } from '../../src/recording/stamp.ts';
import type { Channel, Recording } from '../../src/recording/types.ts';
import { bagOf } from '../helpers/bags.ts';
import { demonstrationChannels } from '../helpers/demonstration.ts';
import { mcapOf, memoryFiles } from '../helpers/recordings.ts';
import { rosbag2Of } from '../helpers/rosbag2.ts';

/** Numbers from a seed (mulberry32), so that every run mutates alike. */
function seeded(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

type Mutation = (bytes: Uint8Array, random: (below: number) => number) => Uint8Array;

/** Each kind of damage; the result is a new array. */
const mutations: Readonly<Record<string, Mutation>> = {
  cut: (bytes, random) => bytes.slice(0, random(bytes.byteLength)),
  'flipped bit': (bytes, random) => {
    const copy = bytes.slice();
    const at = random(copy.byteLength);
    copy[at] = (copy[at] ?? 0) ^ (1 << random(8));
    return copy;
  },
  'random bytes': (bytes, random) => {
    const copy = bytes.slice();
    const at = random(copy.byteLength);
    for (let index = 0; index < 16 && at + index < copy.byteLength; index++) copy[at + index] = random(256);
    return copy;
  },
  'huge number': (bytes, random) => {
    const copy = bytes.slice();
    const at = random(Math.max(1, copy.byteLength - 8));
    const sizes = [0xffffffff, 0x7fffffff, 0x40000000, 0xfffffff0];
    new DataView(copy.buffer).setUint32(at, sizes[random(sizes.length)] ?? 0, true);
    return copy;
  },
  'number of zero': (bytes, random) => {
    const copy = bytes.slice();
    const at = random(copy.byteLength);
    copy.fill(0, at, at + 1 + random(64));
    return copy;
  },
  'doubled range': (bytes, random) => {
    const at = random(bytes.byteLength);
    const range = bytes.subarray(at, at + 1 + random(4096));
    return Buffer.concat([bytes.subarray(0, at), range, range, bytes.subarray(at + range.byteLength)]);
  },
  'swapped ranges': (bytes, random) => {
    const length = 1 + random(2048);
    const first = random(Math.max(1, bytes.byteLength - 2 * length));
    const second = first + length;
    const parts = [
      bytes.subarray(0, first),
      bytes.subarray(second, second + length),
      bytes.subarray(first, second),
      bytes.subarray(second + length),
    ];
    return Buffer.concat(parts);
  },
  'missing range': (bytes, random) => {
    const at = random(bytes.byteLength);
    return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1 + random(1024))]);
  },
};

/** Reads a recording to its end as a conversion does; `undecodable` counts what is refused message by message. */
async function readAll(recording: Recording): Promise<{ lines: string[]; undecodable: number }> {
  const readers = new Map<Channel, (data: Uint8Array) => void>();
  const lines: string[] = [];
  let undecodable = 0;
  await recording.topicRanges().catch(refusal);
  for await (const { channel, logTime, data, position } of recording.messages()) {
    lines.push(`${channel.topic} ${logTime} ${Buffer.from(data).toString('base64')}`);
    if (position === '') throw new Error('a message without a position');
    try {
      let read = readers.get(channel);
      if (!read) readers.set(channel, (read = readerOf(channel)));
      read(data);
    } catch (thrown) {
      refusal(thrown);
      undecodable++;
    }
  }
  return { lines, undecodable };
}

function readerOf(channel: Channel): (data: Uint8Array) => void {
  const decode = createDecoder(channel);
  const stamp = createStampReader(channel);
  const isPicture = isPictureSchema(channel);
  return (data) => {
    const value = decode(data);
    stamp?.(data);
    if (isPicture) toPicture(value, channel);
  };
}

/** Lets an `InputError` pass, and nothing else. */
function refusal(thrown: unknown): void {
  if (!(thrown instanceof InputError)) throw thrown;
}

/** Time that one small file may take, and memory that this thread may hold at any time. */
const MAX_MS = 10_000;
const MAX_BYTES = 800 << 20;

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/**
 * Memory of this thread: other test files run in the same process. Garbage counts only as far as it is pages: from Node 22
 * on a decoder may ask for an array as long as a lie says, which is refused before it is touched.
 */
function heldBytes(): number {
  const held = () => {
    const { heapUsed, external } = process.memoryUsage();
    return heapUsed + external;
  };
  // The first collection finds arrays, the second knows that they are gone.
  for (let rounds = 0; rounds < 2 && held() >= MAX_BYTES; rounds++) collectGarbage();
  return held();
}

type Subject = {
  readonly title: string;
  readonly count: number;
  readonly make: () => Promise<Uint8Array>;
  /** Every byte that matters is covered by a checksum: what is not reported must be what was written. */
  readonly checked?: true;
  readonly wrap?: (bytes: Uint8Array) => Uint8Array | Record<string, Uint8Array>;
};

const channels = demonstrationChannels({ seconds: 0.5, fps: 12, jointRate: 40, width: 48, height: 32 });
const small = { chunkSize: 2048 };
const noIndex = { useChunkIndex: false, useMessageIndex: false, useStatistics: false };

const subjects: readonly Subject[] = [
  ...(['none', 'lz4', 'zstd'] as const).map((compression) => ({
    title: `an MCAP file with ${compression} chunks`,
    count: 300,
    make: async () => mcapOf({ channels: await channels, compression, ...small }),
    checked: true as const,
  })),
  {
    title: 'an MCAP file without index',
    count: 250,
    make: async () => mcapOf({ channels: await channels, compression: 'lz4', writer: noIndex, ...small }),
  },
  {
    title: 'an MCAP file without chunks',
    count: 150,
    make: async () => mcapOf({ channels: await channels, writer: { useChunks: false } }),
  },
  {
    title: 'a zstd file with an MCAP file in it',
    count: 150,
    make: async () =>
      Uint8Array.from(compress(await mcapOf({ channels: await channels, compression: 'none' }), 1)),
  },
  ...(['none', 'lz4'] as const).map((compression) => ({
    title: `a ROS 1 bag with ${compression} chunks`,
    count: 250,
    make: async () => bagOf({ channels: await channels, compression, ...small }),
  })),
  {
    title: 'a rosbag2 database',
    count: 200,
    make: async () => (await rosbag2Of({ channels: await channels }))['bag_0.db3'] ?? new Uint8Array(0),
  },
  {
    title: 'the description of a rosbag2 folder',
    count: 100,
    make: async () => (await rosbag2Of({ channels: [] }))['metadata.yaml'] ?? new Uint8Array(0),
    wrap: (bytes) => ({ 'metadata.yaml': bytes, 'notes.txt': Buffer.from('no recording') }),
  },
];

for (const [index, { title, count, make, checked, wrap }] of subjects.entries()) {
  test.serial(
    `${count} kinds of damage to ${title} end in its messages, a loss or an InputError`,
    async (t) => {
      await loadDecompressHandlers();
      const scratch = await mkdtemp(join(tmpdir(), 'fuzz-'));
      t.teardown(() => rm(scratch, { recursive: true }));
      const whole = await make();
      const wrapped = (bytes: Uint8Array) => memoryFiles(wrap?.(bytes) ?? bytes);
      const intact = await openRecording(wrapped(whole), { scratch }).catch(refusal);
      const expected = intact ? (await readAll(intact)).lines : [];
      await intact?.close();
      const kinds = Object.entries(mutations);
      const random = seeded(1000 + index);
      const outcomes = { read: 0, lossy: 0, refused: 0 };
      for (let round = 0; round < count; round++) {
        const [kind, mutate] = kinds[round % kinds.length] ?? ['', () => whole];
        const bytes = mutate(whole, random);
        const recover = round % 3 !== 0;
        const started = performance.now();
        const label = `round ${round} (${kind}, recover ${recover})`;
        try {
          const recording = await openRecording(wrapped(bytes), { recover, scratch });
          try {
            const { lines, undecodable } = await readAll(recording);
            if (recording.losses.length > 0 || undecodable > 0) outcomes.lossy++;
            else outcomes.read++;
            if (!recover) t.deepEqual(recording.losses, [], label);
            if (checked && recording.losses.length === 0) t.deepEqual(lines, expected, label);
          } finally {
            await recording.close();
          }
        } catch (thrown) {
          if (!(thrown instanceof InputError)) {
            throw new Error(`${label} ended in ${String(thrown)}, which is no InputError`, { cause: thrown });
          }
          t.regex(thrown.message, /\S+ \S+ \S+/, label);
          outcomes.refused++;
        }
        t.true(performance.now() - started < MAX_MS, `${label} took ${performance.now() - started} ms`);
        t.true(heldBytes() < MAX_BYTES, `${label} left ${heldBytes()} bytes`);
      }
      t.log(outcomes);
      t.is(outcomes.read + outcomes.lossy + outcomes.refused, count);
      t.deepEqual(await readdir(scratch), []);
    },
  );
}
