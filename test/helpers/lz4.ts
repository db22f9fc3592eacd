/** Enough of LZ4 to write test recordings: one frame of independent blocks, greedy matches. */

const MIN_MATCH = 4;
const BLOCK = 64 << 10;

/** Compresses to an LZ4 frame (lz4 frame format 1.6.4: no block checksums, no content size). */
export function lz4Frame(data: Uint8Array): Uint8Array {
  const descriptor = Uint8Array.of(0x60, 0x40); // version 1, independent blocks; blocks of 64 KiB at most
  const parts: Uint8Array[] = [
    Uint8Array.of(0x04, 0x22, 0x4d, 0x18, ...descriptor, (xxh32(descriptor) >>> 8) & 0xff),
  ];
  for (let at = 0; at < data.byteLength; at += BLOCK) {
    const block = data.subarray(at, at + BLOCK);
    const packed = lz4Block(block);
    const stored = packed.byteLength >= block.byteLength;
    parts.push(
      u32(stored ? (block.byteLength | 0x80000000) >>> 0 : packed.byteLength),
      stored ? block : packed,
    );
  }
  parts.push(u32(0));
  return Buffer.concat(parts);
}

function lz4Block(data: Uint8Array): Uint8Array {
  const out: number[] = [];
  const seen = new Map<number, number>();
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  let anchor = 0;
  let at = 0;
  // the last five bytes are literals, and no match starts in the last twelve
  while (at + 12 < data.byteLength) {
    const word = view.getUint32(at);
    const match = seen.get(word);
    seen.set(word, at);
    if (match === undefined) {
      at++;
      continue;
    }
    let length = MIN_MATCH;
    while (at + length < data.byteLength - 5 && data[match + length] === data[at + length]) length++;
    sequence(out, data.subarray(anchor, at), at - match, length);
    at += length;
    anchor = at;
  }
  sequence(out, data.subarray(anchor), 0, 0);
  return Uint8Array.from(out);
}

function sequence(out: number[], literals: Uint8Array, distance: number, length: number): void {
  const extra = length - MIN_MATCH;
  const token = (Math.min(literals.byteLength, 15) << 4) | (distance ? Math.min(extra, 15) : 0);
  out.push(token);
  lengthBytes(out, literals.byteLength);
  for (const byte of literals) out.push(byte);
  if (!distance) return;
  out.push(distance & 0xff, distance >> 8);
  lengthBytes(out, extra);
}

function lengthBytes(out: number[], length: number): void {
  if (length < 15) return;
  let rest = length - 15;
  for (; rest >= 255; rest -= 255) out.push(255);
  out.push(rest);
}

function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

/** xxHash32 with seed 0 of fewer than 16 bytes. */
function xxh32(data: Uint8Array): number {
  let hash = (0x165667b1 + data.byteLength) >>> 0;
  for (const byte of data) {
    hash = (hash + Math.imul(byte, 0x165667b1)) >>> 0;
    hash = Math.imul((hash << 11) | (hash >>> 21), 0x9e3779b1) >>> 0;
  }
  hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca77) >>> 0;
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae3d) >>> 0;
  return (hash ^ (hash >>> 16)) >>> 0;
}
