import test from 'ava';
import {
  HISTOGRAM_SIZE,
  sampleBytes,
  parseY4mHeader,
  pictureHistogram,
  SampleStream,
} from '../../src/dataset/picture-histogram.ts';
import {
  candidateExpression,
  isCandidate,
  nearestCandidates,
  sampleCount,
  sampleIndices,
  sampleStride,
} from '../../src/dataset/picture-sampling.ts';
import {
  columnStats,
  constantStats,
  pictureStats,
  RunningMoments,
  shiftStats,
} from '../../src/dataset/stats.ts';
import type { FeatureStats } from '../../src/dataset/types.ts';
import { VectorMoments, VectorQuantiles } from '../../src/dataset/vector-stats.ts';

const A = [
  [0, 1],
  [1, 3],
  [2, 5],
  [3, 7],
];
const B = [
  [10, 0],
  [12, 0],
];

function vectorStats(rows: readonly number[][]): FeatureStats {
  const moments = new VectorMoments(2);
  for (const row of rows) moments.add(row);
  const quantiles = new VectorQuantiles(moments.moments);
  for (const row of rows) quantiles.add(row);
  return quantiles.stats(moments);
}

function close(
  t: { true(value: boolean, message?: string): void },
  found: readonly number[],
  expected: readonly number[],
  tolerance = 1e-6,
) {
  found.forEach((value, i) => {
    const want = expected[i] ?? Number.NaN;
    t.true(Math.abs(value - want) <= tolerance * Math.max(1, Math.abs(want)), `${value} is not ${want}`);
  });
  t.true(found.length === expected.length);
}

test('statistics of the golden episodes are those lerobot computes', (t) => {
  const a = vectorStats(A);
  close(t, a.mean, [1.5, 4]);
  close(t, a.std, [1.118034, 2.236068]);
  t.deepEqual([a.min, a.max, a.count], [[0, 1], [3, 7], 4]);
  close(t, a.q50, [1.0002, 3.0004]);
  close(t, a.q90, [2.99976, 6.99952]);
  const b = vectorStats(B);
  close(t, b.mean, [11, 0]);
  close(t, b.std, [1, 0]);
  close(t, b.q50, [10, 0]);
  close(t, b.q90, [11.99992, 0]);
});

test('merged statistics equal a pass over all rows', (t) => {
  const merged = new VectorMoments(2);
  merged.merge(vectorStats(A));
  merged.merge(vectorStats(B));
  close(
    t,
    merged.moments.map((m) => m.mean),
    [4.6666667, 2.6666667],
  );
  close(
    t,
    merged.moments.map((m) => m.std),
    [4.6067583, 2.6246693],
  );
  t.deepEqual(
    merged.moments.map((m) => [m.min, m.max, m.count]),
    [
      [0, 12, 6],
      [0, 7, 6],
    ],
  );
});

test('a quantile inverts the distribution and does not interpolate a median', (t) => {
  const stats = columnStats([0, 1, 2, 3, 4]);
  close(t, stats.q50, [2.0004]);
  close(t, stats.q01, [-1e-10], 1e-12);
});

test('one row has no spread: every quantile is the mean', (t) => {
  const stats = vectorStats([[3, -2]]);
  t.deepEqual(stats.std, [0, 0]);
  for (const name of ['q01', 'q10', 'q50', 'q90', 'q99'] as const) t.deepEqual(stats[name], [3, -2]);
});

test('large offsets do not swallow small deviations', (t) => {
  const moments = new RunningMoments();
  for (let i = 0; i < 1000; i += 1) moments.add(1.7e9 + (i % 2) * 0.001);
  t.true(Math.abs(moments.value.std - 0.0005) < 1e-6);
});

test('a shifted column has shifted statistics, a constant one no spread', (t) => {
  const shifted = shiftStats(columnStats([0, 1, 2]), 10);
  close(t, shifted.mean, [11]);
  t.deepEqual([shifted.min, shifted.max, shifted.count], [[10], [12], 3]);
  t.deepEqual(constantStats(7, 4).q99, [7]);
});

test('camera statistics of the golden pictures are exact', (t) => {
  const values = [
    [255, 255, 255, 255],
    [51, 51, 0, 0],
    [0, 10, 20, 30],
  ];
  const counts = values.map((frames) => {
    const channel = Array.from({ length: 256 }, () => 0);
    for (const value of frames) channel[value] = (channel[value] ?? 0) + 4;
    return channel;
  });
  const stats = pictureStats(counts, 4);
  close(t, stats.mean, [1, 0.1, 0.0588235]);
  close(t, stats.std, [0, 0.1, 0.0438445]);
  close(t, stats.max, [1, 0.2, 0.1176471]);
  t.is(stats.count, 4);
});

test('the pictures sampled from an episode are those of the formula', (t) => {
  const counts = [5, 100, 464, 500, 1000, 10_000].map(sampleCount);
  t.deepEqual(counts, [5, 100, 100, 105, 177, 1000]);
  const indices = sampleIndices(250);
  t.deepEqual(indices.slice(0, 10), [0, 3, 5, 8, 10, 13, 15, 18, 20, 23]);
  t.deepEqual(indices.slice(-3), [244, 246, 249]);
  t.deepEqual(
    [sampleStride(640, 480), sampleStride(320, 240), sampleStride(1280, 720), sampleStride(299, 299)],
    [4, 2, 8, 1],
  );
});

test('candidates up to the expected length are exactly the sampled pictures', (t) => {
  for (const length of [1, 2, 99, 100, 101, 221, 250, 463, 464, 500, 999, 1000, 4321]) {
    const candidates = Array.from({ length }, (_, i) => i).filter((i) => isCandidate(i, length));
    t.deepEqual(candidates, sampleIndices(length), `length ${length}`);
  }
  t.true(candidateExpression(250).includes(String(249 / 99)));
});

test('candidates without an expected length are dense enough for every length', (t) => {
  const candidates = Array.from({ length: 12_000 }, (_, i) => i).filter((i) => isCandidate(i, undefined));
  for (const length of [3, 150, 464, 700, 2500, 11_000]) {
    const known = candidates.filter((i) => i < length);
    const chosen = nearestCandidates(sampleIndices(length), known);
    t.is(chosen.length, sampleCount(length));
    t.true(
      new Set(chosen).size > 0.95 * chosen.length,
      `length ${length}: ${new Set(chosen).size} of ${chosen.length}`,
    );
  }
});

test('targets without a candidate take the nearest one, the earlier on a tie', (t) => {
  t.deepEqual(nearestCandidates([0, 4, 5, 6, 99], [0, 3, 7, 50]), [0, 3, 3, 7, 50]);
});

test('pictures are cut out of a stream whatever its chunks', (t) => {
  const layout = parseY4mHeader('YUV4MPEG2 W4 H2 F30:1 Ip A1:1 C420jpeg XYSCSS=420JPEG');
  t.deepEqual(layout, { width: 4, height: 2, format: 'yuv420' });
  t.is(sampleBytes(layout), 12);
  const picture = Buffer.from([235, 235, 20, 20, 235, 235, 20, 20, 128, 128, 128, 128]);
  const bytes = Buffer.concat([
    Buffer.from('YUV4MPEG2 W4 H2 F30:1 C420jpeg\n'),
    ...[1, 2, 3].flatMap(() => [Buffer.from('FRAME\n'), picture]),
  ]);
  for (const size of [1, 7, 31, 1000]) {
    const stream = new SampleStream();
    const found: Buffer[] = [];
    for (let at = 0; at < bytes.length; at += size) {
      for (const { data } of stream.push(bytes.subarray(at, at + size))) found.push(Buffer.from(data));
    }
    t.deepEqual(found, [picture, picture, picture]);
    t.is(stream.rest, 0);
  }
  const counts = new Uint32Array(HISTOGRAM_SIZE);
  pictureHistogram(picture, layout, counts);
  t.deepEqual([counts[235], counts[20]], [4, 4]);
  t.throws(() => parseY4mHeader('not a stream'));
});

test('chroma turns into the colours of JFIF', (t) => {
  const layout = { width: 2, height: 2, format: 'yuv444' } as const;
  // Y, Cb, Cr of pure red in JFIF: 76, 85, 255.
  const data = Uint8Array.from([76, 76, 76, 76, 85, 85, 85, 85, 255, 255, 255, 255]);
  const counts = new Uint32Array(HISTOGRAM_SIZE);
  pictureHistogram(data, layout, counts);
  const [red, green, blue] = [0, 256, 512].map((start) => counts.subarray(start, start + 256).indexOf(4));
  t.deepEqual(
    [red, green, blue].map((value) => Math.round((value ?? -1) / 5) * 5),
    [255, 0, 0],
  );
});
