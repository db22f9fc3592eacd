import type { Picture } from '../frame/types.ts';
import type { VideoInfo } from './info.ts';
import type { FeatureStats } from './types.ts';

/** An episode's place among the frames of its recording. */
export type EpisodeRange = { readonly first: number; readonly frames: number };

/** Statistics of one camera in one episode; `histograms` when its values are 8-bit: 256 counts a channel. */
export type CameraStats = { readonly stats: FeatureStats; readonly histograms?: number[][] };

/** One finished video file. */
export type FinishedVideo = {
  readonly path: string;
  readonly frames: number;
  readonly info: VideoInfo;
  readonly episode?: number;
};

/** What a camera has become when all its pictures are in. */
export type FinishedCamera = {
  /** The videos the pictures are in: none, one for all episodes, or one each (`episode` set). */
  readonly videos: readonly FinishedVideo[];
  /** Pictures that did not decode and show the one before them. */
  readonly repeated: number;
  /** Depths farther away than can be stored. */
  readonly beyond?: number;
  statsOf(episode: EpisodeRange): CameraStats | Promise<CameraStats>;
};

/** The pictures of one feature on their way to the dataset. */
export interface CameraTrack {
  /** Takes the next picture; resolves, when there is room for another, with what the data column holds of it. */
  add(picture: Picture): Promise<Uint8Array | undefined>;
  /** The next pictures belong to a new episode. */
  startEpisode(): void;
  finish(): Promise<FinishedCamera>;
  /** Gives back what it holds; safe in every state. */
  abort(): Promise<void>;
}
