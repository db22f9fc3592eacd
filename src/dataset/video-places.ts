import { InputError } from '../errors.ts';
import type { DatasetSummary } from './dataset-summary.ts';
import type { Emit } from './data-packer.ts';
import { joinsVideos, slotPlace } from './layout.ts';
import type { DatasetFiles, EpisodeManifest } from './types.ts';
import { VideoPacker, type VideoPlace } from './video-packer.ts';

/** Where the videos of a v3.0 dataset lie: where conversions put them, or joined into larger files. */
export class VideoPlaces {
  readonly #summary: DatasetSummary;
  readonly #packers = new Map<string, VideoPacker>();
  readonly #options: { scratch: string; emit: Emit; files: DatasetFiles; signal: AbortSignal };
  #packs: boolean | undefined;

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

  /** Where the episodes of the next recording lie, by feature, in order. */
  async add(manifest: EpisodeManifest): Promise<readonly ReadonlyMap<string, VideoPlace>[]> {
    const { key, slot, edition, files, episodes } = manifest;
    this.#packs ??= joinsVideos(manifest);
    const places = episodes.map(() => new Map<string, VideoPlace>());
    for (const feature of this.#summary.features) {
      if (feature.dtype !== 'video') continue;
      for (const video of files.filter((file) => file.feature === feature.key)) {
        const { place, firstFrame } = this.#packs
          ? await this.#packer(feature.key).add(video)
          : { place: slotPlace(slot, video.episode, edition), firstFrame: 0 };
        for (const [episode, part] of episodes.entries()) {
          if ((video.episode ?? episode) !== episode) continue;
          const first = video.episode === undefined ? part.firstFrame : 0;
          places[episode]?.set(feature.key, { place, firstFrame: firstFrame + first });
        }
      }
      if (!places.every((each) => each.has(feature.key))) {
        throw new InputError(`the manifest ${key} has no video of ${feature.key}`);
      }
    }
    return places;
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
