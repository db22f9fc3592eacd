import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { InputError } from '../../src/errors.ts';
import { openRecording } from '../../src/recording/open.ts';
import { MCAP_MAGIC } from '../../src/recording/mcap-records.ts';
import { memoryFiles } from '../helpers/recordings.ts';

function u64(value: bigint): Uint8Array {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes;
}

function u32(value: number): Uint8Array {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function record(opcode: number, body: Uint8Array, length = BigInt(body.byteLength)): Uint8Array {
  return Buffer.concat([Uint8Array.of(opcode), u64(length), body]);
}

function text(value: string): Uint8Array {
  return Buffer.concat([u32(value.length), Buffer.from(value)]);
}

/** Memory of this thread: other test files run in the same process. */
function heldBytes(): number {
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

const HEADER = record(1, Buffer.concat([text(''), text('bomb')]));

/** A file without index whose only chunk declares `size` bytes. */
function chunkOf(compression: string, size: bigint, data: Uint8Array): Uint8Array {
  const head = Buffer.concat([
    u64(1n),
    u64(2n),
    u64(size),
    u32(0),
    text(compression),
    u64(BigInt(data.byteLength)),
  ]);
  const footer = record(2, Buffer.concat([u64(0n), u64(0n), u32(0)]));
  return Buffer.concat([MCAP_MAGIC, HEADER, record(6, Buffer.concat([head, data])), footer, MCAP_MAGIC]);
}

/** A zstd frame of `blocks` runs of 128 KiB zeros, four bytes each (RFC 8878: RLE blocks). */
function zstdRuns(blocks: number): Uint8Array {
  const frame = Buffer.alloc(6 + blocks * 4);
  frame.writeUInt32LE(0xfd2fb528, 0);
  frame[5] = 0x68; // window of 8 MiB
  for (let block = 0; block < blocks; block++) {
    const last = block === blocks - 1 ? 1 : 0;
    frame.writeUIntLE((0x20000 << 3) | 2 | last, 6 + block * 4, 3);
  }
  return frame;
}

const bombs: readonly [string, () => Uint8Array, RegExp][] = [
  ['a chunk of 2^60 bytes in lz4', () => chunkOf('lz4', 1n << 60n, new Uint8Array(100)), /beyond any file/],
  ['a chunk of a terabyte in zstd', () => chunkOf('zstd', 1n << 40n, zstdRuns(10)), /not let expand/],
  [
    'a chunk of 400 MB in 12 kB of zstd',
    () => chunkOf('zstd', 3200n << 17n, zstdRuns(3200)),
    /not let expand/,
  ],
  ['a chunk of 3 GB in bz2', () => chunkOf('bz2', 3n << 30n, new Uint8Array(5000)), /not let expand/],
  [
    'a file of 80 kB that expands to 2.6 GB',
    () => zstdRuns(20_000),
    /expand to more than .* it is no recording/,
  ],
  [
    'a window of two gigabytes',
    () => Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0, 0, 0, 0, 0, 0),
    /needs a zstd window of 2147483648 bytes/,
  ],
];

for (const [title, make, message] of bombs) {
  test.serial(`${title} is refused before memory is taken for it`, async (t) => {
    const scratch = await mkdtemp(join(tmpdir(), 'bombs-'));
    t.teardown(() => rm(scratch, { recursive: true }));
    const bytes = make();
    const before = heldBytes();
    const started = performance.now();
    await t.throwsAsync(openRecording(memoryFiles(bytes), { recover: false, scratch }), {
      instanceOf: InputError,
      message,
    });
    t.true(heldBytes() - before < 300 << 20);
    t.true(performance.now() - started < 20_000);
    t.deepEqual(await readdir(scratch), []);
  });
}

test('a record that declares more than the file holds is not read', async (t) => {
  for (const opcode of [3, 4, 5, 6, 7, 12]) {
    const bytes = Buffer.concat([MCAP_MAGIC, HEADER, record(opcode, new Uint8Array(50), 1n << 52n)]);
    const recording = await openRecording(memoryFiles(bytes));
    t.regex(recording.losses[0]?.what ?? '', /the file ends inside the record at byte 29/);
    t.deepEqual(recording.channels, []);
    await recording.close();
  }
});
