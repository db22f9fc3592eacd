import { closeSync, openSync, writeSync } from 'node:fs';
import { Decompress as ZstdStream, decompress as zstdDecompress } from 'fzstd';
import { InputError, toError } from '../errors.ts';
import { piecesOf, spool } from './spool.ts';
import type { SpoolOptions, SpooledFile } from './spool.ts';
import type { Loss, RecordingFile } from './types.ts';

/** Compressed bytes taken at once; one piece holds the event loop for some milliseconds. */
const PIECE = 256 << 10; // 256 KiB

/** A decoder keeps the window in memory: zstd itself refuses more than 128 MiB unless told otherwise. */
const MAX_WINDOW = 128 << 20;

/** Expanding further than this is a bomb, not a recording: real ones reach 20, pictures that stand still some hundreds. */
const MAX_RATIO = 1000;
const RATIO_SLACK = 64 << 20; // 64 MiB

/**
 * Decompresses a file that is compressed as a whole into a spooled one. A damaged or cut stream gives what came
 * before the damage, and a loss; with `recover: false` an `InputError`.
 */
export async function expandZstd(
  file: RecordingFile,
  options: SpoolOptions & { recover: boolean },
): Promise<{ file: SpooledFile; losses: Loss[] }> {
  const losses: Loss[] = [];
  const compressed = Number(await file.size());
  checkFrame(await file.read(0n, BigInt(Math.min(compressed, 18))), 'the file');
  const limit = compressed * MAX_RATIO + RATIO_SLACK;
  const spooled = await spool(options, async (path) => {
    const target = openSync(path, 'wx', 0o600);
    try {
      let written = 0;
      const stream = new ZstdStream((bytes) => {
        written += bytes.byteLength;
        if (written > limit) {
          throw new InputError(
            `${compressed} bytes of zstd expand to more than ${limit}: it is no recording`,
          );
        }
        writeAll(target, bytes);
      });
      let taken = 0;
      try {
        for await (const piece of piecesOf(file, PIECE, options.signal)) {
          taken += piece.byteLength;
          decode(() => stream.push(piece, taken === compressed));
        }
      } catch (thrown) {
        if (!(thrown instanceof ZstdDamage) || !options.recover || written === 0) throw thrown;
        losses.push({ what: `${thrown.message}, ${written} bytes were expanded`, bytes: compressed - taken });
      }
    } finally {
      closeSync(target);
    }
  });
  return { file: spooled, losses };
}

/** Damage in the stream itself, as against an error of reading or writing. */
class ZstdDamage extends InputError {}

function decode(push: () => void): void {
  try {
    push();
  } catch (thrown) {
    // fzstd's own errors carry a code and nothing else does; a bomb is refused whatever `recover` says
    if (thrown instanceof InputError || isSystemError(thrown)) throw thrown;
    throw new ZstdDamage(`the zstd data is damaged or cut off (${toError(thrown).message})`, {
      cause: thrown,
    });
  }
}

function isSystemError(thrown: unknown): boolean {
  return thrown instanceof Error && 'syscall' in thrown;
}

function writeAll(target: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.byteLength;) done += writeSync(target, bytes, done);
}

/** A single message that is compressed by itself may not expand beyond this. */
const MAX_MESSAGE_BYTES = 1 << 28; // 256 MiB

/** Expands one zstd frame held in memory; throws `InputError` when it is damaged or too large. */
export function expandMessage(data: Uint8Array): Uint8Array {
  const { contentSize } = checkFrame(data, 'a message');
  if (contentSize !== undefined && contentSize > MAX_MESSAGE_BYTES) {
    throw new InputError(`a message of ${data.byteLength} bytes cannot expand to ${contentSize} bytes`);
  }
  if (contentSize !== undefined) {
    try {
      return zstdDecompress(data);
    } catch (thrown) {
      throw new InputError(`a message of zstd data is damaged (${toError(thrown).message})`, {
        cause: thrown,
      });
    }
  }
  const parts: Uint8Array[] = [];
  let size = 0;
  const stream = new ZstdStream((bytes) => {
    size += bytes.byteLength;
    if (size > MAX_MESSAGE_BYTES)
      throw new InputError(`a message expands to more than ${MAX_MESSAGE_BYTES} bytes`);
    parts.push(bytes);
  });
  decode(() => stream.push(data, true));
  return Buffer.concat(parts);
}

/** What a frame that is cut off still holds, at most `size` bytes: its whole blocks. */
export function expandCutZstd(data: Uint8Array, size: number): Uint8Array {
  const out = new Uint8Array(size);
  let length = 0;
  try {
    checkFrame(data, 'a chunk');
    const stream = new ZstdStream((bytes) => {
      if (length + bytes.byteLength > size)
        throw new InputError(`a chunk expands to more than ${size} bytes`);
      out.set(bytes, length);
      length += bytes.byteLength;
    });
    decode(() => stream.push(data));
  } catch (thrown) {
    if (!(thrown instanceof InputError)) throw thrown;
  }
  return out.subarray(0, length);
}

/** Checks the head of a zstd frame (RFC 8878, 3.1.1.1) before a decoder allocates what it asks for. */
function checkFrame(head: Uint8Array, what: string): { contentSize: number | undefined } {
  if (head[0] !== 0x28 || head[1] !== 0xb5 || head[2] !== 0x2f || head[3] !== 0xfd || head.byteLength < 9) {
    throw new InputError(
      `expected ${what} to be a zstd frame, found ${head.byteLength} bytes that start differently`,
    );
  }
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  const flags = view.getUint8(4);
  const single = (flags & 0x20) !== 0;
  const dictionaryBytes = [0, 1, 2, 4][flags & 3] ?? 0;
  const sizeAt = 5 + (single ? 0 : 1) + dictionaryBytes;
  const sizeBytes = [single ? 1 : 0, 2, 4, 8][flags >> 6] ?? 0;
  if (sizeAt + sizeBytes > head.byteLength)
    throw new InputError(`${what} ends inside the head of its zstd frame`);
  const contentSize = readSize(view, sizeAt, sizeBytes);
  const descriptor = view.getUint8(5);
  const base = 2 ** (10 + (descriptor >> 3));
  const window = single ? (contentSize ?? 0) : base + (base / 8) * (descriptor & 7);
  if (window > MAX_WINDOW) {
    throw new InputError(`${what} needs a zstd window of ${window} bytes; at most ${MAX_WINDOW} are allowed`);
  }
  return { contentSize };
}

function readSize(view: DataView, at: number, bytes: number): number | undefined {
  if (bytes === 1) return view.getUint8(at);
  if (bytes === 2) return view.getUint16(at, true) + 256;
  if (bytes === 4) return view.getUint32(at, true);
  if (bytes === 8) return Number(view.getBigUint64(at, true));
  return undefined;
}
