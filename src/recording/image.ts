import { InputError } from '../errors.ts';
import { printable } from './compression.ts';
import { plainTypeName } from './definitions.ts';
import { videoPicture } from './coded-video.ts';
import { depthPicture, hasDepthHead } from './depth-image.ts';
import { hex, jpegSize, pngHeader } from './image-format.ts';
import { isLight, rawPicture } from './raw-image.ts';
import type { Channel, Picture } from './types.ts';

/** Last parts of the names of message types that hold one picture: ROS's own, foxglove's, and those made after them. */
const PICTURE_TYPES: ReadonlySet<string> = new Set([
  'Image',
  'CompressedImage',
  'RawImage',
  'CompressedVideo',
  'FFMPEGPacket',
]);

/** Whether messages of this channel hold pictures that `toPicture` reads. */
export function isPictureSchema(channel: Channel): boolean {
  const name = plainTypeName(channel.schema.name).split(/[/.]/).at(-1);
  return name !== undefined && PICTURE_TYPES.has(name);
}

/**
 * The picture in a decoded message. Coded pictures stay coded; raw rows are packed and little-endian. The pictures of
 * a video stream are given in their order, since they refer to parameter sets sent earlier on their channel. Throws
 * `InputError` that names topic and encoding when it is not supported, or the payload is damaged.
 */
export function toPicture(decoded: unknown, channel: Channel): Picture {
  try {
    return pictureOf(decoded, channel);
  } catch (thrown) {
    if (!(thrown instanceof InputError)) throw thrown;
    throw new InputError(`topic ${printable(channel.topic)}: ${thrown.message}`, { cause: thrown });
  }
}

function pictureOf(decoded: unknown, channel: Channel): Picture {
  if (typeof decoded !== 'object' || decoded === null) {
    throw new InputError(`expected a picture message, found ${decoded === null ? 'null' : typeof decoded}`);
  }
  const message = decoded as Record<string, unknown>;
  const data = bytesOf(message['data']);
  const { encoding, format } = message;
  if (typeof encoding === 'string') {
    const codec = videoCodec(encoding);
    if (codec) return videoPicture(codec, data, channel);
    return rawPicture({
      encoding,
      width: count(message['width'], 'width'),
      height: count(message['height'], 'height'),
      step: count(message['step'] ?? 0, 'step'),
      bigEndian: Boolean(message['is_bigendian'] ?? 0),
      data,
    });
  }
  return codedPicture(typeof format === 'string' ? format : '', data, channel);
}

/** Names of codecs and of their encoders, as drivers write them; image_transport appends pixel formats after `;`. */
function videoCodec(name: string): 'h264' | 'h265' | undefined {
  const codec = name.trim().toLowerCase();
  if (/^(h264|h\.264|avc|libx264|h264_\w+)(;|$)/.test(codec)) return 'h264';
  if (/^(h265|h\.265|hevc|libx265|hevc_\w+)(;|$)/.test(codec)) return 'h265';
  return undefined;
}

/** By the payload's own first bytes: the `format` text varies between drivers, and now and then is wrong. */
function codedPicture(format: string, data: Uint8Array, channel: Channel): Picture {
  if (data.byteLength === 0) {
    throw new InputError(`expected a picture of format '${printable(format)}', found no bytes`);
  }
  if (data[0] === 0xff && data[1] === 0xd8) return { format: 'jpeg', ...jpegSize(data), data };
  if (data[0] === 0x89 && data[1] === 0x50) {
    const { width, height } = pngHeader(data);
    return { format: 'png', width, height, data, ...(isLight(format) ? { light: true } : {}) };
  }
  const codec = videoCodec(format);
  if (codec) return videoPicture(codec, data, channel);
  if (hasDepthHead(format, data)) return depthPicture(format, data);
  throw new InputError(
    `expected a picture in jpeg, png, compressedDepth (png, rvl), h264 or h265, found format '${printable(format)}' starting with ${hex(data, 4)}`,
  );
}

/** Bytes as decoders give them: typed arrays, base64 text in JSON, arrays of numbers. */
function bytesOf(value: unknown): Uint8Array {
  if (value instanceof Uint8Array) return value;
  if (typeof value === 'string') return new Uint8Array(Buffer.from(value, 'base64'));
  if (Array.isArray(value)) return Uint8Array.from(value as number[]);
  throw new InputError(`expected the bytes of a picture in 'data', found ${typeof value}`);
}

function count(value: unknown, name: string): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  throw new InputError(`expected a whole number of pixels in '${name}', found ${printable(String(value))}`);
}
