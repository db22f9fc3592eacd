import { InputError } from '../errors.ts';
import type { Picture } from '../frame/types.ts';
import type { CameraStats, CameraTrack, EpisodeRange, FinishedCamera } from './camera-track.ts';
import { videoInfo } from './info.ts';
import type { PictureHistogram } from './picture-histogram.ts';
import { nearestCandidates, sampleIndices } from './picture-sampling.ts';
import { pictureStats } from './stats.ts';
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
    const { feature, path, fps, settings } = this.#options;
    const { video, samples, repeated } = await this.#encoder.finish();
    return {
      videos: [{ path, frames: video.frames, info: videoInfo(video, fps, settings) }],
      repeated,
      statsOf: (episode) => sampledStats(feature.key, samples, episode),
    };
  }

  abort(): Promise<void> {
    return this.#encoder.abort();
  }
}

/** Statistics of an episode from the histograms of sampled pictures: for each wanted frame the nearest one there is. */
export function sampledStats(
  key: string,
  samples: ReadonlyMap<number, PictureHistogram>,
  { first, frames }: EpisodeRange,
): CameraStats {
  const candidates = [...samples.keys()].filter((frame) => frame >= first && frame < first + frames);
  if (candidates.length === 0) {
    throw new InputError(`${key}: no picture of frames ${first} to ${first + frames - 1} could be decoded`);
  }
  const targets = sampleIndices(frames).map((index) => first + index);
  const chosen = nearestCandidates(targets, candidates);
  const histograms: number[][] = [];
  for (const frame of chosen) {
    samples.get(frame)?.forEach((counts, channel) => {
      const sum = (histograms[channel] ??= Array.from({ length: 256 }, () => 0));
      counts.forEach((count, value) => {
        sum[value] = (sum[value] ?? 0) + count;
      });
    });
  }
  return { stats: pictureStats(histograms, chosen.length), histograms };
}
