import { sampleStride } from './picture-sampling.ts';

/** Counts in a histogram: 256 of 8-bit values for each of red, green, blue, one channel after the other. */
export const HISTOGRAM_SIZE = 768;

/** How the bytes of a sampled picture are laid out: planes of full-range YCbCr (JFIF), or interleaved RGB. */
export type SampleLayout = {
  readonly width: number;
  readonly height: number;
  readonly format: 'rgb24' | 'yuv420' | 'yuv422' | 'yuv444';
};

const SUBSAMPLING = { yuv420: [1, 1], yuv422: [1, 0], yuv444: [0, 0] } as const;

const chromaSize = ({ width, height, format }: SampleLayout): [number, number] => {
  const [horizontal, vertical] = format === 'rgb24' ? [0, 0] : SUBSAMPLING[format];
  return [(width + horizontal) >> horizontal, (height + vertical) >> vertical];
};

/** Bytes of one picture. */
export function sampleBytes(layout: SampleLayout): number {
  const [width, height] = chromaSize(layout);
  return layout.width * layout.height + 2 * width * height;
}

const clamp = (value: number) => (value < 0 ? 0 : value > 255 ? 255 : Math.floor(value + 0.5));

/**
 * Counts the sampled pixels of one picture by channel into `counts`, which are all zero. Chroma is interpolated between its centres with weights 3:1
 * along each halved axis, as JPEG decoders do, and converted with the JFIF matrix.
 */
export function pictureHistogram(data: Uint8Array, layout: SampleLayout, counts: Uint32Array): void {
  const { width, height, format } = layout;
  const stride = sampleStride(width, height);
  const [red, green, blue] = [0, 256, 512] as const;
  const count = (channel: number, value: number) => {
    counts[channel + value] = (counts[channel + value] ?? 0) + 1;
  };
  if (format === 'rgb24') {
    for (let y = 0; y < height; y += stride) {
      for (let x = 0; x < width; x += stride) {
        const at = (y * width + x) * 3;
        count(red, data[at] ?? 0);
        count(green, data[at + 1] ?? 0);
        count(blue, data[at + 2] ?? 0);
      }
    }
    return;
  }
  const [horizontal, vertical] = SUBSAMPLING[format];
  const [chromaWidth, chromaHeight] = chromaSize(layout);
  const cb = data.subarray(width * height);
  const cr = cb.subarray(chromaWidth * chromaHeight);
  for (let y = 0; y < height; y += stride) {
    const row = y >> vertical;
    const other =
      vertical === 0 ? row : Math.min(chromaHeight - 1, Math.max(0, y % 2 === 0 ? row - 1 : row + 1));
    for (let x = 0; x < width; x += stride) {
      const column = x >> horizontal;
      const side =
        horizontal === 0
          ? column
          : Math.min(chromaWidth - 1, Math.max(0, x % 2 === 0 ? column - 1 : column + 1));
      const a = row * chromaWidth + column;
      const b = row * chromaWidth + side;
      const c = other * chromaWidth + column;
      const d = other * chromaWidth + side;
      const u = ((cb[a] ?? 0) * 9 + ((cb[b] ?? 0) + (cb[c] ?? 0)) * 3 + (cb[d] ?? 0) + 8) / 16;
      const v = ((cr[a] ?? 0) * 9 + ((cr[b] ?? 0) + (cr[c] ?? 0)) * 3 + (cr[d] ?? 0) + 8) / 16;
      const pb = Math.floor(u) - 128;
      const pr = Math.floor(v) - 128;
      const luma = data[y * width + x] ?? 0;
      count(red, clamp(luma + 1.402 * pr));
      count(green, clamp(luma - 0.344136 * pb - 0.714136 * pr));
      count(blue, clamp(luma + 1.772 * pb));
    }
  }
}

const Y4M_FORMATS: readonly [RegExp, SampleLayout['format']][] = [
  [/^420/, 'yuv420'],
  [/^422/, 'yuv422'],
  [/^444/, 'yuv444'],
];

/** The layout a YUV4MPEG2 stream header announces. */
export function parseY4mHeader(header: string): SampleLayout {
  const field = (letter: string) =>
    header
      .split(' ')
      .slice(1)
      .find((word) => word.startsWith(letter))
      ?.slice(1);
  const colour = field('C') ?? '420';
  const format = Y4M_FORMATS.find(([pattern]) => pattern.test(colour))?.[1];
  const width = Number(field('W'));
  const height = Number(field('H'));
  if (!header.startsWith('YUV4MPEG2 ') || format === undefined || !(width > 0) || !(height > 0)) {
    throw new Error(
      `expected the header of a YUV4MPEG2 stream with 8-bit pictures, found "${header.slice(0, 120)}"`,
    );
  }
  return { width, height, format };
}

/**
 * Cuts a stream of sampled pictures into pictures: YUV4MPEG2 when no layout is given, else packed pictures of `layout`.
 */
export class SampleStream {
  #layout: SampleLayout | undefined;
  /** Bytes before each picture: the frame marker of YUV4MPEG2. */
  readonly #lead: number;
  #header = '';
  #picture: Uint8Array | undefined;
  #filled = 0;

  constructor(layout?: SampleLayout) {
    this.#layout = layout;
    this.#lead = layout === undefined ? 'FRAME\n'.length : 0;
  }

  /** The pictures completed by these bytes. A picture's bytes are valid until the next one is asked for. */
  *push(bytes: Uint8Array): Generator<{ data: Uint8Array; layout: SampleLayout }> {
    let at = this.#layout === undefined ? this.#readHeader(bytes) : 0;
    const layout = this.#layout;
    if (layout === undefined) return;
    const picture = (this.#picture ??= new Uint8Array(this.#lead + sampleBytes(layout)));
    while (at < bytes.length) {
      const part = bytes.subarray(at, at + picture.length - this.#filled);
      picture.set(part, this.#filled);
      this.#filled += part.length;
      at += part.length;
      if (this.#filled < picture.length) return;
      this.#filled = 0;
      yield { data: picture.subarray(this.#lead), layout };
    }
  }

  /** Bytes of a picture that never completed; 0 at the end of an undamaged stream. */
  get rest(): number {
    return this.#filled;
  }

  /** Takes bytes of the stream's first line; returns how many. */
  #readHeader(bytes: Uint8Array): number {
    const end = bytes.indexOf(0x0a);
    this.#header += Buffer.from(end < 0 ? bytes : bytes.subarray(0, end)).toString('latin1');
    if (end < 0) return bytes.length;
    this.#layout = parseY4mHeader(this.#header);
    return end + 1;
  }
}
