import type { DepthValues } from './depth.ts';

/** Types of a tag's value (TIFF 6.0, section 2). */
const SHORT = 3;
const LONG = 4;

const HEADER_BYTES = 8;
const ENTRY_BYTES = 12;

/**
 * An uncompressed TIFF of one channel: 16-bit integers or 32-bit floats as they are, which Pillow opens as `I;16` and
 * `F` and lerobot takes for depth. `values` has `width` × `height` numbers.
 */
export function depthTiff(values: DepthValues, width: number, height: number): Uint8Array {
  const { BYTES_PER_ELEMENT: sample } = values;
  const isFloat = values instanceof Float32Array;
  const tags: readonly (readonly [tag: number, type: number, value: number])[] = [
    [256, LONG, width],
    [257, LONG, height],
    [258, SHORT, sample * 8], // BitsPerSample
    [259, SHORT, 1], // no compression
    [262, SHORT, 1], // 0 is black
    [273, LONG, 0], // offset of the only strip, set below
    [277, SHORT, 1], // SamplesPerPixel
    [278, LONG, height], // rows of the strip
    [279, LONG, values.length * sample],
    [339, SHORT, isFloat ? 3 : 1], // SampleFormat
  ];
  const start = HEADER_BYTES + 2 + tags.length * ENTRY_BYTES + 4;
  const out = Buffer.alloc(start + values.length * sample);
  out.write('II*\0', 'latin1');
  out.writeUInt32LE(HEADER_BYTES, 4);
  out.writeUInt16LE(tags.length, HEADER_BYTES);
  for (const [i, [tag, type, value]] of tags.entries()) {
    const at = HEADER_BYTES + 2 + i * ENTRY_BYTES;
    out.writeUInt16LE(tag, at);
    out.writeUInt16LE(type, at + 2);
    out.writeUInt32LE(1, at + 4);
    // A SHORT lies in the first two bytes of its field: little-endian, the same as a LONG of that value.
    out.writeUInt32LE(tag === 273 ? start : value, at + 8);
  }
  for (let i = 0; i < values.length; i += 1) {
    const value = values[i] ?? 0;
    if (isFloat) out.writeFloatLE(value, start + i * 4);
    else out.writeUInt16LE(value, start + i * 2);
  }
  return out;
}
