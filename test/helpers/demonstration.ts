import sharp from 'sharp';
import { mcapOf } from './recordings.ts';
import type { BuildOptions, BuiltChannel, BuiltMessage } from './recordings.ts';

/** Nanoseconds of a second. */
export const SECOND = 1_000_000_000n;

/** Start of built recordings: 2023-11-14T22:13:20Z in ns. */
export const START = 1_700_000_000n * SECOND;

/** A recording as robots make them: cameras, joint states, commands, a task, each on its own clock. */
export type DemonstrationOptions = {
  readonly seconds?: number;
  /** Rate of the cameras; frame k is stamped START + round(k·1e9/fps). */
  readonly fps?: number;
  readonly cameras?: readonly string[];
  readonly width?: number;
  readonly height?: number;
  readonly joints?: readonly string[];
  /** Joint states and commands per second. */
  readonly jointRate?: number;
  readonly task?: string | null;
  /** Log time minus stamp in ns, as on the real robots we have recordings of. */
  readonly cameraDelay?: bigint;
  readonly stateDelay?: bigint;
  readonly actionDelay?: bigint;
  readonly start?: bigint;
} & Omit<BuildOptions, 'channels'> & {
    /** Changes the channels before they are written: damage, gaps, further topics. */
    readonly change?: (channels: BuiltChannel[]) => readonly BuiltChannel[];
  };

export const DEMONSTRATION_JOINTS = ['shoulder', 'elbow', 'wrist', 'gripper'];
export const DEMONSTRATION_TASK = 'Pick up the bottle.';

/**
 * An MCAP file with `/<camera>/image_raw/compressed` (JPEG; each picture carries its frame number), `/joint_states`
 * and `/joint_commands` (positions of `jointPosition`), and `/task`. All CDR.
 */
export async function demonstration(options: DemonstrationOptions = {}): Promise<Uint8Array> {
  const channels = await demonstrationChannels(options);
  return mcapOf({ ...options, channels: options.change?.(channels) ?? channels });
}

/** The channels of `demonstration`, for other containers. */
export async function demonstrationChannels(options: DemonstrationOptions = {}): Promise<BuiltChannel[]> {
  const { seconds = 2, fps = 30, jointRate = 100, start = START } = options;
  const { cameras = ['cam_high'], width = 96, height = 64, joints = DEMONSTRATION_JOINTS } = options;
  const { cameraDelay = 35_000_000n, stateDelay = 1_000_000n, actionDelay = 2_000_000n } = options;
  const channels: BuiltChannel[] = [];
  for (const [index, camera] of cameras.entries()) {
    const messages: BuiltMessage[] = [];
    for (let frame = 0; frame < Math.round(seconds * fps); frame++) {
      const stamp = start + frameTime(frame, fps);
      const data = await numberedJpeg(frame, { width, height, shade: index });
      messages.push({
        log: stamp + cameraDelay,
        value: { header: headerOf(stamp, camera), format: 'jpeg', data },
      });
    }
    channels.push({
      topic: `/${camera}/image_raw/compressed`,
      type: 'sensor_msgs/CompressedImage',
      messages,
    });
  }
  for (const [topic, delay, action] of [
    ['/joint_states', stateDelay, false],
    ['/joint_commands', actionDelay, true],
  ] as const) {
    const messages: BuiltMessage[] = [];
    for (let sample = 0; sample < Math.round(seconds * jointRate); sample++) {
      const since = frameTime(sample, jointRate);
      const position = joints.map((_, joint) => jointPosition(joint, since, action));
      messages.push({
        log: start + since + delay,
        value: { header: headerOf(start + since, ''), name: joints, position, velocity: [], effort: [] },
      });
    }
    channels.push({ topic, type: 'sensor_msgs/JointState', messages });
  }
  if (options.task !== null) {
    const value = { data: options.task ?? DEMONSTRATION_TASK };
    channels.push({
      topic: '/task',
      type: 'std_msgs/String',
      messages: [{ log: start - 5_000_000n, value }],
    });
  }
  return channels;
}

/** Time of the k-th of `rate` samples per second, ns since the start. */
export function frameTime(index: number, rate: number): bigint {
  return (BigInt(index) * SECOND + BigInt(Math.floor(rate / 2))) / BigInt(rate);
}

/** Position of a joint at `since` ns after the start; commands run 0.1 rad ahead. */
export function jointPosition(joint: number, since: bigint, action: boolean): number {
  return Math.sin(Number(since) / 1e9 + joint) + (action ? 0.1 : 0);
}

/** A std_msgs/Header value; `seq` is read by ROS 1 writers only. */
export function headerOf(
  stamp: bigint,
  frame: string,
): { seq: number; stamp: { sec: number; nanosec: number; nsec: number }; frame_id: string } {
  const nanos = Number(stamp % SECOND);
  return {
    seq: 0,
    stamp: { sec: Number(stamp / SECOND), nanosec: nanos, nsec: nanos },
    frame_id: frame,
  };
}

const BITS = 16;

/** RGB pixels that carry a number: sixteen bars in the upper half, black or white; below, a plain colour. */
export function numberedPixels(
  frame: number,
  size: { width: number; height: number; shade?: number },
): Uint8Array {
  const { width, height, shade = 0 } = size;
  const colour = [200 - 40 * (shade % 4), 60 + 30 * (shade % 5), 90 + (frame % 64)];
  const [bars, plain] = [new Uint8Array(width * 3), new Uint8Array(width * 3)];
  for (let x = 0; x < width; x++) {
    const bit = (frame >> Math.floor((x * BITS) / width)) & 1;
    bars.fill(bit * 255, x * 3, x * 3 + 3);
    plain.set(colour, x * 3);
  }
  const pixels = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++) pixels.set(y < height / 2 ? bars : plain, y * width * 3);
  return pixels;
}

/** The number in decoded RGB pixels, however much they were compressed in between. */
export function numberIn(
  pixels: Uint8Array,
  size: { width: number; height: number; channels?: number },
): number {
  const { width, height, channels = 3 } = size;
  const y = Math.floor(height / 4);
  let number = 0;
  for (let bit = 0; bit < BITS; bit++) {
    const x = Math.floor(((bit + 0.5) * width) / BITS);
    if ((pixels[(y * width + x) * channels] ?? 0) > 127) number |= 1 << bit;
  }
  return number;
}

const jpegs = new Map<string, Promise<Uint8Array>>();

/** The JPEG of `numberedPixels`; made once per process. */
export function numberedJpeg(
  frame: number,
  size: { width: number; height: number; shade?: number },
): Promise<Uint8Array> {
  const key = `${frame} ${size.width} ${size.height} ${size.shade ?? 0}`;
  const known = jpegs.get(key);
  if (known) return known;
  const { width, height } = size;
  const made = sharp(numberedPixels(frame, size), { raw: { width, height, channels: 3 } })
    .jpeg({ quality: 90 })
    .toBuffer();
  jpegs.set(key, made);
  return made;
}
