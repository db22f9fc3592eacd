import { randomBytes } from 'node:crypto';
import test from 'ava';
import { type Extent, ExtentReader } from '../../src/recording/extents.ts';
import type { ByteSource } from '../../src/recording/types.ts';

const MIB = 1 << 20;

type Near = ByteSource & { readonly log: string[] };

/** Bytes that are near: they come in the memory that is given, a turn of the event loop later. */
function near(bytes: Uint8Array, fails: (offset: number) => boolean = () => false): Near {
  const log: string[] = [];
  return {
    log,
    size: async () => BigInt(bytes.length),
    async read(offset, length, into = new Uint8Array(Number(length))) {
      const from = Number(offset);
      log.push(`${from}+${length}`);
      await new Promise(setImmediate);
      if (fails(from)) throw new RangeError(`no bytes at ${from}`);
      into.set(bytes.subarray(from, from + Number(length)));
      return into.subarray(0, Number(length));
    },
  };
}

const chunks = (count: number, length: number): Extent[] =>
  Array.from({ length: count }, (_, i) => ({ offset: i * length, length }));

test('what is in use stays as it is while the reads after it share a few pieces of memory', async (t) => {
  const bytes = randomBytes(40 * MIB);
  const source = near(bytes);
  const extents = chunks(40, MIB);
  const open: { index: number; bytes: Uint8Array }[] = [];
  const seen = new Map<ArrayBufferLike, number>();
  const reader = new ExtentReader(source, extents, (memory) =>
    open.some(({ bytes: view }) => view.buffer === memory),
  );
  for (const index of extents.keys()) {
    const view = await reader.read(index);
    seen.set(view.buffer, (seen.get(view.buffer) ?? 0) + 1);
    open.push({ index, bytes: view });
    for (const held of open) {
      const { offset, length } = extents[held.index] as Extent;
      t.true(Buffer.from(held.bytes).equals(bytes.subarray(offset, offset + length)), `chunk ${held.index}`);
    }
    // most are done with at once, some only ten chunks later
    const done = open.findIndex((held) => held.index % 7 !== 3 || held.index + 10 < index);
    if (done >= 0 && open.length > 1) open.splice(done, 1);
  }
  t.true(
    [...seen.values()].some((count) => count > 4),
    'memory is used again',
  );
  t.deepEqual(
    source.log,
    Array.from({ length: 10 }, (_, i) => `${4 * i * MIB}+${4 * MIB}`),
  );
});

test('without anything in use three pieces of memory hold all that is read', async (t) => {
  const bytes = randomBytes(24 * MIB);
  const reader = new ExtentReader(near(bytes), chunks(24, MIB), () => false);
  const seen = new Set<ArrayBufferLike>();
  for (let index = 0; index < 24; index++) seen.add((await reader.read(index)).buffer);
  t.true(seen.size <= 3, `${seen.size} of them`);
});

test('the read after the next is begun early, once a reader goes on; one that fails is told to who asks for it', async (t) => {
  const source = near(randomBytes(16 * MIB), (offset) => offset === 8 * MIB);
  const reader = new ExtentReader(source, chunks(16, MIB), () => false);
  await reader.read(0);
  t.is(source.log.length, 1);
  await reader.read(4);
  t.is(source.log.length, 3);
  await new Promise(setImmediate);
  await t.throwsAsync(reader.read(8), { message: `no bytes at ${8 * MIB}` });
  t.true((await reader.read(12)).length === MIB);
});

test('a chunk that is asked for out of turn is read where it lies, and what was begun spoils nothing', async (t) => {
  const bytes = randomBytes(20 * MIB);
  const reader = new ExtentReader(near(bytes), chunks(20, MIB), () => false);
  for (const index of [0, 4, 8, 2, 12, 5, 16, 19]) {
    const view = await reader.read(index);
    await new Promise(setImmediate);
    t.true(Buffer.from(view).equals(bytes.subarray(index * MIB, (index + 1) * MIB)), `chunk ${index}`);
  }
});

test('a source that fetches ahead by itself is told what comes, and nothing more is read', async (t) => {
  const told: string[] = [];
  const source = near(randomBytes(12 * MIB));
  const far = {
    ...source,
    willRead: (offset: bigint, length: bigint) => void told.push(`${offset}+${length}`),
  };
  const reader = new ExtentReader(far, chunks(12, MIB), () => false);
  for (let index = 0; index < 12; index++) await reader.read(index);
  t.deepEqual(source.log, [`0+${4 * MIB}`, `${4 * MIB}+${4 * MIB}`, `${8 * MIB}+${4 * MIB}`]);
  t.deepEqual(told, [`${4 * MIB}+${4 * MIB}`, `${8 * MIB}+${4 * MIB}`]);
});
