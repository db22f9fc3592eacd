import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  appendFile,
  mkdir,
  readdir,
  readFile,
  rename,
  stat,
  symlink,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { Registry } from 'prom-client';
import { InputError, StorageError } from '../../src/errors.ts';
import { createStorageMetrics } from '../../src/metrics/storage.ts';
import { openStorage } from '../../src/storage/open.ts';
import { storageContract } from './contract.ts';
import { mountRamDisk, tempFolder } from './temp-folder.ts';

function storeAt(root: string, role: 'source' | 'destination' = 'source') {
  const metrics = createStorageMetrics(new Registry());
  const bytesRead = async () =>
    (await metrics.bytesRead.get()).values.find((value) => value.labels.source === 'file')?.value ?? -1;
  return { storage: openStorage(root, { metrics, role }), bytesRead };
}

storageContract(test, 'folder', async (t) => storeAt(join(await tempFolder(t), 'root')), {
  large: 3_000_000,
  ordered: true,
});

const text = (value: string) => ({ bytes: new TextEncoder().encode(value) });

test('folder: bytes are counted exactly as read, of a source only', async (t) => {
  const root = await tempFolder(t);
  await writeFile(join(root, 'a'), '0123456789');
  for (const [role, expected] of [
    ['source', 7],
    ['destination', 0],
  ] as const) {
    const { storage, bytesRead } = storeAt(root, role);
    const object = await storage.open('a');
    await object.read(0n, 3n);
    await object.read(2n, 4n);
    await object.close();
    t.is(await bytesRead(), expected, role);
  }
});

test('folder: a file that is read by its path counts as read whole, once', async (t) => {
  const root = await tempFolder(t);
  await writeFile(join(root, 'a.db3'), '0123456789');
  const { storage, bytesRead } = storeAt(root);
  const object = await storage.open('a.db3');
  t.is(await bytesRead(), 0);
  t.is(object.path, join(root, 'a.db3'));
  t.is(object.path, join(root, 'a.db3'));
  t.is(await bytesRead(), 10);
  await object.close();
});

test('folder: a file that grows, shrinks or is rewritten in place after it was opened fails the read', async (t) => {
  const root = await tempFolder(t);
  const path = join(root, 'a');
  const changes = {
    grows: () => appendFile(path, 'more'),
    shrinks: () => truncate(path, 4),
    'is rewritten': async () => {
      await writeFile(path, 'ABCDEFGHIJ');
      await utimes(path, 1, 1);
    },
  };
  for (const [what, change] of Object.entries(changes)) {
    await writeFile(path, '0123456789');
    const object = await storeAt(root).storage.open('a');
    t.is(Buffer.from(await object.read(0n, 10n)).toString(), '0123456789');
    await change();
    const error = await t.throwsAsync<StorageError>(object.read(0n, 10n), { instanceOf: StorageError }, what);
    t.regex(error.message, /changed while it was being read/);
    await object.close();
  }
});

test('folder: a file that is renamed over keeps being read as it was opened', async (t) => {
  const root = await tempFolder(t);
  await writeFile(join(root, 'a'), 'old bytes');
  await writeFile(join(root, 'b'), 'NEW BYTES');
  const object = await storeAt(root).storage.open('a');
  t.teardown(() => object.close());
  await rename(join(root, 'b'), join(root, 'a'));
  t.is(Buffer.from(await object.read(0n, 9n)).toString(), 'old bytes');
});

test('folder: links that leave the root are refused, links within and to allowed places are followed', async (t) => {
  const base = await tempFolder(t);
  const [root, outside, shared] = [join(base, 'root'), join(base, 'outside'), join(base, 'shared')];
  for (const folder of [root, outside, shared]) await mkdir(folder);
  await writeFile(join(outside, 'secret'), 'secret');
  await writeFile(join(shared, 'blob'), 'blob');
  await writeFile(join(root, 'plain'), 'plain');
  await symlink(join(outside, 'secret'), join(root, 'file-link'));
  await symlink(outside, join(root, 'folder-link'));
  await symlink('plain', join(root, 'inner-link'));
  await symlink(join(base, 'nowhere'), join(root, 'dangling'));
  await symlink('.', join(root, 'circle'));
  await symlink(join(shared, 'blob'), join(root, 'shared-link'));
  const { storage } = storeAt(root);
  for (const key of ['file-link', 'folder-link/secret', 'shared-link', 'dangling']) {
    await t.throwsAsync(storage.open(key), { instanceOf: InputError }, key);
    await t.throwsAsync(storage.head(key), { instanceOf: InputError }, key);
  }
  await t.throwsAsync(storage.put('folder-link/new', text('x')), { instanceOf: InputError });
  await t.throwsAsync(storage.put('folder-link/sub/new', text('x')), { instanceOf: InputError });
  await t.throwsAsync(storage.remove('folder-link/secret'), { instanceOf: InputError });
  t.deepEqual(await readdir(outside), ['secret']);
  t.is((await storage.head('inner-link'))?.size, 5);
  const listed: string[] = [];
  for await (const item of storage.list('')) listed.push(item.key);
  t.deepEqual(listed, ['inner-link', 'plain']);
  // a link in the place of an object is replaced, not followed
  await storage.put('file-link', text('mine'));
  t.is(await readFile(join(outside, 'secret'), 'utf8'), 'secret');
  const metrics = createStorageMetrics(new Registry());
  const lenient = openStorage(root, { metrics, role: 'source', linkTargets: [shared] });
  t.is((await lenient.head('shared-link'))?.size, 4);
});

test('folder: what is no regular file cannot be opened, and nothing hangs on it', async (t) => {
  const root = await tempFolder(t);
  await mkdir(join(root, 'folder'));
  execFileSync('mkfifo', [join(root, 'pipe')]);
  const { storage } = storeAt(root);
  for (const key of ['folder', 'pipe']) {
    t.is(await storage.head(key), undefined);
    const error = await t.throwsAsync<StorageError>(storage.open(key), { instanceOf: StorageError }, key);
    t.false(error.retryable);
  }
});

test('folder: a destination below a file, or on a read-only or full device, is refused for good', async (t) => {
  const base = await tempFolder(t);
  await writeFile(join(base, 'file'), 'x');
  const refused = async (root: string, message: RegExp) => {
    const put = storeAt(root).storage.put('data/a', { bytes: randomBytes(500_000) });
    const error = await t.throwsAsync<StorageError>(put, { instanceOf: StorageError }, root);
    t.false(error.retryable);
    t.regex(error.message, message);
  };
  await refused(join(base, 'file'), /cannot write .*a part of the path is a file/);
  await refused('/sys/kernel', /permission denied|not permitted|read-only/);
  const small = join(base, 'small');
  await mkdir(small);
  if (!mountRamDisk(t, small, 'size=128k')) return;
  await refused(small, /no space left on the device/);
  const left = await readdir(join(small, 'data'));
  t.deepEqual(left, [], 'the temporary file is gone');
  execFileSync('mount', ['-o', 'remount,ro', small]);
  await refused(small, /the file system is read-only/);
});

test('folder: a writer killed half-way leaves a temporary file that is not listed and is swept', async (t) => {
  const root = await tempFolder(t);
  const big = join(await tempFolder(t), 'big');
  await writeFile(big, randomBytes(1_000_000));
  const script = `
    import { openStorage } from ${JSON.stringify(new URL('../../src/storage/open.js', import.meta.url).href)};
    const storage = openStorage(${JSON.stringify(root)}, { metrics: {}, role: 'destination' });
    await storage.put('v/a.mp4', { path: ${JSON.stringify(big)} }, { onProgress: () => { process.kill(process.pid, 'SIGKILL'); } });`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: 'inherit' });
  const [, signal] = await once(child, 'exit');
  t.is(signal, 'SIGKILL');
  const left = await readdir(join(root, 'v'));
  t.is(left.length, 1);
  t.regex(left[0] ?? '', /^\.roboflow-tmp\./);
  const { storage } = storeAt(root);
  for await (const item of storage.list('')) t.fail(`listed ${item.key}`);
  // of somebody who lives, and of somebody on another machine: both stay until they are old
  const mine = storage.put('v/b.mp4', { path: big }, { onProgress: () => {} });
  await writeFile(join(root, 'v', '.roboflow-tmp.000000000000.1.1.x'), 'x');
  t.is(await storage.sweep('', { olderThanMs: 3_600_000 }), 1);
  await t.notThrowsAsync(mine);
  t.deepEqual((await readdir(join(root, 'v'))).toSorted(), ['.roboflow-tmp.000000000000.1.1.x', 'b.mp4']);
  await utimes(join(root, 'v', '.roboflow-tmp.000000000000.1.1.x'), 1, 1);
  t.is(await storage.sweep('', { olderThanMs: 3_600_000 }), 1);
});

test('folder: the last object takes its empty folders along, and writes beside that get through', async (t) => {
  const root = await tempFolder(t);
  const { storage } = storeAt(root, 'destination');
  await storage.put('a/b/c/one', text('1'));
  await storage.put('a/two', text('2'));
  await storage.remove('a/b/c/one');
  t.deepEqual(await readdir(root, { recursive: true }), ['a', join('a', 'two')]);
  await storage.remove('a/two');
  t.deepEqual(await readdir(root), [], 'the root stays');
  await mkdir(join(root, 'half', 'way'), { recursive: true });
  await storage.remove('half/way/to/one');
  t.deepEqual(await readdir(root), [], 'so do those that a stopped write had made');
  await storeAt(join(root, 'none'), 'destination').storage.remove('a/b');

  const turns = Array.from({ length: 60 }, (_, turn) => turn);
  const churn = async (name: string) => {
    for (const turn of turns) {
      await storage.put(`deep/er/${name}`, text(String(turn)));
      if (turn % 3 !== 2) await storage.remove(`deep/er/${name}`);
    }
  };
  await Promise.all(['x', 'y', 'z'].map(churn));
  t.deepEqual((await readdir(join(root, 'deep', 'er'))).toSorted(), ['x', 'y', 'z']);
});

test('folder: the lock of a process that died does not hold up a conditional write', async (t) => {
  const root = await tempFolder(t);
  const { storage } = storeAt(root);
  let { etag } = await storage.put('dataset.json', text('0'));
  const script = `
    import { lockFile } from ${JSON.stringify(new URL('../../src/storage/file-lock.js', import.meta.url).href)};
    import { createHash } from 'node:crypto';
    const name = createHash('sha256').update('dataset.json').digest('hex').slice(0, 32);
    await lockFile(${JSON.stringify(root)} + '/.roboflow-tmp.lock.' + name);
    process.kill(process.pid, 'SIGKILL');`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: 'inherit' });
  await once(child, 'exit');
  t.is((await readdir(root)).length, 2);
  const startedAt = Date.now();
  ({ etag } = await storage.put('dataset.json', text('1'), { ifMatch: etag }));
  t.true(Date.now() - startedAt < 20_000, 'long before a lock grows stale');
  t.is((await storage.head('dataset.json'))?.etag, etag);
  t.deepEqual(await readdir(root), ['dataset.json']);
});

test('folder: an object keeps the permissions the process gives to files', async (t) => {
  const root = await tempFolder(t);
  await storeAt(root).storage.put('a', text('x'));
  t.is((await stat(join(root, 'a'))).mode & 0o777, 0o666 & ~process.umask());
});
