import { InputError } from '../errors.ts';

/** Decodes LZ4 frames (LZ4 frame format 1.6.4, block format 1.5.1). */

const FRAME_MAGIC = 0x184d2204;
const MIN_MATCH = 4;
/** From this length on, copying with the engine's own routines is faster than a loop. */
const LONG_COPY = 32;

/** What a frame that is cut off still holds: its whole blocks. */
export function expandCutLz4(data: Uint8Array, size: number): Uint8Array {
  const out = new Uint8Array(size);
  let whole = 0;
  try {
    expandInto(out, data, (length) => (whole = length));
  } catch (thrown) {
    if (!(thrown instanceof InputError)) throw thrown;
  }
  return out.subarray(0, whole);
}

/**
 * Expands one LZ4 frame to exactly `size` bytes. Every length is checked and a content checksum is verified when
 * there is one; damage is an `InputError`. No state is kept: a damaged frame leaves nothing behind for the next.
 */
export function expandLz4(data: Uint8Array, size: number): Uint8Array {
  const out = new Uint8Array(size);
  expandInto(out, data);
  return out;
}

function expandInto(out: Uint8Array, data: Uint8Array, progress?: (length: number) => void): void {
  const size = out.byteLength;
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  if (data.byteLength < 11 || view.getUint32(0, true) !== FRAME_MAGIC) {
    throw new InputError(`expected an lz4 frame, found ${data.byteLength} bytes that start differently`);
  }
  const flags = view.getUint8(4);
  if (flags >> 6 !== 1) throw new InputError(`expected an lz4 frame of version 1, found ${flags >> 6}`);
  if ((flags & 1) !== 0) throw new InputError('expected an lz4 frame without a dictionary');
  const blockChecksums = (flags & 0x10) !== 0;
  // magic, flags, block size, content size when flagged, header checksum
  let at = 6 + ((flags & 0x08) !== 0 ? 8 : 0) + 1;
  if (data[at - 1] !== ((xxh32(data.subarray(4, at - 1)) >>> 8) & 0xff)) {
    throw new InputError('the header of an lz4 frame does not match its checksum');
  }
  let length = 0;
  for (;;) {
    if (at + 4 > data.byteLength) throw new InputError('an lz4 frame is cut off between its blocks');
    const word = view.getUint32(at, true);
    at += 4;
    if (word === 0) break;
    const end = at + (word & 0x7fffffff);
    if (end > data.byteLength) throw new InputError('an lz4 frame is cut off inside a block');
    if (word >>> 31 === 1) {
      if (length + end - at > size) throw tooLong(size);
      out.set(data.subarray(at, end), length);
      length += end - at;
    } else {
      length = expandBlock(data, at, end, out, length);
    }
    progress?.(length);
    at = end + (blockChecksums ? 4 : 0);
  }
  if (length !== size) throw new InputError(`an lz4 frame gave ${length} bytes, ${size} were declared`);
  if ((flags & 0x04) !== 0) {
    if (at + 4 > data.byteLength) throw new InputError('an lz4 frame is cut off before its checksum');
    if (view.getUint32(at, true) !== xxh32(out))
      throw new InputError('an lz4 frame does not match its checksum');
  }
}

/**
 * Expands the sequences from `at` to `end` behind the first `start` bytes of `out`; returns the new length. Indexes are
 * checked once a sequence, so that the inner loops need not: `as number` stands for that.
 */
function expandBlock(data: Uint8Array, at: number, end: number, out: Uint8Array, start: number): number {
  const limit = out.byteLength;
  let length = start;
  while (at < end) {
    const token = data[at++] as number;
    let literals = token >> 4;
    if (literals === 15) {
      let byte = 255;
      while (byte === 255 && at < end) literals += byte = data[at++] as number;
    }
    if (at + literals > end) throw new InputError('an lz4 block is cut off inside its literals');
    if (length + literals > limit) throw tooLong(limit);
    if (literals >= LONG_COPY) {
      out.set(data.subarray(at, at + literals), length);
      length += literals;
      at += literals;
    } else {
      for (const stop = at + literals; at < stop;) out[length++] = data[at++] as number;
    }
    if (at === end) break;
    if (at + 2 > end) throw new InputError('an lz4 block is cut off inside a match');
    const distance = (data[at] as number) | ((data[at + 1] as number) << 8);
    at += 2;
    let match = (token & 15) + MIN_MATCH;
    if ((token & 15) === 15) {
      let byte = 255;
      while (byte === 255 && at < end) match += byte = data[at++] as number;
    }
    if (distance === 0 || distance > length) {
      throw new InputError(`an lz4 match goes back ${distance} of ${length} bytes`);
    }
    if (length + match > limit) throw tooLong(limit);
    let from = length - distance;
    if (match >= LONG_COPY && distance >= match) {
      out.copyWithin(length, from, from + match);
      length += match;
    } else {
      for (const stop = length + match; length < stop;) out[length++] = out[from++] as number;
    }
  }
  return length;
}

function tooLong(size: number): InputError {
  return new InputError(`an lz4 frame holds more than the ${size} bytes that were declared`);
}

const P1 = 0x9e3779b1;
const P2 = 0x85ebca77;
const P3 = 0xc2b2ae3d;
const P4 = 0x27d4eb2f;
const P5 = 0x165667b1;

/** xxHash32 with seed 0 (xxhash.com, algorithm description 0.2.0). */
export function xxh32(data: Uint8Array): number {
  const words = wordsOf(data);
  let word = 0;
  let hash = P5;
  if (words.length >= 4) {
    let a = (P1 + P2) | 0;
    let b = P2 | 0;
    let c = 0;
    let d = -P1 | 0;
    for (const stop = words.length & ~3; word < stop; word += 4) {
      a = Math.imul(rotate((a + Math.imul(words[word] as number, P2)) | 0, 13), P1);
      b = Math.imul(rotate((b + Math.imul(words[word + 1] as number, P2)) | 0, 13), P1);
      c = Math.imul(rotate((c + Math.imul(words[word + 2] as number, P2)) | 0, 13), P1);
      d = Math.imul(rotate((d + Math.imul(words[word + 3] as number, P2)) | 0, 13), P1);
    }
    hash = rotate(a, 1) + rotate(b, 7) + rotate(c, 12) + rotate(d, 18);
  }
  hash = (hash + data.byteLength) | 0;
  for (; word < words.length; word++) {
    hash = Math.imul(rotate((hash + Math.imul(words[word] as number, P3)) | 0, 17), P4);
  }
  for (let at = words.length * 4; at < data.byteLength; at++) {
    hash = Math.imul(rotate((hash + Math.imul(data[at] as number, P5)) | 0, 11), P1);
  }
  hash = Math.imul(hash ^ (hash >>> 15), P2);
  hash = Math.imul(hash ^ (hash >>> 13), P3);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** Whole 32-bit words of the data, little-endian as every machine that Node runs on. */
function wordsOf(data: Uint8Array): Int32Array {
  const bytes = data.byteOffset % 4 === 0 ? data : new Uint8Array(data);
  return new Int32Array(bytes.buffer, bytes.byteOffset, data.byteLength >> 2);
}

function rotate(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits));
}
