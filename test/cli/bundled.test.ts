import { mkdir, readdir, readFile, rename, rm, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { loadBundle } from '../../src/cli/bundled.ts';
import { temporaryFolder } from '../helpers/conversion.ts';

const NAME = 'a'.repeat(64);

/** A bundle and the module it was made of; what it exports doubles a number in a function that V8 compiles when it is called. */
async function bundle(
  t: ExecutionContext,
  text = 'exports.twice = (n) => n * 2; exports.place = __dirname;',
) {
  const folder = await temporaryFolder(t);
  const [path, origin] = [join(folder, 'cli.cjs'), join(folder, 'program.js')];
  await writeFile(origin, '');
  await writeFile(path, `// ${NAME}\n${text}`);
  const load = () => loadBundle<{ twice(n: number): number; place: string }>(path, origin);
  const kept = async () => (await readdir(folder)).filter((file) => file.endsWith('.cache'));
  return { folder, path, origin, load, kept };
}

test('a bundle runs as a module of its folder, and goes on with what was compiled the time before', async (t) => {
  const { folder, load, kept } = await bundle(t);
  const first = load();
  t.is(first?.exports.twice(21), 42);
  t.is(first?.exports.place, folder);
  t.false(first?.warm);
  t.deepEqual(await kept(), [], 'nothing is kept unasked');
  first?.keep();
  t.is((await kept()).length, 1);
  const second = load();
  t.true(second?.warm);
  t.is(second?.exports.twice(4), 8);
  second?.keep();
  t.deepEqual(await readdir(folder), [...(await kept()), 'cli.cjs', 'program.js'].toSorted());
});

test('a bundle of other content, and kept code that is damaged, are compiled anew', async (t) => {
  const { folder, path, load, kept } = await bundle(t);
  load()?.keep();
  const [file = ''] = await kept();
  const whole = await readFile(join(folder, file));
  for (const damaged of [whole.subarray(0, 100), whole.subarray(0, -8), Buffer.alloc(whole.length)]) {
    await writeFile(join(folder, file), damaged);
    const again = load();
    t.false(again?.warm);
    t.is(again?.exports.twice(2), 4);
    again?.keep();
    t.true(load()?.warm, 'it is mended');
  }
  // as many bytes, which is all that V8 compares
  await writeFile(path, `// ${'b'.repeat(64)}\nexports.twice = (n) => n * 3; exports.place = __dirname;`);
  t.is(load()?.exports.twice(2), 6);
});

test('without a bundle, or with one that is older than its modules, there is none', async (t) => {
  const { path, origin, load } = await bundle(t);
  t.is(loadBundle(`${path}.none`, origin), undefined);
  t.is(loadBundle(path, `${origin}.none`), undefined);
  const later = new Date(Date.now() + 10_000);
  await utimes(origin, later, later);
  t.is(load(), undefined);
  await utimes(path, later, later);
  t.truthy(load());
  await writeFile(path, 'no name in its first line');
  await utimes(path, later, later);
  t.is(load(), undefined);
});

test('what a process left that was killed while it wrote is removed, and is no failure', async (t) => {
  const { folder, load, kept } = await bundle(t);
  load()?.keep();
  const [file = ''] = await kept();
  await rename(join(folder, file), join(folder, `${file}.${process.pid}`));
  load()?.keep();
  t.deepEqual(await readdir(folder), ['cli.cjs', 'program.js']);
  load()?.keep();
  t.deepEqual(await kept(), [file]);
});

test('where kept code can be neither read nor written a command does without', async (t) => {
  const { folder, load, kept } = await bundle(t);
  load()?.keep();
  const [file = ''] = await kept();
  await rm(join(folder, file));
  await mkdir(join(folder, file));
  const again = load();
  t.false(again?.warm);
  t.is(again?.exports.twice(5), 10);
  again?.keep();
  t.deepEqual(await readdir(folder), ['cli.cjs', file, 'program.js']);
});

test('the program has a bundle that says whose licences it holds', async (t) => {
  const folder = fileURLToPath(new URL('../../src/bundled/', import.meta.url));
  const licences = await readFile(join(folder, 'LICENSES.txt'), 'utf8');
  for (const name of ['commander', 'zod', 'hyparquet', 'yaml']) {
    t.regex(licences, new RegExp(`^${name} \\d+\\.\\d+\\.\\d+ \\(\\S+\\)$`, 'm'));
  }
  t.false(/^\S+ \S+ \(undefined\)$/m.test(licences));
  const { exports } = loadBundle<Record<string, unknown>>() ?? {};
  t.deepEqual(Object.keys(exports ?? {}), ['runProgram']);
});
