import { InputError } from '../errors.ts';
import type { Feature, Picture } from '../frame/types.ts';
import type { CameraTrack, FinishedCamera } from './camera-track.ts';
import { loadSharp, type Sharp, type SharpConstructor } from './load-sharp.ts';
import { PictureSamples } from './picture-samples.ts';
import { isCandidate } from './picture-sampling.ts';
import { rawRgb } from './raw-rgb.ts';

/**
 * A camera whose pictures are stored one by one in the data column, 8-bit RGB: a recorded JPEG as it is when nothing is
 * done to it, a PNG otherwise.
 */
export class ImageTrack implements CameraTrack {
  readonly #feature: Feature;
  readonly #expectedFrames: number | undefined;
  readonly #samples: PictureSamples;
  #episodeStart = 0;
  #frames = 0;

  /** `samplesPath`: the file that samples of a long recording go to. */
  constructor(options: { feature: Feature; expectedFrames: number | undefined; samplesPath: string }) {
    this.#feature = options.feature;
    this.#samples = new PictureSamples(options.feature.key, options.samplesPath);
    this.#expectedFrames = options.expectedFrames;
  }

  async add(picture: Picture): Promise<Uint8Array> {
    const frame = this.#frames;
    this.#frames += 1;
    const { key, shape, camera } = this.#feature;
    const [height = 0, width = 0] = shape;
    const sharp = await loadSharp();
    const sampled = isCandidate(frame - this.#episodeStart, this.#expectedFrames);
    try {
      const keep = await keepsBytes(sharp, picture, camera?.transform ?? {});
      if (keep && !sampled) return picture.data;
      const { data, info } = await this.#stored(sharp, picture).raw().toBuffer({ resolveWithObject: true });
      if (info.width !== width || info.height !== height || info.channels !== 3) {
        throw new InputError(
          `${key}: expected a picture of ${width}x${height}, found ${info.width}x${info.height} at frame ${frame}`,
        );
      }
      if (sampled) this.#samples.add(frame, data, { width, height, format: 'rgb24' });
      if (keep) return picture.data;
      return await sharp(data, { raw: { width, height, channels: 3 } })
        .png({ palette: false })
        .toBuffer();
    } catch (cause) {
      if (cause instanceof InputError) throw cause;
      throw new InputError(`${key}: the picture of frame ${frame} does not decode`, { cause });
    }
  }

  startEpisode(): void {
    this.#episodeStart = this.#frames;
  }

  async finish(): Promise<FinishedCamera> {
    return {
      videos: [],
      repeated: 0,
      statsOf: (episode) => this.#samples.statsOf(episode),
    };
  }

  async abort(): Promise<void> {}

  /** The stored picture: crop, then resize, then rotate. */
  #stored(sharp: SharpConstructor, picture: Picture): Sharp {
    const { crop, resize, rotate } = this.#feature.camera?.transform ?? {};
    let image = this.#open(sharp, picture);
    if (crop) image = image.extract({ left: crop.x, top: crop.y, width: crop.width, height: crop.height });
    if (resize) image = image.resize(resize.width, resize.height, { fit: 'fill' });
    if (rotate) image = image.rotate(rotate);
    return image.toColourspace('srgb').removeAlpha();
  }

  #open(sharp: SharpConstructor, picture: Picture): Sharp {
    const { width, height } = picture;
    if (picture.format === 'jpeg' || picture.format === 'png')
      return sharp(picture.data, { failOn: 'error' });
    const rgb = picture.format === 'raw' ? rawRgb(picture) : undefined;
    if (!rgb) {
      const found = picture.format === 'raw' ? picture.pixelFormat : picture.format;
      throw new InputError(
        `${this.#feature.key}: pictures in ${found} cannot be stored as images, use type "video"`,
      );
    }
    return sharp(rgb, { raw: { width, height, channels: 3 } });
  }
}

/** A JPEG can be stored as it is when it has three channels, lies upright and nothing is done to it. */
async function keepsBytes(sharp: SharpConstructor, picture: Picture, transform: object): Promise<boolean> {
  if (picture.format !== 'jpeg' || Object.keys(transform).length > 0) return false;
  const { channels, orientation, width, height } = await sharp(picture.data).metadata();
  const upright = orientation === undefined || orientation === 1;
  return channels === 3 && upright && width === picture.width && height === picture.height;
}
