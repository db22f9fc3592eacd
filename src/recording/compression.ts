import { crc32 } from 'node:zlib';
import { InputError, toError } from '../errors.ts';
import { expandCutLz4, expandLz4 } from './lz4.ts';
import { expandCutZstd } from './zstd.ts';

/**
 * A chunk that expands beyond this is refused: recorders write 1–100 MB, and those that expand far are small.
 */
const MAX_CHUNK_BYTES = 1 << 28; // 256 MiB
const FREE_BYTES = 1 << 26; // 64 MiB
const FREE_RATIO = 256;

/**
 * What a format can reach at most: lz4 one byte for 255; zstd 128 KiB in a block of four bytes; bz2 900 kB in
 * about 40 bytes. A declared size beyond that is a lie, and is refused before anything is allocated.
 */
const MAX_RATIO: Readonly<Record<string, number>> = { lz4: 255, zstd: 32_768, bz2: 25_000 };
const RATIO_SLACK = 1 << 17;

type Expand = (data: Uint8Array, size: number) => Uint8Array;

/**
 * The decompressors for the chunks of MCAP files and ROS 1 bags. The wasm ones serve zstd and bz2; that of lz4 keeps a
 * context which one damaged frame spoils for every later one, so it is ours.
 */
const LOADERS: ReadonlyMap<string, () => Promise<Expand>> = new Map<string, () => Promise<Expand>>([
  [
    'bz2',
    async () => {
      const bzip2 = await (await import('@foxglove/wasm-bz2')).default.init();
      return (data, size) => bzip2.decompress(data, size, { small: false });
    },
  ],
  ['lz4', async () => expandLz4],
  [
    'zstd',
    async () => {
      const zstd = await import('@foxglove/wasm-zstd');
      await zstd.isLoaded;
      return zstd.decompress;
    },
  ],
]);

/** Loaded when the first chunk needs one, once per process. */
const loaded = new Map<string, Promise<Expand>>();

/** Turns the compressed records of one chunk into `size` bytes; throws `InputError` when they are damaged. */
export async function decompress(
  compression: string,
  data: Uint8Array,
  size: number,
  where: string,
): Promise<Uint8Array> {
  if (compression === '' || compression === 'none') {
    if (data.byteLength !== size) {
      throw new InputError(`${where}: expected ${size} bytes of records, found ${data.byteLength}`);
    }
    return data;
  }
  const load = LOADERS.get(compression);
  if (!load) {
    throw new InputError(
      `${where}: expected a chunk compression of none, lz4, zstd or bz2, found '${printable(compression)}'`,
    );
  }
  if (size === 0 && data.byteLength === 0) return data;
  checkDeclared(compression, data, size, where);
  const loading = loaded.get(compression) ?? load();
  loaded.set(compression, loading);
  const expand = await loading;
  let result: Uint8Array;
  try {
    result = expand(data, size);
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
}

/**
 * What is whole in the records of a chunk that the file ends inside of; `size` is what it would expand to. Nothing
 * for bz2, whose blocks are as large as chunks.
 */
export function decompressCut(
  compression: string,
  data: Uint8Array,
  size: number,
  where: string,
): Uint8Array {
  if (compression === '' || compression === 'none') return data;
  checkDeclared(compression, data, size, where);
  if (compression === 'lz4') return expandCutLz4(data, size);
  if (compression === 'zstd') return expandCutZstd(data, size);
  return new Uint8Array(0);
}

/** Refuses a declared size that cannot be true, or that only a bomb has. */
function checkDeclared(compression: string, data: Uint8Array, size: number, where: string): void {
  const possible = data.byteLength * (MAX_RATIO[compression] ?? 1) + RATIO_SLACK;
  const likely = data.byteLength * FREE_RATIO + FREE_BYTES;
  if (size <= Math.min(possible, likely, MAX_CHUNK_BYTES)) return;
  throw new InputError(
    `${where}: ${data.byteLength} bytes of ${compression} are not let expand to the declared ${size} bytes`,
  );
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
