import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import test from 'ava';
import { CanceledError, convert, InputError, inspect, verify } from '../src/library.ts';
import { temporaryFolder } from './helpers/conversion.ts';
import { demonstration } from './helpers/demonstration.ts';

const execute = promisify(execFile);
const root = fileURLToPath(new URL('../..', import.meta.url));

const config = {
  fps: 30,
  clock: 'header',
  features: { action: { topic: '/joint_commands', field: 'position', names: 'all' } },
} as const;

test('a program inspects, converts and verifies, and is told of every step and every failure', async (t) => {
  const folder = await temporaryFolder(t);
  const [good, bad] = [join(folder, 'good.mcap'), join(folder, 'bad.mcap')];
  await writeFile(good, await demonstration({ seconds: 1, cameras: [], task: null }));
  await writeFile(bad, 'no recording');

  const { topics } = await inspect(good);
  t.true(topics.some(({ topic, messages }) => topic === '/joint_commands' && messages === 100));

  const stages = new Set<string>();
  const out = join(folder, 'dataset');
  const { recordings, dataset } = await convert([good, bad], {
    config,
    out,
    task: 'Do it.',
    scratch: join(folder, 'scratch'),
    onProgress: (_, { stage }) => stages.add(stage),
  });
  t.deepEqual(
    recordings.map(({ state }) => state),
    ['completed', 'failed'],
  );
  const failed = recordings[1];
  t.true(failed?.state === 'failed' && failed.error instanceof InputError);
  t.like(dataset, { episodes: 1, tasks: 1 });
  t.deepEqual([...stages], ['plan', 'convert', 'verify', 'upload']);
  const { ok, checks } = await verify(out);
  t.true(ok && checks.length > 10);

  const again = await convert(good, { config, out, task: 'Do it.' });
  t.is(again.recordings[0]?.state, 'skipped');
});

test('a recording that does not fit to the others fails, and the dataset is whole without it', async (t) => {
  const folder = await temporaryFolder(t);
  const sources = await Promise.all(
    ['first', 'second', 'third'].map(async (name, at) => {
      const path = join(folder, `${name}.mcap`);
      const joints = at === 1 ? ['shoulder', 'elbow'] : ['shoulder', 'elbow', 'wrist'];
      await writeFile(path, await demonstration({ seconds: 1, cameras: [], task: null, joints }));
      return path;
    }),
  );
  const out = join(folder, 'dataset');
  const told: string[] = [];
  const { recordings, dataset } = await convert(sources, {
    config,
    out,
    task: 'Do it.',
    onRecording: ({ state }) => told.push(state),
  });
  const states = recordings.map(({ state }) => state);
  t.deepEqual(states, ['completed', 'failed', 'completed']);
  t.deepEqual(told, ['completed', 'completed', 'completed', 'failed']);
  const [, misfit] = recordings;
  t.true(misfit?.state === 'failed' && misfit.error instanceof InputError);
  t.regex(
    misfit?.state === 'failed' ? misfit.error.message : '',
    /must agree on action: file:.*first\.mcap has .*"wrist".*, file:.*second\.mcap has /,
  );
  t.like(dataset, { episodes: 2 });
  t.true((await verify(out)).ok);

  // one of them in another way: what is published stays a dataset
  const slower = { ...config, fps: 15 } as const;
  const again = await convert(sources.slice(0, 1), { config: slower, out, task: 'Do it.' });
  t.is(again.recordings[0]?.state, 'failed');
  t.like(again.dataset, { episodes: 1 });
  t.true((await verify(out)).ok);
  const complete = convert(sources.slice(0, 2), {
    config: { ...config, publish: 'complete' },
    out,
    task: 'Do it.',
  });
  await t.throwsAsync(complete, { instanceOf: InputError, message: /must agree on action/ });
});

test('an output belongs to one conversion at a time; what a killed one left does not stand in the way', async (t) => {
  const folder = await temporaryFolder(t);
  const out = join(folder, 'dataset');
  const sources = await Promise.all(
    ['left', 'right'].map(async (name) => {
      const path = join(folder, `${name}.mcap`);
      await writeFile(path, await demonstration({ seconds: 1, cameras: [], task: name }));
      return path;
    }),
  );
  const convertOne = (source: string) => convert(source, { config, out, task: 'Do it.' });
  const ends = await Promise.allSettled(sources.map(convertOne));
  const [refused] = ends.filter((end) => end.status === 'rejected');
  t.is(ends.filter(({ status }) => status === 'fulfilled').length, 1);
  t.true(refused?.reason instanceof InputError);
  t.regex(String(refused?.reason), /is being written by another conversion \(process \d+ on /);

  const claim = join(out, '.roboflow/convert.lock');
  t.false(existsSync(claim));
  const owner = join(root, 'dist/src/storage/owner.js');
  const script = `import(${JSON.stringify(owner)}).then((m) => console.log(m.uniqueOwnerName()))`;
  const { stdout: dead } = await execute(process.execPath, ['-e', script]);
  await writeFile(claim, JSON.stringify({ owner: dead.trim(), host: 'here', pid: 1, since: 'then' }));
  for (const source of sources) t.is((await convertOne(source)).recordings.length, 1);
  t.is((await convertOne(sources[0] ?? '')).dataset?.episodes, 2);

  const foreign = { owner: '0123456789ab.7.9.x', host: 'elsewhere', pid: 7, since: 'yesterday' };
  await writeFile(claim, JSON.stringify(foreign));
  await t.throwsAsync(convertOne(sources[0] ?? ''), {
    instanceOf: InputError,
    message: /process 7 on elsewhere, since yesterday\): let it end, or remove .roboflow\/convert.lock there/,
  });
  t.true(existsSync(claim));
});

test('what is wrong is an InputError, and an aborted signal a CanceledError', async (t) => {
  const folder = await temporaryFolder(t);
  const out = join(folder, 'dataset');
  const source = join(folder, 'run.mcap');
  await writeFile(source, await demonstration({ seconds: 1, cameras: [], task: null }));
  await t.throwsAsync(convert(source, { config: 'fps: 0\nfeatures: {}', out }), {
    instanceOf: InputError,
    message: /line 1, column 1, \/fps/,
  });
  await t.throwsAsync(convert([], { config, out }), { instanceOf: InputError });
  await t.throwsAsync(convert(source, { config, out, datasetId: 'a/b' }), { message: /datasetId "a\/b"/ });
  await t.throwsAsync(inspect(join(folder, 'none.mcap')), { instanceOf: InputError });
  await t.throwsAsync(convert(source, { config, out, task: 'x', signal: AbortSignal.abort() }), {
    instanceOf: CanceledError,
  });
});

const CONSUMER = `
import { convert, inspect, verify, InputError, type ConvertResult, type Inspection } from 'roboflow-worker';
import { RoboflowClient, type DatasetStatus } from 'roboflow-worker/client';

const [source = '', out = ''] = process.argv.slice(2);
const inspection: Inspection = await inspect(source);
const result: ConvertResult = await convert(source, {
  out,
  task: 'Do it.',
  config: { fps: 30, features: { action: { topic: '/joint_commands', field: 'position', names: 'all' } } },
});
// @ts-expect-error: a clock that is none
convert(source, { out, config: { fps: 30, clock: 'wall', features: {} } }).catch((error: unknown) => {
  if (!(error instanceof InputError)) throw error;
});
const { ok } = await verify(out);
const client = new RoboflowClient({ url: 'http://127.0.0.1:1', maxAttempts: 1 });
const away: DatasetStatus | string = await client.dataset('x').catch(() => 'away');
console.log(JSON.stringify({ topics: inspection.topics.length, episodes: result.dataset?.episodes, ok, away }));
`;

test('the package as npm packs it is imported from another folder, with types', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'roboflow-package-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  // The build that runs this test is what is packed.
  const packed = await execute('npm', ['pack', '--ignore-scripts', '--json', '--pack-destination', folder], {
    cwd: root,
    env: { ...process.env, npm_config_loglevel: 'error' },
  });
  const answer = JSON.parse(packed.stdout) as Record<string, { filename: string; files: { path: string }[] }>;
  const [{ filename, files }] = Object.values(answer) as [{ filename: string; files: { path: string }[] }];
  t.true(files.some(({ path }) => path === 'dist/src/library.d.ts'));
  t.false(files.some(({ path }) => path.startsWith('dist/test/')));
  const modules = join(folder, 'node_modules');
  const installed = join(modules, 'roboflow-worker');
  await mkdir(installed, { recursive: true });
  await execute('tar', ['xzf', join(folder, filename), '--strip-components=1', '-C', installed]);
  // Its dependencies, as npm would install them.
  for (const name of await readdir(join(root, 'node_modules'))) {
    if (!name.startsWith('.')) await symlink(join(root, 'node_modules', name), join(modules, name));
  }
  await writeFile(join(folder, 'package.json'), '{"type": "module"}');
  await writeFile(join(folder, 'consumer.ts'), CONSUMER);
  await writeFile(join(folder, 'run.mcap'), await demonstration({ seconds: 1, cameras: [], task: null }));
  const options = '--module nodenext --target es2023 --strict --exactOptionalPropertyTypes --types node';
  await execute(
    process.execPath,
    [join(root, 'node_modules/typescript/bin/tsc'), ...options.split(' '), 'consumer.ts'],
    { cwd: folder },
  ).catch((error: unknown) => t.fail((error as { stdout?: string }).stdout));
  const { stdout } = await execute(process.execPath, ['consumer.js', 'run.mcap', 'dataset'], { cwd: folder });
  t.deepEqual(JSON.parse(stdout), { topics: 2, episodes: 1, ok: true, away: 'away' });
  const { stdout: schema } = await execute(
    process.execPath,
    [join(installed, 'dist', 'src', 'cli.js'), 'schema'],
    { cwd: folder },
  );
  t.regex(schema, /"fps"/);
});
