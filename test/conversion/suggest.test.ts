import { join } from 'node:path';
import test from 'ava';
import { parseDatasetConfig, type DatasetConfig } from '../../src/conversion/config.ts';
import { suggestConfig, type RecordingFacts, type TopicFacts } from '../../src/conversion/suggest.ts';
import { FrameAligner } from '../../src/frame/aligner.ts';
import { resolveMapping } from '../../src/frame/mapping.ts';
import { TimelineScan } from '../../src/frame/scan.ts';
import type { Feature, Probe } from '../../src/frame/types.ts';
import { createDecoder } from '../../src/recording/decode.ts';
import { isPictureSchema, toPicture } from '../../src/recording/image.ts';
import { openRecording } from '../../src/recording/open.ts';
import { createStampReader } from '../../src/recording/stamp.ts';
import type { Message, Recording, RecordingFiles } from '../../src/recording/types.ts';
import { seeded } from '../frame/streams.ts';
import { demonstration } from '../helpers/demonstration.ts';
import { localFiles, memoryFiles, sharedRecordings } from '../helpers/recordings.ts';

/** What an inspection tells of a topic, from all of its messages. */
async function factsOf(recording: Recording): Promise<TopicFacts[]> {
  const byTopic = new Map<string, Message[]>();
  for await (const message of recording.messages()) {
    const list = byTopic.get(message.channel.topic) ?? [];
    list.push({ ...message, data: message.data.slice() });
    byTopic.set(message.channel.topic, list);
  }
  const since = (message: Message | undefined) =>
    message ? Number(message.logTime - recording.startTime) / 1e9 : null;
  return [...byTopic].map(([topic, messages]) => {
    const [message] = messages as [Message];
    const { channel } = message;
    const first = createDecoder(channel)(message.data);
    const picture = isPictureSchema(channel) ? toPicture(first, channel) : undefined;
    const span = (since(messages.at(-1)) ?? 0) - (since(message) ?? 0);
    const gaps = messages
      .slice(1)
      .map((later, i) => Number(later.logTime - (messages[i] as Message).logTime) / 1e9);
    return {
      probe: {
        topic,
        schemaName: channel.schema.name,
        first,
        hasStamp: createStampReader(channel) !== undefined,
        ...(picture && {
          picture: { width: picture.width, height: picture.height, channels: 3, depth: false } as const,
        }),
      },
      messages: messages.length,
      hz: span > 0 ? (messages.length - 1) / span : null,
      first: since(message),
      last: since(messages.at(-1)),
      largestGap: gaps.length > 0 ? Math.max(...gaps) : null,
      stampFaults: 0,
      stampLag: null,
      stampHz: null,
    };
  });
}

type Outcome = { text: string; config: DatasetConfig; features: readonly Feature[]; rows: number };

/** Suggests a config for a recording and aligns the recording with it. */
async function suggestAndAlign(files: RecordingFiles): Promise<Outcome> {
  const recording = await openRecording(files);
  try {
    const topics = await factsOf(recording);
    const seconds = Number(recording.endTime - recording.startTime) / 1e9;
    const metadata = recording.metadata.map(({ name, entries }) => ({
      name,
      entries: Object.fromEntries(entries),
    }));
    const text = suggestConfig({ name: files.name, seconds, topics, metadata });
    const config = parseDatasetConfig(text);
    const mapping = resolveMapping(config, new Map(topics.map(({ probe }) => [probe.topic, probe])));
    const scan = new TimelineScan(mapping, config);
    const samples: { source: number; time: bigint; logTime: bigint }[] = [];
    const stamps = new Map(recording.channels.map((channel) => [channel.id, createStampReader(channel)]));
    for await (const { channel, logTime, data } of recording.messages()) {
      for (const source of mapping.sources) {
        if (source.topic !== channel.topic) continue;
        const time = source.clock === 'header' ? (stamps.get(channel.id)?.(data) ?? 0n) : logTime;
        scan.add(source.index, time, logTime);
        samples.push({ source: source.index, time, logTime });
      }
    }
    const aligner = new FrameAligner(mapping, scan.result(), config);
    let rows = 0;
    for (const { source, ...times } of samples) {
      aligner.push(source, { ...times, value: new Float64Array(1), bytes: 8 });
    }
    for (const frame of aligner.finish()) rows = frame.index + 1;
    return { text, config, features: mapping.features, rows };
  } finally {
    await recording.close();
  }
}

test('for a recorded demonstration the suggestion converts at once', async (t) => {
  const { text, config, features, rows } = await suggestAndAlign(
    memoryFiles(await demonstration({ seconds: 2 })),
  );
  t.log(text);
  t.is(config.clock, 'header');
  t.true(features.some(({ dtype, key }) => dtype === 'video' && key.startsWith('observation.images.')));
  t.deepEqual(
    features.filter(({ dtype }) => dtype === 'float32').map(({ key, shape }) => [key, ...shape]),
    [
      ['observation.state', 4],
      ['action', 4],
    ],
  );
  t.true(rows > config.fps, `${rows} rows`);
});

const shared = sharedRecordings();
const expected: Record<string, { fps: number; clock: string; state: number; action: number; rows: number }> =
  {
    'g1/g1_ep029_ros2_cdr_zstd.mcap': { fps: 30, clock: 'header', state: 26, action: 26, rows: 221 },
    'g1/g1_ep059_rosbag2_sqlite3': { fps: 30, clock: 'header', state: 26, action: 26, rows: 280 },
    'g1/g1_ep064_ros1_lz4.bag': { fps: 30, clock: 'header', state: 26, action: 26, rows: 368 },
    'ros/turtlesim_lz4.bag': { fps: 30, clock: 'log', state: 5, action: 6, rows: 393 },
    'ros/kuka_joint_states_100hz.bag': { fps: 30, clock: 'header', state: 7, action: 7, rows: 1229 },
    'mcap/crab_servo_custom_msgs.mcap': { fps: 30, clock: 'header', state: 2, action: 2, rows: 389 },
  };
for (const [name, { fps, clock, state, action, rows }] of Object.entries(expected)) {
  const title = `the suggestion for ${name} converts at once`;
  if (shared === undefined) {
    test.skip(`${title} (no recordings here: set RECORDINGS_DIR)`, () => undefined);
    continue;
  }
  test(title, async (t) => {
    const found = await suggestAndAlign(await localFiles(join(shared, name)));
    const size = (key: string) => found.features.find((feature) => feature.key === key)?.shape[0];
    t.deepEqual(
      {
        fps: found.config.fps,
        clock: found.config.clock,
        state: size('observation.state'),
        action: size('action'),
        rows: found.rows,
      },
      { fps, clock, state, action, rows },
    );
  });
}

function facts(
  topic: string,
  schemaName: string,
  first: unknown,
  more: Partial<TopicFacts> = {},
  probe: Partial<Probe> = {},
): TopicFacts {
  return {
    probe: { topic, schemaName, first, hasStamp: true, ...probe },
    messages: 300,
    hz: 30,
    first: 0,
    last: 10,
    largestGap: 0.04,
    stampFaults: 0,
    stampLag: null,
    stampHz: null,
    ...more,
  };
}

function recordingOf(...topics: TopicFacts[]): RecordingFacts {
  return { name: 'demo', seconds: 10, topics, metadata: [] };
}

const joints = { name: ['a', 'yes', 'c: d', '7'], position: [1, 2, 3, 4], velocity: [], effort: [] };
const colour = { picture: { width: 641, height: 480, channels: 3, depth: false } } as const;

test('cameras are named after themselves, once each, and made even', (t) => {
  const config = parseDatasetConfig(
    suggestConfig(
      recordingOf(
        facts('/camera/wrist/color/image_raw', 'sensor_msgs/Image', {}, { hz: 14.8 }, colour),
        facts('/camera/wrist/color/image_raw/compressed', 'sensor_msgs/CompressedImage', {}, {}, colour),
        facts('/left/camera/image', 'sensor_msgs/Image', {}, {}, colour),
        facts('/robot/left/rgb', 'sensor_msgs/Image', {}, {}, colour),
        facts(
          '/camera/wrist/depth/image_raw',
          'sensor_msgs/Image',
          {},
          {},
          { picture: { ...colour.picture, depth: true } },
        ),
      ),
    ),
  );
  t.deepEqual(
    Object.entries(config.features).map(([key, feature]) => [
      key,
      'topic' in feature && feature.topic,
      'type' in feature && feature.type,
    ]),
    [
      ['observation.images.wrist', '/camera/wrist/color/image_raw/compressed', 'video'],
      ['observation.images.left', '/left/camera/image', 'video'],
      ['observation.images.robot_left', '/robot/left/rgb', 'video'],
      ['observation.images.depth', '/camera/wrist/depth/image_raw', 'depth'],
    ],
  );
  t.like(config.features['observation.images.wrist'], { crop: { x: 0, y: 0, width: 640, height: 480 } });
  t.is(config.fps, 30);
});

test('several joint topics are concatenated, awkward names survive YAML, and a topic without stamps means log time', (t) => {
  const text = suggestConfig(
    recordingOf(
      facts('/left/joint_states', 'sensor_msgs/JointState', joints),
      facts('/right/joint_states', 'sensor_msgs/JointState', joints),
      facts('/leader/joint_states', 'sensor_msgs/JointState', joints, {}, { hasStamp: false }),
      facts('/imu', 'sensor_msgs/Imu', {
        header: {},
        orientation: { x: 0, y: 0, z: 0, w: 1 },
        orientation_covariance: [0, 0],
      }),
      facts('/scan', 'sensor_msgs/LaserScan', { ranges: Array.from({ length: 720 }, () => 1) }),
      facts('/tf', 'tf2_msgs/TFMessage', { transforms: [{ x: 1 }] }),
    ),
  );
  const config = parseDatasetConfig(text);
  t.is(config.clock, 'log');
  t.regex(text, /clock: log # no time stamp in the messages of \/leader\/joint_states/);
  const source = { field: 'position', names: joints.name };
  t.deepEqual(Object.fromEntries(Object.entries(config.features)), {
    'observation.state': {
      concat: [
        { topic: '/left/joint_states', ...source },
        { topic: '/right/joint_states', ...source },
      ],
    },
    action: { topic: '/leader/joint_states', ...source },
  });
  t.regex(text, /# {3}\/imu: 4 values in orientation\n/);
  t.notRegex(text, /scan|\/tf/);
});

test('motors in an array give their positions, and what is about the message itself is no value', (t) => {
  const motor = (q: number) => ({ mode: 1, q, dq: 2 * q, temperature: [30, 31], reserve: [0, 0, 0, 0] });
  const motors = Array.from({ length: 35 }, (_, i) => motor(i));
  const array = { layout: { dim: [], data_offset: 0 }, data: [1, 2, 3] };
  const suggested = (...topics: TopicFacts[]) =>
    parseDatasetConfig(suggestConfig(recordingOf(...topics))).features;
  t.deepEqual(
    suggested(
      facts('/lowstate', 'unitree_hg/msg/LowState', {
        tick: 7,
        imu: { rpy: [0, 0, 0] },
        motor_state: motors,
      }),
      facts('/lowcmd', 'unitree_hg/msg/LowCmd', { motor_cmd: motors, crc: 99 }),
    ),
    {
      'observation.state': { topic: '/lowstate', field: 'motor_state[0:35].q' },
      action: { topic: '/lowcmd', field: 'motor_cmd[0:35].q' },
    },
  );
  t.deepEqual(
    suggested(
      facts('/arm/state', 'std_msgs/Float64MultiArray', array),
      facts('/arm/command', 'lab/Command', { seq: 5, timestamp: 1.7e9, target: [1, 2] }),
    ),
    {
      'observation.state': { topic: '/arm/state', field: 'data' },
      action: { topic: '/arm/command', field: 'target' },
    },
  );
});

test('a trajectory is a command', (t) => {
  const state = facts('/joint_states', 'sensor_msgs/JointState', joints);
  const trajectory = { joint_names: ['b', 'a'], points: [{ positions: [1, 2] }] };
  const found = recordingOf(
    state,
    facts('/arm/joint_trajectory', 'trajectory_msgs/msg/JointTrajectory', trajectory),
  );
  t.deepEqual(parseDatasetConfig(suggestConfig(found)).features['action'], {
    topic: '/arm/joint_trajectory',
    field: 'points[0].positions',
    names: ['b', 'a'],
  });
});

test('stamps of clocks that do not agree mean log time', (t) => {
  const state = facts('/joint_states', 'sensor_msgs/JointState', joints, { stampLag: { min: 0.002 } });
  const camera = (min: number) => facts('/cam', 'sensor_msgs/Image', {}, { stampLag: { min } }, colour);
  t.is(parseDatasetConfig(suggestConfig(recordingOf(state, camera(0.12)))).clock, 'header');
  const text = suggestConfig(recordingOf(state, camera(-3599.9)));
  t.is(parseDatasetConfig(text).clock, 'log');
  t.regex(
    text,
    /clock: log # the stamps of \/cam and \/joint_states are of clocks that differ by about 3599\.90 s/,
  );
});

test('a slow topic gets the patience it needs, and a topic on a part of the recording is left out', (t) => {
  const text = suggestConfig(
    recordingOf(
      facts('/state', 'custom/State', { x: 1, label: 'no number' }, { hz: 2, largestGap: 0.6 }),
      facts('/cmd', 'custom/Command', { u: [1, 2] }, { first: 4, last: 6 }),
    ),
  );
  const config = parseDatasetConfig(text);
  t.deepEqual(config.align, { method: 'hold', max_age: 1.3, missing: 'drop' });
  t.is(config.fps, 2);
  t.deepEqual(config.features['action'], { derive: 'next', from: 'observation.state' });
  t.regex(text, /\/cmd: 300 messages on a part of the recording only/);
});

test('the task comes from a topic or from metadata that name it, and is never made up', (t) => {
  const state = facts('/state', 'custom/State', { x: 1 });
  const note = facts(
    '/language_instruction',
    'std_msgs/String',
    { data: 'pick\nit' },
    { messages: 1, hz: null },
  );
  t.deepEqual(parseDatasetConfig(suggestConfig(recordingOf(state, note))).task, {
    topic: '/language_instruction',
    field: 'data',
    clock: 'log',
  });
  const metadata = [{ name: 'episode', entries: { operator: 'x', task: 'pick it\nup: now' } }];
  t.deepEqual(parseDatasetConfig(suggestConfig({ ...recordingOf(state), metadata })).task, {
    metadata: 'episode.task',
  });
  const text = suggestConfig(recordingOf(state));
  t.is(parseDatasetConfig(text).task, undefined);
  t.regex(text, /^# task: "What the robot does\." {3}# needed here, or with each recording \(--task\)$/m);
});

test('whatever stands in a recording, the suggestion is a config that fits it', (t) => {
  const random = seeded(3);
  const pick = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)] as T;
  const keys = [
    'x',
    'y',
    'position',
    'name',
    'header',
    'data',
    'a b',
    'a.b',
    'a[0]',
    'q\n# z',
    'no',
    '7',
    'stamp',
  ];
  const value = (depth: number): unknown => {
    const kind = random();
    if (depth > 3 || kind < 0.4) {
      return pick([
        0,
        1.5,
        Number.NaN,
        true,
        '',
        'text',
        null,
        5n,
        [],
        [1, 2],
        ['a', 'b'],
        new Float64Array(3),
        new Uint8Array(9000),
      ]);
    }
    if (kind > 0.85) return [value(depth + 1), value(depth + 1)];
    return Object.fromEntries(
      Array.from({ length: 1 + Math.floor(random() * 4) }, () => [pick(keys), value(depth + 1)]),
    );
  };
  let suggested = 0;
  for (let round = 0; round < 600; round++) {
    const topics = ['/t\nfps: 3', '/"cmd": {x}', '/state # 1', '- y', '/cmd/a', 'true'].slice(
      Math.floor(random() * 6),
    );
    const found = recordingOf(
      ...topics.map((topic) =>
        facts(topic, 'any', value(0), { hz: pick([null, 0, 9.7, 1e6]) }, { hasStamp: random() < 0.7 }),
      ),
    );
    const text = suggestConfig({ ...found, name: 'n\nclock: header' });
    if (text.includes('features: {}')) continue;
    suggested += 1;
    const config = parseDatasetConfig(text);
    t.notThrows(
      () => resolveMapping(config, new Map(found.topics.map(({ probe }) => [probe.topic, probe]))),
      `round ${round}:\n${text}`,
    );
  }
  t.true(suggested > 100, `${suggested} suggestions`);
});

test('a recording with nothing to convert says so instead of making something up', (t) => {
  const text = suggestConfig(recordingOf(facts('/chatter', 'std_msgs/String', { data: 'x' })));
  t.regex(text, /features: \{\} # nothing in this recording looks like a camera, a state or a command/);
  t.throws(() => parseDatasetConfig(text), { message: /at least one feature/ });
});
