import { inflateSync } from 'node:zlib';
import { InputError, toError } from '../errors.ts';
import { pngHeader } from './image-format.ts';
import { type Levels, rvlLevels } from './rvl.ts';
import type { Picture } from './types.ts';

/** Bytes that `compressed_depth_image_transport` puts in front: format, then two depth parameters. */
const DEPTH_HEAD = 12;

/** Whether a compressedDepth header stands in front, by what follows it: a PNG, or what the format calls RVL. */
export function hasDepthHead(format: string, data: Uint8Array): boolean {
  return isPng(data) || (isRvl(format) && data.byteLength > DEPTH_HEAD);
}

const isPng = (data: Uint8Array) =>
  [0x89, 0x50, 0x4e, 0x47].every((byte, at) => data[DEPTH_HEAD + at] === byte);
const isRvl = (format: string) => /compressedDepth\s+rvl/i.test(format);

/**
 * A compressedDepth picture. Millimetres (`16UC1`) stay what they are; metres (`32FC1`) are quantized inverse depth,
 * which becomes floats again: depth = a / (value − b), 0 for no reading (compressed_depth_image_transport, codec.cpp).
 */
export function depthPicture(format: string, data: Uint8Array): Picture {
  const code = data.subarray(DEPTH_HEAD);
  const metres = /32FC1/i.test(format);
  if (isPng(data) && !metres) return { format: 'png', ...depthSize(code), data: code };
  const { width, height, samples } = isPng(data) ? pngLevels(code) : rvlLevels(code, MAX_SAMPLES);
  if (!metres) {
    const bytes = new Uint8Array(samples.buffer);
    return { format: 'raw', pixelFormat: 'gray16le', width, height, data: bytes };
  }
  const view = new DataView(data.buffer, data.byteOffset, DEPTH_HEAD);
  const a = view.getFloat32(4, true);
  const b = view.getFloat32(8, true);
  const depth = new Float32Array(samples.length);
  for (const [at, sample] of samples.entries()) depth[at] = sample === 0 ? 0 : a / (sample - b);
  return { format: 'raw', pixelFormat: 'grayf32le', width, height, data: new Uint8Array(depth.buffer) };
}

/** Of a grey PNG of 16 bits; throws `InputError` for another one. */
function depthSize(png: Uint8Array): { width: number; height: number } {
  const { width, height, colourType, bits } = pngHeader(png);
  if (colourType === 0 && bits === 16) return { width, height };
  throw new InputError(
    `expected a grey 16-bit PNG in a compressedDepth picture, found ${bits} bits of colour type ${colourType}`,
  );
}

/** Samples beyond this are not a camera's. */
const MAX_SAMPLES = 1 << 27;

/** Samples of a grey 16-bit PNG that is not interlaced (PNG specification, sections 9 and 10). */
function pngLevels(png: Uint8Array): Levels {
  const { width, height } = depthSize(png);
  if (width * height > MAX_SAMPLES)
    throw new InputError(`a depth picture of ${width}×${height} pixels is too large`);
  if (png[28] !== 0)
    throw new InputError('expected a PNG that is not interlaced in a compressedDepth picture');
  const stride = width * 2;
  const rows = inflated(png, (stride + 1) * height);
  const samples = new Uint16Array(width * height);
  let above = new Uint8Array(stride);
  for (let y = 0; y < height; y++) {
    const at = y * (stride + 1);
    const line = rows.slice(at + 1, at + 1 + stride);
    unfilter(rows[at] ?? 0, line, above);
    for (let x = 0; x < width; x++) {
      samples[y * width + x] = ((line[2 * x] ?? 0) << 8) | (line[2 * x + 1] ?? 0);
    }
    above = line;
  }
  return { width, height, samples };
}

function inflated(png: Uint8Array, length: number): Uint8Array {
  const view = new DataView(png.buffer, png.byteOffset, png.byteLength);
  const parts: Uint8Array[] = [];
  for (let at = 8; at + 12 <= png.byteLength; at += 12 + view.getUint32(at)) {
    if (view.getUint32(at + 4) === 0x49444154 /* IDAT */) {
      parts.push(png.subarray(at + 8, at + 8 + view.getUint32(at)));
    }
  }
  let data: Uint8Array;
  try {
    data = inflateSync(Buffer.concat(parts), { maxOutputLength: length });
  } catch (thrown) {
    throw new InputError(`the PNG data of a depth picture is damaged (${toError(thrown).message})`, {
      cause: thrown,
    });
  }
  if (data.byteLength !== length) {
    throw new InputError(`expected ${length} bytes of PNG data in a depth picture, found ${data.byteLength}`);
  }
  return data;
}

/** Undoes a row's filter in place; samples are two bytes wide. */
function unfilter(filter: number, line: Uint8Array, above: Uint8Array): void {
  if (filter > 4) throw new InputError(`expected a PNG row filter from 0 to 4, found ${filter}`);
  for (let at = 0; at < line.byteLength; at++) {
    const left = at < 2 ? 0 : (line[at - 2] ?? 0);
    const up = above[at] ?? 0;
    const corner = at < 2 ? 0 : (above[at - 2] ?? 0);
    line[at] = (line[at] ?? 0) + predicted(filter, left, up, corner);
  }
}

function predicted(filter: number, left: number, up: number, corner: number): number {
  if (filter === 1) return left;
  if (filter === 2) return up;
  if (filter === 3) return (left + up) >> 1;
  if (filter === 0) return 0;
  const estimate = left + up - corner;
  const [toLeft, toUp, toCorner] = [left, up, corner].map((value) => Math.abs(estimate - value));
  if ((toLeft ?? 0) <= (toUp ?? 0) && (toLeft ?? 0) <= (toCorner ?? 0)) return left;
  return (toUp ?? 0) <= (toCorner ?? 0) ? up : corner;
}
