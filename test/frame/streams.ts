import type { Alignment, FrameConfig, Mapping, Source } from '../../src/frame/types.ts';

/** One sample of a generated recording. */
export type Arrival = { source: number; time: bigint; logTime: bigint; id: number; bytes: number };

/** A small seeded generator (mulberry32): numbers in [0, 1). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** A config with everything that the frame stage reads. */
export function frameConfig(changes: Partial<FrameConfig> = {}): FrameConfig {
  return {
    fps: 30,
    clock: 'log',
    timeline: 'grid',
    features: {},
    align: {},
    video: { pix_fmt: 'yuv420p' },
    episodes: { split: 'none' },
    tolerate: { late: 1, early_end: 1 },
    reorder: 1,
    ...changes,
  };
}

/** A mapping of one-number vectors, one feature a source: `s0`, `s1`, … */
export function vectorMapping(alignments: readonly Partial<Alignment>[], reference?: number): Mapping {
  const sources = alignments.map((alignment, index): Source => ({
    index,
    feature: `s${index}`,
    topic: `/s${index}`,
    clock: 'header',
    alignment: { method: 'hold', maxAge: 200_000_000n, missing: 'drop', ...alignment },
    kind: 'vector',
    size: 1,
    read: () => new Float64Array(1),
  }));
  return {
    features: sources.map(({ feature }) => ({ key: feature, dtype: 'float32', shape: [1], names: ['id'] })),
    sources,
    columns: sources.map(({ feature, index }) => ({ feature, sources: [index] })),
    reference,
    watches: [],
  };
}

export type StreamShape = {
  hz: number;
  start: number;
  end: number;
  /** Share of a period by which stamps scatter. */
  jitter: number;
  /** Seconds of lag behind the log, and how much it scatters. */
  lag: number;
  lagJitter: number;
  gap?: { from: number; to: number };
  /** Stamps are rounded to this, so that ties and exact hits on rows happen. */
  quantum: bigint;
};

/** Arrivals of all streams in log order; times are around an epoch far from zero, as in real recordings. */
export function arrivalsOf(shapes: readonly StreamShape[], random: () => number): Arrival[] {
  const epoch = 1_760_000_000_000_000_000n;
  let id = 0;
  const arrivals = shapes.flatMap((shape, source) => {
    const count = Math.max(1, Math.floor((shape.end - shape.start) * shape.hz));
    return Array.from({ length: count }, (_, i) => {
      const at = shape.start + (i + (random() - 0.5) * shape.jitter) / shape.hz;
      const ns = BigInt(Math.round(at * 1e9));
      const time = epoch + (ns / shape.quantum) * shape.quantum;
      const logTime = time + BigInt(Math.round((shape.lag + (random() - 0.5) * shape.lagJitter) * 1e9));
      return { source, time, logTime, id: ++id, bytes: 1 + Math.floor(random() * 1000), at };
    }).filter(({ at }) => !shape.gap || at < shape.gap.from || at > shape.gap.to);
  });
  return arrivals
    .toSorted((a, b) => (a.logTime < b.logTime ? -1 : a.logTime > b.logTime ? 1 : a.id - b.id))
    .map(({ source, time, logTime, id: name, bytes }) => ({ source, time, logTime, id: name, bytes }));
}
