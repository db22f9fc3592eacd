import { InputError } from '../errors.ts';
import type { Picture } from '../frame/types.ts';
import type { CameraTrack, FinishedCamera } from './camera-track.ts';
import { checkVideo } from './check-video.ts';
import { CodedSampler } from './coded-sampler.ts';
import { muxerArguments } from './encoder-options.ts';
import { FfmpegPipe } from './ffmpeg-pipe.ts';
import { streamInfo } from './info.ts';
import { matroskaFrame, matroskaHeader } from './matroska.ts';
import type { EncoderOptions } from './video.ts';

/** A video whose pictures are taken over as they were coded. */
export type CopiedCamera = {
  readonly format: 'h264' | 'h265';
  /** Key frames among the pictures to come. */
  readonly keyFrames: number;
};

/**
 * A camera whose coded pictures become a video without being decoded: one frame a picture, beginning with a key frame,
 * in the order in which they are shown. The caller has made sure of that; the file is read back all the same.
 */
export class CopyTrack implements CameraTrack {
  readonly #options: EncoderOptions;
  readonly #copied: CopiedCamera;
  readonly #sampler: CodedSampler;
  #muxer: FfmpegPipe | undefined;
  #frames = 0;

  constructor(options: EncoderOptions, copied: CopiedCamera) {
    this.#options = options;
    this.#copied = copied;
    const { feature, expectedFrames: expected, signal, ffmpeg } = options;
    const video = { keyFrames: copied.keyFrames, expected, path: `${options.path}.samples` };
    this.#sampler = new CodedSampler(feature, video, { signal, ffmpeg });
  }

  async add(picture: Picture): Promise<undefined> {
    const { feature, fps } = this.#options;
    if (picture.format !== this.#copied.format) {
      throw new InputError(
        `${feature.key}: expected coded pictures in ${this.#copied.format}, found ${picture.format}`,
      );
    }
    const frame = this.#frames++;
    this.#muxer ??= await this.#start(picture);
    const head = matroskaFrame(frame, fps, picture.data.length, picture.keyframe);
    await Promise.all([this.#muxer.write(head, picture.data), this.#sampler.add(frame, picture)]);
  }

  startEpisode(): void {
    this.#sampler.startEpisode(this.#frames);
  }

  async finish(): Promise<FinishedCamera> {
    const { feature, path, fps, settings } = this.#options;
    if (!this.#muxer) throw new InputError(`${feature.key}: a video needs at least one picture`);
    await Promise.all([this.#muxer.finish(), this.#sampler.finish()]);
    const video = await checkVideo(path, { feature, fps, frames: this.#frames });
    const { samples } = this.#sampler;
    return {
      videos: [{ path, frames: video.frames, info: streamInfo(video, fps, settings) }],
      repeated: 0,
      statsOf: (episode) => samples.statsOf(episode),
    };
  }

  async abort(): Promise<void> {
    await Promise.all([this.#muxer?.abort(), this.#sampler.abort()]);
  }

  async #start({ width, height }: Picture): Promise<FfmpegPipe> {
    const { feature, path, fps, signal, ffmpeg } = this.#options;
    const { format } = this.#copied;
    const tag = format === 'h265' ? ['-tag:v', 'hvc1'] : [];
    const input = ['-f', 'matroska', '-c:v', format === 'h264' ? 'h264' : 'hevc', '-i', 'pipe:0'];
    const output = ['-map', '0:v', '-c', 'copy', ...tag, ...muxerArguments(fps), '-f', 'mp4', `file:${path}`];
    const where = `${feature.key}: the writer of its video`;
    const muxer = await FfmpegPipe.start(where, [...input, ...output], { signal, ffmpeg, output: false });
    await muxer.write(matroskaHeader({ codec: format, width, height, fps }));
    return muxer;
  }
}
