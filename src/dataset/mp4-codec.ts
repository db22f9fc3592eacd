import { InputError } from '../errors.ts';

/** Codec and pixels of a video track, in FFmpeg's words. */
export type VideoFormat = {
  /** `h264`, `hevc`, `av1`, `vp9`, or the sample entry's own four letters. */
  readonly codec: string;
  readonly width: number;
  readonly height: number;
  /** `yuv420p`, `gray12le`, …; undefined when the codec's configuration does not tell. */
  readonly pixFmt: string | undefined;
};

const CODECS: Readonly<Record<string, string>> = {
  avc1: 'h264',
  avc3: 'h264',
  hvc1: 'hevc',
  hev1: 'hevc',
  av01: 'av1',
  vp09: 'vp9',
};

/**
 * Reads the first sample entry of an `stsd` box (ISO/IEC 14496-12, -15; AV1-ISOBMFF): `start` and `end` delimit its
 * content within `bytes`.
 */
export function readSampleEntry(bytes: Uint8Array, stsd: { start: number; end: number }): VideoFormat {
  const data = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const entry = stsd.start + 8;
  const length = data.getUint32(entry);
  if (entry + length > stsd.end || length < 86) {
    throw new InputError('not a whole MP4 file: its sample entry is cut');
  }
  const word = (at: number) => Buffer.from(bytes.subarray(at, at + 4)).toString('latin1');
  const type = word(entry + 4);
  let pixFmt: string | undefined;
  for (let at = entry + 86; at + 8 <= entry + length;) {
    const size = data.getUint32(at);
    if (size < 8) break;
    const content = bytes.subarray(at + 8, at + size);
    if (word(at + 4) === 'avcC') pixFmt = avcPixels(content);
    if (word(at + 4) === 'hvcC') pixFmt = pixelFormat((content[16] ?? 0) & 3, ((content[17] ?? 0) & 7) + 8);
    if (word(at + 4) === 'av1C') pixFmt = av1Pixels(content);
    at += size;
  }
  return {
    codec: CODECS[type] ?? type.trim(),
    width: data.getUint16(entry + 32),
    height: data.getUint16(entry + 34),
    pixFmt,
  };
}

/** Chroma format (0 none, 1 4:2:0, 2 4:2:2, 3 4:4:4) and depth as FFmpeg's name. */
function pixelFormat(chroma: number, bits: number): string {
  const base = chroma === 0 ? 'gray' : `yuv4${['', '20', '22', '44'][chroma] ?? '20'}p`;
  return bits === 8 ? base : `${base}${bits}le`;
}

/** Only the "high" profiles carry a chroma format and depth; the others are 8-bit 4:2:0 by definition. */
function avcPixels(avcC: Uint8Array): string | undefined {
  const profile = avcC[1] ?? 0;
  if ([66, 77, 88].includes(profile)) return 'yuv420p';
  let at = 6;
  for (let i = 0; i < ((avcC[5] ?? 0) & 31); i += 1) at += 2 + (((avcC[at] ?? 0) << 8) | (avcC[at + 1] ?? 0));
  const pictureSets = avcC[at] ?? 0;
  at += 1;
  for (let i = 0; i < pictureSets; i += 1) at += 2 + (((avcC[at] ?? 0) << 8) | (avcC[at + 1] ?? 0));
  if (at + 2 > avcC.length) return profile === 100 ? 'yuv420p' : undefined;
  return pixelFormat((avcC[at] ?? 0) & 3, ((avcC[at + 1] ?? 0) & 7) + 8);
}

function av1Pixels(av1C: Uint8Array): string {
  const flags = av1C[2] ?? 0;
  const bits = (flags & 0x40) === 0 ? 8 : (flags & 0x20) === 0 ? 10 : 12;
  const chroma = (flags & 0x10) !== 0 ? 0 : (flags & 0x08) === 0 ? 3 : (flags & 0x04) === 0 ? 2 : 1;
  return pixelFormat(chroma, bits);
}
