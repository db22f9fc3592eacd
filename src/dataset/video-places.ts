import { InputError } from '../errors.ts';
import type { DatasetSummary } from './dataset-summary.ts';
import type { Emit } from './data-packer.ts';
import { isStaged, slotPlace } from './layout.ts';
import type { DatasetFiles, EpisodeManifest } from './types.ts';
import { VideoPacker, type VideoPlace } from './video-packer.ts';

/** Where the videos of a v3.0 dataset lie: where conversions put them, or joined into larger files. */
export class VideoPlaces {
  readonly #summary: DatasetSummary;
  readonly #packers = new Map<string, VideoPacker>();
  readonly #options: { scratch: string; emit: Emit; files: DatasetFiles; signal: AbortSignal };
  #packs: boolean | undefined;
  #places = new Map<string, VideoPlace>();

  constructor(
    summary: DatasetSummary,
    options: { scratch: string; emit: Emit; files: DatasetFiles; signal: AbortSignal },
  ) {
    this.#summary = summary;
    this.#options = options;
  }

  /** Whether videos are joined; known once the first recording was seen. */
  get packs(): boolean {
    return this.#packs ?? false;
  }

  /** Where the videos of the next recording lie, by feature. Throws when some are to be joined and some not. */
  async add({ key, slot, files }: EpisodeManifest): Promise<ReadonlyMap<string, VideoPlace>> {
    this.#places = new Map();
    for (const feature of this.#summary.features) {
      if (feature.dtype !== 'video') continue;
      const video = files.find((file) => file.feature === feature.key);
      if (!video) throw new InputError(`the manifest ${key} has no video of ${feature.key}`);
      const staged = isStaged(video.path);
      this.#packs ??= staged;
      if (staged !== this.#packs) {
        throw new InputError(
          'some recordings were converted with videos.pack and some without: convert them alike',
        );
      }
      this.#places.set(
        feature.key,
        staged ? await this.#packer(feature.key).add(video) : { place: slotPlace(slot), firstFrame: 0 },
      );
    }
    return this.#places;
  }

  async finish(): Promise<void> {
    for (const packer of this.#packers.values()) await packer.finish();
  }

  #packer(key: string): VideoPacker {
    const known = this.#packers.get(key);
    if (known) return known;
    const { fps, features, videoInfos } = this.#summary;
    const feature = features.find((each) => each.key === key);
    if (!feature) throw new Error(`there is no feature ${key}`);
    const codec = String(videoInfos[key]?.['video.codec']);
    const packer = new VideoPacker(feature, { fps, codec, ...this.#options });
    this.#packers.set(key, packer);
    return packer;
  }
}
