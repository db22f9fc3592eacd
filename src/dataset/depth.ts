import { InputError } from '../errors.ts';
import type { Feature, Picture } from '../frame/types.ts';
import { loadSharp } from './load-sharp.ts';

/** The quantizer of lerobot's depth videos: 12-bit codes, logarithmic in metres (`DepthEncoderConfig` defaults). */
export const DEPTH = { min: 0.01, max: 10, shift: 3.5, useLog: true } as const;

const CODES = 4095;
const LOW = Math.log(DEPTH.min + DEPTH.shift);
const SPAN = Math.log(DEPTH.max + DEPTH.shift) - LOW;

/** Depth values of a picture, as recorded. */
export type DepthValues = Uint16Array | Float32Array;

/** Code of a depth in metres (lerobot `quantize_depth`); there is none for "nothing seen": 0, NaN and below are the least. */
function code(metres: number): number {
  if (!(metres > 0)) return 0;
  const scaled = (CODES * (Math.log(metres + DEPTH.shift) - LOW)) / SPAN;
  return Math.min(CODES, Math.max(0, Math.round(scaled)));
}

const tables = new Map<'mm' | 'm', Uint16Array>();

/** Codes of all 16-bit values, computed once a unit. */
function table(unit: 'mm' | 'm'): Uint16Array {
  let codes = tables.get(unit);
  if (!codes) {
    const scale = unit === 'mm' ? 1000 : 1;
    codes = Uint16Array.from({ length: 65_536 }, (_, value) => code(value / scale));
    tables.set(unit, codes);
  }
  return codes;
}

/** The 12-bit codes of a picture, little-endian 16-bit: `gray12le`. */
export function depthCodes(values: DepthValues, unit: 'mm' | 'm'): Uint8Array {
  const codes = new Uint16Array(values.length);
  if (values instanceof Uint16Array) {
    const known = table(unit);
    for (let i = 0; i < values.length; i += 1) codes[i] = known[values[i] ?? 0] ?? 0;
  } else {
    const scale = unit === 'mm' ? 1000 : 1;
    for (let i = 0; i < values.length; i += 1) codes[i] = code((values[i] ?? 0) / scale);
  }
  return new Uint8Array(codes.buffer);
}

/** Depths farther away than the codes reach, which come back as the farthest one; infinity is no depth. */
export function beyondCodes(values: DepthValues, unit: 'mm' | 'm'): number {
  const farthest = unit === 'mm' ? DEPTH.max * 1000 : DEPTH.max;
  let count = 0;
  for (let i = 0; i < values.length; i += 1) {
    const value = values[i] ?? 0;
    if (value > farthest && value < Infinity) count += 1;
  }
  return count;
}

/** For each stored pixel the recorded pixel it shows: crop, then resize (nearest, depths must not be mixed), then rotate. */
export function depthPixels(feature: Feature): Uint32Array {
  const { width = 0, height = 0, transform } = feature.camera ?? {};
  const { crop = { x: 0, y: 0, width, height }, resize = crop, rotate } = transform ?? {};
  const [outHeight = 0, outWidth = 0] = feature.shape;
  const pixels = new Uint32Array(outWidth * outHeight);
  for (let y = 0; y < outHeight; y += 1) {
    for (let x = 0; x < outWidth; x += 1) {
      let [u, v] = [x, y];
      if (rotate === 90) [u, v] = [y, resize.height - 1 - x];
      if (rotate === 180) [u, v] = [resize.width - 1 - x, resize.height - 1 - y];
      if (rotate === 270) [u, v] = [resize.width - 1 - y, x];
      const column = crop.x + Math.floor(((u + 0.5) * crop.width) / resize.width);
      const row = crop.y + Math.floor(((v + 0.5) * crop.height) / resize.height);
      pixels[y * outWidth + x] = row * width + column;
    }
  }
  return pixels;
}

/** Decodes a depth picture: 16-bit PNG, 16-bit or float raw pixels. Throws `InputError` when it is none or cut. */
export async function depthValues(key: string, picture: Picture): Promise<DepthValues> {
  const { width, height, data } = picture;
  const size = width * height;
  if (picture.format === 'png') {
    const sharp = await loadSharp();
    try {
      const { data: bytes, info } = await sharp(data, { failOn: 'error' })
        .toColourspace('grey16')
        .raw({ depth: 'ushort' })
        .toBuffer({ resolveWithObject: true });
      if (info.channels === 1 && info.width === width && info.height === height)
        return words(bytes, Uint16Array, size);
      throw new InputError(`${key}: expected a depth picture of one channel, found ${info.channels}`);
    } catch (cause) {
      if (cause instanceof InputError) throw cause;
      throw new InputError(`${key}: a depth picture does not decode`, { cause });
    }
  }
  if (picture.format === 'raw' && picture.pixelFormat === 'gray16le') return words(data, Uint16Array, size);
  if (picture.format === 'raw' && picture.pixelFormat === 'grayf32le') return words(data, Float32Array, size);
  const found = picture.format === 'raw' ? picture.pixelFormat : picture.format;
  throw new InputError(`${key}: expected 16-bit or float depth pictures, found ${found}`);
}

/** The same bytes as numbers, copied when they do not lie on a boundary. */
function words<T extends DepthValues>(
  bytes: Uint8Array,
  type: { new (buffer: ArrayBuffer, offset: number, length: number): T; BYTES_PER_ELEMENT: number },
  size: number,
): T {
  if (bytes.length !== size * type.BYTES_PER_ELEMENT) {
    throw new InputError(`a depth picture of ${size} pixels has ${bytes.length} bytes`);
  }
  const aligned = bytes.byteOffset % type.BYTES_PER_ELEMENT === 0 && bytes.buffer instanceof ArrayBuffer;
  const own = aligned ? bytes : Uint8Array.from(bytes);
  return new type(own.buffer as ArrayBuffer, own.byteOffset, size);
}
