import { mkdir, readFile, rename, symlink, utimes, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { Registry } from 'prom-client';
import { InputError, StorageError } from '../../src/errors.ts';
import { createStorageMetrics } from '../../src/metrics/storage.ts';
import { expandSources } from '../../src/storage/expand-sources.ts';
import { openRecordingFiles } from '../../src/storage/recording-files.ts';
import { tempFolder } from './temp-folder.ts';

const metrics = createStorageMetrics(new Registry());

async function fill(root: string, files: readonly string[]): Promise<void> {
  for (const file of files) {
    await mkdir(dirname(join(root, file)), { recursive: true });
    await writeFile(join(root, file), `content of ${file}`);
  }
}

const tree = [
  'a.mcap',
  'b.bag',
  'c.txt',
  'd[1].mcap',
  'day1/e.mcap',
  'day1/f.mcap.zstd',
  'day1/deep/g.db3',
  'day2/h.MCAP',
  'ros2/metadata.yaml',
  'ros2/ros2_0.db3',
  'ros2/ros2_1.db3',
  'split/metadata.yaml',
  'split/split_0.mcap.zst',
  'notes/metadata.yaml',
];

test('files, folders and globs expand to sorted recordings, a rosbag2 folder being one', async (t) => {
  const root = await tempFolder(t);
  await fill(root, tree);
  const expand = async (...patterns: string[]) => {
    const found = await expandSources(patterns, { metrics, cwd: root });
    return found.map(({ url }) => relative(root, fileURLToPath(url)));
  };
  t.deepEqual(await expand('a.mcap'), ['a.mcap']);
  t.deepEqual(await expand('.'), [
    'a.mcap',
    'b.bag',
    'd[1].mcap',
    'day1/deep/g.db3',
    'day1/e.mcap',
    'day1/f.mcap.zstd',
    'day2/h.MCAP',
    'ros2',
    'split',
  ]);
  t.deepEqual(await expand('*'), ['a.mcap', 'b.bag', 'd[1].mcap', 'ros2', 'split']);
  t.deepEqual(await expand('*.{mcap,bag}'), ['a.mcap', 'b.bag', 'd[1].mcap']);
  t.deepEqual(await expand('**/*.mcap*'), [
    'a.mcap',
    'd[1].mcap',
    'day1/e.mcap',
    'day1/f.mcap.zstd',
    'split',
  ]);
  t.deepEqual(await expand('day?/[a-e].*'), ['day1/e.mcap']);
  t.deepEqual(await expand(`${root}/day1/**`), ['day1/deep/g.db3', 'day1/e.mcap', 'day1/f.mcap.zstd']);
  t.deepEqual(await expand(`file://${root}/day*/*.mcap`), ['day1/e.mcap']);
  t.deepEqual(await expand('d[1].mcap'), ['d[1].mcap'], 'a name that exists as written is taken literally');
  t.deepEqual(await expand('ros2', 'ros2/', 'ros*'), ['ros2'], 'each once');
  t.deepEqual(await expand('ros2/*.db3'), ['ros2']);
  t.deepEqual(await expand('ros2/ros2_1.db3'), ['ros2/ros2_1.db3'], 'one file named by hand is that file');
});

test('characters that other globs know are those of names', async (t) => {
  const root = await tempFolder(t);
  await fill(root, ['run (1).mcap', 'run (1)/a.mcap', 'run 1.mcap', '!a.mcap', '@(a).mcap', 'x|y.mcap']);
  const expand = async (pattern: string) => {
    const found = await expandSources([pattern], { metrics, cwd: root });
    return found.map(({ url }) => relative(root, fileURLToPath(url)));
  };
  t.deepEqual(await expand('run (1)*.mcap'), ['run (1).mcap']);
  t.deepEqual(await expand('run (1)/*'), ['run (1)/a.mcap']);
  t.deepEqual(await expand('run*(1)/*'), ['run (1)/a.mcap']);
  t.deepEqual(await expand('!a*'), ['!a.mcap']);
  t.deepEqual(await expand('@(a)*'), ['@(a).mcap']);
  t.deepEqual(await expand('x|[y].mcap'), ['x|y.mcap']);
});

test('a pattern without recordings, or of a foreign scheme, is refused by name', async (t) => {
  const root = await tempFolder(t);
  await fill(root, tree);
  const refused = (pattern: string, message: RegExp) =>
    t.throwsAsync(
      expandSources([pattern], { metrics, cwd: root }),
      { instanceOf: InputError, message },
      pattern,
    );
  await refused('absent.mcap', /absent\.mcap/);
  await refused('*.hdf5', /\*\.hdf5/);
  await refused('notes', /notes/);
  await refused('c.txt', /c\.txt/);
  await refused('http://host/*.mcap', /scheme "http:"/);
  await refused('file:///data/../*.mcap', /"\.\."/);
  await refused('s3://buck*/a', /bucket name/);
  await refused('[a.mcap', /pattern \[a\.mcap cannot be read: .*"\]"/);
  await refused('day{1,2/*', /pattern day\{1,2\/\* cannot be read: .*"\}"/);
});

test('every place a pattern looks at can be refused first', async (t) => {
  const root = await tempFolder(t);
  await fill(root, tree);
  const seen: string[] = [];
  const check = async (base: URL) => {
    seen.push(relative(root, fileURLToPath(base)));
    if (base.href.endsWith('day2')) throw new InputError('day2 is outside');
  };
  await expandSources(['day1/*.mcap', 'a.mcap'], { metrics, cwd: root, check });
  t.true(seen.includes('day1') && seen.includes('a.mcap'), seen.join());
  await t.throwsAsync(expandSources(['day2/*'], { metrics, cwd: root, check }), {
    message: 'day2 is outside',
  });
});

test('a single file opens as a recording of one file, a folder as all its files', async (t) => {
  const root = await tempFolder(t);
  await fill(root, tree);
  const single = await openRecordingFiles(join(root, 'day1/e.mcap'), { metrics });
  t.false(single.folder);
  t.deepEqual(single.files, ['e.mcap']);
  const file = await single.open('e.mcap');
  t.regex(await readFile(file.path ?? '', 'utf8'), /^content/, 'a path of this machine');
  t.is(Buffer.from(await file.read(0n, 7n)).toString(), 'content');
  await file.close();
  const folder = await openRecordingFiles(`file://${root}/ros2/`, { metrics });
  t.true(folder.folder);
  t.deepEqual(folder.files, ['metadata.yaml', 'ros2_0.db3', 'ros2_1.db3']);
  for (const name of folder.files) await (await folder.open(name)).close();
  for (const name of ['../a.mcap', '/etc/passwd', 'ros2_2.db3']) {
    await t.throwsAsync(folder.open(name), { instanceOf: InputError }, name);
  }
  for (const absent of ['absent', 'notes', 'day1/absent.mcap', 'a.mcap/b']) {
    await t.throwsAsync(
      openRecordingFiles(join(root, absent), { metrics }),
      { instanceOf: InputError },
      absent,
    );
  }
});

test('the version of a source is the same however it is found, and another when a file changes', async (t) => {
  const root = await tempFolder(t);
  await fill(root, tree);
  for (const name of ['a.mcap', 'ros2']) {
    const path = join(root, name);
    const [listed] = await expandSources([path], { metrics });
    const opened = await openRecordingFiles(path, { metrics });
    t.deepEqual(listed, opened.source, name);
  }
  const before = (await openRecordingFiles(join(root, 'ros2'), { metrics })).source;
  await utimes(join(root, 'ros2/ros2_1.db3'), 1, 1);
  t.not((await openRecordingFiles(join(root, 'ros2'), { metrics })).source.etag, before.etag);
});

test('a file that was replaced after the recording was found is not opened', async (t) => {
  const root = await tempFolder(t);
  await fill(root, ['a.mcap', 'b.mcap']);
  await utimes(join(root, 'b.mcap'), 1, 1);
  const found = await openRecordingFiles(join(root, 'a.mcap'), { metrics });
  await rename(join(root, 'b.mcap'), join(root, 'a.mcap'));
  await t.throwsAsync(found.open('a.mcap'), { instanceOf: StorageError, message: /changed/ });
});

test('a recording given as a link is read from where the link leads, and keeps the name it was given', async (t) => {
  const root = await tempFolder(t);
  await fill(root, ['blobs/sha', 'bags/r/metadata.yaml', 'bags/r/r_0.mcap']);
  await mkdir(join(root, 'links'));
  await symlink('../blobs/sha', join(root, 'links/a.mcap'));
  await symlink('../bags/r', join(root, 'links/r'));
  const single = await openRecordingFiles(join(root, 'links/a.mcap'), { metrics });
  t.true(single.source.url.endsWith('/links/a.mcap'));
  await (await single.open(single.files[0] ?? '')).close();
  const folder = await openRecordingFiles(join(root, 'links/r'), { metrics });
  t.deepEqual(folder.files, ['metadata.yaml', 'r_0.mcap']);
});

test('a recording outside the allowed roots is not opened, also when a link inside them leads to it', async (t) => {
  const root = await tempFolder(t);
  await fill(root, ['allowed/a.mcap', 'secret/b.mcap', 'secret/r/metadata.yaml', 'secret/r/r_0.mcap']);
  await symlink('../secret/b.mcap', join(root, 'allowed/link.mcap'));
  await symlink('../secret/r', join(root, 'allowed/folder'));
  const roots = [join(root, 'allowed')];
  t.deepEqual((await openRecordingFiles(join(root, 'allowed/a.mcap'), { metrics, roots })).files, ['a.mcap']);
  for (const path of ['secret/b.mcap', 'allowed/link.mcap', 'allowed/folder', 'allowed/folder/r_0.mcap']) {
    const opened = openRecordingFiles(join(root, path), { metrics, roots });
    await t.throwsAsync(opened, { instanceOf: InputError, message: /outside the allowed roots/ }, path);
  }
});
