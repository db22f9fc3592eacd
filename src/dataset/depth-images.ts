import type { Picture } from '../frame/types.ts';
import type { CameraTrack, FinishedCamera } from './camera-track.ts';
import { DepthEpisodes } from './depth-episodes.ts';
import { depthTiff } from './tiff.ts';

/**
 * A depth camera whose pictures are stored one by one in the data column, as TIFF in the unit they were recorded in.
 * What has no finite depth is stored as 0, like the 16-bit pictures of most cameras: readers would learn from NaN.
 */
export class DepthImages implements CameraTrack {
  readonly #depth: DepthEpisodes;

  constructor(options: ConstructorParameters<typeof DepthEpisodes>[0]) {
    this.#depth = new DepthEpisodes(options);
  }

  async add(picture: Picture): Promise<Uint8Array> {
    const values = await this.#depth.add(picture);
    if (values instanceof Float32Array) {
      for (let i = 0; i < values.length; i += 1) if (!Number.isFinite(values[i])) values[i] = 0;
    }
    return depthTiff(values, this.#depth.width, this.#depth.height);
  }

  startEpisode(): void {
    this.#depth.startEpisode();
  }

  async finish(): Promise<FinishedCamera> {
    return { videos: [], repeated: 0, statsOf: (episode) => this.#depth.statsOf(episode) };
  }

  async abort(): Promise<void> {}
}
