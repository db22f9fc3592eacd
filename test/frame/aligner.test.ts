import test from 'ava';
import { FrameAligner } from '../../src/frame/aligner.ts';
import { TimelineScan } from '../../src/frame/scan.ts';
import type { AlignedFrame, Alignment, EpisodeSpan, FrameConfig, Mapping } from '../../src/frame/types.ts';
import { InputError } from '../../src/errors.ts';
import { alignByDefinition, type ReferenceRow } from './brute-force.ts';
import { arrivalsOf, frameConfig, seeded, vectorMapping, type Arrival, type StreamShape } from './streams.ts';

type Run = { frames: AlignedFrame[]; aligner: FrameAligner; peak: number };

/** Both passes over arrivals in log order. */
function align(
  mapping: Mapping,
  config: FrameConfig,
  arrivals: readonly Arrival[],
  spans?: readonly EpisodeSpan[],
): Run {
  const scan = new TimelineScan(mapping, config);
  for (const { source, time, logTime } of arrivals) scan.add(source, time, logTime);
  const aligner = new FrameAligner(mapping, scan.result(), config, spans);
  const frames: AlignedFrame[] = [];
  let peak = 0;
  for (const { source, time, logTime, id, bytes } of arrivals) {
    aligner.advance(logTime);
    aligner.push(source, { time, logTime, value: Float64Array.of(id), bytes });
    frames.push(...aligner.ready());
    peak = Math.max(peak, aligner.bufferedBytes);
  }
  frames.push(...aligner.finish());
  return { frames, aligner, peak };
}

function plain(frames: readonly AlignedFrame[], mapping: Mapping) {
  return frames.map(({ episode, index, time, values }) => ({
    episode,
    index,
    time,
    values: mapping.sources.map(({ feature }) => (values.get(feature) as Float64Array)[0]),
  }));
}

function randomShape(random: () => number): StreamShape {
  const pick = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)] as T;
  const start = random() < 0.4 ? random() * 1.5 : random() * 0.05;
  const end = 3 + random() * 0.6;
  const from = 1 + random();
  return {
    hz: pick([1, 5, 10, 24, 30, 50, 60, 200]),
    start,
    end,
    jitter: pick([0, 0.3, 0.9, 3]),
    lag: pick([0, 0.02, 0.15, -0.03]),
    lagJitter: pick([0, 0.01, 0.2]),
    quantum: pick([1n, 1_000_000n, 10_000_000n, 33_333_333n]),
    ...(random() < 0.3 ? { gap: { from, to: from + random() * 1.2 } } : {}),
  };
}

/** The mapping with columns made from rows: whether a row is the last, and (optionally) the next row's first value. */
function withDerived(mapping: Mapping, withNext: boolean): Mapping {
  return {
    ...mapping,
    columns: [
      ...(withNext ? ([{ feature: 'next', derive: 'next', from: 's0' }] as const) : []),
      ...mapping.columns,
      { feature: 'done', derive: 'done' },
    ],
  };
}

type DerivedRow = { episode: number; index: number; time: bigint; next: number | undefined; done: number };

/** Within each episode: without its last row where the next one's value is wanted; done on the last that is left. */
function derivedByDefinition(rows: readonly ReferenceRow[], withNext: boolean): DerivedRow[] {
  return [...new Set(rows.map(({ episode }) => episode))].flatMap((episode) => {
    const all = rows.filter((row) => row.episode === episode);
    const kept = withNext ? all.slice(0, -1) : all;
    return kept.map(({ time }, index) => ({
      episode,
      index,
      time,
      next: withNext ? all[index + 1]?.values[0] : undefined,
      done: index === kept.length - 1 ? 1 : 0,
    }));
  });
}

function derivedOf(frames: readonly AlignedFrame[], withNext: boolean): DerivedRow[] {
  const first = (frame: AlignedFrame, key: string) => (frame.values.get(key) as Float64Array)[0];
  return frames.map((frame) => ({
    episode: frame.episode,
    index: frame.index,
    time: frame.time,
    next: withNext ? first(frame, 'next') : undefined,
    done: first(frame, 'done') ?? Number.NaN,
  }));
}

test('the streaming aligner gives exactly what the definition gives, over random streams', (t) => {
  let rows = 0;
  let errors = 0;
  let dropped = 0;
  let late = 0;
  for (let seed = 1; seed <= 400; seed++) {
    const random = seeded(seed);
    const pick = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)] as T;
    const shapes = Array.from({ length: 1 + Math.floor(random() * 4) }, () => randomShape(random));
    const arrivals = arrivalsOf(shapes, random);
    const alignments = shapes.map((): Partial<Alignment> => ({
      method: pick(['hold', 'hold', 'nearest', 'linear']),
      maxAge: pick([0n, 10_000_000n, 33_333_333n, 100_000_000n, 200_000_000n, 2_000_000_000n]),
      missing: random() < 0.05 ? 'error' : pick(['drop', 'drop', 'hold']),
    }));
    const mapping = vectorMapping(alignments, random() < 0.3 ? 0 : undefined);
    const config = frameConfig({ fps: pick([7, 10, 24, 30, 50]), reorder: pick([0, 0.05, 1]) });
    const base = arrivals[0]?.time ?? 0n;
    const spans =
      random() < 0.2
        ? [
            { start: base + 300_000_000n, end: base + 900_000_000n, task: 'a' },
            { start: base + 1_200_000_000n, end: base + 2_600_000_000n, task: 'b' },
          ]
        : undefined;
    const expected = alignByDefinition(mapping, config, arrivals, spans);
    const label = `seed ${seed}`;
    if (expected.error !== undefined) {
      const { feature } = expected.error;
      const error = t.throws(
        () => align(mapping, config, arrivals, spans),
        { instanceOf: InputError },
        label,
      );
      t.true(
        error.message.includes(feature) && error.message.includes(`${expected.error.time} ns`),
        `${label}: ${error.message}`,
      );
      errors += 1;
      continue;
    }
    if (expected.rows.length === 0) {
      t.throws(
        () => align(mapping, config, arrivals, spans),
        { instanceOf: InputError, message: /at least one row|do not overlap/ },
        label,
      );
      continue;
    }
    const { frames, aligner } = align(mapping, config, arrivals, spans);
    t.deepEqual(plain(frames, mapping), expected.rows, label);
    const report = aligner.report();
    t.is(report.rows, expected.rows.length, label);
    t.is(report.droppedRows, expected.droppedRows, label);
    t.is(report.outsideRows, expected.outsideRows, label);
    t.is(aligner.bufferedBytes, 0, label);
    for (const [i, source] of report.sources.entries()) {
      const { samples, late: tooLate, used, exact, held, interpolated, dropped: drops } = source;
      t.deepEqual(
        { samples, late: tooLate, used, exact, held, interpolated, dropped: drops },
        expected.counts[i]!,
        `${label} source ${i}`,
      );
      t.is(source.exact + source.held + source.interpolated, expected.rows.length, label);
      t.is(source.largestGap, Number(expected.largestGaps[i]) / 1e9, `${label} gap of source ${i}`);
      const ages = expected.ages[i]!.map((age) => Number(age) / 1e9).toSorted((a, b) => a - b);
      t.is(source.age?.max, ages.at(-1), label);
      for (const [name, share] of [
        ['p50', 0.5],
        ['p95', 0.95],
      ] as const) {
        const exactly = ages[Math.ceil(share * ages.length) - 1] ?? 0;
        t.true(Math.abs((source.age?.[name] ?? -1) - exactly) <= exactly * 0.022 + 1e-6, `${label} ${name}`);
      }
      late += source.late;
    }
    rows += expected.rows.length;
    dropped += expected.droppedRows;
    if (seed % 3 !== 0) continue;
    const withNext = seed % 2 === 0;
    const wanted = derivedByDefinition(expected.rows, withNext);
    const derived = withDerived(mapping, withNext);
    if (wanted.length === 0) {
      t.throws(() => align(derived, config, arrivals, spans), { message: /at least one row/ }, label);
      continue;
    }
    const second = align(derived, config, arrivals, spans);
    t.deepEqual(derivedOf(second.frames, withNext), wanted, `${label} derived`);
    t.is(second.aligner.report().derivedRows, expected.rows.length - wanted.length, label);
    t.is(second.aligner.bufferedBytes, 0, label);
  }
  // The streams must have exercised what they are for.
  t.true(
    rows > 5_000 && dropped > 500 && errors > 3 && late > 20,
    `${rows} rows, ${dropped} dropped, ${errors} errors, ${late} late`,
  );
});

const steady = (hz: number, start: number, end: number, more: Partial<StreamShape> = {}): StreamShape => ({
  hz,
  start,
  end,
  jitter: 0,
  lag: 0,
  lagJitter: 0,
  quantum: 1n,
  ...more,
});

/** Bytes of a picture in the memory tests; vectors count next to nothing. */
const picture = 1_000_000;

function withBytes(arrivals: readonly Arrival[], cameras: readonly number[]): Arrival[] {
  return arrivals.map((arrival) => ({ ...arrival, bytes: cameras.includes(arrival.source) ? picture : 8 }));
}

test('a camera that pauses for a minute does not make the other streams pile up', (t) => {
  const shapes = [
    steady(30, 0, 100),
    steady(30, 0, 100, { gap: { from: 20, to: 80 }, lag: 0.03 }),
    steady(100, 0, 100),
  ];
  for (const [missing, method] of [
    ['drop', 'hold'],
    ['hold', 'hold'],
    ['hold', 'nearest'],
    ['drop', 'linear'],
  ] as const) {
    const mapping = vectorMapping([{}, { method, missing }, {}]);
    const arrivals = withBytes(arrivalsOf(shapes, seeded(1)), [0, 1]);
    const { frames, peak, aligner } = align(mapping, frameConfig(), arrivals);
    t.true(frames.length > 1_000);
    t.true(peak <= 24 * picture, `${missing} ${method}: peak ${peak}`);
    t.is(aligner.report().droppedRows > 1_700, missing === 'drop');
  }
});

test('streams that run before the last one starts, or on after the first one ends, do not pile up', (t) => {
  const shapes = [steady(30, 0, 60), steady(50, 30, 45), steady(1000, 0, 60)];
  for (const method of ['hold', 'nearest', 'linear'] as const) {
    const mapping = vectorMapping([{ method }, {}, { method }]);
    const arrivals = withBytes(arrivalsOf(shapes, seeded(2)), [0, 1]);
    const { frames, peak } = align(mapping, frameConfig(), arrivals);
    t.true(frames.length > 400);
    t.true(peak <= 6 * picture, `${method}: peak ${peak}`);
  }
});

test('samples between two rows are given up at once while a lagging stream holds the rows back', (t) => {
  const shapes = [steady(1000, 0, 20), steady(10, 0, 20, { lag: 2 })];
  const mapping = vectorMapping([{}, {}]);
  const arrivals = arrivalsOf(shapes, seeded(3)).map((arrival) => ({ ...arrival, bytes: 100 }));
  const { frames, peak } = align(mapping, frameConfig({ fps: 10 }), arrivals);
  t.is(frames.length, 200);
  // 2 s of rows at 10 Hz need 20 samples of each stream, not the 2,000 that were recorded.
  t.true(peak <= 60 * 100, `peak ${peak}`);
});

test('the grid does not drift: row k of a 30 Hz grid lies at the rounded k/30 s after an hour', (t) => {
  const mapping = vectorMapping([{ maxAge: 10n ** 13n }]);
  const start = 1_760_000_000_123_456_789n;
  const arrivals = [0n, 3_600_000_000_000n].map((after, i) => {
    return { source: 0, time: start + after, logTime: start + after, id: i + 1, bytes: 8 };
  });
  const { frames } = align(mapping, frameConfig(), arrivals);
  t.is(frames.length, 108_001);
  t.is(frames[1]?.time, start + 33_333_333n);
  t.is(frames[2]?.time, start + 66_666_667n);
  t.is(frames[107_999]?.time, start + 3_599_966_666_667n);
  t.is(frames[108_000]?.time, start + 3_600_000_000_000n);
  t.deepEqual(frames[107_999]?.values.get('s0'), Float64Array.of(1));
  t.deepEqual(frames[108_000]?.values.get('s0'), Float64Array.of(2));
});

test('a value derived from the next row leaves out the last row of each episode and follows only its own episode', (t) => {
  const base = vectorMapping([{}]);
  const mapping: Mapping = {
    ...base,
    features: ['s0', 'action', 'step'].map((key) => ({ key, dtype: 'float32', shape: [1], names: ['id'] })),
    columns: [
      ...base.columns,
      { feature: 'action', derive: 'next', from: 's0' },
      { feature: 'step', derive: 'delta', from: 's0' },
    ],
  };
  const arrivals = arrivalsOf([steady(10, 0, 2)], seeded(4));
  const at = (k: number) => arrivals[k]?.time ?? 0n;
  const spans = [
    { start: at(0), end: at(4), task: '' },
    { start: at(10), end: at(12), task: '' },
  ];
  const { frames, aligner } = align(mapping, frameConfig({ fps: 10 }), arrivals, spans);
  const first = (frame: AlignedFrame, key: string) => (frame.values.get(key) as Float64Array)[0];
  t.deepEqual(
    frames.map((frame) => [
      frame.episode,
      frame.index,
      first(frame, 's0'),
      first(frame, 'action'),
      first(frame, 'step'),
    ]),
    [
      [0, 0, 1, 2, 1],
      [0, 1, 2, 3, 1],
      [0, 2, 3, 4, 1],
      [0, 3, 4, 5, 1],
      [1, 0, 11, 12, 1],
      [1, 1, 12, 13, 1],
    ],
  );
  t.is(aligner.report().derivedRows, 2);
  t.is(aligner.report().outsideRows, 20 - 8);
  t.is(aligner.bufferedBytes, 0);
});

test('several sources of one feature make one vector in every row, each with its own alignment', (t) => {
  const base = vectorMapping([{}, { method: 'nearest' }]);
  const mapping: Mapping = {
    ...base,
    features: [{ key: 'both', dtype: 'float32', shape: [2], names: ['a', 'b'] }],
    sources: base.sources.map((source) => ({ ...source, feature: 'both' })),
    columns: [{ feature: 'both', sources: [1, 0] }],
  };
  const start = 1_760_000_000_000_000_000n;
  const ms = (time: number) => start + BigInt(time) * 1_000_000n;
  const arrivals = (
    [
      [0, 0],
      [1, 0],
      [1, 90],
      [0, 95],
      [0, 110],
      [1, 150],
      [0, 200],
      [1, 210],
    ] as const
  ).map(([source, time], i) => ({ source, time: ms(time), logTime: ms(time), id: i + 1, bytes: 8 }));
  const { frames } = align(mapping, frameConfig({ fps: 10 }), arrivals);
  t.deepEqual(
    frames.map(({ values }) => values.get('both')),
    [Float64Array.of(2, 1), Float64Array.of(3, 4), Float64Array.of(8, 7)],
  );
});

test('poses are turned between their neighbours, and a quaternion without direction is named', (t) => {
  const [source] = vectorMapping([{ method: 'slerp' }]).sources;
  if (source?.kind !== 'vector') return t.fail();
  const mapping: Mapping = {
    ...vectorMapping([{}]),
    sources: [
      { ...source, size: 7 },
      {
        ...source,
        index: 1,
        feature: 's1',
        topic: '/s1',
        alignment: { ...source.alignment, method: 'hold' },
        size: 1,
      },
    ],
  };
  const start = 1_760_000_000_000_000_000n;
  const turned = (angle: number, x: number) =>
    Float64Array.of(x, 0, 0, 0, 0, Math.sin(angle / 2), Math.cos(angle / 2));
  const rowsOf = (poses: readonly Float64Array[]) => {
    const scan = new TimelineScan(mapping, frameConfig());
    // Poses every 50 ms from 0; the other source starts the timeline at 25 ms.
    const samples = [
      ...poses.map((value, i) => ({ source: 0, time: start + BigInt(i) * 50_000_000n, value })),
      ...[25, 50, 75].map((ms) => ({
        source: 1,
        time: start + BigInt(ms) * 1_000_000n,
        value: Float64Array.of(ms),
      })),
    ].toSorted((a, b) => Number(a.time - b.time));
    for (const { source: index, time } of samples) scan.add(index, time, time);
    const aligner = new FrameAligner(mapping, scan.result(), frameConfig({ fps: 40 }));
    for (const { source: index, time, value } of samples)
      aligner.push(index, { time, logTime: time, value, bytes: 8 });
    return { rows: [...aligner.finish()], report: aligner.report() };
  };
  const { rows, report } = rowsOf([turned(0, 0), turned(1, 2), turned(2, 4)]);
  const expected = [turned(0.5, 1), turned(1, 2), turned(1.5, 3)];
  t.is(rows.length, 3);
  for (const [i, row] of rows.entries()) {
    const found = row.values.get('s0') as Float64Array;
    for (const [k, value] of (expected[i] as Float64Array).entries()) {
      t.true(Math.abs((found[k] ?? Number.NaN) - value) < 1e-12, `row ${i}: ${[...found].join(' ')}`);
    }
  }
  t.like(report.sources[0], { interpolated: 2, exact: 1, held: 0, used: 3 });
  t.throws(() => rowsOf([turned(0, 0), new Float64Array(7), turned(2, 4)]), {
    instanceOf: InputError,
    message: /^s0 \(topic \/s0\): slerp needs quaternions of length 1, found \(0, 0, 0, 0\)/,
  });
});

test('a sample that the scan did not announce is counted as late and changes no row', (t) => {
  const mapping = vectorMapping([{}]);
  const config = frameConfig({ fps: 10 });
  const start = 1_760_000_000_000_000_000n;
  const at = (i: number) => start + BigInt(i) * 100_000_000n;
  const scan = new TimelineScan(mapping, config);
  for (let i = 0; i < 6; i++) scan.add(0, at(i), at(i));
  const aligner = new FrameAligner(mapping, scan.result(), config);
  const frames: AlignedFrame[] = [];
  const push = (time: bigint, logTime: bigint, id: number) => {
    aligner.advance(logTime);
    aligner.push(0, { time, logTime, value: Float64Array.of(id), bytes: 8 });
    frames.push(...aligner.ready());
  };
  for (let i = 0; i < 4; i++) push(at(i), at(i), i);
  push(at(1), at(3), 99);
  for (let i = 4; i < 6; i++) push(at(i), at(i), i);
  frames.push(...aligner.finish());
  t.deepEqual(
    frames.map(({ values }) => values.get('s0')),
    [0, 1, 2, 3, 4, 5].map((id) => Float64Array.of(id)),
  );
  t.like(aligner.report().sources[0], { samples: 7, late: 1, used: 6 });
});
