import { text } from 'node:stream/consumers';
import { exitOf, type Ffmpeg, startFfmpeg } from '../dataset/ffmpeg.ts';
import type { Picture } from '../frame/types.ts';

type CodedPicture = Extract<Picture, { format: 'h264' | 'h265' }>;

/** The pixel format that a decoder gives for a key frame, in FFmpeg's words; how its complaint ends when it gives none. */
export async function pixelFormatOf(
  { format, data }: CodedPicture,
  ffmpeg: Ffmpeg,
  signal: AbortSignal,
): Promise<string> {
  const name = format === 'h264' ? 'h264' : 'hevc';
  const args = ['-hide_banner', '-nostats', '-loglevel', 'info', '-f', name, '-i', 'pipe:0'];
  const child = startFfmpeg(ffmpeg, [...args, '-frames:v', '1', '-f', 'null', '-'], {
    stdio: ['pipe', 'ignore', 'pipe'],
    signal,
  });
  // What a broken pipe means is told by the program's words.
  child.stdin?.on('error', () => {});
  child.stdin?.end(data);
  const [said] = await Promise.all([child.stderr ? text(child.stderr) : '', exitOf(child, signal)]);
  // Stream #0:0: Video: h264 (High), yuv420p(tv, bt709, progressive), 640x480, …
  const found = /Input #0[^]*?Stream #0:0.*?: Video: [^,]*?(?:\([^)]*\))?, ([a-z0-9]+)/.exec(said)?.[1];
  return found ?? `nothing that decodes: ${said.trim().slice(-120)}`;
}
