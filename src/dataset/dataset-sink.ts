import type { RowGroupData } from './parquet.ts';
import type { EpisodeManifest, EpisodePart, FeatureStats } from './types.ts';

/** An episode with its number in the dataset. */
export type NumberedEpisode = {
  readonly episode: number;
  /** Global number of its first row. */
  readonly from: number;
  readonly manifest: EpisodeManifest;
  /** Its position among the episodes of its recording. */
  readonly position: number;
  readonly part: EpisodePart;
  /** Statistics with the numbers of the dataset. */
  readonly stats: Readonly<Record<string, FeatureStats>>;
};

/** Writes a dataset in one version of the format, episode by episode, in order. */
export interface DatasetSink {
  /** Folders in which every file belongs to the run that wrote last. */
  readonly stalePrefixes: readonly string[];
  startEpisode(episode: number, frames: number): Promise<void>;
  /** Rows of the started episode, numbered for the dataset. */
  write(rows: RowGroupData): Promise<void>;
  endEpisode(episode: NumberedEpisode): Promise<void>;
  /** Everything but `info.json`; `stats` are those of the whole dataset. */
  finishTables(stats: Record<string, unknown>): Promise<void>;
  finishInfo(): Promise<void>;
  /** Closes what is open. */
  abort(): Promise<void>;
}
