import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { parse } from '@foxglove/rosmsg';
import { MessageWriter } from '@foxglove/rosmsg2-serialization';
import zstd from '@foxglove/wasm-zstd';
import { McapWriter } from '@mcap/core';
import sharp from 'sharp';
import { commandAt, frontView, stateAt, wristView } from './demo-arm.ts';
import type { ArmState, Demonstration } from './demo-arm.ts';

/**
 * The demo's recordings: MCAP with zstd chunks and CDR messages, as ROS 2 writes them. Joint states at 100 Hz, commands
 * at 50 Hz, two cameras at 30 Hz that are not in step with each other; the wrist camera starts late and its messages
 * are logged up to 0.1 s after their stamps. The task is in the metadata record `episode`. Nothing in them is random:
 * every run makes the same bytes.
 */

type Recorded = Demonstration & { readonly name: string; readonly task: string };

const demonstrations: readonly Recorded[] = [
  { name: 'near', ball: 0.28, goal: 0.55, seconds: 4, task: 'Carry the red ball to the far mark.' },
  { name: 'far', ball: 0.6, goal: 0.3, seconds: 4.5, task: 'Carry the red ball to the near mark.' },
  { name: 'middle', ball: 0.42, goal: 0.62, seconds: 3.5, task: 'Carry the red ball to the far mark.' },
];

const header = `std_msgs/Header header
`;
const headerDefinition = `
================================================================================
MSG: std_msgs/Header
builtin_interfaces/Time stamp
string frame_id
================================================================================
MSG: builtin_interfaces/Time
int32 sec
uint32 nanosec
`;
const jointState = `${header}string[] name
float64[] position
float64[] velocity
float64[] effort
${headerDefinition}`;
const compressedImage = `${header}string format
uint8[] data
${headerDefinition}`;

/** 2026-01-01T00:00:00Z, when the first demonstration was "recorded". */
const epochNs = 1_767_225_600_000_000_000n;
const chunkBytes = 256 * 1024;

type Spoil = (topic: string, number: number, data: Uint8Array) => Uint8Array;

type Sample = {
  readonly topic: string;
  readonly stampNs: bigint;
  readonly logNs: bigint;
  readonly message: () => Promise<Uint8Array>;
};

/**
 * Writes the recordings into `folder`, which exists; resolves with their paths in the order they were "recorded".
 * `spoil` may change messages by topic and number.
 */
export async function writeDemoRecordings(folder: string, spoil?: Spoil): Promise<string[]> {
  await zstd.isLoaded;
  const written: string[] = [];
  for (const [index, demonstration] of demonstrations.entries()) {
    const path = join(folder, `${index + 1}-${demonstration.name}.mcap`);
    await writeRecording(path, demonstration, epochNs + BigInt(index) * 60_000_000_000n, spoil);
    written.push(path);
  }
  return written;
}

async function writeRecording(
  path: string,
  demonstration: Recorded,
  startNs: bigint,
  spoil: Spoil = (_topic, _number, data) => data,
): Promise<void> {
  const file = await open(path, 'w');
  let position = 0n;
  try {
    const writer = new McapWriter({
      writable: {
        position: () => position,
        write: async (bytes) => {
          await file.write(bytes);
          position += BigInt(bytes.byteLength);
        },
      },
      chunkSize: chunkBytes,
      compressChunk: (data) => ({ compression: 'zstd', compressedData: zstd.compress(data, 3) }),
    });
    await writer.start({ profile: 'ros2', library: 'roboflow-worker demo' });
    const channels = await register(writer);
    const samples = [...samplesOf(demonstration, startNs)].toSorted((a, b) => Number(a.logNs - b.logNs));
    const sequence = new Map<string, number>();
    for (const { topic, stampNs, logNs, message } of samples) {
      const number = sequence.get(topic) ?? 0;
      sequence.set(topic, number + 1);
      const data = spoil(topic, number, await message());
      const channelId = channels.get(topic) ?? 0;
      await writer.addMessage({ channelId, sequence: number, publishTime: stampNs, logTime: logNs, data });
    }
    await writer.addMetadata({ name: 'episode', metadata: new Map([['task', demonstration.task]]) });
    await writer.end();
  } finally {
    await file.close();
  }
}

async function register(writer: McapWriter): Promise<Map<string, number>> {
  const schema = async (name: string, definition: string) =>
    writer.registerSchema({ name, encoding: 'ros2msg', data: new TextEncoder().encode(definition) });
  const jointStateId = await schema('sensor_msgs/msg/JointState', jointState);
  const imageId = await schema('sensor_msgs/msg/CompressedImage', compressedImage);
  const channels = new Map<string, number>();
  for (const [topic, schemaId] of [
    ['/joint_states', jointStateId],
    ['/joint_commands', jointStateId],
    ['/cam_front/image/compressed', imageId],
    ['/cam_wrist/image/compressed', imageId],
  ] as const) {
    const id = await writer.registerChannel({ schemaId, topic, messageEncoding: 'cdr', metadata: new Map() });
    channels.set(topic, id);
  }
  return channels;
}

/** Every message of one demonstration, topic by topic. */
function* samplesOf(demonstration: Demonstration, startNs: bigint): Iterable<Sample> {
  const joints = new MessageWriter(parse(jointState, { ros2: true }));
  const images = new MessageWriter(parse(compressedImage, { ros2: true }));
  const series = (options: {
    topic: string;
    rate: number;
    from: number;
    lateness: (index: number) => number;
    encode: (seconds: number, stampNs: bigint, index: number) => Promise<Uint8Array>;
  }): Sample[] => {
    const count = Math.floor((demonstration.seconds - options.from) * options.rate);
    return Array.from({ length: count }, (_, index) => {
      const seconds = options.from + index / options.rate;
      const stampNs = startNs + nanoseconds(seconds);
      const logNs = stampNs + nanoseconds(options.lateness(index));
      const { topic } = options;
      return { topic, stampNs, logNs, message: () => options.encode(seconds, stampNs, index) };
    });
  };
  const stamped = (stampNs: bigint, frameId: string) => ({
    stamp: { sec: Number(stampNs / 1_000_000_000n), nanosec: Number(stampNs % 1_000_000_000n) },
    frame_id: frameId,
  });
  const arm =
    (at: (demonstration: Demonstration, seconds: number) => ArmState) =>
    async (seconds: number, stampNs: bigint) => {
      const state = at(demonstration, seconds);
      const name = ['gripper', 'shoulder', 'elbow'];
      const position = [state.gripper, state.shoulder, state.elbow];
      return joints.writeMessage({ header: stamped(stampNs, ''), name, position, velocity: [], effort: [] });
    };
  const camera =
    (frameId: string, view: typeof frontView) => async (seconds: number, stampNs: bigint, index: number) => {
      const drawing = Buffer.from(view(demonstration, seconds, index));
      const data = await sharp(drawing).jpeg({ quality: 88 }).toBuffer();
      return images.writeMessage({ header: stamped(stampNs, frameId), format: 'jpeg', data });
    };

  yield* series({ topic: '/joint_states', rate: 100, from: 0, lateness: () => 0.001, encode: arm(stateAt) });
  yield* series({
    topic: '/joint_commands',
    rate: 50,
    from: 0.004,
    lateness: () => 0.002,
    encode: arm(commandAt),
  });
  yield* series({
    topic: '/cam_front/image/compressed',
    rate: 30,
    from: 0.011,
    lateness: (index) => 0.02 + 0.005 * (index % 3),
    encode: camera('cam_front', frontView),
  });
  yield* series({
    topic: '/cam_wrist/image/compressed',
    rate: 30,
    from: 0.317,
    lateness: (index) => 0.08 + 0.01 * (index % 3),
    encode: camera('cam_wrist', wristView),
  });
}

function nanoseconds(seconds: number): bigint {
  return BigInt(Math.round(seconds * 1e9));
}
