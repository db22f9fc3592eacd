import { open } from 'node:fs/promises';
import { McapWriter } from '@mcap/core';
import {
  DEMONSTRATION_JOINTS,
  frameTime,
  headerOf,
  jointPosition,
  numberedJpeg,
  SECOND,
  START,
} from './demonstration.ts';
import { rosEncoder } from './recordings.ts';
import { definitionOf } from './ros-types.ts';

export type LongRecordingOptions = {
  readonly seconds: number;
  readonly cameras: readonly string[];
  readonly width: number;
  readonly height: number;
  readonly fps?: number;
  readonly jointRate?: number;
  /** The pictures of the cameras, over and over; default: numbered ones. */
  readonly pictures?: readonly Uint8Array[];
};

/** Distinct pictures; they repeat, so that hours of recording are written in seconds. */
const PICTURES = 60;

/** Streams a recording of any length to a file: cameras (JPEG) and `/joint_states`, in order of time, 1 MiB chunks. */
export async function writeLongRecording(path: string, options: LongRecordingOptions): Promise<void> {
  const { seconds, cameras, width, height, fps = 30, jointRate = 100 } = options;
  const pictures =
    options.pictures ??
    (await Promise.all(
      Array.from({ length: PICTURES }, (_, frame) => numberedJpeg(frame, { width, height })),
    ));
  const file = await open(path, 'w');
  let position = 0n;
  const writer = new McapWriter({
    chunkSize: 1 << 20,
    writable: {
      position: () => position,
      write: async (bytes) => {
        await file.write(bytes);
        position += BigInt(bytes.byteLength);
      },
    },
  });
  await writer.start({ profile: 'ros2', library: 'roboflow-test' });
  const picture = await channelOf(writer, 'sensor_msgs/CompressedImage');
  const joints = await channelOf(writer, 'sensor_msgs/JointState');
  const cameraIds: number[] = [];
  for (const camera of cameras) cameraIds.push(await picture.add(`/${camera}/image_raw/compressed`));
  const jointId = await joints.add('/joint_states');
  let frame = 0;
  for (let sample = 0; sample < seconds * jointRate; sample++) {
    const since = frameTime(sample, jointRate);
    for (; frameTime(frame, fps) <= since; frame++) {
      const stamp = START + frameTime(frame, fps);
      const data = pictures[frame % pictures.length];
      for (const id of cameraIds) {
        await write(writer, id, stamp, picture.encode({ header: headerOf(stamp, ''), format: 'jpeg', data }));
      }
    }
    const angles = DEMONSTRATION_JOINTS.map((_, joint) =>
      jointPosition(joint, since % (20n * SECOND), false),
    );
    const stamp = START + since;
    const value = {
      header: headerOf(stamp, ''),
      name: DEMONSTRATION_JOINTS,
      position: angles,
      velocity: [],
      effort: [],
    };
    await write(writer, jointId, stamp, joints.encode(value));
  }
  await writer.end();
  await file.close();
}

async function channelOf(writer: McapWriter, type: string) {
  const definition = definitionOf(type, 2);
  const schemaId = await writer.registerSchema({
    name: type.replace('/', '/msg/'),
    encoding: 'ros2msg',
    data: Buffer.from(definition),
  });
  return {
    encode: rosEncoder(definition, 2),
    add: (topic: string) =>
      writer.registerChannel({ topic, schemaId, messageEncoding: 'cdr', metadata: new Map() }),
  };
}

async function write(writer: McapWriter, channelId: number, time: bigint, data: Uint8Array): Promise<void> {
  await writer.addMessage({ channelId, sequence: 0, logTime: time, publishTime: time, data });
}
