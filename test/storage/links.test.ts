import fs, { renameSync, symlinkSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import anyTest, { type ExecutionContext } from 'ava';
import { Registry } from 'prom-client';
import { InputError } from '../../src/errors.ts';
import { createStorageMetrics } from '../../src/metrics/storage.ts';
import { openStorage } from '../../src/storage/open.ts';
import { openRecordingFiles } from '../../src/storage/recording-files.ts';
import { tempFolder } from './temp-folder.ts';

// one after the other: one of them changes functions that all of them call
const test = process.platform === 'linux' ? anyTest.serial : anyTest.skip;

const metrics = createStorageMetrics(new Registry());
const bytes = (text: string) => ({ bytes: new TextEncoder().encode(text) });

/** A root with `day/a.mcap` in it, and a place outside with a file of the same name, size and time. */
async function setUp(t: ExecutionContext) {
  const base = await tempFolder(t);
  const [root, outside] = [join(base, 'root'), join(base, 'outside')];
  for (const folder of [join(root, 'day'), outside]) await mkdir(folder, { recursive: true });
  await writeFile(join(root, 'day', 'a.mcap'), 'inside');
  await writeFile(join(outside, 'a.mcap'), 'secret');
  for (const folder of [join(root, 'day'), outside]) await utimes(join(folder, 'a.mcap'), 1000, 1000);
  return { base, root, outside };
}

/** Puts a link in the place of a folder. */
function swap(folder: string, target: string): void {
  renameSync(folder, `${folder}-before`);
  symlinkSync(target, folder);
}

test('a folder that becomes a link out of the roots after it was checked gives nothing', async (t) => {
  const { root, outside } = await setUp(t);
  const found = await openRecordingFiles(join(root, 'day', 'a.mcap'), { metrics, roots: [root] });
  swap(join(root, 'day'), outside);
  // the same size and time: the version alone would not tell
  t.is((await stat(join(root, 'day', 'a.mcap'))).mtimeMs, 1_000_000);
  const error = await t.throwsAsync(found.open('a.mcap'), { instanceOf: InputError });
  t.regex(error?.message ?? '', /"a\.mcap" leads out of .*symbolic link, or out of the allowed roots$/);
  // within the roots a link is as good as a folder
  await rm(join(root, 'day'));
  await symlink(join(root, 'day-before'), join(root, 'day'));
  const object = await found.open('a.mcap');
  t.is(Buffer.from(await object.read(0n, 6n)).toString(), 'inside');
  // a database is read by its path
  await rm(join(root, 'day'));
  await symlink(outside, join(root, 'day'));
  t.is(await readFile(object.path ?? '', 'utf8'), 'inside');
  await object.close();
});

test('a folder that becomes a link while a file is written keeps the file where it was checked', async (t) => {
  const { root, outside } = await setUp(t);
  const storage = openStorage(root, { metrics, role: 'destination', roots: [root] });
  // told when the bytes are written and the file has not got its name yet
  await storage.put('day/b.mp4', bytes('a video'), { onProgress: () => swap(join(root, 'day'), outside) });
  t.deepEqual(await readdir(outside), ['a.mcap']);
  t.is(await readFile(join(root, 'day-before', 'b.mp4'), 'utf8'), 'a video');
  for (const key of ['day/c.mp4', 'day/new/folder/c.mp4']) {
    await t.throwsAsync(storage.put(key, bytes('x')), { instanceOf: InputError }, key);
  }
  await t.throwsAsync(storage.remove('day/a.mcap'), { instanceOf: InputError });
  t.deepEqual(await readdir(outside), ['a.mcap']);
});

test('a dataset root that becomes a link out of the destination roots takes nothing any more', async (t) => {
  const { base, root, outside } = await setUp(t);
  const output = join(root, 'new', 'dataset');
  const storage = openStorage(output, { metrics, role: 'destination', roots: [root] });
  await storage.put('meta/info.json', bytes('{}'));
  t.is(await readFile(join(output, 'meta', 'info.json'), 'utf8'), '{}', 'folders up to the root are made');
  swap(output, outside);
  await t.throwsAsync(storage.put('meta/info.json', bytes('{}')), { instanceOf: InputError });
  await t.throwsAsync(storage.open('a.mcap'), { instanceOf: InputError });
  await t.throwsAsync(storage.head('a.mcap'), { instanceOf: InputError });
  await t.throwsAsync(storage.remove('a.mcap'), { instanceOf: InputError });
  for await (const { key } of storage.list('')) t.fail(`${key} is listed`);
  t.deepEqual(await readdir(outside), ['a.mcap']);
  const absent = openStorage(join(base, 'elsewhere', 'x'), { metrics, role: 'destination', roots: [root] });
  await t.throwsAsync(absent.put('a', bytes('x')), { instanceOf: InputError });
  t.deepEqual((await readdir(base)).toSorted(), ['outside', 'root'], 'not even a folder');
});

/** Lets something happen right before the next call of `name` in `node:fs/promises` whose path `matches`. */
function before(t: ExecutionContext, name: 'open' | 'mkdir', matches: RegExp, happens: () => void): void {
  const original = fs.promises[name] as (...args: unknown[]) => unknown;
  let done = false;
  const hooked = (...args: unknown[]) => {
    if (!done && matches.test(String(args[0]))) {
      done = true;
      happens();
    }
    return original(...args);
  };
  const set = (call: unknown) => {
    Object.assign(fs.promises, { [name]: call });
    syncBuiltinESMExports();
  };
  set(hooked);
  t.teardown(() => {
    set(original);
    if (!done) throw new Error(`${name} was not called`);
  });
}

test('a link that is put in the way between the last look at a name and its opening is found out', async (t) => {
  const { root, outside } = await setUp(t);
  const day = join(root, 'day');
  const storage = openStorage(root, { metrics, role: 'source' });
  const back = async () => {
    await rm(day);
    await rename(`${day}-before`, day);
  };
  before(t, 'open', /day\/a\.mcap$/, () => swap(day, outside));
  await t.throwsAsync(storage.open('day/a.mcap'), { instanceOf: InputError, message: /leads out of/ });
  await back();
  before(t, 'open', /a\.mcap$/, () => swap(join(day, 'a.mcap'), join(outside, 'a.mcap')));
  await t.throwsAsync(storage.open('day/a.mcap'), { instanceOf: InputError, message: /leads out of/ });
  before(t, 'open', /day$/, () => swap(day, outside));
  await t.throwsAsync(storage.put('day/b.mp4', bytes('x')), { instanceOf: InputError });
  await back();
  before(t, 'open', /day$/, () => swap(day, outside));
  await t.throwsAsync(storage.remove('day/a.mcap'), { instanceOf: InputError });
  await back();
  before(t, 'mkdir', /new$/, () => swap(day, outside));
  await storage.put('day/new/b.mp4', bytes('x'));
  t.deepEqual(await readdir(outside), ['a.mcap']);
  t.deepEqual(await readdir(join(`${day}-before`, 'new')), ['b.mp4'], 'in the folder that was looked at');
});
