import { EncodeError } from '../errors.ts';
import type { Feature } from '../frame/types.ts';
import { openLocalFile } from './local-file.ts';
import { type Mp4Video, readMp4 } from './mp4.ts';

/** What a video must be for LeRobot's decoders to find every frame; returns the faults found, in words. */
export function videoFaults(
  video: Mp4Video,
  expected: { fps: number; width: number; height: number },
): string[] {
  const { fps, width, height } = expected;
  const faults: string[] = [];
  if (video.width !== width || video.height !== height) {
    faults.push(`pictures are ${video.width}x${video.height}, expected ${width}x${height}`);
  }
  if (video.startTicks !== 0)
    faults.push(`the first picture is at ${video.startTicks}/${video.timescale} s, expected 0`);
  if (video.reordered) faults.push('pictures are stored in another order than shown (B-frames)');
  if (video.fragmented) faults.push('the file is fragmented: its index does not count the pictures');
  if (video.timescale % fps !== 0) {
    faults.push(`${video.timescale} ticks a second are no multiple of ${fps} fps: times are not exact`);
  } else if (!video.reordered && video.frameTicks !== video.timescale / fps) {
    const found = video.frameTicks === undefined ? 'uneven' : `${video.frameTicks}/${video.timescale} s`;
    faults.push(`pictures are expected every 1/${fps} s, their distance is ${found}`);
  }
  return faults;
}

/** Reads a written video back; throws `EncodeError` unless it holds exactly the frames expected, at exact times. */
export async function checkVideo(
  path: string,
  expected: { feature: Feature; fps: number; frames: number },
): Promise<Mp4Video> {
  const { feature, fps, frames } = expected;
  const [height = 0, width = 0] = feature.shape;
  const file = await openLocalFile(path);
  try {
    const video = await readMp4(file);
    const faults = videoFaults(video, { fps, width, height });
    if (video.frames !== frames) faults.unshift(`expected ${frames} frames, the video holds ${video.frames}`);
    if (faults.length > 0) throw new EncodeError(`${feature.key}: ${faults.join('; ')}`);
    return video;
  } catch (error) {
    if (error instanceof EncodeError) throw error;
    throw new EncodeError(`${feature.key}: the encoder's video cannot be read back`, { cause: error });
  } finally {
    await file.close();
  }
}
