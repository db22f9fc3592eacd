import { crc32 } from 'node:zlib';
import { loadDecompressHandlers } from '@mcap/support';
import { InputError, toError } from '../errors.ts';

/** Turns the compressed records of one chunk into `size` bytes; throws `InputError` when they are damaged. */
export type Decompress = (compression: string, data: Uint8Array, size: number, where: string) => Uint8Array;

/** A chunk that expands beyond this is refused: recorders write 1–100 MB. */
const MAX_CHUNK_BYTES = 1 << 29; // 512 MiB

/**
 * What a format can reach at most: lz4 one byte for 255; zstd 128 KiB in a block of four bytes; bz2 900 kB in
 * about 40 bytes. A declared size beyond that is a lie, and is refused before anything is allocated.
 */
const MAX_RATIO: Readonly<Record<string, number>> = { lz4: 255, zstd: 32_768, bz2: 25_000 };
const RATIO_SLACK = 1 << 17;

/** Loads the wasm decompressors (once per process) for the chunk compressions of MCAP and ROS 1 bags. */
export async function loadDecompress(): Promise<Decompress> {
  const handlers = await loadDecompressHandlers();
  return (compression, data, size, where) => {
    if (compression === '' || compression === 'none') {
      if (data.byteLength !== size) {
        throw new InputError(`${where}: expected ${size} bytes of records, found ${data.byteLength}`);
      }
      return data;
    }
    const handler = handlers[compression];
    if (!handler) {
      throw new InputError(
        `${where}: expected a chunk compression of none, lz4, zstd or bz2, found '${printable(compression)}'`,
      );
    }
    if (size === 0 && data.byteLength === 0) return data;
    const ratio = MAX_RATIO[compression] ?? 1;
    if (size > MAX_CHUNK_BYTES || size > data.byteLength * ratio + RATIO_SLACK) {
      throw new InputError(
        `${where}: ${data.byteLength} bytes of ${compression} cannot hold the declared ${size} bytes`,
      );
    }
    let result: Uint8Array;
    try {
      result = handler(data, BigInt(size));
    } catch (thrown) {
      throw new InputError(`${where}: its ${compression} data is damaged (${toError(thrown).message})`, {
        cause: thrown,
      });
    }
    if (result.byteLength !== size) {
      throw new InputError(
        `${where}: its ${compression} data gave ${result.byteLength} bytes, ${size} were declared`,
      );
    }
    return result;
  };
}

/** Checks a CRC-32 as MCAP stores them; 0 means none was written. */
export function checkCrc(data: Uint8Array, expected: number, where: string): void {
  if (expected === 0) return;
  const found = crc32(data);
  if (found !== expected) {
    throw new InputError(
      `${where}: expected CRC ${expected.toString(16)}, found ${found.toString(16)}: its bytes are damaged`,
    );
  }
}

/** Text from a file, made safe for a message: control characters out, 60 characters at most. */
export function printable(text: string): string {
  const clean = text.replaceAll(/[\p{Cc}\p{Cf}\uFFFD]/gu, '?');
  return clean.length > 60 ? `${clean.slice(0, 60)}…` : clean;
}
