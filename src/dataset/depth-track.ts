import type { Picture } from '../frame/types.ts';
import type { CameraTrack, FinishedCamera } from './camera-track.ts';
import { beyondCodes, depthCodes } from './depth.ts';
import { DepthEpisodes } from './depth-episodes.ts';
import { depthInfo } from './info.ts';
import { type EncoderOptions, VideoEncoder } from './video.ts';
import type { VideoSettings } from './types.ts';

/** How depth videos are encoded: HEVC, 12-bit gray, every code kept. */
export const DEPTH_VIDEO: VideoSettings = {
  codec: 'hevc',
  crf: 30,
  gop: 2,
  preset: 'ultrafast',
  pixFmt: 'gray12le',
  lossless: true,
};

/** A depth camera that becomes a lossless 12-bit gray video, as lerobot stores depth. */
export class DepthTrack implements CameraTrack {
  readonly #options: EncoderOptions;
  readonly #settings: VideoSettings;
  readonly #encoder: VideoEncoder;
  readonly #depth: DepthEpisodes;
  readonly #unit: 'mm' | 'm';
  #beyond = 0;

  constructor(options: EncoderOptions) {
    this.#options = options;
    const { gop, threads } = options.settings;
    this.#settings = { ...DEPTH_VIDEO, gop, threads };
    this.#encoder = new VideoEncoder({ ...options, settings: this.#settings, sampled: false });
    this.#depth = new DepthEpisodes(options);
    this.#unit = options.feature.camera?.depthUnit ?? 'mm';
  }

  async add(picture: Picture): Promise<undefined> {
    const { width, height } = this.#depth;
    const values = await this.#depth.add(picture);
    this.#beyond += beyondCodes(values, this.#unit);
    const data = depthCodes(values, this.#unit);
    await this.#encoder.add({ format: 'raw', pixelFormat: 'gray12le', width, height, data });
  }

  startEpisode(): void {
    this.#depth.startEpisode();
    this.#encoder.startEpisode();
  }

  async finish(): Promise<FinishedCamera> {
    const { path, fps } = this.#options;
    const { video } = await this.#encoder.finish();
    return {
      videos: [{ path, frames: video.frames, info: depthInfo(video, fps, this.#settings, this.#unit) }],
      repeated: 0,
      beyond: this.#beyond,
      statsOf: (episode) => this.#depth.statsOf(episode),
    };
  }

  abort(): Promise<void> {
    return this.#encoder.abort();
  }
}
