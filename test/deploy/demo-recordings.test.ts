import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse } from '@foxglove/rosmsg';
import { MessageReader } from '@foxglove/rosmsg2-serialization';
import { McapIndexedReader } from '@mcap/core';
import { loadDecompressHandlers } from '@mcap/support';
import test from 'ava';
import sharp from 'sharp';
import { writeDemoRecordings } from '../../deploy/local/demo-recordings.ts';

type Message = {
  readonly header: {
    readonly stamp: { readonly sec: number; readonly nsec: number; readonly nanosec: number };
  };
  readonly name: readonly string[];
  readonly position: ArrayLike<number>;
  readonly data: Uint8Array;
};
type Seen = { readonly logNs: bigint; readonly stampNs: bigint; readonly message: Message };

/** Every message of a recording by topic, and the compressions of its chunks. */
async function contents(
  path: string,
): Promise<{ topics: Map<string, Seen[]>; compressions: Set<string>; task: string | undefined }> {
  const bytes = await readFile(path);
  const reader = await McapIndexedReader.Initialize({
    readable: {
      size: async () => BigInt(bytes.byteLength),
      read: async (offset, length) => bytes.subarray(Number(offset), Number(offset + length)),
    },
    decompressHandlers: await loadDecompressHandlers(),
  });
  const topics = new Map<string, Seen[]>();
  for await (const { channelId, logTime, data } of reader.readMessages()) {
    const channel = reader.channelsById.get(channelId);
    const definition = new TextDecoder().decode(reader.schemasById.get(channel?.schemaId ?? 0)?.data);
    const message = new MessageReader(parse(definition, { ros2: true })).readMessage<Message>(data);
    const { sec, nsec, nanosec } = message.header.stamp;
    const stampNs = BigInt(sec) * 1_000_000_000n + BigInt(nanosec ?? nsec);
    const topic = channel?.topic ?? '';
    topics.set(topic, [...(topics.get(topic) ?? []), { logNs: logTime, stampNs, message }]);
  }
  let task: string | undefined;
  for await (const { name, metadata } of reader.readMetadata({ name: 'episode' })) {
    if (name === 'episode') task = metadata.get('task');
  }
  return { topics, task, compressions: new Set(reader.chunkIndexes.map((chunk) => chunk.compression)) };
}

const folders: string[] = [];
async function written(): Promise<string[]> {
  const folder = await mkdtemp(join(tmpdir(), 'roboflow-demo-test-'));
  folders.push(folder);
  return writeDemoRecordings(folder);
}
/** One run, shared by the tests that only look at it. */
const recordings = written();
test.after.always(() => Promise.all(folders.map((folder) => rm(folder, { recursive: true, force: true }))));

test('every run of the demo makes the same bytes', async (t) => {
  const [first, second] = await Promise.all([recordings, written()]);
  t.is(first.length, 3);
  for (const [index, path] of first.entries()) {
    t.true((await readFile(path)).equals(await readFile(second[index] ?? '')), path);
  }
});

test('the demo records what the mapping needs, each sensor at its own rate, the wrist camera late', async (t) => {
  const { topics, compressions, task } = await contents((await recordings)[0] ?? '');
  t.deepEqual([...compressions], ['zstd']);
  t.is(task, 'Carry the red ball to the far mark.');
  const count = (topic: string) => topics.get(topic)?.length;
  t.is(count('/joint_states'), 400);
  t.is(count('/joint_commands'), 199);
  t.is(count('/cam_front/image/compressed'), 119);
  t.is(count('/cam_wrist/image/compressed'), 110);

  const [state, command] = [topics.get('/joint_states') ?? [], topics.get('/joint_commands') ?? []];
  t.deepEqual(state[0]?.message.name, ['gripper', 'shoulder', 'elbow']);
  // Told at 0.604 s, done 0.1 s later: the sample at 0.70 s lies next to it.
  const told = Array.from(command[30]?.message.position ?? []);
  const done = Array.from(state[70]?.message.position ?? []);
  told.forEach((value, joint) => t.true(Math.abs(value - (done[joint] ?? Number.NaN)) < 0.02));

  const wrist = topics.get('/cam_wrist/image/compressed') ?? [];
  const start = state[0]?.stampNs ?? 0n;
  t.true((wrist[0]?.stampNs ?? 0n) - start > 300_000_000n);
  for (const { logNs, stampNs } of wrist) t.true(logNs - stampNs >= 80_000_000n);
});

test('the pictures of the demo are of the stated size and follow the arm', async (t) => {
  const { topics } = await contents((await recordings)[2] ?? '');
  const front = topics.get('/cam_front/image/compressed') ?? [];
  const pixels = async (index: number) => {
    const { data, info } = await sharp(front[index]?.message.data)
      .raw()
      .toBuffer({ resolveWithObject: true });
    t.deepEqual([info.width, info.height, info.channels], [320, 240, 3]);
    return data;
  };
  const [a, b] = [await pixels(0), await pixels(45)];
  const changed = a.filter((value, at) => Math.abs(value - (b[at] ?? 0)) > 60).length;
  t.true(changed > 3000, `${changed} of ${a.length} samples changed`);
});
