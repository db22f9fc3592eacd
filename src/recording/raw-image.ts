import { InputError } from '../errors.ts';
import { printable } from './compression.ts';
import type { Picture, PixelFormat } from './types.ts';

/** A raw image message: rows of `step` bytes. */
export type RawImage = {
  readonly encoding: string;
  readonly width: number;
  readonly height: number;
  readonly step: number;
  readonly bigEndian: boolean;
  readonly data: Uint8Array;
};

/** How an encoding lies in memory: `rowBytes` per pixel of a row, `rows` per line of the picture. */
type Layout = {
  readonly pixelFormat: PixelFormat;
  /** Bytes of one pixel within a row. */
  readonly bytes: number;
  /** Bytes of one sample, for byte order. */
  readonly sample: 1 | 2 | 4;
  /** Rows as a fraction of the picture's height (planar chroma adds half). */
  readonly rows?: 1.5;
  /** Width and height must be multiples of these. */
  readonly even?: { readonly width: 1 | 2; readonly height: 1 | 2 };
};

const EVEN_WIDTH = { width: 2, height: 1 } as const;
const EVEN = { width: 2, height: 2 } as const;

/** By `sensor_msgs/image_encodings` name, OpenCV names included; byte order within 16 and 32 bit as the message says. */
const LAYOUTS: ReadonlyMap<string, Layout> = new Map<string, Layout>([
  ['rgb8', { pixelFormat: 'rgb24', bytes: 3, sample: 1 }],
  ['bgr8', { pixelFormat: 'bgr24', bytes: 3, sample: 1 }],
  ['rgb16', { pixelFormat: 'rgb48le', bytes: 6, sample: 2 }],
  ['bgr16', { pixelFormat: 'bgr48le', bytes: 6, sample: 2 }],
  ['rgba16', { pixelFormat: 'rgba64le', bytes: 8, sample: 2 }],
  ['bgra16', { pixelFormat: 'bgra64le', bytes: 8, sample: 2 }],
  // OpenCV's own three and four channel order is blue first
  ['8uc3', { pixelFormat: 'bgr24', bytes: 3, sample: 1 }],
  ['8uc4', { pixelFormat: 'bgra', bytes: 4, sample: 1 }],
  ['16uc3', { pixelFormat: 'bgr48le', bytes: 6, sample: 2 }],
  ['16uc4', { pixelFormat: 'bgra64le', bytes: 8, sample: 2 }],
  ['rgba8', { pixelFormat: 'rgba', bytes: 4, sample: 1 }],
  ['bgra8', { pixelFormat: 'bgra', bytes: 4, sample: 1 }],
  ['mono8', { pixelFormat: 'gray', bytes: 1, sample: 1 }],
  ['8uc1', { pixelFormat: 'gray', bytes: 1, sample: 1 }],
  ['mono16', { pixelFormat: 'gray16le', bytes: 2, sample: 2 }],
  ['16uc1', { pixelFormat: 'gray16le', bytes: 2, sample: 2 }],
  ['32fc1', { pixelFormat: 'grayf32le', bytes: 4, sample: 4 }],
  ['bayer_rggb8', { pixelFormat: 'bayer_rggb8', bytes: 1, sample: 1, even: EVEN }],
  ['bayer_bggr8', { pixelFormat: 'bayer_bggr8', bytes: 1, sample: 1, even: EVEN }],
  ['bayer_gbrg8', { pixelFormat: 'bayer_gbrg8', bytes: 1, sample: 1, even: EVEN }],
  ['bayer_grbg8', { pixelFormat: 'bayer_grbg8', bytes: 1, sample: 1, even: EVEN }],
  ['bayer_rggb16', { pixelFormat: 'bayer_rggb16le', bytes: 2, sample: 2, even: EVEN }],
  ['bayer_bggr16', { pixelFormat: 'bayer_bggr16le', bytes: 2, sample: 2, even: EVEN }],
  ['bayer_gbrg16', { pixelFormat: 'bayer_gbrg16le', bytes: 2, sample: 2, even: EVEN }],
  ['bayer_grbg16', { pixelFormat: 'bayer_grbg16le', bytes: 2, sample: 2, even: EVEN }],
  // ROS: yuv422 is UYVY, yuv422_yuy2 is YUYV
  ['yuv422', { pixelFormat: 'uyvy422', bytes: 2, sample: 1, even: EVEN_WIDTH }],
  ['uyvy', { pixelFormat: 'uyvy422', bytes: 2, sample: 1, even: EVEN_WIDTH }],
  ['yuv422_yuy2', { pixelFormat: 'yuyv422', bytes: 2, sample: 1, even: EVEN_WIDTH }],
  ['yuyv', { pixelFormat: 'yuyv422', bytes: 2, sample: 1, even: EVEN_WIDTH }],
  ['nv12', { pixelFormat: 'nv12', bytes: 1, sample: 1, rows: 1.5, even: EVEN }],
  ['nv21', { pixelFormat: 'nv21', bytes: 1, sample: 1, rows: 1.5, even: EVEN }],
]);

/** A raw image that needs more bytes than this is damaged. */
const MAX_PICTURE_BYTES = 1 << 29; // 512 MiB

/** Packs the rows of a raw image. Throws `InputError` for an unknown encoding or too few bytes. */
export function rawPicture(image: RawImage): Picture {
  const { width, height, data } = image;
  const layout = LAYOUTS.get(image.encoding.trim().toLowerCase());
  if (!layout) {
    throw new InputError(
      `image encoding '${printable(image.encoding)}' is not supported; known are ${[...LAYOUTS.keys()].join(', ')}`,
    );
  }
  const even = layout.even ?? { width: 1, height: 1 };
  if (width === 0 || height === 0 || width % even.width !== 0 || height % even.height !== 0) {
    throw new InputError(`a ${printable(image.encoding)} image of ${width}×${height} pixels cannot be`);
  }
  const rowBytes = width * layout.bytes;
  const rows = height * (layout.rows ?? 1);
  const step = stepOf(image, rowBytes, rows, layout);
  if (step < rowBytes) {
    throw new InputError(
      `expected rows of ${rowBytes} bytes in a ${image.encoding} image ${width} wide, found a step of ${step}`,
    );
  }
  if (rowBytes * rows > MAX_PICTURE_BYTES || data.byteLength < step * (rows - 1) + rowBytes) {
    throw new InputError(
      `expected ${step * rows} bytes for ${width}×${height} pixels of ${image.encoding} with a step of ${step}, found ${data.byteLength}`,
    );
  }
  const packed = pack(data, rowBytes, rows, step);
  const ordered = image.bigEndian && layout.sample > 1 ? swapped(packed, layout.sample) : packed;
  const light = isLight(image.encoding) ? { light: true as const } : {};
  return { format: 'raw', pixelFormat: layout.pixelFormat, width, height, data: ordered, ...light };
}

/** Whether 16-bit levels are light; a bare `16UC1` is depth (REP 118). */
export function isLight(encoding: string): boolean {
  return /^\s*mono16/i.test(encoding);
}

/** Drivers of planar formats write various steps; where the data has exactly the packed size, that is what it is. */
function stepOf(image: RawImage, rowBytes: number, rows: number, layout: Layout): number {
  const packed = image.step === 0 || (layout.rows !== undefined && image.data.byteLength === rowBytes * rows);
  return packed ? rowBytes : image.step;
}

/** Rows without the padding between them; a view where there is none. */
function pack(data: Uint8Array, rowBytes: number, rows: number, step: number): Uint8Array {
  if (step === rowBytes) return data.subarray(0, rowBytes * rows);
  const packed = new Uint8Array(rowBytes * rows);
  for (let row = 0; row < rows; row++) {
    packed.set(data.subarray(row * step, row * step + rowBytes), row * rowBytes);
  }
  return packed;
}

function swapped(data: Uint8Array, sample: number): Uint8Array {
  const copy = new Uint8Array(data);
  const buffer = Buffer.from(copy.buffer);
  if (sample === 2) buffer.swap16();
  else buffer.swap32();
  return copy;
}
