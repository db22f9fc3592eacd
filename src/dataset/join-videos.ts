import { rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { EncodeError } from '../errors.ts';
import { muxerArguments } from './encoder-options.ts';
import { exitOf, findFfmpeg, startFfmpeg } from './ffmpeg.ts';

/** A video to join, in the folder of the result, under a plain name. */
export type VideoPart = { readonly path: string; readonly frames: number };

/**
 * Joins videos of one camera into one, without re-encoding. Every part is told how long it lasts, because FFmpeg would
 * take that from the parts, rounded to milliseconds, and drift; counted from the start it is exact at any number of
 * parts. Throws `EncodeError` when FFmpeg cannot.
 */
export async function joinVideos(
  parts: readonly VideoPart[],
  to: string,
  {
    fps,
    codec,
    signal,
    ffmpeg,
  }: { fps: number; codec: string; signal: AbortSignal; ffmpeg?: string | undefined },
): Promise<void> {
  const list = `${to}.txt`;
  let frames = 0;
  const microseconds = (count: number) => Math.round((count * 1e6) / fps);
  const lines = parts.map((part) => {
    const length = microseconds(frames + part.frames) - microseconds(frames);
    frames += part.frames;
    return `file ${basename(part.path)}\nduration ${(length / 1e6).toFixed(6)}\n`;
  });
  await writeFile(list, `ffconcat version 1.0\n${lines.join('')}`);
  const program = await findFfmpeg(ffmpeg);
  const tag = codec === 'hevc' ? ['-tag:v', 'hvc1'] : [];
  const start = ['-hide_banner', '-nostdin', '-nostats', '-loglevel', 'error', '-y', '-f', 'concat'];
  const args = ['-i', basename(list), '-map', '0:v', '-c', 'copy', ...tag, ...muxerArguments(fps)];
  const child = startFfmpeg(program, [...start, ...args, '-f', 'mp4', `file:${basename(to)}`], {
    stdio: ['ignore', 'ignore', 'pipe'],
    cwd: dirname(join(to)),
    signal,
  });
  const [said, code] = await Promise.all([child.stderr ? text(child.stderr) : '', exitOf(child, signal)]);
  await rm(list, { force: true });
  if (code !== 0)
    throw new EncodeError(`${parts.length} videos could not be joined: ${said.trim().slice(-400)}`);
}
