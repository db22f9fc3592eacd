import { InputError } from '../errors.ts';
import { describe, isRecord } from '../frame/field-path.ts';
import { leavesOf } from '../frame/flatten.ts';
import { namesOf } from '../frame/joint-names.ts';
import type { Probe } from '../frame/types.ts';
import { vectorReader } from '../frame/vector-reader.ts';

/** What an inspection found out about one topic; times in seconds from the recording's start. */
export type TopicFacts = {
  readonly probe: Probe;
  readonly messages: number;
  readonly hz: number | null;
  readonly first: number | null;
  readonly last: number | null;
  readonly largestGap: number | null;
  /** Header stamps that are zero, or run backwards by more than is put in order. */
  readonly stampFaults: number;
  /** Least log time minus header stamp, seconds: what lies between two clocks and no delay of writing; null without stamps. */
  readonly stampLag: { readonly min: number } | null;
  /** Messages a second by their header stamps; null without. */
  readonly stampHz: number | null;
};

/** A topic that can become (part of) a vector: which fields, and how many values. */
export type VectorTopic = TopicFacts & {
  readonly fields: readonly string[];
  /** Joint names, when the message lists them. */
  readonly names: readonly string[] | undefined;
  /** Whether the values are those of joints. */
  readonly joints: boolean;
  readonly size: number;
  readonly command: boolean;
};

/** Topics that tell about the recording system, not about the robot. */
const housekeeping =
  /(^|\/)(tf|tf_static|rosout|rosout_agg|diagnostics(_agg)?|camera_info|parameter_events|clock|statistics|bond)$/;
const commandWords = /command|cmd|action|target|desired|goal|leader|master|setpoint|reference/i;
/** A row of these would no longer be a robot's state, but a scan or a map. */
const largestVector = 256;

/** The vectors a topic offers: one, or one for each of the publishers that share it; none when it holds no plain numbers. */
export function vectorTopics(facts: TopicFacts): VectorTopic[] {
  const { probe } = facts;
  return [probe.first, ...(probe.others ?? [])].flatMap(
    (first) => vectorTopic({ ...facts, probe: { ...probe, first } }) ?? [],
  );
}

/** The vector a topic offers, or undefined when its messages hold no plain numbers. */
function vectorTopic(facts: TopicFacts): VectorTopic | undefined {
  const { probe } = facts;
  const { topic, first } = probe;
  if (probe.picture || housekeeping.test(topic) || !isRecord(first)) return undefined;
  const command =
    commandWords.test(topic.split('/').slice(-2).join('/')) ||
    /Twist|AckermannDrive|JointTrajectory$|JointJog/.test(probe.schemaName);
  const listed = namesOf(first);
  for (const field of ['position', 'positions', 'velocity', 'effort', 'points[0].positions']) {
    const names = listed?.names ?? [];
    if (names.length > 0 && reads({ topic, field, names: 'all' }, first)) {
      return { ...facts, fields: [field], names, joints: true, size: names.length, command };
    }
  }
  const motors = motorFields(first).filter(({ path }) => reads({ topic, field: path }, first));
  const fields = motors.length > 0 ? motors : numericFields(first, '');
  const size = fields.reduce((sum, field) => sum + field.size, 0);
  if (size === 0 || size > largestVector) return undefined;
  const paths = fields.map(({ path }) => path);
  // A single flag or counter keeps its own type in a dataset and is no vector.
  if (!reads({ topic, field: paths }, first)) return undefined;
  return { ...facts, fields: paths, names: undefined, joints: motors.length > 0, size, command };
}

/** Fields in which messages with an element for each motor keep its place. */
const motorPlaces = ['position', 'q', 'pos', 'angle', 'joint_position'] as const;

/** The places of all motors, where a message has an array with an element for each. */
function motorFields(first: Readonly<Record<string, unknown>>): { path: string; size: number }[] {
  return Object.entries(first).flatMap(([key, value]) => {
    if (!Array.isArray(value) || value.length === 0 || !plainKey.test(key)) return [];
    const place = motorPlaces.find((field) =>
      value.every((motor) => isRecord(motor) && typeof motor[field] === 'number'),
    );
    return place === undefined ? [] : [{ path: `${key}[0:${value.length}].${place}`, size: value.length }];
  });
}

/** Keys that a field path can name. */
const plainKey = /^[^.[\]\s]+$/;
/** Numbers about the message, not about the robot. */
const bookkeeping = /^(seq|sequence|tick|crc|reserved?|version|layout|time|stamp|time_?stamp(_?n?s)?)$/i;

function reads(setting: Parameters<typeof vectorReader>[0], first: unknown): boolean {
  try {
    return vectorReader(setting, first).dtype === 'float32';
  } catch (thrown) {
    if (thrown instanceof InputError) return false;
    throw thrown;
  }
}

/**
 * The largest parts of a message that are numbers throughout; headers, times, texts, covariances and what is about the
 * message itself are left out.
 */
function numericFields(
  message: Readonly<Record<string, unknown>>,
  prefix: string,
): { path: string; size: number }[] {
  return Object.entries(message).flatMap(([key, value]) => {
    if (key === 'header' || /covariance/.test(key) || bookkeeping.test(key) || !plainKey.test(key)) return [];
    const path = prefix === '' ? key : `${prefix}.${key}`;
    const whole =
      isRecord(value) &&
      Object.keys(value).some((inner) => /covariance/.test(inner) || bookkeeping.test(inner))
        ? undefined
        : sizeOf(value);
    if (whole !== undefined) return [{ path, size: whole }];
    return isRecord(value) ? numericFields(value, path) : [];
  });
}

function sizeOf(value: unknown): number | undefined {
  try {
    return leavesOf({ steps: [], label: describe(value) }, value).size;
  } catch (thrown) {
    if (thrown instanceof InputError) return undefined;
    throw thrown;
  }
}

/** Parts of camera topics that say how a picture travels, not which camera took it. */
const transport =
  /^(image|image_raw|image_rect|image_rect_raw|image_color|image_rect_color|raw|compressed|compressed_depth|compressedDepth|compressed_video|ffmpeg|theora|h264|rgb|color|video|camera)$/;

/** Names for cameras from their topics: the last telling part, with the one before it where two would be the same. */
export function cameraNames(cameras: readonly TopicFacts[]): string[] {
  const names = (parts: number) =>
    cameras.map(({ probe }) => cameraName(probe.topic, probe.picture?.depth === true, parts));
  const [short, long] = [names(1), names(2)];
  const chosen = short.map((name, i) =>
    short.filter((other) => other === name).length > 1 ? (long[i] ?? name) : name,
  );
  const taken = new Set<string>();
  return chosen.map((name) => {
    let free = name;
    for (let i = 2; taken.has(free); i++) free = `${name}_${i}`;
    taken.add(free);
    return free;
  });
}

/** The last `count` telling parts of a topic; letters, digits and `_` only. */
function cameraName(topic: string, depth: boolean, count: number): string {
  const parts = topic.split('/').filter((part) => part !== '');
  const some = parts.filter((part) => !transport.test(part)).slice(-count);
  const telling = some.length > 0 ? some.join('_') : (parts[0] ?? 'camera');
  const name = telling.replaceAll(/[^A-Za-z0-9_]+/g, '_').replaceAll(/^_+|_+$/g, '') || 'camera';
  return depth && !/depth/.test(name) ? `${name}_depth` : name;
}

/** Where a camera's pictures come from when one camera is recorded in several ways: compressed before raw. */
export function withoutDuplicates(cameras: readonly TopicFacts[]): {
  taken: TopicFacts[];
  left: TopicFacts[];
} {
  const best = new Map<string, TopicFacts>();
  const base = ({ probe }: TopicFacts) =>
    `${probe.topic.replace(/\/(compressed|compressedDepth|compressed_video|ffmpeg|theora|h264)$/, '')} ${probe.picture?.depth}`;
  for (const camera of cameras.toSorted((a, b) => b.probe.topic.length - a.probe.topic.length)) {
    if (!best.has(base(camera))) best.set(base(camera), camera);
  }
  const taken = cameras.filter((camera) => best.get(base(camera)) === camera);
  return { taken, left: cameras.filter((camera) => !taken.includes(camera)) };
}
