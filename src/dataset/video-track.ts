import type { Picture } from '../frame/types.ts';
import type { CameraTrack, FinishedCamera } from './camera-track.ts';
import { videoInfo } from './info.ts';
import { type EncoderOptions, VideoEncoder } from './video.ts';

/** A colour camera that becomes a video; statistics come from the pictures the encoder samples. */
export class VideoTrack implements CameraTrack {
  readonly #options: EncoderOptions;
  readonly #encoder: VideoEncoder;

  constructor(options: EncoderOptions) {
    this.#options = options;
    this.#encoder = new VideoEncoder(options);
  }

  async add(picture: Picture): Promise<undefined> {
    await this.#encoder.add(picture);
  }

  startEpisode(): void {
    this.#encoder.startEpisode();
  }

  async finish(): Promise<FinishedCamera> {
    const { path, fps, settings } = this.#options;
    const { video, samples, repeated } = await this.#encoder.finish();
    return {
      videos: [{ path, frames: video.frames, info: videoInfo(video, fps, settings) }],
      repeated,
      statsOf: (episode) => samples.statsOf(episode),
    };
  }

  abort(): Promise<void> {
    return this.#encoder.abort();
  }
}
