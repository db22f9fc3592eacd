import type { Sharp, SharpConstructor } from 'sharp';

export type { Sharp, SharpConstructor };

let loaded: Promise<SharpConstructor> | undefined;

/**
 * The image library. No other takes as long to start (0.2 s of CPU), and encoders decode by themselves: a conversion to
 * video first needs it for its last picture.
 */
export async function loadSharp(): Promise<SharpConstructor> {
  loaded ??= import('sharp').then((library) => library.default);
  return await loaded;
}
