import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Feature } from '../frame/types.ts';
import { checkVideo } from './check-video.ts';
import type { Emit } from './data-packer.ts';
import { joinVideos } from './join-videos.ts';
import { type ChunkFile, nextPlace, placedVideoPath, VIDEO_FILES_SIZE_MB } from './layout.ts';
import { copyToLocal } from './local-copy.ts';
import type { DatasetFiles, EpisodeFile } from './types.ts';
import { LONGEST_SECONDS } from './video-length.ts';

/** Where frames of one camera lie. */
export type VideoPlace = { readonly place: ChunkFile; readonly firstFrame: number };

/** What a packer needs beside the camera. */
export type PackerOptions = {
  readonly fps: number;
  /** Codec in FFmpeg's word. */
  readonly codec: string;
  readonly scratch: string;
  readonly files: DatasetFiles;
  readonly emit: Emit;
  readonly signal: AbortSignal;
  /** Bytes at which a new file begins; default LeRobot's. */
  readonly limit?: number;
};

/**
 * Joins the videos of one camera, recording after recording, into files of about 200 MB and less than 1000 s; a video
 * is never cut. The same videos in the same order give the same files. What a file is made of lies on this machine only
 * while it is written.
 */
export class VideoPacker {
  readonly #feature: Feature;
  readonly #options: PackerOptions;
  readonly #limit: number;
  #at: ChunkFile = { chunk: 0, file: 0 };
  #parts: EpisodeFile[] = [];
  #bytes = 0;
  #frames = 0;

  constructor(feature: Feature, options: PackerOptions) {
    this.#feature = feature;
    this.#options = options;
    this.#limit = options.limit ?? VIDEO_FILES_SIZE_MB * 1024 * 1024;
  }

  /** Takes the next video and says where its frames will be. */
  async add(video: EpisodeFile): Promise<VideoPlace> {
    const { fps } = this.#options;
    const full =
      this.#bytes + video.bytes >= this.#limit || (this.#frames + video.frames) / fps >= LONGEST_SECONDS;
    if (full && this.#parts.length > 0) {
      await this.finish();
      this.#at = nextPlace(this.#at);
    }
    const place = { place: this.#at, firstFrame: this.#frames };
    this.#parts.push(video);
    this.#bytes += video.bytes;
    this.#frames += video.frames;
    return place;
  }

  /** Writes the file that is being filled. */
  async finish(): Promise<void> {
    const { fps, codec, scratch, files, emit, signal } = this.#options;
    if (this.#parts.length === 0) return;
    const parts = this.#parts.map((video, i) => ({ ...video, local: join(scratch, `part-${i}.mp4`) }));
    const joined = join(scratch, 'joined.mp4');
    for (const { path, local } of parts) await copyToLocal(files, path, local, signal);
    const [first] = parts;
    if (first && parts.length === 1)
      await emit({ path: this.#path, type: 'video', body: { path: first.local } });
    else {
      const sources = parts.map(({ local, frames }) => ({ path: local, frames }));
      await joinVideos(sources, joined, { fps, codec, signal });
      await checkVideo(joined, { feature: this.#feature, fps, frames: this.#frames });
      await emit({ path: this.#path, type: 'video', body: { path: joined } });
    }
    for (const { local } of parts) await rm(local, { force: true });
    await rm(joined, { force: true });
    this.#parts = [];
    this.#bytes = 0;
    this.#frames = 0;
  }

  get #path(): string {
    return placedVideoPath(this.#feature.key, this.#at);
  }
}
