import test from 'ava';
import { InputError } from '../../src/errors.ts';
import { placesOf, readField } from '../../src/frame/field-path.ts';
import { vectorReader } from '../../src/frame/vector-reader.ts';
import { resolveMapping, topicsOf } from '../../src/frame/mapping.ts';
import type { FrameConfig, Mapping, Probe } from '../../src/frame/types.ts';
import { frameConfig } from './streams.ts';

const header = { stamp: { sec: 1, nsec: 2 }, frame_id: 'base' };
const joints = {
  header,
  name: ['b', 'a', 'c'],
  position: Float64Array.of(2, 1, 3),
  velocity: Float64Array.of(20, 10, 30),
  effort: new Float64Array(0),
};
const pose = {
  header,
  pose: { position: { x: 1, y: 2, z: 3 }, orientation: { x: 0, y: 0, z: 0, w: 1 } },
};
const probes = new Map<string, Probe>(
  (
    [
      ['/joint_states', 'sensor_msgs/JointState', joints],
      ['/pose', 'geometry_msgs/PoseStamped', pose],
      ['/array', 'custom/Array', { data: [1, 2, 3, 4], names: ['p', 'q'], flags: [true, false], big: 7n }],
      ['/grip', 'std_msgs/Float64', { data: 0.5 }],
      ['/flag', 'std_msgs/Bool', { data: true }],
      ['/note', 'std_msgs/String', { data: 'up' }],
      ['/silent', 'std_msgs/Float64', undefined],
      ['/trigger', 'std_msgs/Empty', {}],
      [
        '/trajectory',
        'trajectory_msgs/JointTrajectory',
        { joint_names: ['u', 'v'], points: [{ positions: [1, 2] }] },
      ],
    ] as const
  ).map(([topic, schemaName, first]) => [
    topic,
    { topic, schemaName, first, hasStamp: first !== undefined && 'header' in first },
  ]),
);
const picture = { width: 640, height: 480, channels: 3, depth: false } as const;
probes.set('/cam', {
  topic: '/cam',
  schemaName: 'sensor_msgs/CompressedImage',
  first: {},
  hasStamp: true,
  picture,
});
probes.set('/mono', {
  topic: '/mono',
  schemaName: 'sensor_msgs/Image',
  first: {},
  hasStamp: true,
  picture: { ...picture, channels: 1, width: 641 },
});
probes.set('/depth', {
  topic: '/depth',
  schemaName: 'sensor_msgs/Image',
  first: {},
  hasStamp: true,
  picture: { ...picture, channels: 1, depth: true, depthUnit: 'm' },
});

function resolve(features: FrameConfig['features'], more: Partial<FrameConfig> = {}): Mapping {
  return resolveMapping(frameConfig({ features, ...more }), probes);
}

function read(mapping: Mapping, decoded: unknown, index = 0): number[] {
  const source = mapping.sources[index];
  if (source?.kind !== 'vector') throw new Error('no vector');
  return [...(source.read(decoded) ?? [])];
}

test('joints are picked and put in the configured order by name, in every message', (t) => {
  const mapping = resolve({ s: { topic: '/joint_states', field: 'position', names: ['a', 'c'] } });
  t.deepEqual(mapping.features, [{ key: 's', dtype: 'float32', shape: [2], names: ['a', 'c'] }]);
  t.deepEqual(read(mapping, joints), [1, 3]);
  t.deepEqual(read(mapping, { name: ['a', 'x', 'c', 'b'], position: [10, 0, 30, 20] }), [10, 30]);
  t.deepEqual(read(mapping, joints), [1, 3]);
  const source = mapping.sources[0];
  if (source?.kind !== 'vector') return t.fail();
  t.throws(() => source.read({ name: ['a', 'cc'], position: [1, 2] }), {
    instanceOf: InputError,
    message: "topic /joint_states: joint 'c' is not in the message; nearest: a, cc",
  });
  t.throws(() => source.read({ name: ['a', 'c', 'c'], position: [1, 2, 3] }), {
    message: /joint 'c' is in the message 2 times/,
  });
  t.throws(() => source.read({ name: ['a', 'c'], position: [1, 2, 3] }), {
    message: /expected 2 values in field 'position', found an array of 3/,
  });
  t.throws(() => source.read({ position: [1] }), { message: /expected joint names in 'name', found absent/ });
  t.deepEqual(read(mapping, joints), [1, 3]);
});

test('`names: all` keeps the order of the first message and labels several fields by field and joint', (t) => {
  const mapping = resolve({
    s: { topic: '/joint_states', field: ['position', 'velocity'], names: 'all', scale: 2, offset: 1 },
  });
  t.deepEqual(mapping.features[0]?.names, [
    'position.b',
    'position.a',
    'position.c',
    'velocity.b',
    'velocity.a',
    'velocity.c',
  ]);
  t.deepEqual(
    read(mapping, { name: ['a', 'b', 'c'], position: [1, 2, 3], velocity: [10, 20, 30] }),
    [5, 3, 7, 41, 21, 61],
  );
  const trajectory = resolve({
    action: { topic: '/trajectory', field: 'points[0].positions', names: ['v', 'u'] },
  });
  t.deepEqual(read(trajectory, probes.get('/trajectory')?.first), [2, 1]);
});

test('poses and quaternions are flattened in the order of their definition, and named by their path', (t) => {
  const mapping = resolve({
    p: { topic: '/pose', field: 'pose' },
    q: { topic: '/pose', field: ['pose.orientation', 'pose.position.z'] },
  });
  t.deepEqual(mapping.features[0]?.names, [
    'pose.position.x',
    'pose.position.y',
    'pose.position.z',
    'pose.orientation.x',
    'pose.orientation.y',
    'pose.orientation.z',
    'pose.orientation.w',
  ]);
  // A message whose keys come in another order is read by name all the same.
  const shuffled = { pose: { orientation: { w: 7, z: 6, y: 5, x: 4 }, position: { z: 3, y: 2, x: 1 } } };
  t.deepEqual(read(mapping, shuffled), [1, 2, 3, 4, 5, 6, 7]);
  t.deepEqual(read(mapping, shuffled, 1), [4, 5, 6, 7, 3]);
});

test('indexes, slices and lists of paths pick elements; labels replace the names made from paths', (t) => {
  const mapping = resolve({
    a: { topic: '/array', field: ['data[1:3]', 'data[0]', 'flags'] },
    b: { topic: '/array', field: 'data[2:]', labels: ['x', 'y'] },
    c: { topic: '/grip' },
  });
  t.deepEqual(
    mapping.features.map(({ names }) => names),
    [['data[1]', 'data[2]', 'data[0]', 'flags[0]', 'flags[1]'], ['x', 'y'], ['data']],
  );
  t.deepEqual(read(mapping, { data: [1, 2, 3, 4], flags: [true, false] }), [2, 3, 1, 1, 0]);
  t.deepEqual(read(mapping, { data: [1, 2, 3, 4] }, 1), [3, 4]);
  t.deepEqual(read(mapping, { data: 9 }, 2), [9]);
});

test('several sources make one vector, with the topic in the name where names would repeat', (t) => {
  const mapping = resolve(
    {
      v: {
        concat: [
          { topic: '/grip', field: 'data' },
          { topic: '/array', field: 'data[0:2]', clock: 'publish', align: { method: 'linear' } },
          { topic: '/grip', field: 'data', scale: 100, labels: ['percent'] },
          { topic: '/pose', field: 'pose.position.x' },
        ],
        clock: 'log',
        align: { max_age: 0.05, missing: 'error' },
      },
    },
    { clock: 'header' },
  );
  t.deepEqual(mapping.features[0]?.names, ['data', 'data[0]', 'data[1]', 'percent', 'pose.position.x']);
  t.deepEqual(mapping.columns, [{ feature: 'v', sources: [0, 1, 2, 3] }]);
  t.deepEqual(
    mapping.sources.map(({ clock, alignment }) => [
      clock,
      alignment.method,
      alignment.maxAge,
      alignment.missing,
    ]),
    [
      ['log', 'hold', 50_000_000n, 'error'],
      ['publish', 'linear', 50_000_000n, 'error'],
      ['log', 'hold', 50_000_000n, 'error'],
      ['log', 'hold', 50_000_000n, 'error'],
    ],
  );
  const twice = resolve({
    v: {
      concat: [
        { topic: '/grip', field: 'data' },
        { topic: '/flag', field: 'data' },
      ],
    },
  });
  t.deepEqual(twice.features[0]?.names, ['grip.data', 'flag.data']);
});

test('what a message names keeps its place by name, although the config counts', (t) => {
  const motor = (name: string, position: number) => ({ name, position, ok: position > 1 });
  const motors = { motors: [motor('a', 1), motor('b', 2)] };
  const state = { name: ['x', 'y'], position: Float64Array.of(10, 20), gains: [5] };
  const read = (setting: object, first: object, then: object) =>
    vectorReader({ topic: '/m', ...setting }, first).read(then);
  const swapped = { motors: [motor('b', 4), motor('a', 3)] };
  t.deepEqual(read({ field: 'motors[0:2].position' }, motors, swapped), Float64Array.of(3, 4));
  t.deepEqual(read({ field: 'motors[1].ok' }, motors, swapped), Float64Array.of(1));
  t.is(read({ field: 'motors[0].name' }, motors, swapped), 'b', 'a name itself is read where it stands');
  t.throws(() => read({ field: 'motors[1].position' }, motors, { motors: [motor('a', 3), motor('c', 4)] }), {
    instanceOf: InputError,
    message:
      "topic /m: expected one element with name 'b' for field 'motors[1].position', as in the first message",
  });

  const other = { name: ['y', 'x'], position: [21, 11], gains: [5] };
  t.deepEqual(read({ field: 'position' }, state, other), Float64Array.of(11, 21));
  t.deepEqual(read({ field: 'position[1:2]', scale: 2 }, state, other), Float64Array.of(42));
  t.deepEqual(read({ field: ['gains', 'position'] }, state, other), Float64Array.of(5, 11, 21));
  t.deepEqual(
    read({ field: 'position' }, state, { ...other, name: [] }),
    Float64Array.of(21, 11),
    'an empty list says nothing',
  );
  t.throws(() => read({ field: 'position' }, state, { name: ['x', 'z'], position: [1, 2] }), {
    message: "topic /m: joint 'y' is not in the message; nearest: x, z",
  });
});

test('an array of messages or of arrays that is taken whole must keep its length', (t) => {
  const read = (field: string, first: object, then: object) =>
    vectorReader({ topic: '/m', field }, first).read(then);
  const points = (count: number) => ({
    points: Array.from({ length: count }, (_, i) => ({ x: i, y: [i, 9] })),
  });
  t.deepEqual(read('points', points(2), points(2)), Float64Array.of(0, 0, 9, 1, 1, 9));
  t.throws(() => read('points', points(2), points(3)), {
    instanceOf: InputError,
    message: "topic /m: expected 2 values in field 'points', found an array of 3",
  });
  const rows = { of: { rows: [[1], [2]] } };
  t.throws(() => read('of', rows, { of: { rows: [[1], [2], [3]] } }), {
    message: "topic /m: expected 2 values in field 'of.rows', found an array of 3",
  });
  t.deepEqual(
    read('points[0:2].x', points(2), points(3)),
    Float64Array.of(0, 1),
    'elements that are counted',
  );
  t.deepEqual(read('points[:].y[1:]', points(2), points(2)), Float64Array.of(9, 9));
  t.throws(() => read('points[:].x', points(2), points(3)), {
    message: "topic /m: expected 2 values in field 'points', found an array of 3",
  });
  t.throws(() => read('data[2:]', { data: [1, 2, 3] }, { data: [1, 2, 3, 4] }), {
    message: "topic /m: expected 3 values in field 'data', found an array of 4",
  });
  const named = { name: ['a', 'b'], position: [1, 2] };
  const more = { name: ['c', 'a', 'b'], position: [5, 3, 4] };
  t.deepEqual(read('position[1:]', named, more), Float64Array.of(4), 'what is found by name');
});

test('single booleans, texts and 64-bit integers keep their type', (t) => {
  const mapping = resolve({
    b: { topic: '/flag', field: 'data' },
    s: { topic: '/note', field: 'data' },
    i: { topic: '/array', field: 'big' },
  });
  t.deepEqual(
    mapping.features.map(({ dtype, shape, names }) => [dtype, shape, names]),
    [
      ['bool', [1], null],
      ['string', [1], null],
      ['int64', [1], null],
    ],
  );
  t.deepEqual(read(mapping, { data: false }), [0]);
  t.deepEqual(read(mapping, { big: 2n ** 40n }, 2), [2 ** 40]);
  const source = mapping.sources[2];
  if (source?.kind !== 'vector') return t.fail();
  t.throws(() => source.read({ big: 2n ** 60n }), { message: /beyond ±2\^53/ });
});

test('numbers that LeRobot cannot hold are refused with topic, field, index and joint', (t) => {
  const mapping = resolve({
    s: { topic: '/joint_states', field: 'position', names: ['a', 'c'] },
    d: { topic: '/array', field: 'data' },
  });
  const [state, data] = mapping.sources;
  if (state?.kind !== 'vector' || data?.kind !== 'vector') return t.fail();
  t.throws(() => state.read({ ...joints, position: [1, 2, Number.NaN] }), {
    instanceOf: InputError,
    message: "topic /joint_states: expected a finite number in field 'position[2]' (joint 'c'), found NaN",
  });
  t.throws(() => data.read({ data: [1, 2, 3, -Infinity] }), {
    message: /field 'data\[3\]', found -Infinity/,
  });
  t.throws(() => data.read({ data: [1, 2, 3] }), {
    message: /expected 4 values in field 'data', found an array of 3/,
  });
  t.throws(() => data.read({ data: [1, 2, 'x', 4] }), { message: /field 'data\[2\]', found the text 'x'/ });
  t.throws(() => data.read({}), { message: /found absent/ });
});

test('cameras get their shape after crop, resize and rotation', (t) => {
  const crop = { x: 0, y: 0, width: 600, height: 400 };
  const { features } = resolve({
    'observation.images.a': { topic: '/cam', type: 'video' },
    'observation.images.b': { topic: '/cam', type: 'image', crop, rotate: 90 },
    'observation.images.c': {
      topic: '/cam',
      type: 'video',
      crop,
      resize: { width: 320, height: 240 },
      rotate: 180,
    },
    'observation.images.d': { topic: '/depth', type: 'depth' },
    'observation.images.e': { topic: '/mono', type: 'video', resize: { width: 640, height: 480 } },
  });
  t.deepEqual(
    features.map(({ dtype, shape }) => [dtype, ...shape]),
    [
      ['video', 480, 640, 3],
      ['image', 600, 400, 3],
      ['video', 240, 320, 3],
      ['video', 480, 640, 1],
      ['video', 480, 640, 3],
    ],
  );
  t.deepEqual(features[3]?.camera, { width: 640, height: 480, transform: {}, depthUnit: 'm' });
  t.deepEqual(features[1]?.names, ['height', 'width', 'channels']);
});

test('every fault between config and recording is listed at once, with what was there instead', (t) => {
  const error = t.throws(
    () =>
      resolve(
        {
          topic: { topic: '/joint_state', field: 'position' },
          silent: { topic: '/silent', field: 'data' },
          field: { topic: '/joint_states', field: 'positon' },
          deep: { topic: '/joint_states', field: 'position.x' },
          range: { topic: '/array', field: 'data[2:9]' },
          joint: { topic: '/joint_states', field: 'position', names: ['a', 'd', 'left'] },
          nameless: { topic: '/grip', field: 'data', names: 'all' },
          short: { topic: '/array', field: 'data', names: 'all' },
          empty: { topic: '/joint_states', field: 'effort' },
          stamp: { topic: '/grip', field: 'data', clock: 'header' },
          text: { topic: '/joint_states', field: 'header.frame_id', scale: 2 },
          time: { topic: '/pose', field: 'header.stamp' },
          head: {
            concat: [
              { topic: '/pose', field: 'pose' },
              { topic: '/note', field: 'data' },
            ],
          },
          labels: { topic: '/array', field: 'data', labels: ['x'] },
          several: { topic: '/joint_states' },
          nothing: { topic: '/trigger' },
          camera: { topic: '/grip', type: 'video' },
          vector: { topic: '/cam', field: 'data' },
          odd: { topic: '/mono', type: 'video' },
          depth: { topic: '/depth', type: 'video' },
          colour: { topic: '/cam', type: 'depth' },
          crop: { topic: '/cam', type: 'image', crop: { x: 600, y: 0, width: 64, height: 64 } },
          bool: { topic: '/flag', field: 'data', align: { method: 'linear' } },
          slerp: { topic: '/array', field: 'data[0:3]', align: { method: 'slerp' } },
          derived: { derive: 'next', from: 'flagged' },
          flagged: { topic: '/flag', field: 'data' },
        },
        { timeline: { topic: '/none' } },
      ),
    { instanceOf: InputError },
  );
  const expected = [
    'topic: topic /joint_state is not in the recording; nearest: /joint_states',
    'silent: topic /silent (std_msgs/Float64) has no messages',
    "field: topic /joint_states (sensor_msgs/JointState): field 'positon': the message has no field 'positon'; nearest: position",
    "deep: topic /joint_states (sensor_msgs/JointState): field 'position.x': position is an array of 3, it has no field 'x'",
    "range: topic /array (custom/Array): field 'data[2:9]': data has 4 elements, element 8 is not there",
    "joint: topic /joint_states (sensor_msgs/JointState): joint 'd' is not in the message; nearest: a, b, c; joint 'left' is not in the message; there is: b, a, c",
    "nameless: topic /grip (std_msgs/Float64): 'names' needs a list of joint names in the message (name, joint_names); there is: data",
    "short: topic /array (custom/Array): field 'data' has 4 values for 2 names in 'names'",
    "empty: topic /joint_states (sensor_msgs/JointState): field 'effort' is empty in the first message: its size cannot be known",
    "stamp: clock 'header' needs a time stamp in the message, std_msgs/Float64 on topic /grip has none: set clock to log or publish",
    "text: topic /joint_states (sensor_msgs/JointState): field 'header.frame_id' is a text: 'scale' is for numbers",
    "time: topic /pose (geometry_msgs/PoseStamped): field 'header.stamp' is a time, not a number: a vector holds numbers only (the row's time comes from 'clock')",
    'head: topic /note is a text and cannot be part of a vector',
    "labels: topic /array (custom/Array): 'labels' has 1 entries for 4 values (data[0], data[1], data[2], data[3])",
    "several: topic /joint_states (sensor_msgs/JointState): expected 'field', the message has several: name, position, velocity, effort",
    'nothing: topic /trigger (std_msgs/Empty): expected values in the message, it has no fields',
    "camera: topic /grip (std_msgs/Float64): expected pictures for type 'video', the messages are none",
    "vector: topic /cam (sensor_msgs/CompressedImage) is a camera: set 'type' to video, image or depth",
    'odd: topic /mono (sensor_msgs/Image): video in yuv420p needs an even width and height, found 641×480: crop or resize it',
    "depth: topic /depth (sensor_msgs/Image): the pictures are depth: set type to 'depth', found 'video'",
    "colour: topic /cam (sensor_msgs/CompressedImage): type 'depth' needs 16-bit or float pictures with one channel, found 3 channels of colour",
    'crop: topic /cam (sensor_msgs/CompressedImage): crop 64×64 at 600,0 leaves the picture of 640×480',
    "bool: topic /flag: values of type bool cannot be interpolated (align.method 'linear')",
    "slerp: topic /array: align.method 'slerp' needs a quaternion (x, y, z, w) or a pose (position, quaternion), found 3 values",
    "derived: 'from' must be a vector of numbers, flagged is bool",
    'timeline: topic /none is not in the recording; nearest: /note, /mono, /pose',
  ];
  const lines = error.message
    .split('\n')
    .slice(1)
    .map((line) => line.slice(2));
  for (const sentence of expected)
    t.true(lines.includes(sentence), `${sentence}\nis not in\n${error.message}`);
  t.is(lines.length, expected.length, error.message);
});

test('all topics that a config reads are named: features, timeline, task, episodes', (t) => {
  const config = frameConfig({
    features: {
      a: { topic: '/a' },
      b: { concat: [{ topic: '/b' }, { topic: '/c' }] },
      d: { derive: 'next', from: 'a' },
    },
    timeline: { topic: '/t' },
    task: { topic: '/task', field: 'data' },
    episodes: { split: { topic: '/e', field: 'data' } },
  });
  t.deepEqual([...topicsOf(config)], ['/a', '/b', '/c', '/t', '/e', '/task']);
});

test('a reference topic is the source of a feature that reads it, else a source of its own', (t) => {
  const camera = { topic: '/cam', type: 'video' } as const;
  t.is(resolve({ g: { topic: '/grip' }, c: camera }, { timeline: { topic: '/cam' } }).reference, 1);
  const { sources, reference } = resolve({ g: { topic: '/grip' } }, { timeline: { topic: '/cam' } });
  t.is(reference, 1);
  t.like(sources[1], { kind: 'reference', topic: '/cam', feature: 'timeline' });
});

test('a field path names its places and refuses what it cannot find', (t) => {
  t.deepEqual(
    placesOf('a[1:3].b', { a: [{ b: 1 }, { b: 2 }, { b: 3 }] }).map(({ label }) => label),
    ['a[1].b', 'a[2].b'],
  );
  t.is(readField({ a: { b: [5, 6] } }, 'a.b[1]'), 6);
  t.throws(() => readField({ a: [1, 2] }, 'a[0:2]'), { message: /expected one value, found 2/ });
  for (const path of ['', '.', 'a.', 'a[', 'a[x]', 'a[2:1]', 'a b', '[0]', 'a[-1]']) {
    t.throws(() => placesOf(path, { a: [1] }), { instanceOf: InputError, message: /field path/ }, path);
  }
  t.throws(() => placesOf('constructor', {}), { message: /no field 'constructor'/ });
});

test('times are no vectors, however messages spell them', (t) => {
  for (const time of [
    { sec: 1, nanosec: 2 },
    { sec: 1, nsec: 2 },
    { seconds: 1n, nanos: 2 },
  ]) {
    const setting = { topic: '/t', field: 'stamp' };
    t.throws(() => vectorReader(setting, { stamp: time }), { instanceOf: InputError, message: /is a time/ });
  }
});
