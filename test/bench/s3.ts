// A large recording converted from a bucket against the same from the local disk, over a loopback S3 server.
import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Registry } from 'prom-client';
import { workerFlags } from '../../src/cluster/fleet.ts';
import { createStorageMetrics } from '../../src/metrics/storage.ts';
import { openStorage } from '../../src/storage/open.ts';
import type { ChildResult } from '../helpers/convert-child.ts';
import { writeLongRecording } from '../helpers/long-recording.ts';
import { noisyJpeg } from '../helpers/noisy-jpeg.ts';
import { type S3Server, startAnyS3Server } from '../helpers/s3-server.ts';
import { median } from './measure.ts';

/** One way of reading; `ratio` to the local disk is of the medians, goals: ratio ≤ 1.15, peak ≤ 250 MB. */
export type S3Bench = {
  readonly source: string;
  readonly GB: number;
  readonly seconds: number;
  readonly ratio: number;
  /** CPU of the worker without its encoders: what the source costs on a machine that does other things as well. */
  readonly cpuSeconds: number;
  readonly peakMB: number;
  /** Most bytes that lay in the scratch folder at once, and in the cache's. */
  readonly scratchMB: number;
  readonly cacheMB: number;
};

const SIZE = { width: 1280, height: 720 };
const FPS = 30;

/** @param gigabytes size of the recording; @param video off: nothing but reading, the worst case for a remote source */
export async function benchS3(gigabytes = 2, runs = 3, video = true): Promise<S3Bench[]> {
  const server = await startAnyS3Server();
  if (server === undefined) throw new Error('no S3 server on this machine');
  const folder = await mkdtemp(join(tmpdir(), 'roboflow-bench-'));
  try {
    const pictures = await Promise.all(Array.from({ length: 30 }, (_, i) => noisyJpeg(i, SIZE)));
    const local = join(folder, 'recording.mcap');
    const perSecond = FPS * ((pictures[0]?.length ?? 1) + 200);
    const seconds = Math.ceil((gigabytes * 1e9) / perSecond);
    await writeLongRecording(local, { seconds, cameras: ['cam'], ...SIZE, pictures });
    const base = `s3://${server.bucket}/${randomUUID()}`;
    const metrics = createStorageMetrics(new Registry());
    const bucket = openStorage(base, { metrics, role: 'destination', s3: server.settings });
    await bucket.put('raw/recording.mcap', { path: local });
    const GB = Math.round((await stat(local)).size / 1e8) / 10;
    const remote = `${base}/raw/recording.mcap`;
    const cache = join(folder, 'cache');
    const ways = [
      { source: 'disk', recording: local, cacheBytes: '0' },
      { source: 's3, streamed', recording: remote, cacheBytes: '0' },
      { source: 's3, first into the cache', recording: remote, cacheBytes: '10000000000' },
      { source: 's3, from the cache', recording: remote, cacheBytes: '10000000000' },
    ];
    const results: (ChildResult & { source: string; scratch: number; cached: number })[] = [];
    for (let run = 0; run < runs; run++) {
      await rm(cache, { recursive: true, force: true });
      for (const { source, recording, cacheBytes } of ways) {
        const out = `${base}/out/${run}-${randomUUID()}`;
        const scratch = join(folder, 'scratch');
        await mkdir(scratch, { recursive: true });
        const env = environment(server, { scratch, cache, cacheBytes });
        const watched = watchSizes([scratch, cache]);
        const result = await convert(recording, out, env, video);
        const [scratchBytes = 0, cacheBytesSeen = 0] = await watched.stop();
        results.push({ ...result, source, scratch: scratchBytes, cached: cacheBytesSeen });
        await rm(scratch, { recursive: true, force: true });
      }
    }
    const of = (source: string) => results.filter((result) => result.source === source);
    const disk = median(of('disk').map((result) => result.seconds));
    return ways.map(({ source }) => {
      const mine = of(source);
      const middle = median(mine.map((result) => result.seconds));
      const most = (values: number[]) => Math.round(Math.max(...values) / 1e6);
      return {
        source,
        GB,
        seconds: Math.round(middle * 10) / 10,
        ratio: Math.round((middle / disk) * 100) / 100,
        cpuSeconds: Math.round(median(mine.map((result) => result.cpuSeconds)) * 10) / 10,
        peakMB: most(mine.map((result) => result.peakRssBytes)),
        scratchMB: most(mine.map((result) => result.scratch)),
        cacheMB: most(mine.map((result) => result.cached)),
      };
    });
  } finally {
    await server.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

function environment(
  { settings }: S3Server,
  { scratch, cache, cacheBytes }: { scratch: string; cache: string; cacheBytes: string },
): Record<string, string> {
  return {
    PATH: process.env['PATH'] ?? '',
    SCRATCH_DIR: scratch,
    CACHE_DIR: cache,
    CACHE_MAX_BYTES: cacheBytes,
    AWS_ENDPOINT_URL_S3: settings.endpoint,
    S3_FORCE_PATH_STYLE: 'true',
    AWS_ACCESS_KEY_ID: settings.credentials?.accessKeyId ?? '',
    AWS_SECRET_ACCESS_KEY: settings.credentials?.secretAccessKey ?? '',
  };
}

async function convert(
  recording: string,
  out: string,
  env: Record<string, string>,
  video: boolean,
): Promise<ChildResult> {
  const config = {
    fps: FPS,
    clock: 'header',
    video: { preset: 'ultrafast' },
    features: {
      ...(video && {
        'observation.images.cam': { topic: '/cam/image_raw/compressed', type: 'video' },
      }),
      'observation.state': { topic: '/joint_states', field: 'position', names: 'all' },
    },
  };
  const child = fileURLToPath(new URL('../helpers/convert-child.js', import.meta.url));
  const args = [...workerFlags, child, JSON.stringify(config), out, recording];
  const { stdout } = await promisify(execFile)(process.execPath, args, { env });
  return JSON.parse(stdout) as ChildResult;
}

/** Looks at folders until stopped; the most bytes seen in each. */
function watchSizes(folders: readonly string[]): { stop(): Promise<number[]> } {
  const most = folders.map(() => 0);
  let watching = true;
  const watch = (async () => {
    while (watching) {
      for (const [i, folder] of folders.entries()) most[i] = Math.max(most[i] ?? 0, await sizeOf(folder));
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  })();
  return {
    stop: async () => {
      watching = false;
      await watch;
      return most;
    },
  };
}

async function sizeOf(folder: string): Promise<number> {
  let total = 0;
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  for (const entry of entries) {
    if (!entry.isFile()) continue;
    // files come and go
    total += await stat(join(entry.parentPath, entry.name)).then(
      ({ size }) => size,
      () => 0,
    );
  }
  return total;
}
