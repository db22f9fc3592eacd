/**
 * The smallest Matroska stream that carries undecoded pictures: an EBML header, one video track, and a cluster of one
 * block per picture, so that the decoder knows where each picture begins and when it is shown, whatever its bytes are
 * (RFC 9559; sizes of segment and clusters are written, the segment's as "unknown").
 */

/** Length of one timestamp tick in ns: a picture's time is rounded to a microsecond, far below half a frame. */
const TICK_NS = 1000;

/** An unsigned integer in as few bytes as it needs, at least one. */
function ebmlNumber(value: number): Uint8Array {
  const length = Math.max(1, Math.ceil(Math.log2(value + 1) / 8));
  const bytes = new Uint8Array(length);
  for (let i = length - 1, rest = value; i >= 0; i -= 1, rest = Math.floor(rest / 256)) bytes[i] = rest % 256;
  return bytes;
}

/** An element size as an EBML variable-length integer of 8 bytes. */
function size(length: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length) | (1n << 56n));
  return bytes;
}

function element(id: number, ...content: readonly Uint8Array[]): Buffer {
  const length = content.reduce((sum, part) => sum + part.length, 0);
  return Buffer.concat([ebmlNumber(id), size(length), ...content]);
}

const text = (value: string) => new TextEncoder().encode(value);

/** What the stream carries: the codec is Matroska's name for it. */
export type MatroskaTrack = {
  readonly codec: 'mjpeg' | 'png' | 'h264' | 'h265';
  readonly width: number;
  readonly height: number;
  readonly fps: number;
};

/** BITMAPINFOHEADER of a codec that Matroska knows only by its Windows name. */
function bitmapInfoHeader(fourcc: string, width: number, height: number): Uint8Array {
  const header = Buffer.alloc(40);
  header.writeUInt32LE(40, 0);
  header.writeInt32LE(width, 4);
  header.writeInt32LE(height, 8);
  header.writeUInt16LE(1, 12);
  header.writeUInt16LE(24, 14);
  header.write(fourcc, 16, 'latin1');
  return header;
}

/** Codecs whose pictures Matroska carries as they are (Annex B for H.264 and H.265) under their Windows names. */
const fourccs = { png: 'MPNG', h264: 'H264', h265: 'HEVC' } as const;

/** The bytes before the first picture. */
export function matroskaHeader({ codec, width, height, fps }: MatroskaTrack): Buffer {
  const description =
    codec === 'mjpeg'
      ? [element(0x86, text('V_MJPEG'))]
      : [
          element(0x86, text('V_MS/VFW/FOURCC')),
          element(0x63a2, bitmapInfoHeader(fourccs[codec], width, height)),
        ];
  return Buffer.concat([
    element(
      0x1a45dfa3,
      element(0x4286, ebmlNumber(1)),
      element(0x42f7, ebmlNumber(1)),
      element(0x42f2, ebmlNumber(4)),
      element(0x42f3, ebmlNumber(8)),
      element(0x4282, text('matroska')),
      element(0x4287, ebmlNumber(4)),
      element(0x4285, ebmlNumber(2)),
    ),
    // Segment of unknown size: the stream ends when standard input does.
    Buffer.from([0x18, 0x53, 0x80, 0x67, 0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
    element(0x1549a966, element(0x2ad7b1, ebmlNumber(TICK_NS))),
    element(
      0x1654ae6b,
      element(
        0xae,
        element(0xd7, ebmlNumber(1)),
        element(0x73c5, ebmlNumber(1)),
        element(0x83, ebmlNumber(1)),
        // Default duration in ns: without it the last picture has none, and the frame grid leaves it out.
        element(0x23e383, ebmlNumber(Math.round(1e9 / fps))),
        ...description,
        element(0xe0, element(0xb0, ebmlNumber(width)), element(0xba, ebmlNumber(height))),
      ),
    ),
  ]);
}

/** Cluster, its time, and the head of a SimpleBlock: all sizes and numbers in 8 bytes, so that none is looked for. */
const FRAME_HEAD = 4 + 8 + (1 + 8 + 8) + (1 + 8 + 4);

/** The bytes before picture number `index` (a fraction lies between two) of `length` bytes, to be followed by the picture. */
export function matroskaFrame(index: number, fps: number, length: number, keyframe = true): Buffer {
  const timestamp = Math.round((index * 1e9) / fps / TICK_NS);
  const head = Buffer.alloc(FRAME_HEAD);
  head.writeUInt32BE(0x1f43b675, 0);
  writeSize(head, 4, FRAME_HEAD - 12 + length);
  head[12] = 0xe7;
  writeSize(head, 13, 8);
  head.writeUIntBE(timestamp, 23, 6);
  head[29] = 0xa3;
  writeSize(head, 30, 4 + length);
  // Track 1, time relative to the cluster 0, whether it is a keyframe.
  head.writeUInt32BE(keyframe ? 0x81000080 : 0x81000000, 38);
  return head;
}

/** An element size in 8 bytes: a marker bit, and 56 bits of which lengths here need fewer than 48. */
function writeSize(bytes: Buffer, at: number, length: number): void {
  bytes[at] = 1;
  bytes.writeUIntBE(length, at + 2, 6);
}
