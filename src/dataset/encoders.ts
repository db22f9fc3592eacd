import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { EncodeError, toError } from '../errors.ts';
import { encoderArguments, encoderName } from './encoder-options.ts';
import { findFfmpeg } from './ffmpeg.ts';
import type { VideoSettings } from './types.ts';

const run = promisify(execFile);

/** Encoders that make LeRobot videos: in software, then those of graphics hardware. */
const CANDIDATES =
  'libx264 libx265 libsvtav1 libaom-av1 h264_nvenc hevc_nvenc av1_nvenc h264_vaapi hevc_vaapi h264_qsv hevc_qsv h264_videotoolbox hevc_videotoolbox'.split(
    ' ',
  );

const listed = new Map<string, Promise<ReadonlySet<string>>>();

/** Names of the video encoders the program was built with. */
async function builtIn(path: string): Promise<ReadonlySet<string>> {
  let search = listed.get(path);
  if (!search) {
    search = run(path, ['-hide_banner', '-encoders']).then(
      ({ stdout }) => new Set([...stdout.matchAll(/^ V\S{5} (\S+)/gm)].map((match) => match[1] ?? '')),
    );
    listed.set(path, search);
    search.catch(() => listed.delete(path));
  }
  return search;
}

/** Throws `EncodeError` when this machine's FFmpeg lacks the encoder that the settings ask for. */
export async function checkEncoder(settings: VideoSettings, ffmpeg?: string): Promise<void> {
  const { path, version } = await findFfmpeg(ffmpeg);
  const encoder = encoderName(settings.codec);
  const known = await builtIn(path);
  if (known.has(encoder)) return;
  const usable = CANDIDATES.filter((name) => known.has(name));
  throw new EncodeError(
    `video.codec asks for encoder "${encoder}", ${version} has ${usable.join(', ') || 'none that fit'}`,
  );
}

/** Whether an encoder works on this machine; `reason` when it does not. */
export type EncoderProbe = { readonly encoder: string; readonly works: boolean; readonly reason?: string };

/** Tries every suitable encoder the program was built with on a few made-up pictures, one after the other. */
export async function probeEncoders(ffmpeg?: string): Promise<EncoderProbe[]> {
  const { path } = await findFfmpeg(ffmpeg);
  const known = await builtIn(path);
  const probes: EncoderProbe[] = [];
  for (const encoder of CANDIDATES.filter((name) => known.has(name))) {
    const source = ['-f', 'lavfi', '-i', 'testsrc=size=256x144:rate=10', '-frames:v', '4'];
    const settings = { codec: encoder, crf: 30, gop: 2, preset: 'fast', pixFmt: 'yuv420p' };
    const args = ['-hide_banner', '-nostdin', '-v', 'error', ...source, ...encoderArguments(settings)];
    try {
      await run(path, [...args, '-f', 'null', '-'], { timeout: 20_000, killSignal: 'SIGKILL' });
      probes.push({ encoder, works: true });
    } catch (thrown) {
      probes.push({ encoder, works: false, reason: toError(thrown).message.slice(-300) });
    }
  }
  return probes;
}
