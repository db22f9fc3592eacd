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

/** What the JFIF matrix makes of a luma and one chroma, each 8 bits: index `chroma << 8 | luma`. */
function colourTable(factor: number): Uint8Array {
  const table = new Uint8Array(65_536);
  for (let i = 0; i < table.length; i++) table[i] = clamp((i & 255) + factor * ((i >> 8) - 128));
  return table;
}

/** What it takes off luma for green, by 8-bit chroma. */
const greenTable = (factor: number) => Float64Array.from({ length: 256 }, (_, i) => factor * (i - 128));

/** The JFIF matrix, made when the first picture is counted. */
class Jfif {
  static #made: Jfif | undefined;
  private readonly red = colourTable(1.402);
  private readonly greenOfCb = greenTable(0.344136);
  private readonly greenOfCr = greenTable(0.714136);
  private readonly blue = colourTable(1.772);

  static get matrix(): Jfif {
    return (Jfif.#made ??= new Jfif());
  }

  count(counts: Uint32Array, luma: number, cb: number, cr: number): void {
    increase(counts, RED + (this.red[(cr << 8) | luma] ?? 0));
    increase(counts, GREEN + clamp(luma - (this.greenOfCb[cb] ?? 0) - (this.greenOfCr[cr] ?? 0)));
    increase(counts, BLUE + (this.blue[(cb << 8) | luma] ?? 0));
  }
}

/** Where the counts of each channel begin. */
const [RED, GREEN, BLUE] = [0, 256, 512] as const;

/**
 * Counts the sampled pixels of one picture by channel into `counts`, which are all zero. Chroma is interpolated between
 * its centres with weights 3:1 along each halved axis, as JPEG decoders do, and converted with the JFIF matrix.
 */
export function pictureHistogram(data: Uint8Array, layout: SampleLayout, counts: Uint32Array): void {
  const { width, height, format } = layout;
  const stride = sampleStride(width, height);
  if (format === 'rgb24') {
    for (let y = 0; y < height; y += stride) {
      for (let x = 0; x < width; x += stride) {
        const at = (y * width + x) * 3;
        increase(counts, RED + (data[at] ?? 0));
        increase(counts, GREEN + (data[at + 1] ?? 0));
        increase(counts, BLUE + (data[at + 2] ?? 0));
      }
    }
    return;
  }
  const jfif = Jfif.matrix;
  const pixels = width * height;
  if (format === 'yuv444' && stride === 1) {
    for (let i = 0; i < pixels; i++) {
      jfif.count(counts, data[i] ?? 0, data[pixels + i] ?? 0, data[2 * pixels + i] ?? 0);
    }
    return;
  }
  const [horizontal, vertical] = SUBSAMPLING[format];
  const [chromaWidth, chromaHeight] = chromaSize(layout);
  const cb = data.subarray(pixels);
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
      const u = ((cb[a] ?? 0) * 9 + ((cb[b] ?? 0) + (cb[c] ?? 0)) * 3 + (cb[d] ?? 0) + 8) >> 4;
      const v = ((cr[a] ?? 0) * 9 + ((cr[b] ?? 0) + (cr[c] ?? 0)) * 3 + (cr[d] ?? 0) + 8) >> 4;
      jfif.count(counts, data[y * width + x] ?? 0, u, v);
    }
  }
}

function increase(counts: Uint32Array, at: number): void {
  counts[at] = (counts[at] ?? 0) + 1;
}

/** Rounded, and held within 0–255. */
function clamp(value: number): number {
  return value <= 0 ? 0 : value >= 255 ? 255 : (value + 0.5) | 0;
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
