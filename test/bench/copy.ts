// Taking over H.264 pictures as they are, against encoding the same recording again.
import { spawnSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { datasetConfig } from '../../src/conversion/config.ts';
import { convertEpisode } from '../../src/conversion/convert.ts';
import { createMetrics } from '../../src/metrics/index.ts';
import { openStorage } from '../../src/storage/open.ts';
import { Registry } from 'prom-client';
import { quiet } from '../helpers/conversion.ts';
import { picturesOf } from '../helpers/coded-pictures.ts';
import { demonstration, frameTime, headerOf, START } from '../helpers/demonstration.ts';
import { median, rounded } from './measure.ts';

const FPS = 30;
const KEY = 'observation.images.cam';

/**
 * Seconds of both ways, medians of interleaved runs. Goal: copying is 20 times as fast; starting two programs is most of
 * what a short recording costs.
 */
export type CopyBench = {
  readonly recordedSeconds: number;
  readonly runs: number;
  readonly encodedSeconds: number;
  readonly copiedSeconds: number;
  readonly timesFaster: number;
  readonly goal: number;
};

/** One camera of 640×480 with camera noise in H.264 with a key frame a second, and joints; half a minute and five. */
export async function benchCopy(
  sizes: readonly { readonly seconds: number; readonly runs: number }[] = [
    { seconds: 30, runs: 3 },
    { seconds: 300, runs: 1 },
  ],
): Promise<CopyBench[]> {
  const rows: CopyBench[] = [];
  for (const { seconds, runs } of sizes) rows.push(await compare(seconds, runs));
  return rows;
}

async function compare(seconds: number, runs: number): Promise<CopyBench> {
  const folder = await mkdtemp(join(tmpdir(), 'roboflow-bench-'));
  try {
    const source = join(folder, 'take.mcap');
    const pictures = codedPictures(seconds * FPS);
    await writeFile(
      source,
      await demonstration({
        seconds,
        cameras: [],
        change: (channels) => [
          ...channels,
          {
            topic: '/cam',
            type: 'sensor_msgs/CompressedImage',
            messages: pictures.map((data, i) => {
              const stamp = START + frameTime(i, FPS);
              return { log: stamp, value: { header: headerOf(stamp, ''), format: 'h264', data } };
            }),
          },
        ],
      }),
    );
    const times = { never: [] as number[], auto: [] as number[] };
    for (let run = 0; run < runs; run++) {
      for (const copy of ['never', 'auto'] as const) {
        times[copy].push(await convert(source, copy, join(folder, `${copy}-${run}`)));
      }
    }
    const [encoded, copied] = [median(times.never), median(times.auto)];
    return {
      recordedSeconds: seconds,
      runs,
      encodedSeconds: rounded(encoded),
      copiedSeconds: rounded(copied),
      timesFaster: rounded(encoded / copied, 1),
      goal: 20,
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function convert(source: string, copy: 'never' | 'auto', place: string): Promise<number> {
  const metrics = createMetrics(new Registry());
  const config = datasetConfig.parse({
    fps: FPS,
    clock: 'header',
    features: {
      [KEY]: { topic: '/cam', type: 'video' },
      'observation.state': { topic: '/joint_states', field: 'position', names: 'all' },
    },
    video: { copy },
  });
  const start = performance.now();
  const { manifest } = await convertEpisode(
    { source, config, key: 'take', slot: 0, task: 'Move.' },
    {
      output: openStorage(join(place, 'dataset'), { metrics: metrics.storage, role: 'destination' }),
      scratch: join(place, 'scratch'),
      bufferMaxBytes: 256 << 20,
      upload: { concurrency: 2, maxAttempts: 3 },
      metrics,
      log: quiet,
      signal: new AbortController().signal,
    },
  );
  const { copied, reason } = manifest.copies?.[KEY] ?? { copied: false };
  if (copied !== (copy === 'auto')) throw new Error(`the camera was not copied: ${reason}`);
  return (performance.now() - start) / 1000;
}

/** Coded pictures with camera noise. */
function codedPictures(frames: number): Buffer[] {
  const input = `-v error -f lavfi -i testsrc2=size=640x480:rate=${FPS} -frames:v ${frames} -vf noise=alls=8:allf=t`;
  const encoder =
    '-c:v libx264 -preset veryfast -g 30 -bf 0 -pix_fmt yuv420p -bsf:v h264_metadata=aud=insert -f h264 -';
  const { stdout, stderr } = spawnSync('ffmpeg', `${input} ${encoder}`.split(' '), { maxBuffer: 2 ** 30 });
  if (stdout.length === 0) throw new Error(stderr.toString());
  return picturesOf('h264', stdout);
}
