import test from 'ava';
import { marksName, parseMarks } from '../../src/conversion/marks.ts';
import { InputError } from '../../src/errors.ts';
import { FrameAligner } from '../../src/frame/aligner.ts';
import { Coverage } from '../../src/frame/coverage.ts';
import { EpisodeScan, rowsWithin, type EpisodeFacts } from '../../src/frame/episode.ts';
import { slerp } from '../../src/frame/interpolate.ts';
import { resolveMapping } from '../../src/frame/mapping.ts';
import { TimelineScan } from '../../src/frame/scan.ts';
import type { AlignedFrame, EpisodeSpan, FrameConfig, Probe } from '../../src/frame/types.ts';
import { frameConfig, seeded } from './streams.ts';

const epoch = 1_760_000_000_000_000_000n;

function at(seconds: number): bigint {
  return epoch + BigInt(Math.round(seconds * 1e9));
}

type Event = { topic: string; at: number; data: unknown };

/** A stream of one topic: `data` by time. */
function stream(topic: string, times: readonly number[], data: (time: number) => unknown): Event[] {
  return times.map((time) => ({ topic, at: time, data: data(time) }));
}

function range(from: number, to: number, step: number): number[] {
  return Array.from({ length: Math.round((to - from) / step) + 1 }, (_, i) => from + i * step);
}

/** Both passes over events, as a conversion makes them. */
function convert(config: FrameConfig, events: readonly Event[], facts: EpisodeFacts = { task: 'do it' }) {
  const inOrder = events.toSorted((a, b) => a.at - b.at);
  const probes = new Map<string, Probe>();
  for (const { topic, data } of inOrder) {
    if (!probes.has(topic))
      probes.set(topic, { topic, schemaName: 'std_msgs/Any', first: { data }, hasStamp: false });
  }
  const mapping = resolveMapping(config, probes, { taskGiven: facts.task !== undefined });
  const scan = new TimelineScan(mapping, config);
  const episodes = new EpisodeScan(mapping, config);
  for (const event of inOrder) {
    const decoded = { data: event.data };
    for (const source of mapping.sources) {
      if (source.topic !== event.topic || !scan.add(source.index, at(event.at), at(event.at))) continue;
      const value =
        source.kind === 'vector' && episodes.values.has(source.index) ? source.read(decoded) : undefined;
      episodes.sample(source.index, at(event.at), value);
    }
    for (const watch of episodes.watches)
      if (watch.topic === event.topic) episodes.watch(watch, at(event.at), decoded);
  }
  const extent = scan.result();
  const spans = episodes.result(extent, facts);
  const aligner = new FrameAligner(mapping, extent, config, spans);
  const frames: AlignedFrame[] = [];
  for (const event of inOrder) {
    aligner.advance(at(event.at));
    for (const source of mapping.sources) {
      if (source.topic !== event.topic || source.kind !== 'vector') continue;
      aligner.push(source.index, {
        time: at(event.at),
        logTime: at(event.at),
        value: source.read({ data: event.data }),
        bytes: 8,
      });
      frames.push(...aligner.ready());
    }
  }
  frames.push(...aligner.finish());
  return {
    spans,
    frames,
    expected: rowsWithin(extent, config, spans),
    report: aligner.report(),
    bytes: aligner.bufferedBytes,
    needed: episodes.needsSamples,
  };
}

function inSeconds(spans: readonly EpisodeSpan[]) {
  return spans.map(({ start, end, task }) => [Number(start - epoch) / 1e9, Number(end - epoch) / 1e9, task]);
}

const state = { s: { topic: '/s', field: 'data' } } as const;

test('without split and trim there is one episode, and index ranges are enough', (t) => {
  const { spans, frames, needed } = convert(
    frameConfig({ features: state }),
    stream('/s', range(0, 1, 0.1), (x) => x),
  );
  t.deepEqual(inSeconds(spans), [[0, 1, 'do it']]);
  t.is(frames.length, 31);
  t.false(needed);
});

test('a gap in which every stream is silent cuts; a pause of one stream does not', (t) => {
  const config = frameConfig({
    fps: 10,
    features: { ...state, c: { topic: '/c', field: 'data' } },
    episodes: { split: { gap: 2 } },
  });
  const events = [
    ...stream('/s', [...range(0, 1, 0.1), ...range(4, 8.9, 0.1), ...range(11, 12, 0.1)], (x) => x),
    ...stream(
      '/c',
      [
        ...range(0.05, 1.05, 0.1),
        ...range(4.05, 5.05, 0.1),
        ...range(8.05, 8.95, 0.1),
        ...range(11.05, 12.05, 0.1),
      ],
      (x) => x,
    ),
  ];
  const { spans, frames, report, needed } = convert(config, events);
  t.true(needed);
  t.deepEqual(inSeconds(spans), [
    [0.05, 1.05, 'do it'],
    [4, 8.95, 'do it'],
    [11, 12, 'do it'],
  ]);
  t.deepEqual(
    [...new Set(frames.map(({ episode }) => episode))],
    inSeconds(spans).map((_, i) => i),
  );
  for (const [i] of spans.entries()) {
    t.deepEqual(
      frames.filter(({ episode }) => episode === i).map(({ index }) => index),
      frames.filter(({ episode }) => episode === i).map((_, index) => index),
    );
  }
  const grid = 120;
  t.is(report.rows + report.droppedRows + report.outsideRows, grid);
});

test('stretches are the same in whatever order their moments come', (t) => {
  const random = seeded(5);
  for (let round = 0; round < 200; round++) {
    const moments = Array.from({ length: 40 }, () => BigInt(Math.floor(random() * 300)));
    const coverage = new Coverage(5n);
    for (const moment of moments) coverage.add(moment);
    const expected: { start: bigint; end: bigint }[] = [];
    for (const moment of moments.toSorted((a, b) => Number(a - b))) {
      const last = expected.at(-1);
      if (last && moment - last.end <= 5n) last.end = moment;
      else expected.push({ start: moment, end: moment });
    }
    t.deepEqual(coverage.stretches, expected, `round ${round}`);
  }
});

test('a topic cuts episodes by its value: numbers and texts from change to change, false and negative between them', (t) => {
  const base = stream('/s', range(0, 10, 0.1), (x) => x);
  const cut = (values: readonly (readonly [number, unknown])[]) =>
    inSeconds(
      convert(frameConfig({ features: state, episodes: { split: { topic: '/e', field: 'data' } } }), [
        ...base,
        ...values.map(([time, data]) => ({ topic: '/e', at: time, data })),
      ]).spans,
    ).map(([start, end]) => [start, Math.round(Number(end) * 1e6) / 1e6]);
  t.deepEqual(
    cut([
      [1, true],
      [2, true],
      [3, false],
      [5, true],
    ]),
    [
      [1, 3],
      [5, 10],
    ],
  );
  t.deepEqual(
    cut([
      [0, 0],
      [4, 1],
      [6, -1],
      [8, 1],
    ]),
    [
      [0, 4],
      [4, 6],
      [8, 10],
    ],
  );
  t.deepEqual(
    cut([
      [2, 'pick'],
      [3, 'place'],
      [4, ''],
    ]),
    [
      [2, 3],
      [3, 4],
    ],
  );
  t.throws(() => cut([[2, false]]), {
    instanceOf: InputError,
    message: /episodes.split by topic \/e leaves no episode/,
  });
  t.throws(() => cut([[2, [1]]]), {
    message: /expected a boolean or number or bigint or string in field 'data', found an array of 1/,
  });
});

test('marks cut where they say, with tasks of their own', (t) => {
  const marks = parseMarks(
    '[{"start": 1, "end": 2, "task": "pick"},\n {"start": 3.5, "end": 99}]',
    'x.json',
    epoch,
  );
  const config = frameConfig({ fps: 10, features: state, episodes: { split: { marks: '{name}.json' } } });
  const events = stream('/s', range(0, 5, 0.1), (x) => x);
  const { spans, frames } = convert(config, events, { task: 'place', marks });
  t.deepEqual(inSeconds(spans), [
    [1, 2, 'pick'],
    [3.5, 5, 'place'],
  ]);
  t.is(frames.length, 11 + 16);
  t.throws(() => convert(config, events, { marks }), {
    instanceOf: InputError,
    message: /an episode has no task/,
  });
  const [first] = marks;
  if (!first) return t.fail();
  t.throws(() => convert(config, events, { task: 'x', marks: [first, first] }), { message: /overlap/ });
  const following = { ...first, start: first.end, end: first.end + 1_000_000_000n };
  const touching = convert(config, events, { task: 'x', marks: [following, first] });
  t.is(touching.frames.length, 10 + 11, 'the row at the time of both is of the later one');
  const early = { ...following, start: first.end - 1n };
  t.throws(() => convert(config, events, { task: 'x', marks: [first, early] }), { message: /overlap/ });
  t.throws(() => parseMarks('[{"start": 2, "end": 1},\n {"stat": 3}]', 'x.json', 0n), {
    instanceOf: InputError,
    message: /^x\.json: 4 faults\n- line 1, column 15, \/0\/end: expected an end after the start\n/,
  });
  t.is(marksName('{name}.marks.json', 's3://bucket/raw/run 7.mcap.zstd'), 'run 7.marks.json');
  t.is(marksName('{name}.json', '/data/run.7.bag.zst'), 'run.7.json');
  t.is(marksName('{name}.json', '/data/bag_folder/'), 'bag_folder.json');
});

test('the task comes from its topic: what holds at the start, else the first text within', (t) => {
  const config = frameConfig({
    features: state,
    task: { topic: '/task', field: 'data' },
    episodes: { split: { topic: '/e', field: 'data' } },
  });
  const events = [
    ...stream('/s', range(0, 6, 0.1), (x) => x),
    ...stream('/e', [0, 2, 4], (x) => x),
    { topic: '/task', at: 1, data: 'one' },
    { topic: '/task', at: 3, data: 'two' },
    { topic: '/task', at: 3.5, data: '  ' },
  ];
  t.deepEqual(
    convert(config, events, {}).spans.map(({ task }) => task),
    ['one', 'one', 'two'],
  );
  t.deepEqual(
    convert(config, events, { task: 'mine' }).spans.map(({ task }) => task),
    ['mine', 'mine', 'mine'],
  );
  const late = events.map((event) => (event.topic === '/task' ? { ...event, at: event.at + 2 } : event));
  t.throws(() => convert(config, late, {}), {
    instanceOf: InputError,
    message: /topic \/task has no text before or within it/,
  });
  const gone = events.filter(({ topic }) => topic !== '/task');
  t.throws(() => convert(config, gone, {}), { message: /task: topic \/task is not in the recording/ });
  t.is(convert(config, gone, { task: 'mine' }).spans.length, 3);
});

test('idle ends are trimmed to what moves, plus what is to be kept', (t) => {
  const config = frameConfig({
    fps: 10,
    features: state,
    trim: { feature: 's', threshold: 0.015, keep: 0.5 },
  });
  const still = (x: number) => (x < 3 ? 0.005 * Math.sin(x * 50) : x > 6 ? 3 : x - 3);
  const { spans, frames, expected, report } = convert(config, stream('/s', range(0, 10, 0.01), still));
  t.is(expected, 40);
  t.deepEqual(inSeconds(spans), [[2.52, 6.5, 'do it']]);
  t.is(frames.length, 40);
  t.is(report.outsideRows, 101 - 40);
  t.throws(
    () =>
      convert(
        config,
        stream('/s', range(0, 2, 0.1), () => 1),
      ),
    {
      instanceOf: InputError,
      message: 'the whole recording is idle: s never changes by more than trim.threshold 0.015',
    },
  );
});

test('next.done is true on the last row of each episode, next.success when it succeeded too', (t) => {
  const config = frameConfig({
    fps: 10,
    features: {
      ...state,
      action: { derive: 'next', from: 's' },
      'next.done': { derive: 'done' },
      'next.success': { derive: 'success', from: { topic: '/ok', field: 'data' } },
    },
    episodes: { split: { topic: '/e', field: 'data' } },
  });
  const events = [
    ...stream('/s', range(0, 1, 0.1), (x) => Math.round(x * 10)),
    { topic: '/e', at: 0, data: 1 },
    { topic: '/e', at: 0.35, data: -1 },
    { topic: '/e', at: 0.55, data: 2 },
    { topic: '/ok', at: 0.3, data: false },
    { topic: '/ok', at: 0.9, data: true },
  ];
  const { frames, report, bytes } = convert(config, events);
  const first = (frame: AlignedFrame, key: string) => (frame.values.get(key) as Float64Array)[0];
  t.deepEqual(
    frames.map((frame) => [
      frame.episode,
      ...['s', 'action', 'next.done', 'next.success'].map((key) => first(frame, key)),
    ]),
    [
      [0, 0, 1, 0, 0],
      [0, 1, 2, 0, 0],
      [0, 2, 3, 1, 0],
      [1, 6, 7, 0, 0],
      [1, 7, 8, 0, 0],
      [1, 8, 9, 0, 0],
      [1, 9, 10, 1, 1],
    ],
  );
  t.is(report.derivedRows, 2);
  t.is(bytes, 0);
  const without = { ...config, features: { ...config.features } };
  delete (without.features as Record<string, unknown>)['action'];
  const plain = convert(without, events);
  t.deepEqual(
    plain.frames.map((frame) => first(frame, 'next.done')),
    [0, 0, 0, 1, 0, 0, 0, 0, 1],
  );
  const silent = events.filter((event) => event.topic !== '/ok' || event.at > 0.5);
  t.throws(() => convert(config, silent), { instanceOf: InputError, message: /next.success is asked for/ });
});

test('slerp goes along the shorter arc at constant speed, with a linear position for poses', (t) => {
  const turn = (angle: number) => [0, 0, Math.sin(angle / 2), Math.cos(angle / 2)];
  const close = (found: Float64Array, expected: readonly number[]) => {
    t.is(found.length, expected.length);
    for (const [i, value] of expected.entries())
      t.true(Math.abs((found[i] ?? 0) - value) < 1e-12, `${[...found].join(' ')}`);
  };
  const from = Float64Array.from(turn(0.2));
  close(slerp(from, Float64Array.from(turn(1.2)), 0.25), turn(0.45));
  close(
    slerp(
      from,
      Float64Array.from(turn(1.2), (x) => -x),
      0.25,
    ),
    turn(0.45),
  );
  close(slerp(from, from, 0.5), turn(0.2));
  close(slerp(Float64Array.of(0, 0, 0, ...turn(0)), Float64Array.of(4, 8, -4, ...turn(1)), 0.5), [
    2,
    4,
    -2,
    ...turn(0.5),
  ]);
  t.throws(() => slerp(Float64Array.of(0, 0, 0, 0), from, 0.5), {
    instanceOf: InputError,
    message: /quaternions of length 1/,
  });
});
