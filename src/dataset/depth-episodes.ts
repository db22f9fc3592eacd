import type { Feature, Picture } from '../frame/types.ts';
import type { CameraStats, EpisodeRange } from './camera-track.ts';
import { depthPixels, depthValues, type DepthValues } from './depth.ts';
import { DepthStats } from './depth-stats.ts';
import { isCandidate } from './picture-sampling.ts';

/** The depths of one camera as they are stored, and their statistics by episode. */
export class DepthEpisodes {
  readonly width: number;
  readonly height: number;
  readonly #feature: Feature;
  readonly #expectedFrames: number | undefined;
  readonly #pixels: Uint32Array;
  readonly #episodes: { first: number; stats: DepthStats }[] = [{ first: 0, stats: new DepthStats() }];
  #frames = 0;

  constructor(options: { readonly feature: Feature; readonly expectedFrames: number | undefined }) {
    this.#feature = options.feature;
    this.#expectedFrames = options.expectedFrames;
    this.#pixels = depthPixels(options.feature);
    [this.height = 0, this.width = 0] = options.feature.shape;
  }

  /** The next picture: cropped, resized, rotated. Throws `InputError` when it is none or cut. */
  async add(picture: Picture): Promise<DepthValues> {
    const values = this.#stored(await depthValues(this.#feature.key, picture));
    const episode = this.#episodes.at(-1);
    if (episode && isCandidate(this.#frames - episode.first, this.#expectedFrames)) {
      episode.stats.add(values, this.width, this.height);
    }
    this.#frames += 1;
    return values;
  }

  startEpisode(): void {
    this.#episodes.push({ first: this.#frames, stats: new DepthStats() });
  }

  statsOf({ first }: EpisodeRange): CameraStats {
    const episode = this.#episodes.find((each) => each.first === first);
    if (!episode) throw new Error(`no episode of ${this.#feature.key} starts at frame ${first}`);
    return { stats: episode.stats.stats };
  }

  #stored(values: DepthValues): DepthValues {
    const pixels = this.#pixels;
    const out =
      values instanceof Uint16Array ? new Uint16Array(pixels.length) : new Float32Array(pixels.length);
    for (let i = 0; i < pixels.length; i += 1) out[i] = values[pixels[i] ?? 0] ?? 0;
    return out;
  }
}
