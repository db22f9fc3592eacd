import type { Sharp, SharpConstructor } from 'sharp';

export type { Sharp, SharpConstructor };

let loaded: Promise<SharpConstructor> | undefined;

/**
 * The image library. Starting it takes as long as loading the rest of a conversion, and most recordings need none of it:
 * their encoders decode.
 */
export async function loadSharp(): Promise<SharpConstructor> {
  loaded ??= import('sharp').then((library) => library.default);
  return await loaded;
}
