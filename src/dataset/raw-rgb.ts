import type { Picture } from '../frame/types.ts';

type RawPicture = Extract<Picture, { format: 'raw' }>;

/** Interleaved formats: bytes of a pixel, and where red, green and blue lie in it; of 16-bit levels the high byte. */
const INTERLEAVED: Readonly<Record<string, readonly [number, number, number, number]>> = {
  rgb24: [3, 0, 1, 2],
  bgr24: [3, 2, 1, 0],
  rgba: [4, 0, 1, 2],
  bgra: [4, 2, 1, 0],
  gray: [1, 0, 0, 0],
  gray16le: [2, 1, 1, 1],
  rgb48le: [6, 1, 3, 5],
  bgr48le: [6, 5, 3, 1],
  rgba64le: [8, 1, 3, 5],
  bgra64le: [8, 5, 3, 1],
};

/** Packed RGB of a raw picture; undefined for formats that hold no picture (float levels). */
export function rawRgb(picture: RawPicture): Buffer | undefined {
  const { pixelFormat, width, height, data } = picture;
  const out = Buffer.alloc(width * height * 3);
  const places = INTERLEAVED[pixelFormat];
  if (places) {
    const [size, red, green, blue] = places;
    for (let i = 0; i < width * height; i += 1) {
      out[i * 3] = data[i * size + red] ?? 0;
      out[i * 3 + 1] = data[i * size + green] ?? 0;
      out[i * 3 + 2] = data[i * size + blue] ?? 0;
    }
    return out;
  }
  if (pixelFormat.startsWith('bayer_')) return demosaic(picture, out);
  const read = yuvReader(picture);
  if (!read) return undefined;
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) putYuv(out, (y * width + x) * 3, ...read(x, y));
  }
  return out;
}

/** Reads one pixel's Y, Cb, Cr; chroma of the pixel's own group, not interpolated. */
function yuvReader({ pixelFormat, width, height, data }: RawPicture) {
  const at = (index: number) => data[index] ?? 0;
  type Yuv = [number, number, number];
  const half = Math.ceil(width / 2);
  switch (pixelFormat) {
    case 'yuyv422':
    case 'uyvy422': {
      const [luma, cb, cr] = pixelFormat === 'yuyv422' ? [0, 1, 3] : [1, 0, 2];
      return (x: number, y: number): Yuv => {
        const group = (y * width + (x & ~1)) * 2;
        return [at((y * width + x) * 2 + luma), at(group + cb), at(group + cr)];
      };
    }
    case 'nv12':
    case 'nv21': {
      const [cb, cr] = pixelFormat === 'nv12' ? [0, 1] : [1, 0];
      return (x: number, y: number): Yuv => {
        const chroma = width * height + ((y >> 1) * half + (x >> 1)) * 2;
        return [at(y * width + x), at(chroma + cb), at(chroma + cr)];
      };
    }
    case 'yuv420p':
      return (x: number, y: number): Yuv => {
        const chroma = width * height + (y >> 1) * half + (x >> 1);
        return [at(y * width + x), at(chroma), at(chroma + half * Math.ceil(height / 2))];
      };
    default:
      return undefined;
  }
}

/** BT.601, limited range, as FFmpeg takes such pictures. */
function putYuv(out: Buffer, at: number, y: number, cb: number, cr: number): void {
  const luma = 1.164384 * (y - 16);
  const clamp = (value: number) => Math.min(255, Math.max(0, Math.round(value)));
  out[at] = clamp(luma + 1.596027 * (cr - 128));
  out[at + 1] = clamp(luma - 0.391762 * (cb - 128) - 0.812968 * (cr - 128));
  out[at + 2] = clamp(luma + 2.017232 * (cb - 128));
}

/** Each missing channel is the mean of its samples among the pixel's neighbours; `bayer_rggb8`, `bayer_rggb16le`. */
function demosaic({ pixelFormat, width, height, data }: RawPicture, out: Buffer): Buffer {
  const order = pixelFormat.slice('bayer_'.length, 'bayer_'.length + 4);
  const level = (at: number) => (pixelFormat.endsWith('16le') ? data[at * 2 + 1] : data[at]) ?? 0;
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const sums = [0, 0, 0];
      const counts = [0, 0, 0];
      const own = 'rgb'.indexOf(order[(y % 2) * 2 + (x % 2)] ?? 'g');
      for (let v = Math.max(0, y - 1); v <= Math.min(height - 1, y + 1); v += 1) {
        for (let u = Math.max(0, x - 1); u <= Math.min(width - 1, x + 1); u += 1) {
          const channel = 'rgb'.indexOf(order[(v % 2) * 2 + (u % 2)] ?? 'g');
          sums[channel] = (sums[channel] ?? 0) + level(v * width + u);
          counts[channel] = (counts[channel] ?? 0) + 1;
        }
      }
      for (const channel of [0, 1, 2]) {
        const mean = (sums[channel] ?? 0) / Math.max(1, counts[channel] ?? 0);
        out[(y * width + x) * 3 + channel] = channel === own ? level(y * width + x) : Math.round(mean);
      }
    }
  }
  return out;
}
