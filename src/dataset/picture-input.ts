import type { Picture } from '../frame/types.ts';
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
