import { text } from 'node:stream/consumers';
import sharp from 'sharp';
import { depthValues } from '../dataset/depth.ts';
import { exitOf, findFfmpeg, startFfmpeg } from '../dataset/ffmpeg.ts';
import { rawRgb } from '../dataset/raw-rgb.ts';
import { depthTiff } from '../dataset/tiff.ts';
import { InputError } from '../errors.ts';
import type { Picture } from '../frame/types.ts';
import { depthShades } from './depth-shades.ts';
import { describePicture } from './probe.ts';

/** A recorded picture as 8-bit PNG for people to look at; depth in shades of grey. Throws `InputError` when it does not decode. */
export async function pngOf(picture: Picture, signal: AbortSignal): Promise<Uint8Array> {
  const { width, height } = picture;
  if (picture.format === 'h264' || picture.format === 'h265') return keyFramePng(picture, signal);
  const { depth, light } = describePicture(picture);
  if (depth && !light) {
    const values = await depthValues('the picture', picture);
    return (await depthShades(depthTiff(values, width, height))).png().toBuffer();
  }
  if (picture.format === 'raw') {
    const pixels = rawRgb(picture);
    if (!pixels) throw new InputError(`a picture in ${picture.pixelFormat} cannot be shown`);
    return sharp(pixels, { raw: { width, height, channels: 3 } })
      .png()
      .toBuffer();
  }
  try {
    return await sharp(picture.data, { failOn: 'error' }).toColourspace('srgb').png().toBuffer();
  } catch (cause) {
    throw new InputError(`a ${picture.format} picture does not decode`, { cause });
  }
}

async function keyFramePng(
  { format, data }: Extract<Picture, { format: 'h264' | 'h265' }>,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const name = format === 'h264' ? 'h264' : 'hevc';
  const input = ['-hide_banner', '-nostats', '-loglevel', 'error', '-f', name, '-i', 'pipe:0'];
  const args = [...input, '-frames:v', '1', '-f', 'image2pipe', '-c:v', 'png', 'pipe:1'];
  const child = startFfmpeg(await findFfmpeg(), args, { stdio: ['pipe', 'pipe', 'pipe'], signal });
  // What a broken pipe means is told by the program's words.
  child.stdin?.on('error', () => {});
  child.stdin?.end(data);
  const [parts, said] = await Promise.all([
    (child.stdout?.toArray() ?? []) as Promise<Buffer[]>,
    child.stderr ? text(child.stderr) : '',
    exitOf(child, signal),
  ]);
  const png = Buffer.concat(parts);
  if (png.length === 0)
    throw new InputError(`a key frame in ${format} does not decode: ${said.trim().slice(-200)}`);
  return png;
}
