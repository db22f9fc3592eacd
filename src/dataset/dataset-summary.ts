import { InputError } from '../errors.ts';
import type { Feature } from '../frame/types.ts';
import { isCamera } from './columns.ts';
import type { VideoInfo } from './info.ts';
import { QUANTILES, type QuantileName } from './quantiles.ts';
import { featureStats, pictureStats } from './stats.ts';
import { statChannels, VectorMoments } from './vector-stats.ts';
import type { DatasetFormat, EpisodeManifest, EpisodePart, FeatureStats } from './types.ts';

const QUANTILE_NAMES = Object.keys(QUANTILES) as QuantileName[];
const NO_QUANTILES: Readonly<Record<QuantileName, number>> = { q01: 0, q10: 0, q50: 0, q90: 0, q99: 0 };

/**
 * First pass over the manifests in plan order: what holds for the whole dataset before any row is read. They must agree
 * (`Agreement`).
 */
export class DatasetSummary {
  #first: EpisodeManifest | undefined;
  readonly #tasks = new Map<string, number>();
  readonly #moments = new Map<string, VectorMoments>();
  readonly #pictures = new Map<string, { channels: number[][]; count: number }>();
  readonly #depth = new Map<string, { moments: VectorMoments; quantiles: Record<QuantileName, number> }>();
  #videoInfos: Readonly<Record<string, VideoInfo>> = {};
  #recordings = 0;
  #episodes = 0;
  #frames = 0;
  #longest = 0;

  add(manifest: EpisodeManifest): void {
    this.#first ??= manifest;
    this.#addVideoInfos(manifest);
    this.#recordings += 1;
    for (const part of manifest.episodes) {
      this.#episodes += 1;
      this.#frames += part.frames;
      this.#longest = Math.max(this.#longest, part.frames);
      for (const task of part.tasks) if (!this.#tasks.has(task)) this.#tasks.set(task, this.#tasks.size);
      for (const feature of this.#first.features) this.#addStats(feature, part, manifest.key);
    }
  }

  #addVideoInfos({ videoInfo }: EpisodeManifest): void {
    const known = this.#recordings === 0 ? videoInfo : this.#videoInfos;
    const common = Object.entries(known).map(([key, info]) => {
      const other = videoInfo[key];
      const same = Object.entries(info).filter(
        ([name, value]) => JSON.stringify(value) === JSON.stringify(other?.[name]),
      );
      return [key, same.length === Object.keys(info).length ? info : Object.fromEntries(same)] as const;
    });
    this.#videoInfos = Object.fromEntries(common);
  }

  #addStats(feature: Feature, part: EpisodePart, key: string): void {
    if (feature.dtype === 'string') return;
    const stats = part.stats[feature.key];
    if (!stats) throw new InputError(`the manifest ${key} has no statistics of ${feature.key}`);
    if (!isCamera(feature)) {
      let moments = this.#moments.get(feature.key);
      if (!moments) this.#moments.set(feature.key, (moments = new VectorMoments(statChannels(feature))));
      moments.merge(stats);
      return;
    }
    const counts = part.histograms[feature.key];
    if (feature.camera?.depthUnit !== undefined) {
      this.#addDepth(feature.key, stats);
      return;
    }
    if (!counts) throw new InputError(`the manifest ${key} has no histograms of ${feature.key}`);
    const pool = this.#pictures.get(feature.key) ?? {
      channels: counts.map(() => Array.from({ length: 256 }, () => 0)),
      count: 0,
    };
    this.#pictures.set(feature.key, pool);
    pool.count += stats.count;
    pool.channels.forEach((sum, channel) => {
      counts[channel]?.forEach((pixels, value) => {
        sum[value] = (sum[value] ?? 0) + pixels;
      });
    });
  }

  /** Depth has no 8-bit histogram: moments are merged exactly, quantiles as lerobot merges them, weighted by count. */
  #addDepth(key: string, stats: FeatureStats): void {
    const merged = this.#depth.get(key) ?? { moments: new VectorMoments(1), quantiles: { ...NO_QUANTILES } };
    this.#depth.set(key, merged);
    merged.moments.merge(stats);
    for (const name of QUANTILE_NAMES) merged.quantiles[name] += (stats[name][0] ?? 0) * stats.count;
  }

  #some(): EpisodeManifest {
    if (!this.#first) throw new InputError('a dataset needs at least one converted recording, found none');
    return this.#first;
  }

  get format(): DatasetFormat {
    return this.#some().format ?? 'v3.0';
  }
  get fps(): number {
    return this.#some().fps;
  }
  get robotType(): string | null {
    return this.#some().robotType;
  }
  get features(): readonly Feature[] {
    return this.#some().features;
  }
  /** What all videos of a feature have in common: how they were encoded only if that is so. */
  get videoInfos(): Readonly<Record<string, VideoInfo>> {
    return this.#videoInfos;
  }
  get recordings(): number {
    return this.#recordings;
  }
  get episodes(): number {
    return this.#episodes;
  }
  get frames(): number {
    return this.#frames;
  }

  /** Frames of the longest episode. */
  get longest(): number {
    return this.#longest;
  }

  /** Task texts in the order of their numbers: the order of first appearance. */
  get tasks(): readonly string[] {
    return [...this.#tasks.keys()];
  }

  /** Number of a task. */
  taskIndex(task: string): number {
    const index = this.#tasks.get(task);
    if (index === undefined) throw new Error(`task "${task}" was not in the first pass over the manifests`);
    return index;
  }

  /** Moments of a vector feature of the user over all rows. */
  moments(key: string): VectorMoments {
    const moments = this.#moments.get(key);
    if (!moments) throw new Error(`${key} has no moments`);
    return moments;
  }

  /** Statistics of a camera over all sampled pictures; exact for 8-bit pictures. */
  cameraStats(key: string): FeatureStats {
    const depth = this.#depth.get(key);
    if (depth) {
      const { moments, rows } = depth.moments;
      const means = QUANTILE_NAMES.map((name) => [name, depth.quantiles[name] / rows]);
      return featureStats(moments, [Object.fromEntries(means) as Record<QuantileName, number>], rows);
    }
    const pool = this.#pictures.get(key);
    if (!pool) throw new Error(`${key} has no pictures`);
    return pictureStats(pool.channels, pool.count);
  }
}
