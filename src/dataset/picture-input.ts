import type { Picture } from '../frame/types.ts';
import { loadSharp } from './load-sharp.ts';
import type { MatroskaTrack } from './matroska.ts';

/** A picture as an encoder takes it: one as recorded, or the 12-bit codes of a depth picture. */
export type EncoderPicture =
  | Picture
  | {
      readonly format: 'raw';
      readonly pixelFormat: 'gray12le';
      readonly width: number;
      readonly height: number;
      readonly data: Uint8Array;
    };

/** The Matroska track that carries such pictures; undefined for raw pixels, which need no framing. */
export function pictureTrack(
  { format, width, height }: EncoderPicture,
  fps: number,
): MatroskaTrack | undefined {
  if (format === 'jpeg') return { codec: 'mjpeg', width, height, fps };
  if (format === 'png') return { codec: 'png', width, height, fps };
  return undefined;
}

/** Whether a picture can be decoded completely; raw pixels can when their number is right. */
export async function decodes(picture: EncoderPicture): Promise<boolean> {
  if (picture.format !== 'jpeg' && picture.format !== 'png') return true;
  const sharp = await loadSharp();
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
