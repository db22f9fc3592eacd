import { InputError } from '../errors.ts';
import type { Feature } from '../frame/types.ts';
import {
  deviceArguments,
  deviceFilters,
  encoderArguments,
  muxerArguments,
  transformFilters,
} from './encoder-options.ts';
import type { Ffmpeg } from './ffmpeg.ts';
import type { EncoderPicture } from './picture-input.ts';
import { candidateExpression } from './picture-sampling.ts';
import { pictureLayout } from './picture-layout.ts';
import type { SampleLayout } from './picture-histogram.ts';
import { thinnedPlanes } from './thinned-planes.ts';
import type { VideoSettings } from './types.ts';

/** Input arguments and the filters that bring pictures onto the frame grid. */
function input(first: EncoderPicture, fps: number): { args: string[]; filters: string[] } {
  const size = `${first.width}x${first.height}`;
  switch (first.format) {
    case 'jpeg':
    case 'png':
      return {
        // Pictures are stored as their pixels lie: an orientation tag would turn some and not others. One that is damaged
        // or cut off would be shown in part.
        args: '-noautorotate -err_detect explode -f matroska -threads 1 -i pipe:0'.split(' '),
        // A picture that does not decode leaves a gap in time; the picture before it fills the gap.
        filters: [`fps=${fps}:start_time=0:round=near`],
      };
    case 'raw':
      return {
        args: [
          '-f',
          'rawvideo',
          '-pix_fmt',
          first.pixelFormat,
          '-s',
          size,
          '-framerate',
          String(fps),
          '-i',
          'pipe:0',
        ],
        // FFmpeg converts Bayer mosaics to RGB only.
        filters: first.pixelFormat.startsWith('bayer') ? ['format=rgb24'] : [],
      };
    default:
      throw new InputError(`expected jpeg, png or raw pictures, found ${first.format} video`);
  }
}

/** Samplings of JPEGs (4:2:0, 4:2:2, 4:4:4) that `zscale` brings to 4:2:0 with the chroma where `scale` has it. */
const ZSCALED: ReadonlySet<string | undefined> = new Set(['22,11,11', '21,11,11', '22,12,12', '11,11,11']);

/**
 * JPEG is full-range YCbCr (BT.601) by definition, videos are limited-range: FFmpeg 8 converts only when told. `zscale`
 * does it in a fraction of the time `scale` takes, rounds to the nearest, and gives the same bytes in FFmpeg 5 to 8; from
 * 7 on it must be told the matrix, and its own filter, `bilinear`, would blur chroma that is halved. FFmpeg's short cut
 * from bgr24 to yuv420p rounds everything down, which makes a picture darker and greener.
 */
function rangeFilter(first: EncoderPicture, settings: VideoSettings, { zscale }: Ffmpeg): string {
  if (first.format === 'jpeg') {
    const plain = settings.pixFmt === 'yuv420p' && deviceFilters(settings).length === 0;
    return zscale && plain && ZSCALED.has(pictureLayout(first))
      ? 'zscale=rangein=full:range=limited:matrixin=470bg:matrix=470bg:filter=bicubic'
      : 'scale=in_range=full:out_range=limited';
  }
  const exact = first.format === 'raw' && first.pixelFormat === 'bgr24' ? ':flags=bicubic+accurate_rnd' : '';
  return `scale=out_range=limited${exact}`;
}

/** How sampled pictures leave the process: JPEG planes as they are, everything else as RGB. */
export function sampleLayout(feature: Feature, first: EncoderPicture): SampleLayout | undefined {
  if (first.format === 'jpeg') return undefined;
  const [height = 0, width = 0] = feature.shape;
  return { width, height, format: 'rgb24' };
}

/** The complete command line of one camera's encoder: pictures in on descriptor 0, sampled pictures out on 3. */
export function encoderCommand(options: {
  readonly ffmpeg: Ffmpeg;
  readonly feature: Feature;
  readonly first: EncoderPicture;
  readonly path: string;
  readonly fps: number;
  readonly settings: VideoSettings;
  readonly expectedFrames: number | undefined;
  readonly sampled?: boolean;
}): string[] {
  const { ffmpeg, feature, first, path, fps, settings, expectedFrames } = options;
  const source = input(first, fps);
  const sync = [ffmpeg.syncOption, 'passthrough'];
  const encoder = [...encoderArguments(settings), ...muxerArguments(fps)];
  const video = [...sync, ...encoder, '-f', 'mp4', `file:${path}`];
  const quiet = '-hide_banner -nostdin -nostats -loglevel level+verbose -y -max_error_rate 1'.split(' ');
  const start = [...quiet, ...deviceArguments(settings.codec), ...source.args];
  if (options.sampled === false) return [...start, '-map', '0:v', ...video];
  const stored = [...source.filters, ...transformFilters(feature.camera?.transform ?? {})];
  const select = expectedFrames === undefined ? [] : [`select='${candidateExpression(expectedFrames)}'`];
  const planes = thinnedPlanes(feature, first) ?? ['format=yuvj420p|yuvj422p|yuvj444p'];
  const rgb = 'scale=flags=accurate_rnd+full_chroma_int+full_chroma_inp,format=rgb24';
  const sampled = [...select, ...(first.format === 'jpeg' ? planes : [rgb])];
  const graph = [
    `[0:v]${[...stored, 'split'].join(',')}[all][seen]`,
    `[all]${[rangeFilter(first, settings, ffmpeg), ...deviceFilters(settings)].join(',')}[video]`,
    `[seen]${sampled.join(',')}[sampled]`,
  ].join(';');
  const samples = first.format === 'jpeg' ? ['-strict', '-1', '-f', 'yuv4mpegpipe'] : ['-f', 'rawvideo'];
  const filters = ['-filter_complex_threads', '1', '-filter_complex', graph];
  const back = ['-map', '[sampled]', ...sync, ...samples, 'pipe:3'];
  return [...start, ...filters, '-map', '[video]', ...video, ...back];
}
