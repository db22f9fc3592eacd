// Finalizing datasets of many episodes: time, peak memory, growth. Each size in a process of its own.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { finalizeDataset } from '../../src/dataset/finalize.ts';
import { stagedPath } from '../../src/dataset/layout.ts';
import type { DatasetFiles, EpisodeManifest } from '../../src/dataset/types.ts';
import { DatasetWriter } from '../../src/dataset/writer.ts';
import type { Feature } from '../../src/frame/types.ts';
import { createMetrics } from '../../src/metrics/index.ts';
import { Registry } from 'prom-client';
import { peakRss } from '../helpers/peak-rss.ts';

/** Goals: 10,000 episodes in less than 60 s and 400 MB. */
export type FinalizeBench = { readonly episodes: number; readonly seconds: number; readonly peakMB: number };

const ROWS = 100;
const FEATURES: Feature[] = ['observation.state', 'action'].map((key) => ({
  key,
  dtype: 'float32',
  shape: [14],
  names: Array.from({ length: 14 }, (_, i) => `joint_${i}`),
}));

export async function benchFinalize(sizes: readonly number[] = [1000, 10_000]): Promise<FinalizeBench[]> {
  const rows: FinalizeBench[] = [];
  for (const size of sizes) {
    const child = fork(fileURLToPath(import.meta.url), [String(size)]);
    const [row] = (await once(child, 'message')) as [FinalizeBench];
    rows.push(row);
  }
  return rows;
}

async function measure(episodes: number): Promise<FinalizeBench> {
  const folder = await mkdtemp(join(tmpdir(), 'roboflow-bench-'));
  try {
    const { manifest, staged } = await oneEpisode(folder);
    const files: DatasetFiles = {
      async *list() {},
      head: async () => ({ size: staged.byteLength }),
      open: async () => ({
        size: async () => BigInt(staged.byteLength),
        read: async (offset, length) => staged.slice(Number(offset), Number(offset + length)),
        close: async () => {},
      }),
    };
    const start = performance.now();
    await finalizeDataset({
      manifests: {
        *[Symbol.iterator]() {
          for (let slot = 0; slot < episodes; slot++) yield { ...manifest, key: `episode_${slot}`, slot };
        },
      },
      files,
      scratch: join(folder, 'finalize'),
      signal: new AbortController().signal,
      emit: async () => {},
    });
    const seconds = Math.round((performance.now() - start) / 100) / 10;
    return { episodes, seconds, peakMB: Math.round(peakRss() / 1e6) };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** A recording of vectors as the conversion leaves it: its manifest and its staged table. */
async function oneEpisode(folder: string): Promise<{ manifest: EpisodeManifest; staged: Uint8Array }> {
  const writer = await DatasetWriter.create({
    dir: folder,
    fps: 30,
    features: FEATURES,
    video: { codec: 'h264', crf: 23, gop: 2, preset: 'veryfast', pixFmt: 'yuv420p' },
    expectedFrames: ROWS,
    signal: new AbortController().signal,
    metrics: createMetrics(new Registry()).video,
  });
  for (let index = 0; index < ROWS; index++) {
    const value = Float64Array.from({ length: 14 }, (_, joint) => Math.sin(index / 10 + joint));
    const values = new Map(FEATURES.map(({ key }) => [key, value]));
    await writer.addFrame({ episode: 0, index, time: BigInt(index) * 33_333_333n, values }, 'Move.');
  }
  await writer.saveEpisode({ startTime: 0n, endTime: 3_300_000_000n });
  const written = await writer.finish();
  const [table] = written.files;
  if (!table) throw new Error('the writer made no table');
  const manifest: EpisodeManifest = {
    version: 1,
    key: 'episode',
    slot: 0,
    source: { url: 's3://raw/episode.mcap', size: 1, etag: 'x' },
    configHash: 'x',
    converter: { version: '0', encoder: null },
    fps: 30,
    robotType: null,
    features: FEATURES,
    videoInfo: {},
    episodes: written.parts,
    files: [{ ...table, path: stagedPath('episode') }],
    alignment: { rows: ROWS, droppedRows: 0, derivedRows: 0, outsideRows: 0, sources: [] },
    losses: [],
  };
  return { manifest, staged: await readFile(join(folder, basename(table.localPath))) };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  process.send?.(await measure(Number(process.argv[2])));
  process.disconnect?.();
}
