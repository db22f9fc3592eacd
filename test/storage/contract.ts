import { createHash, randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext, TestFn } from 'ava';
import { CanceledError, InputError, StorageError } from '../../src/errors.ts';
import type { ObjectInfo, Storage } from '../../src/storage/types.ts';
import { tempFolder } from './temp-folder.ts';

/** What a store under test is made with: an empty one, and how many bytes were counted as read from it. */
export type StoreUnderTest = { readonly storage: Storage; readonly bytesRead: () => Promise<number> };

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const text = (value: string) => ({ bytes: new TextEncoder().encode(value) });

async function keysOf(list: AsyncIterable<ObjectInfo>): Promise<string[]> {
  const keys: string[] = [];
  for await (const item of list) keys.push(item.key);
  return keys;
}

async function contentOf(storage: Storage, key: string): Promise<Buffer> {
  const object = await storage.open(key);
  try {
    return Buffer.from(await object.read(0n, await object.size()));
  } finally {
    await object.close();
  }
}

export type ContractOptions = {
  /** A size that needs more than one piece or part. */
  readonly large: number;
  /** Listings are in byte order of the keys. */
  readonly ordered: boolean;
};

/** Every store keeps these promises. */
export function storageContract(
  test: TestFn,
  name: string,
  make: (t: ExecutionContext) => Promise<StoreUnderTest>,
  { large, ordered }: ContractOptions,
): void {
  test(`${name}: what was put is read back, whole and in ranges, and each byte read is counted`, async (t) => {
    const { storage, bytesRead } = await make(t);
    const bytes = randomBytes(large);
    const put = await storage.put('data/chunk-000/file-000.bin', { bytes });
    t.is(put.size, large);
    t.is(put.sha256, sha256(bytes));
    const object = await storage.open('data/chunk-000/file-000.bin');
    t.teardown(() => object.close());
    t.is(await object.size(), BigInt(large));
    t.deepEqual(object.info, { key: put.key, size: put.size, etag: put.etag });
    t.true(bytes.equals(await object.read(0n, BigInt(large))));
    t.true(bytes.subarray(1000, 1010).equals(await object.read(1000n, 10n)));
    t.true(bytes.subarray(large - 1).equals(await object.read(BigInt(large - 1), 1n)));
    t.is((await object.read(5n, 0n)).length, 0);
    const counted = await bytesRead();
    t.true(counted >= large, `counted ${counted}`);
  });

  test(`${name}: a result of read may be kept while more is read`, async (t) => {
    const { storage } = await make(t);
    await storage.put('a', text('0123456789'));
    const object = await storage.open('a');
    t.teardown(() => object.close());
    const [first, second] = [await object.read(0n, 4n), await object.read(4n, 4n)];
    t.is(Buffer.from(first).toString(), '0123');
    t.is(Buffer.from(second).toString(), '4567');
  });

  test(`${name}: a range outside the object is refused`, async (t) => {
    const { storage } = await make(t);
    await storage.put('a', text('0123456789'));
    const object = await storage.open('a');
    t.teardown(() => object.close());
    for (const [offset, length] of [
      [0n, 11n],
      [10n, 1n],
      [-1n, 1n],
      [2n, -1n],
    ] as const) {
      await t.throwsAsync(object.read(offset, length), { instanceOf: StorageError, message: /10 bytes/ });
    }
  });

  test(`${name}: an empty object is an object`, async (t) => {
    const { storage } = await make(t);
    await storage.put('empty', { bytes: new Uint8Array() });
    t.is((await storage.head('empty'))?.size, 0);
    t.is((await contentOf(storage, 'empty')).length, 0);
  });

  test(`${name}: a file is sent from disk, with progress up to its size`, async (t) => {
    const { storage } = await make(t);
    const path = join(await tempFolder(t), 'video.mp4');
    const bytes = randomBytes(large);
    await writeFile(path, bytes);
    const progress: number[] = [];
    const put = await storage.put('v/video.mp4', { path }, { onProgress: (sent) => progress.push(sent) });
    t.is(put.sha256, sha256(bytes));
    t.is(progress.at(-1), large);
    t.deepEqual(
      progress,
      progress.toSorted((a, b) => a - b),
    );
    t.true(bytes.equals(await contentOf(storage, 'v/video.mp4')));
    t.is(await storage.sha256('v/video.mp4'), put.sha256);
  });

  test(`${name}: what is absent has no head, cannot be opened, and may be removed`, async (t) => {
    const { storage } = await make(t);
    t.is(await storage.head('no/such'), undefined);
    t.is(await storage.sha256('no/such'), undefined);
    const error = await t.throwsAsync<StorageError>(storage.open('no/such'), { instanceOf: StorageError });
    t.false(error.retryable);
    await t.notThrowsAsync(storage.remove('no/such'));
  });

  test(`${name}: removing takes an object away, and its neighbours stay`, async (t) => {
    const { storage } = await make(t);
    await storage.put('x/a', text('a'));
    await storage.put('x/b', text('b'));
    await storage.remove('x/a');
    t.is(await storage.head('x/a'), undefined);
    t.deepEqual(await keysOf(storage.list('')), ['x/b']);
  });

  test(`${name}: listings are ${ordered ? 'in byte order of the keys' : 'complete'}, by prefix, to a depth`, async (t) => {
    const { storage } = await make(t);
    const keys = ['a-b', 'a/b/c', 'a/b-c', 'a/é', 'a/z', 'a/𝄞', 'a/\uffee', 'b', 'meta/info.json', 'metal'];
    for (const key of keys) await storage.put(key, text(key));
    const inOrder = keys.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    const listed = async (prefix: string, depth?: number) => {
      const found = await keysOf(storage.list(prefix, depth === undefined ? {} : { depth }));
      return ordered ? found : found.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    };
    t.deepEqual(await listed(''), inOrder);
    t.deepEqual(
      await listed('a/'),
      inOrder.filter((key) => key.startsWith('a/')),
    );
    t.deepEqual(await listed('met'), ['meta/info.json', 'metal']);
    t.deepEqual(await listed('', 1), ['a-b', 'b', 'metal']);
    t.deepEqual(await listed('a/b', 1), ['a/b-c']);
    t.deepEqual(
      await listed('', 2),
      inOrder.filter((key) => key !== 'a/b/c'),
    );
    t.deepEqual(await listed('nothing/'), []);
  });

  test(`${name}: names with blanks, percent signs, pluses and brackets are names like others`, async (t) => {
    const { storage } = await make(t);
    const keys = ['a b+c%20d [1].mcap', 'x=1,y=2/(ü)&#?.mcap', "it's@home;$.mcap"];
    for (const key of keys) await storage.put(key, text(key));
    for (const key of keys) t.is((await contentOf(storage, key)).toString(), key);
    t.deepEqual((await keysOf(storage.list(''))).toSorted(), keys.toSorted());
  });

  test(`${name}: every version has its own etag, also when versions follow at once`, async (t) => {
    const { storage } = await make(t);
    const etags = new Set<string>();
    for (let version = 0; version < 10; version++) {
      etags.add((await storage.put('same-size', text(`version ${version}`))).etag);
    }
    t.is(etags.size, 10);
    t.true(etags.has((await storage.head('same-size'))?.etag ?? ''));
  });

  test(`${name}: an object replaced after it was opened is never read as if it were the same`, async (t) => {
    const { storage } = await make(t);
    const before = randomBytes(large);
    await storage.put('recording.mcap', { bytes: before });
    const object = await storage.open('recording.mcap');
    t.teardown(() => object.close());
    await object.read(0n, 10n);
    await storage.put('recording.mcap', { bytes: randomBytes(large) });
    const offset = large - 1000;
    const read = object.read(BigInt(offset), 1000n).then(
      (bytes) => (before.subarray(offset).equals(bytes) ? 'the version opened' : 'a mixture'),
      (error: unknown) =>
        error instanceof StorageError && /changed/.test(error.message) ? 'an error' : error,
    );
    t.true(['the version opened', 'an error'].includes(String(await read)), String(await read));
  });

  test(`${name}: of many who create an object under one condition, exactly one wins`, async (t) => {
    const { storage } = await make(t);
    const attempts = Array.from({ length: 8 }, (_, index) =>
      storage.put('manifest.json', text(`attempt ${index}`), { ifAbsent: true }),
    );
    const outcomes = await Promise.allSettled(attempts);
    const winners = outcomes.flatMap((outcome, index) => (outcome.status === 'fulfilled' ? [index] : []));
    t.is(winners.length, 1);
    t.is((await contentOf(storage, 'manifest.json')).toString(), `attempt ${winners[0]}`);
    for (const outcome of outcomes) {
      if (outcome.status === 'fulfilled') continue;
      t.true(outcome.reason instanceof StorageError && !outcome.reason.retryable, String(outcome.reason));
      t.regex(String(outcome.reason), /somebody else/);
    }
  });

  test(`${name}: of many who replace one version, exactly one wins`, async (t) => {
    const { storage } = await make(t);
    const { etag } = await storage.put('dataset.json', text('version 0'));
    const attempts = Array.from({ length: 8 }, (_, index) =>
      storage.put('dataset.json', text(`attempt ${index}`), { ifMatch: etag }),
    );
    const outcomes = await Promise.allSettled(attempts);
    const winners = outcomes.flatMap((outcome, index) => (outcome.status === 'fulfilled' ? [index] : []));
    t.is(
      winners.length,
      1,
      outcomes.map((o) => (o.status === 'rejected' ? String(o.reason) : 'ok')).join('\n'),
    );
    t.is((await contentOf(storage, 'dataset.json')).toString(), `attempt ${winners[0]}`);
    await t.throwsAsync(storage.put('absent.json', text('x'), { ifMatch: etag }), {
      instanceOf: StorageError,
    });
    t.is(await storage.head('absent.json'), undefined);
  });

  test(`${name}: keys that leave the root, or are no keys, are refused by every operation`, async (t) => {
    const { storage } = await make(t);
    const keys = [
      '',
      '/etc/passwd',
      '../a',
      'a/../../b',
      'a/..',
      './a',
      'a//b',
      'a/',
      'a\\..\\b',
      'a\0b',
      'a\nb',
    ];
    for (const key of [...keys, 'x'.repeat(1025), '.roboflow-tmp.1']) {
      await t.throwsAsync(storage.head(key), { instanceOf: InputError }, key);
      await t.throwsAsync(storage.open(key), { instanceOf: InputError }, key);
      await t.throwsAsync(storage.put(key, text('x')), { instanceOf: InputError }, key);
      await t.throwsAsync(storage.remove(key), { instanceOf: InputError }, key);
      await t.throwsAsync(storage.sha256(key), { instanceOf: InputError }, key);
    }
    await t.throwsAsync(keysOf(storage.list('../')), { instanceOf: InputError });
    t.deepEqual(await keysOf(storage.list('')), []);
  });

  test(`${name}: an abort stops a put and leaves nothing to be seen`, async (t) => {
    const { storage } = await make(t);
    const path = join(await tempFolder(t), 'large');
    await writeFile(path, randomBytes(large));
    const abort = new AbortController();
    const put = storage.put(
      'aborted',
      { path },
      { signal: abort.signal, onProgress: () => abort.abort(new CanceledError('shutdown')) },
    );
    const error = await t.throwsAsync<CanceledError>(put, { instanceOf: CanceledError });
    t.is(error.reason, 'shutdown');
    t.is(await storage.head('aborted'), undefined);
    t.deepEqual(await keysOf(storage.list('')), []);
    await t.throwsAsync(storage.head('x', { signal: abort.signal }), { instanceOf: CanceledError });
    await t.throwsAsync(keysOf(storage.list('', { signal: abort.signal })), { instanceOf: CanceledError });
  });

  test(`${name}: a body that cannot be read is not put`, async (t) => {
    const { storage } = await make(t);
    const put = storage.put('a', { path: join(await tempFolder(t), 'absent') });
    const error = await t.throwsAsync<StorageError>(put, { instanceOf: StorageError });
    t.false(error.retryable);
    t.is(await storage.head('a'), undefined);
  });
}
