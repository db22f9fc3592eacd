import type { Feature } from '../frame/types.ts';
import type { EncoderPicture } from './picture-input.ts';
import { pictureLayout } from './picture-layout.ts';
import { sampleStride } from './picture-sampling.ts';

type Planes = { readonly format: string; readonly weights: string; readonly sum: number };

const HALF_WIDTH: Planes = { format: 'yuvj422p', weights: '0 0 0 1 3 0 0 0 0', sum: 4 };

/** By the sampling of a JPEG: FFmpeg's name for its planes, and the weights that interpolate its chroma. */
const PLANES: Readonly<Record<string, Planes>> = {
  '22,11,11': { format: 'yuvj420p', weights: '1 3 0 3 9 0 0 0 0', sum: 16 },
  '21,11,11': HALF_WIDTH,
  '22,12,12': HALF_WIDTH, // as FFmpeg writes it
};

/**
 * FFmpeg filters that leave of a picture the pixels that `pictureHistogram` counts, with the chroma that it would give
 * them: an eighth of the bytes of a 640x480 picture, and less of larger ones, leave the encoder's process. Undefined where the
 * filters cannot hit these pixels, and whole planes must leave: sides that are no multiple of the stride, strides that are
 * no multiple of 4, other samplings.
 */
export function thinnedPlanes(feature: Feature, first: EncoderPicture): string[] | undefined {
  const planes = first.format === 'jpeg' ? PLANES[pictureLayout(first) ?? ''] : undefined;
  const [height = 0, width = 0] = feature.shape;
  const stride = sampleStride(width, height);
  if (!planes || stride % 4 !== 0 || width % stride !== 0 || height % stride !== 0) return undefined;
  // turned by 90°, the columns that 4:2:2 halves would be rows
  const turned = Object.keys(feature.camera?.transform ?? {}).length > 0;
  if (turned && planes.format !== 'yuvj420p') return undefined;
  const { format, weights, sum } = planes;
  const [columns, rows, half] = [width / stride, height / stride, stride / 2];
  return [
    `format=${format}`,
    // `scale` takes the middle one of stride × stride pixels, what is counted is the first one
    `pad=iw+${stride}:ih+${stride}:${half}:${half}`,
    `fillborders=left=${half}:top=${half}:mode=smear`,
    `convolution=1m='${weights}':1rdiv=1/${sum}:2m='${weights}':2rdiv=1/${sum}`,
    `scale=${columns + 1}:${rows + 1}:flags=neighbor`,
    `crop=${columns}:${rows}:0:0`,
    'format=yuvj444p',
  ];
}
