import { InputError } from '../errors.ts';

/** Size of a coded picture in pixels. */
export type PictureSize = { readonly width: number; readonly height: number };

/** Bytes after EOI that some cameras pad their buffers with. */
const MAX_JPEG_PADDING = 4096;

/** JPEG start-of-frame markers (ITU T.81 table B.1): C0–CF without DHT (C4), JPG (C8) and DAC (CC). */
function isStartOfFrame(marker: number): boolean {
  return marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc;
}

/**
 * Checks the frame of a JPEG: SOI at the start, a readable SOF, EOI at the end (zero padding after it is tolerated).
 * Pictures cut off in transport fail here; decoders would show them half grey without an error.
 */
export function jpegSize(data: Uint8Array): PictureSize {
  if (data.byteLength === 0) throw new InputError('expected a JPEG picture, found no bytes');
  if (data[0] !== 0xff || data[1] !== 0xd8) {
    throw new InputError(`expected a JPEG picture (ff d8 …), found ${hex(data, 4)}`);
  }
  let end = data.byteLength;
  const floor = Math.max(2, end - MAX_JPEG_PADDING);
  while (end > floor && data[end - 1] === 0) end--;
  if (data[end - 2] !== 0xff || data[end - 1] !== 0xd9) {
    throw new InputError(
      `expected a whole JPEG picture, found ${data.byteLength} bytes without an end-of-image marker: it was cut off`,
    );
  }
  const view = new DataView(data.buffer, data.byteOffset, end);
  let at = 2;
  while (at + 4 <= end) {
    if (view.getUint8(at) !== 0xff) break;
    const marker = view.getUint8(at + 1);
    if (marker === 0xff) {
      at++; // fill byte
      continue;
    }
    if (isStartOfFrame(marker)) {
      if (at + 9 > end) break;
      return nonEmpty('JPEG', { height: view.getUint16(at + 5), width: view.getUint16(at + 7) });
    }
    // TEM and RSTn stand alone; SOS before a SOF means there is none
    if (marker === 0x01 || (marker >= 0xd0 && marker <= 0xd7)) at += 2;
    else if (marker === 0xda) break;
    else at += 2 + view.getUint16(at + 2);
  }
  throw new InputError(`expected a JPEG picture with a frame header, found none in ${data.byteLength} bytes`);
}

const PNG_SIGNATURE = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);

/** What a PNG's header says. `bits` per sample; colour types as in the specification (0 grey, 2 RGB, 3 palette, …). */
export type PngHeader = PictureSize & { readonly bits: number; readonly colourType: number };

/** Checks the frame of a PNG (signature, IHDR, IEND at the end) and reads its header. */
export function pngHeader(data: Uint8Array): PngHeader {
  if (data.byteLength === 0) throw new InputError('expected a PNG picture, found no bytes');
  if (data.byteLength < 33 || !PNG_SIGNATURE.every((byte, at) => data[at] === byte)) {
    throw new InputError(`expected a PNG picture (89 50 4e 47 …), found ${hex(data, 4)}`);
  }
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  if (view.getUint32(12) !== 0x49484452 /* IHDR */) {
    throw new InputError(`expected a PNG picture with a header chunk, found ${hex(data.subarray(12), 4)}`);
  }
  if (!hasPngEnd(view)) {
    throw new InputError(
      `expected a whole PNG picture, found ${data.byteLength} bytes without an end chunk: it was cut off`,
    );
  }
  return {
    ...nonEmpty('PNG', { width: view.getUint32(16), height: view.getUint32(20) }),
    bits: view.getUint8(24),
    colourType: view.getUint8(25),
  };
}

/** Walks the chunks by their lengths to IEND; what follows it is padding. */
function hasPngEnd(view: DataView): boolean {
  let at = PNG_SIGNATURE.byteLength;
  while (at + 12 <= view.byteLength) {
    if (view.getUint32(at + 4) === 0x49454e44 /* IEND */) return true;
    at += 12 + view.getUint32(at);
  }
  return false;
}

function nonEmpty(kind: string, size: PictureSize): PictureSize {
  if (size.width === 0 || size.height === 0) {
    throw new InputError(`expected a ${kind} picture with pixels, found ${size.width}×${size.height}`);
  }
  return size;
}

/** The first `length` bytes, for a message. */
export function hex(data: Uint8Array, length: number): string {
  const shown = [...data.subarray(0, length)].map((byte) => byte.toString(16).padStart(2, '0'));
  return shown.length === 0 ? 'no bytes' : shown.join(' ');
}
