import { InputError } from '../errors.ts';
import type { Feature, Mapping, Picture, Source } from '../frame/types.ts';

/**
 * The pictures of a camera stay what the plan found: a video has one size and one way of decoding, depth one unit.
 * Pictures in the table may be coded differently, but a crop of another size would show another part of the scene.
 */
export class SteadyPictures {
  readonly #features: ReadonlyMap<string, Feature>;
  /** By source index. */
  readonly #formats = new Map<number, string>();

  constructor({ features }: Mapping) {
    this.#features = new Map(features.map((feature) => [feature.key, feature]));
  }

  /** Throws `InputError` when the next picture of a source is not like those before it. Video streams tell their size by themselves. */
  check({ index, feature, topic }: Source, picture: Picture): void {
    const { camera, dtype } = this.#features.get(feature) ?? {};
    const streamed = picture.format === 'h264' || picture.format === 'h265';
    const { width, height } = streamed || !camera ? picture : camera;
    const format = formatOf(picture);
    const mixed = dtype === 'image' && camera?.depthUnit === undefined;
    const expected = mixed ? format : (this.#formats.get(index) ?? format);
    if (format !== expected || width !== picture.width || height !== picture.height) {
      throw new InputError(
        `topic ${topic}: expected pictures of ${expected} ${width}×${height} like those before, ` +
          `found ${format} ${picture.width}×${picture.height}`,
      );
    }
    this.#formats.set(index, format);
  }
}

function formatOf(picture: Picture): string {
  return picture.format === 'raw' ? `raw ${picture.pixelFormat}` : picture.format;
}
