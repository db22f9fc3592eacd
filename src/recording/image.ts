import { InputError } from '../errors.ts';
import { printable } from './compression.ts';
import { plainTypeName } from './definitions.ts';
import { hex, jpegSize, pngHeader } from './image-format.ts';
import { rawPicture } from './raw-image.ts';
import type { Channel, Picture } from './types.ts';

/** Last parts of the names of message types that hold one picture: ROS's own, foxglove's, and those made after them. */
const PICTURE_TYPES: ReadonlySet<string> = new Set(['Image', 'CompressedImage', 'RawImage']);

/** Whether messages of this channel hold pictures that `toPicture` reads. */
export function isPictureSchema(channel: Channel): boolean {
  const name = plainTypeName(channel.schema.name).split(/[/.]/).at(-1);
  return name !== undefined && PICTURE_TYPES.has(name);
}

/**
 * The picture in a decoded message. Coded pictures stay coded; raw rows are packed and little-endian. Throws
 * `InputError` that names topic and encoding when it is not supported, or the payload is damaged.
 */
export function toPicture(decoded: unknown, channel: Channel): Picture {
  try {
    return pictureOf(decoded);
  } catch (thrown) {
    if (!(thrown instanceof InputError)) throw thrown;
    throw new InputError(`topic ${printable(channel.topic)}: ${thrown.message}`, { cause: thrown });
  }
}

function pictureOf(decoded: unknown): Picture {
  if (typeof decoded !== 'object' || decoded === null) {
    throw new InputError(`expected a picture message, found ${decoded === null ? 'null' : typeof decoded}`);
  }
  const message = decoded as Record<string, unknown>;
  const data = bytesOf(message['data']);
  if (typeof message['encoding'] === 'string') {
    return rawPicture({
      encoding: message['encoding'],
      width: count(message['width'], 'width'),
      height: count(message['height'], 'height'),
      step: count(message['step'] ?? 0, 'step'),
      bigEndian: Boolean(message['is_bigendian'] ?? 0),
      data,
    });
  }
  return codedPicture(typeof message['format'] === 'string' ? message['format'] : '', data);
}

/** By the payload's own first bytes: the `format` text varies between drivers, and now and then is wrong. */
function codedPicture(format: string, data: Uint8Array): Picture {
  if (data.byteLength === 0) {
    throw new InputError(`expected a picture of format '${printable(format)}', found no bytes`);
  }
  if (data[0] === 0xff && data[1] === 0xd8) return { format: 'jpeg', ...jpegSize(data), data };
  if (data[0] === 0x89 && data[1] === 0x50) {
    const { width, height } = pngHeader(data);
    return { format: 'png', width, height, data };
  }
  throw new InputError(
    `expected a JPEG or PNG picture, found format '${printable(format)}' starting with ${hex(data, 4)}`,
  );
}

/** Bytes as decoders give them: typed arrays, base64 text in JSON, arrays of numbers. */
function bytesOf(value: unknown): Uint8Array {
  if (value instanceof Uint8Array) return value;
  if (typeof value === 'string') return Buffer.from(value, 'base64');
  if (Array.isArray(value)) return Uint8Array.from(value as number[]);
  throw new InputError(`expected the bytes of a picture in 'data', found ${typeof value}`);
}

function count(value: unknown, name: string): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  throw new InputError(`expected a whole number of pixels in '${name}', found ${printable(String(value))}`);
}
