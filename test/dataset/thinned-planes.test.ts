import { execFile } from 'node:child_process';
import test from 'ava';
import { Registry } from 'prom-client';
import sharp from 'sharp';
import { HISTOGRAM_SIZE, pictureHistogram, type SampleLayout } from '../../src/dataset/picture-histogram.ts';
import { thinnedPlanes } from '../../src/dataset/thinned-planes.ts';
import { DatasetWriter } from '../../src/dataset/writer.ts';
import type { PictureTransform } from '../../src/frame/types.ts';
import { createMetrics } from '../../src/metrics/index.ts';
import { noisyJpeg } from '../helpers/noisy-jpeg.ts';
import { camera, tempFolder, VIDEO } from './build.ts';

const KEY = 'observation.images.cam';

/** What FFmpeg makes of a JPEG. */
function ffmpeg(jpeg: Uint8Array, args: readonly string[]): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const options = { encoding: 'buffer', maxBuffer: 1 << 26 } as const;
    const all = ['-v', 'error', '-f', 'mjpeg', '-i', '-', ...args, '-'];
    const child = execFile('ffmpeg', all, options, (error, stdout) => {
      if (error) reject(error);
      else resolve(stdout);
    });
    child.stdin?.end(jpeg);
  });
}

/** sharp writes no 4:2:2. */
const as422 = (jpeg: Uint8Array) => ffmpeg(jpeg, ['-pix_fmt', 'yuvj422p', '-q:v', '2', '-f', 'mjpeg']);

type Case = {
  readonly what: string;
  readonly size: { readonly width: number; readonly height: number };
  readonly sampling: '4:2:0' | '4:2:2' | '4:4:4';
  readonly thinned: boolean;
  readonly transform?: PictureTransform;
  /** The same as a filter, and the stored size. */
  readonly filter?: string;
  readonly stored?: { readonly width: number; readonly height: number };
};

const VGA = { width: 640, height: 480 };
const cases: readonly Case[] = [
  { what: 'a stride of 4', size: VGA, sampling: '4:2:0', thinned: true },
  { what: 'a stride of 8', size: { width: 1280, height: 720 }, sampling: '4:2:0', thinned: true },
  { what: 'a stride of 12', size: { width: 1920, height: 1080 }, sampling: '4:2:0', thinned: true },
  { what: 'an upright picture', size: { width: 480, height: 640 }, sampling: '4:2:0', thinned: true },
  { what: 'chroma of whole height', size: VGA, sampling: '4:2:2', thinned: true },
  { what: 'whole chroma', size: VGA, sampling: '4:4:4', thinned: false },
  { what: 'an odd stride', size: { width: 800, height: 600 }, sampling: '4:2:0', thinned: false },
  { what: 'a stride of 2', size: { width: 320, height: 240 }, sampling: '4:2:0', thinned: false },
  {
    what: 'a side that is no multiple',
    size: { width: 640, height: 482 },
    sampling: '4:2:0',
    thinned: false,
  },
  {
    what: 'a turned part',
    size: { width: 1000, height: 700 },
    sampling: '4:2:0',
    thinned: true,
    transform: { crop: { x: 20, y: 40, width: 640, height: 480 }, rotate: 90 },
    filter: 'crop=640:480:20:40,transpose=clock',
    stored: { width: 480, height: 640 },
  },
];

for (const { what, size, sampling, thinned, transform, filter = 'null', stored = size } of cases) {
  test(`the sampled pixels of ${what} (${sampling}) are those of the whole planes`, async (t) => {
    const jpegs = await Promise.all(
      [1, 2, 3].map(async (k) => {
        const noisy = await sharp(await noisyJpeg(k, size))
          .jpeg({ quality: 90, chromaSubsampling: sampling === '4:2:2' ? '4:4:4' : sampling })
          .toBuffer();
        return sampling === '4:2:2' ? as422(noisy) : noisy;
      }),
    );
    const feature = camera(KEY, stored.width, stored.height);
    const own = transform === undefined ? feature : { ...feature, camera: { ...size, transform } };
    const pictures = jpegs.map((data) => ({ format: 'jpeg', ...size, data }) as const);
    t.is(thinnedPlanes(own, pictures[0] as (typeof pictures)[0]) !== undefined, thinned);
    const writer = await DatasetWriter.create({
      dir: await tempFolder(t),
      fps: 30,
      features: [own],
      video: VIDEO,
      expectedFrames: pictures.length,
      signal: new AbortController().signal,
      metrics: createMetrics(new Registry()).video,
    });
    for (const [index, picture] of pictures.entries()) {
      const values = new Map([[KEY, picture]]);
      await writer.addFrame({ episode: 0, index, time: BigInt(index), values }, 'look');
    }
    await writer.saveEpisode({ startTime: 0n, endTime: 3n });
    const { parts } = await writer.finish();
    const format = { '4:2:0': 'yuv420', '4:2:2': 'yuv422', '4:4:4': 'yuv444' } as const;
    const layout: SampleLayout = { ...stored, format: format[sampling] };
    const counts = new Uint32Array(HISTOGRAM_SIZE);
    const planes = ['-vf', filter, '-pix_fmt', `${layout.format.replace('yuv', 'yuvj')}p`, '-f', 'rawvideo'];
    for (const jpeg of jpegs) pictureHistogram(await ffmpeg(jpeg, planes), layout, counts);
    t.deepEqual(parts[0]?.histograms[KEY]?.flat(), [...counts]);
  });
}
