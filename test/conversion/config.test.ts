import test from 'ava';
import {
  configFaults,
  configHash,
  configJsonSchema,
  datasetConfig,
  parseDatasetConfig,
} from '../../src/conversion/config.ts';
import { pathOf, pointerOf } from '../../src/conversion/config-faults.ts';
import { InputError } from '../../src/errors.ts';

const whole = `
fps: 30
robot_type: unitree_g1
format: v3.0
clock: header
timeline: grid
task: "Pick up the bottle."
features:
  observation.images.cam_high:
    topic: /cam_high/image_raw/compressed
    type: video
    resize: {width: 640, height: 480}
    crop: {x: 0, y: 0, width: 641, height: 481}
    rotate: 90
  observation.state:
    topic: /joint_states
    field: position
    names: [left_hip, left_knee]
  observation.imu:
    concat:
      - {topic: /imu, field: [linear_acceleration.x, linear_acceleration.y], labels: [ax, ay]}
      - {topic: /wrench, field: wrench.force.z, scale: 0.001, align: {method: linear}}
  action: {topic: /joint_commands, field: position, names: all, align: {method: hold, max_age: 0.1, missing: error}}
  action.next: {derive: next, from: observation.state}
align: {method: hold, max_age: 0.2, missing: drop}
video: {codec: h264, crf: 23, gop: 2, preset: veryfast, pix_fmt: yuv420p}
episodes: {split: {gap: 2.0}}
trim: {feature: observation.state, threshold: 0.01, keep: 0.5}
publish: complete
`;

test('the documented config is read as it stands, and again from its own output', (t) => {
  const config = parseDatasetConfig(whole);
  t.deepEqual(Object.keys(config.features), [
    'observation.images.cam_high',
    'observation.state',
    'observation.imu',
    'action',
    'action.next',
  ]);
  t.deepEqual(config.episodes, { split: { gap: 2 } });
  t.deepEqual(parseDatasetConfig(JSON.parse(JSON.stringify(config))), config);
  t.deepEqual(parseDatasetConfig(JSON.stringify(config, null, '\t')), config);
});

test('everything but fps and features has a default', (t) => {
  const config = parseDatasetConfig({ fps: 10, features: { action: { topic: '/a', field: 'data' } } });
  const { format, clock, timeline, publish, episodes, video, tolerate, reorder, recover, align } = config;
  t.deepEqual(
    { format, clock, timeline, publish, episodes, video, tolerate, reorder, recover, align },
    {
      format: 'v3.0',
      clock: 'log',
      timeline: 'grid',
      publish: 'partial',
      episodes: { split: 'none' },
      video: { codec: 'h264', crf: 23, gop: 2, preset: 'veryfast', pix_fmt: 'yuv420p', copy: 'never' },
      tolerate: { undecodable: 0, late: 0, early_end: 0.4 },
      reorder: 1,
      recover: true,
      align: {},
    },
  );
});

test('one error lists every fault with line, column and place, and names the nearest known keys and words', (t) => {
  const error = t.throws(
    () =>
      parseDatasetConfig(
        `fps: 29.97
robot_typ: x
timeline: grd
task: {topics: /a, field: data}
features:
  observation.images.cam: {topic: /c, type: vdeo, resize: {width: 641, height: 480, hight: 3}}
  observation.images.b.cam: {topic: /c, type: video, resize: {width: 641, height: 480}}
  observation.image_state: {topic: /joint_states, feild: position, names: al}
  a/b: {concat: [{topic: /x, field: 'a[3:1]'}, {topic: 3}]}
  action: {derive: nxt, from: observation.stat}
  index: {topic: /i}
  foo: 3
episodes: {split: {gap: -1}}
`,
        'robot.yaml',
      ),
    { instanceOf: InputError },
  );
  const lines = error.message.split('\n').slice(1);
  t.regex(error.message, new RegExp(`^robot\\.yaml: ${lines.length} faults\n`));
  const faults = new Set(lines);
  for (const expected of [
    '- line 1, column 1, /fps: expected an integer, found the number 29.97',
    "- line 2, column 1, /robot_typ: unknown key 'robot_typ'; nearest: robot_type",
    "- line 3, column 1, /timeline: expected 'grid', or an object with 'topic', found the text 'grd'; nearest: grid",
    "- line 4, column 8, /task/topics: unknown key 'topics'; nearest: topic",
    '- line 4, column 1, /task/topic: expected a text, it is missing',
    "- line 6, column 39, /features/observation.images.cam/type: expected 'video' or 'image' or 'depth', found the text 'vdeo'; nearest: video",
    "- line 6, column 85, /features/observation.images.cam/resize/hight: unknown key 'hight'; nearest: height",
    '- line 7, column 63, /features/observation.images.b.cam/resize/width: expected an even width for video in yuv420p, found 641',
    "- line 7, column 3, /features/observation.images.b.cam: its last part 'cam' is that of camera 'observation.images.cam' too: make them differ",
    "- line 8, column 51, /features/observation.image_state/feild: unknown key 'feild'; nearest: field",
    "- line 8, column 3, /features/observation.image_state: expected a key without 'image' for a vector, found 'observation.image_state': readers take such a key for a camera",
    "- line 9, column 3, /features/a~1b: expected a key without '/', found 'a/b': LeRobot joins names with it",
    "- line 9, column 30, /features/a~1b/concat/0/field: field path 'a[3:1]': [3:1] is empty: the end is exclusive",
    '- line 9, column 49, /features/a~1b/concat/1/topic: expected a text, found the number 3',
    "- line 10, column 12, /features/action/derive: expected 'next' or 'delta' or 'done' or 'success', found the text 'nxt'; nearest: next",
    "- line 11, column 3, /features/index: 'index' is a column that every dataset has by itself: choose another key",
    '- line 13, column 20, /episodes/split/gap: expected more than 0, found the number -1',
  ]) {
    t.true(faults.has(expected), `${expected}\nis not in\n${error.message}`);
  }
  t.is(new Set(lines).size, lines.length);
});

test('text that is no YAML says where, and a bomb of aliases is refused', (t) => {
  t.throws(() => parseDatasetConfig('fps: [1', 'c.yaml'), { message: /^c\.yaml: line 1, column \d+: / });
  t.throws(() => parseDatasetConfig('{"fps": 30,\n "fps": 3}'), {
    message: /line 2, column 2: Map keys must be unique/,
  });
  t.throws(() => parseDatasetConfig(''), {
    message: 'config: /: expected an object, found null',
  });
  const bomb = `a: &a [x,x,x,x,x,x,x,x,x]\n${Array.from('bcdefgh')
    .map((name, i) => `${name}: &${name} [${`*${'abcdefg'[i]},`.repeat(9)}]`)
    .join('\n')}`;
  t.throws(() => parseDatasetConfig(bomb), { instanceOf: InputError, message: /alias/i });
});

const camera = { topic: '/c', type: 'video' };
const vector = { topic: '/v', field: 'data' };

const refused = test.macro((t, features: Record<string, unknown>, expected: RegExp, more: object = {}) => {
  const error = t.throws(() => parseDatasetConfig({ fps: 30, features, ...more }), {
    instanceOf: InputError,
  });
  t.regex(error.message, expected);
});

for (const key of ['timestamp', 'frame_index', 'episode_index', 'index', 'task_index', 'task']) {
  test(
    `the default column ${key} cannot be configured`,
    refused,
    { [key]: vector },
    /every dataset has by itself/,
  );
}
for (const key of ['a\\b', 'a..b', '.a', 'a.', '..', 'a\u0000b', 'a\nb', ' a', '', 'x'.repeat(201)]) {
  test(
    `the key ${JSON.stringify(key)} names no folder`,
    refused,
    { [key]: vector },
    /expected a key|cannot be a feature key/,
  );
}
test(
  'a derived feature needs its origin',
  refused,
  { s: vector, a: { derive: 'next', from: 'st' } },
  /'st'; nearest: s/,
);
test(
  'a camera cannot be the origin',
  refused,
  { c: camera, a: { derive: 'next', from: 'c' } },
  /'c' is a camera/,
);
test(
  'a derived feature cannot be the origin',
  refused,
  { s: vector, a: { derive: 'next', from: 's' }, b: { derive: 'delta', from: 'a' } },
  /'a' is derived itself/,
);
test('trim needs a feature', refused, { s: vector }, /expected the key of a feature, found 't'/, {
  trim: { feature: 't', threshold: 1 },
});
test('no feature at all is refused', refused, {}, /at least one feature/);
test(
  'labels are counted against names',
  refused,
  { s: { ...vector, names: ['a', 'b'], labels: ['x'] } },
  /expected 2 labels, one a value, found 1/,
);
test(
  'a joint is named once',
  refused,
  { s: { ...vector, names: ['a', 'a'] } },
  /joint 'a' is listed more than once/,
);
test(
  'an odd crop is no video',
  refused,
  { c: { ...camera, crop: { x: 0, y: 0, width: 4, height: 3 } } },
  /\/crop\/height: expected an even height/,
);
test('an encoder name is one word', refused, { s: vector }, /\/video\/codec: expected letters/, {
  video: { codec: 'x; rm -rf /' },
});
test(
  'videos cannot be packed where every episode has its own',
  refused,
  { s: vector },
  /\/videos\/pack: LeRobot v2\.1 has a video for every episode: videos\.pack needs format v3\.0/,
  { format: 'v2.1', videos: { pack: true } },
);
test('an argument is no preset', refused, { s: vector }, /\/video\/preset: expected/, {
  video: { preset: '-vf' },
});

test(
  'a marks file lies beside its recording',
  refused,
  { s: vector },
  /expected a file name without folders/,
  {
    episodes: { split: { marks: '../../etc/passwd' } },
  },
);

test('episodes may be cut and ended by topics, metadata and marks', (t) => {
  const config = parseDatasetConfig({
    fps: 30,
    features: {
      s: vector,
      'next.done': { derive: 'done' },
      'next.success': { derive: 'success', from: { metadata: 'episode.success' } },
    },
    task: { topic: '/task', field: 'data', clock: 'log' },
    episodes: { split: { marks: '{name}.json' } },
  });
  t.deepEqual(Object.keys(config.features), ['s', 'next.done', 'next.success']);
  t.deepEqual(
    configFaults({ ...config, episodes: { split: { topic: '/e', field: 'data', clock: 'log' } } }),
    [],
  );
  t.deepEqual(configFaults({ ...config, features: { s: vector, d: { derive: 'done', from: 's' } } }), [
    { pointer: '/features/d/from', detail: "unknown key 'from'; there is: derive" },
  ]);
});

test('odd sizes are fine where colour is not subsampled, or the result is even', (t) => {
  const odd = { x: 0, y: 0, width: 5, height: 5 };
  t.deepEqual(configFaults({ fps: 30, features: { c: { ...camera, type: 'image', crop: odd } } }), []);
  t.deepEqual(
    configFaults({ fps: 30, features: { c: { ...camera, crop: odd, resize: { width: 4, height: 4 } } } }),
    [],
  );
  t.deepEqual(
    configFaults({ fps: 30, features: { c: { ...camera, crop: odd } }, video: { pix_fmt: 'yuv444p' } }),
    [],
  );
});

test('faults carry JSON pointers that lead back to their place', (t) => {
  const faults = configFaults({ fps: 30, features: { 'a/b~c': { topic: '/x', feild: 'y' } } });
  t.deepEqual(
    faults.map(({ pointer }) => pointer),
    ['/features/a~1b~0c/feild', '/features/a~1b~0c'],
  );
  t.deepEqual(pathOf(faults[0]?.pointer ?? ''), ['features', 'a/b~c', 'feild']);
  t.is(pointerOf(['a', 0, '~/']), '/a/0/~0~1');
});

test('the faults of a config are found in a time that grows with its length alone', (t) => {
  const many = <T>(make: (i: number) => T) => Array.from({ length: 3000 }, (_, i) => make(i));
  const derived = many((i) => [`feature${i}`, { derive: 'delta', from: `absent${i}` }] as const);
  const features: Record<string, unknown>[] = [
    { s: { concat: many(() => ({ topic: '/joints', feild: 'position' })) } },
    { s: { topic: '/joints', names: [...many(String), ...many(() => '7'), ...many((i) => `j${i}`)] } },
    { s: { derive: 'delta', from: 'x'.repeat(100_000) }, ['y'.repeat(100_000)]: vector },
    Object.fromEntries(derived),
  ];
  for (const each of features) {
    const started = performance.now();
    const faults = configFaults({ fps: 30, features: each });
    t.true(faults.length > 0 && faults.length <= 1000);
    const ms = performance.now() - started;
    t.true(ms < 5000, `${JSON.stringify(each).slice(0, 60)}… took ${ms.toFixed(0)} ms`);
  }
});

test('the hash counts the order of columns and what the config means, nothing else', (t) => {
  const features = { b: vector, a: { field: 'data', topic: '/v' } };
  const hash = (input: object) => configHash(parseDatasetConfig(input));
  const first = hash({ fps: 30, features });
  t.regex(first, /^[0-9a-f]{64}$/);
  t.is(hash({ features: { b: { field: 'data', topic: '/v' }, a: vector }, clock: 'log', fps: 30 }), first);
  t.not(hash({ fps: 30, features: { a: vector, b: vector } }), first);
  t.not(hash({ fps: 31, features }), first);
});

test('the JSON Schema for editors describes what may be written, defaults left out', (t) => {
  const schema = configJsonSchema() as { required: string[]; properties: Record<string, object> };
  t.deepEqual(schema.required, ['fps', 'features']);
  t.deepEqual(new Set(Object.keys(schema.properties)), new Set(Object.keys(datasetConfig.shape)));
  const undescribed = Object.entries(schema.properties).filter(
    ([, part]) => !/"description"/.test(JSON.stringify(part)),
  );
  t.deepEqual(undescribed, [], 'every setting says what it does');
});

test('a column by the name of what objects inherit from is refused, not left out', (t) => {
  const text = '{"fps": 30, "features": {"a": {"topic": "/a"}, "__proto__": {"topic": "/b"}}}';
  t.deepEqual(configFaults(JSON.parse(text)), [
    { pointer: '/features/__proto__', detail: "'__proto__' cannot be the name of a column" },
  ]);
  t.throws(() => parseDatasetConfig(text), { message: /line 1, column 48, \/features\/__proto__/ });
  for (const key of ['constructor', 'toString']) {
    t.deepEqual(configFaults({ fps: 30, features: { [key]: { topic: '/a' } } }), [
      { pointer: `/features/${key}`, detail: `'${key}' cannot be a feature key` },
    ]);
  }
});

test('times that are no number of nanoseconds are refused with their place', (t) => {
  const wrong = {
    fps: 30,
    features: { a: { topic: '/a' } },
    align: { max_age: 1e300 },
    reorder: 1e300,
    episodes: { split: { gap: 1e300 } },
  };
  t.deepEqual(
    configFaults(wrong)
      .map(({ pointer, detail }) => `${pointer}: ${detail}`)
      .toSorted(),
    ['/align/max_age', '/episodes/split/gap', '/reorder'].map(
      (pointer) => `${pointer}: expected at most 1000000000000, found the number 1e+300`,
    ),
  );
});

test('more columns than any robot has are refused at once', (t) => {
  const features = Object.fromEntries(Array.from({ length: 1001 }, (_, i) => [`f${i}`, { topc: '/x' }]));
  t.deepEqual(configFaults({ fps: 30, features }), [
    { pointer: '/features', detail: 'expected at most 1000 columns, found 1001' },
  ]);
});
