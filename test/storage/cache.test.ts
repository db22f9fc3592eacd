import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  appendFile,
  mkdir,
  open,
  readdir,
  readFile,
  stat,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { Registry } from 'prom-client';
import { CanceledError, StorageError } from '../../src/errors.ts';
import { createStorageMetrics } from '../../src/metrics/storage.ts';
import { SourceCache } from '../../src/storage/cache.ts';
import { openStorage } from '../../src/storage/open.ts';
import type { SourceVersion, StoredObject } from '../../src/storage/types.ts';
import { sample } from '../helpers/samples.ts';
import { mountRamDisk, tempFolder } from './temp-folder.ts';

const SIZE = 1_000_000;

/** A folder of recordings `0`, `1`, …, and caches over it as several processes would make them. */
async function setUp(t: ExecutionContext, options: { maxBytes?: number; count?: number } = {}) {
  const [base, registry] = [await tempFolder(t), new Registry()];
  const [sources, folder] = [join(base, 'sources'), join(base, 'cache')];
  await mkdir(sources);
  const contents = Array.from({ length: options.count ?? 1 }, () => randomBytes(SIZE));
  for (const [index, bytes] of contents.entries()) await writeFile(join(sources, String(index)), bytes);
  const metrics = createStorageMetrics(registry);
  const storage = openStorage(sources, { metrics, role: 'source' });
  const warnings: string[] = [];
  const newCache = (maxBytes = options.maxBytes ?? 10 * SIZE) =>
    new SourceCache({ folder, maxBytes, metrics, log: { warn: (_, message) => warnings.push(message) } });
  const versionOf = async (index: number): Promise<SourceVersion> => {
    const info = await storage.head(String(index));
    return { url: `s3://raw/${index}`, size: info?.size ?? 0, etag: info?.etag ?? '' };
  };
  const take = async (cache: SourceCache, index: number) =>
    cache.take(await versionOf(index), () => storage.open(String(index)));
  const counts = async () => ({
    hit: await sample(registry, 'roboflow_cache_hit_total'),
    miss: await sample(registry, 'roboflow_cache_miss_total'),
    read: await sample(registry, 'roboflow_bytes_read_total', { source: 'file' }),
  });
  const cached = async () =>
    (await readdir(join(folder, 'objects'))).filter((name) => !name.endsWith('.json')).length;
  return { base, folder, sources, contents, storage, warnings, newCache, versionOf, take, counts, cached };
}

async function all(object: StoredObject | undefined): Promise<Buffer> {
  return Buffer.from((await object?.read(0n, await object.size())) ?? []);
}

test('the first look-up fetches, the next ones read nothing from the source, also after a restart', async (t) => {
  const { contents, newCache, take, counts, versionOf } = await setUp(t);
  const first = await take(newCache(), 0);
  t.true(contents[0]?.equals(await all(first)));
  t.deepEqual(first?.info, { key: 's3://raw/0', size: SIZE, etag: (await versionOf(0)).etag });
  t.true(contents[0]?.equals(await readFile(first?.path ?? '')), 'it is a file of this machine');
  t.deepEqual(await counts(), { hit: 0, miss: 1, read: SIZE });
  await first?.close();
  const second = await take(newCache(), 0);
  t.true(contents[0]?.equals(await all(second)));
  await second?.close();
  t.deepEqual(await counts(), { hit: 1, miss: 1, read: SIZE });
});

test('another version of the same object is another object', async (t) => {
  const { sources, newCache, take, counts } = await setUp(t);
  const cache = newCache();
  await (await take(cache, 0))?.close();
  const changed = randomBytes(SIZE);
  await writeFile(join(sources, '0'), changed);
  const second = await take(cache, 0);
  t.true(changed.equals(await all(second)));
  await second?.close();
  t.deepEqual(await counts(), { hit: 0, miss: 2, read: 2 * SIZE });
});

test('a damaged or shortened copy is noticed and fetched again', async (t) => {
  const { folder, contents, warnings, newCache, take, counts } = await setUp(t);
  const cache = newCache();
  const first = await take(cache, 0);
  const file = await open(first?.path ?? '', 'r+');
  await file.write(Buffer.from([(contents[0]?.readUInt8(500_000) ?? 0) ^ 1]), 0, 1, 500_000);
  await file.close();
  const second = await take(cache, 0);
  t.true(contents[0]?.equals(await all(second)));
  t.deepEqual(await counts(), { hit: 0, miss: 2, read: 2 * SIZE });
  t.regex(warnings.join(), /damaged/);
  await truncate(second?.path ?? '', 10);
  const third = await take(cache, 0);
  t.true(contents[0]?.equals(await all(third)));
  const record = (await readdir(join(folder, 'objects'))).find((name) => name.endsWith('.json')) ?? '';
  await writeFile(join(folder, 'objects', record), '{"url":');
  const fourth = await take(cache, 0);
  t.true(contents[0]?.equals(await all(fourth)));
  t.is((await counts()).miss, 4);
  for (const object of [first, second, third, fourth]) await object?.close();
});

test('the budget holds: the least recently used goes, what is in use stays', async (t) => {
  const { contents, newCache, take, counts, cached } = await setUp(t, { maxBytes: 3 * SIZE, count: 6 });
  const cache = newCache();
  const held = await take(cache, 0);
  for (const index of [1, 2]) await (await take(cache, index))?.close();
  await (await take(cache, 1))?.close(); // 2 is the least recently used now
  await (await take(cache, 3))?.close();
  t.is(await cached(), 3);
  const { miss } = await counts();
  for (const index of [0, 1, 3]) await (await take(cache, index))?.close();
  t.is((await counts()).miss, miss, 'all three are there');
  t.true(contents[0]?.equals(await all(held)));
  const alsoHeld = [await take(cache, 1), await take(cache, 3)];
  const before = await counts();
  t.is(await take(cache, 4), undefined, 'no room while all are in use');
  t.deepEqual(await counts(), { ...before, miss: before.miss + 1 });
  for (const object of [held, ...alsoHeld]) await object?.close();
  const last = await take(cache, 5);
  t.true(contents[5]?.equals(await all(last)));
  await last?.close();
  t.is(await cached(), 3);
});

test('an object larger than the whole budget is not kept, a budget of 0 keeps nothing and counts nothing', async (t) => {
  const { newCache, take, counts } = await setUp(t);
  t.is(await take(newCache(SIZE - 1), 0), undefined);
  t.deepEqual(await counts(), { hit: 0, miss: 1, read: 0 });
  t.is(await take(newCache(0), 0), undefined);
  t.deepEqual(await counts(), { hit: 0, miss: 1, read: 0 });
});

test('a source that fails leaves nothing behind, and the next look-up fetches', async (t) => {
  const { folder, contents, storage, newCache, take, versionOf, cached } = await setUp(t);
  const cache = newCache();
  const failing = async (): Promise<StoredObject> => {
    const object = await storage.open('0');
    const read = async () => {
      throw new StorageError('planned', { retryable: true, reason: 'network' });
    };
    return { info: object.info, size: () => object.size(), read, close: () => object.close() };
  };
  await t.throwsAsync(cache.take(await versionOf(0), failing), {
    instanceOf: StorageError,
    message: 'planned',
  });
  const abort = new AbortController();
  abort.abort(new CanceledError('shutdown'));
  const stopped = cache.take(await versionOf(0), () => storage.open('0'), abort.signal);
  await t.throwsAsync(stopped, { instanceOf: CanceledError });
  t.is(await cached(), 0);
  for (const name of ['partial', 'in-use', 'locks']) t.deepEqual(await readdir(join(folder, name)), [], name);
  const object = await take(cache, 0);
  t.true(contents[0]?.equals(await all(object)));
  await object?.close();
});

/** Runs `body` in a process of its own, with `cache`, `storage`, `version` and `appendFileSync` at hand. */
async function inChild(
  set: { folder: string; sources: string; base: string },
  version: SourceVersion,
  body: string,
): Promise<{ signal: string | null; code: number | null }> {
  const at = (path: string) => JSON.stringify(new URL(`../../src/${path}`, import.meta.url).href);
  const script = `
    import { appendFileSync } from 'node:fs';
    import { setTimeout as delay } from 'node:timers/promises';
    import { Registry } from ${JSON.stringify(import.meta.resolve('prom-client'))};
    import { createStorageMetrics } from ${at('metrics/storage.js')};
    import { SourceCache } from ${at('storage/cache.js')};
    import { openStorage } from ${at('storage/open.js')};
    const metrics = createStorageMetrics(new Registry());
    const cache = new SourceCache({ folder: ${JSON.stringify(set.folder)}, maxBytes: 1e8, metrics });
    const storage = openStorage(${JSON.stringify(set.sources)}, { metrics, role: 'source' });
    const version = ${JSON.stringify(version)};
    const log = ${JSON.stringify(join(set.base, 'log'))};
    ${body}`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: 'inherit' });
  const [code, signal] = (await once(child, 'exit')) as [number | null, string | null];
  return { code, signal };
}

test('of eight processes over one folder each object is fetched once, nothing in use goes, and the budget holds', async (t) => {
  const set = await setUp(t, { count: 4 });
  const versions = await Promise.all([0, 1, 2, 3].map((index) => set.versionOf(index)));
  // all want 0 first and hold it to the end, so that of the others only one has room beside it at a time
  const body = (turn: number) => `
    const versions = ${JSON.stringify(versions)};
    const small = new SourceCache({ folder: ${JSON.stringify(set.folder)}, maxBytes: ${2 * SIZE}, metrics });
    const { readdirSync, statSync } = await import('node:fs');
    const take = async (index) => {
      const object = await small.take(versions[index], async () => {
        appendFileSync(log, 'fetch ' + index + '\\n');
        await delay(100);
        return storage.open(String(index));
      });
      let bytes = 0;
      for (const name of ['objects', 'partial']) {
        for (const file of readdirSync(${JSON.stringify(set.folder)} + '/' + name)) {
          if (file.endsWith('.json')) continue;
          try { bytes += statSync(${JSON.stringify(set.folder)} + '/' + name + '/' + file).size; } catch (error) {
            if (error.code !== 'ENOENT') throw error;
          }
        }
      }
      if (bytes > ${2 * SIZE}) appendFileSync(log, 'over ' + bytes + '\\n');
      return object;
    };
    const digest = async (object) => {
      const { createHash } = await import('node:crypto');
      return createHash('sha256').update(await object.read(0n, await object.size())).digest('hex');
    };
    const held = await take(0);
    const before = await digest(held);
    for (const index of [1 + ${turn} % 3, 1 + (${turn} + 1) % 3]) {
      const other = await take(index);
      if (other !== undefined) appendFileSync(log, 'read ' + index + ' ' + (await digest(other)) + '\\n');
      else appendFileSync(log, 'no room\\n');
      await other?.close();
    }
    if ((await digest(held)) !== before || !held.path) appendFileSync(log, 'lost\\n');
    appendFileSync(log, 'read 0 ' + before + '\\n');
    await held.close();`;
  const version = versions[0] as SourceVersion;
  const ends = await Promise.all(Array.from({ length: 8 }, (_, turn) => inChild(set, version, body(turn))));
  t.true(
    ends.every(({ code }) => code === 0),
    JSON.stringify(ends),
  );
  const lines = (await readFile(join(set.base, 'log'), 'utf8')).trim().split('\n');
  t.is(lines.filter((line) => line === 'fetch 0').length, 1, 'in use by somebody all the time');
  t.is(lines.filter((line) => line.startsWith('read 0 ')).length, 8);
  t.deepEqual(
    lines.filter((line) => /^(over|lost)/.test(line)),
    [],
  );
  const digests = set.contents.map((bytes) => createHash('sha256').update(bytes).digest('hex'));
  for (const line of lines.filter((each) => each.startsWith('read '))) {
    const [, index, digest] = line.split(' ');
    t.is(digest, digests[Number(index)]);
  }
  t.true((await set.cached()) <= 2);
  for (const name of ['partial', 'in-use', 'locks'])
    t.deepEqual(await readdir(join(set.folder, name)), [], name);
});

test('a process of another pod that shares the folder counts as alive while it touches what it holds', async (t) => {
  const set = await setUp(t, { maxBytes: SIZE, count: 2 });
  const cache = set.newCache();
  await (await set.take(cache, 0))?.close();
  const [id = ''] = (await readdir(join(set.folder, 'objects'))).filter((name) => !name.endsWith('.json'));
  // nobody here can ask whether it lives
  const foreign = join(set.folder, 'in-use', `${id}.0123456789ab.1.1.x`);
  await writeFile(foreign, '');
  t.is(await set.take(cache, 1), undefined, 'no room: the other pod uses what lies there');
  const halfAMinuteAgo = new Date(Date.now() - 31_000);
  await utimes(foreign, halfAMinuteAgo, halfAMinuteAgo);
  const object = await set.take(cache, 1);
  t.true(set.contents[1]?.equals(await all(object)));
  await object?.close();
  t.is(await set.cached(), 1);
});

test('a process killed while it fetches holds nobody up, and what it left is removed', async (t) => {
  const set = await setUp(t);
  const version = await set.versionOf(0);
  const { signal } = await inChild(
    set,
    version,
    `await cache.take(version, async () => {
      const object = await storage.open('0');
      return { ...object, size: () => object.size(), close: () => object.close(),
        read: async () => process.kill(process.pid, 'SIGKILL') };
    });`,
  );
  t.is(signal, 'SIGKILL');
  t.is((await readdir(join(set.folder, 'partial'))).length, 1);
  t.is((await readdir(join(set.folder, 'in-use'))).length, 1);
  const startedAt = Date.now();
  const object = await set.take(set.newCache(), 0);
  t.true(set.contents[0]?.equals(await all(object)));
  t.true(Date.now() - startedAt < 20_000, 'long before a lock grows stale');
  t.deepEqual(await readdir(join(set.folder, 'partial')), []);
  await object?.close();
});

test('what a killed process had in use can be evicted', async (t) => {
  const set = await setUp(t, { maxBytes: SIZE, count: 2 });
  await inChild(
    set,
    await set.versionOf(0),
    `await cache.take(version, () => storage.open('0')); process.kill(process.pid, 'SIGKILL');`,
  );
  t.is((await readdir(join(set.folder, 'in-use'))).length, 1);
  const object = await set.take(set.newCache(), 1);
  t.true(set.contents[1]?.equals(await all(object)));
  t.is(await set.cached(), 1);
  await object?.close();
});

test('files of others in the cache folder are left alone, and a cache that cannot be written says so', async (t) => {
  const set = await setUp(t);
  await mkdir(set.folder);
  await writeFile(join(set.folder, 'notes.txt'), 'mine');
  await (await set.take(set.newCache(), 0))?.close();
  t.is(await readFile(join(set.folder, 'notes.txt'), 'utf8'), 'mine');
  const blocked = join(set.base, 'blocked');
  await appendFile(blocked, 'a file');
  const cache = new SourceCache({
    folder: join(blocked, 'cache'),
    maxBytes: SIZE,
    metrics: createStorageMetrics(new Registry()),
  });
  await t.throwsAsync(set.take(cache, 0), { instanceOf: StorageError, message: /source cache .*blocked/ });
  t.is((await stat(blocked)).size, 6);
});

test('on a full disk there is no copy, nothing is left behind, and the caller is told to read the source', async (t) => {
  const set = await setUp(t);
  await mkdir(set.folder);
  if (!mountRamDisk(t, set.folder, 'size=512k')) return;
  t.is(await set.take(set.newCache(), 0), undefined);
  t.regex(set.warnings.join(), /the disk of the source cache is full/);
  t.deepEqual(await readdir(join(set.folder, 'partial')), []);
  t.is(await set.cached(), 0);
  t.deepEqual(await set.counts(), { hit: 0, miss: 1, read: SIZE });
});
