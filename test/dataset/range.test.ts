import { execFile } from 'node:child_process';
import { chmod, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';
import { Registry } from 'prom-client';
import sharp from 'sharp';
import { findFfmpeg } from '../../src/dataset/ffmpeg.ts';
import { DatasetWriter } from '../../src/dataset/writer.ts';
import { createMetrics } from '../../src/metrics/index.ts';
import { noisyJpeg } from '../helpers/noisy-jpeg.ts';
import { camera, tempFolder, VIDEO } from './build.ts';

const KEY = 'observation.images.cam';
const SIZE = { width: 160, height: 120 };
const PIXELS = SIZE.width * SIZE.height;
const run = promisify(execFile);
/** FFmpeg's names of what a JPEG can hold. */
const FORMATS = { '4:2:0': 'yuvj420p', '4:2:2': 'yuvj422p', '4:4:4': 'yuvj444p' } as const;

/** The samples of a file's first picture, as FFmpeg decodes them. */
async function planes(path: string, format: string): Promise<Uint8Array> {
  const args = ['-v', 'error', '-i', path, '-frames:v', '1', '-pix_fmt', format, '-f', 'rawvideo', '-'];
  const { stdout } = await run('ffmpeg', args, { encoding: 'buffer', maxBuffer: 1 << 24 });
  return stdout;
}

/** Writes a picture of camera noise; sharp has no 4:2:2. */
async function writePicture(path: string, sampling: keyof typeof FORMATS): Promise<void> {
  const image = sharp(await noisyJpeg(1, SIZE));
  if (sampling !== '4:2:2') {
    await image.jpeg({ quality: 90, chromaSubsampling: sampling }).toFile(path);
    return;
  }
  const source = `${path}.png`;
  await image.png().toFile(source);
  await run('ffmpeg', ['-v', 'error', '-i', source, '-pix_fmt', FORMATS[sampling], '-q:v', '3', path]);
}

/** A program that works like FFmpeg and says that it was built without zimg. */
async function withoutZimg(dir: string): Promise<string> {
  const path = join(dir, 'ffmpeg-without-zimg');
  const script = `#!/bin/bash
for arg in "$@"; do [[ "$arg" == *zscale* ]] && { echo "no such filter: zscale" >&2; exit 1; }; done
exec ffmpeg "$@" 2> >(sed 's/ --enable-libzimg//' >&2)
`;
  await writeFile(path, script);
  await chmod(path, 0o755);
  return path;
}

/** Blue chroma, limited, of 2x2 pixels: the mean where the JPEG has more than one sample for them. */
function blueOf(recorded: Uint8Array, at: number, sampling: keyof typeof FORMATS): number {
  const across = sampling === '4:4:4' ? 2 : 1;
  const down = sampling === '4:2:0' ? 1 : 2;
  const columns = (SIZE.width / 2) * across;
  const [x, y] = [at % (SIZE.width / 2), Math.floor(at / (SIZE.width / 2))];
  let sum = 0;
  for (let j = 0; j < down; j++) {
    for (let i = 0; i < across; i++) sum += recorded[PIXELS + (y * down + j) * columns + x * across + i] ?? 0;
  }
  return 128 + ((sum / across / down - 128) * 224) / 255;
}

for (const sampling of ['4:2:0', '4:2:2', '4:4:4'] as const) {
  for (const zimg of [true, false]) {
    test(`levels of a ${sampling} JPEG are those of the standard, ${zimg ? `by this machine's FFmpeg` : 'by one without zimg'}`, async (t) => {
      const dir = await tempFolder(t);
      const jpeg = join(dir, 'picture.jpg');
      const format = FORMATS[sampling];
      await writePicture(jpeg, sampling);
      const recorded = await planes(jpeg, format);
      const data = await readFile(jpeg);

      const ffmpeg = zimg ? 'ffmpeg' : await withoutZimg(dir);
      if (!zimg) t.false((await findFfmpeg(ffmpeg)).zscale);
      const writer = await DatasetWriter.create({
        dir,
        fps: 30,
        features: [camera(KEY, SIZE.width, SIZE.height)],
        video: { ...VIDEO, crf: 0 },
        expectedFrames: 2,
        signal: new AbortController().signal,
        metrics: createMetrics(new Registry()).video,
        ffmpeg,
      });
      for (const index of [0, 1]) {
        const values = new Map([[KEY, { format: 'jpeg', ...SIZE, data } as const]]);
        await writer.addFrame({ episode: 0, index, time: BigInt(index), values }, 'look');
      }
      await writer.saveEpisode({ startTime: 0n, endTime: 2n });
      await writer.finish();
      const video = join(dir, 'camera-0.mp4');
      const shown = await planes(video, 'yuv420p');
      t.is(shown.length, PIXELS * 1.5);

      const luma = (at: number) => Math.round(16 + ((recorded[at] ?? 0) * 219) / 255);
      t.deepEqual(
        shown.subarray(0, PIXELS),
        Buffer.from(Array.from({ length: PIXELS }, (_, at) => luma(at))),
      );
      let squares = 0;
      for (let at = 0; at < PIXELS / 4; at++) {
        squares += ((shown[PIXELS + at] ?? 0) - blueOf(recorded, at, sampling)) ** 2;
      }
      const off = Math.sqrt(squares / (PIXELS / 4));
      t.true(off < 0.8, `chroma is off by ${off}`);
      const tags = [
        '-v',
        'error',
        '-show_entries',
        'stream=pix_fmt,color_range,color_space',
        '-of',
        'csv=p=0',
      ];
      const { stdout } = await run('ffprobe', [...tags, video]);
      t.is(stdout.trim(), 'yuv420p,tv,bt470bg');
    });
  }
}

test('whether FFmpeg has zscale is known without another run of it', async (t) => {
  const { stdout } = await run('ffmpeg', ['-hide_banner', '-filters']);
  t.is((await findFfmpeg('ffmpeg')).zscale, / zscale /.test(stdout));
});
