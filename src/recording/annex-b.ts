import { InputError } from '../errors.ts';

/** The NAL units of a coded picture in Annex B form (start codes 00 00 01), without their start codes. */
export function nalUnits(data: Uint8Array): Uint8Array[] {
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  const first = bytes.indexOf(START_CODE);
  if (first < 0 || data.subarray(0, first).some((byte) => byte !== 0)) {
    throw new InputError(
      `expected coded video with start codes (Annex B), found ${data.byteLength} bytes without`,
    );
  }
  const units: Uint8Array[] = [];
  for (let at = first; at >= 0;) {
    const next = bytes.indexOf(START_CODE, at + START_CODE.length);
    units.push(trimmed(data.subarray(at + START_CODE.length, next < 0 ? undefined : next)));
    at = next;
  }
  return units.filter((unit) => unit.byteLength > 0);
}

const START_CODE = Buffer.of(0, 0, 1);

/** Zeros before the next start code belong to neither unit. */
function trimmed(unit: Uint8Array): Uint8Array {
  let end = unit.byteLength;
  while (end > 0 && unit[end - 1] === 0) end--;
  return unit.subarray(0, end);
}

/** Reads bits of a NAL unit's payload, emulation prevention bytes (00 00 03) left out. */
export class BitReader {
  readonly #bytes: Uint8Array;
  #at = 0;

  /** `header` bytes of the unit are skipped; at most `limit` bytes after them are looked at. */
  constructor(unit: Uint8Array, header: number, limit = 1024) {
    this.#bytes = withoutEmulation(unit.subarray(header, header + limit));
  }

  bit(): number {
    const byte = this.#bytes[this.#at >> 3];
    if (byte === undefined) throw new InputError('a parameter set or slice header of the video is cut off');
    const bit = (byte >> (7 - (this.#at & 7))) & 1;
    this.#at++;
    return bit;
  }

  bits(count: number): number {
    let value = 0;
    for (let index = 0; index < count; index++) value = value * 2 + this.bit();
    return value;
  }

  skip(count: number): void {
    this.#at += count;
  }

  /** Unsigned Exp-Golomb code. */
  ue(): number {
    let zeros = 0;
    while (this.bit() === 0) {
      if (++zeros > 32)
        throw new InputError('a parameter set of the video holds a number of more than 32 bits');
    }
    return 2 ** zeros - 1 + this.bits(zeros);
  }

  /** Signed Exp-Golomb code. */
  se(): number {
    const code = this.ue();
    return code % 2 === 1 ? (code + 1) / 2 : -(code / 2);
  }
}

function withoutEmulation(bytes: Uint8Array): Uint8Array {
  const out = new Uint8Array(bytes.byteLength);
  let length = 0;
  let zeros = 0;
  for (const byte of bytes) {
    if (zeros >= 2 && byte === 3) {
      zeros = 0;
      continue;
    }
    zeros = byte === 0 ? zeros + 1 : 0;
    out[length++] = byte;
  }
  return out.subarray(0, length);
}
