import type { Picture } from '../frame/types.ts';
import type { CameraStats, CameraTrack, FinishedCamera, FinishedVideo } from './camera-track.ts';
import type { EncoderOptions } from './video.ts';

type Finished = {
  readonly first: number;
  readonly videos: readonly FinishedVideo[];
  readonly repeated: number;
  readonly beyond: number;
  readonly stats: CameraStats;
};

/** A camera with a video of its own for every episode, one after the other. */
export class EpisodeVideos implements CameraTrack {
  readonly #options: EncoderOptions;
  readonly #open: (options: EncoderOptions) => CameraTrack;
  readonly #onVideo: (video: FinishedVideo) => void;
  readonly #finished: Finished[] = [];
  #track: CameraTrack | undefined;
  #first = 0;
  #frames = 0;
  /** The end of the episode before: its encoder finishes before the next one starts. */
  #ending: Promise<void> = Promise.resolve();

  /** `open` starts the video of one episode; `onVideo` is told of every one as soon as it is complete. */
  constructor(
    options: EncoderOptions,
    open: (options: EncoderOptions) => CameraTrack,
    onVideo: (video: FinishedVideo) => void,
  ) {
    this.#options = options;
    this.#open = open;
    this.#onVideo = onVideo;
    this.#track = this.#create(0);
  }

  async add(picture: Picture): Promise<undefined> {
    await this.#ending;
    this.#track ??= this.#create(this.#finished.length);
    await this.#track.add(picture);
    this.#frames += 1;
  }

  startEpisode(): void {
    this.#ending = this.#end();
    // Reported by the next picture, or by finish.
    this.#ending.catch(() => {});
  }

  async finish(): Promise<FinishedCamera> {
    await this.#ending;
    return {
      videos: this.#finished.flatMap(({ videos }) => videos),
      repeated: this.#finished.reduce((sum, { repeated }) => sum + repeated, 0),
      beyond: this.#finished.reduce((sum, { beyond }) => sum + beyond, 0),
      statsOf: ({ first }) => {
        const own = this.#finished.find((each) => each.first === first);
        if (!own) throw new Error(`no episode of ${this.#options.feature.key} starts at frame ${first}`);
        return own.stats;
      },
    };
  }

  async abort(): Promise<void> {
    await this.#track?.abort();
    await this.#ending.catch(() => {});
  }

  async #end(): Promise<void> {
    const track = this.#track;
    if (!track) return;
    const episode = this.#finished.length;
    const frames = this.#frames - this.#first;
    const camera = await track.finish();
    const videos = camera.videos.map((video) => ({ ...video, episode }));
    const { repeated, beyond = 0 } = camera;
    // The statistics alone are kept: a track holds on to the samples they are made of.
    const stats = await camera.statsOf({ first: 0, frames });
    this.#finished.push({ first: this.#first, videos, repeated, beyond, stats });
    for (const video of videos) this.#onVideo(video);
    this.#first = this.#frames;
    this.#track = undefined;
  }

  #create(episode: number): CameraTrack {
    const path = this.#options.path.replace(/\.mp4$/, `-${episode}.mp4`);
    return this.#open({ ...this.#options, path });
  }
}
