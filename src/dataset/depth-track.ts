import type { Picture } from '../frame/types.ts';
import type { CameraTrack, FinishedCamera } from './camera-track.ts';
import { depthCodes, depthPixels, depthValues, type DepthValues } from './depth.ts';
import { DepthStats } from './depth-stats.ts';
import { depthInfo } from './info.ts';
import { isCandidate } from './picture-sampling.ts';
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
  readonly #pixels: Uint32Array;
  readonly #unit: 'mm' | 'm';
  readonly #episodes: { first: number; stats: DepthStats }[] = [{ first: 0, stats: new DepthStats() }];
  #frames = 0;

  constructor(options: EncoderOptions) {
    this.#options = options;
    this.#settings = { ...DEPTH_VIDEO, gop: options.settings.gop };
    this.#encoder = new VideoEncoder({ ...options, settings: this.#settings, sampled: false });
    this.#pixels = depthPixels(options.feature);
    this.#unit = options.feature.camera?.depthUnit ?? 'mm';
  }

  async add(picture: Picture): Promise<undefined> {
    const { feature, expectedFrames } = this.#options;
    const [height = 0, width = 0] = feature.shape;
    const values = this.#stored(await depthValues(feature.key, picture));
    const episode = this.#episodes.at(-1);
    if (episode && isCandidate(this.#frames - episode.first, expectedFrames)) {
      episode.stats.add(values, width, height);
    }
    this.#frames += 1;
    const data = depthCodes(values, this.#unit);
    await this.#encoder.add({ format: 'raw', pixelFormat: 'gray12le', width, height, data });
  }

  startEpisode(): void {
    this.#episodes.push({ first: this.#frames, stats: new DepthStats() });
    this.#encoder.startEpisode();
  }

  async finish(): Promise<FinishedCamera> {
    const { path, fps } = this.#options;
    const { video } = await this.#encoder.finish();
    return {
      videos: [{ path, frames: video.frames, info: depthInfo(video, fps, this.#settings, this.#unit) }],
      repeated: 0,
      statsOf: ({ first }) => {
        const episode = this.#episodes.find((each) => each.first === first);
        if (!episode) throw new Error(`no episode of ${this.#options.feature.key} starts at frame ${first}`);
        return { stats: episode.stats.stats };
      },
    };
  }

  abort(): Promise<void> {
    return this.#encoder.abort();
  }

  #stored(values: DepthValues): DepthValues {
    const pixels = this.#pixels;
    const out =
      values instanceof Uint16Array ? new Uint16Array(pixels.length) : new Float32Array(pixels.length);
    for (let i = 0; i < pixels.length; i += 1) out[i] = values[pixels[i] ?? 0] ?? 0;
    return out;
  }
}
