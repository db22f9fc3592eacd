import { InputError } from '../errors.ts';

/** Bytes in front of the code: width and height. */
const SIZE_BYTES = 8;

/** A depth picture's levels, row by row. */
export type Levels = { readonly width: number; readonly height: number; readonly samples: Uint16Array };

/**
 * Levels of an RVL picture, as `compressed_depth_image_transport` writes it: width and height, 32 bits each, then runs of
 * zeros and of levels in turns, each after its length; a level is its difference to the one before (Wilson, "Fast
 * Lossless Depth Image Compression", 2017). Throws `InputError` where the code ends early or has more than its size says.
 */
export function rvlLevels(data: Uint8Array, maxSamples: number): Levels {
  if (data.byteLength < SIZE_BYTES) {
    throw new InputError(`expected the size of an RVL depth picture, found ${data.byteLength} bytes`);
  }
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const [width, height] = [view.getUint32(0, true), view.getUint32(4, true)];
  if (width === 0 || height === 0 || width * height > maxSamples) {
    throw new InputError(`a depth picture of ${width}×${height} pixels cannot be`);
  }
  const samples = new Uint16Array(width * height);
  const numbers = new Numbers(data.subarray(SIZE_BYTES));
  let level = 0;
  for (let at = 0; at < samples.length;) {
    at = within(at + numbers.next(), samples.length);
    const end = within(at + numbers.next(), samples.length);
    for (; at < end; at++) {
      const code = numbers.next();
      level = (level + ((code >>> 1) ^ -(code & 1))) & 0xffff;
      samples[at] = level;
    }
  }
  return { width, height, samples };
}

function within(end: number, length: number): number {
  if (end <= length) return end;
  throw new InputError(`expected ${length} pixels in an RVL depth picture, found ${end} or more`);
}

/** Numbers of three bits a nibble, the lowest first, the fourth bit telling that more follow; 32-bit words, high nibble first. */
class Numbers {
  readonly #data: Uint8Array;
  #nibble = 0;

  constructor(data: Uint8Array) {
    this.#data = data;
  }

  next(): number {
    let value = 0;
    for (let bits = 0; bits < 32; bits += 3) {
      const nibble = this.#next();
      value |= (nibble & 7) << bits;
      if ((nibble & 8) === 0) return value >>> 0;
    }
    throw new InputError('expected numbers of 32 bits in an RVL depth picture, found a longer one');
  }

  #next(): number {
    const at = this.#nibble++;
    const byte = this.#data[(at >> 3) * 4 + 3 - ((at & 7) >> 1)];
    if (byte === undefined) {
      throw new InputError(
        `an RVL depth picture ends after ${this.#data.byteLength} bytes of code, too early`,
      );
    }
    return (at & 1) === 0 ? byte >> 4 : byte & 15;
  }
}
