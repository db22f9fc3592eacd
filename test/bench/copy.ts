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
import { demonstration, frameTime, headerOf, START } from '../helpers/demonstration.ts';
import { median } from './measure.ts';

const FRAMES = 900;
const KEY = 'observation.images.cam';

/** Seconds of both ways, medians of interleaved runs. Goal: copying is 20 times as fast. */
export type CopyBench = {
  readonly runs: number;
  readonly encodedSeconds: number;
  readonly copiedSeconds: number;
  readonly timesFaster: number;
  readonly goal: number;
};

/** One camera of 640×480 with camera noise, 30 s in H.264 with a key frame a second, and joints. */
export async function benchCopy(runs = 3): Promise<CopyBench> {
  const folder = await mkdtemp(join(tmpdir(), 'roboflow-bench-'));
  try {
    const source = join(folder, 'take.mcap');
    const pictures = codedPictures();
    await writeFile(
      source,
      await demonstration({
        seconds: FRAMES / 30,
        cameras: [],
        change: (channels) => [
          ...channels,
          {
            topic: '/cam',
            type: 'sensor_msgs/CompressedImage',
            messages: pictures.map((data, i) => {
              const stamp = START + frameTime(i, 30);
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
    return { runs, encodedSeconds: encoded, copiedSeconds: copied, timesFaster: encoded / copied, goal: 20 };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function convert(source: string, copy: 'never' | 'auto', place: string): Promise<number> {
  const metrics = createMetrics(new Registry());
  const config = datasetConfig.parse({
    fps: 30,
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

/** Coded pictures, split at their access unit delimiters. */
function codedPictures(): Buffer[] {
  const input = `-v error -f lavfi -i testsrc2=size=640x480:rate=30 -frames:v ${FRAMES} -vf noise=alls=8:allf=t`;
  const encoder =
    '-c:v libx264 -preset veryfast -g 30 -bf 0 -pix_fmt yuv420p -bsf:v h264_metadata=aud=insert -f h264 -';
  const { stdout, stderr } = spawnSync('ffmpeg', `${input} ${encoder}`.split(' '), { maxBuffer: 1 << 29 });
  if (stdout.length === 0) throw new Error(stderr.toString());
  const delimiter = Buffer.from([0, 0, 0, 1, 9]);
  const units: Buffer[] = [];
  for (let at = stdout.indexOf(delimiter); at >= 0;) {
    const next = stdout.indexOf(delimiter, at + 4);
    units.push(stdout.subarray(at, next < 0 ? undefined : next));
    at = next;
  }
  return units;
}
