import sharp from 'sharp';
import type { Picture } from '../frame/types.ts';
import type { MatroskaTrack } from './matroska.ts';

/** The Matroska track that carries such pictures; undefined for raw pixels, which need no framing. */
export function pictureTrack({ format, width, height }: Picture, fps: number): MatroskaTrack | undefined {
  if (format === 'jpeg') return { codec: 'mjpeg', width, height, fps };
  if (format === 'png') return { codec: 'png', width, height, fps };
  return undefined;
}

/** Whether a picture can be decoded completely; raw pixels can when their number is right. */
export async function decodes(picture: Picture): Promise<boolean> {
  if (picture.format !== 'jpeg' && picture.format !== 'png') return true;
  try {
    const { info } = await sharp(picture.data, { failOn: 'error' })
      .raw()
      .toBuffer({ resolveWithObject: true });
    return info.width === picture.width && info.height === picture.height;
  } catch {
    // The decoder's complaint is the answer.
    return false;
  }
}
