// Converts recordings one after the other, as a worker does, and prints a line of JSON for each:
// {frames, peakRssBytes, seconds, cpuSeconds, loopP99Ms, loopMaxMs}; the peak is that of the process so far. Stores are reached, and recordings of
// buckets kept (CACHE_DIR, CACHE_MAX_BYTES), as the environment says.
// node convert-child.js CONFIG_JSON OUT [RECORDING…]   (OUT: a folder or a URL; without recordings, each line of standard input is one)
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { createInterface } from 'node:readline';
import { Registry } from 'prom-client';
import { loadConfig, s3Settings } from '../../src/config.ts';
import { datasetConfig } from '../../src/conversion/config.ts';
import { convertEpisode } from '../../src/conversion/convert.ts';
import type { Log } from '../../src/conversion/types.ts';
import { createMetrics } from '../../src/metrics/index.ts';
import { SourceCache } from '../../src/storage/cache.ts';
import { openStorage } from '../../src/storage/open.ts';
import { peakRss } from './peak-rss.ts';

/** What one conversion took. */
export type ChildResult = {
  readonly frames: number;
  readonly peakRssBytes: number;
  readonly seconds: number;
  /** Of this process, without the encoders. */
  readonly cpuSeconds: number;
  /** How much longer than asked for a timer of 1 ms took, 99th percentile and worst. */
  readonly loopP99Ms: number;
  readonly loopMaxMs: number;
};

const [config = '{}', out = '', ...recordings] = process.argv.slice(2);
const environment = loadConfig();
const s3 = s3Settings(environment);
const metrics = createMetrics(new Registry());
const log: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {}, child: () => log };
const cache = new SourceCache({
  folder: environment.CACHE_DIR,
  maxBytes: environment.CACHE_MAX_BYTES,
  metrics: metrics.storage,
});
const scratch = out.startsWith('s3:') ? environment.SCRATCH_DIR : join(out, 'scratch');
let index = -1;
for await (const source of recordings.length > 0 ? recordings : createInterface({ input: process.stdin })) {
  index += 1;
  const startedAt = performance.now();
  const cpuBefore = process.cpuUsage();
  const loop = monitorEventLoopDelay({ resolution: 1 });
  loop.enable();
  const folder = out.startsWith('s3:') ? `${out}/${index}` : join(out, String(index));
  const { manifest } = await convertEpisode(
    { source, config: datasetConfig.parse(JSON.parse(config)), key: 'episode', slot: 0, task: 'Move.' },
    {
      output: openStorage(folder, { metrics: metrics.storage, role: 'destination', s3 }),
      sources: { s3, cache },
      scratch,
      bufferMaxBytes: 256 * 1024 * 1024,
      upload: { concurrency: 2, maxAttempts: 3 },
      metrics,
      log,
      signal: new AbortController().signal,
    },
  );
  loop.disable();
  const { user, system } = process.cpuUsage(cpuBefore);
  const result: ChildResult = {
    frames: manifest.episodes.reduce((sum, part) => sum + part.frames, 0),
    peakRssBytes: peakRss(),
    seconds: (performance.now() - startedAt) / 1000,
    cpuSeconds: (user + system) / 1e6,
    loopP99Ms: Math.max(0, loop.percentile(99) / 1e6 - 1),
    loopMaxMs: Math.max(0, loop.max / 1e6 - 1),
  };
  process.stdout.write(`${JSON.stringify(result)}\n`);
}
