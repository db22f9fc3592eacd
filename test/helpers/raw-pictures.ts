/** Pictures of four plain quarters, and the bytes of a raw image message that shows them in any encoding. */
export const SIZE = 32;

export type Rgb = readonly [number, number, number];

const COLOURS: readonly Rgb[] = [
  [200, 40, 60],
  [30, 180, 70],
  [50, 60, 210],
  [120, 122, 124],
  [180, 170, 30],
];

/** Colours of the quarters of picture `frame`: top left, top right, bottom left, bottom right. Neighbours differ. */
export function quartersOf(frame: number): Rgb[] {
  return [0, 1, 2, 3].map((quarter) => COLOURS[(frame + quarter) % COLOURS.length] ?? [0, 0, 0]);
}

/** The colour of a pixel of picture `frame`. */
function colourAt(frame: number, x: number, y: number): Rgb {
  return quartersOf(frame)[(x < SIZE / 2 ? 0 : 1) + (y < SIZE / 2 ? 0 : 2)] ?? [0, 0, 0];
}

/** RGB pixels of picture `frame`. */
export function rgbOf(frame: number): Uint8Array {
  return Uint8Array.from({ length: SIZE * SIZE * 3 }, (_, at) => {
    const pixel = Math.floor(at / 3);
    return colourAt(frame, pixel % SIZE, Math.floor(pixel / SIZE))[at % 3] ?? 0;
  });
}

/** Y, U, V of a colour in BT.601, limited range. */
function yuv([r, g, b]: Rgb): Rgb {
  return [
    Math.round(16 + 0.256788 * r + 0.504129 * g + 0.097906 * b),
    Math.round(128 - 0.148223 * r - 0.290993 * g + 0.439216 * b),
    Math.round(128 + 0.439216 * r - 0.367788 * g - 0.071427 * b),
  ];
}

type Pixel = (colour: Rgb, x: number, y: number) => readonly number[];

const bayer =
  (order: string): Pixel =>
  (colour, x, y) => [colour['rgb'.indexOf(order[(y % 2) * 2 + (x % 2)] ?? 'g')] ?? 0];

const packed =
  (lumaFirst: boolean): Pixel =>
  (colour, x) => {
    const [luma, u, v] = yuv(colour);
    const chroma = x % 2 === 0 ? u : v;
    return lumaFirst ? [luma, chroma] : [chroma, luma];
  };

/** 16-bit levels of these high bytes. */
const wide = (levels: readonly number[]) => levels.flatMap((level) => [0, level]);

/** Bytes of a pixel, least significant first; one channel encodings show the green of a colour. */
const PIXELS: Readonly<Record<string, Pixel>> = {
  rgb8: (colour) => colour,
  bgr8: ([r, g, b]) => [b, g, r],
  rgba8: ([r, g, b]) => [r, g, b, 255],
  bgra8: ([r, g, b]) => [b, g, r, 255],
  '8UC3': ([r, g, b]) => [b, g, r],
  rgb16: (colour) => wide(colour),
  bgr16: ([r, g, b]) => wide([b, g, r]),
  rgba16: ([r, g, b]) => wide([r, g, b, 255]),
  bgra16: ([r, g, b]) => wide([b, g, r, 255]),
  '16UC3': ([r, g, b]) => wide([b, g, r]),
  mono8: ([, g]) => [g],
  '8UC1': ([, g]) => [g],
  mono16: ([, g]) => [g, g],
  '16UC1': ([, g]) => [(g * 20) & 0xff, (g * 20) >> 8],
  '32FC1': ([, g]) => [...new Uint8Array(Float32Array.of(g / 50).buffer)],
  bayer_rggb8: bayer('rggb'),
  bayer_bggr8: bayer('bggr'),
  bayer_gbrg8: bayer('gbrg'),
  bayer_grbg8: bayer('grbg'),
  bayer_rggb16: (...pixel) => wide(bayer('rggb')(...pixel)),
  bayer_gbrg16: (...pixel) => wide(bayer('gbrg')(...pixel)),
  yuv422: packed(false),
  uyvy: packed(false),
  yuv422_yuy2: packed(true),
  yuyv: packed(true),
  nv12: (colour) => [yuv(colour)[0]],
  nv21: (colour) => [yuv(colour)[0]],
};

/** Names of the encodings of `rawImage`. */
export const ENCODINGS: readonly string[] = Object.keys(PIXELS);

/** Picture `frame` as the fields of a raw image message: `padding` bytes of 0xee end every row. */
export function rawImage(
  encoding: string,
  frame: number,
  { padding = 0, bigEndian = false }: { padding?: number; bigEndian?: boolean } = {},
) {
  const pixel = PIXELS[encoding];
  if (!pixel) throw new Error(`no pixels of ${encoding}`);
  const rows: number[][] = [];
  for (let y = 0; y < SIZE; y++) {
    const row = Array.from({ length: SIZE }, (_, x) => pixel(colourAt(frame, x, y), x, y));
    rows.push(row.flatMap((bytes) => (bigEndian ? bytes.toReversed() : bytes)));
  }
  for (let y = 0; encoding.startsWith('nv') && y < SIZE; y += 2) {
    const row = Array.from({ length: SIZE / 2 }, (_, x) => yuv(colourAt(frame, 2 * x, y)).slice(1));
    rows.push(row.flatMap((chroma) => (encoding === 'nv12' ? chroma : chroma.toReversed())));
  }
  const data = Uint8Array.from(rows.flatMap((row) => [...row, ...Array<number>(padding).fill(0xee)]));
  const step = (rows[0]?.length ?? 0) + padding;
  return { width: SIZE, height: SIZE, encoding, step, is_bigendian: bigEndian ? 1 : 0, data };
}
