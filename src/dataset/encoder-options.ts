import { existsSync, readdirSync } from 'node:fs';
import { InputError } from '../errors.ts';
import type { Feature, PictureTransform } from '../frame/types.ts';
import type { VideoSettings } from './types.ts';

/** Codec words of the config and the FFmpeg encoder each stands for; any other word is an encoder's own name. */
const ENCODERS: Readonly<Record<string, string>> = { h264: 'libx264', hevc: 'libx265', av1: 'libsvtav1' };

/**
 * Track ticks a second: a multiple of fps, so that every picture's time is an exact number of ticks. It is the one that
 * FFmpeg would choose by itself (doubled up to 10,000), because lerobot joins videos by copying and loses its way when
 * the joined file has another.
 */
export function trackTimescale(fps: number): number {
  let timescale = fps;
  while (timescale < 10_000) timescale *= 2;
  return timescale;
}

/** The FFmpeg encoder for a codec word. */
export function encoderName(codec: string): string {
  return ENCODERS[codec] ?? codec;
}

/**
 * Threads of a camera's encoder among those of a recording. What x264 writes can depend on their number, so it follows
 * from the recording and not from the machine. Where cameras share the work, encoders of one thread are done sooner on two
 * cores than those of two (three cameras: x264 by 3 %, SVT-AV1 by 7 %), with less CPU on any machine. A camera that has
 * more than half of the pixels would keep the others waiting, and so would depth, which takes ten times the CPU of
 * x264 and is not cheaper on one thread.
 */
export function encoderThreads(feature: Feature, encoded: readonly Feature[]): number {
  if (feature.camera?.depthUnit !== undefined) return 2;
  const pixels = ({ shape: [height = 0, width = 0] }: Feature) => height * width;
  return 2 * pixels(feature) > encoded.reduce((sum, each) => sum + pixels(each), 0) ? 2 : 1;
}

/**
 * Encoder arguments: constant quality, short closed groups of pictures, no B-frames, the same bytes on every machine.
 * A preset is the encoder's own word (SVT-AV1: a number). Without `threads` in the settings the encoder chooses.
 */
export function encoderArguments(settings: VideoSettings): string[] {
  const encoder = encoderName(settings.codec);
  if (!/^[a-z0-9_-]+$/i.test(encoder)) {
    throw new InputError(`video.codec names an encoder in letters, digits, "_" and "-"; found "${encoder}"`);
  }
  if (!/^[a-z0-9_]+$/i.test(settings.pixFmt)) {
    throw new InputError(`video.pix_fmt names a pixel format; found "${settings.pixFmt}"`);
  }
  const pixels = onDevice(encoder) ? [] : ['-pix_fmt', settings.pixFmt];
  const args = ['-c:v', encoder, ...pixels, '-g', String(settings.gop), '-bf', '0'];
  const crf = String(settings.crf);
  const { threads } = settings;
  const some = threads === undefined ? [] : ['-threads', String(threads)];
  switch (encoder) {
    case 'libx264':
      return [...args, '-crf', crf, '-preset', settings.preset, ...some];
    case 'libx265':
      return [
        ...args,
        '-crf',
        crf,
        '-preset',
        settings.preset,
        '-tag:v',
        'hvc1',
        '-x265-params',
        `${settings.lossless ? 'lossless=1:' : ''}log-level=error:open-gop=0:bframes=0:keyint=${settings.gop}:frame-threads=1${threads === undefined ? '' : `:pools=${threads}`}`,
      ];
    case 'libsvtav1':
      return [
        ...args,
        '-crf',
        crf,
        '-preset',
        svtPreset(settings.preset),
        ...(threads === undefined ? [] : ['-svtav1-params', `lp=${threads}`]),
      ];
    case 'libaom-av1':
      return [...args, '-crf', crf, '-b:v', '0', '-cpu-used', '8', '-row-mt', '1', ...some];
    default:
      return [...args, ...qualityArguments(encoder, crf)];
  }
}

/** SVT-AV1 counts its presets; a word of x264 means its fastest sensible one. */
function svtPreset(preset: string): string {
  return /^\d+$/.test(preset) ? preset : '12';
}

/** Whether an encoder takes pictures from a graphics device's memory only. */
function onDevice(encoder: string): boolean {
  return encoder.endsWith('_vaapi');
}

/** Arguments before the inputs: the device that an encoder works on, the machine's first. */
export function deviceArguments(codec: string): string[] {
  return onDevice(encoderName(codec)) ? ['-vaapi_device', renderDevice()] : [];
}

/** Filters behind all others: how pictures get to the device. */
export function deviceFilters({ codec, pixFmt }: VideoSettings): string[] {
  if (!onDevice(encoderName(codec))) return [];
  return [`format=${/10/.test(pixFmt) ? 'p010' : 'nv12'}`, 'hwupload'];
}

function renderDevice(): string {
  const folder = '/dev/dri';
  const devices = existsSync(folder) ? readdirSync(folder).filter((name) => /^renderD\d+$/.test(name)) : [];
  return `${folder}/${devices.toSorted()[0] ?? 'renderD128'}`;
}

/** How hardware encoders are told about constant quality. */
function qualityArguments(encoder: string, crf: string): string[] {
  if (encoder.endsWith('_nvenc')) return ['-rc', 'vbr', '-cq', crf, '-b:v', '0'];
  if (encoder.endsWith('_vaapi')) return ['-rc_mode', 'CQP', '-qp', crf];
  if (encoder.endsWith('_qsv')) return ['-global_quality', crf];
  if (encoder.endsWith('_videotoolbox')) return ['-q:v', crf];
  return [];
}

/** Arguments of the MP4 file: complete index before the data, exact times, nothing that varies between runs. */
export function muxerArguments(fps: number): string[] {
  const timescale = String(trackTimescale(fps));
  const repeatable = ['-map_metadata', '-1', '-fflags', '+bitexact', '-flags:v', '+bitexact'];
  const layout = ['-movflags', '+faststart', '-use_editlist', '0', '-video_track_timescale', timescale];
  return [...repeatable, ...layout];
}

/** The filters that make a stored picture of a recorded one: crop, then resize, then rotate clockwise. */
export function transformFilters({ crop, resize, rotate }: PictureTransform): string[] {
  const filters: string[] = [];
  if (crop) filters.push(`crop=${crop.width}:${crop.height}:${crop.x}:${crop.y}:exact=1`);
  if (resize) filters.push(`scale=${resize.width}:${resize.height}:flags=bicubic+accurate_rnd`);
  if (rotate === 90) filters.push('transpose=clock');
  if (rotate === 180) filters.push('hflip', 'vflip');
  if (rotate === 270) filters.push('transpose=cclock');
  return filters;
}

/** Refuses sizes that the pixel format cannot hold: 4:2:0 needs even sides. */
export function checkVideoSize(feature: Feature, settings: VideoSettings): void {
  const [height = 0, width = 0] = feature.shape;
  if (/420/.test(settings.pixFmt) && (width % 2 !== 0 || height % 2 !== 0)) {
    throw new InputError(
      `${feature.key}: a ${settings.pixFmt} video needs an even width and height, found ${width}x${height}; set "resize" or "crop"`,
    );
  }
}
