import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { EncodeError, toError } from '../errors.ts';
import { deviceArguments, deviceFilters, encoderArguments, encoderName } from './encoder-options.ts';
import { findFfmpeg } from './ffmpeg.ts';
import type { VideoSettings } from './types.ts';

const run = promisify(execFile);

/** Encoders that make LeRobot videos: in software, then those of graphics hardware. */
const CANDIDATES =
  'libx264 libx265 libsvtav1 libaom-av1 h264_nvenc hevc_nvenc av1_nvenc h264_vaapi hevc_vaapi h264_qsv hevc_qsv h264_videotoolbox hevc_videotoolbox'.split(
    ' ',
  );

/** Throws `EncodeError` when this machine's FFmpeg lacks the encoder that the settings ask for. */
export async function checkEncoder(settings: VideoSettings, ffmpeg?: string): Promise<void> {
  const { version, encoders: known } = await findFfmpeg(ffmpeg);
  const encoder = encoderName(settings.codec);
  if (known.has(encoder)) return;
  const usable = CANDIDATES.filter((name) => known.has(name));
  throw new EncodeError(
    `video.codec asks for encoder "${encoder}", ${version} has ${usable.join(', ') || 'none that fit'}`,
  );
}

/** Whether an encoder works on this machine; `reason` when it does not. */
export type EncoderProbe = { readonly encoder: string; readonly works: boolean; readonly reason?: string };

/**
 * What this machine can encode with: the software encoders its FFmpeg was built with, and every hardware encoder after
 * a try on a few made-up pictures, one after the other, for many are built in where there is no such hardware.
 */
export async function probeEncoders(ffmpeg?: string): Promise<EncoderProbe[]> {
  const { path, leash, encoders: known } = await findFfmpeg(ffmpeg);
  const probes: EncoderProbe[] = [];
  for (const encoder of CANDIDATES.filter((name) => known.has(name))) {
    if (encoder.startsWith('lib')) {
      probes.push({ encoder, works: true });
      continue;
    }
    const settings = { codec: encoder, crf: 30, gop: 2, preset: 'fast', pixFmt: 'yuv420p' };
    const start = ['-hide_banner', '-nostdin', '-v', 'error', ...deviceArguments(encoder)];
    const source = ['-f', 'lavfi', '-i', 'testsrc=size=256x144:rate=10', '-frames:v', '4'];
    const filters = ['-vf', ['null', ...deviceFilters(settings)].join(',')];
    const [program = path, ...rest] = [...leash, path, ...start, ...source, ...filters];
    try {
      await run(program, [...rest, ...encoderArguments(settings), '-f', 'null', '-'], {
        timeout: 20_000,
        killSignal: 'SIGKILL',
      });
      probes.push({ encoder, works: true });
    } catch (thrown) {
      const { stderr = '' } = thrown as { stderr?: string };
      const reason = stderr.trim().split('\n')[0] ?? '';
      probes.push({ encoder, works: false, reason: reason || toError(thrown).message.slice(-300) });
    }
  }
  return probes;
}
