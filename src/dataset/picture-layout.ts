import { InputError } from '../errors.ts';
import { loadSharp, type Sharp } from './load-sharp.ts';
import type { EncoderPicture } from './picture-input.ts';

/**
 * What a decoder makes of a coded picture beside its size: the sampling of a JPEG's components, colour type and bits of
 * a PNG. Undefined for raw pixels, and where the head is too damaged to tell. FFmpeg starts its filters anew, and
 * forgets the frames in them, when this changes within a video.
 */
export function pictureLayout({ format, data }: EncoderPicture): string | undefined {
  if (format === 'jpeg') return jpegLayout(data);
  return format === 'png' ? pngLayout(data) : undefined;
}

/** The segment of a JPEG that holds Exif data (APP1), and the four letters it starts with. */
const EXIF = { marker: 0xffe1, letters: 0x45786966 } as const;

/**
 * The picture with no Exif data that a decoder would find. Pictures are stored as their pixels lie, and FFmpeg starts its
 * filters anew also when the orientation that such data tells changes.
 */
export function withoutExif(picture: EncoderPicture): EncoderPicture {
  if (picture.format !== 'jpeg') return picture;
  let { data } = picture;
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  for (let at = 2; at + 10 < data.byteLength;) {
    const marker = view.getUint16(at);
    if (marker === 0xffff) {
      at++; // fill byte
      continue;
    }
    if (marker < 0xffc0 || marker === 0xffda) break;
    if (marker === EXIF.marker && view.getUint32(at + 4) === EXIF.letters) {
      if (data === picture.data) data = new Uint8Array(data);
      data.fill(0, at + 4, at + 8);
    }
    at += 2 + view.getUint16(at + 2);
  }
  return data === picture.data ? picture : { ...picture, data };
}

/** JPEG: `22,11,11` is 4:2:0, `21,11,11` 4:2:2, `11,11,11` 4:4:4, `11` grey; `rgb` and `cmyk` by Adobe's marker. */
function jpegLayout(data: Uint8Array): string | undefined {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  let transform: number | undefined;
  for (let at = 2; at + 10 < data.byteLength;) {
    const marker = view.getUint16(at);
    if (marker === 0xffff) {
      at++; // fill byte
      continue;
    }
    if (marker < 0xffc0 || marker === 0xffda) return undefined;
    if (marker === 0xffee && view.getUint32(at + 4) === 0x41646f62 /* Adob */) transform = data[at + 15];
    if (marker <= 0xffcf && marker !== 0xffc4 && marker !== 0xffc8 && marker !== 0xffcc) {
      const components = data[at + 9] ?? 0;
      if (components === 4) return 'cmyk';
      if (components === 3 && (transform === 0 || data[at + 10] === 0x52) /* R */) return 'rgb';
      if (components === 1) return '11'; // its sampling has no meaning
      const samplings = Array.from({ length: components }, (_, i) => data[at + 11 + 3 * i] ?? 0);
      return samplings.map((sampling) => sampling.toString(16).padStart(2, '0')).join();
    }
    const alone = marker >= 0xffd0 && marker <= 0xffd7;
    at += alone ? 2 : 2 + view.getUint16(at + 2);
  }
  return undefined;
}

/** PNG: colour type (0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGB and alpha) and bits; a colour may stand for clear. */
function pngLayout(data: Uint8Array): string | undefined {
  if (data.byteLength < 33) return undefined;
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const type = view.getUint8(25);
  const layout = `type ${type} of ${view.getUint8(24)} bits`;
  for (let at = 33; type !== 3 && at + 12 <= data.byteLength; at += 12 + view.getUint32(at)) {
    const chunk = view.getUint32(at + 4);
    if (chunk === 0x74524e53 /* tRNS */) return `${layout} with clear`;
    if (chunk === 0x49444154 /* IDAT */) break;
  }
  return layout;
}

/** Layouts that pictures of others can be brought to, without loss of colour. */
const TARGETS: Readonly<Record<string, (image: Sharp) => Sharp>> = {
  '22,11,11': (image) => image.jpeg({ quality: 100, chromaSubsampling: '4:2:0' }),
  '11,11,11': (image) => image.jpeg({ quality: 100, chromaSubsampling: '4:4:4' }),
  'type 2 of 8 bits': (image) => image.removeAlpha().png(),
  'type 6 of 8 bits': (image) => image.ensureAlpha().png(),
};

/**
 * The picture coded anew in the layout of those before it; undefined when it does not decode. Throws `InputError` when
 * there is no way from its layout to that one.
 */
export async function inLayout(
  picture: EncoderPicture,
  layout: string,
  what: string,
): Promise<EncoderPicture | undefined> {
  const own = pictureLayout(picture) ?? '';
  const target = TARGETS[layout];
  if (!target || own.includes('16 bits')) {
    throw new InputError(
      `${what}: expected ${picture.format} pictures of the layout ${layout}, found one of ${own}: they cannot share a video`,
    );
  }
  const sharp = await loadSharp();
  try {
    const image = sharp(picture.data, { failOn: 'error' }).toColourspace('srgb');
    const { data, info } = await target(image).toBuffer({ resolveWithObject: true });
    if (info.width !== picture.width || info.height !== picture.height) return undefined;
    return { ...picture, data } as EncoderPicture;
  } catch {
    // The decoder's complaint is the answer.
    return undefined;
  }
}
