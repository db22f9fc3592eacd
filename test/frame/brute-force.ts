import type { EpisodeSpan, FrameConfig, Mapping } from '../../src/frame/types.ts';
import type { Arrival } from './streams.ts';

export type ReferenceRow = { episode: number; index: number; time: bigint; values: number[] };
type Count = {
  samples: number;
  late: number;
  used: number;
  exact: number;
  held: number;
  interpolated: number;
  dropped: number;
};
export type ReferenceResult = {
  rows: ReferenceRow[];
  droppedRows: number;
  outsideRows: number;
  counts: Count[];
  ages: bigint[][];
  largestGaps: bigint[];
  error?: { feature: string; time: bigint };
};

/** The definition of alignment applied word by word, with all samples in memory. Values are sample ids. */
export function alignByDefinition(
  mapping: Mapping,
  config: FrameConfig,
  arrivals: readonly Arrival[],
  spans?: readonly EpisodeSpan[],
): ReferenceResult {
  const window = BigInt(Math.round(config.reorder * 1e9));
  const counts = mapping.sources.map(() => ({
    samples: 0,
    late: 0,
    used: 0,
    exact: 0,
    held: 0,
    interpolated: 0,
    dropped: 0,
  }));
  const streams = mapping.sources.map((_, source) => {
    const count = counts[source]!;
    let max: bigint | undefined;
    const inTime = arrivals.filter((arrival) => {
      if (arrival.source !== source) return false;
      count.samples += 1;
      if (max !== undefined && arrival.time < max - window) {
        count.late += 1;
        return false;
      }
      if (max === undefined || arrival.time > max) max = arrival.time;
      return true;
    });
    // Of equal times the last to arrive.
    return [...new Map(inTime.map((arrival) => [arrival.time, arrival])).values()].toSorted((a, b) =>
      compare(a.time, b.time),
    );
  });
  const t0 = streams.map((stream) => stream[0]!.time).reduce((a, b) => (a > b ? a : b));
  const tEnd = streams.map((stream) => stream.at(-1)!.time).reduce((a, b) => (a < b ? a : b));
  const times: bigint[] = [];
  if (mapping.reference !== undefined) {
    times.push(
      ...streams[mapping.reference]!.map(({ time }) => time).filter((time) => time >= t0 && time <= tEnd),
    );
  } else {
    for (let k = 0; ; k++) {
      const time = t0 + roundedDivision(BigInt(k) * 1_000_000_000n, BigInt(config.fps));
      if (time > tEnd) break;
      times.push(time);
    }
  }
  const result: ReferenceResult = {
    rows: [],
    droppedRows: 0,
    outsideRows: 0,
    counts,
    ages: mapping.sources.map(() => []),
    largestGaps: streams.map((stream) =>
      stream.reduce(
        (largest, { time }, i) =>
          i > 0 && time - stream[i - 1]!.time > largest ? time - stream[i - 1]!.time : largest,
        0n,
      ),
    ),
  };
  const used = new Set<number>();
  const indexes = new Map<number, number>();
  for (const time of times) {
    const episode = spans ? spans.findIndex(({ start, end }) => start <= time && time <= end) : 0;
    if (episode < 0) {
      result.outsideRows += 1;
      continue;
    }
    const found = mapping.sources.map(({ alignment }, source) => {
      const stream = streams[source]!;
      const before = stream.filter((sample) => sample.time <= time).at(-1);
      const after = stream.find((sample) => sample.time > time);
      const near = (sample: Arrival | undefined) =>
        sample !== undefined && distance(sample.time, time) <= alignment.maxAge;
      if (alignment.method === 'linear') {
        if (before?.time === time)
          return { samples: [before], value: before.id, age: 0n, how: 'one' as const };
        if (near(before) && near(after)) {
          const a = before!;
          const b = after!;
          const value = a.id + (Number(time - a.time) / Number(b.time - a.time)) * (b.id - a.id);
          const age = [distance(a.time, time), distance(b.time, time)].reduce((x, y) => (x > y ? x : y));
          return { samples: [a, b], value, age, how: 'between' as const };
        }
      } else {
        const candidates = alignment.method === 'hold' ? [before] : [before, after];
        const best = candidates
          .filter((sample) => near(sample))
          .toSorted(
            (a, b) => compare(distance(a!.time, time), distance(b!.time, time)) || compare(a!.time, b!.time),
          )[0];
        if (best)
          return { samples: [best], value: best.id, age: distance(best.time, time), how: 'one' as const };
      }
      if (alignment.missing === 'hold' && before) {
        return { samples: [before], value: before.id, age: time - before.time, how: 'far' as const };
      }
      return undefined;
    });
    const failing = found.findIndex(
      (value, i) => !value && mapping.sources[i]!.alignment.missing === 'error',
    );
    if (failing >= 0) return { ...result, error: { feature: mapping.sources[failing]!.feature, time } };
    if (found.some((value) => !value)) {
      result.droppedRows += 1;
      for (const [i, value] of found.entries()) if (!value) counts[i]!.dropped += 1;
      continue;
    }
    for (const [i, value] of found.entries()) {
      const count = counts[i]!;
      result.ages[i]!.push(value!.age);
      if (value!.how === 'between') count.interpolated += 1;
      else if (value!.how === 'far' || (value!.age !== 0n && used.has(value!.samples[0]!.id)))
        count.held += 1;
      else count.exact += 1;
      for (const { id } of value!.samples) {
        if (!used.has(id)) count.used += 1;
        used.add(id);
      }
    }
    const index = indexes.get(episode) ?? 0;
    indexes.set(episode, index + 1);
    result.rows.push({ episode, index, time, values: found.map((value) => value!.value) });
  }
  return result;
}

function roundedDivision(a: bigint, b: bigint): bigint {
  const floor = a / b;
  return 2n * (a - floor * b) >= b ? floor + 1n : floor;
}

function distance(a: bigint, b: bigint): bigint {
  return a > b ? a - b : b - a;
}

function compare(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
