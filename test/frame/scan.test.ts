import test from 'ava';
import { InputError } from '../../src/errors.ts';
import { FrameAligner } from '../../src/frame/aligner.ts';
import { extentOfRanges, TimelineScan } from '../../src/frame/scan.ts';
import type { FrameConfig, Mapping, TimelineExtent } from '../../src/frame/types.ts';
import { frameConfig, vectorMapping } from './streams.ts';

const second = 1_000_000_000n;
const epoch = 1_760_000_000n * second;

function scanOf(
  times: readonly (readonly (number | [number, number])[])[],
  changes: Partial<FrameConfig> = {},
  mapping: Mapping = vectorMapping(times.map(() => ({}))),
): TimelineExtent {
  const scan = new TimelineScan(mapping, frameConfig({ tolerate: { late: 0, early_end: 0.25 }, ...changes }));
  for (const [source, stream] of times.entries()) {
    for (const entry of stream) {
      const [time, log] = Array.isArray(entry) ? entry : [entry, entry];
      scan.add(source, at(time), at(log));
    }
  }
  return scan.result();
}

function at(seconds: number): bigint {
  return epoch + BigInt(Math.round(seconds * 1e9));
}

test('the scan knows start, end, rows, lags and backward steps of every source', (t) => {
  const extent = scanOf(
    [
      [
        [0, 0.5],
        [1, 1.1],
        [0.8, 1.2],
        [2, 2],
      ],
      [0.5, 1, 2.2],
    ],
    { fps: 10 },
  );
  t.is(extent.t0, at(0.5));
  t.is(extent.tEnd, at(2));
  t.is(extent.expectedRows, 16);
  t.deepEqual(extent.sources[0], {
    count: 4,
    late: 0,
    apart: 0,
    first: at(0),
    last: at(2),
    minLag: 0n,
    maxLag: second / 2n,
    backward: second / 5n,
  });
});

test('a camera that stops half-way fails with its name, the time and the key that accepts it', (t) => {
  const steady = Array.from({ length: 101 }, (_, i) => i / 10);
  const error = t.throws(() => scanOf([steady, steady.slice(0, 51)]), { instanceOf: InputError });
  t.is(
    error.message,
    "s1 (topic /s1, clock header) stops 5.000 s after the start, s0 (topic /s0, clock header) goes on for another 5.000 s: 50.0 % of the recording would be lost; 'tolerate.early_end' (now 0.25) accepts a share",
  );
  t.is(scanOf([steady, steady.slice(0, 51)], { tolerate: { late: 0, early_end: 0.5 } }).tEnd, at(5));
  t.is(scanOf([steady, steady.slice(0, 80)]).tEnd, at(7.9));
  // Less than a second is never worth a failure.
  t.is(
    scanOf([
      [0, 1.5],
      [0, 0.5],
    ]).tEnd,
    at(0.5),
  );
});

test('sources without a common stretch fail with both names and times', (t) => {
  t.throws(
    () =>
      scanOf([
        [0, 1],
        [5, 6],
      ]),
    {
      instanceOf: InputError,
      message:
        'the sources do not overlap: s1 (topic /s1, clock header) starts at 1760000005.000000000 s, s0 (topic /s0, clock header) has ended at 1760000001.000000000 s (4 s before)',
    },
  );
});

test('late and unstamped samples are counted, and fail unless a share of them is tolerated', (t) => {
  const late = [0, 1, 2, 0.9, 1.1, 3];
  t.throws(() => scanOf([late]), {
    instanceOf: InputError,
    message:
      /s0 \(topic \/s0, clock header\): 1 of 6 samples are older than a sample before them by more than 1 s.*'tolerate.late' \(0\)/,
  });
  const tolerant = { tolerate: { late: 0.2, early_end: 0 } };
  const { sources } = scanOf([late], tolerant);
  t.like(sources[0], { count: 5, late: 1, backward: (second * 9n) / 10n });
  t.is(scanOf([late], { reorder: 1.1 }).sources[0]?.late, 0);

  const scan = new TimelineScan(vectorMapping([{}]), frameConfig(tolerant));
  for (const time of [
    0n,
    epoch,
    epoch + second,
    epoch + 2n * second,
    epoch + 3n * second,
    epoch + 4n * second,
  ])
    scan.add(0, time, epoch);
  const extent = scan.result();
  t.like(extent.sources[0], { count: 5, late: 1, first: epoch });

  const zero = new TimelineScan(vectorMapping([{}, {}]), frameConfig());
  zero.add(0, 0n, epoch);
  zero.add(0, 0n, epoch);
  t.throws(() => zero.result(), {
    message: /all 2 time stamps are missing or zero\n- s1 \(topic \/s1, clock header\) has no messages/,
  });
  const damaged = new TimelineScan(vectorMapping([{}]), frameConfig());
  damaged.addApart(0);
  t.throws(() => damaged.result(), {
    message: /s0 \(topic \/s0, clock header\): none of 1 messages decodes/,
  });
});

test('stamps of zero at the beginning are times when the clock goes on from there, else they were never set', (t) => {
  const scanned = (...times: bigint[]) => {
    const scan = new TimelineScan(vectorMapping([{}]), frameConfig());
    for (const [i, time] of times.entries()) scan.add(0, time, epoch + BigInt(i));
    return scan.result().sources[0];
  };
  t.like(scanned(0n, 0n, second / 10n, second), {
    count: 4,
    late: 0,
    first: 0n,
    last: second,
    maxLag: epoch + 1n,
  });
  t.like(scanned(0n, 0n, epoch, epoch + second), { count: 2, late: 2, first: epoch });
  t.like(scanned(second, 0n, 2n * second), { count: 2, late: 1, first: second });
});

test('index ranges give the same extent as a scan when all sources go by log time', (t) => {
  const base = vectorMapping([{}, {}]);
  const mapping: Mapping = { ...base, sources: base.sources.map((source) => ({ ...source, clock: 'log' })) };
  const config = frameConfig({ fps: 10 });
  const times = [
    [0, 0.1, 0.2, 0.3, 0.4],
    [0.05, 0.15, 0.35],
  ];
  const ranges = new Map(
    times.map((stream, i) => [
      `/s${i}`,
      { first: at(stream[0] ?? 0), last: at(stream.at(-1) ?? 0), count: stream.length },
    ]),
  );
  const extent = extentOfRanges(mapping, config, ranges);
  t.deepEqual(extent, scanOf(times, config, mapping));

  const aligner = new FrameAligner(mapping, extent, config);
  const rows = [];
  const arrivals = times.flatMap((stream, source) => stream.map((time) => ({ source, time: at(time) })));
  for (const { source, time } of arrivals.toSorted((a, b) => Number(a.time - b.time))) {
    aligner.advance(time);
    aligner.push(source, { time, logTime: time, value: Float64Array.of(0), bytes: 8 });
    rows.push(...aligner.ready());
  }
  rows.push(...aligner.finish());
  t.deepEqual(
    rows.map(({ time }) => time),
    [0.05, 0.15, 0.25, 0.35].map(at),
  );
  t.throws(() => extentOfRanges(vectorMapping([{}]), config, ranges), { instanceOf: RangeError });
});

test('with a reference topic that no feature reads, its sample times are the rows', (t) => {
  const base = vectorMapping([{ maxAge: second }, {}]);
  const [first, last] = base.sources;
  if (!first || !last) return t.fail();
  const mapping: Mapping = {
    features: base.features.slice(0, 1),
    columns: base.columns.slice(0, 1),
    sources: [
      first,
      {
        index: 1,
        feature: 'timeline',
        topic: '/t',
        clock: 'header',
        alignment: last.alignment,
        kind: 'reference',
      },
    ],
    reference: 1,
    watches: [],
  };
  const config = frameConfig();
  const times = [
    [0.5, 1, 1.5, 2],
    [0.2, 0.7, 0.7, 1.6, 1.9, 2.1],
  ];
  const extent = scanOf(times, config, mapping);
  t.is(extent.expectedRows, 6);
  const aligner = new FrameAligner(mapping, extent, config);
  for (const [source, stream] of times.entries()) {
    for (const time of stream)
      aligner.push(source, {
        time: at(time),
        logTime: at(time),
        value: source === 0 ? Float64Array.of(time) : undefined,
        bytes: 8,
      });
  }
  const rows = [...aligner.finish()];
  t.deepEqual(
    rows.map(({ time, index, values }) => [time, index, values.get('s0')]),
    [
      [at(0.7), 0, Float64Array.of(0.5)],
      [at(1.6), 1, Float64Array.of(1.5)],
      [at(1.9), 2, Float64Array.of(1.5)],
    ],
  );
});

test('messages that do not decode or carry no stamp are in the report, and do not hold rows back', (t) => {
  const mapping = vectorMapping([{}]);
  const config = frameConfig({ fps: 10 });
  const scan = new TimelineScan(mapping, config);
  for (let i = 0; i < 5; i++) scan.add(0, at(i / 10), at(i / 10));
  scan.add(0, 0n, at(0.5));
  scan.addApart(0);
  scan.addApart(0);
  const aligner = new FrameAligner(mapping, scan.result(), config);
  for (let i = 0; i < 5; i++) {
    if (i === 2) aligner.undecodable(0, at(i / 10));
    else aligner.push(0, { time: at(i / 10), logTime: at(i / 10), value: Float64Array.of(i), bytes: 8 });
  }
  aligner.push(0, { time: 0n, logTime: at(0.5), value: Float64Array.of(5), bytes: 8 });
  aligner.undecodable(0);
  aligner.foreign(0);
  // All that was scanned has come, so the last row is certain before the end.
  const rows = [...aligner.ready()];
  t.is(rows.length, 5);
  t.deepEqual(rows[2]?.values.get('s0'), Float64Array.of(1));
  t.deepEqual([...aligner.finish()], []);
  t.like(aligner.report().sources[0], {
    samples: 7,
    undecodable: 2,
    foreign: 1,
    late: 1,
    used: 4,
    exact: 4,
    held: 1,
    largestGap: 0.2,
  });
});
